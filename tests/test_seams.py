"""Scenes in tiles: no border shows where a network sees everything, and none exists elsewhere.

Every registered generator that has no margin is here, through `translate`, file to file. Their
weights are random but smooth, as of a network that has learned: then a border stands out, and the
same scene cut hard shows that the test would see one.
"""

from __future__ import annotations

from math import comb
from operator import itemgetter

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from registered import cases, classes, waken
from scipy.ndimage import gaussian_filter
from tiers import first_quick, slow
from torch import nn

from crossband import Model
from crossband.core.registry import build
from crossband.core.signature import Signature, UnitRange
from crossband.networks import Generator
from crossband.networks.conditions import noise_at
from crossband.networks.generators.blend import Blend
from crossband.networks.generators.unit import UNITViT
from crossband.networks.layers.attention import SelfAttention
from crossband.networks.layers.batch_layers import (
    MinibatchDiscrimination,
    MinibatchStd,
    VirtualBatchNorm2d,
)
from crossband.networks.layers.convolution import Resize
from crossband.networks.samplers.vector_field import VectorFieldUNet
from crossband.translate.blend import default_overlap, spans

CASES = cases(Generator)
SHAPE, TILE = (472, 568), 128
#: Pixels so wide that places differ from one end of the scene to the other.
WIDE = Affine(2000.0, 0.0, 300_000.0, 0.0, -2000.0, 6_000_000.0)
BOUND = 1.1
SEED = 1
BANDS, OUTS = ["red", "green", "blue"], ["nir", "swir16", "swir22"]


class _Finer(Generator):
    """Sees everything and makes pixels finer; no network of the package does both."""

    in_channels, out_channels, margin, scale = 3, 1, None, 2

    def __init__(self, **_):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.InstanceNorm2d(4), Resize(2))
        self.last = nn.Conv2d(4, 1, 3, 1, 1)

    def forward(self, x):
        return self.last(torch.relu(self.layers(x)))


def made(name, arguments):
    return _Finer() if name == "_Finer" else build(Generator, name, arguments)


def without_margin():
    with torch.device("meta"):
        return [(n, a) for n, a in CASES if made(n, a).margin is None]


ENCODER = {"degrees": 3, "hidden": 6, "channels": 5}
PLACED = {"width": 4, "blocks": 1, "encoder": ENCODER, "crop": 64}
LOCAL_FIELD = {"arguments": {"width": 4, "levels": 1, "norm": "none", "time_channels": 4}}
FIELD = {"arguments": {"width": 4, "levels": 2, "time_channels": 8}}
SEEING_ALL = [
    *without_margin(),
    *(("LocatedResNet", {**PLACED, "injection": i}) for i in ("multiply", "add", "concat")),
    ("ResNet", {"width": 4, "blocks": 1, "upsample": "resize", "border": 8}),
    ("UNet", {"width": 4, "levels": 3, "norm": "instance", "upsample": "resize"}),
    ("DiffusionSampler", {"field": FIELD, "steps": 2, "eta": 1.0}),
    (
        "Blend",
        {
            "parts": [
                {"class": "ResNet", "arguments": {"width": 4, "blocks": 1}},
                {"class": "FlowSampler", "arguments": {"field": FIELD, "steps": 2}},
            ],
            "shares": [0.5, 0.5],
        },
    ),
    ("_Finer", {}),
]
SAMPLERS = [case for case in SEEING_ALL if case[0].endswith("Sampler")]
EXACT = [
    ("ResNet", {"width": 4, "blocks": 1, "norm": "batch"}),
    ("UNet", {"width": 4, "levels": 2, "norm": "batch"}),
    ("StridedUNet", {"width": 4, "levels": 1, "norm": "batch"}),
    ("StyleResNet", {"width": 4, "blocks": 1, "style": 3, "codes": 5, "depth": 2}),
    ("TwoStepThermal", {"width": 4, "levels": 1, "contrast_levels": 1, "norm": "batch"}),
    ("FlowSampler", {"field": LOCAL_FIELD, "solver": "heun", "steps": 1}),
    ("DiffusionSampler", {"field": LOCAL_FIELD, "steps": 2, "eta": 1.0}),
    *(
        ("LocatedResNet", {**PLACED, "norm": norm, "injection": i})
        for norm, i in zip(
            ("none", "batch", "none", "none"), ("multiply", "add", "concat", "channel"), strict=True
        )
    ),
]


def identify(value):
    return value if isinstance(value, str) else "-".join(map(str, value.values()))[:60]


def smoothed(network):
    """Give every convolution the same bell over its pixels, and random signs over its channels.

    A transpose convolution of stride 2 then draws straight lines between its inputs: no
    checkerboard, which would hide a border.
    """
    generator = torch.Generator().manual_seed(SEED)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    waken(network)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, SelfAttention):
                module.gamma.fill_(1.0)
            if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                continue
            wider = isinstance(module, nn.ConvTranspose2d)
            parts = getattr(module, "parametrizations", None)  # of spectral norm
            weight = module.weight if parts is None else parts.weight.original
            size = weight.shape[-1]
            bell = torch.tensor([float(comb(size - 1, n)) for n in range(size)])
            bell = bell / bell.sum() * (2.0 if wider else 1.0)
            gain = 1.4 / weight.shape[0 if wider else 1] ** 0.5
            plane = bell[:, None] * bell
            weight.copy_(gain * normal(*weight.shape[:2])[:, :, None, None] * plane)
            if module.bias is not None:
                module.bias.copy_(0.3 * normal(*module.bias.shape))
        for module in network.modules():  # louder than the noise that samplers start from
            if isinstance(module, VectorFieldUNet):
                module.last.weight.mul_(10.0)
        if isinstance(network, UNITViT):  # a patch sees its pixels, and they answer nearly alike
            network.encoder[0].weight.mul_(4.0)
            for parameter in network.decoder[1].layers[0].parameters():
                pixels = parameter.unflatten(0, (-1, network.stride**2))
                pixels.copy_(torch.lerp(pixels.mean(1, keepdim=True), pixels, 0.1))
    return network


def model_of(name, arguments, prepare):
    torch.manual_seed(0)
    network = prepare(made(name, arguments))
    bands, outs = BANDS[: network.in_channels], OUTS[: network.out_channels]
    # Decibels may be negative: nothing is clipped, so that no difference can hide.
    ranges = UnitRange([(0.0, 1.0)] * len(bands), [(0.0, 1.0)] * len(outs))
    return Model(network, Signature(bands, outs, {"db": ranges}), name="m", task="t")


@pytest.fixture(scope="module")
def texture():
    """Bands that vary over the whole scene, over a few pixels, and from pixel to pixel."""
    rng = np.random.default_rng(3)
    bands = []
    for _ in range(3):
        total = sum(gaussian_filter(rng.normal(size=SHAPE), s) * s**1.5 for s in (3, 9, 60))
        total = (total - total.min()) / np.ptp(total)
        bands.append(total + 0.01 * rng.normal(size=SHAPE))
    return np.stack(bands).astype(np.float32)


@pytest.fixture
def translated(texture, make_raster, tmp_path):
    """Return a function: model, options -> values, tags of the file that `translate` wrote."""

    def run(model, transform=WIDE, **options):
        source = make_raster(values=texture, names=tuple(BANDS), unit="dB", transform=transform)
        out = tmp_path / "out.tif"
        model.translate(source, out, precision="fp32", dtype="float32", overwrite=True, **options)
        with rasterio.open(out) as file:
            return file.read(), file.tags()

    return run


def ratio(values, axis, places, beside):
    """Return how much larger steps are into some rows or columns than beside them."""
    steps = np.abs(np.diff(values.astype(np.float64), axis=axis))
    steps = np.moveaxis(steps, axis, 0).mean(axis=(1, 2))
    at = np.array(places) - 1
    return steps[at].mean() / np.mean([steps[at - beside], steps[at + beside]])


def marks(length, stride):
    """Where a border could show, and where hard cuts are, in columns of the source."""
    found = spans(length, TILE, default_overlap(TILE, stride), stride)
    tiles = {s.start for s in found[1:]} | {s.stop for s in found[:-1]}
    fades = {s.first + s.fade_in * n // 2 for s in found[1:] for n in (0, 1, 2)}
    cuts = [s.first for s in spans(length, TILE, 0, stride)[1:]]
    return {"edges of tiles": sorted(tiles), "fade zones": sorted(fades)}, cuts


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *first_quick([c for c in SEEING_ALL if c not in SAMPLERS], itemgetter(0)),
        *(slow(*c) for c in SAMPLERS),
    ],
    ids=identify,
)
def test_no_border_shows(name, arguments, translated):
    model = model_of(name, arguments, smoothed)
    scale, stride = model.network.scale, model.network.stride
    # A transformer answers in patches: its steps are compared with those one patch beside.
    beside = model.network.arguments.get("patch", 1)
    soft, tags = translated(model, tile=TILE)
    hard, cut_tags = translated(model, tile=TILE, overlap=0)
    assert tags["CROSSBAND_EXACT"] == cut_tags["CROSSBAND_EXACT"] == "NO"
    assert soft.std() > 0.01
    for axis, length in ((1, SHAPE[0]), (2, SHAPE[1])):
        where, cuts = marks(length, stride)
        for kind, places in where.items():
            at = [place * scale for place in places]
            found, own = ratio(soft, axis, at, beside), 1.0
            if found > BOUND:  # some have a pattern of their own: every second pixel is rougher
                whole, _ = translated(model, tile=max(SHAPE))
                own = ratio(whole, axis, at, beside)
            assert found <= BOUND * own, (kind, axis)
        # And the other way round: tiles that are cut hard have borders, and this test sees them.
        assert ratio(hard, axis, [place * scale for place in cuts], beside) > BOUND


def test_what_has_no_margin_by_default_is_above():
    with torch.device("meta"):
        default = {
            name: build(Generator, name, {})
            for name, kind in classes(Generator).items()
            if not issubclass(kind, Blend)
        }
    assert {n for n, made in default.items() if made.margin is None} <= {n for n, _ in SEEING_ALL}


def silent(network):
    """Make a field answer 0: what is left of a sampler is its noise."""
    for parameter in network.field.last.parameters():
        parameter.data.zero_()
    return network.eval()


@pytest.mark.parametrize(("name", "arguments"), first_quick(SAMPLERS, itemgetter(0)), ids=identify)
def test_tiles_draw_the_noise_of_the_scene(name, arguments, translated):
    """Two draws that fade into each other would be a band of weaker noise."""
    model = model_of(name, arguments, silent)
    tiled, tags = translated(model, tile=TILE, seed=7)
    whole, _ = translated(model, tile=max(SHAPE), seed=7)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    assert (tags["CROSSBAND_EXACT"], tags["CROSSBAND_SEED"]) == ("NO", "7")
    noise = noise_at(7, 0, 0, *SHAPE, model.network.noise).reshape(model.network.noise, -1)
    alike = np.corrcoef(tiled[:1].reshape(1, -1), noise)[0, 1:]
    assert np.square(alike).sum() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("name", "arguments"), first_quick(EXACT, itemgetter(0)), ids=identify)
def test_fixed_statistics_and_local_layers_are_exact(name, arguments, translated):
    def prepare(network):
        for module in network.modules():  # of a batch norm that has seen something
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
        return waken(network)

    model = model_of(name, arguments, prepare)
    draws = {"seed": 3} if model.network.noise or model.network.style else {}
    tiled, tags = translated(model, tile=TILE, **draws)
    whole, _ = translated(model, tile=4096, **draws)
    assert tags["CROSSBAND_EXACT"] == "YES"
    np.testing.assert_allclose(tiled, whole, atol=2e-5)
    assert whole.std() > 0.01
    if model.network.located:  # and the place had its say
        translated_there, _ = translated(model, tile=4096, transform=Affine.identity())
        assert np.abs(translated_there - whole).max() > 1e-3


def test_no_generator_looks_at_the_other_pictures_of_its_batch():
    """These are in discriminators, so no scene depends on them; see `VirtualBatchNorm2d`."""
    kinds = VirtualBatchNorm2d | MinibatchStd | MinibatchDiscrimination
    with torch.device("meta"):
        for name, arguments in CASES:
            assert not any(
                isinstance(m, kinds) for m in build(Generator, name, arguments).modules()
            )
