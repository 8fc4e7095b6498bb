"""PictureUNet: positions count, the size of a picture hardly, and a picture is not cut."""

import pytest
import torch
from registered import waken

from crossband.networks.generators.picture_unet import PictureUNet
from crossband.networks.generators.unet import UNet
from crossband.translate.tiling import OUTPUT_SIDE, default_tile


def network():
    torch.manual_seed(0)
    return waken(PictureUNet(width=6, hidden=5, rows=8, columns=12)).eval()


def test_one_colour_is_not_the_same_above_and_below():
    with torch.no_grad():
        answer = network()(torch.full((1, 3, 64, 96), 0.4))[0, 0]
    spread = float(answer.std())
    assert abs(float(answer[8].mean() - answer[-8].mean())) > 0.1 * spread > 0


def test_a_larger_copy_of_a_picture_has_the_same_answer():
    torch.manual_seed(1)
    # Blocks of whole parts of cells: both sizes then have the same means and the same spreads.
    small = torch.rand(1, 3, 24, 36).repeat_interleave(2, 2).repeat_interleave(2, 3)
    large = small.repeat_interleave(3, 2).repeat_interleave(3, 3)
    with torch.no_grad():
        a, b = network()(small), network()(large)
    # Interpolated contexts lie between cells elsewhere, by less than a pixel of the small picture.
    assert float((b[..., 1::3, 1::3] - a).abs().max()) < 0.02 * float(a.std())


def test_a_picture_goes_through_it_in_one_tile():
    assert default_tile(network()) == OUTPUT_SIDE > default_tile(UNet(width=4, levels=2))


@pytest.mark.parametrize("wrong", [{"rows": 6}, {"columns": 0}, {"rows": 256, "columns": 256}])
def test_grids_that_have_no_three_levels_or_are_too_large_are_refused(wrong):
    with pytest.raises(ValueError, match=r"multiples of 4|at most"):
        PictureUNet(**wrong)
