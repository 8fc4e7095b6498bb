"""Baselines for what came without: fitted on the manifest's own train rows, in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossband.core.sensors import VALID_RANGE
from crossband.core.signature import Signature, UnitRange
from crossband.data.reader import PairReader
from crossband.data.rows import open_side
from crossband.errors import CrossbandError, ManifestError
from crossband.evaluation.candidates import Baseline, unfitted
from crossband.raster.bands import parse_bands
from crossband.raster.grid import Box, Grid, Window

#: Of a train scene at most this many pixels along a side are looked at, from its middle.
SIDE = 512

Array = NDArray[np.float64]


def signature_of(table: pd.DataFrame) -> tuple[Signature, int]:
    """Tell bands, units and scale of the pairs of a manifest; ranges are the physical values.

    Raises:
        ManifestError: the rows do not name their bands, or do not agree.
    """
    named = {}
    for side in ("source", "target"):
        cells = table[f"{side}_bands"]
        lists = {tuple(parse_bands(c)) for c in cells if pd.notna(c)}
        if cells.isna().any() or len(lists) != 1:
            raise ManifestError(
                f"predictions without a model: the column {side}_bands must name the same bands in "
                f"every row, as in nir=1 (or give --model for its bands and baselines)"
            )
        named[side] = list(lists.pop())
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
                open_side(record, "source", named["source"]) as one,
                open_side(record, "target", named["target"]) as two,
            ):
                first, second, fine = one, two, two.grid.height // one.grid.height
        except CrossbandError as error:
            raise ManifestError(f"manifest row {record['row']}: {error}") from error
        scales.add(max(fine, 1))
        if units.setdefault(first.unit, second.unit) != second.unit:
            raise ManifestError(
                f"manifest row {record['row']}: the target is {second.unit}, and in rows before "
                f"{units[first.unit]}, with a source in {first.unit}: judge them apart"
            )
    if len(scales) != 1:
        raise ManifestError(f"the rows have scales {sorted(scales)}: judge them apart")
    ranges = {
        one: UnitRange(
            [(0.0, 1.0)] * len(named["source"]),
            [(0.0, 1.0)] * len(named["target"]),
            None if one == two else two,
        )
        for one, two in units.items()
    }
    return Signature(named["source"], named["target"], ranges), scales.pop()


def baselines(
    train: pd.DataFrame, judged: pd.DataFrame, signature: Signature, scale: int
) -> dict[str, Baseline]:
    """Return the mean and the per-pixel line of the train rows, and what needs no fitting.

    Least squares in float64, for each unit of the source by itself; every scene weighs the same.
    Only what needs no fitting at another scale, or where the train rows lack a unit that is judged.

    Args:
        train: rows with source and target.
        judged: rows that the baselines will answer.
        signature: bands and units.
        scale: target pixels per source pixel along one side.
    """
    found: dict[str, Baseline] = {}
    sums = _sums(train, signature) if scale == 1 else {}
    reader = PairReader(judged, signature, scale)
    units = {reader.info(position).unit for position in range(len(judged))} if sums else set()
    if sums and units <= set(sums):
        lines: dict[str, Array] = {
            u: np.linalg.lstsq(m, p, rcond=None)[0].astype(np.float64) for u, (m, p) in sums.items()
        }
        # The last feature is the constant, so its own equation gives the mean.
        means = {unit: p[-1:] / m[-1, -1] for unit, (m, p) in sums.items()}
        found = {"mean": _mean(signature, means), "linear": _linear(signature, lines)}
    return found | unfitted(signature, scale)


def _sums(train: pd.DataFrame, signature: Signature) -> dict[str, tuple[Array, Array]]:
    """Return X^T X [F, F] and X^T t [F, Ct] for each unit; a feature for each band, and 1."""
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
    height, width = min(box.height, SIDE), min(box.width, SIDE)
    return Box((box.height - height) // 2, (box.width - width) // 2, height, width)


def _mean(signature: Signature, values: dict[str, Array]) -> Baseline:
    def answer(source: Window, grid: Grid) -> Window:
        shape = (len(signature.target), grid.height, grid.width)
        full = np.broadcast_to(values[source.unit].T[:, :, None], shape)
        return _window(signature, source, grid, full)

    return answer


def _linear(signature: Signature, weights: dict[str, Array]) -> Baseline:
    def answer(source: Window, grid: Grid) -> Window:
        w = weights[source.unit].astype(np.float32)
        values = np.tensordot(w[:-1].T, source.values, axes=1) + w[-1][:, None, None]
        return _window(signature, source, grid, values)

    return answer


def _window(signature: Signature, source: Window, grid: Grid, values: NDArray[Any]) -> Window:
    unit = signature.target_unit(source.unit)
    clipped = np.clip(values, *VALID_RANGE[unit]).astype(np.float32)
    return Window(clipped, source.mask, grid, tuple(signature.target), unit)
