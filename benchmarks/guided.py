"""The error of guided translations, at places that were measured at both resolutions or dates.

    python benchmarks/guided.py [--ratios 2 8 16] [--places 40] [--json FILE]
    python benchmarks/guided.py --folds runs/folds/rgb2nir/local-pyramid [--trained runs/folds/x]
    python benchmarks/guided.py --speed [--side 2000] [--rounds 3]

Two tables for `rgb2nir`, on the places of its manifests outside of the vault (`manifests.py write`
writes them). The bundled model saw many of these places in its training. So give `--folds`, the
folder in which `inner_folds.py` (or in minutes `fold_models.py`) left the model of each fold: a
place is then translated by the model that did not see its region.

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

`--speed` prints instead how much longer a scene takes with a guide of the same date than without,
in the scene's CRS and in another one: the smallest of some rounds, through files, with the seconds
for the windows and for the file.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import vault
from guided_places import (
    BANDS,
    Part,
    Place,
    Row,
    agreement,
    as_text,
    other_date,
    same_date,
    some_places,
    write,
)
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from translate import write_scene

import crossband
from crossband import Model
from crossband.raster.grid import Grid, Window
from crossband.raster.point_spread import read_as_seen
from crossband.raster.warp import WindowRaster
from crossband.translate.statistics import Statistics

#: Pixel ratio of guides that lie.
LIE_RATIO = 8
#: Inner folds.
FOLDS = 4


def lies(named: list[Place], ratio: int, model: Model, folder: Path) -> Iterator[tuple[str, float]]:
    """Yield what is wrong with a guide, and the agreement that its file states."""
    places = [place.true for place in named]
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


def text(name: str, rows: list[Row]) -> list[str]:
    """Return the lines of a table: a way a line."""
    places = pd.Series([r.place["group"] for r in rows])
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


def by_campaign(rows: list[Row]) -> list[str]:
    """Return the lines of a table: the error of `residual` over that of no guide, by campaign."""
    if not rows or "residual" not in rows[0].errors:
        return []
    keys = ["campaign", "group"]
    table = pd.DataFrame(
        {key: row.place[key] for key in keys}
        | dict(zip(("mae", "ndvi"), row.errors["residual"], strict=True))
        | dict(zip(("mae_0", "ndvi_0"), row.errors["no guide"], strict=True))
        for row in rows
    )
    lines = ["\n| campaign | places | residual, of no guide |", "|---|---|---|"]
    for name, found in table.groupby(keys).mean().groupby("campaign"):
        mean = found.mean()
        shares = mean["mae"] / mean["mae_0"], mean["ndvi"] / mean["ndvi_0"]
        lines.append(f"| {name} | {len(found)} | {shares[0]:.2f} / {shares[1]:.2f} |")
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
    write_warped(folder / "guide.tif", folder / "warped.tif")
    ways: dict[str, dict[str, Any]] = {"no guide": {}}
    for way, name in (("residual", "guide.tif"), ("residual, guide of another CRS", "warped.tif")):
        ways[way] = {"guide": folder / name, "guide_bands": {"nir": 1}}
    found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, given in ways.items():
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


def write_warped(path: Path, to: Path) -> None:
    """Write the first band of a file in the next zone of UTM."""
    with (
        rasterio.open(path) as file,
        WarpedVRT(file, crs="EPSG:32632", resampling=Resampling.bilinear, nodata=0) as there,
    ):
        profile = {"driver": "GTiff", "count": 1, "dtype": "uint16", "nodata": 0, "tiled": True}
        profile |= {"height": there.height, "width": there.width, "crs": there.crs}
        profile |= {"transform": there.transform, "compress": "deflate"}
        with rasterio.open(to, "w", **profile) as out:
            out.descriptions, out.units, out.scales = ("nir",), ("reflectance",), (1e-4,)
            out.write(there.read(1), 1)


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
    parser.add_argument("--folds", type=Path, help="with the model of each inner fold")
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
        tables.append(as_text(vault.read(task, folder=a.manifests, shipped=False)))
    places, dated = tables
    dated, whole = dated[dated["guide"] != ""], places["source_window"] == ""
    if a.folds is None:
        trained = None if a.trained is None else crossband.load(a.trained)
        yield Part(crossband.load(a.model), trained, places[whole], dated)
        return
    fold = vault.inner_folds(vault.read("rgb2nir", folder=a.manifests), FOLDS)
    of_region = dict(zip(vault.read("rgb2nir", folder=a.manifests)["region"], fold, strict=True))
    for number in range(FOLDS) if a.fold is None else [a.fold]:
        model = fold_model(a.folds, number)
        trained = a.trained and fold_model(a.trained, number)
        # A region whose licence allows no training was in no fold.
        mine = [t["region"].map(of_region).fillna(0) == number for t in (places, dated)]
        yield Part(model, trained, places[whole & mine[0]], dated[mine[1]])


def fold_model(folds: Path, number: int) -> Model:
    """Return the model of a fold, as `inner_folds.py` or `fold_models.py` left it."""
    folder = folds / f"fold-{number}"
    return crossband.load(folder / "model" if (folder / "model").is_dir() else folder)


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
    print("\n".join(by_campaign(found["another date"])), flush=True)
    agreements = {key: [row.agreement for row in rows] for key, rows in found.items()}
    for part, places in zip(of, chosen, strict=True):
        for wrong, value in lies(places, LIE_RATIO, part.model, folder):
            agreements.setdefault(wrong, []).append(value)
    print("\n".join(stated(agreements)))
    return found, agreements


if __name__ == "__main__":
    main()
