"""Every method learns a single batch by heart: its own term of fidelity falls by 10x.

Pairs: L1 to the target. Without pairs: L1 of the cycle or the reconstruction. Flow matching and
diffusion: the regression at fixed times and noise. `test_recipes.py` does the same for each recipe
of pairs.
"""

from __future__ import annotations

import lightning
import pytest
import torch
from test_unpaired import GREY, SIGNATURE, One, adam, resnets, run, thermal, two_way
from torch.utils.data import DataLoader, Dataset

from crossband.core.signature import Signature, UnitRange
from crossband.networks import parameter_count
from crossband.networks.discriminators.patch_critic import PatchCritic
from crossband.networks.generators.bicubic import Bicubic
from crossband.networks.generators.per_pixel import PerPixelLinear
from crossband.networks.generators.resnet import ResNet
from crossband.networks.generators.unit import UNITCritic, UNITResNet, UNITViT
from crossband.networks.samplers.diffusion import DiffusionSampler
from crossband.networks.samplers.flow import FlowSampler
from crossband.training.losses.pixel import L1
from crossband.training.losses.structure import SpatialCorrelative
from crossband.training.methods.base import Method
from crossband.training.methods.cycle_gan import CycleGAN
from crossband.training.methods.diffusion import Diffusion
from crossband.training.methods.disco_gan import DiscoGAN
from crossband.training.methods.dual_gan import DualGAN
from crossband.training.methods.flow_matching import FlowMatching
from crossband.training.methods.least_squares import LeastSquares
from crossband.training.methods.paired_gan import PairedGAN
from crossband.training.methods.unit import UNIT
from crossband.training.methods.untrained import Untrained


def paired(steps):
    return PairedGAN(
        SIGNATURE, ResNet(3, 1, width=8, blocks=1), losses=[L1(weight=100.0)],
        discriminator=PatchCritic(3, 1, width=4, strided=2, norm="none"),
        adversarial_weight=1.0, optimizer=adam(3e-3), discriminator_optimizer=adam(1e-4),
        max_steps=steps, log_every=10**6,
    )  # fmt: skip


def regression(method, sampler):
    def make(steps):
        field = {"arguments": {"width": 16, "levels": 1, "time_channels": 8}}
        made = method(
            SIGNATURE, sampler(3, 1, field, steps=2), optimizer=adam(5e-3), max_steps=steps,
            ema_decay=0.0, log_every=10**6,
        )  # fmt: skip
        draws = torch.Generator().manual_seed(0)
        times, noise = torch.rand(2, generator=draws), torch.randn(2, 1, 16, 16, generator=draws)
        made.uniform, made.normal = lambda *shape: times, lambda *shape: noise
        return made

    return make


def unit(network, rate=3e-3, **sizes):
    def make(steps):
        halves = (network(a, b, **sizes) for a, b in ((3, 1), (1, 3)))
        return two_way(UNIT, *halves, rate=rate, max_steps=steps, critics=unit_critic)

    return make


def unit_critic(source, target):
    return UNITCritic(source, target, width=4, layers=2)


def two_resnets(method, **options):
    return lambda steps: two_way(method, *resnets(), rate=3e-3, max_steps=steps, **options)


CYCLES, AGAIN = ("cycle", "cycle_back"), ("reconstruction", "reconstruction_back")
#: method -> how it is made, its terms of fidelity, steps at most.
MEMORY = {
    "paired": (paired, ("L1",), 200),
    "cycle": (two_resnets(CycleGAN, structure=SpatialCorrelative(2, 8, weight=0.1)), CYCLES, 200),
    "disco": (two_resnets(DiscoGAN, distance="l1", cycle=10.0), CYCLES, 200),
    "dual": (two_resnets(DualGAN), CYCLES, 200),
    "unit": (unit(UNITResNet, width=8, blocks=2), AGAIN, 300),
    "unit-vit": (unit(UNITViT, 1e-2, patch=4, width=32, heads=2, blocks=0), AGAIN, 300),
    "thermal": (lambda steps: thermal(max_steps=steps), ("regions", "contrasts"), 300),
    "flow": (regression(FlowMatching, FlowSampler), ("velocity",), 250),
    "diffusion": (regression(Diffusion, DiffusionSampler), ("v",), 250),
}
#: What steps no optimiser: tested below.
OTHERWISE = {LeastSquares, Untrained}


def learned(values):
    """Say whether a term fell to a tenth, in the mean of its last five steps."""
    return len(values) > 5 and sum(values[-5:]) / 5 < values[0] / 10


class ByHeart(lightning.Callback):
    """Ends the training when every term is learned; looks at every tenth step."""

    def __init__(self, terms):
        self.terms = terms

    def on_train_batch_end(self, trainer, pl_module, *_):
        if pl_module.step % 10 == 0 and all(learned(trainer.logger.of(t)) for t in self.terms):
            trainer.should_stop = True


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMORY)
def test_a_single_batch_is_memorised(name):
    torch.manual_seed(0)
    make, terms, steps = MEMORY[name]
    log = run(make(steps), callbacks=[ByHeart(terms)])
    for term in terms:
        assert learned(log.of(term)), term


def test_the_methods_above_are_all_there_are():
    def below(cls):
        return [s for c in cls.__subclasses__() for s in (c, *below(c))]

    ours = {c for c in below(Method) if c.__module__.startswith("crossband.")}
    ours = {c for c in ours if not c.__name__.startswith("_")}
    assert {type(make(1)) for make, _, _ in MEMORY.values()} | OTHERWISE == ours


def test_least_squares_has_a_line_by_heart_in_one_step():
    """What is no line it cannot have: its batch is one."""

    class Line(Dataset):
        def __len__(self):
            return 10

        def __getitem__(self, i):
            source = One(1).source[i % 2]
            return {"source": source, "target": 0.7 * source + 0.1, "unit": "display"}

    method = LeastSquares(GREY, PerPixelLinear(1, 1), max_steps=1)
    batch = next(iter(DataLoader(Line(), batch_size=2)))

    def error():
        p = method.predict_batch(method.generator.eval(), batch)
        return L1()(p).mean().item()

    before = error()
    run(method, bands=1, data=Line())
    assert error() < before / 1000


def test_untrained_has_nothing_to_learn_with():
    same = Signature(["red"], ["red"], {"display": UnitRange([(0.0, 1.0)], [(0.0, 1.0)])})
    method = Untrained(same, Bicubic(1, 1))
    assert parameter_count(method) == 0
    assert method.parts() == {}
