"""The model card, README.md in a model folder, generated from model.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossband.core.signature import Signature


def make_card(description: Mapping[str, Any]) -> str:
    """Return the text of README.md for the content of model.json."""
    s = Signature.from_json(description["signature"])
    n, about = description["network"], description["about"]
    rows = []
    for unit, r in s.units.items():
        pairs = zip(s.source, r.source, strict=True)
        bounds = ", ".join(f"{b} {lo:g}..{hi:g}" for b, (lo, hi) in pairs)
        rows.append(f"| {unit} | {bounds} | {s.target_unit(unit)} |")
    lines = [
        f"# {description['name']}",
        "",
        about.get("description", f"A Crossband model: {description['task']}."),
        "",
        f"Takes {', '.join(s.source)}; gives {', '.join(s.target)}.",
        "",
        "| source unit | normalised from | target unit |",
        "|---|---|---|",
        *rows,
        "",
        f"Network: {n['class']}, {n['parameters']:,} parameters, margin "
        f"{n['margin'] if n['margin'] is not None else 'unbounded'}, stride {n['stride']}, "
        f"scale {n['scale']}.",
        "",
    ]
    return "\n".join(lines)
