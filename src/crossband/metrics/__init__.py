"""Metrics of synthetic images: in physical units, under a mask, additive over images.

`PairScorer(Target(...)).score(output)` returns a `Score`. The sum of scores holds the metrics over
all pixels of their images. `known_metrics` describes every metric. A new family of metrics is one
file in `crossband.metrics.families`.
"""

from crossband.metrics.families.index import OF_INDEX, index_values, of_index
from crossband.metrics.family import GUARD, Metric, Target, known_families
from crossband.metrics.moments import DATA_RANGE, Moments, data_range
from crossband.metrics.score import (
    COUNTS,
    METRICS,
    PairScorer,
    Score,
    as_json,
    describe,
    known_metrics,
    usable_indices,
)

#: The name of the model in tables and JSON, beside the names of its baselines.
MODEL = "model"

__all__ = [
    "COUNTS",
    "DATA_RANGE",
    "GUARD",
    "METRICS",
    "MODEL",
    "OF_INDEX",
    "Metric",
    "Moments",
    "PairScorer",
    "Score",
    "Target",
    "as_json",
    "data_range",
    "describe",
    "index_values",
    "known_families",
    "known_metrics",
    "of_index",
    "usable_indices",
]
