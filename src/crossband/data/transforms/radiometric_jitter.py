"""Random changes of the radiometry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from crossband.core.sensors import DISPLAY
from crossband.data.transforms.base import Sample, Transform
from crossband.errors import RecipeError


class RadiometricJitter(Transform):
    """Random gain, gamma, gain per band, haze and noise, applied in this order.

    They stand for differences between two images of one place: light, calibration, haze, noise and
    contrast stretches. Each range is symmetric in the logarithm, unless stated otherwise.

    Args:
        gain: factor exp(-gain..gain) on both source and target (light, calibration).
        display_gamma: power exp(-g..g) on both source and target, in unit `display` only
            (contrast stretches).
        band_gain: factor exp(-b..b) on each source band separately (calibration between bands).
        haze: the largest path radiance in physical units, one number for all bands or one for
            each. It is multiplied by a factor in -0.3..1 and by one in 0.7..1.3 for each band, and
            added to the source.
        noise: standard deviation of white noise on the source, 0..noise in physical units.
        probability: share of the samples that are changed.
        every: change only samples at positions that are multiples of this number. Where members
            of a network take the samples in turn, as in `LocalStatistics`, some members then see
            unchanged values only.
    """

    examples = (
        {},
        {"gain": 0.3, "display_gamma": 0.2, "band_gain": 0.1, "haze": 0.02, "noise": 0.01},
        {"gain": 0.3, "probability": 0.5, "haze": [0.01, 0.02, 0.03]},
    )

    def __init__(
        self,
        gain: float = 0.0,
        display_gamma: float = 0.0,
        band_gain: float = 0.0,
        haze: float | Sequence[float] = 0.0,
        noise: float = 0.0,
        probability: float = 1.0,
        every: int = 1,
    ) -> None:
        self.haze = [haze] if isinstance(haze, int | float) else list(haze)
        if min(gain, display_gamma, band_gain, noise, *self.haze) < 0:
            raise RecipeError("RadiometricJitter takes no negative ranges")
        if not 0.0 <= probability <= 1.0:
            raise RecipeError(f"RadiometricJitter: probability {probability} is not in 0..1")
        if every < 1:
            raise RecipeError(f"RadiometricJitter: every must be at least 1, not {every}")
        self.probability, self.every = probability, every
        self.gain, self.display_gamma = gain, display_gamma
        self.band_gain, self.noise = band_gain, noise

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Change the values; masks stay."""
        source, target = sample["source"], sample["target"]
        bands = source.shape[0]
        if len(self.haze) not in (1, bands):
            raise RecipeError(f"RadiometricJitter: {len(self.haze)} haze values, {bands} bands")
        # All numbers are drawn for any ranges, so that one range does not change the other draws.
        gain, gamma = rng.uniform(-1, 1, 2)
        by_band = rng.uniform(-1, 1, bands)
        amount, tint = rng.uniform(-0.3, 1.0), rng.uniform(0.7, 1.3, bands)
        sigma = rng.uniform(0, 1)
        if self.every > 1 and sample["position"] % self.every:
            return sample
        if self.probability < 1.0 and rng.random() >= self.probability:
            return sample
        if self.display_gamma and sample["unit"] == DISPLAY:
            power = float(np.exp(gamma * self.display_gamma))
            source, target = source.clamp_min(0) ** power, target.clamp_min(0) ** power
        if self.gain:
            factor = float(np.exp(gain * self.gain))
            source, target = source * factor, target * factor
        if self.band_gain:
            source = source * _column(np.exp(by_band * self.band_gain))
        if any(self.haze):
            source = source + _column(amount * tint * np.asarray(self.haze))
        if self.noise:
            white = rng.standard_normal(tuple(source.shape), dtype=np.float32)
            source = source + torch.from_numpy(white) * float(sigma * self.noise)
        return {**sample, "source": source, "target": target}


def _column(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))[:, None, None]
