"""A calibrated model with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crossband import load
from crossband.api import Model
from crossband.core.signature import Signature
from crossband.model.calibration import Calibration, Factors, Familiar, GuideClass, Head, Wrong
from crossband.networks.generators.small_cnn import SmallCNN
from crossband.networks.generators.subpixel_resnet import SubpixelResNet

BANDS = {"red": 1, "green": 2, "blue": 3}
SIGNATURE = {
    "source": ["red", "green", "blue"],
    "target": ["nir"],
    "units": {
        "reflectance": {
            "source": [[0.0, 0.35], [0.0, 0.3], [0.0, 0.25]],
            "target": [[0.0, 0.6]],
            "target_unit": None,
        }
    },
}


def arrays(seed: int, *shape: int) -> Any:
    """Return small random weights."""
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


def calibration(weights: str, places: int = 60) -> Calibration:
    """Return a calibration with random widths."""
    scores = [np.random.default_rng(n).gamma(2, 0.5, 30) for n in range(places)]
    found = [
        Factors.of(q, "reflectance", window, group, ("naip",), scores)
        for q in ("nir", "NDVI")
        for window in (1, 10)
        for group in ("", "naip")
    ]
    return Calibration(
        weights,
        ("nir", "NDVI"),
        tuple(found),
        "random",
        ("a test",),
        Head(arrays(1, 8, 39), arrays(2, 8, 5), arrays(3, 8), arrays(4, 4, 8), arrays(5, 4) - 2),
        Familiar(
            arrays(6, 10, 39),
            arrays(7, 39),
            arrays(8, 5, 10),
            1.0,
            2.0,
            {"reflectance": dict.fromkeys(BANDS, (0.02, 0.1, 0.3))},
            Wrong(
                "reflectance",
                ("bands", "offset"),
                arrays(9, 6, 39),
                arrays(10, 6),
                arrays(11, 2, 6),
                arrays(12, 2),
                3.0,
                1.0,
            ),
        ),
    )


def calibrated_model(folder: Path) -> Model:
    """Save a calibrated model, and load it."""
    torch.manual_seed(0)
    made = Model(SmallCNN(3, 1), Signature.from_json(SIGNATURE), name="tiny", task="rgb2nir")
    made.save(folder)
    calibration(made.weights_hash).save(folder)
    return load(folder)


def with_guides(
    found: Calibration, guides: dict[GuideClass, int], windows: Sequence[int] = (1,)
) -> Calibration:
    """Add random widths of guided results, of a number of places in each class."""
    factors = list(found.factors)
    for guide, places in guides.items():
        scores = [np.random.default_rng(n).gamma(1, 0.2, 30) for n in range(places)]
        factors += [
            Factors.of(
                q, "reflectance", side, "", ("naip",), [s / side**0.5 for s in scores], guide
            )
            for q in ("nir", "NDVI")
            for side in windows
        ]
    head = Head(arrays(1, 6, 41), arrays(2, 6, 5), arrays(3, 6), arrays(4, 4, 6), arrays(5, 4) - 3)
    return replace(found, factors=tuple(factors), guided=head)


def finer_model(folder: Path, scale: int) -> Model:
    """Save a calibrated model with random weights that makes pixels finer, and load it."""
    torch.manual_seed(0)
    network = SubpixelResNet(3, 3, width=4, blocks=1, scale=scale)
    torch.nn.init.normal_(network.last.weight, std=0.1)
    ends = [[0.0, 0.5]] * 3
    units = {"reflectance": {"source": ends, "target": ends, "target_unit": None}}
    signature = Signature.from_json({"source": [*BANDS], "target": [*BANDS], "units": units})
    made = Model(network, signature, name="finer", task="super-resolution")
    made.save(folder)
    found, quantities = calibration(made.weights_hash), (*BANDS, "NGRDI")
    head = Head(arrays(1, 8, 39), arrays(2, 8, 12), arrays(3, 8), arrays(4, 8, 8), arrays(5, 8) - 2)
    factors = [
        replace(f, quantity=q) for q in quantities for f in found.factors if f.quantity == "nir"
    ]
    replace(found, quantities=quantities, head=head, factors=tuple(factors)).save(folder)
    return load(folder)


def assert_same_bands(made: np.ndarray, wanted: np.ndarray, atol: float = 2e-5) -> None:
    """Compare bands [n, h, w] of which bounds and dissimilarities are rounded.

    Where a number lies as good as on the border of two steps, the last bit of a sum decides which
    one it becomes: a step is at most 1/256 of a width or of 1.
    """
    np.testing.assert_array_equal(np.isnan(made), np.isnan(wanted))
    difference = np.nan_to_num(np.abs(made - wanted))
    assert (difference > atol).mean() < 1e-3
    assert difference.max() <= 1 / 256 + atol
