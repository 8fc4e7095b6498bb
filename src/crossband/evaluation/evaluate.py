"""Hold models, and files that other tools made, against true pairs and against baselines.

The report is a folder: `index.html` (the page), `metrics.json`, `profiles.json`, `per_image.csv`,
`per_image.parquet`, `table.txt`, and `pictures/`. `docs/metrics-schema.md` describes the JSON; its
`schema` changes when a key changes its meaning, and new keys may be added. The rules, which hold
for every number:

- physical units, and only pixels where source and target are both valid; units are never averaged
  together: what is pooled is one sensor in one unit;
- per image (`per_image.*`; their mean under `images`) and over all pixels of a group or sensor
  (`pixels`), each with a 95 % bootstrap interval over groups;
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
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from crossband.core.atomic import atomic_folder, check_folder
from crossband.core.indices import required_bands
from crossband.core.version import __version__
from crossband.data import manifest as manifests
from crossband.data.splits import leakage
from crossband.errors import CrossbandError, CrossbandWarning, ManifestError
from crossband.evaluation import intervals
from crossband.evaluation.baselines import baselines, signature_of
from crossband.evaluation.candidates import Entrant, FilesEntrant, ModelEntrant
from crossband.evaluation.comparison import versus
from crossband.evaluation.evaluation import Looks, Trial, compare_windows
from crossband.metrics import DATA_RANGE, GUARD, MODEL, as_json, described
from crossband.model import Model, load

if TYPE_CHECKING:
    from crossband.evaluation.report.page import Block, Swipe

__all__ = ["INDICES", "Report", "choose", "compare_windows", "evaluate", "table"]

SCHEMA = "crossband.metrics/1"
METRICS_FILE, PAGE = "metrics.json", "index.html"
INDICES = ("NDVI", "NDWI", "EVI")
#: Pairs of each kind that get a file of their own beside the page.
FILES = 3


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
    predictions: Sequence[str | Path] = (),
    split: str | None = None,
    indices: Sequence[str] = INDICES,
    by: Sequence[str] = (),
    features: str | Path | None = None,
    feature_bands: Sequence[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    workers: int = 1,
    pictures: int = 10,
    overwrite: bool = False,
) -> Report:
    """Evaluate models on the pairs of a manifest and write the report.

    Args:
        models: loaded models, or what `crossband.load` takes.
        manifest: CSV or parquet, see `crossband.data.manifest`.
        output: folder of the report; appears when all of it is there.
        predictions: folders of files that another tool made, see
            `evaluation.candidates.FilesEntrant`; their bands and baselines are the first model's,
            and without a model those of the manifest and its train rows.
        split: which rows; where None: `test`, without one `val`, without one all rows.
        indices: spyndex names; judged where the bands of a pair allow them.
        by: columns of the manifest to break the numbers down by.
        features: an extractor for FID and KID, see `metrics.extractors.load`; none where None.
        feature_bands: target bands that it sees, one or three.
        device: auto, cpu, cuda, mps.
        precision: auto, fp32, bf16; of the models, while baselines always run in fp32.
        workers: threads that read ahead and score; they change no number.
        pictures: how many pairs to draw in each unit, of the worst and of those near the median.
        overwrite: replace an existing report.

    Raises:
        ManifestError: nothing to judge, or a pair that does not fit; the message names the row.
        OutputError: the folder exists or cannot be written; nothing is left behind.
    """
    start = time.monotonic()
    output = Path(output)
    check_folder(output, overwrite, METRICS_FILE)
    for index in indices:
        required_bands(index)
    if workers < 1:
        raise ManifestError(f"--workers {workers}: at least 1")
    loaded = [m if isinstance(m, Model) else load(m) for m in models]
    if not loaded and not predictions:
        raise ManifestError("no model and no predictions to evaluate")
    full = manifests.read(manifest)
    leaks = leakage(full) if "split" in full.columns else []
    rows, chosen = choose(full, split)
    paired = manifests.is_paired(rows)
    if not paired.any():
        raise ManifestError(f"{manifest}: no row to judge has both a source and a target")
    left_out, rows = int((~paired).sum()), rows[paired].reset_index(drop=True)
    looks = _looks(features, feature_bands, device)
    names = _labels([*(m.name for m in loaded), *(Path(p).name for p in predictions)])
    entrants: list[Entrant] = [
        ModelEntrant(m, label, device, precision)
        for m, label in zip(loaded, names[: len(loaded)], strict=True)
    ]
    train = _train(full)
    for entrant in entrants:
        _complete(entrant, train, rows)
    entrants += _files(predictions, names[len(loaded) :], train, rows, entrants)
    with atomic_folder(output, overwrite, METRICS_FILE) as folder:
        records, numbers, trials = [], [], []
        for entrant in entrants:
            trial = Trial(entrant, rows, indices, by=by, looks=looks, workers=workers)
            numbers += trial.run()
            records.append(trial.record())
            trials.append(trial)
        metrics = {
            "schema": SCHEMA,
            "crossband": __version__,
            "manifest": {
                "path": str(manifest),
                "sha256": manifests.fingerprint(rows),
                "split": chosen,
                "n_rows": len(rows),
                "n_unpaired": left_out,
                "n_groups": int(rows["group"].nunique()),
                "leakage": next((asdict(k) for k in leaks if k.split == chosen and k.cut), None),
            },
            "data_range": DATA_RANGE,
            "index_guard": GUARD,
            "bootstrap": intervals.about(),
            "indices": list(dict.fromkeys(i for r in records for i in r["indices"])),
            "models": records,
            "versus": versus(records, _directions(records)) if len(records) > 1 else None,
        }
        swipes, blocks = _drawn(folder, trials, records, numbers, pictures)
        report = Report(output, metrics, _frame(rows, numbers))
        _write(folder, report, swipes, blocks, time.monotonic() - start)
    return report


def table(report: Report) -> str:
    """Return the tables of a report as plain text; `*` marks where a baseline is better."""
    from crossband.evaluation.report.text import evaluation

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


def _looks(features: str | Path | None, bands: Sequence[str] | None, device: str) -> Looks | None:
    if features is None:
        if bands:
            raise ManifestError("--feature-bands needs --features, which says who looks at them")
        return None
    from crossband.metrics import extractors as room

    return Looks(room.load(features, device=device), bands or None)


def _train(full: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs that baselines may be fitted on: the rows of the split `train`."""
    train = full[full["split"] == "train"] if "split" in full.columns else full[:0]
    return train[manifests.is_paired(train)].reset_index(drop=True)


def _complete(entrant: Entrant, train: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Fit the mean and the line for a model that brought none, as an imported one."""
    if {"mean", "linear"} & set(entrant.baselines):
        return
    try:
        found = baselines(train, rows, entrant.signature, entrant.scale)
    except CrossbandError as error:
        warnings.warn(
            CrossbandWarning(f"{entrant.label} has no baselines, and none can be fitted: {error}"),
            stacklevel=2,
        )
        return
    for name, baseline in found.items():
        entrant.baselines.setdefault(name, baseline)


def _files(
    predictions: Sequence[str | Path],
    names: Sequence[str],
    train: pd.DataFrame,
    rows: pd.DataFrame,
    models: Sequence[Entrant],
) -> list[Entrant]:
    """Return the folders of predictions, each with its baselines."""
    if not predictions:
        return []
    if models:
        signature, scale, opponents = models[0].signature, models[0].scale, models[0].baselines
    else:
        signature, scale = signature_of(rows)
        opponents = baselines(train, rows, signature, scale)
    found: list[Entrant] = []
    for folder, name in zip(predictions, names, strict=True):
        entrant = FilesEntrant(Path(folder), name, signature, scale, dict(opponents))
        entrant.check([{str(k): v for k, v in r.items()} for r in rows.to_dict("records")])
        found.append(entrant)
    return found


def _directions(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return which metrics have a better side: what models are compared in."""
    there = dict.fromkeys(
        name for r in records for g in r["groups"] for name in g["scores"][MODEL]["pixels"]
    )
    found = {name: described(name) for name in there}
    return {n: m.better for n, m in found.items() if m is not None and m.better in ("less", "more")}


def _drawn(
    folder: Path,
    trials: Sequence[Trial],
    records: Sequence[dict[str, Any]],
    numbers: Sequence[Mapping[str, Any]],
    count: int,
) -> tuple[list[Swipe], list[Block]]:
    """Draw the pictures of each trial and write their names into its record."""
    from crossband.evaluation.report.selection import draw

    swipes: list[Swipe] = []
    blocks: list[Block] = []
    for trial, record in zip(trials, records, strict=True):
        own = [r for r in numbers if r["model"] == trial.entrant.label and r["by"] == MODEL]
        found = draw(folder, trial, own, count, FILES)
        record["pictures"] = found.files
        swipes += found.swipes
        blocks += found.blocks
    return swipes, blocks


def _labels(names: Sequence[str]) -> list[str]:
    """Return a name for each model; models of one name are numbered."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if names.count(name) == 1 else f"{name} ({seen[name]})")
    return out


def _frame(table: pd.DataFrame, rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Join the manifest's columns, all kept, with the numbers of each pair."""
    numbers = pd.DataFrame(rows)
    clash = {c: f"manifest_{c}" for c in table.columns if c in numbers.columns}
    kept = table.rename(columns=clash).iloc[numbers["position"]].reset_index(drop=True)
    for column in kept.columns:
        if kept[column].dtype == object:  # a column of mixed types has no place in parquet
            kept[column] = kept[column].map(lambda v: None if pd.isna(v) else str(v))
    return pd.concat([kept, numbers.drop(columns="position")], axis=1)


def _write(
    folder: Path,
    report: Report,
    swipes: Sequence[Swipe],
    blocks: Sequence[Block],
    seconds: float,
) -> None:
    from crossband.evaluation.report.page import page

    # Hundreds of numbers in a row: a file of their own, on few lines.
    profiles = [
        {
            "label": model["label"],
            "sensors": [
                {"sensor": s["sensor"], "unit": s["unit"], "bands": s.pop("profiles")}
                for s in model["sensors"]
            ],
        }
        for model in report.metrics["models"]
    ]
    plain = as_json(report.metrics)
    text = json.dumps(plain, indent=2, allow_nan=False)
    (folder / METRICS_FILE).write_text(text + "\n")
    lines = json.dumps(as_json(profiles), allow_nan=False)
    (folder / "profiles.json").write_text(lines + "\n")
    (folder / "table.txt").write_text(table(report) + "\n")
    report.per_image.to_csv(folder / "per_image.csv", index=False)
    report.per_image.to_parquet(folder / "per_image.parquet", index=False)
    (folder / PAGE).write_text(page(plain, as_json(profiles), swipes, blocks, seconds))
