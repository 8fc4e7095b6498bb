"""Known checkpoint formats: how public repositories name their convolutions and norms.

The names are taken from the repositories; none of their code is used here. To add a format, write
a function and add a row to `FORMATS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count, takewhile

from torch import Tensor

from crossband.core.tensor_files import NamedTensors
from crossband.model.importing.convert import (
    Conversion,
    ConvLayer,
    ImportOptions,
    norm_of,
    upsample_of,
)

#: Names of the convolutions of a patch discriminator: one chain, no blocks.
_FLAT = re.compile(
    r"^(\w+\.)*(model|layer\d|scale\d_layer\d)\.\d+(\.conv_block\.\d+)?\.weight$|"
    r"^(\w+\.)*scale\d_layer\d\.\d+\.weight$"
)


@dataclass(frozen=True)
class CheckpointFormat:
    """The checkpoints of one public network.

    Attributes:
        code: the repository that writes them.
        title: name of the network there.
        anchor: name of the first convolution's weight.
        kernel: kernel size of that convolution.
        mark: text that the name of some tensor must contain, because two networks share an anchor.
        read: function that returns the conversion.
    """

    code: str
    title: str
    anchor: str
    kernel: int
    read: Callable[[NamedTensors, ImportOptions], Conversion]
    mark: str = ""


def _count_present(tensors: NamedTensors, names: Iterable[str]) -> int:
    """Count names up to the first one without a tensor."""
    return sum(1 for _ in takewhile(lambda name: name in tensors, names))


def sar2optical(tensors: NamedTensors, options: ImportOptions) -> Conversion:
    """UnetGenerator of yuuIind/SAR2Optical: pix2pix as described in the paper.

    `encoder.enc1` to `enc8`, `decoder.dec1` to `dec8`, each a `conv_block` of convolution and batch
    norm; with `use_upsampling` the convolution is the second of a pair; `head.0`.
    """
    levels = _count_present(tensors, (f"encoder.enc{n}.conv_block.0.weight" for n in count(1)))
    transpose = "decoder.dec1.conv_block.0.weight" in tensors
    own = "0" if transpose else "0.1"
    first = ConvLayer("encoder.enc1.conv_block.0", source=True)
    encoder = [(f"encoder.enc{n}.conv_block", "0") for n in range(2, levels + 1)]
    decoder = [(f"decoder.dec{n}.conv_block", own) for n in range(1, levels + 1)]
    blocks = [ConvLayer(f"{block}.{conv}", f"{block}.1") for block, conv in encoder + decoder]
    if options.statistics == "picture":
        raise tensors.error(
            "--statistics picture: its norm at the bottom would measure a single pixel"
        )
    norm, notes = norm_of(tensors, blocks, options)
    if norm != "batch":
        raise tensors.error(f"{blocks[0].norm} is {notes[0]}, but this code has batch norm")
    width, takes = tensors.shape(first.conv + ".weight")[:2]
    arguments = {
        "width": width,
        "levels": levels,
        "norm": norm,
        "upsample": upsample_of(tensors, transpose, options),
    }
    gives = tensors.shape("head.0.weight")[0]
    return Conversion("UNet", takes, gives, arguments, [first, *blocks, ConvLayer("head.0")], notes)


def pix2pix(tensors: NamedTensors, options: ImportOptions) -> Conversion:
    """UnetGenerator of junyanz/pytorch-CycleGAN-and-pix2pix: nested blocks.

    Each block holds the downsampling layers, the next block, and the upsampling layers: the
    outermost `model.model.0`, `.1`, `.3`; those between `model.1` (norm `.2`), `.3`, `.5` (norm
    `.6`); the innermost `model.1` and `model.3` (norm `.4`).
    """
    first, last = ConvLayer("model.model.0", source=True), ConvLayer("model.model.3")
    down, up = [first], [last]
    block = "model.model.1.model"
    while f"{block}.5.weight" in tensors:
        down.append(ConvLayer(f"{block}.1", f"{block}.2"))
        up.append(ConvLayer(f"{block}.5", f"{block}.6"))
        block += ".3.model"
    down.append(ConvLayer(f"{block}.1"))
    up.append(ConvLayer(f"{block}.3", f"{block}.4"))
    layers = [*down, *reversed(up)]
    norm, notes = norm_of(tensors, layers, options)
    width, takes = tensors.shape("model.model.0.weight")[:2]
    arguments = {
        "width": width,
        "levels": len(down),
        "norm": norm,
        "dropout": 0.0,  # not visible in the names; only used in training
        "plan": "code",
    }
    upsample_of(tensors, True, options)
    gives = tensors.shape("model.model.3.weight")[1]
    return Conversion("UNet", takes, gives, arguments, layers, notes)


def resnet(tensors: NamedTensors, options: ImportOptions) -> Conversion:
    """ResnetGenerator of the same code, and GlobalGenerator and LocalEnhancer of NVIDIA/pix2pixHD.

    One chain `model`: 7 x 7 convolution at 1, strided convolutions at 4, 7, ..., residual blocks
    (`conv_block`), transpose convolutions, 7 x 7 convolution. A norm has the number after its
    convolution. An enhancer has two more chains: `model1_1` downsamples; `model1_2` holds the
    blocks, the upsampling and the last convolution.
    """
    body, halvings, blocks, at = _chain(tensors, "conv_block")
    if not blocks:
        raise tensors.error(f"no residual block at model.{1 + 3 * (halvings + 1)}")
    body += [_conv_norm(f"model.{at + 3 * n}", at + 3 * n) for n in range(halvings)]
    end = at + 3 * halvings + 1
    enhancers = _count_present(tensors, (f"model{n}_1.1.weight" for n in count(1)))
    local = 0
    for n in range(1, enhancers + 1):
        body += [_conv_norm(f"model{n}_1.1", 1, source=True), _conv_norm(f"model{n}_1.4", 4)]
        local = _count_present(tensors, (f"model{n}_2.{b}.conv_block.1.weight" for b in count()))
        for b in range(local):
            body += _block(tensors, f"model{n}_2.{b}.conv_block")
        body.append(_conv_norm(f"model{n}_2.{local}", local))
    head = ConvLayer(f"model{enhancers}_2.{local + 4}" if enhancers else f"model.{end}")
    norm, notes = norm_of(tensors, body, options)
    width, takes = tensors.shape("model.1.weight")[:2]
    arguments = {"width": width, "blocks": blocks, "norm": norm}
    upsample_of(tensors, True, options)
    name = "ResNet"
    if enhancers or halvings != 2:
        name = "Pix2PixHD"
        arguments |= {"levels": halvings, "enhancers": enhancers, "local_blocks": local}
    gives = tensors.shape(head.conv + ".weight")[0]
    return Conversion(name, takes, gives, arguments, [*body, head], notes)


def resnet_resize(tensors: NamedTensors, options: ImportOptions) -> Conversion:
    """GeneratorResNet of eriklindernoren/PyTorch-GAN: nearest upsampling before a convolution.

    One chain `model` with residual blocks (`block`). An upsampling takes four numbers; the second
    is its convolution. The reflection padding is as wide as the number of bands, so that the size
    is kept for three bands only.
    """
    body, halvings, blocks, at = _chain(tensors, "block")
    body += [_conv_norm(f"model.{at + 4 * n + 1}", at + 4 * n + 1) for n in range(halvings)]
    head = ConvLayer(f"model.{at + 4 * halvings + 1}")
    norm, notes = norm_of(tensors, body, options)
    width, takes = tensors.shape("model.1.weight")[:2]
    gives = tensors.shape(head.conv + ".weight")[0]
    if takes != 3:
        raise tensors.error(
            f"it takes {takes} bands: its code keeps the size of a picture with three only"
        )
    if options.upsample not in (None, "nearest"):
        raise tensors.error("--upsample: this code repeats pixels; leave it out")
    arguments = {"width": width, "blocks": blocks, "norm": norm, "upsample": "resize"}
    if halvings != 2:
        raise tensors.error(f"it has {halvings} halvings, and this code has 2")
    return Conversion("ResNet", takes, gives, arguments, [*body, head], notes)


def disco_unet(tensors: NamedTensors, options: ImportOptions) -> Conversion:
    """GeneratorUNet of eriklindernoren/PyTorch-GAN (pix2pix, DiscoGAN, DualGAN).

    `down1` to `down8`, `up1` to `up7`, each a `model` that begins with its convolution, and
    `final.2`. Instance norm without tensors; decoder features are concatenated before skips.
    """
    levels = _count_present(tensors, (f"down{n}.model.0.weight" for n in count(1)))
    if options.statistics == "stored":
        raise tensors.error("--statistics stored: its norms are instance norms without any")
    if options.upsample not in (None, "nearest"):
        raise tensors.error("--upsample: this code repeats pixels; leave it out")
    down = [
        ConvLayer(
            f"down{n}.model.0",
            norm=f"down{n}.model.1" if 1 < n < levels else None,
            source=n == 1,
        )
        for n in range(1, levels + 1)
    ]
    up = [ConvLayer(f"up{n}.model.0", f"up{n}.model.1", swapped=n > 1) for n in range(1, levels)]
    width, takes = tensors.shape("down1.model.0.weight")[:2]
    gives = tensors.shape("final.2.weight")[0]
    layers = [*down, *up, ConvLayer("final.2", swapped=True)]
    arguments = {"width": width, "levels": levels}
    return Conversion("DiscoUNet", takes, gives, arguments, layers, ["instance norm"])


def _chain(tensors: NamedTensors, inner: str) -> tuple[list[ConvLayer], int, int, int]:
    """Return a ResNet's layers up to the last block, the halvings, blocks, and next number."""
    firsts = (f"model.{n}.weight" for n in count(4, 3))
    halvings = 0
    for name in firsts:
        # Stop at the first residual block, which has no such tensor, and at a convolution that
        # does not increase the number of channels.
        if name not in tensors or tensors.shape(name)[0] <= tensors.shape(name)[1]:
            break
        halvings += 1
    layers = [_conv_norm("model.1", 1, source=True)]
    layers += [_conv_norm(f"model.{4 + 3 * n}", 4 + 3 * n) for n in range(halvings)]
    start = 4 + 3 * halvings
    blocks = _count_present(tensors, (f"model.{n}.{inner}.1.weight" for n in count(start)))
    for n in range(start, start + blocks):
        layers += _block(tensors, f"model.{n}.{inner}")
    return layers, halvings, blocks, start + blocks


def _block(tensors: NamedTensors, at: str) -> list[ConvLayer]:
    """Return the two convolutions of a residual block; dropout shifts the second one by one."""
    second = 5 if f"{at}.5.weight" in tensors and len(tensors.shape(f"{at}.5.weight")) == 4 else 6
    return [_conv_norm(f"{at}.1", 1), _conv_norm(f"{at}.{second}", second)]


def _conv_norm(conv: str, number: int, *, source: bool = False) -> ConvLayer:
    return ConvLayer(conv, f"{conv.rpartition('.')[0]}.{number + 1}", source=source)


PIX2PIX, GAN = "junyanz/pytorch-CycleGAN-and-pix2pix", "eriklindernoren/PyTorch-GAN"
HD = "NVIDIA/pix2pixHD"
FORMATS = (
    CheckpointFormat(
        *("yuuIind/SAR2Optical", "UnetGenerator", "encoder.enc1.conv_block.0.weight"),
        *(4, sar2optical),
    ),
    CheckpointFormat(PIX2PIX, "UnetGenerator", "model.model.0.weight", 4, pix2pix),
    CheckpointFormat(f"{PIX2PIX} or {HD}", "ResNet", "model.1.weight", 7, resnet, ".conv_block."),
    CheckpointFormat(GAN, "GeneratorResNet", "model.1.weight", 7, resnet_resize, ".block."),
    CheckpointFormat(GAN, "GeneratorUNet", "down1.model.0.weight", 4, disco_unet),
)


def known() -> str:
    """Return the names of the repositories whose checkpoints can be imported."""
    return ", ".join(dict.fromkeys(c for y in FORMATS for c in y.code.split(" or ")))


def is_discriminator(state: Mapping[str, Tensor]) -> bool:
    """Return whether these are the tensors of a patch discriminator: a chain to one channel."""
    weights = {k: v for k, v in state.items() if v.ndim == 4}
    last = list(weights.values())[-1] if weights else None
    return last is not None and last.shape[0] == 1 and all(_FLAT.match(k) for k in weights)
