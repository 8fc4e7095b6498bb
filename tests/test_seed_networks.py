"""Networks of the published systems: counted, and what their papers say of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from registered import cases, waken
from torch import nn
from torch.nn import functional

from crossband.core.registry import build
from crossband.core.resample import bicubic
from crossband.networks import Discriminator, Generator, parameter_count
from crossband.networks.discriminators.patchgan import MultiScalePatchGAN, PatchGAN, PixelGAN
from crossband.networks.generators.autoencoder import UNetAutoencoder
from crossband.networks.generators.bicubic import Bicubic
from crossband.networks.generators.edsr import EDSR
from crossband.networks.generators.pix2pixhd import Pix2PixHD
from crossband.networks.generators.resnet import ResNet, reflected
from crossband.networks.generators.strided_unet import StridedUNet
from crossband.networks.generators.subpixel_resnet import SubpixelResNet
from crossband.networks.layers.convolution import Resize, receptive_field

CRITIC = {"width": 32, "largest": 16, "bias": False}
RADAR = {"source_channels": 3, "target_channels": 3, "norm": "batch"}


@pytest.mark.parametrize(
    ("name", "arguments", "count"),
    [
        # The published code of each system, counted.
        ("StridedUNet", {}, 16_747_009),
        ("StridedUNet", {"levels": 4}, 4_164_097),
        ("ResNet", {"border": 10}, 11_371_905),
        ("UNet", {"in_channels": 3, "out_channels": 3}, 54_541_827),
        ("UNetAutoencoder", {"scale": 2}, 7_699_011),
        ("UNetAutoencoder", {"scale": 4}, 7_699_011),
        ("SmallCNN", {}, 3 * 32 * 9 + 32 + 32 * 64 * 9 + 64 + 64 * 9 + 1),
        # EDSR-baseline: 1.37, 1.55 and 1.52 million in the tables of its successors.
        ("EDSR", {"scale": 2}, 1_369_859),
        ("EDSR", {"scale": 3}, 1_554_499),
        ("EDSR", {"scale": 4}, 1_517_571),
        # pix2pixHD's global network from 35 classes and an edge map, as its code prints it.
        ("Pix2PixHD", {"in_channels": 36, "enhancers": 0}, 182_546_755),
        ("Pix2PixHD", {"enhancers": 0}, 182_443_267),
        ("Pix2PixHD", {}, 182_701_827),
        ("Bicubic", {}, 0),
    ],
)
def test_parameters_of_generators(name, arguments, count):
    with torch.device("meta"):
        assert parameter_count(build(Generator, name, arguments)) == count


@pytest.mark.parametrize(
    ("name", "arguments", "count"),
    [
        ("PatchGAN", {**CRITIC, "layers": 4}, 2_795_553),
        ("PatchGAN", {**CRITIC, "layers": 3}, 694_305),
        ("PatchGAN", {"source_channels": 3, "target_channels": 1}, 2_765_761),
        ("PatchGAN", RADAR, 2_768_705),
        ("PixelGAN", RADAR, 6 * 64 + 64 + 64 * 128 + 2 * 128 + 128),
        ("MultiScalePatchGAN", {"target_channels": 3}, 3 * 2_767_809),
    ],
)
def test_parameters_of_discriminators(name, arguments, count):
    with torch.device("meta"):
        assert parameter_count(build(Discriminator, name, arguments)) == count


def test_the_critic_halves_four_times_and_sees_no_more_than_it_must():
    critic = PatchGAN(3, 1, width=2, layers=4, largest=16, bias=False)
    assert critic(torch.rand(1, 3, 256, 256), torch.rand(1, 1, 256, 256)).shape == (1, 1, 14, 14)
    found = [m.bias is not None for m in critic.layers if isinstance(m, nn.Conv2d)]
    assert found == [True, False, False, False, False, True]
    assert [m.out_channels for m in critic.layers if isinstance(m, nn.Conv2d)][-2] == 32
    with_bias = PatchGAN(width=2, layers=2, norm="none", bias=False)  # no norm, nothing to save
    assert all(m.bias is not None for m in with_bias.layers if isinstance(m, nn.Conv2d))


def test_pixelgan_judges_each_pixel_alone():
    judge = PixelGAN(2, 1, width=4, norm="none")
    source, target = torch.rand(1, 2, 9, 7), torch.rand(1, 1, 9, 7)
    before = judge(source, target)
    assert before.shape == (1, 1, 9, 7)
    changed = target.clone()
    changed[0, 0, 3, 4] += 1.0
    moved = (judge(source, changed) - before).abs()[0, 0].nonzero().tolist()
    assert moved == [[3, 4]]
    alone = PixelGAN(2, 1, width=4, conditional=False)
    assert torch.equal(alone(source, target), alone(source * 0, target))


def test_every_scale_sees_a_coarser_picture_with_weights_of_its_own():
    judges = MultiScalePatchGAN(3, 2, width=4, layers=2, scales=3)
    source, target = torch.rand(1, 3, 64, 64), torch.rand(1, 2, 64, 64)
    found = judges.features(source, target)
    assert [len(judge) for judge in found] == [4, 4, 4]  # three layers and the scores
    assert [judge[0].shape[-1] for judge in found] == [32, 16, 8]
    assert [judge[-1].shape[-1] for judge in found] == [14, 6, 2]
    coarse = functional.avg_pool2d(source, 3, 2, 1, count_include_pad=False)
    coarse_target = functional.avg_pool2d(target, 3, 2, 1, count_include_pad=False)
    alone = judges.judges[1].features(coarse, coarse_target)[0]
    torch.testing.assert_close(alone[-1], found[1][-1])
    assert judges(source, target).shape == found[0][-1].shape
    weights = [judge.layers[0].weight for judge in judges.judges]
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize(("name", "arguments"), cases(Discriminator))
def test_what_discriminators_show_ends_with_their_scores(name, arguments):
    judge = build(Discriminator, name, arguments).eval()
    source, target = torch.rand(2, 3, 128, 128), torch.rand(2, 1, 128, 128)
    found = judge.features(source, target)
    if len(found) == 1:
        assert torch.equal(found[0][-1], judge(source, target))
    for one in found:
        assert one[-1].shape[:2] == (2, 1)


def test_strided_unet_is_built_as_its_page_says():
    network = StridedUNet(width=2, levels=5)
    channels = [block[0].out_channels for block in network.encoder]
    assert channels == [2, 4, 8, 16, 32]
    drops = [any(isinstance(m, nn.Dropout) for m in block) for block in network.encoder]
    assert drops == [False, False, False, True, True]
    drops = [any(isinstance(m, nn.Dropout) for m in block) for block in network.decoder]
    assert drops == [True, True, True, False, False]
    norms = [sum(isinstance(m, nn.InstanceNorm2d) for m in block) for block in network.encoder]
    assert norms == [0, 1, 1, 1, 1]
    assert (network.margin, network.stride) == (None, 64)
    x = torch.rand(2, 3, 64, 64)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


@pytest.mark.parametrize(
    "network",
    [
        StridedUNet(width=2, levels=2, norm="batch", dropout=0.0),
        StridedUNet(width=2, levels=2, dropout=0.0),
        Pix2PixHD(width=4, levels=1, blocks=1, enhancers=2, local_blocks=1),
        UNetAutoencoder(width=3, levels=2, dropout=0.0),
        EDSR(width=3, blocks=1, scale=4),
    ],
    ids=lambda n: type(n).__name__,
)
def test_every_weight_is_trained(network):
    out = waken(network).train()(torch.rand(2, network.in_channels, 32, 32))
    (out * torch.randn(out.shape)).sum().backward()
    # A bias before an instance norm is taken away again: nothing but rounding is left of it.
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("make", [StridedUNet, Pix2PixHD, UNetAutoencoder])
def test_the_answer_is_0_to_1_unless_it_may_be_more(make):
    small = {"width": 4, "levels": 1} | ({"norm": "none"} if make is not UNetAutoencoder else {})
    x = torch.rand(1, 3, 16, 16)
    torch.manual_seed(0)
    linear = make(**small, activation="none").eval()
    for parameter in linear.parameters():
        parameter.data *= 30 if make is not UNetAutoencoder else 3
    middle = make(**small).eval()
    middle.load_state_dict(linear.state_dict())
    with torch.no_grad():
        y = linear(x)
        assert y.min() < 0 or y.max() > 1
        torch.testing.assert_close(middle(x), (1 + torch.tanh(2 * y - 1)) / 2)


@pytest.mark.parametrize("scale", [2, 4])
def test_edsr_on_the_bicubic_picture_begins_as_it(scale):
    network = EDSR(2, 2, width=4, blocks=1, scale=scale, bicubic=True)
    x = torch.rand(1, 2, 9, 8)
    torch.testing.assert_close(network(x), Bicubic(2, 2, scale)(x), atol=1e-6, rtol=0)
    with torch.no_grad():
        network.head.layers[0].bias += 0.1
    torch.testing.assert_close(network(x), Bicubic(2, 2, scale)(x) + 0.05, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="3 cannot become 1"):
        EDSR(3, 1, bicubic=True)


def test_gain_and_offset_of_the_source_come_back():
    network = waken(SubpixelResNet(width=8, blocks=2))
    x = 0.2 + 0.5 * torch.rand(1, 3, 20, 21, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        changed, plain = network(0.3 * x + 0.4), network(x)
    torch.testing.assert_close(changed, 0.3 * plain + 0.4, atol=1e-5, rtol=1e-4)


def test_edsr_with_blocks_that_add_nothing_is_a_plain_network():
    network = waken(EDSR(3, 3, width=4, blocks=2, scale=3))
    quiet = EDSR(3, 3, width=4, blocks=2, scale=3, factor=0.0).eval()
    quiet.load_state_dict(network.state_dict())
    x = torch.rand(1, 3, 7, 5)
    y = quiet.first(2 * x - 1)
    y = y + quiet.body[-1](y)
    y = functional.pixel_shuffle(quiet.enlarge[0](y), 3)
    expected = 0.5 + 0.5 * quiet.head.layers(y)
    torch.testing.assert_close(quiet(x), expected)
    assert not torch.allclose(quiet(x), network(x), atol=1e-3)
    with pytest.raises(ValueError, match="1, 2, 3 or 4, not 5"):
        EDSR(scale=5)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_bicubic_is_the_resize_that_published_numbers_are_made_with(scale):
    x = torch.rand(2, 3, 9, 11)
    torch.testing.assert_close(Bicubic(scale=scale)(x), bicubic(x, scale))
    with torch.autocast("cpu", torch.bfloat16):
        assert Bicubic(scale=scale)(x).dtype == torch.float32
    with pytest.raises(ValueError, match="3 cannot become 1"):
        Bicubic(3, 1)


@pytest.mark.parametrize("layer", [Resize(2), Resize(3), Resize(4), Resize(1), nn.PixelShuffle(1),
                                   nn.MaxPool2d(2), nn.AvgPool2d(3, 2, 1)])  # fmt: skip
def test_seen_by_is_what_gradients_say(layer):
    x = torch.rand(1, 1, 40, 40, requires_grad=True)
    for first, last in ((12, 12), (13, 13), (14, 14), (11, 14)):
        part = layer(x)[0, 0, first : last + 1]
        (gradient,) = torch.autograd.grad(part.sum(), x)
        rows = gradient[0, 0].abs().sum(1).nonzero().flatten()
        assert receptive_field(layer, (first, last)) == (int(rows.min()), int(rows.max()))


def test_the_autoencoder_works_on_the_targets_grid():
    """At each scale it is the network of scale 1 on the source that bicubic made larger."""
    plain = waken(UNetAutoencoder(width=4, levels=2, scale=1))
    for scale in (2, 3, 4):
        network = UNetAutoencoder(width=4, levels=2, scale=scale).eval()
        network.load_state_dict(plain.state_dict())
        x = torch.rand(1, 3, 12, 8)
        torch.testing.assert_close(network(x), plain(bicubic(x, scale)), atol=1e-5, rtol=1e-4)
        assert network.stride * scale % 4 == 0


def test_a_border_is_mirrored_as_numpy_does_and_cut_off():
    x = torch.rand(1, 2, 5, 3)
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (7, 7), (7, 7)), mode="reflect")
    np.testing.assert_array_equal(reflected(x, 7).numpy(), expected)
    assert torch.equal(reflected(x[..., :1, :1], 2), x[..., :1, :1].expand(-1, -1, 5, 5))
    plain, bordered = (ResNet(width=4, blocks=1, norm="none", border=b) for b in (0, 8))
    bordered.load_state_dict(waken(plain).state_dict())
    x = torch.rand(1, 3, 24, 24)
    wide = plain(reflected(x, 8))[..., 8:-8, 8:-8]
    torch.testing.assert_close(bordered.eval()(x), wide)
    assert not torch.allclose(plain(x), wide, atol=1e-4)


def test_the_whole_picture_reaches_the_finest_network():
    """Without its enhancers' own way down, the answer still follows the coarse network."""
    network = waken(Pix2PixHD(width=8, levels=1, blocks=1, local_blocks=1, norm="none"))
    x = torch.rand(1, 3, 16, 16)
    before = network(x)
    with torch.no_grad():
        for parameter in network.whole.parameters():
            parameter.zero_()
    assert (network(x) - before).abs().max() > 1e-3
    assert Pix2PixHD(width=8, enhancers=2).enhancers[1].up[-3].out_channels == 2


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (StridedUNet, {"levels": 0}),
        (StridedUNet, {"dropout": 1.0}),
        (Pix2PixHD, {"width": 2, "enhancers": 2}),
        (Pix2PixHD, {"blocks": -1}),
        (UNetAutoencoder, {"scale": 0}),
        (EDSR, {"width": 0}),
        (ResNet, {"border": -1}),
    ],
)
def test_arguments_that_make_no_network_are_refused(make, wrong):
    with pytest.raises(ValueError, match=r"must be|at least"):
        make(**wrong)
