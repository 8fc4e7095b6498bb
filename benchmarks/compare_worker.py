"""The process of `compare_commits.py` that runs cases with one commit."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import TextIO

import compare_calls  # noqa: F401 - it adds its cases
from compare_run import CASES, WHOLE, Run, Stream, slug


def run_cases(names: list[str], root: Path, part: str, folder: Path) -> None:
    """Run a part of some cases in this process.

    Args:
        names: of the cases.
        root: where each case has its folder.
        part: `begin` or `end`.
        folder: gets a record for each case.
    """
    said = {"out": Stream(), "err": Stream()}
    sys.stdout, sys.stderr = said["out"], said["err"]
    for name in names:
        run = Run(root / slug(name), said)
        with warnings.catch_warnings():
            # Each warning once in a case, without the line of the code that gave it.
            seen: set[str] = set()

            def show(
                message: Warning | str,
                category: type[Warning],
                filename: str,
                lineno: int,
                file: TextIO | None = None,
                line: str | None = None,
                seen: set[str] = seen,
            ) -> None:
                text = f"{category.__name__}: {message}\n"
                if text not in seen:
                    seen.add(text)
                    sys.stderr.write(text)

            warnings.simplefilter("always")
            for kind in (DeprecationWarning, PendingDeprecationWarning, ResourceWarning):
                warnings.simplefilter("ignore", kind)
            warnings.showwarning = show
            function = CASES[name].begin if part == "begin" else CASES[name].end
            if function is not None:
                run.call(WHOLE, function, run)
        (folder / f"{slug(name)}.{part}.json").write_text(json.dumps(run.steps))


def main(argv: list[str]) -> None:
    """Run cases as `compare_commits.py` asks for."""
    order = json.loads(argv[0])
    os.chdir(order["inputs"])
    import crossband

    found = Path(crossband.__file__).resolve()
    if not found.is_relative_to(Path(order["src"]).resolve()):
        raise SystemExit(f"crossband is {found}, not of {order['src']}")
    for root, records, part, names in order["parts"]:
        Path(records).mkdir(parents=True, exist_ok=True)
        (Path(records) / "version").write_text(crossband.__version__)
        run_cases(names, Path(root), part, Path(records))


if __name__ == "__main__":
    main(sys.argv[1:])
