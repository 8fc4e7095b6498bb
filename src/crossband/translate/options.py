"""How a scene is computed, written and matched, as values; how it is read: `raster.options`.

Nothing here imports torch: the command line makes its help from these classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

from crossband.core.options import from_keywords, option
from crossband.raster.bands import parse_bands
from crossband.raster.options import ReadOptions

if TYPE_CHECKING:  # `crossband --help` must not wait for rasterio
    from crossband.raster.grid import Box


@dataclass(frozen=True)
class TileOptions:
    """Where, in which precision and in which tiles the network computes."""

    device: str = option("auto", "auto, cpu, cuda or mps", flag="--device")
    precision: str = option("auto", "auto, fp32 or bf16", flag="--precision")
    tile: int | None = option(
        None,
        "pixels that the network sees at once, along one side (default 896, more for one that "
        "sees far, less for one that makes pixels finer)",
        flag="--tile",
    )
    batch: int = option(1, "tiles that it sees together (default 1)", flag="--batch")
    overlap: int | None = option(
        None,
        "pixels over which tiles fade into each other, of a network that sees the whole image "
        "(default: an eighth of the tile)",
        flag="--overlap",
    )
    seed: int | None = option(None, "of a network that draws at random (default 0)", flag="--seed")
    whole: bool = option(
        False,
        "the scene in one piece, as memory allows; a flow with tolerances solves adaptively",
        flag="--whole",
    )


@dataclass(frozen=True)
class WriteOptions:
    """What the file is like, and what happens to files that are there."""

    dtype: str | None = option(
        None, "float32 for physical units; default: as the source", flag="--dtype"
    )
    scale: float | None = option(
        None,
        "of an integer --dtype: physical = stored x scale + offset",
        flag="--out-scale",
        keyword="out_scale",
    )
    offset: float | None = option(
        None, "see --out-scale (default 0)", flag="--out-offset", keyword="out_offset"
    )
    nodata: float | None = option(
        None,
        "stored number of masked pixels (default: the source's, NaN, or a mask band)",
        flag="--nodata",
    )
    compress: str | None = option(None, "deflate (default), zstd, lzw or none", flag="--compress")
    blocksize: int | None = option(
        None, "side of the COG's blocks in pixels (default 512)", flag="--blocksize"
    )
    indices: Mapping[str, str | Path] | Sequence[str] = option(
        (), "also write this spectral index, as a float32 file beside the output", flag="--index"
    )
    overwrite: bool = option(False, "replace existing files", flag="--overwrite")
    resume: bool = option(False, "go on where an interrupted run stopped", flag="--resume")


@dataclass(frozen=True)
class MatchOptions:
    """A reference of the same place, to whose values the result is brought; see `matching`."""

    reference: str | Path | None = option(
        None,
        "bring the result to the values of its measured bands; a display result to its unit, too",
        flag="--match-to",
        keyword="match_to",
        metavar="RASTER",
    )
    method: str | None = option(
        None,
        "histogram (default) or linear: one gain and one offset",
        flag="--match",
        keyword="match",
    )
    sensor: str | None = option(
        None,
        "what took RASTER, where its metadata do not say it",
        flag="--match-sensor",
        keyword="match_sensor",
    )
    bands: Mapping[str, int | str] | None = option(
        None,
        "of RASTER, as in nir=4",
        flag="--match-bands",
        keyword="match_bands",
        parse=parse_bands,
    )


class Keywords(TypedDict, total=False):
    """The keyword arguments of `Model.translate`; each is documented where its field stands."""

    # ReadOptions
    bands: Mapping[str, int | str] | None
    sensor: str | None
    scale: float | None
    offset: float | None
    source_nodata: float | None
    window: Box | None
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
    # MatchOptions
    match_to: str | Path | None
    match: str | None
    match_sensor: str | None
    match_bands: Mapping[str, int | str] | None


@dataclass(frozen=True)
class TranslateOptions:
    """All that there is to say about a translation.

    Attributes:
        read: how the scene is read.
        tile: how it is computed.
        write: what the file is like.
        match: a reference that the result is brought to.
    """

    read: ReadOptions = field(default_factory=ReadOptions)
    tile: TileOptions = field(default_factory=TileOptions)
    write: WriteOptions = field(default_factory=WriteOptions)
    match: MatchOptions = field(default_factory=MatchOptions)

    @classmethod
    def of(cls, **keywords: Unpack[Keywords]) -> Self:
        """Build the options from keyword arguments, as `Model.translate` takes them."""
        given: Mapping[str, Any] = keywords
        known = Keywords.__annotations__
        for name in given:
            if name not in known:
                raise TypeError(f"translate() got an unexpected keyword argument {name!r}")
        return cls(
            from_keywords(ReadOptions, given),
            from_keywords(TileOptions, given),
            from_keywords(WriteOptions, given),
            from_keywords(MatchOptions, given),
        )
