"""Open the files of a row as training does, and say what it would refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossband.data.rows import (
    columns_in_words,
    has_own,
    joint_options,
    open_guide,
    open_side,
    packed_file,
)
from crossband.errors import BandError, CrossbandError, InputError, ManifestError, UnitError
from crossband.raster.compare import Overlap
from crossband.raster.open import open_scene
from crossband.raster.scene import Scene
from crossband.raster.warp import check_georeference

_KINDS = {BandError: "bands-unnamed", UnitError: "unit-unknown", InputError: "unreadable"}


def open_as_training(row: Mapping[str, Any], side: str, names: list[str]) -> Scene:
    """Open the source or target of a row as training does.

    Where one file is both, the columns of both sides say which band is which.

    Raises:
        CrossbandError: see `open_side`; also bands of different data types, which training
            cannot read.
    """
    if row["source"] == row["target"] and not has_own(row):
        options, packed = joint_options(row, side, names), packed_file(row, side)
        with columns_in_words("source"):
            scene = open_scene(row[side], options, needed=names, opened=packed)
    else:
        scene = open_side(row, side, names)
    kinds = dict.fromkeys(scene.dtypes)
    if len(kinds) > 1:
        scene.close()
        raise MixedTypesError(
            f"{scene.path}: its bands are stored as {' and '.join(kinds)}, with one scale for all"
        )
    return scene


def check_guide(row: Mapping[str, Any], target: Scene) -> None:
    """Raise CrossbandError for a guide that says nothing about the target of its row."""
    with open_guide(row, list(target.bands)) as guide:
        if guide.unit != target.unit:
            raise UnitError(f"{guide.path}: it is {guide.unit}, and the target is {target.unit}")
        for scene in (target, guide):
            check_georeference(scene.grid, scene.path)
        try:
            ground = Overlap.of(target.grid, guide.grid)
        except InputError as error:
            raise InputError(f"{guide.path}, with {target.path}: {error}") from error
        if not any(ground.window(guide, 1, part).mask.any() for part in ground.blocks()):
            raise InputError(f"{guide.path}: it has no valid pixel where {target.path} lies")


class MixedTypesError(CrossbandError):
    """Bands of one file have different data types."""


def refusal(error: CrossbandError, row: Mapping[str, Any], side: str) -> tuple[str, str, str]:
    """Return kind of finding, file and message, without the file where it begins with that."""
    file = str(row[side])
    return _kind_of(error), file, str(error).removeprefix(f"{file}: ")


def _kind_of(error: CrossbandError) -> str:
    if isinstance(error, MixedTypesError):
        return "two-scalings"
    kinds = (kind for cls, kind in _KINDS.items() if isinstance(error, cls))
    return next(kinds, "unreadable" if isinstance(error, ManifestError) else "bands-unnamed")
