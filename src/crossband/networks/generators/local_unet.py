"""LocalUNet: the default generator; its finite receptive field makes tiles equal the whole scene.

A U-Net (Ronneberger et al. 2015) with two levels. The upper level is a per-pixel MLP, the spectral
part. The lower level works at stride 4 (pixel unshuffle, then residual blocks) and provides the
context: fields, edges and texture. Its output, after pixel shuffle, is added to the first hidden
layer of the MLP.

Context can mislead in surroundings that are unlike the training data. So the MLP is also trained
without context, for a fraction of the samples, and the output of the network is a weighted mean of
the outputs with and without context; `anchor` is the weight of the output without context.

A network may be an ensemble of several members, trained at the same time: in training each member
gets its own part of every batch, at inference their outputs are averaged. Averaging members that
were trained on different crops reduces the error at unseen places (bagging, Breiman 1996).

There are no instance or batch statistics, no global pooling and no attention: an output pixel
depends only on the source pixels within `margin`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.networks.base import Generator, pad_to_stride

#: Downsampling step between the two levels.
STRIDE = 4


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each pixel; with channels-last memory the permute is free.

    Without weight and bias: the following convolution has them, and PyTorch would sum their
    gradients over all pixels in bfloat16 on the CPU, where small values are lost.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        last = x.permute(0, 2, 3, 1)
        return functional.layer_norm(last, (int(last.shape[-1]),)).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """x + conv1x1(GELU(conv3x3(norm(x)))), with stochastic depth in training.

    Args:
        channels: input and output channels.
        drop_path: probability of skipping the block for a sample (stochastic depth, Huang et al.
            2016).
    """

    def __init__(self, channels: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm = ChannelNorm()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.drop_path = drop_path
        # Small initial weights, so that the block is close to the identity at first.
        nn.init.normal_(self.mix.weight, std=0.3 * channels**-0.5)
        nn.init.constant_(self.mix.bias, 0.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        y: Tensor = self.mix(functional.gelu(self.conv(self.norm(x))))
        if self.training and self.drop_path > 0:
            kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop_path
            y = y * (kept / (1 - self.drop_path)).to(y.dtype)
        return x + y


class EnsembleMember(nn.Module):
    """One member of the ensemble; sides must be multiples of the stride. See `LocalUNet`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        depth: int,
        hidden: int,
        anchor: float,
        drop_path: float,
        drop_context: float,
    ) -> None:
        super().__init__()
        self.anchor = anchor
        self.stem = nn.Conv2d(in_channels * STRIDE**2, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(width, drop_path) for _ in range(depth)))
        self.norm = ChannelNorm()
        self.dropout = nn.Dropout2d(drop_context)
        self.context = nn.Conv2d(width, hidden * STRIDE**2, 1)
        self.pixel_in = nn.Conv2d(in_channels, hidden, 1)
        self.pixel_mix = nn.Conv2d(hidden, hidden, 1)
        self.pixel_out = nn.Conv2d(hidden, out_channels, 1)
        nn.init.normal_(self.context.weight, std=0.3 * width**-0.5)
        for layer, value in ((self.context, 0.0), (self.pixel_out, 0.5)):  # middle of the range
            nn.init.constant_(layer.bias, value)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H, W] normalised."""
        folded = self.stem(functional.pixel_unshuffle(x, STRIDE))
        context = self.context(self.dropout(self.norm(self.body(folded))))
        colour, context = self.pixel_in(x), functional.pixel_shuffle(context, STRIDE)
        if self.training:
            with_context = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.anchor
            return self._output(colour + context * with_context.to(context.dtype))
        output = self._output(colour + context)
        if self.anchor > 0:
            output = torch.lerp(output, self._output(colour), self.anchor)
        return output

    def _output(self, hidden: Tensor) -> Tensor:
        y = functional.gelu(self.pixel_mix(functional.gelu(hidden)))
        # In fp32: bfloat16 outputs have steps of 1/256 of their value, visible in flat areas.
        with torch.autocast(y.device.type, enabled=False):
            output: Tensor = self.pixel_out(y.float())
        return output


class LocalUNet(Generator):
    """A per-pixel MLP with local context from stride 4; see the module's docstring.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: channels of the lower level.
        depth: residual blocks of the lower level; each adds 4 px to the margin.
        hidden: channels of the per-pixel MLP.
        members: size of the ensemble.
        anchor: weight of the output without context, 0 (only with context) to below 1.
        drop_path: probability of skipping a block for a sample in training.
        drop_context: probability of dropping a channel of the context in training.
    """

    examples = (
        {"width": 8, "depth": 1, "hidden": 6},
        {"depth": 0, "members": 3, "anchor": 0.3, "out_channels": 2},
    )

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        width: int = 128,
        depth: int = 5,
        hidden: int = 64,
        members: int = 1,
        anchor: float = 0.0,
        drop_path: float = 0.0,
        drop_context: float = 0.0,
    ) -> None:
        if min(width, hidden, members) < 1 or depth < 0:
            raise ValueError("width, hidden and members must be at least 1, depth at least 0")
        if not 0.0 <= anchor < 1.0:
            raise ValueError("anchor must be in 0..1, below 1")
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride = STRIDE
        # The stem and each block extend the receptive field by one cell of STRIDE px on every side;
        # within its own cell a pixel sees at most STRIDE - 1 px.
        self.margin = STRIDE * (depth + 1) + STRIDE - 1
        self.members = nn.ModuleList(
            EnsembleMember(
                in_channels,
                out_channels,
                width=width,
                depth=depth,
                hidden=hidden,
                anchor=anchor,
                drop_path=drop_path,
                drop_context=drop_context,
            )
            for _ in range(members)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H, W] normalised; any H, W >= 1.

        In training each member gets its own part of the batch.
        """
        height, width = x.shape[-2:]
        x = pad_to_stride(x, self.stride)
        if self.training:
            shares = x.tensor_split(len(self.members))
            pairs = zip(self.members, shares, strict=True)
            out = torch.cat([member(share) for member, share in pairs if len(share)])
        else:
            out = self.members[0](x)
            for member in list(self.members)[1:]:
                out = out + member(x)
            out = out / len(self.members)
        return out[..., :height, :width]
