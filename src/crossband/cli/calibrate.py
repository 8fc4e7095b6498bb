"""The command `crossband calibrate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from crossband.core.messages import say
from crossband.errors import OutputError


def add_calibrate(sub: Any) -> None:
    """Add the command."""
    p = sub.add_parser(
        "calibrate",
        help="fit a model's intervals and familiarity on places that it was not trained on",
        epilog="The command writes calibration.json and does not change the weights. A level needs "
        "K places with K / (K + 1) >= level: 9 for 0.9, 19 for 0.95. Exit codes: 0 done, 2 an "
        "error.",
    )
    p.set_defaults(run=_calibrate)
    p.add_argument("model", metavar="MODEL", help="bundled name, folder or hf://owner/name")
    p.add_argument("--manifest", required=True, help="CSV or parquet table of pairs")
    p.add_argument("--split", help="train, val or test; default: test, else val, else all rows")
    p.add_argument(
        "--index", action="append", help="index with an interval (default: NDVI, if possible)"
    )
    p.add_argument(
        "--by",
        default="sensor",
        metavar="COLUMN",
        help="calibrate each value of this column separately if it has 40 places (default: sensor)",
    )
    p.add_argument("-o", "--output", required=True, help="model folder; MODEL's own, or a new one")
    p.add_argument("--overwrite", action="store_true", help="replace an existing calibration")


def _calibrate(a: argparse.Namespace) -> int:
    import shutil

    from crossband.core.atomic import atomic_folder, check_folder
    from crossband.evaluation.calibrate import calibrate, summary
    from crossband.model import load
    from crossband.model.files import CALIBRATION, DESCRIPTION, OWN

    model, output = load(a.model), Path(a.output)
    own = model.folder is not None and output.exists() and output.samefile(model.folder)
    if own and model.calibration is not None and not a.overwrite:
        raise OutputError(f"{output / CALIBRATION}: is there already; --overwrite replaces it")
    if not own:
        if model.folder is not None and output.resolve().is_relative_to(model.folder.resolve()):
            raise OutputError(f"{output}: is inside of {model.folder}, which is copied to it")
        if output.exists() and not a.overwrite:
            raise OutputError(f"{output}: is there already; --overwrite replaces it")
        check_folder(output, a.overwrite, DESCRIPTION)
    calibration = calibrate(
        model, a.manifest, split=a.split, index=a.index or _indices(model), by=a.by
    )
    if not own:
        assert model.folder is not None
        with atomic_folder(output, a.overwrite, DESCRIPTION, names=OWN) as folder:
            try:
                shutil.copytree(model.folder, folder, dirs_exist_ok=True)
            except shutil.Error as error:  # a list of all files that could not be copied
                raise OutputError(f"{output}: {error.args[0][0][2]}") from error
            calibration.save(folder)
    else:
        calibration.save(output)
    for name, places in summary(calibration).items():
        say(f"{name}: {places} places, at most {_highest(places)}")
    say(output / CALIBRATION)
    return 0


def _indices(model: Any) -> list[str]:
    from crossband.core.indices import required_bands

    # Finer pixels have no measured bands beside them.
    measured = model.signature.source if model.network.scale == 1 else ()
    needed, made = set(required_bands("NDVI")), set(model.signature.target)
    return ["NDVI"] if needed & made and needed <= {*measured, *made} else []


def _highest(places: int) -> str:
    from crossband.core.conformal import highest_level

    level = int(highest_level(places) * 100) / 100
    return f"{level:.0%} can be promised" if level > 0 else "nothing can be promised"
