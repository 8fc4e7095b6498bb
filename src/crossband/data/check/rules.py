"""Facts of a row -> what is wrong with it. A rule is a function; its threshold stands above it.

A finding is wrong whatever the picture shows. A suspicion rests on what ground usually looks like,
and says "looks as if". Clouds, water, ice and desert are no findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from crossband.core.sensors import REFLECTANCE, VALID_RANGE
from crossband.data.check.facts import Facts, Side
from crossband.data.check.findings import Finding, found
from crossband.data.check.spectra import VISIBLE, Spectra


@dataclass(frozen=True)
class Limits:
    """What a user may set.

    Attributes:
        shift: source pixels that a target may be shifted by; by default `SAME` or `OTHER`.
    """

    shift: float | None = None


Rule = Callable[[Facts, Limits], Iterator[Finding]]


def judge(facts: Facts, limits: Limits | None = None) -> list[Finding]:
    """Return what is wrong with a row."""
    out: dict[tuple[str, str, str], Finding] = {}
    for finding in (f for rule in RULES for f in rule(facts, limits or Limits())):
        # One file that is source and target at once has its flaw once.
        key = finding.kind, finding.file, finding.text
        out[key] = replace(finding, side="pair") if key in out else finding
    return list(out.values())


def refused(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """What training would refuse, in the words of its reader."""
    for side, (kind, message) in facts.refused.items():
        # The reader's words end with options of the command `translate`, which has no manifest.
        text = message.replace("--bands ", f"{side}_bands ").replace("--sensor", "a sensor")
        yield found(kind, facts.row, side, message.split(": ")[0], text)


def shapes(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """One whole number of target pixels to a source pixel, the same along both sides."""
    one, two = facts.source, facts.target
    if one is not None and two is not None and facts.scale is None:
        yield found(
            "shape-mismatch",
            facts.row,
            "pair",
            two.path,
            f"the target has {two.height} x {two.width} pixels, the source {one.height} x "
            f"{one.width}: no whole number of target pixels to a source pixel",
        )


#: Source pixels between bands of one instrument: its maker promises half a pixel or better, and
#: what is measured over clouds and water is up to half a pixel more.
SAME = 1.0
#: Source pixels between two instruments: cameras on a rig see near things from two places, radar
#: leans hills over; carefully registered pairs of both kinds are 1 to 3 pixels apart.
OTHER = 3.0
#: A georeference that differs by more than this many source pixels is another grid.
GRID = 0.5


def misregistered(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """The edges of the target lie beside those of the source."""
    one, two, shift = facts.source, facts.target, facts.shift
    if one is None or two is None:
        return
    apart = _grids_apart(one, two, facts.scale)
    if apart is not None and apart > GRID:
        yield found(
            "misregistered",
            facts.row,
            "pair",
            two.path,
            f"by their georeference, source and target lie {apart:.1f} source pixels apart",
            apart,
        )
    limit = limits.shift
    if limit is None:
        limit = OTHER if facts.own else SAME
    # Above the limit by more than the measurement is uncertain.
    if shift is not None and shift.pixels - 2 * shift.error > limit:
        yield found(
            "misregistered",
            facts.row,
            "pair",
            two.path,
            f"the target lies {shift.rows:+.1f} rows and {shift.cols:+.1f} columns from the source "
            f"({shift.pixels:.1f} source pixels; {shift.blocks} of {shift.of} blocks agree; "
            f"limit {limit:g})",
            shift.pixels,
        )


def _grids_apart(one: Side, two: Side, scale: int | None) -> float | None:
    """Return the largest distance of corners in source pixels; None where it is not known."""
    if scale is None or one.bounds is None or two.bounds is None or one.grid.crs != two.grid.crs:
        return None
    corners = [(x, y) for x in (0, one.width) for y in (0, one.height)]
    back = ~one.grid.transform
    apart = []
    for x, y in corners:
        there = back @ (two.grid.transform @ (x * scale, y * scale))
        apart.append(float(np.hypot(there[0] - x, there[1] - y)))
    return max(apart)


#: Share of a pair where neither side has anything. A white sky or a cold background fills one
#: camera's picture, not both: where both hold their one number, nothing was taken. One crop in
#: five would then be of nothing.
BLANK = 0.2
#: Share of one side that is one single number: more than half.
HALF = 0.5
#: Share of one side that is declared nodata: a quarter, as a crop in four would then be of nothing.
#: The row stays of use, for what is masked is not learned from; almost nothing left is not.
MASKED, NOTHING = 0.25, 0.99


def empty(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Constant, masked or filled with one number."""
    if facts.blank > BLANK and facts.source is not None and facts.target is not None:
        yield found(
            "empty",
            facts.row,
            "pair",
            facts.source.path,
            f"{facts.blank:.0%} of the pixels are {_stored(facts.source)} in the source and "
            f"{_stored(facts.target)} in the target: nothing was imaged there, and no nodata says "
            f"so",
            facts.blank,
        )
    for name, side in _sides(facts):
        flat = [b for b, (low, high) in zip(side.bands, side.stored, strict=True) if low == high]
        masked = 1 - side.valid
        if masked > MASKED:
            kind = "empty" if masked > NOTHING else "nodata-heavy"
            words = f"{masked:.0%} of the pixels are nodata"
            yield found(kind, facts.row, name, side.path, words, masked)
        if masked > NOTHING:
            continue
        if flat:
            yield found(
                "empty", facts.row, name, side.path, f"one number everywhere in {', '.join(flat)}"
            )
        elif side.single > HALF and facts.blank <= BLANK:
            yield found(
                "empty",
                facts.row,
                name,
                side.path,
                f"{side.single:.0%} of the pixels are {_stored(side)}",
                side.single,
            )


#: A band of 8-bit numbers among wider ones never passes 255 and uses its upper half. Reflectance
#: x 10000 that never passes 0.0255 in a whole scene is hardly land at all; where the middle of
#: another band is above 0.1 there is land.
EIGHT_BITS, UPPER_HALF, LAND = 255, 127, 1020


def two_scalings(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Bands that are declared one radiometry, and cannot be."""
    for s in facts.spectra:
        if s.n == 0 or s.dtype == "uint8":
            continue
        ends = dict(zip(s.bands, s.top, strict=True))
        middles = dict(zip(s.bands, s.middle, strict=True))
        small = [b for b in s.bands if UPPER_HALF < ends[b] <= EIGHT_BITS]
        large = [b for b in s.bands if middles[b] > LAND]
        if small and large:
            yield found(
                "two-scalings",
                facts.row,
                "pair",
                s.path,
                f"{', '.join(small)}: never above {max(ends[b] for b in small):g}, as in an 8-bit "
                f"picture; {', '.join(large)}: half of the numbers above "
                f"{min(middles[b] for b in large):g}; they cannot share one scale",
            )


#: Share of values beyond the range of the unit by more than a tenth of it. Sun glint, flames and
#: snow on a slope are fewer.
OUTSIDE = 0.001


def out_of_range(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Numbers that the declared scale turns into what cannot be."""
    for name, side in _sides(facts):
        if side.outside > OUTSIDE:
            low, high = VALID_RANGE[side.unit]
            ends = [side.scale * v + side.offset for band in side.stored for v in band]
            yield found(
                "out-of-range",
                facts.row,
                name,
                side.path,
                f"{side.outside:.1%} of the values are outside of {side.unit} {low:g} to {high:g} "
                f"(they reach from {min(ends):.3g} to {max(ends):.3g}; scale {side.scale:g}, "
                f"offset {side.offset:g})",
                side.outside,
            )


#: NIR elsewhere: one band that is not called nir follows the three others little, is brighter than
#: they are, and they follow one another, as red, green and blue do and no three with NIR among
#: them over vegetation.
APART, TOGETHER, BRIGHTER = 0.5, 0.8, 1.2
#: Red and blue: bare ground is redder than blue. Where hardly any of it is, and blue varies more
#: than red, they are exchanged. Share of pixels that must be bare ground to say so.
SOIL, REDDER, VARIES = 0.05, 0.1, 0.8


def swapped(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Bands whose spectra fit other names; only for reflectance, and where there is land to see."""
    for s in facts.spectra:
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
            yield found(
                "bands-swapped",
                facts.row,
                "pair",
                s.path,
                f"looks as if the band called {names[odd]} were near infrared: it is the brightest "
                f"and follows the others by r {others[odd]:.2f}, they one another by {inner:.2f}",
                float(others[odd]),
            )
        # Haze makes the top of the atmosphere bluer than the ground.
        ground = s.sensor is None or "l1c" not in s.sensor
        ratio = s.spread[s.at("red")] / max(s.spread[s.at("blue")], 1e-12)
        if ground and s.soil > SOIL and s.soil_red < REDDER and ratio < VARIES:
            yield found(
                "bands-swapped",
                facts.row,
                "pair",
                s.path,
                f"looks as if red and blue were swapped: of the bare ground only {s.soil_red:.0%} "
                f"is brighter in red than in blue, and red varies {ratio:.2f} times as much",
                s.soil_red,
            )


#: The floor of every visible band lies just above the offset, 0.1, by no more than what haze and
#: shadow add, and about equally high. Ground alone has no such floor: shadow and water are darker,
#: and sand is far brighter in red than in blue.
FLOOR, ROOM, LEVEL = 0.094, 0.16, 0.03
#: A scene whose darkest visible band has a median above this is cloud, snow or ice: nothing dark.
BRIGHT = 0.3
#: A hundredth of the pixels below this reflectance: corrected water is slightly negative, no more.
NEGATIVE = -0.03


def offsets(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Sentinel-2's BOA_ADD_OFFSET and RADIO_ADD_OFFSET of -1000, forgotten or applied twice."""
    for s in facts.spectra:
        seen = [s.at(b) for b in VISIBLE if b in s.bands]
        sentinel = s.sensor is None or s.sensor.startswith(("sentinel-2", "reflectance"))
        if s.unit != REFLECTANCE or s.n < 1024 or not sentinel or len(seen) < 3:
            continue
        if not np.isclose(s.scale, 1e-4):
            continue
        floors = [s.floor[i] for i in seen]
        dark = min(s.median[i] for i in seen) < BRIGHT
        level = max(floors) - min(floors) < LEVEL
        inside = all(FLOOR < f < ROOM for f in floors)
        if s.offset == 0 and inside and level and dark:
            yield found(
                "offset-undeclared",
                facts.row,
                "pair",
                s.path,
                f"looks as if the offset of -0.1 were not declared: the darkest pixels have "
                f"{min(floors):.3f} to {max(floors):.3f} in red, green and blue",
                min(floors),
            )
        low = min(s.first[i] for i in seen)
        if s.offset < 0 and low < NEGATIVE:
            yield found(
                "offset-twice",
                facts.row,
                "pair",
                s.path,
                f"looks as if the offset of {s.offset:g} had been taken off before: a hundredth of "
                f"the pixels is below {low:.3f}",
                low,
            )


#: A measured band has no step at its upper end; a stretched picture is cut off there.
CLIPPED = 0.02


def display_numbers(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Numbers of a picture under a sensor that measures."""
    if facts.blank > BLANK or any(side.single > HALF for _, side in _sides(facts)):
        return  # most pixels at one number: found as empty
    for s in facts.spectra:
        if s.unit != REFLECTANCE or s.n < 1024:
            continue
        wide = s.dtype != "uint8"
        eight = wide and all(n <= 256 for n in s.steps) and _grid_of_255(s)
        if eight:
            yield found(
                "display-numbers",
                facts.row,
                "pair",
                s.path,
                f"looks like an 8-bit picture: at most {max(s.steps)} different numbers, up to "
                f"{max(s.top):g}, in {s.dtype}",
            )
        elif len(s.bands) > 1 and all(c > CLIPPED for c in s.clipped):
            yield found(
                "display-numbers",
                facts.row,
                "pair",
                s.path,
                f"looks like a stretched picture: {min(s.clipped):.0%} or more of each band is at "
                f"its largest number",
                min(s.clipped),
            )


def _grid_of_255(s: Spectra) -> bool:
    """Whole numbers up to 255, or 0 to 1 in steps of 1/255."""
    top = max(s.top)
    return UPPER_HALF < top <= EIGHT_BITS or (s.dtype.startswith("float") and 0.5 < top <= 1.0)


def _sides(facts: Facts) -> Iterator[tuple[str, Side]]:
    """The sides that have facts of their own: one, where both are the same bands of one file."""
    one, two = facts.source, facts.target
    if one is not None:
        yield "source", one
    if two is not None and (one is None or (one.path, one.bands) != (two.path, two.bands)):
        yield "target", two


def _stored(side: Side) -> str:
    return " ".join(f"{v:g}" for v in side.common[:4]) + (" ..." if len(side.common) > 4 else "")


RULES: tuple[Rule, ...] = (
    refused,
    shapes,
    misregistered,
    empty,
    two_scalings,
    out_of_range,
    swapped,
    offsets,
    display_numbers,
)
