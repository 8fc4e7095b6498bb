"""Whether wrong and unusual inputs are told from new places: the corruption suite of rgb2nir.

    python benchmarks/familiarity.py collect            surroundings outside of the vault, once
    python benchmarks/familiarity.py folds --fold 3     fitted on the other folds, judged at it
    python benchmarks/familiarity.py fit                write `familiar` of calibration.json
    python benchmarks/familiarity.py judge --why TEXT   one look at the vault, counted

The judged places are shown untouched, and with each of `corruptions.py`. AUROC is that of the
scene's unfamiliar share, corrupted scenes against all untouched ones. Familiarity knows only the
surroundings of places, which no weights compute. So they are collected with the shipped model, and
the errors that come with them are not used. Only `judge` reads the vault.
"""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import vault
from corruptions import CORRUPTIONS, OTHERS, Array
from judged_intervals import ByFamiliarity
from numpy.typing import NDArray
from PIL import Image
from project import ROOT
from uncertainty import WEIGHTS, Subject

from crossband import load
from crossband.data import manifest as manifests
from crossband.evaluation.calibrate import familiar_of
from crossband.evaluation.candidates import ModelCandidate
from crossband.evaluation.evaluation import Evaluation
from crossband.evaluation.place_errors import collect
from crossband.model import Model
from crossband.raster.grid import Box, Grid, Window
from crossband.translate.familiarity import SHARE, SceneFamiliarity, window_familiarity

#: Inner folds, side of the part of a scene that is looked at, and every which chip is corrupted.
FOLDS, SIDE, EVERY = 4, 256, 7
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "rgb2nir" / "ground_epfl" / "rgb"


class Surroundings(Subject):
    """rgb2nir, whose familiarity is fitted and judged."""

    @property
    def runs(self) -> Path:
        """The folder of collected surroundings."""
        return ROOT / "runs" / "familiarity"

    @property
    def look(self) -> str:
        """The name under which looks at the vault for familiarity are counted."""
        return f"{self.name}-familiarity"

    def rows(self, name: str, table: pd.DataFrame | None = None) -> pd.DataFrame:
        """Return the rows of a fold or of the vault, and keep them where they are given."""
        path = self.runs / f"{name}.csv"
        if table is not None:
            self.runs.mkdir(parents=True, exist_ok=True)
            table.assign(split="test").to_csv(path, index=False)
        return manifests.read(path)

    def collect(self, folder: Path) -> None:
        """Collect the surroundings of all places outside of the vault."""
        table, model = vault.read(self.name, folder=folder), load(self.name)
        folds = vault.inner_folds(table, FOLDS)
        for fold in range(FOLDS):
            rows = self.rows(f"fold-{fold}", table[folds == fold])
            found = collect(model, rows, tuple(model.signature.target), "family")
            (self.runs / f"fold-{fold}.pkl").write_bytes(pickle.dumps(found))

    def familiar_with(self, names: Sequence[str]) -> Model:
        """Return the shipped model, for which the places of some folds are the familiar ones."""
        model = load(self.name)
        if model.calibration is None:
            raise SystemExit("calibrate first: benchmarks/uncertainty.py fit")
        found = familiar_of(self.places_of(names), model)
        model.calibration = replace(model.calibration, familiar=found)
        return model


@dataclass(frozen=True)
class Judged:
    """A scene of the judged places, and how familiar it is untouched."""

    row: dict[str, Any]
    window: Window
    found: SceneFamiliarity


def windows_of(model: Model, rows: pd.DataFrame) -> Iterator[tuple[dict[str, Any], Window]]:
    """Yield each row, and the middle of its source."""
    evaluation = Evaluation(ModelCandidate(model, model.name, "cpu", "fp32"), rows, ())
    for position, row in enumerate(evaluation.rows):
        source, _ = evaluation.pair(position)
        height, width = source.mask.shape
        top, left = max(height - SIDE, 0) // 2, max(width - SIDE, 0) // 2
        box = Box(top, left, min(SIDE, height), min(SIDE, width))
        window = source.crop(box)
        if window.mask.mean() > 0.2:
            yield dict(row), window


def photographs(model: Model) -> Iterator[Window]:
    """Yield photographs from the ground, as pictures of a sensor that no training has seen."""
    for path in sorted(PHOTOGRAPHS.iterdir()):
        if path.suffix.lower() in (".png", ".jpg", ".tif", ".tiff"):
            picture = np.asarray(Image.open(path).convert("RGB"))
            values = picture.transpose(2, 0, 1)[:, :SIDE, :SIDE].astype(np.float32) / np.float32(
                255
            )
            mask = np.ones(values.shape[1:], bool)
            grid = Grid(*values.shape[1:])
            yield Window(values, mask, grid, tuple(model.signature.source), "display")


def auroc(untouched: Sequence[float], others: Sequence[float]) -> float:
    """Return the chance that one of the others is above an untouched one; ties count half."""
    a, b = np.array(untouched), np.array(others)[:, None]
    return float((b > a).mean() + 0.5 * (b == a).mean())


def corrupted(
    window: Window,
    change: Callable[[Array, np.random.Generator], Array],
    rng: np.random.Generator,
) -> Window:
    """Return a window with one of the corruptions."""
    filled = np.where(window.mask, window.values, window.values[:, window.mask].mean())
    values = change(np.asarray(filled, np.float32), rng)
    shown: NDArray[np.float32] = np.where(window.mask, values, 0).astype(np.float32)
    return replace(window, values=shown)


def row(
    name: str,
    wanted: float | None,
    words: str,
    untouched: list[float],
    found: list[SceneFamiliarity],
) -> str:
    """Return a row of the table."""
    shares = [f.share for f in found]
    told = [f for f in found if f.share > SHARE]
    named = np.mean([words in f.cause for f in told]) if told and words else float("nan")
    return (
        f"| {name} | {len(found)} | {auroc(untouched, shares):.3f} | "
        f"{'-' if wanted is None else f'{wanted:g}'} | {len(told) / len(found):.0%} | "
        f"{'-' if np.isnan(named) else f'{named:.0%}'} |"
    )


def shown_to(model: Model, windows: Iterator[Window]) -> list[SceneFamiliarity]:
    """Return how familiar scenes are."""
    return [f for w in windows if (f := window_familiarity(model, [w])) is not None]


def false_alarms(judged: Sequence[Judged]) -> list[str]:
    """Return the table of untouched places."""
    lines = ["| untouched places | scenes | false alarms |", "|---|---|---|"]
    for family in ["all", *sorted({j.row["family"] for j in judged})]:
        shares = np.array([j.found.share for j in judged if family in ("all", j.row["family"])])
        lines.append(f"| {family} | {len(shares)} | {np.mean(shares > SHARE):.1%} |")
    return lines


def suite(model: Model, judged: Sequence[Judged]) -> list[str]:
    """Return the table of wrong inputs."""
    untouched = [j.found.share for j in judged]
    reflectance = [j for j in judged if j.window.unit == "reflectance"]
    chips = [j for j in reflectance if j.row["family"] == "chips"][::EVERY]
    chosen = [j.window for j in reflectance if j.row["family"] != "chips"]
    chosen += [j.window for j in chips]
    lines = ["| input | scenes | AUROC | wanted | warned of | cause named |"]
    lines.append("|---|---|---|---|---|---|")
    others = {name: (change, None, "") for name, change in OTHERS.items()}
    rng = np.random.default_rng(0)
    for name, (change, wanted, words) in (CORRUPTIONS | others).items():
        shown = shown_to(model, (corrupted(w, change, rng) for w in chosen))
        lines.append(row(name, wanted, words, untouched, shown))
    lines.append(
        row("unseen sensor: photographs", 0.85, "", untouched, shown_to(model, photographs(model)))
    )
    return lines


def judge_at(model: Model, rows: pd.DataFrame) -> dict[str, list[str]]:
    """Return the tables of familiarity at the places of some rows."""
    judged = []
    for of, window in windows_of(model, rows):
        found = window_familiarity(model, [window])
        assert found is not None
        judged.append(Judged(of, window, found))
    odd = [
        f"{j.row['family']}, {j.row['campaign']}, {j.row['region']}: {j.found.line}"
        for j in judged
        if j.found.line
    ]
    return {"untouched": false_alarms(judged), "inputs": suite(model, judged), "alarms": odd}


def judge(subject: Surroundings, folder: Path, why: str, again: bool) -> None:
    """Measure the shipped familiarity at the places of the vault: one look, counted."""
    model = load(subject.name)
    vault.check_unopened(subject.look, again)
    read = vault.read(subject.name, folder=folder, look=True, model=subject.look, why=why)
    rows = subject.rows("vault", read)
    places = collect(model, rows, subject.quantities, "family")
    (subject.runs / "vault.pkl").write_bytes(pickle.dumps(places))
    numbers = json.loads(subject.numbers.read_text())
    numbers["familiarity"] = ByFamiliarity.of(model, places).table().splitlines()
    subject.numbers.write_text(json.dumps(numbers, indent=1) + "\n")
    tables = judge_at(model, rows)
    path = subject.numbers.with_name(f"familiarity-{subject.name}.json")
    found = {"looks": vault.looks(subject.look), **tables}
    path.write_text(json.dumps(found, indent=1) + "\n")
    print("\n\n".join("\n".join(lines) for lines in [*tables.values(), numbers["familiarity"]]))


def main() -> None:
    """Run a subcommand."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["collect", "folds", "fit", "judge"])
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="for folds: only this one")
    parser.add_argument("--manifests", type=Path, default=vault.FOLDER)
    parser.add_argument("--why", default="", help="what the look at the vault is for")
    parser.add_argument("--again", action="store_true", help="open a vault that was open before")
    a = parser.parse_args()
    subject = Surroundings()
    if a.what == "collect":
        subject.collect(a.manifests)
    elif a.what == "folds":
        for fold in range(FOLDS) if a.fold is None else [a.fold]:
            own = f"fold-{fold}"
            model = subject.familiar_with([n for n in subject.folds_there() if n != own])
            tables = judge_at(model, subject.rows(own))
            print(f"\n# {own}\n")
            print("\n\n".join("\n".join(lines) for lines in tables.values()), flush=True)
    elif a.what == "fit":
        model = subject.familiar_with(subject.folds_there())
        assert model.calibration is not None
        print(model.calibration.save(WEIGHTS / subject.name))
    else:
        judge(subject, a.manifests, a.why, a.again)


if __name__ == "__main__":
    main()
