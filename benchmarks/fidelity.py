"""Whether a model of super-resolution keeps to its source, and is never sharper than the truth.

`measure` returns a row for each pair of a manifest:

    consistency   root mean square of (result made coarse again - source): by the row's own
                  degradation, without its noise
    noise         standard deviation of the noise in the source
    sharper       power of the result / power of the truth in dB, above the Nyquist frequency of the
                  source; below 0 the result is softer
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from judged import MADE
from numpy.typing import NDArray

from crossband import Model
from crossband.data import manifest as manifests
from crossband.data.degrade import parse_degradation
from crossband.data.degrade.sensor import SensorMTF
from crossband.data.reader import PairReader
from crossband.metrics.families.spectrum import TILE, tile_view
from crossband.raster.grid import Window
from crossband.translate.options import TileOptions
from crossband.translate.window import translate_window

PLACE = ["family", "region", "group", "unit"]


def measure(model: Model, manifest: Path) -> pd.DataFrame:
    """Return consistency and sharpness of each row that has a valid tile; see the module."""
    table, rows = manifests.read(manifest), []
    scale = model.network.scale
    reader = PairReader(table, model.signature, scale)
    for number, row in enumerate(reader.rows):
        info = reader.info(number)
        pixels = reader.read(number, info.grid.box)
        bands = tuple(model.signature.source)
        source = Window(pixels.source, pixels.source_mask, info.grid, bands, info.unit)
        result = translate_window(model, source, TileOptions(precision="fp32")).values
        found = _compare(result, pixels.target, pixels.mask, 0.5 / scale)
        if found is None:
            continue
        degradation = parse_degradation(str(row["degradation"]))
        noise = 0.0
        if isinstance(degradation, SensorMTF):
            degradation, noise = SensorMTF(degradation.mtf), degradation.noise[0]
        again = degradation(torch.from_numpy(result), scale, np.random.default_rng(0)).numpy()
        edge = degradation.margin
        height, width = pixels.source_mask.shape
        inner = (slice(edge, height - edge), slice(edge, width - edge))
        difference = (again - pixels.source)[:, *inner][:, pixels.source_mask[inner]]
        if difference.size:
            record: dict[str, Any] = {c: row[c] for c in ("family", "region", "group")}
            square = float(np.square(difference, dtype=np.float64).mean())
            values = {"consistency": square**0.5, "noise": noise, "sharper": found}
            rows.append(record | {"unit": info.unit} | values)
    return pd.DataFrame(rows)


def _compare(
    result: NDArray[np.float32], target: NDArray[np.float32], mask: NDArray[np.bool_], above: float
) -> float | None:
    """Return the power of the result against the target's in dB; None without a valid tile.

    Args:
        result: [C, H, W].
        target: [C, H, W].
        mask: [H, W], True where valid.
        above: the frequencies that count, in cycles per pixel.
    """
    if min(mask.shape) < TILE:
        return None
    valid = tile_view(mask).all(axis=(2, 3))
    if not valid.any():
        return None
    window = np.outer(np.hanning(TILE), np.hanning(TILE))
    fine = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None])
    wanted = (fine > above) & (fine <= 0.5)
    power = []
    for image in (result, target):
        tiles = np.concatenate([tile_view(band)[valid] for band in image]).astype(np.float64)
        tiles = (tiles - tiles.mean(axis=(1, 2), keepdims=True)) * window
        power.append(float((np.abs(np.fft.rfft2(tiles)) ** 2)[:, wanted].sum()))
    return 10 * float(np.log10(power[0] / power[1])) if min(power) > 0 else None


def fidelity_table(found: pd.DataFrame) -> str:
    """Return the measures as Markdown: means over places of each way and unit."""
    found = found.assign(made=found["family"].str.partition(MADE)[0])
    places = found.groupby(["made", *PLACE], as_index=False).mean(numeric_only=True)
    lines = [
        "| source made by, unit | places | noise of the source | result made coarse - source, "
        "RMS | power above the source's Nyquist, result / truth | sharper at |",
        "|" + "---|" * 6,
    ]
    for (made, unit), part in places.groupby(["made", "unit"]):
        lines.append(
            f"| {made}, {unit} | {len(part)} | {part['noise'].mean():.4f} | "
            f"{part['consistency'].mean():.4f} | {part['sharper'].mean():.1f} dB | "
            f"{int((part['sharper'] > 0).sum())} |"
        )
    return "\n".join(lines)
