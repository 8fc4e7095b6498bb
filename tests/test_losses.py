"""Losses against hand values, spyndex, torchmetrics and torch; masks; gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import spyndex
import torch
from scipy.stats import wasserstein_distance
from torch.nn import functional
from torchmetrics.functional.image import structural_similarity_index_measure

from crossband.errors import BandError, RecipeError
from crossband.losses import Loss, Prediction, masked_mean
from crossband.losses.adversarial import (
    OBJECTIVES,
    feature_matching,
    gradient_penalty,
    objective,
    over_judges,
)
from crossband.losses.distribution import EarthMovers, earth_movers
from crossband.losses.index import IndexLoss
from crossband.losses.pixel import L1, MSE, Charbonnier
from crossband.losses.relative import Relative
from crossband.losses.ssim import SSIMLoss
from crossband.losses.structure import SpatialCorrelative
from crossband.signature import Signature, UnitRange

UNITS = {
    "reflectance": UnitRange([(0.0, 0.5), (0.0, 0.4), (0.0, 0.3)], [(0.1, 0.6)]),
    "display": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)]),
    "kelvin": UnitRange([(200.0, 320.0)] * 3, [(200.0, 320.0)]),
}
SIGNATURE = Signature(["red", "green", "blue"], ["nir"], UNITS)
LOSSES = [
    L1(),
    MSE(),
    Charbonnier(),
    EarthMovers(),
    SSIMLoss(window=5, sigma=1.0),
    Relative(IndexLoss("NDVI"), scale=0.1),
    SpatialCorrelative(queries=3, patch=8, against="target"),
    *(IndexLoss(i) for i in ("NDVI", "NDWI", "GNDVI", "EVI", "SAVI", "MSAVI")),
]


def make(batch=2, size=16, units=None, dtype=torch.float32, seed=0, mask=None):
    rng = torch.Generator().manual_seed(seed)

    def rand(c):
        return torch.rand(batch, c, size, size, generator=rng, dtype=dtype) * 0.8 + 0.1

    if mask is None:
        mask = torch.rand(batch, 1, size, size, generator=rng) > 0.2
    units = units or ["reflectance"] * batch
    return Prediction(rand(1), rand(1), rand(3), mask, SIGNATURE, units)


def change(p, **values):
    return Prediction(**{**{k: getattr(p, k) for k in p.__dataclass_fields__}, **values})


def test_every_registered_loss_is_tested_here():
    assert set(Loss.known) == {type(loss).__name__ for loss in LOSSES}


def test_masked_mean_by_hand():
    values = torch.tensor([[[[1.0, 2.0], [3.0, math.nan]]], [[[5.0, 6.0], [7.0, 8.0]]]])
    mask = torch.tensor([[[[True, False], [True, False]]], [[[False] * 2] * 2]])
    assert masked_mean(values, mask).tolist() == [2.0, 0.0]


def test_pixel_losses_by_hand():
    p = change(
        make(1, 1, mask=torch.ones(1, 1, 1, 1, dtype=torch.bool)),
        output=torch.full((1, 1, 1, 1), 0.7),
        target=torch.full((1, 1, 1, 1), 0.3),
    )
    assert L1()(p).item() == pytest.approx(0.4)
    assert MSE()(p).item() == pytest.approx(0.16)
    assert Charbonnier(epsilon=0.3)(p).item() == pytest.approx(0.5)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: f"{type(x).__name__}-{x.label}")
def test_one_value_for_each_sample_whatever_the_batch(loss):
    p = make(3)
    whole = loss(p)
    assert whole.shape == (3,)
    for i in range(3):
        part = {k: getattr(p, k)[i : i + 1] for k in ("output", "target", "source", "mask")}
        one = loss(change(p, **part, units=p.units[:1]))
        torch.testing.assert_close(one, whole[i : i + 1])


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: f"{type(x).__name__}-{x.label}")
def test_what_is_masked_changes_nothing(loss):
    mask = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    mask[0, 0, 2:4, 3:9] = False
    p = make(mask=mask)
    before = loss(p)
    assert (before > 0).all()
    spoiled = change(
        p,
        output=torch.where(mask, p.output, 9.0),
        target=torch.where(mask, p.target, -5.0),
        source=torch.where(mask, p.source, 3.0),
    )
    torch.testing.assert_close(loss(spoiled), before)
    seen = change(spoiled, mask=torch.ones_like(mask))
    assert not torch.allclose(loss(seen)[0], before[0])
    nothing = change(p, mask=torch.zeros_like(mask))
    assert loss(nothing).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: f"{type(x).__name__}-{x.label}")
def test_gradient(loss):
    mask = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    mask[:, :, 0, :3] = False
    p = make(size=8, dtype=torch.float64, mask=mask)
    output = p.output.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: loss(change(p, output=x)), (output,))
    loss(change(p, output=output)).sum().backward()
    assert output.grad.abs()[~p.mask].max() == 0
    assert output.grad.abs()[p.mask].max() > 0


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: f"{type(x).__name__}-{x.label}")
def test_perfect_output_costs_nothing(loss):
    p = make()
    value = loss(change(p, output=p.target))
    torch.testing.assert_close(value, torch.full((2,), getattr(loss, "epsilon", 0.0)))


def test_earth_movers_equals_scipy():
    p = make(2, 12, dtype=torch.float64)
    for i, value in enumerate(EarthMovers()(p)):
        x, y = (t[i][p.mask[i]].numpy() for t in (p.output, p.target))
        assert value.item() == pytest.approx(wasserstein_distance(x, y), rel=1e-9)
    assert (EarthMovers()(p) <= L1()(p)).all()


def test_earth_movers_between_sets_of_different_sizes():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.rand(3, 40, generator=rng).double(), torch.rand(3, 25, generator=rng).double()
    valid_x, valid_y = torch.rand(3, 40, generator=rng) > 0.3, torch.rand(3, 25) > 0.3
    found = earth_movers(x, y, valid_x, valid_y)
    for i in range(3):
        expected = wasserstein_distance(x[i][valid_x[i]].numpy(), y[i][valid_y[i]].numpy())
        assert found[i].item() == pytest.approx(expected, rel=1e-9)
    assert earth_movers(x, y, valid_x, torch.zeros_like(valid_y)).tolist() == [0.0] * 3
    x.requires_grad_(True)
    y.requires_grad_(True)
    given = (valid_x, valid_y)
    assert torch.autograd.gradcheck(lambda a, b: earth_movers(a, b, *given), (x, y))


def test_earth_movers_is_one_of_values_and_not_of_places():
    """A shift of d costs d, shuffled pixels cost nothing, and the gradient says which way."""
    p = make(2, 16, dtype=torch.float64)
    for shift in (0.3, -0.05):
        moved = (p.target + shift).requires_grad_(True)
        value = EarthMovers()(change(p, output=moved))
        torch.testing.assert_close(value, torch.full((2,), abs(shift), dtype=torch.float64))
        value.sum().backward()
        share = math.copysign(1.0, shift) / p.mask.sum(dim=(1, 2, 3), keepdim=True).double()
        torch.testing.assert_close(moved.grad, share * p.mask)
    shuffled = p.target.clone()
    for i in range(2):
        values = p.target[i][p.mask[i]]
        shuffled[i][p.mask[i]] = values[torch.randperm(len(values))]
    assert not torch.equal(shuffled, p.target)
    assert EarthMovers()(change(p, output=shuffled)).abs().max() < 1e-12
    bands = {k: getattr(p, k).repeat(1, 2, 1, 1) for k in ("output", "target")}
    bands["output"][:, 1] = bands["target"][:, 1] + 0.2  # the mean over the bands
    both = EarthMovers()(change(p, **bands))
    torch.testing.assert_close(both, (EarthMovers()(p) + 0.2) / 2)


def test_relative_is_a_logarithm_of_each_sample():
    p = make()
    plain = L1()(p)
    torch.testing.assert_close(Relative(L1(), scale=0.5)(p), 0.5 * (1 + plain / 0.5).log())
    torch.testing.assert_close(Relative(L1(weight=7), scale=1e6)(p), plain, rtol=1e-3, atol=0)


def test_ssim_equals_torchmetrics():
    p = make(size=24, mask=torch.ones(2, 1, 24, 24, dtype=torch.bool))
    for i in range(2):
        ours = 1 - SSIMLoss()(p)[i]
        _, theirs = structural_similarity_index_measure(
            p.output[i : i + 1], p.target[i : i + 1], data_range=1.0, return_full_image=True
        )
        inner = theirs[..., 5:-5, 5:-5]  # it mirrors at the border, we leave the border out
        assert ours.item() == pytest.approx(inner.mean().item(), abs=1e-5)


def test_ssim_takes_only_windows_that_are_wholly_valid():
    mask = torch.ones(1, 1, 24, 24, dtype=torch.bool)
    mask[..., 11:] = False  # columns 0..10 hold one column of 11 x 11 windows
    p = make(1, 24, mask=mask)
    left = change(p, **{k: getattr(p, k)[..., :11] for k in ("output", "target", "source", "mask")})
    torch.testing.assert_close(SSIMLoss()(p), SSIMLoss()(left))
    mask = mask.clone()
    mask[..., 10] = False
    assert SSIMLoss()(change(p, mask=mask)).item() == 0.0
    assert SSIMLoss()(make(1, 8)).item() == 0.0


@pytest.mark.parametrize("name", ["NDVI", "NDWI", "GNDVI", "EVI", "SAVI", "MSAVI"])
def test_index_loss_equals_spyndex(name):
    p = make(1, 12, dtype=torch.float64)
    source = p.physical_source[0].numpy()
    nir = {"true": p.physical_target[0, 0].numpy(), "out": p.physical_output[0, 0].numpy()}
    r, g, b = source
    letters = {"R": r, "G": g, "B": b, "L": 0.5, "g": 2.5, "C1": 6.0, "C2": 7.5}
    needed = set(spyndex.indices[name].bands)
    value = {
        k: spyndex.computeIndex(
            name, {x: v for x, v in {**letters, "N": n, "L": _l(name)}.items() if x in needed}
        )
        for k, n in nir.items()
    }
    expected = np.abs(value["out"] - value["true"])
    n, denominator = nir["true"], 1.0
    if name != "MSAVI":
        denominator = {
            "NDVI": n + r, "NDWI": n + g, "GNDVI": n + g, "SAVI": n + r + 0.5,
            "EVI": n + 6 * r - 7.5 * b + 1,
        }[name]  # fmt: skip
    where = p.mask[0, 0].numpy() & (np.abs(denominator) > 0.02)
    assert IndexLoss(name)(p).item() == pytest.approx(expected[where].mean(), rel=1e-6)


def _l(name):
    return 1.0 if name == "EVI" else 0.5


def pixel(nir, true, red, unit="reflectance"):
    """One pixel with physical values."""
    r = UNITS[unit]

    def norm(value, bounds):
        return torch.tensor((value - bounds[0]) / (bounds[1] - bounds[0])).view(1, 1, 1, 1)

    source = torch.cat([norm(red, r.source[0]), norm(0.1, r.source[1]), norm(0.1, r.source[2])], 1)
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    output = norm(nir, r.target[0]).requires_grad_(True)
    return Prediction(output, norm(true, r.target[0]), source, mask, SIGNATURE, [unit])


def test_index_loss_clamps_below_zero_and_keeps_the_gradient():
    p = pixel(nir=-0.2, true=0.3, red=0.1)
    value = IndexLoss("NDVI")(p)
    assert value.item() == pytest.approx(0.5 - (-1.0), abs=1e-5)  # NDVI of 0 and 0.1 is -1
    value.backward()
    assert p.output.grad.item() < 0  # more NIR is better, also from below zero


def test_index_loss_leaves_out_dark_pixels_and_holds_its_own_denominator():
    assert IndexLoss("NDVI")(pixel(nir=0.4, true=0.009, red=0.01)).item() == 0.0
    value = IndexLoss("NDVI", guard=0.02)(pixel(nir=0.004, true=0.3, red=0.001))
    assert value.item() == pytest.approx(0.299 / 0.301 - 0.003 / 0.02, abs=1e-5)


def test_index_loss_counts_only_where_the_unit_allows_it():
    picture = make(units=["display", "reflectance"])
    assert (IndexLoss("NDVI")(picture) > 0).tolist() == [True, True]
    assert (IndexLoss("EVI")(picture) > 0).tolist() == [False, True]
    assert IndexLoss("NDVI")(make(units=["kelvin"] * 2)).tolist() == [0.0, 0.0]
    mixed = UnitRange(UNITS["display"].source, [(0.0, 1.0)], "reflectance")
    signature = Signature(["red", "green", "blue"], ["nir"], {"display": mixed})
    p = change(make(units=["display"] * 2), signature=signature)
    assert IndexLoss("NDVI")(p).tolist() == [0.0, 0.0]


def test_index_loss_names_what_is_wrong():
    with pytest.raises(ValueError, match="did you mean 'NDVI'"):
        IndexLoss("NDVY")
    signature = Signature(
        ["green", "blue"], ["nir"], {"display": UnitRange([(0, 1)] * 2, [(0, 1)])}
    )
    p = change(make(units=["display"] * 2), signature=signature, source=make().source[:, :2])
    with pytest.raises(BandError, match="no red"):
        IndexLoss("NDVI")(p)


def test_objectives_against_torch():
    true, made = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    bce = functional.binary_cross_entropy_with_logits
    one, zero = torch.ones_like(true), torch.zeros_like(true)
    expected = {
        "lsgan": (
            functional.mse_loss(made, one),
            0.5 * (functional.mse_loss(true, one) + functional.mse_loss(made, zero)),
        ),
        "bce": (bce(made, one), 0.5 * (bce(true, one) + bce(made, zero))),
        "hinge": (-made.mean(), 0.5 * ((1 - true).relu().mean() + (1 + made).relu().mean())),
        "wasserstein": (-made.mean(), made.mean() - true.mean()),
        "relativistic": (bce(made - true, one), bce(true - made, one)),
    }
    assert set(expected) == set(OBJECTIVES)
    for name, (generator, discriminator) in expected.items():
        game = objective(name)
        assert game.generator(true, made).shape == (3,)
        torch.testing.assert_close(game.generator(true, made).mean(), generator)
        torch.testing.assert_close(game.discriminator(true, made).mean(), discriminator)
        assert game.generator(true, made.bfloat16()).dtype == torch.float32
    with pytest.raises(RecipeError, match="did you mean 'lsgan'"):
        objective("lsgn")


def test_judges_count_alike_whatever_they_see():
    true = [[torch.randn(3, 1, 8, 8)], [torch.randn(3, 1, 2, 2)]]
    made = [[torch.randn(3, 1, 8, 8)], [torch.randn(3, 1, 2, 2)]]
    game = objective("lsgan")
    parts = [game.discriminator(true[k][0], made[k][0]) for k in range(2)]
    torch.testing.assert_close(over_judges(game.discriminator, true, made), sum(parts) / 2)


def test_feature_matching_by_hand():
    true = [[torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 2, 2), torch.zeros(2, 1, 1, 1)]]
    made = [[true[0][0] + 0.5, true[0][1] - 2.0, true[0][2] + 100.0]]  # the scores do not count
    assert feature_matching(true, made).tolist() == [2.5, 2.5]
    coarse = [[torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 1, 1)]]
    zero = [[torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 1, 1)]]
    assert feature_matching(true + zero, made + coarse).tolist() == [1.75, 1.75]
    x, y = (torch.rand(2, 3, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    value = feature_matching([[x, x[:, :1]]], [[y, y[:, :1]]])
    value.sum().backward()
    assert x.grad is None
    torch.testing.assert_close(y.grad, ((y - x).sign() / 48).detach())


def test_the_gradient_penalty_is_known_for_a_linear_critic():
    """The score's gradient is the critic's weight over the number of scores."""
    weight = torch.randn(1, 2, 1, 1, dtype=torch.float64, requires_grad=True)

    def critic(x):
        return functional.conv2d(x, weight.to(x.dtype))

    mixed = torch.rand(3, 2, 4, 5, dtype=torch.float64)
    value = gradient_penalty(critic, mixed)
    slope = weight.norm() / 20**0.5  # 20 pixels, each with the gradient weight / 20
    torch.testing.assert_close(value.double(), ((slope - 1) ** 2).expand(3), atol=1e-6, rtol=1e-6)
    value.sum().backward()
    expected = 3 * 2 * (slope - 1) / 20**0.5 * (weight / weight.norm())
    torch.testing.assert_close(weight.grad, expected.detach(), atol=1e-6, rtol=1e-6)
    flat = gradient_penalty(lambda x: (x * 0).sum(1, keepdim=True), mixed)
    assert flat.isfinite().all()
