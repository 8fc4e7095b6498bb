"""The benchmark of training runs, with networks of a few channels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "train.py"
TINY = ["--width", "2", "--levels", "3", "--size", "32", "--batch", "2", "--rounds", "1"]


@pytest.fixture
def run(interpreters):
    def finish(*arguments):
        command = [SCRIPT, *TINY, "--steps", "1", "--threads", "1", "--device", "cpu", *arguments]
        done = interpreters.run(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return finish


@pytest.mark.slow
def test_both_ways_are_timed(run, tmp_path):
    out = run("--json", tmp_path / "numbers.json")
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    speed = numbers["images_per_second"]
    assert numbers["ratio"] == pytest.approx(speed["crossband"] / speed["plain"])
    assert f"Crossband / plain: {numbers['ratio']:.2f}" in out
    assert numbers["flop_per_image"] > 1e6


@pytest.mark.slow
def test_the_parts_of_a_step_are_named(run, tmp_path):
    out = run("--profile", "--json", tmp_path / "numbers.json")
    seconds = json.loads((tmp_path / "numbers.json").read_text())["seconds_per_step"]
    parts = {"generator", "losses", "discriminator", "backward", "optimiser", "average", "loader"}
    assert parts <= set(seconds)
    assert all(value > 0 for value in seconds.values())
    assert "| under no label |" in out
