"""How sure a number is: 95 % bootstrap intervals over groups, and paired comparisons of two.

Pixels of one scene are alike, and scenes of one place too; so what is drawn anew, with replacement,
are groups. Efron and Tibshirani 1993, percentile intervals. The draws are the same for every
metric, model and baseline of one set of groups (one seed), so that they can be held side by side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from crossband.metrics import Moments, Score
from crossband.metrics.family import Part
from crossband.metrics.moments import data_range

#: Draws, seed, and the two ends of an interval in percent.
DRAWS, SEED, ENDS = 1000, 0, (2.5, 97.5)
#: With fewer groups there is no interval: it would say more than is known.
LEAST = 5
#: Below this probability a sign test says that one is better.
LEVEL = 0.05

Array = NDArray[np.float64]
Interval = tuple[float, float]


def about() -> dict[str, Any]:
    """Return what metrics.json says of the intervals."""
    words = f"95 % percentile bootstrap over groups, {DRAWS:,} draws, from {LEAST} groups on"
    return {"draws": DRAWS, "seed": SEED, "percent": list(ENDS), "least": LEAST, "about": words}


def draws(n: int, count: int = DRAWS, seed: int = SEED) -> Array:
    """Return how often each of n groups is drawn: [count, n], each row sums to n."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n, np.full(n, 1.0 / n), size=count).astype(np.float64)


def ends(values: Array) -> Interval | None:
    """Return the interval of bootstrap values [count]; None where one of them is undefined.

    >>> ends(np.linspace(0.0, 1.0, 2001))
    (0.025, 0.975)
    """
    if not np.isfinite(values).all():
        return None
    low, high = np.percentile(values, ENDS)
    return float(low), float(high)


def of_pixels(groups: Sequence[Score]) -> dict[str, Interval]:
    """Return the intervals of metrics over all pixels.

    Args:
        groups: the score of each group, in one unit.

    Returns:
        Every metric of `Score.numbers` that is defined in every draw. Nothing for fewer than
        `LEAST` groups, or where an output is not finite.
    """
    if len(groups) < LEAST or any(g.n_nonfinite for g in groups):
        return {}
    weights = draws(len(groups))
    found = _of_moments(groups, weights)
    for name in groups[0].parts:
        if all(name in g.parts for g in groups) and not groups[0].parts[name].heavy:
            found |= _of_parts([g.parts[name] for g in groups], groups[0], weights)
    named = {name: ends(values) for name, values in found.items()}
    return {name: interval for name, interval in named.items() if interval is not None}


def _of_moments(groups: Sequence[Score], weights: Array) -> dict[str, Array]:
    """Return [draws] of what comes from moments, which do not add up number by number."""
    bands = [_Drawn.of([g.bands[b] for g in groups], weights) for b in groups[0].bands]
    n = np.sum([b.n for b in bands], axis=0)
    found: dict[str, Array] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        found["mae"] = np.sum([b.absolute for b in bands], axis=0) / n
        found["bias"] = np.sum([b.error for b in bands], axis=0) / n
        mse = np.sum([b.square for b in bands], axis=0) / n
        found["rmse"] = np.sqrt(mse)
        found["psnr"] = 10.0 * np.log10(data_range(groups[0].unit) ** 2 / mse)
        found["r2"] = np.mean([b.r2 for b in bands], axis=0)
        found["r"] = np.mean([b.r for b in bands], axis=0)
        for name in groups[0].indices:
            if all(name in g.indices for g in groups):
                drawn = _Drawn.of([g.indices[name] for g in groups], weights)
                found[f"{name}_mae"] = drawn.absolute / drawn.n
                found[f"{name}_bias"] = drawn.error / drawn.n
                found[f"{name}_rmse"] = np.sqrt(drawn.square / drawn.n)
                found[f"{name}_r2"], found[f"{name}_r"] = drawn.r2, drawn.r
    return found


def _of_parts(parts: Sequence[Part], score: Score, weights: Array) -> dict[str, Array]:
    """Return [draws] of the numbers of a family whose sums add up number by number."""
    sums = [_flat(part) for part in parts]
    if any(s is None or s.keys() != sums[0].keys() for s in sums):  # type: ignore[union-attr]
        return {}
    leaves = {k: np.stack([s[k] for s in sums if s is not None]) for k in sums[0] or {}}
    drawn = {k: np.tensordot(weights, v, axes=1) for k, v in leaves.items()}
    told = [
        _rebuilt(parts[0], {k: v[row] for k, v in drawn.items()}).numbers(score.unit, score.scale)
        for row in range(len(weights))
    ]
    return {name: np.array([t[name] for t in told]) for name in told[0]} if told else {}


def _flat(part: Part) -> dict[tuple[str, str], NDArray[Any]] | None:
    """Return the sums of a part by field and key; None where one is no number."""
    out: dict[tuple[str, str], NDArray[Any]] = {}
    for f in fields(part):
        value = getattr(part, f.name)
        for key, leaf in value.items() if isinstance(value, dict) else [("", value)]:
            array = np.asarray(leaf)
            if array.dtype == object:
                return None
            out[f.name, key] = array
    return out


def _rebuilt(like: Part, leaves: Mapping[tuple[str, str], Any]) -> Part:
    made: dict[str, Any] = {}
    for f in fields(like):
        own = {key: leaf for (name, key), leaf in leaves.items() if name == f.name}
        made[f.name] = own if isinstance(getattr(like, f.name), dict) else own[""]
    return type(like)(**made)


@dataclass(frozen=True)
class _Drawn:
    """Sums of `Moments` over the groups of each draw, arrays [draws]."""

    n: Array
    absolute: Array
    error: Array
    square: Array
    m2_p: Array
    m2_t: Array
    c_pt: Array

    @property
    def r2(self) -> Array:
        """R2 of each draw."""
        return 1.0 - self.square / self.m2_t

    @property
    def r(self) -> Array:
        """Pearson's r of each draw."""
        return np.asarray(self.c_pt / np.sqrt(self.m2_p * self.m2_t))

    @classmethod
    def of(cls, groups: Sequence[Moments], weights: Array) -> _Drawn:
        table = {k: np.array([vars(m)[k] for m in groups], np.float64) for k in vars(groups[0])}
        n = weights @ table["n"]
        total = max(float(table["n"].sum()), 1.0)

        def around(one: str, two: str) -> tuple[Array, Array, Array]:
            """Deviations of the groups' means from one centre: squares lose no digits then."""
            a = table[one] - float((table["n"] * table[one]).sum()) / total
            b = table[two] - float((table["n"] * table[two]).sum()) / total
            return table["n"] * a, table["n"] * b, table["n"] * a * b

        def central(within: str, one: str, two: str) -> Array:
            a, b, product = around(one, two)
            with np.errstate(divide="ignore", invalid="ignore"):
                between: Array = weights @ (table[within] + product)
                out: Array = between - (weights @ a) * (weights @ b) / n
            return out

        return cls(
            n,
            weights @ table["abs_error"],
            weights @ table["error"],
            weights @ table["square_error"],
            central("m2_p", "mean_p", "mean_p"),
            central("m2_t", "mean_t", "mean_t"),
            central("c_pt", "mean_p", "mean_t"),
        )


def of_images(groups: Sequence[Mapping[str, tuple[float, int]]]) -> dict[str, Interval]:
    """Return the intervals of means over images.

    Args:
        groups: for each group and metric the sum over its images, and how many define it.

    Returns:
        Each metric that is defined in every draw. Nothing for fewer than `LEAST` groups.
    """
    if len(groups) < LEAST:
        return {}
    weights = draws(len(groups))
    out = {}
    for name in dict.fromkeys(name for g in groups for name in g):
        sums = np.array([g.get(name, (0.0, 0)) for g in groups], np.float64)
        total = weights @ sums
        with np.errstate(divide="ignore", invalid="ignore"):
            interval = ends(total[:, 0] / total[:, 1])
        if interval is not None:
            out[name] = interval
    return out


def of_ratio(ratios: Sequence[float]) -> Interval | None:
    """Return the interval of a geometric mean of ratios, each group counting once."""
    if len(ratios) < LEAST or not all(0 < r < math.inf for r in ratios):
        return None
    logs = np.log(np.asarray(ratios))
    interval = ends(draws(len(ratios)) @ logs / len(ratios))
    return None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))


@dataclass(frozen=True)
class Paired:
    """Two models on the same groups: a metric of the one minus, or over, that of the other.

    Attributes:
        value: mean difference, or geometric mean of the ratios.
        interval: of it; None for fewer than `LEAST` groups.
        even: the value that says that they are alike: 0, or 1.
        n_groups: groups in which both are defined.
        n_better: of these, groups in which the first is better.
        n_worse: and worse.
        p: of a two-sided sign test; groups with no difference are left out of it, and where none
            is left it is 1.
    """

    value: float
    interval: Interval | None
    even: float
    n_groups: int
    n_better: int
    n_worse: int
    p: float

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `tie`: interval and sign test must both say so."""
        if self.interval is None or self.interval[0] <= self.even <= self.interval[1]:
            return "tie"
        if self.p >= LEVEL:
            return "tie"
        return "better" if self.n_better > self.n_worse else "worse"


def difference(one: Sequence[float], two: Sequence[float], *, less: bool = True) -> Paired:
    """Compare a metric of two models, group by group, in its own unit.

    Args:
        one: of the first model, finite, one number for each group.
        two: of the second, on the same groups.
        less: less is better.

    >>> difference([1.0, 2.0], [2.0, 2.0]).value
    -0.5
    """
    apart = np.asarray(one, np.float64) - np.asarray(two, np.float64)
    interval = ends(draws(len(apart)) @ apart / len(apart)) if len(apart) >= LEAST else None
    value = float(apart.mean()) if len(apart) else math.nan
    return Paired(value, interval, 0.0, len(apart), *_signs(apart, less))


def ratio(one: Sequence[float], two: Sequence[float]) -> Paired:
    """Compare an error of two models over groups of any units; less is better.

    Args:
        one: of the first model, above 0, one number for each group.
        two: of the second, on the same groups.
    """
    logs = np.log(np.asarray(one, np.float64)) - np.log(np.asarray(two, np.float64))
    value = math.exp(float(logs.mean())) if len(logs) else math.nan
    return Paired(value, of_ratio(list(np.exp(logs))), 1.0, len(logs), *_signs(logs, less=True))


def _signs(apart: Array, less: bool) -> tuple[int, int, float]:
    """Return in how many groups the first is better and worse, and the sign test's p."""
    below, above = int((apart < 0).sum()), int((apart > 0).sum())
    p = float(stats.binomtest(below, below + above).pvalue) if below + above else 1.0
    return (below, above, p) if less else (above, below, p)
