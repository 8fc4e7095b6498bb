"""Landsat 4 to 9, Collection 2, Level 1 and Level 2: a folder, its tar, or its MTL file.

Source: USGS Landsat 4-7 and 8-9 Collection 2 Level-2 Science Product Guides; Landsat 8-9 Data Users
Handbook. Level 2: reflectance, and kelvin, = DN x MULT + ADD. Level 1: reflectance at the top of
the atmosphere = (DN x MULT + ADD) / sin(sun elevation), with the elevation at the centre of the
scene. A stored 0 is fill.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from crossband.core import sensors
from crossband.core.json_text import parse_json
from crossband.errors import InputError
from crossband.raster.products import markup
from crossband.raster.products.base import Band, ProductReader
from crossband.raster.source import Source, Tree

Groups = dict[str, dict[str, str]]

_OLI = {
    "1": "coastal", "2": "blue", "3": "green", "4": "red", "5": "nir", "6": "swir16",
    "7": "swir22", "8": "pan", "9": "cirrus",
}  # fmt: skip
_TM = {
    "1": "blue", "2": "green", "3": "red", "4": "nir", "5": "swir16", "7": "swir22", "8": "pan",
}  # fmt: skip
_NAMES = {"OLI_TIRS": _OLI, "OLI": _OLI, "ETM": _TM, "TM": _TM}
#: Groups of the MTL files of each level with the factors of reflectance and temperature.
_SURFACE, _TOP = "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS", "LEVEL1_RADIOMETRIC_RESCALING"
_TEMPERATURE = "LEVEL2_SURFACE_TEMPERATURE_PARAMETERS"


class Landsat(ProductReader):
    """Landsat Collection 2, surface reflectance and temperature, or top of atmosphere."""

    title: ClassVar[str] = "a Landsat Collection 2 folder, its tar or its MTL file"
    metadata_names: ClassVar[tuple[str, ...]] = ("*_MTL.txt", "*_MTL.json", "*_MTL.xml")

    def bands(self, source: Source) -> list[Band] | None:
        """See `ProductReader.bands`."""
        found = source.metadata(*self.metadata_names)
        if found is None:
            return None
        tree, name = found
        try:
            return _bands(_groups(tree, name), tree, name)
        except InputError as error:
            raise InputError(f"{source.words(name)}: {error}") from error

    def when(self, source: Source) -> tuple[str, str] | None:
        """See `ProductReader.when`."""
        found = source.metadata(*self.metadata_names)
        if found is None:
            return None
        about = _groups(*found).get("IMAGE_ATTRIBUTES", {})
        day, time = about.get("DATE_ACQUIRED", ""), about.get("SCENE_CENTER_TIME", "")
        return (f"{day}T{time}" if time else day, "DATE_ACQUIRED") if day else None


def _bands(groups: Groups, tree: Tree, metadata: str) -> list[Band]:
    if _word(groups, "PRODUCT_CONTENTS", "COLLECTION_NUMBER").lstrip("0") != "2":
        raise InputError("not of Collection 2")
    instrument = _word(groups, "IMAGE_ATTRIBUTES", "SENSOR_ID")
    if instrument not in _NAMES:
        raise InputError(f"the bands of {instrument} are not known, only {', '.join(_NAMES)}")
    level = _word(groups, "PRODUCT_CONTENTS", "PROCESSING_LEVEL")
    surface = level.startswith("L2")
    files = {
        key.removeprefix("FILE_NAME_BAND_"): file
        for key, file in groups["PRODUCT_CONTENTS"].items()
        if key.startswith("FILE_NAME_BAND_")
    }
    own = _SURFACE if surface else _TOP
    sun = 1.0
    if not surface:
        sun = math.sin(math.radians(_number(groups, "IMAGE_ATTRIBUTES", "SUN_ELEVATION")))
        if sun <= 0:
            raise InputError("the sun is below the horizon: there is no reflectance")
    bands = []
    for number, name in _NAMES[instrument].items():
        if number not in files:
            continue
        scale = _number(groups, own, f"REFLECTANCE_MULT_BAND_{number}") / sun
        offset = _number(groups, own, f"REFLECTANCE_ADD_BAND_{number}") / sun
        label = f"SR_B{number}" if surface else f"B{number}"
        bands.append((label, name, files[number], scale, offset, sensors.REFLECTANCE))
    for key in ("ST_B10", "ST_B6"):
        if key in files:
            scale = _number(groups, _TEMPERATURE, f"TEMPERATURE_MULT_BAND_{key}")
            offset = _number(groups, _TEMPERATURE, f"TEMPERATURE_ADD_BAND_{key}")
            bands.append((key, "thermal", files[key], scale, offset, sensors.KELVIN))
    folder = metadata.rpartition("/")[0]
    return [
        Band(
            label,
            name,
            tree.href(path := f"{folder}/{file}".lstrip("/")),
            scale=scale,
            offset=offset,
            nodata=0.0,
            unit=unit,
            files=(tree.disk(metadata), tree.disk(path)),
        )
        for label, name, file, scale, offset, unit in bands
    ]


def _groups(tree: Tree, name: str) -> Groups:
    """Return the groups of an MTL file: group -> key -> value as text."""
    if name.endswith(".xml"):
        root = markup.parse(tree, name)
        return {g.tag: {e.tag: (e.text or "").strip() for e in g} for g in root}
    content = tree.read(name)
    if name.endswith(".json"):
        try:
            data: Any = parse_json(content)
            return {
                group: {key: str(value) for key, value in keys.items()}
                for group, keys in data["LANDSAT_METADATA_FILE"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"not an MTL file that can be read: {error!r}") from error
    groups: Groups = {}
    group: dict[str, str] = {}
    for line in content.decode("utf-8", "replace").splitlines():
        key, sign, value = (part.strip() for part in line.partition("="))
        if key == "GROUP":
            group = groups.setdefault(value, {})
        elif sign and key != "END_GROUP":
            group[key] = value.strip('"')
    return groups


def _word(groups: Groups, group: str, key: str) -> str:
    if group not in groups:
        raise InputError(f"no group {group}: is it of Collection 2?")
    if not groups[group].get(key):
        raise InputError(f"no {key} in {group}")
    return groups[group][key]


def _number(groups: Groups, group: str, key: str) -> float:
    word = _word(groups, group, key)
    try:
        return float(word)
    except ValueError:
        raise InputError(f"{key} is {word!r}, and no number") from None
