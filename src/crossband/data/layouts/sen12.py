"""The layout `sen12`: the dataset SEN1-2, as published or sorted by terrain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from crossband.core.json_text import read_json
from crossband.data.layouts.base import FileSearch, Layout, Row
from crossband.data.splits import SPLITS
from crossband.errors import ManifestError

_NAME = re.compile(r"(ROIs\d+_[a-z]+)_s[12]_(\d+)_p(\d+)")


class Sen12(Layout):
    """SEN1-2: 8-bit pictures of 256 x 256 pixels, Sentinel-1 VV and Sentinel-2 red, green, blue.

    Two forms are read:

    - sorted by terrain: `v_2/agri/s1/ROIs1868_summer_s1_59_p2.png` and the same name with s2 in
      `v_2/agri/s2`; the other terrains are `barrenland`, `grassland` and `urban`. ROOT is `v_2` or
      the folder above it. The name of the terrain becomes the column `terrain`.
    - as published: `ROIs1868_summer/s1_59/...png`.

    Both sides are contrast-stretched to 8 bits, so they are pictures and not measurements. Each
    scene of a season is a group. The common file split.json for the four terrains divides every
    scene. With it, validation and test contain places that were trained on.

    Args:
        split: a JSON file {"data": {"train": ["urban/s1/ROIs..._p1.png", ...], "val": ..., "test":
            ...}}, which is used unchanged; without it, a later split keeps scenes together.
    """

    name: ClassVar[str] = "sen12"
    origin: ClassVar[str] = (
        "SEN1-2 (Schmitt et al. 2018, mediatum 1436631), or its 16,000 pairs by terrain (Kaggle)"
    )

    def __init__(self, split: str = "") -> None:
        self.split = split

    def rows(self, search: FileSearch) -> Iterator[Row]:
        """See `Layout.rows`."""
        splits = _splits(Path(self.split)) if self.split else {}
        one, two = (
            [p for p in files if _NAME.fullmatch(p.stem)]
            for side in ("s1", "s2")
            for files in [
                search.files(f"*/{side}/*.png", f"v_2/*/{side}/*.png", f"ROIs*/{side}_*/*.png")
            ]
        )
        unlisted = 0
        for a, b in search.pair(one, two, _key):
            season, scene, _ = _place(a)
            row: Row = {"source": a, "target": b, "group": f"{season}_{scene}"}
            row |= {"source_bands": "vv=1", "target_bands": "red=1,green=2,blue=3"}
            row |= {"sensor": "display", "target_sensor": "display"}
            if a.parent.name == "s1":
                row["terrain"] = a.parent.parent.name
            if splits:
                listed = next((n for n in map(_listed, (a, b)) if n in splits), None)
                if listed is None:
                    unlisted += 1
                    continue
                row |= {"split": splits.pop(listed), "split_by": Path(self.split).name}
            yield row
        if unlisted:
            search.notes.append(f"{unlisted:,} pairs are not in {self.split} and were left out")
        if splits:
            search.notes.append(
                f"{len(splits):,} files of {self.split} are not here, as {next(iter(splits))}"
            )


def _place(path: Path) -> tuple[str, str, str]:
    """Return season, scene and patch."""
    found = _NAME.fullmatch(path.stem)
    return (found[1], found[2], found[3]) if found else ("", "", path.stem)


def _key(path: Path) -> tuple[str, ...]:
    terrain = path.parent.parent.name if path.parent.name in ("s1", "s2") else ""
    return (terrain, *_place(path))


def _listed(path: Path) -> str:
    """Return a path as split.json has it."""
    return "/".join(path.parts[-3:])


def _splits(path: Path) -> dict[str, str]:
    """Read split.json: path below the four terrains -> split."""
    data: Any = read_json(path, ManifestError)
    lists = data.get("data") if isinstance(data, dict) else None
    if not isinstance(lists, dict) or not lists or not set(lists) <= set(SPLITS):
        raise ManifestError(
            f'{path}: looked for {{"data": {{"train": [...], "val": [...], "test": [...]}}}}, '
            f"found {str(data)[:60]!r}"
        )
    splits: dict[str, str] = {}
    for split, names in lists.items():
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise ManifestError(f"{path}: {split} is not a list of file names")
        for name in names:
            # Written on Windows, a path has backslashes.
            place = name.replace("\\", "/")
            if splits.setdefault(place, split) != split:
                raise ManifestError(f"{path}: {name} is in {splits[place]} and in {split}")
    return splits
