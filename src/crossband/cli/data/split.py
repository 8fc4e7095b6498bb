"""`crossband data split`: split a manifest without dividing a group."""

from __future__ import annotations

import argparse
from typing import Any

from crossband.core.messages import say


def add_options(sub: Any) -> None:
    """Add the parser of `split`."""
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

    manifest.check_writable(a.output, a.overwrite)
    table = manifest.read(a.manifest, any_split=True)
    table, lines = splits.new_split(
        table, a.val, a.test, a.seed, by=a.by, region=a.region, stratify=a.stratify
    )
    manifest.write(table, a.output, overwrite=a.overwrite)
    say("\n".join([*lines, a.output]))
    return 0
