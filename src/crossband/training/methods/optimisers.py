"""Build optimisers from the arguments of a method, and set their learning rates."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn


def make_optimizer(factory: OptimizerCallable, *modules: nn.Module) -> torch.optim.Optimizer:
    """Build an optimiser over the trainable parameters of some modules.

    Weight decay applies to weights that mix channels, not to biases, norms and per-channel scales.
    Adam and AdamW use their fused kernel where the devices of all parameters have one.
    """
    # Networks may share weights.
    trained = list(dict.fromkeys(p for m in modules for p in m.parameters() if p.requires_grad))
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


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of every group to factor times its initial value."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
