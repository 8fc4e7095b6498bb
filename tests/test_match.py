"""Spectral matching: the reference's distribution, under masks, fitted coarse, used fine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossband.errors import InputError, RecipeError
from crossband.raster.match import FEWEST, Match, fit, histogram, linear


def scene(seed=0, bands=3, side=80):
    """Skewed values in 0..1 [C, H, W], float32."""
    rng = np.random.default_rng(seed)
    return rng.beta(2, 5, (bands, side, side)).astype(np.float32)


@pytest.mark.parametrize("method", ["histogram", "linear"])
def test_a_band_that_differs_by_rounding_alone_is_only_shifted(method):
    """Its gain was millions: of a constant band some pixels differ in their last bit."""
    x = np.full((1, 40, 40), 0.3, np.float32)
    x[:, ::2] = np.nextafter(np.float32(0.3), np.float32(1))
    y = 0.305 + 0.02 * scene(bands=1, side=40)
    made = fit(method, x, y).apply(x)
    np.testing.assert_allclose(made, y.mean(), atol=1e-3)
    assert fit(method, x, y).slope[0] < 2


GAIN = np.array([0.5, 2.0, 1.0], dtype=np.float32)[:, None, None]
OFFSET = np.array([0.1, -0.2, 0.0], dtype=np.float32)[:, None, None]


@pytest.mark.parametrize("method", ["histogram", "linear"])
def test_a_linear_difference_is_undone(method):
    x = scene()
    out = fit(method, x, x * GAIN + OFFSET).apply(x)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, x * GAIN + OFFSET, atol=2e-3)


def test_histogram_undoes_any_rising_curve_and_linear_does_not():
    x = scene()
    y = np.sqrt(x) * 0.8
    error = np.abs(histogram(x, y).apply(x) - y)
    assert np.quantile(error, 0.99) < 2e-3
    assert error.max() < 0.05  # beyond the outermost quantiles the curve is a guess
    off = np.abs(linear(x, y).apply(x) - y)
    assert off.max() > 0.02
    moments = linear(x, y).apply(x)
    np.testing.assert_allclose(moments.mean((1, 2)), y.mean((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(moments.std((1, 2)), y.std((1, 2)), rtol=1e-4)


def test_the_places_need_not_agree():
    """Another scene with other values: the distribution becomes the reference's."""
    x, y = scene(0), scene(1) ** 2 + 0.1
    out = histogram(x, y).apply(x)
    for share in (0.01, 0.25, 0.5, 0.75, 0.99):
        np.testing.assert_allclose(
            np.quantile(out, share, axis=(1, 2)), np.quantile(y, share, axis=(1, 2)), atol=8e-3
        )


def test_linear_keeps_the_contrast_where_the_correlation_is_weak():
    x = scene()
    noisy = x + np.random.default_rng(1).normal(0, 0.15, x.shape).astype(np.float32)
    out = linear(x, noisy).apply(x)
    np.testing.assert_allclose(out.std((1, 2)), noisy.std((1, 2)), rtol=1e-4)


@pytest.mark.parametrize("method", [histogram, linear])
def test_masked_pixels_and_nan_say_nothing(method):
    x, y = scene(), scene(1)
    mask = np.ones((80, 80), bool)
    mask[:30] = False
    spoilt_x, spoilt_y = x.copy(), y.copy()
    spoilt_x[:, :30], spoilt_y[:, :30] = 99.0, -99.0
    spoilt_x[1, 40, 40] = np.nan
    spoilt_y[2, 50, 50] = np.inf
    clean = mask.copy()
    clean[40, 40] = clean[50, 50] = False
    a, b = method(spoilt_x, spoilt_y, mask), method(x, y, clean)
    np.testing.assert_array_equal(a.apply(x), b.apply(x))
    out = a.apply(spoilt_x)
    assert np.isnan(out[1, 40, 40])
    assert np.isfinite(out[0]).all()


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9]), min_size=FEWEST, max_size=64),
    st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_histogram_never_falls_whatever_the_ties(values, seed):
    x = np.array(values, dtype=np.float32)[None, None]
    y = np.random.default_rng(seed).uniform(0, 1, x.shape)
    line = np.linspace(-1, 2, 301, dtype=np.float32)[None, None]
    out = histogram(x, y).apply(line)[0, 0]
    assert (np.diff(out) >= -1e-6).all()
    assert np.isfinite(out).all()


def test_beyond_the_fitted_range_the_curve_goes_on():
    x = scene()
    match = histogram(x, 2 * x + 1)
    far = np.array([-1.0, 3.0], dtype=np.float32).reshape(1, 1, 2).repeat(3, 0)
    np.testing.assert_allclose(match.apply(far)[0, 0], [-1.0, 7.0], atol=1e-3)


@pytest.mark.parametrize("method", [histogram, linear])
def test_a_constant_band_is_moved(method):
    x = np.full((1, 8, 8), 0.3, dtype=np.float32)
    y = scene(bands=1, side=8)
    out = method(x, y).apply(x + 0.1)
    np.testing.assert_allclose(out, y.mean() + 0.1, atol=5e-3)


def test_fitted_coarse_applied_fine_in_blocks():
    fine = scene(side=96)
    coarse = fine.reshape(3, 24, 4, 24, 4).mean((2, 4))
    match = histogram(coarse, coarse * GAIN + OFFSET)
    whole = match.apply(fine)
    np.testing.assert_array_equal(match.apply(fine[:, 10:30, 5:50]), whole[:, 10:30, 5:50])
    np.testing.assert_allclose(whole, fine * GAIN + OFFSET, atol=3e-3)


def test_wrong_input_is_one_line():
    x = scene()
    with pytest.raises(InputError, match="two images of one shape"):
        linear(x, x[:2])
    mask = np.zeros((80, 80), bool)
    mask[0, : FEWEST - 1] = True
    with pytest.raises(InputError, match="only 15 pixels are valid"):
        histogram(x, x, mask)
    mask[0, FEWEST - 1] = True
    assert isinstance(histogram(x, x, mask), Match)
    with pytest.raises(RecipeError, match="did you mean 'histogram'"):
        fit("histogramm", x, x)
    with pytest.raises(InputError, match="a match of 3 bands got 2"):
        linear(x, x).apply(x[:2])
