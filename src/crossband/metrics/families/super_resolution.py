"""What super-resolution did to the source: kept, improved, left out, or made up.

Source and output are brought to one another's size by MATLAB's bicubic (`crossband.core.resample`),
band by band, for the bands that both have. Only pixels count whose whole kernel lies on valid
pixels; where the output is degraded the kernel lies inside the image, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossband.metrics.catalogue import DATA, NONE, Better, Metric
from crossband.metrics.family import Array, Family, Mask, Output, Part, Truth
from crossband.metrics.moments import NAN

#: Share of the image's distances source - truth below which there is no detail to judge.
SHARE = 0.75
#: Of the formulas, and of their softmin: the defaults of opensr-test.
GAMMA, TEMPERATURE = 0.05, 0.25
#: In parts of the data range: a distance between source and truth that divides is held at this.
LEAST = 1e-6


def common(truth: Truth) -> list[int]:
    """Return the numbers of the target's bands that the source has too; none at scale 1."""
    return [n for n, b in enumerate(truth.bands) if b in truth.source and truth.scale > 1]


def resized(values: Array, factor: float) -> Array:
    """Resize [H, W] by MATLAB's bicubic."""
    from crossband.core.resample import bicubic_axis

    rows, columns = (bicubic_axis(n, factor) for n in values.shape)
    return np.asarray(rows @ values @ columns.T)


def supported(valid: Mask, factor: float) -> Mask:
    """Return which pixels of the resized image are made of valid pixels alone."""
    from crossband.core.resample import bicubic_axis

    rows, columns = ((bicubic_axis(n, factor) != 0).astype(float) for n in valid.shape)
    return np.asarray(rows @ ~valid @ columns.T == 0)


def inside(length: int, scale: int) -> Mask:
    """Return which coarse pixels of an axis have a kernel of 4 pixels inside the image."""
    centre = (np.arange(length) + 0.5) * scale - 0.5
    reach = 2 * scale
    return np.asarray((centre - reach >= -1) & (centre + reach <= length * scale))


@dataclass(frozen=True, eq=False)
class Kept(Part):
    """Sum of |degraded output - source| over coarse pixels and bands, and their number."""

    total: float = 0.0
    n: int = 0

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return the mean, in the unit."""
        return {"consistency": self.total / self.n if self.n else NAN}


class Consistency(Family):
    """Whether the output, made as coarse as the source, is the source."""

    name = "consistency"
    place = 90
    metrics = (
        Metric(
            "consistency",
            "consistency",
            DATA,
            "less",
            "mean absolute difference between the degraded output and the source",
            needs="scale above 1, and bands that source and target share",
        ),
    )

    @classmethod
    def applies(cls, truth: Truth) -> bool:
        """Return whether a coarser source has bands of the target."""
        return bool(common(truth))

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        assert truth.source_mask is not None  # there is a source
        height, width = truth.source_mask.shape
        whole = np.outer(inside(height, truth.scale), inside(width, truth.scale))
        self.use = truth.source_mask & whole & supported(truth.valid, 1 / truth.scale)
        self.n = int(np.count_nonzero(self.use))

    def part(self, output: Output) -> Kept:
        """Take the sum."""
        total = 0.0
        for number in common(self.truth):
            apart = resized(output.values[number], 1 / self.truth.scale)
            apart -= self.truth.source[self.truth.bands[number]]
            total += float(np.abs(apart[self.use]).sum())
        return Kept(total, self.n * len(common(self.truth)))


@dataclass(frozen=True, eq=False)
class Scores(Part):
    """Sums of the three scores over pixels, and the pixels.

    After Aybar et al. 2024 (opensr-test), of each pixel: d_ref = |source - truth|, with the source
    enlarged, d_im = |output - truth| / d_ref, d_om = |output - source| / d_ref, the mean over
    bands of absolute differences. With H = d_im + d_om - 1

        improvement   = d_im + d_om (1 - exp(-gamma H))     near 0 where the output is the truth
        omission      = d_om + d_im (1 - exp(-gamma H))     near 0 where it still is the source
        hallucination = exp(-gamma d_im d_om)               near 0 where it is far from both

    and the three scores of the pixel are exp(-x / T) of these, divided by their sum: shares of 1.
    gamma = 0.05 and T = 0.25, as in that package. Only pixels count where one of the three
    absolute distances is above the 75th percentile of d_ref in that image: elsewhere there is no
    detail. Unlike there, the output is neither matched to the truth's histogram nor moved, the
    distance is L1, the source is enlarged by MATLAB's bicubic, and no border is left out.
    The mean is over pixels, over many images over all their pixels that count.
    """

    improvement: float = 0.0
    omission: float = 0.0
    hallucination: float = 0.0
    n: int = 0

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return the three shares."""
        sums = (self.improvement, self.omission, self.hallucination)
        names = ("improvement", "omission", "hallucination")
        return {k: s / self.n if self.n else NAN for k, s in zip(names, sums, strict=True)}


def _metric(name: str, better: Better, about: str) -> Metric:
    needs = "scale above 1, and bands that source and target share"
    source = "Aybar et al. 2024"
    return Metric(name, name, NONE, better, about, needs, source, ".3f")


class Correctness(Family):
    """Which detail is true, missing, or made up."""

    name = "correctness"
    place = 100
    metrics = (
        _metric("improvement", "more", "share of the detail that is nearer to the truth"),
        _metric("omission", "less", "share of the detail that is left as in the source"),
        _metric("hallucination", "less", "share of the detail that is in neither"),
    )

    @classmethod
    def applies(cls, truth: Truth) -> bool:
        """Return whether a coarser source has bands of the target."""
        return bool(common(truth))

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        assert truth.source_mask is not None  # there is a source
        self.bands = common(truth)
        use = truth.valid & supported(truth.source_mask, truth.scale)
        self.use = slice(None) if use.all() else use
        held = [
            resized(np.where(truth.source_mask, truth.source[truth.bands[n]], 0.0), truth.scale)
            for n in self.bands
        ]
        self.source = np.stack([v[self.use].ravel() for v in held])
        self.true = np.stack([truth.values[n][self.use].ravel() for n in self.bands])
        self.apart = np.abs(self.source - self.true).mean(axis=0)
        self.above = float(np.quantile(self.apart, SHARE)) if self.apart.size else 0.0
        self.held = np.maximum(self.apart, LEAST * truth.limit)

    def part(self, output: Output) -> Scores:
        """Take the sums."""
        p = np.stack([output.values[n][self.use].ravel() for n in self.bands])
        to_truth = np.abs(p - self.true).mean(axis=0)
        to_source = np.abs(p - self.source).mean(axis=0)
        count = np.maximum(np.maximum(to_truth, to_source), self.apart) > self.above
        held = self.held[count]
        shares = scores(to_truth[count] / held, to_source[count] / held)
        improvement, omission, hallucination = (float(s.sum()) for s in shares)
        return Scores(improvement, omission, hallucination, int(held.size))


def scores(d_im: Array, d_om: Array) -> tuple[Array, Array, Array]:
    """Return improvement, omission and hallucination of pixels, which add up to 1.

    Args:
        d_im: distance output - truth, in distances source - truth.
        d_om: distance output - source, in the same.
    """
    lost = 1 - np.exp(-GAMMA * (d_im + d_om - 1))
    each = np.stack([d_im + d_om * lost, d_om + d_im * lost, np.exp(-GAMMA * d_im * d_om)])
    # The same in every share, so it cancels; without it all three may vanish.
    each -= each.min(axis=0)
    weights = np.exp(-each / TEMPERATURE)
    improvement, omission, hallucination = weights / weights.sum(axis=0)
    return improvement, omission, hallucination
