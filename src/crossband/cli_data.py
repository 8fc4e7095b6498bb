"""The command `crossband data`: make pairs. A subcommand is two functions, options and handler.

Nothing here imports torch before a subcommand needs it, so that `--help` is immediate.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from crossband.errors import RecipeError


def add_data(sub: Any) -> None:
    """Add the command `data` with its subcommands to the parser's commands."""
    p = sub.add_parser("data", help="make training data: degrade scenes into pairs")
    p.set_defaults(run=lambda a: p.print_help() or 0)
    commands = p.add_subparsers(title="commands", metavar="COMMAND")
    _degrade_options(commands)
    _split_options(commands)
    _pack_options(commands)
    p.commands = dict(commands.choices)


def _degrade_options(sub: Any) -> None:
    p = sub.add_parser(
        "degrade",
        help="match a fine scene to a coarse one and degrade it: a pair for super-resolution",
        epilog="Writes <stem>_target.tif (fine), <stem>_source.tif (degraded) and a row of "
        "pairs.csv into the folder. Bands are paired by common name.",
    )
    p.set_defaults(run=_degrade)
    p.add_argument("input", metavar="FINE", help="aerial photograph or other fine scene")
    p.add_argument("--reference", required=True, help="scene of the coarse sensor, of the place")
    p.add_argument("-o", "--output", required=True, help="folder of the pair")
    p.add_argument("--bands", help="as in red=1,green=2: numbers or names in the fine file")
    p.add_argument("--sensor", help="what took the fine scene; 'crossband sensors' lists them")
    p.add_argument("--reference-bands", help="as --bands, of the reference")
    p.add_argument("--reference-sensor", help="what took the reference")
    p.add_argument("--match", default="histogram", help="histogram (default), linear or none")
    p.add_argument("--degradation", default="SensorMTF", help="SensorMTF (default) or Bicubic")
    p.add_argument(
        "--mtf", help="of SensorMTF at the Nyquist frequency: 0.2 (default), or one per band: .3,.2"
    )
    p.add_argument(
        "--scale",
        type=_whole,
        help="fine pixels per coarse pixel (default: ratio of the pixel sizes, rounded)",
    )
    p.add_argument("--overwrite", action="store_true", help="replace existing files")


def _degrade(a: argparse.Namespace) -> int:
    from crossband.data.degrade import Degradation
    from crossband.data.degrade_scene import degrade_scene
    from crossband.raster.scene import check_exists, parse_bands
    from crossband.registry import build

    for path in (a.input, a.reference):
        check_exists(path)
    pair = degrade_scene(
        a.input,
        a.reference,
        Path(a.output),
        bands=parse_bands(a.bands) if a.bands else None,
        sensor=a.sensor,
        reference_bands=parse_bands(a.reference_bands) if a.reference_bands else None,
        reference_sensor=a.reference_sensor,
        match=a.match,
        degradation=build(Degradation, a.degradation, {"mtf": _numbers(a.mtf)} if a.mtf else {}),
        scale=a.scale,
        overwrite=a.overwrite,
    )
    print(f"{pair.target}\n{pair.source}  {' '.join(pair.bands)}, {pair.unit}, 1/{pair.scale}")
    print(pair.manifest)
    return 0


def _split_options(sub: Any) -> None:
    p = sub.add_parser(
        "split",
        help="split a manifest into train, val and test; no group is cut",
        epilog="Which side a group is on is a hash of seed and group: rows that are added later "
        "move no other. Groups are those of the column 'group', or as --by or --region say.",
    )
    p.set_defaults(run=_split)
    p.add_argument("manifest", metavar="MANIFEST", help="CSV or parquet table of pairs")
    p.add_argument("-o", "--output", required=True, help="the manifest with the split")
    p.add_argument("--val", type=float, default=0.15, help="share of the groups (default 0.15)")
    p.add_argument("--test", type=float, default=0.15, help="share of the groups (default 0.15)")
    p.add_argument("--by", metavar="COLUMN", help="a group is what has one value in this column")
    p.add_argument("--region", type=float, metavar="DEGREES", help="a group is a cell of this side")
    p.add_argument(
        "--stratify",
        action="append",
        default=[],
        metavar="COLUMN",
        help="split each value of this column alike, as terrain or sensor; may be repeated",
    )
    p.add_argument("--seed", type=int, default=0, help="of the hash (default 0)")
    p.add_argument("--overwrite", action="store_true", help="replace an existing manifest")


def _split(a: argparse.Namespace) -> int:
    from crossband.data import manifest, splits

    manifest.check_output(a.output, a.overwrite)
    table = manifest.read(a.manifest, any_split=True)
    table, lines = splits.anew(
        table, a.val, a.test, a.seed, by=a.by, region=a.region, stratify=a.stratify
    )
    manifest.write(table, a.output)
    print("\n".join([*lines, a.output]))
    return 0


def _pack_options(sub: Any) -> None:
    p = sub.add_parser(
        "pack",
        help="pack a manifest's files into shards, for fast or remote training",
        epilog="The folder is a manifest: --data.manifest FOLDER, or its address (s3://, gs://, "
        "hf://, https://) where it was copied to. Pixels and their order stay the same.",
    )
    p.set_defaults(run=_pack)
    p.add_argument("manifest", metavar="MANIFEST", help="CSV or parquet table of pairs")
    p.add_argument("-o", "--output", required=True, help="folder of the pack")
    p.add_argument("--block", type=_count, default=128, help="side of a block (default 128)")
    p.add_argument("--shard-mb", type=float, default=32.0, help="MiB of a shard (default 32)")
    p.add_argument("--overwrite", action="store_true", help="replace an existing pack")
    p.add_argument("--quiet", action="store_true", help="no progress, no summary")


def _pack(a: argparse.Namespace) -> int:
    from tqdm import tqdm

    from crossband.data.pack import pack

    with tqdm(unit="row", leave=False, disable=True if a.quiet else None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        made = pack(
            a.manifest,
            a.output,
            block=a.block,
            shard_mb=a.shard_mb,
            overwrite=a.overwrite,
            progress=progress,
        )
    if not a.quiet:
        print(
            f"{made.output}  {made.rows} rows, {made.files} files, {made.blocks} blocks in "
            f"{made.shards} shards, {made.bytes / 2**20:.1f} MiB of {made.stored / 2**20:.1f}"
        )
    return 0


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of pixels") from None


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number of fine pixels per coarse pixel (a scale of stored "
            f"numbers belongs into the file: gdal_edit.py -scale)"
        ) from None


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise RecipeError(f"--mtf {text}: not a number, or several with commas") from None
