"""A STAC item: a JSON file or an address, whose assets hold the bands.

Source: STAC 1.0 with the extensions eo and raster (`eo:bands`, `raster:bands`), STAC 1.1 (`bands`).
Bands are told by common name; scale, offset, nodata and unit are those that the item states. Where
it states no unit, as is usual of reflectance, the sensor says it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urljoin, urlsplit

from crossband.core.version import __version__
from crossband.errors import InputError
from crossband.raster.products.base import Band, ProductReader
from crossband.raster.source import LARGEST, RASTERS, Source, split_item_id

#: Roles of assets that are pictures for people, or no images at all.
NOT_DATA = frozenset({"thumbnail", "overview", "visual", "metadata"})
#: How an address ends that an API gives to an item.
_OF_API = re.compile(r"/items/[^/]+/?$")
#: Seconds that a server has to answer.
PATIENCE = 60
#: Other stores than the web, as GDAL names them.
_STORES = {"s3://": "/vsis3/", "gs://": "/vsigs/", "az://": "/vsiaz/"}


class Stac(ProductReader):
    """A STAC item of any collection."""

    title: ClassVar[str] = "a STAC item (.json, or its address)"

    def bands(self, source: Source) -> list[Band] | None:
        """See `ProductReader.bands`."""
        found = _item(source)
        if found is None:
            return None
        item, file = found
        far = _is_far(file)
        base = file if far else str(Path(file).absolute())
        try:
            return _bands(item, base, () if far else (file,))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{source.path}: not as STAC has it: {error!r}") from error

    def when(self, source: Source) -> tuple[str, str] | None:
        """See `ProductReader.when`."""
        found = _item(source)
        properties = found[0].get("properties") if found is not None else None
        if not isinstance(properties, dict):
            return None
        # STAC: where `datetime` is null, both ends of the time are stated.
        keys = ("datetime", "start_datetime")
        return next(((str(properties[k]), k) for k in keys if properties.get(k)), None)


def _is_far(file: str) -> bool:
    return file.startswith(("http://", "https://"))


def _item(source: Source) -> tuple[dict[str, Any], str] | None:
    """Return an item and the file or address that it is in; None where it is something else."""
    file, wanted = split_item_id(source.path)
    far = _is_far(file)
    name = urlsplit(file).path if far else file
    of_api = far and _OF_API.search(name) and not name.lower().endswith(RASTERS)
    if not (name.lower().endswith((".json", ".geojson")) or of_api):
        return None
    if not far and not Path(file).is_file():
        return None
    item = _parse(file, _fetched(file) if far else _content(file), wanted)
    return None if item is None else (item, file)


@dataclass(frozen=True)
class _Found:
    """A band, and what chooses among several of one name.

    Attributes:
        band: it.
        people: it is of an asset for people.
        data: the asset has the role `data`.
        gsd: metres; infinite where nothing says it.
        namesake: the asset is called as the band is.
    """

    band: Band
    people: bool
    data: bool
    gsd: float
    namesake: bool

    @property
    def rank(self) -> tuple[bool, float, bool]:
        """What comes first is taken; two that are equal are not told apart."""
        return not self.data, self.gsd, not self.namesake


def _bands(item: dict[str, Any], base: str, files: tuple[str, ...]) -> list[Band]:
    found = [f for key, asset in item["assets"].items() for f in _found(item, key, asset, base)]
    best: dict[str, list[_Found]] = {}
    for one in found:
        if one.band.name and not one.people:
            best.setdefault(one.band.name, []).append(one)
    for name, several in best.items():
        first = min(one.rank for one in several)
        best[name] = [one for one in several if one.rank == first]
    out = []
    for one in found:
        band = one.band
        # What is not the best of its name can still be chosen by the asset's key.
        lesser = band.name and one not in best.get(band.name, [])
        out.append(replace(band, name="" if lesser else band.name, files=files))
    if not out:
        raise InputError(f"{base}: the item has no asset that is an image")
    return out


def _found(item: dict[str, Any], key: str, asset: dict[str, Any], base: str) -> Iterator[_Found]:
    if not str(asset.get("type") or "image/").startswith("image/"):
        return
    roles = set(asset.get("roles") or [])
    properties = item.get("properties") or {}
    href = place(base, asset["href"])
    known = list(bands_of(asset))
    for number, band in enumerate(known, start=1):
        name = str(band.get("eo:common_name") or band.get("common_name") or "")
        scale, offset = (number_of(band, f"raster:{k}", k) for k in ("scale", "offset"))
        if offset is not None and applied(properties, asset):
            offset = 0.0
        sizes = ("raster:spatial_resolution", "spatial_resolution", "gsd")
        gsd = number_of(band, *sizes) or number_of(properties, "gsd")
        made = Band(
            key if len(known) == 1 else f"{key}#{number}",
            name.lower() or None,
            href,
            number,
            scale=scale,
            offset=offset,
            nodata=number_of(band, "nodata"),
            unit=str(band.get("unit") or ""),
        )
        people, data = bool(roles & NOT_DATA), "data" in roles
        yield _Found(made, people, data, gsd or float("inf"), key == made.name)


def applied(properties: Mapping[str, Any], asset: Mapping[str, Any]) -> bool:
    """Return whether an asset's numbers have had their offset added already.

    Earth Search says so of its GeoTIFFs of Sentinel-2, and states the offset of the originals, in
    JPEG 2000, for both.
    """
    done = properties.get("earthsearch:boa_offset_applied") is True
    return done and asset.get("type") != "image/jp2"


def bands_of(asset: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what an asset states of each of its bands, in order; one where it lists none.

    STAC 1.0 has two lists of equal order, 1.1 has one; what all bands share may be said of the
    asset.
    """
    bands = asset.get("bands") or asset.get("eo:bands") or []
    raster = asset.get("raster:bands") or []
    for n in range(max(len(bands), len(raster), 1)):
        own = [listed[n] if n < len(listed) else {} for listed in (raster, bands)]
        yield {**asset, **own[0], **own[1]}


def number_of(known: Mapping[str, Any], *keys: str) -> float | None:
    """Return the first number that is stated under one of these keys."""
    value = next((known[k] for k in keys if known.get(k) is not None), None)
    return None if value is None else float(value)  # JSON has no NaN: it is the word "nan"


def place(base: str, href: str) -> str:
    """Return what GDAL opens.

    Args:
        base: whole path or address of the item.
        href: of the asset; relative ones count from the item.
    """
    for scheme, store in _STORES.items():
        if href.startswith(scheme):
            return store + href.removeprefix(scheme)
    text = href.removeprefix("file://")
    if "://" in text or text.startswith("/vsi"):
        return text
    if "://" in base:
        return urljoin(base, text)
    return str((Path(base).parent / text).resolve())


def _content(path: str) -> bytes:
    try:
        if Path(path).stat().st_size > LARGEST:
            raise InputError(f"{path}: too large for a STAC item")
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _fetched(address: str) -> bytes:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    request = Request(address, headers={"User-Agent": f"crossband/{__version__}"})
    try:
        with urlopen(request, timeout=PATIENCE) as answer:
            content: bytes = answer.read(LARGEST + 1)
    except HTTPError as error:
        raise InputError(f"{address}: the server says {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise InputError(f"{address}: cannot be fetched: {why}") from error
    if len(content) > LARGEST:
        raise InputError(f"{address}: too large for a STAC item")
    return content


def _parse(path: str, content: bytes, wanted: str) -> dict[str, Any] | None:
    """Return an item; None for JSON that is none of STAC's.

    Args:
        path: for messages.
        content: of the file.
        wanted: which item of a collection; empty for a file of one.
    """
    try:
        data: Any = json.loads(content)
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    kind = data.get("type") if isinstance(data, dict) else None
    if wanted:
        listed = data.get("features") if kind == "FeatureCollection" else None
        items = [i for i in listed or [] if isinstance(i, dict) and i.get("id") == wanted]
        if len(items) != 1:
            raise InputError(f"{path}: {len(items) or 'no'} items are called {wanted!r}")
        data, kind = items[0], items[0].get("type")
    if kind in ("FeatureCollection", "Collection", "Catalog"):
        raise InputError(f"{path}: a {kind}, not an item; give one, as {Path(path).name}#ID")
    if kind != "Feature" or not isinstance(data.get("assets"), dict):
        return None
    item: dict[str, Any] = data
    return item
