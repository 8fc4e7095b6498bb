"""What a report of `crossband evaluate` says of a model, for its description."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from crossband.core.json_text import read_json
from crossband.core.messages import printable
from crossband.errors import ModelError
from crossband.model.files import METRICS_FILE
from crossband.model.model import Model

#: A report has a record of each lost group.
_MOST = 2**28


def read_ratios(report: str | Path, model: Model) -> dict[str, list[dict[str, Any]]]:
    """Return the ratios of a model to its baselines over all places, as `about.metrics` has them.

    Args:
        report: folder of `crossband evaluate`, or its metrics.json.
        model: its weights must be those that were evaluated.

    Raises:
        ModelError: no report; one of other weights; pairs that the model was trained on; or a
            model without baselines.
    """
    path = Path(report) / METRICS_FILE if Path(report).is_dir() else Path(report)
    data = read_json(path, ModelError, _MOST)
    try:
        records = [m for m in data["models"] if m["weights_hash"] == model.weights_hash]
        if not records:
            raise ModelError(f"{path}: it has no model with the weights of {model.name}")
        trained_on, rows = int(records[0]["trained_on"]), records[0]["ratios"]
        found = [_ratio(row) for row in rows if row["sensor"] is None and row["unit"] is None]
    except (TypeError, KeyError, IndexError, ValueError, OverflowError) as error:
        raise ModelError(f"{path}: not a report of crossband evaluate") from error
    if trained_on:
        raise ModelError(
            f"{path}: {model.name} was trained on {trained_on} of its pairs: evaluate it on others"
        )
    found = [ratio for ratio in found if math.isfinite(ratio["value"])]
    if not found:
        raise ModelError(f"{path}: it compares {model.name} with no baseline")
    return {"report": found}


def _ratio(row: Any) -> dict[str, Any]:
    low, high = row["interval"] or (None, None)
    value = row["geometric_mean"]
    return {
        "places": "all",
        "count": int(row["n_groups"]),
        "baseline": printable(str(row["baseline"])),
        "metric": printable(str(row["metric"])),
        "value": math.nan if value is None else float(value),
        "low": None if low is None else float(low),
        "high": None if high is None else float(high),
        "won": int(row["n_won"]),
    }
