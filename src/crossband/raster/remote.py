"""Remote rasters: recognise their paths, set GDAL's options for them, ask for their state.

GDAL fetches ranges of a file over HTTP(S) and from object stores, by URLs (`https://`, `s3://`) or
by its own paths (`/vsicurl/https://`, `/vsis3/`). Credentials, proxies and endpoints are GDAL's
environment variables.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from crossband.errors import InputError

#: URLs of object stores, and GDAL's prefixes for them.
STORES = {"s3://": "/vsis3/", "gs://": "/vsigs/", "az://": "/vsiaz/", "oss://": "/vsioss/"}
#: GDAL's options for remote files. A request that fails with a 5xx is repeated after about 0.5, 1,
#: 2 and 5 seconds (`raster.retry` repeats one that breaks off). A server that sends nothing for a
#: minute has failed. Fetched data are not kept after a file is closed, because the file may change.
#: `raster.retry` reads the debug messages.
OPTIONS: dict[str, Any] = {
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_CONNECTTIMEOUT": 20,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
    "GDAL_HTTP_LOW_SPEED_TIME": 60,
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/:/vsigs/:/vsiaz/:/vsiadls/:/vsioss/:/vsiswift/",
    "CPL_DEBUG": "VSICURL,S3,GS,AZURE,ADLS,OSS,SWIFT",
}
_MEANS = {
    401: "the server refuses access",
    403: "the server refuses access",
    404: "there is no such file on the server",
    429: "the server is asked too often",
}
# `Path` replaces two slashes by one. Lower case only: `NETCDF:/a.nc:b` is a part of a local file.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")
_FOLDED = re.compile(r"^([a-z][a-z0-9+.-]+):/(?!/)")


def is_remote(path: str | Path) -> bool:
    """Return whether a path is a URL or in one of GDAL's virtual file systems.

    >>> [is_remote(p) for p in ("s3://b/k.tif", "/vsis3/b/k.tif", "scene.tif", Path("s3://b/k"))]
    [True, True, False, True]
    """
    text = str(path)
    return text.startswith("/vsi") or _ADDRESS.match(text) is not None


def address(path: str | Path) -> str:
    """Return a path as text, and restore the two slashes of a URL that `Path` has reduced to one.

    >>> address(Path("s3://bucket/scene.tif")), address("a/scene.tif")
    ('s3://bucket/scene.tif', 'a/scene.tif')
    """
    return _FOLDED.sub(r"\1://", str(path))


def gdal_path(path: str) -> str:
    """Return the name by which GDAL itself opens a URL; any other path as it is.

    >>> gdal_path("https://h/a.tif"), gdal_path("s3://b/a.tif"), gdal_path("a.tif")
    ('/vsicurl/https://h/a.tif', '/vsis3/b/a.tif', 'a.tif')
    """
    for scheme, prefix in STORES.items():
        if path.startswith(scheme):
            return prefix + path.removeprefix(scheme)
    return f"/vsicurl/{path}" if path.startswith(("http://", "https://", "ftp://")) else path


def name_of(path: str | Path) -> str:
    """Return the file's name; for a URL without the query, which may hold a signature.

    >>> name_of("https://host/a/my%20scene.tif?X-Amz-Signature=secret")
    'my scene.tif'
    """
    if not is_remote(path):
        return Path(path).name
    return unquote(PurePosixPath(str(path).split("?")[0]).name)


@dataclass(frozen=True)
class State:
    """What a server states of a file; None for what it does not state.

    Attributes:
        size: in bytes.
        etag: changes with the content.
        modified: time of the last change.
    """

    size: int | None
    etag: str | None
    modified: str | None

    @property
    def detects_changes(self) -> bool:
        """Whether a change of the content with equal size can be detected."""
        return self.etag is not None or self.modified is not None


def state(path: str) -> State:
    """Return what a server states of a file; the content is not fetched.

    Args:
        path: one of GDAL's paths, as `/vsicurl/https://host/scene.tif`.

    Raises:
        InputError: the server does not answer, or refuses; the message has no path.
    """
    lines, words = _headers(path)
    if not lines:
        raise InputError(explain(words) or words)
    headers = {name.lower(): value for name, value in lines}
    whole = headers.get("content-range", "").rpartition("/")[2]  # of a range that was asked for
    size = whole or headers.get("content-length", "")
    return State(
        int(size) if size.isdigit() else None, headers.get("etag"), headers.get("last-modified")
    )


def read(path: str, most: int, start: int = 0) -> bytes:
    """Return `most` bytes of a file that GDAL can read, or those that there are.

    Args:
        path: of the file.
        most: number of bytes.
        start: position of the first one.

    Raises:
        OSError: it cannot be opened.
    """
    gdal = _gdal()
    gdal.CPLErrorReset()
    file = gdal.VSIFOpenL(gdal_path(path).encode(), b"rb")
    if not file:
        words = (gdal.CPLGetLastErrorMsg() or b"").decode(errors="replace")
        raise OSError(words or f"{path}: no such file")
    part = ctypes.create_string_buffer(min(most, 2**20))
    content = bytearray()
    try:
        gdal.VSIFSeekL(file, start, os.SEEK_SET)
        while len(content) < most:
            count = gdal.VSIFReadL(part, 1, min(len(part), most - len(content)), file)
            content += part.raw[:count]
            if not count:
                break
    finally:
        gdal.VSIFCloseL(file)
    return bytes(content)


def clear_cache() -> None:
    """Clear GDAL's cache of fetched data, which may be incomplete."""
    _gdal().VSICurlClearCache()


def explain(words: str) -> str | None:
    """Return what GDAL's message on a failed request means; None for other messages.

    >>> explain("HTTP response code: 404")
    'there is no such file on the server (HTTP 404)'
    """
    found = re.search(r"HTTP (?:response|error) code.*?: (\d+)(?: |$)", words)
    status = int(found[1]) if found else 0
    if status:
        return f"{_MEANS.get(status, 'the server fails')} (HTTP {status})"
    if found or words.startswith("CURL error: "):
        return f"no connection ({words.removeprefix('CURL error: ')})"
    return None


def retry_delays() -> list[float]:
    """Return the seconds to wait before each new try, by the current options of GDAL."""
    from rasterio.env import get_gdal_config

    try:
        tries = int(get_gdal_config("GDAL_HTTP_MAX_RETRY", normalize=False) or 0)
        delay = float(get_gdal_config("GDAL_HTTP_RETRY_DELAY", normalize=False) or 0)
    except ValueError as error:
        raise InputError(f"GDAL_HTTP_MAX_RETRY, GDAL_HTTP_RETRY_DELAY: {error}") from error
    return [delay * 2**i for i in range(tries)]


def _headers(path: str) -> tuple[list[tuple[str, str]], str]:
    """Return the HTTP headers of a file, and GDAL's error message if there are none."""
    gdal = _gdal()
    gdal.CPLErrorReset()
    found = gdal.VSIGetFileMetadata(path.encode(), b"HEADERS", None)
    words = gdal.CPLGetLastErrorMsg() or b""
    lines: list[bytes] = []
    while found and found[len(lines)]:
        lines.append(found[len(lines)])
    gdal.CSLDestroy(found)
    pairs = (line.decode("latin-1").partition("=") for line in lines)
    return [(name, value) for name, _, value in pairs], words.decode(errors="replace")


@functools.cache
def _gdal() -> ctypes.CDLL:
    """Return the GDAL library of rasterio, which itself does not expose HTTP headers."""
    import rasterio._base

    gdal = ctypes.CDLL(rasterio._base.__file__)
    text = ctypes.POINTER(ctypes.c_char_p)
    gdal.VSIGetFileMetadata.restype = text
    gdal.VSIGetFileMetadata.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
    gdal.CSLDestroy.restype, gdal.CSLDestroy.argtypes = None, [text]
    gdal.VSIFOpenL.restype = ctypes.c_void_p
    gdal.VSIFOpenL.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    gdal.VSIFReadL.restype = ctypes.c_size_t
    gdal.VSIFReadL.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p]
    gdal.VSIFSeekL.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int]
    gdal.VSIFCloseL.restype, gdal.VSIFCloseL.argtypes = ctypes.c_int, [ctypes.c_void_p]
    gdal.VSICurlClearCache.restype, gdal.VSICurlClearCache.argtypes = None, []
    gdal.CPLErrorReset.restype, gdal.CPLErrorReset.argtypes = None, []
    gdal.CPLGetLastErrorMsg.restype, gdal.CPLGetLastErrorMsg.argtypes = ctypes.c_char_p, []
    return gdal
