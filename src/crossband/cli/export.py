"""The command `crossband export`: write a model for other programs.

Nothing here imports torch before the command runs, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
from typing import Any

from crossband.core.messages import say
from crossband.errors import CrossbandError, nearest

FORMATS = ("onnx",)


def add_export(sub: Any) -> None:
    """Add the command to the parser's commands."""
    p = sub.add_parser(
        "export",
        help="write a model for other programs",
        epilog="docs/exchange.md says what each file holds, and which networks can be exported.",
    )
    p.set_defaults(run=_export)
    p.add_argument("model", metavar="MODEL", help="bundled name, folder or hf://owner/name")
    p.add_argument("--to", required=True, metavar="FORMAT", help=f"one of {', '.join(FORMATS)}")
    p.add_argument("-o", "--output", required=True, help="file to write")
    p.add_argument("--overwrite", action="store_true", help="replace an existing file")
    p.add_argument("--unit", help="unit of the source (default: the model's first)")


def _export(a: argparse.Namespace) -> int:
    if a.to not in FORMATS:
        raise CrossbandError(f"--to {a.to}: {nearest(a.to, FORMATS)}")
    from crossband.model import load
    from crossband.model.exporting.onnx_file import export_onnx

    say(export_onnx(load(a.model), a.output, unit=a.unit, overwrite=a.overwrite))
    return 0
