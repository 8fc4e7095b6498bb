"""The benchmark of one training step of each system, with networks of a few channels."""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
BOTH = ["method.generator.width=2", "method.back.width=2"]
CRITICS = ["method.discriminator.width=2", "method.back_discriminator.width=2"]
LEVELS = ["method.generator.levels=3", "method.back.levels=3"]
FIELD = 'method.generator.field={"class":"VectorFieldUNet","arguments":{"width":4,"levels":2}}'
SMALL = {
    "rgb2nir/wgan-gp-small": ["method.generator.width=2", CRITICS[0], "data.crop=64"],
    "rgb2nir/flow-matching": [FIELD, "data.crop=16"],
    "rgb2nir/discrete-flow-matching": [FIELD, "data.crop=16"],
    "rgb2nir/nir-gan": ["method.generator.width=2", CRITICS[0], "data.crop=32"],
    "rgb2nir/cnn": ["method.generator.width=2"],
    "sar2optical/pix2pix": [
        *("method.generator.width=2", CRITICS[0], LEVELS[0]),
        "data.crop=32",
    ],
    "rgb2thermal/cyclegan": [
        *(*BOTH, *CRITICS, "method.structure.patch=8"),
        *("method.generator.blocks=1", "method.back.blocks=1", "data.crop=32"),
    ],
    "rgb2thermal/discogan": [*BOTH, *LEVELS, *CRITICS, "data.crop=64"],
    "rgb2thermal/dualgan": [*BOTH, *LEVELS, *CRITICS, "data.crop=64"],
    "rgb2thermal/unit": [*BOTH, *CRITICS, "data.crop=64"],
}


@pytest.fixture
def systems(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import train_systems

    return train_systems


@pytest.mark.parametrize("name", SMALL)
def test_a_plain_step_trains_every_network(systems, name):
    method, same, _ = systems.build(name, argparse.Namespace(set=SMALL[name], batch=2))
    parts = [n for n, _ in method.named_children() if n in (
        "generator", "back", "discriminator", "back_discriminator"
    ) and getattr(method, n) is not None]  # fmt: skip
    before = {n: copy.deepcopy(getattr(method, n).state_dict()) for n in parts}
    step = systems.plain_step(method, same.batch, [same.unit] * 2)
    step()
    step()
    for part in parts:
        trained = [n for n, p in getattr(method, part).named_parameters() if p.requires_grad]
        after = getattr(method, part).state_dict()
        moved = sum(bool((after[n] != before[part][n]).any()) for n in trained)
        assert moved > 0.7 * len(trained), part


@pytest.mark.slow
def test_all_ways_take_turns_and_what_is_there_is_kept(interpreters, tmp_path):
    name, path = "rgb2nir/wgan-gp-small", tmp_path / "numbers.json"
    command = [
        *(FOLDER / "train_systems.py", "--only", name, "--json", path, "--batch", 2),
        *("--rounds", 2, "--seconds", 0.01, "--threads", 1, "--set", *SMALL[name]),
    ]
    done = interpreters.run(*command)
    assert done.returncode == 0, done.stderr
    own = json.loads(path.read_text())[name]
    assert {way: len(s) for way, s in own["seconds"].items()} == dict.fromkeys(
        ("plain", "fp32", "crossband"), 2
    )
    ratios = own["ratios"]["crossband"]
    assert min(ratios) <= own["ratio"]["crossband"] <= max(ratios)
    assert f"| `{name}` | 64 | 2 |" in done.stdout
    assert "median of the systems" in done.stdout
    before = path.read_bytes()
    assert interpreters.run(*command).returncode == 0
    assert path.read_bytes() == before
    assert interpreters.run(*command, "--again").returncode == 0
    again = json.loads(path.read_text())[name]
    assert {way: s[:2] for way, s in again["seconds"].items()} == own["seconds"]
    assert {len(s) for s in again["seconds"].values()} == {4}
    assert again["ratios"]["fp32"][:2] == own["ratios"]["fp32"]
    parts = interpreters.run(*command, "--profile").stdout
    assert f"{name}: " in parts
    assert "penalty" in parts
