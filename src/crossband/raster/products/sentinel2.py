"""Sentinel-2 Level-1C and Level-2A in the SAFE format: a folder, or the zip that holds it.

Source: Sentinel-2 Products Specification Document, from the compact format of December 2016 on. For
a stored number DN in 1..65534, reflectance = (DN + ADD_OFFSET) / QUANTIFICATION_VALUE, with the
offset from processing baseline 04.00 on. Level-2A has bands at several resolutions; the finest is
read.
"""

from __future__ import annotations

import re
from typing import ClassVar
from xml.etree.ElementTree import Element

from crossband.core import sensors
from crossband.errors import InputError
from crossband.raster.products import markup
from crossband.raster.products.base import Band, ProductReader
from crossband.raster.source import Source, Tree

#: Bands in the order of `band_id`.
ORDER = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
#: The end of the name of an image: band, and in Level-2A the resolution in metres.
_IMAGE = re.compile(r"_(B0[1-9]|B1[0-2]|B8A)(?:_(\d+)m)?$")
#: Baselines from the first one on have offsets; from the second one on, other makers use them.
_OFFSETS_FROM, _OFFSETS_TO = 4.0, 99.0
_LEVELS = ("MTD_MSIL2A.xml", "MTD_MSIL1C.xml")


class Sentinel2(ProductReader):
    """Sentinel-2 L1C (top of atmosphere) and L2A (surface reflectance)."""

    title: ClassVar[str] = "a Sentinel-2 .SAFE folder or its zip"

    def bands(self, source: Source) -> list[Band] | None:
        """See `ProductReader.bands`."""
        found = _metadata(source)
        if found is None:
            return None
        tree, name = found
        root = markup.parse(tree, name)
        try:
            return _bands(root, tree, name)
        except InputError as error:
            raise InputError(f"{source.words(name)}: {error}") from error

    def when(self, source: Source) -> tuple[str, str] | None:
        """See `ProductReader.when`."""
        found = _metadata(source)
        if found is None:
            return None
        said = next(markup.parse(*found).iter("PRODUCT_START_TIME"), None)
        return None if said is None else ((said.text or "").strip(), "PRODUCT_START_TIME")


def _metadata(source: Source) -> tuple[Tree, str] | None:
    """Return the metadata file of a product of either level."""
    found = source.metadata(*_LEVELS, *(f"*.SAFE/{name}" for name in _LEVELS))
    if found is None and source.path.endswith("manifest.safe"):
        found = Source(source.path.removesuffix("manifest.safe"), {}).metadata(*_LEVELS)
    return found


def _bands(root: Element, tree: Tree, metadata: str) -> list[Band]:
    granules = list(root.iter("Granule"))
    if len(granules) != 1:
        raise InputError(
            f"it lists {len(granules)} granules, and one tile is read (the old format, before "
            f"December 2016, has several in a product)"
        )
    scale, offsets = _reflectance(root)
    special = {
        markup.text(e, "SPECIAL_VALUE_TEXT"): markup.number(e, "SPECIAL_VALUE_INDEX")
        for e in root.iter("Special_Values")
    }
    invalid = tuple(v for k, v in special.items() if k != "NODATA")
    folder = metadata.rpartition("/")[0]
    finest: dict[str, tuple[float, str]] = {}
    for element in granules[0]:
        words = (element.text or "").strip()
        match = _IMAGE.search(words)
        if match and element.tag.startswith("IMAGE_FILE"):
            size = float(match[2] or 0)
            if match[1] not in finest or size < finest[match[1]][0]:
                finest[match[1]] = size, f"{folder}/{words}".lstrip("/")
    table = sensors.get("sentinel-2-l1c")
    bands = []
    for number, label in enumerate(ORDER):
        if label not in finest:
            continue
        image = finest[label][1]
        # Some providers store GeoTIFF under the same names.
        file = next((image + e for e in (".jp2", ".tif") if tree.has(image + e)), image + ".jp2")
        bands.append(
            Band(
                label,
                table.common_name(label),
                tree.href(file),
                scale=scale,
                offset=offsets.get(number, 0.0) * scale,
                nodata=special.get("NODATA", 0.0),
                invalid=invalid,
                unit=sensors.REFLECTANCE,
                files=(tree.disk(metadata), tree.disk(file)),
            )
        )
    if not bands:
        raise InputError("it lists no images of bands")
    return bands


def _reflectance(root: Element) -> tuple[float, dict[int, float]]:
    """Return the scale, and the offset of each `band_id` in stored numbers."""
    surface = next(root.iter("BOA_QUANTIFICATION_VALUE"), None) is not None
    names = ("BOA_QUANTIFICATION_VALUE", "BOA_ADD_OFFSET")
    quantum, word = names if surface else ("QUANTIFICATION_VALUE", "RADIO_ADD_OFFSET")
    divisor = markup.number(root, f".//{quantum}")
    if divisor <= 0:
        raise InputError(f"{quantum} is {divisor:g}")
    offsets = {}
    for element in root.iter(word):
        try:
            offsets[int(element.get("band_id", ""))] = float(element.text or "")
        except ValueError:
            raise InputError(f"{word} is not a number with a band_id") from None
    baseline = markup.number(root, ".//PROCESSING_BASELINE")
    if offsets and set(offsets) != set(range(len(ORDER))):
        raise InputError(f"{word} is there for {len(offsets)} of {len(ORDER)} bands")
    if not offsets and _OFFSETS_FROM <= baseline < _OFFSETS_TO:
        raise InputError(f"processing baseline {baseline:05.2f}, but no {word}")
    return 1.0 / divisor, offsets
