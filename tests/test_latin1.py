"""Texts in rasters that are not UTF-8: labels are read as Latin-1, and no error is lost."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
import rasterio

from crossband.errors import InputError
from crossband.raster.lost_errors import exception_hook, unraisable_hook
from crossband.raster.open import known_bands, open_raster, open_scene
from crossband.raster.options import ReadOptions

RGB = ("red", "green", "blue")


@pytest.fixture
def patched(make_raster):
    """Return a function that writes a raster and replaces each `XX` in it by Latin-1 bytes."""

    def write(*, tags=None, **options):
        path = make_raster(**options)
        with rasterio.open(path, "r+") as file:
            file.update_tags(1, **(tags or {}))
        path.write_bytes(path.read_bytes().replace(b"XX", b"\xe9\xe8"))
        return path

    return write


@pytest.fixture
def hooks(monkeypatch):
    """Install our hooks over ones that keep what the tests must not see; return what was kept."""
    kept = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable_hook(kept.append))
    monkeypatch.setattr(sys, "excepthook", exception_hook(lambda *error: kept.append(error)))
    return kept


def test_descriptions_are_read_as_latin_1(patched):
    path = patched(names=("red", "grXXen", "blue"))
    with open_raster(path) as file:
        assert file.descriptions == ("red", "gr\xe9\xe8en", "blue")
        assert file.units == ("reflectance",) * 3
        assert file.count == 3
    with open_scene(path, ReadOptions(bands={"green": "gr\xe9\xe8en"}), needed=RGB) as scene:
        assert scene.numbers == (1, 2, 3)
        assert scene.read().values.shape == (3, 40, 50)
    assert known_bands(path) == ("red", "blue")


def test_units_are_read_as_latin_1(patched):
    path = patched(unit="reflXXct")
    with open_raster(path) as file:
        assert file.units == ("refl\xe9\xe8ct",) * 3
    with open_scene(path, ReadOptions(sensor="reflectance"), needed=RGB) as scene:
        assert scene.unit == "reflectance"


def test_a_tag_that_is_not_utf_8_hides_no_other(patched):
    path = patched(names=(None,) * 3, tags={"common_name": "nir", "place": "XX"})
    with open_raster(path) as file:
        assert file.tags(1) == {"common_name": "nir"}


def test_a_coordinate_system_that_is_not_utf_8_is_one_line(make_raster):
    path = make_raster(crs="+proj=laea +lat_0=52 +lon_0=10 +ellps=GRS80 +units=m")
    path.write_bytes(path.read_bytes().replace(b"unknown", b"\xe9" * 7))
    with pytest.raises(InputError, match=r"scene.tif: .*not UTF-8: .*\xe9{7}"):
        open_raster(path)


def vrt(source, *, sized=True):
    size = '<SourceProperties RasterXSize="8" RasterYSize="8" DataType="Byte"/>' if sized else ""
    return (
        '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1">'
        f'<SimpleSource><SourceFilename relativeToVRT="1">{source}</SourceFilename>{size}'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    ).encode("latin-1")


def test_names_in_a_vrt_that_are_not_utf_8_are_one_line(tmp_path, hooks):
    path = tmp_path / "a.vrt"
    path.write_bytes(vrt("gr\xe9en.tif"))
    with pytest.raises(InputError, match=r"a.vrt: it names a file .* not UTF-8: .*gr\xe9en.tif"):
        open_raster(path)
    path.write_bytes(vrt("a").replace(b"VRTRasterBand d", b'VRTRasterBand subClass="\xe9" d'))
    with pytest.raises(InputError, match=r"not UTF-8: VRTRasterBand of unrecognized .*\xe9"):
        open_raster(path)
    assert hooks == []


@pytest.mark.parametrize("threaded", [False, True])
def test_an_error_that_rasterio_loses_is_raised(tmp_path, hooks, threaded):
    (tmp_path / "inner.vrt").write_bytes(vrt("gr\xe9en.tif"))
    path = tmp_path / "outer.vrt"
    path.write_bytes(vrt("inner.vrt"))
    errors = []

    def read():
        options = ReadOptions(bands={"red": 1}, sensor="display")
        with pytest.raises(InputError, match=r"cannot be read: .*gr\xe9en.tif") as error:
            open_scene(path, options, needed=("red",)).read()
        errors.append(error)

    if threaded:
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    else:
        read()
    assert len(errors) == 1
    assert hooks == []


def test_messages_of_damaged_metadata_print_nothing(patched, hooks, capfd):
    path = patched(names=("red", "green", "XX"), tags={"a": "bXX"})
    path.write_bytes(path.read_bytes().replace(b"<Item", b"<\xe9tem", 1))
    with open_raster(path) as file:
        assert file.count == 3
    assert hooks == []
    assert capfd.readouterr().err == ""


def test_libtiff_prints_nothing(make_raster, capfd):
    path = make_raster(values=np.ones((3, 300, 400), np.float32), compress="deflate")
    content = bytearray(path.read_bytes())
    content[4:8] = b"\xff\xff\xff\xff"  # the first directory lies beyond the end
    path.write_bytes(content)
    with pytest.raises(InputError):
        open_raster(path)
    assert capfd.readouterr().err == ""


def test_memory_that_a_callback_of_a_c_library_lacks_is_no_traceback():
    kept = []
    problem = type("Problem", (), {"exc_value": MemoryError(), "object": "read_from_file_callback"})
    unraisable_hook(kept.append)(problem)
    assert kept == []


def test_other_errors_reach_the_other_hooks():
    kept = []
    problem = type("Problem", (), {"exc_value": ValueError(), "object": "rasterio._err.log_error"})
    unraisable_hook(kept.append)(problem)
    exception_hook(lambda *error: kept.append(error))(ValueError, ValueError(), None)
    assert len(kept) == 2
