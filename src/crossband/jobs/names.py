"""Name the outputs of many scenes, and check before the work that no two have one name."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path

from crossband.errors import OutputError, nearest
from crossband.jobs.inputs import SceneInput
from crossband.raster.remote import name_of
from crossband.translate.index_files import index_paths
from crossband.translate.options import NO_INTERVALS, IntervalOptions
from crossband.translate.uncertain_files import uncertain_paths

#: Default pattern; the ending is added.
PATTERN = "{stem}_{target}"
ENDINGS = (".tif", ".tiff", ".png")
FIELDS = {
    "stem": "the input's name without its ending",
    "parent": "the name of the folder that the input lies in",
    "number": "the input's place in the list, from 1",
    "target": "the target bands, as in nir or red_green_blue",
    "model": "the model's name",
}


def output_paths(
    sources: Sequence[SceneInput],
    folder: Path,
    *,
    model: str,
    target: Sequence[str],
    pattern: str = PATTERN,
    indices: Mapping[str, str | Path] | Sequence[str] = (),
    sure: IntervalOptions = NO_INTERVALS,
) -> list[Path]:
    """Return the output path of each scene.

    Args:
        sources: all scenes of the list, those of other shards included.
        folder: where the outputs go.
        model: the model's name.
        target: its target bands.
        pattern: with the fields of `FIELDS`. Without an ending it gets .png where the source is a
            picture (.png, .jpg, .jpeg), else .tif. A slash makes subfolders.
        indices: names of the indices that are written beside each output; as a mapping, with the
            paths of their files, for a single scene.
        sure: intervals and familiarity, whose files are written beside it, too.

    Raises:
        OutputError: an unknown field; a path outside of the folder; two inputs with one output; an
            output that would replace an input.
    """
    _check(pattern)
    found = []
    for number, source in enumerate(sources, start=1):
        fields = {
            "stem": source.stem,
            "parent": Path(os.path.abspath(source.path)).parent.name,
            "number": number,
            "target": "_".join(target),
            "model": model,
        }
        try:
            name = pattern.format(**fields)
        except (ValueError, TypeError) as error:
            raise OutputError(f"--name {pattern}: {error}") from error
        if not pattern.lower().endswith(ENDINGS):
            name += ".png" if Path(name_of(source.path)).suffix.lower() in _PICTURES else ".tif"
        if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
            raise OutputError(f"--name {pattern}: {name} does not lie in the output folder")
        found.append(folder / name)
    _check_clashes(sources, found, indices, sure)
    return found


_PICTURES = (".png", ".jpg", ".jpeg")


def _check(pattern: str) -> None:
    try:
        parts = [
            (name, width, conversion)
            for _, name, width, conversion in string.Formatter().parse(pattern)
            if name is not None
        ]
    except ValueError as error:
        raise OutputError(f"--name {pattern}: {error}") from error
    for name, width, conversion in parts:
        # A width could be as large as the memory.
        if conversion or not re.fullmatch(r"0?[0-9]{0,2}d?", width or ""):
            raise OutputError(
                f"--name {pattern}: a field is its name in braces, as {{stem}} or {{number:03d}}"
            )
        if name not in FIELDS:
            raise OutputError(f"--name {pattern}: unknown field {name!r}: {nearest(name, FIELDS)}")


def _check_clashes(
    sources: Sequence[SceneInput],
    paths: Sequence[Path],
    indices: Mapping[str, str | Path] | Sequence[str],
    sure: IntervalOptions,
) -> None:
    guides = {os.path.realpath(s.guide.guide): s for s in sources if s.guide.guide is not None}
    inputs = guides | {os.path.realpath(s.path): s for s in sources}
    taken: dict[str, SceneInput] = {}
    for source, path in zip(sources, paths, strict=True):
        extra = index_paths(path, indices)
        for own in (path, *extra.values(), *uncertain_paths(path, extra, sure)):
            real = os.path.realpath(own)
            if real in taken:
                apart = "as with --name '{parent}_{stem}'"
                if isinstance(indices, Mapping) and own in extra.values():
                    apart = "as with indices=['NDVI'], which names each file after its scene"
                raise OutputError(
                    f"{own}: two inputs would be written under this name: {taken[real].label} and "
                    f"{source.label}; tell them apart, {apart}"
                )
            taken[real] = source
            other = inputs.get(real)
            if other is not None:
                raise OutputError(
                    f"{own}: {source.label} would be written over the input {other.label}, or its "
                    f"guide; choose another folder, or name fewer inputs"
                )
