"""Intervals and familiarity of the bundled rgb2nir: fitted on inner folds, judged on the vault.

    python benchmarks/uncertainty.py collect --folds FOLDER   errors of each fold's model
    python benchmarks/uncertainty.py inner                    regions held out in turn: the table
    python benchmarks/uncertainty.py inner --part 0           one third of the regions held out
    python benchmarks/uncertainty.py fit                      write calibration.json of the package
    python benchmarks/uncertainty.py judge --why TEXT         one look at the vault, counted
    python benchmarks/uncertainty.py table                    print the judged numbers again

FOLDER is that of `inner_folds.py`. Each place's errors come from a model that was not trained on
its region. `inner` and `fit` never read the vault. `judge` writes its look into looks.csv, and
refuses a second one without `--again`. It collects errors as `collect` does for one fold. Beside
the shipped intervals stand simpler ones. They are calibrated on the errors of the folds; where none
were collected, on the judged places themselves, which favours them.
"""

from __future__ import annotations

import argparse
import json
import pickle
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import vault
from judged_intervals import (
    LEAST_SPREAD,
    QUANTITIES,
    ByFamiliarity,
    Rival,
    Widths,
    constant_widths,
    families,
    head_widths,
    joined,
    judged,
    spread_widths,
    table,
)
from project import ROOT

from crossband import load
from crossband.api import Model
from crossband.data import manifest as manifests
from crossband.evaluation.calibrate import factors_of, fit
from crossband.evaluation.place_errors import PlaceErrors, SampleTable, collect
from crossband.model.calibration import WINDOWS, Calibration

RUNS = ROOT / "runs" / "uncertainty"
WEIGHTS = ROOT / "src" / "crossband" / "weights" / "rgb2nir"
NUMBERS = ROOT / "docs" / "uncertainty.json"
#: Under which looks at the vault for these numbers are counted.
LOOK = "rgb2nir-intervals"
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
HELD = 3
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


def with_calibration(calibration: Calibration) -> Model:
    """Return the bundled model with another calibration."""
    model = load("rgb2nir")
    model.calibration = calibration
    return model


def rivals(kept: Sequence[PlaceErrors], new: Sequence[PlaceErrors]) -> list[Rival]:
    """Return how other widths do at new places, calibrated on the kept ones in the same way."""
    plain = fitted(kept, constant=True)
    tables = {side: SampleTable.of(kept, side) for side in WINDOWS}
    scores = {
        side: t.errors.abs() / t.spread.mean(dim=1, keepdim=True).clamp_min(LEAST_SPREAD)
        for side, t in tables.items()
    }
    spread = replace(plain, factors=factors_of(kept, QUANTITIES, tables, scores))
    ways: list[tuple[str, Calibration, Widths]] = [
        ("constant width", plain, constant_widths),
        ("members' spread", spread, spread_widths),
    ]
    return [Rival(name, judged(of, new, widths)) for name, of, widths in ways]


def inner(parts: Sequence[int]) -> None:
    """Hold out parts of the regions in turn; fit on the rest, with a head and without."""
    places = places_of(folds_there())
    part = [zlib.crc32(f"held {p.region}".encode()) % HELD for p in places]
    rows: list[dict[str, Any]] = []
    others: list[Rival] = []
    familiar = []
    for held in parts:
        kept = [p for p, n in zip(places, part, strict=True) if n != held]
        new = [p for p, n in zip(places, part, strict=True) if n == held]
        model = with_calibration(fitted(kept, familiarity=True))
        assert model.calibration is not None
        rows += judged(model.calibration, new, head_widths(model))
        found = rivals(kept, new)
        others = (
            [
                Rival(new_rival.name, [*old.rows, *new_rival.rows])
                for old, new_rival in zip(others, found, strict=True)
            ]
            if others
            else found
        )
        familiar.append(ByFamiliarity.of(model, new))
    print("\n\n".join([table(rows, others), families(rows), joined(familiar).table()]))


def judge(manifests_folder: Path, why: str, again: bool) -> None:
    """Measure the shipped calibration at the places of the vault: one look, counted."""
    model = load("rgb2nir")
    if model.calibration is None:
        raise SystemExit("fit first")
    vault.check_unopened(LOOK, again)
    read = vault.read("rgb2nir", folder=manifests_folder, look=True, model=LOOK, why=why)
    RUNS.mkdir(parents=True, exist_ok=True)
    path = RUNS / "vault.csv"
    read.assign(split="test").to_csv(path, index=False)
    rows = manifests.read(path)
    (RUNS / "vault.pkl").write_bytes(pickle.dumps(collect(model, rows, QUANTITIES, "family")))


def print_table() -> None:
    """Print the judged numbers, and write them to docs/uncertainty.json."""
    model, places = load("rgb2nir"), places_of(["vault"])
    calibration, widths = model.calibration, head_widths(model)
    assert calibration is not None
    rows = judged(calibration, places, widths)
    levels = {}
    for level in LEVELS:
        at = judged(calibration, places, widths, level)
        levels[str(level)] = {
            q: float(np.mean([r["coverage"] for r in at if (r["quantity"], r["window"]) == (q, 1)]))
            for q in QUANTITIES
        }
    looks = vault.looks(LOOK)
    kept = places_of(folds_there())
    others = rivals(kept or places, places)
    if not kept:
        others = [replace(other, name=f"{other.name}, calibrated here") for other in others]
    texts = {
        "table": table(rows, others),
        "families": families(rows),
        "familiarity": ByFamiliarity.of(model, places).table(),
    }
    found = {"looks": looks, "levels": levels}
    found |= {name: text.splitlines() for name, text in texts.items()}
    NUMBERS.write_text(json.dumps(found, indent=1) + "\n")
    print("\n\n".join([*texts.values(), "levels: " + json.dumps(levels)]))
    print(f"\nLooks at the vault: {len(looks)}")


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
    parser.add_argument("--again", action="store_true", help="open a vault that was open before")
    a = parser.parse_args()
    if a.what == "collect":
        collect_folds(a.folds)
    elif a.what == "inner":
        inner(range(HELD) if a.part is None else [a.part])
    elif a.what == "fit":
        print(fitted(places_of(folds_there()), familiarity=True).save(WEIGHTS))
    elif a.what == "judge":
        judge(a.manifests, a.why, a.again)
        print_table()
    else:
        print_table()


if __name__ == "__main__":
    main()
