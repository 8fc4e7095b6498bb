"""Public generators written anew from their plans, as plain PyTorch under the public names.

Nothing of crossband is in here: an imported model must give the numbers of these.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def tree(**parts):
    """A module that holds others by name and computes nothing."""
    holder = nn.Module()
    for name, part in parts.items():
        holder.add_module(name, part)
    return holder


def waken(network, shape=(2, 64, 64), seed=0):
    """Give every weight, bias and statistic a value that matters."""
    torch.manual_seed(seed)
    for module in network.modules():
        for name, value in module.named_parameters(recurse=False):
            if value.ndim > 1:
                nn.init.normal_(value, 0.0, (0.6 / value[0].numel()) ** 0.5)
            else:
                nn.init.normal_(value, 0.3 if name == "bias" else 1.0, 0.3)
        for name, value in module.named_buffers(recurse=False):
            if name == "running_mean":
                value.normal_(0.0, 0.3)
            elif name == "running_var":
                value.uniform_(0.5, 2.0)
    return network.eval()


class Sar2Optical(nn.Module):
    """pix2pix's text: batch norm, 3 x 3 head; `encoder.encN`, `decoder.decN`, `head`."""

    def __init__(self, takes=3, gives=3, width=8, levels=8, larger=None, norm="batch"):
        super().__init__()
        sizes = [takes, *(width * min(2**n, 8) for n in range(levels))]
        down, up = {}, {}
        for n in range(1, levels + 1):
            bare = n == 1 or (norm == "instance" and n == levels)  # one pixel would become 0
            parts = [nn.Conv2d(sizes[n - 1], sizes[n], 4, 2, 1, bias=bare)]
            parts += [] if bare else [norm_of(norm, sizes[n])]
            down[f"enc{n}"] = tree(conv_block=nn.Sequential(*parts, nn.LeakyReLU(0.2)))
        for n in range(1, levels + 1):
            before = sizes[levels] if n == 1 else 2 * sizes[levels - n + 1]
            after = sizes[levels - n] if n < levels else width
            if larger is None:
                first = nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)
            else:
                grow = nn.Upsample(scale_factor=2, mode=larger)
                first = nn.Sequential(grow, nn.Conv2d(before, after, 3, 1, 1, bias=False))
            drop = [nn.Dropout(0.5)] if n < 4 else []
            parts = [first, norm_of(norm, after), *drop, nn.ReLU()]
            up[f"dec{n}"] = tree(conv_block=nn.Sequential(*parts))
        self.encoder, self.decoder = tree(**down), tree(**up)
        self.head = nn.Sequential(nn.Conv2d(width, gives, 3, 1, 1), nn.Tanh())

    def forward(self, x):
        seen = []
        for block in self.encoder.children():
            x = block.conv_block(x)
            seen.append(x)
        seen.pop()
        for block in self.decoder.children():
            x = block.conv_block(x)
            if seen:
                x = torch.cat([seen.pop(), x], 1)
        return self.head(x)


def norm_of(kind, channels):
    return {
        "batch": lambda: nn.BatchNorm2d(channels),
        "instance": lambda: nn.InstanceNorm2d(channels),
        "tracked": lambda: nn.InstanceNorm2d(channels, track_running_stats=True),
        "none": nn.Identity,
    }[kind]()


class Nested(nn.Module):
    """A block of pix2pix's published U-Net around the next one; norm `none` is an identity."""

    def __init__(self, outer, inner, below, norm, takes=None):
        super().__init__()
        bias = norm in ("instance", "tracked")
        down = nn.Conv2d(takes or outer, inner, 4, 2, 1, bias=bias)
        self.outermost = takes is not None
        before = inner if below is None else 2 * inner
        up = nn.ConvTranspose2d(before, outer, 4, 2, 1, bias=bias or self.outermost)
        if self.outermost:
            parts = [down, below, nn.ReLU(), up, nn.Tanh()]
        elif below is None:
            parts = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, norm_of(norm, outer)]
        else:
            parts = [nn.LeakyReLU(0.2), down, norm_of(norm, inner), below]
            parts += [nn.ReLU(), up, norm_of(norm, outer), nn.Dropout(0.5)]
        self.model = nn.Sequential(*parts)

    def forward(self, x):
        y = self.model(x)
        return y if self.outermost else torch.cat([x, y], 1)


def pix2pix(takes=3, gives=3, width=4, levels=8, norm="batch"):
    """The U-Net of junyanz/pytorch-CycleGAN-and-pix2pix: `model.model.1.model.3...`."""
    sizes = [width * min(2**n, 8) for n in range(levels)]
    block = None
    for level in reversed(range(1, levels)):
        block = Nested(sizes[level - 1], sizes[level], block, norm)
    return _whole(Nested(gives, width, block, norm, takes))


def _whole(model):
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x)

    return Whole()


class Residual(nn.Module):
    def __init__(self, channels, norm, bias, name, dropout):
        super().__init__()
        parts = []
        for last in (False, True):
            parts += [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias)]
            parts += [norm_of(norm, channels)]
            parts += [] if last else [nn.ReLU(), *([nn.Dropout(0.5)] if dropout else [])]
        self.add_module(name, nn.Sequential(*parts))

    def forward(self, x):
        return x + next(self.children())(x)


def chain(
    takes=3, gives=1, width=4, halvings=2, blocks=2, norm="instance", *,
    bias=None, name="conv_block", dropout=False, larger=False,
):  # fmt: skip
    """Layers of the ResNets: CycleGAN, pix2pixHD (`bias` True), PyTorch-GAN (`larger`)."""
    bias = norm in ("instance", "tracked") if bias is None else bias
    parts = [nn.ReflectionPad2d(3), nn.Conv2d(takes, width, 7, bias=bias), norm_of(norm, width)]
    parts.append(nn.ReLU())
    for n in range(halvings):
        c = width * 2**n
        parts += [nn.Conv2d(c, 2 * c, 3, 2, 1, bias=bias), norm_of(norm, 2 * c), nn.ReLU()]
    c = width * 2**halvings
    parts += [Residual(c, norm, bias, name, dropout) for _ in range(blocks)]
    for n in reversed(range(halvings)):
        c = width * 2**n
        if larger:
            parts += [nn.Upsample(scale_factor=2), nn.Conv2d(2 * c, c, 3, 1, 1, bias=bias)]
        else:
            parts += [nn.ConvTranspose2d(2 * c, c, 3, 2, 1, output_padding=1, bias=bias)]
        parts += [norm_of(norm, c), nn.ReLU()]
    return [*parts, nn.ReflectionPad2d(3), nn.Conv2d(width, gives, 7), nn.Tanh()]


def resnet(**options):
    """`model.1`, `model.10.conv_block.1`, ..."""
    return _whole(nn.Sequential(*chain(**options)))


class Pix2PixHD(nn.Module):
    """A global network of half the size and one enhancer: `model`, `model1_1`, `model1_2`."""

    def __init__(self, takes=3, gives=2, width=4, halvings=3, norm="instance"):
        super().__init__()
        form = {"takes": takes, "norm": norm, "bias": True}
        whole = chain(width=2 * width, halvings=halvings, blocks=2, **form)
        self.model = nn.Sequential(*whole[:-3])
        local = chain(width=width, gives=gives, halvings=1, blocks=3, **form)
        self.model1_1, self.model1_2 = nn.Sequential(*local[:7]), nn.Sequential(*local[7:])

    def forward(self, x):
        half = functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        whole = self.model(half)
        return self.model1_2(self.model1_1(x) + whole)


class PyTorchGAN(nn.Module):
    """The U-Net of PyTorch-GAN: `downN.model`, `upN.model`, `final`; below before skip.

    With `skip_first` it is the same function of weights in another order, and without dropout.
    """

    def __init__(self, takes=3, gives=1, width=4, levels=6, bias=False, skip_first=False):
        super().__init__()
        self.levels, self.skip_first = levels, skip_first
        sizes = [takes, *(width * min(2**n, 8) for n in range(levels))]
        for n in range(1, levels + 1):
            parts = [nn.Conv2d(sizes[n - 1], sizes[n], 4, 2, 1, bias=bias)]
            parts += [nn.InstanceNorm2d(sizes[n])] if 1 < n < levels else []
            self.add_module(f"down{n}", tree(model=nn.Sequential(*parts, nn.LeakyReLU(0.2))))
        for n in range(1, levels):
            before = sizes[levels] if n == 1 else 2 * sizes[levels - n + 1]
            after = sizes[levels - n]
            first = nn.ConvTranspose2d(before, after, 4, 2, 1, bias=bias)
            parts = [first, nn.InstanceNorm2d(after), nn.ReLU()]
            parts += [] if skip_first else [nn.Dropout(0.5)]
            self.add_module(f"up{n}", tree(model=nn.Sequential(*parts)))
        pad = nn.ZeroPad2d((1, 0, 1, 0))
        last = nn.Conv2d(2 * width, gives, 4, padding=1)
        self.final = nn.Sequential(nn.Upsample(scale_factor=2), pad, last, nn.Tanh())

    def forward(self, x):
        seen = []
        for n in range(1, self.levels + 1):
            x = getattr(self, f"down{n}").model(x)
            seen.append(x)
        seen.pop()
        for n in range(1, self.levels):
            both = [getattr(self, f"up{n}").model(x), seen.pop()]
            x = torch.cat(both[::-1] if self.skip_first else both, 1)
        return self.final(x)


def discriminator(takes=6, width=4, norm="batch"):
    """70 x 70 patches, as in all of these codes."""
    sizes = [takes, width, 2 * width, 4 * width, 8 * width]
    parts = []
    for n in range(4):
        bias = norm != "batch" or not n
        parts.append(nn.Conv2d(sizes[n], sizes[n + 1], 4, 2 if n < 3 else 1, 1, bias=bias))
        parts += [norm_of(norm, sizes[n + 1])] if n else []
        parts.append(nn.LeakyReLU(0.2))
    return _whole(nn.Sequential(*parts, nn.Conv2d(sizes[-1], 1, 4, 1, 1)))
