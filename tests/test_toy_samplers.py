"""Samplers learn a distribution that is known: two Gaussians, whose means depend on the source.

Pixels are independent, so that each is a draw. Values are those inside of samplers, -1..1.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from toy_unpaired import GREY, run

from crossband.networks.conditions import Conditions
from crossband.networks.samplers import ode
from crossband.networks.samplers.diffusion import DiffusionSampler
from crossband.networks.samplers.flow import FlowSampler
from crossband.networks.samplers.vector_field import Field, TimeEncoding
from crossband.training.methods.diffusion import Diffusion
from crossband.training.methods.flow_matching import FlowMatching
from crossband.training.methods.schedules import Cosine

SIZE, DRAWS = 16, 10_000
LOWER, UPPER, DEVIATION, SHARE = -0.5, 0.3, 0.1, 0.3  # at source 0; the share of the lower one
SHIFT = 0.3  # of both means from source 0 to source 1
#: What a draw may miss by: means, deviations, shares, and the Wasserstein distance.
MEAN, SPREAD, PART, DISTANCE = 0.04, 0.05, 0.05, 0.04


class Mixture(torch.utils.data.Dataset):
    """Pixels of random sources, and a draw of the target for each."""

    def __len__(self):
        return 10**6

    def __getitem__(self, i):
        rng = torch.Generator().manual_seed(i)
        source = torch.rand(1, SIZE, SIZE, generator=rng)
        lower = torch.rand(1, SIZE, SIZE, generator=rng) < SHARE
        noise = torch.randn(1, SIZE, SIZE, generator=rng)
        target = torch.where(lower, LOWER, UPPER) + SHIFT * source + DEVIATION * noise
        return {"source": source, "target": 0.5 + 0.5 * target, "unit": "display"}


class ToyField(Field):
    """A perceptron of each pixel: state, source and time."""

    def __init__(self, source_channels=1, target_channels=1, width=64):
        super().__init__()
        self.source_channels, self.target_channels = source_channels, target_channels
        self.time = TimeEncoding(width, 100.0)
        self.first = nn.Conv2d(source_channels + target_channels, width, 1)
        self.rest = nn.Sequential(
            nn.SiLU(), nn.Conv2d(width, width, 1), nn.SiLU(), nn.Conv2d(width, width, 1),
            nn.SiLU(), nn.Conv2d(width, target_channels, 1),
        )  # fmt: skip

    def forward(self, x, time, source):
        return self.rest(
            self.first(torch.cat([x, source], 1)) + self.time(time)[:, :, None, None]
        ).float()

    def receptive_field(self, interval):
        return interval


FIELD = {"class": "ToyField", "arguments": {}}


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """Other tests go over the registry, which is for the package's own classes."""
    monkeypatch.setitem(Field.known, "ToyField", ToyField)


Field.known.pop("ToyField")


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-2)


def trained(kind, sampler, steps=500, **options):
    """The running average of a sampler that was trained on the mixture."""
    torch.manual_seed(0)
    method = kind(
        GREY, sampler, optimizer=adam, max_steps=steps, schedule=Cosine(), ema_decay=0.98, **options
    )
    run(method, data=Mixture(), batch=16)
    return method.average.eval()


def draws(sampler, source, rng, **conditions):
    """[DRAWS] targets for one source."""
    given = torch.full((1, 1, DRAWS // 100, 100), source)
    noise = torch.randn(1, sampler.noise, *given.shape[-2:], generator=rng)
    with torch.no_grad():
        out = sampler.forward_conditioned(given, Conditions(noise=noise, **conditions))
    return (2.0 * out - 1.0).flatten().numpy()


def truth(source):
    """DRAWS quantiles of the distribution, as many as there are draws."""
    means, count = (LOWER + SHIFT * source, UPPER + SHIFT * source), round(SHARE * DRAWS)
    parts = [
        stats.norm(mean, DEVIATION).ppf((np.arange(n) + 0.5) / n)
        for mean, n in zip(means, (count, DRAWS - count), strict=True)
    ]
    return np.sort(np.concatenate(parts))


def misses(values, source):
    """What a draw is off by, each relative to what it may be."""
    lower = values < (LOWER + UPPER) / 2 + SHIFT * source
    found = {"distance": stats.wasserstein_distance(values, truth(source)) / DISTANCE}
    found["share"] = abs(lower.mean() - SHARE) / PART
    for name, mean, part in (
        ("lower", LOWER, values[lower]), ("upper", UPPER, values[~lower]),
    ):  # fmt: skip
        found[f"mean of the {name}"] = abs(part.mean() - mean - SHIFT * source) / MEAN
        found[f"deviation of the {name}"] = abs(part.std() - DEVIATION) / SPREAD
    return found


def check(sampler, label, **conditions):
    rng = torch.Generator().manual_seed(0)
    for source in (0.1, 0.5, 0.9):
        found = misses(draws(sampler, source, rng, **conditions), source)
        assert max(found.values()) < 1.0, (label, source, found)


def test_one_gaussian_is_told_from_two():
    """With the mean and the deviation of the mixture, and every other source is told apart."""
    rng = np.random.default_rng(0)
    for source in (0.1, 0.5, 0.9):
        true = truth(source)
        assert true.mean() == pytest.approx(SHARE * LOWER + (1 - SHARE) * UPPER + SHIFT * source)
        assert max(misses(rng.permutation(true), source).values()) < 0.1
        single = misses(rng.normal(true.mean(), true.std(), DRAWS), source)
        assert single["distance"] > 2.0
        assert single["deviation of the upper"] > 2.0
        assert max(misses(truth(source + 0.4), source).values()) > 2.0


@pytest.mark.slow
def test_flow_matching_learns_two_gaussians_with_every_solver():
    sampler = trained(FlowMatching, FlowSampler(1, 1, FIELD))
    for solver in ode.SOLVERS:
        sampler.choose(solver=solver, steps=50 if solver == "euler" else 15)
        check(sampler, solver)
    sampler.choose(atol=1e-3, rtol=1e-3)
    check(sampler, "adaptive", whole=True)


@pytest.mark.slow
def test_flow_matching_at_grid_times_learns_two_gaussians():
    sampler = FlowSampler(1, 1, FIELD, solver="euler", steps=50)
    check(trained(FlowMatching, sampler, grid=50), "grid")


@pytest.mark.slow
def test_diffusion_learns_two_gaussians_with_every_solver():
    sampler = trained(Diffusion, DiffusionSampler(1, 1, FIELD, levels=100))
    for eta in (0.0, 1.0):
        sampler.choose(solver="ddim", steps=100, eta=eta)
        check(sampler, f"ddim {eta}")
    pytest.importorskip("diffusers")
    sampler.choose(solver="dpm-solver++", steps=30, eta=0.0)
    check(sampler, "dpm-solver++")
