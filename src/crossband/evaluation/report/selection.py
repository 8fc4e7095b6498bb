"""Which pairs are drawn, by rule, and their pictures: files, and layers of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crossband.evaluation.candidates import ModelEntrant
from crossband.evaluation.evaluation import Trial, sensor_of
from crossband.evaluation.report import diagnostics as inside
from crossband.evaluation.report.dated import seasons
from crossband.evaluation.report.layers import Pair, layers, residual, top_error
from crossband.evaluation.report.page import Block, Swipe
from crossband.evaluation.report.pictures import comparison
from crossband.evaluation.report.text import cell, short
from crossband.metrics import MODEL

_KINDS = {"worst": "worst by MAE", "median": "near the median MAE"}


@dataclass
class Drawn:
    """Pictures of one entrant.

    Attributes:
        files: what metrics.json says of them.
        swipes: layers of pairs.
        blocks: figures.
    """

    files: list[dict[str, Any]] = field(default_factory=list)
    swipes: list[Swipe] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)


def draw(
    folder: Path, trial: Trial, records: Sequence[Mapping[str, Any]], count: int, files: int
) -> Drawn:
    """Draw the worst pairs and those nearest the median, by MAE, in each unit.

    Args:
        folder: of the report.
        trial: who was judged.
        records: its own record of each pair.
        count: pairs of each kind in each unit.
        files: of these, how many get a file of their own.
    """
    out = Drawn()
    label = trial.entrant.label
    for unit in dict.fromkeys(r["unit"] for r in records):
        chosen = pick([r for r in records if r["unit"] == unit], count)
        pairs = [_kept(trial, record) for _, _, record in chosen]
        if not pairs:
            continue
        top = top_error(pairs)
        swipe = Swipe(
            f"{label} ({unit})",
            f"The {count} worst pairs and the {count} nearest the median, by MAE. Errors are on "
            f"one scale: black 0, yellow {top:.3g} {unit} and more. Grey does not count.",
        )
        for (kind, place, record), pair in zip(chosen, pairs, strict=True):
            words = _words(trial, kind, place, record)
            swipe.pairs.append({"caption": words, "layers": layers(pair, top)})
            if place <= files:
                out.files.append(_file(folder, trial, kind, place, record, words, top))
        out.swipes.append(swipe)
        out.blocks += _maps(label, unit, records, chosen, pairs, top)
        out.blocks += _inside(trial, chosen)
    out.blocks += seasons(trial, records)
    return out


def _kept(trial: Trial, record: Mapping[str, Any]) -> Pair:
    source, target = trial.pair(record["position"])
    output = trial.answer(MODEL, trial.rows[record["position"]], source, target)
    return Pair.of(source, target, output, _index(trial, record))


def _index(trial: Trial, record: Mapping[str, Any]) -> str | None:
    return next((i for i in trial.indices if f"{i}_mae" in record), None)


def _words(trial: Trial, kind: str, place: int, record: Mapping[str, Any]) -> str:
    row = trial.rows[record["position"]]
    words = [f"MAE {cell(record['mae'], '.4f')} {record['unit']}"]
    index = _index(trial, record)
    if index is not None:
        words.append(f"{index} MAE {cell(record[f'{index}_mae'], '.4f')}")
    name = short(row["target"] if row["source"] is None else row["source"])
    return f"{_KINDS[kind]} {place}: {name} ({sensor_of(row)}), {', '.join(words)}"


def _file(
    folder: Path,
    trial: Trial,
    kind: str,
    place: int,
    record: Mapping[str, Any],
    words: str,
    top: float,
) -> dict[str, Any]:
    position, unit = record["position"], record["unit"]
    row = trial.rows[position]
    source, target = trial.pair(position)
    output = trial.answer(MODEL, row, source, target)
    inside = Path("pictures") / _plain(trial.entrant.label) / unit / f"{kind}-{place}.png"
    comparison(
        folder / inside, source, target, output, title=words, index=_index(trial, record), top=top
    )
    return {
        "file": inside.as_posix(),
        "kind": kind,
        "place": place,
        "row": int(row["row"]),
        "unit": unit,
        "mae": record["mae"],
    }


def _maps(
    label: str,
    unit: str,
    records: Sequence[Mapping[str, Any]],
    chosen: Sequence[tuple[str, int, Mapping[str, Any]]],
    pairs: Sequence[Pair],
    top: float,
) -> list[Block]:
    """Draw the signed error of the largest scene that was chosen, as a map."""
    sizes = [record["n_pixels"] for _, _, record in chosen]
    place = int(np.argmax(sizes))
    words = f"synthetic - true from -{top:.3g} (blue) to {top:.3g} {unit} (red), mean over bands"
    uri = residual(pairs[place], top)
    figure = {"caption": words, "uri": uri, "alt": "Map of the signed error"}
    kind, number, _ = chosen[place]
    return [Block(f"{label}: error of a whole scene ({_KINDS[kind]} {number})", [figure])]


def _inside(trial: Trial, chosen: Sequence[tuple[str, int, Mapping[str, Any]]]) -> list[Block]:
    """Draw what a look inside the model shows, on the pair nearest the median."""
    if not isinstance(trial.entrant, ModelEntrant):
        return []
    model, label = trial.entrant.model, trial.entrant.label
    record = next((r for kind, _, r in chosen if kind == "median"), chosen[0][2])
    source, target = trial.pair(record["position"])
    output = trial.answer(MODEL, trial.rows[record["position"]], source, target)
    found = {
        "training": inside.curves(model),
        "the world by its location embedding": inside.world(model),
        "styles": inside.styles(model, source),
        "what the discriminator sees": inside.judged(model, source, target, output),
    }
    return [Block(f"{label}: {what}", figures) for what, figures in found.items() if figures]


def pick(rows: Sequence[Mapping[str, Any]], count: int) -> list[tuple[str, int, Mapping[str, Any]]]:
    """Choose pairs to draw by rule: (worst or median, place from 1, record).

    In each unit: the `count` pairs with the largest MAE, an undefined one (NaN in the output)
    before all; of the rest, those nearest the median MAE of the unit. Ties go to the earlier row.
    """
    out: list[tuple[str, int, Mapping[str, Any]]] = []
    for unit in dict.fromkeys(r["unit"] for r in rows):
        own = [r for r in rows if r["unit"] == unit and r["n_valid"] > 0]
        order = sorted(own, key=lambda r: (-_or_inf(r["mae"]), r["position"]))
        worst, rest = order[:count], order[count:]
        out += [("worst", i, r) for i, r in enumerate(worst, start=1)]
        finite = [r["mae"] for r in own if np.isfinite(r["mae"])]
        middle = float(np.median(finite)) if finite else 0.0
        near = sorted(rest, key=lambda r: (abs(_or_inf(r["mae"]) - middle), r["position"]))
        out += [("median", i, r) for i, r in enumerate(near[:count], start=1)]
    return out


def _or_inf(value: float) -> float:
    return value if np.isfinite(value) else float("inf")


def _plain(label: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in label).strip("-.") or "model"
