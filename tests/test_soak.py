"""The long checks of translation in short form: they run, and they notice what they are for."""

from __future__ import annotations

import os
import random
import shutil

import numpy as np
import pytest
import rasterio
import soak_kills
import soak_memory
import soak_scenes
from soak_page import HEAD, put

pytestmark = pytest.mark.skipif(
    not os.path.exists("/proc/self/smaps_rollup"), reason="memory is read from Linux' /proc"
)


@pytest.mark.slow
def test_scenes_of_all_kinds_in_one_process(tiny_model):
    result = soak_scenes.run(12, str(tiny_model), seed=3, threads=1, primed=6)
    assert [n for n, _ in result["primed"]] == [2, 4, 6]
    for points in (result["first"], result["again"]):
        assert [count for count, _, _ in points] == list(range(1, 13))
        assert all(kib > 50_000 for _, kib, _ in points)
    page = put(HEAD, soak_scenes.section(result))
    assert "| 12 | " in page
    assert "| the same again | " in page


def test_what_grows_with_scenes_that_are_not_new_is_a_leak():
    def points(start, each):
        return [[n, start + each * n, 0] for n in range(1, 201)]

    flat, more, leak = points(250_000, 0.1), points(250_000, 40), points(258_000, 5)
    assert soak_scenes.verdict(flat, flat) == (pytest.approx(1, abs=1e-3), pytest.approx(0.1), True)
    assert soak_scenes.verdict(more, flat)[2]  # 3 %
    assert not soak_scenes.verdict(points(250_000, 100), flat)[2]
    assert not soak_scenes.verdict(flat, leak)[2]


def test_scenes_are_drawn_from_the_seed(tmp_path):
    one, other = (
        soak_scenes.write_scene(tmp_path / n, random.Random(7)) for n in ("a.tif", "b.tif")
    )
    assert one == other
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    kinds = set()
    for seed in range(60):
        soak_scenes.write_scene(tmp_path / "c.tif", random.Random(seed))
        with rasterio.open(tmp_path / "c.tif") as file:
            assert max(file.shape) <= soak_scenes.SIDE
            kinds |= {file.dtypes[0], str(file.mask_flag_enums[0]), file.profile["tiled"]}
    assert {*soak_scenes.DTYPES} | {True, False} <= kinds
    assert len(kinds) >= 10  # four kinds of masks, and none


@pytest.mark.slow
def test_kills_of_one_scene(tiny_model):
    result = soak_kills.run(3, 700, 96, str(tiny_model), seed=1)
    assert result["same"], result
    assert result["left"][-1] == "file"
    there = [int(n) for n in result["left"] if n != "file"]
    assert there == sorted(there)
    assert 0 <= result["again"] < 2 * result["windows"]
    assert "| yes |" in soak_kills.section(result)


def test_another_pixel_or_tag_is_noticed(make_raster, tmp_path):
    one = make_raster("a.tif", np.zeros((1, 30, 30), np.uint8), names=("nir",))
    other = tmp_path / "b.tif"
    shutil.copy(one, other)
    assert soak_kills.same_files(one, other)
    with rasterio.open(other, "r+") as file:
        file.update_tags(CROSSBAND_MODEL="x")
    assert not soak_kills.same_files(one, other)
    make_raster("b.tif", np.eye(30, dtype=np.uint8)[None], names=("nir",))
    assert not soak_kills.same_files(one, other)
    values = np.full((1, 30, 30), np.nan, np.float32)
    pair = [make_raster(name, values, names=("nir",), nodata=np.nan) for name in ("c.tif", "d.tif")]
    assert soak_kills.same_files(*pair)


@pytest.mark.slow
def test_a_guide_is_read_by_windows(tmp_path):
    result = soak_memory.run(["guided"], 0.1, "rgb2nir", tmp_path)
    assert [row["side"] for row in result["rows"]] == [500, 1200]
    assert all(row["files"] > row["own"] > 50 for row in result["rows"])


@pytest.mark.slow
def test_peaks_of_small_scenes(tmp_path):
    result = soak_memory.run(["x4"], 0.05, "rgb2nir", tmp_path)
    assert [row["side"] for row in result["rows"]] == [75, 250]
    assert [row["pixels"] for row in result["rows"]] == [300**2, 1000**2]
    assert all(row["files"] > row["own"] > 50 and row["reads"] == 1.0 for row in result["rows"])
    assert "| x4 | 250 x 250 | 1 million |" in soak_memory.section(result)
    assert not list(tmp_path.iterdir())
