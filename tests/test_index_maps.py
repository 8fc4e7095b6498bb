"""Maps of an index in a validation's pictures."""

from __future__ import annotations

import pytest
import torch

from crossband.core.signature import Signature, UnitRange
from crossband.training.losses.base import Prediction
from crossband.training.methods.index_maps import COLOURS, coloured, first_index, index_maps
from crossband.training.methods.validation import SIDE, comparison_image


def prediction(source, target, unit="reflectance", target_unit=None, scale=1, side=8):
    """Source bands of 0.1, target bands of 0.3, outputs of 0.1, in physical units."""
    ranges = UnitRange([(0.0, 0.5)] * len(source), [(0.0, 0.5)] * len(target), target_unit)
    signature = Signature(source, target, {unit: ranges})
    high = side * scale
    return Prediction(
        torch.full((1, len(target), high, high), 0.2),
        torch.full((1, len(target), high, high), 0.6),
        torch.full((1, len(source), side, side), 0.2),
        torch.ones(1, 1, high, high, dtype=torch.bool),
        signature,
        [unit],
    )


@pytest.mark.parametrize(
    ("source", "target", "unit", "name"),
    [
        (["red", "green", "blue"], ["nir"], "reflectance", "NDVI"),
        (["green", "blue"], ["nir"], "reflectance", "NDWI"),
        (["red", "green", "blue"], ["nir"], "display", "NDVI"),
        (["red", "nir"], ["swir16"], "reflectance", None),  # none would differ from the truth's
        (["vv", "vh"], ["red", "green", "blue"], "db", None),
        (["blue"], ["red", "nir"], "reflectance", "NDVI"),
    ],
)
def test_the_first_index_that_the_bands_allow(source, target, unit, name):
    p = prediction(source, target, unit)
    assert first_index(p, unit) == name
    assert comparison_image(p, 0).shape == (3, 8, 8 * (6 if name else 4))


def test_none_across_units():
    p = prediction(["red"], ["nir"], "display", "reflectance")
    assert first_index(p, "display") is None


def test_maps_are_of_the_true_formula():
    true, made = index_maps(prediction(["red", "green", "blue"], ["nir"]), 0)
    ndvi = (0.3 - 0.1) / (0.3 + 0.1)
    torch.testing.assert_close(true, coloured(torch.full((8, 8), ndvi)))
    torch.testing.assert_close(made, coloured(torch.zeros(8, 8)))


def test_a_finer_target_has_finer_maps():
    p = prediction(["red"], ["nir"], scale=3)
    assert index_maps(p, 0)[0].shape == (3, 24, 24)
    assert comparison_image(p, 0).shape == (3, 24, 6 * 24)


def test_dark_pixels_and_masked_ones():
    p = prediction(["red"], ["nir"])
    p.source.zero_()
    p.target.zero_()
    p.mask[..., :4] = False
    drawn = comparison_image(p, 0)
    assert drawn.isfinite().all()
    assert (drawn[:, :, 4 * 8 : 4 * 8 + 4] == 0).all()
    torch.testing.assert_close(drawn[:, 0, 4 * 8 + 5], torch.tensor(COLOURS[4]))  # 0 / 0 as 0


def test_colours_run_from_end_to_end():
    colours = coloured(torch.tensor([[-2.0, -1.0, 0.0, 1.0, 5.0]]))[:, 0].T
    ends = [COLOURS[0], COLOURS[0], COLOURS[4], COLOURS[-1], COLOURS[-1]]
    torch.testing.assert_close(colours, torch.tensor(ends))
    between = coloured(torch.tensor([[0.125]]))[:, 0, 0]
    wanted = (torch.tensor(COLOURS[4]) + torch.tensor(COLOURS[5])) / 2
    torch.testing.assert_close(between, wanted)


def test_a_large_window_is_shrunk():
    assert comparison_image(prediction(["red"], ["nir"], side=2 * SIDE), 0).shape == (
        3,
        SIDE,
        6 * SIDE,
    )
