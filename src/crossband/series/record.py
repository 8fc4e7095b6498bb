"""The files of a series, and the record by which a finished one is recognised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from crossband.core.atomic import up_to_date
from crossband.core.hidden_folder import remove_leftovers
from crossband.core.json_text import read_json
from crossband.errors import InputError
from crossband.model import Model, identity
from crossband.series.options import SeriesOptions
from crossband.series.places import Place
from crossband.series.preparation import DatedTask
from crossband.translate.options import TranslateOptions
from crossband.translate.uncertain_files import interval_facts

SCENES, TABLE, PICTURE, RECORD = "scenes", "series.csv", "series.png", "series.json"
#: Of the hidden folder that a running series locks.
NAME = "series"


def series_files(
    folder: Path, indices: Sequence[str], *, stacked: bool, compared: bool
) -> list[Path]:
    """Return the paths of the files of a series, except the scenes."""
    out = [folder / TABLE, *(plot_path(folder, indices, index) for index in indices)]
    kinds = ("", "_true", "_difference") if compared else ("",)
    if stacked:
        out += [folder / f"{index}{kind}.tif" for index in indices for kind in kinds]
    return [*out, folder / RECORD]


def plot_path(folder: Path, indices: Sequence[str], index: str) -> Path:
    """Return the path of the plot of an index; each of several indices has its own."""
    return folder / (PICTURE if len(indices) == 1 else f"series_{index}.png")


def check_finished(folder: Path, made_from: str, outputs: Sequence[Path]) -> set[Path]:
    """Raise UpToDate where the same series is finished.

    Returns:
        Its files where scenes of it have failed: these are tried again, and the files are its own.
    """
    try:
        said = read_json(folder / RECORD)
        if said["made_from"] != made_from:
            return set()
        failed = bool(said["failed"])
    except (InputError, TypeError, LookupError):
        return set()
    if failed or not (folder / TABLE).exists():
        return set(outputs)
    remove_leftovers(folder / NAME)
    raise up_to_date(folder)


def files_read(tasks: Sequence[DatedTask]) -> Iterator[str]:
    """Yield the files of the scenes, and those of measured bands that a manifest names."""
    for item in tasks:
        if item.part is None:
            yield str(item.dated.source.path)
        if item.dated.source.row.get("target"):
            yield str(item.dated.source.row["target"])
        if item.dated.source.guide.guide is not None:
            yield str(item.dated.source.guide.guide)


def facts_of(
    model: Model,
    inputs: Sequence[str | Path],
    indices: Sequence[str],
    places: str | Path | Sequence[Place] | None,
    options: TranslateOptions,
    series_options: SeriesOptions,
) -> dict[str, str]:
    """Return what tells this series from another one in its folder, as name -> value."""
    options = replace(options, write=replace(options.write, overwrite=False))
    return {
        "the model": identity(model),
        "the inputs": repr([str(i) for i in inputs]),
        "--index": repr(list(indices)),
        "--places": str(places) if isinstance(places, str | Path) else repr(places),
        "the options": repr((options, series_options)),
        **interval_facts(model, options.interval),
    }
