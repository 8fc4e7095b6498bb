"""Tables of intervals: coverage, width and interval score, and the places covered least."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossband.core.conformal import poor_below
from crossband.evaluation.report.cells import Cell, Head, Note, Row, Table, known

#: Places of the table of the worst covered ones.
MOST = 10


def interval_tables(model: Mapping[str, Any], several: bool) -> list[Table]:
    """Return the table of quantities and that of the worst covered places of each band."""
    about = model.get("intervals")
    if not about:
        return []
    level, label = about["level"], f"{model['label']}: " if several else ""
    heads = ["", "source", "mean over", "places", f"covered, of {level:.0%}"]
    heads += [f"places under {poor_below(level):.0%}", "width", "interval score"]
    rows = [_summary_row(q) for q in about["quantities"]]
    notes = [
        Note(
            "Every place counts once. Below the coverage: its 95 % bootstrap interval over places. "
            f"The promise is {about['promise']}.",
            "soft",
        )
    ]
    out = [Table([Head(h) for h in heads], rows, f"{label}{level:.0%} intervals", notes)]
    for kind in dict.fromkeys((p["quantity"], p["unit"]) for p in about["places"]):
        own = [p for p in about["places"] if (p["quantity"], p["unit"], p["window"]) == (*kind, 1)]
        own = sorted(own, key=lambda p: p["coverage"])[:MOST]
        heads = ["place", "sensor", "pixels", "covered", "width", "unfamiliar"]
        title = f"{label}{kind[0]} ({kind[1]}): the {len(own)} places that are covered least"
        out.append(Table([Head(h) for h in heads], [_place_row(p) for p in own], title))
    return out


def _summary_row(q: Mapping[str, Any]) -> Row:
    between = f"{q['interval'][0]:.3f} to {q['interval'][1]:.3f}" if q["interval"] else ""
    side = "pixels" if q["window"] == 1 else f"{q['window']} x {q['window']}"
    return Row(
        [
            Cell(q["quantity"], q["quantity"]),
            Cell(q["unit"], q["unit"]),
            Cell(side, q["window"]),
            Cell(f"{q['n_places']:,}", q["n_places"]),
            Cell(f"{q['coverage']:.3f}", q["coverage"], between),
            Cell(f"{q['under']:.0%}", q["under"]),
            Cell(f"{q['width']:.4g}", q["width"]),
            Cell(f"{q['score']:.4g}", q["score"]),
        ]
    )


def _place_row(p: Mapping[str, Any]) -> Row:
    return Row(
        [
            Cell(p["group"], p["group"]),
            Cell(p["sensor"], p["sensor"]),
            Cell(f"{p['n']:,}", p["n"]),
            Cell(f"{p['coverage']:.3f}", p["coverage"]),
            Cell(f"{p['width']:.4g}", p["width"]),
            Cell(f"{far:.0%}", far) if known(far := p["unfamiliar"]) else Cell("-"),
        ]
    )
