"""LocatedResNet: a ResNet with a location embedding (NIR-GAN with SatCLIP).

Donike et al. 2025, Near-infrared band synthesis from Earth observation imagery with learned
location embeddings and task-driven loss functions. Locations are encoded once, at the nodes of a
lattice over the scene, and injected after the two downsampling layers or beside the source.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from crossband.errors import CrossbandError
from crossband.networks.conditions import Conditions, Lattice
from crossband.networks.generators.resnet import STRIDE, ResNet
from crossband.networks.layers.convolution import (
    Activation,
    Norm,
    ReflectionPad,
    Upsample,
    initialise,
)
from crossband.networks.layers.location import LocationEncoder, read_satclip, sizes_of

InjectionKind = Literal["multiply", "add", "concat", "channel"]
#: Side of the map that is made of an embedding.
SIDE = 128
#: Initial value of the learned factor of the map.
SCALE = 0.01


class Injection(nn.Module):
    """Injects location embeddings into features: [B, C, h, w] -> [B, C, h, w].

    Args:
        kind: see `LocatedResNet`.
        embedding: length of the embedding.
        channels: C, channels of the features.
        crop: extent of the map in source pixels.
        coarser: source pixels per pixel of the features along one side.

    Attributes:
        place: values to inject at the nodes of a lattice, and the lattice; see `set_location`. None
            injects nothing.
    """

    def __init__(
        self, kind: InjectionKind, embedding: int, channels: int, crop: int, coarser: int
    ) -> None:
        super().__init__()
        self.kind, self.crop, self.coarser = kind, crop, coarser
        self.place: tuple[Tensor, Lattice] | None = None
        self.linear = nn.Linear(embedding, 2 * channels if kind == "channel" else SIDE**2)
        nn.init.zeros_(self.linear.bias)
        if kind == "channel":
            nn.init.zeros_(self.linear.weight)
        else:
            nn.init.normal_(self.linear.weight, 0.0, 0.02)  # as in pix2pix
        if kind in ("multiply", "add"):
            self.scale = nn.Parameter(torch.tensor(SCALE))
        if kind == "concat":
            # The first convolution's weights for one more band; its output is added to the others.
            self.read = nn.Sequential(ReflectionPad(3), nn.Conv2d(1, channels, 7, bias=False))
            initialise(self.read)

    def set_location(self, lattice: Lattice, encoder: LocationEncoder) -> None:
        """Encode the locations of the next forward pass, each once.

        Unknown locations inject 0. A lattice with the same location everywhere is encoded at one
        node.
        """
        lonlat = lattice.lonlat
        batch, _, rows, cols = lonlat.shape
        if lattice.step == float("inf"):
            lonlat = lonlat[..., :1, :1]
        flat = lonlat.permute(0, 2, 3, 1).reshape(-1, 2)
        embedding = encoder(flat)
        with torch.autocast(flat.device.type, enabled=False):
            nodes = self.linear(embedding) * flat.isfinite().all(dim=1, keepdim=True)
        nodes = nodes.view(batch, *lonlat.shape[-2:], -1).permute(0, 3, 1, 2)
        self.place = nodes.expand(-1, -1, rows, cols), lattice

    def forward(self, x: Tensor) -> Tensor:
        """Inject the encoded locations."""
        if self.place is None:
            return x
        nodes, lattice = self.place
        if self.kind == "channel":
            both = lattice.interpolate(nodes, x.shape[-2], x.shape[-1], self.coarser)
            scale, shift = both.to(x.dtype).chunk(2, dim=1)
            return x * (1.0 + scale) + shift
        values = self._map(x, nodes, lattice)
        if self.kind == "concat":
            joined: Tensor = x + self.read(values)
            return joined
        values = (self.scale * values).to(x.dtype)
        return x * (1.0 + values) if self.kind == "multiply" else x + values

    def _map(self, x: Tensor, nodes: Tensor, lattice: Lattice) -> Tensor:
        """Return the stretched map over a window, float32 [B, 1, h, w].

        Each pixel is interpolated between the maps of the four nodes around it. The map of a node
        is stretched only over the pixels where its weight is not 0.

        Raises:
            CrossbandError: the position of the window in the scene is unknown.
        """
        corner = lattice.corner
        if corner is None and lattice.step % (2 * self.crop) == 0:
            corner = lattice.origin  # the map repeats from node to node
        if corner is None:
            raise CrossbandError(
                f"injection {self.kind} needs to know where in the scene a window lies: its "
                "lattice has no corner"
            )
        height, width = x.shape[-2:]
        out = torch.zeros(len(x), 1, height, width, device=x.device)
        down = stretch_weights(corner[0], height, self.coarser, self.crop)
        across = stretch_weights(corner[1], width, self.coarser, self.crop)
        rows, cols = lattice.node_weights(height, width, self.coarser)
        with torch.autocast(x.device.type, enabled=False):
            for i, (high, row) in enumerate(map(_reach, rows.T)):
                for j, (wide, col) in enumerate(map(_reach, cols.T)):
                    if not (len(row) and len(col)):
                        continue
                    left = (row[:, None] * down[high]).to(out)
                    right = (col[:, None] * across[wide]).to(out)
                    part = left @ nodes[..., i, j].reshape(-1, SIDE, SIDE) @ right.T
                    out[:, 0, high, wide] += part
        return out


class LocatedResNet(ResNet):
    """`ResNet` with a location prior; see the module.

    `multiply`: x (1 + s e), `add`: x + s e, with a learned number s, initially 0.01, and a map e
    that a linear layer computes from the embedding: 128 x 128 values, stretched bilinearly over a
    training crop and the same for all channels, as in the original. `concat`: the map is one more
    band of the source. In a scene the map keeps the extent of the training crop, `crop` pixels, and
    is continued by reflection from the scene's origin, each time with the embedding of the place.
    So it has no edges and tiles agree, but it repeats over the scene.

    `channel`: x (1 + scale) + shift for each channel, from a linear layer of the embedding that is
    initialised to 0 (Perez et al. 2018, FiLM). It is smooth over the scene and does not repeat.

    An unknown location (NaN) injects nothing; samples without a location train this case. With
    instance norm every pixel depends on the whole image; otherwise the margin is that of `ResNet`.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: channels at full resolution.
        blocks: residual blocks.
        norm: `instance`, `affine` (instance with weights), `batch` or `none`.
        upsample: `transpose`, or `resize`, `bilinear`, `bicubic`; see `upsample_layers`.
        activation: `tanh` (moved to 0..1), `sigmoid`, or `none`.
        border: reflection padding around the image; see `ResNet`.
        injection: `multiply`, `add`, `concat` or `channel`.
        crop: extent of the map in source pixels: that of the training crops, `data.crop`.
        checkpoint: a SatCLIP checkpoint with the location encoder; read when training starts, not
            needed by the finished model. None trains an encoder from scratch.
        frozen: do not train the encoder; if None, it is frozen if it comes from a checkpoint.
        encoder: arguments of an encoder without checkpoint: `degrees`, `channels`, `hidden`,
            `depth` and `dropout`; see `LocationEncoder`.
    """

    examples = (
        {"width": 8, "blocks": 2, "encoder": {"degrees": 4, "hidden": 16}},
        {"width": 4, "blocks": 1, "norm": "none"},
        {"width": 4, "blocks": 1, "norm": "batch", "injection": "add"},
        {"width": 4, "blocks": 0, "norm": "none", "injection": "concat"},
        {"width": 4, "blocks": 1, "norm": "none", "border": 6},
    )

    located = True
    files = ("checkpoint",)

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        width: int = 64,
        blocks: int = 9,
        norm: Norm = "instance",
        upsample: Upsample = "transpose",
        activation: Activation = "tanh",
        border: int = 0,
        injection: InjectionKind = "channel",
        crop: int = 256,
        checkpoint: str | None = None,
        frozen: bool | None = None,
        encoder: dict[str, Any] | None = None,
    ) -> None:
        if injection not in get_args(InjectionKind):
            raise ValueError(f"injection must be one of {', '.join(get_args(InjectionKind))}")
        if crop < 1:
            raise ValueError("crop must be at least 1")
        if checkpoint is not None and encoder:
            raise ValueError("the checkpoint says what its encoder is: leave out encoder")
        bands = in_channels, out_channels
        super().__init__(*bands, width, blocks, norm, upsample, activation, border)
        frozen = checkpoint is not None if frozen is None else frozen
        tensors = None if checkpoint is None else read_satclip(checkpoint)
        sizes = dict(encoder or {}) if tensors is None else sizes_of(tensors)
        self.location = LocationEncoder(**sizes, frozen=frozen)
        if tensors is not None:
            self.location.load_checkpoint(tensors)
        # The model folder contains the encoder's weights, so it must not need the file again.
        self.arguments.update(checkpoint=None, frozen=frozen, encoder=sizes)
        if injection == "concat":  # after the first convolution
            self.at, channels, coarser = 2, width, 1
        else:  # after the two halvings: three convolutions so far, each with its norm and ReLU
            self.at, channels, coarser = 1 + 3 * (2 if norm == "none" else 3), 4 * width, STRIDE
        layer = Injection(injection, self.location.channels, channels, crop, coarser)
        self.body.insert(self.at, layer)

    def forward_conditioned(self, x: Tensor, conditions: Conditions) -> Tensor:
        """Translate at a known place; `forward` translates at an unknown one."""
        layer = self.body[self.at]
        assert isinstance(layer, Injection)
        try:
            if conditions.lattice is not None:
                layer.set_location(_wider(conditions.lattice, self.border), self.location)
            out: Tensor = self(x)
        finally:
            layer.place = None
        return out


def _wider(lattice: Lattice, border: int) -> Lattice:
    """Return the lattice of the window that is `border` pixels larger on each side."""
    (row, col), corner = lattice.origin, lattice.corner
    if corner is not None:
        corner = corner[0] - border, corner[1] - border
    return dataclasses.replace(lattice, origin=(row - border, col - border), corner=corner)


def _reach(share: Tensor) -> tuple[slice, Tensor]:
    """Return the pixels where a node's weight is not 0, and these weights."""
    where = share.nonzero().flatten().tolist()
    pixels = slice(where[0], where[-1] + 1) if where else slice(0, 0)
    return pixels, share[pixels]


def stretch_weights(corner: float, count: int, coarser: int, crop: int) -> Tensor:
    """Return weights that stretch a map bilinearly over `crop` pixels, reflected: [count, SIDE].

    Within the first `crop` pixels this equals `interpolate` with align_corners False.

    Args:
        corner: position of the first pixel in the scene.
        count: pixels of the result.
        coarser: source pixels per pixel of the result.
        crop: extent of the map in source pixels.
    """
    centres = corner + (np.arange(count) + 0.5) * coarser
    folded = np.mod(centres, 2.0 * crop)
    folded = np.where(folded > crop, 2.0 * crop - folded, folded)
    at = np.clip(folded / crop * SIDE - 0.5, 0.0, SIDE - 1.0)
    first = np.minimum(at.astype(int), SIDE - 2)
    out = np.zeros((count, SIDE))
    out[np.arange(count), first] = 1.0 - (at - first)
    out[np.arange(count), first + 1] = at - first
    return torch.from_numpy(out)
