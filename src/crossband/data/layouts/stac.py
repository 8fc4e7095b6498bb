"""The layout `stac`: STAC items (SpatioTemporal Asset Catalog) in JSON files on a disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from crossband.core import sensors
from crossband.core.dates import Date
from crossband.core.json_text import read_json
from crossband.data.layouts import _bands
from crossband.data.layouts._vrt import Layer, write_stack
from crossband.data.layouts.base import FileSearch, Layout, Row
from crossband.errors import InputError, ManifestError
from crossband.raster.dataset import check_exists
from crossband.raster.products.stac import (
    NOT_DATA,
    bands_of,
    number_of,
    offset_applied,
    resolve_href,
)
from crossband.raster.radiometry import fits_physical
from crossband.raster.source import LARGEST


class Stac(Layout):
    """STAC items: one ItemCollection (FeatureCollection) file, or a folder with a file per item.

    Bands are found by their common names in `eo:bands` (STAC 1.0) or `bands` (STAC 1.1) of the
    assets. Scale, offset and nodata come from `raster:bands` or `bands`, and override those of the
    sensor. Items do not state the physical unit, so --sensor is required. Assets with the role
    thumbnail, overview, visual or metadata are used only if --assets names them. Relative paths are
    relative to the item's file. Addresses of servers are kept unchanged.

    A manifest has one file for each side. If the bands of a side are in several files, give
    --vrt-dir. A small GDAL file (VRT) that stacks these bands is then written there for each item
    and side. Pixels are not copied, and nothing is written beside the data.

    Args:
        source: names of the source bands.
        target: names of the target bands.
        sensor: sensor of the sources; see `crossband sensors`.
        target_sensor: sensor of the targets, if it differs.
        assets: keys of the assets to use, as red,green,blue,nir; empty means all data assets.
        vrt_dir: folder for the VRTs.
        group_by: property of the items whose value is the group, as grid:code or constellation;
            empty means grid:code if the items have it, otherwise each item is a group.
    """

    examples = ({"sensor": "sentinel-2-l2a"},)

    name: ClassVar[str] = "stac"
    origin: ClassVar[str] = "STAC items on a disk: an ItemCollection, or a folder of item files"
    takes_file: ClassVar[bool] = True

    def __init__(
        self,
        source: str = "red,green,blue",
        target: str = "nir",
        sensor: str = "",
        target_sensor: str = "",
        assets: str = "",
        vrt_dir: str = "",
        group_by: str = "",
    ) -> None:
        if not sensor:
            raise ManifestError("an item does not say its physical unit: give --sensor")
        for name in (sensor, target_sensor):
            if name:
                sensors.get(name)
        self.needed = _bands.parse_names(source), _bands.parse_names(target)
        self.sensor, self.target_sensor = sensor, target_sensor
        self.assets = _bands.parse_names(assets) if assets else []
        self.vrt_dir = Path(vrt_dir) if vrt_dir else None
        self.group_by = group_by

    def rows(self, search: FileSearch) -> Iterator[Row]:
        """See `Layout.rows`."""
        seen: set[tuple[Any, Any]] = set()
        for path, item in _items(search):
            name = (item.get("collection"), item.get("id"))
            if name in seen:
                raise ManifestError(f"{path}: two items are called {item.get('id')!r}")
            seen.add(name)
            try:
                yield self._row(path, item)
            except (InputError, ManifestError) as error:
                search.left_out.append((path, f"item {item.get('id')}: {error}"))

    def _row(self, path: Path, item: dict[str, Any]) -> Row:
        try:
            layers = self._layers(path, item)
            properties = dict(item.get("properties") or {})
            row = _centre(item.get("bbox"))
            stated = properties.get("datetime") or properties.get("start_datetime")
            row["datetime"] = _taken(stated)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise ManifestError(f"not as STAC has it: {error!r}") from error
        if self.group_by and self.group_by not in properties:
            raise ManifestError(f"no property {self.group_by!r} to group by")
        name = str(item.get("id", path.stem))
        row |= {"group": properties.get(self.group_by or "grid:code") or name, "item": name}
        row |= {"collection": item.get("collection"), "sensor": self.sensor}
        own = []
        for side, names in zip(("source", "target"), self.needed, strict=True):
            chosen = _choose(layers, names)
            for layer in chosen.values():
                check_exists(layer.href)
            file, bands, radiometry = self._file(f"{name}_{side}.vrt", chosen)
            row |= {side: file, f"{side}_bands": _bands.format_bands(bands)}
            own.append(radiometry)
        row |= own[0]
        if row["source"] != row["target"] or own[0] != own[1] or self.target_sensor:
            row["target_sensor"] = self.target_sensor or self.sensor
            row |= {f"target_{k}": v for k, v in own[1].items()}
        return row

    def _file(self, name: str, layers: dict[str, Layer]) -> tuple[str, dict[str, int | str], Row]:
        """Return the file of a side, its bands, and what is stated of their numbers."""
        files = list(dict.fromkeys(b.href for b in layers.values()))
        known = list(dict.fromkeys(b.radiometry for b in layers.values()))
        # What all bands share is written to the manifest, which overrides the file and the sensor.
        stated = zip(("scale", "offset", "nodata"), known[0], strict=True)
        shared = {k: v for k, v in stated if v is not None and len(known) == 1}
        if len(files) == len(known) == 1:
            return files[0], {name: b.number for name, b in layers.items()}, shared
        if self.vrt_dir is None:
            raise ManifestError(
                f"its bands {', '.join(layers)} are in several files or have several scales "
                f"({', '.join(files)}): give --vrt-dir for small files that stack them"
            )
        if len(known) == 1:
            layers = {name: Layer(b.href, b.number) for name, b in layers.items()}
        elif len({scale is None for scale, _, _ in known}) > 1:
            raise ManifestError(f"some of its bands {', '.join(layers)} state a scale, some do not")
        path = write_stack(layers, self.vrt_dir / name.replace("/", "_"))
        return str(path), {name: n for n, name in enumerate(layers, start=1)}, shared

    def _layers(self, path: Path, item: dict[str, Any]) -> dict[str, dict[str, Layer]]:
        """Return the bands of the used assets: key of the asset -> common name -> layer."""
        layers: dict[str, dict[str, Layer]] = {}
        repeated: set[tuple[str, str]] = set()
        for key, asset in item["assets"].items():
            for_display = NOT_DATA & set(asset.get("roles") or [])
            if key not in self.assets if self.assets else for_display:
                continue
            if not (asset.get("bands") or asset.get("eo:bands")):
                continue
            for n, known in enumerate(bands_of(asset)):
                name = self._name(known)
                scale, offset = (number_of(known, f"raster:{k}", k) for k in ("scale", "offset"))
                if offset is not None and offset_applied(item.get("properties") or {}, asset):
                    offset = 0.0
                if scale is not None or offset is not None:
                    scale, offset = 1.0 if scale is None else scale, offset or 0.0
                    if not (fits_physical("scale", scale) and fits_physical("offset", offset)):
                        raise ValueError(f"a scale of {scale:g} with an offset of {offset:g}")
                radiometry = scale, offset, number_of(known, "nodata")
                if not isinstance(asset["href"], str) or not asset["href"]:
                    raise ValueError(f"the asset {key!r:.60} has no href")
                layer = Layer(resolve_href(str(path), asset["href"]), n + 1, radiometry)
                if layers.setdefault(key, {}).setdefault(name, layer) is not layer:
                    repeated.add((key, name))
        for key, name in repeated:  # as three bands called rededge: the name identifies none
            del layers[key][name]
        return layers

    def _name(self, band: dict[str, Any]) -> str:
        """Return the common name that a band states, or that its product's label has."""
        stated = band.get("eo:common_name") or band.get("common_name")
        label = str(band.get("name", ""))
        given = [s for s in (self.sensor, self.target_sensor) if s]
        of_sensors = (sensors.get(s).common_name(label) for s in given)
        return str(stated or next((n for n in of_sensors if n), "") or label)


def _choose(assets: dict[str, dict[str, Layer]], names: list[str]) -> dict[str, Layer]:
    """Return the bands of a side: of one asset, if one has them all, else of one asset each."""
    whole = [key for key, bands in assets.items() if set(names) <= set(bands)]
    places = {n: [k for k, bands in assets.items() if n in bands] for n in names}
    if not whole:
        missing = [n for n in names if not places[n]]
        if missing:
            known = sorted({name for bands in assets.values() for name in bands})
            raise ManifestError(
                f"no asset has {', '.join(missing)}; there are {', '.join(known) or 'no bands'}"
            )
        places = {n: keys for n, keys in places.items() if len(keys) > 1}
        if places:
            name, keys = next(iter(places.items()))
            raise ManifestError(f"{name} is in assets {', '.join(keys)}: choose with --assets")
    if len(whole) > 1:
        raise ManifestError(
            f"{', '.join(names)}: in assets {', '.join(whole)}: choose with --assets"
        )
    holders = [assets[k] for k in whole or assets]
    return {name: next(b[name] for b in holders if name in b) for name in names}


def _items(search: FileSearch) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield items and their files; catalogues and other JSON files are skipped."""
    files = [search.root] if search.root.is_file() else search.files("**/*.json")
    count = 0
    for path in files:
        try:
            data: Any = read_json(path, ManifestError, LARGEST)
        except ManifestError as error:
            search.left_out.append((path, str(error).removeprefix(f"{path}: ")))
            continue
        kind = data.get("type") if isinstance(data, dict) else None
        items = data.get("features") if kind == "FeatureCollection" else [data]
        for item in items if isinstance(items, list) else []:
            if isinstance(item, dict) and item.get("type") == "Feature" and "assets" in item:
                count += 1
                yield path, item
    search.searched['items ("type": "Feature" with "assets")'] = count


def _taken(stated: Any) -> str | None:
    """Return the date and time of an item as it states them; ValueError for what is none."""
    if stated is None:
        return None
    Date.parse(str(stated))
    return str(stated)


def _centre(bbox: Any) -> Row:
    """Return lon and lat of a box's centre: west, south, (low,) east, north, (high)."""
    if not bbox:
        return {}
    half = len(bbox) // 2
    west, south, east, north = (float(bbox[i]) for i in (0, 1, half, half + 1))
    if not (abs(west) <= 360 and abs(east) <= 360 and -90 <= south <= north <= 90):
        raise ValueError(f"a bbox of {bbox!r:.100}")
    lon = (west + east + (360 if west > east else 0)) / 2  # over the antimeridian
    return {"lon": lon - 360 if lon > 180 else lon, "lat": (south + north) / 2}
