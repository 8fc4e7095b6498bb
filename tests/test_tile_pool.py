"""Batches computed at once: the same pixels in the same order, and an error comes back."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from crossband import load
from crossband.errors import ModelError
from crossband.raster.grid import Grid, Window
from crossband.translate.conditions import SceneConditions
from crossband.translate.engine import Engine
from crossband.translate.options import TileOptions
from crossband.translate.tile_pool import TilePool
from crossband.translate.tiling import SPLIT, Tiling


@pytest.fixture
def threads():
    """Give torch three threads, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


@pytest.fixture
def prepared(per_pixel):
    """Return an engine and prepared batches of one tile each."""
    engine = Engine(per_pixel, "cpu", "fp32")
    values = np.random.default_rng(0).random((3, 40, 50), np.float32)
    window = Window(values, np.ones((40, 50), bool), Grid(40, 50), tuple("rgb"), "reflectance")
    tiling = Tiling.of(per_pixel, window.grid, TileOptions(tile=10))
    conditions = SceneConditions(per_pixel.network, window.grid)
    return engine, [
        engine.prepare(batch, [window.crop(t.source) for t in batch.tiles], conditions)
        for batch in tiling.batches
    ]


@pytest.fixture
def per_pixel():
    """Return a model whose network computes several tiles at once."""
    model = load("rgb2nir")
    model.network = model.network.parts[2]
    assert type(model.network).__name__ == "PerPixelMLP"
    return model


def test_results_come_in_order_and_equal_those_of_one_thread(threads, prepared):
    engine, batches = prepared
    with TilePool(engine, len(batches)) as pool:
        assert pool.workers == threads
        found = list(pool.compute(iter(batches)))
    assert [item.batch.number for item, _ in found] == list(range(20))
    for item, predictions in found:
        assert torch.equal(predictions, engine.compute(item))


def test_batches_are_computed_at_once_with_one_thread_each(threads, prepared, monkeypatch):
    engine, batches = prepared
    together, shares = threading.Barrier(threads), []

    def compute(item):
        together.wait(60)  # passes only where three are there at the same time
        shares.append(torch.get_num_threads())

    monkeypatch.setattr(engine, "compute", compute)
    with TilePool(engine, len(batches)) as pool:
        assert len(list(pool.compute(iter(batches[:18])))) == 18
    assert shares == [1] * 18
    assert torch.get_num_threads() == threads


def test_a_single_batch_or_a_network_of_large_operations_has_all_threads(
    threads, prepared, identity_model
):
    engine, batches = prepared
    for own, count in ((engine, 1), (Engine(identity_model(), "cpu"), 5)):
        with TilePool(own, count) as pool:
            assert pool.workers == 1
    with TilePool(engine, 1) as pool:
        (found,) = pool.compute(iter(batches[:1]))
    assert found[0] is batches[0]


def test_an_error_of_one_batch_ends_the_others(threads, prepared):
    engine, batches = prepared
    broken = replace(batches[3], inputs=torch.zeros(1, 7, 4, 4))
    seen = []

    def run():
        with TilePool(engine, len(batches)) as pool:
            for item, _ in pool.compute([*batches[:3], broken, *batches[4:]]):
                seen.append(item.batch.number)

    with pytest.raises(RuntimeError, match=r"shape|channel|size"):
        run()
    assert seen == [0, 1, 2]
    assert not [t for t in threading.enumerate() if t.name.startswith("crossband-compute")]


def test_a_model_that_answers_nothing_is_refused(threads, prepared):
    engine, batches = prepared
    for parameter in engine.model.network.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN"), TilePool(engine, len(batches)) as pool:
        list(pool.compute(iter(batches)))


def test_a_scene_of_one_tile_is_cut_in_two_where_that_pays(per_pixel, identity_model):
    counts = {
        rows: len(Tiling.of(per_pixel, Grid(rows, 300)).batches) for rows in (SPLIT - 1, SPLIT)
    }
    assert counts == {SPLIT - 1: 1, SPLIT: 2}
    assert len(Tiling.of(identity_model(), Grid(SPLIT, 300)).batches) == 1
    assert len(Tiling.of(per_pixel, Grid(SPLIT, 300), TileOptions(whole=True)).batches) == 1
