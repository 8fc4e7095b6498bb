"""Optimisers and learning rates: constructor arguments of a method, stepped by hand."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn

from crossband.errors import RecipeError, nearest

ScheduleName = Literal["constant", "cosine"]


def make_optimizer(factory: OptimizerCallable, *modules: nn.Module) -> torch.optim.Optimizer:
    """Build an optimiser over the trainable parameters of some modules.

    Weight decay is for weights that mix channels: biases, norms and per-channel scales have none.
    Adam and AdamW use their fused kernel where every parameter's device has one.
    """
    trained = [p for m in modules for p in m.parameters() if p.requires_grad]
    mixing = [p for p in trained if p.numel() > max(p.shape, default=1)]
    others = [p for p in trained if p.numel() <= max(p.shape, default=1)]
    groups: list[dict[str, Any]] = [{"params": mixing}, {"params": others, "weight_decay": 0.0}]
    optimizer = factory([g for g in groups if g["params"]])
    fast = {"cpu", "cuda", "mps"}
    for group in optimizer.param_groups:
        group["initial_lr"] = float(group["lr"])
        plain = group.get("fused") is None and not group.get("foreach")
        if (
            type(optimizer) in (torch.optim.Adam, torch.optim.AdamW)
            and plain
            and not (group.get("differentiable") or group.get("capturable"))
            and all(p.device.type in fast and p.is_floating_point() for p in group["params"])
        ):
            group["fused"] = True
            group["foreach"] = False
    return optimizer


class Schedule:
    """Learning rate as a factor of the first one: a pure function of the generator's step.

    Args:
        name: `constant`, or `cosine` down to 0 at the last step.
        warmup: steps of a linear rise at the start.
        max_steps: the last step.
    """

    def __init__(self, name: str, warmup: int, max_steps: int) -> None:
        known = ("constant", "cosine")
        if name not in known:
            raise RecipeError(f"unknown schedule {name!r}: {nearest(name, known)}")
        if warmup < 0 or max_steps < 1:
            raise RecipeError("a method needs max_steps of at least 1 and warmup of at least 0")
        self.name, self.warmup, self.max_steps = name, warmup, max_steps

    def factor(self, step: int) -> float:
        """Return the factor of the step that follows `step` finished ones.

        >>> [round(Schedule("cosine", 2, 10).factor(s), 3) for s in (0, 1, 5)]
        [0.5, 0.976, 0.5]
        """
        rise = min((step + 1) / self.warmup, 1.0) if self.warmup else 1.0
        if self.name == "constant":
            return rise
        return rise * 0.5 * (1.0 + math.cos(math.pi * min(step / self.max_steps, 1.0)))
