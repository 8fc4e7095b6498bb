"""DiffusionSampler: removes noise from an image step by step (diffusion models).

The state at step n is signal[n] x target + spread[n] x noise, with signal^2 + spread^2 = 1 (Ho et
al. 2020, Denoising diffusion probabilistic models, eq. 4). DDIM (Song et al. 2021, Denoising
diffusion implicit models, eq. 12 and 16) is implemented here in a few lines, so that a model needs
no other package. DPM-Solver++ needs the package `diffusers`.
"""

from __future__ import annotations

import importlib
import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossband.errors import CrossbandError
from crossband.networks.samplers.base import (
    LOCAL_FIELD,
    MOST_STEPS,
    SMALL_FIELD,
    _Sampler,
    one_time,
)

Levels = Literal["cosine", "linear"]
Predicts = Literal["v", "epsilon"]
#: Upper bound of beta, so that the cosine schedule keeps some signal (Nichol and Dhariwal 2021).
LARGEST_BETA = 0.999
#: DPM-Solver++ cannot start without signal. It starts at this log(signal / spread), the value that
#: diffusers recommends for the cosine schedule.
LEAST_LAMBDA = -5.1


def noise_levels(schedule: Levels, count: int) -> NDArray[np.float64]:
    """Return beta, the variance of the noise that each of `count` steps adds, [count].

    linear: Ho et al. 2020, 0.0001 to 0.02 for 1000 steps, scaled up for fewer steps. cosine: Nichol
    and Dhariwal 2021, Improved denoising diffusion probabilistic models, eq. 17.
    """
    if schedule == "linear":
        return np.minimum(np.linspace(1e-4, 0.02, count) * 1000 / count, LARGEST_BETA)
    at = np.arange(count + 1) / count
    kept = np.cos((at + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.asarray(np.minimum(1.0 - kept[1:] / kept[:-1], LARGEST_BETA))


class DiffusionSampler(_Sampler):
    """Denoises from step `levels - 1`, pure noise, to the target at step 0, in `steps` steps.

    The time input of the field is the number of the step, 0 to `levels - 1`. The sampling steps are
    evenly spaced and start with the last one (Lin et al. 2024, Common diffusion noise schedules and
    sample steps are flawed, section 3.3). With `eta` above 0 each step adds new noise, which is
    again a function of the position.

    The margin is that of the field times `steps`; with instance norm every pixel depends on the
    whole image.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        field: `class` and `arguments` of the field, without the numbers of bands.
        schedule: noise schedule, `cosine` or `linear`; see `noise_levels`.
        levels: number of diffusion steps in training.
        predicts: output of the field: `epsilon`, the noise, or `v` = signal x noise - spread x
            target (Salimans and Ho 2022, Progressive distillation, section 4), which is well
            defined also where there is hardly any signal.
        solver: `ddim`, or `dpm-solver++` (Lu et al. 2022, order 2), which needs fewer steps and
            the package diffusers.
        steps: sampling steps, at most `levels`.
        eta: 0 is deterministic for a given noise (DDIM), 1 draws noise at each step (DDPM); `ddim`
            only.
        limit: intermediate predictions of the target are clamped to -limit..limit, where 1 is the
            range of the signature.
    """

    examples = (
        {"field": SMALL_FIELD, "steps": 2},
        {"field": LOCAL_FIELD, "schedule": "linear", "eta": 1.0, "out_channels": 2},
    )

    signal: Tensor
    spread: Tensor
    CHOICES = ("solver", "steps", "eta", "limit")
    solver: str
    steps: int
    eta: float
    limit: float

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        field: dict[str, Any] | None = None,
        schedule: Levels = "cosine",
        levels: int = 1000,
        predicts: Predicts = "v",
        solver: Literal["ddim", "dpm-solver++"] = "ddim",
        steps: int = 50,
        eta: float = 0.0,
        limit: float = 1.5,
    ) -> None:
        super().__init__(in_channels, out_channels, field)
        if schedule not in ("cosine", "linear") or predicts not in ("v", "epsilon"):
            raise ValueError("schedule must be cosine or linear, predicts v or epsilon")
        if levels < 2:
            raise ValueError("levels must be at least 2")
        self.predicts, self.levels = predicts, levels
        self.betas = noise_levels(schedule, levels)
        self.kept = np.cumprod(1.0 - self.betas)  # signal squared, in float64
        for name, squared in (("signal", self.kept), ("spread", 1.0 - self.kept)):
            values = torch.from_numpy(np.sqrt(squared)).float()
            self.register_buffer(name, values, persistent=False)
        self._set({"solver": solver, "steps": steps, "eta": eta, "limit": limit})

    def _check(self) -> None:
        if self.solver not in ("ddim", "dpm-solver++"):
            raise ValueError(f"no solver {self.solver!r}: known: ddim, dpm-solver++")
        if self.steps > MOST_STEPS:
            raise ValueError(f"steps must be at most {MOST_STEPS}")
        if not 1 <= self.steps <= self.levels or not 0.0 <= self.eta <= 1.0 or self.limit < 1.0:
            raise ValueError("steps must be 1 to levels, eta 0 to 1, limit at least 1")
        if self.solver == "dpm-solver++":
            if self.eta:
                raise ValueError("eta is for the solver ddim")
            _diffusers()
        self.noise = self.out_channels * (self.steps if self.eta else 1)

    @property
    def times(self) -> list[int]:
        """The steps at which the field is evaluated, from noise to target.

        >>> DiffusionSampler(levels=1000, steps=4, field={"arguments": {"width": 1}}).times
        [999, 749, 499, 249]
        """
        every = self.levels / self.steps
        return [round(self.levels - i * every) - 1 for i in range(self.steps)]

    @property
    def _sequential_evaluations(self) -> int:
        return self.steps

    def target_of(self, x: Tensor, prediction: Tensor, step: int) -> Tensor:
        """Return the predicted target for a field's output at a step, clamped to the limit."""
        signal, spread = math.sqrt(self.kept[step]), math.sqrt(1.0 - self.kept[step])
        if self.predicts == "v":
            target = signal * x - spread * prediction
        else:
            target = (x - spread * prediction) / signal
        return target.clamp(-self.limit, self.limit)

    def _sample(self, noise: Tensor, source: Tensor, whole: bool) -> Tensor:
        if self.solver == "dpm-solver++":
            return self._sample_with_diffusers(noise, source)
        x, *fresh = torch.split(noise, self.out_channels, dim=1)
        for i, step in enumerate(self.times):
            target = self.target_of(x, self.evaluate_field(x, one_time(step, x), source), step)
            if i + 1 == self.steps:
                return target
            kept, later = self.kept[step], self.kept[self.times[i + 1]]
            # The noise that is consistent with the clamped prediction, not the field's own.
            left = (x - math.sqrt(kept) * target) / math.sqrt(1.0 - kept)
            drawn = self.eta * math.sqrt((1.0 - later) / (1.0 - kept) * (1.0 - kept / later))
            x = math.sqrt(later) * target + math.sqrt(1.0 - later - drawn**2) * left
            if drawn:
                x = x + drawn * fresh[i]
        raise AssertionError("there is at least one step")

    def _sample_with_diffusers(self, noise: Tensor, source: Tensor) -> Tensor:
        scheduler = _diffusers().DPMSolverMultistepScheduler(
            num_train_timesteps=self.levels,
            trained_betas=self.betas.tolist(),
            prediction_type="sample",
            timestep_spacing="trailing",
            algorithm_type="dpmsolver++",
            lambda_min_clipped=LEAST_LAMBDA,
        )
        scheduler.set_timesteps(self.steps)
        x = noise
        for step in scheduler.timesteps.tolist():
            target = self.target_of(x, self.evaluate_field(x, one_time(step, x), source), step)
            x = scheduler.step(target, step, x).prev_sample
        return x


def _diffusers() -> Any:
    """Import diffusers, which is an optional dependency."""
    try:
        return importlib.import_module("diffusers")
    except ImportError as error:
        raise CrossbandError(
            "the solver dpm-solver++ needs the package diffusers, which is not installed: pip "
            "install 'crossband[diffusion]', or choose the solver ddim"
        ) from error
