"""Repeat failed requests for remote rasters, so that missing data are never read as values.

GDAL repeats a request that the server refuses (see `remote.OPTIONS`), but not one that breaks off:
it uses the part that it received, and it goes on without an index of blocks that was refused. An
incomplete block is an error of the decoder. But blocks that an incomplete index does not list are
read as zeros, and an incomplete header lacks scale or georeference. GDAL reports these failures
only in debug messages, so this module reads them. They also tell what GDAL opens.

GDAL itself fetches the data, not fsspec through rasterio's `opener`: paths of GDAL (`/vsis3/`,
VRTs with remote sources) bypass an opener, and GDAL's options for credentials would not apply.
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
from dataclasses import dataclass, field
from typing import Any, Self

import rasterio
from rasterio.errors import RasterioError

from crossband.errors import InputError
from crossband.raster import remote
from crossband.raster.labels import with_labels
from crossband.raster.opener import Opener

Env = Callable[[], AbstractContextManager[None]]


class IncompleteReadError(OSError):
    """A request of GDAL failed or broke off; GDAL itself may not have raised an error."""


@dataclass
class _Seen:
    """What GDAL's debug messages say of the requests and files of a thread.

    Attributes:
        failed: byte range, as `0-16383` -> how its last request failed.
        redirects: addresses that servers redirected to.
        opened: names and drivers of the rasters that GDAL opened.
    """

    failed: dict[str, str] = field(default_factory=dict)
    redirects: list[str] = field(default_factory=list)
    opened: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def detect_failed_requests(opener: Opener | None = None) -> Iterator[None]:
    """Raise IncompleteReadError on exit if a request in this context failed.

    Args:
        opener: says what GDAL may open in this context; its errors are raised first.
    """
    _listen()
    seen = _Seen()
    _watching[threading.get_ident()] = seen
    problem = None
    try:
        yield
    except (RasterioError, OSError) as error:
        problem = error
    finally:
        del _watching[threading.get_ident()]
    if opener is not None:
        for url in seen.redirects:
            opener.check_redirect(url)
        for name, driver in seen.opened:
            opener.check_opened(name, driver)
    for words in seen.failed.values():
        raise IncompleteReadError(remote.explain(words) or f"the connection broke ({words})")
    if problem is not None:
        raise problem


#: Thread in `detect_failed_requests` -> what was seen in it.
_watching: dict[int, _Seen] = {}


class _Request(threading.local):
    """The current request of GDAL in this thread, and how its response broke off."""

    part, broke = "", ""

    def parse(self, line: str) -> None:
        """Parse a debug message of GDAL."""
        if found := re.search(r": Downloading (\d+-\d+) ", line):
            self.part, self.broke = found[1], ""
        elif found := re.search(r"DownloadRegion\(.*response_code=2\d\d, msg=(.+)", line):
            self.broke = found[1].strip()
        elif found := re.search(r": Got response_code=(\d+)", line):
            refused = "" if found[1].startswith("2") else f"HTTP response code: {found[1]}"
            self._record(refused or self.broke)
        elif found := re.search(r"(?:Using effective|Effective) URL:? (\S+)", line):
            for seen in _own_or_only():
                seen.redirects.append(found[1])
        elif found := re.search(r"GDAL: GDALOpen\((.*), this=\w+\) succeeds as (\w+)", line):
            for seen in _own_or_only():
                seen.opened.append((found[1], found[2]))

    def _record(self, words: str) -> None:
        """Record how the request ended; nothing for a success."""
        own = _watching.get(threading.get_ident())
        # In a thread of GDAL, the request belongs to one of the watching threads.
        for seen in [own] if own is not None else list(_watching.values()):
            if words:
                seen.failed[self.part] = words
            else:  # a repeated request succeeded, perhaps in another region of the store
                seen.failed.pop(self.part, None)


def _own_or_only() -> list[_Seen]:
    """Return what this thread watches; in a thread of GDAL, that of the only one that watches."""
    own = _watching.get(threading.get_ident())
    others = list(_watching.values())
    return [own] if own is not None else others if len(others) == 1 else []


_request = _Request()


class _DebugFilter(logging.Filter):
    """Parses GDAL's messages to rasterio's loggers, and passes only critical ones on."""

    def filter(self, record: logging.LogRecord) -> bool:
        _request.parse(record.getMessage())
        return record.levelno >= logging.CRITICAL


@functools.cache
def _listen() -> None:
    for name in ("rasterio._env", "rasterio._err"):
        logger = logging.getLogger(name)
        logger.addFilter(_DebugFilter())
        logger.setLevel(logging.DEBUG)


class RetryingRaster:
    """A dataset of rasterio on a server, which repeats requests that fail or break off.

    Args:
        opener: opens the raster, and says what GDAL may open for it.
        env: context manager that sets GDAL's options.

    Raises:
        InputError: it names what it must not.
        RasterioError, OSError: it cannot be opened.
    """

    def __init__(self, opener: Opener, env: Env) -> None:
        self._opener, self._env = opener, env
        with env(), _remote_options():
            for pause in remote.retry_delays():
                try:
                    self._dataset = _open(opener)
                    break
                except IncompleteReadError:
                    time.sleep(pause)
                    remote.clear_cache()
            else:
                self._dataset = _open(opener)
            files: tuple[str, ...] = self._dataset.files
            self._far = [name for name in files if remote.is_remote(name)]

    @property
    def dataset(self) -> Any:
        """The dataset of rasterio; another one after a request had to be repeated."""
        return self._dataset

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def read(self, *args: Any, **options: Any) -> Any:
        """Read pixels; see rasterio.

        Raises:
            IncompleteReadError: no try was complete.
        """
        return self._retry(lambda: self._dataset.read(*args, **options))

    def read_masks(self, *args: Any, **options: Any) -> Any:
        """Read masks; see `read`."""
        return self._retry(lambda: self._dataset.read_masks(*args, **options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._dataset.close()

    def _retry(self, read: Callable[[], Any]) -> Any:
        problem: Exception
        try:
            with _remote_options(), detect_failed_requests(self._opener):
                return read()
        except (RasterioError, OSError) as error:
            problem = error
        with self._env(), _remote_options():
            for pause in remote.retry_delays():
                time.sleep(pause)
                remote.clear_cache()
                try:
                    remote.state(self._failed_file(problem))
                    self._reopen()
                    with detect_failed_requests(self._opener):
                        return read()
                except InputError as gone:
                    words = str(gone)
                    break
                except (RasterioError, OSError) as error:
                    problem = error
            else:
                words = ""
        raise IncompleteReadError(words or str(problem.__cause__ or problem)) from None

    def _failed_file(self, problem: Exception) -> str:
        """Return the file that failed: GDAL's message names one of several."""
        words = str(problem.__cause__ or problem)
        return next((f for f in self._far if remote.name_of(f) in words), self._far[0])

    def _reopen(self) -> None:
        """Open the file again: an open dataset keeps what GDAL parsed from incomplete data."""
        old, self._dataset = self._dataset, _open(self._opener)
        same = _metadata(old) == _metadata(self._dataset)
        old.close()
        if not same:
            raise InputError("it is another file than before")


def _remote_options() -> AbstractContextManager[Any]:
    """Set GDAL's options for remote rasters.

    Sidecar files are not looked up: each lookup is a request, and few rasters have any. A PNG is
    read on the slow path, which checks that it is complete (see `raster.png`).
    """
    options = {
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
        "CPL_DEBUG": f"GDAL,{remote.OPTIONS['CPL_DEBUG']}",
    }
    wanted: Any = {name: value for name, value in options.items() if name not in os.environ}
    environment: AbstractContextManager[Any] = rasterio.Env(**wanted)
    return environment


def _open(opener: Opener) -> Any:
    """Open a raster; IncompleteReadError if its header is incomplete.

    libtiff ends the process when it reads pixels with an incomplete directory. Asking for the flags
    of the mask makes it read all directories.
    """
    dataset = None
    try:
        with detect_failed_requests(opener):
            dataset = opener.open()
            flags = dataset.mask_flag_enums
            assert len(flags) == dataset.count
    except BaseException:
        if dataset is not None:
            dataset.close()
        raise
    return dataset


def _metadata(dataset: Any) -> str:
    labels = with_labels(dataset).descriptions
    return str([dataset.profile, dataset.scales, dataset.offsets, labels])
