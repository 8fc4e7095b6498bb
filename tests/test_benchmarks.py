"""The benchmark of training runs, with networks of a few channels."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "train.py"
TINY = ["--width", "2", "--levels", "3", "--size", "32", "--batch", "2", "--rounds", "1"]


def run(*arguments):
    command = [sys.executable, SCRIPT, *TINY, "--steps", "1", "--threads", "1", "--device", "cpu"]
    command = [*map(str, command), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_ways_are_timed(tmp_path):
    out = run("--json", tmp_path / "numbers.json")
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    speed = numbers["images_per_second"]
    assert numbers["ratio"] == pytest.approx(speed["crossband"] / speed["plain"])
    assert f"Crossband / plain: {numbers['ratio']:.2f}" in out
    assert numbers["flop_per_image"] > 1e6


def test_the_parts_of_a_step_are_named(tmp_path):
    out = run("--profile", "--json", tmp_path / "numbers.json")
    seconds = json.loads((tmp_path / "numbers.json").read_text())["seconds_per_step"]
    parts = {"generator", "losses", "discriminator", "backward", "optimiser", "average", "loader"}
    assert parts <= set(seconds)
    assert all(value > 0 for value in seconds.values())
    assert "| under no label |" in out
