"""Suspicions of `crossband data check` on the unit of a scene that is translated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossband.data import unit_suspicions
from crossband.data.spectra import spectra
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
