"""Explicit Runge-Kutta methods for dx/dt = field(x, t) from t = 0 to t = 1.

A fixed time grid is the same for all images, so that the tiles of a scene agree. The adaptive
method chooses its steps by the error over the whole image, so it is for complete images only.

Coefficients: Hairer, Norsett and Wanner 1993, Solving Ordinary Differential Equations I, II.1 and
II.4; the adaptive pair is that of Dormand and Prince 1980, of order 5 with an error estimate of
order 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from crossband.errors import CrossbandError, nearest

#: (x, t) -> dx/dt, of x's shape.
Derivative = Callable[[Tensor, float], Tensor]
#: Largest number of steps of the adaptive method, accepted or rejected.
MAX_STEPS = 2000
#: The adaptive method's first step.
FIRST = 0.05


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method.

    Attributes:
        nodes: time of each stage, as a fraction of the step.
        stages: for each stage, the weights of the previous stages.
        weights: weights of the stages in the step.
    """

    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]

    @property
    def depth(self) -> int:
        """Number of sequential field evaluations in a step.

        >>> [SOLVERS[name].depth for name in ("euler", "heun", "rk4", "dopri5")]
        [1, 2, 4, 6]
        """
        deep: list[int] = []
        for row in self.stages:
            deep.append(1 + max((d for d, a in zip(deep, row, strict=True) if a), default=0))
        return max(d for d, b in zip(deep, self.weights, strict=True) if b)


#: The methods by name; `midpoint` and `heun` are of order 2, `rk4` of order 4, `dopri5` of order 5.
SOLVERS: dict[str, Tableau] = {
    "euler": Tableau((0.0,), ((),), (1.0,)),
    "midpoint": Tableau((0.0, 0.5), ((), (0.5,)), (0.0, 1.0)),
    "heun": Tableau((0.0, 1.0), ((), (1.0,)), (0.5, 0.5)),
    "rk4": Tableau(
        (0.0, 0.5, 0.5, 1.0),
        ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    ),
    "dopri5": Tableau(
        (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0),
        (
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        ),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
}
#: Error estimate of dopri5, order 5 minus order 4: weights of its stages, and of the field at the
#: end of the step.
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def solver(name: str) -> Tableau:
    """Return a method by name; the CrossbandError for an unknown name suggests the nearest one."""
    if name not in SOLVERS:
        raise CrossbandError(f"unknown solver {name!r}: {nearest(name, SOLVERS)}")
    return SOLVERS[name]


def times(name: str, steps: int) -> list[float]:
    """Return all times at which a method with `steps` equal steps evaluates the field.

    >>> times("midpoint", 2)
    [0.0, 0.25, 0.5, 0.75]
    """
    nodes = solver(name).nodes
    return sorted({(step + node) / steps for step in range(steps) for node in nodes})


def integrate(field: Derivative, x: Tensor, name: str, steps: int) -> Tensor:
    """Integrate from t = 0 to t = 1 in `steps` equal steps.

    Args:
        field: dx/dt.
        x: the state at t = 0.
        name: one of `SOLVERS`.
        steps: at least 1.

    Returns:
        The state at t = 1.
    """
    tableau = solver(name)
    for step in range(steps):
        slopes = _slopes(field, x, step / steps, 1.0 / steps, tableau)
        x = _advance(x, 1.0 / steps, tableau.weights, slopes)
    return x


def adaptive(field: Derivative, x: Tensor, atol: float, rtol: float) -> Tensor:
    """Integrate from t = 0 to t = 1 in steps whose estimated error is below the tolerances.

    The error of a step is the root mean square over x of error / (atol + rtol |x|), as in Hairer
    et al., eq. II.4.11, so the steps depend on all of x.

    Args:
        field: dx/dt.
        x: the state at t = 0.
        atol: absolute tolerance, in units of x.
        rtol: relative tolerance.

    Raises:
        CrossbandError: the field is not finite, or the tolerances need too many steps.
    """
    tableau, t, h = SOLVERS["dopri5"], 0.0, FIRST
    slope = field(x, t)
    for _ in range(MAX_STEPS):
        h = min(h, 1.0 - t)
        slopes = _slopes(field, x, t, h, tableau, slope)
        there = _advance(x, h, tableau.weights, slopes)
        end = field(there, min(t + h, 1.0))
        error = _advance(torch.zeros_like(x), h, ERROR, [*slopes, end])
        bound = atol + rtol * torch.maximum(x.abs(), there.abs())
        size = float((error / bound).square().mean().sqrt())
        if not math.isfinite(size):
            raise CrossbandError("the field of the model is not finite: its training went wrong")
        if size <= 1.0:
            t, x, slope = t + h, there, end
            if t >= 1.0 - 1e-9:
                return x
        # Safety factor 0.9; limits 0.2 to 10, so that one estimate does not change h too much.
        h *= min(10.0, max(0.2, 0.9 * size**-0.2)) if size > 0 else 10.0
    raise CrossbandError(
        f"the adaptive solver needs more than {MAX_STEPS} steps: take larger tolerances, or steps "
        "on a fixed grid"
    )


def _slopes(
    field: Derivative, x: Tensor, t: float, h: float, tableau: Tableau, first: Tensor | None = None
) -> list[Tensor]:
    """Return the field at each stage of a step; `first` is the one at its start, if known."""
    slopes = [] if first is None else [first]
    for node, row in list(zip(tableau.nodes, tableau.stages, strict=True))[len(slopes) :]:
        slopes.append(field(_advance(x, h, row, slopes), t + node * h))
    return slopes


def _advance(x: Tensor, h: float, weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    """Return x + h sum(weight * slope)."""
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            x = x + (h * weight) * slope
    return x
