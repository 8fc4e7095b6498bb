"""STAC items: what they say of their assets, changed in any way."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from fuzzing import tiff
from fuzzing.case import RIGHT, Case, Draw, dumped, mutate_text, mutate_tree
from fuzzing.scenes import (
    LINE,
    NAMES,
    Scene,
    compare,
    draw_layout,
    draw_scene,
    georeference,
    translate,
)

#: Roles by which an asset is no data (docs/sources.md).
_DISPLAY = {"thumbnail", "overview", "visual", "metadata"}
_NUMBERS: tuple[Any, ...] = ("nan", "1e-4", "x", "", True, [], {}, None, 10**400, -1, 0)
_NUMBERS += (1e300, 1e-320, 2.5e-5, float("nan"), float("inf"))


def case(draw: Draw) -> Case:
    """Draw a case."""
    scene = replace(draw_scene(draw, ("uint16", "int16", "float32")), mask=None)
    if scene.nodata[0] is not None and math.isnan(scene.nodata[0]):
        scene = replace(scene, nodata=(None,) * 3)
    item = _item(draw, scene)
    files = LINE.files()
    for n, name in enumerate(NAMES):
        layout = draw_layout(draw, scene.stored.dtype.name)
        files[f"{name}.tif"] = tiff.write(scene.stored[n : n + 1], layout, georeference())
    kind = draw.randrange(6)
    if kind == 1:  # what says nothing of the pixels
        for key in ("properties", "links", "bbox", "geometry", "id", "collection"):
            if draw.chance(0.4):
                item[key] = draw.json_value() if key != "properties" else {"x": draw.json_value()}
    elif kind == 2:  # numbers of a band
        asset = item["assets"][draw.choice(NAMES)]
        band = (asset.get("raster:bands") or asset.get("bands"))[0]
        band[draw.choice(("scale", "offset", "nodata"))] = draw.choice((*_NUMBERS, draw.number()))
    elif kind > 3:
        item = mutate_tree(draw, item)
    files["item.json"] = dumped(item)
    if kind == 3:
        words = ("NaN", "\\ud800", "[" * 10**5, "null")
        files["item.json"] = mutate_text(draw, json.dumps(item), words)
    must = RIGHT if kind == 0 and scene.physical()[1].any() else None

    def check(folder: Path) -> str | None:
        found = scene if must == RIGHT else _meant(folder, scene)
        if found is None:
            return "answered, though the item does not tell the bands"
        return compare(folder / "out.tif", found)

    return Case(translate("item.json"), files, must, check)


def _item(draw: Draw, scene: Scene) -> dict[str, Any]:
    """Return an item of STAC 1.0 or 1.1."""
    new = draw.chance(0.5)
    assets = {}
    for n, name in enumerate(NAMES):
        numbers: dict[str, Any] = {"scale": scene.scale[n], "offset": scene.offset[n]}
        numbers["unit"] = "reflectance"
        if scene.nodata[n] is not None:
            numbers["nodata"] = scene.nodata[n]
        asset: dict[str, Any] = {"href": draw.choice(("", "./")) + f"{name}.tif"}
        asset |= {"type": "image/tiff; application=geotiff", "roles": ["data"]}
        if new:
            band = {"name": name, "eo:common_name": name}
            for key, value in numbers.items():
                band[f"raster:{key}" if key in ("scale", "offset") else key] = value
            asset["bands"] = [band]
        else:
            asset["eo:bands"] = [{"name": name, "common_name": name}]
            asset["raster:bands"] = [numbers]
        assets[name] = asset
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0" if new else "1.0.0",
        "id": "a",
        "links": [],
    }
    item |= {"geometry": None, "properties": {"datetime": "2024-05-01T00:00:00Z"}}
    return {**item, "assets": assets}


def _meant(folder: Path, scene: Scene) -> Scene | None:
    """Return the scene as a changed item describes it, by docs/sources.md; None where unclear."""
    try:
        item = json.loads((folder / "item.json").read_bytes())
        found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for key, asset in item["assets"].items():
            kind = asset.get("type")
            roles = set(asset.get("roles") or [])
            if not str(kind or "image/").startswith("image/") or roles & _DISPLAY:
                continue
            for band in _bands(asset):
                name = str(band.get("eo:common_name") or band.get("common_name") or "").lower()
                name = key if key in NAMES and name not in NAMES else name
                file = (folder / str(asset["href"]).removeprefix("file://")).resolve().name
                if file.removesuffix(".tif") in NAMES:
                    place = "data" in roles, NAMES.index(file.removesuffix(".tif")), band
                    found.setdefault(name, []).append(place)  # type: ignore[arg-type]
        return _scene(found, scene)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
        return None


def _bands(asset: dict[str, Any]) -> list[dict[str, Any]]:
    listed = asset.get("bands") or asset.get("eo:bands") or []
    raster = asset.get("raster:bands") or []
    out = []
    for n in range(max(len(listed or raster), 1)):
        own = (part[n] if n < len(part) else {} for part in (raster, listed))
        out.append({**asset, **next(own), **next(own)})
    return out


def _scene(found: dict[str, Any], scene: Scene) -> Scene | None:
    order: list[int] = []
    numbers: dict[str, list[Any]] = {"scale": [], "offset": [], "nodata": []}
    for name in NAMES:
        best = [place for place in found[name] if place[0]] or found[name]
        if len(best) != 1:
            return None
        _, number, band = best[0]
        order.append(number)
        for key, default in (("scale", 1.0), ("offset", 0.0), ("nodata", None)):
            value = next((band[k] for k in (f"raster:{key}", key) if band.get(k) is not None), None)
            numbers[key].append(default if value is None else float(value))
    told: dict[str, Any] = {key: tuple(values) for key, values in numbers.items()}
    return replace(scene, stored=scene.stored[order], **told)
