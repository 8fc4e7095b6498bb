"""The page docs/data-check.md, with the numbers of a run of `check_shared.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crossband.data import unit_suspicions
from crossband.data.check import KINDS, across_rows, edge_patterns, registration, rules

INTRO = """# What is wrong with my pairs? `crossband data check`

Written by `python benchmarks/check_shared.py --doc docs/data-check.md`.

    crossband data check pairs.parquet [-o REPORT.html] [--json FILE] [--fix clean.parquet]

The command opens every file of a manifest as training would, and reads every block once. It reports
what is wrong. It changes and deletes nothing, and it does not guess.

- A **finding** is an error whatever the image shows.
- A **suspicion** depends on what land usually looks like. Its text says "looks as if", and you
  decide whether it is an error.

Clouds, water, ice and desert are not reported.

| exit code | meaning |
|---|---|
| 0 | no findings; there may be suspicions |
| 1 | findings |
| 2 | an error, for example a manifest that does not exist |

`--ignore KIND` leaves out a kind, for example in a script.

The bands of source and target come from `--source red,green,blue --target nir`. Without these
options they come from the columns `source_bands` and `target_bands`, then from the band names in
the files, their colour interpretation, or the band order of the declared sensor. Where one file is
both source and target and only one side has its bands named, the other side gets the remaining
bands.

`--fix` writes a new manifest:

- It leaves out rows that training cannot use (column "left out by --fix" below).
- Of several rows with the same pair it keeps one: the one in test, else the one in val.
- It keeps rows of one place on two sides of a split. Leaving images out is not the remedy: give one
  place one group and split again (`crossband data split`).
- It keeps rows with much declared nodata, because training masks these pixels.
- It keeps rows that have suspicions only.

`-o` writes one HTML file that loads nothing from the network. It has a sortable table of all
findings and suspicions, with pictures of the first {pictured} of each kind. `--json` writes the
same for programs (schema `crossband-check-1`).
"""

WHY = {
    "unreadable": "A block of the part that the row names cannot be decoded. This includes a file "
    "that crashes the process that reads it; the check of the other rows continues.",
    "column-unknown": "A column has no name of a manifest, is much like one (also "
    "with `src_` or `tgt_`), and that one is not there. It would be kept and not read.",
    "bands-unnamed": "The reader of training data cannot identify the bands. Its message is shown.",
    "bands-named-otherwise": "A row gives a band by its number, and the file's name of that band "
    "means another one in the declared sensor, or in every sensor that has all names of the file.",
    "unit-unknown": "No sensor, scale or unit is declared, or the sensor has no scale for the "
    "file's data type. The message of the reader of training data is shown.",
    "shape-mismatch": "The number of target pixels per source pixel is not one whole number that "
    "holds along both sides.",
    "misregistered": "The target is shifted against the source by more than {SAME:g} source pixel "
    "between bands of one instrument, or by more than {OTHER:g} between two instruments. "
    "`--max-shift` replaces both limits. Manufacturers promise half a pixel, and the measurement "
    "adds up to half a pixel over clouds and water. Two instruments differ by parallax, by "
    "layover, or by seconds between two exposures. The shift is measured by phase correlation of "
    "gradient magnitudes in up to {blocks} blocks of {low} to {high} pixels. A block is used if "
    "its peak is {PEAK:g} standard deviations above the mean of the other values; in pure noise "
    "the largest of so many values is 3.2 to 4.0 above. At least {AGREE} blocks, and half of the "
    "blocks that are used, must agree within {CLOSE:g} pixel; otherwise nothing is reported. The "
    "median shift must exceed the limit by two standard errors. Georeferences that differ by more "
    "than {GRID:g} source pixel are reported, too.",
    "guide": "The guide cannot be opened with the bands of the target, has another unit, or no "
    "valid pixel where the pair lies; or one of both has no georeference.",
    "empty": "A band has one value everywhere; or more than {HALF:.0%} of a side has one value; "
    "or in more than {BLANK:.0%} of a pair both sides have their most frequent value. A white sky "
    "fills the image of one camera, not of both. Or more than {NOTHING:.0%} of a side is declared "
    "nodata.",
    "nodata-heavy": "More than {MASKED:.0%} is declared nodata: one crop in four would be empty. "
    "Above {NOTHING:.0%} the kind is `empty`.",
    "two-scalings": "Bands share one declared scale, but some never exceed {EIGHT_BITS} (and do "
    "exceed {UPPER_HALF}), while half of another band's values are above {LAND}. At a scale of "
    "1e-4 this is reflectance below 0.0255 in the whole scene, which is not land, beside a median "
    "above 0.1, which is land. Bands of different data types in one file are reported, too.",
    "out-of-range": "More than {OUTSIDE:.1%} of the values are outside the range of the unit "
    "(reflectance 0 to 2, decibels -60 to 40, kelvin 0 to 500, display 0 to 1) by more than a "
    "tenth of that range. Sun glint, fire and sunlit snow affect fewer pixels.",
    "duplicate": "Source and target have the same values as those of another row (by a hash of "
    "all values). One source with several targets is not a duplicate.",
    "group-on-two-sides": "Rows of one group, by the manifest's own columns, are on two sides of "
    "the split.",
    "place-on-two-sides": "Rows of different groups have footprints that share {SHARED:.0%} of "
    "the smaller one (tiles of one survey overlap at their margins), or have edges that correlate "
    "by {PLACE:g} on a grid of 64 x 64 cells. The edges of unrelated images correlate by a few "
    "hundredths. The tables below show what this threshold finds and misses.",
    "copy-on-two-sides": "The same correlation is {COPY:g} or more, also for turned and mirrored "
    "images. This finds crops, resized copies, and dates of one place that hardly differ.",
    "one-group": "The manifest has several rows, no column `split` or `fold`, and one group. "
    "Training holds out whole groups, and refuses it.",
    "bands-swapped": "Reflectance only. NIR: a band that is not called nir correlates with the "
    "other three by less than {APART:g} and is {BRIGHTER:g} times as bright, and the other three "
    "correlate with each other by more than {TOGETHER:g}. Red and blue: at least {SOIL:.0%} of "
    "the pixels are bare ground, less than {REDDER:.0%} of these are brighter in red than in "
    "blue, and red varies less than {VARIES:g} times as much as blue. Red and blue are not tested "
    "at the top of the atmosphere, where haze makes the ground bluer.",
    "offset-undeclared": "Sentinel-2 with scale 1e-4 and no offset. The 0.1th percentiles of red, "
    "green and blue are all between {FLOOR:g} and {ROOM:g} and within {LEVEL:g} of each other, "
    "and the darkest visible band has a median below {BRIGHT:g}. Sand has no dark pixels either, "
    "but is far brighter in red than in blue. In brighter scenes, cloud and snow hide the ground.",
    "offset-twice": "An offset is declared, and the 1st percentile of a visible band is below "
    "{NEGATIVE:g}. Atmospherically corrected water is only slightly negative.",
    "display-numbers": "Declared reflectance has at most 256 different values up to 255 or 1; or "
    "more than {CLIPPED:.0%} of every band is at its largest value, as after a contrast stretch "
    "that clips.",
    "measurement-as-display": "Declared display in 16 bits, and no value is above {DARK:.0%} of "
    "the range: reflectance times 10,000 reaches 15%.",
}


def page(record: Mapping[str, Any]) -> str:
    """Return the page."""
    from crossband.data.check.page import PICTURED

    modules = registration, edge_patterns, across_rows, rules, unit_suspicions
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
        _table(("kind", "severity", "left out by --fix", "reported when"), rows),
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
            "The images are those of the project's test data (described in its data/SOURCES.md). "
            "The manifests are what a user would write who knows only the sensor: no offsets, no "
            "stretches, and a random split of the files. The two satellite manifests have the same "
            "files, without and with band numbers.\n",
            f"{total} files in {seconds:.0f} s ({total / seconds:.0f} files/s; "
            f"{record['machine']}, shared with other work). Measuring the shift of pairs takes "
            f"most of the time.\n",
            _table(("manifest", "rows", "files/s", "reported"), rows),
            "\nKnown faults that SOURCES.md lists, and places that the random split divides:\n",
            _table(("known fault", "kind", "files found", "missed"), traps),
            f"\nFindings and suspicions on files without a known fault: {len(others)}. Of these, "
            f"{severe} are findings that are not between neighbours of one drive or event:\n",
            _table(("manifest", "kind", "files", "listed as"), others),
            "\nErrors added on purpose to the manifest of the satellite files without a known "
            "fault:\n",
            _table(("error", "kind", "rows found"), purpose),
            NOTES,
        ]
    )


NOTES = """
What the tables show:

- The missed places of `naip_wv` are woodland in two years. Hardly any edge is the same in both,
  and the files have no georeference. Files that overlap only in part and have no georeference
  (`hls_sr_waterchip`, tiles of `ombria`, frames of `roadscene` some seconds apart) are not found
  either. Give such files one group.
- `worldview2_pansharp-sample.tif` calls its bands nir1 and nir2. You must say which of them is nir.
- `t36.png` and `t65.png` of T91 have the same values. `woman.png` of Set5 is a crop of 302003.jpg
  of BSDS, which is training data. `head.png` of Set5 and `face.png` of Set14 are the same
  photograph.
- False colour under the names red, green and blue (`ombria`) is not found, because there is no NIR
  band to compare with.
- Swapped bands are found only where vegetation or bare ground shows them.
"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
