"""Flow matching and diffusion: what is regressed on what, at which times."""

from __future__ import annotations

import copy
import signal

import numpy as np
import pytest
import torch
from conftest import random_values
from fitting import options, pairs, same_weights  # noqa: F401  (a fixture)
from toy_methods import SIGNATURE, Data, Noise, Numbers, run

from crossband import load
from crossband.errors import Interrupted, RecipeError
from crossband.networks.generators.per_pixel import PerPixelLinear
from crossband.networks.samplers.diffusion import DiffusionSampler
from crossband.networks.samplers.flow import FlowSampler
from crossband.raster.grid import Grid, Window
from crossband.training.fit import fit
from crossband.training.methods.base import Method
from crossband.training.methods.diffusion import Diffusion
from crossband.training.methods.flow_matching import FlowMatching
from crossband.translate.window import translate_window

BANDS = ("red", "green", "blue")


def adam(parameters):
    return torch.optim.Adam(parameters, lr=5e-3)


def field(width=6, levels=1):
    return {"arguments": {"width": width, "levels": levels, "time_channels": 8}}


def make(kind, seed=0, network=None, width=6, **options):
    torch.manual_seed(seed)
    cls, sampler = (FlowMatching, FlowSampler) if kind == "flow" else (Diffusion, DiffusionSampler)
    generator = sampler(3, 1, field(width), steps=2, **(network or {}))
    return cls(SIGNATURE, generator, optimizer=adam, **{"max_steps": 4, **options})


class Asked:
    """Notes what the field was asked, and answers 0."""

    def __init__(self, network):
        self.network, self.calls = network, []

    def __call__(self, x, time, source):
        self.calls.append((x, time, source))
        return 0.0 * x + sum(p.sum() for p in self.network.parameters()) * 0.0


def watched(kind, monkeypatch, **options):
    """Run a step and return what was asked, the draws, the target and the mask, the loss."""
    method = make(kind, max_steps=1, log_every=1, **options)
    asked = Asked(method.generator)
    monkeypatch.setattr(method.generator, "evaluate_field", asked)
    log, drawn = Numbers(), {}
    for name in ("uniform", "normal"):
        original = getattr(method, name)

        def draw(*shape, name=name, original=original):
            drawn[name] = original(*shape)
            return drawn[name]

        monkeypatch.setattr(method, name, draw)
    run(method, Data(batch=3), logger=log)
    batch = [Noise()[i] for i in range(3)]
    units = [b["unit"] for b in batch]
    stacked = {k: torch.stack([b[k] for b in batch]) for k in ("source", "target", "mask")}
    target = SIGNATURE.normalise(stacked["target"], units, "target")
    target = target.masked_fill(~stacked["mask"], 0.0)
    source = SIGNATURE.normalise(stacked["source"], units, "source")
    losses = {k: v for _, line in log.lines for k, v in line.items() if k.startswith("loss/")}
    (call,) = asked.calls
    return call, drawn, 2 * target - 1, 2 * source - 1, stacked["mask"], losses


def mean_square(values, mask):
    """Mean over the valid pixels of each sample, then over the samples."""
    return torch.stack([v[m].square().mean() for v, m in zip(values, mask, strict=True)]).mean()


@pytest.mark.parametrize(
    "options", [{}, {"times": "logit-normal"}, {"grid": 2, "network": {"solver": "euler"}}]
)
def test_flow_matching_regresses_target_minus_noise(options, monkeypatch):
    (x, t, seen), drawn, target, source, mask, losses = watched("flow", monkeypatch, **options)
    noise, expected = drawn["normal"], drawn["uniform"]
    if options.get("times"):
        expected = torch.sigmoid(torch.distributions.Normal(0.0, 1.0).icdf(expected))
    if options.get("grid"):
        expected = (expected >= 0.5) / 2
    torch.testing.assert_close(t, expected)
    t = t[:, None, None, None]
    torch.testing.assert_close(x, (1 - t) * noise + t * target)
    torch.testing.assert_close(seen, source)
    assert losses["loss/velocity"] == pytest.approx(mean_square(target - noise, mask).item())


@pytest.mark.parametrize("predicts", ["v", "epsilon"])
def test_diffusion_regresses_the_noise_or_v(predicts, monkeypatch):
    network = {"predicts": predicts, "levels": 10, "schedule": "linear"}
    (x, step, seen), drawn, target, source, mask, losses = watched(
        "diffusion", monkeypatch, network=network
    )
    assert torch.equal(step, (drawn["uniform"] * 10).long())
    kept = torch.from_numpy(make("diffusion", network=network).generator.kept)[step].float()
    signal, spread = (v.sqrt()[:, None, None, None] for v in (kept, 1 - kept))
    torch.testing.assert_close(x, signal * target + spread * drawn["normal"])
    torch.testing.assert_close(seen, source)
    wanted = drawn["normal"]
    if predicts == "v":
        wanted = signal * wanted - spread * target
    assert losses[f"loss/{predicts}"] == pytest.approx(mean_square(wanted, mask).item(), rel=1e-5)


def test_times_cover_what_they_should():
    for given, low, high in (
        ({}, 0.28, 0.39),
        ({"times": "logit-normal"}, 0.45, 0.57),  # P(|N(0, 1)| < ln 2) = 0.51
    ):
        method = make("flow", **given)
        method.uniform = lambda count: (torch.arange(count) + 0.5) / count
        t = method.draw_times(3000)
        middle = ((t > 1 / 3) & (t < 2 / 3)).float().mean()
        assert low < middle < high
        assert t.min() >= 0
        assert t.max() <= 1
    method = make("flow", grid=50, network={"solver": "euler"})
    method.uniform = lambda count: torch.arange(count) / count
    assert sorted(set(method.draw_times(500).tolist())) == pytest.approx(
        [k / 50 for k in range(50)]
    )


def test_the_average_of_the_sampler_becomes_the_model_and_validates():
    method = make("flow", max_steps=4, ema_decay=0.5)
    start = copy.deepcopy(method.generator.state_dict())
    log = Numbers()
    run(method, Data(validate=True, steps=2), logger=log)
    assert any("val/score" in line for _, line in log.lines)
    assert method.model_network is method.average
    for name, value in method.average.field.named_parameters():
        assert not torch.equal(value, start[f"field.{name}"]), name


def test_what_does_not_fit_is_one_line():
    with pytest.raises(RecipeError, match="trains a FlowSampler, not the generator PerPixelLinear"):
        FlowMatching(SIGNATURE, PerPixelLinear(), optimizer=adam)
    with pytest.raises(RecipeError, match="trains a DiffusionSampler, not the generator FlowS"):
        Diffusion(SIGNATURE, make("flow").generator, optimizer=adam)
    with pytest.raises(RecipeError, match=r"method\.times must be uniform"):
        make("flow", times="beta")
    with pytest.raises(RecipeError, match=r"asks at time 0\.25, which is not on method\.grid 2"):
        make("flow", grid=2, network={"solver": "midpoint"})
    with pytest.raises(RecipeError, match=r"asks at time 1, which is not on method\.grid 2"):
        make("flow", grid=2, network={"solver": "heun"})
    method = make("flow")
    batch = torch.utils.data.default_collate([Noise()[0]])
    batch["target"], batch["mask"] = (batch[k][..., 4:-4, 4:-4] for k in ("target", "mask"))
    with pytest.raises(RecipeError, match=r"needs data\.context 0"):
        method.backward_losses(batch, True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flow-matching", "discrete-flow-matching", "diffusion"])
def test_a_recipe_stopped_and_resumed_translates_like_the_whole_run(
    name,
    pairs,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    grid = ["--method.grid=2"] if name.startswith("discrete") else []
    arguments = options(
        pairs, *grid, "--baselines", "null", "--data.crop=16", "--data.batch=2", "--data.steps=2",
        "--method.generator.field.arguments={width: 4, levels: 1, time_channels: 8}",
        "--method.generator.steps=2", "--method.max_steps=4", "--method.ema_decay=0.5",
    )  # fmt: skip
    whole = fit(f"rgb2nir/{name}", arguments, tmp_path / "whole")
    original = Method.training_step

    def interrupted(self, batch, index):
        original(self, batch, index)
        if self.step == 3:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Method, "training_step", interrupted)
        with pytest.raises(Interrupted):
            fit(f"rgb2nir/{name}", arguments, tmp_path / "parts")
    parts = fit(f"rgb2nir/{name}", arguments, tmp_path / "parts", resume=True)
    assert same_weights(parts, whole)
    values = random_values(3, 20, 31)
    window = Window(values, np.ones((20, 31), bool), Grid(20, 31), BANDS, "reflectance")
    out = [translate_window(load(folder), window).values for folder in (whole, parts)]
    assert np.array_equal(*out)
    assert out[0].shape == (1, 20, 31)
    assert out[0].std() > 0
