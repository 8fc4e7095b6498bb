"""FlowSampler: integrates a learned velocity field from noise to the target (flow matching)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from crossband.networks.samplers import ode
from crossband.networks.samplers.base import (
    LOCAL_FIELD,
    MOST_STEPS,
    SMALL_FIELD,
    _Sampler,
    one_time,
)

Solver = Literal["euler", "midpoint", "heun", "rk4", "dopri5"]


class FlowSampler(_Sampler):
    """Integrates dx/dt = field(x, t, source) from noise at t = 0 to the target at t = 1.

    Lipman et al. 2023, Flow matching for generative modeling. The time grid is fixed: `steps` equal
    steps, so that all tiles of a scene use the same times. With tolerances, a complete image
    (`translate --whole`; `Conditions.whole`) is integrated with the adaptive method of Dormand and
    Prince instead. Its steps depend on the whole image, so it is never used for tiles.

    The margin is that of the field, once for every sequential evaluation: without instance norm
    finite but large (`VectorFieldUNet` of 4 levels: 94 pixels for one, 64 more for each further
    one); with instance norm every pixel depends on the whole image.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        field: `class` and `arguments` of the field, without the numbers of bands.
        solver: `euler` (one evaluation a step), `midpoint` and `heun` (two), `rk4` (four) or
            `dopri5` (six).
        steps: steps of the fixed grid.
        atol: absolute tolerance of the adaptive method, in values of -1..1; 0 uses the fixed grid
            for complete images too.
        rtol: relative tolerance of the adaptive method.
    """

    examples = (
        {"field": SMALL_FIELD},
        {"field": LOCAL_FIELD, "solver": "euler", "steps": 2, "out_channels": 2},
        {"field": LOCAL_FIELD, "solver": "heun", "steps": 1, "atol": 1e-5},
    )

    CHOICES = ("solver", "steps", "atol", "rtol")
    solver: str
    steps: int
    atol: float
    rtol: float

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        field: dict[str, Any] | None = None,
        solver: Solver = "midpoint",
        steps: int = 10,
        atol: float = 0.0,
        rtol: float = 0.0,
    ) -> None:
        super().__init__(in_channels, out_channels, field)
        self.noise = out_channels
        self._set({"solver": solver, "steps": steps, "atol": atol, "rtol": rtol})

    def _check(self) -> None:
        ode.solver(self.solver)
        if not 1 <= self.steps <= MOST_STEPS:
            raise ValueError(f"steps must be at least 1 and at most {MOST_STEPS}")
        if min(self.atol, self.rtol) < 0 or (self.rtol and not self.atol):
            raise ValueError("atol and rtol must be at least 0, no rtol alone")

    @property
    def times(self) -> list[float]:
        """The times at which the fixed grid evaluates the field."""
        return ode.times(self.solver, self.steps)

    @property
    def _sequential_evaluations(self) -> int:
        return self.steps * ode.solver(self.solver).depth

    def _sample(self, noise: Tensor, source: Tensor, whole: bool) -> Tensor:
        if not (whole and self.atol):
            return ode.integrate(self._field(source), noise, self.solver, self.steps)
        results = []
        for i in range(len(noise)):  # each image has its own steps
            field = self._field(source[i : i + 1])
            results.append(ode.adaptive(field, noise[i : i + 1], self.atol, self.rtol))
        return torch.cat(results)

    def _field(self, source: Tensor) -> ode.Derivative:
        """Return (x, t) -> dx/dt, given a source."""
        return lambda x, t: self.evaluate_field(x, one_time(t, x), source)
