"""Names of the files in a model folder."""

from __future__ import annotations

FORMAT = 1
WEIGHTS, DESCRIPTION, CARD, BASELINES = "model.safetensors", "model.json", "README.md", "baselines"
CALIBRATION = "calibration.json"
#: Names and hashes of the pairs that it was trained on; see `training_data`.
TRAINING = "training_data.csv"
#: What a model folder may have beside its description.
OWN = (WEIGHTS, CARD, BASELINES, CALIBRATION, TRAINING)
#: Of a report of `crossband evaluate`, for programs.
METRICS_FILE = "metrics.json"
