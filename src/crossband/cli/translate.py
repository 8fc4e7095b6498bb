"""The command `crossband translate`: options, jobs, progress.

Nothing here imports torch before the command runs, so that `--help` is immediate.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from crossband.cli.computing import computing, connected
from crossband.cli.progress import Bar
from crossband.errors import OutputError


def add_translate(sub: Any) -> None:
    """Add the command to the parser's commands."""
    p = sub.add_parser(
        "translate",
        help="translate scenes with a model",
        epilog="Until a scene is finished, its windows are kept in the hidden folder "
        ".OUTPUT.crossband beside the output. After Ctrl-C, a kill or a power cut the same command "
        "with --resume computes only what is missing; without it the folder is removed. Of many "
        "scenes, those that are there and the same are skipped, and what was begun goes on; "
        "summary.jsonl in the folder says what became of each. Exit codes: 0 all done or skipped, "
        "1 some scenes failed, 2 an error, 130 Ctrl-C.",
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
    p.add_argument("--model", default="rgb2nir", help="bundled name, folder or hf://owner/name")
    p.add_argument(
        "--bands",
        help="as in red=3,green=2,blue=1: band numbers or names in the file; or, where INPUT is a "
        "folder, its files: red=B04.tif,green=B03.tif,blue=B02.tif",
    )
    p.add_argument("--sensor", help="what took the scene; 'crossband sensors' lists them")
    p.add_argument("--scale", type=float, help="physical = stored x SCALE + OFFSET")
    p.add_argument(
        "--offset", type=float, help="see --scale; each wins over the file's and sensor's"
    )
    p.add_argument("--index", action="append", default=[], help="also write this spectral index")
    p.add_argument("--overwrite", action="store_true", help="replace existing files")
    p.add_argument("--resume", action="store_true", help="go on where an interrupted run stopped")
    p.add_argument("--quiet", action="store_true", help="no progress, no summary")

    g = p.add_argument_group("many scenes")
    g.add_argument("--name", help="of the outputs in the folder (default {stem}_{target})")
    g.add_argument(
        "--shard", help="3/10 does the third of ten parts; slurm reads the part from the job"
    )

    g = p.add_argument_group("the file")
    g.add_argument("--dtype", help="float32 for physical units; default: as the source")
    g.add_argument(
        "--out-scale", type=float, help="of an integer --dtype: physical = stored x scale + offset"
    )
    g.add_argument("--out-offset", type=float, help="see --out-scale (default 0)")
    g.add_argument(
        "--nodata",
        type=float,
        help="stored number of masked pixels (default: the source's, NaN, or a mask band)",
    )
    g.add_argument("--compress", help="deflate (default), zstd, lzw or none")
    g.add_argument("--blocksize", type=int, help="side of the COG's blocks in pixels (default 512)")

    g = p.add_argument_group("a reference of the same place")
    g.add_argument(
        "--match-to",
        metavar="RASTER",
        help="bring the result to the values of its measured bands; "
        "a display result to its unit, too",
    )
    g.add_argument("--match", help="histogram (default) or linear: one gain and one offset")
    g.add_argument("--match-sensor", help="what took RASTER, where its metadata do not say it")
    g.add_argument("--match-bands", help="of RASTER, as in nir=4")

    g = p.add_argument_group("computing")
    computing(g)
    g.add_argument(
        "--tile",
        type=int,
        help="pixels that the network sees at once (default 896, more for one that sees far)",
    )
    g.add_argument("--batch", type=int, default=1, help="tiles that it sees together (default 1)")
    g.add_argument(
        "--overlap",
        type=int,
        help="pixels over which tiles fade into each other, of a network that sees the whole image "
        "(default: an eighth of the tile)",
    )
    g.add_argument(
        "--whole",
        action="store_true",
        help="the scene in one piece, as memory allows; a flow with tolerances solves adaptively",
    )
    g.add_argument("--seed", type=int, help="of a network that draws at random (default 0)")
    g.add_argument("--engine", default="local", help="local (default) or dask: a cluster's workers")
    g.add_argument("--scheduler", help="of --engine dask: tcp://host:8786, or scheduler.json")


def _translate(a: argparse.Namespace) -> int:
    from crossband.jobs.sources import is_many
    from crossband.raster.bands import parse_bands
    from crossband.raster.dataset import check_exists
    from crossband.raster.journal import begun
    from crossband.raster.write import check_output

    bands = parse_bands(a.bands) if a.bands is not None else None
    match_bands = parse_bands(a.match_bands) if a.match_bands is not None else None
    options = _options(a) | {"bands": bands, "match_bands": match_bands}
    out = Path(a.output)
    several = len(a.inputs) > 1 or is_many(a.inputs[0])
    if several or a.output.endswith(("/", "\\")) or out.is_dir():
        if out.is_file():
            raise OutputError(f"{out}: several inputs need a folder, and this is a file")
        from crossband.cli.fleet import translate_fleet

        return translate_fleet(a, options)
    for option, value in (("--name", a.name), ("--shard", a.shard)):
        if value is not None:
            raise OutputError(f"{option} is for many scenes: give a folder as -o {a.output}/")
    source = a.inputs[0]
    check_exists(source)
    placed = a.resume and out in begun(out)
    check_output(out, a.overwrite or placed, source)
    from crossband import load
    from crossband.translate.scene import translate

    with connected(a) as cluster:
        model = load(a.model)
        bar = Bar(source, quiet=a.quiet)
        try:
            path = translate(model, source, out, **options, cluster=cluster, progress=bar)
        finally:
            bar.close()
    bar.finish(path)
    return 0


def _options(a: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `translate`, but for the bands."""
    names = (
        *("sensor", "scale", "offset", "dtype", "out_scale", "out_offset", "nodata", "compress"),
        *("blocksize", "device", "precision", "tile", "batch", "overlap", "seed", "whole"),
        *("overwrite", "resume", "match_to", "match", "match_sensor"),
    )
    return {name: getattr(a, name) for name in names} | {"indices": a.index}
