"""A loading process does not leak: the short form of `benchmarks/soak_loader.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soak_loader
from soak_loader import CROP_KIB, section, slope, watch, write_scenes
from soak_page import put

from crossband.data.samples import PairDataset

#: A process takes some thousand reads until it has all it will have (5,000 in docs/soak.md), so the
#: crops are larger here: what is leaked of them stands out.
READS, CROP = 1500, 64
#: KiB per 1,000 reads: less than a third of a crop leaked at each read.
LEAK = 1000 * CROP_KIB * (CROP / soak_loader.CROP) ** 2
BOUND = 0.3 * LEAK

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from Linux' /proc"
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("soak"), 4, 5, side=128)


@pytest.mark.slow
def test_memory_does_not_grow(manifest):
    ((number, points),) = watch(manifest, READS, 1, CROP).items()
    assert (number, points[-1][0]) == (0, READS)
    assert slope(points) < BOUND


@pytest.mark.slow
def test_a_leak_of_a_crop_would_be_seen(manifest, monkeypatch):
    kept, read = [], PairDataset.__getitem__

    def leaks(self, position):
        sample = read(self, position)
        kept.append([sample[k].numpy().copy() for k in ("source", "target", "mask", "source_mask")])
        return sample

    monkeypatch.setattr(PairDataset, "__getitem__", leaks)
    ((_, points),) = watch(manifest, 500, 1, CROP).items()
    assert slope(points) > 2 * BOUND


def test_the_slope_is_that_of_the_second_half():
    line = [[n, 500 if n < 5000 else 500 + (n - 5000) * 3] for n in range(0, 10_000, 50)]
    assert slope(line) == pytest.approx(3000)
    assert slope([[n, 7] for n in range(0, 1000, 50)]) == pytest.approx(0)


def test_only_its_section_of_the_page_is_written(monkeypatch):
    row = {"worker": 0, "reads": 10, "kib": np.array([1024, 2048, 2048]), "slope": 1.0}
    result = {"minutes": 1.0, "workers": 1, "reads": 10, "files": 2}
    new = section(result | {"rows": [row | {"within": True}]})
    old = "# Long checks\n\nabout\n\n## A\n\na\n"
    once = put(old, new)
    assert once == f"{old}\n{new}"
    assert put(once, new) == once
    between = put(once + "\n## B\n\nb\n", new.replace("| yes |", "| NO |"))
    assert between.startswith(old)
    assert "| NO |" in between
    assert between.endswith("\n\n## B\n\nb\n")
    assert soak_loader.TITLE in between
