"""Intervals and familiarity of the bundled rgb2nir: fitted on inner folds, judged on the vault.

    python benchmarks/uncertainty.py collect --folds FOLDER   errors of each fold's model
    python benchmarks/uncertainty.py inner                    regions held out in turn: the table
    python benchmarks/uncertainty.py inner --part 0           one third of the regions held out
    python benchmarks/uncertainty.py fit                      write calibration.json of the package
    python benchmarks/uncertainty.py judge --why TEXT         one look at the vault, counted
    python benchmarks/uncertainty.py table                    print the judged numbers again

FOLDER is that of `inner_folds.py`. Each place's errors come from a model that was not trained on
its region. `inner` and `fit` never read the vault. `judge` writes its look into looks.csv.
"""

from __future__ import annotations

import argparse
import json
import pickle
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import vault
from project import ROOT

from crossband import load
from crossband.core.conformal import MEAN, interval_score
from crossband.data import manifest as manifests
from crossband.errors import CrossbandError
from crossband.evaluation.calibrate import fit
from crossband.evaluation.place_errors import PlaceErrors, collect
from crossband.model.calibration import WINDOWS, Calibration
from crossband.model.uncertain import uncertain_model

RUNS = ROOT / "runs" / "uncertainty"
WEIGHTS = ROOT / "src" / "crossband" / "weights" / "rgb2nir"
NUMBERS = ROOT / "docs" / "uncertainty.json"
QUANTITIES = ("nir", "NDVI", "EVI")
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
HELD, DRAWS = 3, 2000
FITTED = (
    "cross-fitted: the errors of each place are those of a model of the same recipe that was not "
    "trained on its region, not of the shipped weights. So the formal guarantee at a level 1 - a "
    "is 1 - 2a; measured coverage is in docs/uncertainty.md"
)


def places_of(names: Sequence[str]) -> list[PlaceErrors]:
    """Return collected errors."""
    found: list[PlaceErrors] = []
    for name in names:
        found += pickle.loads((RUNS / f"{name}.pkl").read_bytes())
    return found


def folds_there() -> list[str]:
    """Return the names of the collected folds."""
    return sorted(path.stem for path in RUNS.glob("fold-*.pkl"))


def collect_folds(folder: Path) -> None:
    """Measure the errors of every finished fold at its test places."""
    RUNS.mkdir(parents=True, exist_ok=True)
    for report in sorted(folder.glob("fold-*/report")):
        fold, target = report.parent, RUNS / f"{report.parent.name}.pkl"
        if not target.exists():
            rows = manifests.read(folder / f"{fold.name}.csv")
            rows = rows[rows["split"] == "test"].reset_index(drop=True)
            target.write_bytes(
                pickle.dumps(collect(load(fold / "model"), rows, QUANTITIES, "family"))
            )


def judged(
    calibration: Calibration, places: Sequence[PlaceErrors], level: float = 0.9
) -> list[dict[str, Any]]:
    """Return coverage, width and interval score at each place, of each quantity and window."""
    model = load("rgb2nir")
    model.calibration = calibration
    network: Any = uncertain_model(model, "reflectance").network
    head = network.head
    found = []
    for place in places:
        for side in WINDOWS:
            sample = place.samples[side]
            if not sample.errors:
                continue
            errors = np.stack(sample.errors)
            widths = np.ones((len(errors), 2 * len(QUANTITIES)), np.float32)
            if head is not None:
                cells, pixels = (
                    torch.from_numpy(np.stack(a)) for a in (sample.cells, sample.pixels)
                )
                widths = head(head.cells(cells), pixels).mean(dim=1).numpy()
            for number, quantity in enumerate(QUANTITIES):
                known = np.isfinite(errors[:, number])
                row = _row(calibration, place, quantity, side, level)
                if row is None or not known.any():
                    continue
                low, high, e = (
                    a[known]
                    for a in (
                        -row["factor"] * widths[:, 2 * number],
                        row["factor"] * widths[:, 2 * number + 1],
                        errors[:, number],
                    )
                )
                row["coverage"] = float(np.mean((low <= e) & (e <= high)))
                row["width"] = float(np.mean(high - low))
                row["score"] = float(np.mean(interval_score(low, high, e, level)))
                found.append(row)
    return found


def _row(
    calibration: Calibration, place: PlaceErrors, quantity: str, side: int, level: float
) -> dict[str, Any] | None:
    """Return what identifies a place, with the factor of its family; None without a promise."""
    try:
        every = calibration.find(quantity, place.unit, window=side)
        own = [f for f in every if f.group == place.group]
        factor = own[0].at(level, MEAN) if own else max(f.at(level, MEAN) for f in every)
    except CrossbandError:  # too few places of the unit
        return None
    return {
        "quantity": quantity,
        "window": side,
        "unit": place.unit,
        "family": place.group,
        "region": place.region,
        "place": place.place,
        "factor": factor,
    }


def table(rows: Sequence[dict[str, Any]], constant: Sequence[dict[str, Any]]) -> str:
    """Return the means over places as Markdown, beside those of a constant width."""
    lines = [
        "| quantity | mean over | places | coverage | under 80 % | width | interval score "
        "| constant width's | ratio |",
        "|" + "---|" * 9,
    ]
    for quantity in QUANTITIES:
        for side in WINDOWS:
            own, other = (
                [r for r in of if (r["quantity"], r["window"]) == (quantity, side)]
                for of in (rows, constant)
            )
            if own and other:
                cover = np.array([r["coverage"] for r in own])
                low, high = _bootstrap(cover, [r["region"] for r in own])
                score, others = (float(np.mean([r["score"] for r in of])) for of in (own, other))
                width = float(np.mean([r["width"] for r in own]))
                under = float(np.mean(cover < 0.8))
                what = "pixels" if side == 1 else f"{side} x {side}"
                lines.append(
                    f"| {quantity} | {what} | {len(own)} | {cover.mean():.3f} ({low:.3f} to "
                    f"{high:.3f}) | {under:.0%} | {width:.3f} | {score:.3f} | {others:.3f} | "
                    f"{score / others:.2f} |"
                )
    return "\n".join(lines)


def families(rows: Sequence[dict[str, Any]]) -> str:
    """Return the coverage of pixels by family and quantity as Markdown."""
    names = sorted({r["family"] for r in rows})
    lines = ["| places | n | " + " | ".join(QUANTITIES) + " |", "|---|---|" + "---|" * 3]
    for name in names:
        own = [r for r in rows if r["family"] == name and r["window"] == 1]
        cells = []
        for quantity in QUANTITIES:
            covers = [r["coverage"] for r in own if r["quantity"] == quantity]
            cells.append(f"{np.mean(covers):.2f}" if covers else "-")
        count = len({r["place"] for r in own})
        lines.append(f"| {name} | {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _bootstrap(values: np.ndarray, regions: Sequence[str]) -> tuple[float, float]:
    """Return the 95 % interval of a mean over places, by regions."""
    names = {name: n for n, name in enumerate(dict.fromkeys(regions))}
    numbers = np.array([names[r] for r in regions])
    sums, sizes = (np.bincount(numbers, w) for w in (values, np.ones(len(values))))
    drawn = np.random.default_rng(0).integers(len(names), size=(DRAWS, len(names)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def fitted(
    places: Sequence[PlaceErrors], *, constant: bool = False, familiarity: bool = False
) -> Calibration:
    """Return the calibration of the bundled model on some places."""
    names = sorted({place.group for place in places})
    sources = [f"{n}: {sum(p.group == n for p in places)} places" for n in names]
    return fit(
        places,
        load("rgb2nir"),
        QUANTITIES,
        fitted=FITTED,
        sources=sources,
        constant=constant,
        familiarity=familiarity,
    )


def inner(parts: Sequence[int]) -> None:
    """Hold out parts of the regions in turn; fit on the rest, with a head and without."""
    places = places_of(folds_there())
    part = [zlib.crc32(f"held {p.region}".encode()) % HELD for p in places]
    rows, constant = [], []
    for held in parts:
        kept = [p for p, n in zip(places, part, strict=True) if n != held]
        new = [p for p, n in zip(places, part, strict=True) if n == held]
        rows += judged(fitted(kept), new)
        constant += judged(fitted(kept, constant=True), new)
    print(table(rows, constant) + "\n\n" + families(rows))


def judge(manifests_folder: Path, why: str) -> None:
    """Measure the shipped calibration at the places of the vault: one look, counted."""
    model = load("rgb2nir")
    if model.calibration is None:
        raise SystemExit("fit first")
    read = vault.read("rgb2nir", folder=manifests_folder, look=True, why=why)
    RUNS.mkdir(parents=True, exist_ok=True)
    path = RUNS / "vault.csv"
    read.assign(split="test").to_csv(path, index=False)
    rows = manifests.read(path)
    (RUNS / "vault.pkl").write_bytes(pickle.dumps(collect(model, rows, QUANTITIES, "family")))


def print_table() -> None:
    """Print the judged numbers, and write them to docs/uncertainty.json."""
    calibration, places = load("rgb2nir").calibration, places_of(["vault"])
    assert calibration is not None
    plain = fitted(places_of(folds_there()), constant=True)
    rows, constant = judged(calibration, places), judged(plain, places)
    levels = {}
    for level in LEVELS:
        at = judged(calibration, places, level)
        levels[str(level)] = {
            q: float(np.mean([r["coverage"] for r in at if (r["quantity"], r["window"]) == (q, 1)]))
            for q in QUANTITIES
        }
    text = table(rows, constant)
    NUMBERS.write_text(json.dumps({"levels": levels, "table": text.splitlines()}, indent=1) + "\n")
    print(text + "\n\n" + families(rows) + "\n\nlevels: " + json.dumps(levels))


def main() -> None:
    """Run a subcommand."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["collect", "inner", "fit", "judge", "table"])
    parser.add_argument("--folds", type=Path, default=ROOT / "runs/folds/rgb2nir/local-pyramid")
    parser.add_argument("--manifests", type=Path, default=vault.FOLDER)
    parser.add_argument("--part", type=int, choices=range(HELD), help="for inner: only this one")
    parser.add_argument("--why", default="", help="what the look at the vault is for")
    a = parser.parse_args()
    if a.what == "collect":
        collect_folds(a.folds)
    elif a.what == "inner":
        inner(range(HELD) if a.part is None else [a.part])
    elif a.what == "fit":
        print(fitted(places_of(folds_there()), familiarity=True).save(WEIGHTS))
    elif a.what == "judge":
        judge(a.manifests, a.why)
        print_table()
    else:
        print_table()


if __name__ == "__main__":
    main()
