"""The numbers of each step: kept on the device, looked at together, so that no step waits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from crossband.training.methods.parallel import mean_over_processes


@dataclass
class StepRecord:
    """What one step recorded.

    Attributes:
        number: the step's.
        values: sum and count of each key.
        files: of the step's batches.
    """

    number: int
    values: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    files: list[Any] = field(default_factory=list)

    def means(self) -> dict[str, Tensor]:
        """Return the mean of each key."""
        return {key: total / count for key, (total, count) in self.values.items()}


@dataclass(frozen=True)
class InvalidLoss:
    """A number that is not finite, or too large to be true."""

    step: int
    key: str
    value: float
    files: list[Any]

    def __str__(self) -> str:
        """Say which step, which loss, which files."""
        kind, _, name = self.key.partition("/")
        what = name if kind == "loss" else f"the {kind} of the {name}"
        return f"step {self.step}: {what} is {self.value:g} (files of the batch: {self.names()})"

    def names(self) -> str:
        """Return the first few file names."""
        names = list(dict.fromkeys(map(str, self.files)))
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        return (", ".join(names[:6]) or "unknown") + more


class StepLog:
    """Collects numbers over the batches of a step, and steps until they are asked for.

    Args:
        limit: a loss beyond it has exploded. Losses work on normalised values, of order 1.
    """

    def __init__(self, limit: float = 1e6) -> None:
        self.limit = limit
        self.current = StepRecord(1)
        self.pending: list[StepRecord] = []

    def add(self, key: str, value: Tensor) -> None:
        """Add a number to the current step; several of one key are averaged."""
        value = value.detach().float()
        total, count = self.current.values.get(key, (None, 0))
        self.current.values[key] = (value if total is None else total + value, count + 1)

    def end_step(self) -> None:
        """End the current step."""
        self.pending.append(self.current)
        self.current = StepRecord(self.current.number + 1)

    def discard_current(self) -> None:
        """Forget the current step: it is done again with other samples."""
        self.current = StepRecord(self.current.number)

    def first_invalid(self) -> InvalidLoss | None:
        """Return the first loss or gradient that broke. Waits for the device."""
        for step in (*self.pending, self.current):
            for key, value in step.means().items():
                if not key.startswith(("loss/", "gradient/")):
                    continue
                number = float(value)
                # A gradient may be large where clipping bounds it; a loss may not.
                exploded = key.startswith("loss/") and abs(number) > self.limit
                if exploded or not math.isfinite(number):
                    return InvalidLoss(step.number, key, number, step.files)
        return None

    def take(self, world: int = 1) -> tuple[list[tuple[int, dict[str, float]]], dict[str, float]]:
        """Return the finished steps' numbers and their means, and forget them.

        With several processes (`world`) these are means over all. Waits for the device.
        """
        lines: list[tuple[int, dict[str, float]]] = []
        found: list[tuple[int, str, Tensor]] = [
            (step.number, key, value)
            for step in self.pending
            for key, value in step.means().items()
        ]
        if not found:
            return [], {}
        numbers = mean_over_processes(torch.stack([v for *_, v in found]), world).tolist()
        sums: dict[str, list[float]] = {}
        for (step, key, _), number in zip(found, numbers, strict=True):
            if not lines or lines[-1][0] != step:
                lines.append((step, {}))
            lines[-1][1][key] = number
            sums.setdefault(key, []).append(number)
        self.pending = []
        return lines, {key: sum(each) / len(each) for key, each in sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers, so that the next line is the same after a resume."""
        pending = [(s.number, {k: float(v) for k, v in s.means().items()}) for s in self.pending]
        return {"pending": pending, "next": self.current.number}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """See `state_dict`."""
        self.pending = [
            StepRecord(n, {k: (torch.tensor(v, device=device), 1) for k, v in values.items()})
            for n, values in state["pending"]
        ]
        self.current = StepRecord(state["next"])
