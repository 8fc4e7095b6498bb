"""PictureUNet: colours of pixels, and what lies where in the whole picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.networks.base import LARGEST, Generator
from crossband.networks.generators.local_unet import ChannelNorm, ResidualBlock

#: Smallest variance of a cell in normalised values, so that its root has a gradient.
SMALLEST = 1e-4
#: Parts of a cell along a side.
PARTS = 3


class PictureUNet(Generator):
    """A per-pixel MLP whose first layer is shifted by a U-Net on cells of the whole picture.

    For pictures that a camera took along the ground, what a pixel is depends on where it lies: the
    sky is above and the road is below. The picture is averaged to a grid of `rows` x `columns`
    cells, whatever its size. A U-Net (Ronneberger et al. 2015) of three levels works on the means
    of the cells, on the standard deviations of 3 x 3 parts of each, and on their positions. At its
    lowest level the mean over the picture is added, which tells day from night. Its answer is
    interpolated to the pixels and added to the first hidden layer of an MLP on each pixel's colour.
    So a pixel costs what the MLP costs, and the context of a large picture no more than that of a
    small one.

    As it sees the whole picture it has no margin, and a picture is translated in one tile.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: channels of the upper level of the U-Net; the lower two have twice as many.
        hidden: units of the two hidden layers of the MLP.
        rows: cells from top to bottom, a multiple of 4.
        columns: cells from left to right, a multiple of 4.
        dropout: probability of dropping a channel of the context in training.
    """

    examples = (
        {"width": 6, "hidden": 5, "rows": 8, "columns": 12},
        {"width": 4, "hidden": 4, "rows": 4, "columns": 4, "dropout": 0.0, "out_channels": 2},
    )

    position: Tensor
    whole_pictures = True

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        *,
        width: int = 32,
        hidden: int = 32,
        rows: int = 24,
        columns: int = 32,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if min(width, hidden, rows, columns) < 1 or rows % 4 or columns % 4:
            raise ValueError("width and hidden must be at least 1, rows and columns multiples of 4")
        if rows * columns > LARGEST:
            raise ValueError(f"rows x columns must be at most {LARGEST}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError("dropout must be in 0..1, below 1")
        self.in_channels, self.out_channels, self.margin = in_channels, out_channels, None
        self.size = (rows, columns)
        down, across = (torch.linspace(-1.0, 1.0, n) for n in self.size)
        grid = torch.stack(torch.meshgrid(down, across, indexing="ij"))[None]
        self.register_buffer("position", grid, persistent=False)
        low = 2 * width
        self.stem = nn.Conv2d(2 * in_channels + 2, width, 3, padding=1)
        self.down = nn.ModuleList([nn.Conv2d(width, low, 2, 2), nn.Conv2d(low, low, 2, 2)])
        self.encoder = nn.ModuleList([ResidualBlock(width), ResidualBlock(low)])
        self.bottom = nn.Sequential(ResidualBlock(low), ResidualBlock(low))
        self.whole = nn.Sequential(nn.Linear(low, low), nn.GELU(), nn.Linear(low, low))
        self.up = nn.ModuleList([nn.Conv2d(2 * low, low, 1), nn.Conv2d(low + width, width, 1)])
        self.decoder = nn.ModuleList([ResidualBlock(low), ResidualBlock(width)])
        self.norm, self.dropout = ChannelNorm(), nn.Dropout2d(dropout)
        self.context = nn.Conv2d(width, hidden, 1)
        self.pixel_in = nn.Conv2d(in_channels, hidden, 1)
        self.pixel_mix = nn.Conv2d(hidden, hidden, 1)
        self.pixel_out = nn.Conv2d(hidden, out_channels, 1)
        nn.init.constant_(self.pixel_out.bias, 0.5)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H, W] normalised."""
        # Parts of a cell first: texture then counts alike in small and in large pictures.
        parts = functional.adaptive_avg_pool2d(x, (PARTS * self.size[0], PARTS * self.size[1]))
        mean = functional.avg_pool2d(parts, PARTS)
        square = functional.avg_pool2d(parts.square(), PARTS)
        spread = (square - mean.square()).clamp_min(0.0).add(SMALLEST).sqrt()
        where = self.position.to(x.dtype).expand(len(x), -1, -1, -1)
        first = self.stem(torch.cat([2 * mean - 1, 4 * spread - 0.5, where], dim=1))
        first = self.encoder[0](first)
        second = self.encoder[1](self.down[0](first))
        low = self.bottom(self.down[1](second))
        low = self.dropout(low + self.whole(low.mean(dim=(2, 3)))[:, :, None, None])
        second = self.decoder[0](self.up[0](torch.cat([_doubled(low), second], dim=1)))
        first = self.decoder[1](self.up[1](torch.cat([_doubled(second), first], dim=1)))
        context = self.context(self.dropout(self.norm(first)))
        hidden = self.pixel_in(x) + functional.interpolate(
            context, size=x.shape[-2:], mode="bilinear", align_corners=False
        )
        y = functional.gelu(self.pixel_mix(functional.gelu(hidden)))
        # In fp32: bfloat16 outputs have steps of 1/256 of their value, visible in flat areas.
        with torch.autocast(y.device.type, enabled=False):
            out: Tensor = self.pixel_out(y.float())
        return out


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
