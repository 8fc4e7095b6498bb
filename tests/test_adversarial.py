"""Adversarial objectives against torch and hand values, with gradients in float64.

The tables have a row for each objective of the registry: one without is a failure.
"""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional

from crossband.errors import RecipeError
from crossband.networks.discriminators.patch_critic import PatchCritic
from crossband.networks.discriminators.patchgan import PatchGAN
from crossband.training.losses.adversarial import (
    GAN_LOSSES,
    feature_matching,
    gan_loss,
    gradient_penalty,
    mean_over_discriminators,
)

bce = functional.binary_cross_entropy_with_logits
#: By torch: scores of target and output, ones, zeros -> what each side minimises. Where both sides
#: have a term, the discriminator's sum is halved, as in pix2pix.
BY_TORCH = {
    "lsgan": (
        lambda t, o, one, zero: functional.mse_loss(o, one),
        lambda t, o, one, zero: (functional.mse_loss(t, one) + functional.mse_loss(o, zero)) / 2,
    ),
    "bce": (
        lambda t, o, one, zero: bce(o, one),
        lambda t, o, one, zero: (bce(t, one) + bce(o, zero)) / 2,
    ),
    "hinge": (
        lambda t, o, one, zero: -o.mean(),
        lambda t, o, one, zero: (
            (functional.hinge_embedding_loss(t, -one) + functional.hinge_embedding_loss(-o, -one))
            / 2
        ),
    ),
    "wasserstein": (
        lambda t, o, one, zero: -o.mean(),
        lambda t, o, one, zero: o.mean() - t.mean(),
    ),
    "relativistic": (
        lambda t, o, one, zero: bce(o - t, one),
        lambda t, o, one, zero: bce(t - o, one),
    ),
}
#: By hand, for the scores 0.5 of the target and -1 of the output: generator, discriminator.
#: ln(1 + e) = 1.3132617, ln(1 + e^-0.5) = 0.4740770, ln(1 + e^-1) = 0.3132617,
#: ln(1 + e^1.5) = 1.7014133, ln(1 + e^-1.5) = 0.2014133.
BY_HAND = {
    "lsgan": (4.0, (0.25 + 1.0) / 2),
    "bce": (1.3132617, (0.4740770 + 0.3132617) / 2),
    "hinge": (1.0, (0.5 + 0.0) / 2),
    "wasserstein": (1.0, -1.5),
    "relativistic": (1.7014133, 0.2014133),
}
LABELLED = ("lsgan", "bce")


def scores(seed=0, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 1, 4, 4, generator=rng, dtype=dtype) for _ in range(2)]


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_both_sides_equal_torch_and_hand_values(name):
    true, made = scores()
    one, zero = torch.ones_like(true), torch.zeros_like(true)
    loss = gan_loss(name)
    true, made = 2.0 * true, 2.0 * made  # on both sides of where the hinge bends
    for side, theirs in zip((loss.generator, loss.discriminator), BY_TORCH[name], strict=True):
        assert side(true, made).shape == (3,)
        expected = [theirs(*(x[i : i + 1] for x in (true, made, one, zero))) for i in range(3)]
        torch.testing.assert_close(side(true, made), torch.stack(expected))
    t, o = torch.full((1, 1, 2, 2), 0.5), torch.full((1, 1, 2, 2), -1.0)
    found = loss.generator(t, o).item(), loss.discriminator(t, o).item()
    assert found == pytest.approx(BY_HAND[name], abs=1e-6)
    assert loss.generator(true, made.bfloat16()).dtype != torch.bfloat16


@pytest.mark.parametrize(
    ("name", "smoothing"), [*((n, 0.0) for n in GAN_LOSSES), *((n, 0.1) for n in LABELLED)]
)
def test_gradients(name, smoothing):
    true, made = (x.requires_grad_(True) for x in scores(1))
    loss = gan_loss(name, smoothing)
    assert gradcheck(loss.discriminator, (true, made))
    assert gradcheck(loss.generator, (true, made))
    # And each side wants what it should: the generator higher scores of its output, the
    # discriminator lower ones of it and higher ones of the target.
    up = torch.autograd.grad(loss.generator(true.detach(), made).sum(), made)[0]
    down = torch.autograd.grad(loss.discriminator(true, made).sum(), (true, made))
    middle = made.abs() < 0.9  # where lsgan has not gone beyond its label, and hinge not flat
    assert (up[middle] < 0).all()
    assert (down[1][middle & (made > 0)] > 0).all()
    assert (down[0][(true < 0.85) & (true > -1)] < 0).all()


def test_an_unknown_objective_names_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'lsgan'"):
        gan_loss("lsgn")


def test_smoothed_labels_are_those_of_cross_entropy():
    true, made = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    entropy = functional.binary_cross_entropy_with_logits
    found = gan_loss("bce", 0.1).discriminator(true, made).mean()
    expected = entropy(true, torch.full_like(true, 0.9)) + entropy(made, torch.zeros_like(made))
    assert found.item() == pytest.approx(expected.item() / 2, rel=1e-5)
    found = gan_loss("lsgan", 0.2).discriminator(true, made).mean()
    expected = 0.5 * (((true - 0.8) ** 2).mean() + (made**2).mean())
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    # One-sided: what the generator minimises stays.
    same = gan_loss("bce").generator(true, made)
    assert torch.equal(gan_loss("bce", 0.1).generator(true, made), same)
    x = true.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(gan_loss("bce", 0.1).discriminator(x, made).sum(), x)
    (wanted,) = torch.autograd.grad(entropy(x, torch.full_like(x, 0.9)) * 1.5, x)
    torch.testing.assert_close(slope, wanted)
    for name, value in (("hinge", 0.1), ("bce", 1.0), ("wasserstein", 0.1)):
        with pytest.raises(RecipeError, match=r"method\.smoothing must be"):
            gan_loss(name, value)


def test_judges_count_alike_whatever_they_see():
    true = [[torch.randn(3, 1, 8, 8)], [torch.randn(3, 1, 2, 2)]]
    made = [[torch.randn(3, 1, 8, 8)], [torch.randn(3, 1, 2, 2)]]
    loss = gan_loss("lsgan")
    parts = [loss.discriminator(true[k][0], made[k][0]) for k in range(2)]
    torch.testing.assert_close(
        mean_over_discriminators(loss.discriminator, true, made), sum(parts) / 2
    )


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


@pytest.mark.parametrize(("reduction", "steepness"), [("mean", 20**-0.5), ("sum", 20**0.5)])
def test_the_gradient_penalty_is_known_for_a_linear_critic(reduction, steepness):
    """20 pixels with a score each: the gradient at each is the weight, or the weight over 20."""
    weight = torch.randn(1, 2, 1, 1, dtype=torch.float64, requires_grad=True)

    def critic(x):
        return functional.conv2d(x, weight.to(x.dtype))

    mixed = torch.rand(3, 2, 4, 5, dtype=torch.float64)
    value = gradient_penalty(critic, mixed, reduction)
    slope = weight.norm() * steepness
    torch.testing.assert_close(value.double(), ((slope - 1) ** 2).expand(3), atol=1e-6, rtol=1e-6)
    value.sum().backward()
    expected = 3 * 2 * (slope - 1) * steepness * (weight / weight.norm())
    torch.testing.assert_close(weight.grad, expected.detach(), atol=1e-6, rtol=1e-6)
    flat = gradient_penalty(lambda x: (x * 0).sum(1, keepdim=True), mixed, reduction)
    assert flat.isfinite().all()


def test_gradients_of_feature_matching_and_of_several_judges():
    def made(*judges):
        return [[x, x[:, :1].sin()] for x in judges]

    def double(seed, *shape):
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()

    fixed = made(double(0, 2, 3, 4, 4), double(1, 2, 2, 2, 2))
    free = [double(s, *x[0].shape).requires_grad_(True) for s, x in zip((2, 3), fixed, strict=True)]
    assert gradcheck(lambda *x: feature_matching(fixed, made(*x)), free)
    for loss in GAN_LOSSES.values():
        for side in (loss.generator, loss.discriminator):
            assert gradcheck(
                lambda *x, side=side: mean_over_discriminators(side, fixed, made(*x)), free
            )


def test_the_gradient_of_the_gradient_penalty():
    """Of a critic that bends, with respect to its weights."""
    rng = torch.Generator().manual_seed(0)
    mixed = torch.rand(2, 2, 5, 5, generator=rng, dtype=torch.float64)
    weights = [torch.randn(s, generator=rng).double() for s in ((3, 2, 3, 3), (1, 3, 2, 2))]

    def penalty(first, second):
        return gradient_penalty(
            lambda x: functional.conv2d(functional.softplus(functional.conv2d(x, first)), second),
            mixed,
        )

    assert gradcheck(penalty, [w.requires_grad_(True) for w in weights])


def test_the_gradient_penalty_in_bfloat16():
    """Its second derivatives too: the critic learns the same, within the noise of a batch."""
    torch.manual_seed(0)
    critic = PatchGAN(3, 1, width=16, layers=3, bias=False)
    source, mixed = torch.rand(4, 3, 64, 64), torch.rand(4, 1, 64, 64)
    found = {}
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            penalty = gradient_penalty(lambda x: critic(source, x), mixed, "sum")
        assert penalty.dtype == torch.float32
        weights = [w for w in critic.parameters() if w.ndim > 1]
        gradients = torch.autograd.grad(penalty.mean(), weights)
        found[enabled] = penalty, torch.cat([g.flatten() for g in gradients])
    torch.testing.assert_close(found[True][0], found[False][0], rtol=0.05, atol=0.02)
    assert functional.cosine_similarity(found[True][1], found[False][1], dim=0) > 0.98
    assert not torch.equal(found[True][1], found[False][1])  # it was computed in bfloat16


def test_the_gradient_penalty_of_attention_has_a_gradient():
    """Wide enough, and laid out as in training, for the kernel that has no second derivative."""
    torch.manual_seed(0)
    critic = PatchCritic(width=16, strided=2, plain=0, conditional=False, norm="none", attention=1)
    critic.double().to(memory_format=torch.channels_last)
    with torch.no_grad():
        for p in critic.parameters():
            p.normal_(0.0, 0.2)
    gamma = critic.layers[2].gamma
    mixed = torch.rand(2, 1, 16, 16, dtype=torch.float64).to(memory_format=torch.channels_last)

    def penalty():
        return gradient_penalty(lambda x: critic(x, x), mixed).mean()

    value = penalty()
    (found,) = torch.autograd.grad(value, gamma)
    sides = []
    for step in (1e-5, -2e-5):
        gamma.data += step
        sides.append(penalty().item())
    assert found.item() == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-6)
    assert abs(found.item()) > 1e-4
