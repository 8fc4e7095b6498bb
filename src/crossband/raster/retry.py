"""Rasters on servers, with patience: what did not come is asked for again, and never made up.

GDAL repeats a request that was refused (see `remote.OPTIONS`), but not one that broke off in the
middle: it takes what it got for all there is, and goes on without an index of blocks that was
refused. Half a block is an error of its decoder, but half an index makes a file with holes, which
are read as zeros, and half a header one without scale or georeference. Only GDAL's debug lines
tell, so they are listened to.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Self

import rasterio
from rasterio.errors import RasterioError

from crossband.errors import InputError
from crossband.raster import remote

Env = Callable[[], AbstractContextManager[None]]


class IncompleteReadError(OSError):
    """Not all that GDAL asked a server for came, though GDAL may have gone on without it."""


@contextmanager
def watched() -> Iterator[None]:
    """Raise IncompleteReadError at the end where a part of a file did not come inside."""
    _listen()
    failed: dict[str, str] = {}
    _watching[threading.get_ident()] = failed
    problem = None
    try:
        yield
    except (RasterioError, OSError) as error:
        problem = error
    finally:
        del _watching[threading.get_ident()]
    for words in failed.values():
        raise IncompleteReadError(remote.explain(words) or f"the connection broke ({words})")
    if problem is not None:
        raise problem


#: Of each thread that watches: part of a file, as `0-16383` -> how its last request failed.
_watching: dict[int, dict[str, str]] = {}


class _Request(threading.local):
    """The request that GDAL makes in this thread, and how its answer broke off."""

    part, broke = "", ""

    def hear(self, line: str) -> None:
        if found := re.search(r": Downloading (\d+-\d+) ", line):
            self.part, self.broke = found[1], ""
        elif found := re.search(r"DownloadRegion\(.*response_code=2\d\d, msg=(.+)", line):
            self.broke = found[1].strip()
        elif found := re.search(r": Got response_code=(\d+)", line):
            refused = "" if found[1].startswith("2") else f"HTTP response code: {found[1]}"
            self._tell(refused or self.broke)

    def _tell(self, words: str) -> None:
        own = _watching.get(threading.get_ident())
        # A thread of GDAL's own works for somebody who watches.
        for failed in [own] if own is not None else list(_watching.values()):
            if words:
                failed[self.part] = words
            else:  # a new try, or one in another region of the store
                failed.pop(self.part, None)


_request = _Request()


class _Ear(logging.Filter):
    """Sees what GDAL tells rasterio's loggers, and lets nothing through that they would not."""

    def filter(self, record: logging.LogRecord) -> bool:
        _request.hear(record.getMessage())
        return record.levelno >= logging.CRITICAL


@functools.cache
def _listen() -> None:
    for name in ("rasterio._env", "rasterio._err"):
        logger = logging.getLogger(name)
        logger.addFilter(_Ear())
        logger.setLevel(logging.DEBUG)


class RetryingRaster:
    """A raster that is read over a network: rasterio's dataset, opened and read until all came.

    Args:
        path: as rasterio takes it.
        env: sets GDAL's options for what is inside.

    Raises:
        RasterioError, OSError: it cannot be opened.
    """

    def __init__(self, path: str, env: Env) -> None:
        self._path, self._env = path, env
        with env(), _alone():
            for pause in remote.retry_delays():
                try:
                    self._dataset = _open(path)
                    break
                except IncompleteReadError:
                    time.sleep(pause)
                    remote.clear_cache()
            else:
                self._dataset = _open(path)
            files: tuple[str, ...] = self._dataset.files
            self._far = [name for name in files if remote.is_remote(name)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def read(self, *args: Any, **options: Any) -> Any:
        """Read pixels; see rasterio.

        Raises:
            IncompleteReadError: they do not come.
        """
        return self._until_all_came(lambda: self._dataset.read(*args, **options))

    def read_masks(self, *args: Any, **options: Any) -> Any:
        """Read masks; see `read`."""
        return self._until_all_came(lambda: self._dataset.read_masks(*args, **options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._dataset.close()

    def _until_all_came(self, read: Callable[[], Any]) -> Any:
        problem: Exception
        try:
            with _alone(), watched():
                return read()
        except (RasterioError, OSError) as error:
            problem = error
        with self._env(), _alone():
            for pause in remote.retry_delays():
                time.sleep(pause)
                remote.clear_cache()
                try:
                    remote.state(self._suspect(problem))
                    self._reopen()
                    with watched():
                        return read()
                except InputError as gone:
                    words = str(gone)
                    break
                except (RasterioError, OSError) as error:
                    problem = error
            else:
                words = ""
        raise IncompleteReadError(words or str(problem.__cause__ or problem)) from None

    def _suspect(self, problem: Exception) -> str:
        """Return the file that failed: of many, GDAL's words name it."""
        words = str(problem.__cause__ or problem)
        return next((f for f in self._far if remote.name_of(f) in words), self._far[0])

    def _reopen(self) -> None:
        """Open it anew: what GDAL made of a half stays with what is open."""
        old, self._dataset = self._dataset, _open(self._path)
        same = _looks(old) == _looks(self._dataset)
        old.close()
        if not same:
            raise InputError("it is another file than before")


def _alone() -> AbstractContextManager[Any]:
    """Set what holds for a raster on a server only.

    No files beside it are asked for: each is a request, and few have any. A PNG is read the slow
    way, which tells whether it is whole (see `png`).
    """
    options = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}
    wanted: Any = {name: value for name, value in options.items() if name not in os.environ}
    environment: AbstractContextManager[Any] = rasterio.Env(**wanted)
    return environment


def _open(path: str) -> Any:
    """Open a raster; IncompleteReadError where not all of its header came.

    libtiff ends the process where it is asked for pixels and has half a directory. The flags of
    the mask make it read all of them.
    """
    dataset = None
    try:
        with watched():
            dataset = rasterio.open(path)
            flags = dataset.mask_flag_enums
            assert len(flags) == dataset.count
    except BaseException:
        if dataset is not None:
            dataset.close()
        raise
    return dataset


def _looks(dataset: Any) -> str:
    return str([dataset.profile, dataset.scales, dataset.offsets, dataset.descriptions])
