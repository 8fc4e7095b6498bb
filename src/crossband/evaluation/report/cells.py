"""Cells of the tables of an evaluation, with text, sort value and mark.

`evaluation.html` renders tables as HTML, and `report.text` renders some of them as plain text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crossband.metrics import Metric, describe

#: Kind of a cell with a baseline's number that is better than the model's.
BEATS = "beats"


@dataclass(frozen=True)
class Head:
    """Heading of a column.

    Attributes:
        name: the heading.
        title: tooltip on the page.
    """

    name: str
    title: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: its text.
        value: number or text by which the page sorts; "" for an unknown value.
        small: a second line in small print, such as an interval.
        kind: CSS class; `BEATS` marks a baseline that is better than the model.
        title: tooltip on the page.
    """

    text: str
    value: Any = ""
    small: str = ""
    kind: str = ""
    title: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table; `own` highlights it, as that of the model."""

    cells: list[Cell]
    own: bool = False


@dataclass(frozen=True)
class Note:
    """A line above a table; `kind` is its CSS class."""

    text: str
    kind: str


@dataclass(frozen=True)
class Table:
    """A table with its title and the notes above it."""

    heads: list[Head]
    rows: list[Row]
    title: str = ""
    notes: list[Note] = field(default_factory=list)


def known(value: Any) -> bool:
    """Return whether a number is defined."""
    return value is not None and not math.isnan(value)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "pair"), counted(1472, "pair")
    ('1 pair', '1,472 pairs')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def format_number(value: float | None, form: str) -> str:
    """Return a number as text, or `-` if it is not defined.

    >>> format_number(0.12345, ".3f"), format_number(None, ".3f"), format_number(-1e-9, ".3f")
    ('0.123', '-', '0.000')
    """
    if value is None or math.isnan(value):
        return "-"
    text = format(value, form)
    # A number that is rounded to 0 is printed without its sign.
    return format(0.0, form) if value and not float(text.rstrip("%")) else text


def differ_in_print(first: float | None, second: float | None, form: str) -> bool:
    """Return whether two numbers differ in magnitude as they are printed.

    >>> differ_in_print(0.00001, -0.00002, "+.4f"), differ_in_print(0.1, 0.2, ".4f")
    (False, True)
    """
    texts = [format_number(v, form).lstrip("+-") for v in (first, second)]
    return texts[0] != texts[1]


def metric_of(name: str) -> Metric:
    """Return the description of a metric that is known to exist."""
    metric = describe(name)
    assert metric is not None
    return metric


def text_cell(text: Any) -> Cell:
    """Return a cell that is sorted by its text."""
    return Cell(str(text), text)


def number_cell(value: Any, form: str, small: str = "", kind: str = "") -> Cell:
    """Return a cell of a number, `-` where it is not defined; see `Cell`."""
    return Cell(format_number(value, form), value if known(value) else "", small, kind)


def metric_text(metric: Metric, value: float | None, *, sign: bool = False) -> str:
    """Return the number of a metric as text, with `≥` where it stands for larger ones, too."""
    text = format_number(value, ("+" if sign else "") + metric.format)
    capped = known(value) and metric.most is not None and value >= metric.most  # type: ignore[operator]
    return f"≥ {text}" if capped else text


def metric_cells(metrics: Sequence[str], numbers: Mapping[str, Any]) -> list[Cell]:
    """Return the cells of metrics."""
    return [metric_cell(m, numbers.get(m)) for m in metrics]


def metric_cell(
    name: str, value: float | None, small: str = "", kind: str = "", *, sign: bool = False
) -> Cell:
    """Return a cell with the number of a metric; see `Cell`."""
    return Cell(
        metric_text(metric_of(name), value, sign=sign), value if known(value) else "", small, kind
    )


def metric_heads(metrics: Sequence[str]) -> list[Head]:
    """Return the headings of metrics, with their unit if it is not that of the data."""
    out = []
    for about in map(metric_of, metrics):
        unit = f", {about.unit}" if about.unit not in ("", "data") else ""
        out.append(Head(f"{about.heading}{unit}", about.about))
    return out


def transposed(table: Table) -> Table:
    """Return a table with rows and columns changed: it is high instead of wide."""
    heads = [Head(""), *(Head(row.cells[0].text) for row in table.rows)]
    rows = []
    for number, head in enumerate(table.heads[1:], start=1):
        cells = [Cell(head.name, head.name, title=head.title)]
        rows.append(Row([*cells, *(row.cells[number] for row in table.rows)]))
    return Table(heads, rows, table.title, table.notes)


def labelled(model: Mapping[str, Any], title: str, several: bool) -> str:
    """Return a title, with the label of the model if there are several."""
    return f"{model['label']}: {title}" if several else title
