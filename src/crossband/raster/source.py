"""What a user can give as a source: a folder, an archive, a metadata file, or an address."""

from __future__ import annotations

import functools
import re
import tarfile
import zipfile
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from crossband.core.regular_file import read_bytes
from crossband.errors import InputError

#: Extensions of single rasters.
RASTERS = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".vrt")
#: Largest metadata file in bytes; the largest known ones have a few MiB.
LARGEST = 64 * 2**20


def split_item_id(path: str) -> tuple[str, str]:
    """Split `items.json#ID`, an item of a collection, into the file and the item's ID.

    >>> split_item_id("items.json#S2A_T33"), split_item_id("scene#1.tif")
    (('items.json', 'S2A_T33'), ('scene#1.tif', ''))
    """
    match = re.fullmatch(r"(.+?\.(?:geo)?json)#(.+)", path, re.IGNORECASE)
    return (match[1], match[2]) if match else (path, "")


class Tree:
    """Files below a folder. Their names are relative to it and use `/`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def glob(self, pattern: str) -> list[str]:
        """Return the names that match, sorted; a star does not match `/`."""
        try:
            found = [p for p in self.path.glob(pattern) if p.is_file()]
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror}") from error
        return sorted(p.relative_to(self.path).as_posix() for p in found)

    def has(self, name: str) -> bool:
        """Return whether the file exists."""
        return (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        """Return the content of a metadata file."""
        return read_bytes(self.path / name, most=LARGEST)

    def href(self, name: str) -> str:
        """Return the path that GDAL opens; InputError for one outside of the tree."""
        if name.startswith("/") or ".." in name.split("/"):
            raise InputError(f"it names {name!r}, which is outside of {self.path}")
        return self._href(name)

    def _href(self, name: str) -> str:
        return str(self.path / name)

    def disk(self, name: str) -> str:
        """Return the file on disk that holds a file."""
        return str(self.path / name)


class Archive(Tree):
    """A zip file, or an uncompressed tar file; GDAL reads files inside both."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._zip = path.suffix.lower() == ".zip"
        try:
            if self._zip:
                with zipfile.ZipFile(path) as opened:
                    names = [i.filename for i in opened.infolist() if not i.is_dir()]
            else:
                with tarfile.open(path, "r:") as tar:
                    names = [m.name for m in tar if m.isfile()]
        except (OSError, zipfile.BadZipFile, tarfile.TarError) as error:
            raise InputError(f"{path}: not an archive that can be read: {error}") from error
        self._names = {n.removeprefix("./"): n for n in names}

    def glob(self, pattern: str) -> list[str]:
        """See `Tree.glob`."""
        wanted = pattern.split("/")
        return sorted(
            name
            for name in self._names
            if len(parts := name.split("/")) == len(wanted) and all(map(fnmatchcase, parts, wanted))
        )

    def has(self, name: str) -> bool:
        """See `Tree.has`."""
        return name in self._names

    def read(self, name: str) -> bytes:
        """See `Tree.read`."""
        inner = self._names.get(name, name)
        try:
            if self._zip:
                with zipfile.ZipFile(self.path) as opened, opened.open(inner) as file:
                    content = file.read(LARGEST + 1)
            else:
                with tarfile.open(self.path, "r:") as tar:
                    member = tar.extractfile(inner)
                    content = member.read(LARGEST + 1) if member is not None else b""
        # zlib.error is not among these: zipfile checks first and raises BadZipFile.
        except (OSError, KeyError, EOFError, zipfile.BadZipFile, tarfile.TarError) as error:
            raise InputError(f"{self.path}: {name}: cannot be read: {error}") from error
        if len(content) > LARGEST:
            raise InputError(f"{self.path}: {name}: too large for metadata")
        return content

    def _href(self, name: str) -> str:
        # Braces allow any extension of the archive.
        kind = "vsizip" if self._zip else "vsitar"
        return f"/{kind}/{{{self.path.absolute()}}}/{self._names.get(name, name)}"

    def disk(self, name: str) -> str:
        """Return the archive."""
        return str(self.path)


class Source:
    """What a user gives as a source.

    Attributes:
        path: as given.
        given: bands as given; see `crossband.raster.bands.parse_bands`.
        allow_local: a file on a server may refer to files of this machine.
    """

    def __init__(
        self, path: str, given: Mapping[str, int | str], *, allow_local: bool = False
    ) -> None:
        self.path, self.given, self.allow_local = path, given, allow_local

    @property
    def is_local(self) -> bool:
        """Whether it is a path on this machine."""
        return "://" not in self.path and not self.path.startswith("/vsi")

    def words(self, name: str) -> str:
        """Return how messages name a metadata file."""
        return self.path if self.path.endswith(name) else f"{self.path}: {name}"

    @functools.cached_property
    def tree(self) -> Tree | None:
        """The folder or archive; None for anything else."""
        path = Path(self.path)
        if not self.is_local:
            return None
        if path.is_dir():
            return Tree(path)
        if path.suffix.lower() in (".zip", ".tar") and path.is_file() and path.stat().st_size:
            return Archive(path)
        return None

    def metadata(self, *patterns: str) -> tuple[Tree, str] | None:
        """Return the metadata file of a product, and the tree that holds it; None if there is none.

        Args:
            patterns: names in a tree, as `*.SAFE/MTD_MSIL2A.xml`. The first one that matches a file
                is used. The source may also be such a file itself.

        Raises:
            InputError: several files match one pattern.
        """
        path = Path(self.path)
        for pattern in patterns:
            if self.tree is None:
                if fnmatchcase(path.name, pattern) and self.is_local and path.is_file():
                    return Tree(path.parent), path.name
                continue
            found = self.tree.glob(pattern)
            if len(found) > 1:
                raise InputError(
                    f"{self.path}: it holds {len(found)} products ({found[0]}, {found[1]}, ...); "
                    f"give one of them"
                )
            if found:
                return self.tree, found[0]
        return None
