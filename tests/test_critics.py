"""What methods do with their discriminators, and the terms beside them, by hand values.

Critics here have one weight, so that its step is known in closed form; generators add a number.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from toy_unpaired import GREY, Noting, One, Shift, run, thermal

from crossband.errors import RecipeError
from crossband.networks import Discriminator
from crossband.training.losses.adversarial import GAN_LOSSES, gan_loss
from crossband.training.losses.pixel import L1
from crossband.training.losses.structure import SpatialCorrelative
from crossband.training.methods.cycle_gan import CycleGAN
from crossband.training.methods.disco_gan import DiscoGAN
from crossband.training.methods.dual_gan import DualGAN
from crossband.training.methods.paired_gan import PairedGAN
from crossband.training.methods.unpaired import UnpairedBatch

START = 40.0  # steep enough that a penalty weighs more than the loss
SHARES = torch.tensor([0.1, 0.7])  # of the target in the mixture, for each sample


class Square(Discriminator):
    """The score of a pixel is a x^2: the mean score has the gradient 2 a x / N, N pixels."""

    conditional = False

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(START))

    def forward(self, source, target):
        return self.a * target**2


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=1.0)


def still(parameters):
    return torch.optim.SGD(parameters, lr=0.0)


def penalised(true, made, shares, factor):
    """Return the penalty, and where one step of SGD takes the weight of `Square`.

    The gradient's norm is 2 a r, r = |x| / N; the penalty (2 a r - 1)^2 has the derivative
    4 r (2 a r - 1), and the Wasserstein loss mean(made^2) - mean(true^2).
    """
    mixed = torch.stack([m + u * (t - m) for t, m, u in zip(true, made, shares, strict=True)])
    r = mixed.flatten(1).norm(dim=1) / mixed[0].numel()
    penalty = ((2 * START * r - 1) ** 2).mean()
    slope = made.square().mean() - true.square().mean()
    slope = slope + factor * (4 * r * (2 * START * r - 1)).mean()
    return penalty.item(), (START - slope).item()


def test_the_penalty_moves_the_critic_of_pairs():
    """Each sample is mixed by a share of its own."""
    critic, data = Square(), One(1)
    method = PairedGAN(
        GREY, Shift(0.5), losses=[L1()], discriminator=critic, adversarial="wasserstein",
        adversarial_weight=1.0, penalty=10.0, optimizer=still, discriminator_optimizer=sgd,
        max_steps=1, log_every=1,
    )  # fmt: skip
    method.uniform = lambda count, *shape: SHARES[:count].view(count, *shape)
    log = run(method, bands=1)
    penalty, after = penalised(data.target, data.source + 0.5, SHARES, 10.0)
    assert log.of("penalty")[0] == pytest.approx(penalty, rel=1e-4)
    assert critic.a.item() == pytest.approx(after, abs=1e-4)
    assert abs(after - START) > 0.1


def test_the_penalty_moves_both_critics_without_pairs():
    critics, data = (Square(), Square()), One(1)
    method = DualGAN(
        GREY, Shift(0.5), back=Shift(-0.3), discriminator=critics[0],
        back_discriminator=critics[1], weight_clip=0.0, penalty=10.0, optimizer=still,
        discriminator_optimizer=sgd, max_steps=1, log_every=1,
    )  # fmt: skip
    draws = torch.zeros(2, 3, 2)
    draws[:, 2, 0], draws[:, 2, 1] = SHARES, SHARES.flip(0)
    method.uniform = lambda count, *shape: draws[:count].view(count, *shape)
    log = run(method, bands=1)
    sides = (
        ("penalty", data.target, data.source + 0.5, SHARES),
        ("penalty_back", data.source, data.target - 0.3, SHARES.flip(0)),
    )
    for critic, (name, true, made, shares) in zip(critics, sides, strict=True):
        penalty, after = penalised(true, made, shares, 10.0)
        assert log.of(name)[0] == pytest.approx(penalty, rel=1e-4)
        assert critic.a.item() == pytest.approx(after, abs=1e-4)
        assert abs(after - START) > 0.1


@pytest.mark.parametrize("exchanged", [0, 1])
def test_discriminators_are_shown_the_replay(exchanged):
    """The first output is kept; at the second one critic is shown that, the other the new one."""
    critics, data = (Noting(), Noting()), One(1)
    method = CycleGAN(
        GREY, Shift(10.0), back=Shift(-20.0), discriminator=critics[0],
        back_discriminator=critics[1], optimizer=still, replay=1, max_steps=2,
    )  # fmt: skip
    draws = torch.zeros(1, 3, 2)
    draws[0, exchanged, 0] = 0.9  # exchange; the other one's 0 does not
    method.uniform = draws.view
    run(method, bands=1, batch=1)
    source, target = ([x.mean().item() for x in xs] for xs in (data.source, data.target))
    made = [[s + 10.0 for s in source], [t - 20.0 for t in target]]
    for side, (critic, true) in enumerate(zip(critics, (target, source), strict=True)):
        second = [m for _, m in critic.seen][3:]  # each step: output, true picture, what is shown
        shown = made[side][0 if side == exchanged else 1]
        assert second == pytest.approx([made[side][1], true[1], shown], abs=1e-5)
    kept = [method.replays[name].kept[0].mean().item() for name in ("target", "source")]
    wanted = [made[side][1 if side == exchanged else 0] for side in range(2)]
    assert kept == pytest.approx(wanted, abs=1e-5)


def halves():
    """A batch whose domains are valid in different places, and outputs with nothing in common."""
    rng = torch.Generator().manual_seed(0)
    source, target, one, other = torch.rand(4, 2, 1, 16, 16, generator=rng)
    known, mask = (torch.rand(2, 2, 1, 16, 16, generator=rng) > 0.4).unbind()
    made = {"target": one.masked_fill(~known, 0.0), "source": other.masked_fill(~mask, 0.0)}
    return UnpairedBatch(source, known, target, mask), made


def of(method, **options):
    return method(
        GREY, Shift(10.0), back=Shift(-20.0), discriminator=Noting(), back_discriminator=Noting(),
        optimizer=still, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "options", "factors", "power"),
    [
        (CycleGAN, {"cycle": 2.0}, (2.0, 2.0), 1),
        (DiscoGAN, {"cycle": 3.0}, (3.0, 3.0), 2),
        (DiscoGAN, {"cycle": 3.0, "distance": "l1"}, (3.0, 3.0), 1),
        (DualGAN, {"cycle": 5.0, "cycle_back": 7.0}, (5.0, 7.0), 1),
    ],
)
def test_rounds_by_hand(method, options, factors, power):
    """What came back, against what went out, where that is valid; and the sum of all terms."""
    d, made = halves()
    own = of(method, adversarial_weight=0.25, max_steps=1, log_every=1, **options)
    found = own.generator_losses(d, made)
    rounds = {
        "cycle": (made["target"] - 20.0, d.source, d.source_mask),
        "cycle_back": (made["source"] + 10.0, d.target, d.target_mask),
    }
    assert found.keys() == rounds.keys()
    for (name, (again, truth, valid)), factor in zip(rounds.items(), factors, strict=True):
        apart = [
            (a - t)[v].abs().pow(power).mean()
            for a, t, v in zip(again, truth, valid, strict=True)
        ]  # fmt: skip
        assert found[name][0] == factor
        assert found[name][1].item() == pytest.approx(sum(apart).item() / 2, rel=1e-5), name
    line = next(line for line in run(own, bands=1).lines if "loss/total" in line)
    losses = 0.25 * (line["loss/adversarial"] + line["loss/adversarial_back"])
    cycles = factors[0] * line["loss/cycle"] + factors[1] * line["loss/cycle_back"]
    assert line["loss/total"] == pytest.approx(losses + cycles, rel=1e-5)


def test_structure_compares_each_output_with_what_it_was_made_of():
    d, made = halves()
    loss = SpatialCorrelative(2, 8, weight=3.0)
    found = of(CycleGAN, structure=loss, max_steps=1).generator_losses(d, made)
    values = {
        "structure": loss.compare(made["target"], d.source, d.source_mask).mean().item(),
        "structure_back": loss.compare(made["source"], d.target, d.target_mask).mean().item(),
    }
    for name, value in values.items():
        assert found[name][0] == 3.0
        assert found[name][1].item() == pytest.approx(value, rel=1e-5), name
    forth = of(CycleGAN, structure=loss, structure_back=False).generator_losses(d, made)
    assert found.keys() - forth.keys() == {"structure_back"}
    # They are told apart from the other picture and from the other mask.
    wrong = [loss.compare(made["source"], x, m).mean().item()
             for x, m in ((d.source, d.target_mask), (d.target, d.source_mask))]  # fmt: skip
    assert min(abs(w - values["structure_back"]) for w in wrong) > 1e-3


@pytest.mark.parametrize("loss", GAN_LOSSES)
@pytest.mark.parametrize("method", [CycleGAN, DiscoGAN, DualGAN])
def test_every_gan_loss_works_with_every_method_without_pairs(method, loss):
    """The generators' side too: a relativistic one compares with a true picture of the domain."""
    torch.manual_seed(0)
    data, critics = One(1), (Noting(), Noting())
    starts = [copy.deepcopy(c.score) for c in critics]  # DualGAN clips them
    forth, back = Shift(0.5), Shift(-0.3)
    own = method(
        GREY, forth, back=back, discriminator=critics[0], back_discriminator=critics[1],
        optimizer=sgd, discriminator_optimizer=still, adversarial=loss, penalty=1.0, max_steps=1,
        log_every=1, **{"cycle": 0.0} | ({"cycle_back": 0.0} if method is DualGAN else {}),
    )  # fmt: skip
    line = next(line for line in run(own, bands=1).lines if "loss/total" in line)
    sides = (
        ("", starts[0], forth, data.source, data.target, 0.5),
        ("_back", starts[1], back, data.target, data.source, -0.3),
    )
    for name, start, network, given, truth, by in sides:
        weight = torch.ones((), requires_grad=True)
        scores = [start(x) for x in (truth, weight * given + by)]
        wanted = GAN_LOSSES[loss].generator(*scores).mean()
        (slope,) = torch.autograd.grad(wanted, weight)
        assert line[f"loss/adversarial{name}"] == pytest.approx(wanted.item(), rel=1e-4)
        assert 1.0 - network.weight.item() == pytest.approx(slope.item(), abs=1e-5)
        assert abs(slope) > 1e-3
        wanted = GAN_LOSSES[loss].discriminator(*scores).mean().item()
        assert line[f"loss/discriminator{name}"] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("method", [CycleGAN, DiscoGAN, DualGAN])
def test_labels_may_be_smoothed_without_pairs(method):
    data, own = One(1), of(method, adversarial="bce", smoothing=0.2, max_steps=1, log_every=1)
    start = copy.deepcopy(own.discriminator.score)  # DualGAN clips it
    line = next(line for line in run(own, bands=1).lines if "loss/total" in line)
    scores = [start(x) for x in (data.target, data.source + 10.0)]
    wanted = gan_loss("bce", 0.2).discriminator(*scores).mean().item()
    assert line["loss/discriminator"] == pytest.approx(wanted, rel=1e-4)
    with pytest.raises(RecipeError, match=r"method\.smoothing must be"):
        of(method, adversarial="hinge", smoothing=0.2)


def test_wasserstein_without_pairs_needs_bounds():
    for method in (CycleGAN, DiscoGAN):
        with pytest.raises(RecipeError, match=r"needs method\.penalty above 0"):
            of(method, adversarial="wasserstein")
        of(method, adversarial="wasserstein", weight_clip=0.01)
    of(DualGAN, adversarial="lsgan", weight_clip=0.0)


@pytest.mark.parametrize("loss", GAN_LOSSES)
def test_thermal_gan_takes_any_gan_loss(loss):
    """Each of its two, beside the other one's default; outputs are those before the step."""
    for option, name in (
        ("adversarial", ""),
        ("adversarial_contrasts", "_contrasts"),
    ):
        torch.manual_seed(0)
        method = thermal(max_steps=1, log_every=1, weight_clip=1e-9, **{option: loss})
        noted = {}
        for critic in (method.discriminator, method.contrast_discriminator):
            watch(critic, noted)
            for p in critic.parameters():
                nn.init.normal_(p, std=0.3)  # scores that are not all near 0
        line = next(line for line in run(method).lines if "loss/total" in line)
        played = GAN_LOSSES[loss]
        judge = method.contrast_discriminator if name else method.discriminator
        # The generator's looks first: outputs, a true picture if they are compared with it; then
        # the discriminator's, a true picture and the outputs.
        count = 1 if name else 2
        made, true = noted[judge][:count], noted[judge][-count - 1]
        assert len(noted[judge]) == 2 * count + 1 + played.needs_target_scores
        assert min((true - s).abs().mean() for s in made) > 1e-2
        wanted = sum(played.generator(true, s).mean() for s in made).item()
        assert line[f"loss/adversarial{name}"] == pytest.approx(wanted, rel=1e-4), option
        wanted = sum(played.discriminator(true, s).mean() for s in made).item() / count
        assert line[f"loss/discriminator{name}"] == pytest.approx(wanted, rel=1e-4), option
    with pytest.raises(RecipeError, match="nothing else bounds the scores"):
        thermal(adversarial_contrasts="wasserstein")


def watch(critic, noted):
    noted[critic] = []
    critic.register_forward_hook(lambda m, given, scores: noted[m].append(scores.detach()))


# Other tests go over the registries, which are for the package's own classes.
Square.known.pop("Square")
