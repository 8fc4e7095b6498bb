"""The command `crossband data`: make and check manifests. A subcommand is a file here.

Each has `add_options`, which adds its parser, and a handler. Nothing here imports torch or pandas
before a subcommand needs it, so that `--help` is immediate.
"""

from __future__ import annotations

from typing import Any

from crossband.cli.data import check, degrade, manifest, pack, split


def add_data(sub: Any) -> None:
    """Add the command `data` with its subcommands to the parser's commands."""
    p = sub.add_parser("data", help="manifests of pairs: manifest, check, split, degrade, pack")
    p.set_defaults(run=lambda a: p.print_help() or 0)
    commands = p.add_subparsers(title="commands", metavar="COMMAND")
    for module in (manifest, check, split, degrade, pack):
        module.add_options(commands)
    p.commands = dict(commands.choices)
