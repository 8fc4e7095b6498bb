"""The numbers of the bundled models: ratios by place, by way of making the source, and fidelity."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from bundled import _made
from fidelity import fidelity_table, measure
from judged import overall, ratio_table, ratios, structure_table

from crossband import Model
from crossband.core.signature import Signature, UnitRange
from crossband.networks.generators.bicubic import Bicubic


def errors(families):
    """Return errors of a model that is twice as good as its baseline, at three places each."""
    rows = [
        {"family": family, "region": f"r{n}", "group": f"g{n}", "unit": "db", "by": by, "mae": mae}
        | {"bias": 0.0, "ssim": 1.0 - mae}
        for family in families
        for n in range(3)
        for by, mae in (("model", 0.1 + 0.01 * n), ("mlp", 0.2 + 0.02 * n))
    ]
    return pd.DataFrame(rows)


def test_ratios_are_over_all_places_and_over_each_family():
    found = ratios(errors(["HLS", "NAIP"]))
    assert [r.places for r in found] == ["all", "HLS", "NAIP"]
    assert [r.count for r in found] == [6, 3, 3]
    assert all(r.value == pytest.approx(0.5) and r.won == r.count for r in found)
    assert [r.places for r in overall(found)] == ["all"]


def test_a_place_counts_once_for_each_way_of_making_its_source():
    found = ratios(errors(["bicubic: HLS", "sensor: HLS"]))
    assert [r.places for r in found] == ["bicubic", "sensor", "bicubic: HLS", "sensor: HLS"]
    assert [r.places for r in overall(found)] == ["bicubic", "sensor"]
    assert "| sensor | mlp | 3 | 0.50" in ratio_table({"vault": found})
    assert "| bicubic | model | 0.890 |" in structure_table(errors(["bicubic: HLS", "sensor: HLS"]))


RGB = ["red", "green", "blue"]


def test_what_only_enlarges_keeps_to_its_source_and_is_softer(tmp_path, make_raster):
    rng = np.random.default_rng(0)
    make_raster("fine.tif", rng.integers(500, 2500, (3, 96, 108)), names=RGB, scale=1e-4)
    row = {"source": None, "target": "fine.tif", "target_window": None, "family": "HLS"}
    rows = pd.DataFrame([row | {"region": "r", "group": "g", "sensor": "reflectance"}])
    rows = rows.assign(target=str(tmp_path / "fine.tif"), split="test")
    made = _made(rows, (("bicubic", "Bicubic"), ("sensor", "SensorMTF(mtf=0.2, noise=0.01)")))
    assert made["target_window"].tolist() == ["0,0,108,96"] * 2
    made.to_csv(tmp_path / "pairs.csv", index=False)
    signature = Signature(RGB, RGB, {"reflectance": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)] * 3)})
    found = measure(Model(Bicubic(), signature, name="b", task="t"), tmp_path / "pairs.csv")
    assert found["family"].tolist() == ["bicubic: HLS", "sensor: HLS"]
    assert found["noise"].tolist() == [0.0, 0.01]
    assert (found["sharper"] < -3).all()
    assert (found["consistency"] < 0.03).all()
    assert not any(map(math.isnan, found["consistency"]))
    assert "| sensor, reflectance | 1 | 0.0100 |" in fidelity_table(found)
