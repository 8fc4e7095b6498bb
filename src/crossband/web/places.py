"""What a visitor may open: an upload, a file below the root, a raster on a public server.

A page names a scene by one text: `upload:ID`, `root:folder/file.tif` or `remote:https://...`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossband.core.json_text import read_json
from crossband.errors import CrossbandError, InputError, OutputError
from crossband.raster import dataset
from crossband.raster.gdal import gdal
from crossband.raster.opener import Opener
from crossband.raster.remote import is_remote, name_of
from crossband.raster.source import RASTERS
from crossband.web.addresses import check_address
from crossband.web.settings import Settings

#: Identifiers of uploads and jobs: 128 random bits, which nobody guesses.
ID = re.compile(r"[0-9a-f]{32}")
#: Folders that are one scene.
_PRODUCT = ".SAFE"
#: Formats that are decoded from the top, whatever window is read.
_PICTURES = ("PNG", "JPEG", "WEBP")
#: Entries of one folder that are listed.
_LISTED = 2000
_ENDINGS = {"GTiff": ".tif", "PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}


@dataclass(frozen=True)
class Place:
    """A scene that a visitor may open.

    Attributes:
        path: as `open_scene` takes it.
        name: as the page shows it.
        self_contained: it may name no other file.
        version: changes with the content, as far as the disk says.
    """

    path: str
    name: str
    self_contained: bool
    version: str = ""


def new_id() -> str:
    """Return an identifier that nobody guesses."""
    return secrets.token_hex(16)


class Places:
    """Finds the file behind what a page names, and refuses all others.

    Args:
        settings: of the server.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.uploads = settings.folder / "uploads"
        self._received = Received()

    def find(self, text: str) -> Place:
        """Return what a page names.

        Raises:
            InputError: it is not offered.
        """
        kind, _, rest = text.partition(":")
        if kind == "upload":
            return self._upload(rest)
        if kind == "root":
            return self._below_root(rest)
        if kind == "remote":
            return self._remote(rest)
        raise InputError("a scene is named by upload:, root: or remote:")

    def name_of(self, text: str) -> str:
        """Return the name for people of what a page names, whether it can be opened or not."""
        try:
            return self.find(text).name if text else ""
        except CrossbandError:
            return text[:200]

    def _upload(self, text: str) -> Place:
        if not ID.fullmatch(text):
            raise InputError("there is no such upload")
        folder = self.uploads / text
        try:
            name = read_json(folder / "upload.json")["file"]
            path = folder / "file" / name
            state = path.stat()
        except (CrossbandError, OSError, KeyError, TypeError) as error:
            raise InputError("there is no such upload: it may have been deleted") from error
        return Place(str(path), name, True, f"{state.st_size} {state.st_mtime_ns}")

    def inside_root(self, text: str) -> Path:
        """Return a path below the root.

        Raises:
            InputError: it is not below the root, also by a link, or does not exist.
        """
        root = self._settings.root
        refused = InputError(f"{text[:200]!r} is not offered")
        if root is None:
            raise InputError("no folder is offered: the server was started without --root")
        if any(c in text for c in "\x00\\:%") or text.startswith("/"):
            raise refused
        parts = [part for part in text.split("/") if part]
        if any(part.startswith(".") for part in parts):
            raise refused
        try:
            path = root.joinpath(*parts).resolve(strict=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise refused from error
        if not path.is_relative_to(root):
            raise refused
        return path

    def _below_root(self, text: str) -> Place:
        path = self.inside_root(text)
        if not _is_offered(path):
            raise InputError(f"{text[:200]!r} is not offered: of rasters, {', '.join(RASTERS)}")
        state = path.stat()
        if path.is_file():
            opener = Opener(str(path))
            opener.look()
            for name in opener.sources:
                self.check_file(name, path.name)
        version = f"{state.st_size} {state.st_mtime_ns}"
        return Place(str(path), text.strip("/"), False, version)

    def check_file(self, name: str, of: str) -> None:
        """Raise InputError for a file that a raster names, and that is not below the root."""
        root = self._settings.root
        assert root is not None
        if is_remote(name) or not Path(name).resolve().is_relative_to(root):
            raise InputError(f"{of}: it names a file that is not below the folder that is offered")

    def _remote(self, text: str) -> Place:
        if not self._settings.allow_remote:
            raise InputError("rasters on servers are not offered: see --allow-remote")
        check_address(text, self._settings.networks)
        return Place(text, name_of(text) or "remote", True)

    def check_size(self, raster: Any, place: Place) -> None:
        """Raise InputError for a raster of a visitor that would decode to too many pixels."""
        if not place.self_contained:
            return
        most = self._settings.max_pixels
        if raster.driver in _PICTURES:
            most //= 10
        pixels = raster.width * raster.height
        if pixels > most:
            raise InputError(
                f"{place.name}: {raster.width} x {raster.height} pixels, and at most {most:,} are "
                f"opened of a {raster.driver} here"
            )

    def check_declared(self, place: Place) -> None:
        """Raise InputError for a raster of a visitor that declares too many pixels."""
        if place.self_contained:
            with gdal(), dataset.open_dataset(place.path, self_contained=True) as raster:
                self.check_size(raster, place)

    def folder(self, text: str) -> dict[str, Any]:
        """Return folders and rasters in a folder below the root."""
        path = self.inside_root(text)
        if not path.is_dir():
            raise InputError(f"{text[:200]!r} is no folder")
        folders, files = [], []
        try:
            entries = sorted(os.scandir(path), key=lambda e: e.name)
        except OSError as error:
            raise InputError(f"{text[:200]!r}: {error.strerror}") from error
        below = text.strip("/")
        for entry in entries[:_LISTED]:
            name = f"{below}/{entry.name}" if below else entry.name
            try:
                target = self.inside_root(name)
            except InputError:
                continue
            if _is_offered(target):
                files.append({"name": entry.name, "scene": f"root:{name}"})
            elif target.is_dir():
                folders.append({"name": entry.name, "folder": name})
        more = max(len(entries) - _LISTED, 0)
        return {"folder": below, "folders": folders, "files": files, "more": more}

    def new_upload(self, name: str) -> Upload:
        """Begin an upload.

        Raises:
            OutputError: the disk, or the share of it that uploads may take, is full.
        """
        room = self._settings.max_stored - sum(_sizes(self.uploads))
        if room <= 0:
            raise OutputError("the server keeps no further uploads at present; try again later")
        return Upload(
            self.uploads / new_id(), name, self._settings.max_upload, room, self._received
        )

    def finish_upload(self, upload: Upload, modified: float | None) -> dict[str, Any]:
        """Open an upload, and offer it where it is a raster that may be opened.

        Args:
            upload: whose last byte has come.
            modified: when the visitor's file was changed, in seconds since 1970.

        Raises:
            InputError: it is not.
        """
        try:
            with dataset.open_dataset(upload.path, self_contained=True) as raster:
                driver = raster.driver
                self.check_size(raster, Place(str(upload.path), upload.name, True))
        except InputError as error:
            raise InputError(str(error).replace(str(upload.path), upload.name)) from error
        name = _file_name(upload.name, _ENDINGS.get(driver, ".jp2"))
        upload.path.rename(upload.path.with_name(name))
        if modified is not None:
            os.utime(upload.path.with_name(name), (modified, modified))
        said = json.dumps({"file": name, "uploaded": time.time()})
        (upload.folder / "upload.json").write_text(said, encoding="utf-8")
        return {"scene": f"upload:{upload.folder.name}", "name": name}

    def remove_old(self, used: set[str]) -> None:
        """Delete uploads that are older than the server keeps them, and parts of broken ones.

        Args:
            used: scenes that jobs still need.
        """
        now = time.time()
        for folder in _folders(self.uploads):
            whole = (folder / "upload.json").exists()
            hours = (now - folder.stat().st_mtime) / 3600
            old = hours > (self._settings.keep if whole else min(24.0, self._settings.keep))
            if old and f"upload:{folder.name}" not in used:
                shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Received:
    """Bytes that have come in all uploads since the start."""

    size: int = 0


class Upload:
    """A file that a visitor sends; it is limited while it comes.

    Args:
        folder: is made for it.
        name: of the visitor's file.
        most: bytes that it may have.
        room: bytes that all uploads may have from now on.
        received: is shared by all uploads.
    """

    def __init__(self, folder: Path, name: str, most: int, room: int, received: Received) -> None:
        self.folder, self.name, self.most = folder, _file_name(name, ""), most
        self._received, self._last = received, received.size + room
        self.path = folder / "file" / "upload.part"
        self.path.parent.mkdir(parents=True)
        self._file = open(self.path, "xb")  # noqa: SIM115 (closed by finish or discard)
        self.size = 0

    def write(self, part: bytes) -> bool:
        """Write the next bytes; False where they are too many.

        Raises:
            OutputError: all uploads together are too many.
        """
        if self.size + len(part) > self.most:
            return False
        if self._received.size + len(part) > self._last:
            raise OutputError("the server keeps no further uploads at present; try again later")
        self._received.size += len(part)
        self.size += len(part)
        self._file.write(part)
        return True

    def close(self) -> None:
        """Close the file; it stays."""
        self._file.close()

    def discard(self) -> None:
        """Delete what has come."""
        self._file.close()
        self._received.size -= self.size
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_offered(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() in RASTERS
    return path.is_dir() and path.name.endswith(_PRODUCT)


def _file_name(text: str, ending: str) -> str:
    """Return a name under which a file of a visitor is stored, and nothing else is meant.

    >>> _file_name("../my scene.TIF", ".tif"), _file_name("<script>.png", ".png")
    ('my scene.tif', '<script>.png')
    """
    last = re.split(r"[/\\]", text)[-1]
    kept = "".join(c if c.isprintable() and c not in ':%"|?*{}=,&' else "_" for c in last)
    kept = kept.encode("utf-8", "replace").decode("utf-8").strip(" .")
    if ending:
        stem, dot, _ = kept.rpartition(".")
        kept = (stem if dot and stem else kept) + ending
    stem, dot, last = kept.rpartition(".")
    shown = f"{stem[:80]}{dot}{last[:10]}" if dot else kept[:80]
    return shown or f"scene{ending}"


def _folders(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (p for p in path.iterdir() if p.is_dir())


def _sizes(path: Path) -> Iterator[int]:
    for folder in _folders(path):
        for file in (folder / "file").glob("*"):
            try:
                yield file.stat().st_size
            except OSError:  # deleted at this moment
                continue
