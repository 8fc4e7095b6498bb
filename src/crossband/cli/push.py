"""The command `crossband push`: put a model on the Hugging Face Hub."""

from __future__ import annotations

import argparse
from typing import Any

from crossband.core.messages import say


def add_push(sub: Any) -> None:
    """Add the command to the parser's commands."""
    p = sub.add_parser(
        "push",
        help="put a model folder on the Hugging Face Hub",
        epilog="The token comes from `hf auth login` or HF_TOKEN. A folder without licence or "
        "evaluation is refused. HF_ENDPOINT names another Hub.",
    )
    p.set_defaults(run=_push)
    p.add_argument("model", metavar="MODEL", help="model folder, or bundled name")
    p.add_argument("name", metavar="OWNER/NAME", help="repository; it is created if missing")
    p.add_argument(
        "--licence",
        metavar="NAME",
        help="licence of the weights, as in CC-BY-4.0 (default: the one that the model states)",
    )
    p.add_argument(
        "--report",
        metavar="DIR",
        help="report of `crossband evaluate`, whose ratios to the baselines the card states",
    )
    p.add_argument("--private", action="store_true", help="make a private repository")


def _push(a: argparse.Namespace) -> int:
    from crossband.model import load
    from crossband.model.exporting.hub import push

    say(push(load(a.model), a.name, private=a.private, licence=a.licence, report=a.report))
    return 0
