"""The layout `worldstrat`: SPOT 6/7 images from all over the world, with Sentinel-2 revisits.

Sources: zenodo.org/records/6810792 and github.com/worldstrat/worldstrat
(`dataset_generation/SPOTDownloader.py`).

Source and target are bands of one file. Pairs of Sentinel-2 and SPOT are not made, for three
reasons. 10 m is not a whole multiple of 6 m or 1.5 m. The sizes (158, 263 and 1054 pixels) are not
whole multiples either. And the images are from different days.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossband.core import sensors
from crossband.data.layouts._rows import RGBN, SENTINEL_2_L2A, read_table, single_file_row
from crossband.data.layouts.base import FileSearch, Layout, Row
from crossband.data.splits import SPLITS
from crossband.errors import ManifestError, nearest

_FILES = {
    "rgbn": ("hr_dataset/**/*_rgbn.tiff", RGBN, "spot-6", 6.0),
    "ps": ("hr_dataset/**/*_ps.tiff", RGBN, "spot-6", 1.5),
    "l2a": ("lr_dataset/**/*-L2A_data.tiff", SENTINEL_2_L2A, "", 10.0),
}
_SPLIT = "stratified_train_val_test_split.csv"


class WorldStrat(Layout):
    """WorldStrat: SPOT or Sentinel-2 images, with source and target bands in one file.

    The products are:

    - `rgbn`: SPOT at 6 m, red, green, blue, NIR (SPOT's B2, B1, B0, B3), uint16. The files are
      `hr_dataset/<tile>/<tile>_rgbn.tiff`, on Kaggle `hr_dataset/12bit/<tile>/`.
    - `ps`: the same, pan-sharpened to 1.5 m, `<tile>_ps.tiff`.
    - `l2a`: Sentinel-2 at 10 m, the 12 bands B01 to B12 without B10, several dates of each tile,
      `lr_dataset/<tile>/L2A/<tile>-<n>-L2A_data.tiff`.

    The published split is in `stratified_train_val_test_split.csv` (columns tile, split). The files
    have no georeference, so lon and lat come from `metadata.csv`. Each tile is a group.

    Args:
        product: `rgbn`, `ps` or `l2a`.
        sensor: empty means `spot-6` (16-bit reflectance x 10000); give `reflectance` for float
            files with values 0..1. `l2a` needs a sensor, because its numbers are not documented.
    """

    name = "worldstrat"
    origin = (
        "about 3,900 tiles of 2.5 km2, SPOT 6/7 and Sentinel-2 L2A (Cornebise et al. 2022): "
        "zenodo.org/records/6810792, SPOT CC BY-NC 4.0, Sentinel-2 CC BY 4.0"
    )

    def __init__(self, product: str = "rgbn", sensor: str = "") -> None:
        if product not in _FILES:
            raise ManifestError(
                f"worldstrat has no product {product!r}: {nearest(product, _FILES)}"
            )
        self.pattern, self.bands, known, self.gsd = _FILES[product]
        self.sensor = sensor or known
        if not self.sensor:
            raise ManifestError(
                "worldstrat: product l2a needs --sensor: reflectance for float files, "
                "sentinel-2-l2a-no-offset or sentinel-2-l2a for 16-bit ones"
            )
        sensors.get(self.sensor)

    def rows(self, search: FileSearch) -> Iterator[Row]:
        """Yield a row for each file of a tile; see `Layout.rows`."""
        files = search.files(self.pattern)
        splits, places = search.files(_SPLIT), search.files("metadata.csv")
        if not files:
            return
        split = _column(splits[0], "split") if splits else {}
        lon = _column(places[0], "lon") if places else {}
        lat = _column(places[0], "lat") if places else {}
        unnamed: list[Path] = []
        strange = sorted({str(s) for s in split.values()} - set(SPLITS))
        if strange:
            raise ManifestError(f"{splits[0]}: split {strange[0]!r}: {nearest(strange[0], SPLITS)}")
        for path in files:
            tile = _tile(path)
            row = single_file_row(path, self.bands, self.sensor, group=tile, gsd=self.gsd)
            if split and tile not in split:
                unnamed.append(path)
                continue
            if split:
                row |= {"split": split[tile], "split_by": "WorldStrat"}
            yield row | {"lon": lon.get(tile), "lat": lat.get(tile)}
        if not splits:
            search.notes.append(f"no {_SPLIT}: the published split is not there")
        elif len(unnamed) == len(files):
            raise ManifestError(f"{splits[0]}: it names no tile of the {len(files):,} files")
        elif unnamed:
            search.notes.append(
                f"{len(unnamed):,} files are of tiles that {_SPLIT} does not name, as {unnamed[0]}"
            )


def _tile(path: Path) -> str:
    """Return the name of the folder that is the tile's.

    >>> _tile(Path("lr_dataset/UNHCR-1/L2A/UNHCR-1-3-L2A_data.tiff"))
    'UNHCR-1'
    """
    return path.parent.parent.name if path.parent.name == "L2A" else path.parent.name


def _column(path: Path, column: str) -> dict[str, Any]:
    """Return tile -> value; a tile has a line for each of its dates, all with the same value."""
    lines = read_table(path, column)
    # The published metadata.csv names its tiles in a first column without a title.
    untitled = str(lines.columns[0]) if path.name == "metadata.csv" else "tile"
    key = "tile" if "tile" in lines.columns else untitled
    if key not in lines.columns:
        raise ManifestError(
            f"{path}: no column 'tile': it has {', '.join(map(str, lines.columns))}"
        )
    return dict(zip(lines[key].astype(str), lines[column], strict=True))
