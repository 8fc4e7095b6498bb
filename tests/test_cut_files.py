"""A GeoTIFF whose last bytes are missing: its tags may lie there, and it is refused."""

from __future__ import annotations

import pytest
import rasterio

from crossband.errors import InputError
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions


@pytest.fixture
def late(make_raster):
    """Return a file whose scale, offset and nodata lie behind its pixels."""
    path = make_raster()
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets, file.nodata = (1e-4,) * 3, (-0.1,) * 3, 65000
        file.update_tags(history="x" * 4000)
    return path


@pytest.mark.parametrize("cut", [1, 50, 600, 4000])
def test_tags_that_are_cut_off_are_not_left_out(cut, late):
    with open_scene(late, ReadOptions(sensor="reflectance"), needed=["red"]):
        pass
    late.write_bytes(late.read_bytes()[:-cut])
    with pytest.raises(InputError, match="cut off or damaged") as error:
        open_scene(late, ReadOptions(sensor="reflectance"), needed=["red"])
    assert "\n" not in str(error.value)


def test_the_next_file_is_not_blamed(late, make_raster):
    whole = make_raster("whole.tif")
    late.write_bytes(late.read_bytes()[:-50])
    with pytest.raises(InputError):
        open_scene(late, ReadOptions(sensor="reflectance"), needed=["red"])
    with open_scene(whole, ReadOptions(sensor="reflectance"), needed=["red"]) as scene:
        assert scene.grid.width == 50
