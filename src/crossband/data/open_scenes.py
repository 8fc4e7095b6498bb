"""A cache of open scenes, so that a file is not opened again for each window."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd

from crossband.data.packed.read import Packs
from crossband.data.rows import open_bands
from crossband.raster.scene import Scene

#: Scenes that a process keeps open: most systems let it open 1,024 files.
OPEN = 256


class OpenScenes:
    """Opens the sources and targets of rows and keeps them open, the most recently used ones.

    Opening a file and identifying its bands takes longer than reading a crop of it.

    Args:
        packs: opens files that lie in packs.
        limit: how many scenes stay open.
    """

    def __init__(self, packs: Packs, limit: int = OPEN) -> None:
        self.packs, self.limit = packs, limit
        self._scenes: OrderedDict[tuple[Any, ...], tuple[Scene, Any]] = OrderedDict()
        self._pid = os.getpid()

    @contextmanager
    def __call__(
        self,
        row: Mapping[str, Any],
        side: str,
        bands: Mapping[str, int | str],
        needed: list[str],
        own: str,
    ) -> Iterator[Scene]:
        """Yield the source or target of a row, opened.

        After an exception the scene is closed, so that the next use opens the file again.

        Args:
            row: of the manifest.
            side: `source` or `target`.
            bands: see `rows.open_bands`.
            needed: common names, in the order in which they are read.
            own: prefix of the columns that describe this side.
        """
        if self._pid != os.getpid():
            # A forked process would share the positions in open files with its parent.
            self._scenes, self._pid = OrderedDict(), os.getpid()
        described = [row[f"{own}{c}"] for c in ("sensor", "scale", "offset", "nodata")]
        described += [row[side], row[f"{side}_window"]]
        key = (side, own, *(None if pd.isna(v) else v for v in described), *bands.items(), *needed)
        state = _file_state(str(row[side]))
        scene, before = self._scenes.pop(key, (None, None))
        if scene is not None and state != before:
            scene.close()  # the file has changed, or does not exist any more
            scene = None
        if scene is None:
            path = str(row[side])
            packed = self.packs.open(path) if path.startswith("pack://") else None
            scene = open_bands(row, side, bands, needed, own, packed)
        try:
            yield scene
        except BaseException:
            scene.close()
            raise
        self._scenes[key] = scene, state
        if len(self._scenes) > self.limit:
            self._scenes.popitem(last=False)[1][0].close()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out open files, which cannot be sent to another process."""
        return self.__dict__ | {"_scenes": OrderedDict()}


def _file_state(path: str) -> tuple[int, int, int] | None:
    """Return time, size and inode of a file; None if it does not exist or is remote."""
    if "://" in path or path.startswith("/vsi"):
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
