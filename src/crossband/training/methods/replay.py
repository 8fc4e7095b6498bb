"""A replay buffer: discriminators are also trained on earlier outputs of the generators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class ReplayBuffer:
    """Stores outputs; half of the returned ones are older outputs (Shrivastava et al. 2017).

    Args:
        size: number of stored outputs; 0 stores none and returns its input.
    """

    def __init__(self, size: int = 50) -> None:
        self.size = size
        self.kept: list[Tensor] = []

    def exchange(self, outputs: Tensor, draws: Tensor) -> Tensor:
        """Store outputs and return as many: each is the new one or an older one that it replaces.

        Args:
            outputs: [B, C, H, W], detached; of the same size throughout a training.
            draws: [B, 2] in 0..1: whether to exchange an output, and with which stored one.
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
        # Always the same memory format, so that a resumed run computes the same bits.
        return torch.stack(shown).contiguous(memory_format=torch.channels_last)

    def state_dict(self) -> dict[str, Any]:
        """Return the stored outputs as one tensor."""
        return {"kept": torch.stack(self.kept).cpu() if self.kept else torch.zeros(0)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """See `state_dict`."""
        self.kept = [x.to(device) for x in state["kept"]]
