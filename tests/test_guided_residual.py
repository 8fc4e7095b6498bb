"""GuidedResidual, GuidedDetail: an unguided network, corrected by its own error at the guide."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

import crossband
from crossband.errors import RecipeError
from crossband.networks.conditions import FACTS, Conditions
from crossband.networks.generators.guided import LEVEL
from crossband.networks.generators.guided_detail import RIDGE, GuidedDetail, regression
from crossband.networks.generators.guided_residual import GuidedResidual
from crossband.training.fit import fit
from crossband.training.run_folder import MODEL

SMALL = {"width": 6, "depth": 1, "hidden": 4}


def made(kind, **arguments):
    """Return a network whose gains are 1, and which trusts the guide, as before training."""
    if kind is GuidedDetail:
        return GuidedDetail(guide=4, hidden=4, **arguments).eval()
    network = GuidedResidual(guide=4, **SMALL, **arguments).eval()
    for member in network.gains.members:
        torch.nn.init.zeros_(member.pixel_out.weight)
    return network


@pytest.fixture(params=[GuidedResidual, GuidedDetail])
def plain(request):
    torch.manual_seed(0)
    network = made(request.param)
    torch.nn.init.constant_(network.unguided.line.bias, 1.0)
    return network


def guided(values, valid=1.0):
    facts = torch.zeros(len(values), FACTS, *values.shape[-2:])
    facts[:, 0] = valid
    return torch.cat([values, facts], dim=1)


@torch.no_grad()
def test_an_untrained_one_carries_the_gain_that_the_unguided_network_lacks(plain):
    x, guide = torch.rand(2, 3, 32, 32), torch.rand(2, 4, 32, 32)
    found = plain.forward_conditioned(x, Conditions(guide=guided(guide)))
    here, there = plain.unguided(x), plain.unguided(guide[:, :3])
    gain = (guide[:, 3:] + LEVEL) / (there + LEVEL)
    torch.testing.assert_close(found, (here + LEVEL) * gain - LEVEL, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_without_a_guide_it_is_the_unguided_network(plain):
    x = torch.rand(1, 3, 32, 32)
    nothing = Conditions(guide=guided(torch.zeros(1, 4, 32, 32), valid=0.0))
    for found in (plain(x), plain.forward_conditioned(x, nothing)):
        torch.testing.assert_close(found, plain.unguided(x), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_bands_of_the_guide_are_taken_by_number(plain):
    other = made(type(plain), seen=[3, 1, 0], carried=[2])
    other.unguided.load_state_dict(plain.unguided.state_dict())
    x, guide = torch.rand(1, 3, 16, 16), torch.rand(1, 4, 16, 16)
    one = plain.forward_conditioned(x, Conditions(guide=guided(guide)))
    moved = guided(guide[:, [2, 1, 3, 0]])
    torch.testing.assert_close(other.forward_conditioned(x, Conditions(guide=moved)), one)


def test_the_network_of_a_model_is_not_trained(plain):
    other = made(type(plain))
    for parameter in other.gains.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    other.set_unguided(plain.unguided)
    other.train()
    assert other.gains.training
    assert not other.unguided.training
    loss = other.forward_conditioned(
        torch.rand(1, 3, 16, 16), Conditions(guide=guided(torch.rand(1, 4, 16, 16)))
    ).mean()
    loss.backward()
    assert all(p.grad is None for p in other.unguided.parameters())
    assert all(p.grad is not None for p in other.gains.parameters())


@torch.no_grad()
def test_detail_depends_on_the_surroundings_and_not_beyond_the_guide():
    torch.manual_seed(1)
    network = made(GuidedDetail)
    torch.nn.init.normal_(network.last.weight)
    torch.nn.init.constant_(network.unguided.line.bias, 1.0)
    x, guide = torch.rand(1, 3, 64, 64), torch.rand(1, 4, 64, 64)
    valid = torch.zeros(1, 1, 64, 64)
    valid[..., :32] = 1.0
    facts = torch.cat([valid, torch.zeros(1, FACTS - 1, 64, 64)], dim=1)
    seen = Conditions(guide=torch.cat([guide * valid, facts], dim=1))
    found = network.forward_conditioned(x, seen)
    torch.testing.assert_close(found[..., 32:], network.unguided(x)[..., 32:], rtol=1e-5, atol=1e-6)
    other = x.clone()
    other[..., 10, 14] += 1.0  # a neighbour, which the unguided network of a pixel does not see
    moved = (network.forward_conditioned(other, seen) - found).abs()
    assert moved[..., 10, 10] > 1e-5
    assert moved[..., 10, 40:].max() == 0.0


@torch.no_grad()
def test_detail_does_not_count_masked_pixels():
    torch.manual_seed(1)
    network = made(GuidedDetail)
    torch.nn.init.normal_(network.last.weight)
    x, guide = torch.rand(1, 3, 64, 48), torch.rand(1, 4, 64, 48)
    larger = torch.zeros(1, 3, 64, 64)
    larger[..., :48] = x
    beside = torch.cat([guide, torch.rand(1, 4, 64, 16)], dim=-1)
    one = network.forward_conditioned(x, Conditions(guide=guided(guide)))
    other = network.forward_conditioned(larger, Conditions(guide=guided(beside)))
    inside = (..., slice(0, 44))  # the last cell is interpolated with one beyond it
    torch.testing.assert_close(other[inside], one[inside], rtol=1e-4, atol=1e-5)


def test_regressions_agree_with_a_solver():
    torch.manual_seed(0)
    colours = torch.rand(2, 3, 500, dtype=torch.double)
    values = torch.stack([colours[:, 0] / 2 - colours[:, 2], 2 * colours[:, 1]], dim=1)
    values += 0.2 * torch.rand_like(values)
    both = torch.cat([colours, values], dim=1)
    products = torch.cat([(both[:, n : n + 1] * both[:, n:]).mean(-1) for n in range(3)], dim=1)
    slopes, explained = regression(
        both.mean(-1)[..., None, None], products[..., None, None], count=3
    )
    for n in range(2):
        c, v = (part[n] - part[n].mean(-1, keepdim=True) for part in (colours, values))
        ridge = RIDGE * torch.eye(3, dtype=torch.double)
        expected = torch.linalg.solve(c @ c.T / 500 + ridge, c @ v.T / 500)
        torch.testing.assert_close(slopes[n, :, :, 0, 0], expected.T)
        torch.testing.assert_close(explained[n, :, 0, 0], (expected * (c @ v.T) / 500).sum(0))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seen": [0, 1]}, "3 numbers in seen"),
        ({"carried": [4]}, "0 to 3"),
        ({"unguided": {"class": "PerPixelMLP"}}, "a class and arguments"),
        (
            {"unguided": {"class": "PerPixelMLP", "arguments": {"in_channels": 4}}},
            "PerPixelMLP takes 4 bands",
        ),
        (
            {"unguided": {"class": "ResNet", "arguments": {"width": 4, "norm": "instance"}}},
            "must be local",
        ),
    ],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(RecipeError, match=words):
        GuidedResidual(guide=4, **SMALL, **arguments)


@pytest.fixture
def manifest(make_raster, tmp_path):
    values = torch.rand(4, 40, 40).numpy() / 2
    path = make_raster("place.tif", values, names=("red", "green", "blue", "nir"))
    row = {"source": path, "target": path, "sensor": "reflectance"}
    pd.DataFrame([row | {"group": n} for n in range(3)]).to_csv(tmp_path / "pairs.csv")
    return tmp_path / "pairs.csv"


def options(manifest, *more):
    small = ("--data.batch=2", "--data.crop=32", "--data.steps=2", "--method.max_steps=2")
    size = "--method.generator.hidden=4"
    return [f"--data.manifest={manifest}", "--data.val_fraction=0.3", *small, size, *more]


@pytest.mark.slow
def test_a_recipe_takes_it_from_a_model_which_is_kept_bit_for_bit(manifest, tmp_path):
    run = tmp_path / "run"
    fit("rgb2nir/guided", options(manifest), run, baselines=False)
    words = options(manifest, "--method.max_steps=4")
    fit("rgb2nir/guided", words, run, baselines=False, resume=True)
    found = crossband.load(run / MODEL).network
    bundled = crossband.load("rgb2nir").network.state_dict()
    assert all(torch.equal(v, bundled[k]) for k, v in found.unguided.state_dict().items())


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        (
            "rgb2nir/local-unet",
            ("--unguided=rgb2nir",),
            "only GuidedDetail and Guided",
        ),
        ("rgb2nir/guided", ("--unguided=sar2optical",), "takes 2 bands and gives 3"),
        (
            "rgb2nir/guided",
            ("--method.signature.units.reflectance.target=[[0,0.5]]",),
            "its ranges of reflectance",
        ),
        ("rgb2nir/guided", ("--method.generator.seen=[2,1,0]",), "guide's source bands are blue"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(name, more, words, manifest, tmp_path):
    given = options(manifest, *more) if name == "rgb2nir/guided" else [*more]
    with pytest.raises(RecipeError, match=words):
        fit(name, [f"--data.manifest={manifest}", *given], tmp_path / "run", baselines=False)
    assert not (tmp_path / "run").exists()
