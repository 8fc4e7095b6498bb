"""The command `crossband translate`: options, progress and exit code.

Nothing here imports torch before the command runs, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from crossband.cli.computing import connected, load_model
from crossband.cli.events import add_progress_option, tell_files
from crossband.cli.options import add_options, parsed_options
from crossband.cli.progress import Bar
from crossband.core.messages import say, say_warning
from crossband.errors import OutputError
from crossband.raster.options import ReadOptions
from crossband.translate.options import (
    GuideOptions,
    IntervalOptions,
    TileOptions,
    TranslateOptions,
    WriteOptions,
)


def add_translate(sub: Any) -> None:
    """Add the command to the parser's commands."""
    p = sub.add_parser(
        "translate",
        help="translate scenes with a model",
        epilog="Until a scene is finished, its windows are kept in the hidden folder "
        ".OUTPUT.crossband beside the output. After Ctrl-C, a kill or a power cut the same command "
        "with --resume computes only the missing windows; without it the folder is removed. Of "
        "many scenes, those that are up to date are skipped, and interrupted ones are continued; "
        "summary.jsonl in the folder records the outcome of each. Exit codes: 0 all done or "
        "skipped, 1 some scenes failed, 2 an error, 130 Ctrl-C.",
    )
    p.set_defaults(run=_translate)
    p.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="rasters that GDAL reads (https:// and s3://, too), PNG, JPEG, .SAFE, Landsat "
        "folders, STAC items; or a quoted pattern, a list (.txt), a manifest (.csv, .parquet) or a "
        "STAC item collection (.json)",
    )
    p.add_argument("-o", "--output", required=True, help="file (one input) or folder (any number)")
    p.add_argument(
        "--model",
        default="rgb2nir",
        help="bundled name (default: rgb2nir), folder, .onnx file, STAC item (.json), "
        "hf://owner/name",
    )
    add_options(p, ReadOptions)
    add_options(p, WriteOptions, ("indices", "overwrite", "resume"))
    p.add_argument(
        "--stac-item",
        action="store_true",
        help="also write a STAC item of the result beside it, that names model and source",
    )
    p.add_argument(
        "--quiet", action="store_true", help="no progress, no summary; warnings are printed"
    )
    add_progress_option(p)

    g = p.add_argument_group("many scenes")
    g.add_argument("--name", help="names of the outputs in the folder (default {stem}_{target})")
    g.add_argument(
        "--shard", help="3/10 translates the third of ten parts; slurm reads the part from the job"
    )

    g = p.add_argument_group("the file")
    add_options(g, WriteOptions, ("dtype", "scale", "offset", "nodata", "compress", "blocksize"))

    g = p.add_argument_group("a measurement of the same place")
    add_options(g, GuideOptions)

    g = p.add_argument_group("how sure the result is")
    add_options(g, IntervalOptions)

    g = p.add_argument_group("computing")
    add_options(g, TileOptions)
    g.add_argument(
        "--engine",
        default="local",
        help="local (default), onnx for ONNX Runtime instead of torch, or dask for the workers of "
        "a cluster",
    )
    g.add_argument("--scheduler", help="for --engine dask: tcp://host:8786, or scheduler.json")


def translate_options(a: argparse.Namespace) -> TranslateOptions:
    """Return the options of the command as values."""
    return TranslateOptions(
        parsed_options(ReadOptions, a),
        parsed_options(TileOptions, a),
        parsed_options(WriteOptions, a),
        parsed_options(GuideOptions, a),
        parsed_options(IntervalOptions, a),
    )


def _translate(a: argparse.Namespace) -> int:
    from crossband.jobs.inputs import stands_for_many
    from crossband.raster.dataset import check_exists
    from crossband.raster.output_paths import PNG, TIFF, check_output, new_folders

    options = translate_options(a)
    out = Path(a.output)
    several = len(a.inputs) > 1 or stands_for_many(a.inputs[0])
    if several and out.suffix.lower() in (*TIFF, *PNG) and not out.is_dir():
        raise OutputError(
            f"{out}: several scenes go into a folder, as in -o {out.with_suffix('')}/"
        )
    if several or a.output.endswith(("/", "\\")) or out.is_dir():
        if a.stac_item:
            raise OutputError("--stac-item is for one scene: give a file as -o")
        if out.is_file():
            raise OutputError(f"{out}: several inputs need a folder, and this is a file")
        from crossband.cli.fleet import translate_fleet

        return translate_fleet(a, options)
    for option, value in (("--name", a.name), ("--shard", a.shard)):
        if value is not None:
            raise OutputError(f"{option} is for many scenes: give a folder as -o {a.output}/")
    source = a.inputs[0]
    check_exists(source)
    if not out.suffix:
        raise OutputError(
            f"{out}: a file ending in .tif or .png is needed, or a folder of results, as in "
            f"-o {a.output}/"
        )
    with new_folders(out.parent):
        check_output(out, a.overwrite or a.resume, source)
        return _translate_one(a, source, out, options)


def _translate_one(a: argparse.Namespace, source: str, out: Path, options: TranslateOptions) -> int:
    from crossband.translate.scene import translate_scene
    from crossband.translate.statistics import Statistics

    with connected(a) as cluster:
        model = load_model(a)
        bar, statistics = Bar(source, quiet=a.quiet), Statistics()
        try:
            path = translate_scene(
                model,
                source,
                out,
                options,
                executor=cluster,
                progress=bar,
                statistics=statistics,
            )
        finally:
            bar.close()
        if a.stac_item:
            from crossband.translate.result_item import write_result_item

            statistics.files += (write_result_item(model, source, path),)
    tell_files(statistics.files)
    if statistics.skipped:
        if not a.quiet:
            say(f"{path}  is done already")
        return 0
    bar.finish(path, [file for file in statistics.files if file != path])
    if statistics.unfamiliar_line:
        say_warning(f"{source}: {statistics.unfamiliar_line}")
    return 0
