"""Memory that is freed stays with the process where that is asked for; kernels do not pile up."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from crossband.core.devices import has_native_bf16, limit_kernel_caches, resolve_device
from crossband.errors import CrossbandError

CAPACITIES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")

COUNT = """
import resource, torch
from crossband.core.devices import keep_freed_memory
if {keep}:
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    x = torch.ones(2**24)  # 64 MiB
    y = x + 1.0
    del x
    y * 2.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(5):
    faults()  # the heap grows until the blocks of a step fit
print(sum(faults() for _ in range(5)))
"""


@pytest.mark.parametrize("value", ["x", "0", "-1", "1.5", "9" * 20])
def test_a_cache_that_would_end_the_process_is_named(monkeypatch, value):
    monkeypatch.setenv("LRU_CACHE_CAPACITY", value)
    with pytest.raises(CrossbandError, match=f"LRU_CACHE_CAPACITY={value}: a whole number above 0"):
        resolve_device("cpu")


@pytest.mark.parametrize(("value", "kept"), [("", "32"), (" 5", "5"), ("64", "64")])
def test_a_cache_of_nothing_gets_the_default(monkeypatch, value, kept):
    monkeypatch.setenv("LRU_CACHE_CAPACITY", value)
    limit_kernel_caches()
    assert os.environ["LRU_CACHE_CAPACITY"] == kept


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="keep_freed_memory is for glibc")
def test_freed_memory_is_used_again_without_page_faults():
    faults = {}
    for keep in (True, False):
        command = [sys.executable, "-c", COUNT.format(keep=keep)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        faults[keep] = int(done.stdout)
    # Each round faults in all of its memory anew without it; the system may take some of it back.
    assert faults[True] < 0.5 * faults[False]


SHAPES = """
import re, sys, torch
from pathlib import Path
import crossband
from crossband.translate.engine import Engine
torch.set_num_threads(1)
def mib():
    text = Path("/proc/self/smaps_rollup").read_text()
    own = re.findall(r"^Private_(?:Clean|Dirty):\\s+(\\d+)", text, re.M)
    return sum(map(int, own)) // 1024
engine = Engine(crossband.load("rgb2nir"), precision="bf16")
def run(width):
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        engine.model.network(torch.rand(1, 3, 16, width))
run(16)
before = mib()
for width in range(20, 20 + 4 * 100, 4):
    run(width)
print(mib() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="read from Linux' /proc")
@pytest.mark.skipif(not has_native_bf16(torch.device("cpu")), reason="kernels of bf16")
def test_kernels_of_a_hundred_widths_are_not_all_kept():
    grown = []
    for capacity in ({}, dict.fromkeys(CAPACITIES, "1024")):
        environment = {k: v for k, v in os.environ.items() if k not in CAPACITIES} | capacity
        command = [sys.executable, "-c", SHAPES]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=120, env=environment
        )
        grown.append(int(done.stdout))
    assert grown[0] < 0.5 * grown[1]  # and what the environment says wins
