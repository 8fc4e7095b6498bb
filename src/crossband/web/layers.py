"""The layers that the page can show of a scene.

A further layer joins as one function in `KINDS`: it returns the layers of its kind that a scene and
a model have, and nothing where they have none. All else (tiles, legend, stretch, value under the
pointer, histogram, the lists of the page) follows from what a `Layer` states.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from crossband.core import indices
from crossband.core.conformal import PROMISES
from crossband.core.sensors import REFLECTANCE
from crossband.errors import BandError, CrossbandError
from crossband.model.uncertain import (
    DISSIMILARITY,
    calibration_of,
    channel_names,
    uncertain_model,
)
from crossband.raster.grid import Box
from crossband.translate.options import IntervalOptions
from crossband.translate.stream import compute_index_values
from crossband.translate.uncertain_bands import FAMILIARITY_BAND, Bounds
from crossband.translate.uncertain_files import guide_class
from crossband.web.previews import cells_of
from crossband.web.shown import Layer, Shown, nan_where_masked
from crossband.web.views import View

Array = NDArray[np.float32]
#: Indices that the page offers, where the bands for them are there.
INDICES = tuple(indices.CLOSED_FORMS)
#: Colours and values, darkest and brightest, of an index before anybody has looked.
_INDEX_RANGE = (-0.2, 1.0)
#: Level and promise of the intervals that are shown.
INTERVAL = IntervalOptions(0.9)
#: Levels that can be chosen for the file.
LEVELS = (0.5, 0.8, 0.9, 0.95)


def source_layers(shown: Shown) -> list[Layer]:
    """Return the source: in colours where it has them."""
    scene, signature = shown.scene, shown.model.signature
    names = tuple(scene.bands)
    picked = [names.index(n) for n in ("red", "green", "blue") if n in names]
    picked = picked if len(picked) == 3 else [0]

    def read(box: Box, factor: int) -> Array:
        return nan_where_masked(scene.read_thinned(box, factor))[picked]

    ranges = signature.units[scene.unit].source
    return [
        Layer(
            "source",
            "Source, " + ("colours" if len(picked) == 3 else names[0]),
            scene.unit,
            tuple(names[i] for i in picked),
            View.of(scene.grid),
            read,
            tuple(tuple(ranges[i]) for i in picked),  # type: ignore[misc]
        )
    ]


def synthetic_layers(shown: Shown) -> list[Layer]:
    """Return the bands that the model makes, each alone, and in colours where it makes these."""
    if not shown.can_compute:
        return []
    scene, model = shown.scene, shown.model
    target, unit, ranges = model.signature.target, shown.unit, shown.ranges
    view = View.of(scene.grid).finer(model.network.scale)
    groups = [[i] for i in range(len(target))]
    colours = [target.index(n) for n in ("red", "green", "blue") if n in target]
    if len(colours) == 3:
        groups = [colours]
    computed = shown.result is None

    def reader(picked: list[int]) -> Callable[[Box, int], Array | None]:
        def read(box: Box, factor: int) -> Array | None:
            values = shown.synthetic(box, factor)
            return None if values is None else values[picked]

        return read

    return [
        Layer(
            "synthetic" if i == 0 else f"synthetic-{target[picked[0]]}",
            "Synthetic " + ("colours" if len(picked) == 3 else target[picked[0]]),
            unit,
            tuple(target[b] for b in picked),
            view,
            reader(picked),
            tuple(tuple(ranges[b]) for b in picked),  # type: ignore[misc]
            "grey" if len(picked) == 3 else "warm" if unit == "kelvin" else "viridis",
            shown.cells,
            computed,
        )
        for i, picked in enumerate(groups)
    ]


def measured_layers(shown: Shown) -> list[Layer]:
    """Return the target band where the file has measured it."""
    scene, signature = shown.scene, shown.model.signature
    if scene.truth is None or len(signature.target) != 1:
        return []
    (band,) = signature.target

    def read(box: Box, factor: int) -> Array:
        return nan_where_masked(scene.read_thinned(box, factor, measured=True))

    unit = signature.target_unit(scene.unit)
    low, high = signature.units[scene.unit].target[0]
    return [
        Layer(
            "measured",
            f"Measured {band}",
            unit,
            (band,),
            View.of(scene.grid),
            read,
            ((low, high),),
            "warm" if unit == "kelvin" else "viridis",
        )
    ]


def index_layers(shown: Shown) -> list[Layer]:
    """Return spectral indices of source and result, and of measured bands."""
    scene, model = shown.scene, shown.model
    if model.network.scale != 1:
        return []
    out = []
    for name in offered_indices(shown):
        if shown.can_compute:
            read = _index_reader(shown, name, shown.synthetic)
            title, computed = f"{name} from synthetic", shown.result is None
            out.append(_index_layer(shown, name, f"index-{name}", title, read, computed))
        if scene.truth is not None:

            def measured(box: Box, factor: int) -> Array:
                return nan_where_masked(scene.read_thinned(box, factor, measured=True))

            read = _index_reader(shown, name, measured)
            out.append(
                _index_layer(shown, name, f"measured-{name}", f"{name} measured", read, False)
            )
    return out


def interval_layers(shown: Shown) -> list[Layer]:
    """Return lower and upper value and width of the interval of each band, of a calibrated model.

    They are computed, also beside a finished file, which does not hold them.
    """
    calibration = shown.model.calibration
    if calibration is None or shown.model.network.margin is None or shown.guided:
        return []
    out = []
    for number, band in enumerate(shown.model.signature.target):
        try:
            bounds = Bounds.of(
                shown.model, band, shown.scene.unit, INTERVAL, shown.scene.choice.sensor or None
            )
        except CrossbandError:  # too few places for this level, or none in this unit
            continue
        low, high = shown.model.signature.units[shown.scene.unit].target[number]
        for what, ends in (("lower", (low, high)), ("upper", (low, high)), ("width", (0.0, high))):
            read = _bounds_reader(shown, number, bounds, what)
            title = f"{INTERVAL.interval:.0%} interval of {band}: {what}"
            out.append(_sure_layer(shown, f"{what}-{band}", title, band, read, ends))
    return out


def familiarity_layers(shown: Shown) -> list[Layer]:
    """Return how unlike the training places the surroundings of each pixel are."""
    calibration = shown.model.calibration
    if calibration is None or calibration.familiar is None or shown.model.network.margin is None:
        return []
    if shown.model.signature.guide:
        return []

    def read(box: Box, _: int) -> Array | None:
        values = _sure_values(shown, box)
        if values is None:
            return None
        return FAMILIARITY_BAND({}, values, np.ones(values.shape[1:], bool))[0]

    title = "Unfamiliar (above 1)"
    layer = _sure_layer(shown, "familiarity", title, DISSIMILARITY, read, (0.0, 2.0))
    return [replace(layer, unit="1", colours="warm")]


def _bounds_reader(
    shown: Shown, number: int, bounds: Bounds, what: str
) -> Callable[[Box, int], Array | None]:
    def read(box: Box, _: int) -> Array | None:
        values = _sure_values(shown, box)
        if values is None:
            return None
        low, high = bounds.apply(values[number], values[len(shown.model.signature.target) :])
        return np.asarray({"lower": low, "upper": high, "width": high - low}[what][None])

    return read


def _sure_values(shown: Shown, box: Box) -> Array | None:
    """Return the result with its further channels; None where a cell is missing."""
    scene, model = shown.scene, shown.model
    count = len(channel_names(uncertain_model(model, scene.unit)))
    cells = cells_of(scene, model, box, sure=True)
    return shown.previews.read(cells, box, model.network.scale, count)


def _sure_layer(
    shown: Shown,
    name: str,
    title: str,
    band: str,
    read: Callable[[Box, int], Array | None],
    ends: tuple[float, float],
) -> Layer:
    scene, model = shown.scene, shown.model
    return Layer(
        name,
        title,
        model.signature.target_unit(scene.unit),
        (band,),
        View.of(scene.grid).finer(model.network.scale),
        read,
        (ends,),
        "viridis",
        lambda box: cells_of(scene, model, box, sure=True),
        computed=True,
    )


#: What can be shown, in the order of the page's lists. A further layer is one more function here.
KINDS: tuple[Callable[[Shown], list[Layer]], ...] = (
    source_layers,
    synthetic_layers,
    index_layers,
    measured_layers,
    interval_layers,
    familiarity_layers,
)


def layers_of(shown: Shown) -> dict[str, Layer]:
    """Return all layers of a scene by their names."""
    return {layer.name: layer for kind in KINDS for layer in kind(shown)}


def offered_levels(shown: Shown) -> dict[str, list[float]]:
    """Return the levels of intervals that can be written beside the whole scene, by promise."""
    found: dict[str, list[float]] = {promise: [] for promise in PROMISES}
    for promise, levels in found.items():
        for level in LEVELS if shown.model.calibration is not None else ():
            # Too few places for this level, none in this unit, or none with such a guide.
            with suppress(CrossbandError):
                _check_interval(shown, IntervalOptions(level, promise))
                levels.append(level)
    return found


def _check_interval(shown: Shown, options: IntervalOptions) -> None:
    """Raise CrossbandError where no interval like this can be written."""
    model, unit, sensor = shown.model, shown.scene.unit, shown.scene.choice.sensor or None
    if not calibration_of(model).needs_guide:
        for band in model.signature.target:
            Bounds.of(model, band, unit, options, sensor)
    if shown.guide is not None:
        guide_class(model, options, shown.guide.calibrated_as(), unit, sensor)
    elif shown.guided:
        raise CrossbandError("there is no guide")


def offered_indices(shown: Shown) -> list[str]:
    """Return the indices that source and result have the bands for, in one unit."""
    scene, model = shown.scene, shown.model
    unit, target = scene.unit, shown.unit
    known = dict.fromkeys(model.signature.target, target)
    if model.network.scale == 1:  # finer pixels have no source beside them
        known = dict.fromkeys(scene.bands, unit) | known
    out = []
    for name in INDICES:
        try:
            indices.check(name, known)
        except BandError:
            continue
        needed = indices.required_bands(name)
        made = any(band in model.signature.target for band in needed)
        units = {known[band] for band in needed}
        if made and len(units) == 1 and (name in indices.BOUNDED or units == {REFLECTANCE}):
            out.append(name)
    return out


def _index_layer(
    shown: Shown,
    index: str,
    name: str,
    title: str,
    read: Callable[[Box, int], Array | None],
    computed: bool,
) -> Layer:
    needs = computed or name.startswith("index-")
    return Layer(
        name,
        title,
        "1",
        (index,),
        View.of(shown.scene.grid),
        read,
        (_INDEX_RANGE,),
        "green",
        shown.cells if needs else lambda _: (),
        computed,
    )


def _index_reader(
    shown: Shown, index: str, target: Callable[[Box, int], Array | None]
) -> Callable[[Box, int], Array | None]:
    names = shown.model.signature.target
    unit = shown.model.signature.target_unit(shown.scene.unit)

    def read(box: Box, factor: int) -> Array | None:
        made = target(box, factor)
        if made is None:
            return None
        seen = shown.scene.read_thinned(box, factor)
        mask = seen.mask & np.isfinite(made).all(axis=0)
        known = dict(zip(seen.bands, seen.values, strict=True))
        known |= dict(zip(names, made, strict=True))
        values, defined = compute_index_values(index, known, mask, unit)
        return np.where(defined, values, np.float32(np.nan))

    return read
