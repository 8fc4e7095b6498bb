"""LocalStatistics: an MLP on each pixel's colour and on statistics of windows around it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.errors import RecipeError
from crossband.networks.base import Generator
from crossband.networks.tracing import is_traced, largest, smallest

#: Rows processed at once at inference: the features of a whole tile would not fit the cache.
ROWS = 64
#: Source bands and windows of each kind, at most.
MOST_BANDS, MOST_WINDOWS = 256, 16
#: Samples whose cells are computed at once, so that intermediate results stay in the cache.
SAMPLES = 8
#: In training, if a smaller fraction of the pixels is wanted, windows are extracted one by one.
FEW = 1 / 16
#: Mean and standard deviation of each kind of feature over normalised satellite and aerial images,
#: rounded; constants, so that the inputs of the first layer are always of order 1.
CENTRE = {"colour": 0.3, "spread": -3.0, "correlation": 0.7, "ratio": 0.0, "light": -1.1}
WIDTH = {"colour": 0.33, "spread": 0.7, "correlation": 0.3, "ratio": 0.25, "light": 0.55}
CENTRE |= {"low": -1.7, "high": -0.6}
WIDTH |= {"low": 0.65, "high": 0.6}
#: Standardised features are clipped here: an MLP extrapolates badly beyond its training data.
FARTHEST = 5.0


class LocalStatistics(Generator):
    """An ensemble of MLPs on a pixel's colour and on statistics of windows around it.

    The statistics of each window are mean, logarithm of the standard deviation, correlations
    between bands, band ratios and brightness; for the larger windows also minimum and maximum. The
    outputs of the MLPs, the members, are averaged. This needs far fewer weights than a
    convolutional network, which matters with few training places. The `near` windows are centred on
    each pixel; the larger `far` windows on cells of `stride` x `stride` pixels.

    Pixels that are 0 in all bands (normalised: masked or padded ones) do not count in any window.
    In training, each sample of a batch trains one of the members.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: hidden units of a member.
        depth: hidden layers of a member.
        members: number of MLPs, trained at the same time.
        near: sides of the windows around pixels, in pixels; odd.
        far: sides of the windows around cells, in cells; odd.
        stride: side of a cell, in pixels.
    """

    examples = ({"width": 8, "depth": 1},)

    usual: Tensor
    spread: Tensor

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        *,
        width: int = 96,
        depth: int = 3,
        members: int = 4,
        near: Sequence[int] = (3, 7),
        far: Sequence[int] = (5, 9, 17),
        stride: int = 4,
    ) -> None:
        super().__init__()
        if min(width, depth, members, stride) < 1:
            raise RecipeError("LocalStatistics needs width, depth, members, stride of at least 1")
        if in_channels > MOST_BANDS or max(len(near), len(far)) > MOST_WINDOWS:
            raise RecipeError(
                f"LocalStatistics compares all pairs of bands, in each window: at most "
                f"{MOST_BANDS} bands and {MOST_WINDOWS} windows of a kind are possible"
            )
        if any(k < 1 or k % 2 == 0 for k in (*near, *far)):
            raise RecipeError("LocalStatistics needs windows of odd sides")
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride
        self.near, self.far = tuple(near), tuple(far)
        cells = max((k // 2 for k in far), default=0) * stride + stride - 1 if far else 0
        self.margin = max([cells, *(k // 2 for k in near)])
        self.pairs = list(combinations(range(in_channels), 2))
        kinds = self._kinds()
        for name, table in (("usual", CENTRE), ("spread", WIDTH)):
            values = torch.tensor([table[k] for k in kinds])[:, None, None]
            self.register_buffer(name, values, persistent=False)
        self.members = nn.ModuleList(
            _perceptron(len(kinds), out_channels, width, depth) for _ in range(members)
        )

    def _kinds(self) -> list[str]:
        """Return the kind of each feature, in order; see `_window`."""
        bands = self.in_channels
        ratios = ["ratio"] * (bands - 1) + ["light"]
        window = ["colour"] * bands + ["spread"] * bands
        window += ["correlation"] * len(self.pairs) + ratios
        extremes = ["low"] * bands + ["high"] * bands
        kinds = ["colour"] * bands + ratios
        return kinds + window * len(self.near) + (window + extremes) * len(self.far)

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] -> float32 [B, Ct, H, W]."""
        return self.forward_cropped(x, 0)

    def forward_cropped(self, x: Tensor, context: int, wanted: Tensor | None = None) -> Tensor:
        """Translate without the outer `context` pixels; in training only where `wanted`."""
        height, width = x.shape[-2:]
        # The statistics stay in fp32 under autocast, which only changes matrix products.
        x = functional.pad(x.float(), (0, -width % self.stride, 0, -height % self.stride))
        x = x.contiguous()
        cells = self._cells(x)
        rows, columns = slice(context, height - context), slice(context, width - context)
        if self.training:
            return self._train(x, cells, rows, columns, wanted)
        windows = self._windows_of_cells(cells)
        outputs = []
        for some in _strips(rows):
            features = self._standard(self._features(x, windows, some, columns))
            total: Tensor = sum(_run(m, features) for m in self.members)  # type: ignore[assignment]
            outputs.append((total / len(self.members)).permute(0, 3, 1, 2))
        return torch.cat(outputs, dim=2)

    def _train(
        self,
        x: Tensor,
        cells: tuple[Tensor, Tensor] | None,
        rows: slice,
        columns: slice,
        wanted: Tensor | None,
    ) -> Tensor:
        """Translate the wanted pixels; member m of k takes the samples m, m + k, m + 2 k, ..."""
        size = (x.shape[0], rows.stop - rows.start, columns.stop - columns.start)
        if wanted is None:
            wanted = torch.ones(size, dtype=torch.bool, device=x.device)[:, None]
        where = wanted[:, 0].nonzero(as_tuple=True)
        if len(where[0]) < FEW * wanted.numel():
            sample, row, column = where
            few = self._at(x, cells, sample, row + rows.start, column + columns.start)
            features = self._standard(few)[:, 0, 0]
        else:
            windows = self._windows_of_cells(cells)
            features = self._standard(self._features(x, windows, rows, columns))[where]
        outputs = torch.zeros(*size, self.out_channels, device=x.device)
        for number, member in enumerate(self.members):
            of_member = where[0] % len(self.members) == number
            values = _run(member, features[of_member])
            outputs = outputs.index_put([index[of_member] for index in where], values)
        return outputs.movedim(-1, 1)

    def _standard(self, features: Tensor) -> Tensor:
        """Return standardised features: [B, F, h, w] -> [B, h, w, F]."""
        features = (features - self.usual) / self.spread
        features = features.clamp(-FARTHEST, FARTHEST)
        # Converted once for all members, to their precision, with one row for each pixel.
        kind = features.device.type
        reduced = torch.is_autocast_enabled(kind)
        features = features.to(torch.get_autocast_dtype(kind) if reduced else features.dtype)
        return features.permute(0, 2, 3, 1).contiguous()

    def _features(self, x: Tensor, windows: Tensor | None, rows: slice, columns: slice) -> Tensor:
        """Return the features of the pixels in some rows and columns, [B, F, h, w]."""
        own = x[..., rows, columns]
        features = [own, self._ratios(own)]
        for side in self.near:
            k = side // 2
            # The pixels that the windows cover; zeros beyond the image, which do not count.
            up, left = largest(rows.start - k, 0), largest(columns.start - k, 0)
            down = smallest(rows.stop + k, x.shape[-2])
            right = smallest(columns.stop + k, x.shape[-1])
            edges = (
                left - columns.start + k,
                columns.stop + k - right,
                up - rows.start + k,
                rows.stop + k - down,
            )
            around = functional.pad(x[..., up:down, left:right], edges)
            features.append(self._window(_box(self._sums(around), side, pad=False)))
        if windows is not None:
            s = self.stride
            first, last = rows.start // s, (rows.stop + s - 1) // s
            start, end = columns.start // s, (columns.stop + s - 1) // s
            wide = windows[..., first:last, start:end]
            wide = wide.repeat_interleave(s, dim=2).repeat_interleave(s, dim=3)
            top, west = rows.start - first * s, columns.start - start * s
            height, width = own.shape[-2:]
            features.append(wide[..., top : top + height, west : west + width])
        return torch.cat(features, dim=1)

    def _at(
        self,
        x: Tensor,
        cells: tuple[Tensor, Tensor] | None,
        sample: Tensor,
        row: Tensor,
        column: Tensor,
    ) -> Tensor:
        """Return the features of N single pixels, [N, F, 1, 1]."""
        reach = max((side // 2 for side in self.near), default=0)
        around = _cut(x, reach, 0.0, sample, row, column)
        own = _middle(around, 1)
        features = [own, self._ratios(own)]
        for side in self.near:
            features.append(self._window(_box(self._sums(_middle(around, side)), side, pad=False)))
        if cells is not None:
            reach = max(self.far) // 2
            place = (sample, row // self.stride, column // self.stride)
            sums = _cut(cells[0], reach, 0.0, *place)
            extremes = _cut(cells[1], reach, -torch.finfo(x.dtype).max, *place)
            for side in self.far:
                wide = _box(_middle(sums, side), side, pad=False)
                features += self._far(wide, _middle(extremes, side).amax(dim=(2, 3), keepdim=True))
        return torch.cat(features, dim=1)

    def _cells(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the sums of each cell, and the maxima of -x and x."""
        if not self.far:
            return None
        s, sums, extremes = self.stride, [], []
        for some in (x,) if is_traced() else torch.split(x, SAMPLES):
            sums.append(functional.avg_pool2d(self._sums(some), s) * s * s)
            both = torch.cat([-some, some], dim=1)
            extremes.append(_largest(both.masked_fill(~_valid(some), -torch.finfo(x.dtype).max), s))
        return torch.cat(sums), torch.cat(extremes)

    def _windows_of_cells(self, cells: tuple[Tensor, Tensor] | None) -> Tensor | None:
        """Return the features of the far windows, one vector for each cell."""
        if cells is None:
            return None
        sums, extremes = cells
        features = []
        for side in self.far:
            features += self._far(_box(sums, side, pad=True), _highest(extremes, side))
        return torch.cat(features, dim=1)

    def _far(self, sums: Tensor, extremes: Tensor) -> list[Tensor]:
        """Return the features of a far window from its sums and extremes."""
        low, high = extremes.chunk(2, dim=1)
        return [self._window(sums), _log(-low), _log(high)]

    def _sums(self, x: Tensor) -> Tensor:
        """Return the terms that are summed over a window: count, colours, squares, products."""
        valid = _valid(x)
        # Centred, so that small variances are not lost in differences of large sums.
        about = (x - CENTRE["colour"]).masked_fill(~valid, 0.0)
        products = [about[:, i : i + 1] * about[:, j : j + 1] for i, j in self.pairs]
        return torch.cat([valid.to(x.dtype), about, about * about, *products], dim=1)

    def _window(self, sums: Tensor) -> Tensor:
        """Return mean, log of standard deviation, correlations and ratios of a window's sums."""
        bands = self.in_channels
        sums = sums / sums[:, :1].clamp_min(1.0)
        mean, square, product = torch.split(sums[:, 1:], [bands, bands, len(self.pairs)], dim=1)
        spread = ((square - mean * mean).clamp_min(0.0) + 1e-12).sqrt()
        correlations = [
            (product[:, n] - mean[:, i] * mean[:, j]) / (spread[:, i] * spread[:, j] + 1e-4)
            for n, (i, j) in enumerate(self.pairs)
        ]
        colour = mean + CENTRE["colour"]
        features = [colour, torch.log(spread + 0.01)]
        if correlations:
            features.append(torch.stack(correlations, dim=1))
        return torch.cat([*features, self._ratios(colour)], dim=1)

    def _ratios(self, x: Tensor) -> Tensor:
        """Return the logarithms of neighbouring bands' ratios, and of the brightness."""
        logs = _log(x)
        return torch.cat([logs[:, 1:] - logs[:, :-1], _log(x.mean(dim=1, keepdim=True))], dim=1)


def _perceptron(features: int, out: int, width: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n in range(depth):
        layers += [nn.Linear(features if n == 0 else width, width), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(width, out))


def _run(member: Any, features: Tensor) -> Tensor:
    hidden = features
    for layer in member[:-1]:
        hidden = layer(hidden)
    # In fp32: bfloat16 outputs have steps of 1/256 of their value, visible in flat areas.
    with torch.autocast(features.device.type, enabled=False):
        result: Tensor = member[-1](hidden.float())
    return result


def _valid(x: Tensor) -> Tensor:
    return (x != 0).any(dim=1, keepdim=True)


def _log(x: Tensor) -> Tensor:
    # Overcorrected haze gives values slightly below 0; dark water is below about 0.06.
    return torch.log(x.clamp(-0.02, 1e3) + 0.06)


def _cut(
    x: Tensor, reach: int, beyond: float, sample: Tensor, row: Tensor, column: Tensor
) -> Tensor:
    """Return the pixels up to `reach` around N positions: [B, C, H, W] -> [N, C, side, side]."""
    steps = torch.arange(2 * reach + 1, device=x.device)
    rows, columns = row[:, None, None] + steps[:, None], column[:, None, None] + steps
    x = functional.pad(x, (reach, reach, reach, reach), value=beyond)
    # Channels last, so that each lookup reads all bands of a pixel.
    return x.movedim(1, -1).contiguous()[sample[:, None, None], rows, columns].movedim(-1, 1)


def _middle(x: Tensor, side: int) -> Tensor:
    """Return the middle side x side pixels."""
    edge = (x.shape[-1] - side) // 2
    return x[..., edge : edge + side, edge : edge + side]


def _box(x: Tensor, side: int, *, pad: bool) -> Tensor:
    """Return sums over square windows, with zero padding if `pad`."""
    k = side // 2 if pad else 0
    x = functional.avg_pool2d(x, (side, 1), 1, (k, 0), count_include_pad=True) * side
    return functional.avg_pool2d(x, (1, side), 1, (0, k), count_include_pad=True) * side


def _strips(rows: slice) -> list[slice]:
    if is_traced():
        return [rows]
    starts = range(rows.start, rows.stop, ROWS)
    return [slice(row, min(row + ROWS, rows.stop)) for row in starts]


def _largest(x: Tensor, side: int) -> Tensor:
    """Return the largest value of each cell."""
    batch, bands, height, width = x.shape
    return x.view(batch, bands, height // side, side, width // side, side).amax(dim=(3, 5))


def _highest(x: Tensor, side: int) -> Tensor:
    """Return the maximum in windows around each cell; separable, which is faster."""
    x = functional.max_pool2d(x, (side, 1), 1, (side // 2, 0))
    return functional.max_pool2d(x, (1, side), 1, (0, side // 2))
