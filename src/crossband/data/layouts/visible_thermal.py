"""Layouts of datasets with visible and thermal pictures of equal names in two folders.

Thermal pictures are 8-bit camera output after automatic gain, with one channel or three equal ones.
"""

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
    """Pairs of pictures with equal names, in folders that differ in one part of the path only.

    Args:
        unpaired: write pairs of different size as two rows, each without a counterpart, for
            methods that need no pairs; otherwise such pairs are left out.
    """

    #: Names of the visible and the thermal folder, in each of the published forms.
    sides: tuple[tuple[str, str], ...]
    #: Pattern of the pictures; `{}` is the folder of their side.
    pattern: ClassVar[str] = "**/{}/*"
    #: Value of the column `split_by` if folders are called train, val or test.
    split_by: ClassVar[str] = ""

    #: See `block_of`.
    block: int = 0

    def __init__(self, unpaired: bool = False) -> None:
        self.unpaired = unpaired

    def columns(self, path: Path, folders: tuple[str, ...]) -> Row:
        """Return more columns of a pair: group, split, what its name says.

        Args:
            path: the visible picture.
            folders: names of the folders from that of the dataset down to the picture, without the
                folder of its side.
        """
        return split_of(folders, self.split_by) | block_of(path, self.block)

    def keep(self, path: Path, folders: tuple[str, ...]) -> bool:
        """Return whether a picture belongs to the dataset."""
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
            row |= self.columns(visible, _folders(visible, search.root, side))
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
        notes = []
        if grey:
            notes.append(f"{len(grey):,} visible pictures are grey and were left out, as {grey[0]}")
        if unequal:
            fate = "have no counterpart" if self.unpaired else "were left out (see --unpaired)"
            notes.append(f"{len(unequal):,} pairs differ in size and {fate}, as {unequal[0]}")
        if notes and not found:
            raise ManifestError(f"{search.root}: no pair for the layout {self.name}: {notes[-1]}")
        search.notes += notes

    def _pairs(self, search: FileSearch) -> Iterator[tuple[str, Path, Path]]:
        for names in self.sides:
            visible, thermal = (self._files(search, name) for name in names)
            one, two = (partial(_key, root=search.root, side=name) for name in names)
            for pair in search.pair(visible, thermal, one, two):
                yield names[0], *pair

    def _files(self, search: FileSearch, name: str) -> list[Path]:
        found = search.files(self.pattern.format(name))
        return [p for p in found if self.keep(p, _folders(p, search.root, name))]


class KAIST(_VisibleThermal):
    """KAIST multispectral pedestrian dataset: `set<nn>/V<nnn>/{visible,lwir}/I<nnnnn>.jpg`.

    Sets 00 to 05 are for training, sets 06 to 11 for testing. Each set is of one place, by day or
    by night, as the README of the repository lists. These become the columns `place` and `light`.
    Each video is a group.

    Args:
        unpaired: write pairs of different size as two rows, each without a counterpart.
    """

    name = "kaist"
    origin = (
        "95,328 frames of drives, visible and thermal 640 x 512 (Hwang et al. 2015): "
        "github.com/SoonminHwang/rgbt-ped-detection, no licence stated there"
    )
    sides = (("visible", "lwir"),)
    pattern = "**/set[01][0-9]/V[0-9][0-9][0-9]/{}/*"

    def columns(self, path: Path, folders: tuple[str, ...]) -> Row:
        """Return video, split, light and place."""
        *_, name, video = folders
        number = int(name[3:])
        row: Row = {"group": f"{name}/{video}"}
        row["light"] = "day" if number % 6 < 3 else "night"
        row["place"] = ("campus", "road", "downtown")[number % 3]
        return row | {"split": "train" if number < 6 else "test", "split_by": "KAIST"}


class LLVIP(_VisibleThermal):
    """LLVIP: `{visible,infrared}/{train,test}/<number>.jpg`.

    There are recordings of 26 places, each with a fixed camera. The first two digits of a file name
    are the number of the recording. Each recording is a group.

    Args:
        unpaired: write pairs of different size as two rows, each without a counterpart.
    """

    name = "llvip"
    origin = (
        "15,488 street scenes, visible and thermal 1280 x 1024 (Jia et al. 2021): "
        "github.com/bupt-ai-cz/LLVIP, its own terms, non-commercial"
    )
    sides = (("visible", "infrared"),)
    pattern = "**/{}/*/*"
    split_by = "LLVIP"

    def columns(self, path: Path, folders: tuple[str, ...]) -> Row:
        """Return recording and split."""
        return {"group": f"llvip-{path.stem[:2]}"} | super().columns(path, folders)


class M3FD(_VisibleThermal):
    """M3FD: `{Vis,Ir}/<number>.png`, in `M3FD_Detection`, in `M3FD_Fusion`, or in both.

    The dataset has no split.

    Args:
        block: number of consecutive picture numbers that form a group; 0 for no groups.
        unpaired: write pairs of different size as two rows, each without a counterpart.
    """

    name = "m3fd"
    origin = (
        "4,500 scenes, visible and thermal 1024 x 768 (Liu et al. 2022): "
        "github.com/JinyuanLiu-CV/TarDAL, for academic use"
    )
    sides = (("Vis", "Ir"),)

    def __init__(self, block: int = 0, unpaired: bool = False) -> None:
        super().__init__(unpaired)
        self.block = block

    def columns(self, path: Path, folders: tuple[str, ...]) -> Row:
        """Return the block, with the archive that it is in."""
        return {k: f"{folders[-1]}/{v}" for k, v in block_of(path, self.block).items()}


class MSRS(_VisibleThermal):
    """MSRS: `{train,test}/{vi,ir}/<number>{D,N}.png`.

    The letter D or N becomes the column `light`, which is day or night. The folder `detection/` has
    copies of some pictures under other names, and is left out.

    Args:
        block: number of consecutive picture numbers that form a group; 0 for no groups.
        unpaired: write pairs of different size as two rows, each without a counterpart.
    """

    name = "msrs"
    origin = (
        "1,444 road scenes, visible and thermal 640 x 480 (Tang et al. 2022, from MFNet): "
        "github.com/Linfeng-Tang/MSRS, no licence stated, for research"
    )
    sides = (("vi", "ir"),)
    split_by = "MSRS"

    def __init__(self, block: int = 0, unpaired: bool = False) -> None:
        super().__init__(unpaired)
        self.block = block

    def keep(self, path: Path, folders: tuple[str, ...]) -> bool:
        """Leave out the copies in `detection/`."""
        return super().keep(path, folders) and "detection" not in folders[1:]

    def columns(self, path: Path, folders: tuple[str, ...]) -> Row:
        """Return light, split and block."""
        row: Row = {"light": {"D": "day", "N": "night"}.get(path.stem[-1:])}
        return row | super().columns(path, folders)


class RoadScene(_VisibleThermal):
    """RoadScene, in one of two forms.

    - as published: `crop_LR_visible/FLIR_<number>.jpg` and `cropinfrared/`.
    - with the folders of FLIR ADAS for the same files: `<part>/{RGB,thermal_8_bit}/`.

    Args:
        block: number of consecutive picture numbers that form a group, because frames of one drive
            have consecutive numbers; 0 for no groups.
        high_resolution: use the visible pictures of `crop_HR_visible` or `RGB_hr`. They have
            another size and field of view, so they need --unpaired.
        unpaired: write pairs of different size as two rows, each without a counterpart.
    """

    name = "roadscene"
    origin = (
        "221 road scenes, visible and thermal (Xu et al. 2020, from FLIR ADAS): "
        "github.com/hanna-xu/RoadScene, no licence stated, FLIR ADAS is for non-commercial research"
    )
    split_by = "the folders"

    def __init__(
        self, block: int = 500, high_resolution: bool = False, unpaired: bool = False
    ) -> None:
        super().__init__(unpaired)
        self.block = block
        visible = ("crop_HR_visible", "RGB_hr") if high_resolution else ("crop_LR_visible", "RGB")
        self.sides = ((visible[0], "cropinfrared"), (visible[1], "thermal_8_bit"))


class VIFB(_VisibleThermal):
    """VIFB: `{VI,IR}/<name>.jpg`.

    The dataset is a benchmark, so all of it is in the split `test`. Some visible pictures are grey
    and are left out.

    Args:
        unpaired: write pairs of different size as two rows, each without a counterpart.
    """

    name = "vifb"
    origin = (
        "21 visible and thermal pairs of many cameras (Zhang et al. 2020): "
        "github.com/xingchenzhang/VIFB, no licence stated, for research"
    )
    sides = (("VI", "IR"),)

    def columns(self, path: Path, folders: tuple[str, ...]) -> Row:
        """Return the split: the dataset is a benchmark."""
        return {"split": "test", "split_by": "VIFB"}


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
    """Return the columns `split` and `split_by` if a folder is called train, val or test.

    >>> split_of(("msrs", "train"), "MSRS")
    {'split': 'train', 'split_by': 'MSRS'}
    """
    named = [f for f in folders if f in ("train", "val", "test")]
    return {"split": named[-1], "split_by": by} if named else {}


def block_of(path: Path, block: int) -> Row:
    """Return the column `group`: one group for each block of that many consecutive numbers.

    Pictures on both sides of a block's border are still neighbours.

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
