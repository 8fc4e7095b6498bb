"""The satellite and aerial files with four bands: place, family and radiometry of each name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

FAMILIES = ("Sentinel-2", "HLS", "Landsat", "NAIP", "WorldView")
#: Several files of one place.
ONE_PLACE = (
    "naip_nd",
    "naip_wv",
    "s2_l2a_ftw-austria",
    "s2_l2a_czechia",
    "s2_l2a_fort-mcmurray",
    "worldview_rotterdam",
)


def radiometry(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return sensor, scale, offset and nodata as the data's own manifest states them."""
    if "1e4" in str(row["scale"]):
        sensor = "hls" if name.startswith("hls") else "reflectance"
        if name.startswith(("s2_", "sentinel2")):
            level = "l1c" if "L1C" in str(row["sensor"]) else "l2a"
            sensor = f"sentinel-2-{level}" + ("" if row["boa_add_offset"] < 0 else "-no-offset")
        return {"sensor": sensor, "scale": 1e-4, "offset": row["boa_add_offset"] * 1e-4}
    if name.startswith("naip"):
        return {"sensor": "naip"}
    if name.startswith("landsat5"):  # 8-bit numbers in 16-bit storage
        return {"sensor": "display", "scale": 1 / 255, "offset": 0.0}
    if name.startswith("worldview"):  # 11 bits
        return {"sensor": "display", "scale": 1 / 2047, "offset": 0.0}
    if row["dtype"] == "uint16":  # an exporter's stretch; 0 lies outside the picture
        return {"sensor": "display", "nodata": 0}
    return {"sensor": "display"}


def group(name: str, place: str) -> str:
    """Return the place that no fold may cut."""
    region = re.search(r"region group (\d+)", place)
    if region:
        return f"hls_region_{region[1]}"
    return next((p for p in ONE_PLACE if name.startswith(p)), Path(name).stem)


def family(name: str) -> str:
    """Return the family of sensors."""
    heads = {"s2": 0, "sentinel2": 0, "hls": 1, "landsat": 2, "naip": 3, "worldview": 4}
    return next(FAMILIES[i] for head, i in heads.items() if name.startswith(head))
