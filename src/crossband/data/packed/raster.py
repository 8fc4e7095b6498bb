"""A packed raster: the metadata of its file, and its stored numbers in compressed blocks.

`PackedRaster` has the attributes and methods of a dataset of rasterio that `Scene` uses. So the
same code finds bands, radiometry and masks of a packed file, and its pixels are equal.
`packed.read` knows where the blocks are stored.
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

#: Band tags with the name of a band; see `raster.bands`.
TAGS = ("common_name", "eo:common_name")
#: Data types of bands, and pixels of a block, at most.
DTYPES = {f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)}
DTYPES |= {"float16", "float32", "float64"}
MOST_PIXELS = 2**26
#: Returns the compressed planes of blocks: [(block row, block column), ...], planes -> bytes.
Fetch = Callable[[Sequence[tuple[int, int]], Sequence[int]], list[list[Any]]]


def metadata_of(dataset: Any, block: tuple[int, int]) -> dict[str, Any]:
    """Return the metadata of a file that `PackedRaster` needs, as plain types for JSON.

    Args:
        dataset: of rasterio.
        block: height and width of the blocks that the file is cut into.
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
    """An open packed file, with the part of rasterio's dataset that `Scene` uses.

    Args:
        metadata: from `metadata_of`.
        fetch: returns compressed planes of blocks.
    """

    def __init__(self, metadata: dict[str, Any], fetch: Fetch) -> None:
        self.height, self.width = int(metadata["height"]), int(metadata["width"])
        self.dtypes = tuple(metadata["dtypes"])
        self.count = len(self.dtypes)
        _check(metadata)
        self.transform = Affine(*metadata["transform"])
        self.crs = CRS.from_wkt(metadata["crs"]) if metadata["crs"] else None
        points = [GroundControlPoint(*p[:5], id=p[5]) for p in metadata["gcps"]]
        self.gcps = (points, CRS.from_wkt(metadata["gcps_crs"]) if metadata["gcps_crs"] else None)
        self.descriptions = tuple(metadata["descriptions"])
        self.colorinterp = tuple(ColorInterp(c) for c in metadata["colours"])
        self.units, self.scales = tuple(metadata["units"]), tuple(metadata["scales"])
        self.offsets, self.nodatavals = tuple(metadata["offsets"]), tuple(metadata["nodata"])
        self.mask_flag_enums = tuple([MaskFlags(f) for f in band] for band in metadata["flags"])
        self.block_shapes = [tuple(metadata["block"])] * self.count
        self._tags, self._masked = metadata["tags"], metadata["masked"]
        self._block: tuple[int, int] = (int(metadata["block"][0]), int(metadata["block"][1]))
        self._fetch = fetch

    def tags(self, band: int = 0) -> dict[str, str]:
        """Return the tags of a band (1-based) that may tell its name; none of the file (0)."""
        return dict(self._tags[band - 1]) if band else {}

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


def _check(metadata: dict[str, Any]) -> None:
    """Raise ValueError for metadata of no raster: its sizes, types, and one item for each band."""
    down, across = metadata["block"]
    for side, largest in (("height", 2**31), ("width", 2**31)):
        if not 1 <= int(metadata[side]) < largest:
            raise ValueError(f"a {side} of {metadata[side]}")
    if min(down, across) < 1 or down * across > MOST_PIXELS:
        raise ValueError(f"blocks of {down} x {across} pixels")
    bands = metadata["dtypes"]
    if not bands or not set(bands) <= DTYPES:
        raise ValueError("bands of an unknown data type")
    for name in (
        "descriptions",
        "tags",
        "colours",
        "units",
        "scales",
        "offsets",
        "nodata",
        "flags",
    ):
        if len(metadata[name]) != len(bands):
            raise ValueError(f"{len(bands)} bands, but {len(metadata[name])} {name}")


def pack_plane(values: NDArray[Any], codec: pyarrow.Codec) -> bytes:
    """Compress one band of a block [H, W]: the low bytes of all numbers first, then the next.

    High bytes of neighbouring numbers are nearly equal. Separated from the noise of the low bytes,
    they compress better and decode faster. It is lossless for all types, bits of NaN included.
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
    # Joined as unsigned integers: one pass per byte, without a transposed copy.
    unsigned = np.dtype(f"<u{kind.itemsize}")
    out: NDArray[Any] = planes[0].astype(unsigned)
    for number in range(1, kind.itemsize):
        out |= planes[number].astype(unsigned) << np.array(8 * number, unsigned)
    values: NDArray[Any] = out.view(kind.newbyteorder("<"))
    return values


_CODEC = pyarrow.Codec("zstd")
