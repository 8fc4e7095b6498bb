"""The command `crossband export`: write a model for other programs.

Nothing here imports torch before the command runs, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
from typing import Any

from crossband.core.messages import say
from crossband.errors import CrossbandError, nearest

FORMATS = ("onnx", "stac", "deepness")


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
    p.add_argument(
        "--with-onnx",
        action="store_true",
        help="for --to stac: also add the model in ONNX as an asset",
    )
    g = p.add_argument_group("the QGIS plugin Deepness")
    g.add_argument("--sensor", help="sensor whose stored numbers the file takes")
    g.add_argument(
        "--gsd",
        type=float,
        metavar="METRES",
        help="size of a pixel in metres (default: that of the sensor, where it has one)",
    )
    g.add_argument(
        "--tile", type=int, metavar="PIXELS", help="side of a tile in pixels (default 512)"
    )


def _export(a: argparse.Namespace) -> int:
    if a.to not in FORMATS:
        raise CrossbandError(f"--to {a.to}: {nearest(a.to, FORMATS)}")
    from crossband.model import load
    from crossband.model.exporting.onnx_file import export_onnx
    from crossband.model.exporting.stac import export_stac

    if a.with_onnx and a.to != "stac":
        raise CrossbandError("--with-onnx is for --to stac")
    of_deepness = {"--sensor": a.sensor, "--gsd": a.gsd, "--tile": a.tile}
    if a.to != "deepness" and any(value is not None for value in of_deepness.values()):
        raise CrossbandError(f"{', '.join(of_deepness)} are for --to deepness")
    if a.to == "deepness" and a.sensor is None:
        raise CrossbandError("--to deepness needs --sensor NAME")
    if a.to == "deepness" and a.unit is not None:
        raise CrossbandError("--unit: the sensor says it; leave it out with --to deepness")
    model = load(a.model)
    if a.to == "deepness":
        from crossband.model.exporting.deepness import (
            TILE,
            export_deepness,
            values_of_bytes,
        )

        path = export_deepness(
            model,
            a.output,
            sensor=a.sensor,
            gsd=a.gsd,
            tile=TILE if a.tile is None else a.tile,
            overwrite=a.overwrite,
        )
    elif a.to == "stac":
        path = export_stac(
            model, a.output, unit=a.unit, with_onnx=a.with_onnx, overwrite=a.overwrite
        )
    else:
        path = export_onnx(model, a.output, unit=a.unit, overwrite=a.overwrite)
    say(path)
    if a.to == "deepness":
        for line in values_of_bytes(model, a.sensor):
            say(f"{path.name}: {line}", error=True)
    return 0
