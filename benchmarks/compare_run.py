"""What a case of `compare_commits.py` is, and what it may do while it runs.

A case uses the command line and what `import crossband` gives, and nothing else of Crossband, so
that it runs with any commit.
"""

from __future__ import annotations

import io
import json
import re
import runpy
import shlex
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

#: Words of the commands: products by their folder.
_S2 = "S2A_MSIL{}_20230625T234621_N{}_R073_T01WCP_20230626T022157.SAFE"
PRODUCTS = {
    "s2a": _S2.format("2A", "0509"),
    "s1c": _S2.format("1C", "0509"),
    "early": _S2.format("2A", "0209"),
    "zip": _S2.format("2A", "0509") + ".zip",
    "landsat": "LC08_L2SP_008059_20191201_20200825_02_T1",
    "landsat1": "LC08_L1TP_008059_20191201_20200825_02_T1",
    "s1": "S1A_IW_GRDH_1SDV_20210809T173953_20210809T174018_039156_049F13_6FF8.SAFE",
}


class Stream(io.TextIOBase):
    """Stands for stdout or stderr for as long as the process runs, so that loggers keep it."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def writable(self) -> bool:
        """Say that it may be written to."""
        return True

    def write(self, text: str) -> int:
        """Keep a text."""
        self._parts.append(text)
        return len(text)

    def taken(self) -> str:
        """Return what was written since the last call."""
        text, self._parts = "".join(self._parts), []
        return text


class Run:
    """A case that is being run: its folder, and what it said.

    Args:
        out: folder for what the case writes.
        said: the streams that stand for stdout and stderr.
    """

    def __init__(self, out: Path, said: dict[str, Stream]) -> None:
        self.out, self.said = out, said
        self.steps: list[dict[str, Any]] = []
        out.mkdir(parents=True, exist_ok=True)

    def command(self, line: str) -> None:
        """Run a command line as `python -m crossband` does; keep what it prints and returns."""
        argv = shlex.split(Template(line).substitute(PRODUCTS, out=self.out))

        def start() -> None:
            sys.argv = ["crossband", *argv]
            runpy.run_module("crossband", run_name="__main__")

        self._step(f"crossband {line}", start)

    def call(self, line: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function; keep its warnings and its error."""
        return self._step(line, lambda: function(*args, **options))

    def _step(self, line: str, function: Callable[[], Any]) -> Any:
        code: Any = 0
        answer = None
        try:
            answer = function()
        except SystemExit as end:
            code = end.code
        except BaseException as error:  # noqa: BLE001 - Ctrl-C is part of a case
            code = f"{type(error).__name__}: {error}"
        step = {name: stream.taken() for name, stream in self.said.items()}
        self.steps.append({"line": line, **step, "code": code or 0})
        return answer

    def keep(self, name: str, array: Any) -> None:
        """Keep a DataArray: its numbers in one file, what describes them in another."""
        import numpy as np

        lazy = getattr(array, "chunks", None)
        np.save(self.out / f"{name}.npy", array.to_numpy())
        place = getattr(array, "rio", None)
        facts = {
            "name": array.name,
            "dimensions": array.dims,
            "chunks": lazy,
            "attributes": {k: str(v) for k, v in array.attrs.items()},
            "coordinates": {k: str(v.values.tolist())[:500] for k, v in array.coords.items()},
            "CRS": str(place.crs) if place else None,
            "transform": str(tuple(place.transform())) if place else None,
            "nodata": str(place.nodata) if place else None,
        }
        text = "\n".join(f"{key}: {json.dumps(fact)}" for key, fact in facts.items())
        (self.out / f"{name}.txt").write_text(text)


@dataclass(frozen=True)
class Case:
    """Something that both commits do.

    Args:
        group: cases of one group run in one process.
        begin: what is done.
        end: what is done after it, where one commit may begin and the other go on.
    """

    group: str
    begin: Callable[[Run], None]
    end: Callable[[Run], None] | None = None


CASES: dict[str, Case] = {}
#: What the last step of a case is called: it fails where the case does, and not what it tries.
WHOLE = "the case"


def add(group: str, table: dict[str, str]) -> None:
    """Add cases that are command lines. A line `---` parts the beginning from the end."""

    def commands(text: str) -> Callable[[Run], None]:
        # A line that is indented more than the first goes on with the line before it.
        whole = textwrap.dedent(text).strip("\n ").replace("\n ", " ")

        def run_all(run: Run) -> None:
            for line in whole.split("\n"):
                run.command(" ".join(line.split()))

        return run_all

    for name, text in table.items():
        begin, _, end = text.partition("---\n")
        CASES[name] = Case(group, commands(begin), commands(end) if end else None)


def case(group: str, name: str, end: Callable[[Run], None] | None = None) -> Callable[..., Any]:
    """Add a case that is a function."""

    def register(begin: Callable[[Run], None]) -> Callable[[Run], None]:
        CASES[name] = Case(group, begin, end)
        return begin

    return register


def slug(name: str) -> str:
    """Return the name of a case's folder."""
    return re.sub(r"\W+", "-", name).strip("-")
