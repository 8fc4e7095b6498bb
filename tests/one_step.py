"""One training step of a recipe, seen from outside: its batch, its losses, its gradients.

Tests compute the same step with plain code of the published system. Nothing of crossband's losses
is used for that. Where tests/plain.py or tests/plain_systems.py has the network, it is plain too.
"""

from __future__ import annotations

import copy

import pytest
import torch
from toy_unpaired import run

from crossband.networks import Discriminator, Generator
from crossband.networks.conditions import FACTS
from crossband.networks.generators.thermal_gan import Encoder
from crossband.training import recipe, recipe_classes

#: Of a loss, and of the largest gradient of a network.
EXACT = 1e-6


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Compute in float64, so that only a difference in the formulas is one of the numbers."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


class Pictures(torch.utils.data.Dataset):
    """Pictures within the ranges of a signature; the source is `scale` times coarser.

    Normalised values lie between the numbers of `within`, for source, target and guide.
    """

    def __init__(self, signature, unit=None, count=2, side=64, scale=1, within=(0.0, 1.0)):
        rng = torch.Generator().manual_seed(0)
        self.unit = unit or next(iter(signature.units))
        self.limits = signature.units[self.unit]
        self.normalised, self.physical = {}, {}
        for part in ("source", "target", "guide"):
            if not (bands := len(getattr(signature, part))):
                continue
            low, high = self.physical_range(part)
            size = side // scale if part == "source" else side
            x = torch.rand(count, bands, size, size, generator=rng)
            x = within[0] + (within[1] - within[0]) * x
            self.normalised[part], self.physical[part] = x, low + (high - low) * x
        if "guide" in self.physical:  # valid everywhere, and two facts of it
            facts = torch.rand(count, FACTS, side, side, generator=rng)
            facts[:, 0] = 1.0
            for parts in (self.normalised, self.physical):
                parts["guide"] = torch.cat([parts["guide"], facts], 1)
        places = torch.rand(count, 2, generator=rng)
        self.lonlat = (2 * places - 1) * torch.tensor([170.0, 80.0])

    def physical_range(self, part):
        """Lowest and highest physical values, [1, C, 1, 1] each."""
        return torch.tensor(getattr(self.limits, part)).T[:, None, :, None, None]

    def __len__(self):
        return len(self.lonlat)

    def __getitem__(self, i):
        parts = {part: x[i] for part, x in self.physical.items()}
        return {"unit": self.unit, "lonlat": self.lonlat[i], **parts}


class Noted(torch.optim.SGD):
    """Changes no weight, and keeps the gradients."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.0)
        self.noted = {}

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                self.noted[p] = torch.zeros_like(p) if p.grad is None else p.grad.clone()


class Step:
    """One step of a recipe.

    Args:
        name: the recipe.
        options: of its method, as `generator.width=4`.
        prepare: changes the method before the step.
        pictures: see `Pictures`.

    Attributes:
        method: with the weights of the start, which the step does not change.
        before: copies of its networks as they were before the step, by name.
        data: the batch, see `Pictures`.
        losses: what was logged.
        drawn: the random numbers of the step, in order, from `uniform` and `normal`.
    """

    def __init__(self, name, *options, prepare=None, **pictures):
        steps = ["--method.max_steps=1", "--method.log_every=1"]
        config = recipe.load(name, [*(f"--method.{o}" for o in options), *steps])
        torch.manual_seed(0)
        self.method = recipe_classes.build_method(config)
        if prepare:
            prepare(self.method)
        self.made, self.drawn = [], {"uniform": [], "normal": []}
        self.method.optimizer = self._noting
        if hasattr(self.method, "discriminator_optimizer"):
            self.method.discriminator_optimizer = self._noting
        for kind, numbers in self.drawn.items():
            setattr(self.method, kind, self._drawing(getattr(self.method, kind), numbers))
        networks = {
            name: module
            for name, module in self.method.named_children()
            if isinstance(module, Generator | Discriminator | Encoder) and name != "average"
        }
        self.before = copy.deepcopy(networks)  # at once: some share weights
        self.data = Pictures(self.method.signature, **pictures)
        log = run(self.method, batch=len(self.data), data=self.data)
        line = {key: value for line in log.lines for key, value in line.items()}
        self.losses = {k[5:]: v for k, v in line.items() if k.startswith("loss/")}

    def _noting(self, parameters):
        self.made.append(Noted(parameters))
        return self.made[-1]

    def _drawing(self, draw, numbers):
        def drawing(count, *shape):
            numbers.append(draw(count, *shape))
            return numbers[-1]

        return drawing

    def logged(self, **wanted):
        """The step had these losses."""
        for name, value in wanted.items():
            assert self.losses[name] == pytest.approx(value.item(), rel=EXACT), name

    def twins(self, *names):
        """Weights of the copies and of the method, side by side."""
        both = [(self.before[name], getattr(self.method, name)) for name in names]
        return [pair for a, b in both for pair in zip(a.parameters(), b.parameters(), strict=True)]

    def agrees(self, loss, *names, twins=()):
        """The step's gradients of some networks are those of a plain loss.

        Args:
            loss: of the copies in `before`, or of plain networks.
            names: networks whose copies have the loss.
            twins: plain weights and those of the method, where the loss is of plain networks.
        """
        both = [*self.twins(*names), *twins]
        # Networks may share weights.
        found = {id(ours): (plain, ours) for plain, ours in both if ours.requires_grad}.values()
        slopes = torch.autograd.grad(
            loss, [plain for plain, _ in found], retain_graph=True, materialize_grads=True
        )
        if self.method.clip:
            norm = torch.stack([s.norm() for s in slopes]).norm()
            slopes = [s * (self.method.clip / norm).clamp_max(1.0) for s in slopes]
        noted = {p: slope for optimiser in self.made for p, slope in optimiser.noted.items()}
        largest = max(slope.abs().max() for slope in slopes).item()
        assert largest > 1e-5
        for slope, (_, ours) in zip(slopes, found, strict=True):
            torch.testing.assert_close(noted[ours], slope, rtol=0, atol=EXACT * largest)


def twins_of(network, ours, given, taken, others=(), own=()):
    """Give a plain network our weights; return the weights of both side by side.

    Layers are paired in the order in which they compute.

    Args:
        network: the plain one.
        ours: a network of crossband.
        given: the inputs of the plain one.
        taken: the inputs of ours.
        others: weights of ours that are left out.
        own: layers of the plain network that are left out.
    """
    left = {id(p) for p in others}
    theirs = [p for p in _in_order(ours, taken) if id(p) not in left]
    kept = {id(p) for module in own for p in module.parameters()}
    mine = [p for p in _in_order(network, given) if id(p) not in kept]
    pairs = list(zip(mine, theirs, strict=True))
    assert {id(b) for _, b in pairs} | left == {id(p) for p in ours.parameters()}
    with torch.no_grad():
        for a, b in pairs:
            assert a.shape == b.shape
            a.copy_(b)
    return pairs


def _in_order(network, inputs):
    seen, hooks = [], []
    for module in network.modules():
        if list(module.parameters(recurse=False)):
            hooks.append(module.register_forward_hook(lambda m, *_: seen.append(m)))
    with torch.no_grad():
        network(*inputs)
    for hook in hooks:
        hook.remove()
    return [p for m in dict.fromkeys(seen) for p in m.parameters(recurse=False)]
