"""Values recorded in each step, kept on the device and read together, so that no step waits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from crossband.training.methods.parallel import mean_over_processes


@dataclass
class StepRecord:
    """The values recorded in one step.

    Attributes:
        number: number of the step.
        values: sum and count for each key.
        files: file names of the step's batches.
    """

    number: int
    values: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    files: list[Any] = field(default_factory=list)

    def means(self) -> dict[str, Tensor]:
        """Return the mean of each key."""
        return {key: total / count for key, (total, count) in self.values.items()}


@dataclass(frozen=True)
class InvalidLoss:
    """A loss or gradient that is not finite, or a loss above the limit."""

    step: int
    key: str
    value: float
    files: list[Any]

    def __str__(self) -> str:
        """Return a text with the step, the loss and the files."""
        kind, _, name = self.key.partition("/")
        what = name if kind == "loss" else f"the {kind} of the {name}"
        return f"step {self.step}: {what} is {self.value:g} (files of the batch: {self.names()})"

    def names(self) -> str:
        """Return the first few file names."""
        names = list(dict.fromkeys(map(str, self.files)))
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        return (", ".join(names[:6]) or "unknown") + more


class StepLog:
    """Collects values over the batches of a step, and steps until they are logged.

    Args:
        limit: a loss above it is invalid. Losses work on normalised values, of order 1.
    """

    def __init__(self, limit: float = 1e6) -> None:
        self.limit = limit
        self.current = StepRecord(1)
        self.pending: list[StepRecord] = []
        self._valid = 0  # so many pending steps are known to be valid

    def add(self, key: str, value: Tensor) -> None:
        """Add a value to the current step; several values of one key are averaged."""
        value = value.detach().float()
        total, count = self.current.values.get(key, (None, 0))
        self.current.values[key] = (value if total is None else total + value, count + 1)

    def end_step(self) -> None:
        """End the current step."""
        self.pending.append(self.current)
        self.current = StepRecord(self.current.number + 1)

    def discard_current(self) -> None:
        """Discard the values of the current step, which is repeated with other samples."""
        self.current = StepRecord(self.current.number)

    def first_invalid(self) -> InvalidLoss | None:
        """Return the first invalid loss or gradient. Waits for the device."""
        for step in (*self.pending[self._valid :], self.current):
            for key, value in step.means().items():
                if not key.startswith(("loss/", "gradient/")):
                    continue
                number = float(value)
                # Gradients may be large, since they can be clipped; losses may not.
                exploded = key.startswith("loss/") and abs(number) > self.limit
                if exploded or not math.isfinite(number):
                    return InvalidLoss(step.number, key, number, step.files)
        self._valid = len(self.pending)
        return None

    def take(self, world: int = 1) -> tuple[list[tuple[int, dict[str, float]]], dict[str, float]]:
        """Return the values of the finished steps and their means, and remove these steps.

        With several processes (`world`), values are means over all. Waits for the device.
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
        self.pending, self._valid = [], 0
        return lines, {key: sum(each) / len(each) for key, each in sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers, so that the next line of the log is the same after a resume."""
        pending = [(s.number, {k: float(v) for k, v in s.means().items()}) for s in self.pending]
        return {"pending": pending, "next": self.current.number}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """See `state_dict`."""
        self._valid = 0
        self.pending = [
            StepRecord(n, {k: (torch.tensor(v, device=device), 1) for k, v in values.items()})
            for n, values in state["pending"]
        ]
        self.current = StepRecord(state["next"])
