"""The traps of manual optimisation, each with a test that fails if it comes back."""

from __future__ import annotations

import copy
import math
import random
import signal
from operator import itemgetter

import lightning
import numpy as np
import pytest
import torch
from registered import cases
from tiers import first_quick, slow
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset
from toy_methods import (
    IDS,
    METHODS,
    SIGNATURE,
    BreaksAt,
    Data,
    Noise,
    Numbers,
    Wobbly,
    adam,
    built,
    make,
    make_cycle,
    run,
    sgd,
    weights,
)

from crossband.core.registry import build
from crossband.core.signature import Signature, UnitRange
from crossband.errors import Interrupted, RecipeError, TrainingError
from crossband.networks import Discriminator, Generator, parameter_count
from crossband.networks.discriminators.patchgan import MultiScalePatchGAN, PatchGAN, PixelGAN
from crossband.networks.generators.bicubic import Bicubic
from crossband.networks.generators.per_pixel import PerPixelLinear, PerPixelMean, PerPixelMLP
from crossband.training.callbacks.checkpoints import Checkpoints
from crossband.training.callbacks.progress import TrainingProgress
from crossband.training.losses import Loss
from crossband.training.losses.pixel import L1
from crossband.training.methods.base import Method
from crossband.training.methods.cycle_gan import CycleGAN
from crossband.training.methods.least_squares import LeastSquares
from crossband.training.methods.modules import frozen
from crossband.training.methods.optimisers import make_optimizer
from crossband.training.methods.paired_gan import PairedGAN
from crossband.training.methods.replay import ReplayBuffer
from crossband.training.methods.schedules import Constant, Cosine, Linear, Plateau, Schedule, Steps
from crossband.training.methods.step_log import StepLog
from crossband.training.methods.untrained import Untrained

# Counting.


def test_steps_are_the_generators_though_two_optimisers_step():
    log = Numbers()
    method = make(adversarial_weight=0.1)
    trainer = run(method, logger=log)
    assert method.step == 6
    assert trainer.global_step == 12  # why it cannot be used
    assert method.consumed == 24
    steps = [step for step, line in log.lines if "loss/total" in line]
    assert steps == [1, 2, 3, 4, 5, 6]
    rates = {step: line for step, line in log.lines if "learning_rate/discriminator" in line}
    assert list(rates) == [2, 4, 6]  # log_every
    assert {"gradient/generator", "score/target", "spread/output"} <= set(rates[4])


def test_a_batch_is_moved_without_a_walk_through_its_names():
    """Lightning looks at every name of a list: a third of a small network's step."""
    names = ["scene.tif"] * 3
    batch = {"source": torch.zeros(3, 1, 2, 2), "name": names}
    moved = make().transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved["source"].is_meta
    assert moved["name"] is names


def test_accumulated_batches_are_not_steps():
    method = make(accumulate=3, max_steps=2)
    run(method)
    assert (method.step, method.consumed) == (2, 24)


# Adversarial.


def test_without_adversarial_weight_there_is_no_discriminator():
    critic = PatchGAN(width=4, layers=2)
    critic.forward = None  # calling it would fail
    method = make()
    alone = PairedGAN(
        SIGNATURE, Wobbly(), losses=[L1()], discriminator=critic, optimizer=adam, max_steps=2
    )
    run(alone)
    assert alone.discriminator is None
    assert len(alone.configure_optimizers()) == 1
    assert len(list(alone.parameters())) == len(list(method.parameters()))


def test_adversarial_weight_needs_a_discriminator():
    with pytest.raises(RecipeError, match=r"adversarial_weight .* no discriminator"):
        PairedGAN(SIGNATURE, Wobbly(), losses=[L1()], optimizer=adam, adversarial_weight=0.1)


class Watched(Discriminator):
    """Counts how often its weights' gradients are computed, and notes what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Conv2d(4, 1, 1)
        self.seen, self.computed = [], 0
        self.score.weight.register_hook(self.count)

    def count(self, gradient):
        self.computed += 1

    def forward(self, source, target):
        self.seen.append(target.detach().clone())
        return self.score(torch.cat([source, target], 1))


def test_one_generator_run_a_step_and_no_discriminator_gradients_in_its_part():
    critic = Watched()
    method = PairedGAN(
        SIGNATURE, Wobbly(), losses=[L1()], discriminator=critic, adversarial_weight=1.0,
        optimizer=adam, max_steps=1, ema_decay=0.0,
    )  # fmt: skip
    run(method)
    assert method.generator.calls == 1
    # Scored once each, and the weights' gradients computed once, in the discriminator's own part.
    assert len(critic.seen) == 2
    assert critic.computed == 1
    output, true = critic.seen
    mask = torch.stack([Noise()[i]["mask"] for i in range(4)])
    assert true[~mask].abs().max() == 0
    assert output[~mask].abs().max() == 0
    with frozen(critic):
        assert not critic.score.weight.requires_grad
    assert critic.score.weight.requires_grad


# Accumulation, clipping, averaging.


@pytest.mark.parametrize("optimizer", [adam, sgd])
def test_accumulation_equals_the_whole_batch(optimizer):
    options = {"noisy": False, "optimizer": optimizer, "adversarial_weight": 0.1, "clip": 0.05}
    whole = make(**options)
    parts = make(accumulate=4, **options)
    run(whole, Data(batch=8))
    run(parts, Data(batch=2, steps=5, validate=True))  # validates in the middle of a step
    assert whole.step == parts.step == 6
    assert whole.consumed == parts.consumed
    assert (weights(whole) - weights(parts)).abs().max() < 1e-5
    start = make(**options)
    assert (weights(whole) - weights(start)).abs().max() > 1e-2


def test_clipping_bounds_the_step():
    start, method = (make(optimizer=sgd, max_steps=1, clip=0.01) for _ in range(2))
    run(method)
    moved = (weights(method.generator) - weights(start.generator)).norm()
    assert moved.item() == pytest.approx(0.1 * 0.01, rel=1e-3)


class Trace(lightning.Callback):
    def __init__(self):
        self.states = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.states.append((weights(pl_module.generator), weights(pl_module.average)))


def test_the_average_follows_its_formula():
    trace, method = Trace(), make(max_steps=8, ema_decay=0.5)
    mean = weights(method.generator).double()
    run(method, callbacks=[trace])
    for step, (now, average) in enumerate(trace.states, start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * now.double()
        torch.testing.assert_close(average.double(), mean, atol=1e-6, rtol=1e-5)
    assert method.model_network is method.average
    assert not any(p.requires_grad for p in method.average.parameters())
    assert make(ema_decay=0.0).average is None


# Schedules and optimisers.


class Rates(lightning.Callback):
    def __init__(self):
        self.rates = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.rates.append([g["lr"] for o in trainer.optimizers for g in o.param_groups])


def test_the_schedule_is_stepped():
    rates = Rates()
    run(make(max_steps=6, schedule=Cosine(warmup=2), adversarial_weight=0.1), callbacks=[rates])
    factors = [0.5, *(0.5 * (1 + math.cos(math.pi * s / 6)) for s in range(1, 6))]
    for step, factor in zip(rates.rates, factors, strict=True):
        assert step == pytest.approx([1e-2 * factor] * len(step))
    with pytest.raises(RecipeError, match="warmup of at least 0"):
        Cosine(warmup=-1)


def test_schedules_are_what_they_say():
    assert [Constant().factor(s, 10) for s in (0, 5, 10)] == [1.0, 1.0, 1.0]
    line = Linear(start=0.5, end=0.2)
    assert [line.factor(s, 10) for s in (0, 5, 10)] == pytest.approx([1.0, 1.0, 0.2])
    assert line.factor(7, 10) == pytest.approx(1.0 - 0.8 * 0.4)
    assert Cosine(end=0.1).factor(10, 10) == pytest.approx(0.1)
    falls = Steps(by=0.5, at=[0.4, 0.8])
    assert [falls.factor(s, 10) for s in (0, 3, 4, 7, 8, 10)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    with pytest.raises(RecipeError, match="Steps needs by and at"):
        Steps(at=[1.5])


@pytest.mark.parametrize(("name", "arguments"), cases(Schedule))
def test_every_schedule_is_a_function_of_the_step_and_of_what_it_was_told(name, arguments):
    schedule, other = (build(Schedule, name, arguments) for _ in range(2))
    for score in (1.0, 0.9, 0.95, 0.96, 0.97):
        schedule.record_score(score)
    other.load_state_dict(schedule.state_dict())
    factors = [schedule.factor(step, 10) for step in range(11)]
    assert factors == [other.factor(step, 10) for step in range(11)]
    assert all(0.0 <= factor <= 1.0 for factor in factors)
    assert max(factors) > 0.0


def test_plateau_falls_after_validations_that_are_not_better():
    schedule = Plateau(by=0.5, patience=2, end=0.2)
    factors = []
    for score in (1.0, 0.9, 0.95, 0.9, 0.89, 0.89, 0.89, 0.89, 0.89, 0.89, 0.89):
        schedule.record_score(score)
        factors.append(schedule.factor(0, 100))
    assert factors == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]
    other = Plateau(by=0.5, patience=2, end=0.2)
    other.load_state_dict(schedule.state_dict())
    assert other.factor(3, 9) == 0.2


def test_no_weight_decay_for_what_does_not_mix_channels():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(1, 4))
    network.scale = nn.Parameter(torch.ones(1, 4, 1, 1))
    optimizer = make_optimizer(lambda p: torch.optim.AdamW(p, weight_decay=0.3), network)
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert [id(p) for p in network.parameters() if decays[id(p)] > 0] == [id(network[0].weight)]
    assert len(decays) == 5
    assert all(g["fused"] for g in optimizer.param_groups)


def test_fused_adam_computes_what_adam_computes():
    torch.manual_seed(0)
    a = nn.Linear(5, 3)
    b = copy.deepcopy(a)
    one = make_optimizer(adam, a)
    two = torch.optim.Adam(b.parameters(), lr=1e-2, foreach=False, fused=False)
    for _ in range(3):
        for network, optimizer in ((a, one), (b, two)):
            optimizer.zero_grad()
            network(torch.ones(2, 5)).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(weights(a), weights(b))


# Resume.


class Stop(lightning.Callback):
    """Ask to stop after a step, as Ctrl-C does."""

    def __init__(self, checkpoints, step):
        self.checkpoints, self.step = checkpoints, step

    def on_train_batch_start(self, trainer, pl_module, *_):
        if pl_module.step == self.step - 1:
            self.checkpoints.stop_request.signal = signal.SIGINT


def state_of(method):
    return {
        "weights": weights(method),
        "optimisers": [o.state_dict() for o in method.trainer.optimizers],
        "counters": (method.step, method.consumed, method._batches),
    }


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


BY_METHOD = list(first_quick(METHODS, itemgetter(0), IDS))


def of_parts(case):
    """Return what a checkpoint of a method has: optimisers, critics, buffers of pictures."""
    return tuple(part for part in ("optimizer", "discriminator", "replay") if part in case[1])


@pytest.mark.parametrize(("name", "arguments"), first_quick(METHODS, of_parts, IDS))
@pytest.mark.parametrize("step", [3, slow(5), slow("random")])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path, name, arguments, step):
    """Steps of two or four batches, epochs of five: inside an epoch, at its end, anywhere."""
    step = random.SystemRandom().randint(1, 7) if step == "random" else step
    options = {"max_steps": 8, "accumulate": 2, "clip": 0.5}
    whole_log, log = Numbers(), Numbers()
    whole = built(name, arguments, **options)
    run(whole, Data(validate=True), [Checkpoints(tmp_path / "whole")], logger=whole_log)
    first = built(name, arguments, **options)
    checkpoints = Checkpoints(tmp_path / "parts")
    with pytest.raises(Interrupted, match=f"after step {step}; go on with --resume"):
        run(first, Data(validate=True), [checkpoints, Stop(checkpoints, step)], logger=log)
    assert first.step == step
    # Other weights: all must come from the checkpoint.
    second = built(name, arguments, seed=99, **options)
    run(
        second,
        Data(validate=True),
        [Checkpoints(tmp_path / "parts")],
        ckpt_path=tmp_path / "parts" / "last.ckpt",
        logger=log,
    )
    assert second.step == whole.step == 8
    assert equal(weights(second), weights(whole)), step
    if "optimizer" in arguments:
        assert equal(state_of(second), state_of(whole)), step

    def numbers(lines):
        kept = [(s, {k: v for k, v in d.items() if k != "images_per_second"}) for s, d in lines]
        return sorted(kept, key=lambda x: (x[0], len(x[1])))

    assert numbers(log.lines) == numbers(whole_log.lines), step
    a, b = (
        torch.load(tmp_path / part / "last.ckpt", weights_only=True) for part in ("whole", "parts")
    )
    assert equal(a["state_dict"], b["state_dict"]), step
    assert a["callbacks"].keys() == b["callbacks"].keys()
    assert equal(a["crossband"], b["crossband"]), step


def test_another_seed_does_not_resume(tmp_path):
    run(make(max_steps=2), callbacks=[Checkpoints(tmp_path)])
    other = make(max_steps=4)
    other.seed = 1
    with pytest.raises(TrainingError, match="seed 0, this run has 1"):
        run(other, ckpt_path=tmp_path / "last.ckpt")


# Checkpoints.


def test_checkpoints_are_whole_or_absent(tmp_path, monkeypatch):
    run(make(max_steps=4), callbacks=[Checkpoints(tmp_path, every=2)])
    before = (tmp_path / "last.ckpt").read_bytes()

    def full(self, path, *_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lightning.Trainer, "save_checkpoint", full)
    with pytest.raises(Exception, match="No space left on device") as error:
        run(make(max_steps=4), callbacks=[Checkpoints(tmp_path, every=2)])
    assert "\n" not in str(error.value)
    assert (tmp_path / "last.ckpt").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_best_is_the_lowest_validation_score(tmp_path):
    method = make(max_steps=20, optimizer=lambda p: torch.optim.SGD(p, lr=0.5), schedule=Constant())
    log = Numbers()
    run(method, Data(steps=4, validate=True), [Checkpoints(tmp_path)], logger=log)
    scores = {step: line["val/score"] for step, line in log.lines if "val/score" in line}
    assert list(scores) == [4, 8, 12, 16, 20]
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert best["crossband"]["step"] == min(scores, key=scores.get)


# Losses that break.


def test_nan_stops_with_step_and_name_and_keeps_good_weights(tmp_path):
    method = make(losses=[L1(), BreaksAt(4)], max_steps=10)
    with pytest.raises(
        TrainingError, match=r"step 4: BreaksAt is nan .files of the batch: 12.tif, 13.tif, "
    ):
        run(method, callbacks=[Checkpoints(tmp_path, every=1)])
    assert method.step == 3
    assert weights(method).isfinite().all()
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["crossband"]["step"] == 3


def test_on_an_accelerator_nan_is_found_at_the_next_line_of_the_log(tmp_path, monkeypatch):
    method = make(losses=[L1(), BreaksAt(3)], max_steps=10, log_every=4)
    looked = []
    original = StepLog.first_invalid

    def first_invalid(self):
        looked.append(self.current.number - 1)
        return original(self)

    monkeypatch.setattr(StepLog, "first_invalid", first_invalid)
    monkeypatch.setattr(Method, "device", property(lambda self: torch.device("meta")))
    monkeypatch.setattr(Method, "fp32", lambda self: torch.autocast("cpu", enabled=False))
    with pytest.raises(
        TrainingError, match=r"step 3: BreaksAt is nan .files of the batch: 8.tif, 9.tif"
    ):
        run(method, callbacks=[Checkpoints(tmp_path)])
    assert looked == [4]


class SometimesNan(Dataset):
    """Every fifth sample's target is NaN where it is valid."""

    def __len__(self):
        return 10**6

    def __getitem__(self, i):
        sample = Noise()[i]
        if i % 5 == 4:
            sample["target"] = sample["target"] * math.nan
        return sample


class Bad(Data):
    def train_dataloader(self):
        from crossband.data.sampler import PositionSampler

        method = self.trainer.lightning_module
        sampler = PositionSampler(self.batch, self.steps, lambda: method.consumed)
        return DataLoader(SometimesNan(), batch_sampler=sampler, generator=torch.Generator())


def test_steps_that_break_are_skipped_and_counted_up_to_a_bound():
    method = make(adversarial_weight=0.1, max_steps=6, on_nan="skip")
    run(method, Bad(batch=1, steps=4))
    assert (method.step, method.skipped, method.consumed) == (6, 1, 7)
    assert method.latest["skipped"] == 1.0
    assert weights(method).isfinite().all()
    # As if the bad sample had not been there: with one sample a batch, nothing else is left out.
    bounded = make(max_steps=60, on_nan="skip", max_skips=2)
    with pytest.raises(TrainingError, match=r"step 13: .* is nan .files of the batch: 14.tif.*; 2"):
        run(bounded, Bad(batch=1, steps=4))
    assert bounded.step == 12


def test_a_loss_that_explodes_stops():
    with pytest.raises(TrainingError, match=r"step 1: L1 is 0\.\d+ "):
        run(make(loss_limit=1e-3))


# Inner steps of the discriminators.


def test_critic_steps_see_batches_of_their_own():
    critic = Watched()
    method = PairedGAN(
        SIGNATURE, Wobbly(), losses=[L1()], discriminator=critic, adversarial_weight=1.0,
        adversarial="wasserstein", penalty=10.0, optimizer=adam, max_steps=2, critic_steps=3,
        ema_decay=0.0,
    )  # fmt: skip
    log = Numbers()
    trainer = run(method, Data(batch=2, steps=3), logger=log)
    assert (method.step, method.consumed) == (2, 12)
    assert trainer.global_step == 2 + 6
    assert critic.computed == 6
    shown = [critic.seen[3 * i + 1] for i in range(6)]  # the targets: output, target, mixed
    assert len({float(x.sum()) for x in shown}) == 6
    assert {"loss/penalty", "gradient/discriminator"} <= set(log.lines[0][1])


def test_the_generator_has_no_gradient_in_inner_steps():
    wanted = []

    class Noting(Wobbly):
        def forward(self, x):
            out = super().forward(x)
            wanted.append(out.requires_grad)
            return out

    Noting.known.pop("Noting")
    method = PairedGAN(
        SIGNATURE, Noting(), losses=[L1()], discriminator=PatchGAN(width=4, layers=2),
        adversarial_weight=1.0, optimizer=adam, max_steps=2, critic_steps=2, ema_decay=0.0,
    )  # fmt: skip
    run(method)
    assert wanted == [False, True, False, True]


def test_wasserstein_needs_its_penalty():
    with pytest.raises(RecipeError, match=r"needs method.penalty above 0"):
        make(adversarial_weight=1.0, adversarial="wasserstein")


def test_feature_matching_needs_layers_that_are_shown():
    options = {"losses": [L1()], "optimizer": adam, "feature_matching": 1.0}
    with pytest.raises(RecipeError, match="feature_matching is above 0, but adversarial_weight"):
        PairedGAN(SIGNATURE, Wobbly(), **options)
    with pytest.raises(RecipeError, match="PixelGAN does not show its layers"):
        PairedGAN(
            SIGNATURE, Wobbly(), discriminator=PixelGAN(width=4), adversarial_weight=1.0, **options
        )


def test_the_generator_minimises_the_sum_of_its_terms():
    """L1, the mean of three losses and of three differences of features, with their weights."""
    critic = MultiScalePatchGAN(width=4, layers=1, norm="none")
    method = PairedGAN(
        SIGNATURE, Wobbly(), losses=[L1(weight=3.0)], discriminator=critic, max_steps=1,
        adversarial_weight=0.5, feature_matching=2.0, optimizer=adam, ema_decay=0.0,
    )  # fmt: skip
    method.generator.noisy = False
    samples = [Noise()[i] for i in range(4)]
    batch = torch.utils.data.default_collate(samples)
    with torch.no_grad():
        p = method.predict_batch(method.generator, batch)
        output = p.output.masked_fill(~p.mask, 0.0)
        losses, features = [], []
        source, target = p.source, p.target
        for judge in critic.judges:
            (made,), (true,) = judge.features(source, output), judge.features(source, target)
            losses.append(((made[-1] - 1) ** 2).mean())
            pairs = zip(made[:-1], true[:-1], strict=True)
            features.append(sum((a - b).abs().mean() for a, b in pairs))
            source, target, output = map(critic.coarsen, (source, target, output))
        expected = 3.0 * L1()(p).mean() + 0.5 * sum(losses) / 3 + 2.0 * sum(features) / 3
    log = Numbers()
    run(method, logger=log)
    line = log.lines[0][1]
    assert line["loss/total"] == pytest.approx(expected.item(), rel=1e-5)
    assert line["loss/feature_matching"] == pytest.approx(sum(features).item() / 3, rel=1e-5)


def test_untrained_takes_what_gives_back_its_bands():
    with pytest.raises(RecipeError, match="PerPixelLinear has weights to learn"):
        Untrained(SIGNATURE, PerPixelLinear())
    ranges = UnitRange([(0.0, 1.0)], [(0.0, 1.0)])
    with pytest.raises(RecipeError, match=r"gives back its bands \(red\), but the target is nir"):
        Untrained(Signature(["red"], ["nir"], {"display": ranges}), Bicubic(1, 1))
    ranges = UnitRange([(0.0, 1.0)], [(0.0, 0.5)])
    with pytest.raises(RecipeError, match="display has other ranges"):
        Untrained(Signature(["red"], ["red"], {"display": ranges}), Bicubic(1, 1))


# Without pairs.


def test_the_generators_undo_each_other_and_see_no_discriminator_gradients():
    computed = []
    method = make_cycle(max_steps=2, noisy=False)
    for critic in (method.discriminator, method.back_discriminator):
        critic.layers[0].weight.register_hook(computed.append)
    log = Numbers()
    run(method, logger=log)
    assert (method.generator.calls, method.back.calls) == (4, 4)  # twice a step
    assert len(computed) == 4  # each once a step, in the discriminators' own part
    names = {key for _, line in log.lines for key in line}
    assert {"loss/cycle", "loss/cycle_back", "loss/discriminator_back", "score/output"} <= names
    assert len(method.replays["target"].kept) == 3


def test_cycle_needs_generators_that_fit():
    judges = {name: PatchGAN(width=4, conditional=False)
              for name in ("discriminator", "back_discriminator")}  # fmt: skip
    with pytest.raises(RecipeError, match="the way back is from 1 to 3"):
        CycleGAN(SIGNATURE, Wobbly(3, 1), back=Wobbly(3, 1), optimizer=adam, **judges)
    with pytest.raises(RecipeError, match=r"method\.identity needs as many"):
        CycleGAN(SIGNATURE, Wobbly(3, 1), back=Wobbly(1, 3), optimizer=adam, identity=1.0, **judges)


def test_a_replay_keeps_and_exchanges():
    replay = ReplayBuffer(2)
    outputs = torch.arange(4.0)[:, None, None, None]
    draws = torch.tensor([[0.9, 0.0], [0.9, 0.0], [0.4, 0.0], [0.6, 0.7]])
    # The first two are kept and shown; the third is shown; the fourth is exchanged for the second.
    assert replay.exchange(outputs, draws).flatten().tolist() == [0, 1, 2, 1]
    assert [x.item() for x in replay.kept] == [0, 3]
    other = ReplayBuffer(2)
    other.load_state_dict(replay.state_dict(), torch.device("cpu"))
    assert [x.item() for x in other.kept] == [0, 3]
    assert torch.equal(ReplayBuffer(0).exchange(outputs, draws), outputs)


# Early stopping.


def test_training_ends_when_validation_does_not_become_better(tmp_path):
    log = Numbers()
    rate = {
        "optimizer": lambda p: torch.optim.SGD(p, lr=0.0),
        "schedule": Constant(),
        "ema_decay": 0.0,
    }
    method = make(max_steps=100, patience=3, **rate)
    run(method, Data(steps=2, validate=True), [Checkpoints(tmp_path)], logger=log)
    # The first validation is the best one; three more are not better.
    assert method.step == 8
    assert method.finished
    resumed = make(max_steps=100, patience=3, **rate)
    resumed.on_load_checkpoint(torch.load(tmp_path / "last.ckpt", weights_only=True))
    assert resumed.finished


# Speed.


class Reads(TorchDispatchMode):
    """Counts tensors whose value is read by Python: on an accelerator each one waits."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "arguments"), BY_METHOD)
def test_nothing_waits_for_the_device_between_two_lines_of_the_log(monkeypatch, name, arguments):
    if "optimizer" not in arguments:
        pytest.skip("it steps no optimiser")
    reads = []
    original = Method.training_step

    def watched(self, batch, index):
        with Reads() as mode:
            original(self, batch, index)
        reads.append(mode.count)

    # As on an accelerator: there the losses are looked at with the log only.
    monkeypatch.setattr(Method, "device", property(lambda self: torch.device("meta")))
    monkeypatch.setattr(Method, "fp32", lambda self: torch.autocast("cpu", enabled=False))
    monkeypatch.setattr(Method, "training_step", watched)
    method = built(name, arguments, max_steps=6, log_every=3, clip=0.5)
    run(method)
    quiet = [n for i, n in enumerate(reads) if (i + 1) % (3 * method.critic_steps)]
    assert quiet
    assert set(quiet) == {0}
    assert max(reads) > 0  # the mode sees those that there are


# A source with its surroundings.


def test_the_loss_is_taken_where_the_target_is():
    method = make(max_steps=1, noisy=False)
    batch = {k: v[None] for k, v in Noise()[0].items() if isinstance(v, torch.Tensor)}
    whole = method.predict_batch(method.generator, batch)
    inner = {
        **batch,
        "target": batch["target"][..., 4:-4, 4:-4],
        "mask": batch["mask"][..., 4:-4, 4:-4],
    }
    p = method.predict_batch(method.generator, inner)
    for name in ("output", "target", "source", "mask"):
        assert torch.equal(getattr(p, name), getattr(whole, name)[..., 4:-4, 4:-4]), name


def test_what_is_masked_goes_in_as_the_translator_fills_it():
    method = make(max_steps=1, noisy=False)
    batch = {k: v[None] for k, v in Noise()[0].items() if isinstance(v, torch.Tensor)}
    known = torch.rand(1, 1, 24, 24) > 0.3
    p = method.predict_batch(method.generator, {**batch, "source_mask": known})
    assert p.source[~known.expand_as(p.source)].abs().max() == 0  # blue's range begins at 0.1
    assert p.source[known.expand_as(p.source)].abs().min() > 0


# Validation.


class Flat(Generator):
    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.in_channels, self.out_channels = 3, 1
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x):
        return self.value.expand(len(x), 1, *x.shape[-2:])


def test_validation_counts_a_group_once_and_units_apart():
    method = PairedGAN(SIGNATURE, Flat(), losses=[L1()], optimizer=adam, ema_decay=0.0, pictures=1)
    log = Numbers()
    trainer = lightning.Trainer(
        accelerator="cpu", logger=log, enable_progress_bar=False, enable_checkpointing=False
    )
    trainer.validate(method, Data(validate=True), verbose=False)
    line = log.lines[0][1]
    assert line["val/mae_reflectance"] == pytest.approx((0.2 + 0.5) / 2)  # not 0.42, by pixels
    assert line["val/score"] == pytest.approx((0.2 + 0.5) / 2 / 0.8)
    assert method.score == line["val/score"]


def test_pictures_go_to_tensorboard(tmp_path):
    logger = lightning.pytorch.loggers.TensorBoardLogger(tmp_path, name="", version="logs")
    run(make(max_steps=2, pictures=2), Data(steps=2, validate=True), logger=logger)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    assert events.Tags()["images"] == ["validation/a", "validation/b"]
    assert events.Images("validation/b")[0].width == 6 * events.Images("validation/b")[0].height
    assert events.Images("validation/b")[0].step == 2
    assert [e.step for e in events.Scalars("loss/total")] == [1, 2]


# Plain data, precision, signature.


class Bare(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return {k: v for k, v in Noise()[i].items() if k in ("source", "target")}


def test_a_dataset_of_source_and_target_is_enough():
    method = make(max_steps=3)

    class Plain(lightning.LightningDataModule):
        def train_dataloader(self):
            return DataLoader(Bare(), batch_size=4)

    run(method, Plain())
    assert method.step == 3


def test_bf16_losses_are_fp32():
    kinds = []

    class Kind(L1):
        def forward(self, prediction):
            p = prediction
            kinds.append({p.output.dtype, p.target.dtype, p.source.dtype})
            kinds.append({(p.output.flatten(2) @ p.target.flatten(2).mT).dtype})
            return L1()(p)

    Loss.known.pop("Kind")
    method = make(losses=[Kind()], max_steps=1)
    run(method, precision="bf16-mixed")
    assert kinds == [{torch.float32}, {torch.float32}]
    assert weights(method).dtype == torch.float32


def test_the_generator_must_fit_the_signature():
    with pytest.raises(RecipeError, match="takes 4 bands and gives 1, the signature says 3 and 1"):
        PairedGAN(SIGNATURE, Wobbly(4), losses=[L1()], optimizer=adam)


# Networks of this room.


def test_patchgan_is_pix2pix():
    network = PatchGAN(3, 1, width=64, layers=3, norm="instance")
    assert parameter_count(network) == 2_765_761
    source, target = torch.rand(1, 3, 256, 256), torch.rand(1, 1, 256, 256)
    assert network(source, target).shape == (1, 1, 30, 30)
    plain = PatchGAN(3, 1, width=4, norm="none").double()
    target = torch.rand(1, 1, 128, 128, dtype=torch.float64, requires_grad=True)
    scores = plain(torch.rand(1, 3, 128, 128, dtype=torch.float64), target)
    scores[0, 0, 7, 7].backward()
    rows = target.grad[0, 0].abs().sum(1).nonzero()
    assert (rows.max() - rows.min() + 1).item() == 70
    with pytest.raises(RecipeError, match="needs 24 x 24 pixels for a score, not 23 x 30"):
        plain(torch.rand(1, 3, 23, 30), torch.rand(1, 1, 23, 30))
    assert plain.float()(torch.rand(1, 3, 24, 24), torch.rand(1, 1, 24, 24)).numel() == 1
    alone = PatchGAN(3, 1, conditional=False)
    assert parameter_count(alone) == 2_765_761 - 3 * 64 * 16


def test_least_squares_equals_numpy():
    method = LeastSquares(SIGNATURE, PerPixelLinear(), max_steps=5)
    run(method, Data(batch=3))
    rows, wanted = [], []
    for i in range(15):
        s = Noise()[i]
        x = SIGNATURE.normalise(s["source"][None], [s["unit"]], "source")[0]
        y = SIGNATURE.normalise(s["target"][None], [s["unit"]], "target")[0]
        x, y = x[:, s["mask"][0]].numpy().T, y[:, s["mask"][0]].numpy().T
        root = math.sqrt(1 / len(x))  # every sample weighs the same
        rows.append(np.concatenate([x, np.ones((len(x), 1))], 1) * root)
        wanted.append(y * root)
    a, b = np.concatenate(rows).astype(float), np.concatenate(wanted).astype(float)
    solution = np.linalg.lstsq(a, b, rcond=None)[0][:, 0]
    line = method.generator.line
    np.testing.assert_allclose(line.weight.detach().flatten(), solution[:3], atol=1e-5)
    np.testing.assert_allclose(line.bias.detach(), solution[3:], atol=1e-5)
    mean = LeastSquares(SIGNATURE, PerPixelMean(), max_steps=5)
    run(mean, Data(batch=3))
    expected = (a[:, 3] * b[:, 0]).sum() / (a[:, 3] ** 2).sum()
    assert mean.generator.mean.item() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(RecipeError, match="PerPixelMLP is not linear per pixel"):
        LeastSquares(SIGNATURE, PerPixelMLP(), max_steps=5)


def test_the_mlp_learns_a_curve_that_a_line_cannot():
    torch.manual_seed(0)
    network = PerPixelMLP(width=16)
    method = PairedGAN(
        SIGNATURE, network, losses=[L1()], optimizer=adam, max_steps=150, ema_decay=0.0
    )
    line = LeastSquares(SIGNATURE, PerPixelLinear(), max_steps=20)
    data = Data(batch=8, steps=50)
    run(method, data)
    run(line, data)

    def error(m):
        s = Noise()[10**5]
        s = {k: (v[None] if isinstance(v, torch.Tensor) else [v]) for k, v in s.items()}
        with torch.no_grad():
            return L1()(m.predict_batch(m.model_network, s)).item()

    assert error(method) < error(line)


def test_the_bar_says_where_training_is(capsys):
    run(make(max_steps=4), Data(steps=2, validate=True), [TrainingProgress("mine")])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("mine: step 2/4 loss ")
    assert "val " in lines[1]


def test_without_a_terminal_a_long_phase_prints_lines_of_its_own(capsys, monkeypatch):
    """A baseline has no validation, and no other line."""
    monkeypatch.setattr("crossband.training.callbacks.progress.LINE_SECONDS", 0.0)
    run(make(max_steps=2), Data(steps=2), [TrainingProgress("fitting baseline mlp")])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("fitting baseline mlp: step 1/2")
    assert lines[0].endswith(" left")


# Other tests go over the registries, which are for the package's own classes.
for _class in (Wobbly, Flat, Watched, BreaksAt):
    _class.known.pop(_class.__name__)
