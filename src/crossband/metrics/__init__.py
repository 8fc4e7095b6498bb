"""How good a synthetic band is: metrics in physical units, under a mask, that add up.

The functions take arrays of one image. `score` gives a `Score`, and scores add up: the sum over
the images of a group holds the metrics over all pixels of that group. `Judge` prepares a target
for several outputs. `known_metrics` says what each number is; a further family of metrics is one
file in `crossband.metrics.families`.
"""

from crossband.metrics.catalogue import OF_INDEX, Metric, of_index
from crossband.metrics.families.profiles import ByClass, Profile
from crossband.metrics.families.spectrum import Spectrum
from crossband.metrics.family import known_families
from crossband.metrics.index_error import GUARD, index_mae, index_moments, index_values
from crossband.metrics.lookup import described, known_metrics
from crossband.metrics.moments import (
    DATA_RANGE,
    USUAL_RANGE,
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
from crossband.metrics.score import COUNTS, METRICS, Judge, Score, score, usable_indices
from crossband.metrics.ssim import ssim, ssim_sum
from crossband.metrics.thermal import (
    gradient_histograms,
    ranks,
    thermal_histogram,
    thermal_signature,
)

#: How a model itself is called beside its baselines.
MODEL = "model"

__all__ = [
    "COUNTS",
    "DATA_RANGE",
    "GUARD",
    "METRICS",
    "MODEL",
    "OF_INDEX",
    "USUAL_RANGE",
    "ByClass",
    "Judge",
    "Metric",
    "Moments",
    "Profile",
    "Ratio",
    "Score",
    "Spectrum",
    "as_json",
    "bias",
    "compare",
    "data_range",
    "described",
    "geometric_mean",
    "gradient_histograms",
    "index_mae",
    "index_moments",
    "index_values",
    "known_families",
    "known_metrics",
    "mae",
    "of_index",
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
