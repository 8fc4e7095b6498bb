"""The STAC item of a translated scene: its place, its model and its source."""

from __future__ import annotations

import calendar
import json
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rasterio.warp import transform_bounds

from crossband.core.atomic import write_text_atomically
from crossband.core.file_hash import sha256
from crossband.core.version import __version__
from crossband.errors import InputError
from crossband.model import Model
from crossband.model.exporting.onnx_file import one_unit
from crossband.model.exporting.stac import mlm_properties
from crossband.raster import remote
from crossband.raster.acquired import acquisition_date
from crossband.raster.gdal import READ_ERRORS
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions

PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"


def write_result_item(model: Model, source: str, result: Path) -> Path:
    """Write the STAC item of a result, beside it with the suffix .json.

    Args:
        model: that made it.
        source: path of the scene.
        result: the GeoTIFF.
    """
    path = result.with_suffix(".json")
    write_text_atomically(path, json.dumps(_item(model, source, result), indent=2) + "\n")
    return path


def _item(model: Model, source: str, result: Path) -> dict[str, Any]:
    with open_scene(result, ReadOptions(), needed=model.signature.target) as scene:
        grid, unit = scene.grid, scene.unit
    box = None
    if grid.crs is not None:
        sides = ((x, y) for x in (0, grid.width) for y in (0, grid.height))
        xs, ys = zip(*(grid.transform @ side for side in sides), strict=True)
        with suppress(*READ_ERRORS):  # a CRS without a place on the earth
            box = list(transform_bounds(grid.crs, "EPSG:4326", min(xs), min(ys), max(xs), max(ys)))
    unit_in = next(u for u in model.signature.units if model.signature.target_unit(u) == unit)
    signature = one_unit(model.signature, unit_in)
    address, licence = model.address or model.name, str(model.about.get("licence", "not stated"))
    of_item = address.endswith(".json")
    properties = mlm_properties(model, signature, licence)
    described = {key: value for key, value in properties.items() if key.startswith("mlm:")}
    lineage = (
        f"Synthetic {', '.join(signature.target)}: translated by the model {model.name} (weights "
        f"{model.weights_hash[:12]}) with Crossband {__version__} from {remote.name_of(source)}; "
        "an estimate, no measurement"
    )
    name, now = Path(address).name, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    links = [{"rel": "derived_from", "href": _href(source, result), "title": "the source"}]
    if of_item:
        address = _href(address, result)
        link = {"rel": "derived_from", "href": address, "type": "application/geo+json"}
        links.append({**link, "title": f"the model {name}", "mlm:name": model.name})
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [PROCESSING, FILE],
        "id": result.stem,
        "geometry": None if box is None else _polygon(*box),
        **({} if box is None else {"bbox": box}),
        "properties": {
            **_when(source, now),
            "created": now,
            "processing:lineage": lineage,
            "processing:software": {"crossband": __version__},
            "processing:expression": {
                "format": "stac-mlm",
                "expression": address if of_item else described,
            },
        },
        "links": links,
        "assets": {
            "data": {
                "href": result.name,
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data", "synthetic"],
                "bands": [{"name": band, "unit": unit} for band in signature.target],
                "file:checksum": f"1220{sha256(result)}",
            }
        },
    }


def _when(source: str, now: str) -> dict[str, str | None]:
    """Return when the source was taken, as STAC says it; where nothing states it, the time now."""
    try:
        taken = acquisition_date(source)
    except InputError:  # the result is there, and is not failed by what a tag says
        taken = None
    if taken is None:
        return {"datetime": now}
    if not (taken.day or taken.month):
        return {"datetime": str(taken)}
    first = taken.time.replace(day=1) if taken.month else taken.time
    days = calendar.monthrange(first.year, first.month)[1] if taken.month else 1
    last = first + timedelta(days=days, seconds=-1)
    ends = {"start_datetime": first, "end_datetime": last}
    return {"datetime": None, **{key: f"{end:%Y-%m-%dT%H:%M:%SZ}" for key, end in ends.items()}}


def _href(address: str, result: Path) -> str:
    """Return an address as the item has it: of a file, from the folder of the result."""
    if remote.is_remote(address):
        return remote.name_of(address)
    return Path(
        os.path.relpath(os.path.abspath(address), os.path.abspath(result.parent))
    ).as_posix()


def _polygon(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}
