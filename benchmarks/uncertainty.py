"""Intervals and familiarity of a bundled model: fitted on inner folds, judged on the vault.

    python benchmarks/uncertainty.py collect --folds FOLDER   errors of each fold's model
    python benchmarks/uncertainty.py inner                    regions held out in turn: the table
    python benchmarks/uncertainty.py inner --part 0           only one part of the regions
    python benchmarks/uncertainty.py fit                      write calibration.json of the package
    python benchmarks/uncertainty.py judge --why TEXT         one look at the vault, counted
    python benchmarks/uncertainty.py table                    print the judged numbers again

They are those of rgb2nir, and with --model those of another one. FOLDER is that of
`inner_folds.py`. Each place's errors come from a model that was not trained on its region. Sources
that are made from targets are made in all ways of `bundled.py`. A place then counts once, by its
worst way, and each way has its tables. `inner` and `fit` never read the vault. `judge` writes its
look into looks.csv, and refuses a second one without `--again`. It collects errors as `collect`
does for one fold. Beside the shipped intervals stand simpler ones. They are calibrated on the
errors of the folds; where none were collected, on the judged places themselves, which favours them.
"""

from __future__ import annotations

import argparse
import json
import pickle
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bundled
import numpy as np
import pandas as pd
import vault
from judged_intervals import (
    LEAST_SPREAD,
    ByFamiliarity,
    Rival,
    Widths,
    alarms,
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
WEIGHTS = ROOT / "src" / "crossband" / "weights"
NUMBERS = ROOT / "docs"
#: Models whose intervals are fitted here, and their indices that have intervals of their own.
INDICES: dict[str, tuple[str, ...]] = {
    "rgb2nir": ("NDVI", "EVI"),
    "sar2optical": (),
    "super-resolution-x2": (),
    "super-resolution-x4": (),
}
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
#: The nominal level of the tables is 0.9; of a model with too few places for it, this one.
NOMINAL = {"sar2optical": 0.8}
#: Parts of the regions that are held out in turn; with fewer regions than `FEW` it is each of them.
HELD, FEW = 3, 20
FITTED = (
    "cross-fitted: the errors of each place are those of a model of the same recipe that was not "
    "trained on its region, not of the shipped weights. So the formal guarantee at a level 1 - a "
    "is 1 - 2a; measured coverage is in docs/uncertainty.md"
)
MADE = "; sources were made from targets ({}), and each place counts by its worse way"


@dataclass(frozen=True)
class Subject:
    """A bundled model whose intervals are fitted and judged.

    Attributes:
        name: of the model.
    """

    name: str = "rgb2nir"

    @property
    def ways(self) -> tuple[tuple[str, str], ...]:
        """Name and degradation of each way in which sources are made; none where there are some."""
        return bundled.MODELS[self.name].made

    @property
    def folds(self) -> Path:
        """The folder of `inner_folds.py`."""
        return ROOT / "runs" / "folds" / self.name / bundled.MODELS[self.name].recipe.split("/")[1]

    @property
    def runs(self) -> Path:
        """The folder of collected errors."""
        return RUNS / self.name

    @property
    def look(self) -> str:
        """The name under which looks at the vault for these numbers are counted."""
        return f"{self.name}-intervals"

    @property
    def numbers(self) -> Path:
        """The file of judged numbers."""
        return NUMBERS / f"uncertainty-{self.name}.json"

    @property
    def level(self) -> float:
        """The nominal level of the tables."""
        return NOMINAL.get(self.name, 0.9)

    @property
    def quantities(self) -> tuple[str, ...]:
        """Bands and indices that have intervals."""
        return (*load(self.name).signature.target, *INDICES[self.name])

    def places_of(self, names: Sequence[str]) -> list[PlaceErrors]:
        """Return collected errors."""
        found: list[PlaceErrors] = []
        for name in names:
            found += pickle.loads((self.runs / f"{name}.pkl").read_bytes())
        return found

    def folds_there(self) -> list[str]:
        """Return the names of the collected folds."""
        return sorted(path.stem for path in self.runs.glob("fold-*.pkl"))

    def collect_folds(self, folder: Path) -> None:
        """Measure the errors of every fitted fold at its test places."""
        self.runs.mkdir(parents=True, exist_ok=True)
        for model in sorted(folder.glob("fold-*/model")):
            fold, target = model.parent, self.runs / f"{model.parent.name}.pkl"
            if not target.exists():
                rows = pd.read_csv(folder / f"{fold.name}.csv", low_memory=False)
                found = self.errors(load(model), rows[rows["split"] == "test"], fold.name)
                target.write_bytes(pickle.dumps(found))

    def errors(self, model: Model, rows: pd.DataFrame, name: str) -> list[PlaceErrors]:
        """Measure the errors of a model at rows of a manifest, which is kept under a name."""
        path = self.runs / f"{name}.csv"
        bundled.in_ways(rows, self.ways).assign(split="test").to_csv(path, index=False)
        return collect(model, manifests.read(path), self.quantities, "family")

    def fitted(
        self, places: Sequence[PlaceErrors], *, constant: bool = False, familiarity: bool = False
    ) -> Calibration:
        """Return the calibration of the model on some places."""
        names = sorted({place.group for place in places})
        return fit(
            places,
            load(self.name),
            self.quantities,
            fitted=FITTED + (MADE.format("; ".join(w for _, w in self.ways)) if self.ways else ""),
            sources=[
                f"{n}: {len({(p.place, p.unit) for p in places if p.group == n})} places"
                for n in names
            ],
            constant=constant,
            familiarity=familiarity,
        )

    def with_calibration(self, calibration: Calibration) -> Model:
        """Return the model with another calibration."""
        model = load(self.name)
        model.calibration = calibration
        return model


def rivals(
    subject: Subject, kept: Sequence[PlaceErrors], new: Sequence[PlaceErrors]
) -> list[Rival]:
    """Return how other widths do at new places, calibrated on the kept ones in the same way."""
    plain = subject.fitted(kept, constant=True)
    tables = {side: SampleTable.of(kept, side) for side in WINDOWS}
    scores = {
        side: t.errors.abs() / t.spread.mean(dim=1, keepdim=True).clamp_min(LEAST_SPREAD)
        for side, t in tables.items()
    }
    spread = replace(plain, factors=factors_of(kept, subject.quantities, tables, scores))
    ways: list[tuple[str, Calibration, Widths]] = [("constant width", plain, constant_widths)]
    if any(t.spread.any() for t in tables.values()):  # of a network with members
        ways.append(("members' spread", spread, spread_widths))
    return [Rival(name, judged(of, new, widths, subject.level)) for name, of, widths in ways]


def parts_of(places: Sequence[PlaceErrors]) -> list[int]:
    """Return the part of each place's region."""
    regions = sorted({p.region for p in places})
    if len(regions) < FEW:
        return [regions.index(p.region) for p in places]
    return [zlib.crc32(f"held {p.region}".encode()) % HELD for p in places]


def inner(subject: Subject, only: int | None) -> None:
    """Hold out parts of the regions in turn; fit on the rest, with a head and without."""
    places = subject.places_of(subject.folds_there())
    part = parts_of(places)
    rows: list[dict[str, Any]] = []
    others: list[Rival] = []
    familiar, alarmed = [], []
    for held in sorted(set(part)) if only is None else [only]:
        kept = [p for p, n in zip(places, part, strict=True) if n != held]
        new = [p for p, n in zip(places, part, strict=True) if n == held]
        model = subject.with_calibration(subject.fitted(kept, familiarity=True))
        assert model.calibration is not None
        rows += judged(model.calibration, new, head_widths(model), subject.level)
        found = rivals(subject, kept, new)
        others = (
            [
                Rival(new_rival.name, [*old.rows, *new_rival.rows])
                for old, new_rival in zip(others, found, strict=True)
            ]
            if others
            else found
        )
        familiar.append(ByFamiliarity.of(model, new))
        alarmed += alarms(model, new)
    texts = tables(subject, rows, others)
    texts |= {"familiarity": joined(familiar).table(), "alarms": alarm_line(alarmed)}
    print("\n\n".join(f"{name}:\n{text}" for name, text in texts.items()))


def tables(subject: Subject, rows: list[dict[str, Any]], others: list[Rival]) -> dict[str, str]:
    """Return the table and that of families as Markdown, of each way in which sources are made."""
    if not subject.ways:
        return {"table": table(rows, others, subject.level), "families": families(rows)}
    texts: dict[str, str] = {}
    for name, way in subject.ways:
        own, *of_others = (
            [r for r in of if r["way"] == way] for of in (rows, *(o.rows for o in others))
        )
        found = [replace(o, rows=r) for o, r in zip(others, of_others, strict=True)]
        texts |= {
            f"table, {name}": table(own, found, subject.level),
            f"families, {name}": families(own),
        }
    return texts


def alarm_line(alarmed: Sequence[tuple[str, bool]]) -> str:
    """Return the share of untouched scenes that are said to be unfamiliar, of each family too."""
    of = {"all": [a for _, a in alarmed]}
    of |= {name: [a for f, a in alarmed if f == name] for name in sorted({f for f, _ in alarmed})}
    parts = [f"{name} {np.mean(found):.1%} of {len(found)}" for name, found in of.items()]
    return f"false alarms: {', '.join(parts)}"


def judge(subject: Subject, manifests_folder: Path, why: str, again: bool) -> None:
    """Measure the shipped calibration at the places of the vault: one look, counted."""
    model = load(subject.name)
    if model.calibration is None:
        raise SystemExit("fit first")
    vault.check_unopened(subject.look, again)
    task = bundled.MODELS[subject.name].task
    read = vault.read(task, folder=manifests_folder, look=True, model=subject.look, why=why)
    subject.runs.mkdir(parents=True, exist_ok=True)
    found = subject.errors(model, read, "vault")
    (subject.runs / "vault.pkl").write_bytes(pickle.dumps(found))


def print_table(subject: Subject) -> None:
    """Print the judged numbers, and write them to docs."""
    model, places = load(subject.name), subject.places_of(["vault"])
    calibration, widths = model.calibration, head_widths(model)
    assert calibration is not None
    rows = judged(calibration, places, widths, subject.level)
    levels = {
        name: {
            str(level): observed(at, subject.quantities)
            for level in LEVELS
            if (at := judged(calibration, of, widths, level))  # not more than can be promised
        }
        for name, of in (
            [(name, [p for p in places if p.way == way]) for name, way in subject.ways]
            or [("all", places)]
        )
    }
    looks = vault.looks(subject.look)
    kept = subject.places_of(subject.folds_there())
    others = rivals(subject, kept or places, places)
    if not kept:
        others = [replace(other, name=f"{other.name}, calibrated here") for other in others]
    texts = {
        **tables(subject, rows, others),
        "familiarity": ByFamiliarity.of(model, places).table(),
        "alarms": alarm_line(alarms(model, places)),
    }
    found = {"looks": looks, "levels": levels if subject.ways else levels["all"]}
    found |= {name: text.splitlines() for name, text in texts.items()}
    subject.numbers.write_text(json.dumps(found, indent=1) + "\n")
    print("\n\n".join(f"{name}:\n{text}" for name, text in texts.items()))
    print("\nlevels: " + json.dumps(levels))
    print(f"\nLooks at the vault: {len(looks)}")


def observed(rows: list[dict[str, Any]], quantities: Sequence[str]) -> dict[str, float]:
    """Return the mean coverage of pixels over places, of each quantity."""
    return {
        q: float(np.mean([r["coverage"] for r in rows if (r["quantity"], r["window"]) == (q, 1)]))
        for q in quantities
    }


def main() -> None:
    """Run a subcommand."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["collect", "inner", "fit", "judge", "table"])
    parser.add_argument("--model", choices=sorted(INDICES), default=Subject.name)
    parser.add_argument("--folds", type=Path, help="default: runs/folds/MODEL/RECIPE")
    parser.add_argument("--manifests", type=Path, default=vault.FOLDER)
    parser.add_argument("--part", type=int, help="for inner: only this one")
    parser.add_argument("--why", default="", help="what the look at the vault is for")
    parser.add_argument("--again", action="store_true", help="open a vault that was open before")
    a = parser.parse_args()
    subject = Subject(a.model)
    if a.what == "collect":
        subject.collect_folds(a.folds or subject.folds)
    elif a.what == "inner":
        inner(subject, a.part)
    elif a.what == "fit":
        places = subject.places_of(subject.folds_there())
        print(subject.fitted(places, familiarity=True).save(WEIGHTS / a.model))
    elif a.what == "judge":
        judge(subject, a.manifests, a.why, a.again)
        print_table(subject)
    else:
        print_table(subject)


if __name__ == "__main__":
    main()
