"""Widths of errors and the familiarity of surroundings, as further channels of a generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.networks.base import Generator
from crossband.networks.cells import interpolate_cells
from crossband.networks.conditions import Conditions
from crossband.networks.generators.familiar_blend import FamiliarBlend
from crossband.networks.generators.guided_correction import _CorrectedGenerator
from crossband.networks.generators.local_pyramid import LocalPyramid
from crossband.networks.tracing import infers_on_cpu

#: Logarithms of widths, in normalised units of the target, are clipped here.
NARROWEST, WIDEST = -7.0, 3.0
#: Normalised sources and outputs are clipped here: the head knows none beyond.
LEAST, MOST = -1.0, 4.0
#: Rows of pixels computed at once at inference, in pixels.
CACHED = 2**16
#: The same where all intermediate results shall stay in the cache.
STRIP = 2**15
#: Added to the local spread of an output before its logarithm; usual logarithm and its unit. So the
#: result lies between `LEAST` and `MOST`, as all that the head sees of a pixel.
SMOOTH, USUAL, UNIT = 0.002, -5.0, 1.5


class WidthHead(nn.Module):
    """A small MLP (tanh): the surroundings on cells, the pixel's colours and output -> widths.

    The first layer is linear in the surroundings, so it is computed on their cells and
    interpolated, as in `LocalPyramid`.

    Args:
        features: of the surroundings.
        seen: features of a pixel, see `pixel_features`.
        hidden: units.
        outputs: widths; two for each quantity.
    """

    def __init__(self, features: int, seen: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.cells = nn.Linear(features, hidden)
        self.pixels = nn.Linear(seen, hidden, bias=False)
        self.out = nn.Linear(hidden, outputs)

    def forward(self, cells: Tensor, pixels: Tensor) -> Tensor:
        """[..., hidden] from `cells`, [..., seen] -> widths [..., outputs]."""
        # tanh(x) is 2 sigmoid(2 x) - 1; in place, as memory takes most of the time.
        hidden = torch.sigmoid(self.pixels(pixels).add_(cells).mul_(2))
        weight, bias = self.out.weight, self.out.bias
        widths = functional.linear(hidden, 2 * weight, bias - weight.sum(dim=1))
        return widths.clamp(NARROWEST, WIDEST).exp_()


class Tanh(nn.Module):
    """The hyperbolic tangent as 2 sigmoid(2 x) - 1, within 1e-6.

    On a CPU torch computes a sigmoid much faster than a hyperbolic tangent.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return 2 * torch.sigmoid(2 * x) - 1


def seen_features(network: Generator) -> int:
    """Return the number of features that the head sees of each pixel, see `pixel_features`."""
    return network.in_channels + (3 if network.scale > 1 else 2) * network.out_channels


def source_maps(x: Tensor, output: Tensor) -> Tensor:
    """Return what the head sees beside the output: [B, Cs, h, w] -> [B, M, h * s, w * s].

    It is the source. Where pixels are made finer, each source pixel is repeated, and the local
    spread of the output follows: errors are as large as the detail around. A repeated pixel is the
    same in every tile, and needs no pixels around it, as bicubic ones do; the difference from the
    output then shows the detail that was added.

    Args:
        x: normalised, 0 where masked.
        output: [B, Ct, h * s, w * s].
    """
    scale = output.shape[-1] // x.shape[-1]
    if scale == 1:
        return x
    height, width = output.shape[-2:]
    step = max(STRIP // width // scale, 1) * scale
    strips = [
        _spread(x, output, slice(top, min(top + step, height)), scale)
        for top in range(0, height, step)
    ]
    usual = (torch.log(torch.cat(strips, dim=-2) + SMOOTH) - USUAL) / UNIT
    return torch.cat([repeated(x, scale), usual], dim=1)


def _spread(x: Tensor, output: Tensor, rows: slice, scale: int) -> Tensor:
    """Return the spread of valid outputs around each pixel of rows that are whole source pixels."""
    first, last = max(rows.start - scale, 0), min(rows.stop + scale, output.shape[-2])
    some = x[..., first // scale : last // scale, :]
    valid = repeated((some != 0).any(dim=1, keepdim=True).to(x.dtype), scale)
    values = output[..., first:last, :].clamp(LEAST, MOST) * valid
    sums = _window_means(torch.cat([values, values.square(), valid], dim=1), scale)
    sums = sums[..., rows.start - first : rows.stop - first, :]
    means, squares = (sums[:, :-1] / sums[:, -1:].clamp_min(1e-6)).chunk(2, dim=1)
    return (squares - means.square()).clamp_min(0.0).sqrt()


def repeated(x: Tensor, scale: int) -> Tensor:
    """Repeat each pixel: [B, C, h, w] -> [B, C, h * scale, w * scale]."""
    return x.repeat_interleave(scale, dim=-2).repeat_interleave(scale, dim=-1)


def _window_means(x: Tensor, reach: int) -> Tensor:
    """Return means over windows of 2 * `reach` + 1 pixels; beyond the edge are zeros."""
    side = 2 * reach + 1
    for dim, padding in ((-2, (0, 0, reach, reach)), (-1, (reach, reach))):
        length, padded = x.shape[dim], functional.pad(x, padding)
        x = padded.narrow(dim, 0, length).clone()  # as sums, which take a third of a pooling's time
        for start in range(1, side):
            x += padded.narrow(dim, start, length)
        x /= side
    return x


def pixel_features(maps: Tensor, output: Tensor) -> Tensor:
    """Return what the head sees of each pixel.

    Args:
        maps: [B, M, h, w] from `source_maps`.
        output: [B, Ct, h, w].

    Returns:
        [B, h, w, P]: maps, output, and the output's square.
    """
    values = torch.cat([maps, output], dim=1).clamp(LEAST, MOST)
    squares = output.clamp(LEAST, MOST).square()
    return torch.cat([values, squares], dim=1).movedim(1, -1)


class Dissimilarity(nn.Module):
    """The dissimilarity of surroundings, in units of the limit above which they are unfamiliar.

    It is the larger one of two: the dissimilarity index (Meyer, Pebesma 2021), which is the
    distance to the nearest centre of training places; and how much the surroundings look like those
    of wrong inputs, by a small classifier.

    Args:
        features: of the surroundings.
        directions: kept directions of equal spread.
        centres: number of centres of the training places.
        hidden: units of the classifier.
        kinds: of wrong inputs.
    """

    turn: Tensor
    usual: Tensor
    centres: Tensor
    distance: Tensor
    odds: Tensor

    def __init__(
        self, features: int, directions: int, centres: int, hidden: int = 0, kinds: int = 0
    ) -> None:
        super().__init__()
        self.classifier = None
        if kinds:
            layers = [nn.Linear(features, hidden), Tanh(), nn.Linear(hidden, kinds)]
            self.classifier = nn.Sequential(*layers)
        self.register_buffer("turn", torch.zeros(directions, features))
        self.register_buffer("usual", torch.zeros(features))
        self.register_buffer("centres", torch.zeros(centres, directions))
        self.register_buffer("distance", torch.ones(()))
        self.register_buffer("odds", torch.tensor([0.0, 1.0]))  # limit and spread

    def forward(self, description: Tensor) -> Tensor:
        """[..., F] -> [...]; above 1 is unfamiliar."""
        far = self.far(description)
        if self.classifier is None:
            return far
        limit, spread = self.odds
        odds = torch.logsumexp(self.classifier(description), dim=-1)
        return torch.maximum(far, 1 + (odds - limit) / spread)

    def far(self, description: Tensor) -> Tensor:
        """Return the distance to the nearest centre: [..., F] -> [...]."""
        turned = (description - self.usual) @ self.turn.T
        squares = (
            turned.square().sum(dim=-1, keepdim=True)
            + self.centres.square().sum(dim=1)
            - 2.0 * (turned @ self.centres.T)
        )
        return squares.clamp_min(0.0).amin(dim=-1).sqrt() / self.distance


class UncertainGenerator(nn.Module):
    """A generator whose output has further channels: widths, then the dissimilarity.

    It is strictly local where the generator is: the surroundings are those of `LocalPyramid`, and
    those of a `FamiliarBlend` are computed once for both. Where the network makes pixels finer,
    widths and dissimilarity are those of its output's pixels.

    Args:
        network: the generator.
        head: of the widths; by default constant ones of 1.
        dissimilarity: None leaves its channel out.
        widths: number of channels of widths of results without a guide.
        guided: the head also gives as many channels of widths of guided results.

    Attributes:
        extra: number of further channels.
    """

    margin: int | None
    stride: int

    def __init__(
        self,
        network: Generator,
        head: WidthHead | None,
        dissimilarity: Dissimilarity | None,
        widths: int,
        *,
        guided: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.head, self.dissimilarity = network, head, dissimilarity
        self.guided = guided
        sets = 0 if not widths else 2 if guided else 1
        self.width_sets = [slice(n * widths, (n + 1) * widths) for n in range(sets)]
        self.widths = widths * sets
        self.extra = self.widths + (dissimilarity is not None)
        for name in Generator.__annotations__:  # margin, stride, scale and all the others
            setattr(self, name, getattr(network, name))
        self.conditioned = network.conditioned
        self.around = surroundings_of(network)
        if head is not None or dissimilarity is not None:
            self.stride = math.lcm(self.stride, self.around.stride)
            if self.margin is not None and self.around.margin is not None:
                spread = 1 if head is not None and network.scale > 1 else 0  # of `source_maps`
                self.margin = max(self.margin + spread, self.around.margin)

    @property
    def arguments(self) -> dict[str, object]:
        """What identifies the network beside its weights."""
        plain = {"class": type(self.network).__name__, "arguments": self.network.arguments}
        return {**plain, "extra": self.extra}

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] -> [B, Ct + extra, H * scale, W * scale]."""
        return self.forward_conditioned(x, Conditions())

    def forward_conditioned(self, x: Tensor, conditions: Conditions) -> Tensor:
        """Translate, and return widths and dissimilarity beside the output."""
        if self.head is None and self.dissimilarity is None:
            out = self.network.forward_conditioned(x, conditions).float()
            return torch.cat([out, out.new_ones(len(out), self.widths, *out.shape[-2:])], dim=1)
        levels = self.around.surroundings(x)
        if isinstance(self.network, FamiliarBlend):
            out = self.network.blended(x, levels, conditions).float()
        else:
            out = self.network.forward_conditioned(x, conditions).float()
        with torch.autocast(x.device.type, enabled=False):
            return torch.cat([out, self._further(x.float(), out, levels)], dim=1)

    def _further(self, x: Tensor, out: Tensor, levels: list[Tensor]) -> Tensor:
        description = self.around.description(levels).float()
        hidden = None if self.head is None else self.head.cells(description)
        far = None if self.dissimilarity is None else self.dissimilarity(description)[..., None]
        height, width = out.shape[-2:]
        cell, maps = self.around.stride * (width // x.shape[-1]), None
        if self.head is not None:
            maps = source_maps(x, out)
        if infers_on_cpu(x):
            return self._compiled(maps, out, hidden, far, cell)
        # Rows of large cells are interpolated together: parts of them would be computed again.
        step = max(CACHED // width, cell if cell > self.around.stride else 1)
        rows = [slice(top, min(top + step, height)) for top in range(0, height, step)]
        result = x.new_ones(len(x), self.extra, height, width)
        for some in rows:
            where = (some, slice(0, width))
            if self.head is not None and hidden is not None and maps is not None:
                pixels = pixel_features(maps[..., some, :], out[..., some, :])
                widths = self.head(interpolate_cells(hidden, *where, cell), pixels)
                result[:, : self.widths, some] = widths.movedim(-1, 1)
            if far is not None:
                result[:, -1, some] = interpolate_cells(far, *where, cell)[..., 0]
        return result

    def _compiled(
        self, maps: Tensor | None, out: Tensor, hidden: Tensor | None, far: Tensor | None, cell: int
    ) -> Tensor:
        """Return widths and dissimilarity by loops that are compiled for the CPU."""
        from crossband.networks import pixel_loops  # Numba takes a while

        result = out.new_ones(len(out), self.extra, *out.shape[-2:])
        for number, channels in enumerate(result.numpy()):
            if self.head is not None and hidden is not None and maps is not None:
                into = self.head.pixels.weight.detach().T.contiguous().numpy()
                last = (self.head.out.weight.detach().numpy(), self.head.out.bias.detach().numpy())
                limits = (LEAST, MOST, NARROWEST, WIDEST)
                loop = pixel_loops.width_loop(*into.shape, limits)
                given = (maps[number], out[number], hidden[number])
                loop(*(v.contiguous().numpy() for v in given), cell, into, *last, channels)
            if far is not None:
                cells = far[number].contiguous().numpy()
                pixel_loops.cell_values()(cells, cell, channels[-1])
        return result


def surroundings_of(network: Generator) -> LocalPyramid:
    """Return what computes the surroundings: the network's own, or one that has no weights."""
    if isinstance(network, _CorrectedGenerator):
        network = network.unguided
    parts = network.parts if isinstance(network, FamiliarBlend) else [network]
    first = parts[0]
    if isinstance(first, LocalPyramid):
        return first
    made = LocalPyramid(network.in_channels, 1, width=1, depth=1, hidden=1, levels=3, bins=0)
    for weights in made.parameters():  # no output depends on them, but the hash of the model does
        nn.init.zeros_(weights)
    return made
