"""Translate a scene into a file on the scene's grid, with its georeference, mask and data type.

A scene of any size needs the memory of a few tiles: one thread reads windows, this one computes and
a third one writes (`stream`). Finished windows survive a kill (`raster.journal`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from crossband.core.warned import warn
from crossband.errors import (
    CrossbandError,
    FinishError,
    MaskedError,
    ModelError,
    OutputError,
)
from crossband.model import Model
from crossband.model.calibration import GuideClass
from crossband.model.uncertain import calibration_of, channel_names
from crossband.raster.blocks import ChunkShape
from crossband.raster.cog import Cog
from crossband.raster.disk_space import check_disk_space
from crossband.raster.encoding import Encoding
from crossband.raster.journal import Store, names_being_placed
from crossband.raster.members import member_files
from crossband.raster.open import open_scene
from crossband.raster.output import OutputFile, finish_files
from crossband.raster.output_paths import check_not_source, check_output, new_folders, same_file
from crossband.raster.scene import Scene
from crossband.translate.conditions import SceneConditions
from crossband.translate.earlier_files import earlier_files, tell_of_earlier
from crossband.translate.executor import Executor, LocalExecutor, SceneJob
from crossband.translate.guiding import ENCODING, ResultFiles, guided
from crossband.translate.index_files import check_indices, index_outputs, index_paths
from crossband.translate.options import TranslateOptions, WriteOptions
from crossband.translate.provenance import (
    FACTS_TAG,
    is_up_to_date,
    scene_facts,
    synthetic_tags,
    translation_tags,
)
from crossband.translate.resume import keep_or_remove, open_store, remove_leftovers
from crossband.translate.statistics import Statistics
from crossband.translate.stream import Progress
from crossband.translate.tiles import halo
from crossband.translate.tiling import Tiling, with_surroundings
from crossband.translate.uncertain_files import (
    guide_class,
    interval_facts,
    ready_model,
    uncertain_outputs,
    uncertain_paths,
)
from crossband.translate.unlike import tell_what_is_unlike
from crossband.translate.window import check_source

#: Tiles of which more pixels than this are computed for each pixel of the result are warned of.
MOST_MARGIN = 20


def translate_scene(
    model: Model,
    source: str | Path,
    output: str | Path,
    options: TranslateOptions = TranslateOptions(),
    *,
    skip: bool = False,
    executor: Executor | None = None,
    progress: Progress | None = None,
    statistics: Statistics | None = None,
) -> Path:
    """Translate a scene into a file.

    Args:
        model: loaded model.
        source: any raster that GDAL reads, also by `https://`, `s3://`, `/vsicurl/`, `/vsis3/`, or
            a product: see docs/sources.md.
        output: `.tif` (COG) or `.png`, on a local disk.
        options: how the scene is read, computed, written and guided. With `write.resume` an
            interrupted run is continued, also where it had nothing left to do (see `skip`), and the
            finished windows are kept if this one fails.
        skip: leave files that are up to date, and set `statistics.skipped`. A file that was made by
            another model, source or options is replaced with `write.overwrite` only.
        executor: computes the windows; by default this process.
        progress: called with (pixels done, pixels in all) at the start and after each batch.
        statistics: receives what was done, and the time of each step.

    Returns:
        The path of the finished file.

    Raises:
        InputError, BandError, UnitError, OutputError: no file is left under the final names.
        ChangedError: `skip` or `resume` found files that were made from something else.
        Interrupted, ClusterError: Ctrl-C or a lost cluster; finished windows are kept for `resume`.
    """
    output, read, tile, write = Path(output), options.read, options.tile, options.write
    extra, sure = index_paths(output, write.indices), options.interval
    paths = (output, *extra.values(), *uncertain_paths(output, extra, sure))
    placed = names_being_placed(output) if write.resume else set()
    skip = skip or write.resume
    asked, statistics = statistics is not None, statistics or Statistics()
    with ExitStack() as stack:
        stack.enter_context(_checked_paths(paths, source, write.overwrite or skip))
        cog = _cog(paths, write.compress, write.blocksize)
        scene = stack.enter_context(open_scene(source, read, needed=model.signature.source))
        check_not_source(paths, member_files(scene.files))
        check_source(model, scene.unit, scene.bands)
        correction, ready, calibrated = _guided_model(model, scene, options, list(extra), stack)
        tiling = _tiling(ready, scene, options)
        computer = (executor or LocalExecutor()).ready(ready, tile)
        grid, target = scene.grid.zoom(ready.network.scale), tuple(ready.signature.target)
        conditions = SceneConditions(
            ready.network, scene.grid, tile.seed, tile.whole, correction.inputs
        )
        _check_not_guide(paths, correction)
        statistics.files, statistics.guide, statistics.guide_datetime = (
            paths,
            correction.guide,
            correction.guide_datetime,
        )
        check_indices(model, scene, extra, correction.unit)
        encoding = _encoding(scene, write, correction.unit)
        seed = conditions.seed if conditions.draws else None
        tags = translation_tags(model, scene.path, exact=tiling.exact, seed=seed)
        result = OutputFile(output, grid, target, correction.unit, encoding, tags, cog)
        dependencies: dict[str, Any] = {
            "--tile": tiling.tile,
            "--batch": tile.batch,
            "--overlap": tiling.overlap,
            "--whole": tile.whole,
            "--seed": seed,
            "the device": computer.key.device,
            "--precision": computer.key.precision,
            ENCODING: encoding.fact(),
            "--index": ", ".join(sorted(extra)),
        }
        # First, as the model that computes intervals is another one: messages name what was asked.
        known = interval_facts(model, sure, calibrated) | scene_facts(
            computer.key.identity, scene, {**dependencies, **correction.facts}
        )
        layout = {"--compress": cog.compress, "--blocksize": str(cog.blocksize)}
        requested = {"the device": tile.device, "--precision": tile.precision}
        left_to_machine = [name for name, value in requested.items() if value == "auto"]
        result.tags = tags | {FACTS_TAG: json.dumps(known | layout)}
        outputs = [
            result,
            *index_outputs(result, extra),
            *uncertain_outputs(ready, result, extra, sure, scene.unit, read.sensor, calibrated),
        ]
        before = [path.exists() for path in paths]
        if skip and is_up_to_date(
            paths, known | layout, left_to_machine, overwrite=write.overwrite, placed=placed
        ):
            remove_leftovers(outputs, known, correction.may_change)
            statistics.skipped = True
            return output
        tell = tell_what_is_unlike(model, scene, read.sensor, outputs, statistics, told=asked)
        check_disk_space(outputs, correction.intermediate(outputs))
        store = open_store(
            output, known, scene, resume=write.resume, may_change=correction.may_change
        )
        with keep_or_remove(store, output, len(tiling.batches), on_failure=write.resume):
            if [path.exists() for path in paths] != before:
                raise OutputError(f"{output}: another process has just written it")
            streamed = correction.begin(outputs, store)
            job = SceneJob(source, read, scene, tiling, conditions, tile, known)
            computer.run(job, streamed, store, statistics, progress)
            if not streamed[0].valid:
                store.done.clear()  # so that the store is removed
                raise _no_pixel(model, scene, statistics)
            statistics.finishing = _finish(correction, outputs, scene, store, tell)
    return output


def check_scene(model: Model, source: str | Path, options: TranslateOptions) -> None:
    """Raise the error with which `translate_scene` would refuse a scene before its first window.

    Nothing is written, and what the caller says of outputs is not looked at.

    Args:
        model: loaded model.
        source: see `translate_scene`.
        options: see `translate_scene`.

    Raises:
        InputError, BandError, UnitError, CrossbandError: as `translate_scene`.
    """
    read, write, target = options.read, options.write, tuple(model.signature.target)
    extra = index_paths(Path("result.tif"), write.indices)
    with ExitStack() as stack:
        scene = stack.enter_context(open_scene(source, read, needed=model.signature.source))
        check_source(model, scene.unit, scene.bands)
        correction, ready, calibrated = _guided_model(model, scene, options, list(extra), stack)
        check_indices(model, scene, extra, correction.unit)
        encoding = _encoding(scene, write, correction.unit)
        tags = synthetic_tags(model, scene.path)
        result = OutputFile(
            Path("result.tif"), scene.grid, target, correction.unit, encoding, tags=tags
        )
        how = (scene.unit, read.sensor, calibrated)
        uncertain_outputs(ready, result, extra, options.interval, *how)


def _encoding(scene: Scene, write: WriteOptions, unit: str) -> Encoding:
    """Return how the values of a result are stored."""
    return Encoding.of_scene(
        scene,
        write.dtype,
        unit=unit,
        scale=write.scale,
        offset=write.offset,
        nodata=write.nodata,
    )


def _guided_model(
    model: Model, scene: Scene, options: TranslateOptions, extra: Sequence[str], stack: ExitStack
) -> tuple[ResultFiles, Model, GuideClass | None]:
    """Open the guide, and return the model that computes what the options ask for.

    Args:
        model: loaded model.
        scene: the source.
        options: of the translation.
        extra: indices.
        stack: closes the guide.

    Returns:
        What writes the windows, the model, and the calibrated class of the guide for intervals.
    """
    sure, guide = options.interval, None
    if sure.wanted:
        calibration_of(model)
    correction = stack.enter_context(
        guided(options.guide, model, options.tile, scene, sure=sure.wanted)
    )
    if sure.interval is not None:
        factors = calibration_of(model).factors
        if options.guide.guide and all(of.guide is None for of in factors):
            raise CrossbandError(
                f"--interval: {model.name} has no calibration of guided results; leave out "
                "--guide, or calibrate it with pairs that have guides"
            )
        seen = correction.calibrated_as()
        guide = guide_class(model, sure, seen, scene.unit, options.read.sensor, extra)
    ready = ready_model(model, sure, scene.unit, guide, extra)
    correction.further = channel_names(ready)[len(model.signature.target) :]
    return correction, ready, guide


def _no_pixel(model: Model, scene: Scene, statistics: Statistics) -> ModelError | MaskedError:
    """Return the error for a result without any valid pixel."""
    if statistics.computed:
        return ModelError(
            f"{model.name}: the model answers NaN or infinity in every valid pixel of {scene.path}"
        )
    scene.told, far = True, "alpha"
    if scene.fill is not None:
        far = f"alpha, or numbers far from {scene.unit} as {scene.fill:.4g}"
    return MaskedError(f"{scene.path}: every pixel is masked (nodata, NaN or {far})")


def _tiling(model: Model, scene: Scene, options: TranslateOptions) -> Tiling:
    """Cut a scene in tiles, and in groups of columns whose blocks fit into memory."""
    network = model.network
    columns = ChunkShape.of(scene).columns(scene, halo(network.margin or 0, network.stride))
    guided = options.guide.guide is not None  # a guide is read within the grid
    around = None if guided else with_surroundings(scene, network)
    tiling = Tiling.of(model, scene.grid, options.tile, columns, around=around)
    if options.tile.tile is not None and network.margin is not None:
        _warn_of_margins(model, scene, tiling)
    return tiling


def _warn_of_margins(model: Model, scene: Scene, tiling: Tiling) -> None:
    """Warn of tiles that are mostly margin, which take many times as long."""
    tiles = [tile for batch in tiling.batches for tile in batch.tiles]
    computed = sum(tile.source.height * tile.source.width for tile in tiles)
    ratio = computed / (scene.grid.height * scene.grid.width)
    if ratio > MOST_MARGIN:
        warn(
            f"--tile {tiling.tile}: {model.name} sees {model.network.margin} pixels far, so that "
            f"{ratio:.0f} pixels are computed for each one of the result; larger tiles, as the "
            "default, take less time"
        )


@contextmanager
def _checked_paths(
    paths: Sequence[Path],
    source: str | Path,
    replaces: bool,
) -> Iterator[None]:
    """Raise OutputError for paths that cannot be written; a failure leaves no new folder.

    Args:
        paths: the result and the files beside it, each of another name.
        source: path of the scene.
        replaces: existing files may be replaced.
    """
    with new_folders(paths[0].parent):
        real = [os.path.realpath(path) for path in paths]
        for path, at in zip(paths, real, strict=True):
            check_output(path, replaces, source)
            if real.count(at) > 1:
                raise OutputError(f"{path}: two results would be written to this file")
        yield


def _check_not_guide(paths: Sequence[Path], correction: ResultFiles) -> None:
    """Raise OutputError where a result would replace a file of its guide."""
    for path in paths:
        if any(same_file(path, name) for name in correction.guide_files):
            raise OutputError(f"{path}: the output is its guide; choose another name")


def _cog(paths: Sequence[Path], compress: str | None, blocksize: int | None) -> Cog:
    """Return the layout of GeoTIFFs; OutputError for options of it where none is written."""
    if (compress or blocksize) and not any(_is_tiff(p) for p in paths):
        raise OutputError(f"{paths[0]}: --compress and --blocksize are for .tif")
    return Cog.of(compress, blocksize)


def _finish(
    correction: ResultFiles,
    outputs: Sequence[OutputFile],
    scene: Scene,
    store: Store,
    tell: Callable[..., None],
) -> float:
    """Correct the result by its guide and make the files; return the seconds that it took."""
    start = time.perf_counter()
    earlier = earlier_files(outputs[0].path)
    correction.finish(outputs, scene, store)
    tell(finished=True)
    try:
        finish_files(outputs, store)
    except OutputError as error:
        raise FinishError(
            f"{error}; its windows are kept: the same command with --resume makes the file"
        ) from error
    for file in outputs:
        if file.cut:
            low, high = file.encoding.held()
            share = file.cut / (file.valid * len(file.bands))
            warn(
                f"{file.path}: {share:.1%} of its numbers were cut to {low:g}..{high:g}, all that "
                f"{file.encoding.dtype} holds here; --dtype float32 keeps them",
            )
    tell_of_earlier(outputs, earlier)
    return time.perf_counter() - start


def _is_tiff(path: Path) -> bool:
    return path.suffix.lower() in (".tif", ".tiff")
