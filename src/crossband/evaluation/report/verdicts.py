"""What an evaluation says in sentences, derived from its numbers by fixed rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossband.evaluation.report.cells import counted, known
from crossband.evaluation.report.comparison_tables import undecided
from crossband.metrics import MODEL


def verdicts(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the main results in a few sentences.

    Args:
        metrics: the content of metrics.json.

    Returns:
        `kind` (good, doubt or bad) and `text` of each.
    """
    out = []
    leak = metrics["manifest"].get("leakage")
    if leak:
        out.append({"kind": "bad", "text": f"{_leakage(leak)}."})
    for model in metrics["models"]:
        words = _trained_on(model, metrics["manifest"])
        out += [{"kind": "bad", "text": f"{words}."}] if words else []
        for record in model["sensors"]:
            said = _verdict(model, record)
            doubted = words and said["kind"] == "good"
            out.append({**said, "kind": "doubt"} if doubted else said)
    versus = metrics.get("versus") or {}
    ranking = versus.get("ranking", [])
    unranked = [r for r in ranking if r["rank"] is None]
    out += [{"kind": "bad", "text": f"{r['label']} has no rank: {r['why']}."} for r in unranked]
    for record in [r for r in ranking if r["rank"] is not None][:1]:
        if undecided(versus):
            out.append({"kind": "doubt", "text": f"The models are {undecided(versus)}."})
        elif not record["tie"]:
            of = "the models that have a rank" if unranked else "the models"
            out.append({"kind": "good", "text": f"Best of {of}: {record['label']}."})
        else:
            tied = [r["label"] for r in versus["ranking"] if r["rank"] == record["rank"]]
            words = f"A tie: {' and '.join(tied)} cannot be told apart on these groups."
            out.append({"kind": "doubt", "text": words})
    return out


def _verdict(model: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, str]:
    scores = record["scores"]
    own = scores[MODEL]["pixels"]
    head = f"{model['label']}, {record['sensor']}: "
    if not record["n_valid"]:
        return {"kind": "doubt", "text": f"{head}no pixel counts."}
    if own["n_nonfinite"]:
        text = f"{head}{own['n_nonfinite']:,} pixels are NaN or infinite: no error can be stated."
        return {"kind": "bad", "text": text}
    interval = scores[MODEL].get("intervals", {}).get("pixels", {}).get("mae")
    between = f" ({interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
    text = (
        f"{head}MAE {own['mae']:.4f} {record['unit']}{between} over {record['n_valid']:,} pixels "
        f"of {counted(record['n_groups'], 'group')}"
    )
    others = {
        name: s["pixels"]["mae"]
        for name, s in scores.items()
        if name != MODEL and known(s["pixels"]["mae"])
    }
    if not others:
        return {"kind": "doubt", "text": f"{text}; there is no baseline to hold it against."}
    best = min(others, key=lambda name: others[name])
    if own["mae"] < others[best]:
        less = 1 - own["mae"] / others[best] if others[best] else 0.0
        return {
            "kind": "good",
            "text": f"{text}; {less:.0%} below the best baseline, {best} ({others[best]:.4f}).",
        }
    return {
        "kind": "bad",
        "text": f"{text}; the baseline {best} is better or as good ({others[best]:.4f}).",
    }


def _trained_on(model: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Return a warning where a model was trained on pairs that it is judged on; else nothing."""
    count = model.get("trained_on")
    if not count:
        return ""
    return (
        f"{model['label']} was trained on {count:,} of {counted(about['n_rows'], 'pair')} judged "
        "here, so its numbers are too good"
    )


def _leakage(leak: Mapping[str, Any]) -> str:
    """Return a warning about a split that shares groups with the train rows."""
    return (
        f"{leak['seen']} of {leak['rows']} {leak['split']} rows ({leak['seen'] / leak['rows']:.0%})"
        f" are of groups that are in train too, so the numbers are too good"
    )
