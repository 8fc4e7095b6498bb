"""The page docs/data-check.md, with the numbers of a run of `check_shared.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crossband.data.check import KINDS, across_rows, edge_patterns, registration, rules

INTRO = """# `crossband data check`

Written by `python benchmarks/check_shared.py --doc docs/data-check.md`.

    crossband data check pairs.parquet [-o REPORT.html] [--json FILE] [--fix clean.parquet]

opens every file of a manifest as training would, reads every block once, and reports what is wrong.
Nothing is changed, deleted or guessed. A **finding** is wrong whatever the picture shows. A
**suspicion** rests on what ground usually looks like, says "looks as if", and is for you to judge.
Clouds, water, ice and desert are no findings.

Exit codes: 0 no findings (there may be suspicions), 1 findings, 2 an error, as a manifest that is
not there. `--ignore KIND` leaves a kind out, for a check that runs by itself.

Which bands are source and target: `--source red,green,blue --target nir`, else the columns
`source_bands` and `target_bands`, else the names in the files, their colour interpretation, or the
order of the declared sensor. Where one file is both, one side has the bands that the other leaves.

`--fix` writes the manifest without the rows whose findings make them useless (column "left out"
below), and keeps one of several rows that are the same pair: that of test, else of val. It leaves
alone what is between two sides of a split, because the cure is not to throw pictures away but to
give one place one group and to split again (`crossband data split`), and nodata that is declared,
because it is masked. Suspicions never leave a row out.

`-o` writes one HTML file that fetches nothing: every finding, sortable, with pictures of the first
{pictured} of each kind. `--json` has the same for programs (schema `crossband-check-1`).
"""

WHY = {
    "unreadable": "Every block of the part that a row names is decoded. A file that kills the "
    "process that reads it is one too; the other rows go on.",
    "bands-unnamed": "What the reader of training says when it cannot tell the bands.",
    "unit-unknown": "What the reader says when no sensor, scale or unit is declared, or the sensor "
    "has no scale for the file's data type.",
    "shape-mismatch": "Target pixels to a source pixel must be one whole number along both sides.",
    "misregistered": "More than {SAME:g} source pixel between bands of one radiometry (makers "
    "promise half a pixel; the measurement adds up to half over clouds and water), {OTHER:g} "
    "between two instruments (parallax, layover, seconds between two shots), or `--max-shift`. "
    "Phase correlation of gradient magnitudes in up to {blocks} blocks of {low} to {high} pixels. "
    "A block counts where its peak is {PEAK:g} standard deviations above the rest (of so many "
    "values of noise the largest is 3.2 to 4.0 above); {AGREE} blocks and half of those that "
    "count must agree within {CLOSE:g} pixel, else nothing is said. The median must be above "
    "the limit by two standard errors. A georeference that differs by more than {GRID:g} "
    "source pixel counts too.",
    "empty": "One number everywhere in a band; or more than {HALF:.0%} of a side at one value; or "
    "more than {BLANK:.0%} of a pair where both sides hold their one commonest value: a white sky "
    "fills one camera's picture, not both.",
    "nodata-heavy": "More than {MASKED:.0%} declared nodata: one crop in four would be of nothing. "
    "Above {NOTHING:.0%} it is `empty`.",
    "two-scalings": "Bands with one declared scale of which some never pass {EIGHT_BITS} (and pass "
    "{UPPER_HALF}), while half of another's numbers are above {LAND}: reflectance that stays below "
    "0.0255 in a whole scene is no land, and above 0.1 there is some. Also bands of different "
    "data types in one file.",
    "out-of-range": "More than {OUTSIDE:.1%} of the values beyond the range of the unit "
    "(reflectance 0 to 2, decibels -60 to 40, kelvin 0 to 500, display 0 to 1) by more than a "
    "tenth of it. Glint, fire and sunlit snow are fewer.",
    "duplicate": "Source and target hold the same numbers as those of another row (hash of all of "
    "them). One source may have several targets.",
    "group-on-two-sides": "As the manifest's own columns say.",
    "place-on-two-sides": "Rows of different groups whose footprints share {SHARED:.0%} of the "
    "smaller one (tiles of a survey overlap at their margins), or whose edges on 64 x 64 cells "
    "correlate by {PLACE:g}. That of unrelated pictures is a few hundredths; what such a threshold "
    "finds and misses is below.",
    "copy-on-two-sides": "The same correlation at {COPY:g} or more, turned and mirrored as well: "
    "crops and resized copies, and dates of one place that hardly differ.",
    "bands-swapped": "Reflectance only. NIR: a band that is not called nir follows the others by "
    "less than r {APART:g}, is {BRIGHTER:g} times as bright, and they follow one another by "
    "{TOGETHER:g}. Red and blue (not at the top of the atmosphere, where haze is blue): at least "
    "{SOIL:.0%} bare ground, of which less than {REDDER:.0%} is redder than blue, and red varies "
    "less than {VARIES:g} times as much as blue.",
    "offset-undeclared": "Sentinel-2 with scale 1e-4 and no offset: the darkest thousandth of red, "
    "green and blue all lies between {FLOOR:g} and {ROOM:g} and within {LEVEL:g} of each other "
    "(sand has no dark pixels either, but is far brighter in red than in blue), in a scene "
    "whose darkest visible band has a median below {BRIGHT:g} (else cloud and snow "
    "hide the ground).",
    "offset-twice": "An offset is declared, and a hundredth of the pixels of a visible band is "
    "below {NEGATIVE:g}; corrected water is slightly negative, no more.",
    "display-numbers": "Declared reflectance with at most 256 different numbers up to 255 or 1; or "
    "more than {CLIPPED:.0%} of every band at its largest number, as a stretch cuts it off.",
}


def page(record: Mapping[str, Any]) -> str:
    """Return the page."""
    from crossband.data.check.page import PICTURED

    modules = registration, edge_patterns, across_rows, rules
    numbers = {
        **{k: v for m in modules for k, v in vars(m).items() if k.isupper()},
        "blocks": registration.ALONG**2,
        "low": registration.BLOCK[0],
        "high": registration.BLOCK[1],
    }
    rows = [
        (k.name, k.severity, "yes" if k.drops_row else "", WHY[k.name].format(**numbers))
        for k in KINDS.values()
    ]
    parts = [
        INTRO.replace("{pictured}", str(PICTURED)),
        "## Kinds, thresholds and why\n",
        _table(("kind", "", "left out", "when"), rows),
        _measured(record),
    ]
    return "\n".join(parts)


def _measured(record: Mapping[str, Any]) -> str:
    manifests = record["manifests"]
    rows = [
        (
            name,
            str(m["rows"]),
            f"{m['files'] / max(m['seconds'], 0.1):.0f}",
            "; ".join(f"{n} {k}" for k, n in m["counts"].items()) or "nothing",
        )
        for name, m in manifests.items()
    ]
    total = sum(m["files"] for m in manifests.values())
    seconds = sum(m["seconds"] for m in manifests.values())
    traps = [
        (t["trap"], t["kind"], f"{t['found']} of {t['files']}", ", ".join(t["missed"]))
        for t in record["traps"]
    ]
    others = [
        (
            o["manifest"],
            o["kind"],
            ", ".join(o["files"][:4]),
            "frames or tiles beside each other" if o["neighbours"] else "",
        )
        for o in record["others"]
    ]
    severe = sum(o["severity"] == "finding" and not o["neighbours"] for o in record["others"])
    purpose = [(c["error"], c["kind"], f"{c['told']} of {c['rows']}") for c in record["on_purpose"]]
    return "\n".join(
        [
            "\n## On real images\n",
            "The images that lie beside the project (data/SOURCES.md there), in manifests as a "
            "user would make them who knows the sensor and nothing else: no offsets, no stretches, "
            "a random split of the files. The two satellite manifests are the same files, without "
            "and with band numbers.\n",
            f"{total} files in {seconds:.0f} s ({total / seconds:.0f} files/s; "
            f"{record['machine']}, shared with other work; most of the time goes into the "
            f"registration of pairs).\n",
            _table(("manifest", "rows", "files/s", "reported"), rows),
            "\nWhat SOURCES.md lists as a trap, and a place that the random split cuts:\n",
            _table(("trap", "kind", "files found", "missed"), traps),
            f"\nFindings and suspicions on files without a listed trap: {len(others)}, of which "
            f"{severe} findings are not between neighbours of one drive or event:\n",
            _table(("manifest", "kind", "files", "listed as"), others),
            "\nErrors put into the manifest of the satellite files without a listed trap:\n",
            _table(("error", "kind", "told"), purpose),
            NOTES,
        ]
    )


NOTES = """
What the lists show:

- The places of `naip_wv` that were missed have two years of woodland in which hardly an edge is the
  same, and no georeference. Files that only overlap in part and have none (`hls_sr_waterchip`,
  tiles of `ombria`, frames of `roadscene` some seconds apart) are not found either: give them one
  group.
- `worldview2_pansharp-sample.tif` calls its bands nir1 and nir2, so which is nir must be said.
- `t36.png` and `t65.png` of T91 hold the same numbers; `woman.png` of Set5 is cut from 302003.jpg
  of BSDS, which is trained on; `head.png` of Set5 and `face.png` of Set14 are one photograph.
- False colour under the names red, green and blue (`ombria`) is not noticed: there is no NIR band
  to compare with.
- Swapped bands are told where plants or bare ground show them, and nowhere else.
"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
