"""Pictures of a pair as layers of one size, to be swiped over each other on a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from crossband.evaluation.report.pictures import stretch
from crossband.metrics import index_values, usable_indices
from crossband.raster.grid import Window

#: Longest side of a layer in pixels; larger pairs are averaged down by a whole number.
SIDE = 640
RGB = ("red", "green", "blue")
#: Masked pixels, as in the other pictures.
MASKED = (217, 220, 225)

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Pair:
    """What a page keeps of a pair until its layers are drawn; small whatever the pair was.

    Attributes:
        source, target, output: physical values [C, h, w] on the target's grid, float32.
        mask: bool [h, w]; True where source and target are valid.
        bands: of source and target.
        unit: of the target.
        index: name, true and synthetic index and where it is defined; None without one.
    """

    source: Array
    target: Array
    output: Array
    mask: NDArray[np.bool_]
    bands: tuple[tuple[str, ...], tuple[str, ...]]
    unit: str
    index: tuple[str, Array, Array, NDArray[np.bool_]] | None

    @classmethod
    def of(cls, source: Window, target: Window, output: Window, index: str | None) -> Pair:
        """Keep a pair; the target's mask says which pixels count."""
        finer = target.grid.height // source.grid.height
        seen = source.mask.repeat(finer, axis=0).repeat(finer, axis=1)
        mask = target.mask & seen
        wide = source.values.repeat(finer, axis=1).repeat(finer, axis=2)
        step = -(-max(mask.shape) // SIDE)
        found = None
        same = finer == 1 and source.unit == target.unit
        if index is not None and usable_indices(
            [index], source.bands, target.bands, unit=target.unit, same_pixels=same
        ):
            beside = dict(zip(source.bands, source.values, strict=True)) if same else {}
            true, made = (
                index_values(index, beside | dict(zip(w.bands, w.values, strict=True)), target.unit)
                for w in (target, output)
            )
            defined = mask & true[1]
            found = (
                index,
                _smaller(true[0][None], defined, step)[0],
                _smaller(made[0][None], defined, step)[0],
                _share(defined, step) > 0,
            )
        values = np.where(output.mask, output.values, np.float32("nan"))
        return cls(
            _smaller(wide, seen, step),
            _smaller(target.values, mask, step),
            _smaller(values, mask, step),
            _share(mask, step) > 0,
            (source.bands, target.bands),
            target.unit,
            found,
        )

    @property
    def error(self) -> Array:
        """Absolute error, mean over bands: [h, w]; NaN where the output is not finite."""
        return np.asarray(np.abs(self.output.astype(np.float64) - self.target).mean(axis=0))


def _share(mask: NDArray[np.bool_], step: int) -> Array:
    """Return the share of valid pixels in blocks of `step` x `step`; the rest is cut off."""
    h, w = (max(n // step, 1) * step for n in mask.shape)
    cut = mask[:h, :w]
    if step == 1:
        return cut.astype(np.float32)
    return np.asarray(
        cut.reshape(h // step, step, w // step, step).mean(axis=(1, 3), dtype=np.float32)
    )


def _smaller(values: Array, mask: NDArray[np.bool_], step: int) -> Array:
    """Return the mean of the valid values of each block, 0 where there are none."""
    filled = np.where(mask, values, np.float32(0)).astype(np.float32)
    if step == 1:
        return filled
    c, h, w = values.shape[0], *((n // step) * step for n in mask.shape)
    sums = filled[:, :h, :w].reshape(c, h // step, step, w // step, step).mean(axis=(2, 4))
    return np.asarray(sums / np.maximum(_share(mask, step), 1e-9))


def top_error(pairs: list[Pair]) -> float:
    """Return the end of the one colour scale of errors: the largest 99th percentile of a pair."""
    tops = []
    for pair in pairs:
        error = pair.error[pair.mask]
        finite = error[np.isfinite(error)]
        if finite.size:
            tops.append(float(np.percentile(finite, 99.0)))
    return max([*tops, 1e-6])


def layers(pair: Pair, top: float) -> list[dict[str, str]]:
    """Return the layers of a pair: `key`, `label`, `uri` (WebP as data).

    Source with a stretch of its own; target and output with one; the error from 0 to `top`; the
    index of both from its own 2nd to its 98th percentile, and its error from 0 to half of that.
    """
    own, two = pair.bands
    out = [
        _layer("source", f"source ({_shown(own)})", _coloured(pair.source, own, pair.mask)),
    ]
    limits = _limits(pair.target, two, pair.mask)
    for key, values in (("target", pair.target), ("output", pair.output)):
        picture = _coloured(values, two, pair.mask, limits)
        out.append(_layer(key, f"{key} ({_shown(two)})", picture))
    out.append(_layer("error", "absolute error", _mapped(pair.error, pair.mask, 0, top, "inferno")))
    if pair.index is not None:
        name, true, made, defined = pair.index
        low, high = stretch(true[defined])
        out += [
            _layer(f"true {name}", f"true {name}", _mapped(true, defined, low, high, "YlGn")),
            _layer(f"{name}", f"synthetic {name}", _mapped(made, defined, low, high, "YlGn")),
            _layer(
                f"{name} error",
                f"error of {name}",
                _mapped(np.abs(made - true), defined, 0, (high - low) / 2, "inferno"),
            ),
        ]
    return out


def residual(pair: Pair, top: float) -> str:
    """Return the signed error of a whole pair as WebP data: blue too low, red too high."""
    error = (pair.output.astype(np.float64) - pair.target).mean(axis=0)
    return picture_uri(_mapped(error, pair.mask, -top, top, "RdBu_r"))


def _shown(bands: tuple[str, ...]) -> str:
    return ", ".join(RGB) if set(RGB) <= set(bands) else bands[0]


def _picked(values: Array, bands: tuple[str, ...]) -> Array:
    names = RGB if set(RGB) <= set(bands) else bands[:1] * 3
    return values[[bands.index(n) for n in names]]


def _limits(values: Array, bands: tuple[str, ...], mask: NDArray[np.bool_]) -> tuple[float, float]:
    return stretch(_picked(values, bands)[:, mask])


def _coloured(
    values: Array,
    bands: tuple[str, ...],
    mask: NDArray[np.bool_],
    limits: tuple[float, float] | None = None,
) -> NDArray[np.uint8]:
    low, high = limits or _limits(values, bands, mask)
    picked = np.clip((_picked(values, bands).astype(np.float64) - low) / (high - low), 0, 1)
    picture = (np.nan_to_num(picked) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    picture[~mask | ~np.isfinite(picked).all(axis=0)] = MASKED
    return picture


def _mapped(
    values: Array, shown: NDArray[np.bool_], low: float, high: float, colours: str
) -> NDArray[np.uint8]:
    share = np.clip((values.astype(np.float64) - low) / max(high - low, 1e-9), 0, 1)
    picture = (colormaps[colours](np.nan_to_num(share))[..., :3] * 255).round().astype(np.uint8)
    picture[~shown | ~np.isfinite(values)] = MASKED
    return np.asarray(picture)


def _layer(key: str, label: str, picture: NDArray[np.uint8]) -> dict[str, str]:
    return {"key": key, "label": label, "uri": picture_uri(picture)}


def picture_uri(picture: NDArray[np.uint8]) -> str:
    """Return a picture [h, w, 3] as WebP data."""
    memory = io.BytesIO()
    Image.fromarray(picture).save(memory, "WEBP", quality=86)
    return f"data:image/webp;base64,{base64.b64encode(memory.getvalue()).decode()}"
