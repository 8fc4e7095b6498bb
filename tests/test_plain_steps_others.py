"""One step of a recipe without a discriminator against plain code: same weights, same batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from one_step import EXACT, Step, exact, twins_of  # noqa: F401  (a fixture)
from plain_systems import EDSR, Autoencoder, Field, l1

from crossband.core.resample import bicubic
from crossband.networks.conditions import Conditions
from crossband.training import recipe


def signed(x):
    return 2 * x - 1


# Samplers.

FIELD = '{"class": "VectorFieldUNet", "arguments": {"width": 4, "levels": 3, "time_channels": 16}}'


def plain_field(step, state, time, colour):
    """The plain field, its answer, and its weights beside the method's."""
    network, ours = Field(), step.before["generator"].field
    first = torch.cat([ours.first.weight, ours.first_source.weight], 1)  # of state and source
    with torch.no_grad():
        network.first.weight.copy_(first)
        network.first.bias.copy_(ours.first.bias)
    method = {id(a): b for a, b in step.twins("generator")}
    split = [ours.first.weight, ours.first.bias, ours.first_source.weight]
    inputs = state, time, colour
    pairs = twins_of(network, ours, inputs, inputs, split, [network.first])
    pairs = [(a, method[id(b)]) for a, b in pairs] + [(network.first.bias, method[id(split[1])])]
    return network, network(*inputs), pairs, [method[id(p)] for p in (split[0], split[2])]


@pytest.mark.parametrize("name", ["rgb2nir/flow-matching", "rgb2nir/discrete-flow-matching"])
def test_a_step_of_flow_matching(name):
    """The mean square of v(x_t, t, colour) - (x_1 - x_0) on -1..1 (Lipman et al. 2023)."""
    step = Step(name, f"generator.field={FIELD}")
    x, y = (signed(step.data.normalised[side]) for side in ("source", "target"))
    (noise,), (time,) = step.drawn["normal"], step.drawn["uniform"]
    if "discrete" in name:  # fifty times, of which the last is 49/50
        time = torch.floor(time * 50) / 50
    t = time.view(2, 1, 1, 1)
    network, found, twins, split = plain_field(step, (1 - t) * noise + t * y, time, x)
    loss = ((found - (y - noise)) ** 2).mean()
    step.logged(velocity=loss)
    step.agrees(loss, twins=twins)
    same_first(step, loss, network, split)


def same_first(step, loss, network, split):
    """The one convolution of both has the gradients of its two parts."""
    (slope,) = torch.autograd.grad(loss, network.first.weight)
    found = torch.cat([step.made[0].noted[p] for p in split], 1)
    torch.testing.assert_close(found, slope, rtol=0, atol=EXACT * slope.abs().max().item())


def test_a_step_of_diffusion():
    """v of the cosine schedule (Nichol and Dhariwal 2021, eq. 17; Salimans and Ho 2022)."""
    step = Step("rgb2nir/diffusion", f"generator.field={FIELD}")
    x, y = (signed(step.data.normalised[side]) for side in ("source", "target"))
    (noise,), (share,) = step.drawn["normal"], step.drawn["uniform"]
    number = torch.floor(share * 1000)
    kept = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - kept[1:] / kept[:-1], 0.999)
    signal = torch.from_numpy(np.cumprod(1 - betas)).sqrt()[number.long()]
    a, s = signal.view(2, 1, 1, 1), (1 - signal**2).sqrt().view(2, 1, 1, 1)
    network, found, twins, split = plain_field(step, a * y + s * noise, number, x)
    loss = ((found - (a * noise - s * y)) ** 2).mean()
    step.logged(v=loss)
    step.agrees(loss, twins=twins)
    same_first(step, loss, network, split)


# Regression.


def log_error(each, scale):
    """A logarithm of each sample's error: scale log(1 + error / scale)."""
    return (scale * torch.log(1 + each / scale)).mean()


def absolute(one, other):
    return (one - other).abs().flatten(1).mean(1)


def ndvi_error(step, fake):
    """The error of NDVI of each sample in reflectance."""
    red, nir = step.data.physical["source"][:, :1], step.data.physical["target"]
    low, high = step.data.physical_range("target")
    made = low + (high - low) * fake
    made = made + (made.clamp_min(0.0) - made).detach()  # nothing reflects less than 0
    return absolute((made - red) / (made + red), (nir - red) / (nir + red))


def of_colours(scale, index_scale, weight):
    """The loss of the bundled models of near infrared."""

    def loss(step, fake, nir):
        index = log_error(ndvi_error(step, fake), index_scale)
        return log_error(absolute(fake, nir), scale) + weight * index

    return loss


def relative(scale):
    return lambda step, fake, true: log_error(absolute(fake, true), scale)


def squared(step, fake, true):
    return ((fake - true) ** 2).mean()


def plainly(step, fake, true):
    return l1(fake, true)


#: Nothing is left out at random.
FIXED = ("anchor=0", "drop_path=0", "drop_context=0")

CASES = {
    "rgb2nir/cnn": (squared, ["width=4"], {}),
    "rgb2nir/mlp": (plainly, ["width=4"], {}),
    "sar2optical/mlp": (plainly, ["width=4"], {}),
    "rgb2thermal/mlp": (plainly, ["width=4"], {}),
    "rgb2nir/local-statistics": (of_colours(0.05, 0.1, 3.0), ["width=8", "depth=2"], {}),
    "rgb2nir/local-pyramid": (of_colours(0.05, 0.1, 0.5), ["width=8", "hidden=4"], {}),
    "rgb2nir/local-unet": (of_colours(0.05, 0.1, 0.5), ["width=8", "depth=1", *FIXED], {}),
    "rgb2nir/guided": (of_colours(0.02, 0.04, 0.5), [], {}),
    "sar2optical/local-statistics": (relative(0.05), ["width=8", "depth=2"], {}),
    "sar2optical/local-pyramid": (relative(0.05), ["width=8", "hidden=4"], {}),
    "sar2optical/guided": (relative(0.05), ["width=4", "depth=1"], {}),
    "rgb2thermal/street": (plainly, ["dropout=0"], {}),
    "rgb2thermal/guided": (plainly, ["width=4", "depth=1"], {}),
    "super-resolution/sharpen": (relative(0.005), ["width=4", "depth=1"], {}),
    "super-resolution/sharpened": (relative(0.002), [], {"scale": 2}),
    "super-resolution/subpixel": (relative(0.002), ["width=4", "blocks=2"], {"scale": 2}),
    "super-resolution/photographs": (plainly, ["width=4", "blocks=2"], {"scale": 4}),
    "super-resolution/edsr-small": (plainly, ["width=4", "blocks=2"], {"scale": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_step_of_a_regression(name):
    """The loss that the recipe states, by other means, and the gradients that it gives."""
    loss, options, pictures = CASES[name]
    options = [f"generator.{o}" for o in options]
    step = Step(name, *options, count=4, within=(0.2, 0.9), **pictures)
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    network, guide = step.before["generator"], step.data.normalised.get("guide")
    fake = network(x) if guide is None else network.forward_conditioned(x, Conditions(guide=guide))
    total = loss(step, fake, y)
    step.logged(total=total)
    step.agrees(total, "generator")


def enlarged(x):
    """MATLAB's bicubic resize, twice as large."""
    return bicubic(x, 2)


@pytest.mark.parametrize("name", ["super-resolution/edsr", "super-resolution/unet-autoencoder"])
def test_a_step_of_super_resolution(name):
    """L1 of EDSR (Lim et al. 2017); the autoencoder's squared error, of an enlarged source."""
    edsr = name.endswith("edsr")
    small = "generator.blocks=2" if edsr else "generator.dropout=0"
    step = Step(name, "generator.width=4", small, scale=2)
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    network = EDSR() if edsr else Autoencoder()
    given = signed(x) if edsr else signed(enlarged(x))
    method = {id(a): b for a, b in step.twins("generator")}
    pairs = twins_of(network, step.before["generator"], (given,), (x,))
    fake = (network(given) + 1) / 2
    loss = l1(fake, y) if edsr else ((fake - y) ** 2).mean()
    step.logged(total=loss)
    step.agrees(loss, twins=[(a, method[id(b)]) for a, b in pairs])


def test_every_recipe_that_follows_a_publication_is_compared():
    files = Path(__file__).parent.glob("test_plain_steps*.py")
    words = "\n".join(path.read_text() for path in files)
    published = [name for name in recipe.available() if "differs" in recipe.load(name)]
    assert [name for name in published if f'"{name}"' not in words] == []
