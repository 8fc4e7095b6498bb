"""Models for the QGIS plugin Deepness: its pixels, its tiles and its metadata.

`processed` does what Deepness does with an image. Where CROSSBAND_DEEPNESS names the folder `src`
of a checkout of PUTvision/qgis-plugin-deepness, its own code computes and places the tiles, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from registered import waken

from crossband import Model
from crossband.cli.main import main
from crossband.core.registry import build
from crossband.core.sensors import get
from crossband.core.signature import Signature, UnitRange
from crossband.errors import CrossbandError, ModelError
from crossband.networks import Generator

onnx = pytest.importorskip("onnx", reason="crossband[onnx] is not installed")
runtime = pytest.importorskip("onnxruntime", reason="crossband[onnx] is not installed")

from crossband.model.exporting.deepness import export_deepness  # noqa: E402

TILE = 64


def model_of(name="LocalUNet", **arguments):
    given = {"width": 8, "depth": 1, "hidden": 6} | arguments
    given = {key: value for key, value in given.items() if value is not None}
    network = waken(build(Generator, name, given))
    bands, outs = ["red", "green", "blue"], [f"t{i}" for i in range(network.out_channels)]
    ranges = UnitRange([(0.0, 0.5)] * 3, [(0.0, 0.6)] * len(outs))
    units = {
        "reflectance": ranges,
        "display": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)] * len(outs)),
    }
    return Model(network, Signature(bands, outs, units), name="m", task="t")


@pytest.fixture(params=["as Deepness does", "its code"])
def process(request, monkeypatch):
    """Return a function: file, image [H, W, C] -> results [outputs, H, W]."""
    if request.param == "as Deepness does":
        return processed
    folder = os.environ.get("CROSSBAND_DEEPNESS")
    if not folder:
        pytest.skip("the code of Deepness is not here (set CROSSBAND_DEEPNESS to its folder src)")
    core = types.ModuleType("qgis.core")
    core.QgsRectangle = _Rectangle
    for missing in ("Qgis", "QgsRasterLayer", "QgsCoordinateReferenceSystem"):
        setattr(core, missing, type(missing, (), {}))
    monkeypatch.setitem(sys.modules, "qgis", types.ModuleType("qgis"))
    monkeypatch.setitem(sys.modules, "qgis.core", core)
    parameters = types.ModuleType("deepness.common.processing_parameters.map_processing_parameters")
    parameters.MapProcessingParameters = object
    monkeypatch.setitem(sys.modules, parameters.__name__, parameters)
    monkeypatch.syspath_prepend(folder)
    return by_deepness


class _Rectangle:
    """What TileParams asks of a rectangle of QGIS; the extent is not used here."""

    def __init__(self, other=None):
        pass

    def __getattr__(self, name):
        return lambda *_: 0.0


def physical(shares, ranges=((0.0, 1.0),)):
    """Outputs [C, H, W] of a file, or what Deepness makes of them over 255 -> physical values."""
    low, high = np.array(ranges, np.float32).T[..., None, None]
    return low + (shares * 255 - 1.5) * (high - low) / 254


def settings(path):
    """Return the metadata, parsed as Deepness parses them."""
    held = runtime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_modelmeta()
    return {key: json.loads(value) for key, value in held.custom_metadata_map.items()}


def stride_of(about):
    tile = about["tile_size"]
    return tile - int(tile * about["tiles_overlap"] / 100 * 2) // 2


def tiles_of(image, tile, stride):
    """Yield row, column and the tile, padded by 0 at the bottom and the right, as Deepness does."""
    rows, cols = (max(-(-(n - (tile - stride)) // stride), 1) for n in image.shape[:2])
    size = (rows - 1) * stride + tile, (cols - 1) * stride + tile
    wide = np.zeros((*size, image.shape[2]), image.dtype)
    wide[: image.shape[0], : image.shape[1]] = image
    for row in range(rows):
        for col in range(cols):
            y, x = row * stride, col * stride
            yield row, col, rows, cols, size, wide[None, y : y + tile, x : x + tile]


def processed(path, image):
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    about = settings(path)
    tile, stride = about["tile_size"], stride_of(about)
    half, full = (tile - stride) // 2, None
    for row, col, rows, cols, size, pixels in tiles_of(image, tile, stride):
        given = np.float32(pixels * 1.0 / 255.0).transpose(0, 3, 1, 2)
        found = np.stack([o[0, 0] for o in session.run(None, {"source": given})])
        full = np.zeros((len(found), *size), np.float32) if full is None else full
        y0, x0 = (0 if at == 0 else half for at in (row, col))
        y1 = tile if row == rows - 1 else tile - half
        x1 = tile if col == cols - 1 else tile - half
        y, x = row * stride, col * stride
        full[:, y + y0 : y + y1, x + x0 : x + x1] = np.nan_to_num(found[:, y0:y1, x0:x1])
    return full[:, : image.shape[0], : image.shape[1]]


def by_deepness(path, image):
    from deepness.processing.models.regressor import Regressor
    from deepness.processing.tile_params import TileParams

    model = Regressor(str(path))
    model.check_loaded_model_outputs()
    assert model.get_metadata_model_type() == "Regressor"
    tile, full = model.get_metadata_tile_size(), None
    assert tuple(model.get_input_size_in_pixels()) == (tile, tile)
    overlap = int(tile * model.get_metadata_tiles_overlap() / 100 * 2) // 2
    values = types.SimpleNamespace(tile_size_px=tile, processing_stride_px=tile - overlap)
    for row, col, rows, cols, size, pixels in tiles_of(image, tile, tile - overlap):
        found = np.stack([out[0, 0] for out in model.process(pixels)])
        found[np.isnan(found)] = 0
        full = np.zeros((len(found), *size), np.float32) if full is None else full
        at = TileParams(col, row, cols, rows, values, 1.0, _Rectangle())
        at.set_mask_on_full_img(tile_result=found, full_result_img=full)
    return full[:, : image.shape[0], : image.shape[1]]


@pytest.mark.parametrize(
    ("sensor", "kind", "most"), [("sentinel-2-l2a", np.uint16, 6000), ("naip", np.uint8, 256)]
)
def test_interior_pixels_are_ours(sensor, kind, most, process, tmp_path):
    model = model_of(out_channels=2)
    path = export_deepness(model, tmp_path / "m.onnx", sensor=sensor, gsd=10.0, tile=TILE)
    low = 1100 if kind is np.uint16 else 1
    image = np.random.default_rng(0).integers(low, most, (150, 131, 3)).astype(kind)
    found, about = process(path, image), get(sensor)
    scale = about.scale_for(np.dtype(kind).name)
    values = (image.astype(np.float32) * np.float32(scale) + about.offset).astype(np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(values.transpose(2, 0, 1).copy()), about.unit).numpy()
    margin = model.network.margin
    inner = np.s_[:, margin : 150 - margin, margin : 131 - margin]
    assert found.shape == expected.shape == (2, 150, 131)
    found, expected = physical(found)[inner], expected.clip(0, 1)[inner]
    assert np.abs(found - expected).max() <= 1e-3
    assert found.std() > 1e-3


PYTHON = os.environ.get("CROSSBAND_DEEPNESS_PYTHON")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sensor", "kind", "most"), [("sentinel-2-l2a", np.uint16, 6000), ("naip", np.uint8, 256)]
)
@pytest.mark.parametrize("scale", [1, 2])
def test_its_map_processor_gives_our_pixels_in_8_bits(sensor, kind, most, scale, tmp_path):
    """Heights are multiples of the network's stride: it counts rows of tiles from the last one."""
    folder = os.environ.get("CROSSBAND_DEEPNESS")
    if not folder or not PYTHON:
        pytest.skip("CROSSBAND_DEEPNESS_PYTHON is not set to a Python with QGIS and its packages")
    model = model_of(out_channels=2)
    if scale == 2:
        model = model_of("EDSR", width=6, blocks=1, out_channels=3, depth=None, hidden=None)
    path = export_deepness(model, tmp_path / "m.onnx", sensor=sensor, gsd=10.0, tile=TILE)
    low = 1100 if kind is np.uint16 else 1
    image = np.random.default_rng(0).integers(low, most, (3, 148, 131)).astype(kind)
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
    sizes = {"count": 3, "height": 148, "width": 131, "dtype": kind}
    with rasterio.open(tmp_path / "s.tif", "w", driver="GTiff", **place, **sizes) as out:
        out.write(image)
    session = Path(__file__).parent / "deepness_session.py"
    words = [PYTHON, session, folder, path, tmp_path / "s.tif", tmp_path / "r.npy"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env |= {"QT_QPA_PLATFORM": "offscreen", "HOME": str(tmp_path)}
    done = subprocess.run(
        list(map(str, words)), env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found, about = np.load(tmp_path / "r.npy"), get(sensor)
    values = image.astype(np.float32) * np.float32(about.scale_for(np.dtype(kind).name))
    with torch.no_grad():
        expected = model(torch.from_numpy(values + np.float32(about.offset)), about.unit).numpy()
    expected = np.rint(1 + expected.clip(0, 1) * 254)
    assert found.dtype == np.uint8
    margin = model.network.margin
    seen = np.ones(expected.shape, bool)
    inner = slice(margin * scale, -margin * scale)
    seen[:, inner, inner] = False
    if scale == 2:  # bands are last, the last row and column are left out, and tiles touch
        found = np.pad(found.transpose(2, 0, 1), ((0, 0), (0, 2), (0, 2)))
        above = -148 % TILE
        for size, first, axis in ((148, above, 1), (131, 0, 2)):
            at = (np.arange(2 * size) // 2 + first) % TILE
            near = (at < margin) | (at >= TILE - margin) | (np.arange(2 * size) >= 2 * size - 2)
            seen |= np.expand_dims(near, (0, 3 - axis))
    assert found.shape == expected.shape == (model.network.out_channels, 148 * scale, 131 * scale)
    found, expected = found[~seen], expected[~seen]
    assert np.abs(found - expected).max() <= 1
    assert (found == expected).mean() > 0.99
    assert found.std() > 5
    assert len(found) > 10_000


def test_nodata_of_the_sensor_is_masked(tmp_path):
    path = export_deepness(model_of(), tmp_path / "m.onnx", sensor="sentinel-2-l2a", tile=TILE)
    image = np.full((TILE, TILE, 3), 3000, np.uint16)
    image[20:24, 30:40] = 0
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = np.float32(image[None] / 255.0).transpose(0, 3, 1, 2)
    (found,) = session.run(None, {"source": given})
    assert np.array_equal(np.isnan(found[0, 0]), (image == 0).all(axis=2))


def test_the_file_is_one_that_its_runtime_reads(tmp_path):
    path = export_deepness(model_of(), tmp_path / "m.onnx", sensor="naip", gsd=0.6, tile=128)
    held, about = onnx.load(path), settings(path)
    assert held.opset_import[0].version <= 17
    assert held.ir_version <= 9
    assert [d.dim_value for d in held.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 128, 128]
    assert about["model_type"] == "Regressor"
    assert (about["resolution"], about["tile_size"]) == (60.0, 128)
    assert about["class_names"] == [{"0": "t0"}]
    stride = stride_of(about)
    assert stride % 4 == 0
    assert (128 - stride) // 2 >= 11


def test_super_resolution_has_one_output_and_no_overlap(tmp_path):
    model = model_of("EDSR", width=6, blocks=1, out_channels=3, depth=None, hidden=None)
    path = export_deepness(model, tmp_path / "m.onnx", sensor="naip", gsd=1.0, tile=48)
    about = settings(path)
    assert (about["model_type"], about["tiles_overlap"]) == ("Superresolution", 0)
    image = np.random.default_rng(0).integers(1, 256, (1, 48, 48, 3)).astype(np.uint8)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = np.float32(image * 1.0 / 255.0).transpose(0, 3, 1, 2)
    (found,) = session.run(None, {"source": given})
    with torch.no_grad():
        expected = model(torch.from_numpy(given), get("naip").unit).numpy()
    assert found.shape == (1, 3, 96, 96)
    assert np.abs(physical(found[0]) - expected[0].clip(0, 1)).max() <= 1e-3


def test_bad_input_is_one_line(tmp_path, capsys):
    model, path = model_of(), tmp_path / "m.onnx"
    for options, words in (
        ({"tile": 30}, "--tile 30: a multiple of the network's stride, 4"),
        ({"tile": 8}, "no overlap covers the network's margin"),
        ({"gsd": None}, "naip has pixels of any size: give --gsd METRES"),
        ({"gsd": 0.0}, "--gsd 0"),
        ({"sensor": "nowhere"}, "nowhere"),
    ):
        with pytest.raises(CrossbandError, match=words):
            export_deepness(model, path, **({"sensor": "naip", "gsd": 1.0} | options))
    network = build(Generator, "UNet", {"width": 4, "levels": 2, "norm": "instance"}).eval()
    everywhere = Model(network, model_of(out_channels=1).signature, name="m", task="t")
    with pytest.raises((CrossbandError, ModelError), match="UNet cannot be exported to ONNX"):
        export_deepness(everywhere, path, sensor="naip", gsd=1.0)
    assert not path.exists()
    given = ["export", "rgb2nir", "--to", "deepness", "-o", str(path)]
    assert main(given) == 2
    assert "--to deepness needs --sensor NAME" in capsys.readouterr().err
