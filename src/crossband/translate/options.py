"""Options of computing, writing and matching a scene; those of reading are in `raster.options`.

Nothing here imports torch, as the command line makes its help from these classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypedDict, Unpack

from crossband.core import columns
from crossband.core.options import from_keywords, option
from crossband.errors import CrossbandError
from crossband.raster.bands import parse_bands
from crossband.raster.options import ReadOptions

if TYPE_CHECKING:  # `crossband --help` must not wait for rasterio
    from crossband.raster.grid import Box


def _days(value: str) -> float:
    """Return a number of days; CrossbandError for NaN, which means not known elsewhere."""
    days = float(value)
    if math.isnan(days):
        raise CrossbandError("--guide-days nan: leave it out where it is not known")
    return days


@dataclass(frozen=True)
class TileOptions:
    """The device, precision and tiles of the computation."""

    device: str = option("auto", "auto, cpu, cuda or mps", flag="--device")
    precision: str = option("auto", "auto, fp32 or bf16", flag="--precision")
    tile: int | None = option(
        None,
        "side in pixels of the window that the network sees at once (default 896; larger for a "
        "large margin, smaller for finer pixels)",
        flag="--tile",
    )
    batch: int = option(1, "tiles computed together (default 1)", flag="--batch")
    overlap: int | None = option(
        None,
        "pixels over which tiles are blended, for a network that sees the whole image (default: an "
        "eighth of the tile)",
        flag="--overlap",
    )
    seed: int | None = option(
        None, "seed of a network that draws random numbers (default 0)", flag="--seed"
    )
    whole: bool = option(
        False,
        "compute the scene in one tile, if memory allows; a flow with tolerances then solves "
        "adaptively",
        flag="--whole",
    )


@dataclass(frozen=True)
class WriteOptions:
    """The data type and layout of the file, and what happens to existing files."""

    dtype: str | None = option(
        None, "data type; float32 for physical units (default: the source's)", flag="--dtype"
    )
    scale: float | None = option(
        None,
        "for an integer --dtype: physical = stored x scale + offset",
        flag="--out-scale",
        keyword="out_scale",
    )
    offset: float | None = option(
        None, "see --out-scale (default 0)", flag="--out-offset", keyword="out_offset"
    )
    nodata: float | None = option(
        None,
        "stored number of masked pixels (default: the source's, else NaN or a mask band)",
        flag="--nodata",
    )
    compress: str | None = option(
        None, "compression: deflate (default), zstd, lzw or none", flag="--compress"
    )
    blocksize: int | None = option(
        None, "side of the COG's blocks in pixels (default 512)", flag="--blocksize"
    )
    indices: Mapping[str, str | Path] | Sequence[str] = option(
        (), "also write this spectral index as a float32 file beside the output", flag="--index"
    )
    overwrite: bool = option(False, "replace existing files", flag="--overwrite")
    resume: bool = option(False, "continue an interrupted run", flag="--resume")


@dataclass(frozen=True)
class GuideOptions:
    """A measurement of the same place, and how the result is corrected by it; see `guiding`."""

    guide: str | Path | None = option(
        None,
        "correct the result by this measurement of the same place, with coarser pixels or of "
        "another date; a display result gets its unit. If RASTER is a folder, each scene gets the "
        "raster of its place that is nearest in time",
        flag="--guide",
        keyword="guide",
        metavar="RASTER",
    )
    method: str | None = option(
        None,
        "residual (default): correct the averaged result to RASTER, in reflectance by a gain, in "
        "other units by a difference; RASTER may "
        "be of another date if it has the model's source bands, too; difference: the same, for a "
        "RASTER of the same date; linear, histogram: map all values of a band by one line or curve",
        flag="--guide-method",
        keyword="guide_method",
    )
    sensor: str | None = option(
        None,
        "sensor of RASTER, if its metadata do not state it",
        flag="--guide-sensor",
        keyword="guide_sensor",
    )
    bands: Mapping[str, int | str] | None = option(
        None,
        "bands of RASTER, as in nir=4",
        flag="--guide-bands",
        keyword="guide_bands",
        parse=parse_bands,
    )
    datetime: str | None = option(None, "when RASTER was taken; by default as its metadata state")
    read: ReadOptions | None = option(
        None, "how RASTER is read, if sensor and bands are not enough"
    )
    beside: tuple[str, ReadOptions] | None = option(
        None, "raster on its grid with the bands that the model takes, if RASTER lacks them"
    )
    days: float | None = option(
        None,
        "days between RASTER and the scene, if their metadata do not state when they were taken; 0 "
        "is the same day",
        flag="--guide-days",
        keyword="guide_days",
        parse=_days,
    )
    opened: Any = option(None, "RASTER as an open dataset, where GDAL cannot open it")
    scene_datetime: str | None = option(
        None, "when the scene was taken, to choose RASTER; by default as its metadata state"
    )

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Self:
        """Return what the columns of a manifest's row say of its guide; see `data.manifest`.

        Raises:
            BandError: the bands cannot be parsed.
        """
        guide, sensor, bands, datetime = (
            cell if isinstance(cell := row.get(column), str) else None for column in columns.GUIDE
        )
        named = None if bands is None else parse_bands(bands)
        return cls(guide, sensor=sensor, bands=named, datetime=datetime)

    @property
    def read_options(self) -> ReadOptions:
        """How RASTER is read."""
        return self.read or ReadOptions(self.bands, self.sensor)

    def over(self, others: GuideOptions) -> GuideOptions:
        """Return these options, with those that are not stated taken from `others`."""
        stated = {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}
        return replace(others, **stated)


@dataclass(frozen=True)
class IntervalOptions:
    """Intervals and familiarity beside the result; see docs/uncertainty.md."""

    #: Whether the widths of each index are written, too.
    widths: ClassVar[bool] = False
    interval: float | None = option(
        None,
        "also write a lower and an upper value for each pixel, between which the truth lies with "
        "this probability, as 0.9; likewise for each --index. The model must be calibrated",
        flag="--interval",
    )
    promise: str = option(
        "mean",
        "mean (default): on average over new places, this share of the pixels lies in the "
        "interval, and few places miss more than twice the allowed share; places (wider): at this "
        "share of new places, at least this share of the pixels does",
        flag="--promise",
    )
    familiarity: bool = option(
        False,
        "also write how unlike the training places the surroundings of each pixel are",
        flag="--familiarity",
    )

    def __post_init__(self) -> None:
        """Refuse a promise of no interval.

        Raises:
            CrossbandError: that.
        """
        if self.interval is None and self.promise != "mean":
            raise CrossbandError(f"--promise {self.promise}: it is of --interval, which is missing")

    @property
    def wanted(self) -> bool:
        """Whether the network computes more than the result."""
        return self.interval is not None or self.familiarity


@dataclass(frozen=True)
class FieldIntervalOptions(IntervalOptions):
    """Intervals, and the widths of each index, of which intervals of means over fields are made."""

    widths: ClassVar[bool] = True


NO_INTERVALS = IntervalOptions()
#: The classes of `TranslateOptions`.
CLASSES = (ReadOptions, TileOptions, WriteOptions, GuideOptions, IntervalOptions)


class TranslateKeywords(TypedDict, total=False):
    """The keyword arguments of `Model.translate`; each is documented at its field above."""

    # ReadOptions
    bands: Mapping[str, int | str] | None
    sensor: str | None
    scale: float | None
    offset: float | None
    source_nodata: float | None
    extent: tuple[float, float, float, float] | None
    window: Box | None
    allow_local_references: bool
    # TileOptions
    device: str
    precision: str
    tile: int | None
    batch: int
    overlap: int | None
    seed: int | None
    whole: bool
    # WriteOptions
    dtype: str | None
    out_scale: float | None
    out_offset: float | None
    nodata: float | None
    compress: str | None
    blocksize: int | None
    indices: Mapping[str, str | Path] | Sequence[str]
    overwrite: bool
    resume: bool
    # GuideOptions
    guide: str | Path | None
    guide_method: str | None
    guide_sensor: str | None
    guide_bands: Mapping[str, int | str] | None
    guide_days: float | None
    # IntervalOptions
    interval: float | None
    promise: str
    familiarity: bool


@dataclass(frozen=True)
class TranslateOptions:
    """All options of a translation.

    Attributes:
        read: bands, radiometry and window of the scene.
        tile: device, precision and tiles.
        write: data type and layout of the file.
        guide: a measurement that the result is corrected by.
        interval: intervals and familiarity beside the result.
    """

    read: ReadOptions = field(default_factory=ReadOptions)
    tile: TileOptions = field(default_factory=TileOptions)
    write: WriteOptions = field(default_factory=WriteOptions)
    guide: GuideOptions = field(default_factory=GuideOptions)
    interval: IntervalOptions = field(default_factory=IntervalOptions)

    @classmethod
    def of(cls, **keywords: Unpack[TranslateKeywords]) -> Self:
        """Build the options from keyword arguments, as `Model.translate` takes them."""
        given: Mapping[str, Any] = keywords
        known = TranslateKeywords.__annotations__
        for name in given:
            if name not in known:
                raise TypeError(f"translate() got an unexpected keyword argument {name!r}")
        return cls(
            from_keywords(ReadOptions, given),
            from_keywords(TileOptions, given),
            from_keywords(WriteOptions, given),
            from_keywords(GuideOptions, given),
            from_keywords(IntervalOptions, given),
        )
