"""Arguments of wrong types, and arrays with odd metadata: one line, or the right answer."""

from __future__ import annotations

import threading

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from conftest import random_values

import crossband
from crossband.core.devices import one_thread
from crossband.errors import CrossbandError, InputError, UnitError


@pytest.fixture
def model(tiny_model):
    return crossband.load(tiny_model)


@pytest.fixture
def array(make_raster):
    import rioxarray

    path = make_raster(values=(random_values(3, 40, 50) * 10000).astype(np.uint16), scale=1e-4)
    opened = rioxarray.open_rasterio(path).load()
    return opened.assign_attrs(units="reflectance")


def refused(call, kind=CrossbandError):
    with pytest.raises(kind) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("number", [True, 1.0, None, [1], b"red"])
def test_a_band_is_a_number_or_a_name(number, model, make_raster, tmp_path):
    path = make_raster(values=(random_values(3, 40, 50) * 10000).astype(np.uint16), scale=1e-4)
    bands = {"red": number, "green": 2, "blue": 3}
    words = refused(lambda: model.translate(path, tmp_path / "out.tif", bands=bands))
    assert f"band red is {number!r}: a band number, or a name" in words


def test_a_band_number_of_numpy(model, make_raster, tmp_path):
    path = make_raster(values=(random_values(3, 40, 50) * 10000).astype(np.uint16), scale=1e-4)
    bands = {name: np.int64(n) for n, name in enumerate(("red", "green", "blue"), 1)}
    model.translate(path, tmp_path / "out.tif", bands=bands)
    assert (tmp_path / "out.tif").is_file()


@pytest.mark.parametrize(
    "x",
    [np.zeros((3, 8, 8)), None, 5, torch.zeros(1, 3, 0, 8), torch.zeros(1, 3, 8, 8).cfloat()],
)
def test_a_model_takes_tensors_of_real_numbers(x, model):
    assert "takes a tensor of real numbers" in refused(lambda: model(x))


def test_double_precision_is_converted(model):
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(model(x.double()), model(x))


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("change", ["gap", "shuffled", "equal", "nan", "text"])
def test_coordinates_must_be_those_of_pixels(axis, change, array, model):
    places = array[axis].values.copy()
    count = len(places)
    if change == "gap":
        array = array.isel({axis: [0, 1, 2, 3, 10, 20, 21]})
    elif change == "shuffled":
        array = array.isel({axis: [5, 1, 9, 2, 0]})
    else:
        wrong = {"equal": places * 0 + places[0], "text": np.array([f"{n}" for n in range(count)])}
        if change == "nan":
            places[3] = np.nan
        array = array.assign_coords({axis: wrong.get(change, places)})
    assert f"its {axis} are" in refused(lambda: model.translate(array), InputError)


def test_coordinates_in_float32_are_those_of_pixels(array, model):
    degrees = np.linspace(120.0, 120.0 + 49e-4, 50)
    same = array.assign_coords(x=degrees.astype(np.float32))
    assert model.translate(same).shape == (1, 40, 50)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.attrs.update(_FillValue="abc"), "its _FillValue 'abc'"),
        (lambda a: a.attrs.update(_FillValue=[0, 1]), "its _FillValue"),
        (lambda a: a.attrs.update(scale_factor="x"), "its scale 'x' is no number"),
        (lambda a: a.attrs.update(add_offset="z"), "its offset 'z' is no number"),
    ],
)
def test_numbers_in_attributes(change, words, array, model):
    change(array)
    assert words in refused(lambda: model.translate(array), UnitError)


@pytest.mark.parametrize("key", ["GeoTransform", "crs_wkt"])
def test_a_georeference_that_cannot_be_read(key, array, model):
    array = array.drop_vars(["x", "y"])
    array.spatial_ref.attrs[key] = "foo bar"
    array.spatial_ref.attrs.pop("spatial_ref")
    refused(lambda: model.translate(array), InputError)


def test_a_fill_value_that_no_pixel_can_have_masks_none(array, model):
    expected = model.translate(array)
    array.attrs["_FillValue"] = -9999
    assert model.translate(array).equals(expected)


def test_the_order_of_bytes_does_not_matter(array, model):
    assert model.translate(array.astype(">u2")).equals(model.translate(array))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"index": 5}, "index=5 is a int; it takes a text or a list"),
        ({"index": None}, "index=None is a NoneType; it takes a text or a list"),
        ({"index": []}, "index: the name of an index"),
        ({"index": ["NDVI", 5]}, "index: the name of an index"),
        ({"places": 5}, "places: a GeoJSON file"),
        ({"places": ["a"]}, "places: a GeoJSON file"),
        ({"places": []}, "places: a GeoJSON file"),
        ({"scenes": 5}, "scenes: paths, or a DataArray"),
        ({"scenes": b"x"}, "scenes: paths, or a DataArray"),
        ({"scenes": np.zeros((2, 3))}, "scenes: paths, or a DataArray"),
        ({"scenes": xr.Dataset()}, "scenes: paths, or a DataArray"),
    ],
)
def test_a_series_of_wrong_types(arguments, words, array, model):
    dated = array.expand_dims(time=pd.DatetimeIndex(["2024-05-01"]))
    given = {"scenes": dated} | arguments
    assert words in refused(lambda: model.series(given.pop("scenes"), **given))


def test_threads_of_torch_are_restored_whoever_ends_last():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        first, second, found = threading.Event(), threading.Event(), []

        def other():
            with one_thread():
                first.set()
                second.wait(20)
                found.append(torch.get_num_threads())
            found.append(torch.get_num_threads())

        with one_thread():
            thread = threading.Thread(target=other)
            thread.start()
            assert first.wait(20)
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3  # and the other one goes on with one
        second.set()
        thread.join()
        later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert (found, torch.get_num_threads()) == ([1, 3, 3], 3)
    finally:
        torch.set_num_threads(before)
