"""What is familiar: fitted on made places whose soil is red, and asked about new ones."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from crossband import load
from crossband.api import Model
from crossband.core.signature import Signature
from crossband.evaluation import fit_familiarity
from crossband.evaluation.calibrate import familiar_of
from crossband.evaluation.fit_familiarity import _limit, _weights
from crossband.evaluation.other_light import in_other_light, scattering
from crossband.evaluation.place_errors import PlaceErrors, Sample, SampleTable
from crossband.evaluation.wrong_inputs import RIGHT, wrong_cells
from crossband.model.calibration import WINDOWS, Calibration
from crossband.model.calibration_file import read_calibration
from crossband.networks.generators.small_cnn import SmallCNN
from crossband.networks.uncertainty import surroundings_of
from crossband.raster.grid import Grid, Window
from crossband.translate.familiarity import SHARE, _orders, window_familiarity
from crossband.translate.unfamiliar_causes import WORDS

RANGE = [[0.0, 0.5]]
BANDS = ("red", "green", "blue")
SIGNATURE = {
    "source": list(BANDS),
    "target": ["nir"],
    "units": {"reflectance": {"source": RANGE * 3, "target": RANGE, "target_unit": None}},
}
SOIL, PLANTS = np.array([0.25, 0.18, 0.12]), np.array([0.04, 0.08, 0.03])


def scene(seed: int) -> Window:
    """Return fields of soil and plants, brighter or darker by place."""
    rng = np.random.default_rng(seed)
    soil = np.kron(rng.random((8, 8)), np.ones((8, 8)))[..., None]
    values = (PLANTS + soil * (SOIL - PLANTS)) * rng.uniform(0.8, 1.2)
    values = values.transpose(2, 0, 1) + rng.normal(0, 0.003, (3, 64, 64))
    return Window(
        values.astype(np.float32), np.ones((64, 64), bool), Grid(64, 64), BANDS, "reflectance"
    )


def described(model: Model, window: Window) -> NDArray[np.float32]:
    """Return the surroundings [n, F] of a window."""
    around = surroundings_of(model.network)
    x = model.signature.normalise(torch.from_numpy(window.values)[None], ["reflectance"], "source")
    with torch.inference_mode():
        found = around.description(around.surroundings(x.float()))
    return found.flatten(0, 2).numpy()


def place(number: int, cells: NDArray[np.float32], **of: Any) -> PlaceErrors:
    """Return a place with these surroundings."""
    one = np.zeros((1, 1), np.float32)
    sample = Sample(
        [c[None] for c in cells], [one] * len(cells), [one[0]] * len(cells), [one[0]] * len(cells)
    )
    names = {"region": f"region {number}", "group": "one"} | of
    return PlaceErrors(
        f"place {number}",
        unit="reflectance",
        samples={1: sample} | {side: Sample() for side in WINDOWS[1:]},
        values=[np.full(3, 0.1, np.float32)],
        **names,
    )


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """Return a model of random weights, for which 20 made places are familiar."""
    monkeypatch.setattr(fit_familiarity, "CENTRES", 8)
    monkeypatch.setattr(fit_familiarity, "STEPS", 150)
    torch.manual_seed(0)
    Model(SmallCNN(3, 1), Signature.from_json(SIGNATURE), name="t", task="rgb2nir").save(tmp_path)
    model, places = load(tmp_path), []
    for number in range(20):
        window = scene(number)
        found = place(number, described(model, window))
        for kind, cells in wrong_cells(model, window, np.random.default_rng(number)):
            found.wrong.setdefault(kind, []).append(cells)
        places.append(found)
    familiar = familiar_of(places, model)
    assert familiar.wrong is not None
    assert RIGHT not in familiar.wrong.kinds
    model.calibration = Calibration(
        model.weights_hash, (), (), "made", ("a test",), familiar=familiar
    )
    return model


def shares(model: Model, windows: list[Window]) -> list[float]:
    """Return the unfamiliar share of each window."""
    found = [window_familiarity(model, [window]) for window in windows]
    return [f.share for f in found if f is not None]


def test_wrong_inputs_are_told_from_new_places(model: Model, tmp_path: Path) -> None:
    new = [scene(100 + n) for n in range(10)]
    swapped = [replace(w, values=w.values[::-1].copy()) for w in new]
    offset = [replace(w, values=w.values + np.float32(0.1)) for w in new]
    assert sum(share > SHARE for share in shares(model, new)) <= 1
    assert min(shares(model, swapped)) > SHARE
    assert min(shares(model, offset)) > SHARE

    # What was fitted says the same after it was saved and read.
    before, known = shares(model, [*new, *swapped]), model.calibration
    assert known is not None
    known.save(tmp_path)
    model.calibration = read_calibration(tmp_path, model.weights_hash)
    np.testing.assert_allclose(shares(model, [*new, *swapped]), before, atol=0.07)


def test_bands_in_another_order_are_named_where_one_order_is_familiar(model: Model) -> None:
    for order, words in (((2, 1, 0), "blue, green, red"), ((1, 2, 0), "green, blue, red")):
        for n in range(5):
            window = scene(100 + n)
            found = window_familiarity(
                model, [replace(window, values=window.values[list(order)])] * 2
            )
            assert found is not None
            assert found.cause == f"{WORDS['bands']} {words}"


def test_a_new_place_is_not_taken_for_one_with_bands_in_another_order(model: Model) -> None:
    for n in range(5):
        window = scene(100 + n)
        purple = window.values * np.array([0.3, 0.3, 1.9], np.float32)[:, None, None]
        found = window_familiarity(model, [replace(window, values=purple)])
        assert found is not None
        assert found.share > SHARE
        assert WORDS["bands"] not in found.cause


@pytest.mark.parametrize("bands", [2, 3, 4, 6])
def test_every_other_order_is_tried_once(bands: int) -> None:
    own, found = tuple(range(bands)), list(_orders(bands))
    assert len(set(found)) == len(found)
    assert own not in found
    assert all(sorted(order) == list(own) for order in found)
    assert own[::-1] in found
    assert len(found) == (math.factorial(bands) - 1 if bands <= 4 else math.comb(bands, 2) + 1)


def test_one_region_of_many_places_does_not_decide_the_limit() -> None:
    rng = np.random.default_rng(0)
    low = [place(n, rng.random((10, 2), np.float32), group="a") for n in range(30)]
    crowd = [
        place(100 + n, rng.random((10, 2), np.float32), group="b", region="lake") for n in range(30)
    ]
    places = low + crowd
    weights = _weights(places)
    of_group = Counter[str]()
    for one, weight in zip(places, weights.tolist(), strict=True):
        of_group[one.group] += weight
    assert of_group["a"] == pytest.approx(of_group["b"])  # as many places in both
    other = place(200, rng.random((10, 2), np.float32), group="b", region="hill")
    with_hill = _weights([*places, other])
    assert with_hill[-1] == pytest.approx(30**0.5 * float(with_hill[-2]), rel=1e-4)

    table = SampleTable.of(places, 1)
    values = torch.where(table.place >= len(low), 5.0, 1.0)
    alone = torch.tensor([float(p.group == "a") for p in places])
    assert _limit(table, values, alone, 0.1) == 1.0
    assert _limit(table, values, weights, 0.1) == 5.0
    assert _limit(table, values, weights, 0.6) == 1.0


@pytest.mark.parametrize("unit", ["reflectance", "display", "db"])
def test_another_light_is_that_of_the_same_place(unit: str) -> None:
    values = scene(0).values
    rng = np.random.default_rng(1)
    lit = [in_other_light(values, unit, BANDS, rng) for _ in range(20)]
    if unit == "db":
        assert all(seen is values for seen in lit)
        return
    for seen in lit:
        assert seen.dtype == np.float32
        assert np.abs(seen - values).mean() < 0.1
        assert np.corrcoef(seen[0].ravel(), values[0].ravel())[0, 1] > 0.95
    bluer = np.mean([(seen[2] - seen[0]).mean() for seen in lit]) > (values[2] - values[0]).mean()
    assert bluer == (unit == "reflectance")


def test_air_scatters_short_waves_most() -> None:
    red, green, blue = scattering(BANDS)
    assert 0 < red < green < blue == 1.0
    assert scattering(["vv"]).tolist() == [0.0]
