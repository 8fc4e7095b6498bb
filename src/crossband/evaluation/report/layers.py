"""Pictures of a pair as layers of the same size, which the page shows one over the other."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from crossband.evaluation.evaluation import allowed_indices, index_maps, scale_of, values_or_nan
from crossband.evaluation.report.pictures import MASKED, shown_bands, stretch
from crossband.raster.grid import Window

#: Longest side of a layer in pixels; larger pairs are averaged over blocks of pixels.
MAX_SIDE = 640

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class PairPreview:
    """A pair, reduced to at most `MAX_SIDE` pixels, from which its layers are drawn.

    Attributes:
        source, target, output: physical values [C, h, w] on the target's grid, float32.
        mask: bool [h, w]; True where source and target are valid.
        bands: bands of source and target.
        unit: unit of the target.
        index: name, true and synthetic index, and where they are defined; None without an index.
        beside: name -> values of other outputs that are shown, too.
        maps: name -> values [h, w] that are shown from 0 to an upper end, and this end.
    """

    source: Array
    target: Array
    output: Array
    mask: NDArray[np.bool_]
    bands: tuple[tuple[str, ...], tuple[str, ...]]
    unit: str
    index: tuple[str, Array, Array, NDArray[np.bool_]] | None
    beside: Mapping[str, Array] = field(default_factory=dict)
    maps: Mapping[str, tuple[Array, float]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        source: Window,
        target: Window,
        output: Window,
        index: str | None,
        beside: Mapping[str, Window] | None = None,
        maps: Mapping[str, tuple[Array, float]] | None = None,
    ) -> PairPreview:
        """Reduce a pair; the mask of the target says which pixels are valid."""
        scale = scale_of(source, target)
        source_mask = source.mask.repeat(scale, axis=0).repeat(scale, axis=1)
        source_values = source.values.repeat(scale, axis=1).repeat(scale, axis=2)
        mask = target.mask & source_mask
        step = -(-max(mask.shape) // MAX_SIDE)
        index_layers = None
        if index is not None and allowed_indices([index], source, target):
            true, synthetic, defined = index_maps(index, source, target, output)
            defined &= mask
            index_layers = (
                index,
                _block_means(true[None], defined, step)[0],
                _block_means(synthetic[None], defined, step)[0],
                _valid_share(defined, step) > 0,
            )
        return cls(
            _block_means(source_values, source_mask, step),
            _block_means(target.values, mask, step),
            _block_means(values_or_nan(output), mask, step),
            _valid_share(mask, step) > 0,
            (source.bands, target.bands),
            target.unit,
            index_layers,
            {
                name: _block_means(values_or_nan(window), mask, step)
                for name, window in (beside or {}).items()
            },
            {
                name: (_block_means(values[None], mask, step)[0], top)
                for name, (values, top) in (maps or {}).items()
            },
        )

    @property
    def error(self) -> Array:
        """Mean over bands of the absolute error, [h, w]; NaN where the output is not finite."""
        return np.asarray(np.abs(self.output.astype(np.float64) - self.target).mean(axis=0))


def _valid_share(mask: NDArray[np.bool_], step: int) -> Array:
    """Return the share of valid pixels in blocks of `step` x `step`; incomplete blocks are cut."""
    h, w = (max(n // step, 1) * step for n in mask.shape)
    cut = mask[:h, :w]
    if step == 1:
        return cut.astype(np.float32)
    return np.asarray(
        cut.reshape(h // step, step, w // step, step).mean(axis=(1, 3), dtype=np.float32)
    )


def _block_means(values: Array, mask: NDArray[np.bool_], step: int) -> Array:
    """Return the mean of the valid values of each block; 0 for a block without any."""
    filled = np.where(mask, values, np.float32(0)).astype(np.float32)
    if step == 1:
        return filled
    c, h, w = values.shape[0], *((n // step) * step for n in mask.shape)
    sums = filled[:, :h, :w].reshape(c, h // step, step, w // step, step).mean(axis=(2, 4))
    return np.asarray(sums / np.maximum(_valid_share(mask, step), 1e-9))


def largest_error(pairs: list[PairPreview]) -> float:
    """Return the upper end of the common error scale: the largest 99th percentile of a pair."""
    tops = []
    for pair in pairs:
        error = pair.error[pair.mask]
        finite = error[np.isfinite(error)]
        if finite.size:
            tops.append(float(np.percentile(finite, 99.0)))
    return max([*tops, 1e-6])


def layers(pair: PairPreview, top: float) -> list[dict[str, str]]:
    """Return the layers of a pair: `key`, `label`, `uri` (WebP data).

    Source, and target with output and what is beside it, are stretched from their 2nd to their 98th
    percentile. The error is shown from 0 to `top`. The index of both is shown from the 2nd to the
    98th percentile of the true one, and its error from 0 to half of that range.
    """
    source_bands, bands = pair.bands
    picture = _coloured(pair.source, source_bands, pair.mask)
    out = [_layer("source", f"source ({_shown(source_bands)})", picture)]
    limits = _limits(pair.target, bands, pair.mask)
    for key, values in (("target", pair.target), ("output", pair.output)):
        picture = _coloured(values, bands, pair.mask, limits)
        out.append(_layer(key, f"{key} ({_shown(bands)})", picture))
    out.append(_layer("error", "absolute error", _mapped(pair.error, pair.mask, 0, top, "inferno")))
    if pair.index is not None:
        name, true, synthetic, defined = pair.index
        low, high = stretch(true[defined])
        out += [
            _layer(f"true {name}", f"true {name}", _mapped(true, defined, low, high, "YlGn")),
            _layer(f"{name}", f"synthetic {name}", _mapped(synthetic, defined, low, high, "YlGn")),
            _layer(
                f"{name} error",
                f"error of {name}",
                _mapped(np.abs(synthetic - true), defined, 0, (high - low) / 2, "inferno"),
            ),
        ]
    for name, values in pair.beside.items():
        picture = _coloured(values, bands, pair.mask, limits)
        out.append(_layer(name, f"{name} ({_shown(bands)})", picture))
    for name, (values, end) in pair.maps.items():
        out.append(_layer(name, name, _mapped(values, pair.mask, 0, end, "viridis")))
    return out


def residual(pair: PairPreview, top: float) -> str:
    """Return the signed error of a pair as WebP data: blue is too low, red too high."""
    error = (pair.output.astype(np.float64) - pair.target).mean(axis=0)
    return picture_uri(_mapped(error, pair.mask, -top, top, "RdBu_r"))


def _shown(bands: tuple[str, ...]) -> str:
    return ", ".join(dict.fromkeys(shown_bands(bands)))


def _picked(values: Array, bands: tuple[str, ...]) -> Array:
    return values[[bands.index(name) for name in shown_bands(bands)]]


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
    """Return a picture, uint8 [h, w, 3], as WebP data."""
    memory = io.BytesIO()
    Image.fromarray(picture).save(memory, "WEBP", quality=86)
    return f"data:image/webp;base64,{base64.b64encode(memory.getvalue()).decode()}"
