"""Packs: the files of a manifest as compressed blocks in shards, on disk or in an object store.

    packed/
      pack.json         format, version, size of the blocks, SHA-256 of the tables and shards
      pairs.parquet     the manifest with all columns; paths are names in `files.parquet`
      files.parquet     one row a file: name, and metadata (see `data.packed.raster`) as JSON
      blocks.parquet    one row a block: file, block row and column, shard, offset, bytes per plane
      shards/000000.tar

The path of a file in a pack is `pack://<folder or URL>#<name>`. Windows are read in any order. A
sample has the same pixels at the same position of a training as from the files themselves.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from crossband.core.json_text import parse_strict_json
from crossband.core.regular_file import MOST_TEXT, check_regular_file
from crossband.data.packed.cache import ShardCache
from crossband.data.packed.raster import PackedRaster
from crossband.data.table_file import DAMAGED, TableLimits, read_arrow, to_pandas
from crossband.errors import InputError, ManifestError
from crossband.raster.remote import address

T = TypeVar("T")
#: Version 1, of Crossband 0.1, has no checksums.
FORMAT, VERSION, UNCHECKED = "crossband-pack", 2, 1
ABOUT, PAIRS, FILES, BLOCKS, SHARDS = (
    "pack.json",
    "pairs.parquet",
    "files.parquet",
    "blocks.parquet",
    "shards",
)
TABLES = (PAIRS, FILES, BLOCKS)
#: Bytes at the end of a compressed plane: the CRC-32 of those before.
CHECKSUM = 4
#: Columns of a manifest that name files of a pack.
SIDES = ("source", "target", "guide")
#: Bytes that the smallest block takes in a shard, with its header there.
LEAST_BLOCK = 512
#: Shards of a local pack that a process keeps open.
OPEN = 64
#: Tries of a request, and seconds before the second one; the pause doubles after each try.
TRIES, PAUSE = 4, 0.5
_KEY = 2**21  # block rows and columns of a file; 2 million blocks of 128 pixels are 268 Mpixels


def is_pack(path: str | Path) -> bool:
    """Return whether the path of a manifest is a pack: a folder with `pack.json`, or a URL."""
    root = location(path)
    return not root.endswith((".csv", ".parquet", ".pq")) and (
        "://" in root or os.path.isfile(Path(root) / ABOUT)
    )


def location(path: str | Path) -> str:
    """Return the path of a pack as text.

    >>> location(Path("s3://bucket/packed")), location("packed")
    ('s3://bucket/packed', 'packed')
    """
    return address(path)


def name_in(root: str, name: str) -> str:
    """Return the path of a file in a pack.

    >>> name_in("/data/my pack", "images/a#1.tif")
    'pack:///data/my pack#images/a%231.tif'
    """
    return f"pack://{root}#{name.replace('%', '%25').replace('#', '%23')}"


def is_packed(path: Any) -> bool:
    """Return whether the path of a file is one in a pack; see `name_in`."""
    return isinstance(path, str) and path.startswith("pack://")


def split_name(path: str) -> tuple[str, str]:
    """Return the pack and the name in it from a path of `name_in`."""
    root, _, name = path.removeprefix("pack://").rpartition("#")
    return root, unquote(name)


def read_pairs(path: str | Path) -> pd.DataFrame:
    """Return the manifest of a pack; `Packs.open` opens its sources and targets.

    Raises:
        ManifestError: no pack, one of another version, or one that cannot be reached.
    """
    root = location(path)
    if "://" not in root:
        root = str(Path(root).resolve())
    pack = Pack(root, None)
    try:
        with pack.open_table(PAIRS) as file:
            table = to_pandas(read_arrow(file))
    except DAMAGED as error:
        raise ManifestError(f"{root}/{PAIRS}: cannot be read: {error}") from error
    for side in [name for name in SIDES if name in table]:
        named = [None if pd.isna(v) else name_in(root, str(v)) for v in table[side]]
        table[side] = pd.Series(named, dtype=object)
    return table


class Packs:
    """Opens files of packs; a `PairReader` has one, and every loading process its own.

    Args:
        cache: folder for shards of remote packs; by default a folder of the user.
        cache_gb: largest size of that folder, in GiB.
    """

    def __init__(self, cache: Path | None = None, cache_gb: float = 32.0) -> None:
        self.cache = ShardCache(cache, cache_gb)
        self._packs: dict[str, Pack] = {}

    def open(self, path: str) -> PackedRaster:
        """Open a file by its path; see `name_in`.

        Raises:
            InputError: no such pack or file.
        """
        root, name = split_name(path)
        if root not in self._packs:
            try:
                pack = Pack(root, self.cache)
                pack.load()
            except ManifestError as error:
                raise InputError(str(error)) from error
            self._packs[root] = pack
        return self._packs[root].open(name)

    def open_if_packed(self, path: str) -> PackedRaster | None:
        """Open a file of a pack; None for any other path.

        Raises:
            InputError: no such pack or file.
        """
        return self.open(path) if is_packed(path) else None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the indexes, which a new process loads again."""
        return {"cache": self.cache, "_packs": {}}


class Pack:
    """A pack: its index in memory, its shards on disk, in the cache or remote."""

    def __init__(self, root: str, cache: ShardCache | None) -> None:
        self.root, self.cache = root, cache
        self.remote = "://" in root
        self._pid = -1
        self._filesystem: tuple[int, Any] | None = None  # process and file system
        self._open: OrderedDict[int, BinaryIO] = OrderedDict()
        try:
            with self.open_file(ABOUT) as file:
                about = parse_strict_json(file.read(MOST_TEXT).decode())
        except FileNotFoundError as error:
            why = _why_unreachable(error)
            if why is not None:
                raise ManifestError(f"{root}: the server cannot be reached: {why}") from error
            raise ManifestError(f"{root}: no pack: there is no {ABOUT} in it") from None
        except (OSError, ValueError) as error:
            raise ManifestError(f"{root}/{ABOUT}: cannot be read: {error}") from error
        if not isinstance(about, dict):
            raise ManifestError(f"{root}/{ABOUT}: cannot be read: it is no object of JSON")
        kind, version = about.get("format"), about.get("version")
        if kind != FORMAT:
            raise ManifestError(f"{root}: no pack of Crossband: its format is {kind!r:.60}")
        if type(version) is not int or version not in (UNCHECKED, VERSION):
            raise ManifestError(
                f"{root}: a pack of version {version!r:.60}, but this Crossband reads version "
                f"{VERSION}: pack it anew (crossband data pack)"
            )
        try:
            self.id = _safe_name(about["id"])
            self.shards = [(_safe_name(s["name"]), int(s["bytes"])) for s in about["shards"]]
            self.checked = version != UNCHECKED
            self.tables = {n: str(about["tables"][n]) for n in TABLES} if self.checked else {}
        except (ArithmeticError, ValueError, KeyError, TypeError) as error:
            raise ManifestError(f"{root}/{ABOUT}: cannot be read: {error!r}") from error
        self.bytes = sum(size for _, size in self.shards)

    def load(self) -> None:
        """Read the index, about 40 bytes per block."""
        stored = self._stored()
        try:
            with self.open_table(FILES) as file:
                usual = TableLimits.of_manifest()
                limits = replace(usual, bytes=max(usual.bytes, stored))
                files = read_arrow(file, limits).to_pydict()
            # The index is no larger than what it is about.
            because = f"its shards hold {stored:,} bytes; is one cut off or missing?"
            rows = stored // LEAST_BLOCK
            limits = TableLimits(rows, usual.columns, stored, stored, because)
            with self.open_table(BLOCKS) as file:
                blocks = read_arrow(file, limits, lists=("planes",))
            self._index(files, blocks)
        except (*DAMAGED, LookupError, TypeError) as error:
            raise ManifestError(f"{self.root}: its index cannot be read: {error}") from error

    def _stored(self) -> int:
        """Return the bytes of all shards; of a pack on disk, not more than are there."""
        if self.remote:
            return self.bytes
        paths = [Path(self.root) / SHARDS / name for name, _ in self.shards]
        return min(self.bytes, sum(os.path.getsize(p) for p in paths if os.path.isfile(p)))

    def _index(self, files: Mapping[str, list[Any]], blocks: pyarrow.Table) -> None:
        """Keep what the index says; ValueError for what lies outside of files and shards."""
        self.names: list[str] = files["name"]
        self._metadata: list[str] = files["facts"]
        if not all(isinstance(text, str) for text in (*self.names, *self._metadata)):
            raise ValueError("a file without name or metadata")
        self._files = {n: i for i, n in enumerate(self.names)}
        if len(self._files) < len(self.names):
            raise ValueError("two files of one name")
        file = _integers(blocks["file"], len(self.names))
        row, col = (_integers(blocks[n], _KEY) for n in ("row", "col"))
        shard = _integers(blocks["shard"], len(self.shards))
        offset = _integers(blocks["offset"], 2**62)
        planes = blocks["planes"].combine_chunks()
        if not pyarrow.types.is_list(planes.type):
            raise ValueError("planes that are no lists")
        flat = _integers(planes.flatten(), 2**31)
        ends = np.cumsum([0, *_integers(planes.value_lengths(), 2**31)])
        bytes_before = np.concatenate([[0], np.cumsum(flat)])
        sizes = np.array([size for _, size in self.shards], np.int64)
        if (offset + bytes_before[ends[1:]] - bytes_before[ends[:-1]] > sizes[shard]).any():
            raise ValueError("a block that lies outside of its shard")
        keys = (file * _KEY + row) * _KEY + col
        order = np.argsort(keys)
        self._keys: NDArray[np.int64] = keys[order]
        if (np.diff(self._keys) == 0).any():
            raise ValueError("a block that is there twice")
        self._shard, self._offset = shard[order], offset[order]
        self._first, self._last, self._planes = ends[:-1][order], ends[1:][order], flat

    def open(self, name: str) -> PackedRaster:
        """Open a file by its name; InputError where there is none."""
        number = self._files.get(name)
        if number is None:
            raise InputError(f"{self.root}: there is no file {name!r} in this pack")

        def fetch(cells: Sequence[tuple[int, int]], planes: Sequence[int]) -> list[list[Any]]:
            return self.read_blocks(number, cells, planes)

        try:
            return PackedRaster(parse_strict_json(self._metadata[number]), fetch)
        except (RasterioError, ArithmeticError, ValueError, TypeError, LookupError) as error:
            raise InputError(
                f"{self.root}: the metadata of {name!r} are damaged: {error}"
            ) from error

    def read_blocks(
        self, file: int, cells: Sequence[tuple[int, int]], planes: Sequence[int]
    ) -> list[list[Any]]:
        """Return compressed planes of blocks; one byte range of each block is read.

        Args:
            file: its index in `names`.
            cells: row and column of each block.
            planes: numbers of bands from 0; the mask of the file follows the last band.
        """
        low, high = min(planes), max(planes) + 1
        wanted, cuts = [], []
        for row, col in cells:
            key = (file * _KEY + row) * _KEY + col
            at = int(np.searchsorted(self._keys, key))
            if at == len(self._keys) or self._keys[at] != key:
                raise OSError(f"block {row}, {col} is not in the pack")
            sizes = self._planes[self._first[at] : self._last[at]]
            if len(sizes) < high:
                raise OSError(f"block {row}, {col} has {len(sizes)} planes, not {high}")
            ends = [0, *np.cumsum(sizes).tolist()]
            first = int(self._offset[at])
            wanted.append((int(self._shard[at]), first + ends[low], first + ends[high]))
            cuts.append([(ends[p] - ends[low], ends[p + 1] - ends[low]) for p in planes])
        blocks = [memoryview(b) for b in self._ranges(wanted)]
        found = [[b[i:j] for i, j in cut] for b, cut in zip(blocks, cuts, strict=True)]
        if not self.checked:
            return found
        try:
            return [[without_checksum(plane) for plane in block] for block in found]
        except ValueError as error:
            raise OSError(f"{self.root}: a block of {self.names[file]!r:.200} {error}") from error

    def _ranges(self, wanted: list[tuple[int, int, int]]) -> list[bytes]:
        """Read byte ranges (shard, first, end) of shards."""
        # If a remote pack fits the cache, each shard is fetched once, as a whole. If not, shards
        # would be evicted before they are used again, so only the blocks of each crop are fetched,
        # all at once.
        if self.remote and (self.cache is None or not self.cache.holds(self.bytes)):
            paths = [self._address(shard) for shard, _, _ in wanted]
            starts, ends = [w[1] for w in wanted], [w[2] for w in wanted]
            return _retry(lambda: self._remote().cat_ranges(paths, starts, ends))
        out = []
        for shard, first, end in wanted:
            file = self._shard_file(shard)
            file.seek(first)
            out.append(file.read(end - first))
        return out

    def _shard_file(self, shard: int) -> BinaryIO:
        """Return an open shard of this process: forked processes would share its position."""
        if self._pid != os.getpid():
            self._open, self._pid = OrderedDict(), os.getpid()
        if shard not in self._open:
            name, size = self.shards[shard]
            path = Path(self.root) / SHARDS / name
            if self.remote:
                assert self.cache is not None
                address = self._address(shard)
                path = self.cache.get(
                    f"{self.id}/{name}",
                    size,
                    lambda to: _retry(lambda: self._remote().get_file(address, to)),
                )
            if not path.is_file() or path.stat().st_size != size:
                raise OSError(f"shard {path} is missing or has not its {size} bytes")
            self._open[shard] = path.open("rb", buffering=0)
            if len(self._open) > OPEN:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(shard)
        return self._open[shard]

    @contextmanager
    def open_table(self, name: str) -> Iterator[BinaryIO]:
        """Open a table of the pack; ValueError where it is not the one that was packed."""
        with self.open_file(name) as file:
            if name in self.tables:
                found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
                if found != self.tables[name]:
                    raise ValueError(f"{name} is not the table that {ABOUT} describes (SHA-256)")
                file.seek(0)
            yield file

    def open_file(self, name: str) -> BinaryIO:
        """Open a file of the pack's folder."""
        if not self.remote:
            check_regular_file(Path(self.root) / name, ManifestError)
            return (Path(self.root) / name).open("rb")
        opened: BinaryIO = _retry(lambda: self._remote().open(self._inside(name)))
        return opened

    def _address(self, shard: int) -> str:
        return self._inside(f"{SHARDS}/{self.shards[shard][0]}")

    def _inside(self, name: str) -> str:
        self._remote()
        return f"{self._base}/{name}"

    def _remote(self) -> Any:
        """Return the remote file system of this process: those of fsspec do not survive a fork."""
        if self._filesystem is None or self._filesystem[0] != os.getpid():
            import fsspec

            root = quote(self.root, safe=":/%?&=@") if self.root.startswith("http") else self.root
            try:
                system, base = fsspec.core.url_to_fs(root)
            except (ImportError, ValueError) as error:  # no such scheme, or its driver is missing
                raise ManifestError(f"{self.root}: {error}") from error
            self._filesystem, self._base = (os.getpid(), system), base.rstrip("/")
        return self._filesystem[1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out open files, which belong to a process."""
        return self.__dict__ | {"_open": OrderedDict(), "_filesystem": None, "_pid": -1}


def with_checksum(packed: bytes) -> bytes:
    """Return compressed bytes with their CRC-32."""
    return packed + zlib.crc32(packed).to_bytes(CHECKSUM, "little")


def without_checksum(plane: memoryview) -> memoryview:
    """Return what `with_checksum` was given; ValueError where it is damaged."""
    packed, checksum = plane[:-CHECKSUM], plane[-CHECKSUM:]
    if zlib.crc32(packed) != int.from_bytes(checksum, "little"):
        raise ValueError("is damaged: its CRC-32 is another one")
    return packed


def _safe_name(name: Any) -> str:
    """Return the name of a shard or of a folder in the cache; ValueError for a path elsewhere."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]{0,127}", name, re.ASCII):
        raise ValueError(f"{name!r:.80} is no name of a shard or pack")
    return name


def _integers(values: pyarrow.Array | pyarrow.ChunkedArray, end: int) -> NDArray[np.int64]:
    """Return whole numbers of 0 to below `end`; ValueError for others."""
    found: NDArray[np.int64] = np.empty(0, np.int64)
    if pyarrow.types.is_integer(values.type) and not values.null_count:
        found = values.cast(pyarrow.int64()).to_numpy()
    if len(found) != len(values) or (len(found) and not 0 <= found.min() <= found.max() < end):
        raise ValueError("a number that is missing or out of its range")
    return found


def _why_unreachable(error: BaseException) -> str | None:
    """Return why a server gave no answer; None where it did, and has no such file.

    fsspec says of both that the file is not found.
    """
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OSError) and getattr(cause, "status", None) is None:
        return str(cause) or type(cause).__name__
    return None


def _retry(do: Callable[[], T]) -> T:
    """Call a function that may fail in a network, several times; a last failure is an OSError."""
    for attempt in range(TRIES):
        try:
            return do()
        except (FileNotFoundError, PermissionError, ManifestError):
            raise
        except Exception as error:
            if attempt == TRIES - 1:
                raise OSError(f"{type(error).__name__}: {error}") from error
            time.sleep(PAUSE * 2**attempt)
    raise AssertionError  # the last attempt returns or raises
