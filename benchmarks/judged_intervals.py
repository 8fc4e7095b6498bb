"""How intervals and familiarity hold at collected places: tables for `uncertainty.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crossband.core.conformal import MEAN, interval_score, poor_below
from crossband.errors import CrossbandError
from crossband.evaluation.place_errors import PlaceErrors, Sample
from crossband.evaluation.place_intervals import ENDS
from crossband.model import Model
from crossband.model.calibration import WINDOWS, Calibration
from crossband.model.uncertain import uncertain_model
from crossband.translate.familiarity import SHARE

DRAWS = 2000
#: Members agree no better than this, in units of the band's range.
LEAST_SPREAD = 1e-3

Widths = Callable[[Sample], NDArray[np.float32]]


@dataclass(frozen=True)
class Rival:
    """Other widths, calibrated the same way, and the rows that they give.

    Attributes:
        name: of the widths.
        rows: from `judged`.
    """

    name: str
    rows: list[dict[str, Any]]


def constant_widths(sample: Sample) -> NDArray[np.float32]:
    """Return widths of 1: [n, 2 x quantities]."""
    return np.ones((len(sample.errors), 2 * len(sample.errors[0])), np.float32)


def spread_widths(sample: Sample) -> NDArray[np.float32]:
    """Return the members' spread as the only width."""
    spread = np.maximum(np.stack(sample.spread).mean(axis=1), LEAST_SPREAD)
    return np.repeat(spread[:, None], 2 * len(sample.errors[0]), axis=1)


def head_widths(model: Model) -> Widths:
    """Return the widths of the head of a calibrated model."""
    assert model.calibration is not None
    network: Any = uncertain_model(model, model.calibration.factors[0].unit).network

    def widths(sample: Sample) -> NDArray[np.float32]:
        cells, pixels = (torch.from_numpy(np.stack(a)) for a in (sample.cells, sample.pixels))
        with torch.inference_mode():
            found: NDArray[np.float32] = (
                network.head(network.head.cells(cells), pixels).mean(dim=1).numpy()
            )
        return found

    return widths


def judged(
    calibration: Calibration, places: Sequence[PlaceErrors], widths: Widths, level: float = 0.9
) -> list[dict[str, Any]]:
    """Return coverage, width and interval score at each place, of each quantity and window."""
    found = []
    for place in places:
        for side in WINDOWS:
            sample = place.samples[side]
            if not sample.errors:
                continue
            errors, around = np.stack(sample.errors), widths(sample)
            for number, quantity in enumerate(calibration.quantities):
                known = np.isfinite(errors[:, number])
                row = _row(calibration, place, quantity, side, level)
                if row is None or not known.any():
                    continue
                below, above = (row["factor"] * around[known, 2 * number + n] for n in (0, 1))
                e = errors[known, number]
                row["coverage"] = float(np.mean((-below <= e) & (e <= above)))
                row["width"] = float(np.mean(below + above))
                row["score"] = float(np.mean(interval_score(-below, above, e, level)))
                found.append(row)
    return found


def _row(
    calibration: Calibration, place: PlaceErrors, quantity: str, side: int, level: float
) -> dict[str, Any] | None:
    """Return what identifies a place, with the factor of its family; None without a promise."""
    try:
        every = calibration.find(quantity, place.unit, window=side, guide=place.guide)
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
        "way": place.way,
        "factor": factor,
    }


def table(rows: Sequence[dict[str, Any]], rivals: Sequence[Rival], level: float = 0.9) -> str:
    """Return the means over places as Markdown, beside the interval scores of other widths."""
    poor = poor_below(level)
    heads = ["quantity", "mean over", "places", "coverage", f"under {poor:.0%}", "width"]
    heads += ["interval score", *(f"{rival.name}: score (ratio)" for rival in rivals)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for quantity in dict.fromkeys(r["quantity"] for r in rows):
        for side in WINDOWS:
            own, *others = (
                [r for r in of if (r["quantity"], r["window"]) == (quantity, side)]
                for of in (rows, *(rival.rows for rival in rivals))
            )
            if not own:
                continue
            cover = np.array([r["coverage"] for r in own])
            low, high = _bootstrap(cover, [r["region"] for r in own])
            score, *scores = (float(np.mean([r["score"] for r in of])) for of in (own, *others))
            width = float(np.mean([r["width"] for r in own]))
            under = float(np.mean(cover < poor - 1e-9))
            what = "pixels" if side == 1 else f"{side} x {side}"
            cells = [quantity, what, str(len(own)), f"{cover.mean():.3f} ({low:.3f} to {high:.3f})"]
            cells += [f"{under:.1%}", f"{width:.3f}", f"{score:.3f}"]
            cells += [f"{other:.3f} ({score / other:.2f})" for other in scores]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def families(rows: Sequence[dict[str, Any]]) -> str:
    """Return the coverage of pixels by family and quantity as Markdown."""
    names = sorted({r["family"] for r in rows})
    quantities = list(dict.fromkeys(r["quantity"] for r in rows))
    heads = ["places", "n", *quantities]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name in names:
        own = [r for r in rows if r["family"] == name and r["window"] == 1]
        cells = []
        for quantity in quantities:
            covers = [r["coverage"] for r in own if r["quantity"] == quantity]
            cells.append(f"{np.mean(covers):.2f}" if covers else "-")
        count = len({r["place"] for r in own})
        lines.append(f"| {name} | {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@dataclass(frozen=True)
class ByFamiliarity:
    """Mean absolute errors at places, by class of dissimilarity.

    Attributes:
        errors: [places, classes, quantities]; NaN where a place has no such pixel.
        counts: [places, classes] pixels.
        quantities: their names.
    """

    errors: NDArray[np.float64]
    counts: NDArray[np.int64]
    quantities: tuple[str, ...]

    @classmethod
    def of(cls, model: Model, places: Sequence[PlaceErrors]) -> ByFamiliarity:
        """Measure the errors of places that neither network nor familiarity have seen."""
        errors, counts = [], []
        for place in places:
            sample = place.samples[1]
            network: Any = uncertain_model(model, place.unit).network
            with torch.inference_mode():
                cells = torch.from_numpy(np.stack(sample.cells)[:, 0])
                far = network.dissimilarity(cells).numpy()
            at = np.searchsorted(ENDS, far, side="right")
            of = np.abs(np.stack(sample.errors))
            sizes = np.bincount(at, minlength=len(ENDS) + 1)
            counts.append(sizes)
            with np.errstate(invalid="ignore"):
                errors.append(
                    [
                        np.bincount(at[k], of[k, q], len(sizes))
                        / np.bincount(at[k], None, len(sizes))
                        for q in range(of.shape[1])
                        for k in [np.isfinite(of[:, q])]
                    ]
                )
        assert model.calibration is not None
        names = model.calibration.quantities
        return cls(np.stack(errors).transpose(0, 2, 1), np.stack(counts), names)

    def table(self) -> str:
        """Return means over places as Markdown."""
        names = [f"below {end:g}" for end in ENDS] + [f"{ENDS[-1]:g} and above"]
        heads = ["dissimilarity", "places", "pixels", *(f"MAE {q}" for q in self.quantities)]
        lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        for number, name in enumerate(names):
            there = self.counts[:, number] > 0
            if there.any():
                means = np.nanmean(self.errors[there, number], axis=0)
                cells = [name, str(there.sum()), f"{self.counts[:, number].sum():,}"]
                lines.append("| " + " | ".join([*cells, *(f"{m:.3f}" for m in means)]) + " |")
        return "\n".join(lines)


def alarms(model: Model, places: Sequence[PlaceErrors]) -> list[tuple[str, bool]]:
    """Return the family of each place, and whether its scene is said to be unfamiliar."""
    found = []
    for place in places:
        network: Any = uncertain_model(model, place.unit).network
        cells = torch.from_numpy(np.stack(place.samples[1].cells)[:, 0])
        with torch.inference_mode():
            far = network.dissimilarity(cells)
        found.append((place.group, float((far > 1).float().mean()) > SHARE))
    return found


def joined(parts: Sequence[ByFamiliarity]) -> ByFamiliarity:
    """Return the errors of several parts of the places together."""
    errors, counts = (np.concatenate([getattr(p, n) for p in parts]) for n in ("errors", "counts"))
    return ByFamiliarity(errors, counts, parts[0].quantities)


def _bootstrap(values: NDArray[np.float64], regions: Sequence[str]) -> tuple[float, float]:
    """Return the 95 % interval of a mean over places, by regions."""
    names = {name: n for n, name in enumerate(dict.fromkeys(regions))}
    numbers = np.array([names[r] for r in regions])
    sums, sizes = (np.bincount(numbers, w) for w in (values, np.ones(len(values))))
    drawn = np.random.default_rng(0).integers(len(names), size=(DRAWS, len(names)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
