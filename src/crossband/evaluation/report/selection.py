"""Selection of the pairs to draw, and their pictures: files, layers and figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from crossband.evaluation.candidates import ModelCandidate
from crossband.evaluation.evaluation import Evaluation, sensor_name
from crossband.evaluation.guide_names import ENLARGED, UNGUIDED
from crossband.evaluation.report import diagnostics, plots
from crossband.evaluation.report.cells import format_number
from crossband.evaluation.report.layers import PairPreview, largest_error, layers, residual
from crossband.evaluation.report.page import FigureBlock, PictureBlock
from crossband.evaluation.report.pictures import draw_comparison
from crossband.evaluation.report.text import short_name

#: Largest number of pairs of each kind that are also drawn to a file beside the page.
MAX_FILES = 3
#: Columns of a manifest with the date of a scene; the first one that exists is used.
DATE_COLUMNS = ("datetime", "date", "acquired")
#: Largest number of plots over time (of the groups with most dates), and fewest dates of a plot.
MAX_PLACES, MIN_DATES = 6, 3

_KINDS = {"worst": "worst by MAE", "median": "near the median MAE"}


class Selected(NamedTuple):
    """A pair to draw.

    Attributes:
        kind: `worst` or `median`.
        place: its place among the pairs of this kind, from 1.
        record: the model's record of the pair.
    """

    kind: str
    place: int
    record: Mapping[str, Any]


@dataclass
class CandidatePictures:
    """Pictures of one candidate.

    Attributes:
        files: records of the files, for metrics.json.
        picture_blocks: pictures of pairs.
        figure_blocks: other figures.
    """

    files: list[dict[str, Any]] = field(default_factory=list)
    picture_blocks: list[PictureBlock] = field(default_factory=list)
    figure_blocks: list[FigureBlock] = field(default_factory=list)


def draw_candidate(
    folder: Path, evaluation: Evaluation, records: Sequence[Mapping[str, Any]], count: int
) -> CandidatePictures:
    """Draw the worst pairs and those nearest the median, by MAE, in each unit.

    Args:
        folder: folder of the report.
        evaluation: the evaluation of the candidate.
        records: the candidate's own record of each pair.
        count: number of pairs of each kind in each unit.
    """
    out = CandidatePictures()
    label = evaluation.candidate.label
    for unit in dict.fromkeys(r["unit"] for r in records):
        selected = select_pairs([r for r in records if r["unit"] == unit], count)
        pairs = [_preview(evaluation, s.record) for s in selected]
        if not pairs:
            continue
        top = largest_error(pairs)
        block = PictureBlock(
            f"{label} ({unit})",
            f"The {count} worst pairs and the {count} nearest the median, by MAE. Errors are on "
            f"one scale: black 0, yellow {top:.3g} {unit} and more. Grey does not count.",
        )
        for pair, preview in zip(selected, pairs, strict=True):
            caption = _caption(evaluation, pair)
            block.pairs.append({"caption": caption, "layers": layers(preview, top)})
            if pair.place <= MAX_FILES:
                out.files.append(_draw_file(folder, evaluation, pair, caption, top))
        out.picture_blocks.append(block)
        out.figure_blocks.append(_error_map(label, unit, selected, pairs, top))
        out.figure_blocks += _diagnostics(evaluation, selected)
    out.figure_blocks += _plots_over_time(evaluation, records)
    return out


def select_pairs(records: Sequence[Mapping[str, Any]], count: int) -> list[Selected]:
    """Select the pairs to draw by a fixed rule.

    In each unit these are the `count` pairs with the largest MAE, where an undefined MAE (an output
    that is not finite) comes first; and of the others, the `count` pairs nearest the median MAE of
    the unit. For equal values, the earlier row comes first.
    """
    out: list[Selected] = []
    for unit in dict.fromkeys(r["unit"] for r in records):
        valid = [r for r in records if r["unit"] == unit and r["n_valid"] > 0]
        order = sorted(valid, key=lambda r: (-_or_infinity(r["mae"]), r["position"]))
        worst, rest = order[:count], order[count:]
        out += [Selected("worst", i, r) for i, r in enumerate(worst, start=1)]
        finite = [r["mae"] for r in valid if np.isfinite(r["mae"])]
        median = float(np.median(finite)) if finite else 0.0
        near = sorted(rest, key=lambda r: (abs(_or_infinity(r["mae"]) - median), r["position"]))
        out += [Selected("median", i, r) for i, r in enumerate(near[:count], start=1)]
    return out


def _or_infinity(value: float) -> float:
    return value if np.isfinite(value) else math.inf


def _preview(evaluation: Evaluation, record: Mapping[str, Any]) -> PairPreview:
    """Return a pair with the output of the candidate, and what is shown beside a guided one."""
    position = record["position"]
    source, target, output = evaluation.triple(position)
    names = [name for name in (UNGUIDED, ENLARGED) if name in evaluation.candidate.names]
    row = evaluation.rows[position]
    beside = {name: evaluation.output(name, row, source, target) for name in names}
    maps = {} if evaluation.intervals is None else evaluation.intervals.maps(row, source)
    return PairPreview.of(source, target, output, _index(evaluation, record), beside, maps)


def _index(evaluation: Evaluation, record: Mapping[str, Any]) -> str | None:
    """Return the first index that the pair has."""
    return next((i for i in evaluation.indices if f"{i}_mae" in record), None)


def _caption(evaluation: Evaluation, pair: Selected) -> str:
    record = pair.record
    row = evaluation.rows[record["position"]]
    words = [f"MAE {format_number(record['mae'], '.4f')} {record['unit']}"]
    index = _index(evaluation, record)
    if index is not None:
        words.append(f"{index} MAE {format_number(record[f'{index}_mae'], '.4f')}")
    name = short_name(row["target"] if row["source"] is None else row["source"])
    return f"{_KINDS[pair.kind]} {pair.place}: {name} ({sensor_name(row)}), {', '.join(words)}"


def _draw_file(
    folder: Path, evaluation: Evaluation, pair: Selected, caption: str, top: float
) -> dict[str, Any]:
    """Draw a pair to a file, and return the file's record."""
    position, unit = pair.record["position"], pair.record["unit"]
    name = f"{pair.kind}-{pair.place}.png"
    path = Path("pictures") / _file_name(evaluation.candidate.label) / unit / name
    index = _index(evaluation, pair.record)
    draw_comparison(
        folder / path, *evaluation.triple(position), title=caption, index=index, top=top
    )
    return {
        "file": path.as_posix(),
        "kind": pair.kind,
        "place": pair.place,
        "row": int(evaluation.rows[position]["row"]),
        "unit": unit,
        "mae": pair.record["mae"],
    }


def _file_name(label: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in label).strip("-.") or "model"


def _error_map(
    label: str, unit: str, selected: Sequence[Selected], pairs: Sequence[PairPreview], top: float
) -> FigureBlock:
    """Return a map of the signed error of the largest selected scene."""
    largest = int(np.argmax([pair.record["n_pixels"] for pair in selected]))
    caption = f"synthetic - true from -{top:.3g} (blue) to {top:.3g} {unit} (red), mean over bands"
    uri = residual(pairs[largest], top)
    kind, place, _ = selected[largest]
    title = f"{label}: error of a whole scene ({_KINDS[kind]} {place})"
    return FigureBlock(title, [{"caption": caption, "uri": uri, "alt": "Map of the signed error"}])


def _diagnostics(evaluation: Evaluation, selected: Sequence[Selected]) -> list[FigureBlock]:
    """Return the diagnostics of a model, on the pair nearest the median."""
    if not isinstance(evaluation.candidate, ModelCandidate):
        return []
    model, label = evaluation.candidate.model, evaluation.candidate.label
    pair = next((s for s in selected if s.kind == "median"), selected[0])
    source, target, output = evaluation.triple(pair.record["position"])
    figures = {
        "training": diagnostics.training_curves(model),
        "the world by its location embedding": diagnostics.location_map(model),
        "styles": diagnostics.style_sheet(model, source),
        "what the discriminator sees": diagnostics.discriminator_maps(
            model, source, target, output
        ),
    }
    return [FigureBlock(f"{label}: {title}", own) for title, own in figures.items() if own]


def _plots_over_time(
    evaluation: Evaluation, records: Sequence[Mapping[str, Any]]
) -> list[FigureBlock]:
    """Return plots of an index over time, for the groups with most dates.

    Empty for a manifest without a column of dates. NIR-GAN shows its results in this way.
    """
    column = next((c for c in DATE_COLUMNS if c in evaluation.table.columns), None)
    if column is None:
        return []
    dates = pd.to_datetime(evaluation.table[column], errors="coerce", utc=True, format="ISO8601")
    series: dict[tuple[str, str], list[tuple[Any, float, float]]] = {}
    for record in records:
        date = dates.iloc[record["position"]]
        index = next((i for i in evaluation.indices if f"{i}_true" in record), None)
        if index is None or pd.isna(date):
            continue
        true, synthetic = record[f"{index}_true"], record[f"{index}_synthetic"]
        if math.isfinite(true) and math.isfinite(synthetic):
            group = str(evaluation.rows[record["position"]]["group"])
            series.setdefault((index, group), []).append((date, true, synthetic))
    figures: list[dict[str, str]] = []
    for key in sorted(series, key=lambda k: (-len(series[k]), k)):
        points = sorted(series[key])
        if len({date for date, _, _ in points}) < MIN_DATES or len(figures) == MAX_PLACES:
            continue
        lines = {"true": [p[1] for p in points], "synthetic": [p[2] for p in points]}
        figure = plots.index_over_time([p[0] for p in points], lines, index=key[0], place=key[1])
        caption = f"mean of the pixels that count, {len(points)} scenes"
        figures.append({"caption": caption, **figure})
    if not figures:
        return []
    return [FigureBlock(f"{evaluation.candidate.label}: through the season", figures)]
