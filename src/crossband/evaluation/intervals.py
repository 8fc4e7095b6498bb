"""95 % bootstrap intervals over groups.

Pixels of one scene are similar, and so are scenes of one place. So groups are resampled with
replacement, not pixels (percentile intervals, Efron and Tibshirani 1993). The seed is fixed: all
metrics, models and baselines over the same groups have the same samples and can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossband.metrics import Moments, Score
from crossband.metrics.family import Sums
from crossband.metrics.moments import data_range

#: Number of bootstrap samples, seed, and the two percentiles of an interval.
SAMPLES, SEED, PERCENTILES = 1000, 0, (2.5, 97.5)
#: Smallest number of groups for an interval; with fewer groups it would be too narrow.
MIN_GROUPS = 5

Array = NDArray[np.float64]
Interval = tuple[float, float]


def about() -> dict[str, Any]:
    """Return the description of the intervals for metrics.json."""
    return {
        "draws": SAMPLES,
        "seed": SEED,
        "percent": list(PERCENTILES),
        "least": MIN_GROUPS,
        "about": (
            f"95 % percentile bootstrap over groups, {SAMPLES:,} draws, from {MIN_GROUPS} groups on"
        ),
    }


def bootstrap_weights(n: int) -> Array:
    """Return how often each of n groups is in each sample: [SAMPLES, n]; rows sum to n."""
    rng = np.random.default_rng(SEED)
    return rng.multinomial(n, np.full(n, 1.0 / n), size=SAMPLES).astype(np.float64)


def percentile_interval(values: Array) -> Interval | None:
    """Return the interval of the values [samples]; None if one of them is not finite.

    >>> percentile_interval(np.linspace(0.0, 1.0, 2001))
    (0.025, 0.975)
    """
    if not np.isfinite(values).all():
        return None
    low, high = np.percentile(values, PERCENTILES)
    return float(low), float(high)


def pixel_intervals(groups: Sequence[Score]) -> dict[str, Interval]:
    """Return the intervals of metrics over all pixels.

    Args:
        groups: the score of each group, all in one unit.

    Returns:
        Intervals of the metrics of `Score.numbers` that are defined in every sample. Empty for
        fewer than `MIN_GROUPS` groups, or if an output is not finite.
    """
    if len(groups) < MIN_GROUPS or any(g.n_nonfinite for g in groups):
        return {}
    weights = bootstrap_weights(len(groups))
    values = _moment_metrics(groups, weights)
    for name, sums in groups[0].sums.items():
        if all(name in g.sums for g in groups) and not sums.report_only:
            values |= _sum_metrics([g.sums[name] for g in groups], groups[0], weights)
    return _defined_intervals(values)


def _defined_intervals(values: Mapping[str, Array]) -> dict[str, Interval]:
    """Return name -> interval of the values [samples], without those that are not finite."""
    intervals = {name: percentile_interval(v) for name, v in values.items()}
    return {name: interval for name, interval in intervals.items() if interval is not None}


def _moment_metrics(groups: Sequence[Score], weights: Array) -> dict[str, Array]:
    """Return metric -> [samples] for metrics from moments, whose fields are not plain sums."""
    bands = [_SampledMoments.of([g.bands[b] for g in groups], weights) for b in groups[0].bands]
    n = np.sum([b.n for b in bands], axis=0)
    values: dict[str, Array] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        values["mae"] = np.sum([b.absolute for b in bands], axis=0) / n
        values["bias"] = np.sum([b.error for b in bands], axis=0) / n
        mse = np.sum([b.square for b in bands], axis=0) / n
        values["rmse"] = np.sqrt(mse)
        values["psnr"] = 10.0 * np.log10(data_range(groups[0].unit) ** 2 / mse)
        values["r2"] = np.mean([b.r2 for b in bands], axis=0)
        values["r"] = np.mean([b.r for b in bands], axis=0)
        for name in groups[0].indices:
            if all(name in g.indices for g in groups):
                index = _SampledMoments.of([g.indices[name] for g in groups], weights)
                values[f"{name}_mae"] = index.absolute / index.n
                values[f"{name}_bias"] = index.error / index.n
                values[f"{name}_rmse"] = np.sqrt(index.square / index.n)
                values[f"{name}_r2"], values[f"{name}_r"] = index.r2, index.r
    return values


def _sum_metrics(groups: Sequence[Sums], score: Score, weights: Array) -> dict[str, Array]:
    """Return metric -> [samples] for a family whose fields are plain sums; else nothing."""
    arrays = [_to_arrays(sums) for sums in groups]
    if any(a is None or a.keys() != arrays[0].keys() for a in arrays):  # type: ignore[union-attr]
        return {}
    stacked = {k: np.stack([a[k] for a in arrays if a is not None]) for k in arrays[0] or {}}
    sampled = {k: np.tensordot(weights, v, axes=1) for k, v in stacked.items()}
    numbers = [
        _from_arrays(groups[0], {k: v[row] for k, v in sampled.items()}).numbers(
            score.unit, score.scale
        )
        for row in range(len(weights))
    ]
    return {name: np.array([n[name] for n in numbers]) for name in numbers[0]} if numbers else {}


def _to_arrays(sums: Sums) -> dict[tuple[str, str], NDArray[Any]] | None:
    """Return the sums by field and key; None if one of them is not numeric."""
    out: dict[tuple[str, str], NDArray[Any]] = {}
    for f in fields(sums):
        value = getattr(sums, f.name)
        for key, leaf in value.items() if isinstance(value, dict) else [("", value)]:
            array = np.asarray(leaf)
            if array.dtype == object:
                return None
            out[f.name, key] = array
    return out


def _from_arrays(like: Sums, arrays: Mapping[tuple[str, str], Any]) -> Sums:
    values: dict[str, Any] = {}
    for f in fields(like):
        by_key = {key: leaf for (name, key), leaf in arrays.items() if name == f.name}
        values[f.name] = by_key if isinstance(getattr(like, f.name), dict) else by_key[""]
    return type(like)(**values)


@dataclass(frozen=True)
class _SampledMoments:
    """Sums of `Moments` over the groups of each sample, arrays [samples]."""

    n: Array
    absolute: Array
    error: Array
    square: Array
    m2_p: Array
    m2_t: Array
    c_pt: Array

    @property
    def r2(self) -> Array:
        """R2 of each sample."""
        return 1.0 - self.square / self.m2_t

    @property
    def r(self) -> Array:
        """Pearson's r of each sample."""
        return np.asarray(self.c_pt / np.sqrt(self.m2_p * self.m2_t))

    @classmethod
    def of(cls, groups: Sequence[Moments], weights: Array) -> _SampledMoments:
        column = {k: np.array([vars(m)[k] for m in groups], np.float64) for k in vars(groups[0])}
        n = weights @ column["n"]
        total = max(float(column["n"].sum()), 1.0)

        def centred(mean: str) -> Array:
            """Deviations of the groups' means from the total mean, so that squares keep digits."""
            return column[mean] - float((column["n"] * column[mean]).sum()) / total

        def central_moment(within: str, first: str, second: str) -> Array:
            a, b = column["n"] * centred(first), centred(second)
            with np.errstate(divide="ignore", invalid="ignore"):
                moment: Array = weights @ (column[within] + a * b)
                return np.asarray(moment - (weights @ a) * (weights @ (column["n"] * b)) / n)

        return cls(
            n,
            weights @ column["abs_error"],
            weights @ column["error"],
            weights @ column["square_error"],
            central_moment("m2_p", "mean_p", "mean_p"),
            central_moment("m2_t", "mean_t", "mean_t"),
            central_moment("c_pt", "mean_p", "mean_t"),
        )


def image_intervals(groups: Sequence[Mapping[str, tuple[float, int]]]) -> dict[str, Interval]:
    """Return the intervals of means over images.

    Args:
        groups: for each group: metric -> sum over its images, and number of images.

    Returns:
        Intervals of the metrics that are defined in every sample. Empty for fewer than
        `MIN_GROUPS` groups.
    """
    if len(groups) < MIN_GROUPS:
        return {}
    weights = bootstrap_weights(len(groups))
    means = {}
    for name in dict.fromkeys(name for g in groups for name in g):
        with np.errstate(divide="ignore", invalid="ignore"):  # the PSNR of equal images is infinite
            sums = weights @ np.array([g.get(name, (0.0, 0)) for g in groups], np.float64)
            means[name] = sums[:, 0] / sums[:, 1]
    return _defined_intervals(means)


def mean_interval(values: Sequence[float] | Array) -> Interval | None:
    """Return the interval of a mean over groups; None for fewer than `MIN_GROUPS` groups."""
    n = len(values)
    return percentile_interval(bootstrap_weights(n) @ values / n) if n >= MIN_GROUPS else None


def ratio_interval(ratios: Sequence[float]) -> Interval | None:
    """Return the interval of a geometric mean of ratios over groups.

    None for fewer than `MIN_GROUPS` groups, or if a ratio is 0 or not finite.
    """
    if not all(0 < r < math.inf for r in ratios):
        return None
    interval = mean_interval(np.log(np.asarray(ratios)))
    return None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))
