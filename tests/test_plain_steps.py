"""One step of a recipe against plain code of the published system: same weights, same batch."""

from __future__ import annotations

import copy

import pytest
import torch
from toy_unpaired import run

from crossband.training import recipe, recipe_classes

SHARES = torch.tensor([0.3, 0.8])  # of the target in the mixture, for each sample


class Pictures(torch.utils.data.Dataset):
    """Two pictures of 64 pixels, of the bands and within the ranges of a signature."""

    def __init__(self, signature):
        rng = torch.Generator().manual_seed(0)
        self.limits = signature.units["display"]
        self.normalised, self.physical = {}, {}
        for side in ("source", "target"):
            low, high = torch.tensor(getattr(self.limits, side)).T[:, None, :, None, None]
            x = torch.rand(2, len(getattr(signature, side)), 64, 64, generator=rng)
            self.normalised[side], self.physical[side] = x, low + (high - low) * x

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return {"unit": "display", **{side: x[i] for side, x in self.physical.items()}}


class Noted(torch.optim.SGD):
    """Changes no weight, and keeps the gradients."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.0)
        self.noted = {}

    def step(self, closure=None):
        for group in self.param_groups:
            self.noted |= {p: p.grad.clone() for p in group["params"]}


def method_of(name, *options):
    """The method of a recipe, for one step of which the gradients are kept."""
    config = recipe.load(name, [*options, "--method.max_steps=1", "--method.log_every=1"])
    torch.manual_seed(0)
    method = recipe_classes.build_method(config)
    made = {}

    def noting(part):
        def make(parameters):
            made[part] = Noted(parameters)
            return made[part]

        return make

    method.optimizer = noting("generator")
    method.discriminator_optimizer = noting("discriminator")
    return method, made


@pytest.mark.parametrize(
    "name", ["rgb2nir/wgan-gp", "rgb2nir/wgan-gp-small", "rgb2thermal/wgan-gp"]
)
def test_a_step_of_wgan_gp_is_that_of_the_published_code(name):
    """The penalty is on the gradient of the sum of the patches' scores; losses are their means."""
    small = ("--method.generator.width=4", "--method.discriminator.width=4")
    method, made = method_of(
        name, *small, "--method.generator.dropout=0", "--method.critic_steps=1"
    )
    method.uniform = lambda count, *shape: SHARES[:count].view(count, *shape)
    data = Pictures(method.signature)
    colour, nir = data.normalised["source"], data.normalised["target"]
    generator, critic = copy.deepcopy(method.generator), copy.deepcopy(method.discriminator)
    log = run(method, data=data)

    fake = generator(colour)
    true_scores, fake_scores = critic(colour, nir), critic(colour, fake)
    mixed = (SHARES.view(2, 1, 1, 1) * nir + (1 - SHARES.view(2, 1, 1, 1)) * fake).detach()
    mixed.requires_grad_(True)
    scores = critic(colour, mixed)
    assert scores[0].numel() > 1
    (slope,) = torch.autograd.grad(scores, mixed, torch.ones_like(scores), create_graph=True)
    penalty = ((slope.view(2, -1).norm(2, dim=1) - 1) ** 2).mean()
    factor = 10 if name.endswith("small") else 6
    of_critic = fake_scores.mean() - true_scores.mean() + factor * penalty
    l1 = (fake - nir).abs().mean()
    of_generator = -fake_scores.mean() + 100 * l1

    line = {k: v for line in log.lines for k, v in line.items()}
    wanted = {"penalty": penalty, "L1": l1, "total": of_generator}
    for key, value in wanted.items():
        assert line[f"loss/{key}"] == pytest.approx(value.item(), rel=1e-5, abs=1e-6), key
    for part, loss, network in (
        ("generator", of_generator, generator), ("discriminator", of_critic, critic),
    ):  # fmt: skip
        same_slopes(made[part], loss, getattr(method, part), network)


def same_slopes(optimiser, loss, trained, plain):
    """The step had these gradients of a plain loss, to 1e-5 of the largest."""
    slopes = torch.autograd.grad(loss, list(plain.parameters()), retain_graph=True)
    largest = max(s.abs().max() for s in slopes).item()
    assert largest > 1e-3
    for weight, slope in zip(trained.parameters(), slopes, strict=True):
        found = optimiser.noted[weight]
        torch.testing.assert_close(found, slope, rtol=1e-5, atol=1e-5 * largest)


def test_a_step_of_cyclegan_weighs_its_losses_as_the_thermal_system():
    """3 (a + b) / 2 + 8 (c + d) / 2 + 10 s on -1..1, s from colour to thermal only; all doubled."""
    networks = ("generator", "back", "discriminator", "back_discriminator")
    small = [f"--method.{name}.width=4" for name in networks]
    small += ["--method.generator.blocks=1", "--method.back.blocks=1", "--method.structure.patch=8"]
    method, made = method_of("rgb2thermal/cyclegan", *small)
    data = Pictures(method.signature)
    colour, thermal = data.normalised["source"], data.normalised["target"]
    forth, back, critic, back_critic = (copy.deepcopy(getattr(method, n)) for n in networks)
    log = run(method, data=data)

    fake, fake_back = forth(colour), back(thermal)
    gan = ((critic(colour, fake) - 1) ** 2).mean() + (
        (back_critic(thermal, fake_back) - 1) ** 2
    ).mean()
    cycle = 2 * ((back(fake) - colour).abs().mean() + (forth(fake_back) - thermal).abs().mean())
    alike = method.structure.compare(fake, colour, torch.ones_like(fake, dtype=torch.bool)).mean()
    total = 3 * gan / 2 + 8 * cycle / 2 + 10 * alike

    line = next(line for line in log.lines if "loss/total" in line)
    assert line["loss/structure"] == pytest.approx(alike.item(), rel=1e-5)
    assert line["loss/total"] == pytest.approx(2 * total.item(), rel=1e-5)
    same_slopes(made["generator"], 2 * total, method.generator, forth)
    same_slopes(made["generator"], 2 * total, method.back, back)
