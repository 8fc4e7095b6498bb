"""Hold models against true pairs and against their baselines, on the same pixels.

The report is a folder: `metrics.json`, `per_image.csv`, `per_image.parquet`, `table.txt`, and
`pictures/`. `docs/metrics-schema.md` describes `metrics.json`; its `schema` changes when a key
changes its meaning, and new keys may be added. The rules, which hold for every number:

- physical units, and only pixels where source and target are both valid; units are never averaged
  together: what is pooled is one sensor in one unit;
- per image (`per_image.*`; their mean under `images`) and over all pixels of a group or sensor
  (`pixels`);
- beside the model its baselines, on the same pixels, in fp32: rounding must not weaken an opponent;
- across sensors only the geometric mean over groups of the ratio model / baseline, each group
  counting once;
- PSNR and SSIM use the data range of the unit, indices the guard on the true denominator, and both
  are written down in `metrics.json`;
- an output that is NaN or infinite is counted, and makes the metrics of its image, group and sensor
  undefined.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossband import __version__
from crossband.data import manifest as manifests
from crossband.data.reader import PairReader
from crossband.data.splits import leakage
from crossband.devices import resolve_device, resolve_precision
from crossband.errors import ManifestError
from crossband.indices import required_bands
from crossband.metrics import (
    DATA_RANGE,
    GUARD,
    MODEL,
    Cell,
    Score,
    Tally,
    as_json,
    score,
    usable_indices,
)
from crossband.model import Model, load
from crossband.raster.grid import Window
from crossband.report.folder import appearing, check_folder
from crossband.translator import translate_window

SCHEMA = "crossband.metrics/1"
METRICS_FILE = "metrics.json"
INDICES = ("NDVI", "NDWI", "EVI")
_KINDS = {"worst": "worst by MAE", "median": "near the median MAE"}


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        output: the folder.
        metrics: content of metrics.json, with NaN where JSON has null.
        per_image: one row for each pair, and each of model and baselines (column `by`).
    """

    output: Path
    metrics: dict[str, Any]
    per_image: pd.DataFrame

    @property
    def split(self) -> str:
        """The split that was judged, or `all rows`."""
        return self.metrics["manifest"]["split"] or "all rows"


def evaluate(
    models: Sequence[str | Path | Model],
    manifest: str | Path,
    output: str | Path,
    *,
    split: str | None = None,
    indices: Sequence[str] = INDICES,
    device: str = "auto",
    precision: str = "auto",
    pictures: int = 3,
    overwrite: bool = False,
) -> Report:
    """Evaluate models on the pairs of a manifest and write the report.

    Args:
        models: loaded models, or what `crossband.load` takes.
        manifest: CSV or parquet, see `crossband.data.manifest`.
        output: folder of the report; appears when all of it is there.
        split: which rows; where None: `test`, without one `val`, without one all rows.
        indices: spyndex names; judged where the bands of a pair allow them.
        device: auto, cpu, cuda, mps.
        precision: auto, fp32, bf16; of the models, while baselines always run in fp32.
        pictures: how many pairs to draw in each unit, of the worst and of those near the median.
        overwrite: replace an existing report.

    Raises:
        ManifestError: nothing to judge, or a pair that does not fit; the message names the row.
        OutputError: the folder exists or cannot be written; nothing is left behind.
    """
    output = Path(output)
    check_folder(output, overwrite, METRICS_FILE)
    for index in indices:
        required_bands(index)
    loaded = [m if isinstance(m, Model) else load(m) for m in models]
    if not loaded:
        raise ManifestError("no model to evaluate")
    table = manifests.read(manifest)
    leaks = leakage(table) if "split" in table.columns else []
    table, chosen = choose(table, split)
    paired = manifests.is_paired(table)
    if not paired.any():
        raise ManifestError(f"{manifest}: no row to judge has both a source and a target")
    left_out, table = int((~paired).sum()), table[paired].reset_index(drop=True)
    with appearing(output, overwrite, METRICS_FILE) as folder:
        records, rows = [], []
        for label, model in zip(_labels(loaded), loaded, strict=True):
            one = _Evaluation(model, label, table, indices, device=device, precision=precision)
            rows += one.run()
            records.append({**one.record(), "pictures": one.draw(folder, rows, pictures)})
        metrics = {
            "schema": SCHEMA,
            "crossband": __version__,
            "manifest": {
                "path": str(manifest),
                "sha256": manifests.fingerprint(table),
                "split": chosen,
                "n_rows": len(table),
                "n_unpaired": left_out,
                "n_groups": int(table["group"].nunique()),
                "leakage": next((asdict(k) for k in leaks if k.split == chosen and k.cut), None),
            },
            "data_range": DATA_RANGE,
            "index_guard": GUARD,
            "indices": list(dict.fromkeys(i for r in records for i in r["indices"])),
            "models": records,
        }
        report = Report(output, metrics, _frame(table, rows))
        _write(folder, report)
    return report


def table(report: Report) -> str:
    """Return the tables of a report as plain text; `*` marks where a baseline is better."""
    from crossband.report.table import evaluation

    return evaluation(as_json(report.metrics))


def choose(rows: pd.DataFrame, split: str | None) -> tuple[pd.DataFrame, str | None]:
    """Return the rows to judge, and the name of their split (None: all rows)."""
    if "split" not in rows.columns:
        if split is not None:
            raise ManifestError(f"the manifest has no column 'split', so no split {split!r}")
        return rows, None
    there = set(rows["split"])
    if split is None:
        split = next((s for s in ("test", "val") if s in there), None)
        if split is None:
            return rows, None
    if split not in there:
        raise ManifestError(
            f"the manifest has no row with split {split!r}: it has {', '.join(sorted(there))}"
        )
    return rows[rows["split"] == split].reset_index(drop=True), split


class _Evaluation:
    """One model over the rows of a manifest."""

    def __init__(
        self,
        model: Model,
        label: str,
        table: pd.DataFrame,
        indices: Sequence[str],
        *,
        device: str,
        precision: str,
    ) -> None:
        self.model, self.label, self.table, self.indices = model, label, table, indices
        self.device, self.precision = device, precision
        self.reader = PairReader(table, model.signature, model.network.scale)
        self.tally = Tally(list(model.baselines))

    def run(self) -> list[dict[str, Any]]:
        """Score every pair; returns a record for each pair and each of model and baselines."""
        rows = []
        for position, row in enumerate(self.reader.rows):
            source, target = self._pair(position)
            scores = {
                who: self._score(who, source, target) for who in (MODEL, *self.model.baselines)
            }
            self.tally.add(Cell(_sensor(row), target.unit, str(row["group"])), scores)
            for who, result in scores.items():
                rows.append(
                    {
                        "position": position,
                        "model": self.label,
                        "by": who,
                        "unit": target.unit,
                        **result.numbers(),
                    }
                )
        return rows

    def _pair(self, position: int) -> tuple[Window, Window]:
        """Read a pair; the target's mask says which pixels count."""
        facts = self.reader.facts(position)
        grid, unit = facts.grid, facts.unit
        pixels = self.reader.read(position, grid.box)
        signature = self.model.signature
        fine = grid.zoom(self.model.network.scale)
        return (
            Window(pixels.source, pixels.source_mask, grid, tuple(signature.source), unit),
            Window(
                pixels.target,
                pixels.mask,
                fine,
                tuple(signature.target),
                signature.target_unit(unit),
            ),
        )

    def _translate(self, who: str, source: Window) -> Window:
        own = who == MODEL
        return translate_window(
            self.model if own else self.model.baselines[who],
            source,
            device=self.device,
            precision=self.precision if own else "fp32",
        )

    def _score(self, who: str, source: Window, target: Window) -> Score:
        return compare_windows(self._translate(who, source), source, target, self.indices)

    def record(self) -> dict[str, Any]:
        """Return what metrics.json says of this model."""
        where = resolve_device(self.device)
        return {
            "label": self.label,
            "name": self.model.name,
            "task": self.model.task,
            "weights_hash": self.model.weights_hash,
            "source": list(self.model.signature.source),
            "target": list(self.model.signature.target),
            "device": where.type,
            "precision": resolve_precision(where, self.precision),
            "baselines": {name: b.weights_hash for name, b in self.model.baselines.items()},
            "indices": self.tally.indices(),
            "sensors": self.tally.sensors(),
            "groups": self.tally.groups(),
            "ratios": self.tally.ratios(),
        }

    def draw(
        self, folder: Path, rows: Sequence[dict[str, Any]], count: int
    ) -> list[dict[str, Any]]:
        """Draw the worst pairs and those nearest the median, by MAE, in each unit."""
        from crossband.report.pictures import comparison
        from crossband.report.table import cell, short

        own = [r for r in rows if r["model"] == self.label and r["by"] == MODEL]
        out = []
        for kind, place, record in pick(own, count):
            row = self.reader.rows[record["position"]]
            source, target = self._pair(record["position"])
            inside = Path("pictures") / _plain(self.label) / record["unit"] / f"{kind}-{place}.png"
            words = [f"MAE {cell(record['mae'], '.4f')} {record['unit']}"]
            index = next((i for i in self.indices if f"{i}_mae" in record), None)
            if index is not None:
                words.append(f"{index} MAE {cell(record[f'{index}_mae'], '.4f')}")
            comparison(
                folder / inside,
                source,
                target,
                self._translate(MODEL, source),
                title=f"{_KINDS[kind]} {place}: {short(row['source'])} ({_sensor(row)}), "
                f"{', '.join(words)}",
                index=index,
            )
            out.append(
                {
                    "file": inside.as_posix(),
                    "kind": kind,
                    "place": place,
                    "row": int(row["row"]),
                    "unit": record["unit"],
                    "mae": record["mae"],
                }
            )
        return out


def compare_windows(
    output: Window, source: Window, target: Window, indices: Sequence[str]
) -> Score:
    """Score an output against the truth, on pixels where source and target are valid.

    Args:
        output: synthetic, on the grid of the target; a pixel that it masks though the truth is
            valid counts as not finite.
        source: what the model was given; indices take true bands from it.
        target: the truth.
        indices: spyndex names; those that the bands do not allow are left out.
    """
    finer = target.grid.height // source.grid.height
    same = finer == 1 and source.unit == target.unit
    mask = target.mask & source.mask.repeat(finer, axis=0).repeat(finer, axis=1)
    return score(
        np.where(output.mask, output.values, np.float32("nan")),
        target.values,
        target.bands,
        target.unit,
        mask,
        beside=dict(zip(source.bands, source.values, strict=True)) if same else None,
        indices=usable_indices(
            indices, source.bands, target.bands, unit=target.unit, same_pixels=same
        ),
    )


def pick(rows: Sequence[dict[str, Any]], count: int) -> list[tuple[str, int, dict[str, Any]]]:
    """Choose pairs to draw by rule: (worst or median, place from 1, record).

    In each unit: the `count` pairs with the largest MAE, an undefined one (NaN in the output)
    before all; of the rest, those nearest the median MAE of the unit. Ties go to the earlier row.
    """
    out = []
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


def _sensor(row: dict[str, Any]) -> str:
    """Name the sensor of a pair; both where source and target come from different ones."""
    one = "unnamed sensor" if pd.isna(row["sensor"]) else str(row["sensor"])
    two = one if pd.isna(row["target_sensor"]) else str(row["target_sensor"])
    return one if one == two else f"{one} to {two}"


def _labels(models: Sequence[Model]) -> list[str]:
    """Return a name for each model; models of one name are numbered."""
    names = [m.name for m in models]
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if names.count(name) == 1 else f"{name} ({seen[name]})")
    return out


def _plain(label: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in label).strip("-.") or "model"


def _frame(table: pd.DataFrame, rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Join the manifest's columns, all kept, with the numbers of each pair."""
    numbers = pd.DataFrame(rows)
    clash = {c: f"manifest_{c}" for c in table.columns if c in numbers.columns}
    kept = table.rename(columns=clash).iloc[numbers["position"]].reset_index(drop=True)
    for column in kept.columns:
        if kept[column].dtype == object:  # a column of mixed types has no place in parquet
            kept[column] = kept[column].map(lambda v: None if pd.isna(v) else str(v))
    return pd.concat([kept, numbers.drop(columns="position")], axis=1)


def _write(folder: Path, report: Report) -> None:
    text = json.dumps(as_json(report.metrics), indent=2, allow_nan=False)
    (folder / METRICS_FILE).write_text(text + "\n")
    (folder / "table.txt").write_text(table(report) + "\n")
    report.per_image.to_csv(folder / "per_image.csv", index=False)
    report.per_image.to_parquet(folder / "per_image.parquet", index=False)
