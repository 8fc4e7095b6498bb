"""The frozen VGG of losses: which layers it has, what it sees, which files it refuses."""

from __future__ import annotations

import pytest
import torch
import vggs
from torch import nn

from crossband.errors import ModelError, RecipeError
from crossband.training.losses.perceptual import Perceptual
from crossband.training.losses.structure import SpatialCorrelative
from crossband.training.losses.vgg import VGG

#: Where torchvision's VGG-16 and VGG-19 have their convolutions.
SIXTEEN = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
NINETEEN = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]


@pytest.mark.parametrize(
    ("blocks", "numbers"), [((2, 2, 3, 3, 3), SIXTEEN), ((2, 2, 4, 4, 4), NINETEEN)]
)
def test_each_layer_of_vgg_16_and_19(tmp_path, blocks, numbers):
    theirs = vggs.network(blocks)
    assert [i for i, layer in enumerate(theirs) if isinstance(layer, nn.Conv2d)] == numbers
    path = vggs.write(tmp_path / "vgg.pth", theirs)
    names = [f"relu{b + 1}_{n + 1}" for b, count in enumerate(blocks) for n in range(count)]
    pictures = torch.rand(2, 3, 35, 48)
    found = VGG(path, names)(pictures)
    for name, number, features in zip(names, numbers, found, strict=True):
        for picture, ours in zip(pictures, features, strict=True):
            expected = vggs.seen(theirs, picture, number + 1)
            torch.testing.assert_close(ours, expected, msg=lambda m, name=name: f"{name}: {m}")


def test_layers_come_in_the_order_asked_for_and_grey_is_three_times_grey(tmp_path):
    path = vggs.write(tmp_path / "vgg.pth", vggs.network())
    picture = torch.rand(1, 1, 20, 20)
    late, early = VGG(path, ["relu3_2", "relu1_2"])(picture)
    assert (late.shape, early.shape) == ((1, 6, 5, 5), (1, 4, 20, 20))
    (three,) = VGG(path, ["relu1_2"])(picture.expand(-1, 3, -1, -1))
    torch.testing.assert_close(early, three)
    (two,) = VGG(path, ["relu1_2"])(torch.cat([picture - 0.1, picture + 0.1], dim=1))
    torch.testing.assert_close(early, two)


def test_nothing_is_trained_and_nothing_is_stored(tmp_path):
    """A checkpoint with 500 MB of somebody else's weights in it is none."""
    path = vggs.write(tmp_path / "vgg.pth", vggs.network())
    for loss in (Perceptual(path), SpatialCorrelative(vgg=path, layers=["relu1_1"])):
        assert not list(loss.parameters())
        assert not loss.state_dict()
        assert len(list(loss.buffers())) == 2 * len(loss.vgg.names)
        moved = loss.to(torch.float64)
        assert all(b.dtype == torch.float64 for b in moved.buffers())


def bn(state):
    state["features.1.weight"] = torch.ones(4)


def wide(state):
    state["features.2.weight"] = torch.zeros(4, 5, 3, 3)


def broken(state):
    state["features.0.bias"][1] = torch.nan


def sparse(state):
    state["features.2.weight"] = state["features.2.weight"].to_sparse()


def short(state):
    del state["features.2.bias"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (bn, "1.weight: only convolutions with a ReLU after each"),
        (wide, r"2.weight is \[4, 5, 3, 3\]: no convolution of 4 channels over 3 x 3 pixels"),
        (broken, "0.bias holds values that are not finite"),
        (sparse, "2.weight is sparse"),
        (short, "2.bias is missing"),
        (dict.clear, "holds no tensors under names"),
        (lambda state: state.pop("features.0.weight"), "no weights of a VGG"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, spoil, words):
    path = vggs.write(tmp_path / "vgg.pth", vggs.network())
    state = torch.load(path, weights_only=True)
    spoil(state)
    torch.save(state, path)
    with pytest.raises(ModelError, match=words) as caught:
        Perceptual(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_layer_that_is_not_there_and_a_file_that_is_not_there(tmp_path):
    path = vggs.write(tmp_path / "vgg.pth", vggs.network((2, 2)))
    with pytest.raises(ModelError, match="unknown layer 'relu3_1'"):
        Perceptual(path, ["relu3_1"])
    with pytest.raises(ModelError, match="no such file"):
        Perceptual(str(tmp_path / "other.pth"))
    with pytest.raises(ValueError, match="layers"):
        Perceptual(path, [])
    with pytest.raises(ValueError, match="distance"):
        Perceptual(path, distance="cosine")


def test_pictures_that_are_too_small_for_the_layer(tmp_path):
    path = vggs.write(tmp_path / "vgg.pth", vggs.network())
    vgg = VGG(path, ["relu4_1", "relu1_1"])
    assert vgg(torch.rand(1, 3, 8, 9))[0].shape == (1, 7, 1, 1)
    with pytest.raises(RecipeError, match=r"relu4_1 of a VGG needs pictures of 8 pixels a side"):
        vgg(torch.rand(1, 3, 9, 7))
