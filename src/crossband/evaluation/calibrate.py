"""Calibrate a model on places that it was not trained on: `calibration.json` of its folder.

`place_errors.collect` measures errors at places, `fit` turns them into a calibration. They are two
functions, as the errors may come from several models of one recipe, each where it was not trained.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossband.core import indices
from crossband.data import manifest as manifests
from crossband.errors import ManifestError
from crossband.evaluation.fit_familiarity import fit_familiar
from crossband.evaluation.fit_widths import arrays, fit_head
from crossband.evaluation.fit_widths import scores as scores_of
from crossband.evaluation.place_errors import PlaceErrors, SampleTable, collect
from crossband.evaluation.rows import select_split
from crossband.model import Model
from crossband.model.calibration import OWN, WINDOWS, Calibration, Factors

#: Parts of the regions that the head is cross-fitted on.
FOLDS = 5


def fit(
    places: Sequence[PlaceErrors],
    model: Model,
    quantities: Sequence[str],
    *,
    fitted: str,
    sources: Sequence[str],
    constant: bool = False,
    familiarity: bool = True,
) -> Calibration:
    """Return the calibration of a model.

    The widths of a place's scores come from a head that was fitted on other regions.

    Args:
        places: from `collect`.
        model: the model that ships.
        quantities: as for `collect`.
        fitted: how the errors were found.
        sources: what the places are.
        constant: one width for all pixels instead of the head's.
        familiarity: fit the centres of the surroundings, too.
    """
    tables = {side: SampleTable.of(places, side) for side in WINDOWS if _any(places, side)}
    folds = [zlib.crc32(place.region.encode()) % FOLDS for place in places]
    weights = _place_weights(places)
    head, scores = None, dict[int, Tensor]()
    if constant:
        scores = {side: scores_of(table, None) for side, table in tables.items()}
    else:
        for side, table in tables.items():
            scores[side] = torch.full_like(table.errors, float("nan"))
        for fold in sorted(set(folds)):
            inside = [n for n, f in enumerate(folds) if f != fold] or list(range(len(places)))
            own = fit_head(tables[1].of_places(inside), weights)
            for side, table in tables.items():
                held = torch.isin(
                    table.place, torch.tensor([n for n, f in enumerate(folds) if f == fold])
                )
                scores[side][held] = scores_of(table, own)[held]
        head = fit_head(tables[1], weights)
    return Calibration(
        model.weights_hash,
        tuple(quantities),
        factors_of(places, quantities, tables, scores),
        fitted,
        tuple(sources),
        None if head is None else arrays(head),
        fit_familiar(places, tables[1], folds, weights, model) if familiarity else None,
    )


def factors_of(
    places: Sequence[PlaceErrors],
    quantities: Sequence[str],
    tables: Mapping[int, SampleTable],
    scores: Mapping[int, Tensor],
) -> tuple[Factors, ...]:
    """Return the factors of all quantities, units, windows and groups.

    Args:
        places: that are calibrated on.
        quantities: columns of the scores.
        tables: samples of the places, by side of the windows.
        scores: [N, Q] of the samples of each table; NaN where unknown.
    """
    return tuple(
        found
        for side, table in tables.items()
        for number, name in enumerate(quantities)
        for found in _factors(places, name, side, scores[side][:, number], table.place)
    )


def _any(places: Sequence[PlaceErrors], side: int) -> bool:
    return any(place.samples[side].errors for place in places)


def _place_weights(places: Sequence[PlaceErrors]) -> Tensor:
    """Return how much each place counts for the head: groups by the root of their places."""
    sizes: dict[str, int] = {}
    for place in places:
        sizes[place.group] = sizes.get(place.group, 0) + 1
    return torch.tensor([sizes[place.group] ** -0.5 for place in places])


def _factors(
    places: Sequence[PlaceErrors], quantity: str, side: int, scores: Tensor, of: Tensor
) -> list[Factors]:
    """Return the factors of a quantity in each unit: of all places, and of groups with many."""
    by_place: dict[int, NDArray[np.float32]] = {}
    for number in range(len(places)):
        own = scores[of == number].numpy()
        own = own[np.isfinite(own)]
        if len(own):
            by_place[number] = own
    found = []
    for unit in sorted({places[n].unit for n in by_place}):
        of_unit = [n for n in by_place if places[n].unit == unit]
        names = sorted({places[n].group for n in of_unit})
        for group in ("", *names):
            members = [n for n in of_unit if group in ("", places[n].group)]
            if group and (len(members) < OWN or len(names) == 1):
                continue
            sensors = tuple(sorted(set().union(*(places[n].sensors for n in members))))
            own_scores = [by_place[n] for n in members]
            found.append(Factors.of(quantity, unit, side, group, sensors, own_scores))
    return found


def calibrate(
    model: Model,
    manifest: str | Path,
    *,
    split: str | None = None,
    index: Sequence[str] = ("NDVI",),
    by: str = "sensor",
) -> Calibration:
    """Calibrate a model on the places of a manifest that it was not trained on.

    Args:
        model: loaded model.
        manifest: CSV or parquet, see `crossband.data.manifest`.
        split: its rows; `test` if there is one, else `val`, else all.
        index: indices that get intervals of their own.
        by: column by which calibrations are told apart where places suffice.

    Raises:
        ManifestError: no pairs; an unknown column.
    """
    rows, split = select_split(manifests.read(manifest), split)
    if by not in rows:
        raise ManifestError(f"--by {by}: the manifest has no such column")
    rows = rows[manifests.is_paired(rows)].reset_index(drop=True)
    if not len(rows):
        raise ManifestError(f"{manifest}: no row has both a source and a target")
    quantities = [*model.signature.target, *index]
    for name in index:
        indices.required_bands(name)
    places = collect(model, rows, quantities, by)
    if not places:
        raise ManifestError(f"{manifest}: no valid pixel")
    source = f"{Path(manifest).name}, {split or 'all rows'}, {len(places)} places"
    words = "errors of this model at places that its training did not see, as the manifest says"
    return fit(places, model, quantities, fitted=words, sources=[source])


def summary(calibration: Calibration) -> Mapping[str, Any]:
    """Return how many places each quantity was calibrated on, by unit and group."""
    return {
        f"{f.quantity}, {f.unit}" + (f", {f.group}" if f.group else ""): f.places
        for f in calibration.factors
        if f.window == 1
    }
