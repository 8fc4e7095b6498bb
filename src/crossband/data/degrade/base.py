"""The base of degradations, masks of their results, and JPEG compression."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from crossband.core.registry import Registered, build
from crossband.errors import RecipeError

#: `Name` or `Name(key=number, key=number)`, and one of these numbers.
CALL = re.compile(r"\s*(\w+)\s*(?:\((.*)\))?\s*")
NUMBER = re.compile(r"\s*(\w+)\s*=\s*([-+.\deE]+)\s*")


class Degradation(Registered, family="Degradation", package="crossband.data.degrade"):
    """Base of all degradations: from a fine image to the image of a coarser sensor.

    Attributes:
        margin: coarse pixels around a crop that are needed for its result to equal the same part of
            the whole image.
        random: whether it draws from `rng`; equal generators give equal results.
    """

    margin: int = 0
    random: bool = False

    def __call__(self, x: Tensor, scale: int, rng: np.random.Generator) -> Tensor:
        """Degrade an image.

        Args:
            x: floats [C, H * scale, W * scale] in physical units; masked pixels must be filled.
            scale: fine pixels per coarse pixel along one side, at least 1.
            rng: the only source of randomness.

        Returns:
            [C, H, W] of the same type and unit; coarse pixel (0, 0) covers the first `scale` x
            `scale` fine ones.
        """
        raise NotImplementedError


def parse_degradation(text: str) -> Degradation:
    """Return the degradation that a text names, with numbers as arguments in brackets.

    Raises:
        CrossbandError: another form, no such degradation, or arguments that it does not take.

    >>> parse_degradation("SensorMTF(mtf=0.3, noise=0.001)").noise
    (0.001, 0.001)
    """
    called = CALL.fullmatch(text)
    cells = (called[2] or "").split(",") if called else []
    pairs = [NUMBER.fullmatch(cell) for cell in cells if cell.strip()]
    if called is None or None in pairs:
        raise RecipeError(
            f"{text!r:.80} names no degradation: expected as in SensorMTF(mtf=0.2, noise=0.001)"
        )
    arguments: dict[str, float] = {}
    for pair in pairs:
        assert pair is not None
        try:
            arguments[pair[1]] = int(pair[2]) if pair[2].isdigit() else float(pair[2])
        except ValueError:
            raise RecipeError(f"{text!r:.80}: {pair[2]} is no number") from None
    return build(Degradation, called[1], arguments)


def check_shape(x: Tensor, scale: int) -> None:
    """Raise RecipeError for any input but floats [C, H * scale, W * scale]."""
    if scale < 1 or x.dim() != 3 or not x.is_floating_point():
        raise RecipeError(
            f"a degradation takes floats [C, H, W] and a scale of at least 1, not {x.dtype} "
            f"{list(x.shape)} and {scale}"
        )
    if x.shape[-2] % scale or x.shape[-1] % scale:
        raise RecipeError(
            f"{x.shape[-2]} x {x.shape[-1]} pixels do not divide by the scale {scale}: crop first"
        )


def coarse_mask(mask: Tensor, scale: int, reach: int = 0) -> Tensor:
    """Return which coarse pixels are valid: those whose fine pixels are all valid.

    Args:
        mask: bool [1, H * scale, W * scale], True where valid.
        scale: fine pixels per coarse pixel along one side.
        reach: that many fine pixels around the footprint must be valid too; pixels beyond the
            image count as valid.

    Returns:
        bool [1, H, W].
    """
    invalid = (~mask).float()[None]
    # max_pool2d pads by half a window at most, less than `reach` at scale 1: pad before.
    invalid = functional.pad(invalid, (reach,) * 4)
    return functional.max_pool2d(invalid, scale + 2 * reach, scale)[0] == 0


def interval(
    owner: str, name: str, value: float | Sequence[float], low: float, high: float
) -> tuple[float, float]:
    """Return a number or a range as (first, last), both within low..high; else RecipeError."""
    ends = [value] * 2 if isinstance(value, int | float) else list(value)
    if len(ends) != 2 or not low <= ends[0] <= ends[1] <= high:
        raise RecipeError(
            f"{owner}: {name} {value} is neither a number nor a range within {low:g}..{high:g}"
        )
    return float(ends[0]), float(ends[1])


def jpeg(x: Tensor, quality: int) -> Tensor:
    """Encode and decode as 8-bit JPEG, values clipped to 0..1.

    JPEG stores 8-bit pictures, not physical quantities, so this is for unit `display`.

    Args:
        x: floats [1, H, W] or [3, H, W] (red, green, blue).
        quality: of libjpeg, 1 to 100; colour is stored at half resolution.

    Raises:
        RecipeError: neither one nor three bands.
    """
    if x.shape[0] not in (1, 3):
        raise RecipeError(f"JPEG holds one band or three, not {x.shape[0]}: set jpeg to null")
    stored = (x.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    picture = Image.fromarray(stored[0] if len(stored) == 1 else stored.transpose(1, 2, 0).copy())
    with io.BytesIO() as buffer:
        picture.save(buffer, "JPEG", quality=quality)
        decoded = np.array(Image.open(buffer), dtype=np.float32) / 255
    bands = decoded[None] if decoded.ndim == 2 else decoded.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(bands)).to(x.device, x.dtype)
