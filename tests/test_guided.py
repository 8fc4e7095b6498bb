"""--guide: the result gets the values of a measured band, on any grid, and nothing is lost."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from conftest import UTM, random_values
from killing import killed
from rasterio.warp import Resampling, reproject
from rio_cogeo.cogeo import cog_validate
from scipy.ndimage import gaussian_filter
from tiers import slow

import crossband
from crossband.core.hidden_folder import folder_of
from crossband.errors import (
    BandError,
    CrossbandError,
    CrossbandWarning,
    GuideError,
    InputError,
    Interrupted,
    OutputError,
    UnitError,
)
from crossband.raster import compare, match
from crossband.raster.compare import Overlap
from crossband.raster.grid import Grid
from crossband.raster.open import is_one_unnamed_band, open_scene
from crossband.raster.warp import read_averaged
from crossband.translate import guide_file
from crossband.translate.options import GuideOptions
from crossband.translate.statistics import Statistics

#: 600 x 640 pixels of 1 m; a reference of 10 m, 60 x 64 of them, begins 5 of its pixels before.
FINE = Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 5_000_000.0)
COARSE = Affine(10.0, 0.0, 499_950.0, 0.0, -10.0, 5_000_050.0)


def smooth(height, width, seed=0):
    """Return a picture with structure of many sizes, 0.05 to 0.5."""
    rng = np.random.default_rng(seed)
    out = sum(
        s * gaussian_filter(rng.normal(size=(height, width)), s) * 4 for s in (0.7, 3, 12, 40)
    )
    out = (out - out.min()) / np.ptp(out)
    return (0.05 + 0.45 * out**2).astype(np.float32)


def means(values, by):
    height, width = (n // by * by for n in values.shape)
    return values[:height, :width].reshape(height // by, by, width // by, by).mean((1, 3))


@pytest.fixture
def nir(make_raster):
    """Return a fine scene of one band, and its values."""
    values = smooth(600, 640)
    return make_raster("fine.tif", values[None], names=("nir",), transform=FINE), values


def curve(x):
    return 0.8 * np.sqrt(x) - 0.05


def coarse(make_raster, values, change=curve, name="s2.tif", **options):
    """Write what a sensor of 10 m saw, after `change`; it begins 5 pixels before and ends later."""
    full = np.full((80, 90), 0.9, np.float32)
    full[5:65, 5:69] = change(means(values, 10))
    given = {"names": ("nir",), "transform": COARSE} | options
    return make_raster(name, full[None], **given)


def read(path):
    with rasterio.open(path) as file:
        return file.read(1, masked=True), file.tags()


@pytest.mark.parametrize("way", ["histogram", "linear"])
def test_a_coarse_reference_is_met_at_its_own_pixels(
    make_raster, nir, identity_model, tmp_path, way
):
    source, values = nir
    change = curve if way == "histogram" else (lambda x: 0.7 * x + 0.1)
    reference = coarse(make_raster, values, change)
    out = identity_model(("nir",)).translate(
        source, tmp_path / "o.tif", guide=reference, guide_method=way, precision="fp32", tile=200
    )
    found, tags = read(out)
    assert np.abs(means(found.filled(), 10) - change(means(values, 10))).mean() < 2e-3
    words = tags["CROSSBAND_GUIDED"].split(", ")
    assert words[:3] == ["s2.tif", way, "3840 pixels"]
    if way == "linear":
        _, gain, _, offset = words[3].removeprefix("nir: ").split()
        assert float(gain) == pytest.approx(0.7, rel=1e-3)
        assert float(offset) == pytest.approx(0.1, abs=1e-3)
        np.testing.assert_allclose(found, 0.7 * values + 0.1, atol=1e-3)
    else:
        assert words[3:] == ["agreement 0.99"]
    assert cog_validate(out, strict=True)[0]
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_fine_details_are_not_flattened_by_a_coarse_reference(
    make_raster, nir, identity_model, tmp_path
):
    """Matched to its own means, a scene stays as it is: the spread of single pixels is larger."""
    source, values = nir
    reference = coarse(make_raster, values, lambda x: x)
    assert means(values, 10).std() < 0.9 * values.std()
    out = identity_model(("nir",)).translate(
        source, tmp_path / "o.tif", guide=reference, guide_method="histogram", precision="fp32"
    )
    np.testing.assert_allclose(read(out)[0], values, atol=5e-3)


def test_a_reference_in_another_projection_and_turned(make_raster, nir, identity_model, tmp_path):
    source, values = nir
    turned = Affine.translation(499_800, 5_000_100) @ Affine.rotation(-20) @ Affine.scale(10, -10)
    lonlat = Affine(1e-4, 0, 14.999, 0, -1e-4, 45.1535)
    for name, crs, transform in (("a.tif", "EPSG:32633", turned), ("b.tif", "EPSG:4326", lonlat)):
        seen = np.zeros((120, 140), np.float32)
        reproject(
            0.6 * values + 0.05,
            seen,
            src_transform=FINE,
            src_crs="EPSG:32633",
            dst_transform=transform,
            dst_crs=crs,
            resampling=Resampling.average,
        )
        assert (seen > 0).mean() > 0.1
        reference = make_raster(
            name, seen[None], names=("nir",), crs=crs, transform=transform, nodata=0
        )
        out = identity_model(("nir",)).translate(
            source, tmp_path / f"o{name}", guide=reference, guide_method="linear", precision="fp32"
        )
        found, tags = read(out)
        assert int(tags["CROSSBAND_GUIDED"].split(", ")[2].split()[0]) > 1000
        np.testing.assert_allclose(found, 0.6 * values + 0.05, atol=0.01)


def test_a_reference_that_is_finer(make_raster, nir, identity_model, tmp_path):
    fine, values = nir
    with rasterio.open(fine) as file:
        grid = file.transform @ Affine.scale(8)
    source = make_raster("c.tif", means(values, 8)[None], names=("nir",), transform=grid)
    reference = make_raster("r.tif", curve(values)[None], names=("nir",), transform=FINE)
    out = identity_model(("nir",)).translate(
        source, tmp_path / "o.tif", guide=reference, guide_method="histogram", precision="fp32"
    )
    found, tags = read(out)
    assert tags["CROSSBAND_GUIDED"] == "r.tif, histogram, 6000 pixels, agreement 0.99"
    assert np.quantile(np.abs(found - means(curve(values), 8)), 0.99) < 5e-3


def test_masks_of_both_are_honoured(make_raster, nir, identity_model, tmp_path):
    _, values = nir
    holed = values.copy()
    holed[:300, :300] = 7.0  # nodata
    source = make_raster("h.tif", holed[None], names=("nir",), transform=FINE, nodata=7.0)
    full = np.full((80, 90), 0.9, np.float32)
    full[5:65, 5:69] = 0.5 * means(values, 10) + 0.2
    full[40:65] = -1.0  # clouds
    reference = make_raster("r.tif", full[None], names=("nir",), transform=COARSE, nodata=-1.0)
    out = identity_model(("nir",)).translate(
        source, tmp_path / "o.tif", guide=reference, guide_method="linear", precision="fp32"
    )
    found, tags = read(out)
    assert tags["CROSSBAND_GUIDED"].split(", ")[2] == f"{35 * 64 - 30 * 30} pixels"
    np.testing.assert_array_equal(np.ma.getmaskarray(found), holed == 7)
    np.testing.assert_allclose(found[holed != 7], (0.5 * values + 0.2)[holed != 7], atol=1e-4)


def test_indices_follow_the_matched_band(make_raster, tiny_model, tmp_path):
    source = make_raster(values=random_values(3, 150, 140))
    model = crossband.load(tiny_model)
    plain = model.translate(source, tmp_path / "p.tif", precision="fp32")
    reference = make_raster(
        "r.tif", 0.3 + 0.5 * read(plain)[0].filled()[None], names=("nir",), transform=UTM
    )
    out = model.translate(
        source, tmp_path / "o.tif", guide=reference, guide_method="linear", indices=["NDVI"],
        precision="fp32", tile=64,
    )  # fmt: skip
    found, _ = read(out)
    np.testing.assert_allclose(found, 0.3 + 0.5 * read(plain)[0], atol=1e-4)
    with rasterio.open(source) as file:
        red = file.read(1)
    ndvi, tags = read(tmp_path / "o_NDVI.tif")
    np.testing.assert_allclose(ndvi, (found - red) / (found + red), atol=1e-5)
    assert tags["CROSSBAND_GUIDED"].startswith("r.tif, linear, 21000 pixels, nir: gain 0.5")


def test_integer_results_are_mapped_before_they_are_rounded(make_raster, tiny_model, tmp_path):
    values = (random_values(3, 120, 130) * 255).astype(np.uint8)
    source = make_raster("s.tif", values, scale=1 / 255)
    model = crossband.load(tiny_model)
    physical = model.translate(source, tmp_path / "p.tif", dtype="float32", precision="fp32")
    stretched = read(physical)[0].filled()
    low, high = stretched.min(), stretched.max()
    reference = make_raster(
        "r.tif", ((stretched - low) / (high - low))[None], names=("nir",), transform=UTM
    )
    out = model.translate(
        source, tmp_path / "o.tif", guide=reference, guide_method="histogram", precision="fp32"
    )
    with rasterio.open(out) as file:
        assert file.dtypes == ("uint8",)
        assert len(np.unique(file.read(1))) > 200
    with rasterio.open(model.translate(source, tmp_path / "q.tif", precision="fp32")) as file:
        assert len(np.unique(file.read(1))) < 150


def test_png_and_a_finer_result(make_raster, identity_model, tmp_path):
    """A picture with georeference, a network that makes pixels finer, several bands."""
    values = (random_values(3, 60, 70) * 200).astype(np.uint8)
    source = make_raster("s.tif", values, unit="display", scale=1 / 255, photometric="rgb")
    half = make_raster(
        "r.tif", (values // 2)[:, 10:], unit="display", scale=1 / 255,
        transform=UTM @ Affine.translation(0, 10), names=("blue", "green", "red"),
    )  # fmt: skip
    out = identity_model(scale=2).translate(
        source, tmp_path / "o.png", guide=half, guide_method="linear", precision="fp32",
        guide_bands={"red": 1, "green": 2, "blue": 3},
    )  # fmt: skip
    with rasterio.open(out) as file:
        assert (file.driver, file.shape) == ("PNG", (120, 140))
        found = file.read()[:, ::2, ::2].astype(int)
        assert "CROSSBAND_GUIDED=r.tif, linear, 3500 pixels" in file.tags()["Description"]
    assert np.abs(found - values // 2).max() <= 1


def test_memory_is_bounded_by_thinning(make_raster, nir, identity_model, tmp_path, monkeypatch):
    source, values = nir
    reference = make_raster("r.tif", curve(values)[None], names=("nir",), transform=FINE)
    grid = Grid(600, 640, FINE, rasterio.crs.CRS.from_epsg(32633))
    monkeypatch.setattr(compare, "MOST", 5000)
    monkeypatch.setattr(compare, "SIDE", 128)
    ground = Overlap.of(grid, grid)
    assert ground.step == 9
    seen = np.zeros((600, 640), int)
    for part in ground.blocks():
        assert max(part.height, part.width) <= 128
        seen[part.slices()][ground.thinned(part)] += 1
    rows, cols = np.nonzero(seen)
    assert set(rows % 9) == set(cols % 9) == {4}
    assert seen.max() == 1
    assert seen.sum() == len(range(4, 600, 9)) * len(range(4, 640, 9))
    out = identity_model(("nir",)).translate(
        source, tmp_path / "o.tif", guide=reference, guide_method="histogram", precision="fp32"
    )
    found, tags = read(out)
    assert tags["CROSSBAND_GUIDED"] == f"r.tif, histogram, {seen.sum()} pixels, agreement 0.99"
    assert np.quantile(np.abs(found - curve(values)), 0.999) < 2e-3


def test_means_over_coarse_pixels(make_raster):
    values = smooth(60, 70)
    values[13, 25] = np.nan  # one of 100: the others speak for it
    values[20:26, 40:44] = np.nan  # 24 of 100
    path = make_raster("f.tif", values[None], names=("nir",), transform=FINE)
    with open_scene(path, needed=("nir",)) as scene:
        at = FINE @ Affine.translation(-10, -10) @ Affine.scale(10)
        window = read_averaged(scene, Grid(9, 10, at, scene.grid.crs))
        half = FINE @ Affine.translation(-5, 0) @ Affine.scale(10)
        edge = read_averaged(scene, Grid(6, 8, half, scene.grid.crs))
        far = read_averaged(scene, Grid(3, 3, FINE @ Affine.translation(900, 0), scene.grid.crs))
    expected = np.zeros((9, 10), bool)
    expected[1:7, 1:8] = True
    expected[3, 5] = False
    np.testing.assert_array_equal(window.mask, expected)
    blocks = values.reshape(6, 10, 7, 10)
    np.testing.assert_allclose(
        window.values[0, 1:7, 1:8][expected[1:7, 1:8]],
        np.nanmean(blocks, axis=(1, 3))[expected[1:7, 1:8]],
        rtol=1e-5,
    )
    assert not edge.mask[:, 0].any()  # half of these lie outside
    assert edge.mask[:, 1].all()
    assert not far.mask.any()


def test_decibels_are_averaged_as_power(make_raster):
    values = np.array([[[0.0, -20.0], [-20.0, -20.0]]], np.float32).repeat(8, 1).repeat(8, 2)
    path = make_raster("f.tif", values, names=("vv",), unit="db", transform=FINE)
    with open_scene(path, needed=("vv",)) as scene:
        window = read_averaged(scene, scene.grid.shrink(16))
    assert window.values[0, 0, 0] == pytest.approx(10 * np.log10((1 + 3 * 0.01) / 4), abs=1e-4)


def references(make_raster, values):
    """Return references that cannot be one, and what is said of them."""
    flat = np.full((80, 90), 0.3, np.float32)
    few = np.full((80, 90), -1.0, np.float32)
    few[5:14, 5:16] = means(values, 10)[:9, :11]
    integers = (means(values, 10) * 10000).astype(np.uint16)[None]
    far = {"transform": Affine(10, 0, 600_000, 0, -10, 5_000_000)}
    pixel = {"transform": Affine(10_000, 0, 450_000, 0, -10_000, 5_050_000)}
    one = {"names": ("nir",), "transform": COARSE}
    return {
        "far away": (coarse(make_raster, values, name="1.tif", **far), InputError, "overlap"),
        "one pixel": (coarse(make_raster, values, name="2.tif", **pixel), InputError, "a whole"),
        "constant": (make_raster("3.tif", flat[None], **one), InputError, "nir is constant"),
        "few": (make_raster("4.tif", few[None], nodata=-1, **one), InputError, "99 valid pixels"),
        "no georeference": (
            coarse(make_raster, values, name="5.tif", crs=None, transform=Affine.identity()),
            InputError,
            "no georeference",
        ),
        "other band": (
            coarse(make_raster, values, name="6.tif", names=("red",)),
            BandError,
            "--guide-bands",
        ),
        "no unit": (
            make_raster("7.tif", integers, unit=None, **one),
            UnitError,
            "--guide-sensor naip",
        ),
        "other unit": (coarse(make_raster, values, name="8.tif", unit="K"), UnitError, "kelvin"),
        "missing": ("none.tif", InputError, "no such file"),
    }


@pytest.mark.parametrize(
    "case",
    ["far away", "one pixel", "constant", "few", "no georeference", "other band", "no unit",
     "other unit", "missing"],
)  # fmt: skip
def test_what_cannot_be_a_reference_is_said_before_the_work(
    make_raster, nir, identity_model, tmp_path, case
):
    source, values = nir
    path, kind, words = references(make_raster, values)[case]
    before = sorted(tmp_path.iterdir())
    started = []
    with pytest.raises(kind, match=words) as caught:
        identity_model(("nir",)).translate(
            source,
            tmp_path / "o.tif",
            guide=path,
            guide_method="histogram",
            progress=lambda *n: started.append(n),
        )
    assert str(caught.value).startswith("--guide")
    assert "\n" not in str(caught.value)
    assert not started
    assert sorted(tmp_path.iterdir()) == before


def test_the_sensor_and_the_band_of_the_reference_are_declared(
    make_raster, nir, identity_model, tmp_path
):
    source, values = nir
    stored = np.zeros((2, 80, 90), np.uint16)
    stored[1, 5:65, 5:69] = np.rint((0.5 * means(values, 10) + 0.1) * 10000 + 1000)
    reference = make_raster("s2.tif", stored, names=(None, None), unit=None, transform=COARSE)
    out = identity_model(("nir",)).translate(
        source, tmp_path / "o.tif", guide=reference, guide_method="linear", precision="fp32",
        guide_sensor="sentinel-2-l2a", guide_bands={"nir": 2},
    )  # fmt: skip
    np.testing.assert_allclose(read(out)[0], 0.5 * values + 0.1, atol=1e-3)


def test_options_that_do_not_fit(make_raster, nir, identity_model, tmp_path):
    source, values = nir
    reference = coarse(make_raster, values)
    model = identity_model(("nir",))
    out = tmp_path / "o.tif"
    for options, kind, words in (
        (
            {"guide_method": "linear"},
            CrossbandError,
            "--guide-method says how to use a guide: give --guide",
        ),
        ({"guide_sensor": "naip"}, CrossbandError, "--guide-sensor says how"),
        ({"guide_days": 3}, CrossbandError, "--guide-days says how"),
        ({"guide": reference, "guide_method": "linea"}, CrossbandError, "did you mean 'linear'"),
        (
            {"guide": reference, "guide_method": "histogram", "guide_bands": {"red": 1}},
            BandError,
            "does not take a band",
        ),
    ):
        with pytest.raises(kind, match=words):
            model.translate(source, out, **options)
    with pytest.raises(OutputError, match="its guide"):
        model.translate(
            source, reference, guide=reference, guide_method="histogram", overwrite=True
        )
    with pytest.raises(CrossbandError, match="guide"):
        model.translate(source, guide=reference, guide_method="histogram")
    picture = make_raster(
        "p.tif", values[None], names=("nir",), crs=None, transform=Affine.identity()
    )
    with pytest.raises(InputError, match=r"p\.tif: no georeference"):
        model.translate(picture, out, guide=reference, guide_method="histogram")
    assert not out.exists()


def test_a_constant_guide_is_warned_of_and_a_result_of_a_model_is_refused(
    make_raster, nir, identity_model, tmp_path
):
    source, values = nir
    model = identity_model(("nir",))
    flat = coarse(make_raster, values, lambda x: 0.0 * x + 0.9)
    with pytest.warns(CrossbandWarning, match="not defined, as one of them is constant"):
        made = model.translate(source, tmp_path / "flat.tif", guide=flat)
    with pytest.raises(InputError, match=r"flat\.tif was made by a model"):
        model.translate(source, tmp_path / "o.tif", guide=made)
    assert not (tmp_path / "o.tif").exists()


def constant_model(tiny_model):
    model = crossband.load(tiny_model)
    for name, parameter in model.network.named_parameters():
        if name.endswith("weight"):
            torch.nn.init.zeros_(parameter.data)
    return model


def test_a_result_that_cannot_be_matched_is_kept(make_raster, tiny_model, tmp_path):
    """The windows stay, and another reference is tried without computing them again."""
    values = random_values(3, 150, 140)
    source = make_raster(values=values)
    model, out = crossband.load(tiny_model), tmp_path / "o.tif"
    plain = read(model.translate(source, tmp_path / "p.tif", precision="fp32"))[0].filled()
    holed = values.copy()
    holed[:, :75] = np.nan
    half = make_raster("half.tif", holed)
    cloudy = np.full((1, 150, 140), -1.0, np.float32)
    cloudy[0, :70] = plain[:70]
    bad = make_raster("bad.tif", cloudy, names=("nir",), nodata=-1.0)
    good = make_raster("good.tif", plain[None] * 0.5, names=("nir",))
    with pytest.raises(GuideError, match=r"0 pixels are valid in it and in the result.*are kept"):
        model.translate(half, out, guide=bad, guide_method="histogram", precision="fp32", tile=64)
    assert not out.exists()
    found = Statistics()
    options = {"precision": "fp32", "tile": 64, "resume": True, "statistics": found}
    with pytest.raises(OutputError, match="how windows are kept changed"):
        model.translate(half, out, **options)
    model.translate(half, out, guide=good, guide_method="histogram", **options)
    assert found.computed == 0
    assert found.resumed == found.tiles
    assert read(out)[1]["CROSSBAND_GUIDED"].startswith("good.tif, histogram")
    assert not folder_of(out).exists()
    with pytest.raises(GuideError, match=r"band nir of the result of scene\.tif is constant"):
        constant_model(tiny_model).translate(
            source, tmp_path / "c.tif", guide=good, guide_method="histogram"
        )


@pytest.mark.parametrize("where", [slow("windows"), "matching"])
def test_killed_and_resumed_gives_the_same_file(
    make_raster, tiny_model, tmp_path, monkeypatch, interpreters, where
):
    source = make_raster(values=random_values(3, 210, 250))
    model = crossband.load(tiny_model)
    plain = read(model.translate(source, tmp_path / "p.tif"))[0].filled()
    reference = make_raster("r.tif", curve(plain)[None], names=("nir",))
    options = {"tile": 48, "indices": ["NDVI"], "guide": reference, "guide_method": "histogram"}
    model.translate(source, tmp_path / "a.tif", **options)
    out = tmp_path / "b.tif"
    if where == "windows":
        arguments = [source, "-o", out, "--model", tiny_model, "--tile", 48, "--index", "NDVI"]
        killed(interpreters, 8, *arguments, "--guide", reference)
    else:
        real = match.Match.apply
        monkeypatch.setattr(match.Match, "apply", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(Interrupted, match="--resume goes on"):
            model.translate(source, out, **options)
        monkeypatch.setattr(match.Match, "apply", real)
    found = Statistics()
    model.translate(source, out, resume=True, statistics=found, **options)
    assert found.resumed >= 8
    for name in ("{}.tif", "{}_NDVI.tif"):
        one, other = (read(tmp_path / name.format(n)) for n in "ab")
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1] == other[1]


def test_the_command(crossband_command, make_raster, nir, identity_model, tmp_path):
    source, values = nir
    folder = identity_model(("nir",)).save(tmp_path / "model")
    reference = coarse(make_raster, values, lambda x: 0.5 * x, names=(None,))
    out = tmp_path / "o.tif"
    done = crossband_command(
        "translate", source, "-o", out, "--model", folder, "--guide", reference,
        "--guide-method", "linear", "--guide-bands", "nir=1", "--precision", "fp32",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(read(out)[0], 0.5 * values, atol=1e-3)


@pytest.fixture
def aerial(make_raster, nir):
    """Return a picture of 8 bit that measures nothing, and what a satellite measures there."""
    _, values = nir
    picture = np.stack([np.rint(values * 400)] * 4).astype(np.uint8)
    source = make_raster("aerial.tif", picture, names=(None,) * 4, unit=None, transform=FINE)
    stored = np.zeros((1, 80, 90), np.uint16)
    stored[0, 5:65, 5:69] = np.rint((0.5 * means(values, 10) + 0.1) * 10000 + 1000)
    measured = make_raster("s2_nir.tif", stored, names=("nir",), unit=None, transform=COARSE)
    return source, measured, values


@pytest.mark.parametrize("way", ["histogram", "linear"])
def test_a_picture_takes_the_unit_of_its_reference(
    crossband_command, aerial, identity_model, tmp_path, way
):
    source, reference, values = aerial
    folder = identity_model(("nir",)).save(tmp_path / "model")
    out = tmp_path / "o.tif"
    words = (
        *(
            "translate",
            source,
            "-o",
            out,
            "--model",
            folder,
            "--sensor",
            "naip",
            "--guide-method",
            way,
        ),
        *("--guide", reference, "--guide-sensor", "sentinel-2-l2a", "--precision", "fp32"),
    )
    done = crossband_command(*words)
    assert done.returncode == 0, done.stderr
    found, tags = read(out)
    np.testing.assert_allclose(found, 0.5 * values + 0.1, atol=3e-3)
    said = tags["CROSSBAND_GUIDED"].split(", ")
    assert said[:4] == ["s2_nir.tif", way, "3840 pixels", "display to reflectance"]
    with rasterio.open(out) as file:
        assert (file.units, file.dtypes) == (("reflectance",), ("float32",))
        assert (file.scales, file.offsets) == ((1.0,), (0.0,))
    if way == "linear":
        gain = float(said[4].split()[2])
        assert gain == pytest.approx(0.5 * 255 / 400, rel=1e-3)
        integers = ("--dtype", "uint16", "--out-scale", "0.0001", "--out-offset", "-0.1")
        done = crossband_command(*words, "--overwrite", *integers)
        assert done.returncode == 0, done.stderr
        with rasterio.open(out) as file:
            assert (file.units, file.dtypes) == (("reflectance",), ("uint16",))
            stored = file.read(1) * file.scales[0] + file.offsets[0]
        np.testing.assert_allclose(stored, found, atol=5.1e-5)


def test_many_pictures_are_matched_and_skipped(crossband_command, aerial, identity_model, tmp_path):
    source, reference, _ = aerial
    folder = identity_model(("nir",)).save(tmp_path / "model")
    words = (
        *("translate", source, "-o", f"{tmp_path / 'out'}/", "--model", folder),
        *("--sensor", "naip", "--guide", reference, "--precision", "fp32"),
    )
    sensor = "--guide-sensor", "sentinel-2-l2a"
    assert "1 done" in crossband_command(*words, *sensor).stdout
    assert "1 skipped" in crossband_command(*words, *sensor).stdout
    other = crossband_command(*words, "--guide-sensor", "sentinel-2-l2a-no-offset")
    assert other.returncode == 1
    assert "--guide changed" in other.stderr


def test_an_index_needs_its_bands_in_one_unit(
    crossband_command, aerial, tiny_model, identity_model, tmp_path
):
    """Red is what the picture says, the matched near infrared is reflectance."""
    source, reference, values = aerial
    words = ("--sensor", "naip", "--guide", reference, "--guide-sensor", "sentinel-2-l2a")
    done = crossband_command(
        "translate", source, "-o", tmp_path / "o.tif", "--model", tiny_model, "--index", "NDVI",
        *words,
    )  # fmt: skip
    assert done.returncode == 2
    assert (
        "NDVI needs its bands in one unit, but nir is reflectance, red is display: if"
        in done.stderr
    )
    assert not (tmp_path / "o.tif").exists()
    model = identity_model(("red", "nir"))  # both come out of it, and are matched
    stack = np.stack([means(values, 10) * 0.3, means(values, 10)]).astype(np.float32)
    at = FINE @ Affine.scale(10)
    measured = tmp_path / "measured.tif"
    with rasterio.open(
        measured, "w", driver="GTiff", count=2, height=60, width=64, dtype="float32",
        crs="EPSG:32633", transform=at,
    ) as file:  # fmt: skip
        file.write(stack)
        file.descriptions, file.units = ("red", "nir"), ("reflectance", "reflectance")
    model.translate(
        source, tmp_path / "o.tif", sensor="naip", guide=measured, guide_method="linear",
        indices=["NDVI", "SAVI"], precision="fp32",
    )  # fmt: skip
    with rasterio.open(tmp_path / "o.tif") as file:
        red, near = file.read()
    ndvi = (near - red) / (near + red)
    np.testing.assert_allclose(read(tmp_path / "o_NDVI.tif")[0], ndvi, rtol=1e-6)


def test_a_reference_in_another_unit_is_tried_without_computing_again(
    aerial, make_raster, identity_model, tmp_path, monkeypatch
):
    """The windows are kept as computed, so that the file's numbers may be others, too."""
    source, measured, values = aerial
    shown = coarse(make_raster, values, unit="display", name="shown.tif")
    out, model, found = tmp_path / "o.tif", identity_model(("nir",)), Statistics()
    options = {"sensor": "naip", "precision": "fp32", "tile": 200}
    with monkeypatch.context() as patch:
        patch.setattr(match.Match, "apply", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(Interrupted):
            model.translate(source, out, guide=shown, guide_method="histogram", **options)
    model.translate(
        source, out, guide=measured, guide_method="histogram", guide_sensor="sentinel-2-l2a",
        resume=True, statistics=found, **options,
    )  # fmt: skip
    assert found.computed == 0
    np.testing.assert_allclose(read(out)[0], 0.5 * values + 0.1, atol=3e-3)


def test_arrays_take_no_guide(nir, identity_model, aerial):
    """Neither as a result, nor as a source in memory or in chunks: a guide needs a file."""
    import rioxarray

    source, _ = nir
    _, reference, _ = aerial
    model = identity_model(("nir",))
    given = {"guide": reference, "guide_method": "linear", "guide_sensor": "sentinel-2-l2a"}
    with pytest.raises(CrossbandError, match="an array takes no guide, guide_method, guide_sensor"):
        model.translate(source, **given)
    for chunks in (None, {"y": 100, "x": 100}):
        array = rioxarray.open_rasterio(source, chunks=chunks)
        for name, value in given.items():
            with pytest.raises(CrossbandError, match=f"takes no '{name}'; it takes bands, sensor"):
                model.translate(array, **{name: value})


def test_a_guide_of_one_unnamed_band_is_the_one_that_is_made(make_raster, tmp_path):
    """Three unnamed bands are not: each might be it."""
    path = make_raster("one.tif", random_values(1, 8, 9), names=(None,))
    assert is_one_unnamed_band(path)
    with guide_file.open_guide_file(GuideOptions(guide=path), ["nir"], ["red"]) as guide:
        assert guide.bands == ("nir",)
    three = make_raster("three.tif", random_values(3, 8, 9), names=(None,) * 3)
    with pytest.raises(BandError, match="--guide-bands nir=NUMBER"):
        guide_file.open_guide_file(GuideOptions(guide=three), ["nir"], ["red"])
