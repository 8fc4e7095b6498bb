"""Scenes that stay open from one window to the next."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd

from crossband.data.packs import Packs
from crossband.errors import CrossbandError, ManifestError
from crossband.raster.grid import Box
from crossband.raster.scene import Scene

#: Scenes that a process keeps open. An open file costs about 50 KiB, and one of the 1,024 files
#: that a process may open on most systems.
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
            scene = self._opened(row, side, bands, needed, own)
        try:
            yield scene
        except BaseException:
            scene.close()
            raise
        self._scenes[key] = scene, stamp
        if len(self._scenes) > self.limit:
            self._scenes.popitem(last=False)[1][0].close()

    def _opened(
        self,
        row: Mapping[str, Any],
        side: str,
        bands: Mapping[str, int | str],
        needed: list[str],
        own: str,
    ) -> Scene:
        def cell(column: str) -> Any:
            value = row[column]
            return None if pd.isna(value) else value

        path = row[side]
        scene = Scene.open(
            path,
            bands,
            cell(f"{own}sensor"),
            cell(f"{own}scale"),
            cell(f"{own}offset"),
            cell(f"{own}nodata"),
            needed=needed,
            opened=self.packs.open(path) if str(path).startswith("pack://") else None,
        )
        window = cell(f"{side}_window")
        if window is None:
            return scene
        try:
            return scene.part(Box.parse(window))
        except ValueError:
            scene.close()
            raise ManifestError(
                f"{side}_window {window!r} is not column,row,width,height in pixels"
            ) from None
        except CrossbandError:
            scene.close()
            raise

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
