"""Model + scene -> scene: tiles through the network, everything else about the scene kept.

A scene of any size takes the memory of a few tiles: windows are read in one thread, computed in
this one and written in a third (`threads`). What is finished survives a kill (`raster.journal`).
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Container, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from crossband.errors import CrossbandWarning, FinishError, MaskedError, OutputError
from crossband.model import Model
from crossband.raster.blocks import ChunkShape
from crossband.raster.encoding import Encoding
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
from crossband.translate.conditions import SceneConditions
from crossband.translate.executor import Executor, LocalExecutor, SceneJob
from crossband.translate.index_files import check_indices, index_outputs, index_paths
from crossband.translate.matching import ENCODING, Direct, matching
from crossband.translate.options import TranslateOptions
from crossband.translate.provenance import FACTS, facts, is_made, translation_tags
from crossband.translate.resume import kept, open_store, tidy
from crossband.translate.stream import Progress
from crossband.translate.threads import Statistics
from crossband.translate.tiles import halo
from crossband.translate.tiling import Tiling
from crossband.translate.window import check_source


def translate(
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
        options: how the scene is read, computed, written and matched. With `write.resume` an
            interrupted run goes on, and what is done is kept if this one fails.
        skip: leave finished files that this model, source and options made, and say so in
            `statistics`; one that was made otherwise is replaced with `write.overwrite` only.
        executor: who computes the windows; this process where None.
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
    output, read, tile, write = Path(output), options.read, options.tile, options.write
    match = options.match
    extra = index_paths(output, write.indices)
    paths = (output, *extra.values())
    placed = begun(output) if write.resume else None
    _check_paths(paths, source, match.reference, placed, write.overwrite or skip)
    cog = _cog(paths, write.compress, write.blocksize)
    found = statistics if statistics is not None else Statistics()
    with ExitStack() as stack:
        scene = stack.enter_context(open_scene(source, read, needed=model.signature.source))
        check_apart(paths, member_files(scene.files))
        check_source(model, scene.unit, scene.bands)
        tiling = Tiling.of(model, scene.grid, tile, _columns(model, scene))
        conditions = SceneConditions(model.network, scene.grid, tile.seed, tile.whole)
        computer = (executor or LocalExecutor()).ready(model, tile)
        grid, target = scene.grid.zoom(model.network.scale), tuple(model.signature.target)
        unit = model.signature.target_unit(scene.unit)
        matched = stack.enter_context(matching(match, grid, target, unit, source))
        check_indices(model, scene, extra, matched.unit)
        encoding = Encoding.of_scene(
            scene,
            write.dtype,
            unit=matched.unit,
            scale=write.scale,
            offset=write.offset,
            nodata=write.nodata,
        )
        seed = conditions.seed if conditions.draws else None
        tags = translation_tags(model, scene.path, exact=tiling.exact, seed=seed)
        result = Output(output, grid, target, matched.unit, encoding, tags, cog)
        dependencies: dict[str, Any] = {
            "--tile": tiling.tile,
            "--batch": tile.batch,
            "--overlap": tiling.overlap,
            "--whole": tile.whole,
            "--seed": seed,
            "the device": computer.device.type,
            "--precision": computer.precision,
            ENCODING: encoding.fact(),
            "--index": ", ".join(sorted(extra)),
        }
        known = facts(computer.identity, scene, {**dependencies, **matched.facts})
        layout = {"--compress": cog.compress, "--blocksize": str(cog.blocksize)}
        asked = {"the device": tile.device, "--precision": tile.precision}
        loose = [name for name, value in asked.items() if value == "auto"]
        result.tags = tags | {FACTS: json.dumps(known | layout)}
        outputs = [result, *index_outputs(result, extra)]
        if skip and is_made(paths, known | layout, loose, overwrite=write.overwrite):
            tidy(outputs, known, matched.later)
            found.skipped = True
            return output
        check_disk(outputs, matched.beside(outputs))
        store = open_store(output, known, scene, resume=write.resume, later=matched.later)
        with kept(store, output, len(tiling.jobs), on_failure=write.resume):
            streamed = matched.begin(outputs, store)
            job = SceneJob(source, read, scene, tiling, conditions, tile, known)
            computer.run(job, streamed, store, found, progress)
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
    return Cog.of(compress, blocksize)


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


def _is_tiff(path: Path) -> bool:
    return path.suffix.lower() in (".tif", ".tiff")
