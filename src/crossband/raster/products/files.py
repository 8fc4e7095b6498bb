"""Files in a folder, each a band that the user names, as in `red=B04.tif`.

A value with a dot, a star or a slash names a file: its name in the folder, a pattern that matches
one file, an absolute path or a URL. `rgb.tif#2` is the second band of a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from crossband.errors import BandError, InputError
from crossband.raster.products.base import Band, ProductReader
from crossband.raster.source import Source


class Files(ProductReader):
    """A folder, and the files in it that the user names as bands."""

    title: ClassVar[str] = "a folder with --bands red=B04.tif,green=B03.tif,..."

    def bands(self, source: Source) -> list[Band] | None:
        """See `ProductReader.bands`."""
        folder = Path(source.path)
        named = any(map(_is_file, source.given.values()))
        if not named or not source.is_local or not folder.is_dir():
            return None
        twice = next((v for v in source.given.values() if [*source.given.values()].count(v) > 1), 0)
        if twice:
            raise BandError(f"{folder}: --bands: {twice} is given for two bands")
        return [_band(folder, name, value) for name, value in source.given.items()]


def _is_file(value: int | str) -> bool:
    return isinstance(value, str) and any(c in value for c in ".*/")


def _band(folder: Path, name: str, value: int | str) -> Band:
    if not isinstance(value, str) or not _is_file(value):
        raise BandError(f"{folder}: --bands {name}={value}: a file, as the other bands are")
    words, mark, number = value, "", "1"
    if not (folder / value).exists():
        words, mark, number = value.partition("#") if "#" in value else (value, "", "1")
    if not number.isdigit() or int(number) < 1:
        raise BandError(f"{folder}: --bands {name}={value}: no band number is behind the #")
    return Band(value, name, _href(folder, name, words), int(number), alone=not mark)


def _href(folder: Path, name: str, words: str) -> str:
    if "://" in words or words.startswith("/vsi"):
        return words
    if (folder / words).exists():
        return str(folder / words)
    if not any(c in words for c in "*?["):
        raise InputError(f"{folder / words}: no such file (--bands {name})")
    try:
        found = sorted(p for p in folder.glob(words) if p.is_file())
    except (ValueError, NotImplementedError) as error:  # an invalid pattern, or an absolute path
        raise BandError(f"{folder}: --bands {name}={words}: {error}") from error
    if len(found) != 1:
        more = f": {', '.join(p.name for p in found[:3])}" if found else ""
        raise BandError(
            f"{folder}: --bands {name}={words}: {len(found) or 'no'} files fit, not one{more}"
        )
    return str(found[0])
