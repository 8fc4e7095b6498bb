"""Thresholds hold at new places: coverage on synthetic places whose pixels share an error."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from crossband.core.conformal import (
    MEAN,
    PLACES,
    PROMISES,
    coverage,
    highest_level,
    interval_score,
    mean_threshold,
    poor_below,
    threshold,
    thresholds,
    worst,
)

RUNS = 1500


def places(rng: np.random.Generator, count: int) -> list[NDArray[np.float64]]:
    """Return |error| of `count` places: one shift per place, its own noise and size."""
    sizes = rng.integers(3, 40, count)
    shift, noise = rng.normal(0, 1, count), rng.gamma(2, 0.3, count)
    return [np.abs(rng.normal(s, n, k)) for s, n, k in zip(shift, noise, sizes, strict=True)]


def subsampled_threshold(
    scores: list[NDArray[np.float64]], level: float, rng: np.random.Generator
) -> float:
    """Return the threshold of one random pixel of each place (Dunn, Wasserman, Ramdas 2018)."""
    drawn = np.sort([float(rng.choice(place)) for place in scores])
    rank = math.ceil((len(drawn) + 1) * level - 1e-9)
    return float(drawn[rank - 1]) if rank <= len(drawn) else math.inf


def coverages(
    count: int, limit: Callable[[list[NDArray[np.float64]]], float]
) -> NDArray[np.float64]:
    """Return the covered share of one new place, for many calibrations."""
    rng = np.random.default_rng(count)
    return np.array([coverage(places(rng, 1), limit(places(rng, count)))[0] for _ in range(RUNS)])


@pytest.mark.slow
@pytest.mark.parametrize("count", [9, 19, 35, 60])
def test_a_new_place_is_covered_on_average(count: int) -> None:
    found = coverages(count, lambda own: mean_threshold(own, 0.9))
    error = found.std() / math.sqrt(RUNS)
    # At least the level; at most 1 / (K + 1) more, plus what one pixel of a place adds.
    assert 0.9 - 3 * error <= found.mean() <= 0.9 + 1 / (count + 1) + 3 * error


@pytest.mark.slow
@pytest.mark.parametrize("count", [9, 19, 35, 60])
def test_few_new_places_are_covered_poorly(count: int) -> None:
    found = coverages(count, lambda own: threshold(own, 0.9))
    error = math.sqrt(0.9 * 0.1 / RUNS)
    assert np.mean(found < poor_below(0.9) - 1e-9) <= 0.1 + 3 * error
    assert found.mean() >= 0.9 - 3 * found.std() / math.sqrt(RUNS)


def test_a_mean_alone_leaves_places_covered_poorly() -> None:
    """The fault that the second risk is made against: one place in seven has half of its pixels."""
    scores = [np.array([1.0, 1.0])] * 60 + [np.array([1.0, 2.0])] * 10
    alone, both = mean_threshold(scores, 0.9), threshold(scores, 0.9)
    assert (alone, both) == (1.0, 2.0)
    assert np.mean(coverage(scores, alone) < poor_below(0.9)) > 0.1
    # Below a half no place can miss twice as much as the level allows.
    assert threshold(scores, 0.5) == mean_threshold(scores, 0.5)


@pytest.mark.slow
def test_the_stricter_promise_counts_places() -> None:
    found = coverages(30, lambda own: threshold(own, 0.8, PLACES)) >= 0.8
    error = math.sqrt(0.8 * 0.2 / RUNS)
    assert 0.8 - 3 * error <= found.mean() <= 0.8 + 1 / 31 + 3 * error


def test_pooled_pixels_cover_too_little() -> None:
    """The fault that this is made against: pixels counted as if each were a place of its own."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(400):
        pixels = [np.array([score]) for place in places(rng, 6) for score in place]
        found.append(coverage(places(rng, 1), mean_threshold(pixels, 0.8))[0])
    assert np.mean(found) < 0.8 - 2 * np.std(found) / 20


@pytest.mark.slow
def test_a_shuffled_calibration_fails() -> None:
    """Scores dealt out among places are no longer those of places, and the promise breaks."""
    rng = np.random.default_rng(2)
    kept = broken = 0.0
    for _ in range(RUNS):
        own, new = places(rng, 20), places(rng, 1)
        pixels = rng.permutation(np.concatenate(own))
        dealt = np.split(pixels, np.cumsum([len(p) for p in own])[:-1])
        kept += (coverage(new, threshold(own, 0.8, PLACES))[0] >= 0.8) / RUNS
        broken += (coverage(new, threshold(dealt, 0.8, PLACES))[0] >= 0.8) / RUNS
    assert kept >= 0.8 - 3 * math.sqrt(0.16 / RUNS)
    assert broken < 0.77


@pytest.mark.parametrize(("count", "level"), [(8, 0.9), (18, 0.95), (1, 0.6), (0, 0.5)])
@pytest.mark.parametrize("promise", [MEAN, PLACES])
def test_infinite_where_there_are_too_few_places(count: int, level: float, promise: str) -> None:
    scores = places(np.random.default_rng(0), count)
    assert math.isinf(threshold(scores, level, promise))
    assert level > highest_level(count)


@pytest.mark.parametrize(("count", "level"), [(9, 0.9), (19, 0.95), (4, 0.8), (99, 0.99)])
def test_the_highest_level_is_finite(count: int, level: float) -> None:
    scores = places(np.random.default_rng(0), count)
    assert threshold(scores, level) == max(float(place.max()) for place in scores)
    assert highest_level(count) == pytest.approx(level)


@pytest.mark.parametrize("promise", [MEAN, PLACES])
def test_monotone_in_level(promise: str) -> None:
    scores = places(np.random.default_rng(3), 40)
    found = [threshold(scores, level, promise) for level in np.arange(0.05, 0.97, 0.01)]
    assert found == sorted(found)
    assert np.isfinite(found).all()


def test_a_place_counts_once_whatever_its_size() -> None:
    scores = [np.full(1, 1.0), np.full(100_000, 2.0), np.full(10, 3.0), np.full(2, 4.0)]
    assert threshold(scores, 0.5) == 3.0
    assert threshold(scores, 0.8) == 4.0
    assert threshold(scores, 0.4) == 2.0


def test_one_pixel_per_place_is_ordinary_split_conformal() -> None:
    """The exchangeable case: the ceil((n + 1) level)-th smallest score."""
    scores = np.random.default_rng(4).normal(size=50)
    for level in (0.1, 0.5, 0.77, 0.9, 0.98):
        rank = math.ceil(51 * level - 1e-9)
        alone = [np.array([score]) for score in scores]
        assert threshold(alone, level) == np.sort(scores)[rank - 1]
        assert (
            subsampled_threshold(alone, level, np.random.default_rng(0))
            == (np.sort(scores)[rank - 1])
        )


def test_one_pixel_per_place_is_what_mapie_gives() -> None:
    """MAPIE's split conformal intervals of a regressor that always answers zero."""
    from mapie.regression import SplitConformalRegressor
    from sklearn.dummy import DummyRegressor

    errors = np.random.default_rng(6).normal(size=73)
    levels, nothing = [0.05, 0.3, 0.5, 0.8, 0.9, 0.95, 0.98], np.zeros((len(errors), 1))
    zero = DummyRegressor(strategy="constant", constant=0.0).fit(nothing, errors)
    theirs = SplitConformalRegressor(zero, confidence_level=levels, prefit=True)
    _, intervals = theirs.conformalize(nothing, errors).predict_interval(nothing[:1])
    alone = [np.array([abs(error)]) for error in errors]
    ours = [mean_threshold(alone, level) for level in levels]
    np.testing.assert_allclose(intervals[0, 1], ours, rtol=1e-12)
    np.testing.assert_allclose(intervals[0, 0], np.negative(ours), rtol=1e-12)


@pytest.mark.slow
def test_subsampling_once_agrees_on_average() -> None:
    rng = np.random.default_rng(5)
    ours, theirs = [], []
    for _ in range(RUNS):
        own, new = places(rng, 24), places(rng, 1)
        ours.append(coverage(new, mean_threshold(own, 0.85))[0])
        theirs.append(coverage(new, subsampled_threshold(own, 0.85, rng))[0])
    assert np.mean(theirs) >= 0.85 - 3 * np.std(theirs) / math.sqrt(RUNS)
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=0.02)


def test_the_interval_score_fines_what_lies_outside() -> None:
    low, high = np.zeros(3), np.ones(3)
    found = interval_score(low, high, np.array([-0.1, 0.5, 1.2]), 0.8)
    np.testing.assert_allclose(found, [2.0, 1.0, 3.0])


@pytest.mark.parametrize("sizes", [(40, 40), (40, 40, 40), (40, 23), (7, 40, 31)])
def test_the_worst_of_several_ways_at_every_threshold(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(sum(sizes))
    # Their distribution functions cross: no way is the worst one everywhere.
    ways = [np.abs(rng.normal(1.5, 1.5 / 4**n, size)) for n, size in enumerate(sizes)]
    found = worst(ways)
    assert len(found) == max(sizes)
    smallest, own = [], []
    for limit in np.linspace(0, 5, 101):
        smallest.append(min(coverage(ways, limit)))
        own.append(coverage([found], limit)[0])
    assert len(set(np.argmin([coverage(ways, limit) for limit in (1.0, 2.0)], axis=1))) > 1
    rounded = np.floor(np.array(smallest) * max(sizes) + 1e-9) / max(sizes)
    np.testing.assert_allclose(own, rounded)


@pytest.mark.parametrize("promise", PROMISES)
def test_thresholds_of_several_levels_are_those_of_each(promise: str) -> None:
    rng = np.random.default_rng(0)
    scores = [rng.gamma(2, 0.5, rng.integers(1, 50)) for _ in range(25)]
    levels = [0.5, 0.8, 0.9, 0.99]
    assert thresholds(scores, levels, promise) == [threshold(scores, x, promise) for x in levels]
    assert math.isinf(thresholds(scores, levels, promise)[-1])
    assert math.isfinite(thresholds(scores, levels, promise)[-2])
