"""Learning rate schedules: the factor of the initial learning rate at each generator step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from crossband.core.registry import Registered
from crossband.errors import RecipeError


class Schedule(Registered, family="Schedule", package="crossband.training.methods"):
    """The learning rate as a factor of its initial value; a subclass defines `shape`.

    Args:
        warmup: steps of a linear rise at the start.
    """

    def __init__(self, warmup: int = 0) -> None:
        if warmup < 0:
            raise RecipeError(f"a schedule needs warmup of at least 0, not {warmup}")
        self.warmup = warmup

    def shape(self, progress: float) -> float:
        """Return the factor without warm-up where `progress` (0..1) of the steps are done."""
        raise NotImplementedError

    def factor(self, step: int, max_steps: int) -> float:
        """Return the factor of the step that follows `step` finished ones.

        >>> [round(Cosine(warmup=2).factor(s, 10), 3) for s in (0, 1, 5)]
        [0.5, 0.976, 0.5]
        """
        rise = min((step + 1) / self.warmup, 1.0) if self.warmup else 1.0
        return rise * self.shape(min(step / max_steps, 1.0))

    def record_score(self, score: float) -> None:
        """Record the score of a validation; lower is better."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed training needs besides its step."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `state_dict`."""


class Constant(Schedule):
    """A constant learning rate."""

    def shape(self, progress: float) -> float:
        """Return 1."""
        return 1.0


class Cosine(Schedule):
    """Half a cosine from 1 down to `end`; Loshchilov and Hutter 2017, without restarts.

    Args:
        warmup: steps of a linear rise at the start.
        end: factor at the last step.
    """

    examples = ({}, {"warmup": 3, "end": 0.1})

    def __init__(self, warmup: int = 0, end: float = 0.0) -> None:
        super().__init__(warmup)
        _share("end", end)
        self.end = end

    def shape(self, progress: float) -> float:
        """Return end + (1 - end) (1 + cos(pi progress)) / 2."""
        return self.end + (1.0 - self.end) * 0.5 * (1.0 + math.cos(math.pi * progress))


class Linear(Schedule):
    """1, then a straight line down to `end`, as pix2pix and CycleGAN train.

    Args:
        warmup: steps of a linear rise at the start.
        start: fraction of the training after which it falls.
        end: factor at the last step.
    """

    examples = ({}, {"warmup": 3, "start": 0.2, "end": 0.1})

    def __init__(self, warmup: int = 0, start: float = 0.5, end: float = 0.0) -> None:
        super().__init__(warmup)
        _share("start", start)
        _share("end", end)
        self.start, self.end = start, end

    def shape(self, progress: float) -> float:
        """Return 1 until `start`, then fall."""
        if progress <= self.start:
            return 1.0
        return 1.0 - (1.0 - self.end) * (progress - self.start) / (1.0 - self.start)


class Steps(Schedule):
    """The rate is multiplied by `by` at given fractions of the training.

    Args:
        warmup: steps of a linear rise at the start.
        by: factor of each fall.
        at: fractions of the training at which the rate falls.
    """

    examples = ({}, {"at": [0.3, 0.6]})

    def __init__(self, warmup: int = 0, by: float = 0.5, at: Sequence[float] = (0.5,)) -> None:
        super().__init__(warmup)
        if not 0.0 < by < 1.0 or not all(0.0 < share < 1.0 for share in at):
            raise RecipeError("Steps needs by and at between 0 and 1")
        self.by, self.at = by, tuple(at)

    def shape(self, progress: float) -> float:
        """Return `by` to the power of the falls so far."""
        return self.by ** sum(progress >= share for share in self.at)


class Plateau(Schedule):
    """The rate is multiplied by `by` if the validation score stops improving.

    Args:
        warmup: steps of a linear rise at the start.
        by: factor of each fall.
        patience: validations without a better score before a fall.
        better: relative improvement over the best score that counts as better.
        end: smallest factor.
    """

    examples = ({"patience": 2},)

    def __init__(
        self,
        warmup: int = 0,
        by: float = 0.5,
        patience: int = 5,
        better: float = 1e-4,
        end: float = 1e-3,
    ) -> None:
        super().__init__(warmup)
        if not 0.0 < by < 1.0 or patience < 1:
            raise RecipeError("Plateau needs by between 0 and 1, and patience of at least 1")
        _share("end", end)
        _share("better", better)
        self.by, self.patience, self.better, self.end = by, patience, better, end
        self._now, self._best, self._waited = 1.0, math.inf, 0

    def shape(self, progress: float) -> float:
        """Return the factor after the falls so far."""
        return self._now

    def record_score(self, score: float) -> None:
        """Count validations since the best one; fall after `patience` of them."""
        if score < self._best * (1.0 - self.better):
            self._best, self._waited = score, 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            self._now, self._waited = max(self._now * self.by, self.end), 0

    def state_dict(self) -> dict[str, Any]:
        """Return the factor, the best score, and the validations since."""
        return {"now": self._now, "best": self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `state_dict`."""
        self._now, self._best, self._waited = state["now"], state["best"], state["waited"]


def _share(name: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise RecipeError(f"a schedule needs {name} of 0 to below 1, not {value}")
