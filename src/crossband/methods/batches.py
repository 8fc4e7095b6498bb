"""From a batch in physical units to what losses look at."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from crossband.losses.base import Prediction
from crossband.networks.base import centre
from crossband.signature import Signature

Batch = dict[str, Any]


def normalised(signature: Signature, batch: Batch) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """Return source and target in normalised values, the target's mask, the units.

    A batch needs `source` and `target` in physical units; `mask` and `source_mask` are everywhere
    and `unit` the signature's first where they are missing.
    """
    source, target = batch["source"], batch["target"]
    units = list(batch.get("unit") or [next(iter(signature.units))] * len(source))
    mask = batch.get("mask")
    if mask is None:
        mask = torch.ones_like(target[:, :1], dtype=torch.bool)
    source = signature.normalise(source, units, "source")
    if (known := batch.get("source_mask")) is not None:
        source = source.masked_fill(~known, 0.0)  # as the translator fills them
    target = signature.normalise(target, units, "target").masked_fill(~mask, 0.0)
    return source.contiguous(memory_format=torch.channels_last), target, mask, units


def predict(signature: Signature, network: nn.Module, batch: Batch) -> Prediction:
    """Run a generator on a batch; everything in the result is normalised and fp32.

    A source that is larger than the target has a context, which is looked at only.
    """
    source, target, mask, units = normalised(signature, batch)
    generator: Any = network
    wanted = mask if network.training else None
    context = (source.shape[-1] - target.shape[-1] // generator.scale) // 2
    with record_function("crossband/generator"):
        output = generator.inner(source, context, wanted).float()
    return Prediction(output, target, centre(source, context), mask, signature, units)
