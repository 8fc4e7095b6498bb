"""Whether a scene is in a unit of the training, and its numbers look like it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossband.core.warned import warn
from crossband.data import unit_suspicions
from crossband.data.spectra import spectra
from crossband.model import Model
from crossband.model.training_data import trained_units
from crossband.raster.scene import Scene
from crossband.translate.familiarity import sample_boxes


@dataclass(frozen=True)
class _Declared:
    """What is declared of a scene, as the rules take it."""

    unit: str
    sensor: str | None
    scale: float
    offset: float
    dtypes: tuple[str, ...]
    path: str


def warn_of_unit(model: Model, unit: str, name: str) -> None:
    """Warn of a source in a unit that the model has a range for, and was not trained on.

    Args:
        model: that translates it.
        unit: of the source.
        name: of the source, for people.
    """
    if unit not in (known := trained_units(model.about, model.signature)):
        warn(
            f"{name}: {model.name} was trained on {' and '.join(sorted(known))} alone, and "
            f"these are values of {unit}"
        )


def unit_suspicion(scene: Scene, sensor: str | None) -> str:
    """Return what looks wrong with the unit of a scene, in words; empty where nothing does.

    Args:
        scene: in reflectance or display; it is read in a few windows that are spread over it.
        sensor: as the caller declares it.
    """
    stored, values = [], []
    for box in sample_boxes(scene.grid):
        numbers, known = scene.stored(box)
        window = scene.physical(numbers, known, box)
        stored.append(numbers[:, window.mask])
        values.append(window.values[:, window.mask])
    radiometry = scene.radiometry
    declared = _Declared(
        scene.unit, sensor, radiometry.scale[0], radiometry.offset[0], scene.dtypes, scene.path
    )
    found = spectra(
        scene.bands,
        np.concatenate(stored, axis=1).astype(np.float64),
        np.concatenate(values, axis=1).astype(np.float64),
        declared,
    )
    rules = (unit_suspicions.offsets, unit_suspicions.display_numbers)
    return next((one.text for rule in rules for one in rule(found)), "")
