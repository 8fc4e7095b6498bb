"""Every method overfits one batch: its own terms of fidelity fall by 10x.

Without pairs: L1 of the cycle or the reconstruction. Flow matching and diffusion: the regression at
fixed times and noise. Else L1 to the target. `test_recipes.py` does the same for each recipe of
pairs.
"""

from __future__ import annotations

import lightning
import pytest
import torch
from registered import sizes
from torch.utils.data import DataLoader, Dataset
from toy_unpaired import GREY, One, run

from crossband.core.signature import Signature, UnitRange
from crossband.networks import parameter_count
from crossband.networks.generators.bicubic import Bicubic
from crossband.networks.generators.per_pixel import PerPixelLinear
from crossband.networks.samplers.diffusion import DiffusionSampler
from crossband.networks.samplers.flow import FlowSampler
from crossband.training import recipe_classes
from crossband.training.losses.pixel import L1
from crossband.training.methods.base import Method
from crossband.training.methods.examples import part
from crossband.training.methods.least_squares import LeastSquares
from crossband.training.methods.untrained import Untrained

RGB_TO_NIR = Signature(
    ["red", "green", "blue"],
    ["nir"],
    {"display": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)])},
)
#: The first example of every method that steps an optimiser; the others are tested below.
METHODS = [(name, given) for name, given in sizes(Method).items() if "optimizer" in given]
#: A network that is like no other, and the rate that it needs.
VIT = {"patch": 4, "width": 32, "heads": 2, "blocks": 0}
METHODS.append(
    (
        "UNIT",
        {
            **sizes(Method)["UNIT"],
            "generator": part("UNITViT", **VIT),
            "back": part("UNITViT", in_channels=1, out_channels=3, **VIT),
            "optimizer": part("Adam", lr=1e-2, betas=[0.5, 0.99]),
        },
    )
)
STEPS = 300


def built(name, arguments):
    """Build a method whose draws, where a sampler is trained, are always the same."""
    torch.manual_seed(0)
    arguments = {"signature": RGB_TO_NIR, **arguments, "max_steps": STEPS, "log_every": 10**6}
    method = recipe_classes.construct({"class_path": name, "init_args": arguments}, Method)
    if isinstance(method.generator, FlowSampler | DiffusionSampler):
        draws = torch.Generator().manual_seed(0)
        times, noise = torch.rand(2, generator=draws), torch.randn(2, 1, 16, 16, generator=draws)
        method.uniform, method.normal = lambda *shape: times, lambda *shape: noise
    return method


def learned(values):
    """Say whether a term fell to a tenth, in the mean of its last five steps."""
    return len(values) > 5 and sum(values[-5:]) / 5 < values[0] / 10


class Fidelity(lightning.Callback):
    """Notes how near a method is to its batch; ends the training when it is near enough."""

    def __init__(self, method):
        self.terms, self.errors = method.fidelity, []
        self.batch = next(iter(DataLoader(One(), batch_size=2)))

    def values(self, trainer, method):
        if self.terms:
            return [trainer.logger.of(term) for term in self.terms]
        method.eval()
        with torch.no_grad():
            error = L1()(method.predict_batch(method.generator, self.batch)).mean().item()
        method.train()
        self.errors.append(error)
        return [self.errors]

    def on_train_batch_end(self, trainer, pl_module, *_):
        if pl_module.step % 10 == 1 or not self.terms:
            trainer.should_stop = all(map(learned, self.values(trainer, pl_module)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments"), METHODS, ids=[f"{name}-{n}" for n, (name, _) in enumerate(METHODS)]
)
def test_every_method_overfits_one_batch(name, arguments):
    method = built(name, arguments)
    watch = Fidelity(method)
    log = run(method, callbacks=[watch])
    for values in [log.of(term) for term in method.fidelity] or [watch.errors]:
        assert learned(values)


def test_least_squares_fits_a_line_in_one_step():
    """The target of the batch is a linear function of the source."""

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
