"""Samples: random crops for training, fixed windows for validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from crossband.core.signature import Signature
from crossband.data.balance import build_balances
from crossband.data.made_guide import MadeGuide
from crossband.data.reader import PairReader, Pixels, Then, name_of, resize_masked
from crossband.data.transforms import SPATIAL, Sample, Transform
from crossband.errors import ManifestError, RecipeError, UnreadableError
from crossband.networks.base import crop_border
from crossband.raster.grid import Box, Grid

#: Positions that are tried in a scene to find a crop with enough valid pixels. If none has, the
#: best one is used.
TRIES = 20
OnError = Literal["raise", "skip"]


class PairDataset(Dataset[Sample]):
    """Random crops; a sample is a pure function of (seed, position).

    Args:
        reader: where the pixels come from.
        table: the rows of the reader, for balance and weights.
        crop: side of the square crop, in source pixels.
        context: source pixels around the crop that the source includes and the target does not.
            Beyond the edge of the scene they are 0 and invalid.
        seed: see above.
        balance: columns to balance over, outermost first; see `Balance`.
        transforms: applied in this order.
        resolution: range of a random factor by which a crop is made coarser (1..3: up to three
            times); below 1 it is made finer. Drawn log-uniform, bounded by the scene's size.
        gsd: the same as a range of pixel sizes in metres, never finer than the scene's.
        resolution_probability: share of the crops that this is done to.
        mix: share of the crops that are averaged with a second one of the same unit, with a weight
            of 50 to 100% for the first, as coarse pixels average. Valid pixels are valid in both.
        min_valid: share of valid pixels that a crop should have.
        pixels: compute the loss at this many random valid pixels of a crop; 0 means all.
        guide: makes the guides of a network that takes one.
        on_error: `skip` draws another row if a file cannot be read, and lists the error in the
            sample under `skipped`; `raise` raises UnreadableError.

    Source and target of a sample show one place, unless the reader is unpaired: then the target is
    a crop of another row, of the unit that the source needs.
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
        gsd: tuple[float, float] | None = None,
        resolution_probability: float = 0.5,
        mix: float = 0.0,
        min_valid: float = 0.3,
        pixels: int = 0,
        guide: MadeGuide | None = None,
        on_error: OnError = "raise",
    ) -> None:
        for name, (low, high) in (("resolution", resolution), ("gsd", gsd or (1.0, 1.0))):
            if not 0 < low <= high:
                raise RecipeError(f"data.{name} must be (low, high) with 0 < low <= high")
        if crop < 1:
            raise RecipeError(f"data.crop must be at least 1, not {crop}")
        if gsd is not None and resolution != (1.0, 1.0):
            raise RecipeError("data takes resolution or gsd, not both")
        if context < 0 or (context and (mix or not reader.paired)):
            raise RecipeError("data.context must not be negative, and excludes mix and unpaired")
        self.reader, self.crop, self.context, self.seed = reader, crop, context, seed
        self.balance, self.targets = build_balances(table, balance, paired=reader.paired)
        self.transforms, self.pixels = list(transforms), pixels
        self.resolution, self.gsd, self.probability = resolution, gsd, resolution_probability
        self.mix, self.min_valid, self.on_error = mix, min_valid, on_error
        self.guide = checked_guide(guide, reader)
        if guide is not None and mix:
            raise RecipeError("data.guide excludes data.mix")

    def __getitem__(self, position: int) -> Sample:
        """Return the sample at a position, any integer >= 0.

        Raises:
            UnreadableError: a file cannot be read, and `on_error` is `raise`, or none of `TRIES`
                rows can be read.
        """
        skipped: list[str] = []
        for attempt in range(TRIES):
            try:
                return self._sample(position, attempt) | {"skipped": "\n".join(skipped)}
            except UnreadableError as error:
                if self.on_error == "raise" or attempt == TRIES - 1:
                    raise
                skipped.append(str(error))
        raise AssertionError  # the last attempt returns or raises

    def _sample(self, position: int, attempt: int) -> Sample:
        rng = np.random.default_rng([self.seed, position, *([attempt] if attempt else [])])
        row = self.balance.draw(self.seed, position, attempt)
        sample = self._crop(row, position, rng)
        if rng.random() < self.mix:
            row = self.balance.draw(self.seed + 1, position, attempt)
            other = self._crop(row, position, rng)
            if other["unit"] == sample["unit"]:
                sample = _mixed(sample, other, float(rng.uniform(0.5, 1.0)))
        if not self.reader.paired:
            sample = _unpaired(_filled(sample), self._other(sample, position, attempt, rng))
        edge = self.context * self.reader.scale
        for key in ("target", "mask"):
            sample[key] = crop_border(sample[key], edge)
        if self.pixels:
            sample["mask"] = _thinned(sample["mask"], self.pixels, rng)
        return _filled(sample)

    def _other(
        self, sample: Sample, position: int, attempt: int, rng: np.random.Generator
    ) -> Sample:
        """Cut a crop for an unpaired target: of any row with the unit that the source needs."""
        wanted = self.reader.signature.target_unit(sample["unit"])
        for shift in range(TRIES):
            # Another seed: the row does not depend on the source's.
            row = self.targets.draw(self.seed + 2 + shift, position, attempt)
            if self.reader.info(row).target_unit == wanted:
                return self._crop(row, position, rng)
        raise ManifestError(
            f"no target in {wanted} was found for a source in {sample['unit']}, in {TRIES} draws"
        )

    def _crop(self, index: int, position: int, rng: np.random.Generator) -> Sample:
        """Cut and augment a crop of a row."""
        info = self.reader.info(index)
        grid = info.grid
        size = self._size(index, grid, rng)
        box, pixels = self._place(index, grid, size, rng)
        scale = self.reader.scale
        edge = round(self.context * size / self.crop)
        then = None
        if self.guide is not None and rng.random() < self.guide.other_dates:
            then = self.reader.read_then(index, box)
        if edge:
            sample = self._around(index, grid, box, size, edge, rng)
        else:
            sample = _sample(pixels, size, scale, then)
        if size != self.crop:
            sample = _resample(sample, self.crop + 2 * self.context, scale)
        row = self.reader.rows[index]
        sample |= location_of(row, grid, box, size / self.crop)
        name = row["source"] if pd.notna(row["source"]) else row["target"]
        sample |= {"unit": info.unit, "row": int(row["row"]), "name": str(name)}
        sample["position"] = position
        for transform in self.transforms:
            sample = transform(sample, rng)
        if self.guide is not None:
            sample = _guided(sample, self.guide, self.reader.signature, rng, size / self.crop)
        return sample

    def _around(
        self, index: int, grid: Grid, box: Box, size: int, edge: int, rng: np.random.Generator
    ) -> Sample:
        """Cut a crop with `edge` pixels around it, padded beyond the scene."""
        wanted = Box(box.row, box.col, size, size)
        inside = wanted.expanded(edge, grid.box)
        sample = _sample(self.reader.read(index, inside, rng), 0, self.reader.scale)
        top, left = box.row - edge, box.col - edge
        bottom, right = box.row + size + edge, box.col + size + edge
        pad = [inside.col - left, right - inside.col - inside.width]
        pad += [inside.row - top, bottom - inside.row - inside.height]
        for key in SPATIAL[:4]:
            scale = self.reader.scale if key in ("target", "mask") else 1
            sample[key] = functional.pad(sample[key], [n * scale for n in pad])
        return sample

    def _size(self, index: int, grid: Grid, rng: np.random.Generator) -> int:
        """Draw the side of a crop in pixels of the scene, before it is resampled."""
        chance, share = rng.random(2)
        low, high = self.resolution
        if self.gsd is not None:
            own = pixel_size_of(self.reader.rows[index], grid)
            if not np.isfinite(own):
                raise ManifestError(
                    f"{name_of(self.reader.rows[index])}: data.gsd needs the pixel's size, which "
                    f"neither the file nor a column gsd says"
                )
            low, high = (max(bound / own, 1.0) for bound in self.gsd)  # never finer than it is
        # A scene smaller than the crop is padded, not enlarged.
        high = min(high, max(min(grid.height, grid.width) / self.crop, 1.0))
        low = min(low, high)
        if chance >= self.probability:
            return self.crop
        factor = float(np.exp(np.log(low) + share * (np.log(high) - np.log(low))))
        return max(round(self.crop * factor), 1)

    def _place(
        self, index: int, grid: Grid, size: int, rng: np.random.Generator
    ) -> tuple[Box, Pixels]:
        """Find a window with enough valid pixels, or the best of `TRIES` windows."""
        height, width = min(size, grid.height), min(size, grid.width)
        best: tuple[float, Box, Pixels] | None = None
        for _ in range(TRIES):
            row = int(rng.integers(grid.height - height + 1))
            col = int(rng.integers(grid.width - width + 1))
            box = Box(row, col, height, width)
            pixels = self.reader.read(index, box, rng)
            share = float(pixels.mask.mean())
            if best is None or share > best[0]:
                best = (share, box, pixels)
            if share >= self.min_valid or (height, width) == (grid.height, grid.width):
                break
        assert best is not None  # TRIES > 0
        return best[1], best[2]


class WindowDataset(Dataset[Sample]):
    """Fixed windows of whole scenes, without augmentation, for validation.

    A sample also has `group`, `row` and `window`, its number. Sizes differ, so a batch holds one
    window.

    Args:
        reader: where the pixels come from.
        tile: largest side of a window, in source pixels.
        per_pair: largest number of windows of a pair, evenly spread.
        on_error: `skip` leaves out files that cannot be opened, and masks windows that cannot be
            read.
        guide: makes the guides of a network that takes one; that of a window is always the same.
    """

    def __init__(
        self,
        reader: PairReader,
        tile: int = 512,
        per_pair: int = 4,
        on_error: OnError = "raise",
        guide: MadeGuide | None = None,
    ) -> None:
        self.reader, self.on_error = reader, on_error
        self.guide = checked_guide(guide, reader)
        self.windows: list[tuple[int, Box]] = []
        for index in range(len(reader.rows)):
            try:
                grid = reader.info(index).grid
            except UnreadableError:
                if on_error == "raise":
                    raise
                continue
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
        info = self.reader.info(index)
        row = self.reader.rows[index]
        rng = np.random.default_rng([index, box.row, box.col, 1])
        then = None
        if self.guide is not None and rng.random() < self.guide.other_dates:
            then = self._then(index, box)
        sample = _sample(self._read(index, box), 0, self.reader.scale, then)
        if self.guide is not None:
            sample = _guided(sample, self.guide, self.reader.signature, rng, 1.0)
        sample |= location_of(row, info.grid, box, 1.0)
        sample |= {"unit": info.unit, "group": str(row["group"]), "row": int(row["row"])}
        sample["window"] = number
        return _filled(sample)

    def _then(self, index: int, box: Box) -> Then | None:
        try:
            return self.reader.read_then(index, box)
        except UnreadableError:
            if self.on_error == "raise":
                raise
        return None

    def _read(self, index: int, box: Box) -> Pixels:
        # Its own generator: a random degradation is the same in every validation.
        rng = np.random.default_rng([index, box.row, box.col])
        try:
            return self.reader.read(index, box, rng)
        except UnreadableError:
            if self.on_error == "raise":
                raise
        fine = box.scaled(self.reader.scale)
        bands = self.reader.signature
        return Pixels(
            np.zeros((len(bands.source), box.height, box.width), np.float32),
            np.zeros((len(bands.target), fine.height, fine.width), np.float32),
            np.zeros((box.height, box.width), bool),
            np.zeros((fine.height, fine.width), bool),
        )


def location_of(row: dict[str, Any], grid: Grid, box: Box, coarser: float) -> dict[str, Tensor]:
    """Return `lonlat` [2] in degrees and `gsd` in metres; NaN if unknown.

    The manifest overrides the georeference of the file.
    """
    lonlat = (row["lon"], row["lat"])
    if not np.isfinite(lonlat).all():
        lonlat = grid.crop(box).lonlat()
    return {
        "lonlat": torch.tensor(lonlat, dtype=torch.float32),
        "gsd": torch.tensor(pixel_size_of(row, grid) * coarser, dtype=torch.float32),
    }


def pixel_size_of(row: dict[str, Any], grid: Grid) -> float:
    """Return the side of a pixel in metres; see `location_of`."""
    return float(row["gsd"]) if np.isfinite(row["gsd"]) else grid.pixel_size()


def checked_guide(guide: MadeGuide | None, reader: PairReader) -> MadeGuide | None:
    """Return what makes guides; RecipeError where the signature and the data do not agree on it."""
    bands = reader.signature.guide
    if (guide is not None) != bool(bands):
        raise RecipeError(
            "the signature names guide bands: data.guide says how guides are made"
            if bands
            else "data.guide makes guides, but the signature names no guide bands"
        )
    if guide is not None and (reader.scale != 1 or not reader.paired):
        raise RecipeError("data.guide needs pairs, and data.scale 1")
    return guide


def _guided(
    sample: Sample,
    guide: MadeGuide,
    signature: Signature,
    rng: np.random.Generator,
    coarser: float,
) -> Sample:
    """Add a guide to a sample: of its own pixels, or of those of another date."""
    out = {k: v for k, v in sample.items() if not k.startswith("then")}
    if "then" in sample:
        fine, mask = sample["then"].numpy(), sample["then_mask"][0].numpy()
        made = guide(fine, mask, rng, sample["then_days"], sample["then_ratio"] / coarser)
    else:
        every = torch.cat([sample["target"], sample["source"]]).numpy()
        names = [*signature.target, *signature.source]
        mask = (sample["mask"] & sample["source_mask"])[0].numpy()
        made = guide(every[[names.index(band) for band in signature.guide]], mask, rng)
    out["guide"] = torch.from_numpy(made)
    return out


def _sample(pixels: Pixels, size: int, scale: int, then: Then | None = None) -> Sample:
    """Make tensors, padded on the bottom and the right to `size` (never resized)."""
    sample: Sample = {
        "source": torch.from_numpy(np.ascontiguousarray(pixels.source)),
        "target": torch.from_numpy(np.ascontiguousarray(pixels.target)),
        "mask": torch.from_numpy(np.ascontiguousarray(pixels.mask))[None],
        "source_mask": torch.from_numpy(np.ascontiguousarray(pixels.source_mask))[None],
    }
    if then is not None:
        sample["then"] = torch.from_numpy(np.ascontiguousarray(then.values))
        sample["then_mask"] = torch.from_numpy(np.ascontiguousarray(then.mask))[None]
        sample |= {"then_days": then.days, "then_ratio": then.ratio}
    for key in [key for key in SPATIAL if key in sample]:
        x: Tensor = sample[key]
        side = size * (scale if key in ("target", "mask") else 1)
        down, right = max(side - x.shape[-2], 0), max(side - x.shape[-1], 0)
        if down or right:
            sample[key] = functional.pad(x, (0, right, 0, down))
    return sample


def _resample(sample: Sample, crop: int, scale: int) -> Sample:
    """Change the resolution: bilinear and anti-aliased; see `resize_masked`."""
    out = dict(sample)
    sides = [("source", "source_mask", crop), ("target", "mask", crop * scale)]
    if "then" in sample:
        sides.append(("then", "then_mask", crop))
    for key, mask, side in sides:
        out[key], out[mask] = resize_masked(sample[key], sample[mask], side, side)
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
    for key, mask in (("source", "source_mask"), ("target", "mask")):
        known = sample[mask] = sample[mask].contiguous()
        if known.all():  # as most crops; a copy, since it may be a view of the reader's cache
            sample[key] = sample[key].clone(memory_format=torch.contiguous_format)
        else:
            sample[key] = sample[key].masked_fill(~known, 0.0).contiguous()
    return sample
