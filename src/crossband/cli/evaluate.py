"""The command `crossband evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossband.cli.data.progress import RowProgress
from crossband.cli.events import add_progress_option, tell_files
from crossband.cli.options import add_options
from crossband.core.messages import say
from crossband.errors import CrossbandError
from crossband.translate.options import IntervalOptions, TileOptions

if TYPE_CHECKING:
    from crossband.evaluation.evaluate import Report


def add_evaluate(sub: Any) -> None:
    """Add the command."""
    p = sub.add_parser(
        "evaluate",
        help="compare models with true pairs and with baselines",
        epilog="The report is a folder: open its index.html. Exit codes: 0 done, 2 an error.",
    )
    p.set_defaults(run=_evaluate)
    p.add_argument(
        "--model",
        action="append",
        default=[],
        help="bundled name, folder, .onnx file, STAC item (.json) or hf://owner/name; repeat to "
        "compare models",
    )
    p.add_argument(
        "--predictions",
        action="append",
        default=[],
        metavar="FOLDER",
        help="files that another tool made, matched to the pairs by name; repeat to compare",
    )
    p.add_argument("--manifest", required=True, help="CSV or parquet table of pairs")
    p.add_argument("--split", help="train, val or test; default: test, else val, else all rows")
    p.add_argument("-o", "--output", required=True, help="folder of the report")
    p.add_argument("--index", action="append", help="index to judge (default: NDVI, NDWI, EVI)")
    p.add_argument(
        "--by",
        action="append",
        default=[],
        metavar="COLUMN",
        help="break the numbers down by a column of the manifest, as --by terrain; repeat for more",
    )
    p.add_argument(
        "--features",
        metavar="NAME_OR_FILE",
        help="feature extractor for FID and KID: a name or a file, see docs/features.md",
    )
    p.add_argument(
        "--feature-bands",
        metavar="BANDS",
        help="target bands for the extractor, one or three, as red,green,blue",
    )
    p.add_argument(
        "--pictures",
        type=int,
        default=10,
        metavar="N",
        help="draw the N worst pairs and the N nearest the median of each unit (default 10)",
    )
    p.add_argument(
        "--workers", type=int, default=2, help="threads that read ahead and score (default 2)"
    )
    p.add_argument("--overwrite", action="store_true", help="replace an existing report")
    p.add_argument(
        "--interval",
        type=float,
        metavar="LEVEL",
        help="also judge the intervals of this level, as 0.9: coverage, width and interval score "
        "by place, and the error by familiarity; for models that are calibrated",
    )
    add_options(p, IntervalOptions, ("promise",))
    add_progress_option(p)
    add_options(p, TileOptions, ("device", "precision"))


def _evaluate(a: argparse.Namespace) -> int:
    from crossband.evaluation.evaluate import PAGE, report_text
    from crossband.model.files import METRICS_FILE

    if not a.model and not a.predictions:
        raise CrossbandError("give --model, --predictions, or both")
    if a.pictures < 0:
        raise CrossbandError(f"--pictures {a.pictures}: at least 0")
    with RowProgress("scored") as progress:
        report = _report(a, progress)
    tell_files([report.output / PAGE, report.output / METRICS_FILE])
    say(report_text(report))
    say(f"\n{report.output / PAGE}")
    return 0


def _report(a: argparse.Namespace, progress: RowProgress) -> Report:
    from crossband.evaluation.evaluate import INDICES, evaluate

    return evaluate(
        a.model,
        Path(a.manifest),
        Path(a.output),
        predictions=a.predictions,
        split=a.split,
        indices=a.index or INDICES,
        by=a.by,
        features=a.features,
        feature_bands=a.feature_bands.split(",") if a.feature_bands else None,
        interval=a.interval,
        promise=a.promise,
        device=a.device,
        precision=a.precision,
        workers=a.workers,
        pictures=a.pictures,
        overwrite=a.overwrite,
        progress=progress,
    )
