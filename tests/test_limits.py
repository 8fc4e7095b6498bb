"""Bounds on what a small file may ask for, from what it declares, before anything is allocated."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from conftest import random_values
from rasterio.windows import Window

from crossband.core.limits import Limit
from crossband.errors import CrossbandError, InputError
from crossband.raster.grid import Grid
from crossband.raster.open import open_raster, open_scene
from crossband.raster.options import ReadOptions
from crossband.translate.options import TileOptions
from crossband.translate.tiling import Tiling

RGB = ("red", "green", "blue")
NUMBERS = {"red": 1, "green": 2, "blue": 3}


def test_the_environment_raises_a_limit(monkeypatch):
    limit = Limit("CROSSBAND_MAX_OF_A_TEST", 7)
    assert limit.value == 7
    for text, value in (("9", 9), (" 12 ", 12), ("", 7)):
        monkeypatch.setenv("CROSSBAND_MAX_OF_A_TEST", text)
        assert limit.value == value
    for text in ("x", "-1", "0", "1.5", "9" * 30, "²"):
        monkeypatch.setenv("CROSSBAND_MAX_OF_A_TEST", text)
        with pytest.raises(CrossbandError, match=r"CROSSBAND_MAX_OF_A_TEST=.*whole number above 0"):
            assert limit.value


@pytest.fixture
def sparse(tmp_path):
    """Return a function that writes a large raster of which no block is stored."""

    def write(name="a.tif", side=20_000, count=3, **profile):
        path = tmp_path / name
        profile = {"dtype": "uint8", "compress": "deflate", "tiled": True, **profile}
        with rasterio.open(
            path, "w", width=side, height=side, count=count, SPARSE_OK=True, **profile
        ):
            pass
        return path

    return write


@pytest.mark.parametrize(
    ("interleave", "dtype", "need"), [("band", "uint8", 382), ("pixel", "uint16", 2289)]
)
def test_a_tile_that_is_too_large(sparse, monkeypatch, interleave, dtype, need):
    sizes = {"blockxsize": 20_000, "blockysize": 20_000}
    path = sparse(interleave=interleave, dtype=dtype, **sizes)
    words = f"a.tif: .* blocks of 20000 x 20000 pixels, which take {need} MiB .*BLOCK_MIB={need} "
    with pytest.raises(InputError, match=words):
        open_scene(path, ReadOptions(bands=NUMBERS, sensor="display"), needed=RGB)
    monkeypatch.setenv("CROSSBAND_MAX_BLOCK_MIB", str(need))
    open_raster(path).close()
    monkeypatch.setenv("CROSSBAND_MAX_BLOCK_MIB", "x")
    with pytest.raises(CrossbandError, match="CROSSBAND_MAX_BLOCK_MIB=x"):
        open_raster(path)


def test_tiles_of_usual_size_of_a_large_raster(sparse):
    with open_scene(
        sparse(side=100_000), ReadOptions(bands=NUMBERS, sensor="display"), needed=RGB
    ) as scene:
        assert scene.grid.width == 100_000


def test_a_mask_of_one_large_tile(sparse):
    path = sparse()
    mask = sparse("mask.tif", count=1, blockxsize=20_000, blockysize=20_000)
    with rasterio.open(mask, "r+") as file:
        file.update_tags(INTERNAL_MASK_FLAGS_1=2)
    mask.rename(f"{path}.msk")
    with pytest.raises(InputError, match=r"a.tif: .* 382 MiB"):
        open_raster(path)


def test_an_inner_mask_of_usual_tiles(make_raster):
    path = make_raster(mask=np.ones((40, 50), bool))
    open_raster(path).close()


def test_what_a_vrt_names_is_bounded(sparse, tmp_path):
    sparse(interleave="band", blockxsize=20_000, blockysize=20_000)
    text = (
        '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1">'
        '<SimpleSource><SourceFilename relativeToVRT="1">{}</SourceFilename><SourceProperties '
        'RasterXSize="9" RasterYSize="9" DataType="Byte" BlockXSize="9" BlockYSize="9"/>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    (tmp_path / "a.vrt").write_text(text.format("a.tif"))
    (tmp_path / "b.vrt").write_text(text.format("a.vrt"))
    for name in ("a.vrt", "b.vrt"):
        with pytest.raises(InputError, match=r"a.tif: .* 382 MiB"):
            open_raster(tmp_path / name)


def test_a_picture_that_is_decoded_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.webp"
    values = np.zeros((3, 1100, 1000), np.uint8)
    with rasterio.open(path, "w", width=1000, height=1100, count=3, dtype="uint8") as file:
        file.write(values)
    open_raster(path).close()
    monkeypatch.setenv("CROSSBAND_MAX_BLOCK_MIB", "3")
    with pytest.raises(InputError, match=r"1000 x 1100 pixels, which take 4 MiB"):
        open_raster(path)


def test_a_scene_of_too_many_tiles(identity_model, monkeypatch):
    model, long = identity_model(), Grid(1, 2**31 - 1)
    with pytest.raises(CrossbandError, match=r"2147483647 x 1 pixels are 2396746 tiles.*--tile"):
        Tiling.of(model, long)
    assert len(Tiling.of(model, long, TileOptions(tile=2**22)).batches) == 512
    monkeypatch.setenv("CROSSBAND_MAX_TILES", "3")
    assert len(Tiling.of(model, Grid(30, 10), TileOptions(tile=10)).batches) == 3
    with pytest.raises(CrossbandError, match="CROSSBAND_MAX_TILES=4"):
        Tiling.of(model, Grid(31, 10), TileOptions(tile=10))


def test_a_message_does_not_list_thousands_of_bands(make_raster):
    path = make_raster(values=random_values(200, 2, 2), names=(), unit=None)
    with open_raster(path) as file:
        assert file.read(window=Window(0, 0, 1, 1)).shape == (200, 1, 1)
    with pytest.raises(CrossbandError, match=r"29=\?, 30=\?, \.\.\.\); say it with"):
        open_scene(path, needed=RGB)


def test_a_raster_of_too_many_bands(tmp_path):
    band = '<VRTRasterBand dataType="Byte" band="{}"/>'
    bands = "".join(band.format(n) for n in range(1, 10_002))
    (tmp_path / "a.vrt").write_text(
        f'<VRTDataset rasterXSize="5" rasterYSize="5">{bands}</VRTDataset>'
    )
    with pytest.raises(InputError, match=r"a.vrt: 10,001 bands, and at most 10,000 are read"):
        open_raster(tmp_path / "a.vrt")
