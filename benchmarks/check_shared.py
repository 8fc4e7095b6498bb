"""`crossband data check` over the real images, without telling it where the traps are.

    python benchmarks/check_shared.py [--data FOLDER] [--json FILE] [--doc docs/data-check.md]

The manifests are what a user would write who knows only the sensor: no offsets, no stretches, and
a random split of the files. `TRAPS` lists the known faults of the files, from SOURCES.md of that
folder; the script compares them with the findings. A second table has errors added on purpose.
`--doc` writes the page on `data check`, with the numbers of this run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from check_doc import page

from crossband.data.check import Report, check
from crossband.data.check.bands import Bands

DATA = Path(os.environ.get("CROSSBAND_DATA", Path(__file__).parents[2] / "shared" / "data"))
RGB = ("red", "green", "blue")
#: In SOURCES.md: neighbouring files show neighbouring ground or frames of one drive, without
#: saying which; a finding between them is none on a file without a listed trap.
NEIGHBOURS = ("roadscene", "ombria")


@dataclass(frozen=True)
class Trap:
    """What SOURCES.md says of some files: `kind` must be found on each of `files`.

    `together`: the files are of one place, and the finding must join two of them that the random
    split put on two sides.
    """

    name: str
    kind: str
    files: tuple[str, ...]
    together: bool = False


def satellite(data: Path) -> pd.DataFrame:
    """Read the list of satellite files and declare what a user knows who has only the product."""
    table = pd.read_csv(data / "rgb2nir/satellite/manifest.csv")
    rows = []
    for item in table.to_dict("records"):
        sensor, dtype, scaling = str(item["sensor"]), item["dtype"], str(item["scale"])
        own: dict[str, Any] = {"scale": None}
        if dtype == "uint8":
            name = "naip" if sensor.startswith("NAIP") else "display"
        elif "DN" in scaling:
            name, own["scale"] = "display", 1 / (255 if "uint8" in scaling else 2047)
        elif "L1C" in sensor:
            name = "sentinel-2-l1c-no-offset"
        elif sensor.startswith("Sentinel-2"):
            name = "sentinel-2-l2a-no-offset"
        else:
            name = "hls"
        path = str(data / "rgb2nir/satellite" / item["file"])
        bands = {c: int(item[c]) for c in (*RGB, "nir")}
        rows.append(
            {
                "source": path,
                "target": path,
                "sensor": name,
                **own,
                "source_bands": ",".join(f"{b}={bands[b]}" for b in RGB),
                "target_bands": f"nir={bands['nir']}",
            }
        )
    return pd.DataFrame(rows)


def pairs(data: Path, source: str, target: str, rename: Callable[[str], str] = str) -> pd.DataFrame:
    """Pair the files of two folders by name."""
    rows = []
    for path in sorted(p for p in (data / source).rglob("*") if p.suffix in _PICTURES):
        other = data / target / rename(str(path.relative_to(data / source)))
        if other.is_file():
            rows.append({"source": str(path), "target": str(other)})
    return pd.DataFrame(rows)


_PICTURES = (".jpg", ".png", ".tif")


def tables(data: Path) -> Iterator[tuple[str, pd.DataFrame, Bands]]:
    """Yield name, manifest and bands of everything that there is."""
    sat = satellite(data)
    unnamed = sat.drop(columns=["source_bands", "target_bands"])
    yield "satellite, bands from the files", unnamed, Bands(RGB, ("nir",))
    yield "satellite", sat, Bands()
    camera = {"sensor": "display", "target_sensor": "display", "target_bands": "nir=1"}
    yield "ground_epfl", pairs(data, "rgb2nir/ground_epfl/rgb", "rgb2nir/ground_epfl/nir").assign(**camera), Bands(RGB)  # fmt: skip  # noqa: E501
    thermal = {"sensor": "display", "target_sensor": "display", "target_bands": "thermal=1"}
    folder = "rgb2thermal/roadscene"
    for name, visible in (("roadscene", "RGB"), ("roadscene, RGB_hr", "RGB_hr")):
        parts = [pairs(data, f"{folder}/{p}/{visible}", f"{folder}/{p}/thermal_8_bit") for p in ("train", "val")]  # fmt: skip  # noqa: E501
        yield name, pd.concat(parts, ignore_index=True).assign(**thermal), Bands(RGB)
    for name, one, two in (
        ("msrs", "vi", "ir"),
        ("llvip", "visible", "infrared"),
        ("m3fd", "Vis", "Ir"),
        ("vifb", "VI", "IR"),
    ):
        table = pairs(data, f"rgb2thermal/{name}/{one}", f"rgb2thermal/{name}/{two}")
        yield name, table.assign(**thermal), Bands(RGB)
    radar = {"sensor": "display", "target_sensor": "display", "source_bands": "vv=1"}
    for name in ("ombria", "sih1733_scenes"):
        folder = f"sar2optical/{name}"
        table = pairs(data, f"{folder}/s1", f"{folder}/s2", lambda n: n.replace("_s1", "_s2"))
        yield name, table.assign(**radar), Bands(None, RGB)
    for name in ("terramesh_geo", "bigearthnet_geo"):
        table = pairs(data, f"sar2optical/{name}/s1", f"sar2optical/{name}/s2").assign(
            sensor="sentinel-1-grd-db",
            target_sensor="sentinel-2-l2a-no-offset",
            source_bands="vv=1,vh=2",
        )
        yield name, table, Bands(None, (*RGB, "nir"))
    yield "super-resolution", pictures(data), Bands(None, RGB)


def pictures(data: Path) -> pd.DataFrame:
    """The sets of super-resolution as they are used: two to train on, one to watch, three to test.

    The source is made from the target, so there is none.
    """
    sets = {"T91": "train", "BSDS200_train": "train", "Set5": "val"}
    sets |= dict.fromkeys(("Set14", "BSD100", "Urban100_part"), "test")
    rows = [
        {"source": None, "target": str(path), "split": split}
        for name, split in sets.items()
        for path in sorted((data / "super-resolution" / name).iterdir())
        if path.suffix in _PICTURES
    ]
    return pd.DataFrame(rows).assign(sensor="display", degradation="bicubic")


def shuffled(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Split at random, file by file, as is done too often: 70 % to train on, 15 and 15 %."""
    if "split" in table.columns:
        return table
    order = np.random.default_rng(seed).permutation(len(table))
    share = order / len(table)
    names = np.where(share < 0.7, "train", np.where(share < 0.85, "val", "test"))
    return table.assign(split=names)


def traps(data: Path) -> list[Trap]:
    """What SOURCES.md and its neighbours say, and nothing that was found by looking."""
    listed = pd.read_csv(data / "rgb2nir/satellite/manifest.csv")
    files = [str(f) for f in listed["file"]]

    def named(pattern: str) -> tuple[str, ...]:
        return tuple(f for f in files if re.search(pattern, f))

    shifted = tuple(str(f) for f in listed.loc[listed["boa_add_offset"] == -1000, "file"])
    out = [
        Trap("12 unnamed bands", "bands-unnamed", named(r"satclip_(445|252161|322265)\.")),
        Trap("8-bit red beside 16-bit NIR", "two-scalings", named("california")),
        Trap("stretched by an exporter", "out-of-range", named("aquileia|sundarbans|madagascar")),
        Trap("half nodata", "nodata-heavy", named("rotterdam_ms2")),
        Trap("255 outside a polygon", "nodata-heavy", named("north-carolina")),
        Trap("offset +1000 not in the file", "offset-undeclared", shifted),
        Trap(
            "RGB_hr: other size and aspect ratio",
            "shape-mismatch",
            tuple(sorted({p.name for p in (data / "rgb2thermal/roadscene").rglob("RGB_hr/*")})),
        ),
        Trap("grey picture among colour", "bands-unnamed", ("bridge.png",)),
    ]
    places = {m.group(1): named(m.group(1)) for f in files if (m := re.match(_PLACE, f))}
    places |= {
        str(place): tuple(map(str, part["file"]))
        for place, part in listed[listed["file"].str.contains("waterchip")].groupby("place")
    }
    llvip = tuple(sorted(p.name for p in (data / "rgb2thermal/llvip/visible").rglob("*.jpg")))
    places["llvip (one camera)"] = llvip
    for place, members in sorted(places.items()):
        if len(members) > 1:
            out.append(Trap(f"one place: {place}", "place-on-two-sides", members, True))
    return out


_PLACE = r"(s2_earthnet_\w+_\d+_\d+|naip_wv_\w+_\d|naip_nd_m4709963se|s2_l2a_ftw-austria)_"


def run(data: Path, folder: Path) -> dict[str, Report]:
    """Check everything; one report for each manifest."""
    out = {}
    for name, table, bands in tables(data):
        if table.empty:
            continue
        path = folder / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.csv"
        shuffled(table).to_csv(path, index=False)
        out[name] = check(path, bands=bands)
        print(f"{name}: {len(table)} rows, {out[name].seconds:.1f} s, {out[name].counts}")
    return out


def judged(reports: dict[str, Report], listed: list[Trap]) -> dict[str, Any]:
    """Compare what was found with what is listed."""
    met: list[dict[str, Any]] = []
    explained: set[tuple[str, int]] = set()
    for trap in listed:
        wanted, got = _expected(reports, trap), set()
        for name, report in reports.items():
            files = files_of(report)
            for n, finding in enumerate(report.findings):
                mine = {files[r] for r in finding.rows} & set(trap.files)
                same = finding.kind == trap.kind or (
                    trap.together and finding.kind in ("place-on-two-sides", "copy-on-two-sides")
                )
                if same and len(mine) > trap.together:
                    got |= mine
                    explained.add((name, n))
        if wanted:
            met.append(
                {
                    "trap": trap.name,
                    "kind": trap.kind,
                    "files": len(wanted),
                    "found": len(got & wanted),
                    "missed": sorted(wanted - got),
                }
            )
    # A file with a trap may have others in its wake; what is counted is files without any.
    trapped = {f for trap in listed if not trap.together for f in trap.files}
    others = []
    for name, report in reports.items():
        files = files_of(report)
        for n, finding in enumerate(report.findings):
            mine = {files[r] for r in finding.rows}
            if (name, n) in explained or (finding.side != "split" and mine <= trapped):
                continue
            others.append(
                {
                    "manifest": name,
                    "kind": finding.kind,
                    "severity": finding.severity,
                    "files": sorted(mine),
                    "text": finding.text,
                    "neighbours": name in NEIGHBOURS and finding.side == "split",
                }
            )
    return {"traps": met, "others": others}


def files_of(report: Report) -> dict[int, str]:
    """Row number -> name of its file."""
    table = report.table
    names = table["source"].where(table["source"].notna(), table["target"])
    return {int(r): Path(n).name for r, n in zip(table["row"], names, strict=True)}


def _expected(reports: dict[str, Report], trap: Trap) -> set[str]:
    """Return the files that the trap must be found on: of a place, where the split cuts it."""
    out: set[str] = set()
    for report in reports.values():
        files = files_of(report)
        split = dict(zip(report.table["row"], report.table["split"], strict=True))
        here = {r: f for r, f in files.items() if f in trap.files}
        if not trap.together or len({split[r] for r in here}) > 1:
            out |= set(here.values())
    return out


def on_purpose(data: Path, folder: Path) -> list[dict[str, Any]]:
    """Put errors into the manifest of the satellite files; how many rows are told?"""
    good = satellite(data).assign(split="train")
    names = [Path(p).name for p in good["source"]]
    listed = traps(data)
    trapped = {f for trap in listed if not trap.together for f in trap.files}
    plain = good[[n not in trapped for n in names]]
    measured = plain[plain["sensor"].str.contains("sentinel-2|hls")]
    sentinel = plain[plain["sensor"].str.startswith("sentinel-2")]

    def swap(table: pd.DataFrame, one: str, two: str) -> pd.DataFrame:
        def names(text: str) -> str:
            return text.replace(one, "?").replace(two, one).replace("?", two)

        bands = (table["source_bands"] + ";" + table["target_bands"]).map(names)
        split = [_sides(text) for text in bands]
        return table.assign(source_bands=[s for s, _ in split], target_bands=[t for _, t in split])

    cases = (
        ("red and blue swapped", "bands-swapped", swap(measured, "red", "blue")),
        ("NIR and red swapped", "bands-swapped", swap(measured, "red", "nir")),
        ("NIR and green swapped", "bands-swapped", swap(measured, "green", "nir")),
        ("NIR and blue swapped", "bands-swapped", swap(measured, "blue", "nir")),
        ("offset declared, but not in the file", "offset-twice", sentinel.assign(
            sensor=[s.replace("-no-offset", "") for s in sentinel["sensor"]])),
    )  # fmt: skip
    out = []
    for name, kind, table in cases:
        path = folder / "purpose.csv"
        table.to_csv(path, index=False)
        report = check(path)
        told = {r for f in report.findings if f.kind == kind for r in f.rows}
        out.append({"error": name, "kind": kind, "rows": len(table), "told": len(told)})
        print(out[-1])
    return out


def _sides(text: str) -> tuple[str, str]:
    """Sort `name=number` of both sides: NIR is the target, all else the source."""
    parts = text.replace(";", ",").split(",")
    target = [p for p in parts if p.startswith("nir=")]
    return ",".join(p for p in parts if p not in target), ",".join(target)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--doc", type=Path, help="write the page on `data check`")
    a = parser.parse_args()
    if not a.data.is_dir():
        raise SystemExit(f"{a.data}: no such folder; set CROSSBAND_DATA or give --data")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        reports = run(a.data, Path(temporary))
        record: dict[str, Any] = {
            "manifests": {
                name: {
                    "rows": len(r.table),
                    "files": r.files,
                    "seconds": round(r.seconds, 1),
                    "counts": r.counts,
                }
                for name, r in reports.items()
            },
            **judged(reports, traps(a.data)),
            "on_purpose": on_purpose(a.data, Path(temporary)),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "seconds": round(time.monotonic() - start),
        }
    for trap in record["traps"]:
        missed = f"  MISSED: {', '.join(trap['missed'])}" if trap["missed"] else ""
        print(f"{trap['found']:3} of {trap['files']:3}  {trap['trap']} ({trap['kind']}){missed}")
    for other in record["others"]:
        print(f"not listed: {other['manifest']}: {other['kind']}: {', '.join(other['files'][:4])}"
              f"  {other['text']}")  # fmt: skip
    if a.json:
        a.json.write_text(json.dumps(record, indent=1) + "\n")
    if a.doc:
        a.doc.write_text(page(record))


if __name__ == "__main__":
    main()
