"""Tables of intervals: coverage, width and interval score, and the places covered least."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossband.core.conformal import poor_below
from crossband.evaluation.report.cells import Cell, Head, Note, Row, Table, counted, known

#: Places of the table of the worst covered ones.
MOST = 10


def interval_tables(model: Mapping[str, Any], several: bool) -> list[Table]:
    """Return the table of quantities and that of the worst covered places of each band."""
    about = model.get("intervals")
    if not about:
        return []
    level, label = about["level"], f"{model['label']}: " if several else ""
    guided = any("guide" in q for q in about["quantities"])
    heads = ["", "source", *(["guide"] if guided else []), "mean over", "places"]
    heads += [f"covered, of {level:.0%}", f"places under {poor_below(level):.0%}"]
    heads += ["width", "interval score"]
    rows = [_summary_row(q) for q in about["quantities"]]
    notes = [
        Note(
            "Every place counts once. Below the coverage: its 95 % bootstrap interval over places. "
            f"The promise is {about['promise']}.",
            "soft",
        )
    ]
    notes += [Note(line, "doubt") for line in guide_lines(model)]
    out = [Table([Head(h) for h in heads], rows, f"{label}{level:.0%} intervals", notes)]
    for kind in dict.fromkeys(_kind(p) for p in about["places"]):
        own = [p for p in about["places"] if (_kind(p), p["window"]) == (kind, 1)]
        own = sorted(own, key=lambda p: p["coverage"])[:MOST]
        heads = ["place", "sensor", "pixels", "covered", "width", "unfamiliar"]
        quantity, unit, guide = kind
        of = f"{unit}; {guide}" if guide else unit
        title = f"{label}{quantity} ({of}): the {len(own)} places that are covered least"
        out.append(Table([Head(h) for h in heads], [_place_row(p) for p in own], title))
    return out


def guide_lines(model: Mapping[str, Any]) -> list[str]:
    """Return a line on the pairs that are not judged, and one on those of a coarser class."""
    about, out = model.get("intervals") or {}, []
    left_out, coarser = about.get("left_out"), about.get("coarser")
    if left_out:
        words = "; ".join(f"{counted(r['pairs'], 'pair')} ({r['guide']})" for r in left_out)
        out.append(f"Not judged, as no calibration of {about['level']:.0%} covers them: {words}.")
    if coarser:
        words = "; ".join(
            f"{counted(r['pairs'], 'pair')} ({r['guide']}, by {r['by']})" for r in coarser
        )
        out.append(
            "Judged by the next class of larger pixels, as translate does, for want of places: "
            f"{words}."
        )
    return out


def _kind(record: Mapping[str, Any]) -> tuple[str, str, str | None]:
    return record["quantity"], record["unit"], record.get("guide")


def _summary_row(q: Mapping[str, Any]) -> Row:
    between = f"{q['interval'][0]:.3f} to {q['interval'][1]:.3f}" if q["interval"] else ""
    side = "pixels" if q["window"] == 1 else f"{q['window']} x {q['window']}"
    return Row(
        [
            Cell(q["quantity"], q["quantity"]),
            Cell(q["unit"], q["unit"]),
            *([Cell(q["guide"], q["guide"])] if "guide" in q else []),
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
