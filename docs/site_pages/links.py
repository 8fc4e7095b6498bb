"""Links that lead out of `docs/` in the repository: each has a page of the site, or is a file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?(?=\))")
_CARD = re.compile(r"src/crossband/weights/([^/]+)/README\.md")
#: File or folder of the repository -> what a page of the site links to instead.
_PAGES = {
    "CONTRIBUTING.md": "docs/generated/project/contributing.md",
    "SECURITY.md": "docs/generated/project/security.md",
    "CHANGELOG.md": "docs/generated/project/changes.md",
    "CODE_OF_CONDUCT.md": "docs/generated/project/conduct.md",
    "README.md": "docs/index.md",
    "src/crossband/weights": "docs/cards.md",
    "deploy/space": "deploy/space/app.py",
}


def moved(text: str, origin: Path, page: str, root: Path) -> str:
    """Return text of a file with its links as a page of the site has them.

    Args:
        text: content of the file.
        origin: path of the file.
        page: name of the page below `docs/generated/`.
        root: folder of the repository.
    """
    return _LINK.sub(lambda m: _link(m, origin.parent, f"docs/generated/{page}", root), text)


def read(app: Any, name: str, source: list[str]) -> None:
    """Mend the links of a page that Sphinx reads."""
    root, page = Path(app.srcdir).parent, Path("docs") / name
    if not name.startswith("generated/"):
        source[0] = _LINK.sub(
            lambda m: _link(m, root / page.parent, page.as_posix(), root), source[0]
        )


def _link(match: re.Match[str], folder: Path, page: str, root: Path) -> str:
    """Return a link of a page, written relative to a folder, relative to the page."""
    given, anchor = match[1], match[2] or ""
    target = os.path.relpath(folder / given, root)
    card = _CARD.fullmatch(target)
    target = _PAGES.get(target.rstrip("/"), target)
    if card:
        target = f"docs/generated/cards/{card[1]}.md"
    return os.path.relpath(target, Path(page).parent) + anchor
