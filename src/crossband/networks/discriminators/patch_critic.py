"""PatchCritic: PatchGAN with the regularisation techniques of later papers."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from crossband.errors import RecipeError
from crossband.networks.base import Discriminator
from crossband.networks.layers.attention import SelfAttention
from crossband.networks.layers.batch_layers import (
    MinibatchDiscrimination,
    MinibatchStd,
    ReferenceBatch,
    UsesReferenceBatch,
    VirtualBatchNorm2d,
)
from crossband.networks.layers.convolution import Initial, initialise


class PatchCritic(Discriminator, UsesReferenceBatch):
    """Convolutions 4 x 4 with leaky ReLU 0.2: `strided` of stride 2, then `plain` of stride 1.

    With 3 and 1 this is PatchGAN (Isola et al. 2017). The recipe of DiscoGAN has 3 and 0, that of
    DualGAN 4 and 1. All convolutions have a bias; there is no norm after the first.

    Args:
        source_channels: source bands.
        target_channels: target bands.
        width: channels of the first layer; each next one has twice as many, up to 8 x width.
        strided: layers of stride 2.
        plain: layers of stride 1 after them, before the output layer.
        conditional: whether it sees the target together with its source.
        norm: `instance` (no weights), `affine` (instance norm with weights), `batch`, `virtual`
            (virtual batch norm; Salimans et al. 2016), or `none`.
        spectral: spectral norm: divide each weight by its largest singular value (Miyato et al.
            2018, Spectral normalization for GANs).
        attention: self-attention after this layer, counted from 1 (Zhang et al. 2019); 0 has none.
        minibatch: batch statistics before the last layer: `discrimination` (Salimans et al. 2016),
            `std` (Karras et al. 2018), or `none`.
        initial: initialisation of the weights; see `initialise`.
    """

    examples = (
        {"width": 6, "strided": 2},
        {"strided": 3, "norm": "virtual", "minibatch": "discrimination", "attention": 2},
        {"strided": 3, "norm": "affine", "minibatch": "std", "spectral": True},
        {"norm": "batch", "plain": 0, "conditional": False},
    )

    def __init__(
        self,
        source_channels: int = 3,
        target_channels: int = 1,
        *,
        width: int = 64,
        strided: int = 3,
        plain: int = 1,
        conditional: bool = True,
        norm: Literal["instance", "affine", "batch", "virtual", "none"] = "instance",
        spectral: bool = False,
        attention: int = 0,
        minibatch: Literal["none", "std", "discrimination"] = "none",
        initial: Initial = "dcgan",
    ) -> None:
        super().__init__()
        if min(strided, width) < 1 or plain < 0 or not 0 <= attention <= strided + plain:
            raise RecipeError(
                "PatchCritic needs strided and width of at least 1, plain of at least 0, and "
                "attention of 0 to strided + plain"
            )
        self.conditional = conditional
        self.smallest = (plain + 2) * 2**strided
        before = target_channels + (source_channels if conditional else 0)
        layers: list[nn.Module] = []
        for n in range(strided + plain):
            after = width * min(2**n, 8)
            layers.append(nn.Conv2d(before, after, 4, 2 if n < strided else 1, 1))
            if n:
                layers += _norm(norm, after)
            layers.append(nn.LeakyReLU(0.2, True))
            if n + 1 == attention:
                layers.append(SelfAttention(after))
            before = after
        self.layers = nn.ModuleList(layers)
        last: list[nn.Module] = []
        if minibatch == "discrimination":
            last.append(MinibatchDiscrimination(before, kernels=16))
            before += 16
        elif minibatch == "std":
            last.append(MinibatchStd())
            before += 1
        self.last = nn.Sequential(*last, nn.Conv2d(before, 1, 4, 1, 1))
        self.reference = ReferenceBatch() if norm == "virtual" else None
        initialise(self, initial)
        if spectral:
            for module in [m for m in self.modules() if isinstance(m, nn.Conv2d)]:
                spectral_norm(module)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """[B, Cs, H, W], [B, Ct, H, W] -> scores [B, 1, h, w]; see `stacked_input`."""
        return self.features(source, target)[0][-1]

    def features(self, source: Tensor, target: Tensor) -> list[list[Tensor]]:
        """Return the features after each leaky ReLU, and the scores."""
        x = kept = self.stacked_input(source, target)
        virtual = self.reference is not None
        # Without a reference batch, the batch itself is the reference.
        if self.reference is not None and self.reference.kept is not None:
            kept = self.reference.kept.to(x)
        features = []
        for layer in self.layers:
            if isinstance(layer, VirtualBatchNorm2d):
                x, kept = layer(x, kept)
            else:
                x, kept = layer(x), layer(kept) if virtual else kept
            if isinstance(layer, nn.LeakyReLU):
                features.append(x)
        return [[*features, self.last(x)]]

    def set_reference_batch(self, source: Tensor, target: Tensor) -> None:
        """Store a batch of real pairs as the reference of virtual batch norm."""
        if self.reference is not None:
            self.reference.set(self.stacked_input(source, target))


def _norm(kind: str, channels: int) -> list[nn.Module]:
    match kind:
        case "instance" | "affine":
            return [nn.InstanceNorm2d(channels, affine=kind == "affine")]
        case "batch":
            return [nn.BatchNorm2d(channels)]
        case "virtual":
            return [VirtualBatchNorm2d(channels)]
        case _:
            return []
