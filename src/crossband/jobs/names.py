"""What the outputs are called, and that no two have one name, before any work is done."""

from __future__ import annotations

import os
import string
from collections.abc import Sequence
from pathlib import Path

from crossband.errors import OutputError, nearest
from crossband.jobs.sources import Source
from crossband.raster.remote import name_of

#: `{stem}_{target}` and the ending of what the source is.
PATTERN = "{stem}_{target}"
ENDINGS = (".tif", ".tiff", ".png")
FIELDS = {
    "stem": "the input's name without its ending",
    "parent": "the name of the folder that the input lies in",
    "number": "the input's place in the list, from 1",
    "target": "the target bands, as in nir or red_green_blue",
    "model": "the model's name",
}


def outputs(
    sources: Sequence[Source],
    folder: Path,
    *,
    model: str,
    target: Sequence[str],
    pattern: str = PATTERN,
    indices: Sequence[str] = (),
) -> list[Path]:
    """Return one path for each source.

    Args:
        sources: all of them, also those that another shard does.
        folder: where the outputs go.
        model: the model's name.
        target: its target bands.
        pattern: with the fields of `FIELDS`; without an ending it gets .png where the source is a
            picture (.png, .jpg, .jpeg), else .tif. A slash makes folders.
        indices: names of index files that lie beside each output.

    Raises:
        OutputError: an unknown field; a name outside the folder; two inputs of one name; a name
            that is an input's.
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
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise OutputError(f"--name {pattern}: {name} does not lie in the output folder")
        found.append(folder / name)
    _check_clashes(sources, found, indices)
    return found


_PICTURES = (".png", ".jpg", ".jpeg")


def _check(pattern: str) -> None:
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None]
    except ValueError as error:
        raise OutputError(f"--name {pattern}: {error}") from error
    for name in fields:
        if name not in FIELDS:
            raise OutputError(f"--name {pattern}: unknown field {name!r}: {nearest(name, FIELDS)}")


def _check_clashes(
    sources: Sequence[Source], paths: Sequence[Path], indices: Sequence[str]
) -> None:
    inputs = {os.path.realpath(s.path): s for s in sources}
    taken: dict[Path, Source] = {}
    for source, path in zip(sources, paths, strict=True):
        for own in (path, *(path.with_name(f"{path.stem}_{name}.tif") for name in indices)):
            if own in taken:
                raise OutputError(
                    f"{own}: two inputs would be written under this name: {taken[own].said} and "
                    f"{source.said}; tell them apart, as with --name '{{parent}}_{{stem}}'"
                )
            taken[own] = source
            other = inputs.get(os.path.realpath(own))
            if other is not None:
                raise OutputError(
                    f"{own}: {source.said} would be written over the input {other.said}; choose "
                    f"another folder, or name fewer inputs"
                )
