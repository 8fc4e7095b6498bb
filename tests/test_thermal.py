"""Recipes of rgb2thermal through the real `fit` at tiny widths: save, load, resume, translate."""

from __future__ import annotations

import signal

import numpy as np
import pandas as pd
import pytest
import rasterio
import tiny
import torch
from skimage.feature import hog

from crossband import load
from crossband.metrics.extractors.thermal import (
    gradient_histograms,
    rank_gallery,
    thermal_histogram,
    thermal_signature,
)
from crossband.networks.conditions import Conditions
from crossband.training.fit import fit
from crossband.training.methods.base import Method

UNPAIRED = ("cyclegan", "discogan", "dualgan", "unit", "unit-vit")


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    """Colour and thermal pictures of the same places; and a table where rows have one side only."""
    folder = tmp_path_factory.mktemp("thermal")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(6):
        coarse = rng.integers(0, 255, (3, 6, 7)).astype(np.uint8)
        colour = coarse.repeat(8, 1).repeat(8, 2)
        thermal = (255 - colour[:1] // 2).astype(np.uint8)
        for name, values in (("vi", colour), ("ir", thermal)):
            profile = {"height": 48, "width": 56, "count": len(values), "dtype": "uint8"}
            with rasterio.open(folder / f"{name}{i}.png", "w", driver="PNG", **profile) as out:
                out.write(values)
        rows.append(row(f"vi{i}.png", f"ir{i}.png"))
    table = pd.DataFrame(rows)
    table.to_csv(folder / "paired.csv", index=False)
    table["group"] = [f"g{i}" for i in range(6)]
    table.loc[1, "target"] = table.loc[2, "target"] = None
    table.loc[3, "source"] = table.loc[4, "source"] = None
    table["split"] = ["train"] * 5 + ["val"]
    table.to_csv(folder / "unpaired.csv", index=False)
    return folder


def row(source, target):
    return {
        "source": source,
        "target": target,
        "source_bands": "red=1,green=2,blue=3",
        "target_bands": "thermal=1",
        "sensor": "display",
        "target_sensor": "display",
    }


def small(name, manifest, *more):
    """Return overrides that make a recipe small."""
    found = [*tiny.overrides(f"rgb2thermal/{name}"), f"--data.manifest={manifest}"]
    return [*found, "--data.val_windows=1", "--precision=fp32", "--baselines=null", *more]


def table_of(name, folder):
    return folder / ("unpaired.csv" if name in UNPAIRED else "paired.csv")


@pytest.mark.slow
@pytest.mark.parametrize("name", UNPAIRED)
def test_stopped_resumed_saved_and_translated(name, manifests, tmp_path, monkeypatch):
    manifest = table_of(name, manifests)
    steps = ["--method.max_steps", "4", "--data.steps", "2", "--method.log_every", "1"]
    arguments = small(name, manifest, *steps)
    whole = fit(f"rgb2thermal/{name}", arguments, tmp_path / "whole")
    original = Method.training_step

    def stopped(self, batch, index):
        original(self, batch, index)
        if self.step == 3 and self.between_steps:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Method, "training_step", stopped)
        with pytest.raises(Exception, match="stopped after step 3"):
            fit(f"rgb2thermal/{name}", arguments, tmp_path / "parts")
    parts = fit(f"rgb2thermal/{name}", arguments, tmp_path / "parts", resume=True)
    one, other = (load(folder) for folder in (whole, parts))
    a, b = one.network.state_dict(), other.network.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert one.network.arguments == other.network.arguments
    output = one.translate(manifests / "vi0.png", tmp_path / "out.tif", sensor="display")
    with rasterio.open(output) as scene:
        assert scene.shape == (48, 56)
        assert scene.count == 1
        assert scene.tags()["CROSSBAND_SYNTHETIC"] == "YES"
        assert len(np.unique(scene.read())) > 1


def test_a_style_chooses_one_of_several_targets(manifests, tmp_path):
    styles_of = {"style": 16, "thermalgan": 8}
    for name, length in styles_of.items():
        model = load(fit(f"rgb2thermal/{name}", small(name, table_of(name, manifests)),
                         tmp_path / name, fast_run=True))  # fmt: skip
        assert model.network.style == length
        source = torch.rand(1, 3, 32, 32)
        styles = torch.randn(2, 1, length)
        one, other = (model(source, conditions=Conditions(style=s)) for s in styles)
        assert (one - other).abs().max() > 0


def test_histograms_by_hand():
    values = np.array([[0.0, 0.24, 0.26, 0.5], [0.99, 1.0, 2.0, np.nan]])
    found = thermal_histogram(values, bins=4)
    assert found.tolist() == pytest.approx([2 / 7, 1 / 7, 1 / 7, 3 / 7])
    mask = np.zeros((2, 4), bool)
    assert thermal_histogram(values, mask).sum() == 0
    mask[0, 1] = True
    assert thermal_histogram(values, mask, bins=4).tolist() == [1, 0, 0, 0]
    kelvin = thermal_histogram(300.0 + values, bins=4, limits=(300.0, 301.0))
    assert kelvin.tolist() == pytest.approx(found.tolist())
    with pytest.raises(ValueError, match="a thermal picture is"):
        thermal_histogram(values[0])


def test_gradient_histograms_are_those_of_scikit_image():
    values = np.random.default_rng(0).random((40, 56))
    found = gradient_histograms(values, cell=8)
    expected = hog(
        values, 9, (8, 8), (1, 1), block_norm="L2", feature_vector=False
    ).reshape(5, 7, 9)  # fmt: skip
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(gradient_histograms(3.0 - 0.1 * values, cell=8), found, atol=1e-5)
    mask = np.ones((40, 56), bool)
    mask[10:13, 20:24] = False
    spoiled = np.where(mask, values, 9.0)
    masked = gradient_histograms(spoiled, mask, cell=8)
    assert np.array_equal(masked, gradient_histograms(values, mask, cell=8))
    assert not np.allclose(masked, found)


def test_the_nearest_of_several_plausible_pictures_finds_its_match():
    rng = np.random.default_rng(0)
    gallery = [rng.random((32, 32)) ** power for power in (0.5, 1.0, 2.0)]
    known = [thermal_signature(x, cell=8) for x in gallery]
    assert np.linalg.norm(known[0]) == pytest.approx(np.sqrt(2))
    probes = [thermal_signature(x, cell=8) for x in (rng.random((32, 32)), gallery[2] + 0.01)]
    assert rank_gallery(probes, known)[0] == 2
    assert rank_gallery(known[:1], known)[0] == 0
