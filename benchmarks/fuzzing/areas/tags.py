"""The texts that a TIFF says of its bands: names, units, scale, offset, nodata."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from fuzzing import tiff
from fuzzing.areas.tiff import by_gdal
from fuzzing.case import REFUSED, RIGHT, Case, Draw
from fuzzing.scenes import LINE, NAMES, Scene, compare, draw_scene, item, metadata, translate

Check = Callable[[Path], str | None]
#: A number as C's strtod and Python read it alike.
_PLAIN = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


def case(draw: Draw) -> Case:
    """Draw a case."""
    scene = draw_scene(draw, ("uint16", "float32", "int16", "uint8"))
    kinds = (_scale, _unit, _nodata, _name, _odd)
    return draw.choice(kinds)(draw, scene)


def _case(
    scene: Scene,
    items: list[str],
    must: str | None,
    check: Check | None = None,
    nodata: str | None = None,
) -> Case:
    entries: tiff.Entries = {tiff.METADATA: (2, metadata(items))}
    if nodata is not None:
        entries[tiff.NODATA] = (2, nodata.encode("utf-8", "surrogateescape") + b"\0")
    data = tiff.write(scene.stored, None, entries, mask=scene.mask)
    known: Check = check or (lambda folder: compare(folder / "out.tif", scene))
    return Case(translate(), {**LINE.files(), "in.tif": data}, must, known)


def _items(scene: Scene, unit: str = "reflectance") -> list[str]:
    """Return what is said of a scene."""
    out = []
    for n, name in enumerate(NAMES):
        out.append(item("DESCRIPTION", n, "description", name))
        out.append(item("UNITTYPE", n, "unittype", unit))
        out.append(item("SCALE", n, "scale", repr(scene.scale[n])))
        out.append(item("OFFSET", n, "offset", repr(scene.offset[n])))
    return out


def _scale(draw: Draw, scene: Scene) -> Case:
    """Scale and offset as any number, or what looks like one."""
    words = draw.number(), draw.number()
    scene = replace(scene, nodata=(None,) * 3)
    items = [i for i in _items(scene) if "SCALE" not in i and "OFFSET" not in i]
    for n in range(3):
        items.append(item("SCALE", n, "scale", words[0]))
        items.append(item("OFFSET", n, "offset", words[1]))
    if not all(_PLAIN.fullmatch(word) for word in words):
        return _case(scene, items, None, by_gdal)
    scale, offset = map(float, words)
    if scale == 0 or not math.isfinite(scale) or not math.isfinite(offset):
        return _case(scene, items, REFUSED)
    return _case(replace(scene, scale=(scale,) * 3, offset=(offset,) * 3), items, None)


def _unit(draw: Draw, scene: Scene) -> Case:
    """Units that mean reflectance, and others."""
    known = draw.chance(0.4)
    words = ("reflectance", " Reflectance ", "REFLECTANCE") if known else ("", "m", "%", "kelvin")
    unit = draw.choice(words) if known or draw.chance(0.5) else draw.text()
    scene = replace(scene, nodata=(None,) * 3)
    if unit.strip().lower() == "reflectance":
        return _case(scene, _items(scene, unit), RIGHT if scene.physical()[1].any() else None)
    return _case(scene, _items(scene, unit), None if "reflectance" in unit.lower() else REFUSED)


def _nodata(draw: Draw, scene: Scene) -> Case:
    """A nodata number as any text."""
    word = draw.number()
    if not _PLAIN.fullmatch(word):
        return _case(scene, _items(scene), None, by_gdal, word)
    mark, kind = float(word), scene.stored.dtype
    held = math.isfinite(mark) and (
        abs(mark) <= float(np.finfo(kind).max)
        if kind.kind == "f"
        else mark == int(mark) and np.iinfo(kind).min <= mark <= np.iinfo(kind).max
    )
    if not held or len(word) > 15:
        return _case(scene, _items(scene), None, by_gdal, word)
    scene = replace(scene, nodata=(float(kind.type(mark)),) * 3)
    must = RIGHT if scene.physical()[1].any() else REFUSED
    return _case(scene, _items(scene), must, nodata=word)


def _name(draw: Draw, scene: Scene) -> Case:
    """Bands with other names, which --bands would have to choose."""
    scene = replace(scene, nodata=(None,) * 3)
    items = [i for i in _items(scene) if "DESCRIPTION" not in i]
    names = [draw.choice((name.upper(), f" {name}", name)) for name in NAMES]
    odd = draw.chance(0.6)
    if odd:
        names[draw.randrange(3)] = draw.choice((draw.text(), "red", "nir", "é" * 300, ""))
    items += [item("DESCRIPTION", n, "description", name) for n, name in enumerate(names)]
    must = RIGHT if not odd and scene.physical()[1].any() else None
    return _case(scene, items, must, by_gdal if odd else None)


def _odd(draw: Draw, scene: Scene) -> Case:
    """Further items, of any kind."""
    items = _items(scene)
    for _ in range(draw.randint(1, 4)):
        role = draw.choice(("description", "unittype", "scale", "offset", "x", ""))
        text = draw.text() if draw.chance(0.7) else "&#0;&amp;<b>" * draw.choice((1, 1000))
        items.append(item(draw.choice(("AREA_OR_POINT", "X", "")), draw.randrange(5), role, text))
    if draw.chance(0.2):
        items.append("<!DOCTYPE a [<!ENTITY b 'c'>]>")
    draw.shuffle(items)
    return _case(scene, items, None, by_gdal)
