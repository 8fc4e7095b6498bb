"""Write a pack: the files of a manifest, cut into compressed blocks, in a few large shards."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow
from pyarrow import parquet
from rasterio.errors import RasterioError

from crossband.core.atomic import atomic_folder
from crossband.core.dates import date_cell
from crossband.core.file_hash import sha256
from crossband.core.python_words import public
from crossband.data import manifest as manifests
from crossband.data.packed.raster import MOST_PIXELS, metadata_of, pack_plane
from crossband.data.packed.read import (
    ABOUT,
    BLOCKS,
    FILES,
    FORMAT,
    PAIRS,
    SHARDS,
    SIDES,
    TABLES,
    VERSION,
    is_pack,
    with_checksum,
)
from crossband.data.reader import name_of
from crossband.data.rows import parse_window
from crossband.errors import CrossbandError, InputError, ManifestError, RecipeError
from crossband.raster import products
from crossband.raster.acquired import acquisition_date
from crossband.raster.gdal import reason
from crossband.raster.grid import Box, Grid
from crossband.raster.open import open_raster
from crossband.raster.warp import around, resolution_ratio, same_grid

#: zstd's own default.
LEVEL = 3
#: Pixels of a guide that are packed around a pair: at its borders, and so many pixels of the pair,
#: for the kernel that averages a finer guide.
EDGE, REACH = 32, 4


@dataclass(frozen=True)
class Summary:
    """Numbers of a pack that was written.

    Attributes:
        output: the folder.
        rows: number of pairs.
        files: number of distinct files.
        blocks: number of blocks of all files.
        shards: number of shards.
        stored: bytes before compression.
        bytes: bytes of the shards.
    """

    output: Path
    rows: int
    files: int
    blocks: int
    shards: int
    stored: int
    bytes: int


@public()
def pack(
    manifest: str | Path,
    output: str | Path,
    *,
    block: int = 128,
    shard_mb: float = 32.0,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Write the pack of a manifest; an error leaves nothing behind.

    Stored numbers are packed unchanged, with the metadata of their file, and so are the columns of
    the manifest. A file that several rows name is packed once, and only the blocks that their
    windows need; of a guide, those around the pairs that it guides.

    Args:
        manifest: CSV or parquet, see `crossband.data.manifest`.
        output: folder.
        block: side of a block in source pixels; s times that for a target s times finer.
        shard_mb: approximate size of a shard in MiB.
        overwrite: replace an existing pack.
        progress: called with rows done and all rows.

    Raises:
        ManifestError: a row that cannot be packed; the message names it.
        OutputError: the folder exists, is no pack, or cannot be written.
        UpToDate: the folder is the pack of the same files, packed in the same way.
    """
    if block < 16:
        raise RecipeError(f"--block must be at least 16, not {block}")
    if not 0 < shard_mb < math.inf:
        raise RecipeError(f"--shard-mb must be a finite number above 0, not {shard_mb}")
    try:
        import webdataset  # noqa: F401
    except ImportError:
        raise CrossbandError("packing needs webdataset: pip install 'crossband[pack]'") from None
    if is_pack(manifest):
        raise ManifestError(f"{manifest}: it is a pack already")
    output = Path(output).resolve()
    table = manifests.read(manifest)
    root = Path(manifest).parent.resolve()
    made_from = manifests.input_fingerprint(table, {"block": block, "shard_mb": shard_mb})
    with (
        atomic_folder(output, overwrite, ABOUT, made_from, names=(*TABLES, SHARDS)) as folder,
        _Writer(folder, int(shard_mb * 2**20)) as writer,
    ):
        for done, row in enumerate(table.to_dict("records")):
            progress(done, len(table))
            _pack_row({str(k): v for k, v in row.items()}, root, block, writer)
        progress(len(table), len(table))
        shards = writer.finish()
        table = with_dates(table)
        for side in SIDES:
            table[side] = [None if pd.isna(v) else _name(str(v), root) for v in table[side]]
        identity = hashlib.sha256("".join(s["sha256"] for s in shards).encode()).hexdigest()
        # A column, so that the fingerprint of the training data includes it.
        table = manifests.without_empty_guides(table)
        table = table.drop(columns=["row"]).assign(pack=identity[:16])
        table.to_parquet(folder / PAIRS, index=False)
        about = {"format": FORMAT, "version": VERSION, "id": identity, "block": block}
        about["made_from"] = made_from
        about["tables"] = {name: sha256(folder / name) for name in TABLES}
        (folder / ABOUT).write_text(
            json.dumps(about | {"shards": shards}, indent=1) + "\n", encoding="utf-8"
        )
    total = sum(int(s["bytes"]) for s in shards)
    return Summary(
        output, len(table), len(writer.names), len(writer.rows), len(shards), writer.stored, total
    )


class _Writer:
    """Writes blocks into shards, and their index; use as a context manager."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self.folder, self.shard_bytes = folder, shard_bytes
        self.names: dict[str, int] = {}
        self.metadata: list[dict[str, Any]] = []
        self.rows: dict[tuple[int, int, int], tuple[int, list[int]]] = {}
        self.stored = 0
        self._codec = pyarrow.Codec("zstd", compression_level=LEVEL)
        self._shards = 0
        self._tar: Any = None
        self._stream: Any = None
        (folder / SHARDS).mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the shard of a run that failed; what a full disk refuses is no second error."""
        for file in (self._tar, self._stream):
            if file is not None:
                with suppress(OSError):
                    file.close()

    def file(self, name: str, dataset: Any, block: tuple[int, int]) -> int:
        """Return the number of a file; its metadata are added at the first call."""
        if name not in self.names:
            self.names[name] = len(self.metadata)
            self.metadata.append(metadata_of(dataset, block))
        return self.names[name]

    def add(self, key: tuple[int, int, int], planes: list[Any]) -> None:
        """Write a block: its file, row and column, and its planes [h, w]."""
        import webdataset

        packed = [with_checksum(pack_plane(p, self._codec)) for p in planes]
        if self._tar is not None and self._stream.tell() >= self.shard_bytes:
            self._close()
        if self._tar is None:
            self._stream = (self.folder / SHARDS / f"{self._shards:06d}.tar").open("wb")
            self._tar = webdataset.TarWriter(self._stream, encoder=False, mtime=0.0)
            self._shards += 1
        self._tar.write({"__key__": "{:06d}_{:05d}_{:05d}".format(*key), "zst": b"".join(packed)})
        self.rows[key] = self._shards - 1, [len(p) for p in packed]
        self.stored += sum(p.nbytes for p in planes)

    def finish(self) -> list[dict[str, Any]]:
        """Write the index; return name, bytes and SHA-256 of each shard."""
        self._close()
        offsets: dict[tuple[int, ...], int] = {}
        shards = []
        for path in sorted((self.folder / SHARDS).iterdir()):
            size = path.stat().st_size
            shards.append({"name": path.name, "bytes": size, "sha256": sha256(path)})
            with tarfile.open(path) as tar:
                for member in tar:
                    key = tuple(map(int, member.name.split(".")[0].split("_")))
                    offsets[key] = member.offset_data
        keys = list(self.rows)
        columns = {
            "file": [k[0] for k in keys],
            "row": [k[1] for k in keys],
            "col": [k[2] for k in keys],
            "shard": [self.rows[k][0] for k in keys],
            "offset": [offsets[k] for k in keys],
            "planes": [self.rows[k][1] for k in keys],
        }
        parquet.write_table(pyarrow.table(columns), self.folder / BLOCKS)
        files = {"name": list(self.names), "facts": [json.dumps(m) for m in self.metadata]}
        parquet.write_table(pyarrow.table(files), self.folder / FILES)
        return shards

    def _close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._stream.flush()
            os.fsync(self._stream.fileno())  # a full disk may be reported only here
            self._stream.close()
            self._tar = None


def _pack_row(row: dict[str, Any], root: Path, block: int, writer: _Writer) -> None:
    """Pack the files of a row, alternating strips of both, so that blocks of a crop lie close."""
    opened: list[Any] = []
    try:
        sides: dict[str, tuple[Any, Box]] = {}
        for side in SIDES:
            if pd.notna(row[side]):
                products.refuse(row[side], "cannot be packed; write its bands as one GeoTIFF first")
                dataset = open_raster(row[side])
                opened.append(dataset)
                if side == "guide":
                    sides[side] = dataset, _guiding(dataset, *next(iter(sides.values())))
                else:
                    sides[side] = dataset, _window(row, side, dataset)
        strips: list[tuple[float, int, tuple[int, Any, Box, list[int], int]]] = []
        for side, (dataset, window) in sides.items():
            size = block
            if side == "target" and "source" in sides:
                size = block * _ratio(sides["source"][1], window)
            if size**2 > MOST_PIXELS:
                raise InputError(f"{row[side]}: blocks of {size} pixels a side: lower --block")
            file = writer.file(_name(str(row[side]), root), dataset, (size, size))
            cut: list[int] = writer.metadata[file]["block"]
            first, last = window.row // cut[0], -(-(window.row + window.height) // cut[0])
            strips += [
                ((at - first) / (last - first), len(strips), (file, dataset, window, cut, at))
                for at in range(first, last)
            ]
        for _, _, strip in sorted(strips, key=lambda s: s[:2]):
            _pack_strip(writer, *strip)
    except CrossbandError as error:
        raise ManifestError(f"{name_of(row)}: {error}") from error
    finally:
        for dataset in opened:
            dataset.close()


def _pack_strip(
    writer: _Writer, file: int, dataset: Any, window: Box, cut: list[int], at: int
) -> None:
    """Pack the blocks of one row of blocks that a window needs and that are not packed yet."""
    first, last = window.col // cut[1], -(-(window.col + window.width) // cut[1])
    columns = [c for c in range(first, last) if (file, at, c) not in writer.rows]
    if not columns:
        return
    left = columns[0] * cut[1]
    right = min((columns[-1] + 1) * cut[1], dataset.width)
    top = at * cut[0]
    box = Box(top, left, min(cut[0], dataset.height - top), right - left)
    for column, planes in _blocks(dataset, box, cut[1], writer.metadata[file]["masked"]):
        if column in columns:
            writer.add((file, at, column), planes)


def _blocks(dataset: Any, box: Box, width: int, masked: bool) -> Iterator[tuple[int, list[Any]]]:
    """Read a strip; yield each block's column and its planes: the bands, then the mask."""
    try:
        planes = [dataset.read(n, window=box.rasterio()) for n in dataset.indexes]
        if masked:
            planes.append(dataset.read_masks(1, window=box.rasterio()))
    except (RasterioError, OSError) as error:
        raise InputError(f"{dataset.name}: cannot be read: {reason(error)}") from error
    for left in range(0, box.width, width):
        yield (box.col + left) // width, [p[:, left : left + width] for p in planes]


def _guiding(guide: Any, pair: Any, window: Box) -> Box:
    """Return the part of a guide that is read for a pair, with what resampling sees around it."""
    scene, grid = _grid(pair).crop(window), _grid(guide)
    if same_grid(scene, grid) or _nowhere(scene) or _nowhere(grid):
        return grid.box
    finer = resolution_ratio(grid, scene, scene.box)
    return around(scene, grid, EDGE + math.ceil(REACH * max(finer, 1.0))).intersection(grid.box)


def _grid(dataset: Any) -> Grid:
    return Grid(dataset.height, dataset.width, dataset.transform, dataset.crs)


def _nowhere(grid: Grid) -> bool:
    """Return whether a grid has no georeference, so that only one of the same shape fits it."""
    return grid.crs is None or grid.transform.is_identity


def with_dates(table: pd.DataFrame) -> pd.DataFrame:
    """Return a manifest that states the dates of guides and of their pairs, as the files have them.

    Packed files have no metadata that say when they were taken.
    """
    out = table.copy()
    for at, cells in table[table["guide"].notna()].to_dict("index").items():
        row = {str(name): cell for name, cell in cells.items()}
        if pd.isna(row["guide_datetime"]) and (date := acquisition_date(row["guide"])):
            out.loc[at, "guide_datetime"] = str(date)
        path = row["target"] if pd.isna(row["source"]) else row["source"]
        if date_cell(row) is None and (date := acquisition_date(path)):
            out.loc[at, "date"] = str(date)
    return out


def _window(row: dict[str, Any], side: str, dataset: Any) -> Box:
    """Return the part of a file that a row needs."""
    whole = Box(0, 0, dataset.height, dataset.width)
    box = parse_window(row, side)
    if box is None:
        return whole
    inside = box.row + box.height <= whole.height and box.col + box.width <= whole.width
    if min(box.row, box.col) < 0 or min(box.height, box.width) < 1 or not inside:
        raise ManifestError(f"{side}_window {box.srcwin()!r} is not inside the file")
    return box


def _ratio(source: Box, target: Box) -> int:
    """Return how many times finer a target is; 1 if that is no whole number."""
    down, rest = divmod(target.height, source.height)
    same = rest == 0 and target.width == down * source.width
    return max(down, 1) if same else 1


def _name(path: str, root: Path) -> str:
    """Return the name in the pack: relative to the manifest, unless it is a URL."""
    if "://" in path or path.startswith("/vsi"):
        return path
    return Path(os.path.relpath(path, root)).as_posix()
