"""Rasters that lie elsewhere: what is a remote path, how GDAL reads it, whether it has changed.

GDAL fetches ranges of a file over HTTP(S) and from object stores, by addresses (`https://`,
`s3://`) or by its own names (`/vsicurl/https://`, `/vsis3/`). Credentials, proxies and endpoints
are GDAL's environment variables.
"""

from __future__ import annotations

import ctypes
import functools
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from crossband.errors import InputError

#: GDAL's options for what comes over a network. A request that fails with a 5xx is made again,
#: after about 0.5, 1, 2 and 5 seconds (see `patient` for one that breaks off); a server that
#: says nothing for a minute has failed. Nothing that was fetched outlives an open file: the next
#: one may be newer. The debug lines are for `patient`.
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
# `Path` makes one slash of two. Small letters: `NETCDF:/a.nc:b` is a part of a local file.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")
_FOLDED = re.compile(r"^([a-z][a-z0-9+.-]+):/(?!/)")


def is_remote(path: str | Path) -> bool:
    """Say whether a path is an address or one of GDAL's virtual file systems.

    >>> [is_remote(p) for p in ("s3://b/k.tif", "/vsis3/b/k.tif", "scene.tif", Path("s3://b/k"))]
    [True, True, False, True]
    """
    text = str(path)
    return text.startswith("/vsi") or _ADDRESS.match(text) is not None


def address(path: str | Path) -> str:
    """Return a path as text, with the two slashes that `Path` takes from an address.

    >>> address(Path("s3://bucket/scene.tif")), address("a/scene.tif")
    ('s3://bucket/scene.tif', 'a/scene.tif')
    """
    return _FOLDED.sub(r"\1://", str(path))


def name_of(path: str | Path) -> str:
    """Return the file's name; of an address without the query, which may hold a signature.

    >>> name_of("https://host/a/my%20scene.tif?X-Amz-Signature=secret")
    'my scene.tif'
    """
    if not is_remote(path):
        return Path(path).name
    return unquote(PurePosixPath(str(path).split("?")[0]).name)


@dataclass(frozen=True)
class State:
    """What a server says of a file; None where it does not say.

    Attributes:
        size: bytes.
        etag: changes with the content.
        modified: when it was last changed.
    """

    size: int | None
    etag: str | None
    modified: str | None

    @property
    def detects_changes(self) -> bool:
        """Whether a change that leaves the size alone shows."""
        return self.etag is not None or self.modified is not None


def state(path: str) -> State:
    """Ask a server what it says of a file; next to nothing is fetched.

    Args:
        path: one of GDAL's names, as `/vsicurl/https://host/scene.tif`.

    Raises:
        InputError: it gives no answer or a refusal: the reason without the path, if one is told.
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


def clear_cache() -> None:
    """Let GDAL forget all that was fetched, halves included."""
    _gdal().VSICurlClearCache()


def explain(words: str) -> str | None:
    """Return what GDAL's words on a request mean; None where they are of another matter.

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
    """Return how long to wait before each new try, by GDAL's options as they are set now."""
    from rasterio.env import get_gdal_config

    try:
        tries = int(get_gdal_config("GDAL_HTTP_MAX_RETRY", normalize=False) or 0)
        delay = float(get_gdal_config("GDAL_HTTP_RETRY_DELAY", normalize=False) or 0)
    except ValueError as error:
        raise InputError(f"GDAL_HTTP_MAX_RETRY, GDAL_HTTP_RETRY_DELAY: {error}") from error
    return [delay * 2**i for i in range(tries)]


def _headers(path: str) -> tuple[list[tuple[str, str]], str]:
    """Return a file's headers, and what GDAL says where there are none."""
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
    """Return rasterio's GDAL: rasterio itself has no call that tells a remote file's headers."""
    import rasterio._base

    gdal = ctypes.CDLL(rasterio._base.__file__)
    text = ctypes.POINTER(ctypes.c_char_p)
    gdal.VSIGetFileMetadata.restype = text
    gdal.VSIGetFileMetadata.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
    gdal.CSLDestroy.restype, gdal.CSLDestroy.argtypes = None, [text]
    gdal.VSICurlClearCache.restype, gdal.VSICurlClearCache.argtypes = None, []
    gdal.CPLErrorReset.restype, gdal.CPLErrorReset.argtypes = None, []
    gdal.CPLGetLastErrorMsg.restype, gdal.CPLGetLastErrorMsg.argtypes = ctypes.c_char_p, []
    return gdal
