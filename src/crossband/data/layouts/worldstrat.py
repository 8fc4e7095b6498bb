"""WorldStrat: SPOT 6/7 pictures of places all over the world, with Sentinel-2 revisits of each.

The form is that of zenodo.org/records/6810792 and github.com/worldstrat/worldstrat
(`dataset_generation/SPOTDownloader.py`): `hr_dataset/<tile>/<tile>_{rgbn,ps,pan}.tiff` (on Kaggle
`hr_dataset/12bit/<tile>/`), `lr_dataset/<tile>/L2A/<tile>-<n>-L2A_data.tiff`, `metadata.csv`, and
`stratified_train_val_test_split.csv` with the columns tile and split.

- `rgbn`: SPOT's own colours, 6 m, red, green, blue, NIR (SPOT's B2, B1, B0, B3), uint16.
- `ps`: the same, sharpened with the panchromatic band to 1.5 m.
- `l2a`: Sentinel-2, 12 bands B01 to B12 without B10, 10 m.

Each is a pair within one file, as RGB to NIR. Sentinel-2 to SPOT is no pair here: 10 m is neither
6 m nor 1.5 m times a whole number, the sizes do not fit one either (158, 263 and 1054 pixels), and
the pictures are of different days. The files carry no affine: lon and lat are from `metadata.csv`.
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
    """SPOT or Sentinel-2 files of the tiles, with the published split; each tile is a group.

    Args:
        product: `rgbn` (6 m), `ps` (1.5 m) or `l2a` (10 m, several dates of each tile).
        sensor: `spot-6` (16-bit reflectance x 10000) where empty; `reflectance` for files that
            hold 0..1 as float. `l2a` needs it: what its numbers are is not documented.
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
