"""`crossband data pack`: store files as blocks in shards, for fast or remote training."""

from __future__ import annotations

import argparse
from typing import Any

from crossband.cli.data.progress import RowProgress
from crossband.cli.events import add_progress_option, tell_files
from crossband.core.messages import say


def add_options(sub: Any) -> None:
    """Add the parser of `pack`."""
    p = sub.add_parser(
        "pack",
        help="pack a manifest's files into shards, for fast or remote training",
        epilog="Use the folder as a manifest: --data.manifest FOLDER, or its address (s3://, "
        "gs://, hf://, https://) if you copied it to a server. Pixels and order stay the same.",
    )
    p.set_defaults(run=_pack)
    p.add_argument("manifest", metavar="MANIFEST", help="CSV or parquet table of pairs")
    p.add_argument("-o", "--output", required=True, help="folder of the pack")
    p.add_argument(
        "--block", type=_count, default=128, help="side of a block in pixels (default 128)"
    )
    p.add_argument(
        "--shard-mb", type=float, default=32.0, help="size of a shard in MiB (default 32)"
    )
    p.add_argument("--overwrite", action="store_true", help="replace an existing pack")
    p.add_argument("--quiet", action="store_true", help="no progress, no summary")
    add_progress_option(p)


def _pack(a: argparse.Namespace) -> int:
    from crossband.data.pack import pack

    with RowProgress("packed", quiet=a.quiet) as progress:
        made = pack(
            a.manifest,
            a.output,
            block=a.block,
            shard_mb=a.shard_mb,
            overwrite=a.overwrite,
            progress=progress,
        )
    tell_files([made.output])
    if not a.quiet:
        say(
            f"{made.output}  {made.rows} rows, {made.files} files, {made.blocks} blocks in "
            f"{made.shards} shards, {made.bytes / 2**20:.1f} MiB of {made.stored / 2**20:.1f}"
        )
    return 0


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of pixels") from None
