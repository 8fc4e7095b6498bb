"""The layout `div2k`: pictures for super-resolution, with or without their coarse versions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from crossband.data.layouts.base import FileSearch, Layout, Row
from crossband.errors import ManifestError

_BANDS = "red=1,green=2,blue=3"
_SPLITS = {"train": "train", "valid": "val"}


class Div2k(Layout):
    """DIV2K: 1,000 photographs, about 2,040 pixels wide; or any folder of pictures.

    The targets are `DIV2K_train_HR/0001.png` and `DIV2K_valid_HR/0801.png`. With --scale 2 the
    sources are the coarse files of the dataset, as `DIV2K_train_LR_bicubic/X2/0001x2.png`. Without
    a scale there are no source files: the sources are computed from the targets when they are read,
    by the degradation in the column `degradation`. ROOT may then also be any folder of pictures
    (Flickr2K, BSD, your own scenes).

    Pictures are not measurements, so the sensor is `display`. Each picture is a group.

    Args:
        scale: 2, 3 or 4 for the coarse files of this scale; 0 for no coarse files, see degradation.
        track: kind of the coarse files, bicubic or unknown.
        degradation: name of the degradation that makes the source; only with scale 0.
    """

    name: ClassVar[str] = "div2k"
    origin: ClassVar[str] = "DIV2K (Agustsson and Timofte 2017), or a folder of fine pictures"

    def __init__(
        self,
        scale: Literal[0, 2, 3, 4] = 0,
        track: Literal["bicubic", "unknown"] = "bicubic",
        degradation: str = "",
    ) -> None:
        if scale not in (0, 2, 3, 4):
            raise ManifestError(f"--scale is 0, 2, 3 or 4, not {scale}")
        if scale and degradation:
            raise ManifestError("--degradation makes sources; with --scale they are files")
        if not scale and track != "bicubic":
            raise ManifestError("--track is for coarse files: give --scale")
        self.scale, self.track, self.degradation = scale, track, degradation or "Bicubic"

    def rows(self, search: FileSearch) -> Iterator[Row]:
        """See `Layout.rows`."""
        found = False
        for folder, split in _SPLITS.items():
            fine = search.files(f"DIV2K_{folder}_HR/*.png")
            found = found or bool(fine)
            for row in self._pairs(search, folder, fine) if self.scale else self._made(fine):
                yield row | {"split": split}
        if not found and not self.scale:
            suffixes = (".png", ".jpg", ".jpeg", ".bmp")
            yield from self._made(search.files("*", suffixes=suffixes))

    def _pairs(self, search: FileSearch, folder: str, fine: list[Path]) -> Iterator[Row]:
        coarse = search.files(f"DIV2K_{folder}_LR_{self.track}/X{self.scale}/*x{self.scale}.png")
        pairs = search.pair(
            coarse, fine, lambda p: p.stem.removesuffix(f"x{self.scale}"), lambda p: p.stem
        )
        for a, b in pairs:
            yield _target(b) | {"source": a, "source_bands": _BANDS, "sensor": "display"}

    def _made(self, fine: list[Path]) -> Iterator[Row]:
        for path in fine:
            yield _target(path) | {"sensor": "display", "degradation": self.degradation}


def _target(path: Path) -> Row:
    columns = {"target_bands": _BANDS, "target_sensor": "display"}
    return {"target": path, "group": path.stem, **columns}
