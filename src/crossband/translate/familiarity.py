"""How unlike the training places a scene is, from windows spread over it, and the likely cause."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crossband.core.sensors import REFLECTANCE
from crossband.model import Model
from crossband.model.calibration import Familiar
from crossband.model.uncertain import uncertain_model
from crossband.networks.uncertainty import UncertainGenerator
from crossband.raster.grid import Box, Grid
from crossband.raster.scene import Scene

#: Windows along each side of a scene that are looked at, and their side in pixels.
WINDOWS, SIDE = 4, 256
#: A scene is told to be unfamiliar above this share of its pixels.
SHARE = 0.1
#: A band's median this many times beyond the usual 99 % quantile is of another scale.
BEYOND = 3.0
#: Share of pixels in a clearer state that names a cause.
MOST = 0.3


@dataclass(frozen=True)
class SceneFamiliarity:
    """How familiar a scene is.

    Attributes:
        share: of its valid pixels, in windows spread over it, whose surroundings are unfamiliar.
        cause: the likely cause in a few words, where numbers show one.
    """

    share: float
    cause: str

    @property
    def line(self) -> str:
        """One line for people; empty where the scene is familiar."""
        if self.share <= SHARE:
            return ""
        return (
            f"{self.share:.0%} of the scene is unlike what the model was trained on, and its error "
            f"there may be larger than stated" + (f"; likely: {self.cause}" if self.cause else "")
        )


def scene_familiarity(model: Model, scene: Scene) -> SceneFamiliarity | None:
    """Return how familiar a scene is; None for a model that does not know.

    Args:
        model: loaded model.
        scene: with the bands that the model takes.
    """
    familiar = None if model.calibration is None else model.calibration.familiar
    if familiar is None:
        return None
    network = uncertain_model(model).network
    assert isinstance(network, UncertainGenerator)
    far, values = [], []
    for box in sample_boxes(scene.grid):
        window = scene.read(box)
        if window.mask.any():
            found = dissimilarity(model, network, window.values, window.mask, window.unit)
            far.append(found[window.mask])
            values.append(window.values[:, window.mask])
    if not far:
        return None
    share = float(np.mean(np.concatenate(far) > familiar.limit))
    bands = dict(zip(scene.bands, np.concatenate(values, axis=1), strict=True))
    cause = likely_cause(familiar, bands, scene.unit) if share > SHARE else ""
    return SceneFamiliarity(share, cause)


def dissimilarity(
    model: Model,
    network: UncertainGenerator,
    values: NDArray[np.float32],
    mask: NDArray[np.bool_],
    unit: str,
) -> NDArray[np.float32]:
    """Return the dissimilarity of pixels: [Cs, h, w] -> [h, w]."""
    assert network.dissimilarity is not None
    height, width = mask.shape
    parameter = next(model.parameters(), torch.zeros(()))
    with torch.inference_mode():
        x = model.signature.normalise(torch.from_numpy(values)[None], [unit], "source").float()
        x = (x * torch.from_numpy(mask)).to(parameter.device)
        around = network.around.to(parameter.device)
        description = around.description(around.surroundings(x)).float()
        far = network.dissimilarity.to(parameter.device)(description)[0].cpu().numpy()
    cell = around.stride
    pixels = far.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]
    return np.asarray(pixels, np.float32)


def sample_boxes(grid: Grid) -> list[Box]:
    """Return windows spread evenly over a grid; all of it where it is small."""
    tops, lefts = (_starts(length) for length in (grid.height, grid.width))
    return [
        Box(top, left, min(SIDE, grid.height - top), min(SIDE, grid.width - left))
        for top in tops
        for left in lefts
    ]


def _starts(length: int) -> list[int]:
    count = min(WINDOWS, -(-length // SIDE))
    if count == 1:
        return [max(length - SIDE, 0) // 2]
    return [round(n * (length - SIDE) / (count - 1)) for n in range(count)]


def likely_cause(familiar: Familiar, bands: dict[str, NDArray[np.float32]], unit: str) -> str:
    """Return the likely cause of an unfamiliar scene, as far as its numbers show it.

    Args:
        familiar: of the model.
        bands: source band -> values of valid pixels.
        unit: of the source.
    """
    usual = familiar.bands.get(unit, {})
    known = [name for name in bands if name in usual]
    if not known:
        return ""
    medians = {name: float(np.median(bands[name])) for name in known}
    top = max(usual[name][2] for name in known)
    largest = max(float(np.quantile(bands[name], 0.99)) for name in known)
    brightness = np.mean([bands[name] for name in known], axis=0)
    colour = np.std([bands[name] for name in known], axis=0)
    white = float(np.mean((brightness > 0.8 * top) & (colour < 0.15 * brightness)))
    dark = float(np.mean(brightness < 0.1 * np.mean([usual[n][1] for n in known])))
    rules = (
        (
            min(medians.values()) > BEYOND * top or largest > 10 * max(top, 1.0),
            f"a missing --scale: the values reach {largest:.4g}, and usual are up to {top:.2g}",
        ),
        (
            0 < largest < 0.02 * top,
            f"a wrong --scale, or night: the values reach only {largest:.2g}",
        ),
        (
            unit == REFLECTANCE and _shifted(bands, usual, known),
            "a missing --offset: even the darkest pixels of every band are bright",
        ),
        (white > MOST, "snow or clouds: much of the scene is bright and white"),
        (
            _colours_swapped(medians, usual),
            "swapped bands (--bands), haze or water: blue and red are unusually related",
        ),
        (dark > MOST, "night or shadow: much of the scene is very dark"),
    )
    return next((words for found, words in rules if found), "")


def _colours_swapped(
    medians: dict[str, float], usual: dict[str, tuple[float, float, float]]
) -> bool:
    """Return whether blue is to red what it is nowhere usual."""
    red, blue = (medians.get(name, 0.0) for name in ("red", "blue"))
    if red <= 0 or blue <= 0:
        return False
    expected = max(usual["blue"][1], 1e-3) / max(usual["red"][1], 1e-3)
    return bool(abs(np.log(blue / red / expected)) > 0.6)


def _shifted(
    bands: dict[str, NDArray[np.float32]],
    usual: dict[str, tuple[float, float, float]],
    known: list[str],
) -> bool:
    """Return whether every band's darkest pixels are about 0.1 above what is usual."""
    return all(float(np.quantile(bands[name], 0.01)) - usual[name][0] > 0.06 for name in known)
