"""Choose the guide of a scene among the rasters of a folder: by place, then by date.

A raster of the folder may be a guide if it has the bands of the result, a georeference, and was
measured: the results of models are left out. It covers a tenth of the scene at least. Of those that
cover the most of it the one counts that is nearest in time, and of two that are equally near the
earlier one.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from crossband.core.dates import Date
from crossband.core.warned import warn
from crossband.errors import BandError, InputError
from crossband.raster import products
from crossband.raster.acquired import acquisition_date
from crossband.raster.grid import Grid
from crossband.raster.open import open_raster, open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.remote import is_remote
from crossband.raster.scene import Scene
from crossband.raster.source import RASTERS
from crossband.raster.warp import check_georeference, coverage
from crossband.translate.guide_file import options_of_the_guide
from crossband.translate.provenance import SYNTHETIC_TAG

#: Share of a scene that its guide covers at least: a neighbour's edge is no guide.
_LEAST = 0.1
#: A raster is among those that cover the most of a scene if it covers this share of the largest
#: cover: the edges of two tracks of a satellite lie a few pixels apart.
_ALIKE = 0.9
#: Rasters whose metadata are kept in memory.
_KEPT = 4096


@dataclass(frozen=True)
class FolderGuide:
    """A raster of the folder that may be a guide.

    Attributes:
        path: as `open_scene` takes it.
        grid: with CRS and affine transform.
        date: of its acquisition; None where it does not say it.
    """

    path: str
    grid: Grid
    date: Date | None

    def apart(self, taken: Date) -> timedelta:
        """Return the time between this guide and a scene, in whole days where one has only those.

        The guide must have a date.
        """
        assert self.date is not None
        if self.date.day or taken.day:
            return abs(self.date.time.date() - taken.time.date())
        return abs(self.date.time - taken.time)


def is_guide_folder(path: str | Path) -> bool:
    """Return whether a path is a folder of guides, and not a product."""
    return not is_remote(path) and os.path.isdir(path) and products.find(path) is None


def choose_guide(
    folder: str | Path,
    scene: Scene,
    bands: Sequence[str],
    read: ReadOptions,
    taken: str | None = None,
) -> FolderGuide:
    """Return the guide of a scene.

    Args:
        folder: it is searched at any depth.
        scene: with CRS and affine transform.
        bands: that a guide must have.
        read: how guides are read.
        taken: when the scene was taken; by default from its metadata.

    Raises:
        InputError: no raster of the folder is a guide of the scene; several are, and there are no
            dates that would tell which of them; a raster that cannot be read.
        UnitError: a raster whose unit is not declared.
    """
    check_georeference(scene.grid, scene.path)
    found: dict[str, FolderGuide] = {}
    others: Counter[str] = Counter()
    for path in _rasters(folder):
        seen = _seen(path, tuple(bands), read)
        if isinstance(seen, str):
            others[seen] += 1
        else:
            found[path] = seen
    covers = {path: coverage(scene.grid, guide.grid) for path, guide in found.items()}
    shares = {path: share for path, share in covers.items() if share >= _LEAST}
    others["elsewhere"] = len(covers) - len(shares)
    if not shares:
        why = ", ".join(f"{count} {why}" for why, count in others.items() if count)
        raise InputError(f"{folder}: no raster there is a guide of {scene.path}: {why or 'none'}")
    most = max(shares.values())
    able = [found[path] for path, share in shares.items() if share >= _ALIKE * most]
    if len(able) == 1:
        return able[0]
    dated = [guide for guide in able if guide.date is not None]
    try:
        when = Date.parse(taken) if taken else acquisition_date(scene.path)
    except ValueError:
        raise InputError(f"{scene.path}: {taken!r} is no date") from None
    if when is None or not dated:
        names = " and ".join(Path(guide.path).name for guide in able[:2])
        raise InputError(
            f"{folder}: {len(able)} rasters there are of the place of {scene.path}, as {names}, "
            f"and {'the scene does not say' if when is None else 'they do not say'} when it was "
            f"taken; name one"
        )
    ordered = sorted(dated, key=lambda g: (g.apart(when), g.date, -shares[g.path], g.path))
    first, *more = ordered
    alike = [g for g in more if (g.date, shares[g.path]) == (first.date, shares[first.path])]
    if alike:
        warn(
            f"{folder}: {1 + len(alike)} rasters there of {first.date} are of the place of "
            f"{scene.path}; {Path(first.path).name} is taken, the first by name"
        )
    return first


def _rasters(folder: str | Path) -> Iterator[str]:
    """Yield the rasters and products below a folder, without hidden ones."""
    for at, folders, files in os.walk(folder):
        whole = [name for name in folders if _is_product(os.path.join(at, name))]
        folders[:] = sorted(n for n in folders if n not in whole and not n.startswith("."))
        plain = [n for n in files if n.lower().endswith(RASTERS) and not n.startswith(".")]
        yield from (os.path.join(at, name) for name in sorted((*whole, *plain)))


def _is_product(path: str) -> bool:
    try:
        return products.find(path) is not None
    except InputError:  # a product that is not supported, or damaged: it is searched as a folder
        return False


def _seen(path: str, bands: tuple[str, ...], read: ReadOptions) -> FolderGuide | str:
    """Return a raster as a guide, or why it is none; kept until its file changes."""
    try:
        state = os.stat(path)
    except OSError as error:  # a link that leads nowhere
        raise InputError(f"{path}: {error.strerror}") from error
    named = tuple((read.bands or {}).items())
    return _looked_at(path, (state.st_mtime_ns, state.st_size), bands, named, read.sensor)


@functools.lru_cache(_KEPT)
def _looked_at(
    path: str,
    state: tuple[int, int],
    bands: tuple[str, ...],
    named: tuple[tuple[str, int | str], ...],
    sensor: str | None,
) -> FolderGuide | str:
    """Open a raster; `state` makes a changed file another one."""
    if products.find(path) is None:
        with open_raster(path) as dataset:
            if dataset.tags().get(SYNTHETIC_TAG) == "YES":
                return "made by a model"
            if dataset.crs is None or dataset.transform.is_identity:
                return "without georeference"
    read = ReadOptions(dict(named) or None, sensor)
    try:
        with options_of_the_guide(), open_scene(path, read, needed=bands) as scene:
            return FolderGuide(path, scene.grid, acquisition_date(path))
    except BandError:
        return f"without {', '.join(bands)}"
