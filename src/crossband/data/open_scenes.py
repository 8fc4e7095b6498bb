"""Scenes that stay open from one window to the next."""

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
    """Opens the sides of rows; the least recently used of more than `limit` is closed.

    Opening a file and telling its bands apart takes longer than reading a crop of it.

    Args:
        packs: opens what lies in packs.
        limit: how many stay open.
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
        """Give one side of a pair; `own` is the prefix of the columns that describe it.

        A scene with which something went wrong is closed, so that it is opened anew next time.
        """
        if self._pid != os.getpid():
            # A forked process shares the position in an open file with its parent.
            self._scenes, self._pid = OrderedDict(), os.getpid()
        described = [row[f"{own}{c}"] for c in ("sensor", "scale", "offset", "nodata")]
        described += [row[side], row[f"{side}_window"]]
        key = (side, own, *(None if pd.isna(v) else v for v in described), *bands.items(), *needed)
        stamp = _stamp(str(row[side]))
        scene, before = self._scenes.pop(key, (None, None))
        if scene is not None and stamp != before:
            scene.close()  # the file was altered, or is gone
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
        self._scenes[key] = scene, stamp
        if len(self._scenes) > self.limit:
            self._scenes.popitem(last=False)[1][0].close()

    def __getstate__(self) -> dict[str, Any]:
        """An open file cannot be sent to another process."""
        return self.__dict__ | {"_scenes": OrderedDict()}


def _stamp(path: str) -> tuple[int, int, int] | None:
    """Return what tells a file from the one that was opened; None where it is gone or far away."""
    if "://" in path or path.startswith("/vsi"):
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
