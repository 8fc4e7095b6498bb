"""Baselines for candidates that have none.

The mean and the per-pixel line are fitted to the train rows of the manifest. `bicubic` and `copy`
need no fitting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossband.core.registry import build
from crossband.core.sensors import VALID_RANGE
from crossband.core.signature import Signature, UnitRange
from crossband.data.reader import PairReader
from crossband.data.rows import open_side
from crossband.errors import CrossbandError, ManifestError
from crossband.model import Model
from crossband.networks import Generator
from crossband.raster.bands import parse_bands
from crossband.raster.grid import Box, Grid, Window
from crossband.translate.options import TileOptions
from crossband.translate.window import translate_window

#: Largest side, in pixels, of the central part of a train scene that is read.
MAX_SIDE = 512

Array = NDArray[np.float64]
#: A baseline: (row of the manifest, source, grid of the target) -> output on that grid.
Baseline = Callable[[Mapping[str, Any], Window, Grid], Window]


def infer_signature(table: pd.DataFrame) -> tuple[Signature, int]:
    """Return bands and units of the pairs of a manifest, and their scale.

    Ranges of the signature are 0..1, so values are not normalised.

    Raises:
        ManifestError: the rows do not name their bands, or differ in bands, units or scale.
    """
    bands = {}
    for side in ("source", "target"):
        cells = table[f"{side}_bands"]
        lists = {tuple(parse_bands(c)) for c in cells if pd.notna(c)}
        if cells.isna().any() or len(lists) != 1:
            raise ManifestError(
                f"predictions without a model: the column {side}_bands must name the same bands in "
                f"every row, as in nir=1 (or give --model for its bands and baselines)"
            )
        bands[side] = list(lists.pop())
    units: dict[str, str] = {}
    scales: set[int] = set()
    for row in table.to_dict("records"):
        record = {str(k): v for k, v in row.items()}
        if pd.isna(record["source"]) or pd.isna(record["target"]):
            raise ManifestError(
                f"manifest row {record['row']}: predictions without a model need a source and a "
                f"target in every row that is judged"
            )
        try:
            with (
                open_side(record, "source", bands["source"]) as source,
                open_side(record, "target", bands["target"]) as target,
            ):
                unit, target_unit = source.unit, target.unit
                scale = target.grid.height // source.grid.height
        except CrossbandError as error:
            raise ManifestError(f"manifest row {record['row']}: {error}") from error
        scales.add(max(scale, 1))
        if units.setdefault(unit, target_unit) != target_unit:
            raise ManifestError(
                f"manifest row {record['row']}: the target is {target_unit}, and in rows before "
                f"{units[unit]}, with a source in {unit}: judge them apart"
            )
    if len(scales) != 1:
        raise ManifestError(f"the rows have scales {sorted(scales)}: judge them apart")
    ranges = {
        unit: UnitRange(
            [(0.0, 1.0)] * len(bands["source"]),
            [(0.0, 1.0)] * len(bands["target"]),
            None if unit == target_unit else target_unit,
        )
        for unit, target_unit in units.items()
    }
    return Signature(bands["source"], bands["target"], ranges), scales.pop()


def fit_baselines(
    train: pd.DataFrame, evaluated: pd.DataFrame, signature: Signature, scale: int
) -> dict[str, Baseline]:
    """Return the mean, the per-pixel line, and the baselines that need no fitting.

    The line is fitted by least squares in float64, separately for each unit of the source. Every
    scene has the same weight. Mean and line are left out at a scale above 1, and if the train rows
    lack a unit of the evaluated rows.

    Args:
        train: rows with source and target.
        evaluated: rows on which the baselines will be evaluated.
        signature: bands and units.
        scale: target pixels per source pixel along one side.
    """
    fitted: dict[str, Baseline] = {}
    sums = _normal_equations(train, signature) if scale == 1 else {}
    reader = PairReader(evaluated, signature, scale)
    units = {reader.info(position).unit for position in range(len(evaluated))} if sums else set()
    if sums and units <= set(sums):
        lines: dict[str, Array] = {
            u: np.linalg.lstsq(m, p, rcond=None)[0].astype(np.float64) for u, (m, p) in sums.items()
        }
        # The last feature is the constant 1, so its equation gives the mean.
        means = {unit: p[-1:] / m[-1, -1] for unit, (m, p) in sums.items()}
        fitted = {"mean": _mean(signature, means), "linear": _linear(signature, lines)}
    return fitted | untrained_baselines(signature, scale)


def _normal_equations(train: pd.DataFrame, signature: Signature) -> dict[str, tuple[Array, Array]]:
    """Return unit -> (X^T X [F, F], X^T t [F, Ct]); features X are the source bands and a 1."""
    reader = PairReader(train, signature)
    out: dict[str, tuple[Array, Array]] = {}
    for position in range(len(train)):
        info = reader.info(position)
        pixels = reader.read(position, _middle(info.grid.box))
        x = pixels.source[:, pixels.mask].astype(np.float64)
        n = x.shape[1]
        if not n:
            continue
        x = np.concatenate([x, np.ones((1, n))])
        t = pixels.target[:, pixels.mask].astype(np.float64)
        moments, products = x @ x.T / n, x @ t.T / n
        if info.unit in out:
            moments, products = moments + out[info.unit][0], products + out[info.unit][1]
        out[info.unit] = moments, products
    return out


def _middle(box: Box) -> Box:
    height, width = min(box.height, MAX_SIDE), min(box.width, MAX_SIDE)
    return Box((box.height - height) // 2, (box.width - width) // 2, height, width)


def _mean(signature: Signature, values: dict[str, Array]) -> Baseline:
    def predict(row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
        shape = (len(signature.target), grid.height, grid.width)
        full = np.broadcast_to(values[source.unit].T[:, :, None], shape)
        return _window(signature, source, grid, full)

    return predict


def _linear(signature: Signature, weights: dict[str, Array]) -> Baseline:
    def predict(row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
        w = weights[source.unit].astype(np.float32)
        values = np.tensordot(w[:-1].T, source.values, axes=1) + w[-1][:, None, None]
        return _window(signature, source, grid, values)

    return predict


def _window(signature: Signature, source: Window, grid: Grid, values: NDArray[Any]) -> Window:
    unit = signature.target_unit(source.unit)
    clipped = np.clip(values, *VALID_RANGE[unit]).astype(np.float32)
    return Window(clipped, source.mask, grid, tuple(signature.target), unit)


def untrained_baselines(signature: Signature, scale: int) -> dict[str, Baseline]:
    """Return the baselines that need no fitting, if the source has all bands of the target.

    `bicubic` enlarges these bands at a scale above 1. `copy` returns them at scale 1.
    """
    if not set(signature.target) <= set(signature.source):
        return {}
    if not all(r.target_unit in (None, unit) for unit, r in signature.units.items()):
        return {}
    if scale == 1:
        return {"copy": lambda row, source, grid: _target_bands(signature, source)}
    bands, count = signature.target, len(signature.target)
    plain = {
        unit: UnitRange([(0.0, 1.0)] * count, [(0.0, 1.0)] * count) for unit in signature.units
    }
    options = {"in_channels": count, "out_channels": count, "scale": scale}
    network = build(Generator, "Bicubic", options)
    model = Model(network, Signature(bands, bands, plain), name="bicubic", task="")

    def bicubic(row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
        bands = _target_bands(signature, source)
        return translate_window(model, bands, TileOptions(device="cpu", precision="fp32"))

    return {"bicubic": bicubic}


def _target_bands(signature: Signature, source: Window) -> Window:
    picked = [source.bands.index(band) for band in signature.target]
    values = source.values[picked]
    return Window(values, source.mask, source.grid, tuple(signature.target), source.unit)
