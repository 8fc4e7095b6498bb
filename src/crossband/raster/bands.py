"""Find bands by name: from the caller, from the file's metadata, or from the declared sensor.

Pixel values are never used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from crossband.core import sensors
from crossband.errors import BandError, nearest

#: Bands that a message lists.
_LISTED = 30
#: Sensors that a message lists; of more it names none.
_SENSORS = 3


def parse_bands(text: str) -> dict[str, int | str]:
    """Parse `red=3,green=2,blue=1` or `red=B04,...`.

    >>> parse_bands("red=3,nir=B08")
    {'red': 3, 'nir': 'B08'}
    """
    chosen: dict[str, int | str] = {}
    for part in text.split(","):
        name, sign, value = (p.strip() for p in part.partition("="))
        if not sign or not name or not value:
            raise BandError(f"bands are given as name=number, as in red=3,green=2,blue=1: {text!r}")
        if name in chosen:
            raise BandError(f"band {name} is given twice: {text!r}")
        chosen[name] = int(value) if re.fullmatch(r"[0-9]{1,9}", value) else value
    return chosen


def find_bands(
    dataset: Any,
    path: str | Path,
    needed: Sequence[str],
    given: Mapping[str, int | str],
    sensor: sensors.Sensor | None,
) -> dict[str, int]:
    """Return common name -> 1-based band number for every needed band.

    Args:
        dataset: of rasterio, or a `Product`.
        path: for messages.
        needed: common names.
        given: common name -> band number or name, as the caller states it.
        sensor: declared by the caller.

    Raises:
        BandError: a band is missing, ambiguous, or chosen twice; no band is needed.
    """
    if not needed or isinstance(needed, str) or len(set(needed)) < len(needed):
        raise BandError(f"needed: a list of names of bands, each once, not {needed!r:.60}")
    sources = named_bands(dataset, sensor)
    for name in given:
        if name not in needed:
            raise BandError(
                f"the model does not take a band {name!r}: it takes {', '.join(needed)}"
            )
    numbers: dict[str, int] = {}
    for name in needed:
        if name in given:
            numbers[name] = _given_band(dataset, path, name, given[name])
            continue
        for source in sources:
            matches = [n for n, known in source.items() if known == name]
            if len(matches) > 1:
                labels = [dataset.descriptions[n - 1] or name for n in matches]
                named = f" ({', '.join(labels)})" if len(set(labels)) == len(labels) else ""
                raise BandError(
                    f"{path}: bands {', '.join(map(str, matches))}{named} are all named {name}; "
                    f"choose with --bands {name}={'NAME' if named else 'NUMBER'}"
                )
            if matches:
                numbers[name] = matches[0]
                break
    missing = [n for n in needed if n not in numbers]
    if missing and dataset.count < len(needed):
        raise BandError(
            f"{path}: it has {dataset.count} band{'s' * (dataset.count > 1)}, the model needs "
            f"{len(needed)}: {', '.join(needed)}"
        )
    if missing:
        labels = dataset.descriptions[:_LISTED]
        names = ", ".join(f"{n}={d or '?'}" for n, d in enumerate(labels, start=1))
        names += ", ..." * (dataset.count > _LISTED)
        readings = _readings(dataset, sensor)
        example = _example(dataset, needed, numbers, readings)
        known = {name for reading in readings for name in reading.values()}
        if sensor and readings and all(dataset.descriptions) and not known & set(missing):
            raise BandError(
                f"{path}: no band is named {', '.join(missing)} (the file says {names}); if one "
                f"of them is it nevertheless, say it with --bands {example}"
            )
        fitting = sensors.sensors_with(needed)
        name = " or ".join(fitting) if 0 < len(fitting) <= _SENSORS else "NAME"
        way = "" if sensor else f", or declare --sensor {name}"
        raise BandError(
            f"{path}: cannot tell which band is {', '.join(missing)} (the file says {names}); "
            f"say it with --bands {example} (numbers or names){way}"
        )
    numbers_used = list(numbers.values())
    if len(set(numbers_used)) < len(numbers_used):
        raise BandError(f"{path}: one band is chosen twice: {numbers}")
    return numbers


def named_otherwise(
    dataset: Any, given: Mapping[str, int | str], sensor: sensors.Sensor | None
) -> tuple[str, ...]:
    """Return in words which bands the caller gives by number though the file names them otherwise.

    >>> from types import SimpleNamespace
    >>> file = SimpleNamespace(descriptions=("B02", "B03", "B04", "B08"))
    >>> named_otherwise(file, {"red": 1, "green": 2}, sensors.get("sentinel-2-l2a"))
    ("red=1, and the file calls band 1 'B02' (blue)",)
    """
    readings, out = _readings(dataset, sensor), []
    for name, number in given.items():
        meant = {r[number] for r in readings if number in r} if isinstance(number, int) else set()
        # One kind of band, as nir and nir08, is the caller's choice.
        if meant and _kind(name) not in set(map(_kind, meant)):
            words, label = " or ".join(sorted(meant)), dataset.descriptions[int(number) - 1]
            out.append(f"{name}={number}, and the file calls band {number} {label!r} ({words})")
    return tuple(out)


def _kind(name: str) -> str:
    return name.rstrip("0123456789")


def _readings(dataset: Any, sensor: sensors.Sensor | None) -> list[dict[int, str]]:
    """Return band number -> common name, as each sensor reads the file's names that knows all.

    Args:
        dataset: with `descriptions`.
        sensor: declared by the caller; alone where it knows all names.
    """
    labels = {n: d for n, d in enumerate(dataset.descriptions, start=1) if d}
    readings = {}
    for one in sensors.SENSORS.values():
        named = {n: one.common_name(label) for n, label in labels.items()}
        if labels and all(named.values()):
            readings[one.name] = {n: name for n, name in named.items() if name}
    if sensor is not None and sensor.name in readings:
        return [readings[sensor.name]]
    return list(readings.values())


def _example(
    dataset: Any,
    needed: Sequence[str],
    known: Mapping[str, int],
    readings: Sequence[Mapping[int, str]],
) -> str:
    """Return the text of `--bands` for a message, with numbers only where they are certain.

    A number is certain where the file's names mean one band in every sensor whose names they are,
    or where one band is wanted and the file has one. A line that looks right and is wrong would
    swap bands.
    """
    if len(needed) == dataset.count == 1 and not any(dataset.descriptions):
        return f"{needed[0]}=1"
    words = []
    for name in needed:
        numbers = {tuple(n for n, meant in named.items() if meant == name) for named in readings}
        only = next(iter(numbers)) if len(numbers) == 1 else ()
        certain = known.get(name) or (only[0] if len(only) == 1 else "NUMBER")
        words.append(f"{name}={certain}")
    return ",".join(words)


def named_bands(dataset: Any, sensor: sensors.Sensor | None) -> list[dict[int, str]]:
    """Return band number -> name of three sources, the most reliable one first.

    They are descriptions and tags, colour interpretation, and the order of the sensor's bands.
    """
    described = _described(dataset, sensor)
    coloured = {n: c.name for n, c in enumerate(dataset.colorinterp, start=1)}
    in_order: dict[int, str] = {}
    if sensor and sensor.ordered and dataset.count == len(sensor.bands) and not described:
        in_order = dict(enumerate((b.name for b in sensor.bands), start=1))
    return [described, coloured, in_order]


def _described(dataset: Any, sensor: sensors.Sensor | None) -> dict[int, str]:
    """Return band number -> common name, from descriptions and band tags."""
    found = {}
    for number, description in enumerate(dataset.descriptions, start=1):
        tags = dataset.tags(number)
        if tags.get("common_name") == "":  # the product has a finer version of this band
            continue
        for label in (tags.get("common_name"), tags.get("eo:common_name"), description):
            if not label:
                continue
            name = sensor.common_name(label) if sensor else None
            if name is None and label.strip().lower() in sensors.COMMON_NAMES:
                name = label.strip().lower()
            if name is not None:
                found[number] = name
                break
    return found


def _given_band(dataset: Any, path: str | Path, name: str, value: int | str) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral | str):
        raise BandError(f"{path}: band {name} is {value!r}: a band number, or a name in the file")
    if isinstance(value, Integral):
        value = int(value)
        if not 1 <= value <= dataset.count:
            raise BandError(
                f"{path}: --bands {name}={value}, but its bands are 1 to {dataset.count}"
            )
        return value
    labels = [d or "" for d in dataset.descriptions]
    exact = [n for n, d in enumerate(labels, start=1) if d == value]
    loose = [n for n, d in enumerate(labels, start=1) if d.lower() == value.lower()]
    matches = exact or loose
    if len(matches) != 1:
        known = [d for d in labels if d]
        raise BandError(f"{path}: no single band is named {value!r}: {nearest(value, known)}")
    return matches[0]
