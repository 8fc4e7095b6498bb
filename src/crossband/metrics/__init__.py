"""How good a synthetic band is: metrics in physical units, under a mask, that add up.

The functions take arrays of one image. `score` gives a `Score`, and scores add up: the sum over
the images of a group holds the metrics over all pixels of that group.
"""

from crossband.metrics.index_error import GUARD, index_mae, index_moments, index_values
from crossband.metrics.moments import (
    DATA_RANGE,
    Moments,
    as_json,
    bias,
    data_range,
    mae,
    pearson_r,
    psnr,
    r2,
    rmse,
)
from crossband.metrics.ratio import Ratio, compare, geometric_mean
from crossband.metrics.score import COUNTS, METRICS, Score, score, usable_indices
from crossband.metrics.ssim import ssim, ssim_sum
from crossband.metrics.tally import MODEL, Cell, Tally
from crossband.metrics.thermal import (
    gradient_histograms,
    ranks,
    thermal_histogram,
    thermal_signature,
)

__all__ = [
    "COUNTS",
    "DATA_RANGE",
    "GUARD",
    "METRICS",
    "MODEL",
    "Cell",
    "Moments",
    "Ratio",
    "Score",
    "Tally",
    "as_json",
    "bias",
    "compare",
    "data_range",
    "geometric_mean",
    "gradient_histograms",
    "index_mae",
    "index_moments",
    "index_values",
    "mae",
    "pearson_r",
    "psnr",
    "r2",
    "ranks",
    "rmse",
    "score",
    "ssim",
    "ssim_sum",
    "thermal_histogram",
    "thermal_signature",
    "usable_indices",
]
