"""The layout of Cloud Optimized GeoTIFFs: compression and blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from crossband.errors import OutputError, nearest

COMPRESSIONS = ("deflate", "zstd", "lzw", "none")


@dataclass(frozen=True)
class Cog:
    """How a COG is compressed and cut into blocks.

    Attributes:
        compress: deflate, zstd, lzw or none. The predictor fits the data type: 2 for integers, 3
            for floating point.
        blocksize: side of a block in pixels, a multiple of 16, at least 128.
        quick: the file is made fast, without predictor and statistics of its bands, and its
            overviews have every second pixel: means would have more digits than the pixels.
    """

    compress: str = "deflate"
    blocksize: int = 512
    quick: bool = False

    def __post_init__(self) -> None:
        if self.compress not in COMPRESSIONS:
            raise OutputError(f"--compress {self.compress}: {nearest(self.compress, COMPRESSIONS)}")
        if self.blocksize % 16 or not 128 <= self.blocksize <= 4096:
            raise OutputError(
                f"--blocksize {self.blocksize}: a multiple of 16 from 128 to 4096 (default 512)"
            )

    @classmethod
    def of(cls, compress: str | None, blocksize: int | None) -> Self:
        """Return the layout of these options, with the defaults for those that are None."""
        given = {"compress": compress, "blocksize": blocksize}
        return cls(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]

    def options(self, dtype: str) -> dict[str, Any]:
        """Return GDAL's creation options.

        Args:
            dtype: of the file. The digits of floating-point numbers are mostly noise, which no
                level of compression makes smaller: the fastest one is taken.
        """
        compression = {"compress": self.compress.upper()}
        if self.compress != "none" and not self.quick:
            compression["predictor"] = "YES"
        if np.dtype(dtype).kind == "f" and self.compress in ("deflate", "zstd"):
            compression["level"] = "1"
        return {
            "driver": "COG",
            **compression,
            "blocksize": self.blocksize,
            "overviews": "AUTO",
            "resampling": "NEAREST" if self.quick else "AVERAGE",
            "statistics": "NO" if self.quick else "YES",
            "bigtiff": "IF_SAFER",
            "num_threads": "ALL_CPUS",
        }
