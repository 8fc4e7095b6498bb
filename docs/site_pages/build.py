"""Write the pages of the site that follow from the code into `docs/generated/`."""

from __future__ import annotations

from pathlib import Path

from site_pages import api, families, options, tables, texts


def write_all(docs: Path) -> list[Path]:
    """Write all generated pages; return their paths.

    Args:
        docs: the folder of the pages. The texts of the project lie in its parent.
    """
    pages = {
        **options.pages(),
        **families.pages(),
        **tables.pages(),
        **api.pages(),
        **texts.pages(docs.parent),
    }
    folder = docs / "generated"
    for old in folder.glob("**/*.md"):
        if old.relative_to(folder).with_suffix("").as_posix() not in pages:
            old.unlink()
    return [_write(folder / f"{name}.md", text) for name, text in pages.items()]


def _write(path: Path, text: str) -> Path:
    """Write a page where it changed, so that Sphinx reads no other page again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    return path
