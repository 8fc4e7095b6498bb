"""Whether edges lie where they lie in truth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from crossband.metrics.catalogue import NONE, Metric
from crossband.metrics.family import Array, Family, Mask, Output, Part, Truth
from crossband.metrics.moments import NAN

#: Share of an image's gradients that are no edge, and the least gradient of an edge per pixel, in
#: parts of the data range (0.005 of reflectance, a little more than one step of 8 bits).
SHARE, LEAST = 0.9, 0.005


@dataclass(frozen=True, eq=False)
class Edges(Part):
    """Edge pixels of the truth, of the output, and of both, for each band.

    An edge pixel is one whose Sobel gradient is above the 90th percentile of the gradients of its
    own image, and above 0.005 of the data range per pixel. So what is compared is where edges lie;
    blur alone, which the spectrum shows, weakens them and moves few. Agreement is F1 = 2 both /
    (true + synthetic), over many images and bands from the sums of all; NaN where
    neither has an edge. Gradients count whose 3 x 3 pixels are all valid.
    """

    counts: dict[str, Array] = field(default_factory=dict)

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return F1 over all bands."""
        return {"edge_f1": _f1(np.sum(list(self.counts.values()), axis=0))}

    def band_numbers(self, unit: str, scale: int) -> dict[str, dict[str, float]]:
        """Return F1 of each band."""
        return {band: {"edge_f1": _f1(c)} for band, c in self.counts.items()}


def _f1(counts: Array) -> float:
    true, synthetic, both = (float(c) for c in counts)
    return 2 * both / (true + synthetic) if true + synthetic else NAN


def squared_gradient(values: Array) -> Array:
    """Squared length of the Sobel gradient per pixel: [H, W] -> [H - 2, W - 2]."""
    smooth = values[:-2] + values[2:] + 2 * values[1:-1]
    along = smooth[:, 2:] - smooth[:, :-2]
    step = values[2:] - values[:-2]
    down = step[:, :-2] + step[:, 2:] + 2 * step[:, 1:-1]
    return np.asarray((along * along + down * down) / 64.0)


class EdgeAgreement(Family):
    """Agreement of edges."""

    name = "edges"
    place = 60
    metrics = (
        Metric(
            "edge_f1",
            "edge F1",
            NONE,
            "more",
            "F1 of edge pixels: the strongest tenth of the Sobel gradients of each image",
            format=".3f",
        ),
    )

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.inside = None
        if not truth.whole:
            v = truth.valid
            rows = v[:-2] & v[1:-1] & v[2:]
            self.inside = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
        self.least = (LEAST * truth.limit) ** 2
        self.own = [self._edges(t) for t in truth.centred]

    def _edges(self, values: Array) -> Mask:
        """Which gradients that count are edges, flat."""
        squares = self._gradients(values)
        if not squares.size:
            return np.zeros(0, bool)
        # Of the squares, so that no root is taken: it would not change which are above.
        strong = np.partition(squares, place := int(SHARE * (squares.size - 1)))[place]
        return np.asarray(squares > max(float(strong), self.least))

    def _gradients(self, values: Array) -> Array:
        """Squared gradients that count, flat."""
        if min(values.shape) < 3:
            return np.zeros(0)
        squares = squared_gradient(values)
        return squares.ravel() if self.inside is None else squares[self.inside]

    def part(self, output: Output) -> Edges:
        """Count edge pixels."""
        counts = {}
        for band, p, true in zip(self.truth.bands, output.centred, self.own, strict=True):
            edge = self._edges(p)
            both = np.count_nonzero(edge & true)
            counts[band] = np.array([np.count_nonzero(true), np.count_nonzero(edge), both], float)
        return Edges(counts)
