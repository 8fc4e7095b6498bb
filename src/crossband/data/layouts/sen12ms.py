"""The layout `sen12ms`: SEN12MS as published, or the 8-bit pictures of it by deepNIR."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from crossband.core import sensors
from crossband.data.layouts.base import FileSearch, Layout, Row
from crossband.data.layouts.folders import Folders
from crossband.errors import ManifestError

_NAME = re.compile(r"(ROIs\d+_[a-z]+)_(?:s1|s2|lc)_(\d+)_p(\d+)")
#: Which sensor the files of a folder are of; each holds all its bands in the sensor's order.
_SENSORS = {"s1": "sentinel-1-grd-db", "s2": "sentinel-2-l1c-no-offset"}


class Sen12ms(Layout):
    """SEN12MS: 180,662 patches of 256 x 256 pixels at 10 m, Sentinel-1 and Sentinel-2.

    The published files are read in their folders:

    - `ROIs1158_spring/s1_1/ROIs1158_spring_s1_1_p30.tif`: VV and VH in decibels, float.
    - `s2_1`: the 13 bands of Level-1C in their order, B8A after B8, as reflectance x 10000 from
      before processing baseline 04.00.
    - `lc_1` is land cover, which has classes and is not used.

    The folders may also be called `ROIs1158_spring_s1/s1_1`. Each scene of a season is a group. The
    manifest names all bands, so that each model can choose the bands it needs. For RGB to near
    infrared, give --pairs s2-s2.

    The 8-bit pictures of deepNIR are `train_A` (RGB) and `train_B` (near infrared), `val_A`, ...
    with equal names. They are contrast-stretched, so they are not measurements. The scene in the
    name of a file is its group.

    Args:
        pairs: which files are source and target, as s1-s2; or pictures for train_A ... test_B.
    """

    name: ClassVar[str] = "sen12ms"
    origin: ClassVar[str] = (
        "SEN12MS (Schmitt et al. 2019, doi 10.14459/2019mp1474000), or deepNIR's pictures of it"
    )

    def __init__(self, pairs: Literal["s1-s2", "s2-s1", "s2-s2", "pictures"] = "s1-s2") -> None:
        self.pairs = pairs

    def rows(self, search: FileSearch) -> Iterator[Row]:
        """See `Layout.rows`."""
        if self.pairs == "pictures":
            yield from _pictures(search)
            return
        source, target = self.pairs.split("-")
        one = _files(search, source)
        if not one and (search.root / "train_A").is_dir():
            raise ManifestError(f"{search.root}: these are pictures (train_A): --pairs pictures")
        pairs = [(p, p) for p in one]
        if source != target:
            pairs = list(search.pair(one, _files(search, target), _place))
        for a, b in pairs:
            season, scene, _ = _place(a)
            row: Row = {"source": a, "target": b, "group": f"{season}_{scene}"}
            row |= {"source_bands": _bands(source), "sensor": _SENSORS[source]}
            row["target_bands"] = _bands(target)
            if source != target:
                row["target_sensor"] = _SENSORS[target]
            yield row


def _files(search: FileSearch, side: str) -> list[Path]:
    found = search.files(f"ROIs*/{side}_*/*.tif")
    search.left_out += [(p, "no ROIs..._p30.tif") for p in found if not _NAME.fullmatch(p.stem)]
    return [p for p in found if _NAME.fullmatch(p.stem)]


def _place(path: Path) -> tuple[str, str, str]:
    """Return season, scene and patch."""
    found = _NAME.fullmatch(path.stem)
    return (found[1], found[2], found[3]) if found else ("", "", path.stem)


def _bands(side: str) -> str:
    bands = sensors.get(_SENSORS[side]).bands
    return ",".join(f"{band.name}={n}" for n, band in enumerate(bands, start=1))


def _pictures(search: FileSearch) -> Iterator[Row]:
    has_scenes = False
    for row in Folders(source="red,green,blue", target="nir").rows(search):
        found = _NAME.search(Path(row["source"]).stem)
        if found:
            has_scenes = True
            row["group"] = f"{found[1]}_{found[2]}"
        yield row
    if not has_scenes:
        search.notes.append(
            "the names do not say the scene: each picture is its own group, so neighbours of one "
            "scene may be on both sides of a split"
        )
