"""--guide by residual: the fine detail of the source, the values of a measurement."""

from __future__ import annotations

import errno
import warnings

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from rasterio.warp import Resampling, reproject
from rio_cogeo.cogeo import cog_validate
from scipy.ndimage import gaussian_filter
from tiers import slow

from crossband import Model
from crossband.core.signature import Signature, UnitRange
from crossband.errors import CrossbandWarning, OutputError
from crossband.networks.generators.per_pixel import PerPixelLinear
from crossband.raster import compare
from crossband.raster.grid import Grid, Window
from crossband.raster.open import open_scene
from crossband.raster.point_spread import kernel, read_as_seen
from crossband.raster.warp import WindowRaster
from crossband.translate import guiding
from crossband.translate.difference import OVERSHOOT, add, subtract
from crossband.translate.residual import _REACH, fill, sharpen

FINE = Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 5_000_000.0)
RGB = ("red", "green", "blue")


def smooth(height, width, seed=0, sizes=(0.7, 3, 12, 40)):
    """Return a picture with structure of many sizes, 0.05 to 0.5."""
    rng = np.random.default_rng(seed)
    out = sum(s * gaussian_filter(rng.normal(size=(height, width)), s) * 4 for s in sizes)
    return (0.05 + 0.45 * ((out - out.min()) / np.ptp(out)) ** 2).astype(np.float32)


def linear(gain, constant):
    """Return a model that takes red, green and blue: nir = gain * green + constant."""
    network = PerPixelLinear()
    network.set_solution(torch.tensor([[0.0], [gain], [0.0], [constant]]))
    ranges = UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)])
    units = {"reflectance": ranges, "display": ranges}
    return Model(network, Signature(list(RGB), ["nir"], units), name="line", task="rgb2nir")


@pytest.fixture
def pair(make_raster):
    """Return a scene, its green band, and a near infrared that no line in green can know."""
    green, other = smooth(240, 280), smooth(240, 280, 1, (20, 40))
    nir = (green * (0.7 + 1.2 * other)).astype(np.float32)
    source = make_raster("rgb.tif", np.stack([green] * 3), names=RGB, transform=FINE)
    return source, green, nir


def measured(make_raster, values, by=8, name="guide.tif", **options):
    """Write what a sensor of pixels `by` times coarser saw."""
    bands = values if values.ndim == 3 else values[None]
    names = (*RGB, "nir") if len(bands) == 4 else ("nir",)
    fine = make_raster(f"fine-{name}", bands, names=names, transform=FINE)
    with open_scene(fine, needed=names) as scene:
        window = read_as_seen(scene, scene.grid.shrink(by), by)
    given = {"names": names, "transform": FINE @ Affine.scale(by)} | options
    values = np.where(window.mask, window.values, np.float32(np.nan))
    return make_raster(name, values, nodata=np.nan, **given)


def open_nir(path):
    return open_scene(path, needed=["nir"])


def read(path):
    with rasterio.open(path) as file:
        return file.read(1, masked=True), file.tags()


def translated(model, source, out, guide=None, **options):
    return read(model.translate(source, out, guide=guide, precision="fp32", **options))


def test_the_result_agrees_with_its_guide_and_is_better_than_both(make_raster, pair, tmp_path):
    source, _, nir = pair
    guide, model = measured(make_raster, nir), linear(1.0, 0.0)
    alone, _ = translated(model, source, tmp_path / "a.tif")
    found, tags = translated(model, source, tmp_path / "o.tif", guide)
    assert cog_validate(tmp_path / "o.tif", strict=True)[0]
    with open_nir(tmp_path / "o.tif") as scene, open_nir(guide) as coarse:
        again = read_as_seen(scene, coarse.grid, 8).values
        enlarged = np.kron(coarse.read(coarse.grid.box).values[0], np.ones((8, 8)))
        assert np.abs(again - coarse.read(coarse.grid.box).values).mean() < 2e-3
    error = [np.abs(x - nir).mean() for x in (found, alone, enlarged)]
    assert error[0] < 0.2 * error[1]
    assert error[0] < 0.35 * error[2]
    name, method, count, agreement, remaining = tags["CROSSBAND_GUIDED"].split(", ")
    assert (name, method, count) == ("guide.tif", "difference", "1050 pixels")
    assert float(agreement.removeprefix("agreement ")) > 0.9
    assert float(remaining.removeprefix("remaining difference ")) < 2e-3
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_the_windows_do_not_show(make_raster, pair, tmp_path, monkeypatch):
    source, _, nir = pair
    nir = np.where(np.hypot(*np.mgrid[-100:140, -90:190]) < 40, np.nan, nir)
    guide, model = measured(make_raster, nir), linear(1.0, 0.0)
    whole, _ = translated(model, source, tmp_path / "a.tif", guide)
    monkeypatch.setattr(guiding, "SIDE", 50)
    monkeypatch.setattr("crossband.translate.residual.SIDE", 96)
    parts, _ = translated(model, source, tmp_path / "b.tif", guide)
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_holes_are_filled_from_around_and_far_away_the_model_answers(make_raster, pair, tmp_path):
    source, green, _ = pair
    more = add(green, np.float32(0.4), "reflectance")
    guide = measured(make_raster, np.where(np.arange(280) < 100, more, np.nan), by=4)
    found, _ = translated(linear(1.0, 0.0), source, tmp_path / "o.tif", guide)
    gain = subtract(found.filled(0), green, "reflectance").mean(axis=0)
    assert found.count() == green.size
    np.testing.assert_allclose(gain[:90], 0.4, atol=5e-3)
    assert np.all(np.diff(gain[96:].reshape(-1, 4).mean(axis=1)) < 1e-3)  # it falls
    np.testing.assert_allclose(gain[100 + 4 * _REACH :], 0, atol=1e-6)


@pytest.mark.parametrize("crs", [slow("EPSG:32633"), "EPSG:4326"])
def test_a_guide_in_another_projection_and_turned(make_raster, pair, tmp_path, crs):
    source, green, _ = pair
    turned = Affine.translation(499_900, 5_000_060) @ Affine.rotation(-20) @ Affine.scale(6, -6)
    transform = turned if crs == "EPSG:32633" else Affine(6e-5, 0, 14.999, 0, -6e-5, 45.1535)
    seen = np.zeros((90, 110), np.float32)
    more = add(green, np.float32(0.4), "reflectance")
    reproject(
        more, seen, src_transform=FINE, src_crs="EPSG:32633", dst_transform=transform,
        dst_crs=crs, resampling=Resampling.average,
    )  # fmt: skip
    guide = make_raster("g.tif", seen[None], names=("nir",), crs=crs, transform=transform, nodata=0)
    found, tags = translated(linear(1.0, 0.0), source, tmp_path / "o.tif", guide)
    assert "remaining difference" in tags["CROSSBAND_GUIDED"]
    inner = np.abs(found - more)[40:-40, 40:-40]
    assert inner.mean() < 0.015


def test_a_guide_that_is_finer(make_raster, pair, tmp_path):
    _, green, nir = pair
    coarse = [x.reshape(60, 4, 70, 4).mean((1, 3)) for x in (green, nir)]
    source = make_raster(
        "c.tif", np.stack([coarse[0]] * 3), names=RGB, transform=FINE @ Affine.scale(4)
    )
    guide = make_raster("g.tif", nir[None], names=("nir",), transform=FINE)
    found, _ = translated(linear(1.0, 0.0), source, tmp_path / "o.tif", guide)
    assert np.abs(found - coarse[1]).mean() < 5e-3  # a sensor sees a little more than its pixel


def test_a_guide_of_another_date_with_colours_gives_the_models_error(make_raster, pair, tmp_path):
    """Then the field was bare: what the model does wrong is the same, what grows is not."""
    source, green, _ = pair
    error = smooth(240, 280, 5, (30,))  # gains of 5 to 65 per cent
    then = (green * (1 + 0.3 * smooth(240, 280, 7))).astype(np.float32)
    nir, now = (add(0.9 * x + np.float32(0.05), error, "reflectance") for x in (then, green))
    guide, model = measured(make_raster, np.stack([then, then, then, nir])), linear(0.9, 0.05)
    found, tags = translated(model, source, tmp_path / "o.tif", guide)
    assert tags["CROSSBAND_GUIDED"].startswith("guide.tif, residual, ")
    # Taken for a measurement of the same state, it pulls towards that.
    other, _ = translated(model, source, tmp_path / "p.tif", guide, guide_method="difference")
    errors = [np.abs(x - now).mean() for x in (found, other, 0.9 * green + 0.05)]
    assert errors[0] < 0.7 * min(errors[1:])


def test_a_guide_as_large_as_the_scene_is_followed_to_the_pixel(make_raster, pair, tmp_path):
    """Nothing is blurred, so that where no colour has changed the result is the measurement."""
    source, green, nir = pair
    bands = np.stack([green, green, green, nir])
    guide = make_raster("g.tif", bands, names=(*RGB, "nir"), transform=FINE)
    found, tags = translated(linear(1.0, 0.0), source, tmp_path / "o.tif", guide)
    assert tags["CROSSBAND_GUIDED"].startswith("g.tif, residual, ")
    np.testing.assert_allclose(found, nir, atol=1e-5)


def test_what_has_changed_since_is_not_carried_over(make_raster, pair, tmp_path):
    """A part of the guide is another surface: there the model answers as without a guide."""
    source, green, _ = pair
    then = green.copy()
    then[:, :120] = 0.9
    more = add(then, np.float32(0.4), "reflectance")
    guide = measured(make_raster, np.stack([then, then, then, more]))
    found = translated(linear(1.0, 0.0), source, tmp_path / "o.tif", guide)[0].filled(0)
    gain = subtract(found, green, "reflectance").mean(axis=0)
    np.testing.assert_allclose(gain[170:], 0.4, atol=5e-3)
    assert np.all(gain[:100] < 0.1)


def test_gains_in_reflectance_and_differences_in_other_units():
    computed, true = np.float32([0.1, 0.0, 0.3]), np.float32([0.2, 0.3, 0.0])
    for unit in ("reflectance", "kelvin", "decibel"):
        found = add(computed, subtract(true, computed, unit), unit)
        np.testing.assert_allclose(found, true, atol=1e-6)
        zero = np.zeros(3, np.float32)
        assert add(computed, zero, unit).tobytes() == computed.tobytes()
    level = subtract(np.float32([300.0]), np.float32([290.0]), "kelvin")
    assert add(np.float32([10.0]), level, "kelvin") == 20
    gain = subtract(np.float32([0.4]), np.float32([0.2]), "reflectance")
    assert 0.015 < add(np.float32([0.01]), gain, "reflectance") < 0.04  # and not 0.21
    # Neither a negative nor a tiny value makes a gain without bound.
    assert np.isfinite(subtract(np.float32([5, -1]), np.float32([-1, 5]), "reflectance")).all()


def test_a_dark_surface_beside_a_bright_one_gets_its_share(make_raster, pair, tmp_path):
    """The difference of a bright field would make the water beside it as bright as land."""
    source, green, _ = pair
    guide = measured(make_raster, 1.5 * green, by=16)
    found = translated(linear(1.0, 0.0), source, tmp_path / "o.tif", guide)[0]
    dark = green < np.quantile(green, 0.1)
    assert np.abs(found - 1.5 * green)[dark].mean() < 0.1 * green[dark].mean()


def test_a_guide_of_another_place_is_said(make_raster, pair, tmp_path):
    source, _, nir = pair
    good, wrong = measured(make_raster, nir), smooth(240, 280, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CrossbandWarning)
        translated(linear(1.0, 0.0), source, tmp_path / "a.tif", good)
    guide = measured(make_raster, wrong, name="elsewhere.tif")
    with pytest.warns(CrossbandWarning, match=r"elsewhere\.tif: .* is -?0\.\d\d;"):
        _, tags = translated(linear(1.0, 0.0), source, tmp_path / "b.tif", guide)
    assert "agreement" in tags["CROSSBAND_GUIDED"]


def test_a_picture_takes_the_unit_of_its_guide(make_raster, pair, tmp_path):
    _, green, nir = pair
    shown = (np.stack([np.sqrt(green)] * 3) * 255).astype(np.uint8)
    source = make_raster("shown.tif", shown, names=RGB, transform=FINE, unit=None)
    guide = measured(make_raster, nir)
    found, tags = translated(linear(1.0, 0.0), source, tmp_path / "o.tif", guide, sensor="naip")
    assert "display to reflectance" in tags["CROSSBAND_GUIDED"]
    assert np.abs(found - nir).mean() < 0.02


def test_a_full_disk_is_one_line_and_keeps_the_windows(make_raster, pair, tmp_path, monkeypatch):
    source, _, nir = pair
    guide, model = measured(make_raster, nir), linear(1.0, 0.0)
    whole, _ = translated(model, source, tmp_path / "a.tif", guide)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("crossband.raster.float_raster.os.posix_fallocate", full)
        with pytest.raises(OutputError, match="No space left"):
            translated(model, source, tmp_path / "o.tif", guide, resume=True)
    assert not (tmp_path / "o.tif").exists()
    again, _ = translated(model, source, tmp_path / "o.tif", guide, resume=True)
    np.testing.assert_array_equal(again, whole)


def natural(side, seed):
    """Return a picture whose amplitude falls with the frequency, as that of photographs does."""
    at = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    at[0, 0] = np.inf
    noise = np.random.default_rng(seed).normal(size=(side, side))
    out = np.fft.irfft2(np.fft.rfft2(noise) / at, (side, side))
    return (0.05 + 0.45 * (out - out.min()) / np.ptp(out)).astype(np.float32)


def peaks(image, by):
    """Return the power at the frequency of coarse pixels, and its double, over that beside it."""
    out = []
    for turned in (image, image.T):
        lines = (turned - turned.mean(axis=1, keepdims=True)) * np.hanning(turned.shape[1])
        power = (np.abs(np.fft.rfft(lines, axis=1)) ** 2).mean(axis=0)
        for at in (lines.shape[1] // by, 2 * lines.shape[1] // by):
            beside = power[np.r_[at - 6 : at - 2, at + 3 : at + 7]]
            out.append(power[at - 1 : at + 2].mean() / np.exp(np.log(beside).mean()))
    return np.array(out)


def steps(image, by):
    """Return the mean step between neighbours at the edges of coarse pixels over that elsewhere."""
    out = []
    for turned in (image, image.T):
        size = np.abs(np.diff(turned, axis=1)).mean(axis=0)
        edges = np.arange(by - 1, len(size), by)
        out.append(size[edges].mean() / np.delete(size, edges).mean())
    return np.array(out)


def test_nothing_shows_at_the_edges_of_the_guides_pixels(make_raster, tmp_path):
    """Neither as a step, which squares of 8 pixels have, nor as a peak of the spectrum."""
    green = natural(256, 0)
    nir = (0.3 * green + 0.7 * natural(256, 50)).astype(np.float32)
    source = make_raster("rgb.tif", np.stack([green] * 3), names=RGB, transform=FINE)
    guide, model = measured(make_raster, nir), linear(0.3, 0.1)
    found, _ = translated(model, source, tmp_path / "o.tif", guide)
    assert np.all(peaks(found.filled(), 8) < 1.1 * peaks(nir, 8))
    assert np.all(steps(found.filled(), 8) < 1.05 * steps(nir, 8))
    squares = 0.3 * green + 0.7 * np.kron(read(guide)[0].filled(), np.ones((8, 8)))
    assert np.all(steps(squares, 8) > 1.5)


def test_the_kernel_has_the_transfer_of_the_sensor():
    at = np.arange(-2.5, 3) / 2
    nyquist = np.sum(kernel(0.3) * np.cos(np.pi * at)) * np.sinc(0.25)  # with the half squares
    assert nyquist == pytest.approx(0.3, abs=0.005)


def test_sharpening_makes_no_beads_at_a_shore():
    step = np.zeros((1, 20, 20), np.float32)
    step[..., 10:] = 2.0
    assert sharpen(step).max() > 2.3
    limited = sharpen(step, OVERSHOOT["reflectance"])
    assert limited.max() == pytest.approx(2.2)
    assert limited.min() == pytest.approx(-0.2)
    np.testing.assert_array_equal(sharpen(step / 10, 0.2), sharpen(step / 10))


def test_filled_and_sharpened_by_hand():
    values = np.full((1, 60, 60), 2.0, np.float32)
    mask = np.ones((60, 60), bool)
    np.testing.assert_allclose(sharpen(fill(values, mask)), 2.0, rtol=1e-5)
    mask[20:23, 20:23] = False
    filled = fill(np.where(mask, values, 99.0), mask)
    np.testing.assert_allclose(filled, 2.0, rtol=1e-4)
    assert not fill(values, np.zeros_like(mask)).any()
    assert compare.SIDE / 8 > _REACH  # most of a block is its own


@pytest.mark.parametrize("by", [2, 4, 8])
def test_decibels_are_averaged_as_power(by):
    """Speckle: the mean of the logarithms lies 2.5 dB below the logarithm of the mean."""
    grid = Grid(96, 96, Affine(10, 0, 5e5, 0, -10, 5e6), rasterio.CRS.from_epsg(32633))
    power = np.random.default_rng(2).exponential(0.1, (1, 96, 96)).astype(np.float32)
    mask = np.ones((96, 96), bool)
    mask[:20] = False
    db = np.where(mask, 10 * np.log10(power), 0).astype(np.float32)
    coarse = grid.shrink(by)
    seen, plain = (
        read_as_seen(WindowRaster(Window(values, mask, grid, ("vv",), unit)), coarse, float(by))
        for values, unit in ((db, "db"), (np.where(mask, power, 0), "reflectance"))
    )
    assert (seen.unit, seen.mask.tolist()) == ("db", plain.mask.tolist())
    found = 10 ** (seen.values[0, seen.mask] / 10)
    np.testing.assert_allclose(found, plain.values[0, seen.mask], rtol=1e-4)
