"""Wrong inputs, as they happen in practice, from which familiarity learns.

What lies far from all training places is found by its distance. Bands in another order, a forgotten
offset, haze and dusk are not far: each of their pixels could be that of another place. So
surroundings of such inputs are shown to a small classifier beside those of right ones (outlier
exposure: Hendrycks, Mazeika, Dietterich 2019, arXiv 1812.04606). Right and wrong ones are shown in
other lights, too, so that a new place is not taken for wrong because of its air or its sun.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from crossband.core.sensors import REFLECTANCE
from crossband.evaluation.other_light import UNITS, in_other_light
from crossband.model import Model
from crossband.model.calibration import BANDS, HAZE, NIGHT, OFFSET
from crossband.networks.uncertainty import surroundings_of
from crossband.raster.grid import Window

#: Kind of right inputs in another light.
RIGHT = "right"
#: Orders of the bands that are shown, draws of others, draws of right ones, samples of each, and
#: side of what is seen.
ORDERS, DRAWS, LIGHTS, SAMPLES, SIDE = 5, 3, 4, 24, 256
#: Least and largest offset (`BOA_ADD_OFFSET` of Sentinel-2 is 0.1), share of the light that haze
#: lets through, brightness of haze, share of the light at night.
OFFSETS, THROUGH, BRIGHT, DUSK = (0.06, 0.14), (0.35, 0.65), (0.2, 0.35), (0.005, 0.05)


def wrong_cells(
    model: Model, source: Window, rng: np.random.Generator
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the kind of a wrong input, or `RIGHT`, and the surroundings [n, F] that it has."""
    top, left = (max(length - SIDE, 0) // 2 for length in source.mask.shape)
    part = (slice(top, top + SIDE), slice(left, left + SIDE))
    mask, around = source.mask[part], surroundings_of(model.network)
    at = np.argwhere(_cells(mask, around.stride))
    if not len(at):
        return
    for kind, values in _shown(source.values[:, *part], source.unit, source.bands, rng):
        x = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None]
        with torch.inference_mode():
            x = model.signature.normalise(x, [source.unit], "source").float()
            found = around.description(around.surroundings(x * torch.from_numpy(mask)))
        rows, columns = rng.permutation(at)[:SAMPLES].T
        yield kind, found[0].float().numpy()[rows, columns]


def _shown(
    values: NDArray[np.float32], unit: str, names: Sequence[str], rng: np.random.Generator
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield a source in other lights, and with its bands in other orders.

    Reflectance is also yielded with an offset, behind haze and at dusk.
    """

    def lit() -> NDArray[np.float32]:
        """Return the source, half of the time in another light."""
        return in_other_light(values, unit, names, rng) if rng.random() < 0.5 else values

    bands = len(values)
    for _ in range(LIGHTS if unit in UNITS else 0):
        yield RIGHT, in_other_light(values, unit, names, rng)
    orders = {tuple(range(bands))[::-1]}
    orders |= {tuple(rng.permutation(bands).tolist()) for _ in range(4 * ORDERS)}
    for order in sorted(orders - {tuple(range(bands))})[:ORDERS]:
        yield BANDS, lit()[list(order)]
    # Blue, green, red instead of red, green, blue is what happens most, and the hardest to see.
    for _ in range(DRAWS if bands > 1 else 0):
        yield BANDS, lit()[::-1]
    for _ in range(DRAWS if unit == REFLECTANCE else 0):
        yield OFFSET, lit() + np.float32(rng.uniform(*OFFSETS))
        # Haze takes more of the light of short waves, and gives back more.
        tilt = np.linspace(1.1, 0.9, bands)[:, None, None]
        through, bright = rng.uniform(*THROUGH) * tilt, rng.uniform(*BRIGHT) / tilt
        dark = lit() * np.exp(rng.uniform(*np.log(DUSK)))
        yield NIGHT, np.asarray(dark + rng.normal(0, 0.001, values.shape), np.float32)
        yield HAZE, np.asarray(lit() * through + bright * (1 - through), np.float32)


def _cells(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Return which cells of the surroundings are mostly valid."""
    down, across = (-(-length // side) for length in mask.shape)
    padded = np.zeros((down * side, across * side), bool)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    return np.asarray(padded.reshape(down, side, across, side).mean(axis=(1, 3)) > 0.5)
