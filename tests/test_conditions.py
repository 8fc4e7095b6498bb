"""Noise and places are functions of the place in the scene, whichever window asks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crossband.core.signature import Signature, UnitRange
from crossband.errors import RecipeError
from crossband.networks.base import Generator
from crossband.networks.conditions import Conditions, Lattice, noise_at, style_of
from crossband.training.methods.batches import conditions_of, predict

SCENE = noise_at(3, 0, 0, 200, 190, 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 150), st.integers(0, 150), st.integers(1, 50), st.integers(1, 40))
def test_noise_of_a_window_is_that_part_of_the_scenes(row, col, height, width):
    part = noise_at(3, row, col, height, width, 2)
    np.testing.assert_array_equal(part, SCENE[:, row : row + height, col : col + width])


def test_noise_is_standard_normal_and_independent():
    assert SCENE.mean() == pytest.approx(0.0, abs=0.02)
    assert SCENE.std() == pytest.approx(1.0, abs=0.02)
    assert abs(np.corrcoef(SCENE[0].ravel(), SCENE[1].ravel())[0, 1]) < 0.02
    blocks = [SCENE[0, r : r + 64, c : c + 64].ravel() for r in (0, 64, 128) for c in (0, 64)]
    assert np.abs(np.corrcoef(blocks) - np.eye(6)).max() < 0.06
    assert not np.array_equal(SCENE, noise_at(4, 0, 0, 200, 190, 2))
    assert np.array_equal(style_of(5, 8), style_of(5, 8))
    assert not np.array_equal(style_of(5, 8), style_of(6, 8))


@pytest.mark.parametrize("coarser", [1, 4])
def test_an_interpolated_window_is_that_part_of_the_scenes(coarser):
    nodes = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    whole = Lattice(torch.zeros(1, 2, 4, 5), (0.0, 0.0), 64.0)
    scene = whole.interpolate(nodes, 192 // coarser, 256 // coarser, coarser)
    # The window needs the nodes around it only, and counts from the first of them.
    part = Lattice(torch.zeros(1, 2, 2, 3), (40.0, 20.0), 64.0)
    window = part.interpolate(nodes[:, :, 1:3, 1:4], 24 // coarser, 80 // coarser, coarser)
    top, left = 104 // coarser, 84 // coarser
    expected = scene[..., top : top + 24 // coarser, left : left + 80 // coarser]
    torch.testing.assert_close(window, expected, atol=1e-6, rtol=0)


def test_interpolation_is_linear_between_nodes():
    nodes = torch.tensor([0.0, 64.0, 128.0]).expand(3, 3)[None, None]
    found = Lattice(torch.zeros(1, 2, 3, 3), (0.0, 0.0), 64.0).interpolate(nodes, 2, 128)
    torch.testing.assert_close(found[0, 0, 1], torch.arange(128) + 0.5)
    same = Lattice.constant(torch.tensor([[8.0, 50.0]]))
    assert same.interpolate(nodes[..., :2, :2] + 7, 3, 3).eq(7).all()


class _Noisy(Generator):
    in_channels, out_channels, noise, style, located = 1, 1, 1, 2, True

    def forward(self, x):
        return self.forward_conditioned(x, Conditions())

    def forward_conditioned(self, x, conditions):
        if conditions.noise is None:
            return x
        return x + conditions.noise + conditions.style[:, :1, None, None]


SIGNATURE = Signature(["red"], ["nir"], {"display": UnitRange([(0.0, 1.0)], [(0.0, 1.0)])})


def batch(edge=0):
    side = 8 + 2 * edge
    source, target = torch.rand(2, 1, side, side), torch.rand(2, 1, 8, 8)
    return {"source": source, "target": target, "lonlat": torch.tensor([[8.0, 50.0], [9.0, 51.0]])}


def test_a_batch_gives_what_a_network_takes():
    network, b = _Noisy(), batch()
    found = conditions_of(SIGNATURE, network, b)
    assert found.noise.shape == (2, 1, 8, 8)
    assert torch.equal(found.noise[0], found.noise[1])  # validation: always the same
    assert found.style.shape == (2, 2)
    assert found.lattice.lonlat[1, :, 0, 0].tolist() == [9.0, 51.0]
    output = predict(SIGNATURE, network, b, found).output
    expected = b["source"] + found.noise + found.style[:, :1, None, None]
    torch.testing.assert_close(output, expected)
    drawn = conditions_of(SIGNATURE, network, b, lambda *shape: torch.ones(shape))
    assert drawn.noise.eq(1).all()
    assert drawn.style.eq(1).all()
    with pytest.raises(RecipeError, match=r"needs data\.context 0"):
        predict(SIGNATURE, network, batch(edge=2), found)
