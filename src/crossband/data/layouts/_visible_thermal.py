"""What datasets of visible and thermal pictures share: two folders, equal names, 8 bits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

from crossband.data.layouts._headers import read_header
from crossband.data.layouts.base import FileSearch, Layout, Row
from crossband.errors import ManifestError

PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff"})


class _VisibleThermal(Layout):
    """Pictures in two folders, with equal names; the folders above and below are equal as well.

    Thermal pictures are 8-bit camera output (automatic gain), with one channel or three equal ones.

    Args:
        unpaired: pictures whose sizes differ become rows without a counterpart, for methods that
            need none; without it they are left out.
    """

    #: Names of the visible and the thermal folder, in each of the published forms.
    sides: tuple[tuple[str, str], ...]
    #: Where pictures lie around the folder of their side.
    pattern: ClassVar[str] = "**/{}/*"

    def __init__(self, unpaired: bool = False) -> None:
        self.unpaired = unpaired

    def about(self, path: Path, folders: tuple[str, ...]) -> Row:
        """Return columns of a pair: group, split, what its name says.

        Args:
            path: the visible picture.
            folders: names of the folders between the dataset and the picture, but for the side's;
                the dataset's own is the first.
        """
        raise NotImplementedError

    def keep(self, path: Path, folders: tuple[str, ...]) -> bool:
        """Tell whether a picture belongs to the dataset."""
        return path.suffix.lower() in PICTURES

    def rows(self, search: FileSearch) -> Iterator[Row]:
        """Yield a row for each pair; see `Layout.rows`."""
        unequal: list[str] = []
        grey: list[Path] = []
        found = 0
        for side, visible, thermal in self._pairs(search):
            row: Row = {"source": visible, "target": thermal}
            row |= {"source_bands": "red=1,green=2,blue=3", "target_bands": "thermal=1"}
            row |= {"sensor": "display", "target_sensor": "thermal-camera"}
            row |= self.about(visible, _folders(visible, search.root, side))
            one, two = read_header(visible), read_header(thermal)
            if one.count < 3:
                grey.append(visible)
            elif one.size != two.size:
                unequal.append(f"{visible}: {one.size} and {two.size}")
                if self.unpaired:
                    found += 2
                    yield row | {"target": None}
                    yield row | {"source": None}
            else:
                found += 1
                yield row
        what = []
        if grey:
            what.append(f"{len(grey):,} visible pictures are grey and were left out, as {grey[0]}")
        if unequal:
            fate = "have no counterpart" if self.unpaired else "were left out (see --unpaired)"
            what.append(f"{len(unequal):,} pairs differ in size and {fate}, as {unequal[0]}")
        if what and not found:
            raise ManifestError(f"{search.root}: no pair for the layout {self.name}: {what[-1]}")
        search.notes += what

    def _pairs(self, search: FileSearch) -> Iterator[tuple[str, Path, Path]]:
        for names in self.sides:
            visible, thermal = (self._files(search, name) for name in names)
            one, two = (partial(_key, root=search.root, side=name) for name in names)
            for pair in search.pair(visible, thermal, one, two):
                yield names[0], *pair

    def _files(self, search: FileSearch, name: str) -> list[Path]:
        found = search.files(self.pattern.format(name))
        return [p for p in found if self.keep(p, _folders(p, search.root, name))]


def _key(path: Path, root: Path, side: str) -> tuple[tuple[str, ...], str]:
    return _folders(path, root, side), path.stem


def _folders(path: Path, root: Path, side: str) -> tuple[str, ...]:
    """Return the folders from the root's own on down, without the last one that is called `side`.

    >>> _folders(Path("/data/msrs/train/vi/1.png"), Path("/data/msrs"), "vi")
    ('msrs', 'train')
    """
    parts = list(path.relative_to(root.parent).parts[:-1])
    parts.reverse()
    parts.remove(side)
    return tuple(reversed(parts))


def split_of(folders: tuple[str, ...], by: str) -> Row:
    """Return the columns `split` and `split_by` where a folder is called train, val or test.

    >>> split_of(("msrs", "train"), "MSRS")
    {'split': 'train', 'split_by': 'MSRS'}
    """
    named = [f for f in folders if f in ("train", "val", "test")]
    return {"split": named[-1], "split_by": by} if named else {}


def block_of(path: Path, block: int) -> Row:
    """Return the column `group`: pictures whose numbers lie in one block of that many.

    Pictures on both sides of a block's border are neighbours still.

    Raises:
        ManifestError: the name has no number.

    >>> block_of(Path("FLIR_08526.jpg"), 500)
    {'group': '8500-8999'}
    >>> block_of(Path("M3FD_00082.png"), 0)
    {}
    """
    if block < 1:
        return {}
    number = re.search(r"(\d+)\D*$", path.stem)
    if number is None:
        raise ManifestError(f"{path}: blocks of {block} need a number in the name")
    first = int(number[1]) // block * block
    return {"group": f"{first}-{first + block - 1}"}
