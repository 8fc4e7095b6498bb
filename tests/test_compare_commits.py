"""The comparison of two commits: it sees what differs, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import compare_files
import numpy as np
import pytest
import rasterio
from compare_files import Tidy, differences, lines, read
from conftest import random_values

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tidy(tmp_path):
    return Tidy({tmp_path / "old": "<out>", tmp_path / "new": "<out>"}, "1.2.0")


@pytest.fixture
def two(make_raster, tmp_path):
    """Write two equal rasters with overviews; returns their paths."""
    values = (random_values(2, 600, 520) * 200).astype(np.uint8)
    out = []
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        made = make_raster(f"{name}/nir.tif", values, names=("a", "b"), driver="COG", blocksize=128)
        out.append(made)
    return out


def found(two, tidy):
    return differences(*(read(path, tidy) for path in two))


def test_equal_rasters_are_the_same(two, tidy):
    assert len(read(two[0], tidy)["overviews"][0]) > 1
    assert found(two, tidy) == []


def test_one_number_is_seen_in_pixels_and_nowhere_else(two, tidy):
    with rasterio.open(two[1], "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        values = file.read()
        values[1, 300, 7] ^= 4
        file.write(values)
    assert found(two, tidy) == ["pixels: 1 of 624000 numbers differ, by 4 at most"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda f: f.update_tags(CROSSBAND_MODEL="x"), "tag CROSSBAND_MODEL"),
        (lambda f: f.update_tags(2, STATISTICS_MEAN="1"), "tag STATISTICS_MEAN of band 2"),
        (lambda f: setattr(f, "nodata", 7), "nodata"),
        (lambda f: setattr(f, "scales", (1.0, 0.5)), "scale"),
        (lambda f: setattr(f, "units", ("", "kelvin")), "unit"),
        (lambda f: setattr(f, "descriptions", ("a", "c")), "descriptions"),
        (lambda f: setattr(f, "crs", "EPSG:32634"), "CRS"),
        (lambda f: f.write_mask(np.arange(624000 // 2).reshape(600, 520) > 9), "mask"),
    ],
)
def test_what_a_raster_says_of_itself_is_seen(two, tidy, change, name):
    with rasterio.open(two[1], "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        change(file)
    assert name in [line.partition(":")[0] for line in found(two, tidy)]


def test_only_what_the_rules_name_is_left_out(tidy, tmp_path):
    said = f"{tmp_path}/new/nir.tif  0.01 MPix, {{}} MPix/s; Crossband {{}}\nabout {{}} left"
    one, two = said.format(0.25, "1.2.0", "8 s"), said.format(3, "1.2.0", "2.5 h")
    assert tidy(one) == tidy(two)
    assert tidy(one).startswith("<out>/nir.tif  0.01 MPix")
    assert differences(lines(tidy(one)), lines(tidy(two.replace("nir", "red")))) == [
        "line 1: <out>/nir.tif  0.01 MPix, <rate> MPix/s; Crossband <version> became "
        "<out>/red.tif  0.01 MPix, <rate> MPix/s; Crossband <version>"
    ]
    assert tidy("gdal 31.2.0") == "gdal 31.2.0"
    assert all(rule.reason for rule in (*compare_files.RULES, *compare_files.UNSEEN))


@pytest.mark.slow
def test_a_number_changed_in_the_source_is_found(interpreters, tmp_path):
    script = ROOT / "benchmarks/compare_commits.py"
    broken = tmp_path / "broken"
    shutil.copytree(ROOT / "src", broken, ignore=shutil.ignore_patterns("__pycache__"))
    sensors = broken / "crossband/core/sensors.py"
    text = sensors.read_text()
    sensors.write_text(text.replace("1 / 255", "1 / 256"))
    assert sensors.read_text() != text
    only = ["--only", "PNG to GeoTIFF"]
    done = interpreters.run(script, ROOT / "src", broken, *only)
    assert done.returncode == 1, done.stderr
    assert "nir.tif: pixels: " in done.stdout
    done = interpreters.run(script, ROOT / "src", ROOT / "src", *only)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 comparisons: 2 same" in done.stdout
