"""Model + scene -> scene: tiles through the network, everything else about the scene kept.

A scene of any size takes the memory of a few tiles: windows are read in one thread, computed in
this one and written in a third (`pipeline`). What is finished survives a kill (`raster.journal`).
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Container, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossband.errors import CrossbandError, CrossbandWarning, FinishError, MaskedError, OutputError
from crossband.raster.blocks import ChunkShape
from crossband.raster.encoding import Encoding
from crossband.raster.grid import Box, Window
from crossband.raster.journal import Store, begun
from crossband.raster.members import member_files
from crossband.raster.open import open_scene
from crossband.raster.scene import Scene
from crossband.raster.write import (
    Cog,
    Output,
    check_apart,
    check_disk,
    check_output,
    place_all,
    same_file,
)
from crossband.translate.engine import Engine, Given
from crossband.translate.index_files import check_indices, index_outputs, index_paths
from crossband.translate.matching import ENCODING, Direct, matching
from crossband.translate.provenance import FACTS, facts, is_made, synthetic_tags
from crossband.translate.resume import kept, open_store, tidy
from crossband.translate.stream import Progress, Stream
from crossband.translate.threads import Statistics
from crossband.translate.tiles import halo
from crossband.translate.tiling import BATCH, Results, Work

if TYPE_CHECKING:
    import xarray as xr

    from crossband.model import Model
    from crossband.translate.executor import Executor, Workers


def translate_window(
    model: Model,
    window: Window,
    *,
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    batch: int = BATCH,
    overlap: int | None = None,
    seed: int | None = None,
    whole: bool = False,
) -> Window:
    """Translate pixels in memory; see `translate`. The window is taken for a whole scene."""
    _check(model, window.unit, window.bands)
    engine = Engine(model, device, precision)
    work = Work.of(model, window.grid, tile, batch, overlap, whole=whole)
    given = Given(model.network, window.grid, seed, whole)
    results = Results(engine, work)
    grid = window.grid.zoom(model.network.scale)
    out = np.zeros((len(model.signature.target), grid.height, grid.width), np.float32)
    mask = np.zeros((grid.height, grid.width), bool)
    for job in work.jobs:
        prepared = engine.prepare(job, [window.crop(t.source) for t in job.tiles], given)
        for box, values, valid, _ in results(prepared, engine.compute(prepared)):
            rows, cols = box.slices()
            out[:, rows, cols], mask[rows, cols] = values, valid
    unit = model.signature.target_unit(window.unit)
    return Window(out, mask, grid, tuple(model.signature.target), unit)


def translate_to_array(
    model: Model, source: str | Path, *, indices: Sequence[str] = (), **options: Any
) -> xr.DataArray:
    """Translate a scene and return it as a DataArray; options as in `translate`.

    Returns:
        float32 (band, y, x) in physical units, NaN where masked, with `rio.crs`, `rio.transform`
        and `rio.nodata`; `attrs` say that it is synthetic.
    """
    import rioxarray  # noqa: F401
    import xarray as xr

    if indices:
        raise CrossbandError("indices are files: give an output, or compute them from the array")
    reading = {k: options.pop(k) for k in ("bands", "sensor", "scale", "offset") if k in options}
    names = ("device", "precision", "tile", "batch", "overlap", "seed", "whole")
    computing = {k: options.pop(k) for k in names if k in options}
    if options:
        raise CrossbandError(f"translate to an array takes no {', '.join(options)}")
    with open_scene(source, **reading, needed=model.signature.source) as scene:
        _check(model, scene.unit, scene.bands)
        window = scene.read()
        cut = {k: computing[k] for k in ("tile", "batch", "overlap", "whole") if k in computing}
        work = Work.of(model, scene.grid, **cut)
        given = Given(model.network, scene.grid, computing.get("seed"))
        tags = _tags(model, scene, work, given)
    if not window.mask.any():
        raise MaskedError(f"{source}: every pixel is masked (nodata, NaN or alpha)")
    result = translate_window(model, window, **computing)
    values = np.where(result.mask, result.values, np.float32("nan"))
    g = result.grid
    array = xr.DataArray(
        values,
        dims=("band", "y", "x"),
        coords={"band": list(result.bands)},
        name=result.bands[0] if len(result.bands) == 1 else model.name,
        attrs={"units": result.unit, "long_name": list(result.bands), **tags},
    )
    if not g.transform.is_identity and g.transform.is_rectilinear:
        centres = np.arange(g.width) + 0.5, np.arange(g.height) + 0.5
        array = array.assign_coords(
            x=g.transform.c + centres[0] * g.transform.a,
            y=g.transform.f + centres[1] * g.transform.e,
        )
    if g.crs is not None:
        array = array.rio.write_crs(g.crs)
    array = array.rio.write_transform(g.transform)
    if g.gcps:
        array = array.rio.write_gcps(g.gcps, g.gcps_crs)
    marked: xr.DataArray = array.rio.write_nodata(float("nan"))
    return marked


def translate(
    model: Model,
    source: str | Path,
    output: str | Path,
    *,
    bands: Mapping[str, int | str] | None = None,
    sensor: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    source_nodata: float | None = None,
    window: Box | None = None,
    dtype: str | None = None,
    out_scale: float | None = None,
    out_offset: float | None = None,
    nodata: float | None = None,
    compress: str | None = None,
    blocksize: int | None = None,
    indices: Mapping[str, str | Path] | Sequence[str] = (),
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    batch: int = BATCH,
    overlap: int | None = None,
    seed: int | None = None,
    whole: bool = False,
    overwrite: bool = False,
    skip: bool = False,
    resume: bool = False,
    match_to: str | Path | None = None,
    match: str | None = None,
    match_sensor: str | None = None,
    match_bands: Mapping[str, int | str] | None = None,
    engine: Engine | None = None,
    cluster: Executor | None = None,
    progress: Progress | None = None,
    statistics: Statistics | None = None,
) -> Path:
    """Translate a scene into a file.

    Args:
        model: loaded model.
        source: any raster that GDAL reads, also by `https://`, `s3://`, `/vsicurl/`, `/vsis3/`, or
            a product: see docs/sources.md.
        output: `.tif` (COG) or `.png`, on a local disk.
        bands: common name -> band number or name in the file; of a folder its files.
        sensor: name in `crossband.core.sensors`.
        scale: physical = stored x scale + offset, over the file's and the sensor's own.
        offset: see scale; a scale needs one where file or sensor has one.
        source_nodata: stored number of the source that means "no data", over the file's own, and
            beside its mask.
        window: part of the source; all of it where None.
        dtype: `float32` for physical units; an integer type with `out_scale`; the source's own data
            type and scale where None.
        out_scale: of the result: physical = stored x out_scale + out_offset.
        out_offset: see out_scale.
        nodata: stored number of masked pixels; the source's own, NaN, or a mask band where None.
        compress: `deflate` (default), `zstd`, `lzw` or `none`.
        blocksize: side of the COG's blocks in pixels; 512 where None.
        indices: spectral indices as extra float32 files beside the output: names, or
            name -> path.
        device: auto, cpu, cuda, mps.
        precision: auto, fp32, bf16.
        tile: side of the window that the network sees, in source pixels; 896 where None, more for
            a network that sees far, less for one that makes pixels finer.
        batch: tiles that go through the network together.
        overlap: source pixels over which tiles fade into each other, of a network that sees the
            whole image; an eighth of the tile where None.
        seed: of a network that draws noise or a style; 0 where None.
        whole: the scene goes through the network in one piece, as memory allows; a `FlowSampler`
            with tolerances then chooses its steps by all of it.
        overwrite: replace existing files.
        skip: leave finished files that this model, source and options made, and say so in
            `statistics`; one that was made otherwise is replaced with `overwrite` only.
        resume: go on where an interrupted run stopped; and keep what is done if this one fails.
        match_to: raster of the same place with the result's bands, to whose values it is brought,
            and to whose unit where it is `display`; see `matched`.
        match: `histogram` (where None) or `linear`.
        match_sensor: what took that raster, where its metadata do not say it.
        match_bands: of that raster: common name -> band number or name in the file.
        engine: `model` made ready on `device` and in `precision`, for many scenes; made here where
            None.
        cluster: whose workers compute the windows; this process where None.
        progress: called with (pixels done, pixels in all) at the start and after each job.
        statistics: is filled in.

    Returns:
        The path of the finished file.

    Raises:
        InputError, BandError, UnitError, OutputError: nothing is left under the final names.
        ChangedError: what `skip` or `resume` found comes from something else.
        Interrupted, ClusterError: Ctrl-C, a cluster that went away; finished windows are kept for
            `resume`.
    """
    output = Path(output)
    extra = index_paths(output, indices)
    paths = (output, *extra.values())
    if whole and cluster is not None:
        raise CrossbandError("--whole is one window: --engine dask has nothing to spread")
    _check_paths(paths, source, match_to, begun(output) if resume else None, overwrite or skip)
    cog = _cog(paths, compress, blocksize)
    found = statistics if statistics is not None else Statistics()
    reading: dict[str, Any] = {
        "bands": bands,
        "sensor": sensor,
        "scale": scale,
        "offset": offset,
        "nodata": source_nodata,
    }
    with ExitStack() as stack:
        scene = stack.enter_context(open_scene(source, **reading, needed=model.signature.source))
        check_apart(paths, member_files(scene.files))
        if window is not None:
            scene.part(window)
        _check(model, scene.unit, scene.bands)
        work = Work.of(model, scene.grid, tile, batch, overlap, _columns(model, scene), whole)
        given = Given(model.network, scene.grid, seed, whole)
        computer = _computer(model, device, precision, engine, cluster)
        grid, target = scene.grid.zoom(model.network.scale), tuple(model.signature.target)
        how = {"match": match, "match_sensor": match_sensor, "match_bands": match_bands}
        unit = model.signature.target_unit(scene.unit)
        matched = stack.enter_context(matching(match_to, grid, target, unit, source, **how))
        check_indices(model, scene, extra, matched.unit)
        encoding = Encoding.of_scene(
            scene, dtype, unit=matched.unit, scale=out_scale, offset=out_offset, nodata=nodata
        )
        tags = _tags(model, scene, work, given)
        result = Output(output, grid, target, matched.unit, encoding, tags, cog)
        options: dict[str, Any] = {
            "--tile": work.tile,
            "--batch": batch,
            "--overlap": work.overlap,
            "--whole": whole,
            "--seed": given.seed if given.draws else None,
            "the device": computer.device.type,
            "--precision": computer.precision,
            ENCODING: encoding,
            "--index": ", ".join(sorted(extra)),
        }
        known = facts(computer.identity, scene, {**options, **matched.facts})
        layout = {"--compress": cog.compress, "--blocksize": str(cog.blocksize)}
        asked = {"the device": device, "--precision": precision}
        loose = [name for name, value in asked.items() if value == "auto"]
        result.tags = tags | {FACTS: json.dumps(known | layout)}
        outputs = [result, *index_outputs(result, extra)]
        if skip and is_made(paths, known | layout, loose, overwrite=overwrite):
            tidy(outputs, known, matched.later)
            found.skipped = True
            return output
        check_disk(outputs, matched.beside(outputs))
        store = open_store(output, known, scene, resume=resume, later=matched.later)
        with kept(store, output, len(work.jobs), on_failure=resume):
            streamed = matched.begin(outputs, store)
            if isinstance(computer, Engine):
                Stream(computer, work, given, scene, streamed, store, found).run(progress)
            else:
                order = computer.order(source, reading, window, known, work, seed, streamed)
                computer.run(order, streamed, store, found, progress)
            if not streamed[0].valid:
                store.done.clear()  # nothing that a run could go on from
                raise MaskedError(f"{source}: every pixel is masked (nodata, NaN or alpha)")
            found.finishing = _finish(matched, outputs, scene, store)
    return output


def _columns(model: Model, scene: Scene) -> int:
    """Return how many columns are worked on side by side, so that few blocks are kept."""
    reach = halo(model.network.margin or 0, model.network.stride)
    return ChunkShape.of(scene).columns(scene, reach)


def _check_paths(
    paths: Sequence[Path],
    source: str | Path,
    match_to: str | Path | None,
    placed: Container[Path] | None,
    replaces: bool,
) -> None:
    """Refuse files that are there, unless they may be replaced or were placed by the same run."""
    for path in paths:
        check_output(path, replaces or path in (placed or ()), source)
        if match_to is not None and same_file(path, match_to):
            raise OutputError(f"{path}: the output is what it is matched to; choose another name")


def _cog(paths: Sequence[Path], compress: str | None, blocksize: int | None) -> Cog:
    """Return how GeoTIFFs are laid out; OutputError where none is written."""
    if (compress or blocksize) and not any(_is_tiff(p) for p in paths):
        raise OutputError(f"{paths[0]}: --compress and --blocksize are for .tif")
    return Cog(compress or "deflate", 512 if blocksize is None else blocksize)


def _finish(matched: Direct, outputs: Sequence[Output], scene: Scene, store: Store) -> float:
    """Match where that is wanted, put the files into place; returns the seconds that it took."""
    start = time.perf_counter()
    matched.finish(outputs, scene, store)
    try:
        place_all(outputs, store)
    except OutputError as error:
        raise FinishError(
            f"{error}; its windows are kept: the same command with --resume makes the file"
        ) from error
    for made in outputs:
        if made.cut:
            low, high = made.encoding.held()
            share = made.cut / (made.valid * len(made.bands))
            warnings.warn(
                f"{made.path}: {share:.1%} of its numbers were cut to {low:g}..{high:g}, all that "
                f"{made.encoding.dtype} holds here; --dtype float32 keeps them",
                CrossbandWarning,
                stacklevel=3,
            )
    return time.perf_counter() - start


def _computer(
    model: Model, device: str, precision: str, engine: Engine | None, cluster: Executor | None
) -> Engine | Workers:
    """Return what computes the windows."""
    if cluster is not None:
        return cluster.ready(model, device, precision)
    return engine or Engine(model, device, precision)


def _tags(model: Model, scene: Scene, work: Work, given: Given) -> dict[str, str]:
    tags = synthetic_tags(model, scene.path)
    tags["CROSSBAND_EXACT"] = "YES" if work.exact else "NO"
    if given.draws:
        tags["CROSSBAND_SEED"] = str(given.seed)
    return tags


def _is_tiff(path: Path) -> bool:
    return path.suffix.lower() in (".tif", ".tiff")


def _check(model: Model, unit: str, bands: Sequence[str]) -> None:
    model.signature.check_unit(unit)
    if tuple(bands) != tuple(model.signature.source):
        raise CrossbandError(
            f"{model.name} takes {', '.join(model.signature.source)}, not {', '.join(bands)}"
        )
