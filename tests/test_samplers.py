"""Solvers, noise schedules and samplers against what is known of them in closed form."""

from __future__ import annotations

import importlib
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from crossband import Model, load
from crossband.core.signature import Signature, UnitRange
from crossband.errors import CrossbandError, ModelError
from crossband.networks import parameter_count
from crossband.networks.conditions import Conditions, noise_at
from crossband.networks.generators.blend import Blend
from crossband.networks.generators.per_pixel import PerPixelLinear
from crossband.networks.samplers import ode
from crossband.networks.samplers.diffusion import DiffusionSampler, noise_levels
from crossband.networks.samplers.flow import FlowSampler
from crossband.networks.samplers.vector_field import Field, TimeEncoding, VectorFieldUNet

TINY = {"arguments": {"width": 4, "levels": 1, "time_channels": 8}}
ORDERS = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4, "dopri5": 5}


# Solvers.


def bending(x, t):
    """A field of state and time: x' = -x^2 exp(t) / 3, 1 / x(1) = 1 / x(0) + (e - 1) / 3."""
    return -(x**2) * math.exp(t) / 3.0


@pytest.mark.parametrize("name", ode.SOLVERS)
def test_a_solver_has_its_order(name):
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    true = 1.0 / (1.0 / x + (math.e - 1.0) / 3.0)
    errors = [(ode.integrate(bending, x, name, n) - true).abs().max().item() for n in (16, 32, 64)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert orders == pytest.approx([ORDERS[name]] * 2, abs=0.25)
    tableau = ode.solver(name)
    assert sum(tableau.weights) == pytest.approx(1.0)
    for node, row in zip(tableau.nodes, tableau.stages, strict=True):
        assert sum(row) == pytest.approx(node)
    assert set(ORDERS) == set(ode.SOLVERS)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-8])
def test_the_adaptive_solver_keeps_its_tolerance_with_few_steps(tolerance):
    x = torch.tensor([1.0, -2.0, 0.3], dtype=torch.float64)
    asked = []

    def stiff(x, t):
        asked.append(t)
        return 40.0 * (torch.cos(torch.tensor(2.0 * t)) - x)

    found = ode.adaptive(stiff, x, tolerance, tolerance)
    theirs = solve_ivp(
        lambda t, y: 40.0 * (np.cos(2.0 * t) - y), (0, 1), x.numpy(), "RK45",
        atol=tolerance, rtol=tolerance,
    )  # fmt: skip
    exact = solve_ivp(
        lambda t, y: 40.0 * (np.cos(2.0 * t) - y), (0, 1), x.numpy(), "LSODA",
        atol=1e-12, rtol=1e-12,
    ).y[:, -1]  # fmt: skip
    assert np.abs(found.numpy() - exact).max() < 10 * tolerance
    assert max(asked) <= 1.0
    assert len(asked) < 1.3 * theirs.nfev + 6


def test_what_cannot_be_integrated_is_one_line(monkeypatch):
    x = torch.ones(2)
    with pytest.raises(CrossbandError, match="not finite"):
        ode.adaptive(lambda x, t: x * math.nan, x, 1e-3, 1e-3)
    monkeypatch.setattr(ode, "MAX_STEPS", 5)
    with pytest.raises(CrossbandError, match="more than 5 steps"):
        ode.adaptive(lambda x, t: 1e4 * torch.cos(1e4 * t + x), x, 1e-8, 1e-8)
    with pytest.raises(CrossbandError, match="did you mean 'euler'"):
        FlowSampler(field=TINY, solver="eular")
    with pytest.raises(CrossbandError, match="unknown Field 'VectorFieldUnt': did you mean"):
        FlowSampler(field={"class": "VectorFieldUnt"})
    with pytest.raises(CrossbandError, match="VectorFieldUNet has no argument 'widht'"):
        FlowSampler(field={"arguments": {"widht": 4}})
    with pytest.raises(CrossbandError, match="a field has a class and arguments"):
        FlowSampler(field={"class": "VectorFieldUNet", "width": 4})
    for wrong in ({"steps": 0}, {"atol": -1.0}, {"rtol": 1e-3}):
        with pytest.raises(ValueError, match="at least"):
            FlowSampler(field=TINY, **wrong)
    for wrong in ({"width": 0}, {"time_channels": 7}, {"max_period": 1.0}):
        with pytest.raises(ValueError, match=r"at least 1|even"):
            VectorFieldUNet(**wrong)


# Fields.


@pytest.mark.parametrize(("levels", "count"), [(4, 17_637_185), (3, 4_593_729)])
def test_the_field_has_the_parameters_of_the_seed(levels, count):
    with torch.device("meta"):
        network = VectorFieldUNet(levels=levels)
        assert parameter_count(network) == count
        assert network.stride == 2 ** (levels + 1)
        assert parameter_count(FlowSampler(field={"arguments": {"levels": levels}})) == count


def test_times_are_encoded_in_fp32_by_waves():
    encoding = TimeEncoding(6, 100.0)
    t = torch.tensor([0.0, 0.5, 0.501])
    waves = np.array([1.0, 0.1, 0.01])  # once in 2 pi to once in 2 pi 100
    angles = t.numpy()[:, None] * waves
    inside = torch.from_numpy(np.concatenate([np.sin(angles), np.cos(angles)], 1)).float()
    expected = torch.relu(encoding.linear(inside))
    with torch.autocast("cpu", torch.bfloat16):
        found = encoding(t)
    torch.testing.assert_close(found, expected)
    assert not torch.equal(found[1], found[2])


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_the_field_trains_every_weight_and_looks_at_all_it_is_given(norm):
    torch.manual_seed(0)
    network = VectorFieldUNet(2, 1, width=4, levels=2, time_channels=8, norm=norm)
    given = [torch.rand(2, 1, 16, 16), torch.tensor([0.2, 0.9]), torch.rand(2, 2, 16, 16)]
    for x in given:
        x.requires_grad_(True)
    out = network(*given)
    (out * torch.randn(out.shape)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    assert all(x.grad.flatten(1).any(dim=1).all() if x.ndim > 1 else x.grad.all() for x in given)
    network.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        fine = network(*given)
    assert fine.dtype == torch.float32
    assert not torch.equal(fine, fine.bfloat16().float())


# Samplers of fields that know the answer.


class Knows(Field):
    """Knows the target: twice the source, and what a field answers on the way to it."""

    def __init__(self, source_channels: int = 1, target_channels: int = 1, kind: str = "flow"):
        super().__init__()
        self.source_channels, self.target_channels = source_channels, target_channels
        self.kind, self.asked = kind, []
        self.kept = None

    def receptive_field(self, interval):
        return interval

    def forward(self, x, time, source):
        target, t = 0.5 * source + 0.1, time[:, None, None, None].double()
        self.asked.append(time[0].item())
        if self.kind == "flow":
            return ((target - x) / (1.0 - t).clamp_min(1e-3)).float()
        kept = self.kept[time.long()][:, None, None, None]
        noise = (x - kept.sqrt() * target) / (1.0 - kept).sqrt()
        v = kept.sqrt() * noise - (1.0 - kept).sqrt() * target
        return (noise if self.kind == "epsilon" else v).float()


def knowing(cls, kind, **options):
    network = cls(1, 1, {"class": "Knows", "arguments": {"kind": kind}}, **options)
    if kind != "flow":
        network.field.kept = torch.from_numpy(network.kept)
    return network.eval()


def target_of(x):
    return 0.5 + 0.5 * (0.5 * (2 * x - 1) + 0.1)


X = torch.rand(2, 1, 9, 11, generator=torch.Generator().manual_seed(0))
NOISE = Conditions(torch.randn(2, 1, 9, 11, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("solver", ["euler", "midpoint"])
def test_a_flow_ends_at_the_target(solver):
    network = knowing(FlowSampler, "flow", solver=solver, steps=7)
    out = network.forward_conditioned(X, NOISE)
    # Euler's last step from 1 - h goes exactly to the target; others nearly.
    torch.testing.assert_close(out, target_of(X), atol=1e-5 if solver == "euler" else 0.1, rtol=0)
    assert network.field.asked == pytest.approx(network.times)
    torch.testing.assert_close(
        network(X), network.forward_conditioned(X, Conditions(torch.zeros_like(X)))
    )


@pytest.mark.parametrize("kind", ["v", "epsilon"])
@pytest.mark.parametrize("solver", ["ddim", "dpm-solver++"])
def test_diffusion_ends_at_the_target(kind, solver):
    network = knowing(DiffusionSampler, kind, predicts=kind, solver=solver, steps=6)
    torch.testing.assert_close(
        network.forward_conditioned(X, NOISE), target_of(X), atol=2e-3, rtol=0
    )
    if solver == "ddim":
        assert network.field.asked == [999, 832, 666, 499, 332, 166]


@pytest.mark.parametrize(
    ("schedule", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")]
)
def test_noise_schedules_are_those_of_diffusers(schedule, theirs):
    scheduler = pytest.importorskip("diffusers").DDPMScheduler(1000, beta_schedule=theirs)
    np.testing.assert_allclose(noise_levels(schedule, 1000), scheduler.betas, rtol=1e-4)
    kept = np.cumprod(1.0 - noise_levels("linear", 250))  # fewer steps end in as much noise
    assert kept[-1] == pytest.approx(scheduler.alphas_cumprod[-1].item(), abs=1e-4)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("predicts", ["v", "epsilon"])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_ddim_is_that_of_diffusers(eta, predicts, schedule):
    library = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    network = DiffusionSampler(
        1, 1, TINY, schedule=schedule, predicts=predicts, steps=8, eta=eta, limit=1.2
    ).eval()
    noise = torch.randn(2, network.noise, 8, 8)
    assert network.noise == (8 if eta else 1)
    source = torch.rand(2, 1, 8, 8)
    scheduler = library.DDIMScheduler(
        1000, trained_betas=network.betas, clip_sample=True, clip_sample_range=1.2,
        prediction_type="v_prediction" if predicts == "v" else "epsilon",
        timestep_spacing="trailing",
    )  # fmt: skip
    scheduler.set_timesteps(8)
    x = noise[:, :1]
    with torch.no_grad():
        for i, step in enumerate(scheduler.timesteps.tolist()):
            answer = network.evaluate_field(x, torch.full((2,), float(step)), 2 * source - 1)
            fresh = noise[:, i + 1 : i + 2] if i < 7 else torch.zeros_like(x)
            x = scheduler.step(
                answer, step, x, eta=eta, use_clipped_model_output=True,
                variance_noise=fresh if eta else None,
            ).prev_sample  # fmt: skip
        found = network.forward_conditioned(source, Conditions(noise))
    # Their table is float32: where hardly any signal is left, it shows. (Where the steps do not
    # divide 1000, theirs go to a step beside the next one.)
    torch.testing.assert_close(found, 0.5 + 0.5 * x, atol=2e-3, rtol=0)
    assert found.std() > 0.05


def test_dpm_solver_needs_its_package_and_says_so(monkeypatch, tmp_path):
    network = DiffusionSampler(1, 1, TINY, solver="dpm-solver++", steps=4)
    signature = Signature(["red"], ["nir"], {"display": UnitRange([(0.0, 1.0)], [(0.0, 1.0)])})
    folder = Model(network, signature, name="m", task="t").save(tmp_path / "m")
    source = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(
        load(folder)(source), Model(network.eval(), signature, name="m", task="t")(source)
    )
    original = importlib.import_module

    def absent(name, *args):
        if name == "diffusers":
            raise ImportError(name)
        return original(name, *args)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ModelError, match=r"pip install 'crossband\[diffusion\]', or .* ddim"):
        load(folder)
    plain = Model(DiffusionSampler(1, 1, TINY, steps=4), signature, name="m", task="t")
    assert load(plain.save(tmp_path / "plain"))(source).isfinite().all()


# What a tile must not change.


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (FlowSampler, {"solver": "midpoint"}),
        (DiffusionSampler, {"eta": 0.7}),
        (DiffusionSampler, {}),
    ],
)
def test_tiles_with_the_scenes_noise_equal_the_whole_scene(cls, options):
    torch.manual_seed(3)
    field = {"arguments": {"width": 4, "levels": 1, "norm": "none", "time_channels": 4}}
    network = cls(2, 1, field, steps=2, **options).eval()
    scene = torch.rand(1, 2, 144, 128)
    noise = torch.from_numpy(noise_at(5, 0, 0, 144, 128, network.noise))[None]
    m = -(-network.margin // network.stride) * network.stride
    top, left = 60, 48
    assert m <= left
    with torch.no_grad():
        whole = network.forward_conditioned(scene, Conditions(noise))
        rows, cols = slice(top - m, top + 24 + m), slice(left - m, left + 16 + m)
        drawn = noise_at(5, top - m, left - m, 24 + 2 * m, 16 + 2 * m, network.noise)
        tile = network.forward_conditioned(
            scene[..., rows, cols], Conditions(torch.from_numpy(drawn)[None])
        )
        other = network.forward_conditioned(scene, Conditions(torch.zeros_like(noise)))
    found, true = tile[..., m : m + 24, m : m + 16], whole[..., top : top + 24, left : left + 16]
    torch.testing.assert_close(found, true, atol=1e-5, rtol=0)
    assert (other - whole).abs().mean() > 1e-3


def test_only_a_whole_picture_has_the_adaptive_solver():
    torch.manual_seed(0)
    network = FlowSampler(1, 1, TINY, solver="euler", steps=3, atol=1e-4, rtol=1e-4).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
        fixed = network.forward_conditioned(X, NOISE)
        whole = network.forward_conditioned(X, Conditions(NOISE.noise, whole=True))
        first = network.forward_conditioned(X[:1], Conditions(NOISE.noise[:1], whole=True))
        network.choose(solver="rk4", steps=200)
        fine = network.forward_conditioned(X, NOISE)
    assert (fixed - fine).abs().max() > 1e-2
    torch.testing.assert_close(whole, fine, atol=4e-3, rtol=0)
    # A picture's steps are its own, whatever else is in the batch.
    torch.testing.assert_close(whole[:1], first, atol=1e-6, rtol=0)


def test_steps_are_chosen_after_training_and_kept_by_the_model(tmp_path):
    field = {"arguments": {"width": 2, "levels": 1, "norm": "none", "time_channels": 4}}
    network = FlowSampler(1, 1, field, solver="euler", steps=2)
    before = network.margin
    network.choose(steps=4)
    assert network.margin > before
    for wrong, message in (
        ({"steps": 0}, "at least 1"),
        ({"solver": "rk5"}, "did you mean 'rk4'"),
        ({"stepps": 3}, "did you mean 'steps'"),
    ):
        with pytest.raises(CrossbandError, match=message):
            network.choose(**wrong)
    assert (network.solver, network.steps) == ("euler", 4)
    signature = Signature(["red"], ["nir"], {"display": UnitRange([(0.0, 1.0)], [(0.0, 1.0)])})
    loaded = load(Model(network, signature, name="m", task="t").save(tmp_path / "m")).network
    assert (loaded.steps, loaded.margin) == (4, network.margin)
    diffusion = DiffusionSampler(1, 1, field, steps=3)
    diffusion.choose(eta=1.0)
    assert diffusion.noise == 3
    for wrong in ({"steps": 2000}, {"eta": 2.0}, {"limit": 0.5}, {"solver": "ddpm"}):
        with pytest.raises(CrossbandError, match="DiffusionSampler: "):
            diffusion.choose(**wrong)


def test_a_blend_hands_on_what_its_parts_take():
    parts = [
        knowing(FlowSampler, "flow", steps=2),
        FlowSampler(1, 1, TINY, steps=1).eval(),
        DiffusionSampler(1, 1, TINY, steps=3, eta=1.0).eval(),
        PerPixelLinear(1, 1).eval(),
    ]
    blend = Blend.of(parts, [0.25] * 4).eval()
    assert (blend.noise, blend.style, blend.located) == (3, 0, False)
    noise = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        answers = [p.forward_conditioned(X, Conditions(noise[:, : p.noise])) for p in parts]
        torch.testing.assert_close(
            blend.forward_conditioned(X, Conditions(noise)), sum(answers) / 4
        )
        torch.testing.assert_close(blend(X), sum(p(X) for p in parts) / 4)
