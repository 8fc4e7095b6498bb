"""Tables of an evaluation that compare models: their ranking, and each two of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossband.evaluation.report.cells import (
    Cell,
    Head,
    Note,
    Row,
    Table,
    number_cell,
    text_cell,
)
from crossband.metrics import describe


def undecided(versus: Mapping[str, Any]) -> str:
    """Return why models cannot be told apart whatever their errors; empty where they could be."""
    count, needed = versus["n_groups"], versus["needed_groups"]
    if count >= needed:
        return ""
    return f"undecided: {count} group{'s' * (count != 1)}, a comparison needs {needed}"


def rank_text(record: Mapping[str, Any], versus: Mapping[str, Any]) -> str:
    """Return the rank of a model, with `=` if it is shared; `-` if there is none."""
    if undecided(versus):
        return "-"
    return "-" if record["rank"] is None else f"{record['rank']}{'=' if record['tie'] else ''}"


def comparison_tables(versus: Mapping[str, Any]) -> tuple[Table, Table]:
    """Return the ranking of the models, with notes, and the table of each two models."""
    notes = [
        f"On the {versus['n_groups']:,} groups that all models have. Ranked by the geometric mean "
        f"of MAE; equal ranks (=) cannot be told apart: the interval of their ratio holds 1, or a "
        f"sign test does not agree (p of 0.05 or more)."
    ]
    if undecided(versus):
        notes = [f"On the {versus['n_groups']:,} groups that all models have: {undecided(versus)}."]
    if not versus["same_pixels"]:
        notes.append("Not the same pixels count for all: their sources are masked differently.")
    ranking = [
        Row(
            [
                text_cell(r["label"]),
                Cell(rank_text(r, versus), "" if r["rank"] is None else r["rank"]),
                number_cell(r["mae_over_best"], ".3f"),
            ],
            own=r["rank"] == 1 and not undecided(versus),
        )
        for r in versus["ranking"]
    ]
    heads = ["models", "metric", "what", "value", "better : worse", "sign test p", "the first is"]
    return (
        Table(
            [Head("model"), Head("rank"), Head("MAE / best")],
            ranking,
            notes=[Note(text, "") for text in notes],
        ),
        Table([Head(h) for h in heads], [_pair_row(r) for r in versus["pairs"]]),
    )


def _pair_row(r: Mapping[str, Any]) -> Row:
    """Return the row of a comparison of two models."""
    about, interval = describe(r["metric"]), r["interval"]
    small = f"{interval[0]:.4g} .. {interval[1]:.4g}" if interval else "too few groups"
    kind = {"better": "good", "worse": "bad"}.get(r["verdict"], "")
    return Row(
        [
            Cell(f"{r['first']} against {r['second']}", r["first"]),
            text_cell(about.heading if about is not None else r["metric"]),
            text_cell("ratio" if r["kind"] == "ratio" else f"difference ({r['unit']})"),
            number_cell(r["value"], ".4g", small),
            Cell(f"{r['n_better']} : {r['n_worse']}", r["n_better"]),
            number_cell(r["p"], ".3f"),
            Cell(r["verdict"], r["verdict"], kind=kind),
        ],
        own=r["kind"] == "ratio",
    )
