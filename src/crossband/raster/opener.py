"""Open a raster after its references to other files are checked; see `references`."""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rasterio.errors import RasterioIOError

from crossband.core.regular_file import check_regular_file, read_bytes
from crossband.errors import InputError
from crossband.raster import remote
from crossband.raster.block_limit import check_blocks
from crossband.raster.drivers import RASTERS, SELF_CONTAINED, open_with
from crossband.raster.gdal import READ_ERRORS
from crossband.raster.references import (
    FLAG,
    HEAD,
    check_reference,
    check_vrt,
    is_on_server,
    is_vrt,
    parse_vrt,
    vrt_sources,
)
from crossband.raster.source import LARGEST
from crossband.raster.stated_numbers import check_numbers

#: Prefix of a name of a raster with options, as `vrt://in.tif?bands=1`.
VRT_PREFIX = "vrt://"
#: Prefix of the name of a file of overviews in the same folder.
_BESIDE = ":::BASE:::"
#: VRTs of one raster, those inside others counted, how deep these may lie, and what they all name,
#: as often as GDAL would read it: 30 sources of 30 of 30 are 27,000.
_MOST_VRTS, _DEEPEST, _MOST_SOURCES = 1000, 32, 1_000_000


def check_regular_parts(name: str) -> None:
    """Raise InputError for a name of GDAL that has a FIFO or a device in it.

    >>> check_regular_parts("NETCDF:/dev/zero:band")
    Traceback (most recent call last):
    crossband.errors.InputError: /dev/zero: a device, and no regular file
    """
    parts = re.split(r'[:,"{}?&=]|/vsi[a-z0-9_]+(?=/)', name)
    for part in parts if len(parts) == 1 else (name, *parts):
        at = part
        while at and not os.path.exists(at):
            at = at.rpartition("/")[0]  # a file inside an archive
        if at and not os.path.isfile(at) and not os.path.isdir(at):
            check_regular_file(at)


def check_sidecars(path: str) -> None:
    """Raise InputError for a file that GDAL reads beside a raster, and that is no regular file."""
    for ending in (".msk", ".MSK", ".ovr", ".OVR", ".aux.xml"):
        check_regular_file(path + ending)
    check_regular_file(os.path.splitext(path)[0] + ".tfw")


@dataclass
class Opener:
    """Opens a raster, and says what GDAL may open for it.

    Attributes:
        path: as the caller gives it.
        allow_local: a file on a server may refer to files of this machine.
        self_contained: it may refer to no file at all.
        vrts: normal paths of VRTs, as GDAL opens them, that have been looked at.
        sources: names of all files that these name.
    """

    path: str
    allow_local: bool = False
    self_contained: bool = False
    vrts: set[str] = field(default_factory=set)
    sources: list[str] = field(default_factory=list)

    @property
    def strict(self) -> bool:
        """Whether the raster is on a server and must not refer to files of this machine."""
        return is_on_server(self.path) and not self.allow_local

    def open(self) -> Any:
        """Return the raster as a dataset of rasterio, after a look at all that it names.

        Raises:
            InputError: it names what it must not.
            RasterioError: it cannot be opened.
        """
        if self.self_contained:
            return self.open_seen()
        if not self.strict:
            self.look(fetch=True)
            return self.open_seen()
        try:
            return self._checked(open_with(self.path, SELF_CONTAINED))
        except RasterioIOError as error:
            unknown = "not recognized" in str(error)
            if not unknown or not is_vrt(remote.read(self.path, HEAD)):
                raise
        self.look(fetch=True)
        return self._checked(open_with(self.path, ("VRT",)))

    def open_seen(self) -> Any:
        """Return the raster after `look`; see `open`."""
        if self.self_contained:
            return self._checked(open_with(self.path, SELF_CONTAINED))
        check_sidecars(self.path)
        for name in self.sources:
            check_sidecars(name)
            if os.path.isfile(name) and posixpath.normpath(name) not in self.vrts:
                with contextlib.suppress(*READ_ERRORS):
                    self._checked(open_with(name, RASTERS)).close()  # to read it says why
        return self._checked(open_with(self.path, RASTERS))

    def look(self, *, fetch: bool = False) -> None:
        """Look at the VRTs that the raster consists of.

        Args:
            fetch: also at those on servers.

        Raises:
            InputError: one names what it must not, or no regular file.
        """
        self.vrts, self.sources = set(), []
        if self.self_contained:
            return
        root = Counter(self._named(self.path, fetch=fetch))
        waiting, inside = list(root), dict[str, Counter[str]]()
        while waiting:
            name = waiting.pop(0)
            self.sources.append(name)
            if _key(name) not in inside:
                named = Counter(self._named(name, fetch=fetch))
                inside[_key(name)] = named
                waiting += named
        self._check_nesting(root, inside)

    def _check_nesting(
        self, named: Mapping[str, int], inside: Mapping[str, Mapping[str, int]]
    ) -> None:
        """Raise InputError where VRTs in VRTs would make GDAL read without end.

        Args:
            named: what the raster names -> how often.
            inside: file -> what it names -> how often.
        """
        total, depth = 0, 0
        while named:
            total, depth = total + sum(named.values()), depth + 1
            if depth > _DEEPEST:
                raise InputError(f"{self.path}: VRTs inside VRTs, more than {_DEEPEST} deep")
            if total > _MOST_SOURCES:
                raise InputError(
                    f"{self.path}: more than {_MOST_SOURCES:,} sources, those of VRTs inside VRTs "
                    f"counted as often as they are named"
                )
            below: Counter[str] = Counter()
            for name, count in named.items():
                for inner, times in inside[_key(name)].items():
                    below[inner] += count * times
            named = below

    def _named(self, name: str, *, fetch: bool) -> list[str]:
        """Return the files that a VRT names; nothing for other files."""
        check_regular_parts(name)
        if name.startswith(VRT_PREFIX):
            return [name.removeprefix(VRT_PREFIX).partition("?")[0]]
        on_server = is_on_server(name)
        if remote.is_remote(name):
            of_vrt = name.partition("?")[0].lower().endswith(".vrt") or (
                on_server and name == self.path
            )
            content = b""
            if of_vrt and (fetch or not on_server) and is_vrt(remote.read(name, HEAD)):
                content = _fetch(name)
        else:
            content = read_head(name)
            if is_vrt(content):
                content = read_bytes(name, most=LARGEST)
        if not is_vrt(content):
            return []
        own = remote.gdal_path(name)
        self.vrts.add(posixpath.normpath(own))
        if len(self.vrts) > _MOST_VRTS:
            raise InputError(f"{self.path}: more than {_MOST_VRTS} VRTs name each other")
        if on_server and not self.allow_local:
            check_vrt(content, own)
        try:
            root = parse_vrt(content)
        except ValueError as error:
            raise InputError(f"{name}: {error}") from error
        check_numbers(root, name)
        return list(vrt_sources(root, own))

    def _checked(self, dataset: Any) -> Any:
        """Return an open raster; InputError if it keeps its overviews where it must not."""
        name = dataset.tags(ns="OVERVIEWS").get("OVERVIEW_FILE", "")
        beside = os.path.join(os.path.dirname(dataset.name), name.removeprefix(_BESIDE))
        try:
            check_regular_parts(beside if name.startswith(_BESIDE) else name)
            if name and not name.startswith(_BESIDE) and not self.allow_local:
                raise InputError(
                    f"{dataset.name}: it says that its overviews are {name!r}; {FLAG} allows it"
                )
            check_blocks(dataset, dataset.name)
        except BaseException:
            dataset.close()
            raise
        return dataset

    def check_opened(self, name: str, driver: str) -> None:
        """Raise InputError for a file that GDAL should not have opened for this raster.

        A server may answer twice in different ways, and serve a VRT under any name.
        """
        if self.allow_local:
            return
        on_server = is_on_server(name)
        allowed = SELF_CONTAINED if self.self_contained else (*SELF_CONTAINED, "VRT")
        wrong = driver not in allowed or (
            driver == "VRT" and posixpath.normpath(name) not in self.vrts
        )
        if (on_server and wrong) or (self.strict and not on_server):
            raise InputError(
                f"{self.path}: it made GDAL open {name!r} ({driver}); {FLAG} allows it"
            )

    def check_redirect(self, url: str) -> None:
        """Raise InputError for an address that a server must not redirect to."""
        if self.strict:
            check_reference(url, remote.gdal_path(self.path))


def _key(name: str) -> str:
    """Return what tells a file from others, under whatever name."""
    return name if remote.is_remote(name) else os.path.realpath(name)


def _fetch(name: str) -> bytes:
    content = remote.read(name, LARGEST + 1)
    if len(content) > LARGEST:
        raise InputError(f"{name}: too large for a VRT")
    return content


def read_head(name: str) -> bytes:
    """Return the beginning of a regular file, in which GDAL looks for the signature of a VRT."""
    if not os.path.isfile(name):
        return b""
    try:
        with open(name, "rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""  # to open it says why
