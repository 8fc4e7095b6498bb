"""Order and precision in which a network moves images: they change the speed, not the values."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crossband.networks.generators.resnet import ResNet
from crossband.networks.layers.convolution import ReflectionPad
from crossband.networks.layout import laid_out, laid_out_for
from crossband.networks.samplers.vector_field import VectorFieldUNet

CPU = torch.device("cpu")


def small(norm):
    torch.manual_seed(0)
    return ResNet(3, 1, width=4, blocks=1, norm=norm).eval()


def is_channels_last(x):
    return x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("norm", "last"), [("instance", False), ("batch", True)])
def test_networks_with_instance_norms_are_contiguous_on_a_cpu(norm, last):
    network = laid_out(small(norm), CPU)
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert weights
    assert all(is_channels_last(w) is last for w in weights if min(w.shape) > 1)
    image = laid_out_for(network, torch.rand(2, 3, 16, 16))
    assert is_channels_last(image) is last
    assert image.is_contiguous() is not last


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_the_order_changes_no_value(norm):
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        expected = small(norm)(x)
        network = laid_out(small(norm), CPU)
        torch.testing.assert_close(network(laid_out_for(network, x)), expected)


def test_parts_know_the_order_of_the_whole():
    network = laid_out(small("instance"), CPU)
    assert not any(m.has_channels_last for m in network.modules())


def test_on_a_gpu_all_have_channels_last():
    network = laid_out(small("instance"), torch.device("cuda"))
    assert is_channels_last(laid_out_for(network, torch.rand(2, 3, 16, 16)))


def test_a_network_that_was_not_laid_out_takes_what_comes():
    x = torch.rand(2, 3, 16, 16)
    assert laid_out_for(small("batch"), x) is x


@pytest.mark.parametrize(("norm", "last"), [("instance", False), ("batch", True)])
def test_all_layers_of_a_vector_field_have_one_order(norm, last):
    """Its two first layers are summed: of two orders the next layers would take either."""
    field = laid_out(VectorFieldUNet(3, 1, width=4, levels=2, norm=norm), CPU)
    seen = []
    for layer in (field.first, field.first_source, *field.down):
        layer.register_forward_hook(lambda _, __, made: seen.append(is_channels_last(made)))
    source = torch.rand(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    field(torch.rand(2, 1, 32, 32), torch.rand(2), source)
    assert seen == [last] * 5


def test_padding_keeps_the_precision_and_the_values():
    x = torch.rand(2, 3, 8, 8).bfloat16()
    pad, plain = ReflectionPad(2), nn.ReflectionPad2d(2)
    with torch.autocast("cpu", torch.bfloat16):
        assert plain(x).dtype == torch.float32  # else it is needed no longer
        made = pad(x)
        assert made.dtype == torch.bfloat16
        assert torch.equal(made.float(), plain(x))
    assert torch.equal(pad(x.float()), plain(x.float()))


def test_gradients_of_padding_are_those_of_torch():
    x = torch.rand(1, 2, 6, 6, requires_grad=True)
    pads = ReflectionPad(2), nn.ReflectionPad2d(2)
    mine, theirs = (torch.autograd.grad(pad(x).square().sum(), x)[0] for pad in pads)
    assert torch.equal(mine, theirs)
