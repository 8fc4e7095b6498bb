"""Memory that is freed stays with the process, where that is asked for."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, torch
from crossband.devices import keep_memory
if {keep}:
    keep_memory()
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="keep_memory is for glibc")
def test_freed_memory_is_used_again_without_page_faults():
    faults = {}
    for keep in (True, False):
        command = [sys.executable, "-c", COUNT.format(keep=keep)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        faults[keep] = int(done.stdout)
    # Each round faults in all of its memory anew without it; the system may take some of it back.
    assert faults[True] < 0.5 * faults[False]
