"""Calibrate a model on places that it was not trained on: `calibration.json` of its folder.

`place_errors.collect` measures errors at places, `fit` turns them into a calibration. They are two
functions, as the errors may come from several models of one recipe, each where it was not trained.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossband.core import columns, indices
from crossband.core.conformal import worst
from crossband.core.python_words import public
from crossband.core.warned import warn
from crossband.data import manifest as manifests
from crossband.data.rows import open_side
from crossband.errors import CrossbandError, ManifestError
from crossband.evaluation.fit_familiarity import fit_familiar
from crossband.evaluation.fit_widths import arrays, fit_head
from crossband.evaluation.fit_widths import scores as scores_of
from crossband.evaluation.place_errors import PlaceErrors, SampleTable, collect, collect_guided
from crossband.evaluation.rows import select_split
from crossband.model import Model
from crossband.model.calibration import (
    OWN,
    WINDOWS,
    Calibration,
    Factors,
    Familiar,
    GuideClass,
    Head,
)
from crossband.model.training_data import read_training_data, target_hash

#: Columns that say which pixels a pair has.
PAIR = ("source", "target", "source_window", "target_window", "degradation")
#: Parts of the regions that the head is cross-fitted on.
FOLDS = 5
#: What counts once: name of the place, unit, class of the guides.
_Place = tuple[str, str, GuideClass | None]


def fit(
    places: Sequence[PlaceErrors],
    model: Model,
    quantities: Sequence[str],
    *,
    fitted: str,
    sources: Sequence[str],
    guided: Sequence[PlaceErrors] = (),
    constant: bool = False,
    familiarity: bool = True,
    alone: bool = True,
) -> Calibration:
    """Return the calibration of a model.

    The widths of a place's scores come from a head that was fitted on other regions.

    Args:
        places: from `collect`.
        model: the model that ships.
        quantities: as for `collect`.
        fitted: how the errors were found.
        sources: what the places are.
        guided: from `collect_guided`.
        constant: one width for all pixels instead of the head's.
        familiarity: fit the centres of the surroundings, too.
        alone: calibrate results without a guide. Else `places` are for familiarity only.
    """
    plain = _Widths.of(places, constant=constant or not alone)
    factors = factors_of(places, quantities, plain.tables, plain.scores) if alone else ()
    with_guide = _Widths.of(guided, constant=constant) if guided else None
    if with_guide is not None:
        factors += factors_of(guided, quantities, with_guide.tables, with_guide.scores)
    return Calibration(
        model.weights_hash,
        tuple(quantities),
        factors,
        fitted,
        tuple(sources),
        plain.head,
        familiar_of(places, model) if familiarity else None,
        None if with_guide is None else with_guide.head,
    )


def familiar_of(places: Sequence[PlaceErrors], model: Model) -> Familiar:
    """Return what is familiar to a model that was calibrated at these places; see `fit`."""
    return fit_familiar(places, _folds(places), model)


def with_guided(
    calibration: Calibration, places: Sequence[PlaceErrors], *, fitted: str, sources: Sequence[str]
) -> Calibration:
    """Return a calibration of results without a guide with that of guided ones.

    Args:
        calibration: of the model.
        places: from `collect_guided`.
        fitted: how the errors were found, of results with a guide and without.
        sources: what these places are.
    """
    widths, quantities = _Widths.of(places), calibration.quantities
    kept = tuple(f for f in calibration.factors if f.guide is None)
    return replace(
        calibration,
        factors=kept + factors_of(places, quantities, widths.tables, widths.scores),
        fitted=fitted,
        sources=(*calibration.sources, *sources),
        guided=widths.head,
    )


@dataclass(frozen=True)
class _Widths:
    """A head for the widths, and what its widths are worth at places that it was not fitted on.

    Attributes:
        tables: samples of the places, by side of the windows.
        scores: [N, Q] of each table.
        head: fitted on all places; None for constant widths.
    """

    tables: Mapping[int, SampleTable]
    scores: Mapping[int, Tensor]
    head: Head | None

    @classmethod
    def of(cls, places: Sequence[PlaceErrors], *, constant: bool = False) -> Self:
        """Fit a head to each part of the regions, and one to all."""
        tables = {side: SampleTable.of(places, side) for side in WINDOWS if _any(places, side)}
        if constant:
            return cls(tables, {side: scores_of(t, None) for side, t in tables.items()}, None)
        folds, weights = _folds(places), _place_weights(places)
        scores = {s: torch.full_like(t.errors, float("nan")) for s, t in tables.items()}
        for fold in sorted(set(folds)):
            # One place alone has one fold. No level can be promised of it.
            inside = [n for n, f in enumerate(folds) if f != fold] or list(range(len(places)))
            seen = tables[1].of_places(inside)
            own, known = fit_head(seen, weights), torch.isfinite(seen.errors).any(dim=0)
            outside = torch.tensor([n for n, f in enumerate(folds) if f == fold])
            for side, table in tables.items():
                held = torch.isin(table.place, outside)
                scores[side][held] = torch.where(known, scores_of(table, own)[held], torch.nan)
        return cls(tables, scores, arrays(fit_head(tables[1], weights)))


def _folds(places: Sequence[PlaceErrors]) -> list[int]:
    """Return the part of each place's region in cross-fitting.

    Where the names of few regions fall into one part, they are dealt out in turn. Places of one
    region are dealt out themselves.
    """
    regions = [place.region for place in places]
    folds = [zlib.crc32(region.encode()) % FOLDS for region in regions]
    if len(set(folds)) > 1:
        return folds
    if len(set(regions)) == 1:
        regions = [place.place for place in places]
        if len(set(regions)) > 1:
            warn(
                "all places of the calibration are of one region: its widths are judged at other "
                "places of this region, and may be too short elsewhere",
            )
    order = {region: number for number, region in enumerate(sorted(set(regions)))}
    return [order[region] % FOLDS for region in regions]


def factors_of(
    places: Sequence[PlaceErrors],
    quantities: Sequence[str],
    tables: Mapping[int, SampleTable],
    scores: Mapping[int, Tensor],
) -> tuple[Factors, ...]:
    """Return the factors of all quantities, units, windows and groups.

    A place whose sources were made in several ways counts once, by the worst way at each threshold:
    nobody knows which way is that of a new place.

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
    sizes = Counter((place.group, place.guide) for place in places)
    return torch.tensor([sizes[place.group, place.guide] ** -0.5 for place in places])


def _factors(
    places: Sequence[PlaceErrors], quantity: str, side: int, scores: Tensor, of: Tensor
) -> list[Factors]:
    """Return the factors of a quantity in each unit: of all places, and of groups with many."""
    ways: dict[_Place, list[NDArray[np.float32]]] = {}
    first: dict[_Place, PlaceErrors] = {}
    for number, place in enumerate(places):
        own = scores[of == number].numpy()
        own = own[np.isfinite(own)]
        if len(own):
            key = place.place, place.unit, place.guide
            ways.setdefault(key, []).append(own)
            first.setdefault(key, place)
    by_place = {
        key: worst(of_ways) if len(of_ways) > 1 else of_ways[0] for key, of_ways in ways.items()
    }
    found = []
    for unit, guide in sorted({key[1:] for key in by_place}, key=str):
        of_unit = [key for key in by_place if key[1:] == (unit, guide)]
        names = sorted({first[key].group for key in of_unit})
        for group in ("", *names):
            members = [key for key in of_unit if group in ("", first[key].group)]
            if group and (len(members) < OWN or len(names) == 1):
                continue
            sensors = tuple(sorted(set().union(*(first[key].sensors for key in members))))
            own_scores = [by_place[key] for key in members]
            found.append(Factors.of(quantity, unit, side, group, sensors, own_scores, guide))
    return found


@public()
def calibrate(
    model: Model,
    manifest: str | Path,
    *,
    split: str | None = None,
    index: Sequence[str] = ("NDVI",),
    by: str = "sensor",
) -> Calibration:
    """Calibrate a model on the places of a manifest that it was not trained on.

    Where rows name guides, results with these guides are calibrated, too, by the size of the
    guides' pixels and by whether they are of another date. Of a model that was trained with a guide
    only these are: what it makes in a hole of the guide depends on what is around the hole.

    Args:
        model: loaded model.
        manifest: CSV or parquet, see `crossband.data.manifest`.
        split: its rows; `test` if there is one, else `val`, else all.
        index: indices that get intervals of their own.
        by: column by which calibrations are told apart where places suffice.

    Raises:
        ManifestError: no pairs; no guides for a model that takes one; an unknown column; an index
            without any error.
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
    pair = [name for name in PAIR if name in rows]
    alone = rows.drop(columns=[name for name in columns.GUIDE if name in rows])
    pairs = alone.drop_duplicates(pair, ignore_index=True)
    _warn_of_training_pairs(model, pairs)
    places = collect(model, pairs, quantities, by)
    if not places:
        raise ManifestError(f"{manifest}: no valid pixel")
    known = [np.isfinite(np.stack(place.samples[1].errors)).any(axis=0) for place in places]
    for name, any_known in zip(quantities, np.any(known, axis=0), strict=True):
        if not any_known:
            raise ManifestError(
                f"--index {name}: no pair has an error of it: {model.name} makes none of its "
                "bands, or the pairs lack a band, or are in a unit that it does not take"
            )
    with_guide = list[PlaceErrors]()
    if "guide" in rows and rows["guide"].notna().any():
        those = rows[rows["guide"].notna()].reset_index(drop=True)
        with_guide = collect_guided(model, those, quantities, by)
    if model.signature.guide and not with_guide:
        raise ManifestError(f"{manifest}: {model.name} takes a guide, and no pair has one to use")
    count = len({(place.place, place.unit) for place in places})
    source = f"{Path(manifest).name}, {split or 'all rows'}, {count} places"
    of = f"rows of the split {split!r}" if split else "all rows"
    words = (
        f"errors of this model at {of} of {Path(manifest).name}, which its training must not see"
    )
    return fit(
        places,
        model,
        quantities,
        fitted=words,
        sources=[source],
        guided=with_guide,
        alone=not model.signature.guide,
    )


def _warn_of_training_pairs(model: Model, pairs: pd.DataFrame) -> None:
    """Warn of pairs that the model is known to have been trained on: its errors there are small."""
    known, count = read_training_data(model.folder), 0
    for _, row in pairs.iterrows() if known else ():
        with suppress(CrossbandError):  # `collect` says what is wrong
            cells = {str(column): value for column, value in row.items()}
            with open_side(cells, "target", list(model.signature.target)) as target:
                window = target.read(target.grid.box)
                count += target_hash(window.values, window.mask) in known
    if count:
        warn(
            f"{model.name} was trained on {count:,} of {len(pairs):,} pairs that it is calibrated "
            "on, so its intervals are too narrow"
        )


def summary(calibration: Calibration) -> Mapping[str, Any]:
    """Return how many places each quantity was calibrated on, by unit and group."""
    return {
        ", ".join(
            [
                f.quantity,
                f.unit,
                *([f.guide.words] if f.guide else []),
                *([f.group] if f.group else []),
            ]
        ): f.places
        for f in calibration.factors
        if f.window == 1
    }
