"""Small methods without pairs, and the two samples that they train on."""

from __future__ import annotations

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from crossband.core.signature import Signature, UnitRange
from crossband.networks import Discriminator, Generator
from crossband.networks.discriminators.patch_critic import PatchCritic
from crossband.networks.generators.resnet import ResNet
from crossband.networks.generators.thermal_gan import StyleEncoder, TwoStepThermal
from crossband.training.methods.thermal_gan import ThermalGAN

SIZE = 16

WHOLE = {"display": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)])}

SIGNATURE = Signature(["red", "green", "blue"], ["thermal"], WHOLE)

GREY = Signature(["red"], ["thermal"], {"display": UnitRange([(0.0, 1.0)], [(0.0, 1.0)])})


class One(Dataset):
    """The same two samples again and again: smooth pictures whose bands follow one another."""

    def __init__(self, bands=3):
        rng = torch.Generator().manual_seed(0)
        coarse = torch.rand(2, 2, 4, 4, generator=rng)
        field = nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear")
        s, t = field[:, :1], field[:, 1:]
        self.source = torch.cat([s, 0.2 + 0.6 * s, 0.9 - 0.7 * s], 1)[:, :bands]
        self.target = 0.1 + 0.8 * t

    def __len__(self):
        return 10**6

    def __getitem__(self, i):
        return {"source": self.source[i % 2], "target": self.target[i % 2], "unit": "display"}


class Numbers(lightning.pytorch.loggers.logger.DummyLogger):
    def __init__(self):
        super().__init__()
        self.lines = []

    def log_metrics(self, metrics, step=None):
        self.lines.append(dict(metrics))

    def of(self, name):
        return [line[f"loss/{name}"] for line in self.lines if f"loss/{name}" in line]


def run(method, bands=3, batch=2, data=None, **options):
    log = Numbers()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        logger=log,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(method, DataLoader(data or One(bands), batch_size=batch))
    return log


def adam(rate):
    return lambda parameters: torch.optim.Adam(parameters, lr=rate, betas=(0.5, 0.99))


def critic(source, target):
    return PatchCritic(source, target, width=4, strided=2, conditional=False, norm="none")


def two_way(method, forth, back, rate=1e-2, critics=critic, **options):
    return method(
        SIGNATURE,
        forth,
        back=back,
        discriminator=critics(3, 1),
        back_discriminator=critics(1, 3),
        optimizer=adam(rate),
        discriminator_optimizer=adam(1e-4),
        **{"log_every": 10**6, **options},
    )


def resnets():
    return (ResNet(a, b, width=8, blocks=1) for a, b in ((3, 1), (1, 3)))


def thermal(generator=None, **options):
    if generator is None:
        generator = TwoStepThermal(
            width=8, levels=2, contrast_levels=2, style=2, norm="instance", dropout=0.0
        )
    return ThermalGAN(
        SIGNATURE,
        generator,
        encoder=StyleEncoder(1, style=2, width=4, layers=2),
        discriminator=PatchCritic(3, 1, width=4, strided=2, norm="none"),
        contrast_discriminator=PatchCritic(4, 1, width=4, strided=2, norm="none"),
        optimizer=adam(3e-3),
        discriminator_optimizer=adam(1e-4),
        **options,
    )


class Shift(Generator):
    """Adds a number far outside the domain, which tells who made a picture."""

    def __init__(self, by):
        super().__init__()
        self.in_channels = self.out_channels = 1
        self.by, self.weight = by, nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * self.weight + self.by


class Noting(Discriminator):
    conditional = False

    def __init__(self):
        super().__init__()
        self.seen, self.score = [], nn.Conv2d(1, 1, 1)

    def forward(self, source, target):
        self.seen.append((source.detach().mean().item(), target.detach().mean().item()))
        return self.score(target)
