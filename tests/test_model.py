"""The model folder: saved, loaded, described; physical in, physical out; nothing executed."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from conftest import random_values, rgb2nir_signature

import crossband
from crossband import Model
from crossband.core.devices import resolve_device, resolve_precision
from crossband.core.signature import Signature, UnitRange
from crossband.errors import CrossbandError, ModelError, OutputError, UnitError
from crossband.model import bundled
from crossband.model.folder import models_table
from crossband.networks.generators.local_unet import LocalUNet
from crossband.networks.generators.per_pixel import PerPixelLinear
from crossband.raster.grid import Grid, Window
from crossband.translate.options import TileOptions
from crossband.translate.window import translate_window


def test_plain_torch_call(tiny_model):
    model = crossband.load(tiny_model)
    x = torch.from_numpy(random_values(3, 20, 24))
    one, batch = model(x), model(x[None])
    assert one.shape == (1, 20, 24)
    assert torch.equal(one, batch[0])
    assert one.dtype == torch.float32
    normal = x[None] / 0.5
    assert torch.allclose(batch, (model.network(normal) * 0.8).clamp(0, 2))
    assert not torch.equal(model(x), model(x, unit="display"))
    with pytest.raises(UnitError):
        model(x, unit="kelvin")
    with pytest.raises(CrossbandError, match="red, green, blue"):
        model(x[:2])


def test_save_and_load_give_the_same_numbers(tiny_model, tmp_path):
    first = crossband.load(tiny_model)
    first.baselines["linear"] = Model(
        PerPixelLinear(3, 1), rgb2nir_signature(), name="linear", task="rgb2nir"
    )
    first.save(tmp_path / "again")
    second = crossband.load(tmp_path / "again")
    x = torch.from_numpy(random_values(3, 20, 24))
    assert torch.equal(first(x), second(x))
    assert torch.equal(first.baselines["linear"](x), second.baselines["linear"](x))
    assert second.signature == first.signature
    first.save(tmp_path / "half", dtype="bfloat16")
    third = crossband.load(tmp_path / "half")
    assert 0 < (third(x) - first(x)).abs().max() < 0.02


def test_saving_does_not_eat_other_folders(tiny_model, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"there is no model\.json in it, so it is not replaced"):
        crossband.load(tiny_model).save(tmp_path / "work")
    assert (tmp_path / "work" / "thesis.txt").exists()


def test_channels_must_fit_the_signature():
    with pytest.raises(ModelError, match="takes 4 bands"):
        Model(LocalUNet(4, 1, width=4, depth=1), rgb2nir_signature(), name="x", task="x")


@pytest.mark.parametrize(
    "ranges",
    [UnitRange([(0, 1)], [(0, 1)]), UnitRange([(0, 1)] * 3, [(1, 1)])],
    ids=["too few", "empty range"],
)
def test_bad_signatures(ranges):
    with pytest.raises(ModelError):
        Signature(["red", "green", "blue"], ["nir"], {"reflectance": ranges})


def test_from_the_hub(tiny_model, tmp_path, monkeypatch):
    """A snapshot in the hub's own cache layout is what a finished download leaves."""
    from huggingface_hub import constants

    root = tmp_path / "hub" / "models--someone--tiny"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("a" * 40)
    shutil.copytree(tiny_model, root / "snapshots" / ("a" * 40))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model = crossband.load("hf://someone/tiny")
    assert model.name == "tiny"
    with pytest.raises(ModelError, match="cannot be fetched"):
        crossband.load("hf://someone/other")
    with pytest.raises(ModelError, match="hf://owner/name"):
        crossband.load("hf://tiny")


def test_bf16_is_close_to_fp32(tiny_model):
    model = crossband.load(tiny_model)
    values = random_values(3, 96, 96)
    window = Window(
        values, np.ones((96, 96), bool), Grid(96, 96), ("red", "green", "blue"), "reflectance"
    )
    a = translate_window(model, window, TileOptions(precision="fp32")).values
    b = translate_window(model, window, TileOptions(precision="bf16")).values
    assert 0 < np.abs(a - b).mean() < 0.01


def test_devices():
    assert resolve_device("cpu").type == "cpu"
    assert resolve_precision(torch.device("cpu"), "auto") in ("fp32", "bf16")
    with pytest.raises(CrossbandError, match="did you mean 'cuda'"):
        resolve_device("cude")


def test_bundled_models_state_what_users_need():
    folders = bundled()
    assert "rgb2nir" in folders
    for folder in folders.values():
        assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= 8 * 2**20
    text = models_table(folders)
    for word in ("rgb2nir", "red, green, blue -> nir", "reflectance, display", "measured"):
        assert word in text
    assert "-> rededge071, rededge075, rededge078, nir08, swir16, swir22; guide: rededge" in text
    data = json.loads((folders["rgb2nir"] / "model.json").read_text())
    assert 1e4 <= data["network"]["parameters"] <= 3.1e6
    assert set(crossband.load("rgb2nir").baselines) == {"mean", "linear", "mlp"}
    card = (folders["rgb2nir"] / "README.md").read_text()
    command = "python benchmarks/bundled.py train rgb2nir"
    for word in ("SpaceNet", "Copernicus", command, "bf16", "linear", "vault", "95 %"):
        assert word in card


def test_values_out_of_range_are_said_once(identity_model):
    model = identity_model()
    with warnings.catch_warnings(record=True) as quiet:
        warnings.simplefilter("always")
        model(torch.rand(3, 4, 4))
    assert not quiet
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model(torch.full((3, 4, 4), 10_000.0))
        model(torch.full((3, 4, 4), 10_000.0))
    assert [str(w.message) for w in said] == [
        "identity takes reflectance from 0 to 2, and these values reach from 1e+04 to 1e+04: "
        "convert stored numbers (physical = stored x scale + offset), or let model.translate(path) "
        "do it"
    ]
    assert said[0].filename == __file__
