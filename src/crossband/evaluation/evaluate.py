"""Evaluation of models, and of files from other tools, on true pairs; it writes a report.

The report is a folder: `index.html` (the page), `metrics.json`, `profiles.json`, `per_image.csv`,
`per_image.parquet`, `table.txt`, and `pictures/`. `docs/metrics-schema.md` describes the JSON. Its
`schema` changes when the meaning of a key changes; new keys may be added. These rules hold for
every number:

- Values are in physical units. Only pixels at which source and target are valid are used.
- Units are never averaged together: pixels are pooled for one sensor in one unit.
- Metrics are given per image (`per_image.*`; their means under `images`) and over all pixels of a
  group or sensor (`pixels`). Those of a sensor have a 95 % bootstrap interval over groups.
- Baselines are evaluated on the same pixels, in fp32, so that rounding does not make them worse.
- Across sensors there is only the geometric mean over groups of the ratio model / baseline. Every
  group has the same weight.
- PSNR and SSIM use the data range of the unit; indices use the guard on the true denominator. Both
  are written to `metrics.json`.
- Where the manifest names guides, the models are guided by them: see `evaluation.guides`. Rows
  without a guide are left out.
- An output that is NaN or infinite is counted. The metrics of its image, group and sensor are
  undefined.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from crossband.core.atomic import atomic_folder, check_folder
from crossband.core.conformal import MEAN
from crossband.core.indices import required_bands
from crossband.core.made_from import make_fingerprint
from crossband.core.python_words import public
from crossband.core.version import __version__
from crossband.core.warned import warn
from crossband.data import manifest as manifests
from crossband.data.splits import leakage
from crossband.errors import CrossbandError, ManifestError
from crossband.evaluation import intervals
from crossband.evaluation.baselines import fit_baselines, infer_signature
from crossband.evaluation.candidates import Candidate, FilesCandidate, ModelCandidate
from crossband.evaluation.comparison import compare_models
from crossband.evaluation.evaluation import Evaluation, FeatureOptions
from crossband.evaluation.guide_names import AGE, RATIO
from crossband.evaluation.guided_intervals import GuidedPlaceIntervals
from crossband.evaluation.guides import GuidedCandidate, add_classes, guide_baselines
from crossband.evaluation.place_intervals import PlaceIntervals
from crossband.evaluation.rows import judged_rows, select_split, train_rows
from crossband.metrics import DATA_RANGE, GUARD, MODEL, as_json, describe
from crossband.model import Model, identity, load
from crossband.model.files import METRICS_FILE
from crossband.raster.remote import address
from crossband.translate.options import IntervalOptions, WriteOptions
from crossband.translate.stream import Progress

if TYPE_CHECKING:
    from crossband.evaluation.report.page import FigureBlock, PictureBlock

SCHEMA = "crossband.metrics/1"
PAGE, PROFILES, TABLE, ROWS = "index.html", "profiles.json", "table.txt", "per_image"
#: What the folder of a report may have beside its metrics.
OWN = (PAGE, PROFILES, TABLE, f"{ROWS}.csv", f"{ROWS}.parquet", "pictures")
INDICES = ("NDVI", "NDWI", "EVI")


@dataclass(frozen=True)
class Report:
    """Result of an evaluation.

    Attributes:
        output: folder of the report.
        metrics: content of metrics.json, with NaN in the place of null.
        per_image: one row for each pair and each of model and baselines (column `by`).
    """

    output: Path
    metrics: dict[str, Any]
    per_image: pd.DataFrame

    @property
    def split(self) -> str:
        """The evaluated split, or `all rows`."""
        return self.metrics["manifest"]["split"] or "all rows"


@public(WriteOptions)
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
    interval: float | None = None,
    promise: str = MEAN,
    device: str = "auto",
    precision: str = "auto",
    workers: int = 1,
    pictures: int = 10,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Evaluate models on the pairs of a manifest and write the report.

    Args:
        models: loaded models, or arguments of `crossband.load`.
        manifest: CSV or parquet, see `crossband.data.manifest`.
        output: folder of the report. It appears when the report is complete.
        predictions: folders of files that another tool made, see
            `evaluation.candidates.FilesCandidate`. Their bands and baselines are those of the first
            model. Without a model, the manifest names the bands, and baselines are fitted to its
            train rows.
        split: the rows to evaluate. None: `test` if there is one, else `val`, else all rows.
        indices: spyndex names; they are compared where the bands of a pair allow them.
        by: columns of the manifest to break the scores down by.
        features: an extractor for FID and KID, see `metrics.extractors.load`; None: no extractor.
        feature_bands: one or three target bands for the extractor.
        interval: also judge the intervals of this level, for models that are calibrated. Those of
            guided results are judged by the class of each pair's guide; pairs of classes that are
            not calibrated are counted and left out.
        promise: of the intervals, see `translate.options.IntervalOptions`.
        device: auto, cpu, cuda, mps.
        precision: auto, fp32, bf16; of the models. Baselines always run in fp32.
        workers: threads that read ahead and score; they do not change the results.
        pictures: number of pairs to draw in each unit, of the worst and of those near the median.
        overwrite: replace an existing report.
        progress: called with (pairs scored, pairs in all) after each; each model has its own.

    Raises:
        ManifestError: there are no pairs, or a pair does not fit; the message names the row.
        OutputError: the folder exists or cannot be written; no files remain.
        UpToDate: the folder is the report of the same models on the same pairs.
    """
    start = time.monotonic()
    output = Path(output)
    for index in indices:
        required_bands(index)
    if workers < 1:
        raise ManifestError(f"--workers {workers}: at least 1")
    loaded = [m if isinstance(m, Model) else load(m) for m in models]
    if not loaded and not predictions:
        raise ManifestError("no model and no predictions to evaluate")
    full = manifests.read(manifest)
    leaks = leakage(full) if "split" in full.columns else []
    rows, split = select_split(full, split)
    rows, left_out = judged_rows(manifest, rows)
    guided = "guide" in rows
    for model in loaded:
        if model.signature.guide and not guided:
            raise ManifestError(
                f"{model.name} takes a guide, and the manifest has no column guide, see "
                f"docs/guiding.md"
            )
    feature_options = _feature_options(features, feature_bands, device)
    labels = _labels(
        [
            *((m.name, m.address or "") for m in loaded),
            *((Path(p).name, str(p)) for p in predictions),
        ]
    )
    calibrations = [m.calibration.fact for m in loaded if m.calibration is not None]
    made_from = make_fingerprint(
        {
            "models": [identity(m) for m in loaded],
            "baselines": [sorted((n, identity(b)) for n, b in m.baselines.items()) for m in loaded],
            "rows": manifests.input_fingerprint(full, {"split": split}),
            "options": (*map(tuple, (indices, by, feature_bands or ())), device, precision),
            "pictures": pictures,
            **({} if interval is None else {"interval": (interval, promise, *calibrations)}),
        },
        [*predictions, *([] if features is None else [features])],
    )
    check_folder(output, overwrite, METRICS_FILE, made_from)
    of_models: list[ModelCandidate] = [
        (GuidedCandidate if guided else ModelCandidate)(m, label, device, precision)
        for m, label in zip(loaded, labels[: len(loaded)], strict=True)
    ]
    judges = _interval_judges(of_models, IntervalOptions(interval, promise))
    candidates: list[Candidate] = [*of_models]
    train = train_rows(full)
    for candidate in candidates:
        _add_fitted_baselines(candidate, train, rows)
    candidates += _file_candidates(predictions, labels[len(loaded) :], train, rows, candidates)
    sha256 = manifests.fingerprint(rows)
    if guided:
        rows = add_classes(rows, candidates[0].signature, candidates[0].scale)
        by = [*by, AGE, RATIO]
    count, total = itertools.count(1), len(candidates) * len(rows)

    def scored() -> None:
        progress(next(count), total)

    with atomic_folder(output, overwrite, METRICS_FILE, made_from, names=OWN) as folder:
        records, numbers, evaluations = [], [], []
        judged = [*judges, *(None for _ in predictions)]
        for candidate, judge in zip(candidates, judged, strict=True):
            evaluation = Evaluation(
                candidate,
                rows,
                indices,
                by=by,
                features=feature_options,
                intervals=judge,
                workers=workers,
            )
            numbers += evaluation.run(scored)
            records.append(evaluation.record())
            evaluations.append(evaluation)
        metrics = {
            "schema": SCHEMA,
            "crossband": __version__,
            "made_from": made_from,
            "manifest": {
                "path": address(manifest),
                "sha256": sha256,
                "split": split,
                "n_rows": len(rows),
                **left_out,
                "n_groups": int(rows["group"].nunique()),
                "leakage": next((asdict(k) for k in leaks if k.split == split and k.cut), None),
            },
            "data_range": DATA_RANGE,
            "index_guard": GUARD,
            "bootstrap": intervals.about(),
            "indices": list(dict.fromkeys(i for r in records for i in r["indices"])),
            "models": records,
            "versus": compare_models(records, _better(records)) if len(records) > 1 else None,
        }
        picture_blocks, figure_blocks = _draw(folder, evaluations, records, numbers, pictures)
        report = Report(output, metrics, _per_image(rows, numbers))
        _write(folder, report, picture_blocks, figure_blocks, time.monotonic() - start)
    return report


def report_text(report: Report) -> str:
    """Return the tables of a report as plain text; `*` marks a baseline that is better."""
    from crossband.evaluation.report.text import evaluation_text

    return evaluation_text(as_json(report.metrics))


def _interval_judges(
    models: Sequence[ModelCandidate], options: IntervalOptions
) -> list[PlaceIntervals | None]:
    """Return what judges the intervals of each model; None where none are asked for."""
    if options.interval is None:
        return [None for _ in models]
    if not models:
        raise ManifestError("--interval judges models; files of another tool have no intervals")
    return [
        GuidedPlaceIntervals(m, options)
        if isinstance(m, GuidedCandidate)
        else PlaceIntervals(m.model, options, m.device, m.precision)
        for m in models
    ]


def _feature_options(
    features: str | Path | None, bands: Sequence[str] | None, device: str
) -> FeatureOptions | None:
    if features is None:
        if bands:
            raise ManifestError("--feature-bands needs --features, which says who looks at them")
        return None
    from crossband.metrics import extractors

    return FeatureOptions(extractors.load(features, device=device), bands or None)


def _add_fitted_baselines(candidate: Candidate, train: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Fit mean and line for a model without baselines, such as an imported one."""
    if {"mean", "linear"} & set(candidate.baselines):
        return
    try:
        fitted = fit_baselines(train, rows, candidate.signature, candidate.scale)
    except CrossbandError as error:
        warn(f"{candidate.label} has no baselines, and none can be fitted: {error}")
        return
    for name, baseline in fitted.items():
        candidate.baselines.setdefault(name, baseline)


def _file_candidates(
    predictions: Sequence[str | Path],
    labels: Sequence[str],
    train: pd.DataFrame,
    rows: pd.DataFrame,
    models: Sequence[Candidate],
) -> list[Candidate]:
    """Return the folders of predictions, each with its baselines."""
    if not predictions:
        return []
    if models:
        signature, scale, baselines = models[0].signature, models[0].scale, models[0].baselines
    else:
        signature, scale = infer_signature(rows)
        baselines = fit_baselines(train, rows, signature, scale)
        if "guide" in rows:
            baselines = guide_baselines(signature, scale) | baselines
    candidates: list[Candidate] = []
    for folder, label in zip(predictions, labels, strict=True):
        candidate = FilesCandidate(Path(folder), label, signature, scale, dict(baselines))
        candidate.match([{str(k): v for k, v in r.items()} for r in rows.to_dict("records")])
        candidates.append(candidate)
    return candidates


def _better(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return metric -> `less` or `more`, for the metrics in which models are compared."""
    names = dict.fromkeys(
        name for r in records for g in r["groups"] for name in g["scores"][MODEL]["pixels"]
    )
    metrics = {name: describe(name) for name in names}
    return {
        n: m.better for n, m in metrics.items() if m is not None and m.better in ("less", "more")
    }


def _draw(
    folder: Path,
    evaluations: Sequence[Evaluation],
    records: Sequence[dict[str, Any]],
    numbers: Sequence[Mapping[str, Any]],
    count: int,
) -> tuple[list[PictureBlock], list[FigureBlock]]:
    """Draw the pictures of each candidate and write their names to its record."""
    from crossband.evaluation.report.selection import draw_candidate

    picture_blocks: list[PictureBlock] = []
    figure_blocks: list[FigureBlock] = []
    for evaluation, record in zip(evaluations, records, strict=True):
        label = evaluation.candidate.label
        of_model = [r for r in numbers if r["model"] == label and r["by"] == MODEL]
        drawn = draw_candidate(folder, evaluation, of_model, count)
        record["pictures"] = drawn.files
        picture_blocks += drawn.picture_blocks
        figure_blocks += drawn.figure_blocks
    return picture_blocks, figure_blocks


def _labels(names: Sequence[tuple[str, str]]) -> list[str]:
    """Return a label for each (name, path): equal names have their paths, equal paths a number.

    >>> _labels([("rgb2nir", "runs/a/model"), ("rgb2nir", "runs/b/model"), ("other", "o")])
    ['rgb2nir (runs/a/model)', 'rgb2nir (runs/b/model)', 'other']
    """
    plain = [name for name, _ in names]
    longer = [f"{n} ({path})" if plain.count(n) > 1 and path else n for n, path in names]
    return [
        f"{label} ({longer[: i + 1].count(label)})" if longer.count(label) > 1 else label
        for i, label in enumerate(longer)
    ]


def _per_image(table: pd.DataFrame, rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Join all columns of the manifest with the numbers of each pair."""
    numbers = pd.DataFrame(rows)
    taken, clash = {*table.columns, *numbers.columns}, dict[str, str]()
    for column in table.columns:
        if column in numbers.columns:
            name = f"manifest_{column}"
            while name in taken:
                name = f"manifest_{name}"
            clash[column] = name
            taken.add(name)
    kept = table.rename(columns=clash).iloc[numbers["position"]].reset_index(drop=True)
    for column in kept.columns:
        if kept[column].dtype == object:  # parquet has no columns of mixed types
            kept[column] = kept[column].map(lambda v: None if pd.isna(v) else str(v))
    return pd.concat([kept, numbers.drop(columns="position")], axis=1)


def _write(
    folder: Path,
    report: Report,
    picture_blocks: Sequence[PictureBlock],
    figure_blocks: Sequence[FigureBlock],
    seconds: float,
) -> None:
    from crossband.evaluation.report.page import render_page

    # Profiles are long lists of numbers, so they have their own file without line breaks.
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
    (folder / METRICS_FILE).write_text(text + "\n", encoding="utf-8")
    lines = json.dumps(as_json(profiles), allow_nan=False)
    (folder / PROFILES).write_text(lines + "\n", encoding="utf-8")
    (folder / TABLE).write_text(report_text(report) + "\n", encoding="utf-8")
    report.per_image.to_csv(folder / f"{ROWS}.csv", index=False)
    report.per_image.to_parquet(folder / f"{ROWS}.parquet", index=False)
    (folder / PAGE).write_text(
        render_page(plain, as_json(profiles), picture_blocks, figure_blocks, seconds),
        encoding="utf-8",
    )
