"""Names of the files in a model folder, and the hash of the weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

FORMAT = 1
WEIGHTS, DESCRIPTION, CARD, BASELINES = "model.safetensors", "model.json", "README.md", "baselines"
CALIBRATION = "calibration.json"
#: Names and hashes of the pairs that it was trained on; see `training_data`.
TRAINING = "training_data.csv"
#: Of a report of `crossband evaluate`, for programs.
METRICS_FILE = "metrics.json"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
