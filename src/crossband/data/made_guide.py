"""Guides for training: what a coarser sensor would have measured, on the pixels of the source."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossband.core.cubic import cubic_weights
from crossband.errors import RecipeError
from crossband.networks.conditions import guide_facts
from crossband.raster.point_spread import gaussian_width

Array = NDArray[np.float32]
#: Share of a coarse pixel's kernel that must lie on valid pixels.
_COVER = 0.9


@dataclass(frozen=True)
class MadeGuide:
    """Makes a guide from fine pixels, each time another one.

    Attributes:
        ratio: range of the size of its pixels, in pixels of the source.
        mtf: range of the modulation transfer function at the Nyquist frequency of its pixels.
        noise: largest standard deviation of its noise, in physical units.
        shift: largest misregistration, in pixels of the guide; its square root is drawn evenly, as
            most guides are well aligned.
        holes: share of the guides with clouds: discs that are invalid.
        absent: share of the crops without a guide.
        other_dates: share of the crops whose guide is of the date that the manifest's column
            `guide` names, where it does.
        changed: share of the other guides that show another state of the ground: gains of each band
            and, in discs, pixels from elsewhere in the crop. So the network learns from places
            of one date to trust a guide only where its colours are those of the source.
        undated: share of the guides whose age is not told.
    """

    ratio: tuple[float, float] = (2.0, 16.0)
    mtf: tuple[float, float] = (0.15, 0.4)
    noise: float = 0.002
    shift: float = 0.5
    holes: float = 0.2
    absent: float = 0.05
    other_dates: float = 0.5
    changed: float = 0.3
    undated: float = 0.3

    def __post_init__(self) -> None:
        """Check the ranges."""
        shares = (self.holes, self.absent, self.other_dates, self.changed, self.undated)
        if not 1.0 <= self.ratio[0] <= self.ratio[1] <= 256.0:
            raise RecipeError(f"data.guide: ratio must be within 1 to 256, not {self.ratio}")
        if not 0.0 < self.mtf[0] <= self.mtf[1] < 1.0:
            raise RecipeError(f"data.guide: mtf must lie between 0 and 1, not {self.mtf}")
        if min(self.noise, self.shift) < 0 or not all(0.0 <= share <= 1.0 for share in shares):
            raise RecipeError(
                "data.guide: noise and shift must not be negative, and holes, absent, other_dates, "
                "changed and undated must lie within 0 to 1"
            )

    def __call__(
        self,
        fine: Array,
        mask: NDArray[np.bool_],
        rng: np.random.Generator,
        days: float = 0.0,
        ratio: float = 1.0,
    ) -> Array:
        """Return a guide and what is known of it; see `Conditions.guide`.

        Args:
            fine: the bands [G, H, W] that it measures.
            mask: where they are valid, [H, W].
            rng: for all that is drawn.
            days: between fine pixels and source; NaN where unknown.
            ratio: size of a pixel of what `fine` was made from, which is not made finer.

        Returns:
            float32 [G + 3, H, W], bands in physical units and 0 where they are invalid.
        """
        if days == 0.0 and rng.random() < self.changed:
            fine, mask = _changed(fine, mask, rng)
            days = float(rng.integers(5, 200))
        low, high = (math.log(max(bound, ratio)) for bound in self.ratio)
        coarse = math.exp(rng.uniform(low, high))
        mtf, noise = rng.uniform(*self.mtf), rng.uniform(0.0, self.noise)
        drawn = rng.uniform(-1.0, 1.0, 2)
        moved = self.shift * drawn * np.abs(drawn)
        begins = -rng.uniform(0.0, 1.0, 2)
        has_holes, is_absent = rng.random() < self.holes, rng.random() < self.absent
        told = math.nan if rng.random() < self.undated else days
        axes = [
            _axis(length, coarse, mtf, start, shift)
            for length, start, shift in zip(fine.shape[-2:], begins, moved, strict=True)
        ]
        (down, up), (across, back) = axes
        weight = down @ mask.astype(np.float32) @ across.T
        known = weight >= _COVER
        sums = down @ np.where(mask, fine, np.float32(0.0)) @ across.T
        values = sums / np.maximum(weight, 1e-6)
        values += (noise * rng.standard_normal(values.shape)).astype(np.float32)
        if has_holes:
            known &= ~_discs(known.shape, rng)
        if is_absent:
            known[:] = False
        enlarged = up @ np.where(known, values, np.float32(0.0)) @ back.T
        # All pixels that the kernel reaches are valid.
        sure = np.abs(up) @ known.astype(np.float32) @ np.abs(back).T
        valid = sure >= 0.999 * (np.abs(up).sum(axis=1)[:, None] * np.abs(back).sum(axis=1))
        facts = np.array(guide_facts(coarse, told), np.float32)[:, None, None]
        facts = np.concatenate(
            [np.ones_like(valid, np.float32)[None], np.broadcast_to(facts, (2, *valid.shape))]
        )
        return np.where(valid, np.concatenate([enlarged, facts]), np.float32(0.0))


def _axis(length: int, ratio: float, mtf: float, start: float, shift: float) -> tuple[Array, Array]:
    """Return the matrices that average an axis to coarse pixels, and that enlarge it again.

    Args:
        length: fine pixels.
        ratio: fine pixels of a coarse one.
        mtf: of the sensor.
        start: where the first coarse pixel begins, in coarse pixels from the first fine one.
        shift: by which the coarse pixels are misplaced, in coarse pixels.
    """
    count = math.ceil(length / ratio - start)
    centres = (start + np.arange(count) + 0.5) * ratio - 0.5
    distance = np.arange(length) - centres[:, None]
    # The square of a fine pixel is a part of the blur already: its variance is 1/12.
    variance = max(gaussian_width(mtf, ratio) ** 2 - 1 / 12, 0.01)
    weights = np.exp(-0.5 * distance**2 / variance)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    places = ((np.arange(length) + 0.5) / ratio - start - 0.5) + shift
    back = cubic_weights(np.abs(places[:, None] - np.arange(count)))
    back /= np.where(back.sum(axis=1, keepdims=True) < 0.2, np.inf, back.sum(axis=1, keepdims=True))
    return weights.astype(np.float32), back.astype(np.float32)


def _changed(
    fine: Array, mask: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Array, NDArray[np.bool_]]:
    """Return bands and mask as of another date; see `MadeGuide.changed`."""
    gains = np.exp(rng.normal(0.0, 0.1) + rng.normal(0.0, 0.1, (len(fine), 1, 1)))
    moved = tuple(int(n) for n in rng.integers(8, np.maximum(fine.shape[-2:], 9)))
    where = _discs(mask.shape, rng)
    other, known = np.roll(fine, moved, (-2, -1)), np.roll(mask, moved, (-2, -1))
    out = np.where(where, other, fine) * gains.astype(np.float32)
    return out, np.where(where, known, mask)


def _discs(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return one to three discs at random places."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    out = np.zeros(shape, bool)
    for _ in range(rng.integers(1, 4)):
        row, column = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        radius = rng.uniform(0.1, 0.4) * max(shape)
        out |= (rows - row) ** 2 + (columns - column) ** 2 < radius**2
    return out
