"""A replay of outputs: discriminators are also shown what generators made earlier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class ReplayBuffer:
    """Keeps outputs; half of those shown are exchanged for older ones (Shrivastava et al. 2017).

    Args:
        size: outputs kept; 0 keeps none, and gives back what it is shown.
    """

    def __init__(self, size: int = 50) -> None:
        self.size = size
        self.kept: list[Tensor] = []

    def exchange(self, outputs: Tensor, draws: Tensor) -> Tensor:
        """Keep outputs, and return as many: new ones, or older ones that they replace.

        Args:
            outputs: [B, C, H, W], without a graph; all of one size over a training.
            draws: [B, 2] in 0..1: whether to exchange, and with which.
        """
        if self.size == 0:
            return outputs
        shown = []
        for output, (whether, which) in zip(outputs, draws.tolist(), strict=True):
            if len(self.kept) < self.size:
                self.kept.append(output.clone())
                shown.append(output)
            elif whether < 0.5:
                shown.append(output)
            else:
                place = min(int(which * self.size), self.size - 1)
                shown.append(self.kept[place])
                self.kept[place] = output.clone()
        # One layout whatever those kept have: a resumed run computes the same bits.
        return torch.stack(shown).contiguous(memory_format=torch.channels_last)

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept, as one tensor."""
        return {"kept": torch.stack(self.kept).cpu() if self.kept else torch.zeros(0)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """See `state_dict`."""
        self.kept = [x.to(device) for x in state["kept"]]
