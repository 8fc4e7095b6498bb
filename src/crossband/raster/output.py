"""A result file: windows go to a raw file, from which a COG or PNG is made at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from crossband.core.hidden_folder import HiddenFolder, folder_of
from crossband.core.messages import printable
from crossband.core.own_files import flush, replace_own
from crossband.core.sensors import VALID_RANGE
from crossband.errors import OutputError
from crossband.raster.cog import Cog
from crossband.raster.encoding import Encoding
from crossband.raster.gdal import gdal, reason
from crossband.raster.grid import Box, Grid
from crossband.raster.journal import RawFile, Store
from crossband.raster.output_paths import PNG, SIDECARS
from crossband.raster.verify import check_whole
from crossband.raster.vrt import OPTIONS, vrt

#: Tag of a finished file with the fingerprint of what it was made from; see `core.made_from`.
MADE_FROM_TAG = "CROSSBAND_MADE_FROM"
#: Largest ratio of compressed to uncompressed size: LZW needs up to 12 bits for 8 bits of noise.
_LARGEST = {"lzw": 1.5}
#: GDAL would compress overviews twice: in a temporary file, then in the COG.
PLAIN_OVERVIEWS = {"COG_TMP_COMPRESSION": "NONE"}
#: Files that are made at the same time.
FILES_AT_ONCE = 4
#: Errors of GDAL; rasterio does not convert all of them to its own class.
_ERRORS = (RasterioError, CPLE_BaseError, OSError)
#: Pixels that are encoded at once, so that intermediate arrays stay small.
_PIXELS_AT_ONCE = 2**17


@dataclass
class OutputFile:
    """A result file that is being written.

    Attributes:
        path: final name, `.tif` or `.png`.
        grid: grid of the result.
        bands: names of the bands.
        unit: physical unit, written as the bands' unit.
        encoding: how values are stored.
        tags: dataset tags; those of a translated scene must mark it as synthetic.
        cog: layout of a GeoTIFF.
        raw: the raw file that holds the numbers; None before `begin`.
        valid: number of valid pixels written so far.
        cut: number of valid values written by this process that the data type cannot hold.
        band_tags: tags of each band; the band's name as `common_name` where empty.
        content: what it holds beside the bands of the result; for who computes it.
    """

    path: Path
    grid: Grid
    bands: tuple[str, ...]
    unit: str
    encoding: Encoding
    tags: Mapping[str, str]
    cog: Cog = field(default_factory=Cog)
    raw: RawFile | None = None
    valid: int = 0
    cut: int = 0
    band_tags: Sequence[Mapping[str, str]] = ()
    content: Any = None

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

    def begin(self, store: Store, name: str, *, rewritten: bool = False) -> None:
        """Create the raw file, or open that of an interrupted run; see `Store.raw`."""
        e = self.encoding
        try:
            self.raw = store.raw(name, self.shape, e.dtype, masked=e.mask_band, rewritten=rewritten)
        except OSError as error:
            raise write_error(self.path, error) from error

    def encoded(
        self, box: Box, values: NDArray[np.float32], mask: NDArray[np.bool_]
    ) -> Iterator[tuple[Box, NDArray[Any], NDArray[np.bool_]]]:
        """Encode physical values [C, h, w], a few rows at a time.

        Yields:
            Box in the result, stored numbers [C, rows, w], mask [rows, w].
        """
        low, high = VALID_RANGE.get(self.unit, (-np.inf, np.inf))
        step = max(_PIXELS_AT_ONCE // max(box.width, 1), 1)
        for row in range(0, box.height, step):
            part = slice(row, min(row + step, box.height))
            at = Box(box.row + row, box.col, part.stop - row, box.width)
            clipped = np.clip(values[:, part], low, high)
            self.cut += self.encoding.beyond(clipped, mask[part])
            yield at, self.encoding.encode(clipped, mask[part]), mask[part]

    def write(self, box: Box, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> int:
        """Write physical values [C, h, w] and mask [h, w] at `box`; return the valid pixels."""
        assert self.raw is not None
        try:
            for piece in self.encoded(box, values, mask):
                self.raw.write(*piece)
        except OSError as error:
            raise write_error(self.path, error) from error
        count = int(np.count_nonzero(mask))
        self.valid += count
        return count

    def prepare(self, store: Store) -> Path:
        """Return the path at which the file is made: in a hidden folder beside its final path."""
        assert self.raw is not None
        folder = self._made(store)
        try:
            if folder != store.folder:
                made = HiddenFolder.open(self.path, folder)
                try:
                    made.mark()
                finally:
                    made.close()
            replace_own(self._vrt, vrt(self, self.raw, masked=self._masked))
        except _ERRORS as error:
            raise write_error(self.path, error) from error
        return folder / self.path.name

    def make(self, final: Path) -> None:
        """Make the file at the path of `prepare`; all of it is done by GDAL."""
        try:
            with gdal(GDAL_TIFF_INTERNAL_MASK=True, **PLAIN_OVERVIEWS, **OPTIONS):
                if self.picture:
                    self._write_picture(self._vrt, final, self._masked)
                else:
                    rasterio.shutil.copy(self._vrt, final, **self.cog.options(self.encoding.dtype))
        except _ERRORS as error:
            raise write_error(self.path, error) from error

    def check(self, final: Path) -> None:
        """Flush the file to disk, and read it back."""
        try:
            flush(final)
            check_whole(self._vrt, final, masked=self._masked)
        except _ERRORS as error:
            raise write_error(self.path, error) from error

    @property
    def _vrt(self) -> Path:
        assert self.raw is not None
        return self.raw.path.with_suffix(".vrt")

    @property
    def _masked(self) -> bool:
        return self.encoding.mask_band and self.valid < self.grid.height * self.grid.width

    def place(self, final: Path) -> None:
        """Rename the finished file into place, and remove the side files of an earlier one."""
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
            raise write_error(self.path, error) from error

    def most_bytes(self) -> int:
        """Return an upper bound of the disk space in bytes for making the file.

        The overviews take a third of the file, and GDAL writes them twice: 5/3 in all.
        """
        bands, height, width = self.shape
        if not self.picture and self.cog.compress == "none":  # blocks at the edges are padded
            height, width = (
                -(-n // self.cog.blocksize) * self.cog.blocksize for n in (height, width)
            )
        e = self.encoding
        size = RawFile.size((bands, height, width), e.dtype, masked=e.mask_band)
        return int(size * _LARGEST.get(self.cog.compress, 1.0)) * 5 // 3

    def _made(self, store: Store) -> Path:
        """Return the folder in which the file is made, on the file system of its final path."""
        own = folder_of(self.path)
        return own if own == store.folder else own.with_name(f".{self.path.name}.crossband-made")

    def discard(self, store: Store) -> None:
        """Remove the hidden folder of `finish`, unless it is that of the store."""
        folder = self._made(store)
        if folder != store.folder and folder.exists():
            with suppress(OutputError):  # none of ours
                HiddenFolder.open(self.path, folder).remove()

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
        words = printable("; ".join(f"{k}={v}" for k, v in self.tags.items()))
        profile |= {"description": words, "software": self.tags.get("TIFFTAG_SOFTWARE", "")}
        with rasterio.open(final, "w", **profile) as out:
            out.write(stored)


def write_error(path: Path, error: BaseException) -> OutputError:
    """Return the error for a file that cannot be written."""
    free = shutil.disk_usage(path.parent).free / 2**20
    return OutputError(
        f"{path}: cannot be written ({reason(error)}); {free:.0f} MiB of disk are free; "
        f"nothing was left under that name"
    )


def made_from_of(path: Path) -> str | None:
    """Return the fingerprint of what a finished file was made from; None where it has none."""
    if not path.is_file():  # GDAL would wait for the other end of a FIFO
        return None
    try:
        with gdal(), rasterio.open(path) as file:
            tags: dict[str, str] = file.tags()
            return tags.get(MADE_FROM_TAG)
    except _ERRORS:
        return None


def finish_files(outputs: Sequence[OutputFile], store: Store) -> None:
    """Make all files, a few at once, and rename them into place, the first one last.

    Only GDAL works in threads, each on files of its own: it compresses with all processors, and
    makes overviews with one.
    """
    try:
        finals = [output.prepare(store) for output in outputs]
        # Filters of warnings are of the process, so this context spans those of the threads.
        with gdal(), ThreadPoolExecutor(FILES_AT_ONCE, "crossband-make") as pool:
            list(pool.map(OutputFile.make, outputs, finals))
        for output, final in zip(outputs, finals, strict=True):
            output.check(final)
        store.note_placing([output.path for output in outputs])
        for output, final in reversed(list(zip(outputs, finals, strict=True))):
            output.place(final)
    except OSError as error:
        raise write_error(outputs[0].path, error) from error
    finally:
        for output in outputs:
            output.discard(store)
