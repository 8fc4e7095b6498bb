"""What tests of the data share: four-band scenes, their signature, and samples of them."""

from __future__ import annotations

import numpy as np
import torch

from crossband.core.signature import Signature, UnitRange
from crossband.data import manifest
from crossband.data.reader import PairReader
from crossband.data.samples import PairDataset

RANGES = UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)])
SIGNATURE = Signature(["red", "green", "blue"], ["nir"], {"reflectance": RANGES, "display": RANGES})
NAMES = ("blue", "green", "red", "nir")


def values(seed=0, height=40, width=50):
    """uint16 [4, H, W]; red is 1, 2, 3, ... over the pixels and nir = red + 5000."""
    rng = np.random.default_rng(seed)
    out = rng.integers(1, 9000, (4, height, width)).astype(np.uint16)
    out[2] = 1 + np.arange(height * width).reshape(height, width)
    out[3] = out[2] + 5000
    return out


def dataset(path, crop=16, **options):
    table = manifest.read(path)
    own = {k: options.pop(k) for k in ("degradation", "resize", "paired") if k in options}
    scale, cache_mb = options.pop("scale", 1), options.pop("cache_mb", 0)
    reader = PairReader(table, options.pop("signature", SIGNATURE), scale, cache_mb, **own)
    return PairDataset(reader, table, crop=crop, **options)


def same(a, b):
    assert a.keys() == b.keys()
    for key, value in a.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value.nan_to_num(-1), b[key].nan_to_num(-1)), key
        else:
            assert value == b[key], key
