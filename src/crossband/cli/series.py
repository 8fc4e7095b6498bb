"""The command `crossband series`: options, messages and exit code."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossband.cli.events import add_progress_option, tell_files
from crossband.cli.options import add_options, parsed_options
from crossband.core.messages import say, say_warning
from crossband.errors import SomeFailed
from crossband.raster.options import ReadOptions
from crossband.series.options import SeriesOptions
from crossband.translate.options import (
    GuideOptions,
    IntervalOptions,
    TileOptions,
    TranslateOptions,
    WriteOptions,
)

if TYPE_CHECKING:
    import pandas as pd

    from crossband.series.steps import Series

#: Number of places that are printed at most.
MOST = 20
#: What no series without a guide shows, whatever the model.
CHANGES = (
    "without a guide, changes between dates are not measured: each date has an error of its own, "
    "which may be larger than the change (--guide earlier lowers it, --compare shows it where the "
    "bands were measured)"
)


def add_series(sub: Any) -> None:
    """Add the command to the parser's commands."""
    p = sub.add_parser(
        "series",
        help="time series of spectral indices from dated scenes",
        epilog="Writes INDEX.tif (one band per date), series.csv and series.png, and the "
        "translated scenes into scenes/. After Ctrl-C or a kill the same command continues; "
        "scenes that are up to date are not translated again. Exit codes: 0 done, 1 some scenes "
        "failed, 2 an error, 130 Ctrl-C.",
    )
    p.set_defaults(run=_series)
    p.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="the same inputs as translate: rasters, products, a quoted pattern, a list "
        "(.txt), a manifest (.csv, .parquet), STAC items (.json); or a stack of dates (.nc, .zarr)",
    )
    p.add_argument("-o", "--output", required=True, help="folder of the results")
    p.add_argument("--model", default="rgb2nir", help="as for translate (default: rgb2nir)")
    p.add_argument(
        "--index", action="append", help="spectral index (default NDVI); may be repeated"
    )
    p.add_argument("--places", metavar="GEOJSON", help="points and polygons (default: all pixels)")
    add_options(p, SeriesOptions, ("place_name", "date_pattern"))
    p.add_argument(
        "--bands",
        help="as in red=3,green=2,blue=1,nir=4; measured bands may be named, too",
    )
    add_options(p, ReadOptions, ("sensor", "scale", "offset", "allow_local_references"))
    p.add_argument("--overwrite", action="store_true", help="replace existing results")
    p.add_argument("--quiet", action="store_true", help="no progress, no summary")
    add_progress_option(p)

    g = p.add_argument_group("the files")
    add_options(g, SeriesOptions, ("compared", "align"))
    g.add_argument("--no-stack", action="store_true", help="do not write INDEX.tif")
    g.add_argument(
        "--no-scenes", action="store_true", help="remove the translated scenes at the end"
    )

    g = p.add_argument_group("how sure the result is")
    add_options(g, IntervalOptions, ("interval", "promise"))

    g = p.add_argument_group("a measurement of the same place")
    g.add_argument(
        "--guide",
        metavar="RASTER",
        help="correct each date by this measurement, or by the one nearest in time in this folder; "
        "'earlier': by the last earlier date of the series whose scene has measured bands",
    )
    add_options(g, GuideOptions, ("method", "sensor", "bands"))

    g = p.add_argument_group("computing")
    add_options(g, TileOptions, ("device", "precision", "tile"))


def _series(a: argparse.Namespace) -> int:
    from crossband.cli.fleet import Printer
    from crossband.errors import CrossbandError
    from crossband.jobs.summary import SummaryLine
    from crossband.jobs.task import FleetStatus
    from crossband.model import load
    from crossband.raster.output_paths import new_folders
    from crossband.series.run import series

    class SeriesPrinter(Printer):
        """Prints scenes as a fleet does; a scene that is masked as a whole is a gap, no failure."""

        def on_scene_end(self, line: SummaryLine, status: FleetStatus) -> None:
            if line.error == "MaskedError":
                self.gap(line, status)
            else:
                super().on_scene_end(line, status)

    if a.compare and a.no_stack:
        raise CrossbandError("--compare writes stacks, and --no-stack leaves them out")
    what = parsed_options(SeriesOptions, a)
    with new_folders(Path(a.output)):
        done = series(
            load(a.model),
            a.inputs,
            a.output,
            TranslateOptions(
                parsed_options(ReadOptions, a),
                parsed_options(TileOptions, a),
                WriteOptions(overwrite=a.overwrite),
                parsed_options(GuideOptions, a),
                parsed_options(IntervalOptions, a),
            ),
            replace(what, compared=a.compare, stacked=not a.no_stack, keep_scenes=not a.no_scenes),
            indices=a.index or ["NDVI"],
            places=a.places,
            observer=SeriesPrinter(quiet=a.quiet),
        )
    tell_files(done.files)
    if not a.quiet:
        say("\n".join(lines(done)))
    if len(done.labels) > 1 and a.guide is None:
        say_warning(CHANGES)
    if done.failed:
        raise SomeFailed(
            f"{len(done.failed)} scenes failed and are not in the series; the others are written"
        )
    return 0


def lines(done: Series) -> list[str]:
    """Return the lines that are printed for a series."""
    table = done.table
    scenes = len(done.labels)
    said = ", ".join(f"{n} from {who}" for who, n in done.dates_from.items())
    out = [f"{scenes} dates, {_range(done.labels)} ({said})"]
    if "TIFFTAG_DATETIME" in done.dates_from:
        out.append("TIFFTAG_DATETIME is when a file was made: some writers do not keep the date")
    if done.masked:
        out.append(f"masked as a whole, and gaps: {_some(done.masked)}")
    if done.unguided:
        out.append(f"not guided, as no earlier date was measured: {_some(done.unguided)}")
    if len(done.without_truth) == scenes:
        out.append("no measured bands in any scene: the columns of the truth are empty")
    elif done.without_truth:
        out.append(f"no measured bands in {len(done.without_truth)}: {_some(done.without_truth)}")
    if done.nowhere:
        out.append(f"no pixel of any scene lies in: {_some(done.nowhere)}")
    if done.partly:
        out.append(f"partly outside of a scene: {_some(done.partly)}")
    groups = list(table.groupby(["place", "index"], sort=False))
    width = max((len(str(place)) for (place, _), _ in groups), default=0)
    out += [f"{place!s:{width}}  {index}  {_words(rows)}" for (place, index), rows in groups[:MOST]]
    if len(groups) > MOST:
        out.append(f"... and {len(groups) - MOST} more in series.csv")
    return [*out, *(str(path) for path in done.files)]


def _words(rows: pd.DataFrame) -> str:
    made = rows["synthetic"].dropna()
    words = f"{len(made)} of {len(rows)} dates"
    if len(made):
        words += f", synthetic {made.min():.3f} to {made.max():.3f}"
    error = rows["difference"].dropna()
    if len(error):
        words += (
            f", mean |difference| {error.abs().mean():.3f} and bias {error.mean():+.3f} on "
            f"{len(error)}"
        )
    return words


def _range(labels: list[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{labels[0]} to {labels[-1]}" if labels else "none"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
