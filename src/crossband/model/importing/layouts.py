"""The public codes whose checkpoints are known: how they name their convolutions and norms.

Read from the public repositories; none of their code is here. A new one is a function and a row of
`LAYOUTS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count, takewhile

from torch import Tensor

from crossband.core.tensor_files import Tensors
from crossband.model.importing.plans import Plan, Site, Wishes, norm_of, upsample_of

#: Names of the convolutions of a discriminator of patches: one after another, and no block.
_FLAT = re.compile(
    r"^(\w+\.)*(model|layer\d|scale\d_layer\d)\.\d+(\.conv_block\.\d+)?\.weight$|"
    r"^(\w+\.)*scale\d_layer\d\.\d+\.weight$"
)


@dataclass(frozen=True)
class Layout:
    """One kind of checkpoint.

    Attributes:
        code: the repository that writes it.
        title: what its network is called there.
        anchor: name of its first convolution's weight.
        kernel: side of that convolution.
        mark: part of a name that some tensor must have; two codes may share an anchor.
        read: finds the plan.
    """

    code: str
    title: str
    anchor: str
    kernel: int
    read: Callable[[Tensors, Wishes], Plan]
    mark: str = ""


def _how_many(tensors: Tensors, names: Iterable[str]) -> int:
    """Count names from the first on, as long as there are such tensors."""
    return sum(1 for _ in takewhile(lambda name: name in tensors, names))


def sar2optical(tensors: Tensors, wishes: Wishes) -> Plan:
    """UnetGenerator of yuuIind/SAR2Optical: pix2pix as the paper's text has it.

    `encoder.enc1` to `enc8`, `decoder.dec1` to `dec8`, each a `conv_block` of convolution and batch
    norm; with `use_upsampling` the convolution is the second of a pair; `head.0`.
    """
    levels = _how_many(tensors, (f"encoder.enc{n}.conv_block.0.weight" for n in count(1)))
    transpose = "decoder.dec1.conv_block.0.weight" in tensors
    own = "0" if transpose else "0.1"
    first = Site("encoder.enc1.conv_block.0", source=True)
    encoder = [(f"encoder.enc{n}.conv_block", "0") for n in range(2, levels + 1)]
    decoder = [(f"decoder.dec{n}.conv_block", own) for n in range(1, levels + 1)]
    blocks = [Site(f"{block}.{conv}", f"{block}.1") for block, conv in encoder + decoder]
    if wishes.statistics == "picture":
        raise tensors.error(
            "--statistics picture: its norm at the bottom would measure a single pixel"
        )
    norm, notes = norm_of(tensors, blocks, wishes)
    if norm != "batch":
        raise tensors.error(f"{blocks[0].norm} is {notes[0]}, but this code has batch norm")
    width, takes = tensors.shape(first.conv + ".weight")[:2]
    arguments = {
        "width": width,
        "levels": levels,
        "norm": norm,
        "upsample": upsample_of(tensors, transpose, wishes),
    }
    gives = tensors.shape("head.0.weight")[0]
    return Plan("UNet", takes, gives, arguments, [first, *blocks, Site("head.0")], notes)


def pix2pix(tensors: Tensors, wishes: Wishes) -> Plan:
    """UnetGenerator of junyanz/pytorch-CycleGAN-and-pix2pix: blocks inside blocks.

    Each holds, in order, what goes down, the next block, what goes up: outermost `model.model.0`,
    `.1`, `.3`; between, `model.1` (norm `.2`), `.3`, `.5` (norm `.6`); innermost `model.1` and
    `model.3` (norm `.4`).
    """
    first, last = Site("model.model.0", source=True), Site("model.model.3")
    down, up = [first], [last]
    block = "model.model.1.model"
    while f"{block}.5.weight" in tensors:
        down.append(Site(f"{block}.1", f"{block}.2"))
        up.append(Site(f"{block}.5", f"{block}.6"))
        block += ".3.model"
    down.append(Site(f"{block}.1"))
    up.append(Site(f"{block}.3", f"{block}.4"))
    sites = [*down, *reversed(up)]
    norm, notes = norm_of(tensors, sites, wishes)
    width, takes = tensors.shape("model.model.0.weight")[:2]
    arguments = {
        "width": width,
        "levels": len(down),
        "norm": norm,
        "dropout": 0.0,  # names do not say whether it had some; it is for training
        "plan": "code",
    }
    upsample_of(tensors, True, wishes)
    gives = tensors.shape("model.model.3.weight")[1]
    return Plan("UNet", takes, gives, arguments, sites, notes)


def resnet(tensors: Tensors, wishes: Wishes) -> Plan:
    """ResnetGenerator of the same code, and GlobalGenerator and LocalEnhancer of NVIDIA/pix2pixHD.

    One chain `model`: convolution 7 x 7 at 1, halvings at 4, 7, ..., blocks (`conv_block`),
    doublings, convolution 7 x 7. A norm has the number after its convolution. An enhancer has two
    more chains, `model1_1` down and `model1_2` with its blocks, doubling and the last convolution.
    """
    body, halvings, blocks, at = _chain(tensors, "conv_block")
    if not blocks:
        raise tensors.error(f"no residual block at model.{1 + 3 * (halvings + 1)}")
    body += [_pair(f"model.{at + 3 * n}", at + 3 * n) for n in range(halvings)]
    end = at + 3 * halvings + 1
    enhancers = _how_many(tensors, (f"model{n}_1.1.weight" for n in count(1)))
    local = 0
    for n in range(1, enhancers + 1):
        body += [_pair(f"model{n}_1.1", 1, source=True), _pair(f"model{n}_1.4", 4)]
        local = _how_many(tensors, (f"model{n}_2.{b}.conv_block.1.weight" for b in count()))
        for b in range(local):
            body += _block(tensors, f"model{n}_2.{b}.conv_block")
        body.append(_pair(f"model{n}_2.{local}", local))
    head = Site(f"model{enhancers}_2.{local + 4}" if enhancers else f"model.{end}")
    norm, notes = norm_of(tensors, body, wishes)
    width, takes = tensors.shape("model.1.weight")[:2]
    arguments = {"width": width, "blocks": blocks, "norm": norm}
    upsample_of(tensors, True, wishes)
    name = "ResNet"
    if enhancers or halvings != 2:
        name = "Pix2PixHD"
        arguments |= {"levels": halvings, "enhancers": enhancers, "local_blocks": local}
    gives = tensors.shape(head.conv + ".weight")[0]
    return Plan(name, takes, gives, arguments, [*body, head], notes)


def resnet_resize(tensors: Tensors, wishes: Wishes) -> Plan:
    """GeneratorResNet of eriklindernoren/PyTorch-GAN: pixels repeated before a convolution.

    One chain `model`, blocks (`block`); a doubling has four numbers, the second its convolution. It
    reflects as many pixels as there are bands, which keeps the size for three only.
    """
    body, halvings, blocks, at = _chain(tensors, "block")
    body += [_pair(f"model.{at + 4 * n + 1}", at + 4 * n + 1) for n in range(halvings)]
    head = Site(f"model.{at + 4 * halvings + 1}")
    norm, notes = norm_of(tensors, body, wishes)
    width, takes = tensors.shape("model.1.weight")[:2]
    gives = tensors.shape(head.conv + ".weight")[0]
    if takes != 3:
        raise tensors.error(
            f"it takes {takes} bands: its code keeps the size of a picture with three only"
        )
    if wishes.upsample not in (None, "nearest"):
        raise tensors.error("--upsample: this code repeats pixels; leave it out")
    arguments = {"width": width, "blocks": blocks, "norm": norm, "upsample": "resize"}
    if halvings != 2:
        raise tensors.error(f"it has {halvings} halvings, and this code has 2")
    return Plan("ResNet", takes, gives, arguments, [*body, head], notes)


def disco_unet(tensors: Tensors, wishes: Wishes) -> Plan:
    """GeneratorUNet of eriklindernoren/PyTorch-GAN (pix2pix, DiscoGAN, DualGAN).

    `down1` to `down8`, `up1` to `up7`, each a `model` that begins with its convolution, and
    `final.2`. Instance norm, which has no tensors; maps from below come before skips.
    """
    levels = _how_many(tensors, (f"down{n}.model.0.weight" for n in count(1)))
    if wishes.statistics == "stored":
        raise tensors.error("--statistics stored: its norms are instance norms without any")
    if wishes.upsample not in (None, "nearest"):
        raise tensors.error("--upsample: this code repeats pixels; leave it out")
    down = [
        Site(
            f"down{n}.model.0",
            norm=f"down{n}.model.1" if 1 < n < levels else None,
            source=n == 1,
        )
        for n in range(1, levels + 1)
    ]
    up = [Site(f"up{n}.model.0", f"up{n}.model.1", swapped=n > 1) for n in range(1, levels)]
    width, takes = tensors.shape("down1.model.0.weight")[:2]
    gives = tensors.shape("final.2.weight")[0]
    sites = [*down, *up, Site("final.2", swapped=True)]
    arguments = {"width": width, "levels": levels}
    return Plan("DiscoUNet", takes, gives, arguments, sites, ["instance norm"])


def _chain(tensors: Tensors, inner: str) -> tuple[list[Site], int, int, int]:
    """Return a ResNet's sites up to its last block, halvings, blocks, and the next number."""
    firsts = (f"model.{n}.weight" for n in count(4, 3))
    halvings = 0
    for name in firsts:
        # A doubling has more inputs than outputs, or is a transpose convolution: the same here.
        if name not in tensors or tensors.shape(name)[0] <= tensors.shape(name)[1]:
            break
        halvings += 1
    sites = [_pair("model.1", 1, source=True)]
    sites += [_pair(f"model.{4 + 3 * n}", 4 + 3 * n) for n in range(halvings)]
    start = 4 + 3 * halvings
    blocks = _how_many(tensors, (f"model.{n}.{inner}.1.weight" for n in count(start)))
    for n in range(start, start + blocks):
        sites += _block(tensors, f"model.{n}.{inner}")
    return sites, halvings, blocks, start + blocks


def _block(tensors: Tensors, at: str) -> list[Site]:
    """Return the two convolutions of a residual block; dropout moves the second one by one."""
    second = 5 if f"{at}.5.weight" in tensors and len(tensors.shape(f"{at}.5.weight")) == 4 else 6
    return [_pair(f"{at}.1", 1), _pair(f"{at}.{second}", second)]


def _pair(conv: str, number: int, *, source: bool = False) -> Site:
    return Site(conv, f"{conv.rpartition('.')[0]}.{number + 1}", source=source)


PIX2PIX, GAN = "junyanz/pytorch-CycleGAN-and-pix2pix", "eriklindernoren/PyTorch-GAN"
HD = "NVIDIA/pix2pixHD"
LAYOUTS = (
    Layout(
        *("yuuIind/SAR2Optical", "UnetGenerator", "encoder.enc1.conv_block.0.weight"),
        *(4, sar2optical),
    ),
    Layout(PIX2PIX, "UnetGenerator", "model.model.0.weight", 4, pix2pix),
    Layout(f"{PIX2PIX} or {HD}", "ResNet", "model.1.weight", 7, resnet, ".conv_block."),
    Layout(GAN, "GeneratorResNet", "model.1.weight", 7, resnet_resize, ".block."),
    Layout(GAN, "GeneratorUNet", "down1.model.0.weight", 4, disco_unet),
)


def known() -> str:
    """Return the names of the codes whose checkpoints are known."""
    return ", ".join(dict.fromkeys(c for y in LAYOUTS for c in y.code.split(" or ")))


def is_discriminator(state: Mapping[str, Tensor]) -> bool:
    """Say whether tensors are those of a discriminator of patches: a chain that ends in one."""
    weights = {k: v for k, v in state.items() if v.ndim == 4}
    last = list(weights.values())[-1] if weights else None
    return last is not None and last.shape[0] == 1 and all(_FLAT.match(k) for k in weights)
