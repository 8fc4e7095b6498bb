"""`crossband data check`: each kind of finding where it must be, and a near miss where it must not.

Scenes are generated: fields of different brightness with soil and vegetation spectra.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from deadly import deadly
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from crossband.cli.main import main
from crossband.data import manifest, splits
from crossband.data.check import KINDS, Bands, Limits, check, run, usable_rows
from crossband.data.check import page as check_page
from crossband.data.check.edge_patterns import edge_pattern, similar_pairs
from crossband.data.check.registration import measure
from crossband.errors import CrossbandError, ManifestError
from crossband.raster.grid import Box

NAMES = ("red", "green", "blue", "nir")
SIZE = 160
SENSOR = "sentinel-2-l2a-no-offset"


def fields(seed=0, size=SIZE):
    """Patches of ground with sharp borders, 0 (soil) to 1 (plants), with fine texture; [n, n]."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, size, (60, 2))
    rows, cols = np.mgrid[:size, :size]
    nearest = np.argmin([(rows - r) ** 2 + (cols - c) ** 2 for r, c in points], axis=0)
    patches = rng.uniform(0, 1, 60)[nearest]
    return np.clip(patches + rng.normal(0, 0.03, patches.shape), 0, 1)


def reflectance(seed=0, size=SIZE):
    """float64 [4, n, n] of red, green, blue, nir: bare soil to plants, some of it in shadow."""
    plants = fields(seed, size)
    rng = np.random.default_rng(seed + 1000)
    light = 0.7 + 0.3 * fields(seed + 500, size)
    soil = np.array([0.24, 0.17, 0.11, 0.30])
    green = np.array([0.03, 0.06, 0.025, 0.42])
    out = soil[:, None, None] * (1 - plants) + green[:, None, None] * plants
    out = out * light + rng.normal(0, 0.002, out.shape)
    return np.clip(out, 0.005, None)


def stored(seed=0, size=SIZE):
    """uint16 [4, n, n], reflectance x 10000."""
    return np.round(reflectance(seed, size) * 1e4).astype(np.uint16)


@pytest.fixture
def scene(tmp_path):
    """Write a raster: values [C, H, W], names of bands, anything of the profile."""

    def make(name, values, names=NAMES, where=None, **profile):
        values = np.asarray(values)
        place = Affine(10, 0, 5e5 + 1e4 * (where or 0), 0, -10, 5e6)
        at = {} if where is None else {"crs": "EPSG:32633", "transform": place}
        shape = dict(zip(("count", "height", "width"), values.shape, strict=True))
        with rasterio.open(
            tmp_path / name, "w", driver="GTiff", dtype=values.dtype, **shape, **at, **profile
        ) as out:
            out.write(values)
            out.descriptions = names or (None,) * len(values)
        return name

    return make


@pytest.fixture
def pairs(tmp_path):
    """Write a manifest of rows (dicts); what they leave out is one Sentinel-2 file."""

    def make(*rows, **columns):
        table = pd.DataFrame([{"sensor": SENSOR, **r} for r in rows])
        if "target" not in table:
            table["target"] = table["source"]
        table["target"] = table["target"].where(table["target"].notna(), table["source"])
        table.assign(**columns).to_csv(tmp_path / "pairs.csv", index=False)
        return tmp_path / "pairs.csv"

    return make


@pytest.fixture
def found(scene, pairs):
    """Check one scene, or one of each of several values; the kinds that were found."""

    def make(values, row=None, **options):
        name = scene("one.tif", values, **options)
        return kinds(check(pairs({"source": name, **(row or {})})))

    return make


def kinds(report):
    return [f.kind for f in report.findings]


def pair(scene, pairs, source, target, **columns):
    """Check a pair of one-band files."""
    rows = {"source": scene("s.tif", source[None], ("red",))}
    rows["target"] = scene("t.tif", target[None], ("nir",))
    return check(pairs({**rows, "source_bands": "red=1", "target_bands": "nir=1", **columns}))


# One row: fires, and its near miss.


def test_a_good_pair_has_no_finding(found):
    assert found(stored()) == []


def test_unreadable(scene, pairs, tmp_path):
    good = scene("good.tif", stored())
    cut = scene("cut.tif", stored(1), compress="deflate")
    data = (tmp_path / cut).read_bytes()
    (tmp_path / cut).write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "text.tif").write_text("not a raster")
    rows = ({"source": n} for n in (good, cut, "empty.tif", "text.tif", "missing.tif"))
    report = check(pairs(*rows))
    assert [(f.kind, f.rows) for f in report.findings] == [
        ("unreadable", (n,)) for n in (2, 3, 4, 5)
    ]
    assert "no such file" in report.findings[-1].text
    assert "empty" in report.findings[1].text


def test_a_broken_block_far_inside_is_found(scene, pairs, tmp_path):
    """Every block is read: the header and the first rows are whole."""
    values = np.random.default_rng(0).integers(1, 9000, (1, 3000, 600)).astype(np.uint16)
    name = scene("long.tif", values, ("red",), compress="deflate", blockysize=64)
    assert kinds(check(pairs({"source": name}))) == []
    data = bytearray((tmp_path / name).read_bytes())
    with rasterio.open(tmp_path / name) as opened:
        at = int(opened.get_tag_item("BLOCK_OFFSET_0_44", "TIFF", bidx=1))
    data[at : at + 40] = bytes(40)
    (tmp_path / name).write_bytes(bytes(data))
    assert kinds(check(pairs({"source": name}))) == ["unreadable"]


def test_bands_unnamed(found, scene, pairs):
    assert found(stored(), names=None) == ["bands-unnamed"]
    assert found(stored(), {"source_bands": "red=1,green=2,blue=3,nir=4"}, names=None) == []
    path = pairs({"source": scene("one.tif", stored(), ("red", "green", "blue", "n"))})
    report = check(path, bands=Bands(("red", "green", "blue"), ("nir",)))
    assert kinds(report) == ["bands-unnamed"]
    assert "cannot tell which band is nir" in report.findings[0].text
    assert "--" not in report.findings[0].text  # options of another command


def test_unnamed_bands_beside_a_named_one_are_not_that_band(found):
    """Training asks for red, green, blue, and no column says which bands these are."""
    assert found(stored(), {"target_bands": "nir=4"}, names=None) == ["bands-unnamed"]
    assert found(stored(), {"target_bands": "nir=4"}) == []


def test_bands_that_the_file_names_otherwise(found, scene, pairs):
    names = ("B02", "B03", "B04", "B08")
    right, wrong = "red=3,green=2,blue=1", "red=1,green=2,blue=3"
    order = stored()[[2, 1, 0, 3]]
    assert found(order, {"source_bands": right, "target_bands": "nir=4"}, names=names) == []
    path = pairs({"source": scene("one.tif", order, names), "source_bands": wrong})
    texts = [f.text for f in check(path).findings if f.kind == "bands-named-otherwise"]
    assert texts == [
        "the column source_bands says red=1, and the file calls band 1 'B02' (blue)",
        "the column source_bands says blue=3, and the file calls band 3 'B04' (red)",
    ]


def test_rows_of_one_group_without_a_split(scene, pairs):
    rows = [{"source": scene(f"{n}.tif", stored(n))} for n in range(2)]
    assert kinds(check(pairs(*rows))) == []
    report = check(pairs(*rows, group="one"))
    assert kinds(report) == ["one-group"]
    with pytest.raises(ManifestError, match="single group"):
        splits.assign(report.table, 0.15, 0)
    assert kinds(check(pairs(*rows, group="one", split="train"))) == []
    assert kinds(check(pairs(rows[0]))) == []


def test_unit_unknown(found):
    assert found(stored(), {"sensor": None}) == ["unit-unknown"]
    assert found(stored(), {"sensor": "naip"}) == ["unit-unknown"]  # 8-bit only


def test_shape_mismatch(scene, pairs):
    one, two = reflectance()[0].astype("f4"), reflectance()[3].astype("f4")
    kind = {"sensor": "reflectance"}
    assert kinds(pair(scene, pairs, one, two[:-1], **kind)) == ["shape-mismatch"]
    assert kinds(pair(scene, pairs, one, two[:80, :80], **kind)) == ["shape-mismatch"]
    assert kinds(pair(scene, pairs, one[::2, ::2], two, **kind)) == []
    report = pair(scene, pairs, one, two[:-1], source_window="0,0,160,159", **kind)
    assert kinds(report) == []


def test_misregistered(scene, pairs):
    values = reflectance(size=200).astype("f4")
    one = values[0, 20:180, 20:180]
    kind = {"sensor": "reflectance"}
    moved = pair(scene, pairs, one, values[3, 17:177, 22:182], **kind)
    assert kinds(moved) == ["misregistered"]
    assert moved.findings[0].measure == pytest.approx(np.hypot(3, 2), abs=0.3)
    assert re.search(r"\+[23]\.\d rows and -[12]\.\d columns", moved.findings[0].text)
    close = values[3, 20:180, 20:180]
    assert kinds(pair(scene, pairs, one, close, **kind)) == []
    # Two instruments may be further apart, as long as the user does not say otherwise.
    two = {"target_sensor": "reflectance", **kind}
    path = pairs({"source": "s.tif", "target": "t.tif", **two})
    scene("t.tif", values[3:, 18:178, 20:180], ("nir",))
    assert kinds(check(path)) == []
    assert kinds(check(path, limits=Limits(shift=1.5))) == ["misregistered"]


def test_misregistered_by_georeference(scene, pairs):
    values = np.zeros((1, 80, 80), "f4") + np.linspace(0, 0.5, 80, dtype="f4")
    rows = {"source": scene("s.tif", values, ("red",), where=0), "sensor": "reflectance"}
    for offset, expected in ((0.0, []), (0.0004, []), (0.01, ["misregistered"])):
        rows["target"] = scene("t.tif", values[:, ::-1], ("nir",), where=offset)  # 10 km x offset
        assert kinds(check(pairs(rows))) == expected


def test_guides_that_say_nothing_about_their_row(scene, pairs):
    source = scene("one.tif", stored(), where=0)
    coarse = stored()[3:, ::8, ::8]
    guides = {
        scene("good.tif", coarse, ("nir",), where=0): None,
        scene("far.tif", coarse, ("nir",), where=5): "do not overlap",
        scene("gone.tif", coarse * 0, ("nir",), where=0, nodata=0): "no valid pixel",
        scene("red.tif", coarse, ("red",), where=0): "nir",
        scene("nowhere.tif", coarse, ("nir",)): "no georeference",
        "missing.tif": "no such file",
    }
    rows = ({"source": source, "guide": g, "target_bands": "nir=4"} for g in guides)
    report = check(pairs(*rows, guide_sensor=SENSOR), ignore=("duplicate", "one-group"))
    found = {f.rows: f.text for f in report.findings}
    assert {f.kind for f in report.findings} == {"guide"}
    for number, words in enumerate(guides.values(), start=1):
        assert (words is None) == ((number,) not in found)
        assert words is None or words in found[number,]
    assert report.files == 7


def test_degradations_that_cannot_be_read(scene, pairs):
    target = scene("one.tif", stored())
    stated = {"SensorMTF(mtf=0.3)": None, "Blur(3)": "no degradation", "SensorMTF(mtf=7)": "mtf"}
    rows = [
        {"source": None, "target": target, "degradation": text, "target_bands": "nir=4"}
        for text in stated
    ]
    rows.append({**rows[1], "source": target})  # which has a source, so that none is made
    report = check(pairs(*rows), ignore=("duplicate", "one-group"))
    found = {f.rows: f for f in report.findings}
    assert [*found] == [(2,), (3,)]
    for finding, words in zip(report.findings, [*stated.values()][1:], strict=True):
        assert finding.kind == "degradation"
        assert words in finding.text


@pytest.mark.slow
def test_a_script_without_a_guard_is_checked_in_its_own_process(scene, pairs, tmp_path):
    """Each process that it starts runs the script again, and dies of it: no row was readable."""
    path = pairs(*({"source": scene(f"{n}.tif", stored()), "group": n} for n in range(16)))
    script = tmp_path / "script.py"
    script.write_text(
        f"from crossband.data.check import check\nprint(check({str(path)!r}, workers=2).counts)"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=240, check=True
    )
    assert "unreadable" not in done.stdout.splitlines()[-1]


def test_the_page_is_named_as_one(scene, pairs, capsys):
    path = pairs({"source": None, "target": scene("one.tif", stored()), "target_bands": "nir=4"})
    output = path.with_name("c.pdf")
    assert main(["data", "check", str(path), "-o", str(output)]) == 2
    assert "c.pdf: the page needs the ending .html" in capsys.readouterr().err
    assert not output.exists()


def test_featureless_ground_is_no_misregistration(scene, pairs):
    rng = np.random.default_rng(0)
    one, two = (rng.normal(0.05, 0.001, (SIZE, SIZE)).astype("f4") for _ in range(2))
    assert kinds(pair(scene, pairs, one, two, sensor="reflectance")) == []


def test_empty(found, scene, pairs):
    flat = stored()
    flat[2] = 7
    assert found(flat) == ["empty"]
    blank = stored()
    blank[:, :, :60] = 30_000 // 3  # nothing says that this is no ground
    report = {"source_bands": "red=1,green=2,blue=3", "target_bands": "nir=4"}
    assert found(blank, report) == ["empty"]
    small = stored()
    small[:, :, :20] = 10_000
    assert "empty" not in found(small, report)
    # A sky that is white in one camera is not empty in the other.
    sky = stored()
    sky[:3, :60] = 10_000
    assert "empty" not in found(sky, report)
    most = stored()
    most[:3, :100] = 10_000
    assert found(most, report) == ["empty"]


def test_nodata_heavy(found):
    values = stored()
    values[:, :50] = 0  # the sensor's nodata
    assert found(values) == ["nodata-heavy"]
    assert not KINDS["nodata-heavy"].drops_row
    values = stored()
    values[:, :30] = 0
    assert found(values) == []
    assert found(np.zeros_like(values)) == ["empty"]


def test_two_scalings(found):
    values = stored()
    values[:3] = np.round(np.clip(reflectance()[:3] * 3.5, 0, 1) * 255)
    assert values[:3].max() > 200
    assert found(values) == ["two-scalings"]
    water = stored()
    water[:] = np.random.default_rng(0).integers(100, 250, water.shape)  # dark in every band
    water[:, ::9] += 60
    assert "two-scalings" not in found(water)


def test_bands_of_different_type(scene, pairs, tmp_path):
    """A VRT may hold them; GeoTIFF cannot."""
    scene("a.tif", stored()[:1], ("red",))
    scene("b.tif", reflectance()[3:].astype("f4"), ("nir",))
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{n}"><Description>{name}</Description>'
        f'<SimpleSource><SourceFilename relativeToVRT="1">{file}</SourceFilename>'
        f"<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for n, (kind, name, file) in enumerate(
            (("UInt16", "red", "a.tif"), ("Float32", "nir", "b.tif")), start=1
        )
    )
    text = f'<VRTDataset rasterXSize="{SIZE}" rasterYSize="{SIZE}">{bands}</VRTDataset>'
    (tmp_path / "both.vrt").write_text(text)
    report = check(pairs({"source": "both.vrt", "scale": 1e-4}))
    assert set(kinds(report)) == {"two-scalings"}
    assert "uint16 and float32" in " ".join(f.text for f in report.findings)


def test_out_of_range(found):
    assert found(np.clip(stored() * 10.0, 0, 65535).astype(np.uint16)) == ["out-of-range"]
    glint = stored()
    glint[:, 5, 5:8] = 60_000
    assert found(glint) == []


# Suspicions.


@pytest.mark.parametrize(
    ("bands", "expected"),
    [
        ("red=1,green=2,blue=3,nir=4", []),
        ("red=3,green=2,blue=1,nir=4", ["bands-swapped"]),
        ("red=4,green=2,blue=3,nir=1", ["bands-swapped"]),
        ("red=1,green=4,blue=3,nir=2", ["bands-swapped"]),
    ],
)
def test_bands_swapped(found, bands, expected):
    assert found(stored(), {"source_bands": bands}, names=None) == expected


def test_water_is_not_swapped(found):
    """Blue above red, NIR darkest."""
    rng = np.random.default_rng(0)
    base = np.array([200, 350, 500, 60])[:, None, None] * (0.7 + 0.6 * fields())
    assert found(np.round(base + rng.normal(0, 8, base.shape)).astype(np.uint16)) == []


def dark(seed=0):
    """A scene with some shadow, as nearly all have."""
    values = reflectance(seed)
    values[:, 40:60, 40:60] *= 0.1
    return values


def test_offset_undeclared(found):
    values = dark()
    late = np.round(values * 1e4 + 1000).astype(np.uint16)
    assert found(late) == ["offset-undeclared"]
    assert found(late, {"sensor": "sentinel-2-l2a"}) == []
    assert found(np.round(values * 1e4).astype(np.uint16)) == []


def test_desert_has_no_undeclared_offset(found):
    """Nothing dark, but red far above blue."""
    sand = np.array([0.38, 0.25, 0.14, 0.45])[:, None, None] * (0.9 + 0.2 * fields())
    assert found(np.round(sand * 1e4).astype(np.uint16)) == []


def test_offset_twice(found):
    values = np.round(dark() * 1e4).astype(np.uint16)
    assert found(values, {"sensor": "sentinel-2-l2a"}) == ["offset-twice"]


def test_display_numbers(found):
    picture = np.round(np.clip(reflectance() * 2.4, 0, 1) * 255)
    as_reflectance = (picture / 255).astype("f4")
    assert found(as_reflectance, {"sensor": "reflectance"}) == ["display-numbers"]
    assert found(picture.astype(np.uint8), {"sensor": "display"}) == []
    cut = np.minimum(stored(), np.percentile(stored(), 90, axis=(1, 2)).astype(int)[:, None, None])
    assert found(cut.astype(np.uint16)) == ["display-numbers"]


# Between rows.


def test_duplicate(scene, pairs):
    scene("a.tif", stored())
    scene("b.tif", stored())  # the same numbers in another file
    scene("c.tif", stored(1))
    report = check(pairs(*({"source": f"{n}.tif"} for n in "abc")))
    assert [(f.kind, f.rows) for f in report.findings] == [("duplicate", (1, 2))]
    # One source may have several targets, and one file several parts.
    parts = ({"source": "a.tif", "source_window": w, "target_window": w} for w in WINDOWS)
    assert kinds(check(pairs(*parts, group=["a", "b"]))) == []


WINDOWS = ("0,0,80,80", "80,0,80,80")


def split_of(scene, pairs, images, group=None, **options):
    """Check images of which the first is in train, the others in test."""
    for i, values in enumerate(images):
        scene(f"{i}.tif", values, **options.get(str(i), {}))
    rows = [{"source": f"{i}.tif"} for i in range(len(images))]
    columns = {"split": ["train"] + ["test"] * (len(images) - 1)}
    return check(pairs(*rows, **columns, **({"group": group} if group else {})))


def test_group_on_two_sides(scene, pairs):
    images = stored(0), stored(1), stored(2)
    report = split_of(scene, pairs, images, ["a", "a", "b"])
    assert [(f.kind, f.rows) for f in report.findings] == [("group-on-two-sides", (1, 2))]
    assert report.findings[0].text == "group 'a': row 1 in train; row 2 in test"
    assert kinds(split_of(scene, pairs, images, ["a", "b", "b"])) == []


def test_place_by_footprint(scene, pairs):
    images = stored(0), stored(1), stored(2)
    at = {"0": {"where": 0.0}, "1": {"where": 0.05}, "2": {"where": 0.15}}  # 1.6 km wide
    report = split_of(scene, pairs, images, **at)
    assert [(f.kind, f.rows) for f in report.findings] == [("place-on-two-sides", (1, 2))]


def test_place_by_look(scene, pairs):
    """Another season: plants have become soil in half of the fields, and the light is another."""
    now = reflectance(3)
    rng = np.random.default_rng(9)
    later = now * (0.6 + 0.8 * np.round(fields(3) * 7) % 2)[None] + rng.normal(0, 0.01, now.shape)
    later = np.clip(later, 0.001, None)
    images = [np.round(v * 1e4).astype(np.uint16) for v in (now, later, reflectance(4))]
    report = split_of(scene, pairs, images)
    assert [(f.kind, f.rows) for f in report.findings] == [("place-on-two-sides", (1, 2))]
    assert 0.4 < report.findings[0].measure < 0.9
    one_group = split_of(scene, pairs, images[::2])
    assert kinds(one_group) == []


@pytest.mark.parametrize("turn", range(8))
def test_copy_turned_or_mirrored(scene, pairs, turn):
    values = np.rot90(stored(5), turn % 4, axes=(1, 2))
    values = values[:, :, ::-1] if turn > 3 else values
    bright = (values * 0.9 + 50).astype(np.uint16)
    report = split_of(scene, pairs, (stored(5), bright))
    assert "copy-on-two-sides" in kinds(report)
    assert ("turned" in report.findings[0].text) == (turn > 0)


@pytest.mark.slow
def test_unrelated_images_are_no_place(scene, pairs):
    images = [stored(seed) for seed in range(20)]
    assert kinds(split_of(scene, pairs, images)) == []


# Properties.


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.floats(-9, 9), st.floats(-9, 9), st.integers(0, 50), st.sampled_from([1.0, -0.7])
)  # fmt: skip
def test_shifts_are_measured_below_a_pixel(down, right, seed, slope):
    """Also where what is bright in one is dark in the other."""
    ground = fields(seed, 260)
    moved = ndimage.shift(ground, (down, right), order=3, mode="nearest")
    inside = slice(20, 240)
    one = ground[inside, inside].astype("f4")
    two = (slope * moved[inside, inside] ** 2).astype("f4")
    mask = np.ones(one.shape, bool)

    def read(box: Box):
        at = box.slices()
        return one[at], two[at], mask[at]

    shift = measure(read, *one.shape)
    assert shift is not None
    assert shift.rows == pytest.approx(down, abs=0.3)
    assert shift.cols == pytest.approx(right, abs=0.3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 100), st.integers(40, 300), st.integers(40, 300))
def test_edge_patterns_of_any_shape(seed, height, width):
    """The size does not matter, and unrelated images correlate little."""
    values = fields(seed, 300)[:height, :width].astype("f4")
    mask = np.ones(values.shape, bool)
    one = edge_pattern(values, mask)
    other = edge_pattern(fields(seed + 1, 300)[:height, :width].astype("f4"), mask)
    assert one is not None
    assert other is not None
    assert next(r for *_, r, _ in similar_pairs(one[None], one[None])) == pytest.approx(1, abs=1e-3)
    assert list(similar_pairs(one[None], other[None])) == []


@pytest.fixture
def messy(scene, pairs, tmp_path):
    """Eighteen rows with several kinds of findings."""
    rows = []
    for i in range(18):
        name = scene(f"{i}.tif", stored(i), where=i)
        rows.append({"source": name, "split": "test" if i % 3 == 0 else "train"})
    (tmp_path / "3.tif").write_bytes(b"II*\0 this is no TIFF")
    scene("4.tif", stored(4), None)
    scene("5.tif", np.clip(stored(5) * 10.0, 0, 65535).astype(np.uint16), where=5)
    scene("7.tif", stored(6), where=6)
    scene("9.tif", stored(2), where=2)
    scene("10.tif", np.round(dark(77) * 1e4 + 1000).astype(np.uint16), where=10)
    return pairs(*rows)


EXPECTED = {
    ("unreadable", (4,)),
    ("bands-unnamed", (5,)),
    ("out-of-range", (6,)),
    ("duplicate", (7, 8)),
    ("duplicate", (3, 10)),
    ("place-on-two-sides", (3, 10)),
    ("copy-on-two-sides", (3, 10)),
    ("copy-on-two-sides", (8, 7)),
    ("offset-undeclared", (11,)),
}


@pytest.mark.slow
def test_parallel_equals_serial(messy):
    one, two = check(messy, workers=1), check(messy, workers=2)
    assert one.findings == two.findings
    got = {(f.kind, f.rows) for f in one.findings}
    assert got >= EXPECTED - {("copy-on-two-sides", (8, 7))}
    assert {k for k, _ in got} == {k for k, _ in EXPECTED}
    assert not one.clean


@pytest.mark.slow
def test_a_process_that_dies_is_a_finding(messy, monkeypatch):
    """A file that kills its reader leaves the others measured."""
    rows = manifest.read(messy, lenient=True).to_dict("records")
    monkeypatch.setattr(run, "_row_stats", deadly)
    out = dict(run._measure(rows, Bands(), 2))
    assert sorted(out) == list(range(18))
    dead = [i for i, f in out.items() if "died" in str(f.refused)]
    assert dead == [12]


def test_fix_reads_again_and_is_clean(messy, tmp_path):
    report = check(messy)
    kept = usable_rows(report)
    manifest.write(kept, tmp_path / "clean.csv")
    again = check(tmp_path / "clean.csv")
    assert not [f for f in again.findings if f.drops_row]
    # Of rows that are there twice, the one in test stays; suspicions stay.
    assert kept["row"].tolist() == [1, 2, 7, *range(9, 19)]
    assert {f.kind for f in again.findings} == {"offset-undeclared"}
    assert len(list(tmp_path.glob("*.tif"))) == 18


def test_fix_that_leaves_nothing(scene, pairs):
    report = check(pairs({"source": scene("one.tif", stored(), None)}))
    with pytest.raises(ManifestError, match="every row has a finding"):
        usable_rows(report)


@pytest.mark.slow
def test_ignore(messy):
    report = check(messy, ignore=["duplicate", "unreadable"])
    assert not {"duplicate", "unreadable"} & set(kinds(report))
    with pytest.raises(CrossbandError, match="did you mean 'duplicate'"):
        check(messy, ignore=["duplicates"])


# The command and the page.


def test_command(messy, tmp_path, capsys):
    page, fixed, record = (tmp_path / n for n in ("out/r.html", "fixed.parquet", "r.json"))
    command = ["data", "check", messy, "-o", page, "--fix", fixed, "--json", record]
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    assert main([*map(str, command), "--workers", "1"]) == 1
    out, err = capsys.readouterr()
    assert "18 rows, 18 files" in out
    assert "finding unreadable: file cannot be read" in out
    assert f"{fixed}: 13 of 18 rows" in out
    assert "checked 18 of 18 rows" in err
    content = json.loads(record.read_text())
    assert content["counts"]["duplicate"] == 2
    assert {(f["kind"], tuple(f["rows"])) for f in content["findings"]} >= {("unreadable", (4,))}
    assert len(manifest.read(fixed)) == 13
    after = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir() if p.name in before}
    assert after == before
    written = {path: path.read_bytes() for path in (fixed, record)}
    assert main([*map(str, command)]) == 1  # the same: the findings are printed once more
    assert {path: path.read_bytes() for path in written} == written
    capsys.readouterr()
    assert main([*map(str, command), "--max-shift", "7"]) == 2
    assert "exists already; give --overwrite" in capsys.readouterr().err
    for none in ("nan", "1e400", "-1"):
        assert main([*map(str, command), f"--max-shift={none}"]) == 2
        assert "a number of pixels, 0 or more" in capsys.readouterr().err


def test_exit_codes(scene, pairs, capsys):
    path = str(pairs({"source": scene("one.tif", stored())}))
    assert main(["data", "check", path, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert "0 findings, 0 suspicions; no split" in out
    assert out.count("\n") == 1
    assert not err
    late = str(pairs({"source": scene("one.tif", np.round(dark() * 1e4 + 1000).astype("u2"))}))
    assert main(["data", "check", late]) == 0  # a suspicion
    assert "looks as if the offset of -0.1 were not declared" in capsys.readouterr().out
    bad = str(pairs({"source": scene("one.tif", stored(), None)}))
    assert main(["data", "check", bad]) == 1
    assert main(["data", "check", bad, "--ignore", "bands-unnamed"]) == 0
    assert main(["data", "check", "nothing.csv"]) == 2
    assert main(["data", "check", bad, "--workers", "0"]) == 2
    assert main(["data", "check", bad, "--quiet", "--source", "red", "--target", "nir"]) == 1


def test_page_has_every_finding_and_escapes(scene, pairs, tmp_path):
    name = "<b>&'x.tif"
    scene("plain.tif", stored(), None)
    (tmp_path / "plain.tif").rename(tmp_path / name)
    moved = reflectance(size=200).astype("f4")
    scene("s.tif", moved[:3, 20:180, 20:180], NAMES[:3])
    scene("t.tif", moved[3:, 15:175, 20:180], ("nir",))
    report = check(
        pairs(
            {"source": name},
            {"source": "s.tif", "target": "t.tif", "sensor": "reflectance"},
        )
    )
    assert kinds(report) == ["bands-unnamed", "misregistered"]
    page = check_page.page(report)
    assert "<b>&" not in page
    for finding in report.findings:
        assert html.escape(finding.text, quote=False).replace("'", "&#39;") in page
    assert page.count("<tr data-kind=") == 2
    assert len(re.findall(r'src="data:image/png;base64,', page)) == 3  # source, target, overlay
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "http" not in page
    assert "url(" not in page


def test_page_without_findings(scene, pairs):
    page = check_page.page(check(pairs({"source": scene("one.tif", stored())})))
    assert "Nothing was found" in page


def test_wheel_has_the_template():
    """Hatchling takes every file below the package."""
    from importlib.resources import files

    assert files("crossband.data.check").joinpath("check.html").is_file()


@pytest.mark.slow
def test_real_traps(real_data, tmp_path):
    """A part of benchmarks/check_shared.py: files with a trap, and as many without."""
    import check_shared

    listed = {t.name: t for t in check_shared.traps(real_data)}
    table = check_shared.satellite(real_data)
    short = table["source"].str.rsplit("/", n=1).str[-1]
    plain = "earthnet|waterchip_0|czechia|finland|fort-mc|chiapas|south-texas|naip_m|ukis|dsen2"
    bad = "satclip|california|aquileia|sundarbans|madagascar|rotterdam|carolina"
    table = table[short.str.contains(f"{plain}|{bad}")]
    table.to_csv(tmp_path / "pairs.csv", index=False)
    report = check(tmp_path / "pairs.csv", workers=1)
    files = check_shared.files_of(report)
    got = {}
    for finding in report.findings:
        got.setdefault(finding.kind, set()).update(files[r] for r in finding.rows)
    assert got == {
        "two-scalings": set(listed["8-bit red beside 16-bit NIR"].files),
        "out-of-range": set(listed["stretched by an exporter"].files),
        "nodata-heavy": {*listed["half nodata"].files, *listed["255 outside a polygon"].files},
        "offset-undeclared": set(listed["offset +1000 not in the file"].files),
    }


def test_a_column_of_a_name_that_is_nearly_known_is_a_finding(scene, pairs):
    table = pairs({"source": scene("0.tif", stored(1)), "src_bands": "red=1", "site": "a"})
    report = check(table)
    unknown = [f.text for f in report.findings if f.kind == "column-unknown"]
    assert unknown == ["column 'src_bands' is not read: 'source_bands' may be meant"]
    assert not report.clean
