"""Time series of scenes: translate them, stack their indices, compute the statistics of places."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from crossband.core.atomic import write_text_atomically
from crossband.core.hidden_folder import NEW, folder_of
from crossband.core.made_from import make_fingerprint
from crossband.core.python_words import public
from crossband.errors import CrossbandError
from crossband.jobs.task import FleetObserver
from crossband.model import Model
from crossband.raster.grid import Grid
from crossband.raster.journal import names_being_placed, recorded
from crossband.raster.open import open_raster
from crossband.raster.output_paths import check_not_read, make_folder
from crossband.raster.warp import check_georeference
from crossband.series import cubes, index_stack, preparation, record
from crossband.series.field_widths import with_field_intervals
from crossband.series.guides import check_earlier
from crossband.series.options import EARLIER, SeriesOptions
from crossband.series.places import Place, everywhere, read_places
from crossband.series.steps import Series, SeriesSteps
from crossband.translate.correction import check_guide_options
from crossband.translate.options import CLASSES, TranslateOptions


@public(*CLASSES, SeriesOptions)
def series(
    model: Model,
    inputs: Sequence[str | Path],
    folder: str | Path,
    options: TranslateOptions = TranslateOptions(),
    series_options: SeriesOptions = SeriesOptions(),
    *,
    indices: Sequence[str] = ("NDVI",),
    places: str | Path | Sequence[Place] | None = None,
    observer: FleetObserver | None = None,
) -> Series:
    """Translate dated scenes, and write spectral indices through time.

    Scenes are translated into the folder `scenes`; those that are up to date are not translated
    again. After an interruption, the same call continues. The last file that is written,
    `series.json`, says what the series was made from.

    Args:
        model: loaded model, whose pixels have the size of the source's.
        inputs: those of `jobs.inputs`, and NetCDF and Zarr data cubes.
        folder: of the results.
        options: how scenes are read, computed, written and guided; the guide `EARLIER` is the
            nearest earlier date that was measured. With `write.overwrite`, results and
            scenes that are not up to date are replaced.
        series_options: dates, grid and files of the series.
        indices: names of spectral indices that need a band which the model makes.
        places: GeoJSON of points and polygons, or `places.Place`s; by default the whole scene.
        observer: is notified of each translated scene.

    Raises:
        UpToDate: the series was made of the same files in the same way, and no scene failed.
        CrossbandError: inputs, dates, grids, places or options are wrong, and nothing was done; or
            no scene could be translated.
        Interrupted: Ctrl-C; finished scenes are kept.
    """
    folder, read = Path(folder), options.read
    outputs = record.series_files(
        folder, indices, stacked=series_options.stacked, compared=series_options.compared
    )
    hidden = folder / record.NAME  # no file has this name: only the hidden folder
    preparation.check_indices(model, indices)
    if series_options.align is not None and not series_options.stacked:
        raise CrossbandError("--align is for the stack, and --no-stack leaves it out")
    check_guide_options(options.guide)
    check_earlier(options.guide)
    options = with_field_intervals(model, list(indices), options)
    tasks = preparation.dated_tasks(
        model,
        [str(i) for i in inputs],
        folder / record.SCENES,
        folder_of(hidden) / NEW,
        indices,
        dates=series_options.dates,
        pattern=series_options.date_pattern,
        same_times=not series_options.stacked,
        allow_local=options.read.allow_local_references,
    )
    facts = record.facts_of(model, inputs, indices, places, options, series_options)
    guide = options.guide.guide
    named = (places, series_options.align, None if guide == EARLIER else guide)
    given = [p for p in named if isinstance(p, str | Path)]
    given += [i for i in inputs if cubes.is_cube(str(i))]
    made_from = make_fingerprint(facts, [*record.files_read(tasks), *given])
    check_not_read(outputs, [*record.files_read(tasks), *given])
    facts["the files"] = made_from
    placed = names_being_placed(hidden, facts)
    if not options.write.overwrite and not placed:
        placed = record.check_finished(folder, made_from, outputs)
    preparation.check_outputs(outputs, overwrite=options.write.overwrite, placed=placed)
    wanted = _places(places, series_options.place_name)
    grids = preparation.scene_grids(model, tasks, indices, read)
    onto = _onto(series_options.align)
    if series_options.stacked:
        preparation.check_one_grid(tasks, grids, onto)
    for number, grid in grids.items():
        if any(p.geometry is not None for p in wanted):
            check_georeference(grid, tasks[number].dated.source.label)
    make_folder(folder)
    run = SeriesSteps(model, folder, tasks, grids, list(indices), wanted, options)
    with recorded(hidden, facts, outputs, placed):
        run.copy_cubes()
        run.translate(observer)
        result = run.statistics()
        if series_options.stacked:
            run.stacks(result, onto, compared=series_options.compared)
        result.files.append(index_stack.write_table(folder / record.TABLE, result.table))
        if series_options.drawn:
            from crossband.series.plot import plot_series

            for index in indices:
                own = result.table[result.table["index"] == index]
                path = record.plot_path(folder, indices, index)
                result.files.append(plot_series(path, own, index, title=f"{index} by {model.name}"))
        if not series_options.keep_scenes:
            run.remove_scenes()
        said = {"made_from": made_from, "failed": result.failed, "dates": result.labels}
        write_text_atomically(folder / record.RECORD, json.dumps(said, indent=1) + "\n")
    return result


def _places(given: str | Path | Sequence[Place] | None, name: str | None) -> list[Place]:
    if given is None and name is not None:
        raise CrossbandError("--place-name is a property of --places: give these, too")
    if given is None:
        return [everywhere()]
    return read_places(given, name) if isinstance(given, str | Path) else list(given)


def _onto(align: str | Path | None) -> Grid | None:
    if align is None:
        return None
    with open_raster(align) as dataset:
        grid = Grid(dataset.height, dataset.width, dataset.transform, dataset.crs)
    check_georeference(grid, str(align))
    return grid
