"""Convert physical values to the stored numbers of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossband.errors import OutputError, nearest
from crossband.raster.radiometry import fits_physical
from crossband.raster.scene import Scene

#: Data types that can be written, and their names in GDAL.
DTYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "uint64": "UInt64",
    "int64": "Int64",
    "float32": "Float32",
    "float64": "Float64",
}
#: Numbers this close to a nodata number, relative to it, are masked by GDAL, too: it compares all
#: floating-point numbers by 2 |a + b| times the epsilon of float32.
NEAR = 5e-7


@dataclass(frozen=True)
class Encoding:
    """How physical values are stored.

    Attributes:
        dtype: NumPy name of the stored data type.
        scale: physical = stored x scale + offset.
        offset: see scale.
        nodata: stored number of masked pixels; None with a mask band, or if all are valid.
        mask_band: write a mask band (GeoTIFF: internal mask; PNG: alpha).
    """

    dtype: str
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    mask_band: bool = False

    def fact(self) -> str:
        """Return the text that stands for it among the facts of a run; its form never changes."""
        return (
            f"Encoding(dtype={self.dtype!r}, scale={self.scale!r}, offset={self.offset!r}, "
            f"nodata={self.nodata!r}, mask_band={self.mask_band!r})"
        )

    @classmethod
    def of_scene(
        cls,
        scene: Scene,
        dtype: str | None = None,
        *,
        unit: str | None = None,
        scale: float | None = None,
        offset: float | None = None,
        nodata: float | None = None,
    ) -> Encoding:
        """Return the encoding of the source, or the one that the arguments ask for.

        If the source has neither nodata nor a mask, or its bands have different nodata numbers,
        masked pixels are marked by NaN (float) or by a mask band (integer). So pixels that are
        masked for other reasons (NaN, infinity) are never written as values.

        Args:
            scene: the source.
            dtype: stored data type; a floating-point one holds physical values.
            unit: unit of the result. For another unit than the source's, its encoding does not
                apply, and float32 is the default.
            scale: physical = stored x scale + offset; an integer type needs one.
            offset: see scale; 0 if only a scale is given.
            nodata: stored number of masked pixels.

        Raises:
            OutputError: an integer type without a scale, or a number that it cannot hold.
        """
        r = scene.radiometry
        same = unit is None or unit == scene.unit
        kept = same and scale is None and offset is None and dtype in (None, scene.dtype)
        if kept and not r.power:
            stored = scene.dtype
            mark = None if scene.has_mask else _shared(r.nodata, stored)
            if mark is None and np.dtype(stored).kind == "f" and not scene.has_mask:
                mark = float("nan")
            found = cls(stored, r.scale[0], r.offset[0], mark, mark is None)
        else:
            found = cls._own(scene, dtype, same, scale, offset)
        if nodata is not None:
            _check_holds(found.dtype, nodata)
            found = replace(found, nodata=_exact(found.dtype, nodata), mask_band=False)
        return found

    @classmethod
    def _own(
        cls,
        scene: Scene,
        dtype: str | None,
        same: bool,
        scale: float | None,
        offset: float | None,
    ) -> Encoding:
        """Return an encoding other than the source's."""
        own = scene.dtype if same and not scene.radiometry.power else "float32"
        stored = check_dtype(dtype or own)
        if np.dtype(stored).kind == "f" or (dtype is None and scale is None and offset is None):
            if scale is not None or offset is not None:
                raise OutputError(
                    f"--out-scale and --out-offset are for integers; {stored} holds physical units"
                )
            stored = stored if np.dtype(stored).kind == "f" else "float32"
            return cls(stored, nodata=float("nan"))
        if scale is not None and not fits_physical("scale", scale):
            raise OutputError(f"--out-scale {scale:g} cannot be; give one as 0.0001")
        if scale is None:
            raise OutputError(
                f"--dtype {stored} needs a scale of its own, as in --out-scale 0.0001 (physical = "
                f"stored x scale); or choose float32 (physical units)"
                + (f" or the source's {scene.dtype}" if same else "")
            )
        if offset is not None and not fits_physical("offset", offset):
            raise OutputError(f"--out-offset {offset:g}: a number is needed")
        return cls(stored, scale, offset or 0.0, None, mask_band=True)

    def encode(self, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[Any]:
        """Convert physical values [C, H, W] with a mask [H, W] to stored numbers.

        A valid value that would be stored as the nodata number is stored as the next number; of a
        floating-point type as the next one that GDAL does not take for the nodata number. One
        that a floating-point type does not hold becomes infinite, which is not valid.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            return self._encode(values, mask)

    def _encode(self, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[Any]:
        kind = np.dtype(self.dtype)
        physical = kind.kind == "f" and self.scale == 1.0 and self.offset == 0.0
        stored = values.astype(kind if physical else np.float64)
        if not physical:
            stored -= self.offset
            stored /= self.scale
        if kind.kind in "iu":
            low, high = limits(self.dtype)
            np.clip(np.rint(stored, out=stored), low, high, out=stored)
            if self.nodata is not None:
                step = max(np.spacing(abs(self.nodata)), 1.0)  # beyond 2^53, 1 would change nothing
                stored[stored == self.nodata] += step if self.nodata < high else -step
        elif self.nodata is not None and np.isfinite(self.nodata):
            stored = stored.astype(kind, copy=False)  # a value may become nodata by its rounding
            _keep_off(stored, kind.type(self.nodata))
        fill = 0.0 if self.nodata is None else self.nodata
        stored[:, ~mask] = fill
        return stored.astype(kind, copy=False)

    def held(self) -> tuple[float, float]:
        """Return the least and the largest physical value that an integer type can store."""
        ends = [number * self.scale + self.offset for number in limits(self.dtype)]
        return min(ends), max(ends)

    def beyond(self, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> int:
        """Count the valid values [C, H, W] that `encode` clips to the range of the data type."""
        if np.dtype(self.dtype).kind not in "iu":
            return 0
        low, high = self.held()
        half = abs(self.scale) / 2  # rounding is not clipping
        with np.errstate(over="ignore"):  # what float32 does not hold, no value is beyond
            out = (values < low - half) | (values > high + half)
        return int(np.count_nonzero(out & mask))


def _keep_off(stored: NDArray[Any], mark: np.floating[Any]) -> None:
    """Move numbers away from a nodata number to which they are as good as equal for GDAL."""
    near = type(mark)(NEAR) * abs(mark)
    toward = -1 if mark == np.finfo(stored.dtype).max else 1
    next_to = mark + toward * 2 * near if near else np.nextafter(mark, type(mark)(1))
    stored[np.abs(stored - mark) <= near] = next_to


def check_dtype(name: str) -> str:
    """Return the name of a data type that can be written; OutputError for any other."""
    if name not in DTYPES:
        raise OutputError(f"--dtype {name}: {nearest(name, DTYPES)}")
    return name


def _shared(marks: Sequence[float | None], dtype: str) -> float | None:
    """Return the nodata number that all bands share, if the type can store it; else None."""
    first = marks[0]
    same = first is not None and len({repr(mark) for mark in marks}) == 1
    return _exact(dtype, first) if same and first is not None and _holds(dtype, first) else None


def limits(dtype: str) -> tuple[float, float]:
    """Return the least and the largest number of an integer type that float64 can represent."""
    info = np.iinfo(dtype)
    high = float(info.max)
    return float(info.min), high if int(high) <= info.max else float(np.nextafter(high, 0.0))


def _exact(dtype: str, number: float) -> float:
    """Return the number rounded to the data type, as readers of the file will compare it."""
    return float(np.dtype(dtype).type(number)) if np.dtype(dtype).kind == "f" else number


def _holds(dtype: str, number: float) -> bool:
    if not np.isfinite(number):  # NaN, or an explicit infinity
        return np.dtype(dtype).kind == "f"
    if np.dtype(dtype).kind == "f":
        return abs(number) <= float(np.finfo(dtype).max)
    low, high = limits(dtype)
    return number == int(number) and low <= number <= high


def _check_holds(dtype: str, number: float) -> None:
    if _holds(dtype, number):
        return
    if np.dtype(dtype).kind == "f":
        raise OutputError(
            f"--nodata {number:g}: {dtype} holds numbers up to {np.finfo(dtype).max:g}"
        )
    low, high = limits(dtype)
    raise OutputError(f"--nodata {number:g}: {dtype} holds whole numbers {low:.0f} to {high:.0f}")
