"""Alarms over the lines of a log: on numbers, and on trainings that learn nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from crossband.networks import Discriminator, Generator
from crossband.training.callbacks.checkpoints import read
from crossband.training.callbacks.health import (
    GRADIENT_EXPLODED,
    HEALTH_CHECKS,
    HISTORY,
    MIN_LINES,
    PATIENCE,
    Health,
    discriminator_dead,
    discriminator_won,
    generator_explodes,
    generator_stuck,
    output_flat,
)
from crossband.training.fit import fit

RECIPE = Path(__file__).parent / "recipe.yaml"
HEALTHY = {
    "loss/discriminator": 0.2,
    "loss/adversarial": 0.4,
    "score/target": 0.6,
    "score/output": 0.4,
    "gradient/generator": 1.0,
    "gradient/discriminator": 0.5,
    "spread/output": 0.1,
    "spread/target": 0.15,
}


def lines(count=PATIENCE, **changed):
    changed = {k.replace("_", "/", 1): v for k, v in changed.items()}
    return [HEALTHY | changed] * count


WON = {"loss_discriminator": 0.01, "loss_adversarial": 0.98, "score_target": 0.97}
WON |= {"score_output": 0.01}
DEAD = {"score_target": 0.5, "score_output": 0.5001, "gradient_discriminator": 1e-9}


@pytest.mark.parametrize(
    ("alarm", "bad", "near"),
    [
        (discriminator_won, WON, {"loss_discriminator": 0.06}),
        (discriminator_won, WON, {"score_target": 0.45}),
        (discriminator_won, WON, {"loss_adversarial": 0.45}),
        (discriminator_dead, DEAD, {"score_target": 0.51}),
        (discriminator_dead, DEAD, {"gradient_discriminator": 1e-5}),
        (generator_stuck, {"gradient_generator": 1e-8}, {"gradient_generator": 1e-5}),
        (output_flat, {"spread_output": 0.005}, {"spread_output": 0.008}),
    ],
)
def test_an_alarm_needs_all_its_signs_for_several_lines(alarm, bad, near):
    assert alarm(lines(**bad))
    assert alarm(lines(30) + lines(**bad))
    assert not alarm(lines(**(bad | near)))
    assert not alarm(lines(PATIENCE - 1, **bad))
    assert not alarm(lines() + lines(PATIENCE - 1, **bad))
    assert not alarm(lines(PATIENCE - 1, **bad) + lines(1))
    assert not alarm(lines())
    assert not alarm([])
    assert not alarm([{}] * 20)  # a method that does not measure this


@pytest.mark.parametrize(
    ("scores", "loss"),
    [((0.99, 0.02), 0.96), ((7.0, -7.0), 7.0), ((1.8, -1.7), 1.7)],  # lsgan, bce, hinge
)
def test_a_winner_is_seen_in_each_objective(scores, loss):
    won = {"score_target": scores[0], "score_output": scores[1], "loss_adversarial": loss}
    assert discriminator_won(lines(**won, loss_discriminator=0.001))


def test_an_explosion_is_relative_to_the_median():
    def norms(*values):
        return [{"gradient/generator": v} for v in values]

    usual = [1.0, 3.0, 0.5, 2.0] * 3
    assert generator_explodes(norms(*usual, 2 * GRADIENT_EXPLODED))
    assert not generator_explodes(norms(*usual, GRADIENT_EXPLODED / 2))
    assert not generator_explodes(norms(*usual[: MIN_LINES - 1], 2 * GRADIENT_EXPLODED))
    assert not generator_explodes(norms(*[0.0] * 12, 1.0))
    assert generator_explodes(
        norms(*usual, 1000.0, 1000.0)
    )  # one bad line does not move the median
    assert not generator_explodes([*norms(*usual), {}])


def test_an_alarm_is_said_once_an_episode():
    health = Health()
    said = []
    for line in lines(8) + lines(9, **WON) + lines(3) + lines(7, **WON):
        said.append(health.update(line))
    starts = [i for i, names in enumerate(said) if names]
    assert starts == [8 + PATIENCE - 1, 20 + PATIENCE - 1]
    assert all(names in ([], ["discriminator_won"]) for names in said)
    assert health.on == {"discriminator_won"}


def test_only_so_much_is_remembered_and_it_is_resumed():
    health, again = Health(), Health()
    for line in lines(3 * HISTORY) + lines(PATIENCE, **WON):
        health.update(line)
    assert len(health.lines) == HISTORY
    again.load_state_dict(health.state_dict())
    assert again.update(lines(1, **WON)[0]) == []  # it goes on; it does not begin
    assert again.on == {"discriminator_won"}


# End to end.


class Flat(Generator):
    """Gives one value everywhere, and can learn which."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.value = nn.Parameter(torch.full((1, out_channels, 1, 1), 0.3))

    def forward(self, x):
        return self.value.expand(len(x), -1, *x.shape[-2:])


class Saturated(Flat):
    """Like one whose units are dead: the gradient is 0."""

    def forward(self, x):
        return super().forward(x) * 0.0 + 0.5


class Dead(Discriminator):
    """Scores everything alike, with a gradient of 0."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(4, 1, 1)

    def forward(self, source, target):
        return torch.relu(self.body(torch.cat([source, target], 1)) - 1e6)


for _class in (Flat, Saturated):
    Generator.known.pop(_class.__name__)
Discriminator.known.pop("Dead")


def train(pairs, folder, *more, steps=30):
    arguments = ["--data.manifest", str(pairs), "--method.max_steps", str(steps)]
    arguments += ["--method.log_every", "2", "--trainer.logger", "csv", "--data.steps", str(steps)]
    fit(RECIPE, [*arguments, *more], folder)
    rows = (folder / "logs/metrics.csv").read_text().splitlines()
    keys = rows[0].split(",")
    return [dict(zip(keys, row.split(","), strict=True)) for row in rows[1:]]


def flags(rows, name):
    return {int(r["step"]): float(r[f"health/{name}"]) for r in rows if r[f"health/{name}"]}


def network(name, channels=True):
    arguments = "{in_channels: 3, out_channels: 1}" if channels else "{}"
    return f"{{class_path: {__name__}.{name}, init_args: {arguments}}}"


def test_a_constant_output_is_said(line_pairs, tmp_path, capsys):
    rows = train(line_pairs, tmp_path / "run", "--method.generator", network("Flat"))
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    assert said == [f"step 10: {HEALTH_CHECKS['output_flat'].text}"]
    assert flags(rows, "output_flat") == {s: float(s >= 10) for s in range(2, 31, 2)}
    assert set(flags(rows, "generator_explodes").values()) == {0.0}


def test_a_generator_without_gradient_is_said(line_pairs, tmp_path, capsys):
    rows = train(line_pairs, tmp_path / "run", "--method.generator", network("Saturated"))
    said = capsys.readouterr().err
    assert said.count(HEALTH_CHECKS["generator_stuck"].text) == 1
    assert flags(rows, "generator_stuck")[10] == 1.0


def adversarial(critic, *more):
    arguments = ["--method.adversarial_weight", "0.1", "--method.discriminator", critic]
    return [*arguments, "--data.crop", "32", *more]


PATCHGAN = "{class_path: PatchGAN, init_args: {width: 8, layers: 2}}"


def test_a_dead_discriminator_is_said(line_pairs, tmp_path, capsys):
    rows = train(line_pairs, tmp_path / "run", *adversarial(network("Dead", channels=False)))
    assert capsys.readouterr().err.count(HEALTH_CHECKS["discriminator_dead"].text) == 1
    assert flags(rows, "discriminator_dead")[30] == 1.0


@pytest.mark.slow
def test_a_discriminator_that_wins_is_said(line_pairs, tmp_path, capsys):
    """Against a generator that gives one value, it has nothing to do."""
    fast = "{class_path: Adam, init_args: {lr: 0.002}}"
    more = adversarial(PATCHGAN, "--method.discriminator_optimizer", fast)
    more += ["--method.generator", network("Flat"), "--method.schedule", "Constant"]
    more += ["--data.crop", "24"]  # no padding, where there is nothing to tell apart
    more += ["--method.log_every", "10"]
    rows = train(line_pairs, tmp_path / "run", *more, steps=300)
    assert capsys.readouterr().err.count(HEALTH_CHECKS["discriminator_won"].text) >= 1
    assert 1.0 in flags(rows, "discriminator_won").values()


@pytest.mark.slow
@pytest.mark.parametrize("gan", [[], adversarial(PATCHGAN)])
def test_a_training_that_learns_raises_no_alarm(line_pairs, tmp_path, capsys, gan):
    rows = train(line_pairs, tmp_path / "run", *gan, steps=120)
    assert not [x for x in capsys.readouterr().err.splitlines() if x.startswith("step ")]
    for name in HEALTH_CHECKS:
        assert set(flags(rows, name).values()) == {0.0}
    callbacks = read(tmp_path / "run/checkpoints/last.ckpt")["callbacks"]
    assert len(callbacks["Health"]["lines"]) == HISTORY


def test_methods_without_gradients_are_left_alone(line_pairs, tmp_path, capsys):
    """The mean of all targets is flat, and right."""
    few = ["--method.max_steps", "40", "--data.batch", "16", "--method.log_every", "1"]
    fit("rgb2nir/mean", ["--data.manifest", str(line_pairs), *few], tmp_path)
    assert not [x for x in capsys.readouterr().err.splitlines() if x.startswith("step ")]
