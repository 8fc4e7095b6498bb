"""Scores of many images, kept by sensor, unit and group, and read out as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple

from crossband.evaluation.intervals import of_images, of_pixels, of_ratio
from crossband.metrics import COUNTS, MODEL, Score, compare
from crossband.metrics.moments import NAN


class Cell(NamedTuple):
    """What is pooled: images of one group, by one sensor, in one unit."""

    sensor: str
    unit: str
    group: str


@dataclass
class _ImageMeans:
    """Means over images of each metric, over those images where the truth defines it."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    n_nonfinite: int = 0

    def add(self, numbers: Mapping[str, float | int]) -> None:
        self.n_nonfinite += int(numbers["n_nonfinite"])
        for name, value in numbers.items():
            if name in COUNTS or name.endswith("_n"):
                continue
            defined = not math.isnan(value)
            self.sums[name] = self.sums.get(name, 0.0) + (value if defined else 0.0)
            self.counts[name] = self.counts.get(name, 0) + defined

    def merge(self, other: _ImageMeans) -> _ImageMeans:
        out = _ImageMeans(n_nonfinite=self.n_nonfinite + other.n_nonfinite)
        for name in {**self.sums, **other.sums}:
            out.sums[name] = self.sums.get(name, 0.0) + other.sums.get(name, 0.0)
            out.counts[name] = self.counts.get(name, 0) + other.counts.get(name, 0)
        return out

    def pairs(self) -> dict[str, tuple[float, int]]:
        """Return the sum and count of each metric."""
        return {name: (self.sums[name], self.counts[name]) for name in self.sums}

    def numbers(self) -> dict[str, Any]:
        # One image whose output is not finite leaves no mean: it must not drop out unseen.
        bad = self.n_nonfinite > 0
        means = {
            name: NAN if bad or not self.counts[name] else self.sums[name] / self.counts[name]
            for name in self.sums
        }
        return {**means, "n_images": dict(self.counts)}


@dataclass
class _Entry:
    n_images: int
    scores: dict[str, Score]
    means: dict[str, _ImageMeans]

    @property
    def n_valid(self) -> int:
        """Pixels that count."""
        return self.scores[MODEL].n_valid

    def merge(self, other: _Entry) -> _Entry:
        return _Entry(
            self.n_images + other.n_images,
            {who: s + other.scores[who] for who, s in self.scores.items()},
            {who: m.merge(other.means[who]) for who, m in self.means.items()},
        )

    def as_dict(self) -> dict[str, Any]:
        first = next(iter(self.scores.values()))
        return {
            "n_images": self.n_images,
            "n_pixels": first.n_pixels,
            "n_valid": first.n_valid,
            "scores": {
                who: {
                    "pixels": s.numbers(),
                    "bands": s.band_numbers() if len(s.bands) > 1 else {},
                    "images": self.means[who].numbers(),
                }
                for who, s in self.scores.items()
            },
        }


class Tally:
    """Scores of a model and of its baselines, over one manifest.

    Groups keep what adds up to a few numbers; what only pages need is kept for each sensor.

    Args:
        baselines: names of the baselines, in the order of the tables.
    """

    def __init__(self, baselines: Sequence[str]) -> None:
        self.baselines = list(baselines)
        self._cells: dict[Cell, _Entry] = {}
        self._totals: dict[tuple[str, str], dict[str, Score]] = {}

    def add(self, cell: Cell, scores: Mapping[str, Score]) -> None:
        """Add one image: `model` and each baseline -> score on the same pixels."""
        means: dict[str, _ImageMeans] = {}
        for who in (MODEL, *self.baselines):
            means[who] = _ImageMeans()
            means[who].add(scores[who].numbers())
        entry = _Entry(1, {who: scores[who].light() for who in means}, means)
        self._cells[cell] = self._cells[cell].merge(entry) if cell in self._cells else entry
        key = (cell.sensor, cell.unit)
        before = self._totals.get(key)
        self._totals[key] = {
            who: scores[who] if before is None else before[who] + scores[who] for who in means
        }

    def indices(self) -> list[str]:
        """Return the names of the indices that some image allowed."""
        names: dict[str, None] = {}
        for entry in self._cells.values():
            names.update(dict.fromkeys(entry.scores[MODEL].indices))
        return list(names)

    def groups(self) -> list[dict[str, Any]]:
        """Return one record for each sensor, unit and group."""
        return [{**cell._asdict(), **entry.as_dict()} for cell, entry in self._cells.items()]

    def sensors(self, *, intervals: bool = True) -> list[dict[str, Any]]:
        """Return one record for each sensor and unit, over all pixels of its groups.

        Args:
            intervals: with those of each number, over groups.
        """
        out = []
        for (sensor, unit), cells in self._by_sensor().items():
            entries = [self._cells[c] for c in cells]
            record: dict[str, Any] = {"sensor": sensor, "unit": unit, "n_groups": len(cells)}
            record |= reduce(_Entry.merge, entries).as_dict()
            for who, score in record["scores"].items() if intervals else ():
                score["intervals"] = {
                    "pixels": of_pixels([e.scores[who] for e in entries if e.n_valid]),
                    "images": of_images([e.means[who].pairs() for e in entries if e.n_valid])
                    if not any(e.means[who].n_nonfinite for e in entries)
                    else {},
                }
            out.append(record)
        return out

    def totals(self) -> dict[tuple[str, str], dict[str, Score]]:
        """Return (sensor, unit) -> model and baselines -> score over all its images.

        These hold profiles, too, which a group does not: groups may be many.
        """
        return dict(self._totals)

    def ratios(self) -> list[dict[str, Any]]:
        """Return model / baseline for each baseline, metric, and sensor (None: all of them)."""
        return list(self._ratios())

    def _ratios(self) -> Iterator[dict[str, Any]]:
        numbers = {
            cell: {who: s.numbers() for who, s in entry.scores.items()}
            for cell, entry in self._cells.items()
        }
        scopes: list[tuple[tuple[str | None, str | None], list[Cell]]] = [
            ((None, None), list(self._cells)),
            *self._by_sensor().items(),
        ]
        for baseline in self.baselines:
            for metric, count in [("mae", "n_valid")] + [
                (f"{i}_mae", f"{i}_n") for i in self.indices()
            ]:
                for (sensor, unit), cells in scopes:
                    there = [c for c in cells if metric in numbers[c][MODEL]]
                    if not there:
                        continue
                    result = compare(
                        {c: numbers[c][MODEL][metric] for c in there},
                        {c: numbers[c][baseline][metric] for c in there},
                        {c: int(numbers[c][MODEL][count]) for c in there},
                    )
                    yield {
                        "baseline": baseline,
                        "metric": metric,
                        "sensor": sensor,
                        "unit": unit,
                        "geometric_mean": result.geometric_mean,
                        "interval": of_ratio(list(result.ratios.values())),
                        "n_groups": result.n_groups,
                        "n_won": result.n_won,
                        "n_undefined": result.n_undefined,
                        "n_empty": result.n_empty,
                        "lost": [{**c._asdict(), "ratio": r} for c, r in result.lost.items()],
                    }

    def _by_sensor(self) -> dict[tuple[str | None, str | None], list[Cell]]:
        out: dict[tuple[str | None, str | None], list[Cell]] = {}
        for cell in self._cells:
            out.setdefault((cell.sensor, cell.unit), []).append(cell)
        return out
