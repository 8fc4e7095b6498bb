"""`crossband data degrade`: a pair from a fine scene and a coarse reference."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from crossband.core.messages import say
from crossband.errors import RecipeError


def add_options(sub: Any) -> None:
    """Add the parser of `degrade`."""
    p = sub.add_parser(
        "degrade",
        help="match a fine scene to a coarse one and degrade it: a pair for super-resolution",
        epilog="Writes <stem>_target.tif (fine), <stem>_source.tif (degraded) and a row of "
        "pairs.csv into the folder. Bands are paired by common name.",
    )
    p.set_defaults(run=_degrade)
    p.add_argument("input", metavar="FINE", help="aerial photograph or other fine scene")
    p.add_argument(
        "--reference", required=True, help="scene of the coarse sensor at the same place"
    )
    p.add_argument("-o", "--output", required=True, help="folder of the pair")
    p.add_argument("--bands", help="as in red=1,green=2: numbers or names in the fine file")
    p.add_argument("--sensor", help="sensor of the fine scene; 'crossband sensors' lists them")
    p.add_argument("--reference-bands", help="as --bands, for the reference")
    p.add_argument("--reference-sensor", help="sensor of the reference")
    p.add_argument(
        "--match",
        default="histogram",
        help="how values are matched: histogram (default), linear or none",
    )
    p.add_argument("--degradation", default="SensorMTF", help="SensorMTF (default) or Bicubic")
    p.add_argument(
        "--mtf", help="MTF at the Nyquist frequency: 0.2 (default), or one per band: .3,.2"
    )
    p.add_argument(
        "--scale",
        type=_whole,
        help="fine pixels per coarse pixel (default: ratio of the pixel sizes, rounded)",
    )
    p.add_argument("--overwrite", action="store_true", help="replace existing files")


def _degrade(a: argparse.Namespace) -> int:
    from crossband.core.registry import build
    from crossband.data.degrade import Degradation
    from crossband.data.degrade.scene import degrade_scene
    from crossband.raster.bands import parse_bands
    from crossband.raster.dataset import check_exists

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
    say(f"{pair.target}\n{pair.source}  {' '.join(pair.bands)}, {pair.unit}, 1/{pair.scale}")
    say(pair.manifest)
    return 0


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
