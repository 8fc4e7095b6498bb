"""Fill values that a file does not declare are no data, and people are told."""

import warnings

import numpy as np
import pytest
import rasterio

import crossband
from crossband.data.rows import open_guide
from crossband.errors import BandError, CrossbandWarning, MaskedError
from crossband.raster.open import open_scene

RGB = ["red", "green", "blue"]
FAR = [-9999.0, -3.4028235e38, 1e20, 9.96921e36]


def picture(make_raster, fill, name="scene.tif", **more):
    values = np.random.default_rng(0).uniform(0.05, 0.4, (3, 80, 90)).astype(np.float32)
    values[:, 30:40, 50:60] = fill
    values[1, 5, 7] = fill  # one band is enough
    return make_raster(name, values, **more)


@pytest.mark.parametrize("fill", FAR)
def test_a_scene_is_translated_around_them(make_raster, tmp_path, fill, capfd):
    path = picture(make_raster, fill)
    with pytest.warns(CrossbandWarning, match=r"far from reflectance, as .*taken as no data"):
        crossband.load("rgb2nir").translate(path, tmp_path / "nir.tif")
    with rasterio.open(tmp_path / "nir.tif") as made:
        valid = made.dataset_mask() > 0
        values = made.read(1, masked=True)
    expected = np.ones((80, 90), bool)
    expected[30:40, 50:60], expected[5, 7] = False, False
    assert (valid == expected).all()
    declared = picture(make_raster, fill, "declared.tif", nodata=fill)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*far from.*")
        crossband.load("rgb2nir").translate(declared, tmp_path / "same.tif")
    with rasterio.open(tmp_path / "same.tif") as same:
        assert (same.read(1, masked=True) == values).all()
    assert "RuntimeWarning" not in capfd.readouterr().err


def test_a_scene_of_nothing_else_is_refused_with_the_number(make_raster, tmp_path):
    path = make_raster("scene.tif", np.full((3, 80, 90), 1e38, np.float32))
    with pytest.raises(
        MaskedError, match=r"every pixel is masked .*far from reflectance as 1e\+38"
    ):
        crossband.load("rgb2nir").translate(path, tmp_path / "nir.tif")
    assert not (tmp_path / "nir.tif").exists()


def test_what_can_be_a_measurement_stays(make_raster):
    values = np.full((3, 8, 8), 0.2, np.float32)
    # Haze corrected too far, a glint, and reflectance without its scale.
    values[0, 0, :5] = -0.1, 0.0, 2.6, -1000.0, 65535.0
    with warnings.catch_warnings():
        warnings.simplefilter("error", CrossbandWarning)
        with open_scene(make_raster("scene.tif", values), needed=RGB) as scene:
            assert scene.read().mask.all()


def test_numbers_are_judged_by_what_they_mean(make_raster):
    values = np.full((3, 8, 8), 0.2, np.float32)
    values[:, 2, 3] = -9999
    path = make_raster("scene.tif", values, offset=1e4)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CrossbandWarning)
        with open_scene(path, needed=RGB) as scene:
            assert scene.read().mask.all()
    path = make_raster("scaled.tif", values, scale=2.0)
    with pytest.warns(CrossbandWarning, match=r"as -2e\+04"), open_scene(path, needed=RGB) as scene:
        mask = scene.read().mask
    assert not mask[2, 3]
    assert mask.sum() == 63


def test_errors_on_the_guide_of_a_row_name_its_columns(make_raster):
    path = make_raster("guide.tif", names=("a", "b", "c"))
    row = {"guide": str(path), "guide_bands": np.nan, "guide_sensor": np.nan}
    with pytest.raises(BandError, match="the column guide_bands") as caught:
        open_guide(row, ["nir"])
    assert "--bands" not in str(caught.value)
