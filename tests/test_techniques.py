"""Techniques of the reading list, each against values by hand, a library or a plain computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from crossband.core.registry import build
from crossband.errors import RecipeError
from crossband.networks import Discriminator, Generator, parameter_count
from crossband.networks.conditions import Conditions
from crossband.networks.discriminators.patch_critic import PatchCritic
from crossband.networks.generators.progressive import ProgressiveCritic, ProgressiveUNet
from crossband.networks.generators.style import (
    NEWEST,
    AdaptiveInstanceNorm,
    ModulatedConv2d,
    StyleResNet,
    truncate_normal,
)
from crossband.networks.generators.thermal_gan import TwoStepThermal
from crossband.networks.generators.unit import (
    UNITResNet,
    UNITViT,
    position_encoding,
    share_latent_layers,
)
from crossband.networks.layers.attention import SelfAttention
from crossband.networks.layers.batch_layers import (
    MinibatchDiscrimination,
    MinibatchStd,
    VirtualBatchNorm2d,
    set_reference_batch,
)
from crossband.networks.layers.convolution import initialise
from crossband.networks.layers.equalised import EqualConv2d, EqualLinear, PixelNorm
from crossband.training.losses.base import Prediction
from crossband.training.losses.structure import SpatialCorrelative
from crossband.training.methods.modules import (
    add_orthogonal_gradient,
    clip_weights,
    orthogonal_penalty,
)
from crossband.training.methods.regions import region_means


def double(*shape, seed=0, grad=True):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_(grad)


# Parameter counts: exact where the reference gives one, stated for the others.


@pytest.mark.parametrize(
    ("base", "name", "arguments", "count"),
    [
        (Generator, "ResNet", {"upsample": "resize"}, 11_378_179),  # CycleGAN
        (Discriminator, "PatchGAN", {}, 2_764_737),
        (Discriminator, "PatchCritic", {}, 2_764_737),  # PatchGAN, by another name
        (Generator, "DiscoUNet", {}, 54_409_603),  # DiscoGAN
        (Discriminator, "PatchCritic", {"strided": 3, "plain": 0}, 662_977),
        (Discriminator, "PatchCritic", {"strided": 4, "norm": "affine"}, 6_962_369),  # DualGAN
        # By the papers' plans; the thermal system's own UNIT has other layers.
        (Generator, "UNITResNet", {}, 10_188_803),
        (Discriminator, "UNITCritic", {}, 6_274_689),
        (Generator, "UNITViT", {}, 100_412_928),
        (Generator, "TwoStepThermal", {"out_channels": 1}, 121_675_522),
    ],
)
def test_parameter_counts(base, name, arguments, count):
    bands = {"out_channels": 3}
    if base is Discriminator:
        bands = {"source_channels": 3, "target_channels": 3}
        if name != "UNITCritic":
            bands["conditional"] = False
    with torch.device("meta"):
        network = build(base, name, bands | arguments)
    assert parameter_count(network) == count


def test_halves_of_unit_vit_are_of_the_plan_that_is_known_of_the_seed():
    """Patch 16, 768 numbers, 12 heads, 6 + 1 blocks each half: 50.2 million each, by hand.

    The seed is described as about 50 million (its encoder) and 54 million (its generator). Nothing
    in the plan tells what the other 4 million of the second are, so they are not here.
    """
    width, pixels = 768, 3 * 16 * 16
    square, norm = width * width, 2 * width
    block = 2 * norm + (4 * square + 4 * width) + (8 * square + 5 * width)
    encoder = 7 * block + (pixels * width + width)  # a patch becomes a token
    decoder = 7 * block + norm + (width * pixels + pixels)  # and back
    with torch.device("meta"):
        network = UNITViT(3, 3)
    halves = [parameter_count(network.encoder) + parameter_count(network.shared_encoder)]
    halves.append(parameter_count(network.decoder) + parameter_count(network.shared_decoder))
    assert halves == [encoder, decoder] == [50_205_696, 50_207_232]


# Self-attention.


def test_attention_by_hand():
    layer = SelfAttention(8).double()
    x = double(2, 8, 3, 4, grad=False)
    assert torch.equal(layer(x), x)  # gamma begins at 0
    layer.gamma.data.fill_(0.7)
    f, g, h, v = (m.weight[:, :, 0, 0] for m in (layer.key, layer.query, layer.value, layer.out))
    flat = x.flatten(2)
    for b in range(2):
        score = (f @ flat[b]).T @ (g @ flat[b])  # s_ij = f(x_i) . g(x_j)
        share_of = score.softmax(dim=0)  # over i
        expected = flat[b] + 0.7 * v @ ((h @ flat[b]) @ share_of)
        torch.testing.assert_close(layer(x)[b].flatten(1), expected)
    assert gradcheck(layer, (double(1, 8, 2, 3),))


# Spectral norm: the library's.


def test_spectral_norm_bounds_every_layer():
    torch.manual_seed(0)
    critic = PatchCritic(width=4, strided=2, norm="none", spectral=True, attention=1)
    with torch.no_grad():
        for module in critic.modules():
            if isinstance(module, nn.Conv2d):
                module.parametrizations.weight.original.mul_(30.0)
    for _ in range(60):
        critic(torch.rand(1, 3, 16, 16), torch.rand(1, 1, 16, 16))
    convolutions = [m for m in critic.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 8
    for module in convolutions:
        largest = torch.linalg.matrix_norm(module.weight.flatten(1), 2)
        assert largest.item() == pytest.approx(1.0, rel=0.02)


# What looks at the batch.


def test_minibatch_discrimination_by_hand():
    torch.manual_seed(0)
    layer = MinibatchDiscrimination(5, kernels=3, size=2).double()
    x = double(4, 5, 2, 3, grad=False)
    out = layer(x)
    assert torch.equal(out[:, :5], x)
    compared = (x.mean(dim=(2, 3)) @ layer.weight).reshape(4, 3, 2)
    for i in range(4):
        for b in range(3):
            near = sum(
                math.exp(-float((compared[i, b] - compared[j, b]).abs().sum())) for j in range(4)
            )
            assert out[i, 5 + b].unique().item() == pytest.approx(near)
    assert layer(x[:1].repeat(3, 1, 1, 1))[:, 5:].eq(3.0).all()  # three times the same sample
    assert gradcheck(layer, (double(3, 5, 2, 2),))


def test_minibatch_std_by_hand():
    layer = MinibatchStd(group=2)
    x = double(4, 3, 2, 5, grad=False)
    out = layer(x)
    for i, j in ((0, 2), (1, 3)):
        spread = np.sqrt(np.var(x[[i, j]].numpy(), axis=0) + 1e-8).mean()
        assert out[[i, j], 3].flatten().tolist() == pytest.approx([spread] * 20)
    assert MinibatchStd()(x[:1].repeat(4, 1, 1, 1))[:, 3].max() < 2e-4  # a collapse
    assert MinibatchStd(4)(x[:3]).shape == (3, 4, 2, 5)  # groups of three
    assert gradcheck(layer, (double(4, 2, 2, 2),))


def test_virtual_batch_norm_by_hand():
    layer = VirtualBatchNorm2d(2).double()
    layer.weight.data, layer.bias.data = torch.tensor([2.0, 3.0]), torch.tensor([0.5, -0.5])
    layer = layer.double()
    x, reference = double(2, 2, 3, 3, grad=False), double(4, 2, 3, 3, seed=1, grad=False)
    out, ours = layer(x, reference)
    weight, bias = layer.weight[:, None, None], layer.bias[:, None, None]
    for i in range(2):
        # As one sample of five: means over all their pixels.
        five = torch.cat([reference, x[i : i + 1]])
        mean = five.mean(dim=(0, 2, 3))[:, None, None]
        var = five.var(dim=(0, 2, 3), correction=0)[:, None, None]
        expected = (x[i] - mean) / (var + 1e-5).sqrt() * weight + bias
        torch.testing.assert_close(out[i], expected)
    expected = functional.batch_norm(reference, None, None, layer.weight, layer.bias, training=True)
    torch.testing.assert_close(ours, expected)
    assert gradcheck(layer, (double(2, 2, 2, 2), double(3, 2, 2, 2, seed=1)))


def test_with_a_reference_a_score_does_not_depend_on_its_neighbours():
    torch.manual_seed(0)
    critic = PatchCritic(width=4, strided=2, norm="virtual")
    source, target = torch.rand(3, 3, 16, 16), torch.rand(3, 1, 16, 16)
    set_reference_batch(critic, source, target)
    set_reference_batch(critic, source * 0, target * 0)  # the first one stays
    assert torch.equal(critic.reference.kept, torch.cat([source, target], 1))
    s, t = torch.rand(4, 3, 16, 16), torch.rand(4, 1, 16, 16)
    torch.testing.assert_close(critic(s, t)[2:3], critic(s[2:3], t[2:3]), atol=1e-6, rtol=1e-5)
    other = PatchCritic(width=4, strided=2, norm="virtual")
    other.load_state_dict(critic.state_dict())
    assert torch.equal(other(s, t), critic(s, t))
    batchwise = PatchCritic(width=4, strided=2, norm="batch")
    assert not torch.allclose(batchwise(s, t)[2:3], batchwise(s[2:3], t[2:3]), atol=1e-3)


# Pixel norm, equalised learning rate.


def test_pixel_norm_and_equalised_layers():
    x = double(2, 5, 3, 4)
    out = PixelNorm()(x)
    torch.testing.assert_close(out.square().mean(dim=1), torch.ones(2, 3, 4, dtype=torch.float64))
    torch.testing.assert_close(
        out[1, :, 2, 3], x[1, :, 2, 3] / x[1, :, 2, 3].square().mean().sqrt()
    )
    assert gradcheck(PixelNorm(), (x,))
    torch.manual_seed(0)
    layer = EqualConv2d(64, 48, 3)
    assert layer.weight.std().item() == pytest.approx(1.0, abs=0.02)
    picture = torch.randn(2, 64, 9, 9)
    expected = functional.conv2d(picture, layer.weight * math.sqrt(2 / (64 * 9)), padding=1)
    torch.testing.assert_close(layer(picture), expected, atol=1e-5, rtol=1e-5)
    assert layer(picture)[..., 1:-1, 1:-1].std().item() == pytest.approx(math.sqrt(2), rel=0.05)
    line = EqualLinear(40, 30, gain=math.sqrt(2), rate=0.01)
    z = torch.randn(500, 40)
    assert line.weight.std().item() == pytest.approx(100.0, rel=0.05)
    assert line(z).std().item() == pytest.approx(math.sqrt(2), rel=0.1)
    # A step of Adam moves every weight alike; what it means is `rate` times as much.
    before = line(z).detach()
    optimizer = torch.optim.Adam([line.weight], lr=0.1)
    line(z)[:, 0].mean().backward()
    optimizer.step()
    assert (line(z) - before).abs().max() < 0.1 * 0.01 * 40


# Style.


def test_adaptive_instance_norm_sets_mean_and_deviation():
    layer = AdaptiveInstanceNorm(3, 4).double()
    x, w = double(2, 3, 16, 16, grad=False), double(2, 4, seed=1, grad=False)
    out = layer(3.0 * x + 7.0, w)
    torch.testing.assert_close(out.mean(dim=(2, 3)), layer.offset(w))
    deviation = out.std(dim=(2, 3), correction=0)
    torch.testing.assert_close(deviation, layer.scale(w).abs(), atol=1e-4, rtol=1e-4)
    assert gradcheck(layer, (double(2, 3, 2, 3), double(2, 4, seed=1)))


def test_modulated_convolution_is_a_convolution_with_scaled_weights():
    torch.manual_seed(0)
    layer = ModulatedConv2d(3, 5, 4).double()
    layer.bias.data = torch.randn(5).double()
    x, w = double(2, 3, 6, 7, grad=False), double(2, 4, seed=1, grad=False)
    out = layer(x, w)
    for b in range(2):
        weight = layer.weight * layer.scale(w)[b][None, :, None, None]
        weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        padded = functional.pad(x[b : b + 1], (1, 1, 1, 1), mode="reflect")
        torch.testing.assert_close(out[b : b + 1], functional.conv2d(padded, weight, layer.bias))
    assert gradcheck(layer, (double(1, 3, 3, 3), double(1, 4, seed=1)))


@pytest.mark.parametrize("modulation", ["weights", "instance"])
def test_styles_give_several_targets_and_what_lies_between(modulation):
    torch.manual_seed(0)
    network = StyleResNet(width=4, blocks=1, style=3, codes=6, depth=2, modulation=modulation)
    network.eval()
    x, z = torch.rand(1, 3, 12, 12), torch.randn(2, 1, 3)
    first, second = (network.forward_conditioned(x, Conditions(style=style)) for style in z)
    assert (first - second).abs().max() > 1e-3
    assert torch.equal(first, network.forward_conditioned(x, Conditions(style=z[0])))
    torch.testing.assert_close(network.between(x, z[0], z[1], 0.0), first)
    torch.testing.assert_close(network.between(x, z[0], z[1], 1.0), second)
    middle = network.between(x, z[0], z[1], 0.5)
    assert (middle - first).abs().max() > 1e-4
    w = 0.5 * (network.codes_of(z[0]) + network.codes_of(z[1]))
    torch.testing.assert_close(middle, network._translate(x, w))
    torch.testing.assert_close(
        network(x), network.forward_conditioned(x, Conditions(style=z[0] * 0))
    )


def test_truncation_moves_styles_towards_their_mean():
    torch.manual_seed(0)
    network = StyleResNet(width=4, blocks=1, style=3, codes=6, depth=2)
    z = torch.randn(5, 3)
    with torch.no_grad():
        w = network.codes_of(z)
    torch.testing.assert_close(network.mapping.mean, NEWEST * w.mean(dim=0))
    network.mapping.mean.copy_(torch.arange(6.0))
    network.eval()
    torch.testing.assert_close(network.codes_of(z), w)  # the default leaves them
    network.truncation = 0.25
    expected = torch.arange(6.0) + 0.25 * (w - torch.arange(6.0))
    torch.testing.assert_close(network.codes_of(z), expected)
    network.truncation = 0.0
    assert network.codes_of(z).unique(dim=0).shape[0] == 1
    network.truncation, network.limit = 1.0, 0.5
    torch.testing.assert_close(network.codes_of(z), network.mapping(truncate_normal(z, 0.5)))


def test_cut_off_gives_the_truncated_normal_distribution():
    z = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    found = truncate_normal(z, 1.5).numpy()
    assert np.abs(found).max() <= 1.5
    assert stats.kstest(found, stats.truncnorm(-1.5, 1.5).cdf).pvalue > 0.01
    assert stats.kstest(z.clamp(-1.5, 1.5).numpy(), stats.truncnorm(-1.5, 1.5).cdf).pvalue < 1e-6
    assert (truncate_normal(z.sort().values, 1.5).diff() >= 0).all()
    with pytest.raises(RecipeError, match="limit must be above 0"):
        truncate_normal(z, 0.0)


def test_a_colour_picture_has_a_set_of_thermal_ones():
    torch.manual_seed(0)
    network = TwoStepThermal(width=4, levels=2, contrast_levels=2, style=3, norm="none").eval()
    x, styles = torch.rand(2, 3, 16, 16), torch.randn(4, 3)
    found = network.several(x, styles)
    assert found.shape == (2, 4, 1, 16, 16)
    assert min((found[:, i] - found[:, j]).abs().max() for i in range(4) for j in range(i)) > 1e-6
    one = network.forward_conditioned(x, Conditions(style=styles[2:3].expand(2, -1)))
    torch.testing.assert_close(found[:, 2], one)
    regions = network.regions(x, styles[2:3].expand(2, -1))
    torch.testing.assert_close(one, regions + network.contrasts(x, regions))


# Progressive growing.


def test_growth_is_a_function_of_the_step():
    network = ProgressiveUNet(width=2, levels=2, grown=8)
    assert network.growth == 2.0  # a finished model
    growths = {}
    for step in (0, 1, 2, 3, 4, 5, 6, 7, 8, 100):
        network.grow(step)
        growths[step] = network.growth
    # Four phases of two steps: coarse, fading in, finer, fading in.
    expected = [0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0, 1.5, 2.0, 2.0]
    assert list(growths.values()) == pytest.approx(expected)
    network.grow(3)
    other = ProgressiveUNet(width=2, levels=2)
    other.load_state_dict(network.state_dict())
    assert other.growth == pytest.approx(0.5)


def test_a_young_network_is_coarse_and_layers_fade_in():
    torch.manual_seed(0)
    network = ProgressiveUNet(width=4, levels=2).eval()
    critic = ProgressiveCritic(width=4, levels=2)
    x, y = torch.rand(2, 3, 16, 16), torch.rand(2, 1, 16, 16)

    def answers(growth):
        network.growth = critic.growth = growth
        return network(x), critic(x, y)

    coarse, scores = answers(0.0)
    cells = coarse.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    assert (cells.amax(4) - cells.amin(4)).max() == 0
    assert scores.shape == (2, 1, 4, 4)
    # What is finer than its pictures does not reach a young discriminator.
    blurred = functional.interpolate(functional.avg_pool2d(y, 4), scale_factor=4.0)
    torch.testing.assert_close(critic(x, blurred), scores, atol=1e-5, rtol=1e-5)
    for level in (0.0, 1.0):
        before, after = answers(level), answers(level + 1e-6)
        for a, b in zip(before, after, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    for level in (1.0, 2.0):
        before, after = answers(level - 1e-6), answers(level)
        for a, b in zip(before, after, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    one, half, two = (answers(g) for g in (1.0, 1.5, 2.0))
    assert (one[0] - two[0]).abs().max() > 1e-3
    assert (half[0] - two[0]).abs().max() > 1e-4
    fine = two[0].unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    assert (fine.amax(4) - fine.amin(4)).max() > 1e-3


def test_half_way_a_new_layer_has_half_a_say():
    """Against the two branches computed apart: the decoder's end is linear in the fade."""
    torch.manual_seed(0)
    critic = ProgressiveCritic(width=4, levels=1, conditional=False)
    y = torch.rand(3, 1, 8, 8)
    critic.growth = 0.3
    new = critic.blocks[0](critic.enter[0](y))
    old = critic.enter[1](functional.avg_pool2d(y, 2))
    torch.testing.assert_close(critic(y, y), critic.last(0.7 * old + 0.3 * new))


# Weights.


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_orthogonal_regularisation(memory_format):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(4, 2, 1),
        nn.ConvTranspose2d(2, 3, 4),
        spectral_norm(nn.ConvTranspose2d(3, 2, 2)),
    ).double()
    network.to(memory_format=memory_format)
    weights = [p for p in network.parameters() if p.ndim > 1]
    value = orthogonal_penalty([network])
    by_hand = 0.0
    for number, p in enumerate(weights):
        outputs_first = p.transpose(0, 1) if number > 1 else p
        rows = outputs_first.detach().flatten(1).numpy()
        product = rows @ rows.T
        by_hand += (product**2).sum() - (np.diag(product) ** 2).sum()
    assert value.item() == pytest.approx(by_hand)
    wanted = torch.autograd.grad(0.3 * value, weights)
    for p in network.parameters():
        p.grad = torch.ones_like(p)
    add_orthogonal_gradient(0.3, [network])
    for p, gradient in zip(weights, wanted, strict=True):
        torch.testing.assert_close(p.grad, 1.0 + gradient)
    assert all(p.grad.eq(1).all() for p in network.parameters() if p.ndim == 1)
    initialise(network[:3].to(memory_format=torch.contiguous_format), "orthogonal")
    assert orthogonal_penalty([network[:3]]).item() < 1e-20


def test_clipped_weights():
    line = nn.Linear(2, 1)
    line.weight.data, line.bias.data = torch.tensor([[0.5, -0.004]]), torch.tensor([-3.0])
    clip_weights(0.01, [line])
    assert line.weight.tolist()[0] == pytest.approx([0.01, -0.004])
    assert line.bias.tolist() == pytest.approx([-0.01])


def test_initial_weights():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(16, 32, 4), nn.BatchNorm2d(4000), nn.ConvTranspose2d(8, 16, 4)
    )
    initialise(network)
    for module in network:
        mean = 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0
        assert module.weight.mean().item() == pytest.approx(mean, abs=2e-3)
        assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert module.bias.abs().max() == 0
    initialise(network, "orthogonal")
    rows = network[0].weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(32), atol=1e-5, rtol=0)
    rows = network[2].weight.transpose(0, 1).flatten(1)  # of its 16 outputs
    torch.testing.assert_close(rows @ rows.T, torch.eye(16), atol=1e-5, rtol=0)


# Structure.


def test_structure_ignores_what_things_look_like():
    rng = torch.Generator().manual_seed(0)
    picture = functional.interpolate(torch.rand(1, 3, 6, 6, generator=rng), size=(48, 48))
    mask = torch.ones(1, 1, 48, 48, dtype=torch.bool)
    loss = SpatialCorrelative(queries=4, patch=16)
    grey = picture.mean(dim=1, keepdim=True)
    assert loss.compare(1.0 - grey, picture, mask).item() < 1e-3  # a negative
    assert loss.compare(0.2 * grey + 0.5, picture, mask).item() < 0.05  # less contrast
    other = functional.interpolate(torch.rand(1, 1, 6, 6, generator=rng), size=(48, 48))
    assert loss.compare(other, picture, mask).item() > 0.3
    assert loss.compare(grey.roll(5, 3), picture, mask).item() > 0.2
    assert loss.compare(grey, picture, ~mask).item() == 0


def test_structure_of_a_coarse_source_is_compared_at_the_pixels_of_the_output():
    rng = torch.Generator().manual_seed(0)
    source, output = (
        torch.rand(2, 3, 16, 16, generator=rng),
        torch.rand(2, 1, 32, 32, generator=rng),
    )
    mask = torch.ones(2, 1, 32, 32, dtype=torch.bool)
    loss = SpatialCorrelative(queries=4, patch=8)
    found = loss(Prediction(output, output, source, mask, None, []))
    fine = functional.interpolate(source, (32, 32), mode="bilinear")
    torch.testing.assert_close(found, loss.compare(output, fine, mask))


def test_regions_by_hand():
    values = [0.1, 0.12, 0.14, 0.8, 0.9, 0.5]
    target = torch.tensor(values).view(1, 1, 2, 3)
    mask = torch.tensor([1, 1, 1, 1, 1, 0], dtype=torch.bool).view(1, 1, 2, 3)
    found = region_means(target, mask, 2).flatten().tolist()
    assert found == pytest.approx([0.12, 0.12, 0.12, 0.85, 0.85, 0.0])
    assert region_means(target, mask, 1).flatten()[:5].tolist() == pytest.approx([0.412] * 5)
    many = region_means(target, mask, 64).flatten()[:5].tolist()
    assert many == pytest.approx(values[:5])
    assert region_means(target, ~mask & False, 3).abs().max() == 0


# Shared latent spaces.


def test_generators_share_what_lies_next_to_the_latent_picture():
    one, other = UNITResNet(3, 1, width=4), UNITResNet(1, 3, width=4)
    before = parameter_count(other)
    share_latent_layers(one, other)
    assert other.shared_encoder is one.shared_encoder
    assert other.shared_decoder is one.shared_decoder
    assert parameter_count(other) == before
    with pytest.raises(RecipeError, match="of the same form"):
        share_latent_layers(one, UNITResNet(1, 3, width=6))
    with pytest.raises(RecipeError, match="needs generators with a latent picture, not UNITResNet"):
        share_latent_layers(one, StyleResNet(1, 3, width=2))


def test_query_points_are_everywhere_in_a_picture_of_one_patch():
    """A hole in the middle leaves the others, though the patch is as large as the picture."""
    rng = torch.Generator().manual_seed(0)
    one, other = torch.rand(2, 1, 1, 32, 32, generator=rng)
    mask = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    mask[..., 14:18, 14:18] = False
    assert SpatialCorrelative(queries=4, patch=32).compare(one, other, mask).item() > 0.1


def test_places_of_tokens_differ():
    found = position_encoding(3, 5, 8)
    assert found.shape == (15, 8)
    assert found.unique(dim=0).shape[0] == 15
    assert found[7, :2].tolist() == pytest.approx([math.sin(1), math.sin(1 / 100)])  # row 1
    assert found[7, 4].item() == pytest.approx(math.sin(2))  # column 2
