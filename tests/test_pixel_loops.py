"""Loops compiled by Numba give what PyTorch's operations give."""

import math

import numpy as np
import pytest
import torch

from crossband.networks import cell_loops, compiled_layers, pixel_loops, tracing, uncertainty
from crossband.networks.generators import local_pyramid, per_pixel
from crossband.networks.generators.local_pyramid import LocalPyramid
from crossband.networks.generators.per_pixel import PerPixelMLP
from crossband.networks.generators.subpixel_resnet import SubpixelResNet


def image(bands=3, height=50, width=71, count=2):
    x = torch.rand(count, bands, height, width, generator=torch.Generator().manual_seed(0))
    x = x * 0.5 + 0.05
    x[:, :, 20:33, 18:40] = 0.0  # a hole, and single pixels
    x[0, :, ::7, ::5] = 0.0
    return x


def plain(monkeypatch, module):
    monkeypatch.setattr(module, "infers_on_cpu", lambda x: False)


@pytest.mark.parametrize("context", [0, 5])
@pytest.mark.parametrize(
    ("bands", "targets", "more"),
    [(3, 1, {}), (1, 2, {"members": 1}), (4, 3, {"hidden": 7, "levels": 2, "bins": 0})],
)
def test_a_pyramid_is_the_same_with_and_without_them(monkeypatch, bands, targets, more, context):
    torch.manual_seed(1)
    network = LocalPyramid(bands, targets, width=9, **{"hidden": 16, "members": 3} | more).eval()
    x = image(bands)
    with torch.inference_mode():
        found = network.forward_cropped(x, context)
        with torch.autocast("cpu", torch.bfloat16):
            halved = network.forward_cropped(x, context)
        plain(monkeypatch, local_pyramid)
        expected = network.forward_cropped(x, context)
        with torch.autocast("cpu", torch.bfloat16):
            halved_expected = network.forward_cropped(x, context)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=2e-6)
    # Fewer results are rounded to bfloat16 than by PyTorch, so that they are not farther away.
    error, usual = ((a - expected).abs().mean() for a in (halved, halved_expected))
    assert 0 < error < 1.1 * usual


def test_logarithms_are_exact_to_a_few_bits(monkeypatch):
    """Of colours from below 0 to far above 1, through the features of pixels."""
    colours = torch.linspace(-0.1, 20.0, 5000).view(1, 10, 500)
    limits, usual, spread = (-0.02, 1e3, 0.06), torch.zeros(2), torch.ones(2)
    found = compiled_layers.pixel_features(colours, limits, usual, spread, 50.0)
    expected = torch.log(colours[0].double().clamp_min(-0.02) + 0.06)
    torch.testing.assert_close(found[0], colours[0])
    torch.testing.assert_close(found[1].double(), expected, rtol=0, atol=6e-7)


def test_statistics_of_cells_are_the_same(monkeypatch):
    network, x = LocalPyramid(4, 1, levels=1), image(4, 48, 64)
    with torch.inference_mode():
        found = network._sums(x)
        plain(monkeypatch, local_pyramid)
        expected = network._sums(x)
    assert found.shape == expected.shape == (2, 1 + 4 + 4 + 6 + 1, 12, 16)
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_perceptron_is_the_same(monkeypatch, depth):
    torch.manual_seed(2)
    network = PerPixelMLP(3, 2, width=20, depth=depth).eval()
    monkeypatch.setattr(per_pixel, "CACHED", 1000)  # several parts, the last one smaller
    x = image() * 4
    with torch.inference_mode():
        found = network(x)
        plain(monkeypatch, per_pixel)
        assert torch.allclose(found, network(x), atol=3e-6)


def test_a_perceptron_in_bfloat16_is_nearer_to_the_exact_one_than_that_of_pytorch(monkeypatch):
    torch.manual_seed(3)
    network, x = PerPixelMLP(3, 1, width=32).eval(), image()
    with torch.inference_mode():
        exact = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            ours = network(x)
            plain(monkeypatch, per_pixel)
            theirs = network(x)
    assert 0 < (ours - exact).abs().mean() < (theirs - exact).abs().mean()


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("guided", [False, True])
def test_widths_and_dissimilarity_are_the_same(monkeypatch, scale, guided):
    torch.manual_seed(5)
    network = PerPixelMLP(3, 3, width=6) if scale == 1 else SubpixelResNet(3, 3, scale=2, width=6)
    around = uncertainty.surroundings_of(network)
    features = around.moments * around.levels
    seen = uncertainty.seen_features(network)
    head = uncertainty.WidthHead(features, seen, 7, 12 if guided else 6)
    far = uncertainty.Dissimilarity(features, 5, 6)
    torch.nn.init.normal_(far.turn)
    uncertain = uncertainty.UncertainGenerator(network, head, far, 6, guided=guided).eval()
    x = image()
    x[1, 0, 30, 40] = -3.0  # far outside of what the head is clipped to
    with torch.inference_mode():
        found = uncertain(x)
        plain(monkeypatch, uncertainty)
        expected = uncertain(x)
    assert (
        found.shape == expected.shape == (2, 3 + (12 if guided else 6) + 1, 50 * scale, 71 * scale)
    )
    assert torch.allclose(found, expected, rtol=2e-5, atol=2e-6)
    assert expected[:, 3:].std(dim=(0, 2, 3)).min() > 1e-3


def test_the_gelu_is_that_of_the_error_function():
    values = np.linspace(-12, 12, 4001, dtype=np.float32)
    found = np.empty((len(values), 1), np.float32)
    loop = pixel_loops.mlp_first(1, 1, halved=False)
    loop(values[None], 0, np.ones((1, 1), np.float32), np.zeros(1, np.float32), found)
    exact = [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in values.tolist()]
    assert np.abs(found[:, 0] - exact).max() < 1e-6


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_stay_what_they_are(value):
    network, x = PerPixelMLP(3, 1).eval(), image(count=1)
    with torch.inference_mode():
        network.last.bias.fill_(value)
        assert not network(x).isfinite().any()
        network = LocalPyramid(3, 1, width=6, hidden=5, levels=1).eval()
        x[0, 1, 25, 60] = math.nan
        wrong = network(x).isnan()[0, 0]
    assert wrong[25, 60]
    assert not wrong[:, :30].any()  # too far away


def test_pixels_do_not_depend_on_their_place_in_the_image():
    torch.manual_seed(4)
    network, x = LocalPyramid(levels=1, width=8, hidden=16, bins=0).eval(), image(count=1)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        whole, part = network(x), network(x[..., 4:, 8:])
    inner = slice(network.margin, -network.margin)
    assert torch.equal(whole[..., 4:, 8:][..., inner, inner], part[..., inner, inner])


def test_the_exponential_is_right_over_the_range_of_widths():
    # One unit of weight 0: the logarithm of a width is the bias, and its width the exponential.
    loop = pixel_loops.width_loop(3, 1, (-1.0, 4.0, -7.0, 3.0))
    wanted = np.linspace(-8, 4, 1201, dtype=np.float32)
    zeros = [np.zeros((1, 1, 1), np.float32) for _ in range(3)]
    found = np.empty((len(wanted), 1, 1), np.float32)
    nothing = np.zeros((3, 1), np.float32), np.zeros((len(wanted), 1), np.float32)
    loop(*zeros, 16, *nothing, wanted, found)
    exact = np.exp(wanted.astype(np.float64).clip(-7, 3))
    assert np.abs(found[:, 0, 0] / exact - 1).max() < 1e-6


def test_gradients_and_traces_do_without_them(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("used")

    monkeypatch.setattr(cell_loops, "cell_sums", refuse)
    monkeypatch.setattr(compiled_layers, "PixelStage", refuse)
    network, x = LocalPyramid(width=6, hidden=5).eval(), image().requires_grad_()
    network(x).sum().backward()
    assert x.grad.abs().sum() > 0
    with torch.no_grad(), pytest.raises(AssertionError, match="used"):
        network(x)
    monkeypatch.setattr(tracing, "is_traced", lambda: True)
    with torch.no_grad():
        assert network(x).shape == (2, 1, 50, 71)
