"""A STAC item: a JSON file or a URL, whose assets hold the bands.

Source: STAC 1.0 with the extensions eo and raster (`eo:bands`, `raster:bands`), STAC 1.1 (`bands`).
Bands are found by common name. Scale, offset, nodata and unit are those that the item states. Items
of reflectance usually state no unit; then the sensor does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urljoin, urlsplit

from crossband.core.json_text import parse_json
from crossband.core.regular_file import read_bytes
from crossband.core.version import __version__
from crossband.errors import InputError
from crossband.raster import remote
from crossband.raster.products.base import Band, ProductReader
from crossband.raster.references import check_reference
from crossband.raster.source import LARGEST, RASTERS, Source, split_item_id

#: Roles of assets that are for display, or no images.
NOT_DATA = frozenset({"thumbnail", "overview", "visual", "metadata"})
#: End of the URL that a STAC API gives to an item.
_API_ITEM = re.compile(r"/items/[^/]+/?$")
#: Seconds that a server has to answer.
TIMEOUT = 60


class Stac(ProductReader):
    """A STAC item of any collection."""

    title: ClassVar[str] = "a STAC item (.json, or its address)"

    def bands(self, source: Source) -> list[Band] | None:
        """See `ProductReader.bands`."""
        found = _item(source)
        if found is None:
            return None
        item, file = found
        url = _is_url(file)
        base = file if url else str(Path(file).absolute())
        try:
            return _bands(item, base, () if url else (file,))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{source.path}: not as STAC has it: {error!r}") from error

    def when(self, source: Source) -> tuple[str, str] | None:
        """See `ProductReader.when`."""
        found = _item(source)
        properties = found[0].get("properties") if found is not None else None
        if not isinstance(properties, dict):
            return None
        # By the STAC specification, an item whose `datetime` is null states start and end.
        keys = ("datetime", "start_datetime")
        return next(((str(properties[k]), k) for k in keys if properties.get(k)), None)


def _is_url(file: str) -> bool:
    return file.startswith(("http://", "https://"))


def _item(source: Source) -> tuple[dict[str, Any], str] | None:
    """Return an item, and its file or URL; None if the source is something else."""
    file, wanted = split_item_id(source.path)
    url = _is_url(file)
    name = urlsplit(file).path if url else file
    of_api = url and _API_ITEM.search(name) and not name.lower().endswith(RASTERS)
    if not (name.lower().endswith((".json", ".geojson")) or of_api):
        return None
    if not url and not Path(file).exists():
        return None
    if url:
        content = _download(file, allow_local=source.allow_local)
    else:
        content = read_bytes(file, most=LARGEST)
    item = _parse(file, content, wanted)
    return None if item is None else (item, file)


@dataclass(frozen=True)
class _Candidate:
    """A band, and the properties that decide between several bands of one name.

    Attributes:
        band: the band.
        display: its asset is for display.
        data: its asset has the role `data`.
        gsd: metres; infinite if unknown.
        same_name: the key of the asset is the name of the band.
    """

    band: Band
    display: bool
    data: bool
    gsd: float
    same_name: bool

    @property
    def rank(self) -> tuple[bool, float, bool]:
        """Sort key: the first band is used; equal ones are ambiguous."""
        return not self.data, self.gsd, not self.same_name


def _bands(item: dict[str, Any], base: str, files: tuple[str, ...]) -> list[Band]:
    found = [
        f for key, asset in item["assets"].items() for f in _candidates(item, key, asset, base)
    ]
    best: dict[str, list[_Candidate]] = {}
    for one in found:
        if one.band.name and not one.display:
            best.setdefault(one.band.name, []).append(one)
    for name, several in best.items():
        first = min(one.rank for one in several)
        best[name] = [one for one in several if one.rank == first]
    out = []
    for one in found:
        band = one.band
        # The other bands of a name can still be chosen by the key of the asset.
        lesser = band.name and one not in best.get(band.name, [])
        out.append(replace(band, name="" if lesser else band.name, files=files))
    if not out:
        raise InputError(f"{base}: the item has no asset that is an image")
    return out


def _candidates(
    item: dict[str, Any], key: str, asset: dict[str, Any], base: str
) -> Iterator[_Candidate]:
    if not str(asset.get("type") or "image/").startswith("image/"):
        return
    roles = set(asset.get("roles") or [])
    properties = item.get("properties") or {}
    href = resolve_href(base, asset["href"])
    known = list(bands_of(asset))
    for number, band in enumerate(known, start=1):
        name = str(band.get("eo:common_name") or band.get("common_name") or "")
        scale, offset = (number_of(band, f"raster:{k}", k) for k in ("scale", "offset"))
        if offset is not None and offset_applied(properties, asset):
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
            origin=base if _is_url(base) else "",
        )
        display, data = bool(roles & NOT_DATA), "data" in roles
        yield _Candidate(made, display, data, gsd or float("inf"), key == made.name)


def offset_applied(properties: Mapping[str, Any], asset: Mapping[str, Any]) -> bool:
    """Return whether the offset is already included in the numbers of an asset.

    Earth Search includes it in its GeoTIFFs of Sentinel-2, not in the JPEG 2000 originals, and
    states the offset for both.
    """
    done = properties.get("earthsearch:boa_offset_applied") is True
    return done and asset.get("type") != "image/jp2"


def bands_of(asset: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what an asset states of each of its bands, in order; one entry if it lists no bands.

    STAC 1.0 has two lists in the same order, STAC 1.1 has one. The asset itself may state what all
    bands share.
    """
    bands = asset.get("bands") or asset.get("eo:bands") or []
    raster = asset.get("raster:bands") or []
    for n in range(max(len(bands), len(raster), 1)):
        own = [listed[n] if n < len(listed) else {} for listed in (raster, bands)]
        yield {**asset, **own[0], **own[1]}


def number_of(known: Mapping[str, Any], *keys: str) -> float | None:
    """Return the number under the first of these keys that has one; ValueError for no number."""
    key, value = next(((k, known[k]) for k in keys if known.get(k) is not None), ("", None))
    try:
        return None if value is None else float(value)  # JSON has no NaN; items write "nan"
    except (ArithmeticError, TypeError, ValueError):
        raise ValueError(f"{key}: {value!r:.60} is no number") from None


def resolve_href(base: str, href: str) -> str:
    """Return the path of an asset that GDAL opens.

    Args:
        base: absolute path or URL of the item.
        href: of the asset; a relative one is relative to the item.
    """
    for scheme, store in remote.STORES.items():
        if href.startswith(scheme):
            return store + href.removeprefix(scheme)
    text = href if _is_url(base) else href.removeprefix("file://")
    if "://" in text or text.startswith("/vsi"):
        return text
    if "://" in base:
        return urljoin(base, text)
    return str((Path(base).parent / text).resolve())


def _download(address: str, *, allow_local: bool) -> bytes:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class Redirects(HTTPRedirectHandler):
        def redirect_request(self, *found: Any) -> Request | None:
            if not allow_local:
                check_reference(found[-1], address)
            return super().redirect_request(*found)

    request = Request(address, headers={"User-Agent": f"crossband/{__version__}"})
    try:
        with build_opener(Redirects).open(request, timeout=TIMEOUT) as answer:
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
    """Return an item; None for JSON that is not STAC.

    Args:
        path: for messages.
        content: of the file.
        wanted: ID of an item in a collection; empty for a file with one item.
    """
    try:
        data: Any = parse_json(content)
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
