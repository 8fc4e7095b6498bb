"""Rules on one row of a manifest: each is a function, with its thresholds above it.

A finding holds whatever the image shows. A suspicion depends on what land usually looks like, and
its text says "looks as if". Clouds, water, ice and desert are not reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from crossband.core.sensors import REFLECTANCE, VALID_RANGE
from crossband.data import unit_suspicions as suspicions
from crossband.data.check.findings import Finding, make_finding
from crossband.data.check.row_stats import RowStats
from crossband.data.check.side_stats import SideStats
from crossband.data.spectra import VISIBLE
from crossband.data.unit_suspicions import EIGHT_BITS, UPPER_HALF
from crossband.errors import CrossbandError


@dataclass(frozen=True)
class Limits:
    """Thresholds that a user can set.

    Attributes:
        shift: largest shift of a target in source pixels; by default `SAME` or `OTHER`.
    """

    shift: float | None = None

    def __post_init__(self) -> None:
        """Refuse a shift that none can be above or below.

        Raises:
            CrossbandError: that.
        """
        if self.shift is not None and not 0 <= self.shift < math.inf:
            raise CrossbandError(f"--max-shift {self.shift:g}: a number of pixels, 0 or more")


Rule = Callable[[RowStats, Limits], Iterator[Finding]]


def check_row(stats: RowStats, limits: Limits | None = None) -> list[Finding]:
    """Return the findings of a row."""
    out: dict[tuple[str, str, str], Finding] = {}
    for finding in (f for rule in RULES for f in rule(stats, limits or Limits())):
        # A file that is both source and target is reported once.
        key = finding.kind, finding.file, finding.text
        out[key] = replace(finding, side="pair") if key in out else finding
    return list(out.values())


def refused(stats: RowStats, limits: Limits) -> Iterator[Finding]:
    """Report what training would refuse, with the message of its reader."""
    for side, (kind, file, message) in stats.refused.items():
        # The message names options of `crossband translate`; a manifest has columns instead.
        text = message.replace("--bands ", f"{side}_bands ").replace("--sensor NAME", "a sensor")
        yield make_finding(kind, stats.row, side, file, text)


def named_otherwise(stats: RowStats, limits: Limits) -> Iterator[Finding]:
    """Report bands that a row gives by number though the file names them as others."""
    for name, side in (("source", stats.source), ("target", stats.target)):
        if side is None:
            continue
        for words in side.named_otherwise:
            text = f"the column {name}_bands says {words}"
            yield make_finding("bands-named-otherwise", stats.row, name, side.path, text)


def shapes(stats: RowStats, limits: Limits) -> Iterator[Finding]:
    """Report shapes without one whole number of target pixels to a source pixel."""
    one, two = stats.source, stats.target
    if one is not None and two is not None and stats.scale is None:
        yield make_finding(
            "shape-mismatch",
            stats.row,
            "pair",
            two.path,
            f"the target has {two.height} x {two.width} pixels, the source {one.height} x "
            f"{one.width}: no whole number of target pixels to a source pixel",
        )


#: Largest shift in source pixels between bands of one instrument: its maker promises half a pixel
#: or better, and the measurement adds up to half a pixel over clouds and water.
SAME = 1.0
#: Largest shift between two instruments: two cameras have parallax, radar has layover; carefully
#: registered pairs of both kinds are 1 to 3 source pixels apart.
OTHER = 3.0
#: Georeferences that differ by more than this many source pixels are different grids.
GRID = 0.5


def misregistered(stats: RowStats, limits: Limits) -> Iterator[Finding]:
    """Report targets that are shifted against their source."""
    one, two, shift = stats.source, stats.target, stats.shift
    if one is None or two is None:
        return
    apart = _grids_apart(one, two, stats.scale)
    if apart is not None and apart > GRID:
        yield make_finding(
            "misregistered",
            stats.row,
            "pair",
            two.path,
            f"by their georeference, source and target lie {apart:.1f} source pixels apart",
            apart,
        )
    limit = limits.shift
    if limit is None:
        limit = OTHER if stats.own else SAME
    # Above the limit by two standard errors.
    if shift is not None and shift.pixels - 2 * shift.error > limit:
        yield make_finding(
            "misregistered",
            stats.row,
            "pair",
            two.path,
            f"the target lies {shift.rows:+.1f} rows and {shift.cols:+.1f} columns from the source "
            f"({shift.pixels:.1f} source pixels; {shift.blocks} of {shift.of} blocks agree; "
            f"limit {limit:g})",
            shift.pixels,
        )


def _grids_apart(one: SideStats, two: SideStats, scale: int | None) -> float | None:
    """Return the largest distance between corners in source pixels; None if it is not known."""
    if scale is None or one.bounds is None or two.bounds is None or one.grid.crs != two.grid.crs:
        return None
    corners = [(x, y) for x in (0, one.width) for y in (0, one.height)]
    back = ~one.grid.transform
    apart = []
    for x, y in corners:
        there = back @ (two.grid.transform @ (x * scale, y * scale))
        apart.append(float(np.hypot(there[0] - x, there[1] - y)))
    return max(apart)


#: Share of a pair that may be empty on both sides. A white sky or a cold background fills the
#: picture of one camera, not of both: where both hold their most frequent number, nothing was
#: imaged. Above this share, one random crop in five would be empty.
BLANK = 0.2
#: Share of one side that may hold a single number.
HALF = 0.5
#: Share of one side that may be declared nodata: above a quarter, one crop in four would be empty.
#: Training ignores masked pixels, so such a row is still usable, unless nearly all is masked.
MASKED, NOTHING = 0.25, 0.99


def empty(stats: RowStats, limits: Limits) -> Iterator[Finding]:
    """Report images that are constant, masked, or mostly filled with one number."""
    if stats.blank > BLANK and stats.source is not None and stats.target is not None:
        yield make_finding(
            "empty",
            stats.row,
            "pair",
            stats.source.path,
            f"{stats.blank:.0%} of the pixels are {_stored(stats.source)} in the source and "
            f"{_stored(stats.target)} in the target: nothing was imaged there, and no nodata says "
            f"so",
            stats.blank,
        )
    for name, side in _sides(stats):
        flat = [b for b, (low, high) in zip(side.bands, side.stored, strict=True) if low == high]
        masked = 1 - side.valid
        if masked > MASKED:
            kind = "empty" if masked > NOTHING else "nodata-heavy"
            words = f"{masked:.0%} of the pixels are nodata"
            yield make_finding(kind, stats.row, name, side.path, words, masked)
        if masked > NOTHING:
            continue
        if flat:
            yield make_finding(
                "empty", stats.row, name, side.path, f"one number everywhere in {', '.join(flat)}"
            )
        elif side.single > HALF and stats.blank <= BLANK:
            yield make_finding(
                "empty",
                stats.row,
                name,
                side.path,
                f"{side.single:.0%} of the pixels are {_stored(side)}",
                side.single,
            )


#: A band of 8-bit numbers beside 16-bit ones never exceeds 255, but exceeds 127. Stored reflectance
#: x 10000 below 255 means below 0.0255 in the whole scene, which is not land; a median above 0.1 in
#: another band is land.
LAND = 1020


def two_scalings(stats: RowStats, limits: Limits) -> Iterator[Finding]:
    """Report bands with one declared scale whose numbers cannot share one."""
    for s in stats.spectra:
        if s.n == 0 or s.dtype == "uint8":
            continue
        ends = dict(zip(s.bands, s.top, strict=True))
        middles = dict(zip(s.bands, s.middle, strict=True))
        small = [b for b in s.bands if UPPER_HALF < ends[b] <= EIGHT_BITS]
        large = [b for b in s.bands if middles[b] > LAND]
        if small and large:
            yield make_finding(
                "two-scalings",
                stats.row,
                "pair",
                s.path,
                f"{', '.join(small)}: never above {max(ends[b] for b in small):g}, as in an 8-bit "
                f"picture; {', '.join(large)}: half of the numbers above "
                f"{min(middles[b] for b in large):g}; they cannot share one scale",
            )


#: Share of values that may lie outside the range of the unit by more than a tenth of it. Sun glint,
#: flames and snow on slopes are fewer.
OUTSIDE = 0.001


def out_of_range(stats: RowStats, limits: Limits) -> Iterator[Finding]:
    """Report values outside the valid range of the declared unit."""
    for name, side in _sides(stats):
        if side.outside > OUTSIDE:
            low, high = VALID_RANGE[side.unit]
            ends = [side.scale * v + side.offset for band in side.stored for v in band]
            yield make_finding(
                "out-of-range",
                stats.row,
                name,
                side.path,
                f"{side.outside:.1%} of the values are outside of {side.unit} {low:g} to {high:g} "
                f"(they reach from {min(ends):.3g} to {max(ends):.3g}; scale {side.scale:g}, "
                f"offset {side.offset:g})",
                side.outside,
            )


#: NIR under another name: one band that is not called nir correlates little with the three others
#: and is brighter, and these correlate strongly, as red, green and blue do. Over vegetation, no
#: three bands with NIR among them do.
APART, TOGETHER, BRIGHTER = 0.5, 0.8, 1.2
#: Red and blue: bare ground is brighter in red. If little of it is, and blue varies more than red,
#: the two are swapped. `SOIL` is the share of pixels that must be bare ground for this test.
SOIL, REDDER, VARIES = 0.05, 0.1, 0.8


def swapped(stats: RowStats, limits: Limits) -> Iterator[Finding]:
    """Report bands whose spectra fit other names; reflectance only, and only over land."""
    for s in stats.spectra:
        names = (*VISIBLE, "nir")
        if s.unit != REFLECTANCE or s.n < 1024 or not set(VISIBLE) <= set(s.bands):
            continue
        if "nir" not in s.bands:
            continue
        at = [s.at(n) for n in names]
        r = s.correlation[np.ix_(at, at)]
        others = (r.sum(axis=0) - 1) / 3
        odd = int(others.argmin())
        rest = [i for i in range(4) if i != odd]
        inner = min(r[i, j] for i in rest for j in rest)
        bright = s.median[at[odd]] > BRIGHTER * max(s.median[at[i]] for i in rest)
        if odd != 3 and others[odd] < APART and inner > TOGETHER and bright:
            yield make_finding(
                "bands-swapped",
                stats.row,
                "pair",
                s.path,
                f"looks as if the band called {names[odd]} were near infrared: it is the brightest "
                f"and follows the others by r {others[odd]:.2f}, they one another by {inner:.2f}",
                float(others[odd]),
            )
        # At the top of the atmosphere, haze makes bare ground bluer.
        ground = s.sensor is None or "l1c" not in s.sensor
        ratio = s.spread[s.at("red")] / max(s.spread[s.at("blue")], 1e-12)
        if ground and s.soil > SOIL and s.soil_red < REDDER and ratio < VARIES:
            yield make_finding(
                "bands-swapped",
                stats.row,
                "pair",
                s.path,
                f"looks as if red and blue were swapped: of the bare ground only {s.soil_red:.0%} "
                f"is brighter in red than in blue, and red varies {ratio:.2f} times as much",
                s.soil_red,
            )


def offsets(stats: RowStats, limits: Limits) -> Iterator[Finding]:
    """Report BOA_ADD_OFFSET and RADIO_ADD_OFFSET of Sentinel-2, not declared or applied twice."""
    for s in stats.spectra:
        for found in suspicions.offsets(s):
            yield make_finding(found.kind, stats.row, "pair", s.path, found.text, found.measure)


def display_numbers(stats: RowStats, limits: Limits) -> Iterator[Finding]:
    """Report pictures that are declared as a measurement, and a measurement declared as one."""
    if stats.blank > BLANK or any(side.single > HALF for _, side in _sides(stats)):
        return  # most pixels hold one number, which `empty` reports
    for s in stats.spectra:
        for found in suspicions.display_numbers(s):
            yield make_finding(found.kind, stats.row, "pair", s.path, found.text, found.measure)


def _sides(stats: RowStats) -> Iterator[tuple[str, SideStats]]:
    """Yield source and target; only one of them if both are the same bands of one file."""
    one, two = stats.source, stats.target
    if one is not None:
        yield "source", one
    if two is not None and (one is None or (one.path, one.bands) != (two.path, two.bands)):
        yield "target", two


def _stored(side: SideStats) -> str:
    return " ".join(f"{v:g}" for v in side.common[:4]) + (" ..." if len(side.common) > 4 else "")


RULES: tuple[Rule, ...] = (
    refused,
    named_otherwise,
    shapes,
    misregistered,
    empty,
    two_scalings,
    out_of_range,
    swapped,
    offsets,
    display_numbers,
)
