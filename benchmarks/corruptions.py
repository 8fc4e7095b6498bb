"""Ways in which a scene is wrong or unusual: functions of its values, for `familiarity.py`.

Each takes red, green, blue [3, h, w] in reflectance and a generator of random numbers, and returns
what a model would be given.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

Array = NDArray[np.float32]
#: Colours of haze, snow and clouds in red, green, blue.
_HAZE, _SNOW, _CLOUD = (0.24, 0.27, 0.32), (0.82, 0.85, 0.88), (0.55, 0.56, 0.58)


def thousands(values: Array, rng: np.random.Generator) -> Array:
    """Return stored numbers of 0 to 10,000 that were read without their scale."""
    return (values * 10_000).round()


def bytes_unscaled(values: Array, rng: np.random.Generator) -> Array:
    """Return an 8-bit picture of 0 to 255 that was read as reflectance."""
    return (stretched(values, rng) * 255).round()


def ordered(values: Array, rng: np.random.Generator, order: tuple[int, ...] = (2, 1, 0)) -> Array:
    """Return the bands in another order, by default blue, green, red."""
    return values[list(order)]


def without_offset(values: Array, rng: np.random.Generator, offset: float = 0.1) -> Array:
    """Return reflectance whose offset was forgotten, by default the -0.1 of baseline 04.00."""
    return values + np.float32(offset)


def stretched(values: Array, rng: np.random.Generator) -> Array:
    """Return a display stretch, 2 to 98 % of each band to 0 to 1 in 256 steps."""
    low, high = np.quantile(values, [0.02, 0.98], axis=(1, 2))[:, :, None, None]
    share = np.clip((values - low) / np.maximum(high - low, 1e-4), 0, 1)
    return np.asarray((share * 255).round() / 255, np.float32)


def haze(values: Array, rng: np.random.Generator, clear: float = 0.5) -> Array:
    """Return the scene behind haze that lets a share of the light through, less of the blue one."""
    through = np.array([clear + 0.05, clear, clear - 0.05], np.float32)[:, None, None]
    return values * through + np.array(_HAZE, np.float32)[:, None, None] * (1 - through)


def night(values: Array, rng: np.random.Generator) -> Array:
    """Return the scene at dusk: a fiftieth of the light, and the sensor's noise."""
    noise = rng.normal(0, 0.001, values.shape)
    return np.asarray(np.clip(values / 50 + noise, 0, None), np.float32)


def snow(values: Array, rng: np.random.Generator) -> Array:
    """Return the scene under snow, through which a fifth of its texture shows, on three fifths."""
    texture = values - values.mean(axis=(1, 2), keepdims=True)
    cover = np.array(_SNOW, np.float32)[:, None, None] + 0.2 * texture
    return _covered(values, cover, 0.6, rng)


def clouds(values: Array, rng: np.random.Generator) -> Array:
    """Return the scene under clouds of varying thickness, on three fifths of it."""
    bright = 0.7 + 0.6 * _noise(values.shape[1:], rng)
    cover = np.array(_CLOUD, np.float32)[:, None, None] * bright
    return _covered(values, cover, 0.6, rng)


def _covered(values: Array, cover: Array, share: float, rng: np.random.Generator) -> Array:
    """Return a scene of which a share is covered, with soft borders."""
    field = _noise(values.shape[1:], rng)
    edge = np.quantile(field, 1 - share)
    alpha = np.clip((field - edge) / 0.1 + 0.5, 0, 1)
    return np.asarray(values * (1 - alpha) + cover * alpha, np.float32)


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return a smooth random field of 0 to 1, of several sizes."""
    total = np.zeros(shape)
    for octave in range(4):
        cells = 3 * 2**octave
        drawn = rng.random((cells, cells))
        total += (
            zoom(drawn, [n / cells for n in shape], order=1)[: shape[0], : shape[1]] / 2**octave
        )
    total -= total.min()
    return np.asarray(total / max(float(total.max()), 1e-6), np.float32)


#: Name -> function, the AUROC that is wanted, and a word of the cause that should be named.
CORRUPTIONS: dict[str, tuple[Callable[[Array, np.random.Generator], Array], float, str]] = {
    "0 to 10,000 without scale": (thousands, 0.95, "--scale"),
    "0 to 255 without scale": (bytes_unscaled, 0.95, "--scale"),
    "red and blue swapped": (ordered, 0.95, "--bands"),
    "bands rotated": (partial(ordered, order=(1, 2, 0)), 0.95, "--bands"),
    "offset of 0.1 forgotten": (without_offset, 0.95, "--offset"),
    "display stretch": (stretched, 0.85, "stretch"),
    "haze": (haze, 0.85, "haze"),
    "night": (night, 0.85, "night"),
    "snow": (snow, 0.85, "snow"),
    "clouds": (clouds, 0.85, "clouds"),
}
#: The same with other numbers: name -> function.
OTHERS: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "red, blue, green": partial(ordered, order=(0, 2, 1)),
    "green, red, blue": partial(ordered, order=(1, 0, 2)),
    "blue, red, green": partial(ordered, order=(2, 0, 1)),
    **{f"offset of {n:g}": partial(without_offset, offset=n) for n in (0.05, 0.075, 0.125, 0.15)},
    **{f"haze, {n:.0%} through": partial(haze, clear=n) for n in (0.3, 0.4, 0.6, 0.7, 0.8)},
}
