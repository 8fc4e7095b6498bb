"""Translate DataArrays: eagerly where they are in memory, lazily where they are in dask chunks.

A lazy result is computed block by block on the scheduler that dask is set to. Its blocks begin on
multiples of the network's stride and are read with the network's margin around them, so that it
equals the result of the whole array at once.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from crossband.core.options import keywords
from crossband.core.warned import warn
from crossband.errors import CrossbandError
from crossband.model import Model, identity
from crossband.model.uncertain import DISSIMILARITY
from crossband.raster.grid import Box, Grid
from crossband.raster.options import ReadOptions
from crossband.translate.conditions import SceneConditions
from crossband.translate.dataarray import ArrayReader, result_array
from crossband.translate.engine import EngineKey
from crossband.translate.engine_cache import shared_engine
from crossband.translate.familiarity import UNFAMILIAR_TAG, counted, known_familiarity
from crossband.translate.options import NO_INTERVALS, IntervalOptions, TileOptions
from crossband.translate.tiles import halo
from crossband.translate.tiling import Tiling
from crossband.translate.uncertain_bands import SureBands
from crossband.translate.uncertain_files import ready_model
from crossband.translate.unit_check import warn_of_unit
from crossband.translate.window import compute_windows, translate_window

if TYPE_CHECKING:
    import dask.array as da

#: Keyword arguments for every array, and those for arrays in memory only.
KEYWORDS = (
    *("bands", "sensor", "scale", "offset", "source_nodata"),
    *("device", "precision", "tile", "seed"),
)
EAGER_KEYWORDS = ("batch", "overlap")
INTERVAL_KEYWORDS = tuple(keywords(IntervalOptions))


def check_keywords(array: xr.DataArray, names: Iterable[str], *, intervals: bool = True) -> None:
    """Raise CrossbandError for keyword arguments that cannot be used with this array.

    Args:
        array: that is translated.
        names: of the arguments.
        intervals: those of `IntervalOptions` are possible.
    """
    if not isinstance(array, xr.DataArray):
        raise CrossbandError(
            f"translate takes a path or a DataArray, not {type(array).__name__}; of a Dataset, "
            f"dataset.to_array('band') makes one"
        )
    lazy = array.chunks is not None
    known = (
        *KEYWORDS,
        *(() if lazy else EAGER_KEYWORDS),
        *(INTERVAL_KEYWORDS if intervals else ()),
    )
    for name in names:
        if name not in known:
            raise CrossbandError(
                f"translating a DataArray{' in chunks' * lazy} takes no {name!r}; it takes "
                f"{', '.join(known)}"
            )


def translate_array(
    model: Model,
    array: xr.DataArray,
    read: ReadOptions = ReadOptions(),
    tile: TileOptions = TileOptions(),
    sure: IntervalOptions = NO_INTERVALS,
    widths: Sequence[str] = (),
) -> xr.DataArray:
    """Translate a DataArray.

    Args:
        model: loaded model.
        array: dimensions y, x and band in any order, and any others, as time; in memory or in dask
            chunks.
        read: bands, sensor, scale, offset and nodata.
        tile: device, precision, tile and seed; for an array in memory also batch and overlap.
        sure: intervals and familiarity, as further bands.
        widths: of these calibrated indices in place of the bounds, as bands `NDVI_below` and
            `NDVI_above`: see `series.field_widths`.

    Returns:
        float32 in physical units, NaN where masked, labelled as `dataarray.result_array` says. It
        is in dask chunks where the source is.

    Raises:
        CrossbandError: an array in dask chunks for a network that sees the whole image.
        InputError, BandError, UnitError: see `ArrayReader.of`.
    """
    model.check_unguided("a DataArray has")
    reader = ArrayReader.of(array, model.signature.source, read)
    model.signature.check_unit(reader.radiometry.unit)
    warn_of_unit(model, reader.radiometry.unit, "the array")
    conditions = SceneConditions(model.network, reader.grid, tile.seed)
    plain, model = model, ready_model(model, sure, reader.radiometry.unit, extra=widths)
    bands = SureBands.of(model, sure, reader.radiometry.unit, read.sensor, widths)
    tags = {"CROSSBAND_SEED": str(conditions.seed)} if conditions.draws else {}
    numbers = reader.stored(array)
    if array.chunks is not None:
        data = _lazy(model, numbers.data, reader, tile, bands)
        tags["CROSSBAND_EXACT"] = "YES"
    else:
        data = _eager(model, numbers.values, reader, tile, bands)
        known = data[..., bands.names.index(DISSIMILARITY), :, :] if sure.familiarity else None
        tags |= _familiarity(plain, numbers.values, reader, known)
        exact = Tiling.of(model, reader.grid, tile).exact
        tags["CROSSBAND_EXACT"] = "YES" if exact else "NO"
    unit = model.signature.target_unit(reader.radiometry.unit)
    attributes = {**tags, **bands.attributes(unit)}
    return result_array(model, array, reader, data, bands.names, attributes)


def _familiarity(
    model: Model, stored: NDArray[Any], reader: ArrayReader, known: NDArray[np.float32] | None
) -> dict[str, str]:
    """Return the tag of the share of a source that is unfamiliar, the mean of all its scenes.

    The least familiar one is warned of.

    Args:
        model: loaded model.
        stored: numbers (..., band, y, x) of the source.
        reader: of them.
        known: dissimilarity (..., y, x) of all pixels, where it was computed.
    """
    found = []
    for index in np.ndindex(stored.shape[:-3]):
        familiarity = known_familiarity(model, reader.window(stored[index], reader.grid))
        if known is not None:
            familiarity = counted(familiarity, known[index])
        if familiarity is not None:
            found.append(familiarity)
    if not found:
        return {}
    worst = max(found, key=lambda familiarity: familiarity.share)
    if worst.line:
        warn(f"the array: {worst.line}")
    return {UNFAMILIAR_TAG: f"{np.mean([f.share for f in found]):.3f}"}


def _eager(
    model: Model, stored: NDArray[Any], reader: ArrayReader, tile: TileOptions, bands: SureBands
) -> NDArray[np.float32]:
    """Translate numbers (..., band, y, x) in memory."""
    scale, (height, width) = model.network.scale, stored.shape[-2:]
    lead = stored.shape[:-3]
    shape = (*lead, len(bands.names), height * scale, width * scale)
    out = np.full(shape, np.nan, np.float32)
    for index in np.ndindex(lead):
        made = translate_window(model, reader.window(stored[index], reader.grid), tile)
        np.copyto(out[index], bands.apply(made.values, made.mask), where=made.mask)
    return out


def _lazy(
    model: Model, stored: da.Array, reader: ArrayReader, tile: TileOptions, bands: SureBands
) -> da.Array:
    """Translate numbers (..., band, y, x) of dask, block by block."""
    import dask
    import dask.array as da

    network, scale = model.network, model.network.scale
    if network.margin is None:
        raise CrossbandError(
            f"{model.name} sees the whole image, so that blocks of an array cannot be translated "
            f"one by one: load it first (array.load()), or translate the file"
        )
    Tiling.of(model, Grid(1, 1), tile)  # refuses a tile that cannot be
    reach = halo(network.margin, network.stride)
    rows, cols = (
        align_chunks(chunks, network.stride, max(reach, 1)) for chunks in stored.chunks[-2:]
    )
    lead = stored.chunks[:-3]
    whole = stored.rechunk((*lead, (len(reader.positions),), rows, cols))
    # A single block has no neighbours, and dask refuses a margin that is larger than a block.
    around = {
        stored.ndim - 2: reach if len(rows) > 1 else 0,
        stored.ndim - 1: reach if len(cols) > 1 else 0,
    }
    padded = da.overlap.overlap(whole, depth=around, boundary="none", allow_rechunk=False)
    translation = BlockTranslation.of(model, reader, tile, bands)
    # As one key of the graph, it is sent to each worker once, and not with each block.
    name = dask.base.tokenize(translation)
    shared = dask.delayed(translation, name=f"crossband-{name}", traverse=False)
    return da.map_blocks(
        translate_block,
        padded,
        shared,
        starts=(_chunk_starts(rows), _chunk_starts(cols)),
        reach=reach,
        dtype=np.float32,
        chunks=(
            *lead,
            (len(bands.names),),
            tuple(n * scale for n in rows),
            tuple(n * scale for n in cols),
        ),
        meta=np.empty((0,) * stored.ndim, np.float32),
        name=f"crossband-{dask.base.tokenize(translation, padded.name)}",
    )


def align_chunks(chunks: Sequence[int], stride: int, least: int) -> tuple[int, ...]:
    """Move the borders between chunks to multiples of the stride.

    Chunks of one length, as Zarr has them, stay so.

    >>> align_chunks((10, 10, 10, 3), 4, 5)
    (12, 12, 9)
    >>> align_chunks((20, 10, 14), 4, 5)
    (20, 12, 12)

    Args:
        chunks: lengths.
        stride: of the network.
        least: least length of a chunk; shorter ones are joined with their neighbours.
    """
    length, first = sum(chunks), chunks[0]
    if all(chunk == first for chunk in chunks[:-1]) and chunks[-1] <= first:
        size = max(-(-first // stride), -(-least // stride)) * stride
        while 0 < length % size < least and size < length:
            size += stride
        last = length % size
        return (size,) * (length // size) + ((last,) if last else ())
    borders = [0]
    at = 0
    for chunk in chunks[:-1]:
        at += chunk
        border = (at + stride // 2) // stride * stride
        if border - borders[-1] >= least and length - border >= least:
            borders.append(border)
    borders.append(length)
    return tuple(b - a for a, b in itertools.pairwise(borders))


def _chunk_starts(chunks: Sequence[int]) -> tuple[int, ...]:
    """Return the start of each chunk, and the end of the last one."""
    return tuple(np.concatenate([[0], np.cumsum(chunks)]).tolist())


@dataclass(frozen=True)
class BlockTranslation:
    """Everything that the blocks of an array need to be computed; it is sent to dask's workers.

    Attributes:
        model: without its baselines, which are not needed.
        key: of the engine that the blocks of a process share.
        reader: of the array.
        tile: tile and seed.
        bands: of the result.
    """

    model: Model
    key: EngineKey
    reader: ArrayReader
    tile: TileOptions
    bands: SureBands

    @classmethod
    def of(cls, model: Model, reader: ArrayReader, tile: TileOptions, bands: SureBands) -> Self:
        """Collect what the blocks of an array need.

        The weights are copied: those of the caller may be changed before the array is computed.
        """
        bare = copy.copy(model)
        bare.baselines = {}
        bare._modules = dict(model._modules, network=copy.deepcopy(model.network))
        key = EngineKey(identity(model), tile.device, tile.precision)
        return cls(bare, key, reader, tile, bands)

    def __dask_tokenize__(self) -> tuple[str, ...]:
        return self.key.identity, repr(self.reader), repr(self.tile), repr(self.bands)


def translate_block(
    block: NDArray[Any],
    translation: BlockTranslation,
    *,
    starts: tuple[tuple[int, ...], tuple[int, ...]],
    reach: int,
    block_id: tuple[int, ...],
) -> NDArray[np.float32]:
    """Translate one block.

    Args:
        block: stored numbers (..., band, y, x) of the block and `reach` pixels around it, as far as
            the array goes.
        translation: model and reader.
        starts: first rows and first columns of the blocks.
        reach: the network's margin, rounded up to its stride.
        block_id: position of the block among all.

    Returns:
        Physical values (..., band, y, x) of the block itself, NaN where masked.
    """
    (row, bottom), (col, right) = (s[i : i + 2] for s, i in zip(starts, block_id[-2:], strict=True))
    core = Box(row, col, bottom - row, right - col)
    reader, whole = translation.reader, translation.reader.grid.box
    engine = shared_engine(translation.key, lambda: translation.model)
    network, lead = engine.model.network, block.shape[:-3]
    tiling = Tiling.of(engine.model, reader.grid, translation.tile, part=core)
    conditions = SceneConditions(network, reader.grid, translation.tile.seed)
    seen, target = core.expanded(reach, whole), core.scaled(network.scale)
    bands = translation.bands
    out = np.full((*lead, len(bands.names), target.height, target.width), np.nan, np.float32)
    for index in np.ndindex(lead):
        window = reader.window(block[index], reader.grid.crop(seen))
        finished_boxes = compute_windows(
            engine,
            tiling,
            conditions,
            lambda box, window=window: window.crop(box.relative_to(seen)),  # type: ignore[misc]
        )
        for box, values, mask in finished_boxes:
            made = bands.apply(values, mask)
            np.copyto(out[index][:, *box.relative_to(target).slices()], made, where=mask)
    return out
