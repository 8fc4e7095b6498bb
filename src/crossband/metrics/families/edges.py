"""Agreement of edges."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from crossband.metrics.family import NONE, Array, Family, Mask, Metric, Output, Sums, Target
from crossband.metrics.moments import NAN

#: Percentile (as a share) of an image's gradients above which a pixel is an edge, and the smallest
#: gradient of an edge per pixel, as a share of the data range (0.005 of reflectance is a little
#: more than one step of 8 bits).
PERCENTILE, MIN_GRADIENT = 0.9, 0.005


@dataclass(frozen=True, eq=False)
class EdgeSums(Sums):
    """Numbers of edge pixels in the target, in the output, and in both, for each band.

    A pixel is an edge if its Sobel gradient is above the 90th percentile of the gradients of its
    image, and above 0.005 of the data range per pixel. So the positions of edges are compared, not
    their strength: blur weakens edges but moves few of them (the power spectrum shows blur).
    Agreement is F1 = 2 both / (true + synthetic), from the sums over all images and bands. It is
    NaN where neither image has an edge. Only gradients whose 3 x 3 pixels are all valid are used.

    Attributes:
        counts: band -> [edges of the target, edges of the output, edges of both].
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
    """Return the squared Sobel gradient per pixel: [H, W] -> [H - 2, W - 2]."""
    smooth = values[:-2] + values[2:] + 2 * values[1:-1]
    along = smooth[:, 2:] - smooth[:, :-2]
    step = values[2:] - values[:-2]
    down = step[:, :-2] + step[:, 2:] + 2 * step[:, 1:-1]
    return np.asarray((along * along + down * down) / 64.0)


class EdgeAgreement(Family):
    """Agreement of edges."""

    name = "edges"
    order = 60
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

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.valid = None
        if not target.all_valid:
            v = target.valid
            rows = v[:-2] & v[1:-1] & v[2:]
            self.valid = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
        self.min_square = (MIN_GRADIENT * target.data_range) ** 2
        self.true_edges = [self._edges(t) for t in target.centred]

    def _edges(self, values: Array) -> Mask:
        """Return which of the valid gradients are edges, flat."""
        squares = self._gradients(values)
        if not squares.size:
            return np.zeros(0, bool)
        # The percentile of the squares gives the same edges as that of the gradients.
        at = int(PERCENTILE * (squares.size - 1))
        threshold = float(np.partition(squares, at)[at])
        return np.asarray(squares > max(threshold, self.min_square))

    def _gradients(self, values: Array) -> Array:
        """Return the valid squared gradients, flat."""
        if min(values.shape) < 3:
            return np.zeros(0)
        squares = squared_gradient(values)
        return squares.ravel() if self.valid is None else squares[self.valid]

    def sums(self, output: Output) -> EdgeSums:
        """Count the edge pixels."""
        counts = {}
        for band, p, true in zip(self.target.bands, output.centred, self.true_edges, strict=True):
            edge = self._edges(p)
            both = np.count_nonzero(edge & true)
            counts[band] = np.array([np.count_nonzero(true), np.count_nonzero(edge), both], float)
        return EdgeSums(counts)
