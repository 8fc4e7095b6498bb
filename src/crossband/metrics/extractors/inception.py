"""The Inception-v3 of FID, and its weights from a file of plain tensors.

The network is from Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer
Vision", as TensorFlow published it on 2015-12-05 with weights and 1008 classes; FID, KID and the
Inception Score are defined by it. It differs from torchvision's `inception_v3` in this: average
pooling leaves out the padding, the last block (Mixed_7c) uses max pooling instead of average
pooling, there is no auxiliary head, and there are 1008 classes. Layers have the names under which
the weights were published for PyTorch. Convolutions with stride 2 have no padding. Convolutions
with stride 1 inside a block keep the size.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.core.tensor_files import state_dicts, with_prefix
from crossband.errors import ModelError
from crossband.metrics.extractors.base import ANTIALIASED, Extractor, Features, full_precision

SIZE, WIDTH, CLASSES = 299, 2048, 1008
#: SHA-256 of the published file of weights, and its names in torch.hub's folder, as other tools
#: store it there. The last 8 digits of a name are the first 8 of the hash.
PUBLISHED = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
FILES = ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth")

#: One convolution: name, output channels, kernel, and the stride if it is not 1.
Row = tuple[Any, ...]
#: A branch is a chain of steps. A step of two rows is two parallel convolutions.
Branch = tuple[tuple[Row, ...], ...]
Pool = Literal["mean", "max", "halve"]


class Convolution(nn.Module):
    """Convolution without bias, batch norm (eps 0.001), ReLU: [N, C, H, W] -> [N, K, H', W']."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        *,
        same: bool = True,
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2, sides[1] // 2) if same and stride == 1 else (0, 0)
        self.conv = nn.Conv2d(channels, out, sides, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Apply convolution, batch norm and ReLU."""
        return functional.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    """Parallel branches and a pooling branch, concatenated along the channels.

    Args:
        channels: input channels.
        branches: see `Branch`.
        pool: `mean` (3 x 3, without the padding) or `max` (3 x 3), both followed by a convolution
            1 x 1 to `pooled` channels; or `halve` (maximum over 3 x 3, stride 2, no convolution).
        pooled: output channels of the pooling branch.
    """

    def __init__(
        self, channels: int, branches: tuple[Branch, ...], pool: Pool, pooled: int = 0
    ) -> None:
        super().__init__()
        self.pool = pool
        self.steps = [[[row[0] for row in step] for step in branch] for branch in branches]
        self.width = channels if pool == "halve" else pooled
        for branch in branches:
            width = channels
            for step in branch:
                for name, *row in step:
                    self.add_module(name, Convolution(width, *row))
                width = sum(row[1] for row in step)
            self.width += width
        if pool != "halve":
            self.branch_pool = Convolution(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, width, H, W]; half of the size for `halve`."""
        out = []
        for branch in self.steps:
            y = x
            for step in branch:
                y = torch.cat([self.get_submodule(name)(y) for name in step], dim=1)
            out.append(y)
        if self.pool == "halve":
            out.append(functional.max_pool2d(x, 3, 2))
        elif self.pool == "max":
            out.append(self.branch_pool(functional.max_pool2d(x, 3, 1, 1)))
        else:
            mean = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            out.append(self.branch_pool(mean))
        return torch.cat(out, dim=1)


def _chain(*rows: Row) -> Branch:
    return tuple((row,) for row in rows)


def _block_35(channels: int, pooled: int) -> Block:
    """Mixed_5b to 5d, 35 x 35."""
    branches = (
        _chain(("branch1x1", 64, 1)),
        _chain(("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
        _chain(("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
    )
    return Block(channels, branches, "mean", pooled)


def _to_17(channels: int) -> Block:
    """Mixed_6a, 35 x 35 to 17 x 17."""
    branches = (
        _chain(("branch3x3", 384, 3, 2)),
        _chain(("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, 2)),
    )
    return Block(channels, branches, "halve")


def _block_17(channels: int, inner: int) -> Block:
    """Mixed_6b to 6e, 17 x 17: 7 x 7 as 1 x 7 and 7 x 1."""
    along, down = (1, 7), (7, 1)
    branches = (
        _chain(("branch1x1", 192, 1)),
        _chain(
            ("branch7x7_1", inner, 1), ("branch7x7_2", inner, along), ("branch7x7_3", 192, down)
        ),
        _chain(
            ("branch7x7dbl_1", inner, 1),
            ("branch7x7dbl_2", inner, down),
            ("branch7x7dbl_3", inner, along),
            ("branch7x7dbl_4", inner, down),
            ("branch7x7dbl_5", 192, along),
        ),
    )
    return Block(channels, branches, "mean", 192)


def _to_8(channels: int) -> Block:
    """Mixed_7a, 17 x 17 to 8 x 8."""
    branches = (
        _chain(("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)),
        _chain(
            ("branch7x7x3_1", 192, 1),
            ("branch7x7x3_2", 192, (1, 7)),
            ("branch7x7x3_3", 192, (7, 1)),
            ("branch7x7x3_4", 192, 3, 2),
        ),
    )
    return Block(channels, branches, "halve")


def _block_8(channels: int, pool: Pool) -> Block:
    """Mixed_7b and 7c, 8 x 8: 3 x 3 as 1 x 3 beside 3 x 1."""
    along, down = (1, 3), (3, 1)
    branches: tuple[Branch, ...] = (
        _chain(("branch1x1", 320, 1)),
        (
            (("branch3x3_1", 384, 1),),
            (("branch3x3_2a", 384, along), ("branch3x3_2b", 384, down)),
        ),
        (
            (("branch3x3dbl_1", 448, 1),),
            (("branch3x3dbl_2", 384, 3),),
            (("branch3x3dbl_3a", 384, along), ("branch3x3dbl_3b", 384, down)),
        ),
    )
    return Block(channels, branches, pool, 192)


class InceptionV3(nn.Module):
    """The network: [N, 3, 299, 299] of -1..1 -> features [N, 2048]; `fc` -> logits [N, 1008]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = OrderedDict[str, nn.Module](
            Conv2d_1a_3x3=Convolution(3, 32, 3, 2),
            Conv2d_2a_3x3=Convolution(32, 32, 3, same=False),
            Conv2d_2b_3x3=Convolution(32, 64, 3),
            MaxPool_3a_3x3=nn.MaxPool2d(3, 2),
            Conv2d_3b_1x1=Convolution(64, 80, 1),
            Conv2d_4a_3x3=Convolution(80, 192, 3, same=False),
            MaxPool_5a_3x3=nn.MaxPool2d(3, 2),
            Mixed_5b=_block_35(192, 32),
            Mixed_5c=_block_35(256, 64),
            Mixed_5d=_block_35(288, 64),
            Mixed_6a=_to_17(288),
            Mixed_6b=_block_17(768, 128),
            Mixed_6c=_block_17(768, 160),
            Mixed_6d=_block_17(768, 160),
            Mixed_6e=_block_17(768, 192),
            Mixed_7a=_to_8(768),
            Mixed_7b=_block_8(1280, "mean"),
            Mixed_7c=_block_8(2048, "max"),
        )
        for name, module in self.body.items():
            self.add_module(name, module)
        self.fc = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features: the mean of the last block over its 8 x 8 positions."""
        for module in self.body.values():
            x = module(x)
        return x.mean(dim=(2, 3))


class Inception(Extractor):
    """FID's Inception-v3 with given weights, in float32.

    The probabilities for the Inception Score are the softmax of the logits without the bias of the
    last layer, as in the authors' code.

    Args:
        network: the network with its weights.
        weights_hash: SHA-256 of the file of the weights.
        device: device to compute on.
    """

    name, size = "inception", SIZE
    resize = f"{ANTIALIASED}, to {SIZE} x {SIZE}"

    def __init__(self, network: InceptionV3, weights_hash: str, device: torch.device) -> None:
        self.network = network.eval().requires_grad_(False).to(device)
        self.weights_hash, self.device = weights_hash, device
        # On the CPU, because not every device has float64; the matrix is small.
        self._classes = network.fc.weight.double().cpu().T

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Features:
        """Return features [N, 2048] and probabilities [N, 1008] of pictures [N, 3, 299, 299]."""
        x = (pictures.to(self.device, torch.float32) - 128.0) / 128.0
        with full_precision():
            values = self.network(x).cpu()
        return Features(values, (values.double() @ self._classes).softmax(dim=1).float())

    def about(self) -> dict[str, Any]:
        """Return its description, and whether its weights are the published ones."""
        return {**super().about(), "published_weights": self.weights_hash == PUBLISHED}


def load(path: Path, device: torch.device) -> Inception:
    """Load the network's weights.

    Args:
        path: `.safetensors`, or a state dict written by `torch.save`, opened with `weights_only`.
            The tensors have the names of the published file.
        device: device to compute on.

    Raises:
        ModelError: no such file, objects other than tensors, or a tensor that is missing,
            unexpected, of another shape, or not finite.
    """
    with torch.device("meta"):  # shapes only; the values come from the file
        network = InceptionV3()
    expected = network.state_dict()
    first = next(iter(expected))
    states = [(at, state) for at, state in state_dicts(path) if first in state]
    if not states:
        raise ModelError(f"{path}: no tensor {first}, so these are no weights of FID's Inception")
    tensors = with_prefix(path, *states[0], "")
    loaded = {}
    for name, like in expected.items():
        if name.endswith("num_batches_tracked"):  # number of training steps; older files lack it
            tensors.drop(name)
            loaded[name] = torch.tensor(0)
            continue
        if tensors.shape(name) != tuple(like.shape):
            raise tensors.error(
                f"{name} is {list(tensors.shape(name))}, and FID's Inception has {list(like.shape)}"
            )
        loaded[name] = tensors.take(name).contiguous()
    for name in tensors.unused():
        raise tensors.error(f"FID's Inception has no tensor {name}")
    network.load_state_dict(loaded, assign=True)
    with path.open("rb") as file:
        return Inception(network, hashlib.file_digest(file, "sha256").hexdigest(), device)


def load_published(device: torch.device) -> Inception:
    """Load the published weights from torch.hub's folder, where other tools store them.

    Nothing is downloaded.

    Raises:
        ModelError: the file is missing, or its weights are not the published ones.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        raise ModelError(
            f"inception: no weights: put {FILES[0]} (published with pytorch-fid) into {folder}, or "
            f"give a file of them instead of the name"
        )
    extractor = load(path, device)
    if extractor.weights_hash != PUBLISHED:
        raise ModelError(
            f"{path}: not the published weights (SHA-256 {extractor.weights_hash[:12]}..., "
            f"expected {PUBLISHED[:12]}...); give its path to use it all the same"
        )
    return extractor
