"""docs/soak.md: each long check writes its own section and leaves the others as they are."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

HEAD = (
    "# Does it leak memory, and does it survive a kill?\n\n"
    "Written by `make soak`; each check also runs alone, and says how.\n"
)


def put(page: str, new: str) -> str:
    """Return a page with its section of the same title replaced, or added at the end."""
    title = new.partition("\n")[0]
    parts = re.split(r"(?m)^(?=## )", page)
    mine = [n for n, part in enumerate(parts) if part.partition("\n")[0] == title]
    if not mine:
        return f"{page.rstrip()}\n\n{new}"
    parts[mine[0]] = new if mine[0] == len(parts) - 1 else f"{new}\n"
    return "".join(parts)


def arguments(about: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of every check."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/soak.md"))
    parser.add_argument("--json", type=Path, help="write the numbers to FILE")
    return parser


def write(a: argparse.Namespace, new: str, result: dict[str, Any]) -> None:
    """Print a section, put it into the page, and write the numbers where they are wanted."""
    print(new, flush=True)
    a.out.write_text(put(a.out.read_text() if a.out.exists() else HEAD, new))
    if a.json:
        a.json.write_text(json.dumps(result, indent=1) + "\n")
