"""DataArrays through a model: at once where they are in memory, lazily where dask has them.

A lazy result is computed block by block on whatever scheduler dask is told to use. Its blocks begin
on the model's stride and see the model's margin around them, so that it equals the whole at once.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from crossband.errors import CrossbandError
from crossband.model import Model
from crossband.model.identity import identity
from crossband.raster.grid import Box, Grid
from crossband.translate.dataarray import Reading, finished
from crossband.translate.engine import Engine, Given
from crossband.translate.scene import translate_window
from crossband.translate.tiles import Job, Tile, core_size, halo
from crossband.translate.tiling import BATCH, Results, Work, default_tile

if TYPE_CHECKING:
    import dask.array as da

_READING = ("bands", "sensor", "scale", "offset", "source_nodata")
_BOTH = ("device", "precision", "tile", "seed")
_EAGER = ("batch", "overlap")


def translate_array(model: Model, array: xr.DataArray, **options: Any) -> xr.DataArray:
    """Translate a DataArray.

    Args:
        model: loaded model.
        array: dimensions y, x and band in any order, and any others beside them, as time; in
            memory, or in chunks of dask.
        **options: `bands`, `sensor`, `scale`, `offset`, `source_nodata`, `device`, `precision`,
            `tile` and `seed` of `translate.scene.translate`; of an array in memory also `batch` and
            `overlap`.

    Returns:
        float32 in physical units, NaN where masked, with the source's order of dimensions, its
        other coordinates, attributes and CRS; see `translate.dataarray.finished`.
        In chunks where the source is.

    Raises:
        CrossbandError: an array in chunks for a network that sees the whole image.
        InputError, BandError, UnitError: as with a file.
    """
    if not isinstance(array, xr.DataArray):
        raise CrossbandError(
            f"translate takes a path or a DataArray, not {type(array).__name__}; of a Dataset, "
            f"dataset.to_array('band') makes one"
        )
    lazy = array.chunks is not None
    known = (*_READING, *_BOTH, *(() if lazy else _EAGER))
    for name in options:
        if name not in known:
            raise CrossbandError(
                f"translating a DataArray{' in chunks' * lazy} takes no {name!r}; it takes "
                f"{', '.join(known)}"
            )
    reading = Reading.of(
        array, model.signature.source, **{k: options[k] for k in _READING if k in options}
    )
    model.signature.check_unit(reading.radiometry.unit)
    computing = {k: options[k] for k in (*_BOTH, *_EAGER) if k in options}
    given = Given(model.network, reading.grid, computing.get("seed"))
    tags = {"CROSSBAND_SEED": str(given.seed)} if given.draws else {}
    numbers = reading.numbers(array)
    if lazy:
        data = _lazy(model, numbers.data, reading, computing)
        tags["CROSSBAND_EXACT"] = "YES"
    else:
        data, exact = _eager(model, numbers.values, reading, computing)
        tags["CROSSBAND_EXACT"] = "YES" if exact else "NO"
    return finished(model, array, reading, data, tags)


def _eager(
    model: Model, stored: NDArray[Any], reading: Reading, computing: dict[str, Any]
) -> tuple[NDArray[np.float32], bool]:
    """Translate numbers (..., band, y, x) in memory; also says whether tiled equals whole."""
    scale, (height, width) = model.network.scale, stored.shape[-2:]
    lead = stored.shape[:-3]
    shape = (*lead, len(model.signature.target), height * scale, width * scale)
    out = np.full(shape, np.nan, np.float32)
    for index in np.ndindex(lead):
        made = translate_window(model, reading.window(stored[index], reading.grid), **computing)
        np.copyto(out[index], made.values, where=made.mask)
    cut = {k: computing.get(k) for k in ("tile", "overlap")}
    work = Work.of(model, reading.grid, cut["tile"], computing.get("batch", BATCH), cut["overlap"])
    return out, work.exact


def _lazy(model: Model, stored: da.Array, reading: Reading, computing: dict[str, Any]) -> da.Array:
    """Translate numbers (..., band, y, x) of dask, block by block."""
    import dask
    import dask.array as da

    network, scale = model.network, model.network.scale
    if network.margin is None:
        raise CrossbandError(
            f"{model.name} sees the whole image, so that blocks of an array cannot be translated "
            f"one by one: load it first (array.load()), or translate the file"
        )
    Work.of(model, Grid(1, 1), computing.get("tile"))  # refuses a tile that cannot be
    reach = halo(network.margin, network.stride)
    rows, cols = (aligned(chunks, network.stride, max(reach, 1)) for chunks in stored.chunks[-2:])
    lead = stored.chunks[:-3]
    whole = stored.rechunk((*lead, (len(reading.chosen),), rows, cols))
    # Nothing lies around the only block; dask would want it to be larger than what does.
    around = {
        stored.ndim - 2: reach if len(rows) > 1 else 0,
        stored.ndim - 1: reach if len(cols) > 1 else 0,
    }
    padded = da.overlap.overlap(whole, depth=around, boundary="none", allow_rechunk=False)
    carried = Carried(model, reading, computing)
    # One key of the graph: it travels to each worker once, not with each block.
    shared = dask.delayed(carried, name=f"crossband-{dask.base.tokenize(carried)}", traverse=False)
    return da.map_blocks(
        translate_block,
        padded,
        shared,
        starts=(_starts(rows), _starts(cols)),
        reach=reach,
        dtype=np.float32,
        chunks=(
            *lead,
            (len(model.signature.target),),
            tuple(n * scale for n in rows),
            tuple(n * scale for n in cols),
        ),
        meta=np.empty((0,) * stored.ndim, np.float32),
        name=f"crossband-{dask.base.tokenize(carried, padded.name)}",
    )


def aligned(chunks: Sequence[int], stride: int, least: int) -> tuple[int, ...]:
    """Move the borders of chunks to multiples of the stride; none is shorter than `least`.

    >>> aligned((10, 10, 10, 3), 4, 5)
    (12, 8, 13)
    """
    length = sum(chunks)
    borders = [0]
    at = 0
    for chunk in chunks[:-1]:
        at += chunk
        border = (at + stride // 2) // stride * stride
        if border - borders[-1] >= least and length - border >= least:
            borders.append(border)
    borders.append(length)
    return tuple(b - a for a, b in itertools.pairwise(borders))


def _starts(chunks: Sequence[int]) -> tuple[int, ...]:
    """Return where each chunk begins, and where the last one ends."""
    return tuple(np.concatenate([[0], np.cumsum(chunks)]).tolist())


@dataclass
class Carried:
    """What every block needs, on its way to where it is computed; made ready once a process."""

    model: Model
    reading: Reading
    computing: dict[str, Any]

    def __post_init__(self) -> None:
        # Without the baselines, which the blocks do not need.
        m = self.model
        self.model = Model(m.network, m.signature, name=m.name, task=m.task)
        self.lock = threading.Lock()

    @cached_property
    def gate(self) -> threading.Semaphore:
        """Lets as many blocks compute at once as there are processors for.

        A network takes all threads that torch has: more blocks beside each other would only take
        memory. Workers of dask.distributed give torch one thread each.
        """
        threads = max((os.cpu_count() or 1) // torch.get_num_threads(), 1)
        return threading.Semaphore(threads if self._ready[0].device.type == "cpu" else 1)

    @cached_property
    def _ready(self) -> tuple[Engine, Given, Work]:
        get = self.computing.get
        engine = Engine(self.model, get("device", "auto"), get("precision", "auto"))
        network, grid = self.model.network, self.reading.grid
        tile = get("tile") or default_tile(network)
        return engine, Given(network, grid, get("seed")), Work((), tile, True, None)

    def ready(self) -> tuple[Engine, Given, Work, threading.Semaphore]:
        """Return the model made ready, what it takes beside the source, an empty plan, a gate."""
        with self.lock:
            return *self._ready, self.gate

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return identity(self.model), repr(self.reading), repr(sorted(self.computing.items()))

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("lock", "gate", "_ready")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, lock=threading.Lock())


def translate_block(
    block: NDArray[Any],
    carried: Carried,
    *,
    starts: tuple[tuple[int, ...], tuple[int, ...]],
    reach: int,
    block_id: tuple[int, ...],
) -> NDArray[np.float32]:
    """Translate one block.

    Args:
        block: stored numbers (..., band, y, x), with `reach` pixels around it, where there are any.
        carried: model and reading.
        starts: where the blocks begin in the scene, in rows and columns.
        reach: the model's margin, on its stride.
        block_id: place of the block among all.

    Returns:
        Physical values of the block itself, NaN where masked.
    """
    (row, bottom), (col, right) = (s[i : i + 2] for s, i in zip(starts, block_id[-2:], strict=True))
    core = Box(row, col, bottom - row, right - col)
    reading, whole = carried.reading, carried.reading.grid.box
    engine, given, work, gate = carried.ready()
    scale, lead = engine.model.network.scale, block.shape[:-3]
    seen = core.expanded(reach, whole)
    bands = len(engine.model.signature.target)
    out = np.full((*lead, bands, core.height * scale, core.width * scale), np.nan, np.float32)
    for index in np.ndindex(lead):
        window = reading.window(block[index], reading.grid.crop(seen))
        results = Results(engine, work)
        for tile in _tiles(core, whole, work.tile, engine):
            job = Job(0, (tile,))
            prepared = engine.prepare(job, [window.crop(tile.source.relative_to(seen))], given)
            with gate:
                answer = engine.compute(prepared)
            for box, values, mask, _ in results(prepared, answer):
                at = box.relative_to(core.scaled(scale)).slices()
                np.copyto(out[index][:, *at], values, where=mask)
    return out


def _tiles(core: Box, whole: Box, tile: int, engine: Engine) -> Iterator[Tile]:
    """Cover a block with tiles whose origins lie on the stride of the scene."""
    margin, stride = engine.margin or 0, engine.model.network.stride
    step, reach = core_size(tile, margin, stride), halo(margin, stride)
    for row in range(core.row, core.row + core.height, step):
        for col in range(core.col, core.col + core.width, step):
            part = Box(
                row,
                col,
                min(step, core.row + core.height - row),
                min(step, core.col + core.width - col),
            )
            yield Tile(part.expanded(reach, whole), part)
