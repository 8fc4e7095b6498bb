"""The model card, README.md in a model folder, generated from model.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        *_table_of_ratios(overall_ratios(about.get("metrics"))),
        f"Network: {n['class']}, {n['parameters']:,} parameters, margin "
        f"{n['margin'] if n['margin'] is not None else 'unbounded'}, stride {n['stride']}, "
        f"scale {n['scale']}.",
        "",
    ]
    if about.get("licence"):
        lines += [f"Licence of the weights: {about['licence']}.", ""]
    return "\n".join(lines)


def overall_ratios(stated: Any) -> list[dict[str, Any]]:
    """Return the ratios to baselines over all places that `about.metrics` states.

    What has another form is left out: it is data for people, which nobody has checked.

    Returns:
        Records of `baseline`, `metric`, `value` (below 1 the model is better), its 95 % interval
        over places `low` and `high` (None where unknown), `count` of places, and `won` of them
        (None where unknown).
    """
    found = []
    for rows in stated.values() if isinstance(stated, dict) else ():
        for row in rows if isinstance(rows, list) else ():
            if not isinstance(row, dict) or "baseline" not in row or row.get("places") != "all":
                continue
            numbers = {
                "value": row.get("value", row.get("ratio")),
                "count": row.get("count", row.get("n")),
                **{key: row.get(key) for key in ("low", "high", "won")},
            }
            if not isinstance(numbers["value"], int | float) or not all(
                number is None or isinstance(number, int | float) for number in numbers.values()
            ):
                continue
            words = {"baseline": str(row["baseline"]), "metric": str(row.get("metric", "mae"))}
            found.append(words | numbers)
    return found


def _table_of_ratios(ratios: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for r in ratios:
        ends = None in (r["low"], r["high"])
        interval = "" if ends else f" ({r['low']:.3f} to {r['high']:.3f})"
        won = "-" if r["won"] is None else f"{r['won']} of {r['count']}"
        rows.append(f"| {r['baseline']} | {r['metric']} | {r['value']:.3f}{interval} | {won} |")
    if not rows:
        return []
    heads = "| baseline | error | of the baseline's (95 % over places) | places won |"
    return ["At places that it was not trained on:", "", heads, "|---|---|---|---|", *rows, ""]
