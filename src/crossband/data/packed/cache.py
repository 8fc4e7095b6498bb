"""The cache of shards that came from an object store: bounded, shared by all processes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from crossband.errors import OutputError


class ShardCache:
    """Whole shards on this machine's disk; the least recently used make room for the next.

    Workers and ranks of a machine share it: a shard is fetched by one of them, under a lock that
    the system releases should that process die, and appears under its name when it is complete.

    Args:
        folder: where; `~/.cache/crossband/packs` (`XDG_CACHE_HOME`) where None.
        limit_gb: most that it holds, in GiB; while processes fetch, each holds one shard more.
    """

    def __init__(self, folder: Path | None, limit_gb: float) -> None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.folder = home / "crossband" / "packs" if folder is None else Path(folder)
        self.limit = int(limit_gb * 2**30)

    def holds(self, size: int) -> bool:
        """Return whether so many bytes fit."""
        return size <= self.limit

    def get(self, name: str, size: int, fetch: Callable[[str], None]) -> Path:
        """Return the path of a shard, fetched where it is not there.

        Args:
            name: `<pack>/<shard>`.
            size: its bytes; a file of another size is fetched anew.
            fetch: writes it to a path.

        Raises:
            OutputError: the cache cannot be written.
            OSError: the shard cannot be fetched.
        """
        path = self.folder / name
        if self._there(path, size):
            return path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.folder}: no cache can be made there: {error}") from error
        with FileLock(path.with_name(f".{path.name}.lock")):
            if self._there(path, size):  # another process was first
                return path
            self._make_room(size)
            number, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            os.close(number)
            try:
                fetch(part)
                os.replace(part, path)
            finally:
                Path(part).unlink(missing_ok=True)
        return path

    def _there(self, path: Path, size: int) -> bool:
        try:
            if path.stat().st_size != size:
                return False
            os.utime(path)  # used now
        except OSError:
            return False
        return True

    def _make_room(self, size: int) -> None:
        """Remove the least recently used shards; one that a process has open stays readable."""
        found = []
        for path in self.folder.glob("*/*.tar"):
            try:
                at = path.stat()
            except OSError:  # another process removed it
                continue
            found.append((at.st_mtime, at.st_size, path))
        total = sum(s for _, s, _ in found)
        for _, old, path in sorted(found):
            if total + size <= self.limit:
                break
            try:
                path.unlink()
            except OSError:  # on Windows an open file stays
                continue
            total -= old
