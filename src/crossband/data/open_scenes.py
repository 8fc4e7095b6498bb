"""A cache of open scenes, so that a file is not opened again for each window."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from crossband.data.packed.read import Packs
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.scene import Scene

#: Scenes that a process keeps open: most systems let it open 1,024 files.
OPEN = 256


class OpenScenes:
    """Opens scenes and keeps the most recently used ones open.

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
    def __call__(self, path: str, options: ReadOptions, needed: Sequence[str]) -> Iterator[Scene]:
        """Yield an open scene. After an exception it is closed; the next use opens it again.

        Args:
            path: as `open_scene` takes it, or a file of a pack.
            options: see `open_scene`.
            needed: common names, in the order in which they are read.
        """
        if self._pid != os.getpid():
            # A forked process would share the positions in open files with its parent.
            self._scenes, self._pid = OrderedDict(), os.getpid()
        bands = tuple((options.bands or {}).items())
        key = (path, bands, replace(options, bands=None), *needed)
        state = _file_state(path)
        scene, before = self._scenes.pop(key, (None, None))
        if scene is not None and state != before:
            scene.close()  # the file has changed, or does not exist any more
            scene = None
        if scene is None:
            opened = self.packs.open_if_packed(path)
            scene = open_scene(path, options, needed=needed, opened=opened)
        try:
            yield scene
        except BaseException:
            scene.close()
            raise
        other, _ = self._scenes.pop(key, (None, None))
        if other is not None:  # it was opened twice at once, as a source and as a target
            other.close()
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
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
