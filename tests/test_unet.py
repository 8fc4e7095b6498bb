"""UNet and ResNet are those of their papers; test_networks has what holds for every network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crossband.errors import RecipeError
from crossband.networks import parameter_count
from crossband.networks.generators.resnet import ResNet
from crossband.networks.generators.unet import UNet
from crossband.networks.layers.convolution import receptive_field


def test_unet_has_the_parameters_of_pix2pix():
    network = UNet(3, 3)
    encoder, before = 3 * 64 * 16 + 64, 64  # the first convolution has a bias and no norm
    for after in (128, 256, 512, 512, 512, 512, 512):
        encoder += before * after * 16 + 2 * after
        before = after
    decoder = 512 * 512 * 16 + 2 * 512
    for before, after in ((1024, 512),) * 3 + ((1024, 256), (512, 128), (256, 64), (128, 64)):
        decoder += before * after * 16 + 2 * after
    head = 64 * 3 * 9 + 3
    assert parameter_count(network) == encoder + decoder + head == 54_541_827
    assert (network.margin, network.stride) == (3 * 256 - 2, 256)


def test_unet_has_the_parameters_of_the_code_of_pix2pix():
    with torch.device("meta"):
        network = UNet(3, 3, plan="code")
        small = UNet(3, 3, levels=7, plan="code")
        instance = UNet(3, 3, plan="code", norm="instance")
    encoder, before = 3 * 64 * 16, 64  # no bias but the last convolution's
    for after in (128, 256, 512, 512, 512, 512):
        encoder += before * after * 16 + 2 * after
        before = after
    bottom = 512 * 512 * 16  # no norm there
    decoder = 512 * 512 * 16 + 2 * 512
    for before, after in ((1024, 512),) * 3 + ((1024, 256), (512, 128), (256, 64)):
        decoder += before * after * 16 + 2 * after
    head = 128 * 3 * 16 + 3
    assert parameter_count(network) == encoder + bottom + decoder + head == 54_413_955
    assert (network.margin, network.stride) == (3 * 256 - 3, 256)
    level = 512 * 512 * 16 + 2 * 512 + 1024 * 512 * 16 + 2 * 512
    assert parameter_count(small) == 54_413_955 - level
    assert all(m.bias is not None for m in instance.modules() if hasattr(m, "kernel_size"))
    has = [any(isinstance(m, nn.Dropout) for m in block) for block in network.decoder]
    assert has == [False, True, True, True, False, False, False]


def test_resnet_has_the_parameters_of_its_papers():
    first, down = 3 * 64 * 49 + 64, 64 * 128 * 9 + 128 + 128 * 256 * 9 + 256
    blocks = 9 * 2 * (256 * 256 * 9 + 256)
    up, head = 256 * 128 * 9 + 128 + 128 * 64 * 9 + 64, 64 * 49 + 1
    network = ResNet(3, 1)
    assert parameter_count(network) == first + down + blocks + up + head == 11_371_905
    assert parameter_count(ResNet(3, 3, upsample="resize")) == 11_378_179
    assert (network.margin, network.stride) == (None, 4)
    assert ResNet(norm="batch", width=1).margin == 84
    assert ResNet(norm="none", width=1, upsample="resize").margin == 87


@pytest.mark.parametrize("levels", [1, 2, 4, 8])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("upsample", ["transpose", "resize"])
@pytest.mark.parametrize("plan", ["paper", "code"])
def test_unet_trains_every_weight(levels, norm, upsample, plan):
    torch.manual_seed(0)
    form = {"norm": norm, "upsample": upsample, "plan": plan}
    network = UNet(3, 2, width=2, levels=levels, **form, dropout=0.0)
    size = 2**levels
    for parameter in network.parameters():  # the first weights are too small for the deep ones
        parameter.data *= 10
    out = network.train()(torch.rand(2, 3, size, size))
    (out * torch.randn(out.shape)).sum().backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    if plan == "code" and norm == "instance":  # its norms take these biases away again
        normed = [f"encoder.{n}.0.bias" for n in range(1, levels - 1)]
        normed += [f"decoder.{n}.{upsample == 'resize':d}.bias" for n in range(levels - 1)]
        silent = [n for n in silent if n not in normed]
    assert not silent


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 9)])
def test_resnet_trains_on_the_smallest_pictures(norm, shape):
    network = ResNet(3, 1, width=3, blocks=1, norm=norm).train()
    network(torch.rand(1, 3, *shape)).sum().backward()
    gradients = [p.grad for p in network.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)


def test_batch_norm_needs_more_than_one_value():
    network = UNet(width=2, levels=3)
    with pytest.raises(RecipeError, match=r"one crop of 8 pixels.*larger data\.batch"):
        network(torch.rand(1, 3, 8, 8))
    assert network(torch.rand(2, 3, 8, 8)).isfinite().all()
    assert network(torch.rand(1, 3, 9, 8)).isfinite().all()
    assert UNet(width=2, levels=3, plan="code")(torch.rand(1, 3, 8, 8)).isfinite().all()
    assert network.eval()(torch.rand(1, 3, 8, 8)).isfinite().all()


def test_dropout_is_in_the_first_three_decoder_blocks_and_off_after_training():
    network = UNet(3, 1, width=2, levels=5)
    has = [any(isinstance(m, nn.Dropout) for m in block) for block in network.decoder]
    assert has == [True, True, True, False, False]
    shallow = UNet(3, 1, width=2, levels=2).decoder
    assert [any(isinstance(m, nn.Dropout) for m in block) for block in shallow] == [True, False]
    none = UNet(3, 1, width=2, levels=5, dropout=0.0)
    assert not any(isinstance(m, nn.Dropout) for m in none.modules())
    x = torch.rand(2, 3, 32, 32)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


@pytest.mark.parametrize("make", [UNet, ResNet])
def test_the_answer_is_0_to_1(make):
    size = {"width": 3} | ({"levels": 2} if make is UNet else {"blocks": 1})
    x = torch.rand(1, 3, 16, 16)
    torch.manual_seed(0)
    network = make(**size, norm="none", activation="none").eval()
    for parameter in network.parameters():
        parameter.data *= 30
    linear = network(x).detach()
    assert linear.min() < 0 or linear.max() > 1
    for name, expected in (
        ("tanh", (1 + torch.tanh(2 * linear - 1)) / 2),
        ("sigmoid", torch.sigmoid(2 * linear - 1)),
    ):
        other = make(**size, norm="none", activation=name).eval()
        other.load_state_dict(network.state_dict())
        assert torch.allclose(other(x), expected, atol=1e-5)


@pytest.mark.parametrize("make", [UNet, ResNet])
def test_answers_are_finer_than_bf16(make):
    network = make(width=3, **({"levels": 2} if make is UNet else {"blocks": 1}))
    x = torch.rand(2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        trained, answer = network.train()(x), network.eval()(x)
    assert trained.dtype == answer.dtype == torch.float32

    def fits_bf16(y):  # before the last activation
        y = torch.logit(y.double()).float()
        return (y - y.bfloat16().float()).abs().le(1e-5 * y.abs().max()).float().mean()

    assert fits_bf16(trained) > 0.99
    assert fits_bf16(answer) < 0.5


@pytest.mark.parametrize("make", [UNet, ResNet])
def test_resize_leaves_no_checkerboard(make):
    size = {"width": 4} | ({"levels": 3} if make is UNet else {"blocks": 1})
    flat = torch.full((1, 3, 96, 96), 0.3)
    uneven = {}
    for upsample in ("transpose", "resize"):
        torch.manual_seed(0)
        network = make(**size, norm="none", upsample=upsample).eval()
        for parameter in network.parameters():
            parameter.data *= 10
        uneven[upsample] = network(flat)[..., 40:56, 40:56].std().item()
    assert uneven["resize"] < 1e-6 < 1e-3 < uneven["transpose"]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 1, 3, padding=1),
        nn.Conv2d(1, 1, 4, 2, 1),
        nn.ConvTranspose2d(1, 1, 4, 2, 1),
        nn.ConvTranspose2d(1, 1, 3, 2, 1, output_padding=1),
        nn.Upsample(scale_factor=2),
        nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(1, 1, 7), nn.ReLU(), nn.Upsample(None, 2)),
    ],
)
def test_seen_by_is_what_gradients_say(layer):
    for parameter in layer.parameters():
        nn.init.ones_(parameter)
    x = torch.ones(1, 1, 40, 40, requires_grad=True)
    for first, last in ((12, 12), (13, 13), (11, 14)):
        (gradient,) = torch.autograd.grad(layer(x)[0, 0, first : last + 1].sum(), x)
        rows = gradient[0, 0].abs().sum(1).nonzero().flatten()
        assert receptive_field(layer, (first, last)) == (int(rows.min()), int(rows.max()))


@pytest.mark.parametrize("wrong", [{"levels": 0}, {"width": 0}, {"dropout": 1.0}])
def test_unet_refuses(wrong):
    with pytest.raises(ValueError, match="must be"):
        UNet(**wrong)


def test_resnet_refuses():
    with pytest.raises(ValueError, match="at least"):
        ResNet(blocks=-1)
