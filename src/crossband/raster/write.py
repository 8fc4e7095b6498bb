"""Write a scene as COG or PNG: window by window, made at the end, renamed into place."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from crossband.core.sensors import VALID_RANGE
from crossband.errors import CrossbandError, OutputError, nearest
from crossband.raster.encoding import Encoding
from crossband.raster.gdal import gdal, reason
from crossband.raster.grid import Box, Grid
from crossband.raster.journal import Raw, Store, flush, folder_of
from crossband.raster.remote import address, is_remote
from crossband.raster.verify import check_whole
from crossband.raster.vrt import OPTIONS, vrt

TIFF, PNG = (".tif", ".tiff"), (".png",)
COMPRESSIONS = ("deflate", "zstd", "lzw", "none")
#: What lies beside a file and changes how GDAL reads it.
SIDECARS = (".aux.xml", ".msk", ".ovr")
#: Of noise LZW makes more bytes than there were: 12 bits for each 8, at most.
_LARGEST = {"lzw": 1.5}
#: GDAL's errors: of these rasterio lets some through as they are.
_ERRORS = (RasterioError, CPLE_BaseError, OSError)
#: Rows of a window that are encoded at once: what lies between values and file stays small.
_PIXELS_AT_ONCE = 2**17


@dataclass(frozen=True)
class Cog:
    """How the GeoTIFF is laid out; a COG in any case.

    Attributes:
        compress: deflate, zstd, lzw or none; with the predictor that fits the data type (2 for
            integers, 3 for floating point).
        blocksize: side of a block in pixels, a multiple of 16, at least 128.
    """

    compress: str = "deflate"
    blocksize: int = 512

    def __post_init__(self) -> None:
        if self.compress not in COMPRESSIONS:
            raise OutputError(f"--compress {self.compress}: {nearest(self.compress, COMPRESSIONS)}")
        if self.blocksize % 16 or not 128 <= self.blocksize <= 4096:
            raise OutputError(
                f"--blocksize {self.blocksize}: a multiple of 16 from 128 to 4096 (default 512)"
            )

    @classmethod
    def of(cls, compress: str | None, blocksize: int | None) -> Self:
        """Return the layout that is asked for, with the defaults where nothing is."""
        given = {"compress": compress, "blocksize": blocksize}
        return cls(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]

    def options(self) -> dict[str, Any]:
        """Return GDAL's creation options."""
        compression = {"compress": self.compress.upper()}
        if self.compress != "none":
            compression["predictor"] = "YES"
        return {
            "driver": "COG",
            **compression,
            "blocksize": self.blocksize,
            "overviews": "AUTO",
            "resampling": "AVERAGE",
            "statistics": "YES",
            "bigtiff": "IF_SAFER",
            "num_threads": "ALL_CPUS",
        }


def check_output(path: Path, overwrite: bool, source: str | Path | None = None) -> None:
    """Raise OutputError where a result cannot or must not be written, before any work is done."""
    _check_local(path)
    if source is not None and same_file(path, source):
        raise OutputError(f"{path}: the output is the input; choose another name")
    if path.suffix.lower() not in (*TIFF, *PNG):
        raise OutputError(f"{path}: results are written as .tif (COG) or .png")
    if path.is_dir():
        raise OutputError(f"{path}: a folder of that name exists")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; give --overwrite to replace it")
    make_folder(path.parent)


def check_apart(paths: Iterable[Path], sources: Iterable[str]) -> None:
    """Raise OutputError for a result that would replace a file that its source is read from."""
    sources = list(sources)
    for path in paths:
        if any(same_file(path, source) for source in sources):
            raise OutputError(f"{path}: the source is read from this file; choose another name")


def make_folder(folder: Path) -> None:
    """Make a folder and see that it can be written to."""
    _check_local(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there: {error.strerror or error}") from error


def _check_local(path: Path) -> None:
    if is_remote(path):
        raise OutputError(
            f"{address(path)}: results are written to a local disk; copy them from there"
        )


def same_file(path: Path, source: str | Path) -> bool:
    """Say whether a result would replace a file that is there."""
    try:
        return os.path.samefile(path, source)
    except OSError:
        return False


@dataclass
class Output:
    """One file that is being made: what it will be, and the raw numbers that are there already.

    Attributes:
        path: final name, `.tif` or `.png`.
        grid: grid of the result.
        bands: names of the bands.
        unit: physical unit, written as the bands' unit.
        encoding: how values are stored.
        tags: dataset tags; of a translated scene they must say that it is synthetic.
        cog: how a GeoTIFF is laid out.
        raw: its numbers; None before `begin`.
        valid: valid pixels written so far.
        cut: valid numbers written by this process that the data type cannot hold.
        band_tags: tags of each band; its name as `common_name` where empty.
    """

    path: Path
    grid: Grid
    bands: tuple[str, ...]
    unit: str
    encoding: Encoding
    tags: Mapping[str, str]
    cog: Cog = field(default_factory=Cog)
    raw: Raw | None = None
    valid: int = 0
    cut: int = 0
    band_tags: Sequence[Mapping[str, str]] = ()

    def __post_init__(self) -> None:
        self.picture = self.path.suffix.lower() in PNG
        if self.picture and self.encoding.dtype not in ("uint8", "uint16"):
            raise OutputError(
                f"{self.path}: PNG holds uint8 or uint16, the result is {self.encoding.dtype}; "
                f"write .tif"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, rows, columns."""
        return len(self.bands), self.grid.height, self.grid.width

    def begin(self, store: Store, name: str, *, again: bool = False) -> None:
        """Make its raw file, or take up the one that is there; see `Store.raw`."""
        e = self.encoding
        try:
            self.raw = store.raw(name, self.shape, e.dtype, masked=e.mask_band, again=again)
        except OSError as error:
            raise failed(self.path, error) from error

    def encoded(
        self, box: Box, values: NDArray[np.float32], mask: NDArray[np.bool_]
    ) -> Iterator[tuple[Box, NDArray[Any], NDArray[np.bool_]]]:
        """Yield place, stored numbers and mask of physical values, a few rows at a time."""
        low, high = VALID_RANGE.get(self.unit, (-np.inf, np.inf))
        step = max(_PIXELS_AT_ONCE // max(box.width, 1), 1)
        for row in range(0, box.height, step):
            part = slice(row, min(row + step, box.height))
            at = Box(box.row + row, box.col, part.stop - row, box.width)
            clipped = np.clip(values[:, part], low, high)
            self.cut += self.encoding.beyond(clipped, mask[part])
            yield at, self.encoding.encode(clipped, mask[part]), mask[part]

    def write(self, box: Box, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> int:
        """Write physical values [C, h, w] and mask [h, w] at `box`; returns the valid pixels."""
        assert self.raw is not None
        try:
            for piece in self.encoded(box, values, mask):
                self.raw.write(*piece)
        except OSError as error:
            raise failed(self.path, error) from error
        count = int(np.count_nonzero(mask))
        self.valid += count
        return count

    def finish(self, store: Store) -> Path:
        """Make the file under a hidden name beside the final one; returns that name."""
        assert self.raw is not None
        folder = self._made(store)
        try:
            folder.mkdir(exist_ok=True)
            final = folder / self.path.name
            source = self.raw.path.with_suffix(".vrt")
            masked = self.encoding.mask_band and self.valid < self.grid.height * self.grid.width
            source.write_text(vrt(self, self.raw, masked=masked), encoding="utf-8")
            with gdal(GDAL_TIFF_INTERNAL_MASK=True, **OPTIONS):
                if self.picture:
                    self._write_picture(source, final, masked)
                else:
                    rasterio.shutil.copy(source, final, **self.cog.options())
                flush(final)
                check_whole(source, final, masked=masked)
        except _ERRORS as error:
            raise failed(self.path, error) from error
        return final

    def place(self, final: Path) -> None:
        """Rename the finished file into place, and remove what lay beside an earlier one."""
        try:
            for ending in SIDECARS:
                extra = final.with_name(final.name + ending)
                beside = self.path.with_name(self.path.name + ending)
                if extra.exists() and not self.grid.transform.is_identity:
                    os.replace(extra, beside)
                else:
                    beside.unlink(missing_ok=True)
            os.replace(final, self.path)
            flush(self.path.parent)
        except OSError as error:
            raise failed(self.path, error) from error

    def most_bytes(self) -> int:
        """Return the most disk that making the file takes: with overviews, written twice (5/3)."""
        bands, height, width = self.shape
        if not self.picture and self.cog.compress == "none":  # blocks are whole
            height, width = (
                -(-n // self.cog.blocksize) * self.cog.blocksize for n in (height, width)
            )
        e = self.encoding
        size = Raw.size((bands, height, width), e.dtype, masked=e.mask_band)
        return int(size * _LARGEST.get(self.cog.compress, 1.0)) * 5 // 3

    def _made(self, store: Store) -> Path:
        """Return the folder of the finished file: a rename must not cross file systems."""
        own = folder_of(self.path)
        return own if own == store.folder else own.with_name(f".{self.path.name}.crossband-made")

    def discard(self, store: Store) -> None:
        """Remove what `finish` left beside the final name; the store itself stays."""
        if self._made(store) != store.folder:
            shutil.rmtree(self._made(store), ignore_errors=True)

    def _write_picture(self, source: Path, final: Path, masked: bool) -> None:
        with rasterio.open(source) as body:
            stored = body.read()
            mask = body.dataset_mask() if masked else None
        profile: dict[str, Any] = {
            "driver": "PNG",
            "height": self.grid.height,
            "width": self.grid.width,
            "count": len(self.bands),
            "dtype": self.encoding.dtype,
            "nodata": self.encoding.nodata,
            "crs": self.grid.crs,
            "transform": self.grid.transform,
        }
        if mask is not None:
            top = np.iinfo(self.encoding.dtype).max
            stored = np.concatenate([stored, (mask[None] > 0).astype(stored.dtype) * top])
            profile["count"] += 1
        words = "; ".join(f"{k}={v}" for k, v in self.tags.items())
        profile |= {"description": words, "software": self.tags.get("TIFFTAG_SOFTWARE", "")}
        with rasterio.open(final, "w", **profile) as out:
            out.write(stored)


def failed(path: Path, error: BaseException) -> OutputError:
    """Return the error for a file that cannot be written."""
    free = shutil.disk_usage(path.parent).free / 2**20
    return OutputError(
        f"{path}: cannot be written ({reason(error)}); {free:.0f} MiB of disk are free; "
        f"nothing was left under that name"
    )


def check_disk(outputs: Sequence[Output], beside: Sequence[Output] = ()) -> None:
    """Raise OutputError where raw files and finished files together would not fit.

    The finished file is reckoned as it would be without compression, with its overviews (a third),
    which GDAL makes in a file of their own first. What an earlier run has on disk already is not
    reckoned twice.

    Args:
        outputs: what is written, the first one's folder holds the store.
        beside: what is in the store only.
    """
    store = folder_of(outputs[0].path)
    needs = {
        store.parent: sum(
            Raw.size(o.shape, o.encoding.dtype, masked=o.encoding.mask_band) for o in beside
        )
    }
    for output in outputs:
        e = output.encoding
        size = Raw.size(output.shape, e.dtype, masked=e.mask_band)
        needs[store.parent] = needs.get(store.parent, 0) + size
        needs[output.path.parent] = needs.get(output.path.parent, 0) + output.most_bytes()
    if store.exists():
        there = sum(p.stat().st_blocks * 512 for p in store.glob("*.raw"))
        needs[store.parent] = max(needs[store.parent] - there, 0)
    disks: dict[int, tuple[Path, int]] = {}
    for folder, need in needs.items():
        first, total = disks.get(folder.stat().st_dev, (folder, 0))
        disks[folder.stat().st_dev] = (first, total + need)
    for folder, need in disks.values():
        free = shutil.disk_usage(folder).free
        if need > free:
            raise OutputError(
                f"{outputs[0].path}: needs about {need / 2**20:.0f} MiB of free disk in {folder} "
                f"(the raw store and the finished file), there are {free / 2**20:.0f}"
            )


def place_all(outputs: Sequence[Output], store: Store) -> None:
    """Finish all files and rename them into place, the first one last."""
    try:
        finals = [output.finish(store) for output in outputs]
        store.placing([output.path for output in outputs])
        for output, final in reversed(list(zip(outputs, finals, strict=True))):
            output.place(final)
    except OSError as error:
        raise failed(outputs[0].path, error) from error
    finally:
        for output in outputs:
            output.discard(store)


class SceneWriter:
    """Takes windows of a result and leaves one finished file, or nothing.

    Windows go to a raw file in a hidden folder beside the target; `commit` makes the COG or PNG
    from it and renames it into place. Leaving the context without `commit` removes everything.

    Args:
        path: final name, `.tif` or `.png`.
        grid: grid of the result.
        bands: names of the bands.
        unit: physical unit, written as the bands' unit.
        encoding: how values are stored.
        tags: dataset tags.
        overwrite: replace an existing file at commit.
    """

    def __init__(
        self,
        path: Path,
        grid: Grid,
        bands: tuple[str, ...],
        unit: str,
        encoding: Encoding,
        tags: Mapping[str, str],
        *,
        overwrite: bool = False,
    ) -> None:
        check_output(path, overwrite)
        self._output = Output(path, grid, bands, unit, encoding, dict(tags))
        check_disk([self._output])
        self._store = Store.open(path, {})
        try:
            self._output.begin(self._store, "values")
        except CrossbandError:
            self._store.remove()
            raise

    def write(self, box: Box, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Write physical values [C, h, w] and mask [h, w] at `box` of the result's grid."""
        self._output.write(box, values, mask)

    def commit(self) -> Path:
        """Finish the file and rename it into place."""
        place_all([self._output], self._store)
        self._store.remove()
        return self._output.path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._store.remove()
