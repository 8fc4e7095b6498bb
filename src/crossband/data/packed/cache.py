"""A cache of shards from an object store: bounded, and shared by all processes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from crossband.core.locks import locked
from crossband.errors import OutputError


class ShardCache:
    """Complete shards on the local disk; the least recently used ones are removed first.

    Workers and ranks of a machine share it. One of them fetches a shard, under a lock that the
    system releases if that process dies. A shard gets its name when it is complete.

    Args:
        folder: of the cache; by default `~/.cache/crossband/packs` (`XDG_CACHE_HOME`).
        limit_gb: largest size in GiB. Each process that fetches adds one shard.
    """

    def __init__(self, folder: Path | None, limit_gb: float) -> None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.folder = home / "crossband" / "packs" if folder is None else Path(folder)
        self.limit = int(limit_gb * 2**30)

    def holds(self, size: int) -> bool:
        """Return whether that many bytes fit."""
        return size <= self.limit

    def get(self, name: str, size: int, fetch: Callable[[str], None]) -> Path:
        """Return the path of a shard, and fetch it first if necessary.

        Args:
            name: `<pack>/<shard>`.
            size: in bytes; a file of another size is fetched again.
            fetch: writes the shard to a path.

        Raises:
            OutputError: the cache cannot be written.
            OSError: the shard cannot be fetched.
        """
        path = self.folder / name
        if self._has(path, size):
            return path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.folder}: no cache can be made there: {error}") from error
        with locked(path.with_name(f".{path.name}.lock"), path, wait=True):
            if self._has(path, size):  # another process was first
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

    def _has(self, path: Path, size: int) -> bool:
        try:
            if path.stat().st_size != size:
                return False
            os.utime(path)  # marks it as recently used
        except OSError:
            return False
        return True

    def _make_room(self, size: int) -> None:
        """Remove the least recently used shards; open ones stay readable."""
        shards = []
        for path in self.folder.glob("*/*.tar"):
            try:
                at = path.stat()
            except OSError:  # another process removed it
                continue
            shards.append((at.st_mtime, at.st_size, path))
        total = sum(s for _, s, _ in shards)
        for _, old, path in sorted(shards):
            if total + size <= self.limit:
                break
            try:
                path.unlink()
            except OSError:  # on Windows, open files cannot be removed
                continue
            total -= old
