"""Convert stored numbers to physical values, as the caller, the file or the sensor states."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags

from crossband.core import sensors
from crossband.errors import InputError, UnitError
from crossband.raster.stated_numbers import NODATA, check_stated_numbers

#: What helps where a file's nodata number does not.
_SET_NODATA = "give it another one: gdal_translate -a_nodata"
#: The unit that a file states for bands of linear backscatter.
POWER = "power"

_UNITS = {
    "reflectance": sensors.REFLECTANCE,
    "1": None,  # dimensionless: no information
    "db": sensors.DECIBEL,
    "decibel": sensors.DECIBEL,
    POWER: sensors.DECIBEL,
    "kelvin": sensors.KELVIN,
    "k": sensors.KELVIN,
    "display": sensors.DISPLAY,
}


def is_unit(text: str | None) -> bool:
    """Return whether a band states a unit that is known."""
    return text is not None and _UNITS.get(text.strip().lower()) is not None


def leave_out_fill(
    values: NDArray[np.float32], mask: NDArray[np.bool_], limits: tuple[float, float]
) -> float | None:
    """Mask pixels beyond the limits; return the first such value, None where there is none.

    Args:
        values: physical, [C, H, W].
        mask: [H, W]; is changed.
        limits: the lowest and the highest value that is a measurement.
    """
    far = (values < limits[0]) | (values > limits[1])
    if not far.any():
        return None
    far &= mask
    found = float(values[far][0]) if far.any() else None
    mask &= ~far.any(axis=0)
    return found


@dataclass(frozen=True)
class Radiometry:
    """How the stored numbers of the chosen bands become physical values.

    physical = stored x scale + offset, then 10 log10 if `power`.

    Attributes:
        unit: of the physical values.
        scale: of each band.
        offset: of each band.
        nodata: stored number of each band that means "no data", or None.
        power: values are linear backscatter, which becomes decibels.
        origin: where scale and offset come from, for messages.
    """

    unit: str
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    nodata: tuple[float | None, ...]
    power: bool
    origin: str

    def fact(self) -> str:
        """Return the text that stands for it among the facts of a run; its form never changes."""
        return (
            f"Radiometry(unit={self.unit!r}, scale={self.scale!r}, offset={self.offset!r}, "
            f"nodata={self.nodata!r}, power={self.power!r}, said_by={self.origin!r})"
        )

    def physical(
        self, stored: NDArray[Any], marked: bool = True
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Convert stored numbers to physical values.

        Args:
            stored: numbers [C, H, W].
            marked: whether the nodata number means "no data"; beside a mask it does not, so that
                a valid zero stays valid.

        Returns:
            float32 [C, H, W], and bool [H, W], True where every band is finite and not nodata.
        """
        values = np.empty(stored.shape, np.float32)
        valid = np.ones(stored.shape[1:], dtype=bool)
        whole = np.issubdtype(stored.dtype, np.integer)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            # Band by band: intermediate values then fit the processor's cache, and need no newly
            # allocated memory for each window.
            for channel, out, scale, offset, nodata in zip(
                stored, values, self.scale, self.offset, self.nodata, strict=True
            ):
                if not whole:
                    valid &= np.isfinite(channel)
                if nodata is not None and not np.isnan(nodata) and marked:
                    valid &= channel != nodata
                exact = np.multiply(channel, scale, dtype=np.float64)
                exact += offset
                out[:] = exact
                if self.power:
                    valid &= out > 0
                    out[:] = 10.0 * np.log10(out)
                valid &= np.isfinite(out)
        return values, valid


def radiometry_of(
    dataset: Any,
    path: str | Path,
    numbers: dict[str, int],
    sensor: sensors.Sensor | None,
    scale: float | None,
    offset: float | None,
    nodata: float | None,
) -> Radiometry:
    """Return the radiometry of the chosen bands of a file.

    Explicit scale and offset override those of the file, and these override the sensor's. An offset
    alone keeps the scale. A scale alone is accepted only if file and sensor have no offset.

    Raises:
        UnitError: no unit, or two; a scale that the sensor does not state, or an invalid one; a
            scale alone, though file or sensor have an offset.
        InputError: a nodata number that cannot be compared with the stored ones.
    """
    chosen = list(numbers.values())
    dtype = dataset.dtypes[chosen[0] - 1]
    words = [(dataset.units[n - 1] or "").strip().lower() for n in chosen]
    linear = {word == POWER for word in words}
    if len(linear) > 1:
        raise UnitError(f"{path}: its bands have different units: {', '.join(map(repr, words))}")
    stated = {_UNITS.get(word) for word in words}
    if len(stated) > 1 and None in stated and sensor is None:
        named = ", ".join(map(repr, words))
        raise UnitError(f"{path}: some of its bands do not say their unit ({named}): give --sensor")
    stated -= {None}
    if len(stated) > 1:
        raise UnitError(f"{path}: its bands have different units: {', '.join(map(str, stated))}")
    unit = stated.pop() if stated else None
    if sensor is not None and unit is not None and unit != sensor.unit:
        raise UnitError(f"{path}: the file says {unit}, but sensor {sensor.name} is {sensor.unit}")
    if unit is None and sensor is None:
        raise UnitError(f"{path}: {dtype} numbers of unknown unit; declare them: {_ways(numbers)}")
    labels = [dataset.descriptions[n - 1] or "" for n in chosen]
    if sensor is not None and sensor.power and any(map(sensors.in_decibels, labels)):
        raise UnitError(
            f"{path}: its bands are called {', '.join(labels)}, which are decibels, but sensor "
            f"{sensor.name} is linear power"
        )
    scales, offsets, origin = _line(dataset, path, chosen, sensor, scale, offset)
    for kind, numbers_of in (("scale", scales), ("offset", offsets)):
        for value in numbers_of:
            if not fits_physical(kind, value):
                raise UnitError(f"{path}: {kind} {value:g} cannot be; give --{kind}")
    fallback = sensor.nodata if sensor is not None else None
    declared: list[float | None] = [nodata] * len(chosen)
    if nodata is None:
        declared = [stated_nodata(dataset, n, path) for n in chosen]
    for n in chosen if nodata is not None else ():
        _check_possible(path, dataset.dtypes[n - 1], float(nodata or 0))
    for n, number in zip(chosen, declared, strict=True):
        _check_exact(path, dataset.dtypes[n - 1], number)
    return Radiometry(
        unit=unit or (sensor.unit if sensor else ""),
        scale=tuple(map(float, scales)),
        offset=tuple(map(float, offsets)),
        nodata=tuple(fallback if d is None else float(d) for d in declared),
        power=True in linear or bool(sensor and sensor.power),
        origin=origin,
    )


def _ways(bands: Iterable[str]) -> str:
    """Return the options that declare the unit of bands."""
    known = sensors.sensors_with(bands)
    if known and "reflectance" not in known:
        return f"--sensor {' or '.join(known)}"
    return (
        "--sensor display for a picture, --sensor naip, sentinel-2-l2a, ..., or --sensor "
        "reflectance with --scale and --offset"
    )


def fits_physical(kind: str, value: float) -> bool:
    """Return whether a scale or an offset may give physical values, which are float32.

    >>> [fits_physical("scale", v) for v in (1e-4, -2.0, 0.0, 1e300, 1e-320, float("nan"))]
    [True, True, False, False, False, False]
    >>> [fits_physical("offset", v) for v in (0.0, -0.1, 1e300, float("inf"))]
    [True, True, False, False]
    """
    return abs(value) <= 1e12 and (kind == "offset" or abs(value) >= 1e-30)


def stated_nodata(dataset: Any, number: int, path: str | Path) -> float | None:
    """Return the nodata number that a file states for a band (1-based); None if it states none.

    Raises:
        InputError: it states one that rasterio cannot tell, so that masked pixels would be values,
            or one that GDAL reads in part.
    """
    value: float | None = dataset.nodatavals[number - 1]
    flags = getattr(dataset, "mask_flag_enums", None)
    if value is None and flags is not None and MaskFlags.nodata in flags[number - 1]:
        dtype = dataset.dtypes[number - 1]
        raise InputError(
            f"{path}: it states a nodata number that cannot be read as one of its type, {dtype}; "
            f"{_SET_NODATA}"
        )
    if value is not None:
        check_stated_numbers(dataset, path, NODATA)
    return value


def _check_exact(path: str | Path, dtype: str, nodata: float | None) -> None:
    """Raise InputError for a nodata number that integers of a type cannot be compared with."""
    if nodata is None or np.dtype(dtype).kind not in "iu" or not np.isfinite(nodata):
        return
    if np.dtype(dtype).itemsize == 8 and abs(nodata) >= 2**53:
        raise InputError(
            f"{path}: a nodata number of {nodata:.0f} may be rounded, and {dtype} has others next "
            f"to it; {_SET_NODATA}"
        )
    if not float(nodata).is_integer():
        raise InputError(f"{path}: a nodata number of {nodata:g}, and {dtype}; {_SET_NODATA}")


def _check_possible(path: str | Path, dtype: str, nodata: float) -> None:
    """Raise InputError for a nodata number of the caller that no integer of a type is.

    It takes the place of the file's own, so that nothing would be masked any more.
    """
    if np.dtype(dtype).kind in "iu":
        kept = np.iinfo(dtype)
        if not kept.min <= nodata <= kept.max:
            raise InputError(
                f"{path}: a nodata number of {nodata:g} is stated, which no {dtype} is: leave it "
                f"out, or state one from {kept.min} to {kept.max}"
            )


def _line(
    dataset: Any,
    path: str | Path,
    chosen: list[int],
    sensor: sensors.Sensor | None,
    scale: float | None,
    offset: float | None,
) -> tuple[list[float], list[float], str]:
    """Return scales, offsets and their origin; see `radiometry_of`."""
    scales = [dataset.scales[n - 1] for n in chosen]
    offsets = [dataset.offsets[n - 1] for n in chosen]
    origin = "the file"
    in_file = any(s != 1 for s in scales) or any(o != 0 for o in offsets)
    if not in_file and sensor is not None:
        offsets, origin = [sensor.offset] * len(chosen), f"sensor {sensor.name}"
        if scale is None:
            try:
                scales = [sensor.scale_for(dataset.dtypes[n - 1]) for n in chosen]
            except UnitError as error:
                raise UnitError(f"{path}: {error}") from error
    if scale is not None and offset is None and any(offsets):
        # With another scale, the offset may be another one too.
        known = ", ".join(f"{o:g}" for o in dict.fromkeys(offsets))
        raise UnitError(
            f"{path}: a scale without an offset, and {origin} says {known}: give --offset, too "
            f"(physical = stored x scale + offset; 0 for none)"
        )
    if scale is not None:
        scales = [scale] * len(chosen)
    if offset is not None:
        offsets = [offset] * len(chosen)
    if scale is not None or offset is not None:
        origin = "--offset" if scale is None else "--scale and --offset"
    return scales, offsets, origin
