"""Turn physical values into pictures, and describe their distribution."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]
#: Anchors of colour maps, dark to bright: a few steps of Matplotlib's viridis and inferno (CC0),
#: and of ColorBrewer's BrBG and Greens (Apache-2.0) for indices of plants.
COLOURS: dict[str, tuple[str, ...]] = {
    "grey": ("000000", "ffffff"),
    "viridis": (
        *("440154", "472d7b", "3b528b", "2c728e", "21918c"),
        *("28ae80", "5ec962", "addc30", "fde725"),
    ),
    "green": ("8c510a", "d8b365", "f6e8c3", "f5f5f5", "c7e9c0", "5aae61", "00441b"),
    "warm": ("000004", "420a68", "932667", "dd513a", "fca50a", "fcffa4"),
}
#: Bins of histograms and of scatters.
BINS, CELLS = 64, 64


def table(name: str) -> NDArray[np.uint8]:
    """Return the 256 colours of a colour map, [256, 3]."""
    anchors = np.array([[int(c[i : i + 2], 16) for i in (0, 2, 4)] for c in COLOURS[name]], float)
    at = np.linspace(0, len(anchors) - 1, 256)
    columns = [np.interp(at, np.arange(len(anchors)), anchors[:, i]) for i in range(3)]
    found: NDArray[np.uint8] = np.rint(np.stack(columns, axis=1)).astype(np.uint8)
    return found


def picture(values: Array, ranges: Sequence[tuple[float, float]], colours: str) -> bytes:
    """Return a PNG of values [1 or 3, H, W]; NaN is transparent.

    Args:
        values: in physical units.
        ranges: value that is darkest, and value that is brightest, of each band.
        colours: name of the colour map of one band.
    """
    valid = np.isfinite(values).all(axis=0)
    scaled = np.zeros(values.shape, np.uint8)
    for out, band, (low, high) in zip(scaled, values, ranges, strict=True):
        span = high - low or 1.0
        share = np.clip((np.where(valid, band.astype(np.float64), low) - low) / span, 0.0, 1.0)
        out[:] = np.rint(share * 255)
    rgb = table(colours)[scaled[0]] if len(scaled) == 1 else np.moveaxis(scaled, 0, -1)
    alpha = np.where(valid, 255, 0).astype(np.uint8)[..., None]
    out_file = io.BytesIO()
    Image.fromarray(np.concatenate([rgb, alpha], axis=-1), "RGBA").save(
        out_file, "PNG", compress_level=1
    )
    return out_file.getvalue()


def empty() -> bytes:
    """Return a PNG of one transparent pixel."""
    out = io.BytesIO()
    Image.new("RGBA", (1, 1), (0, 0, 0, 0)).save(out, "PNG")
    return out.getvalue()


def stretch(values: Array) -> list[tuple[float, float]] | None:
    """Return the 2 and 98 % quantiles of each band [C, ...]; None where nothing is valid."""
    out = []
    for band in values.reshape(len(values), -1):
        known = band[np.isfinite(band)].astype(np.float64)
        if not known.size:
            return None
        low, high = (float(q) for q in np.quantile(known, (0.02, 0.98)))
        out.append(_apart(low, high))
    return out


def _apart(low: float, high: float) -> tuple[float, float]:
    """Return the ends of a range, further apart where float32 does not tell them from each other.

    >>> _apart(0.0, 1.0), _apart(2.0, 2.0), _apart(0.0, 0.0)
    ((0.0, 1.0), (1.98, 2.02), (-1e-06, 1e-06))
    """
    size = max(abs(low), abs(high))
    if high - low > 1e-5 * size:
        return low, high
    pad = max(size * 0.01, 1e-6)
    return low - pad, high + pad


def histogram(values: Array, ranges: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
    """Return counts of each band [C, ...] between edges; what lies beyond counts at the ends."""
    out = []
    for band, (low, high) in zip(values.reshape(len(values), -1), ranges, strict=True):
        known = band[np.isfinite(band)].astype(np.float64)
        pad = (high - low) * 0.1
        edges = (low - pad, high + pad)
        counts, _ = np.histogram(np.clip(known, *edges), BINS, edges)
        out.append({"low": edges[0], "high": edges[1], "counts": counts.tolist()})
    return out


def scatter(measured: Array, synthetic: Array) -> dict[str, Any]:
    """Return how two bands [H, W] agree: a histogram over both, and the errors."""
    both = np.isfinite(measured) & np.isfinite(synthetic)
    x, y = measured[both].astype(np.float64), synthetic[both].astype(np.float64)
    if x.size < 2:
        return {"count": int(x.size)}
    ends = _apart(*(float(q) for q in np.quantile(np.concatenate([x, y]), (0.002, 0.998))))
    counts, _, _ = np.histogram2d(y, x, CELLS, (ends, ends))
    error = y - x
    varies = x.std() > 0 and y.std() > 0
    return {
        "count": int(x.size),
        "low": ends[0],
        "high": ends[1],
        "counts": counts.astype(int).tolist(),
        "mae": float(np.abs(error).mean()),
        "rmse": math.sqrt(float((error**2).mean())),
        "bias": float(error.mean()),
        "r": float(np.corrcoef(x, y)[0, 1]) if varies else None,
    }
