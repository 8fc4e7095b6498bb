"""Models between two models: the weights, what is refused, and `crossband blend`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from commands import one_line
from conftest import rgb2nir_signature

from crossband import Model, load
from crossband.core.signature import Signature, UnitRange
from crossband.errors import CrossbandError, ModelError
from crossband.model.interpolate import interpolate, interpolate_weights
from crossband.networks.generators.local_unet import LocalUNet
from crossband.networks.generators.per_pixel import PerPixelLinear, PerPixelMean, PerPixelMLP


def model(name, seed=0, network=None, signature=None, **about):
    network = network or LocalUNet(3, 1, width=6, depth=1, hidden=4)
    torch.manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape)
    made = Model(network, signature or rgb2nir_signature(), name=name, task="rgb2nir", about=about)
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_weights_lie_between(weight):
    one, other = model("one", 1), model("other", 2)
    mixed = interpolate(one, other, weight)
    assert (mixed.name, mixed.task) == ("one+other", "rgb2nir")
    for key, value in mixed.network.state_dict().items():
        a, b = one.network.state_dict()[key], other.network.state_dict()[key]
        torch.testing.assert_close(value, (1 - weight) * a + weight * b)
        assert weight != 0.0 or torch.equal(value, a)
        assert weight != 1.0 or torch.equal(value, b)
    # It is no mean of answers, which is what the network class Blend gives.
    x = torch.rand(3, 12, 12) * 0.4
    if 0 < weight < 1:
        mean = (1 - weight) * one(x) + weight * other(x)
        assert (mixed(x) - mean).abs().max() > 1e-5


def test_a_straight_line_between_straight_lines():
    """Where the network is linear in its weights, the answer is the weighted mean."""
    one, other = (model(str(n), n, PerPixelLinear()) for n in (1, 2))
    x = torch.rand(1, 3, 4, 4)
    expected = 0.7 * one.network(x) + 0.3 * other.network(x)
    mixed = interpolate(one, other, 0.3)
    torch.testing.assert_close(mixed.network(x), expected, atol=1e-6, rtol=0)


def test_counters_are_taken_from_the_first():
    one = {"mean": torch.tensor([1.0]), "batches": torch.tensor(5)}
    other = {"mean": torch.tensor([2.0]), "batches": torch.tensor(8)}
    mixed = interpolate_weights(one, other, 0.5)
    assert mixed["mean"].item() == 1.5
    assert mixed["batches"].item() == 5
    assert mixed["batches"].dtype == torch.int64


def other_signature(**changes):
    ranges = {"source": [(0.0, 0.5)] * 3, "target": [(0.0, 0.8)]}
    bands = {"source": ["red", "green", "blue"], "target": ["nir"]}
    whole = UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)])
    bands |= {k: v for k, v in changes.items() if k in bands}
    reflectance = UnitRange(**(ranges | changes.get("reflectance", {})))
    return Signature(**bands, units={"reflectance": reflectance, "display": whole})


@pytest.mark.parametrize(
    ("network", "signature", "words"),
    [
        (PerPixelMLP(), None, r"network \(LocalUNet and PerPixelMLP\)"),
        (LocalUNet(width=8, depth=1, hidden=4), None, r"arguments\.width \(6 and 8\)"),
        (None, other_signature(target=["swir16"]), r"signature\.target\.0 \(nir and swir16\)"),
        (
            None,
            other_signature(reflectance={"target": [(0.0, 0.7)]}),
            r"signature\.units\.reflectance\.target\.0\.1 \(0\.8 and 0\.7\)",
        ),
    ],
)
def test_the_first_difference_is_named(network, signature, words):
    with pytest.raises(ModelError, match=words):
        interpolate(model("one"), model("other", 1, network, signature))


@pytest.mark.parametrize("weight", [-0.1, 1.5, float("nan")])
def test_a_share_is_0_to_1(weight):
    with pytest.raises(CrossbandError, match="0 to 1"):
        interpolate(model("one"), model("other", 1), weight)


def test_facts_on_which_both_agree_are_kept():
    one = model("one", sensors=["naip"], licence="CC0", measured=["good"], gsd=[1, 2])
    other = model("other", 1, sensors=["naip"], licence="MIT", gsd=[1, 2])
    about = interpolate(one, other).about
    assert about["sensors"] == ["naip"]
    assert about["gsd"] == [1, 2]
    assert not {"licence", "measured"} & about.keys()


@pytest.fixture
def two(tmp_path):
    """Two saved models: one baseline equal, one different, one that only the first has."""
    for number, name in enumerate(("a", "b")):
        made = model(name, number)
        made.baselines["linear"] = model("linear", 5, PerPixelLinear())
        made.baselines["mlp"] = model("mlp", number, PerPixelMLP(width=4))
        if name == "a":
            made.baselines["mean"] = model("mean", 5, PerPixelMean())
        made.save(tmp_path / name)
    return tmp_path / "a", tmp_path / "b"


def test_the_command(crossband_command, two, tmp_path):
    a, b = two
    out = tmp_path / "mixed"
    done = crossband_command("blend", a, b, "--weight", "0.25", "-o", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out)
    assert done.stderr == (
        "baselines kept: linear; left out, as the two models' are not equal: mean, mlp\n"
    )
    mixed, first, second = load(out), load(a), load(b)
    assert mixed.name == "mixed"
    assert set(mixed.baselines) == {"linear"}
    for key, value in mixed.network.state_dict().items():
        x, y = first.network.state_dict()[key], second.network.state_dict()[key]
        torch.testing.assert_close(value, 0.75 * x + 0.25 * y)
    assert json.loads((out / "model.json").read_text())["about"]["interpolated"] == [
        {"name": "a", "sha256": first.weights_hash, "share": 0.75},
        {"name": "b", "sha256": second.weights_hash, "share": 0.25},
    ]
    assert "a and b" in (out / "README.md").read_text()
    one_line(crossband_command("blend", a, b, "-o", out), "--overwrite")
    done = crossband_command("blend", a, b, "-o", out, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert load(out).about["interpolated"][0]["share"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{a}", "{b}", "-o", "{a}", "--overwrite"], ["the output is one of the two models"]),
        (["{a}", "{b}", "-o", "{here}", "--overwrite"], ["no model.json", "not replaced"]),
        (["{a}", "rgb2nir", "-o", "{new}"], ["differ in network", "LocalUNet and FamiliarBlend"]),
        (["{a}", "rgb2nri", "-o", "{new}"], ["did you mean 'rgb2nir'?"]),
        (["{a}", "{b}", "-o", "{new}", "--weight", "2"], ["--weight", "0 to 1"]),
        (["{a}", "{b}", "-o", "{new}", "--wieght", "1"], ["did you mean '--weight'?"]),
        (["{a}", "-o", "{new}"], ["B"]),
    ],
)
def test_what_is_refused(crossband_command, two, tmp_path, arguments, words):
    here = {"a": two[0], "b": two[1], "here": tmp_path, "new": tmp_path / "new"}
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    one_line(crossband_command("blend", *(text.format(**here) for text in arguments)), *words)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


@pytest.mark.slow
def test_it_imports_no_training_code(two, tmp_path):
    code = (
        "import sys; from crossband.cli.main import main; code = main(sys.argv[1:]);"
        "names = {m.split('.')[0] for m in sys.modules};"
        "bad = names & {'lightning', 'matplotlib', 'pandas', 'jsonargparse', 'optuna'};"
        "print(bad); sys.exit(code or bool(bad))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "blend", *map(str, two), "-o", str(tmp_path / "new")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
