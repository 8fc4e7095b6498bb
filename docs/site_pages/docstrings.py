"""Docstrings as reStructuredText: in the source they are plain text with a little Markdown."""

from __future__ import annotations

import re
from typing import Any

#: `Place`s: in reStructuredText a letter must not follow the mark.
_CODE_AND_LETTER = re.compile(r"(?<!`)(`[^`]+`)(?=\w)")
_RULE = re.compile(r"\|[-| ]+\|")


def convert(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Turn Markdown tables into those of reStructuredText; stars and bars mean themselves."""
    out: list[str] = []
    table = False
    for number, line in enumerate(lines):
        cells = [cell.strip() for cell in _plain(line).strip().strip("|").split("|")]
        if not line.startswith("|"):
            table = False
        elif not table and _RULE.fullmatch("".join(lines[number + 1 : number + 2])):
            table = True
            out += ["", ".. list-table::", "   :header-rows: 1", ""]
        if not table:
            out.append(_plain(line).replace("|", "\\|"))
        elif not _RULE.fullmatch(line):
            out += [f"   * - {cells[0]}", *(f"     - {cell}" for cell in cells[1:])]
    lines[:] = out


def _plain(line: str) -> str:
    """Return a line with stars outside of code escaped; `**options` of an argument stays."""
    parts = line.split("`")
    parts[::2] = [re.sub(r"(?<![*\\])\*(?!\*)", r"\\*", part) for part in parts[::2]]
    return _CODE_AND_LETTER.sub(r"\1\\ ", "`".join(parts))
