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
        epilog="A hash of seed and group decides the side of a group, so rows that are added later "
        "do not move others. Without --by and --region, the column 'group' names the groups.",
    )
    p.set_defaults(run=_split)
    p.add_argument("manifest", metavar="MANIFEST", help="CSV or parquet table of pairs")
    p.add_argument("-o", "--output", required=True, help="the manifest with the split")
    p.add_argument("--val", type=float, default=0.15, help="share of the groups (default 0.15)")
    p.add_argument("--test", type=float, default=0.15, help="share of the groups (default 0.15)")
    p.add_argument("--by", metavar="COLUMN", help="rows with one value in this column are a group")
    p.add_argument(
        "--region",
        type=float,
        metavar="DEGREES",
        help="rows in one cell of a grid of this size are a group",
    )
    p.add_argument(
        "--stratify",
        action="append",
        default=[],
        metavar="COLUMN",
        help="split the rows of each value of this column in the same shares; may be repeated",
    )
    p.add_argument("--seed", type=int, default=0, help="seed of the hash (default 0)")
    p.add_argument("--overwrite", action="store_true", help="replace an existing manifest")


def _split(a: argparse.Namespace) -> int:
    from crossband.data import manifest, rows, splits

    manifest.check_writable(a.output, a.overwrite)
    table = manifest.read(a.manifest, any_split=True)
    table, lines = splits.new_split(
        table,
        a.val,
        a.test,
        a.seed,
        by=a.by,
        region=a.region,
        stratify=a.stratify,
        place=rows.place_of,
    )
    manifest.write(table, a.output, overwrite=a.overwrite)
    say("\n".join([*lines, a.output]))
    return 0
