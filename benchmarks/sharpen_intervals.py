"""Intervals of sentinel-2-sharpen: calibrated on inner folds, judged on the vault.

    python benchmarks/sharpen_intervals.py train              a model without each fold
    python benchmarks/sharpen_intervals.py collect            errors of each at its fold
    python benchmarks/sharpen_intervals.py surroundings       those at full resolution, and alarms
    python benchmarks/sharpen_intervals.py inner              regions held out in turn: the table
    python benchmarks/sharpen_intervals.py holes              near holes of the guide, and in them
    python benchmarks/sharpen_intervals.py fit                write calibration.json of the package
    python benchmarks/sharpen_intervals.py judge --why TEXT   one look at the vault, counted
    python benchmarks/sharpen_intervals.py table              print the judged numbers again

All errors are measured at half the resolution, as the model was trained (Wald's protocol, see
`sharpen.py`): only there is the truth known. What is familiar needs no truth, so it is fitted on
the same chips at half and at full resolution. The models of the folds are of the same recipe, in
fewer steps. `judge` writes its look into looks.csv, and refuses a second one without `--again`.
"""

from __future__ import annotations

import argparse
import json
import pickle
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import torch
import vault
from guided_intervals import guided_widths
from judged_intervals import Rival, constant_widths, families, judged, table
from numpy.typing import NDArray
from project import ROOT, crossband
from scipy.ndimage import distance_transform_edt
from sharpen import halved, write
from uncertainty import FITTED, HELD, LEVELS, NUMBERS

from crossband import load
from crossband.api import Model
from crossband.data import manifest as manifests
from crossband.evaluation.calibrate import fit
from crossband.evaluation.place_errors import PlaceErrors, collect, collect_guided
from crossband.model.calibration import Calibration, Familiar
from crossband.model.uncertain import uncertain_model
from crossband.raster.grid import Window
from crossband.raster.point_spread import read_as_seen
from crossband.raster.warp import WindowRaster

NAME = "sentinel-2-sharpen"
RUNS = ROOT / "runs" / "sharpen-intervals"
WEIGHTS = ROOT / "src" / "crossband" / "weights" / NAME
LOOK = f"{NAME}-intervals"
#: Folds, and steps of their trainings; the shipped model was trained for 8,000.
FOLDS, STEPS = 2, 2500
#: Pixels of the guide that a made hole has along a side, and how near to a hole is near.
HOLE, NEAR = 4, 8
#: Results without a guide, and with one.
Errors = tuple[list[PlaceErrors], list[PlaceErrors]]


def train(folder: Path, fold: int) -> None:
    """Train the recipe without a fold, unless that is done."""
    manifest, run = RUNS / f"fold-{fold}.csv", RUNS / f"fold-{fold}"
    if (run / "model" / "model.json").is_file():
        return
    table_of = vault.with_weights(vault.read("sharpen", folder=folder))
    table_of["split"] = np.where(vault.inner_folds(table_of, FOLDS) == fold, "test", "train")
    RUNS.mkdir(parents=True, exist_ok=True)
    table_of.to_csv(manifest, index=False)
    begun = (run / "checkpoints" / "last.ckpt").is_file()
    crossband("fit", "super-resolution/sharpen", "--data.manifest", manifest, "-o", run,
              "--method.max_steps", STEPS, "--resume" if begun else "--overwrite")  # fmt: skip


def bands_of(window: Window, names: Sequence[str]) -> NDArray[np.float32]:
    """Return some bands of a window."""
    return window.values[[window.bands.index(name) for name in names]]


def pairs(model: Model, rows: pd.DataFrame, folder: Path, hole: int = 0) -> pd.DataFrame:
    """Write places at half the resolution, with guides; return rows of a manifest.

    Args:
        model: that takes the guides.
        rows: of the manifest `sharpen`.
        folder: of the files.
        hole: side of a hole in the middle of each guide, in pixels of the guide.
    """
    source, target, made = model.signature.source, model.signature.target, []
    for number, row in enumerate(rows.astype(object).where(rows.notna(), "").astype(str).to_dict(
        "records"
    )):  # fmt: skip
        true = halved(row)
        seen = read_as_seen(WindowRaster(true), true.grid.shrink(2), 2)
        coarse = bands_of(seen, target)
        if hole:
            first = (coarse.shape[1] - hole) // 2
            coarse[:, first : first + hole, first : first + hole] = np.nan
        paths = [folder / f"{number}-{kind}.tif" for kind in ("source", "target", "guide")]
        write(paths[0], bands_of(true, source), true.grid, list(source))
        write(paths[1], bands_of(true, target), true.grid, list(target))
        write(paths[2], coarse, seen.grid, list(target))
        kept = {key: row[key] for key in ("group", "region", "family")}
        files = dict(zip(("source", "target", "guide"), map(str, paths), strict=True))
        made.append(kept | files)
    dates = {"date": "2000-01-01", "guide_datetime": "2000-01-01", "split": "test"}
    sensors = {"sensor": "reflectance", "guide_sensor": "reflectance"}
    pd.DataFrame(made).assign(**dates, **sensors).to_csv(folder / "rows.csv", index=False)
    return manifests.read(folder / "rows.csv")


def errors(model: Model, rows: pd.DataFrame) -> Errors:
    """Return the errors of a model at places, without a guide and with it."""
    with tempfile.TemporaryDirectory() as name:
        made = pairs(model, rows, Path(name))
        alone = made.drop(columns=[c for c in made.columns if str(c).startswith("guide")])
        bands = tuple(model.signature.target)
        found = collect(model, alone, bands, "family"), collect_guided(model, made, bands, "family")
    for place in (*found[0], *found[1]):  # the files here are in reflectance
        place.sensors = set(rows["sensor"])
    return found


def surroundings(rows: pd.DataFrame) -> list[PlaceErrors]:
    """Return places at full resolution, for familiarity: their errors are not those of the truth.

    The measured 20 m bands are smooth there, so only the surroundings are of use.
    """
    with tempfile.TemporaryDirectory() as name:
        rows.to_csv(Path(name) / "rows.csv", index=False)
        model, read = load(NAME), manifests.read(Path(name) / "rows.csv")
        return collect(model, read, tuple(model.signature.target), "family")


def held(fold: int) -> pd.DataFrame:
    """Return the rows of a fold."""
    rows = pd.read_csv(RUNS / f"fold-{fold}.csv", low_memory=False)
    return rows[rows["split"] == "test"]


def there() -> Errors:
    """Return the errors of all folds that were collected."""
    plain, guided = list[PlaceErrors](), list[PlaceErrors]()
    for path in sorted(RUNS.glob("fold-*.pkl")):
        own = pickle.loads(path.read_bytes())
        plain, guided = plain + own[0], guided + own[1]
    return plain, guided


def fitted(found: Errors, *, constant: bool = False, alone: bool = False) -> Calibration:
    """Return the calibration of the bundled model, without familiarity.

    Args:
        found: errors without a guide, and with one.
        constant: one width for all pixels.
        alone: also of results without a guide. They would be the intervals of holes.
    """
    model = load(NAME)
    sources = [f"chips at half the resolution, with guides: {len(found[1])} places"]
    how: dict[str, Any] = {"fitted": FITTED, "sources": sources, "guided": found[1]}
    bands = tuple(model.signature.target)
    return fit(found[0], model, bands, **how, constant=constant, familiarity=False, alone=alone)


def familiar(places: Sequence[PlaceErrors]) -> Familiar | None:
    """Return what is familiar at places."""
    model = load(NAME)
    bands = tuple(model.signature.target)
    return fit(places, model, bands, fitted="", sources=(), constant=True).familiar


def alarms() -> None:
    """Fit familiarity on one fold; print the share of places of the other one that are not."""
    found = [pickle.loads((RUNS / f"fold-{fold}.pkl").read_bytes())[0] for fold in range(FOLDS)]
    seen = pickle.loads((RUNS / "full.pkl").read_bytes())
    for fold in range(FOLDS):
        inside = {place.region for place in found[fold]}
        model = load(NAME)
        full = [p for p in seen if p.region not in inside], [p for p in seen if p.region in inside]
        kept = [p for n in range(FOLDS) if n != fold for p in found[n]] + full[0]
        empty = Calibration(model.weights_hash, (), (), "", (), familiar=familiar(kept))
        model.calibration = empty
        network: Any = uncertain_model(model, "reflectance").network
        for words, new in (("half", found[fold]), ("full", full[1])):
            shares = []
            for place in new:
                cells = torch.from_numpy(np.stack(place.samples[1].cells)[:, 0])
                with torch.inference_mode():
                    shares.append(float((network.dissimilarity(cells) > 1).float().mean()))
            above = float(np.mean(np.array(shares) > 0.1))
            print(f"fold {fold}, {words} resolution: {above:.1%} of {len(new)} places unfamiliar")


def part_of(found: Errors, part: int, *, inside: bool) -> Errors:
    """Return the places of a part of the regions, or the others."""

    def chosen(places: list[PlaceErrors]) -> list[PlaceErrors]:
        numbers = [zlib.crc32(f"held {p.region}".encode()) % HELD for p in places]
        return [p for p, n in zip(places, numbers, strict=True) if (n == part) == inside]

    return chosen(found[0]), chosen(found[1])


def inner() -> None:
    """Hold out parts of the regions in turn; fit on the rest, with a head and without."""
    found = there()
    rows, others = list[dict[str, Any]](), list[dict[str, Any]]()
    for part in range(HELD):
        kept, new = part_of(found, part, inside=False), part_of(found, part, inside=True)[1]
        own = fitted(kept)
        rows += judged(own, new, guided_widths(own))
        plain = fitted(kept, constant=True)
        others += judged(plain, new, constant_widths)
    print(table(rows, [Rival("constant width", others)]))


def holes(most: int) -> None:
    """Print how results of each fold's model do near holes of the guide, in them, and at borders.

    The calibration is that of the other folds, and the files are those of `crossband translate`.
    It has intervals of results without a guide, too, so that none is left out. What ships has not.
    """
    found = [pickle.loads((RUNS / f"fold-{fold}.pkl").read_bytes()) for fold in range(FOLDS)]
    shares: dict[str, list[NDArray[np.float64]]] = {}
    for fold in range(FOLDS):
        model = load(RUNS / f"fold-{fold}" / "model")
        others = [f for n, f in enumerate(found) if n != fold]
        every = [p for f in others for p in f[0]], [p for f in others for p in f[1]]
        model.calibration = replace(fitted(every, alone=True), weights=model.weights_hash)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for row in pairs(model, held(fold).head(most), folder, HOLE).to_dict("records"):
                for where, share in covered(model, row, folder).items():
                    shares.setdefault(where, []).append(share)
    for where, of in shares.items():
        cover = np.stack(of)
        means = " ".join(f"{v:.3f}" for v in np.nanmean(cover, axis=0))
        poor = " ".join(f"{v:.1%}" for v in np.nanmean(cover < 0.8, axis=0))
        print(f"{where}: {len(cover)} places, coverage {means}; under 80 %: {poor}")


def covered(model: Model, row: Any, folder: Path) -> dict[str, NDArray[np.float64]]:
    """Return the covered share [bands] of the pixels of each kind, at one place."""
    made = model.translate(
        row["source"],
        folder / "out.tif",
        sensor="reflectance",
        guide=row["guide"],
        guide_sensor="reflectance",
        guide_days=0,
        interval=0.9,
        overwrite=True,
    )
    with rasterio.open(made.with_suffix(".interval.tif")) as file:
        bounds = file.read()
    with rasterio.open(row["target"]) as file:
        true = file.read()
    with rasterio.open(row["guide"]) as file:
        gone = np.isnan(file.read(1)).repeat(2, axis=0).repeat(2, axis=1)
    inside = (bounds[0::2] <= true) & (true <= bounds[1::2])
    inside = np.where(np.isnan(bounds[0::2]), np.nan, inside)
    far = distance_transform_edt(~gone)
    edge = np.ones(gone.shape, bool)
    edge[4:-4, 4:-4] = False
    kinds = {
        "in the hole": gone,
        f"up to {NEAR // 2} pixels from it": (far > 0) & (far <= NEAR // 2) & ~edge,
        f"up to {NEAR} pixels": (far > NEAR // 2) & (far <= NEAR) & ~edge,
        "farther": (far > NEAR) & ~edge,
        "at the border": edge,
    }
    known = {name: kind & np.isfinite(inside[0]) for name, kind in kinds.items()}
    return {name: inside[:, kind].mean(axis=1) for name, kind in known.items() if kind.any()}


def judge(folder: Path, why: str, again: bool) -> None:
    """Measure the shipped calibration at the places of the vault: one look, counted."""
    model = load(NAME)
    if model.calibration is None:
        raise SystemExit("fit first")
    vault.check_unopened(LOOK, again)
    rows = vault.read("sharpen", folder=folder, look=True, model=LOOK, why=why)
    RUNS.mkdir(parents=True, exist_ok=True)
    (RUNS / "vault.pkl").write_bytes(pickle.dumps(errors(model, rows)))


def print_table() -> None:
    """Print the judged numbers, and write them to docs."""
    calibration, places = load(NAME).calibration, pickle.loads((RUNS / "vault.pkl").read_bytes())[1]
    assert calibration is not None
    widths, bands = guided_widths(calibration), calibration.quantities
    rows = judged(calibration, places, widths)
    plain = judged(fitted(there(), constant=True), places, constant_widths)
    levels = {}
    for level in LEVELS:
        at = judged(calibration, places, widths, level)
        levels[str(level)] = {
            b: float(np.mean([r["coverage"] for r in at if r["quantity"] == b])) for b in bands
        }
    texts = {"table": table(rows, [Rival("constant width", plain)]), "families": families(rows)}
    found: dict[str, Any] = {"looks": vault.looks(LOOK), "levels": levels}
    found |= {name: text.splitlines() for name, text in texts.items()}
    (NUMBERS / f"uncertainty-{NAME}.json").write_text(json.dumps(found, indent=1) + "\n")
    print("\n\n".join([*texts.values(), "levels: " + json.dumps(levels)]))
    print(f"\nLooks at the vault: {len(found['looks'])}")


def main() -> None:
    """Run a subcommand."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    what = ["train", "collect", "surroundings", "inner", "holes", "fit", "judge", "table"]
    parser.add_argument("what", choices=what)
    parser.add_argument("--manifests", type=Path, default=vault.FOLDER)
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="only this one")
    parser.add_argument("--most", type=int, default=60, help="for holes: places of each fold")
    parser.add_argument("--why", default="", help="what the look at the vault is for")
    parser.add_argument("--again", action="store_true", help="open a vault that was open before")
    a = parser.parse_args()
    folds = range(FOLDS) if a.fold is None else [a.fold]
    if a.what == "train":
        for fold in folds:
            train(a.manifests, fold)
    elif a.what == "collect":
        for fold in folds:
            found = errors(load(RUNS / f"fold-{fold}" / "model"), held(fold))
            (RUNS / f"fold-{fold}.pkl").write_bytes(pickle.dumps(found))
    elif a.what == "surroundings":
        seen = surroundings(vault.read("sharpen", folder=a.manifests))
        (RUNS / "full.pkl").write_bytes(pickle.dumps(seen))
        alarms()
    elif a.what == "inner":
        inner()
    elif a.what == "holes":
        holes(a.most)
    elif a.what == "fit":
        found, seen = there(), pickle.loads((RUNS / "full.pkl").read_bytes())
        print(replace(fitted(found), familiar=familiar([*found[0], *seen])).save(WEIGHTS))
    else:
        if a.what == "judge":
            judge(a.manifests, a.why, a.again)
        print_table()


if __name__ == "__main__":
    main()
