"""Places with a guide: what they measured, and the error of a translation in each way.

`guided.py` prints it for inner folds, `bundled.py` judges a model that takes a guide with it.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
from affine import Affine
from judged import MADE
from numpy.typing import NDArray

import crossband
from crossband import Model
from crossband.raster.bands import parse_bands
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.point_spread import read_as_seen
from crossband.raster.warp import WindowRaster, read_warped

BANDS = ("red", "green", "blue", "nir")
METHODS = ("residual", "difference", "linear", "histogram")
SIDE = 512
#: Ordered pairs of dates of a place, at most.
PAIRS = 8
#: Sizes of a guide's pixels, in pixels of the source, and places, for which a model is judged.
RATIOS, JUDGED = (2, 8, 16), 150
#: Where a file has no georeference: a grid of its own.
SOMEWHERE = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)
Floats = NDArray[np.float32]
Record = Mapping[Hashable, Any]


@dataclass
class Row:
    """A place with a guide.

    Attributes:
        place: of the manifest.
        errors: of near infrared and NDVI, for each way.
        agreement: as the file of the residual method states it.
    """

    place: Record
    errors: dict[str, tuple[float, float]]
    agreement: float


@dataclass(frozen=True)
class Part:
    """Places, and the models that judge them.

    Attributes:
        model: without a guide of its own.
        trained: a model that takes a guide.
        places: their rows.
        dated: rows with a guide of another date.
    """

    model: Model
    trained: Model | None
    places: pd.DataFrame
    dated: pd.DataFrame


@dataclass(frozen=True)
class Place:
    """A place of a manifest, and what was measured there."""

    row: Record
    true: Window


def measured(source: str, bands: str, radiometry: Record, box: str = "") -> Window | None:
    """Read a place of a manifest: four bands in reflectance, at most 512 x 512 pixels."""
    scale, offset, nodata = (
        float(radiometry[k]) if radiometry.get(k, "") else None
        for k in ("scale", "offset", "nodata")
    )
    part = Box.parse(box) if box else None
    names, sensor = parse_bands(bands), radiometry["sensor"]
    options = ReadOptions(names, sensor, scale, offset, nodata, window=part)
    with open_scene(source, options, needed=BANDS) as scene:
        if scene.unit != "reflectance":
            return None
        window = scene.read(scene.grid.box.intersection(Box(0, 0, SIDE, SIDE)))
    grid = window.grid
    if grid.crs is None or grid.transform.is_identity:
        crs = rasterio.CRS.from_epsg(32633)
        grid = Grid(grid.height, grid.width, SOMEWHERE, crs)
    return Window(window.values, window.mask, grid, window.bands, window.unit)


def place_of(row: Record) -> Place | None:
    """Read the place of a row; None where it is small or not in reflectance."""
    bands = f"{row['source_bands']},{row['target_bands']}"
    true = measured(row["source"], bands, row, row["source_window"])
    return Place(row, true) if true is not None and min(true.mask.shape) >= 64 else None


def write(window: Window, path: Path, bands: tuple[str, ...]) -> Path:
    """Write some bands as a GeoTIFF in reflectance."""
    numbers = [window.bands.index(name) for name in bands]
    values = np.where(window.mask, window.values[numbers], np.float32(np.nan))
    profile = {"crs": window.grid.crs, "transform": window.grid.transform, "nodata": np.nan}
    size = {"height": window.grid.height, "width": window.grid.width, "count": len(bands)}
    with rasterio.open(path, "w", driver="GTiff", dtype="float32", **size, **profile) as out:
        out.write(values)
        out.descriptions, out.units = bands, ("reflectance",) * len(bands)
    return path


def errors(found: Floats, true: Window, valid: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the mean absolute errors of near infrared and NDVI."""
    red, nir = true.values[0], true.values[3]

    def ndvi(band: Floats) -> Floats:
        return np.asarray((band - red) / np.maximum(band + red, np.float32(0.02)))

    return tuple(  # type: ignore[return-value]
        float(np.abs(a - b)[valid].mean()) for a, b in ((found, nir), (ndvi(found), ndvi(nir)))
    )


def scores(
    part: Part, place: Place, guide: Window, bands: tuple[str, ...], folder: Path
) -> Row | None:
    """Translate a place without a guide and with it, in each way."""
    model, trained, true = part.model, part.trained, place.true
    bands = bands if trained is None else BANDS
    source = write(true, folder / "source.tif", BANDS[:3])
    path = write(guide, folder / "guide.tif", bands)
    known = Window(guide.values[3:], guide.mask, guide.grid, ("nir",), guide.unit)
    enlarged = read_warped(WindowRaster(known), true.grid)
    valid = true.mask & enlarged.mask
    if valid.mean() < 0.3:
        return None
    stated, out = math.nan, {"guide enlarged": errors(enlarged.values[0], true, valid)}
    ways: list[tuple[Model, str | None]] = [(model, None)]
    if trained is None:
        ways += [(model, method) for method in METHODS]
    else:
        # A guide of the same date without colours is what `difference` takes it for.
        same = "difference" if guide.values.shape[-1] != true.values.shape[-1] else "residual"
        ways += [(model, same), (trained, "trained")]
    for by, method in ways:
        made = by.translate(
            source, folder / "out.tif", overwrite=True, precision="fp32",
            guide=path if method else None, guide_method=method,
        )  # fmt: skip
        with rasterio.open(made) as file:
            out[method or "no guide"] = errors(file.read(1), true, valid)
            if method == "residual":
                stated = agreement(file)
    return Row(place.row, out, stated)


def agreement(file: rasterio.DatasetReader) -> float:
    """Return the agreement that a guided file states; NaN where it states none."""
    stated = re.search(r"agreement (\S+?)[;,]?(\s|$)", file.tags()["CROSSBAND_GUIDED"])
    return float(stated[1]) if stated else math.nan


def same_date(part: Part, places: list[Place], ratio: int, folder: Path) -> Iterator[Row]:
    """Yield the errors with guides of the same date."""
    least = (12 if part.trained is None else 8) * ratio  # a curve needs 100 pixels
    for place in places:
        true = place.true
        if min(true.mask.shape) >= least:
            guide = read_as_seen(WindowRaster(true), true.grid.shrink(ratio), ratio)
            if found := scores(part, place, guide, BANDS[3:], folder):
                yield found


def other_date(part: Part, folder: Path) -> Iterator[Row]:
    """Yield the errors with guides of another date of the same place, all bands."""
    for _, rows in part.dated.groupby("group"):
        for row in rows.sample(frac=1.0, random_state=0).head(PAIRS).to_dict("records"):
            place = place_of(row)
            radiometry = {**row, "sensor": row["guide_sensor"]}
            guide = measured(row["guide"], row["guide_bands"], radiometry)
            if place is None or guide is None or place.true.mask.shape != guide.mask.shape:
                continue
            if found := scores(part, place, guide, BANDS, folder):
                yield found


def some_places(table: pd.DataFrame, count: int) -> list[Place]:
    """Read some places of at least 64 pixels, one a region first."""
    mixed = table.sample(frac=1.0, random_state=0)
    first = ~mixed["region"].duplicated()
    out: dict[str, Place] = {}
    for row in pd.concat([mixed[first], mixed[~first]]).to_dict("records"):
        place = place_of(row) if len(out) < count else None
        if place is not None:
            out.setdefault(str(row["group"]), place)
    return list(out.values())


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return a manifest with "" for what it does not say."""
    return table.astype(object).where(table.notna(), "").astype(str)


def per_image(rows: list[Row], way: str) -> pd.DataFrame:
    """Return errors as `crossband evaluate` writes them, the way of making guides in the family."""
    known = {"trained": "model", "no guide": "unguided", "difference": "residual"}
    return pd.DataFrame(
        {
            **{key: row.place[key] for key in ("region", "group")},
            "family": f"{way}{MADE}{row.place['family']}",
            "unit": "reflectance",
            "by": known.get(by, by),
            "n_valid": 1,
            "NDVI_n": 1,
            "mae": found[0],
            "NDVI_mae": found[1],
        }
        for row in rows
        for by, found in row.errors.items()
    )


def judge(model: Model, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the errors of a model that takes a guide, beside the ways that need no training.

    Args:
        model: its unguided rows are those of the bundled model of its task.
        rows: of a manifest.
    """
    table = as_text(rows)
    dated = table["guide"] != ""
    part = Part(crossband.load("rgb2nir"), model, table[~dated], table[dated])
    found = []
    with tempfile.TemporaryDirectory() as name:
        places = some_places(part.places, JUDGED)
        for ratio in RATIOS:
            way = f"guide {ratio} times larger"
            found.append(per_image(list(same_date(part, places, ratio, Path(name))), way))
        found.append(per_image(list(other_date(part, Path(name))), "guide of another date"))
    return pd.concat(found, ignore_index=True)
