"""How a case ended: right, refused in one line, or a failure of some kind."""

from __future__ import annotations

import hashlib
import os
import re
import traceback
from dataclasses import dataclass
from pathlib import Path

from fuzzing.case import REFUSED, RIGHT, Case

#: Exit code of an error in one line.
ERROR = 2


@dataclass(frozen=True)
class Ending:
    """What a command did.

    Attributes:
        code: exit code; None where it raised.
        out: stdout.
        err: stderr.
        raised: traceback of what left `main`.
        before: path -> what lay there.
        after: the same when it had ended.
    """

    code: int | None
    out: str
    err: str
    raised: str
    before: dict[str, str]
    after: dict[str, str]


@dataclass(frozen=True)
class Verdict:
    """How a case ended.

    Attributes:
        kind: RIGHT, REFUSED, or the kind of the failure.
        words: of a failure, what was seen.
    """

    kind: str
    words: str = ""

    @property
    def failed(self) -> bool:
        """Whether this is a failure."""
        return self.kind not in (RIGHT, REFUSED)


def listing(folder: Path) -> dict[str, str]:
    """Return what lies in a folder: path -> content as a hash, or kind."""
    found = {}
    for root, folders, files in os.walk(os.fsencode(folder)):
        for name in [*folders, *files]:
            path = os.path.join(root, name)
            key = os.fsdecode(os.path.relpath(path, os.fsencode(folder)))
            if os.path.islink(path):
                found[key] = f"link to {os.fsdecode(os.readlink(path))}"
            elif os.path.isdir(path):
                found[key] = "folder"
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    found[key] = hashlib.sha256(file.read()).hexdigest()
            else:
                found[key] = "special"
    return found


def judge(case: Case, ending: Ending, folder: Path) -> Verdict:
    """Return how a case ended."""
    return (
        _of_exception(ending)
        or _of_messages(case, ending)
        or _of_code(case, ending)
        or _of_files(case, ending)
        or _of_answer(case, ending, folder)
    )


def _of_exception(ending: Ending) -> Verdict | None:
    """Return the failure of a command that broke."""
    if ending.raised:
        lines = ending.raised.strip().splitlines()
        frames = [line.strip() for line in lines if line.strip().startswith("File ")]
        return Verdict("traceback", f"{lines[-1][:300]} ({frames[-1] if frames else ''})")
    if "Traceback" in ending.err or "Traceback" in ending.out:
        return Verdict("traceback", _around(ending.err + ending.out, "Traceback"))
    if "out of memory" in ending.err:
        return Verdict("memory", ending.err.strip()[:300])
    return None


def _of_messages(case: Case, ending: Ending) -> Verdict | None:
    """Return the failure that stderr shows."""
    others = [line for line in ending.err.splitlines() if not line.startswith("crossband: ")]
    stray = [line for line in others if not re.fullmatch(case.says, line)]
    if stray:
        kind = "warning of a library" if "Warning" in ending.err else "stray text"
        return Verdict(kind, " / ".join(stray)[:400])
    if any(not c.isprintable() for c in ending.err.replace("\n", "")):
        return Verdict("control characters", repr(ending.err)[:300])
    return None


def _of_code(case: Case, ending: Ending) -> Verdict | None:
    """Return the failure that the exit code shows."""
    if ending.code == ERROR:
        lines = [line for line in ending.err.splitlines() if line.startswith("crossband: ")]
        if len(lines) == 1:
            return None
        return Verdict("several lines" if lines else "no line", " / ".join(lines)[:400])
    if ending.code not in case.codes:
        return Verdict("exit code", f"{ending.code}: {ending.err.strip()[:300]}")
    return None


def _of_answer(case: Case, ending: Ending, folder: Path) -> Verdict:
    """Hold the answer, or that there is none, against what was to be."""
    if ending.code == ERROR:
        if case.must == RIGHT:
            return Verdict("refused a valid input", ending.err.strip())
        return Verdict(REFUSED)
    if case.must == REFUSED:
        return Verdict("accepted an invalid input", case.note)
    try:
        wrong = case.check(folder)
    except Exception as error:  # noqa: BLE001 - whatever a file holds, it is to be told
        last = traceback.extract_tb(error.__traceback__)[-1]
        wrong = f"cannot be judged: {error!r} at {last.name}:{last.lineno}"
    return Verdict(RIGHT) if wrong is None else Verdict("wrong answer", wrong)


def _around(text: str, word: str) -> str:
    at = text.index(word)
    return " / ".join(text[at:].strip().splitlines()[-2:])[:400]


def _of_files(case: Case, ending: Ending) -> Verdict | None:
    """Return the failure that the folder shows."""
    for name, content in ending.before.items():
        if ending.after.get(name) != content and not case.makes(name):
            now = "is gone" if name not in ending.after else "has changed"
            return Verdict("input changed", f"{name!r} {now}")
    new = [name for name in ending.after if name not in ending.before]
    if ending.code == ERROR and not case.kept:
        return Verdict("leftover", f"after an error: {new[:5]}") if new else None
    odd = [name for name in new if not case.makes(name)]
    return Verdict("leftover", f"{odd[:5]}") if odd else None
