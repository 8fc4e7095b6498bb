"""The two MLPs of each member of a `LocalPyramid`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.networks.cells import CELL, STEP, corners_of, interpolate_cells, strips_of


class PyramidMember(nn.Module):
    """The two MLPs of a member: the context MLP and the pixel MLP."""

    def __init__(
        self, own: int, windows: list[int], out_channels: int, width: int, depth: int, hidden: int
    ) -> None:
        super().__init__()
        # The first layer is linear: computed on each level's own cells, interpolated afterwards.
        self.levels = nn.ModuleList(
            nn.Linear(window, width, bias=number == 0) for number, window in enumerate(windows)
        )
        layers: list[nn.Module] = [nn.GELU()]
        for _ in range(1, depth):
            layers += [nn.Linear(width, width), nn.GELU()]
        self.context = nn.Sequential(*layers, nn.Linear(width, hidden))
        self.pixel_in = nn.Linear(own, hidden, bias=False)  # the context MLP has one
        self.pixel_mix = nn.Linear(hidden, hidden)
        self.pixel_out = nn.Linear(hidden, out_channels)

    def context_vectors(self, levels: list[Tensor]) -> Tensor:
        """Return the context vector of each of the finest cells: [B, h, w, hidden]."""
        height, width = levels[0].shape[1:3]
        coarse = [self.levels[n](features) for n, features in enumerate(levels[1:], start=1)]
        vectors = []
        for rows in strips_of(slice(0, height), width):
            total = self.levels[0](levels[0][:, rows])
            for number, values in enumerate(coarse, start=1):
                total += interpolate_cells(values, rows, slice(0, width), STEP**number)
            vectors.append(self.context(total).float())
        return torch.cat(vectors, dim=1)

    def context_vectors_at(
        self, levels: list[Tensor], sample: Tensor, row: Tensor, column: Tensor
    ) -> Tensor:
        """Return the interpolated context vectors at N pixels: [N, hidden]."""
        height, width = levels[0].shape[1:3]
        corners = corners_of(row, column, CELL, height, width)
        numbers = torch.stack([(sample * height + r) * width + c for r, c, _ in corners])
        cells, inverse = torch.unique(numbers, return_inverse=True)
        of, place = cells // (height * width), cells % (height * width)
        total = self.levels[0](levels[0].flatten(0, 2)[cells])
        for number, features in enumerate(levels[1:], start=1):
            values = self.levels[number](features)
            near = corners_of(place // width, place % width, STEP**number, *features.shape[1:3])
            total = total + sum(values[of, r, c] * share for r, c, share in near)
        vectors: Tensor = self.context(total).float()
        shares = torch.stack([share for _, _, share in corners])
        return (vectors[inverse] * shares).sum(dim=0)

    def output(self, pixels: Tensor, vectors: Tensor) -> Tensor:
        """Features [B, h, w, F], context vectors [B, h, w, hidden] -> float32 [B, h, w, Ct]."""
        # Hard swish is as good as a GELU here, whose exponential would take half of the time. All
        # but the large product is in fp32: sums of two types are slow, and bfloat16 outputs have
        # steps of 1/256 of their value, visible in flat areas.
        reuse = not torch.is_grad_enabled()
        with torch.autocast(pixels.device.type, enabled=False):
            hidden = functional.hardswish(self.pixel_in(pixels).add_(vectors), inplace=reuse)
        mixed = self.pixel_mix(hidden)
        with torch.autocast(mixed.device.type, enabled=False):
            result: Tensor = self.pixel_out(functional.hardswish(mixed.float(), inplace=reuse))
        return result
