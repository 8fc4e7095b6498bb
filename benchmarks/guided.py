"""The error of guided translations, at places that were measured at both resolutions or dates.

    python benchmarks/guided.py [--ratios 2 8 16] [--places 40] [--json FILE]
    python benchmarks/guided.py --folds runs/folds/rgb2nir/local-pyramid [--trained runs/folds/x]
    python benchmarks/guided.py --speed [--side 2000] [--rounds 3]

Two tables for `rgb2nir`, on the places of its manifests outside of the vault (`manifests.py write`
writes them). The bundled model saw many of these places in its training. So give `--folds`, the
folder in which `inner_folds.py` left the model of each fold: a place is then translated by the
model that did not see its region.

- Same date: the guide is the place's own near infrared as a sensor with `ratio` times larger pixels
  would have seen it. Columns: the model without a guide, the guide enlarged by cubic convolution,
  and every method of `--guide-method`.
- Another date: the guide has all four bands of the same place at another date, in pixels of the
  same size. The errors of at most 8 ordered pairs of dates of a place are averaged.

Each number is a mean over places: of the mean absolute error in reflectance, and of the NDVI.
"worse" is the share of places at which the error is more than 2 % above that without a guide.

`--trained` adds a model that takes a guide, or with `--folds` the folder with the model of each
fold. Where one is given, every guide has all four bands, and only `residual` stands beside it.

A third table has the agreement that a guided file states: of the guides above, and of guides that
lie: the near infrared of another place, and that of the place moved by 20 pixels of the guide (by
half of a small place).

`--speed` prints instead how much longer a scene takes with a guide of the same date than without:
the smallest of some rounds, through files, with the seconds for the windows and for the file.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import tempfile
import time
import warnings
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import vault
from affine import Affine
from numpy.typing import NDArray
from translate import write_scene

import crossband
from crossband import Model
from crossband.raster.bands import parse_bands
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.point_spread import read_as_seen
from crossband.raster.warp import WindowRaster, read_warped
from crossband.translate.statistics import Statistics

BANDS = ("red", "green", "blue", "nir")
METHODS = ("residual", "difference", "linear", "histogram")
SIDE = 512
#: Pixel ratio of guides that lie.
LIE_RATIO = 8
#: Ordered pairs of dates of a place, at most.
PAIRS = 8
#: Where a file has no georeference: a grid of its own.
SOMEWHERE = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)
Floats = NDArray[np.float32]
Places = dict[str, Window]
#: Inner folds.
FOLDS = 4


@dataclass
class Row:
    """A place with a guide.

    Attributes:
        place: its name.
        errors: of near infrared and NDVI, for each way.
        agreement: as the file of the residual method states it.
    """

    place: str
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


def measured(source: str, bands: str, radiometry: Mapping[Hashable, Any]) -> Window | None:
    """Read a place of a manifest: four bands in reflectance, at most 512 x 512 pixels."""
    scale, offset, nodata = (
        float(radiometry[k]) if radiometry.get(k, "") else None
        for k in ("scale", "offset", "nodata")
    )
    options = ReadOptions(parse_bands(bands), radiometry["sensor"], scale, offset, nodata)
    with open_scene(source, options, needed=BANDS) as scene:
        if scene.unit != "reflectance":
            return None
        window = scene.read(scene.grid.box.intersection(Box(0, 0, SIDE, SIDE)))
    grid = window.grid
    if grid.crs is None or grid.transform.is_identity:
        crs = rasterio.CRS.from_epsg(32633)
        grid = Grid(grid.height, grid.width, SOMEWHERE, crs)
    return Window(window.values, window.mask, grid, window.bands, window.unit)


def place_of(row: Mapping[Hashable, Any]) -> Window | None:
    """Read the place of a row."""
    return measured(row["source"], f"{row['source_bands']},{row['target_bands']}", row)


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
    part: Part, name: str, true: Window, guide: Window, bands: tuple[str, ...], folder: Path
) -> Row | None:
    """Translate a place without a guide and with it, in each way."""
    model, trained = part.model, part.trained
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
    return Row(name, out, stated)


def agreement(file: rasterio.DatasetReader) -> float:
    """Return the agreement that a guided file states; NaN where it states none."""
    stated = re.search(r"agreement (\S+?)[;,]?(\s|$)", file.tags()["CROSSBAND_GUIDED"])
    return float(stated[1]) if stated else math.nan


def same_date(part: Part, places: Places, ratio: int, folder: Path) -> Iterator[Row]:
    """Yield the errors with guides of the same date."""
    for name, true in places.items():
        if min(true.mask.shape) >= 12 * ratio:  # a curve needs 100 pixels
            guide = read_as_seen(WindowRaster(true), true.grid.shrink(ratio), ratio)
            if found := scores(part, name, true, guide, BANDS[3:], folder):
                yield found


def lies(named: Places, ratio: int, model: Model, folder: Path) -> Iterator[tuple[str, float]]:
    """Yield what is wrong with a guide, and the agreement that its file states."""
    places = list(named.values())
    for number, true in enumerate(places):
        around = places[number + 1 :] + places[:number]
        other = next((w for w in around if w.mask.shape == true.mask.shape), None)
        if other is None or min(true.mask.shape) < 12 * ratio:
            continue
        shift = min(20 * ratio, true.mask.shape[1] // 2)
        moved = Window(np.roll(true.values, shift, 2), np.roll(true.mask, shift, 1), *_rest(true))
        elsewhere = Window(other.values, other.mask, *_rest(true))
        for name, window in (("another place", elsewhere), ("moved", moved)):
            seen = read_as_seen(WindowRaster(window), true.grid.shrink(ratio), ratio)
            source = write(true, folder / "source.tif", BANDS[:3])
            guide = write(seen, folder / "guide.tif", BANDS[3:])
            made = model.translate(
                source, folder / "out.tif", overwrite=True, precision="fp32", guide=guide
            )
            with rasterio.open(made) as file:
                yield name, agreement(file)


def _rest(window: Window) -> tuple[Grid, tuple[str, ...], str]:
    return window.grid, window.bands, window.unit


def other_date(part: Part, folder: Path) -> Iterator[Row]:
    """Yield the errors with guides of another date of the same place, all bands."""
    for name, rows in part.dated.groupby("group"):
        for row in rows.sample(frac=1.0, random_state=0).head(PAIRS).to_dict("records"):
            true = place_of(row)
            radiometry = {**row, "sensor": row["guide_sensor"]}
            guide = measured(row["guide"], row["guide_bands"], radiometry)
            if true is None or guide is None or true.mask.shape != guide.mask.shape:
                continue
            if min(true.mask.shape) >= 64 and (
                found := scores(part, str(name), true, guide, BANDS, folder)
            ):
                yield found


def text(name: str, rows: list[Row]) -> list[str]:
    """Return the lines of a table: a way a line."""
    places = pd.Series([r.place for r in rows])
    lines = [f"\n{name}, {places.nunique()} places, {len(rows)} guides"]
    lines += ["| | MAE | NDVI MAE | of no guide | worse |", "|---|---|---|---|---|"]
    errors = {
        way: pd.DataFrame([r.errors[way] for r in rows]).groupby(places).mean().to_numpy()
        for way in (rows[0].errors if rows else ())
    }
    for way, found in errors.items():
        base = errors["no guide"]
        mean, share = found.mean(axis=0), found.mean(axis=0) / base.mean(axis=0)
        worse = (found > 1.02 * base).mean(axis=0)
        lines.append(
            f"| {way} | {mean[0]:.4f} | {mean[1]:.4f} | {share[0]:.2f} / {share[1]:.2f} | "
            f"{worse[0]:.0%} / {worse[1]:.0%} |"
        )
    return lines


def stated(found: dict[str, list[float]]) -> list[str]:
    """Return the lines of the table of agreements."""
    lines = ["\nAgreement", "| guide | rows | lowest | median | highest | below 0.1 |"]
    lines.append("|---|---|---|---|---|---|")
    for name, values in found.items():
        known = np.array([v for v in values if not math.isnan(v)])
        if not known.size:
            continue
        low, middle, high = np.quantile(known, [0, 0.5, 1])
        lines.append(
            f"| {name} | {len(values)} | {low:.2f} | {middle:.2f} | {high:.2f} | "
            f"{(known < 0.1).mean():.0%} |"
        )
    return lines


def speed(model: Model, side: int, rounds: int, folder: Path) -> list[str]:
    """Return the lines of the table of seconds; the measured band is the red one of the scene."""
    write_scene(folder / "scene.tif", side, "tiles", "deflate", pixel=1.0)
    write_scene(folder / "guide.tif", side // LIE_RATIO, "tiles", "deflate", pixel=LIE_RATIO)
    found: dict[str, list[tuple[float, float, float]]] = {"no guide": [], "residual": []}
    guide: dict[str, Any] = {"guide": folder / "guide.tif", "guide_bands": {"nir": 1}}
    for _ in range(rounds):
        for way, given in (("no guide", {}), ("residual", guide)):
            steps, begun = Statistics(), time.perf_counter()
            model.translate(
                folder / "scene.tif", folder / "out.tif", overwrite=True, statistics=steps, **given
            )
            seconds = time.perf_counter() - begun
            found[way].append((seconds, steps.windows, steps.finishing))
    least = {way: min(rows) for way, rows in found.items()}
    lines = [f"\n{side:,} x {side:,} pixels, guide {LIE_RATIO} times coarser, {rounds} rounds"]
    lines += ["| | seconds | windows | file | of no guide |", "|---|---|---|---|---|"]
    for way, row in least.items():
        cells = " | ".join(f"{value:.2f}" for value in row)
        lines.append(f"| {way} | {cells} | {row[0] / least['no guide'][0]:.2f} |")
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--ratios", nargs="*", type=int, default=[2, 8, 16])
    parser.add_argument("--places", type=int, default=40, help="of each table, one a region first")
    parser.add_argument("--model", default="rgb2nir")
    parser.add_argument("--manifests", type=Path, default=vault.FOLDER)
    parser.add_argument("--json", type=Path, help="write the numbers to FILE")
    parser.add_argument("--speed", action="store_true", help="seconds with and without a guide")
    parser.add_argument("--side", type=int, default=2000, help="of the scene for --speed")
    parser.add_argument("--rounds", type=int, default=3, help="of --speed")
    parser.add_argument("--folds", type=Path, help="of inner_folds.py: the model of each fold")
    parser.add_argument("--fold", type=int, help="of --folds: only this one")
    parser.add_argument("--trained", type=Path, help="a model that takes a guide, or its folds")
    a = parser.parse_args()
    warnings.simplefilter("ignore", crossband.errors.CrossbandWarning)
    if a.speed:
        with tempfile.TemporaryDirectory() as name:
            print("\n".join(speed(crossband.load(a.model), a.side, a.rounds, Path(name))))
        return
    with tempfile.TemporaryDirectory() as name:
        found, agreements = judge(list(parts(a)), a.ratios, a.places, Path(name))
    if a.json:
        rows = {key: [asdict(row) for row in rows] for key, rows in found.items()}
        a.json.write_text(json.dumps({"rows": rows, "agreements": agreements}, indent=1) + "\n")


def parts(a: argparse.Namespace) -> Iterator[Part]:
    """Yield the places with the models that judge them: all, or those of each fold."""
    tables = []
    for task in ("rgb2nir", "rgb2nir-guided"):
        table = vault.read(task, folder=a.manifests, shipped=False)
        tables.append(table.astype(object).where(table.notna(), "").astype(str))
    places, dated = tables
    dated, whole = dated[dated["guide"] != ""], places["source_window"] == ""
    if a.folds is None:
        trained = None if a.trained is None else crossband.load(a.trained)
        yield Part(crossband.load(a.model), trained, places[whole], dated)
        return
    fold = vault.inner_folds(vault.read("rgb2nir", folder=a.manifests), FOLDS)
    of_region = dict(zip(vault.read("rgb2nir", folder=a.manifests)["region"], fold, strict=True))
    for number in range(FOLDS) if a.fold is None else [a.fold]:
        model = crossband.load(a.folds / f"fold-{number}" / "model")
        trained = a.trained and crossband.load(a.trained / f"fold-{number}" / "model")
        # A region whose licence allows no training was in no fold.
        mine = [t["region"].map(of_region).fillna(0) == number for t in (places, dated)]
        yield Part(model, trained, places[whole & mine[0]], dated[mine[1]])


def judge(
    of: list[Part], ratios: list[int], count: int, folder: Path
) -> tuple[dict[str, list[Row]], dict[str, list[float]]]:
    """Print the tables; return the errors and the agreements."""
    found: dict[str, list[Row]] = {}
    chosen = [some_places(part.places, count // len(of)) for part in of]
    for ratio in ratios:
        key = f"same date, pixels {ratio} times larger"
        pairs = zip(of, chosen, strict=True)
        found[key] = [row for p, places in pairs for row in same_date(p, places, ratio, folder)]
        print("\n".join(text(key, found[key])), flush=True)
    found["another date"] = [row for part in of for row in other_date(part, folder)]
    print("\n".join(text("another date", found["another date"])), flush=True)
    agreements = {key: [row.agreement for row in rows] for key, rows in found.items()}
    for part, places in zip(of, chosen, strict=True):
        for wrong, value in lies(places, LIE_RATIO, part.model, folder):
            agreements.setdefault(wrong, []).append(value)
    print("\n".join(stated(agreements)))
    return found, agreements


def some_places(table: pd.DataFrame, count: int) -> Places:
    """Read some places of at least 64 pixels, one a region first."""
    mixed = table.sample(frac=1.0, random_state=0)
    first = ~mixed["region"].duplicated()
    out: Places = {}
    for row in pd.concat([mixed[first], mixed[~first]]).to_dict("records"):
        window = place_of(row) if len(out) < count else None
        if window is not None and min(window.mask.shape) >= 64:
            out.setdefault(str(row["group"]), window)
    return out


if __name__ == "__main__":
    main()
