"""The layout `flir-adas-v2`: visible and thermal pictures from a car, and the aligned version."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from crossband.core.json_text import read_json
from crossband.core.regular_file import read_text
from crossband.data.layouts._headers import Header, read_all, read_header
from crossband.data.layouts.base import FileSearch, Layout, Row
from crossband.errors import CrossbandError, ManifestError

_FRAME = re.compile(r"(video-\w+?)-frame-\d+-\w+")
_ALIGNED = re.compile(r"(FLIR_\d+)_(?:RGB|PreviewData)")
_MAP = "rgb_to_thermal_vid_map.json"
_SPLIT_BY = "FLIR ADAS v2"


class FlirAdasV2(Layout):
    """Teledyne FLIR ADAS Dataset v2: visible and thermal pictures of roads.

    The folders are `images_rgb_train`, `images_thermal_train`, `images_rgb_val`,
    `images_thermal_val`, `video_rgb_test` and `video_thermal_test`, with files such as
    `data/video-ID-frame-N-HASH.jpg`.

    Only the frames of the videos are pairs. The file `rgb_to_thermal_vid_map.json` lists these
    pairs. The visible and thermal images were drawn independently, so each becomes a row with only
    a source or only a target. Each video is a group. The dataset has all videos in its test split.
    With --part videos no split is written, so that you can make your own split by video.

    The thermal jpg files are 8-bit pictures after automatic gain (sensor thermal-camera), not
    temperatures. The tiff files in `analyticsData` are raw 16-bit counts. The README of the dataset
    says that the camera was in T-linear mode. It does not say how many kelvin a count is, so you
    must state this number.

    The aligned version (of FLIR ADAS v1) has pairs of equal size: `JPEGImages/FLIR_00002_RGB.jpg`,
    `FLIR_00002_PreviewData.jpeg`, `align_train.txt` and `align_validation.txt`.

    Args:
        part: images (unpaired), videos (pairs), all (both), or aligned (the aligned version).
        thermal: data for the 8-bit jpg files, analyticsData for the 16-bit tiff files.
        kelvin_per_count: kelvin per count of the tiff files; a count of 0 is 0 K.
    """

    name: ClassVar[str] = "flir-adas-v2"
    origin: ClassVar[str] = "Teledyne FLIR ADAS Dataset v2, and FLIR aligned (Zhang et al. 2020)"

    def __init__(
        self,
        part: Literal["all", "images", "videos", "aligned"] = "all",
        thermal: Literal["data", "analyticsData"] = "data",
        kelvin_per_count: float = 0.0,
    ) -> None:
        raw = thermal == "analyticsData"
        if raw and not kelvin_per_count > 0:
            raise ManifestError(
                "the tiff files of analyticsData are counts of a camera in T-linear mode, and "
                "nothing says how many kelvin a count is: give --kelvin-per-count"
            )
        if kelvin_per_count and not raw:
            raise ManifestError("--kelvin-per-count is for --thermal analyticsData")
        if raw and part == "aligned":
            raise ManifestError("the aligned version has 8-bit thermal pictures only")
        self.part, self.raw = part, raw
        self.thermal: Row = {"target_bands": "thermal=1", "target_sensor": "thermal-camera"}
        if raw:
            self.thermal |= {"target_sensor": "thermal-kelvin", "target_scale": kelvin_per_count}
            self.thermal["target_offset"] = 0.0

    def rows(self, search: FileSearch) -> Iterator[Row]:
        """See `Layout.rows`."""
        if self.part == "aligned":
            yield from self._aligned(search)
            return
        if self.part != "images":
            yield from self._videos(search)
        if self.part != "videos":
            yield from self._images(search)

    def _thermal(self, search: FileSearch, folder: str) -> list[Path]:
        if not self.raw:
            return search.files(f"{folder}/data/*.jpg")
        # Some of the tiff files are 8-bit pictures, not counts.
        files = []
        for path, header in read_all(search.files(f"{folder}/analyticsData/*.tiff"), read_header):
            if isinstance(header, Header) and header.dtype == "uint16":
                files.append(path)
            else:
                why = f"{header.dtype}, not 16-bit counts" if isinstance(header, Header) else header
                search.left_out.append((path, str(why)))
        return files

    def _videos(self, search: FileSearch) -> Iterator[Row]:
        visible = search.files("video_rgb_test/data/*.jpg")
        thermal = self._thermal(search, "video_thermal_test")
        if not visible and not thermal:
            return
        counterpart = _read_map(search.root / _MAP)
        pairs = search.pair(
            visible, thermal, lambda p: counterpart.get(p.stem, f"{p.stem} (not in {_MAP})"), _stem
        )
        first = True
        for a, b in pairs:
            if first:
                first = False
                _sizes(search, a, b)
            row = {"source": a, "target": b, "group": _video(a), **_visible(), **self.thermal}
            if self.part == "all":
                row |= {"split": "test", "split_by": _SPLIT_BY}
            yield row

    def _images(self, search: FileSearch) -> Iterator[Row]:
        rows: list[Row] = []
        for split in ("train", "val"):
            given = {"split": split, "split_by": _SPLIT_BY}
            for path in search.files(f"images_rgb_{split}/data/*.jpg"):
                rows.append({"source": path, "group": _video(path), **_visible(), **given})
            for path in self._thermal(search, f"images_thermal_{split}"):
                rows.append({"target": path, "group": _video(path), **self.thermal, **given})
        if rows:
            search.notes.append(
                "visible and thermal images were drawn from the videos each by itself: only the "
                "frames of the videos are pairs (--part videos)"
            )
        yield from rows

    def _aligned(self, search: FileSearch) -> Iterator[Row]:
        one, two = (
            [p for p in search.files(f"JPEGImages/{n}", f"align/JPEGImages/{n}") if _aligned(p)]
            for n in ("FLIR_*_RGB.jpg", "FLIR_*_PreviewData.jpeg")
        )
        lists = search.files(*(f"{d}align_{s}.txt" for d in _LISTS for s in _SPLITS))
        splits: dict[str, str] = {}
        for path in lists:
            for line in read_text(path, ManifestError).split():
                splits[re.sub("_(RGB|PreviewData)$", "", line)] = _SPLITS[path.stem[6:]]
        unlisted = 0
        pairs = list(search.pair(one, two, _aligned))
        for a, b in pairs:
            row = {"source": a, "target": b, **_visible(), **self.thermal}
            if splits and _aligned(a) not in splits:
                unlisted += 1
                continue
            if splits:
                row |= {"split": splits[_aligned(a)], "split_by": "align_train.txt"}
            yield row
        if unlisted:
            search.notes.append(f"{unlisted:,} pairs are in no align_*.txt and were left out")
        if pairs:
            search.notes.append(
                "the names say no video: each picture is its own group, though neighbouring "
                "numbers may be frames of one drive"
            )


_LISTS = ("", "align/", "ImageSets/Main/", "align/ImageSets/Main/")
_SPLITS = {"train": "train", "validation": "val"}


def _visible() -> Row:
    return {"source_bands": "red=1,green=2,blue=3", "sensor": "display"}


def _stem(path: Path) -> str:
    return path.stem


def _video(path: Path) -> str:
    found = _FRAME.fullmatch(path.stem)
    if found is None:
        raise ManifestError(f"{path}: looked for a name as video-ID-frame-000123-HASH")
    return found[1]


def _aligned(path: Path) -> str:
    found = _ALIGNED.fullmatch(path.stem)
    return found[1] if found else ""


def _read_map(path: Path) -> dict[str, str]:
    """Read which thermal frame belongs to a visible one: stem -> stem."""
    try:
        data: Any = read_json(path, ManifestError)
    except ManifestError as error:
        raise ManifestError(f"{error}; without it no frame has a pair") from error
    names: Iterable[Any] = [*data, *data.values()] if isinstance(data, dict) else [None]
    if not all(isinstance(name, str) for name in names):
        raise ManifestError(f'{path}: looked for {{"visible.jpg": "thermal.jpg", ...}}')
    return {Path(a).stem: Path(b).stem for a, b in data.items()}


def _sizes(search: FileSearch, a: Path, b: Path) -> None:
    """Note that the pictures of the first pair differ in size."""
    try:
        one, two = read_header(a), read_header(b)
    except CrossbandError:
        return
    if one.size != two.size:
        search.notes.append(
            f"the pictures of a pair are not of one size ({one.size} and {two.size}) nor of one "
            f"field of view: they must be resized"
        )
