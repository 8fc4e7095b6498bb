"""Scores of many images, added up by sensor, unit and group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, NamedTuple

from crossband.evaluation.comparison import compare_to_baseline
from crossband.evaluation.intervals import image_intervals, pixel_intervals, ratio_interval
from crossband.metrics import COUNTS, MODEL, Score
from crossband.metrics.moments import NAN, Additive


class GroupKey(NamedTuple):
    """Images whose scores are added up: one group, one sensor, one unit."""

    sensor: str
    unit: str
    group: str


@dataclass(frozen=True, eq=False)
class _ImageMeans(Additive):
    """Sums of each metric over images, for the mean over images.

    Attributes:
        sums: metric -> sum over the images in which it is defined.
        counts: metric -> number of these images.
        n_nonfinite: number of pixels at which the output is not finite.
    """

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    n_nonfinite: int = 0

    @classmethod
    def of(cls, numbers: Mapping[str, float | int]) -> _ImageMeans:
        """Return the sums of one image."""
        metrics = {k: v for k, v in numbers.items() if k not in COUNTS and not k.endswith("_n")}
        return cls(
            {name: 0.0 if math.isnan(value) else value for name, value in metrics.items()},
            {name: int(not math.isnan(value)) for name, value in metrics.items()},
            int(numbers["n_nonfinite"]),
        )

    def pairs(self) -> dict[str, tuple[float, int]]:
        """Return metric -> (sum, number of images)."""
        return {name: (self.sums[name], self.counts[name]) for name in self.sums}

    def numbers(self) -> dict[str, Any]:
        """Return the mean of each metric.

        If the output of one image is not finite, the means are NaN. Without this, that image would
        be left out of the means.
        """
        undefined = self.n_nonfinite > 0
        means = {
            name: NAN if undefined or not self.counts[name] else self.sums[name] / self.counts[name]
            for name in self.sums
        }
        return {**means, "n_images": dict(self.counts)}


@dataclass(frozen=True, eq=False)
class _GroupScores(Additive):
    """Scores of model and baselines over the images of one or more groups."""

    n_images: int
    scores: dict[str, Score]
    means: dict[str, _ImageMeans]

    @property
    def n_valid(self) -> int:
        """Number of valid pixels."""
        return self.scores[MODEL].n_valid

    def as_dict(self) -> dict[str, Any]:
        first = next(iter(self.scores.values()))
        return {
            "n_images": self.n_images,
            "n_pixels": first.n_pixels,
            "n_valid": first.n_valid,
            "scores": {
                name: {
                    "pixels": score.numbers(),
                    "bands": score.band_numbers() if len(score.bands) > 1 else {},
                    "images": self.means[name].numbers(),
                }
                for name, score in self.scores.items()
            },
        }


class Aggregate:
    """Scores of a model and of its baselines over one manifest.

    Groups store a few numbers for each metric. What only the report page needs (error profiles) is
    stored for each sensor.

    Args:
        baselines: names of the baselines, in the order of the tables.
    """

    def __init__(self, baselines: Sequence[str]) -> None:
        self.baselines = list(baselines)
        self._groups: dict[GroupKey, _GroupScores] = {}
        self._totals: dict[tuple[str, str], dict[str, Score]] = {}

    def add(self, key: GroupKey, scores: Mapping[str, Score]) -> None:
        """Add one image.

        Args:
            key: its sensor, unit and group.
            scores: `model` and each baseline -> score on the same pixels.
        """
        scores = {name: scores[name] for name in (MODEL, *self.baselines)}
        image = _GroupScores(
            1,
            {name: score.light() for name, score in scores.items()},
            {name: _ImageMeans.of(score.numbers()) for name, score in scores.items()},
        )
        self._groups[key] = self._groups[key] + image if key in self._groups else image
        total = self._totals.get((key.sensor, key.unit))
        self._totals[key.sensor, key.unit] = (
            scores
            if total is None
            else {name: total[name] + score for name, score in scores.items()}
        )

    def indices(self) -> list[str]:
        """Return the names of the indices that at least one image has."""
        names: dict[str, None] = {}
        for group in self._groups.values():
            names.update(dict.fromkeys(group.scores[MODEL].indices))
        return list(names)

    def groups(self) -> list[dict[str, Any]]:
        """Return one record for each sensor, unit and group."""
        return [{**key._asdict(), **group.as_dict()} for key, group in self._groups.items()]

    def sensors(self) -> list[dict[str, Any]]:
        """Return one record for each sensor and unit, over all its groups, with intervals."""
        out = []
        for (sensor, unit), keys in self._by_sensor().items():
            groups = [self._groups[key] for key in keys]
            valid = [group for group in groups if group.n_valid]
            record: dict[str, Any] = {"sensor": sensor, "unit": unit, "n_groups": len(keys)}
            record |= reduce(add, groups).as_dict()
            for name, score in record["scores"].items():
                finite = not any(group.means[name].n_nonfinite for group in groups)
                score["intervals"] = {
                    "pixels": pixel_intervals([group.scores[name] for group in valid]),
                    "images": image_intervals([group.means[name].pairs() for group in valid])
                    if finite
                    else {},
                }
            out.append(record)
        return out

    def totals(self) -> dict[tuple[str, str], dict[str, Score]]:
        """Return (sensor, unit) -> model and baselines -> score over all its images.

        These scores hold error profiles. The scores of groups do not, because groups may be many.
        """
        return dict(self._totals)

    def ratios(self) -> list[dict[str, Any]]:
        """Return model / baseline for each baseline, metric, and sensor (None: all sensors)."""
        return list(self._ratios())

    def _ratios(self) -> Iterator[dict[str, Any]]:
        numbers = {
            key: {name: score.numbers() for name, score in group.scores.items()}
            for key, group in self._groups.items()
        }
        scopes: list[tuple[tuple[str | None, str | None], list[GroupKey]]] = [
            ((None, None), list(self._groups)),
            *self._by_sensor().items(),
        ]
        metrics = [("mae", "n_valid"), *((f"{i}_mae", f"{i}_n") for i in self.indices())]
        for baseline in self.baselines:
            for metric, count in metrics:
                for (sensor, unit), keys in scopes:
                    available = [k for k in keys if metric in numbers[k][MODEL]]
                    if not available:
                        continue
                    result = compare_to_baseline(
                        {k: numbers[k][MODEL][metric] for k in available},
                        {k: numbers[k][baseline][metric] for k in available},
                        {k: int(numbers[k][MODEL][count]) for k in available},
                        lambda key: key.group,  # seen by several sensors, it counts once
                    )
                    yield {
                        "baseline": baseline,
                        "metric": metric,
                        "sensor": sensor,
                        "unit": unit,
                        "geometric_mean": result.geometric_mean,
                        "interval": ratio_interval(list(result.ratios.values())),
                        "n_groups": result.n_groups,
                        "n_won": result.n_won,
                        "n_undefined": result.n_undefined,
                        "n_empty": result.n_empty,
                        "lost": [
                            {**_seen_by(available, group), "group": group, "ratio": ratio}
                            for group, ratio in result.lost.items()
                        ],
                    }

    def _by_sensor(self) -> dict[tuple[str | None, str | None], list[GroupKey]]:
        out: dict[tuple[str | None, str | None], list[GroupKey]] = {}
        for key in self._groups:
            out.setdefault((key.sensor, key.unit), []).append(key)
        return out


def _seen_by(keys: Iterable[GroupKey], group: str) -> dict[str, str | None]:
    """Return sensor and unit of a group; None where it has several."""
    own = [key for key in keys if key.group == group]
    sensors, units = {key.sensor for key in own}, {key.unit for key in own}
    return {
        "sensor": sensors.pop() if len(sensors) == 1 else None,
        "unit": units.pop() if len(units) == 1 else None,
    }
