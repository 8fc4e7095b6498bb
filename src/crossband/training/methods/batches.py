"""Turn a batch in physical units into the prediction that losses take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from crossband.core.signature import Signature
from crossband.errors import RecipeError
from crossband.networks.base import Generator, crop_border
from crossband.networks.conditions import Conditions, Lattice, noise_at, style_of
from crossband.networks.layout import laid_out_for
from crossband.training.losses.base import Prediction

Batch = dict[str, Any]


def normalise_batch(signature: Signature, batch: Batch) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """Return normalised source and target, the mask of the target, and the units.

    A batch needs `source` and `target` in physical units. Where `mask` or `source_mask` is missing,
    all pixels are valid; where `unit` is missing, it is the first unit of the signature.
    """
    source, target = batch["source"], batch["target"]
    units = list(batch.get("unit") or [next(iter(signature.units))] * len(source))
    mask = batch.get("mask")
    if mask is None:
        mask = torch.ones_like(target[:, :1], dtype=torch.bool)
    source = signature.normalise(source, units, "source")
    if (known := batch.get("source_mask")) is not None:
        source = source.masked_fill(~known, 0.0)  # as in translating
    target = signature.normalise(target, units, "target").masked_fill(~mask, 0.0)
    return source.contiguous(memory_format=torch.channels_last), target, mask, units


def normalise_same_size(signature: Signature, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return normalised source, target and mask, all of the same height and width.

    Raises:
        RecipeError: source and target differ in size.
    """
    source, target, mask, _ = normalise_batch(signature, batch)
    if source.shape[-2:] != target.shape[-2:]:
        raise RecipeError(
            "a network that starts from noise needs data.context 0 and data.scale 1: source and "
            "target are of one size"
        )
    return source, target, mask


def conditions_of(
    signature: Signature,
    network: Generator,
    batch: Batch,
    normal: Callable[..., Tensor] | None = None,
) -> Conditions | None:
    """Return the conditions of a network for a batch; None if it takes only the source.

    Args:
        signature: ranges of the guide.
        network: the generator.
        batch: samples, with `lonlat` [B, 2] where locations are known, and `guide`.
        normal: (count, *shape) -> standard normal numbers, one row for each sample. Where None, as
            in validation, the noise of a window at the origin of a scene with seed 0.
    """
    if not network.conditioned:
        return None
    source = batch["source"]
    count, (height, width) = len(source), source.shape[-2:]
    noise = style = lattice = None
    if network.noise and normal is not None:
        noise = normal(count, network.noise, height, width)
    elif network.noise:
        one = torch.from_numpy(noise_at(0, 0, 0, height, width, network.noise))
        noise = one.expand(count, -1, -1, -1)
    if network.style and normal is not None:
        style = normal(count, network.style)
    elif network.style:
        style = torch.from_numpy(style_of(0, network.style)).expand(count, -1)
    if network.located:
        unknown = torch.full((count, 2), float("nan"))
        lattice = Lattice.constant(batch.get("lonlat", unknown).to(source.device))
    place = {"device": source.device, "non_blocking": True}
    return Conditions(
        None if noise is None else noise.to(**place),
        None if style is None else style.to(**place),
        lattice,
        guide=_guide(signature, batch) if network.guide else None,
    )


def _guide(signature: Signature, batch: Batch) -> Tensor | None:
    guide: Tensor | None = batch.get("guide")
    if guide is None:
        return None
    units = list(batch.get("unit") or [next(iter(signature.units))] * len(guide))
    return signature.normalise_guide(guide, units)


def predict(
    signature: Signature,
    network: nn.Module,
    batch: Batch,
    conditions: Conditions | None = None,
) -> Prediction:
    """Run a generator on a batch; all values of the result are normalised and fp32.

    Where the source is larger than the target, its border is context: the network sees it but does
    not translate it. `conditions` are for a network that takes more than its source; see
    `conditions_of`.
    """
    source, target, mask, units = normalise_batch(signature, batch)
    source = laid_out_for(network, source)
    generator: Any = network
    wanted = mask if network.training else None
    context = (source.shape[-1] - target.shape[-1] // generator.scale) // 2
    with record_function("crossband/generator"):
        if generator.conditioned:
            if context:
                raise RecipeError(
                    "a network that takes noise, a place or a guide needs data.context 0"
                )
            output = generator.forward_conditioned(source, conditions or Conditions()).float()
        else:
            output = generator.forward_cropped(source, context, wanted).float()
    if output.shape != target.shape:
        raise RecipeError(
            f"{type(generator).__name__} made {list(output.shape)} for a target of "
            f"{list(target.shape)}: batch, bands, rows, columns"
        )
    return Prediction(output, target, crop_border(source, context), mask, signature, units)
