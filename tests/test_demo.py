"""The demo end to end, offline, with small models made here; and the comparison picture."""

import hashlib
import json
import socket

import matplotlib.image
import numpy as np
import pytest
import rasterio
import torch

from crossband import Model, load
from crossband.cli import demo
from crossband.core.signature import Signature, UnitRange
from crossband.errors import ModelError
from crossband.evaluation.report.pictures import draw_comparison
from crossband.metrics import MODEL
from crossband.networks.generators.per_pixel import PerPixelLinear, PerPixelMean, PerPixelMLP
from crossband.raster.grid import Grid, Window

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
SIGNATURE = Signature(
    ["red", "green", "blue"],
    ["nir"],
    {"reflectance": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)])},
)


def wrap(network, name="toy", signature=SIGNATURE):
    return Model(network, signature, name=name, task="rgb2nir")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    networks = PerPixelLinear(), PerPixelLinear(), PerPixelMean(), PerPixelMLP()
    networks[0].set_solution(torch.tensor([[0.2], [0.3], [-0.4], [0.2]]))
    networks[1].set_solution(torch.tensor([[0.1], [0.1], [0.1], [0.15]]))
    networks[2].set_solution(torch.tensor([[0.22]]))
    made = wrap(networks[0])
    made.baselines = {
        name: wrap(network, name)
        for name, network in zip(("linear", "mean", "mlp"), networks[1:], strict=True)
    }
    return load(made.save(tmp_path_factory.mktemp("models") / "toy"))


@pytest.fixture(scope="module")
def result(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out" / "demo"
    original = socket.socket.connect

    def refuse(*_args):
        raise AssertionError("the demo used the network")

    socket.socket.connect = refuse
    try:
        return folder, demo.run(folder, model, precision="fp32")
    finally:
        socket.socket.connect = original


def test_files(result, model):
    folder, metrics = result
    names = {"scene.tif", "nir.tif", "ndvi.tif", "comparison.png", "metrics.json"}
    assert {p.name for p in folder.iterdir()} == names
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    weights = (model.folder / "model.safetensors").read_bytes()
    assert metrics["model"] == {
        "name": "toy",
        "weights_hash": hashlib.sha256(weights).hexdigest(),
    }


def test_scene_is_the_sample_and_invents_no_coordinates(result):
    sample = demo.sample()
    with rasterio.open(result[0] / "scene.tif") as scene:
        assert scene.crs is None
        assert scene.transform.is_identity
        assert scene.descriptions == ("red", "green", "blue")
        assert (scene.dtypes[0], scene.scales[0], scene.offsets[0]) == ("uint16", 1e-4, 0.0)
        assert scene.units == ("reflectance",) * 3
        for number, band in enumerate(("red", "green", "blue"), start=1):
            assert np.array_equal(scene.read(number), sample[band])
    assert [int(sample[b][0, 1]) for b in ("blue", "green", "red", "nir")] == [276, 446, 293, 2128]


def test_numbers_equal_those_of_numpy(result):
    sample = {b: v / 1e4 for b, v in demo.sample().items()}
    scores = result[1]["scores"]
    made = 0.2 * sample["red"] + 0.3 * sample["green"] - 0.4 * sample["blue"] + 0.2
    for who, values in ((MODEL, made), ("mean", np.full_like(made, 0.22))):
        error = values - sample["nir"]
        assert scores[who]["mae"] == pytest.approx(np.abs(error).mean(), abs=3e-5)
        rmse = np.sqrt((error**2).mean())
        assert scores[who]["rmse"] == pytest.approx(rmse, abs=3e-5)
        assert scores[who]["psnr"] == pytest.approx(-20 * np.log10(rmse), abs=0.02)
        red, nir = sample["red"], sample["nir"]
        ndvi = np.abs((values - red) / (values + red) - (nir - red) / (nir + red)).mean()
        assert scores[who]["NDVI_mae"] == pytest.approx(ndvi, abs=1e-4)
    assert scores["mean"]["r"] is None
    assert result[1]["n_pixels"] == 90_000


def test_written_bands_are_what_was_measured(result):
    sample = demo.sample()
    with rasterio.open(result[0] / "nir.tif") as file:
        nir = file.read(1) * file.scales[0] + file.offsets[0]
        assert file.tags()["CROSSBAND_SYNTHETIC"] == "YES"
    wanted = result[1]["scores"][MODEL]["mae"]
    assert np.abs(nir - sample["nir"] / 1e4).mean() == pytest.approx(wanted, abs=1e-6)
    red = sample["red"] / 1e4
    with rasterio.open(result[0] / "ndvi.tif") as file:
        assert file.read(1) == pytest.approx((nir - red) / (nir + red), abs=2e-3)


def test_table(result):
    lines = demo.scores_table(result[1]).splitlines()
    names = [line[:16].strip() for line in lines[1:5]]
    assert names == ["model", "per-pixel linear", "per-pixel MLP", "mean"]
    assert lines[0].split() == ["reflectance", "MAE", "RMSE", "PSNR", "SSIM", "r", "NDVI", "MAE"]
    assert f"{result[1]['scores'][MODEL]['mae']:.4f}" in lines[1]
    assert "*" not in lines[1]
    assert result[1]["interval"] is None  # it is not calibrated
    assert not any("interval" in line for line in lines)
    better = result[1]["scores"]["linear"]["mae"] < result[1]["scores"][MODEL]["mae"]
    assert (f"{result[1]['scores']['linear']['mae']:.4f}*" in lines[2]) == better
    assert len({len(line.rstrip("* ")) > 60 for line in lines[:4]}) == 1


def test_again_into_the_same_folder(result, model):
    folder, first = result
    assert demo.run(folder, model, precision="fp32") == first


def test_a_model_for_other_bands_is_refused(tmp_path):
    radar = Signature(["vv", "vh", "blue"], ["nir"], SIGNATURE.units)
    with pytest.raises(ModelError, match="red, green, blue -> nir"):
        demo.run(tmp_path / "out", wrap(PerPixelLinear(), signature=radar))
    assert not (tmp_path / "out").exists()


# ---- the picture -----------------------------------------------------------------------------


def window(values, bands, mask=None, unit="reflectance"):
    mask = np.ones(values.shape[1:], bool) if mask is None else mask
    return Window(values.astype(np.float32), mask, Grid(*values.shape[1:]), bands, unit)


@pytest.mark.parametrize(
    ("height", "width", "unit", "lower_row"),
    [(60, 80, "reflectance", True), (60, 80, "kelvin", False), (40, 1, "reflectance", True)],
)
def test_picture_of_any_shape(tmp_path, height, width, unit, lower_row):
    rng = np.random.default_rng(0)
    mask = np.ones((height, width), bool)
    mask[:5] = False
    source = window(rng.uniform(0.02, 0.3, (3, height, width)), ("red", "green", "blue"), mask)
    band = ("nir",) if unit == "reflectance" else ("thermal",)
    true = window(rng.uniform(0.1, 0.5, (1, height, width)), band, mask, unit)
    path = draw_comparison(tmp_path / "x" / "c.png", source, true, true, title="a title")
    picture = matplotlib.image.imread(path)
    assert picture.shape[1] == 1600
    assert [p.name for p in path.parent.iterdir()] == ["c.png"]
    single = 1600 * 0.25 * max(height / width, 0.5)
    assert (picture.shape[0] > 1.6 * single) == lower_row or width == 1


@pytest.mark.slow
def test_picture_with_nothing_valid_and_with_nan(tmp_path):
    none = np.zeros((30, 30), bool)
    source = window(np.zeros((3, 30, 30)), ("red", "green", "blue"), none)
    true = window(np.zeros((1, 30, 30)), ("nir",), none)
    draw_comparison(tmp_path / "none.png", source, true, true, title="nothing")
    bad = window(np.full((1, 30, 30), np.nan), ("nir",))
    true = window(np.full((1, 30, 30), 0.3), ("nir",))
    source = window(np.full((3, 30, 30), 0.1), ("red", "green", "blue"))
    draw_comparison(tmp_path / "nan.png", source, true, bad, title="NaN")
    coarse = window(np.full((3, 15, 15), 0.1), ("red", "green", "blue"))
    draw_comparison(tmp_path / "scale.png", coarse, true, true, title="scale 2")
    assert len(list(tmp_path.iterdir())) == 3
