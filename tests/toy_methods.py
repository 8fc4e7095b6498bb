"""Small methods, their data and their Trainer."""

from __future__ import annotations

import math

import lightning
import torch
from registered import cases
from torch import nn
from torch.utils.data import DataLoader, Dataset

from crossband.core.signature import Signature, UnitRange
from crossband.networks import Generator
from crossband.networks.discriminators.patchgan import PatchGAN
from crossband.training import recipe_classes
from crossband.training.losses import Loss
from crossband.training.losses.index import IndexLoss
from crossband.training.losses.pixel import L1
from crossband.training.methods.base import Method
from crossband.training.methods.cycle_gan import CycleGAN
from crossband.training.methods.paired_gan import PairedGAN

SIGNATURE = Signature(
    ["red", "green", "blue"],
    ["nir"],
    {
        "reflectance": UnitRange([(0.0, 0.5), (0.0, 0.4), (0.1, 0.3)], [(0.0, 0.8)]),
        "display": UnitRange([(0.0, 1.0)] * 3, [(0.2, 1.0)]),
    },
)


class Noise(Dataset):
    """Samples that are pure functions of their position, with masks of different sizes."""

    def __init__(self, size=24, length=10**6):
        self.size, self.length = size, length

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        rng = torch.Generator().manual_seed(i)
        source = torch.rand(3, self.size, self.size, generator=rng) * 0.4 + 0.05
        mask = torch.rand(1, self.size, self.size, generator=rng) > torch.rand(1, generator=rng) / 2
        target = (source[:1] * 1.5 + 0.2 * source[2:] ** 2).masked_fill(~mask, 0.0)
        unit = "display" if i % 3 == 0 else "reflectance"
        return {"source": source, "target": target, "mask": mask, "unit": unit, "row": i,
                "name": f"{i}.tif"}  # fmt: skip


class Windows(Dataset):
    """Two groups of different size and error, for validation."""

    def __len__(self):
        return 3

    def __getitem__(self, i):
        side, value = [(4, 0.1), (4, 0.3), (16, 0.5)][i]
        return {
            "source": torch.full((3, side, side), 0.2),
            "target": torch.full((1, side, side), value),
            "mask": torch.ones(1, side, side, dtype=torch.bool),
            "unit": "reflectance",
            "group": ["a", "a", "b"][i],
        }


class Same(Dataset):
    """The target is the source too."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        sample = self.data[i]
        return {**sample, "source": sample["target"]}


class Data(lightning.LightningDataModule):
    def __init__(self, batch=4, steps=5, validate=False):
        super().__init__()
        self.batch, self.steps, self.validate = batch, steps, validate

    def train_dataloader(self):
        from crossband.data.sampler import PositionSampler

        method = self.trainer.lightning_module
        sampler = PositionSampler(self.batch, self.steps, lambda: method.consumed)
        data = self.of_method(Noise())
        return DataLoader(data, batch_sampler=sampler, generator=torch.Generator())

    def val_dataloader(self):
        data = self.of_method(Windows())
        return DataLoader(data, generator=torch.Generator()) if self.validate else []

    def of_method(self, data):
        signature = self.trainer.lightning_module.signature
        return Same(data) if signature.source == signature.target else data


class Wobbly(Generator):
    """A small convolutional network that draws random numbers while training."""

    def __init__(self, in_channels: int = 3, out_channels: int = 1) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.calls = 0
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, 6, 3, padding=1), nn.GELU(), nn.Conv2d(6, out_channels, 1)
        )
        self.noisy = True

    def forward(self, x):
        self.calls += 1
        if self.training and self.noisy:
            x = x * (torch.rand(len(x), 1, 1, 1) > 0.3)
        return self.body(x)


class BreaksAt(Loss):
    """L1 that is NaN from its n-th call on."""

    def __init__(self, call: int = 3) -> None:
        super().__init__()
        self.call, self.calls = call, 0

    def forward(self, prediction):
        self.calls += 1
        value = L1()(prediction)
        return value * math.nan if self.calls >= self.call else value


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-2)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def make(adversarial_weight=0.0, optimizer=adam, seed=0, noisy=True, judge=PatchGAN, **options):
    torch.manual_seed(seed)
    generator = Wobbly()
    generator.noisy = noisy
    options.setdefault("losses", [L1(), IndexLoss(weight=0.3)])
    options = {"max_steps": 6, "ema_decay": 0.9, "log_every": 2, **options}
    # Without norm: a bias before an instance norm has no gradient but rounding, and Adam blows
    # that up to full steps.
    critic = judge(width=4, layers=2 if judge is PatchGAN else 1, norm="none")
    critic = critic if adversarial_weight else None
    return PairedGAN(
        SIGNATURE,
        generator,
        discriminator=critic,
        adversarial_weight=adversarial_weight,
        optimizer=optimizer,
        **options,
    )


def make_cycle(seed=0, noisy=True, replay=3, **options):
    torch.manual_seed(seed)
    networks = Wobbly(3, 1), Wobbly(1, 3)
    for network in networks:
        network.noisy = noisy
    critics = [
        PatchGAN(s, t, width=4, layers=2, norm="none", conditional=False)
        for s, t in ((3, 1), (1, 3))
    ]
    options = {"max_steps": 6, "ema_decay": 0.9, "log_every": 2, **options}
    return CycleGAN(
        SIGNATURE,
        networks[0],
        back=networks[1],
        discriminator=critics[0],
        back_discriminator=critics[1],
        optimizer=adam,
        replay=replay,
        **options,
    )


METHODS = cases(Method)

IDS = [f"{name}-{n}" for n, (name, _) in enumerate(METHODS)]


def built(name, arguments, seed=0, **options):
    """Build a small instance of a method; `options` are for those that step an optimiser."""
    torch.manual_seed(seed)
    if "optimizer" in arguments:
        options = {"ema_decay": 0.9, **options}
    else:
        options = {"max_steps": options["max_steps"]}
    arguments = {"signature": SIGNATURE, **arguments, "log_every": 2, **options}
    return recipe_classes.construct({"class_path": name, "init_args": arguments}, Method)


class Numbers(lightning.pytorch.loggers.logger.DummyLogger):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def log_metrics(self, metrics, step=None):
        self.lines.append((step, dict(metrics)))


def run(method, data=None, callbacks=(), ckpt_path=None, **options):
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        callbacks=list(callbacks),
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **{"logger": False, **options},
    )
    trainer.fit(method, data or Data(), ckpt_path=ckpt_path, weights_only=True)
    return trainer


def weights(module):
    return torch.cat([torch.zeros(0), *(p.detach().flatten() for p in module.parameters())])
