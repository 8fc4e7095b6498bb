"""Manifests of the shared images, one for each task, with regions, licences and a vault.

    python benchmarks/manifests.py write           write runs/manifests/TASK.csv for every task
    python benchmarks/manifests.py table           print how many regions and places the vault has

A manifest has the columns that `crossband fit --data.manifest` reads and these:

    campaign    who gathered the images: one source
    family      sensor family, over which results are reported
    group       one place: files of one place are one unit of any mean over places
    region      what no split cuts: places within 50 km of each other, linked one to the next
    region_by   how the region was found
    licence_ok  yes: weights that are trained on this row may be shipped
    left_out    why the row is not used for the task; empty where it is used
    vault       yes: held back for the final table

The vault holds about a quarter of the regions of each source, chosen by a hash of the region's
name. Its pixels are not read here and not read while anything is chosen. `vault.read` returns the
rows outside of it that a task uses: train on these, not on the whole file. With `look=True` and a
reason it returns the vault's rows and writes the look into benchmarks/looks.csv. A region is in
the vault for all tasks or for none.

What the vault can promise depends on what is known of a place. With coordinates, no vault place
lies within 50 km of a training place. The HLS water chips have none: chips that share ground are
one region, chips beside each other cannot be told. The 1,472 Sentinel-2 chips have none either: a
quarter of them is held back by chip. That measures other chips of the same campaign. It says
nothing on other campaigns, and chips of one satellite scene may lie on both sides.
"""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Iterable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
from project import ROOT
from rasterio.warp import transform as transform_points
from satellite import family, group, radiometry
from vault import COLUMNS, FOLDER, vault_regions, with_regions

from crossband.core.sensors import REFLECTANCE, SENSORS
from crossband.data import manifest
from crossband.data.layouts import FileSearch, Layout, Row, build_manifest
from crossband.raster.gdal import gdal

DATA = ROOT.parent / "shared" / "data"
TASKS = (
    *("rgb2nir", "rgb2nir-guided", "sharpen", "sar2optical", "sar2optical-guided", "rgb2thermal"),
    "super-resolution",
)
#: The bands of 10 and of 20 m in files of all twelve bands of Sentinel-2.
TEN = "red=4,green=3,blue=2,nir=8"
TWENTY = "rededge071=5,rededge075=6,rededge078=7,nir08=9,swir16=11,swir22=12"
#: Imagery whose provider does not allow any use, or whose licence is not known.
NOT_FREE = ("s2_earthnet_", "ikonos_", "geoeye1_", "worldview2_", "rapideye-like_")
REASONS = {
    "s2_l2a_california_": "red, green, blue are an 8-bit picture, nir is reflectance",
    "s2_l2a_ice_": "whether the offset is in is not known",
}
#: What lies outside of the picture, where only SOURCES.md says so.
NODATA = {"s2_l1c_north-carolina_": 255, "worldview_rotterdam_": 0}


class Shared(Layout):
    """The images beside the repository, as their own tables list them.

    Args:
        task: one of `TASKS`.
    """

    name = "shared"
    origin = (
        "the images that Crossband is developed with; their SOURCES.md says where they are from"
    )

    def __init__(self, task: str = "rgb2nir") -> None:
        self.task = task

    def rows(self, search: FileSearch) -> Iterable[Row]:
        """Yield the rows of the task."""
        table = tables(search.root)[self.task]
        return ({str(k): v for k, v in row.items()} for row in table.to_dict("records"))


def write(data: Path, folder: Path) -> dict[str, pd.DataFrame]:
    """Write the manifest of every task as `crossband data manifest` does; return the tables."""
    found = {task: build_manifest(Shared(task), data) for task in TASKS}
    for task, result in found.items():
        manifest.write(result.table, folder / f"{task}.csv")
        print(f"{task}: " + "; ".join(result.lines()))
    return {task: result.table.reindex(columns=COLUMNS) for task, result in found.items()}


@functools.cache
def tables(data: Path) -> dict[str, pd.DataFrame]:
    """Return the rows of every task: a region is in the vault for all of them or for none."""
    table = pd.concat(
        [satellite(data), chips(data), radar(data), thermal(data), photographs(data)],
        ignore_index=True,
    )
    table = with_regions(table)
    table["vault"] = np.where(table["region"].isin(vault_regions(table)), "yes", "no")
    table["split"] = np.where(table["vault"] == "yes", "test", "train")
    table["split_by"] = "benchmarks/manifests.py"
    found = {task: table[table["task"] == task] for task in TASKS}
    colours = found["rgb2nir"]
    measured = colours[colours["sensor"].map(lambda name: SENSORS[name].unit == REFLECTANCE)]
    found["rgb2nir-guided"] = pd.concat([measured, _dated(measured)])
    decibels = found["sar2optical"][found["sar2optical"]["left_out"].isna()]
    found["sar2optical-guided"] = pd.concat([decibels, _dated(decibels)])
    twelve = colours[colours["source"].str.contains("12bands")]
    found["sharpen"] = twelve.assign(source_bands=TEN, target_bands=TWENTY)
    found["super-resolution"] = pd.concat([_coarse(colours), found["super-resolution"]])
    return {task: rows.reindex(columns=COLUMNS) for task, rows in found.items()}


def _dated(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each ordered pair of dates of a place, the other one as its guide.

    The HLS chips of a group are parts of one region, and no two of them are known to show the same
    ground. Radar is guided by the optical image of the other date.
    """
    several = table[table["sensor"].str.startswith("sentinel-")]
    rows = []
    for _, place in several.groupby("group"):
        for (_, row), (_, other) in permutations(place.iterrows(), 2):
            if not overlap(row["source"], other["source"]):
                continue  # two parts of one image
            guide = {"guide": other["target"], "guide_datetime": _day(other["date"])}
            if other["source"] == other["target"]:
                guide["guide_bands"] = f"{other['source_bands']},{other['target_bands']}"
                guide["guide_sensor"] = other["sensor"]
            else:
                guide["guide_bands"] = other["target_bands"]
                guide["guide_sensor"] = other["target_sensor"]
            rows.append({**row, **guide, "date": _day(row["date"])})
    return pd.DataFrame(rows)


def overlap(one: str, other: str) -> bool:
    """Return whether half of the first image lies in the second; true without georeference."""
    with gdal(), rasterio.open(one) as a, rasterio.open(other) as b:
        if a.crs is None or a.crs != b.crs:
            return a.crs is None
        common = [f(x, y) for f, x, y in zip((max, max, min, min), a.bounds, b.bounds, strict=True)]
        width, height = (max(common[n + 2] - common[n], 0.0) for n in (0, 1))
        (west, south, east, north) = a.bounds
        return bool(2 * width * height >= (east - west) * (north - south))


def _day(text: Any) -> str | None:
    """Return the day with which a date begins, as in `20240715 (mosaic)`; None for none.

    Of a pair of radar and optical image, as in `S1 20200607 S2 20200604`, that of the radar.
    """
    day = re.match(r"(?:S1 )?(\d{4})-?(\d{2})-?(\d{2})(?!\d)", str(text))
    return None if day is None else "-".join(day.groups())


def satellite(data: Path) -> pd.DataFrame:
    """Satellite and aerial files with four bands."""
    folder, rows = data / "rgb2nir" / "satellite", []
    for record in pd.read_csv(folder / "manifest.csv").to_dict("records"):
        r = {str(k): v for k, v in record.items()}
        name = str(r["file"])
        path = str((folder / name).resolve())
        known = not np.isnan(r["phys_scale"])
        free = not name.startswith(NOT_FREE)
        reason = next((why for head, why in REASONS.items() if name.startswith(head)), None)
        rows.append(
            {
                "task": "rgb2nir",
                "source": path,
                "target": path,
                "source_bands": f"red={r['red']},green={r['green']},blue={r['blue']}",
                "target_bands": f"nir={r['nir']}",
                **(_reflectance(name, r) if known else _unitless(name, r)),
                "campaign": r["campaign"],
                "family": _family(name),
                "group": _place(name, str(r["place"])),
                "lon": r["lon"],
                "lat": r["lat"],
                "gsd": r["gsd_m"],
                "date": r["date"],
                "licence": r["licence"],
                "licence_ok": "yes" if free else "no",
                "left_out": reason,
            }
        )
    return pd.DataFrame(rows)


def _reflectance(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return sensor and radiometry where the table states the physical scale."""
    sensor = "hls" if name.startswith("hls") else "reflectance"
    if name.startswith(("s2_", "sentinel2")):
        level = "l1c" if "L1C" in str(row["sensor"]) else "l2a"
        sensor = f"sentinel-2-{level}" + ("" if row["phys_offset"] < 0 else "-no-offset")
    found = {"sensor": sensor, "scale": row["phys_scale"], "offset": row["phys_offset"]}
    return found | ({} if np.isnan(row["nodata"]) else {"nodata": row["nodata"]})


def _unitless(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return the radiometry of pictures that measure nothing."""
    outside = next((v for head, v in NODATA.items() if name.startswith(head)), row["nodata"])
    return radiometry(name, row) | ({} if np.isnan(outside) else {"nodata": outside})


def _family(name: str) -> str:
    if name.startswith("aerial_"):
        return "aerial"
    if name.startswith(NOT_FREE):
        return "other"
    return family(name)


def _place(name: str, place: str) -> str:
    """Return the place of a file: dates and parts of one place are one."""
    hls = re.search(r"(region|hunt) group (\d+)", place)
    if hls:
        return f"hls_{hls[1][0]}{hls[2]}"
    if name.startswith("naip_wv"):  # chips of one quad; two years each
        return name.rsplit("_", 1)[0]
    for pattern in (r"s2_l2a_barkbeetle_\d+", r"(s2_l2a_ca_.+)_(pre|post)", r"s2_l1c_ravaen_\w+?_",
                    r"landsat_c2_lc08_\w+?_\d{6}", r"landsat7_dn_pa", r"s2_earthnet_\w+_\d+_\d+_",
                    r"landsat5_sr_multiearth_[-.\d]+_[-.\d]+_"):  # fmt: skip
        found = re.match(pattern, name)
        if found:
            return found[1] if found.groups() else found[0].rstrip("_")
    return group(name, place)


def chips(data: Path) -> pd.DataFrame:
    """1,472 Sentinel-2 chips without coordinates."""
    folder = data / "rgb2nir" / "chips"
    table = pd.concat([pd.read_csv(p) for p in sorted(folder.glob("*.csv"))], ignore_index=True)
    for side in ("source", "target"):
        table[side] = [str((folder / name).resolve()) for name in table[side]]
    return table.assign(
        task="rgb2nir",
        family="chips",
        licence="Copernicus Sentinel free/open",
        licence_ok="yes",
    )


def radar(data: Path) -> pd.DataFrame:
    """Radar with optical pairs.

    `ombria` (a false-colour target) and `sih1733_scenes` (stretched JPEG) are not listed.
    """
    folder, rows = data / "sar2optical", []
    for name, licence in (("terramesh_geo", "CC BY-SA 4.0"), ("bigearthnet_geo", "CDLA")):
        for path in sorted((folder / name / "s1").glob("*.tif")):
            pair = (path, folder / name / "s2" / path.name)
            rows.append(_radar(*pair, name, path.stem, licence, "vv=1,vh=2"))
    for r in pd.read_csv(folder / "manifest-2.csv").to_dict("records"):
        source, target = folder / str(r["source_file"]), folder / str(r["target_file"])
        campaign = source.parts[-3]
        place = {
            "biomassters_fi": source.stem.split("_")[0],
            "worldcereal_be": "belgium",  # two overlapping cuts of one place
            "sen12_pairs": re.sub(r"_p\d+$", "", source.stem),
            "ssl4eo_pk": "0000200",
            "volkov_us": re.findall(r"tile (\w+)", str(r["place"]) + "tile x")[0],
        }[campaign]
        bands = "vh=1" if campaign == "volkov_us" else "vv=1"
        bands = "vv=1,vh=2" if "dB |" in str(r["scale"]) or "dB (" in str(r["scale"]) else bands
        row = _radar(source, target, campaign, place, str(r["licence"]), bands)
        nodata = float(str(r["nodata"]).split("|")[0])  # of the radar
        rows.append(row | {"date": r["date"], "nodata": nodata})
    return pd.DataFrame(rows)


def _radar(
    source: Path, target: Path, campaign: str, place: str, licence: str, bands: str
) -> dict[str, Any]:
    eight_bit = campaign in ("volkov_us", "sen12_pairs")
    # All files of these sets hold red, green, blue by name, or three bands in this order.
    colours = "red=1,green=2,blue=3" if eight_bit else "red=B04,green=B03,blue=B02"
    lon, lat = _centre(source)
    return {
        "task": "sar2optical",
        "source": str(source.resolve()),
        "target": str(target.resolve()),
        "source_bands": bands,
        "target_bands": colours,
        "sensor": "display" if eight_bit else "sentinel-1-grd-db",
        "target_sensor": "display" if eight_bit else "sentinel-2-l2a-no-offset",
        "campaign": campaign,
        "family": "Sentinel-1, 8 bit" if eight_bit else "Sentinel-1, dB",
        "group": f"{campaign}_{place}",
        "lon": lon,
        "lat": lat,
        "gsd": 10.0,
        "licence": licence,
        "licence_ok": "yes",
        "left_out": "no unit: an 8-bit picture of the radar" if eight_bit else None,
    }


def thermal(data: Path) -> pd.DataFrame:
    """Landsat thermal; the camera sets are split by their drives in `systems.py`."""
    folder, rows = data / "rgb2thermal", []
    for r in pd.read_csv(folder / "manifest-2.csv").to_dict("records"):
        source, target = folder / str(r["source_file"]), folder / str(r["target_file"])
        level_2 = "ST_B10" in str(r["bands"])
        scale, offset, nodata = (str(r[key]).split("|") for key in ("scale", "offset", "nodata"))
        found = re.search(r"(-?[\d.]+)w_([\d.]+)s", source.name)
        lon, lat = (-float(found[1]), -float(found[2])) if found else _centre(source)
        rows.append(
            {
                "task": "rgb2thermal",
                "source": str(source.resolve()),
                "target": str(target.resolve()),
                "source_bands": "red=3,green=2,blue=1",
                "target_bands": "thermal=1",
                "sensor": "reflectance",
                "scale": float(scale[0]),
                "offset": float(offset[0]),
                "nodata": float(nodata[0]),
                "target_sensor": "thermal-kelvin",
                "target_scale": float(scale[1].split()[0]) if level_2 else None,
                "target_offset": float(offset[1]) if level_2 else None,
                "target_nodata": 0.0,
                "campaign": "landsat_thermal",
                "family": "Landsat thermal",
                "group": re.sub(r"_sr$", "", source.stem),
                "lon": lon,
                "lat": lat,
                "gsd": 30.0,
                "date": r["date"],
                "licence": r["licence"],
                "licence_ok": "yes",
                "left_out": None if level_2 else "brightness temperature, not linear in the file",
            }
        )
    return pd.DataFrame(rows)


def photographs(data: Path) -> pd.DataFrame:
    """Aerial photographs for super-resolution whose weights may be shipped."""
    folder, rows = data / "super-resolution", []
    for r in pd.read_csv(folder / "manifest-2.csv").to_dict("records"):
        path = folder / str(r["file"])
        lat, lon = re.findall(r"(-?[\d.]+) [NE]", str(r["place"]))
        rows.append(
            {
                "task": "super-resolution",
                "target": str(path.resolve()),
                "target_bands": "red=1,green=2,blue=3",
                "sensor": "display",
                "degradation": "Bicubic",
                "campaign": path.parent.name,
                "family": "aerial photographs",
                "group": path.stem,
                "lon": float(lon),
                "lat": float(lat),
                "gsd": 0.1 if path.parent.name == "neon" else 0.15,
                "licence": r["licence"],
                "licence_ok": "yes",
            }
        )
    return pd.DataFrame(rows)


def _coarse(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose source is made from the colours of the target."""
    wrong_nir = rows["left_out"].str.contains("nir", na=False)
    rows = rows.assign(left_out=rows["left_out"].where(~wrong_nir))
    rows = rows.assign(target_bands=rows["source_bands"], target_window=rows["source_window"])
    return rows.assign(source=None, source_window=None, source_bands=None, degradation="Bicubic")


def _centre(path: Path) -> tuple[float, float]:
    """Return longitude and latitude of a file's middle from its header, or NaN."""
    with rasterio.open(path) as d:
        if d.crs is None:
            return float("nan"), float("nan")
        x, y = d.transform * (d.width / 2, d.height / 2)
        lon, lat = transform_points(d.crs, "EPSG:4326", [x], [y])
        return round(lon[0], 4), round(lat[0], 4)


def summary(tables: dict[str, pd.DataFrame]) -> str:
    """Return a table: regions and places of each family, in the vault and outside."""
    lines = [
        "| task | family | regions | places | vault regions | vault places |",
        "|" + "---|" * 6,
    ]
    for task, table in tables.items():
        rows = table[(table["licence_ok"] == "yes") & table["left_out"].isna()]
        for name, part in rows.groupby("family"):
            vault = part[part["vault"] == "yes"]
            counts = [p[c].nunique() for p in (part, vault) for c in ("region", "group")]
            lines.append(f"| {task} | {name} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run a subcommand."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["write", "table"])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--output", type=Path, default=FOLDER)
    a = parser.parse_args()
    if a.what == "write":
        found = write(a.data, a.output)
    else:
        found = {t: pd.read_csv(a.output / f"{t}.csv").reindex(columns=COLUMNS) for t in TASKS}
    print(summary(found))


if __name__ == "__main__":
    main()
