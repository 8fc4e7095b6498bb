"""DataArrays through a model: equal to the file, lazy where they are, nothing lost or guessed."""

from __future__ import annotations

import copy

import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray
import torch
import xarray as xr
from conftest import random_values, rgb2nir_signature
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from torch import nn

import crossband
from crossband import Model
from crossband.errors import (
    BandError,
    CrossbandError,
    CrossbandWarning,
    InputError,
    ModelError,
    UnitError,
)
from crossband.networks.base import Generator
from crossband.networks.conditions import Conditions
from crossband.networks.generators.local_unet import LocalUNet
from crossband.networks.generators.resnet import ResNet
from crossband.translate.lazy import align_chunks

dask = pytest.importorskip("dask")


@pytest.fixture(scope="module")
def local():
    torch.manual_seed(0)
    network = LocalUNet(3, 1, width=8, depth=2, hidden=8, members=1)
    return Model(network, rgb2nir_signature(), name="local", task="rgb2nir")


@pytest.fixture
def source(make_raster):
    """Return a scene with masked pixels of both kinds, and a chunk of nothing else."""
    values = (random_values(3, 150, 170) * 10000).astype(np.uint16)
    values[:, 20:40, 30:60] = 0
    values[1, 100, 100] = 0
    values[:, :40, 120:] = 0
    return make_raster(values=values, scale=1e-4, nodata=0)


def opened(path, **chunks):
    return rioxarray.open_rasterio(path, chunks=chunks or None)


def same(one, other, atol=1e-5):
    """Check for one mask, values that agree, and one place."""
    np.testing.assert_array_equal(np.isnan(one.values), np.isnan(other.values))
    assert np.nanmax(np.abs(one.values - other.values)) <= atol
    for name in (*other.dims, "spatial_ref"):
        if name in other.coords:
            assert one.coords[name].equals(other.coords[name]), name
    assert one.dims == other.dims
    assert one.rio.crs == other.rio.crs
    assert one.rio.transform() == other.rio.transform()


def test_an_array_in_memory_equals_the_file(source, local):
    straight = local.translate(source, precision="fp32", tile=64)
    made = local.translate(opened(source), precision="fp32", tile=64)
    same(made, straight, atol=0.0)
    assert made.name == straight.name == "nir"
    assert made.dtype == np.float32
    assert set(straight.attrs) - set(made.attrs) == set()
    for name in ("units", "long_name", "CROSSBAND_EXACT", "CROSSBAND_SOURCE"):
        assert made.attrs[name] == straight.attrs[name]
    assert made.attrs["AREA_OR_POINT"] == "Area"
    assert not {"scale_factor", "add_offset"} & set(made.attrs)
    assert np.isnan(made.rio.nodata)
    again = local.translate(opened(source, y=64, x=64).load(), precision="fp32", tile=64)
    assert again.chunks is None
    same(again, straight, atol=0.0)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_an_array_in_chunks_equals_the_file(source, local, scheduler):
    straight = local.translate(source, precision="fp32")
    made = local.translate(opened(source, y=50, x=60), precision="fp32", tile=64)
    assert made.chunks == ((1,), (52, 52, 46), (60, 60, 50))
    with dask.config.set(scheduler=scheduler):
        same(made.compute(), straight)
        part = made.isel(x=slice(90, 140), y=slice(60, 110))
        same(part.compute(), straight.isel(x=slice(90, 140), y=slice(60, 110)))


def test_nothing_is_computed_before_it_is_asked_for(source, local):
    import dask.array as da

    looked = []

    def look(block):
        looked.append(block.shape)
        return block

    array = opened(source, y=50, x=60)
    array = array.copy(data=da.map_blocks(look, array.data, meta=array.data._meta))
    made = local.translate(array, precision="fp32")
    assert made.chunks is not None
    assert not looked
    made.isel(y=slice(0, 5), x=slice(0, 5)).compute()
    assert 1 <= len(looked) <= 3 * 4  # one block, and those that its margin reaches into


shapes = st.lists(st.integers(1, 50), min_size=1, max_size=3)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shapes, shapes, st.integers(48, 90))
def test_any_chunks_give_the_same(local, rows, cols, tile):
    rng = np.random.default_rng(sum(rows) * 1000 + sum(cols))
    values = rng.uniform(0.02, 0.4, (3, sum(rows), sum(cols))).astype(np.float32)
    values[:, rng.random(values.shape[1:]) < 0.05] = np.nan
    values[:, 0, 0] = 0.1
    array = named(values)
    whole = local.translate(array, precision="fp32")
    lazy = local.translate(
        array.chunk({"band": 2, "y": tuple(rows), "x": tuple(cols)}), precision="fp32", tile=tile
    )
    for sizes in lazy.chunks[1:]:
        assert not any(at % local.network.stride for at in np.cumsum(sizes)[:-1])
    same(lazy.compute(scheduler="synchronous"), whole)


@given(shapes, st.integers(1, 16), st.integers(1, 40))
def test_borders_move_to_the_stride(chunks, stride, least):
    made = align_chunks(chunks, stride, least)
    assert sum(made) == sum(chunks)
    assert not any(at % stride for at in np.cumsum(made)[:-1])
    assert len(made) == 1 or min(made) >= least


@given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 16), st.integers(1, 40))
def test_chunks_of_one_length_stay_so(length, chunk, stride, least):
    """Zarr takes no others."""
    chunks = (chunk,) * (length // chunk) + ((length % chunk,) if length % chunk else ())
    first, *others = align_chunks(chunks, stride, least)
    assert all(other == first for other in others[:-1])
    assert not others or others[-1] <= first


def test_fill_values_of_an_array_are_masked_as_those_of_a_file(local, tmp_path):
    values = random_values(3, 40, 50) * 0.3
    values[:, 10:15, 10:15] = -9999
    array = named(values)
    clean = local.translate(array.where(array > -9), precision="fp32")
    said = "the array: numbers that are far from reflectance, as -9999, are taken as no data"
    with pytest.warns(CrossbandWarning, match=said):
        made = local.translate(array, precision="fp32")
    same(made, clean)
    lazy = local.translate(array.chunk({"x": 20}), precision="fp32")
    same(lazy.compute(scheduler="synchronous"), clean)


@pytest.mark.parametrize("places", [[0, 1, np.nan], [np.nan, 1, 2], [-np.inf, 1, 2]])
def test_coordinates_that_are_not_finite_are_refused(local, places):
    array = named(random_values(3, 3, 3)).assign_coords(x=np.array(places, float), y=[0.0, 1, 2])
    with pytest.raises(InputError, match="its x are not finite"):
        local.translate(array)


def test_chunks_without_sizes_are_refused(local):
    array = named(random_values(3, 8, 8)).chunk({"y": 4})
    data = array.data[:, da.from_array(np.ones(8, bool), 4)]
    unknown = xr.DataArray(data, dims=array.dims, coords=array.coords, attrs=array.attrs)
    with pytest.raises(InputError, match="compute_chunk_sizes"):
        local.translate(unknown)


@pytest.mark.parametrize("kind", ["half", "bfloat16"])
def test_weights_of_half_precision_are_refused(local, kind):
    model = getattr(copy.deepcopy(local), kind)()
    with pytest.raises(ModelError, match=r"scenes are translated with float32 ones: model.float"):
        model.translate(named(random_values(3, 8, 8)))


def named(values, unit="reflectance", names=("red", "green", "blue")):
    array = xr.DataArray(values, dims=("band", "y", "x"), coords={"band": list(names)})
    return array.assign_attrs(units=unit)


class PlacedHere(Generator):
    """Sees 3 pixels far, makes them twice as fine, and takes noise, a style and the place."""

    in_channels, out_channels, margin, stride, scale = 3, 1, 3, 2, 2
    noise, style, located = 2, 1, True

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(5, 1, 7, padding=3)

    def forward(self, x):
        return self.forward_conditioned(x, Conditions())

    def forward_conditioned(self, x, conditions):
        out = self.mix(torch.cat([x, conditions.noise], 1))
        nodes = torch.nan_to_num(conditions.lattice.lonlat)
        place = conditions.lattice.interpolate(nodes, *x.shape[-2:]).sum(1, keepdim=True)
        out = out + conditions.style[:, :1, None, None] * 0.1 + 0.01 * place
        return out.repeat_interleave(2, -1).repeat_interleave(2, -2)


def test_noise_place_and_finer_pixels(source):
    torch.manual_seed(2)
    model = Model(PlacedHere(), rgb2nir_signature(), name="placed", task="x")
    options = {"precision": "fp32", "seed": 3}
    straight = model.translate(source, **options)
    assert straight.shape == (1, 300, 340)
    lazy = model.translate(opened(source, y=50, x=60), tile=40, **options)
    assert lazy.attrs["CROSSBAND_SEED"] == "3"
    same(lazy.compute(), straight)
    same(model.translate(opened(source), **options), straight, atol=0.0)
    with pytest.raises(CrossbandError, match="--seed"):
        model.translate(opened(source, y=50), seed=-1)


@pytest.mark.parametrize("chunks", [{}, {"y": 20, "x": 30}])
def test_finer_pixels_without_an_affine(make_raster, identity_model, tmp_path, chunks):
    model = identity_model(scale=2)
    points = [GroundControlPoint(r, c, 10 + c, 50 - r) for r in (0, 35.5) for c in (0, 9)]
    nowhere = {"transform": None, "values": random_values(3, 40, 50)}
    placed = make_raster("gcps.tif", crs="EPSG:4326", gcps=points, **nowhere)
    array = opened(placed, **chunks)
    made = model.translate(array, precision="fp32")
    assert [(p.row, p.col) for p in made.rio.get_gcps()] == [(2 * p.row, 2 * p.col) for p in points]
    assert array.rio.get_gcps()[-1].row == 35.5  # the source is left as it was
    same(made.compute(), model.translate(placed, precision="fp32"))

    picture = opened(make_raster("none.tif", crs=None, **nowhere), **chunks)
    made = model.translate(picture, precision="fp32")
    made.rio.to_raster(tmp_path / "o.tif")
    with rasterio.open(tmp_path / "o.tif") as file:
        assert file.transform.is_identity
    # rioxarray counts its pixels, and goes on counting in a part.
    cut = model.translate(picture.isel(x=slice(10, 30), y=slice(5, 20)), precision="fp32")
    assert cut.x.equals(made.x[20:60])
    assert cut.y.equals(made.y[10:40])
    # Of a place that is known, one degree a pixel from 0 E, 0 N on is nothing else than a place.
    degrees = picture.rio.write_crs("EPSG:4326")
    assert model.translate(degrees, precision="fp32").rio.transform().a == 0.5


def test_finer_pixels_lie_where_the_source_does(source, identity_model, tmp_path):
    model = identity_model(scale=2)
    array = opened(source, y=50, x=60)
    array = array.assign_coords(
        lat=(("y", "x"), np.zeros((150, 170))), acquired="2024-05-01", quality=("band", [1, 2, 3])
    )
    cut = array.isel(x=slice(10, 90), y=slice(7, 60))
    made = model.translate(cut, precision="fp32")
    assert made.sizes == {"band": 3, "y": 106, "x": 160}
    assert made.x.values[:2] == pytest.approx(cut.x.values[0] + np.array([-2.5, 2.5]))
    assert made.y.values[-1] == pytest.approx(cut.y.values[-1] - 2.5)
    assert made.rio.bounds() == pytest.approx(cut.rio.bounds(recalc=True))
    assert made.rio.transform().a == 5.0
    assert made.x.attrs == cut.x.attrs
    assert set(made.coords) == {"band", "y", "x", "spatial_ref", "acquired"}
    plain = named(random_values(3, 8, 9)).chunk({"y": 4})
    assert set(model.translate(plain).coords) == {"band"}


def test_other_dimensions_their_order_and_coordinates_are_kept(local):
    values = random_values(3, 40, 50)
    flat = named(values).assign_coords(y=40.0 - np.arange(40), x=np.arange(50.0))
    flat = flat.assign_coords(
        wavelength=("band", [665, 560, 490]),
        slope=(("y", "x"), np.ones((40, 50))),
        spacecraft="S2A",
    ).rio.write_crs("EPSG:32633")
    times = xr.concat([flat, flat * 0.5, flat.where(False)], "time").assign_coords(
        time=np.array(["2024-01-01", "2024-02-01", "2024-03-01"], "datetime64[ns]"),
        cloud=("time", [1, 2, 3]),
    )
    times = times.transpose("y", "band", "time", "x").assign_attrs(units="reflectance", note="x")
    for array in (times, times.chunk({"time": 1, "y": 20, "band": 1})):
        made = local.translate(array, precision="fp32")
        assert made.dims == ("y", "band", "time", "x")
        assert (made.chunks is None) == (array.chunks is None)
        assert set(made.coords) == set(times.coords) - {"wavelength"}
        assert made.coords["slope"].equals(times.coords["slope"])
        assert made.time.equals(times.time)
        assert made.rio.crs.to_epsg() == 32633
        assert made.attrs["note"] == "x"
        for i in range(2):
            one = local.translate(flat * (1.0, 0.5)[i], precision="fp32", sensor="reflectance")
            found = made.isel(time=i).transpose("band", "y", "x").compute()
            assert np.abs(found.values - one.values).max() <= 1e-5
        assert np.isnan(made.isel(time=2).values).all()


def test_bands_are_told_by_what_the_array_says(make_raster, local):
    values = random_values(4, 30, 30)
    path = make_raster(values=values, names=("nir", "blue", "green", "red"))
    expected = local.translate(path, precision="fp32").values
    array = opened(path)

    def made(array, **options):
        return local.translate(array, precision="fp32", **options).values

    np.testing.assert_array_equal(made(array), expected)  # long_name
    np.testing.assert_array_equal(made(array.sel(band=[4, 2, 3])), expected)
    bare = array.drop_attrs().assign_attrs(units="reflectance")
    with pytest.raises(BandError, match="cannot tell which band is red"):
        made(bare)
    chosen = {"red": 4, "green": 3, "blue": 2}  # labels, where they are numbers
    np.testing.assert_array_equal(made(bare.isel(band=[3, 2, 1]), bands=chosen), expected)
    with pytest.raises(BandError, match="no band has the label 9: they are 1, 2, 3, 4"):
        made(bare, bands={**chosen, "red": 9})
    none = bare.drop_vars("band")  # positions, where there are none
    np.testing.assert_array_equal(made(none, bands=chosen), expected)
    labelled = bare.assign_coords(band=["B8", "B2", "B3", "B4"])
    numbers = {"scale": 1.0, "offset": 0.0}
    np.testing.assert_array_equal(made(labelled, sensor="sentinel-2-l2a", **numbers), expected)
    with pytest.raises(UnitError, match=r"sensor sentinel-2-l2a says -0\.1: give --offset"):
        made(labelled, sensor="sentinel-2-l2a", scale=1.0)
    np.testing.assert_array_equal(
        made(labelled, bands={"red": "B4", "green": "B3", "blue": "B2"}), expected
    )
    common = labelled.assign_coords(common_name=("band", ["nir", "blue", "green", "red"]))
    np.testing.assert_array_equal(made(common.isel(band=[2, 3, 1])), expected)
    renamed = array.rename(band="channel")
    np.testing.assert_array_equal(made(renamed), expected)


def test_units_scales_and_nodata_are_told_or_refused(local):
    values = (random_values(3, 20, 30) * 10000).astype(np.int16)
    values[:, 3, 4] = -1
    physical = np.where(values == -1, np.nan, values * 1e-4 - 0.1).astype(np.float32)
    expected = local.translate(named(physical), precision="fp32")

    def made(array, **options):
        return local.translate(array, precision="fp32", **options)

    stored = named(values).assign_attrs(scale_factor=1e-4, add_offset=-0.1, _FillValue=-1)
    same(made(stored), expected)
    same(made(stored.chunk({"y": 9})).compute(), expected)
    with pytest.raises(UnitError, match="unknown unit"):
        made(named(values, unit=None))
    same(
        made(
            named(values, unit=None),
            sensor="reflectance",
            scale=1e-4,
            offset=-0.1,
            source_nodata=-1,
        ),
        expected,
    )
    with pytest.raises(UnitError, match="takes reflectance and display"):
        made(named(values, unit="kelvin"))
    with pytest.raises(UnitError, match="the file says reflectance"):
        made(stored, sensor="display")
    mixed = named(values).assign_attrs(scales=(1e-4, 1e-3, 1e-4), offsets=(0.0, 0.0, 0.0))
    with pytest.raises(UnitError, match="differ between its bands"):
        made(mixed)
    numbered = mixed.assign_coords(band=[1, 2, 3]).assign_attrs(long_name=("red", "green", "blue"))
    by_hand = values * np.array([1e-4, 1e-3, 1e-4], np.float32)[:, None, None]
    same(made(numbered), made(named(by_hand.astype(np.float32))))


def test_our_own_result_is_understood(source, local, identity_model):
    made = local.translate(source, precision="fp32")
    model = identity_model(bands=("nir",))
    same(model.translate(made, precision="fp32"), made, atol=1e-6)
    lazy = model.translate(made.chunk({"x": 40}), precision="fp32")
    same(lazy.compute(), made, atol=1e-6)
    assert lazy.attrs["units"] == "reflectance"


def test_a_network_that_sees_the_whole_image(source):
    torch.manual_seed(1)
    network = ResNet(3, 1, width=4, blocks=1)
    model = Model(network, rgb2nir_signature(), name="seeing", task="rgb2nir")
    with pytest.raises(CrossbandError, match=r"load it first \(array\.load\(\)\)"):
        model.translate(opened(source, y=50))
    for tile, exact in ((256, "YES"), (64, "NO")):
        made = model.translate(opened(source), precision="fp32", tile=tile)
        straight = model.translate(source, precision="fp32", tile=tile)
        assert made.attrs["CROSSBAND_EXACT"] == straight.attrs["CROSSBAND_EXACT"] == exact
        same(made, straight, atol=0.0)


@pytest.mark.parametrize(
    ("array", "options", "error", "words"),
    [
        (named(random_values(3, 9, 9)), {"dtype": "int16"}, CrossbandError, "no 'dtype'"),
        (named(random_values(3, 9, 9)).chunk(), {"batch": 2}, CrossbandError, "in chunks takes no"),
        (named(random_values(3, 9, 9)).chunk(), {"tile": 0}, CrossbandError, "--tile 0"),
        (named(random_values(3, 9, 9)), {"bands": {"nir": 1}}, BandError, "does not take"),
        (named(random_values(3, 9, 9)).isel(band=0), {}, InputError, "must be called band"),
        (named(random_values(3, 9, 9)).rename(y="row"), {}, InputError, "no dimensions y and x"),
        (
            named(random_values(3, 9, 9)).expand_dims("time").rename(band="a"),
            {},
            InputError,
            "band",
        ),
        (named(random_values(3, 0, 9)), {}, InputError, "no pixels"),
        (named(random_values(3, 9, 9) * 1j), {}, InputError, "complex"),
        (named(random_values(3, 9, 9)).to_dataset(name="a"), {}, CrossbandError, "to_array"),
    ],
)
def test_arrays_that_cannot_be(local, array, options, error, words):
    with pytest.raises(error, match=words) as caught:
        local.translate(array, **options)
    assert "\n" not in str(caught.value)


def test_an_array_is_not_written_to_a_file(local, tmp_path):
    with pytest.raises(CrossbandError, match=r"rio\.to_raster"):
        local.translate(named(random_values(3, 9, 9)), tmp_path / "x.tif")


def test_the_bundled_model_on_a_real_scene(real_data):
    paths = sorted((real_data / "rgb2nir").rglob("*.tif"))
    model = crossband.load("rgb2nir")
    for path in paths:
        array = rioxarray.open_rasterio(path)
        if array.ndim == 3 and array.sizes["band"] == 4 and array.dtype == np.uint8:
            break
    else:
        pytest.skip("no 8-bit four-band scene among the real images")
    bands = {"red": 1, "green": 2, "blue": 3}
    options = {"bands": bands, "sensor": "naip", "precision": "fp32"}
    array = array.isel(y=slice(0, 300), x=slice(0, 330))
    straight = model.translate(array, **options)
    lazy = model.translate(array.chunk({"y": 110, "x": 125}), **options)
    same(lazy.compute(), straight)


def test_colours_of_the_file_name_bands_that_nothing_else_names(make_raster, identity_model):
    path = make_raster(names=(None,) * 3, unit=None, photometric="RGB")
    array = rioxarray.open_rasterio(path, chunks={"y": 16, "x": 16})
    whole = identity_model().translate(path, sensor="reflectance").values
    np.testing.assert_array_equal(identity_model().translate(array, sensor="reflectance"), whole)
    two = array.isel(band=[2, 1, 0])  # the labels say which band is which
    np.testing.assert_array_equal(identity_model().translate(two, sensor="reflectance"), whole)
    with pytest.raises(BandError, match="cannot tell which band"):
        identity_model().translate(array.drop_vars("band"), sensor="reflectance")
