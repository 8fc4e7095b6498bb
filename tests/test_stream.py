"""Scenes are streamed: each block read about once, tiles that agree, memory that does not grow."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from conftest import UTM, random_values, rgb2nir_signature
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from crossband import Model
from crossband.cli import progress
from crossband.cli.main import main
from crossband.errors import CrossbandError
from crossband.networks.base import Generator
from crossband.networks.conditions import Conditions, noise_at
from crossband.networks.generators.local_unet import LocalUNet
from crossband.networks.samplers.flow import FlowSampler
from crossband.raster import blocks
from crossband.raster.blocks import BlockReader, ReadStats
from crossband.raster.grid import Grid, Window
from crossband.raster.open import open_scene
from crossband.translate.conditions import LATTICE_STEP, lattice
from crossband.translate.options import TileOptions
from crossband.translate.statistics import Statistics
from crossband.translate.threads import BackgroundWriter, Prefetcher
from crossband.translate.tiles import column_groups, plan_tiles
from crossband.translate.window import translate_window

RGB = ("red", "green", "blue")


@pytest.fixture(scope="module")
def local():
    torch.manual_seed(0)
    network = LocalUNet(3, 1, width=8, depth=2, hidden=8, members=1)
    return Model(network, rgb2nir_signature(), name="local", task="rgb2nir")


class Placed(Generator):
    """Sees 3 pixels far, and takes noise, a style and the place."""

    in_channels, out_channels, margin, stride = 3, 1, 3, 2
    noise, style, located = 2, 1, True

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(5, 1, 7, padding=3)

    def forward(self, x):
        return self.forward_conditioned(x, Conditions())

    def forward_conditioned(self, x, conditions):
        out = self.mix(torch.cat([x, conditions.noise], 1))
        nodes = torch.nan_to_num(conditions.lattice.lonlat)
        place = conditions.lattice.interpolate(nodes, *x.shape[-2:]).sum(1, keepdim=True)
        return out + conditions.style[:, :1, None, None] * 0.1 + 0.01 * place


@pytest.fixture(scope="module")
def placed():
    torch.manual_seed(2)
    return Model(Placed(), rgb2nir_signature(), name="placed", task="rgb2nir")


def window_of(height, width, grid=None):
    rng = np.random.default_rng(height * 1000 + width)
    mask = rng.random((height, width)) > 0.05
    mask[0, 0] = True
    values = rng.uniform(0.02, 0.4, (3, height, width)).astype(np.float32) * mask
    return Window(values, mask, grid or Grid(height, width), RGB, "reflectance")


shapes = st.integers(1, 130)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shapes, shapes, st.integers(1, 140), st.integers(1, 4))
def test_tiled_equals_whole_for_any_tile_batch_and_shape(local, height, width, tile, batch):
    window = window_of(height, width)
    whole = translate_window(local, window, TileOptions(precision="fp32", tile=4096))
    tiled = translate_window(
        local, window, TileOptions(precision="fp32", tile=max(tile, 24), batch=batch)
    )
    assert np.abs(whole.values - tiled.values).max() <= 1e-5
    np.testing.assert_array_equal(whole.mask, tiled.mask)


@settings(max_examples=15, deadline=None)
@given(shapes, shapes, st.integers(8, 140))
def test_tiled_equals_whole_with_noise_and_place(placed, height, width, tile):
    window = window_of(height, width, Grid(height, width, UTM, "EPSG:32633"))
    whole = translate_window(placed, window, TileOptions(precision="fp32", tile=4096, seed=3))
    tiled = translate_window(placed, window, TileOptions(precision="fp32", tile=tile, seed=3))
    assert np.abs(whole.values - tiled.values).max() <= 1e-5


def test_a_scene_in_one_piece_has_the_adaptive_solver(make_raster, tmp_path, capsys):
    """Only where it is asked for: never because a scene happens to fit one tile."""
    torch.manual_seed(0)
    field = {"arguments": {"width": 4, "levels": 1, "time_channels": 4}}
    network = FlowSampler(3, 1, field, solver="euler", steps=2, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        network.field.last.weight.mul_(8.0)
    model = Model(network.eval(), rgb2nir_signature(), name="flow", task="rgb2nir")
    model.save(tmp_path / "model")
    source = make_raster(values=random_values(3, 70, 100))
    results = {}
    for name, words in {"fixed": [], "one": ["--whole"], "tiled": ["--tile", "64"]}.items():
        out = tmp_path / f"{name}.tif"
        command = ["translate", source, "-o", out, "--model", tmp_path / "model", "--dtype"]
        command += ["float32", "--precision", "fp32", "--seed", "4", "--quiet", *words]
        assert main([str(word) for word in command]) == 0, capsys.readouterr().err
        with rasterio.open(out) as file:
            results[name] = file.read(1)
            assert file.tags()["CROSSBAND_EXACT"] == ("NO" if name == "tiled" else "YES")
    noise = torch.from_numpy(noise_at(4, 0, 0, 70, 100, 1))[None]
    values = torch.from_numpy(random_values(3, 70, 100))[None]
    for name, whole in (("fixed", False), ("one", True)):
        with torch.inference_mode():
            expected = model(values, conditions=Conditions(noise, whole=whole))[0, 0].numpy()
        np.testing.assert_allclose(results[name], expected, atol=1e-4)
    assert np.abs(results["one"] - results["fixed"]).max() > 1e-2
    window = window_of(70, 100)
    again = translate_window(model, window, TileOptions(whole=True, precision="fp32", seed=4))
    assert again.values.shape == (1, 70, 100)
    array = model.translate(source, whole=True, precision="fp32", seed=4)
    np.testing.assert_allclose(array[0], results["one"], atol=1e-4)
    with pytest.raises(CrossbandError, match=r"--whole: a scene in one piece has no --tile"):
        translate_window(model, window, TileOptions(whole=True, tile=64))


def test_one_piece_is_one_tile_whatever_its_margin(local, make_raster, tmp_path):
    found = Statistics()
    source = make_raster(values=random_values(3, 130, 90))
    local.translate(source, tmp_path / "a.tif", whole=True, statistics=found)
    assert (found.tiles, found.computed, found.seen) == (1, 1, 130 * 90)


def test_seeds_are_used_recorded_and_refused(placed, local, make_raster, tmp_path):
    source = make_raster(values=random_values(3, 40, 50))
    results = {}
    for seed in (None, 0, 1):
        out = placed.translate(source, tmp_path / f"{seed}.tif", seed=seed, precision="fp32")
        with rasterio.open(out) as file:
            results[seed] = file.read(1)
            assert file.tags()["CROSSBAND_SEED"] == str(seed or 0)
            assert file.tags()["CROSSBAND_EXACT"] == "YES"
    np.testing.assert_array_equal(results[None], results[0])
    assert np.abs(results[0] - results[1]).max() > 0.01
    with pytest.raises(CrossbandError, match="--seed"):
        local.translate(source, tmp_path / "x.tif", seed=1)
    with pytest.raises(CrossbandError, match="one tile at a time"):
        placed.translate(source, tmp_path / "x.tif", batch=2)
    with pytest.raises(CrossbandError, match="--overlap"):
        local.translate(source, tmp_path / "x.tif", overlap=8)
    out = local.translate(source, tmp_path / "y.tif")
    with rasterio.open(out) as file:
        assert "CROSSBAND_SEED" not in file.tags()


def test_nodes_of_the_lattice_are_where_the_scene_is():
    grid = Grid(700, 1300, Affine(0.01, 0, 10.0, 0, -0.01, 50.0), "EPSG:4326")
    nodes = lattice(grid)
    assert nodes.shape == (2, 3, 4)
    np.testing.assert_allclose(nodes[0, 0], 10 + 0.01 * LATTICE_STEP * np.arange(4), rtol=1e-6)
    np.testing.assert_allclose(nodes[1, :, 0], 50 - 0.01 * LATTICE_STEP * np.arange(3), rtol=1e-6)
    assert np.isnan(lattice(Grid(10, 10))).all()


LAYOUTS = {
    "tiles": {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"},
    "large tiles": {"tiled": True, "blockxsize": 256, "blockysize": 256},
    "strips of a row": {"blockysize": 1},
    "strips": {"blockysize": 16, "compress": "deflate"},
    "one strip": {"blockysize": 700},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_block_is_read_once(make_raster, layout):
    values = random_values(3, 300, 700)
    values[0, 5, 6] = np.nan
    source = make_raster(values=values, **LAYOUTS[layout])
    reads = ReadStats()
    with open_scene(source, needed=RGB) as scene:
        boxes = [t.source for t in plan_tiles(300, 700, 96, 13, 4)]
        for box, window in zip(boxes, BlockReader(scene, reads).windows(boxes), strict=True):
            expected = scene.read(box)
            np.testing.assert_array_equal(window.values, expected.values)
            np.testing.assert_array_equal(window.mask, expected.mask)
            assert window.grid == expected.grid
    assert reads.block_reads == reads.blocks
    assert reads.pixels == 300 * 700
    assert reads.seen == sum(b.height * b.width for b in boxes)


def test_a_wide_scene_is_read_in_groups_of_columns(make_raster, monkeypatch, identity_model):
    monkeypatch.setattr(blocks, "LEAST_COLS", 64)
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    values = (random_values(3, 300, 900) * 10000).astype(np.uint16)
    source = make_raster(values=values, scale=1e-4, **tiles)
    monkeypatch.setattr(blocks, "BUDGET", 200_000)
    with open_scene(source, needed=RGB) as scene:
        columns = blocks.ChunkShape.of(scene).columns(scene, 0)
    assert 64 < columns < 450
    assert len(column_groups(plan_tiles(300, 900, 64, 0, 1), columns)) > 1
    found = Statistics()
    out = identity_model().translate(
        source, source.with_name("o.tif"), tile=96, precision="fp32", statistics=found
    )
    with rasterio.open(out) as file:
        np.testing.assert_array_equal(file.read(), values)
    assert 1.0 < found.reads_per_block < 1.5


def test_nodata_windows_skip_the_network(make_raster, local, tmp_path):
    values = (random_values(3, 256, 256) * 10000).astype(np.uint16)
    values[:, :128] = 0
    source = make_raster(values=values, scale=1e-4, nodata=0)
    found = Statistics()
    local.translate(source, tmp_path / "n.tif", tile=64, statistics=found)
    assert found.empty > 0
    assert found.computed + found.empty == found.tiles
    assert found.empty == sum(
        t.core.row + t.core.height <= 128
        for t in plan_tiles(256, 256, 64, local.network.margin, local.network.stride)
    )


def test_batches_and_statistics(make_raster, local, tmp_path):
    source = make_raster(values=random_values(3, 200, 230))
    one, four = Statistics(), Statistics()
    options = {"tile": 64, "precision": "fp32", "dtype": "float32"}
    a = local.translate(source, tmp_path / "a.tif", statistics=one, **options)
    b = local.translate(source, tmp_path / "b.tif", batch=4, statistics=four, **options)
    with rasterio.open(a) as first, rasterio.open(b) as second:
        assert np.abs(first.read() - second.read()).max() <= 1e-5
    assert one.tiles == four.computed == one.computed
    assert one.pixels == one.kept == 200 * 230
    assert one.halo == four.halo > 0
    assert 0 < one.computing <= one.windows
    assert one.finishing > 0


def test_reading_and_writing_go_on_beside_computing():
    """One item is read, one computed and one written at the same moment, or nobody goes on."""
    meeting = threading.Barrier(3, timeout=60)
    seen, threads = [], set()

    def read():
        for i in range(4):
            threads.add(threading.current_thread().name)
            if i == 2:
                meeting.wait()
            yield i

    def write(item):
        threads.add(threading.current_thread().name)
        if item == 0:
            meeting.wait()
        seen.append(item)

    with BackgroundWriter(write) as writer, Prefetcher(read()) as items:
        for item in items:
            if item == 1:
                meeting.wait()
            writer.put(item)
    assert seen == [0, 1, 2, 3]
    assert threads == {"crossband-read", "crossband-write"}


def test_queues_are_bounded_and_errors_come_back():
    made = []

    def read():
        for i in range(100):
            made.append(i)
            yield i
        raise AssertionError("nobody asked for it")

    with Prefetcher(read(), depth=2) as items:
        assert next(iter(items)) == 0
        time.sleep(0.3)
        assert len(made) <= 4

    def bad():
        yield 1
        raise CrossbandError("no")

    with pytest.raises(CrossbandError, match="no"), Prefetcher(bad()) as items:
        list(items)

    def fail(item):
        raise CrossbandError(f"item {item}")

    def hand_over():
        with BackgroundWriter(fail) as writer:
            for i in range(10):
                writer.put(i)
                time.sleep(0.02)

    with pytest.raises(CrossbandError, match="item 0"):
        hand_over()


PEAK = """
import resource, sys
import crossband.translate.scene
from crossband import Model
from crossband.networks.generators.identity import Identity
from crossband.core.signature import Signature, UnitRange
r = UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)] * 3)
bands = ["red", "green", "blue"]
model = Model(Identity(3), Signature(bands, bands, {"reflectance": r}), name="i", task="i")
model.translate(sys.argv[1], sys.argv[2], tile=512, compress="none")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_scene(tmp_path):
    """16 times the pixels; 20,000 x 20,000 is for benchmarks/translate.py."""
    peaks = []
    for size in (1536, 6144):
        path = tmp_path / f"{size}.tif"
        profile = {"driver": "GTiff", "width": size, "height": size, "count": 3, "dtype": "uint8"}
        profile |= {"tiled": True, "compress": "deflate", "zlevel": 1}
        with rasterio.open(path, "w", **profile) as out:
            row = np.arange(size).astype(np.uint8)
            out.write(np.broadcast_to(row, (3, size, size)))
            out.descriptions, out.units, out.scales = RGB, ["reflectance"] * 3, [1 / 255] * 3
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(path), str(tmp_path / f"o{size}.tif")],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        )
        peaks.append(int(done.stdout))
    assert peaks[1] <= 1.25 * peaks[0]


@pytest.mark.slow
def test_the_benchmark_prints_its_table(tmp_path):
    script = Path(__file__).parents[1] / "benchmarks" / "translate.py"
    numbers = tmp_path / "numbers.json"
    command = [sys.executable, script, "--network", "identity", "--sizes", "600", "--threads", "1"]
    command = [*map(str, command), "--json", str(numbers), "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(numbers.read_text())
    assert found["reads per block"] == 1.0
    assert found["share of raw network speed"] == pytest.approx(
        found["MPix/s"] / found["raw network MPix/s"]
    )
    assert re.search(r"\| identity \| \w+ \| 600 \| tiles, none \| 1 \|", done.stdout)


def test_plain_lines_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    bar = progress.Bar("x/scene.tif", quiet=False)
    bar(0, 4_000_000)
    bar(1_000_000, 4_000_000)
    bar(4_000_000, 4_000_000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("scene.tif: 25% of 4.0 MPix, ")
    assert lines[1].endswith("left")
    quiet = progress.Bar("x/scene.tif", quiet=True)
    quiet(1_000_000, 4_000_000)
    assert capsys.readouterr().err == ""
