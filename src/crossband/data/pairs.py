"""Samples: random crops for training, fixed windows for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from crossband.data.reader import PairReader, Pixels
from crossband.data.transforms import SPATIAL, Sample, Transform
from crossband.errors import ManifestError, RecipeError, nearest
from crossband.networks.base import centre
from crossband.raster.grid import Box, Grid

#: Positions tried in one scene to find a crop with enough valid pixels; then the best one is used.
TRIES = 20


@dataclass(frozen=True)
class Balance:
    """Which row is drawn at which position: balanced over columns, dealt like cards.

    A value of the first column is chosen, then of the second, ..., then a row; every value of a
    column is equally likely, however many rows it has, or in proportion to the mean `weight` of
    its rows. Positions are dealt in rounds of `strata`: within a round every group comes about as
    often as it should, which makes batches alike.

    Attributes:
        edges: cumulative probability of the rows, in the order of `rows`.
        rows: row numbers, branch by branch.
        strata: positions of a round.
    """

    edges: NDArray[np.float64]
    rows: NDArray[np.int64]
    strata: int

    @classmethod
    def of(cls, table: pd.DataFrame, columns: Sequence[str]) -> Balance:
        """Build from a table with a column `weight`, for columns from the outermost in."""
        for column in columns:
            if column not in table.columns:
                known = [*map(str, table.columns)]
                raise ManifestError(
                    f"balance: the manifest has no column {column!r}: {nearest(column, known)}"
                )
        plain = table.reset_index(drop=True)
        plain = plain[plain["weight"] > 0]
        if plain.empty:
            raise ManifestError("every row of the manifest has weight 0")
        leaves = _leaves(plain, list(columns), 1.0)
        shares = [weight * part["weight"] / part["weight"].sum() for weight, part in leaves]
        rows = np.concatenate([part.index.to_numpy() for _, part in leaves])
        return cls(np.cumsum(np.concatenate(shares)), rows, min(len(leaves), 1024))

    def draw(self, seed: int, position: int) -> int:
        """Return the row at a position."""
        turn, place = divmod(position, self.strata)
        order = np.random.default_rng([seed, turn, 1]).permutation(self.strata)
        within = np.random.default_rng([seed, position, 2]).random()
        share = (order[place] + within) / self.strata * self.edges[-1]
        at = int(np.searchsorted(self.edges, share, side="right"))
        return int(self.rows[min(at, len(self.rows) - 1)])


def _leaves(
    table: pd.DataFrame, columns: list[str], share: float
) -> list[tuple[float, pd.DataFrame]]:
    """Split a table by columns; each part with its probability."""
    if not columns:
        return [(share, table)]
    keys = table[columns[0]].astype(object).where(table[columns[0]].notna(), "").astype(str)
    parts = [part for _, part in table.groupby(keys, sort=True)]
    weights = [float(part["weight"].mean()) for part in parts]
    out = []
    for part, weight in zip(parts, weights, strict=True):
        out += _leaves(part, columns[1:], share * weight / sum(weights))
    return out


class PairDataset(Dataset[Sample]):
    """Random crops; a sample is a pure function of (seed, position).

    Args:
        reader: where the pixels come from.
        table: the rows of the reader, for balance and weights.
        crop: side of the square crop, in source pixels.
        context: source pixels around the crop that come with it; the target has none. They are 0
            and invalid beyond the edge of the scene.
        seed: see above.
        balance: columns to balance over, outermost first; see `Balance`.
        transforms: applied in this order.
        resolution: range of a random factor by which a crop is made coarser (1..3: up to three
            times); below 1 it is made finer. Drawn log-uniform, bounded by the scene's size.
        resolution_probability: how often that is done.
        mix: how often a crop is mixed with a second one of the same unit, 50 to 100% of the first:
            values of coarse pixels are such sums. Valid is what is valid in both.
        min_valid: share of valid pixels that a crop should have.
        pixels: take the loss at this many valid pixels of a crop, drawn at random; 0 takes all.
        paired: False takes the target from another crop, of a row of the same unit: what unpaired
            training sees. The sample then has `source_mask` too.
    """

    def __init__(
        self,
        reader: PairReader,
        table: pd.DataFrame,
        *,
        crop: int,
        context: int = 0,
        seed: int = 0,
        balance: Sequence[str] = ("group",),
        transforms: Sequence[Transform] = (),
        resolution: tuple[float, float] = (1.0, 1.0),
        resolution_probability: float = 0.5,
        mix: float = 0.0,
        min_valid: float = 0.3,
        pixels: int = 0,
        paired: bool = True,
    ) -> None:
        low, high = resolution
        if crop < 1 or not 0 < low <= high:
            raise RecipeError("data needs crop of at least 1 and resolution (low, high), 0 < low")
        if context < 0 or (context and (mix or not paired)):
            raise RecipeError("data.context must not be negative, and excludes mix and unpaired")
        self.reader, self.crop, self.context, self.seed = reader, crop, context, seed
        self.balance = Balance.of(table, balance)
        self.transforms, self.pixels = list(transforms), pixels
        self.resolution, self.probability = (low, high), resolution_probability
        self.mix, self.min_valid, self.paired = mix, min_valid, paired

    def __getitem__(self, position: int) -> Sample:
        """Return the sample at a position, any integer >= 0."""
        rng = np.random.default_rng([self.seed, position])
        sample = self._crop(self.balance.draw(self.seed, position), position, rng)
        if rng.random() < self.mix:
            other = self._crop(self.balance.draw(self.seed + 1, position), position, rng)
            if other["unit"] == sample["unit"]:
                sample = _mixed(sample, other, float(rng.uniform(0.5, 1.0)))
        if not self.paired:
            sample = _unpaired(_filled(sample), self._other(sample, position, rng))
        edge = self.context * self.reader.scale
        for key in ("target", "mask"):
            sample[key] = centre(sample[key], edge)
        if self.pixels:
            sample["mask"] = _thinned(sample["mask"], self.pixels, rng)
        return _filled(sample)

    def _other(self, sample: Sample, position: int, rng: np.random.Generator) -> Sample:
        """Cut a crop for the target: any row's, of the unit of the source."""
        for attempt in range(TRIES):
            # A deal of its own: the row does not depend on the source's.
            row = self.balance.draw(self.seed + 2 + attempt, position)
            if self.reader.facts(row)[1] == sample["unit"]:
                return self._crop(row, position, rng)
        return self._crop(self.balance.draw(self.seed, position), position, rng)

    def _crop(self, index: int, position: int, rng: np.random.Generator) -> Sample:
        """Cut and augment a crop of a row."""
        grid, unit = self.reader.facts(index)
        size = self._size(grid, rng)
        box, pixels = self._place(index, grid, size, rng)
        scale = self.reader.scale
        edge = round(self.context * size / self.crop)
        sample = (
            self._around(index, grid, box, size, edge) if edge else _sample(pixels, size, scale)
        )
        if size != self.crop:
            sample = _resample(sample, self.crop + 2 * self.context, scale)
        row = self.reader.rows[index]
        sample |= where(row, grid, box, size / self.crop)
        sample |= {"unit": unit, "row": int(row["row"]), "name": str(row["source"])}
        sample["position"] = position
        for transform in self.transforms:
            sample = transform(sample, rng)
        return sample

    def _around(self, index: int, grid: Grid, box: Box, size: int, edge: int) -> Sample:
        """Cut a crop of a side with so many pixels around it, padded beyond the scene."""
        top, left = box.row - edge, box.col - edge
        bottom, right = box.row + size + edge, box.col + size + edge
        inside = Box(max(top, 0), max(left, 0), 0, 0)
        height = min(bottom, grid.height) - inside.row
        width = min(right, grid.width) - inside.col
        pixels = self.reader.read(index, Box(inside.row, inside.col, height, width))
        sample = _sample(pixels, 0, self.reader.scale)
        pad = [inside.col - left, right - inside.col - width]
        pad += [inside.row - top, bottom - inside.row - height]
        for key in SPATIAL:
            scale = self.reader.scale if key in ("target", "mask") else 1
            sample[key] = functional.pad(sample[key], [n * scale for n in pad])
        return sample

    def _size(self, grid: Grid, rng: np.random.Generator) -> int:
        """Draw the side, in scene pixels, of what becomes a crop."""
        chance, share = rng.random(2)
        low, high = self.resolution
        # A scene smaller than the crop is padded; it is not enlarged to fit.
        high = min(high, max(min(grid.height, grid.width) / self.crop, 1.0))
        low = min(low, high)
        if chance >= self.probability:
            return self.crop
        factor = float(np.exp(np.log(low) + share * (np.log(high) - np.log(low))))
        return max(round(self.crop * factor), 1)

    def _place(
        self, index: int, grid: Grid, size: int, rng: np.random.Generator
    ) -> tuple[Box, Pixels]:
        """Find a window with enough valid pixels; the best of a few where there is none."""
        height, width = min(size, grid.height), min(size, grid.width)
        best: tuple[float, Box, Pixels] | None = None
        for _ in range(TRIES):
            row = int(rng.integers(grid.height - height + 1))
            col = int(rng.integers(grid.width - width + 1))
            box = Box(row, col, height, width)
            pixels = self.reader.read(index, box)
            share = float(pixels.mask.mean())
            if best is None or share > best[0]:
                best = (share, box, pixels)
            if share >= self.min_valid or (height, width) == (grid.height, grid.width):
                break
        assert best is not None  # TRIES > 0
        return best[1], best[2]


class WindowDataset(Dataset[Sample]):
    """Fixed windows of whole scenes, without augmentation, for validation.

    A sample has also `group`, `row` and `window`, its number. Sizes differ, so that a batch holds
    one window.

    Args:
        reader: where the pixels come from.
        tile: largest side of a window, in source pixels.
        per_pair: most windows of a pair, spread evenly over those that cover it.
    """

    def __init__(self, reader: PairReader, tile: int = 512, per_pair: int = 4) -> None:
        self.reader = reader
        self.windows: list[tuple[int, Box]] = []
        for index in range(len(reader.rows)):
            grid, _ = reader.facts(index)
            boxes = [
                Box(row, col, min(tile, grid.height - row), min(tile, grid.width - col))
                for row in range(0, grid.height, tile)
                for col in range(0, grid.width, tile)
            ]
            chosen = np.linspace(0, len(boxes) - 1, min(per_pair, len(boxes))).round().astype(int)
            self.windows += [(index, boxes[i]) for i in chosen]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, number: int) -> Sample:
        """Return a window."""
        index, box = self.windows[number]
        grid, unit = self.reader.facts(index)
        row = self.reader.rows[index]
        sample = _sample(self.reader.read(index, box), 0, self.reader.scale)
        sample |= where(row, grid, box, 1.0)
        sample |= {"unit": unit, "group": str(row["group"]), "row": int(row["row"])}
        sample["window"] = number
        return _filled(sample)


def where(row: dict[str, Any], grid: Grid, box: Box, coarser: float) -> dict[str, Tensor]:
    """Return `lonlat` [2] in degrees and `gsd` in metres; the manifest's word wins, else NaN."""
    lonlat = (row["lon"], row["lat"])
    if not np.isfinite(lonlat).all():
        lonlat = grid.crop(box).lonlat()
    gsd = row["gsd"] if np.isfinite(row["gsd"]) else grid.pixel_size()
    return {
        "lonlat": torch.tensor(lonlat, dtype=torch.float32),
        "gsd": torch.tensor(gsd * coarser, dtype=torch.float32),
    }


def _sample(pixels: Pixels, size: int, scale: int) -> Sample:
    """Make tensors, padded on the bottom and the right to `size` (never resized)."""
    sample: Sample = {
        "source": torch.from_numpy(np.ascontiguousarray(pixels.source)),
        "target": torch.from_numpy(np.ascontiguousarray(pixels.target)),
        "mask": torch.from_numpy(np.ascontiguousarray(pixels.mask))[None],
        "source_mask": torch.from_numpy(np.ascontiguousarray(pixels.source_mask))[None],
    }
    for key in SPATIAL:
        x: Tensor = sample[key]
        side = size * (scale if key in ("target", "mask") else 1)
        down, right = max(side - x.shape[-2], 0), max(side - x.shape[-1], 0)
        if down or right:
            sample[key] = functional.pad(x, (0, right, 0, down))
    return sample


def _resample(sample: Sample, crop: int, scale: int) -> Sample:
    """Change the resolution: bilinear, anti-aliased; valid is what only valid pixels made up."""
    out = dict(sample)
    for key, mask, side in (("source", "source_mask", crop), ("target", "mask", crop * scale)):
        both = torch.cat([sample[key], sample[mask].float()])[None]
        both = functional.interpolate(
            both, (side, side), mode="bilinear", align_corners=False, antialias=True
        )[0]
        out[key], out[mask] = both[:-1], both[-1:] > 0.999
    return out


def _mixed(one: Sample, other: Sample, share: float) -> Sample:
    """Return `share` of one sample and the rest of another."""
    out = dict(one)
    for key in ("source", "target"):
        out[key] = share * one[key] + (1.0 - share) * other[key]
    for key in ("mask", "source_mask"):
        out[key] = one[key] & other[key]
    return out


def _thinned(mask: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Keep some valid pixels of a mask, drawn at random."""
    known = np.flatnonzero(mask.numpy())
    kept = np.zeros(mask.numel(), bool)
    kept[rng.choice(known, min(count, len(known)), replace=False)] = True
    return torch.from_numpy(kept).view(mask.shape)


def _unpaired(one: Sample, other: Sample) -> Sample:
    """Return the source of one sample with the target of another."""
    return one | {key: other[key] for key in ("target", "mask")}


def _filled(sample: Sample) -> Sample:
    """Fill what is masked with 0, as `Scene.read` does."""
    known = sample["source_mask"] = sample["source_mask"].contiguous()
    sample["source"] = sample["source"].masked_fill(~known, 0.0).contiguous()
    sample["target"] = sample["target"].masked_fill(~sample["mask"], 0.0).contiguous()
    sample["mask"] = sample["mask"].contiguous()
    return sample
