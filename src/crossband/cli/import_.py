"""The command `crossband import`: convert a public checkpoint to a model folder.

Nothing here imports torch before the command runs, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from crossband.core.messages import say
from crossband.errors import CrossbandError


def add_import(sub: Any) -> None:
    """Add the command to the parser's commands."""
    p = sub.add_parser(
        "import",
        help="convert a public checkpoint to a model",
        epilog="The architecture is read from the names and shapes of the tensors. Nothing else is "
        "unpacked from FILE. docs/importing.md says which public codes are known.",
    )
    p.set_defaults(run=_import)
    p.add_argument("file", metavar="FILE", help="a generator: .pth, .safetensors or .onnx")
    p.add_argument(
        "-o", "--output", required=True, help="folder of the new model (a file for .onnx)"
    )
    p.add_argument("--task", required=True, help="task of the model, as in sar2optical")
    p.add_argument("--name", help="name of the model (default: name of the folder)")
    p.add_argument("--overwrite", action="store_true", help="replace an existing model folder")

    g = p.add_argument_group("bands and units")
    g.add_argument(
        "--source-bands",
        required=True,
        metavar="BANDS",
        help="common names in the order of the channels, as in red,green,blue; vv,vv,vv gives one "
        "band to three channels, for networks that open a grey picture as a colour one",
    )
    g.add_argument(
        "--target-bands",
        required=True,
        metavar="BANDS",
        help="common names in the order of the channels",
    )
    g.add_argument(
        "--unit", required=True, help="unit of the source: reflectance, db, kelvin, display"
    )
    g.add_argument(
        "--target-unit", metavar="UNIT", help="unit of the target (default: that of the source)"
    )
    for side in ("source", "target"):
        g.add_argument(
            f"--{side}-range",
            nargs=2,
            type=float,
            action="append",
            metavar=("LOW", "HIGH"),
            help="values that were -1 and 1 for the network; repeat for each band, in order "
            "(default of display: 0 1)",
        )

    g = p.add_argument_group("what the file does not state")
    g.add_argument("--part", help="which generator, if the file has several")
    g.add_argument(
        "--statistics",
        choices=("stored", "picture"),
        help="statistics of batch norms: those of the file (default), or those of each picture, as "
        "in pix2pix's test.py without --eval",
    )
    g.add_argument(
        "--upsample",
        choices=("nearest", "bilinear", "bicubic"),
        help="how the decoder enlarges, if it enlarges before a convolution",
    )

    g = p.add_argument_group(
        "an ONNX file that takes physical values; -o becomes a copy that states these"
    )
    g.add_argument(
        "--margin", type=int, help="how far an output pixel sees, in pixels (default: unknown)"
    )
    g.add_argument("--stride", type=int, help="total downsampling (default 1)")
    g.add_argument("--scale", type=int, help="target pixels per source pixel (default 1)")

    g = p.add_argument_group("the model card")
    g.add_argument("--licence", help="licence of the weights, as their page states it")
    g.add_argument("--source-url", metavar="URL", help="where the file is published")


def _import(a: argparse.Namespace) -> int:
    source, target = _names(a.source_bands, "source"), _names(a.target_bands, "target")

    of_onnx = {"--margin": a.margin, "--stride": a.stride, "--scale": a.scale}
    others = {"--part": a.part, "--statistics": a.statistics, "--upsample": a.upsample}
    onnx = a.file.endswith(".onnx")
    for option, value in (others if onnx else of_onnx).items():
        if value is not None:
            raise CrossbandError(f"{option} is {'not ' if onnx else ''}for an ONNX file")
    if onnx:
        return _import_onnx(a, source, target)

    from crossband.model.importing import BandSpec, ImportOptions, Origin, import_checkpoint

    folder, lines = import_checkpoint(
        a.file,
        Path(a.output),
        task=a.task,
        source=BandSpec(source, a.unit, _pairs(a.source_range)),
        target=BandSpec(target, a.target_unit or a.unit, _pairs(a.target_range)),
        name=a.name,
        part=a.part,
        options=ImportOptions(a.statistics, a.upsample),
        origin=Origin(a.licence, a.source_url),
        overwrite=a.overwrite,
    )
    for line in lines:
        say(line, error=True)
    say(folder)
    return 0


def _import_onnx(a: argparse.Namespace, source: list[str], target: list[str]) -> int:
    from crossband.model.importing import BandSpec, Origin
    from crossband.model.importing.onnx_graph import Tiles, describe_onnx

    for option, value, least in (
        ("--margin", a.margin, 0),
        ("--stride", a.stride, 1),
        ("--scale", a.scale, 1),
    ):
        if value is not None and not least <= value <= 4096:
            raise CrossbandError(f"{option} {value}: {least} to 4096")
    path = describe_onnx(
        a.file,
        Path(a.output),
        task=a.task,
        source=BandSpec(source, a.unit, _pairs(a.source_range)),
        target=BandSpec(target, a.target_unit or a.unit, _pairs(a.target_range)),
        tiles=Tiles(a.margin, a.stride or 1, a.scale or 1),
        name=a.name,
        origin=Origin(a.licence, a.source_url),
        overwrite=a.overwrite,
    )
    say(path)
    return 0


def _names(text: str, side: str) -> list[str]:
    """Split names at commas; CrossbandError for an empty one."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise CrossbandError(f"--{side}-bands {text!r}: names joined by commas, as in red,green")
    return names


def _pairs(given: list[list[float]] | None) -> list[tuple[float, float]]:
    return [(low, high) for low, high in given or []]
