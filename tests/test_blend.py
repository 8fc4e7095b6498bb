"""Overlapping tiles: they cover, their weights sum to 1, and no border shows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import rgb2nir_signature
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from crossband import Model
from crossband.errors import CrossbandError
from crossband.networks.base import Generator
from crossband.networks.conditions import Conditions
from crossband.networks.generators.familiar_blend import FamiliarBlend
from crossband.networks.generators.guided_detail import GuidedDetail, by_rows
from crossband.networks.generators.resnet import ResNet
from crossband.networks.layers.convolution import Head
from crossband.raster.grid import Grid, Window
from crossband.translate.blend import Blender, blended_plan, default_overlap, spans
from crossband.translate.options import TileOptions
from crossband.translate.window import translate_window

sizes = st.integers(1, 200)


@settings(max_examples=100, deadline=None)
@given(sizes, st.integers(1, 90), st.sampled_from([1, 2, 4, 8]), st.floats(0, 0.25))
def test_spans_cover_and_fade_apart(length, tile, stride, share):
    overlap = int(tile * share)
    found = spans(length, tile, overlap, stride)
    assert found[0].first == 0
    assert found[-1].last == found[-1].stop == length
    for one, two in pairwise(found):
        assert two.start % stride == 0
        assert one.last == two.first
        assert two.fade_in == one.fade_out <= one.stop - two.first
        assert two.first >= two.start
        assert one.last - one.first >= one.fade_in  # no three tiles meet
    for span in found:
        assert span.stop - span.start <= max(tile, stride)


@settings(max_examples=25, deadline=None)
@given(sizes, sizes, st.integers(8, 90), st.sampled_from([1, 4]), st.sampled_from([1, 2]))
def test_equal_answers_are_left_alone_to_the_last_bit(height, width, tile, stride, scale):
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(2, height * scale, width * scale)).astype(np.float32)
    out = np.full_like(whole, np.nan)
    blender = Blender(scale)
    for t in blended_plan(height, width, tile, default_overlap(tile, stride), stride):
        rows, cols = t.source.scaled(scale).slices()
        core_rows, core_cols = t.core.scaled(scale).slices()
        assert np.isnan(out[:, core_rows, core_cols]).all()
        out[:, core_rows, core_cols] = blender(t, whole[:, rows, cols])
    np.testing.assert_array_equal(out, whole)


def test_weights_of_all_tiles_sum_to_1():
    """One tile answers 1, all others 0: the sum over the tiles of its share is 1 everywhere."""
    tiles = list(blended_plan(50, 61, 24, 6, 2))
    total = np.zeros((50, 61))
    for one in tiles:
        blender = Blender()
        for t in tiles:
            answer = np.full((1, t.source.height, t.source.width), float(t == one), np.float32)
            total[t.core.slices()] += blender(t, answer)[0]
    assert len(tiles) == 12
    np.testing.assert_allclose(total, 1.0, atol=1e-6)


def test_overlap_of_more_than_a_quarter_is_refused(seeing_all, window):
    with pytest.raises(CrossbandError, match="quarter of the tile"):
        translate_window(seeing_all, window, TileOptions(tile=64, overlap=17))


class Noisy(Generator):
    """Sees everything, and takes noise."""

    in_channels, out_channels, margin, noise = 3, 1, None, 1

    def forward(self, x):
        return self.forward_conditioned(x, Conditions())

    def forward_conditioned(self, x, conditions):
        grey = x.mean(1, keepdim=True)
        if conditions.noise is not None:
            grey = grey + 0.01 * conditions.noise
        return 0.3 + 0.2 * (grey - grey.mean((2, 3), keepdim=True)) / grey.std((2, 3), keepdim=True)


@pytest.fixture(params=["instance norm", "noise"])
def seeing_all(request):
    torch.manual_seed(0)
    if request.param == "noise":
        network = Noisy()
    else:
        network = ResNet(3, 1, width=8, blocks=2, upsample="resize", activation="none")
        for module in network.modules():  # far from the start of training, where little varies
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
        network.head.layers[-1].weight.data *= 0.05
        network.head.layers[-1].bias.data.fill_(0.5)
    return Model(network, rgb2nir_signature(), name="all", task="rgb2nir")


@pytest.fixture(scope="module")
def window():
    """Return a scene like nature: rough at every scale, smooth from pixel to pixel."""
    rng = np.random.default_rng(3)
    shape = (300, 420)
    parts = [gaussian_filter(rng.normal(size=(3, *shape)), (0, s, s)) * s**1.5 for s in (1, 4, 40)]
    total = sum(parts)
    low, high = total.min(), total.max()
    values = (0.05 + 0.4 * (total - low) / (high - low)).astype(np.float32)
    grid = Grid(*shape)
    return Window(values, np.ones(shape, bool), grid, ("red", "green", "blue"), "reflectance")


def step(values, at):
    """Return the mean absolute step into column `at`."""
    return np.abs(np.diff(values.astype(np.float64), axis=1))[:, at - 1].mean()


def test_no_border_shows(seeing_all, window):
    tile, stride = 128, seeing_all.network.stride
    result = translate_window(seeing_all, window, TileOptions(tile=tile, precision="fp32"))
    values = result.values[0]
    assert values.std() > 0.01
    assert result.mask.all()
    for axis, picture in ((1, values), (0, values.T)):
        length = window.mask.shape[axis]
        found = spans(length, tile, default_overlap(tile, stride), stride)
        borders = [
            at
            for s in found[1:]
            for at in (s.start, s.first, s.first + s.fade_in // 2, s.first + s.fade_in)
        ] + [s.stop for s in found[:-1]]
        across = np.mean([step(picture, at) for at in borders])
        beside = np.mean([step(picture, at + d) for at in borders for d in (-1, 1)])
        assert across <= 1.1 * beside
        # And the other way round: tiles that are cut hard have borders that this test sees.
        hard = translate_window(
            seeing_all, window, TileOptions(tile=tile, overlap=0, precision="fp32")
        )
        cut = hard.values[0] if axis == 1 else hard.values[0].T
        cuts = [s.first for s in spans(length, tile, 0, stride)[1:]]
        across = np.mean([step(cut, at) for at in cuts])
        beside = np.mean([step(cut, at + d) for at in cuts for d in (-1, 1)])
        assert across > 1.1 * beside


def test_a_scene_of_one_tile_is_run_whole(seeing_all, window):
    whole = translate_window(seeing_all, window, TileOptions(tile=420, precision="fp32"))
    again = translate_window(seeing_all, window, TileOptions(tile=1024, precision="fp32"))
    np.testing.assert_array_equal(whole.values, again.values)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_products_and_powers_do_not_depend_on_the_rows_beside_them(precision):
    """The last ones of an array had another last bit, so that tiles differed from the whole."""
    torch.manual_seed(0)
    network = GuidedDetail(hidden=128)
    torch.nn.init.normal_(network.last.weight)
    rows = torch.randn(70_001, network.gains[0].in_features)
    halved = precision == "bf16"
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=halved):
        whole = by_rows(network._perceptron, rows)
        for count in (1, 33, 999, 33_331):
            for start in (0, 7, 70_001 - count):
                some = by_rows(network._perceptron, rows[start : start + count])
                assert torch.equal(some, whole[start : start + count])


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_an_activation_does_not_depend_on_the_pixels_beside_it(activation):
    head = Head([torch.nn.Identity()], activation).eval()
    y = 20 * torch.randn(1, 1, 301, 333, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = head(y)
        torch.testing.assert_close(whole, head.train()(y), rtol=1e-6, atol=1e-7)
        head.eval()
        assert head(torch.tensor([-1e4, 1e4])).tolist() == [0.0, 1.0]
        for height, width in ((1, 3), (7, 13), (300, 331)):
            some = head(y[..., :height, :width].contiguous())
            assert torch.equal(some, whole[..., :height, :width])


def test_the_weight_of_a_cell_does_not_depend_on_the_cells_beside_it():
    torch.manual_seed(0)
    network = FamiliarBlend(**FamiliarBlend.examples[0])
    description = torch.randn(1, 31, 37, network.centres.shape[1])
    network.fit_centres(description.flatten(0, 2))
    with torch.inference_mode():
        whole = network.weights(description)
        assert 0.1 < whole.mean() < 0.9
        for height, width in ((1, 1), (3, 5), (23, 16), (23, 25), (7, 33)):
            some = network.weights(description[:, -height:, :width].contiguous())
            assert torch.equal(some, whole[:, -height:, :width])
