"""Pages whose text lies elsewhere: the project's own files, and the cards of the bundled models."""

from __future__ import annotations

from pathlib import Path

from crossband.model.files import CARD
from crossband.model.folder import bundled
from site_pages import links

#: Page -> the file at the root of the repository.
PROJECT = {
    "project/contributing": "CONTRIBUTING.md",
    "project/security": "SECURITY.md",
    "project/changes": "CHANGELOG.md",
    "project/conduct": "CODE_OF_CONDUCT.md",
}


def pages(root: Path) -> dict[str, str]:
    """Return name -> text of the pages."""
    made = {}
    for page, name in PROJECT.items():
        made[page] = links.moved(_read(root / name), root / name, page, root)
    for model in bundled():
        folder = root / "src/crossband/weights" / model
        page = f"cards/{model}"
        made[page] = links.moved(_read(folder / CARD), folder / CARD, page, root)
    return made


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
