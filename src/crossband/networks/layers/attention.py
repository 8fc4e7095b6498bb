"""Self-attention over an image. Zhang et al. 2019, Self-attention GANs (SAGAN), section 3."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SelfAttention(nn.Module):
    """x + gamma v(sum over pixels i of softmax_i(f(x_i) . g(x_j)) h(x_i)), at each pixel j.

    f, g, h and v are 1 x 1 convolutions without bias, with an eighth of the channels in between;
    gamma is initialised to 0. Every pixel depends on the whole image, so the margin is None.

    Args:
        channels: in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 8, 1)
        self.key = nn.Conv2d(channels, inner, 1, bias=False)  # f
        self.query = nn.Conv2d(channels, inner, 1, bias=False)  # g
        self.value = nn.Conv2d(channels, inner, 1, bias=False)  # h
        self.out = nn.Conv2d(inner, channels, 1, bias=False)  # v
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same."""
        q, k, v = (
            layer(x).flatten(2).transpose(1, 2)[:, None]  # [B, 1, H W, C / 8]
            for layer in (self.query, self.key, self.value)
        )
        # Softmax over the keys, without the 1 / sqrt(channels) of transformers. The fast kernels
        # store nothing of size (H W)^2; `gradient_penalty` needs the plain kernel, which does.
        seen = functional.scaled_dot_product_attention(q, k, v, scale=1.0)[:, 0]
        mixed: Tensor = self.out(seen.transpose(1, 2).reshape(len(x), -1, *x.shape[-2:]))
        return x + self.gamma * mixed
