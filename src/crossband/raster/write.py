"""Write a scene as COG or PNG: window by window, renamed into place at the end."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from crossband.errors import CrossbandError, OutputError
from crossband.raster.grid import Box, Grid
from crossband.raster.scene import Scene, gdal, reason
from crossband.sensors import VALID_RANGE

BLOCK = 512
TIFF, PNG = (".tif", ".tiff"), (".png",)


@dataclass(frozen=True)
class Encoding:
    """How physical values are stored.

    Attributes:
        dtype: NumPy name of the stored data type.
        scale: physical = stored x scale + offset.
        offset: see scale.
        nodata: stored number of masked pixels; None where a mask band says it, or all are valid.
        mask_band: write a mask band (GeoTIFF: internal mask; PNG: alpha).
    """

    dtype: str
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    mask_band: bool = False

    @classmethod
    def of_scene(cls, scene: Scene, dtype: str | None = None) -> Encoding:
        """Return the source's own encoding, or the physical one for another data type.

        A source that has neither nodata nor a mask gets NaN (float) or a mask band (integer), so
        that pixels masked for other reasons (NaN, infinity) are never written as values.
        """
        r = scene.radiometry
        kept = dtype is None or dtype == scene.dtype
        stored = scene.dtype if dtype is None else dtype
        if r.power or (not kept and np.dtype(stored).kind == "f"):
            stored = stored if np.dtype(stored).kind == "f" else "float32"
            return cls(stored, nodata=float("nan"))
        if not kept:
            raise OutputError(
                f"--dtype {dtype} needs a scale of its own: choose float32 (physical units) or "
                f"the source's {scene.dtype}"
            )
        nodata = None if scene.has_mask else r.nodata[0]
        if nodata is None and np.dtype(stored).kind == "f" and not scene.has_mask:
            nodata = float("nan")
        return cls(stored, r.scale[0], r.offset[0], nodata, nodata is None)

    def encode(self, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[Any]:
        """Physical [C, H, W] and mask [H, W] -> stored numbers.

        A valid value that would be stored as the nodata number moves by one, and so stays valid.
        """
        stored = (values.astype(np.float64) - self.offset) / self.scale
        kind = np.dtype(self.dtype)
        if kind.kind in "iu":
            info = np.iinfo(kind)
            stored = np.clip(np.rint(stored), info.min, info.max)
            if self.nodata is not None:
                step = 1 if self.nodata < info.max else -1
                stored[stored == self.nodata] += step
        fill = 0.0 if self.nodata is None else self.nodata
        stored = np.where(mask, stored, fill)
        return stored.astype(kind)


def check_output(path: Path, overwrite: bool, source: str | Path | None = None) -> None:
    """Raise OutputError where a result cannot or must not be written, before any work is done."""
    if source is not None and _same_file(path, source):
        raise OutputError(f"{path}: the output is the input; choose another name")
    if path.suffix.lower() not in (*TIFF, *PNG):
        raise OutputError(f"{path}: results are written as .tif (COG) or .png")
    if path.is_dir():
        raise OutputError(f"{path}: a folder of that name exists")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; give --overwrite to replace it")
    make_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and see that it can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there: {error.strerror or error}") from error


def _same_file(path: Path, source: str | Path) -> bool:
    try:
        return os.path.samefile(path, source)
    except OSError:
        return False


class SceneWriter:
    """Takes windows of a result and leaves one finished file, or nothing.

    Windows go to an uncompressed tiled GeoTIFF in a hidden folder beside the target; `commit`
    makes the COG or PNG from it and renames it into place. Leaving the context without `commit`
    removes everything.

    Args:
        path: final name, `.tif` or `.png`.
        grid: grid of the result.
        bands: names of the bands.
        unit: physical unit, written as the bands' unit.
        encoding: how values are stored.
        tags: dataset tags; they must say that the result is synthetic.
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
        self.path, self.grid, self.bands, self.unit = path, grid, bands, unit
        self.encoding, self.tags = encoding, dict(tags)
        self.picture = path.suffix.lower() in PNG
        if self.picture and encoding.dtype not in ("uint8", "uint16"):
            raise OutputError(
                f"{path}: PNG holds uint8 or uint16, the result is {encoding.dtype}; write .tif"
            )
        self._all_valid = True
        need = grid.height * grid.width * len(bands) * np.dtype(encoding.dtype).itemsize * 2
        free = shutil.disk_usage(path.parent).free
        if need > free:
            raise OutputError(
                f"{path}: needs about {need / 2**20:.0f} MiB of free disk, there are "
                f"{free / 2**20:.0f}"
            )
        self._folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            with self._environment():
                self._body: Any = rasterio.open(
                    self._folder / "body.tif", "w", **self._body_profile()
                )
        except BaseException as error:
            self._remove()
            raise self._failed(error) from error

    def _body_profile(self) -> dict[str, Any]:
        g = self.grid
        profile: dict[str, Any] = {
            "driver": "GTiff",
            "height": g.height,
            "width": g.width,
            "count": len(self.bands),
            "dtype": self.encoding.dtype,
            "nodata": self.encoding.nodata,
            "tiled": True,
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
            "interleave": "pixel",
            "bigtiff": "IF_SAFER",
            "sparse_ok": True,
            "crs": g.crs,
        }
        if not g.transform.is_identity:
            profile["transform"] = g.transform
        if g.gcps:
            profile |= {"gcps": list(g.gcps), "crs": g.gcps_crs}
        return profile

    def _environment(self) -> Any:
        return gdal(GDAL_TIFF_INTERNAL_MASK=True)

    def write(self, box: Box, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Write physical values [C, h, w] and mask [h, w] at `box` of the result's grid."""
        low, high = VALID_RANGE.get(self.unit, (-np.inf, np.inf))
        stored = self.encoding.encode(np.clip(values, low, high), mask)
        try:
            with self._environment():
                self._body.write(stored, window=box.rasterio())
                if self.encoding.mask_band:
                    if not mask.all():
                        self._all_valid = False
                    self._body.write_mask(mask.astype(np.uint8) * 255, window=box.rasterio())
        except (RasterioError, OSError) as error:
            raise self._failed(error) from error

    def commit(self) -> Path:
        """Finish the file and rename it into place."""
        try:
            with self._environment():
                self._describe()
                self._body.close()
                final = self._folder / self.path.name
                if self.picture:
                    self._write_picture(final)
                else:
                    self._write_cog(final)
            _flush(final)
            extra = final.with_name(final.name + ".aux.xml")
            if extra.exists() and not self.grid.transform.is_identity:
                os.replace(extra, self.path.with_name(self.path.name + ".aux.xml"))
            os.replace(final, self.path)
            _flush(self.path.parent)
        except (RasterioError, OSError) as error:
            raise self._failed(error) from error
        finally:
            self._remove()
        return self.path

    def _describe(self) -> None:
        body, e = self._body, self.encoding
        body.update_tags(**self.tags)
        body.descriptions = self.bands
        body.scales = [e.scale] * len(self.bands)
        body.offsets = [e.offset] * len(self.bands)
        body.units = [self.unit] * len(self.bands)
        colours = {"red": ColorInterp.red, "green": ColorInterp.green, "blue": ColorInterp.blue}
        if set(colours) <= set(self.bands):
            body.colorinterp = [colours.get(b, ColorInterp.undefined) for b in self.bands]
        for number, band in enumerate(self.bands, start=1):
            body.update_tags(number, common_name=band)

    def _write_cog(self, final: Path) -> None:
        source = self._folder / "body.tif"
        if self.encoding.mask_band and self._all_valid:
            # Nothing is masked: a mask band would only cost space.
            with rasterio.open(source) as body:
                _strip_mask(body, self._folder / "plain.vrt")
            source = self._folder / "plain.vrt"
        rasterio.shutil.copy(
            source,
            final,
            driver="COG",
            compress="DEFLATE",
            predictor="YES",
            blocksize=BLOCK,
            overviews="AUTO",
            resampling="AVERAGE",
            statistics="YES",
            bigtiff="IF_SAFER",
            num_threads="ALL_CPUS",
        )

    def _write_picture(self, final: Path) -> None:
        with rasterio.open(self._folder / "body.tif") as body:
            stored = body.read()
            mask = body.dataset_mask() if self.encoding.mask_band else None
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
        if mask is not None and not self._all_valid:
            top = np.iinfo(self.encoding.dtype).max
            stored = np.concatenate([stored, (mask[None] > 0).astype(stored.dtype) * top])
            profile["count"] += 1
        words = "; ".join(f"{k}={v}" for k, v in self.tags.items())
        profile |= {"description": words, "software": self.tags.get("TIFFTAG_SOFTWARE", "")}
        with rasterio.open(final, "w", **profile) as out:
            out.write(stored)

    def _failed(self, error: BaseException) -> BaseException:
        if isinstance(error, CrossbandError) or not isinstance(error, RasterioError | OSError):
            return error
        free = shutil.disk_usage(self.path.parent).free / 2**20
        return OutputError(
            f"{self.path}: cannot be written ({reason(error)}); {free:.0f} MiB of disk are free; "
            f"nothing was left under that name"
        )

    def _remove(self) -> None:
        body = getattr(self, "_body", None)
        if body is not None and not body.closed:
            try:
                with self._environment():  # GDAL's words about the flush go to the log, not stderr
                    body.close()
            except (RasterioError, OSError):
                # The folder goes anyway; what could not be flushed is not wanted.
                self._body = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()


def _strip_mask(body: Any, vrt: Path) -> None:
    """Write a VRT that shows `body` without its mask band."""
    rasterio.shutil.copy(body, vrt, driver="VRT")
    text = vrt.read_text()
    start, end = text.find("<MaskBand>"), text.find("</MaskBand>")
    if start >= 0:
        vrt.write_text(text[:start] + text[end + len("</MaskBand>") :])


def _flush(path: Path) -> None:
    """See that a file or folder is on disk before something relies on it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
