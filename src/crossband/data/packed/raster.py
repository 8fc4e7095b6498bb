"""A packed raster: what its file says of itself, and its stored numbers in compressed blocks.

`PackedRaster` answers what `Scene` asks of a file that GDAL opened, from facts and blocks instead.
So bands, radiometry and masks of a packed file come about by the same code, and its pixels are
equal. Where the blocks lie (shards, a cache) is the business of `data.packed.read`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window as RasterioWindow

#: Band tags that tell a band's name; see `scene`.
TAGS = ("common_name", "eo:common_name")
#: Gives the chosen planes of blocks: [(block row, block column), ...], planes -> their bytes.
Fetch = Callable[[Sequence[tuple[int, int]], Sequence[int]], list[list[Any]]]


def facts_of(dataset: Any, block: tuple[int, int]) -> dict[str, Any]:
    """Return what `PackedRaster` needs to know of a file that GDAL opened, ready for JSON.

    Args:
        dataset: of rasterio.
        block: height and width of the blocks that it is cut into.
    """
    gcps, gcps_crs = dataset.gcps
    flags = dataset.mask_flag_enums
    return {
        "height": dataset.height,
        "width": dataset.width,
        "dtypes": list(dataset.dtypes),
        "transform": list(dataset.transform)[:6],
        "crs": dataset.crs.to_wkt() if dataset.crs else None,
        "gcps": [[p.row, p.col, p.x, p.y, p.z, p.id] for p in gcps],
        "gcps_crs": gcps_crs.to_wkt() if gcps_crs else None,
        "descriptions": list(dataset.descriptions),
        "tags": [{k: v for k, v in dataset.tags(n).items() if k in TAGS} for n in dataset.indexes],
        "colours": [int(c.value) for c in dataset.colorinterp],
        "units": list(dataset.units),
        "scales": list(dataset.scales),
        "offsets": list(dataset.offsets),
        "nodata": [None if v is None else float(v) for v in dataset.nodatavals],
        "flags": [[int(f.value) for f in band] for band in flags],
        "masked": any(MaskFlags.per_dataset in f and MaskFlags.alpha not in f for f in flags),
        "block": list(block),
    }


class PackedRaster:
    """A packed file, opened: the part of rasterio's dataset that `Scene` uses.

    Args:
        facts: of `facts_of`.
        fetch: where the blocks come from.
    """

    def __init__(self, facts: dict[str, Any], fetch: Fetch) -> None:
        self.height, self.width = int(facts["height"]), int(facts["width"])
        self.dtypes = tuple(facts["dtypes"])
        self.count = len(self.dtypes)
        self.transform = Affine(*facts["transform"])
        self.crs = CRS.from_wkt(facts["crs"]) if facts["crs"] else None
        points = [GroundControlPoint(*p[:5], id=p[5]) for p in facts["gcps"]]
        self.gcps = (points, CRS.from_wkt(facts["gcps_crs"]) if facts["gcps_crs"] else None)
        self.descriptions = tuple(facts["descriptions"])
        self.colorinterp = tuple(ColorInterp(c) for c in facts["colours"])
        self.units, self.scales = tuple(facts["units"]), tuple(facts["scales"])
        self.offsets, self.nodatavals = tuple(facts["offsets"]), tuple(facts["nodata"])
        self.mask_flag_enums = tuple([MaskFlags(f) for f in band] for band in facts["flags"])
        self.block_shapes = [tuple(facts["block"])] * self.count
        self._tags, self._masked = facts["tags"], facts["masked"]
        self._block: tuple[int, int] = (int(facts["block"][0]), int(facts["block"][1]))
        self._fetch = fetch

    def tags(self, band: int) -> dict[str, str]:
        """Return the tags of a band (1-based) that may tell its name."""
        return dict(self._tags[band - 1])

    def read(self, indexes: int | Sequence[int], window: RasterioWindow) -> NDArray[Any]:
        """Return the stored numbers of a window: [H, W] of one band, [C, H, W] of several."""
        several = [indexes] if isinstance(indexes, int) else list(indexes)
        out = self._planes([n - 1 for n in several], window, self.dtypes[several[0] - 1])
        return out[0] if isinstance(indexes, int) else out

    def read_masks(self, index: int, window: RasterioWindow) -> NDArray[np.uint8]:
        """Return the file's own mask [H, W], 0 where a pixel is not valid."""
        assert self._masked, index
        mask: NDArray[np.uint8] = self._planes([self.count], window, "uint8")[0]
        return mask

    def close(self) -> None:
        """There is nothing to close: shards belong to the pack."""

    def _planes(self, planes: list[int], window: RasterioWindow, dtype: str) -> NDArray[Any]:
        top, left = int(window.row_off), int(window.col_off)
        height, width = int(window.height), int(window.width)
        down, across = self._block
        cells = [
            (row, col)
            for row in range(top // down, -(-(top + height) // down))
            for col in range(left // across, -(-(left + width) // across))
        ]
        out = np.empty((len(planes), height, width), dtype)
        for (row, col), found in zip(cells, self._fetch(cells, planes), strict=True):
            y, x = row * down, col * across
            shape = min(down, self.height - y), min(across, self.width - x)
            # Where block and window meet, counted from the window's and from the block's origin.
            first, last = max(y, top), min(y + shape[0], top + height)
            start, end = max(x, left), min(x + shape[1], left + width)
            there = slice(first - top, last - top), slice(start - left, end - left)
            here = slice(first - y, last - y), slice(start - x, end - x)
            for number, packed in enumerate(found):
                out[number][there] = unpack_plane(packed, shape, dtype, here)
        return out


def pack_plane(values: NDArray[Any], codec: pyarrow.Codec) -> bytes:
    """Compress one band of a block [H, W]: first the low byte of every number, then the next.

    The high bytes of neighbouring numbers are nearly alike; apart from the noise of the low ones
    they compress better, and are decoded faster. Lossless for every type, NaN's bits included.
    """
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    planes = little.view(np.uint8).reshape(-1, little.itemsize).T
    packed: bytes = codec.compress(np.ascontiguousarray(planes), asbytes=True)
    return packed


def unpack_plane(
    packed: Any, shape: tuple[int, int], dtype: str, part: tuple[slice, slice]
) -> NDArray[Any]:
    """Return a part [h, w] of a block that `pack_plane` compressed.

    Raises:
        OSError: the bytes are damaged.
    """
    kind = np.dtype(dtype)
    count = shape[0] * shape[1] * kind.itemsize
    raw = np.frombuffer(_CODEC.decompress(packed, count), np.uint8)
    planes = raw.reshape(kind.itemsize, *shape)[:, part[0], part[1]]
    if kind.itemsize == 1:
        single: NDArray[Any] = planes[0].view(kind)
        return single
    # Joined as unsigned numbers: one pass a byte, without a transposed copy.
    unsigned = np.dtype(f"<u{kind.itemsize}")
    out: NDArray[Any] = planes[0].astype(unsigned)
    for number in range(1, kind.itemsize):
        out |= planes[number].astype(unsigned) << np.array(8 * number, unsigned)
    values: NDArray[Any] = out.view(kind.newbyteorder("<"))
    return values


_CODEC = pyarrow.Codec("zstd")
