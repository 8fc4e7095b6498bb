"""Tell what of a scene is unlike the training of a model: its unit, its numbers, its places."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from crossband.core.sensors import DISPLAY, REFLECTANCE
from crossband.core.warned import warn
from crossband.model import Model
from crossband.raster.output import OutputFile
from crossband.raster.remote import is_remote
from crossband.raster.scene import Scene
from crossband.translate.familiarity import (
    UNFAMILIAR_TAG,
    SceneFamiliarity,
    counted,
    scene_familiarity,
)
from crossband.translate.statistics import Statistics
from crossband.translate.uncertain_bands import FAMILIARITY_BAND
from crossband.translate.unit_check import unit_suspicion, warn_of_unit


def tell_what_is_unlike(
    model: Model,
    scene: Scene,
    sensor: str | None,
    outputs: Sequence[OutputFile],
    statistics: Statistics,
    *,
    told: bool,
) -> Callable[..., None]:
    """Tell how familiar a scene is, for a model that knows; return what tells it at the end.

    Warn in one line where the model was not trained on the scene's unit, where the file names a
    band otherwise than the caller, and where the numbers of the scene look unlike its declared
    unit. A remote scene is not looked at for the latter, as that would fetch its blocks twice.
    """
    scene.warn_of_bands()
    warn_of_unit(model, scene.unit, scene.path)
    looked_at = scene.unit in (REFLECTANCE, DISPLAY) and not is_remote(scene.path)
    if looked_at and (words := unit_suspicion(scene, sensor)):
        warn(f"{scene.path}: {words}")
    found = scene_familiarity(model, scene)
    tell = functools.partial(_tell_familiarity, found, scene, outputs, statistics, told=told)
    tell(finished=False)
    return tell


def _tell_familiarity(
    found: SceneFamiliarity | None,
    scene: Scene,
    outputs: Sequence[OutputFile],
    statistics: Statistics,
    *,
    told: bool,
    finished: bool,
) -> None:
    """Write into tags and statistics how familiar a scene is.

    Unless the caller tells of the statistics, an unfamiliar scene is warned of here. It is done
    before the first window, or after the last one where the familiarity of every pixel is written.
    """
    of_all = outputs[-1].content is FAMILIARITY_BAND
    if finished != of_all:
        return
    if of_all:
        raw = outputs[-1].raw
        assert raw is not None  # it was begun
        found = counted(found, np.memmap(raw.path, raw.dtype, "r", shape=raw.shape)[0])
    if found is None:
        return
    for output in outputs:
        output.tags = {**output.tags, UNFAMILIAR_TAG: f"{found.share:.3f}"}
    statistics.unfamiliar, statistics.unfamiliar_line = found.share, found.line
    if found.line and not told:
        warn(f"{scene.path}: {found.line}")
