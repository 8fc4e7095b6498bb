"""Models with random weights whose networks take a guide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from crossband.api import Model
from crossband.core.signature import Signature
from crossband.networks.generators.guided_unet import GuidedUNet

RGB = ("red", "green", "blue")
BANDS = (*RGB, "nir")


def guided_model(folder: Path, target: Sequence[str], guide: Sequence[str]) -> str:
    """Save a model of red, green and blue with a guide; return its folder."""
    torch.manual_seed(0)
    carried = [guide.index(band) for band in target]
    network = GuidedUNet(3, len(target), guide=len(guide), carried=carried, width=6, depth=1)
    ends = [[0.0, 0.5]]
    units = {"source": ends * 3, "target": ends * len(target), "guide": ends * len(guide)}
    signature = {
        "source": list(RGB),
        "target": list(target),
        "guide": list(guide),
        "units": {"reflectance": {**units, "target_unit": None}},
    }
    made = Model(network, Signature.from_json(signature), name=folder.name, task="rgb2nir")
    made.save(folder)
    return str(folder)
