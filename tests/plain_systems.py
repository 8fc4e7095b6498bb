"""More published networks as plain PyTorch, and the parts of their losses; see tests/plain.py."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from scipy.special import sph_harm_y
from torch import nn
from torch.nn import functional


class Small(nn.Module):
    """The U-Net of the WGAN-GP system: strided convolutions down to the bottom and back.

    At the bottom stands a plain ReLU as in our recipes; the published one is leaky (`differs`).
    """

    def __init__(self, takes=3, gives=1, width=4, levels=5):
        super().__init__()
        sizes = [takes, *(min(width * 2**n, 16 * width) for n in range(levels))]
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 4, 2, 1, bias=False) for a, b in itertools.pairwise(sizes)
        )
        self.bottom = nn.Conv2d(sizes[-1], sizes[-1], 4, 2, 1, bias=False)
        before, ups = sizes[-1], []
        for after in reversed(sizes[1:]):
            ups.append(nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False))
            before = 2 * after
        self.up, self.last = nn.ModuleList(ups), nn.ConvTranspose2d(before, gives, 4, 2, 1)

    def forward(self, x):
        seen = []
        for n, layer in enumerate(self.down):
            x = layer(x)
            x = functional.leaky_relu(functional.instance_norm(x) if n else x, 0.2)
            seen.append(x)
        x = torch.relu(self.bottom(x))
        for layer in self.up:
            x = torch.relu(functional.instance_norm(layer(x)))
            x = torch.cat([x, seen.pop()], 1)
        return torch.tanh(self.last(x))


class Field(nn.Module):
    """The vector field of the flow matching systems: a U-Net that is told the time at each block.

    The time is a number of 0..1; sines come before cosines.
    """

    def __init__(self, width=4, levels=3, waves=16, period=1000.0):
        super().__init__()
        half = waves // 2
        self.rates = period ** -(torch.arange(half) / (half - 1))
        self.time, self.first = nn.Linear(waves, waves), nn.Conv2d(4, width, 3, padding=1)
        sizes = [width, *(min(width * 2**n, 512) for n in range(levels))]
        sizes.append(sizes[-1])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for a, b in itertools.pairwise(sizes):
            self.down.append(
                nn.ModuleList([nn.Linear(waves, a), nn.Conv2d(a, b, 4, 2, 1, bias=False)])
            )
        before = sizes[-1]
        for after in reversed(sizes[1:-1]):
            larger = nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)
            self.up.append(nn.ModuleList([nn.Linear(waves, before), larger]))
            before = 2 * after
        self.last = nn.ConvTranspose2d(before, 1, 4, 2, 1)

    def forward(self, x, time, colour):
        angles = time[:, None] * self.rates
        told = torch.relu(self.time(torch.cat([angles.sin(), angles.cos()], 1)))
        x, seen = self.first(torch.cat([x, colour], 1)), []
        for n, (shift, layer) in enumerate(self.down):
            x = layer(x + shift(told)[:, :, None, None])
            normed = 0 < n < len(self.down) - 1
            x = functional.leaky_relu(functional.instance_norm(x) if normed else x, 0.2)
            seen.append(x)
        seen.pop()
        for shift, layer in self.up:
            x = layer(x + shift(told)[:, :, None, None])
            x = torch.cat([torch.relu(functional.instance_norm(x)), seen.pop()], 1)
        return self.last(x)


class Autoencoder(nn.Module):
    """The U-Net of the TensorFlow script: pairs of convolutions, max-pool, 2 x 2 up."""

    def __init__(self, width=4):
        super().__init__()
        sizes = [3, width, 2 * width, 4 * width, 8 * width]
        self.down = nn.ModuleList(self.pair(a, b) for a, b in itertools.pairwise(sizes))
        self.up = nn.ModuleList(
            nn.ModuleList([nn.ConvTranspose2d(2 * n, n, 2, 2), self.pair(2 * n, n)])
            for n in (4 * width, 2 * width, width)
        )
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    @staticmethod
    def pair(a, b):
        return nn.ModuleList([nn.Conv2d(a, b, 3, padding=1), nn.Conv2d(b, b, 3, padding=1)])

    @staticmethod
    def twice(layers, x):
        for layer in layers:
            x = functional.leaky_relu(layer(x), 0.2)
        return x

    def forward(self, x):
        seen = []
        for n, layers in enumerate(self.down):
            x = self.twice(layers, functional.max_pool2d(x, 2) if n else x)
            seen.append(x)
        seen.pop()
        for larger, layers in self.up:
            x = self.twice(layers, torch.cat([seen.pop(), larger(x)], 1))
        return torch.tanh(self.last(x))


class EDSR(nn.Module):
    """Two times larger: residual blocks without norm, a shuffle of pixels."""

    def __init__(self, width=4, blocks=2):
        super().__init__()

        def layer(a=width, b=width):
            return nn.Conv2d(a, b, 3, padding=1)

        self.first, self.after = layer(3), layer()
        self.blocks = nn.ModuleList(nn.ModuleList([layer(), layer()]) for _ in range(blocks))
        self.larger, self.last = layer(b=4 * width), layer(b=3)

    def forward(self, x):
        x = start = self.first(x)
        for one, other in self.blocks:
            x = x + other(torch.relu(one(x)))
        x = self.after(x) + start
        return self.last(functional.pixel_shuffle(self.larger(x), 2))


# Parts of losses.


def squares(scores, label):
    """LSGAN."""
    return ((scores - label) ** 2).mean()


def entropy(scores, label):
    """Cross-entropy of logits."""
    labels = torch.full_like(scores, label)
    return functional.binary_cross_entropy_with_logits(scores, labels)


def l1(one, other):
    """Mean absolute difference."""
    return (one - other).abs().mean()


def earth_mover(one, other):
    """Mean distance of the sorted values of pictures of the same size, [B, 1, H, W]."""
    return l1(one.flatten(1).sort(dim=1).values, other.flatten(1).sort(dim=1).values)


def centres(values, classes, rounds=10):
    """The mean of each number's cluster by Lloyd's algorithm, from centres spread evenly."""
    low, high = values.min(), values.max()
    at = low + (high - low) * (np.arange(classes) + 0.5) / classes
    for _ in range(rounds + 1):
        nearest = np.abs(values[:, None] - at).argmin(1)
        means = [values[nearest == k].mean() if k in nearest else at[k] for k in range(classes)]
        at = np.array(means)
    return at[nearest]


def harmonics(lonlat, degrees):
    """SatCLIP's basis by scipy: without the Condon-Shortley phase, of order 0 pi times as large."""
    azimuth, polar = np.radians(lonlat[:, 0] + 180), np.radians(lonlat[:, 1] + 90)
    columns = []
    for degree in range(degrees):
        for order in range(-degree, degree + 1):
            m = abs(order)
            value = sph_harm_y(degree, m, polar, np.zeros_like(polar)).real * (-1) ** m
            turned = np.sin(m * azimuth) if order < 0 else np.cos(m * azimuth)
            columns.append(value * (math.pi if not m else math.sqrt(2) * turned))
    return np.stack(columns, 1)


def unlike(one, other, queries, patch):
    """F-LSeSim with derivatives of Gaussians: 1 - cosine of two pictures' self-similarities.

    A feature of a pixel is the derivative down, the one along and the Laplacian of Gaussians of 1
    and 2 pixels, of the mean over bands, of length 1. At each point of a grid its similarities to
    the pixels of a patch around it are one vector; vectors of both pictures are compared.
    """
    maps = []
    for picture in (one, other):
        grey, features = picture.mean(1, keepdim=True), []
        for sigma in (1.0, 2.0):
            reach = round(3 * sigma)
            at = torch.arange(-reach, reach + 1.0)
            bell = torch.exp(-(at**2) / (2 * sigma**2))
            bell = bell / bell.sum()
            slope = -at / sigma * bell
            bend = (at**2 / sigma**2 - 1) * bell
            bend = bend - bend.sum() * bell
            kernels = [torch.outer(slope, bell), torch.outer(bell, slope)]
            kernels.append(torch.outer(bend, bell) + torch.outer(bell, bend))
            wide = functional.pad(grey, [reach] * 4, mode="replicate")
            features.append(functional.conv2d(wide, torch.stack(kernels)[:, None]))
        found = torch.cat(features, 1)
        found = found / ((found**2).sum(1, keepdim=True) + 1e-4).sqrt()
        size, vectors = found.shape[-1], []
        for row in range(queries):
            for col in range(queries):
                y, x = (int((n + 0.5) * size / queries) for n in (row, col))
                top, left = (min(max(n - patch // 2, 0), size - patch) for n in (y, x))
                around = found[:, :, top : top + patch, left : left + patch]
                vectors.append((around * found[:, :, y, x, None, None]).sum(1).flatten(1))
        maps.append(torch.stack(vectors, 1))
    a, b = maps
    lengths = ((a**2).sum(2) + 1e-4) * ((b**2).sum(2) + 1e-4)
    return (1 - ((a * b).sum(2) + 1e-4) / lengths.sqrt()).mean()
