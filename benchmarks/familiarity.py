"""Whether wrong and unusual inputs are told from new places: the corruption suite of rgb2nir.

    python benchmarks/uncertainty.py collect --folds FOLDER   once
    python benchmarks/familiarity.py --fold 3

Familiarity is fitted on the places of the other folds, and judged at those of this one: untouched,
and with each of `corruptions.py`. The vault is not read. AUROC is that of the scene's unfamiliar
share, corrupted scenes against all untouched ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from corruptions import CORRUPTIONS
from numpy.typing import NDArray
from PIL import Image
from project import ROOT
from uncertainty import Subject

from crossband import load
from crossband.data import manifest as manifests
from crossband.evaluation.candidates import ModelCandidate
from crossband.evaluation.evaluation import Evaluation
from crossband.model import Model
from crossband.raster.grid import Box, Grid, Window
from crossband.translate.familiarity import SHARE, SceneFamiliarity, window_familiarity

#: Side of the part of a scene that is looked at, and every which chip is corrupted.
SIDE, EVERY = 256, 7
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "rgb2nir" / "ground_epfl" / "rgb"


@dataclass(frozen=True)
class Judged:
    """A scene of the judged fold, and how familiar it is untouched."""

    family: str
    window: Window
    found: SceneFamiliarity


def windows_of(model: Model, rows: pd.DataFrame) -> Iterator[tuple[str, Window]]:
    """Yield family and the middle of the source of each row."""
    evaluation = Evaluation(ModelCandidate(model, model.name, "cpu", "fp32"), rows, ())
    for position, row in enumerate(evaluation.rows):
        source, _ = evaluation.pair(position)
        height, width = source.mask.shape
        top, left = max(height - SIDE, 0) // 2, max(width - SIDE, 0) // 2
        box = Box(top, left, min(SIDE, height), min(SIDE, width))
        window = source.crop(box)
        if window.mask.mean() > 0.2:
            yield str(row["family"]), window


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


def corrupted(window: Window, name: str, rng: np.random.Generator) -> Window:
    """Return a window with one of `CORRUPTIONS`."""
    filled = np.where(window.mask, window.values, window.values[:, window.mask].mean())
    values = CORRUPTIONS[name][0](np.asarray(filled, np.float32), rng)
    shown: NDArray[np.float32] = np.where(window.mask, values, 0).astype(np.float32)
    return replace(window, values=shown)


def row(
    name: str, wanted: float, words: str, untouched: list[float], found: list[SceneFamiliarity]
) -> str:
    """Return a row of the table."""
    shares = [f.share for f in found]
    told = [f for f in found if f.share > SHARE]
    named = np.mean([words in f.cause for f in told]) if told and words else float("nan")
    return (
        f"| {name} | {len(found)} | {auroc(untouched, shares):.3f} | {wanted:g} | "
        f"{len(told) / len(found):.0%} | {'-' if np.isnan(named) else f'{named:.0%}'} |"
    )


def main() -> None:
    """Print the false alarms and the table of corruptions."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--fold", type=int, choices=range(4), default=3, help="that is judged")
    parser.add_argument("--folds", type=Path, default=ROOT / "runs/folds/rgb2nir/local-pyramid")
    a = parser.parse_args()
    model, own = load("rgb2nir"), f"fold-{a.fold}"
    subject = Subject()
    others = subject.places_of([name for name in subject.folds_there() if name != own])
    model.calibration = subject.fitted(others, familiarity=True)
    rows = manifests.read(a.folds / f"{own}.csv")
    rows = rows[rows["split"] == "test"].reset_index(drop=True)
    judged = []
    for family, window in windows_of(model, rows):
        found = window_familiarity(model, [window])
        assert found is not None
        judged.append(Judged(family, window, found))
    untouched = [j.found.share for j in judged]
    print("| untouched places | scenes | false alarms |\n|---|---|---|")
    for family in ["all", *sorted({j.family for j in judged})]:
        own_shares = [j.found.share for j in judged if family in ("all", j.family)]
        alarms = np.mean(np.array(own_shares) > SHARE)
        print(f"| {family} | {len(own_shares)} | {alarms:.1%} |")
    print("\n| input | scenes | AUROC | wanted | told | cause named |\n|---|---|---|---|---|---|")
    reflectance = [j for j in judged if j.window.unit == "reflectance"]
    chips = [j for j in reflectance if j.family == "chips"][::EVERY]
    chosen = [j for j in reflectance if j.family != "chips"] + chips
    rng = np.random.default_rng(0)
    for name, (_, wanted, words) in CORRUPTIONS.items():
        wrong = [corrupted(j.window, name, rng) for j in chosen]
        shown = [f for w in wrong if (f := window_familiarity(model, [w])) is not None]
        print(row(name, wanted, words, untouched, shown))
    shown = [f for w in photographs(model) if (f := window_familiarity(model, [w])) is not None]
    print(row("unseen sensor: photographs", 0.85, "", untouched, shown))


if __name__ == "__main__":
    main()
