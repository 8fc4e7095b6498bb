"""Pieces of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def cell(text: str) -> str:
    """Return text for a cell of a table: one line, no bars, nothing that looks like HTML."""
    return " ".join(escape(text).replace("|", "\\|").split())


def escape(text: str) -> str:
    """Return text in which angle brackets and dollars outside of code mean themselves."""
    parts = text.split("`")
    parts[::2] = [
        part.replace("<", "\\<").replace("*", "\\*").replace("[", "\\[") for part in parts[::2]
    ]
    return "`".join(parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its cells are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"
