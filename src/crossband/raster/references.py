"""Which files a VRT or a STAC item on a server may refer to.

GDAL opens whatever a name says. A VRT on a server could make this machine read one of its own
files, or ask a service that only its local network reaches, and the result would show what was
found. So a file on a server may refer only to its own server, to public servers and to object
stores. Everything else is refused, unless the user gives `--allow-local-references`.

A VRT has many ways to name a file. So one on a server may contain only those elements and
attributes that are listed here. Files on this machine are not restricted: a VRT on this machine may
refer to any file that the user can read.
"""

from __future__ import annotations

import functools
import ipaddress
import posixpath
import re
import socket
from collections.abc import Iterator
from typing import NoReturn
from urllib.parse import urlsplit
from xml.etree import ElementTree

from crossband.errors import InputError

#: The option that switches these rules off; messages name it.
FLAG = "--allow-local-references"
#: Bytes at the beginning of a file in which GDAL looks for the signature of a VRT.
HEAD = 1024

_INSIDE = r"(?:/vsi(?:zip|tar|gzip)/\{?)*"
_STORE = r"/vsi(?:s3|gs|az|adls|oss|swift)(?:_streaming)?/"
#: A name in these states its server, which may be this machine, or a file of this machine.
_HADOOP = r"/vsi(?:hdfs|webhdfs)/"
_CURL = r"/vsicurl(?:_streaming)?"
_ON_SERVER = re.compile(rf"{_INSIDE}(?:{_STORE}|{_HADOOP}|{_CURL}|(?:https?|ftp|s3|gs|az|oss)://)")
#: Names that are served by an object store, whose address the user's own settings state.
_IN_STORE = re.compile(rf"{_INSIDE}(?:{_STORE}|(?:s3|gs|az|oss)://)")
_URL = re.compile(rf"{_INSIDE}(?:{_CURL}/)?(https?://.+)", re.DOTALL)
#: Beginning of messages.
_VRT = "a VRT on a server must not contain"
#: Host and port, without a user's name, or anything that parsers may understand differently.
_PLACE = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?")
#: Elements and attributes that a VRT on a server may contain. Of these, only `SourceFilename` names
#: a file. GDAL ignores the case.
_ELEMENTS = re.compile(
    "vrtdataset|srs|geotransform|gcplist|gcp|metadata|mdi|vrtrasterband|description|unittype|offset|"
    "scale|colorinterp|nodatavalue|hidenodatavalue|categorynames|category|maskband|histograms|"
    "histitem|histmin|histmax|bucketcount|includeoutofrange|approximate|histcounts|overview|"
    "simplesource|complexsource|averagedsource|sourcefilename|sourceband|sourceproperties|srcrect|"
    "dstrect|scaleoffset|scaleratio|nodata|usemaskband|lut",
    re.IGNORECASE,
)
_ATTRIBUTES = re.compile(
    "rasterxsize|rasterysize|datatype|band|subclass|blockxsize|blockysize|relativetovrt|shared|domain|"
    "key|id|info|pixel|line|x|y|z|projection|dataaxistosrsaxismapping|coordinateepoch|xoff|yoff|xsize|"
    "ysize|resampling",
    re.IGNORECASE,
)


def is_on_server(name: str) -> bool:
    """Return whether a file is on a server or in an object store.

    >>> [is_on_server(n) for n in ("https://h/a.tif", "/vsis3/b/a.tif", "/vsizip//vsicurl/h")]
    [True, True, True]
    >>> [is_on_server(n) for n in ("a.tif", "/vsizip/a.zip/a.tif", "file:///a.tif")]
    [False, False, False]
    """
    return _ON_SERVER.match(name) is not None


def check_reference(name: str, origin: str) -> None:
    """Raise InputError for a file that a VRT or item on a server must not refer to.

    Args:
        name: of the file, as GDAL opens it.
        origin: the VRT or item that refers to it.
    """
    if _IN_STORE.match(name):
        return
    found = _URL.fullmatch(name)
    if found is None:
        _refuse(origin, f"it names {name!r}, which is not on a server")
    own = _URL.fullmatch(origin)
    place = _place(found[1])
    if place is None:
        _refuse(origin, f"it names {name!r}, of which the server cannot be told")
    if own is not None and place == _place(own[1]):
        return
    if any(not a.is_global or a.is_multicast for a in _resolve(place[0])):
        _refuse(origin, f"it names {name!r}, which is on this machine or in its local network")


def is_vrt(content: bytes) -> bool:
    """Return whether GDAL takes a file with this beginning for a VRT."""
    return b"<VRTDataset" in content[:HEAD]


def parse_vrt(content: bytes) -> ElementTree.Element:
    """Return the root element of a VRT, as GDAL reads it.

    Raises:
        ValueError: it is no XML.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    text = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f]", "", text)
    text = re.sub(r"&(?!#?\w+;)", "&amp;", text)  # GDAL bears it
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML that can be read: {error}") from error


def vrt_sources(root: ElementTree.Element, path: str) -> Iterator[str]:
    """Yield the names of the files that a VRT names, as GDAL opens them.

    Args:
        root: of the VRT.
        path: of the VRT.
    """
    for element in root.iter():
        kind, name = str(element.tag).lower(), (element.text or "").strip()
        if kind not in ("sourcefilename", "sourcedataset", "dempath") or not name:
            continue
        yield posixpath.join(posixpath.dirname(path), name) if _is_relative(element) else name


def check_vrt(content: bytes, origin: str) -> None:
    """Raise InputError for a VRT on a server that refers to what it must not.

    Text that GDAL's own parser of XML may read in another way than this one is refused, too.

    Args:
        content: of the VRT.
        origin: its own path, as GDAL opens it.
    """
    odd = re.search(
        rb"<!|(?<!\A)<\?|&(?!amp;|lt;|gt;|quot;|apos;)|[\x00-\x08\x0b\x0c\x0e-\x1f]", content
    )
    if odd is not None:
        _refuse(origin, f"{_VRT} {odd[0]!r}")
    try:
        root = parse_vrt(content)
    except ValueError as error:
        raise InputError(f"{origin}: {error}") from error
    for element in root.iter():
        kind, name = str(element.tag).lower(), element.text or ""
        own = {key.lower(): value for key, value in element.attrib.items()}
        if not _ELEMENTS.fullmatch(kind):
            _refuse(origin, f"{_VRT} <{element.tag}>, which may name any file")
        if len(own) < len(element.attrib) or not all(map(_ATTRIBUTES.fullmatch, own)):
            _refuse(origin, f"{_VRT} these attributes of <{element.tag}>")
        if own.get("subclass", "VRTSourcedRasterBand") != "VRTSourcedRasterBand":
            _refuse(origin, f"{_VRT} a {own['subclass']}, which may name any file")
        if kind == "metadata" and own.get("domain", "").upper() not in ("", "IMAGE_STRUCTURE"):
            _refuse(origin, f"{_VRT} metadata of the domain {own['domain']}")
        if kind != "sourcefilename":
            continue
        relative = own.get("relativetovrt", "0")
        if len(element) or relative not in ("0", "1") or name != name.strip():
            _refuse(origin, f"it names {name!r} in an unusual way")
        if relative == "0" and not name.startswith("/vsi"):  # GDAL reads URLs by other means
            _refuse(
                origin,
                f"it names {name!r}; on a server, a name must be relative or begin with /vsi",
            )
        if relative == "0":
            check_reference(name, origin)
        elif name.startswith(("/", "\\", "<")) or ":" in name:
            _refuse(origin, f"it names {name!r} as relative to itself, which it is not")


def _is_relative(element: ElementTree.Element) -> bool:
    stated = {key.lower(): value for key, value in element.attrib.items()}
    return stated.get("relativetovrt", "0").strip() == "1"


def _refuse(origin: str, words: str) -> NoReturn:
    raise InputError(f"{origin}: {words}; {FLAG} allows it")


def _place(url: str) -> tuple[str, int | None] | None:
    """Return host and port of a URL; None where they cannot be told for certain."""
    try:
        parts = urlsplit(url)
        if not _PLACE.fullmatch(parts.netloc):
            return None
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        return (parts.hostname or "").lower(), port
    except ValueError:
        return None


@functools.lru_cache(maxsize=256)
def _resolve(host: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]:
    """Return the addresses of a host; none where it is not known here, as behind a proxy."""
    try:
        found = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return ()
    known = [ipaddress.ip_address(text) for text in found]
    return tuple(getattr(a, "ipv4_mapped", None) or a for a in known)
