"""Public checkpoints: imported, they give the numbers of the networks that wrote them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import plain
import pytest
import rasterio
import tiny
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from crossband import load
from crossband.cli.main import main
from crossband.core.signature import Signature, UnitRange
from crossband.errors import CrossbandError, ModelError, UnitError
from crossband.evaluation.evaluate import evaluate, report_text
from crossband.model.importing import BandSpec, ImportOptions, Origin, import_checkpoint
from crossband.model.importing.formats import FORMATS, known
from crossband.networks.generators.unet import UNet
from crossband.raster.grid import Grid, Window
from crossband.training.fine_tune import load_start
from crossband.training.methods.base import Method
from crossband.translate.options import TileOptions
from crossband.translate.window import translate_window

#: Of a display value; the networks compute in float32.
EXACT = 1e-5
RGB = ["red", "green", "blue"]


def names(count, first="b"):
    return [f"{first}{n}" for n in range(count)]


def bring(tmp_path, network, source=None, target=None, **options):
    """Save a network's state dict, import it, and load the model."""
    path = tmp_path / "net.pth"
    torch.save(network if isinstance(network, dict) else network.state_dict(), path)
    return bring_file(tmp_path, path, source, target, **options)


def bring_file(tmp_path, path, source=None, target=None, **options):
    source, target = (
        side if isinstance(side, BandSpec) else BandSpec(side or RGB, "display")
        for side in (source, target)
    )
    options = {"task": "t", "source": source, "target": target, **options}
    folder, lines = import_checkpoint(path, tmp_path / "model", **options)
    return load(folder), lines


def answer(network, values):
    """What a plain network gives for a display picture: [C, H, W] -> [C, H, W], all 0..1."""
    with torch.no_grad():
        y = network(2 * torch.from_numpy(values)[None] - 1)
    return ((y + 1) / 2)[0].numpy()


def translated(model, values, unit="display"):
    mask = np.ones(values.shape[1:], bool)
    window = Window(values, mask, Grid(*mask.shape), tuple(model.signature.source), unit)
    return translate_window(model, window, TileOptions(precision="fp32")).values


def picture(bands, side=64, seed=0):
    return np.random.default_rng(seed).random((bands, side, side), np.float32)


def measuring(network):
    """Norms that measure the picture, as those of a network in training do; dropout off."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d):
            module.train()
    return network


# network, its bands, side of the picture, what the user adds, our class
SAR, HD = plain.Sar2Optical, plain.Pix2PixHD
CASES = {
    "sar2optical": (lambda: SAR(1, 3), 1, 3, 256, {}, "UNet"),
    "sar2optical, nearest": (lambda: SAR(levels=4, larger="nearest"), 3, 3, 64, "nearest", "UNet"),
    "sar2optical, bilinear": (lambda: SAR(levels=4, larger="bilinear"), 3, 3, 64, "bilinear",
                              "UNet"),
    "sar2optical, bicubic": (lambda: SAR(levels=4, larger="bicubic"), 3, 3, 64, "bicubic", "UNet"),
    "pix2pix 256": (lambda: plain.pix2pix(3, 1), 3, 1, 256, {}, "UNet"),
    "pix2pix 128": (lambda: plain.pix2pix(2, 3, levels=7), 2, 3, 128, {}, "UNet"),
    "pix2pix, instance": (lambda: plain.pix2pix(norm="instance", levels=6), 3, 3, 64, {}, "UNet"),
    "pix2pix, no norm": (lambda: plain.pix2pix(norm="none", levels=5), 3, 3, 64, {}, "UNet"),
    "resnet, 9 blocks": (lambda: plain.resnet(blocks=9), 3, 1, 64, {}, "ResNet"),
    "resnet, 6 blocks": (lambda: plain.resnet(takes=1, gives=4, blocks=6), 1, 4, 64, {}, "ResNet"),
    "resnet, batch": (lambda: plain.resnet(norm="batch"), 3, 1, 64, {}, "ResNet"),
    "resnet, no norm": (lambda: plain.resnet(norm="none"), 3, 1, 64, {}, "ResNet"),
    "resnet, dropout": (lambda: plain.resnet(dropout=True), 3, 1, 64, {}, "ResNet"),
    "pix2pixHD, global": (lambda: plain.resnet(halvings=4, bias=True), 3, 1, 64, {}, "Pix2PixHD"),
    "pix2pixHD, batch": (lambda: HD(norm="batch"), 3, 2, 64, {}, "Pix2PixHD"),
    "pix2pixHD": (HD, 3, 2, 64, {}, "Pix2PixHD"),
    "PyTorch-GAN, resnet": (lambda: plain.resnet(larger=True, name="block"), 3, 1, 64, {},
                            "ResNet"),
    "PyTorch-GAN": (plain.PyTorchGAN, 3, 1, 64, {}, "DiscoUNet"),
    "PyTorch-GAN, biases": (lambda: plain.PyTorchGAN(levels=5, bias=True), 3, 1, 64, {},
                            "DiscoUNet"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_imported_model_gives_the_numbers_of_the_public_network(name, tmp_path):
    make, takes, gives, side, upsample, ours = CASES[name]
    network = plain.waken(make())
    options = ImportOptions(upsample=upsample or None)
    model, lines = bring(tmp_path, network, names(takes), names(gives, "t"), options=options)
    assert type(model.network).__name__ == ours
    assert f"made: {ours}, width {model.network.arguments['width']}" in lines[1]
    values = picture(takes, side)
    expected = answer(network, values)
    assert expected.std() > 0.002
    assert np.abs(translated(model, values) - expected).max() < EXACT


@pytest.mark.parametrize("make", [plain.pix2pix, plain.resnet])
def test_batch_norm_may_measure_each_picture(make, tmp_path):
    network = plain.waken(make(norm="batch", gives=3))
    values = picture(3, 256)
    stored = answer(network, values)
    expected = answer(measuring(network), values)
    assert np.abs(stored - expected).max() > 0.01
    plain.waken(network)  # a pass in training changes the statistics
    model, _ = bring(tmp_path, network)
    assert np.abs(translated(model, values) - stored).max() < EXACT
    model, lines = bring(tmp_path, network, options=ImportOptions("picture"), overwrite=True)
    assert "measured anew on each picture" in lines[1]
    assert model.network.margin is None
    assert np.abs(translated(model, values) - expected).max() < EXACT


def test_statistics_of_instance_norms_are_used_or_dropped_as_is_said(tmp_path):
    network = plain.waken(plain.resnet(norm="tracked", gives=3))
    values = picture(3)
    stored = answer(network, values)
    with pytest.raises(ModelError, match=r"give --statistics stored .* or picture"):
        bring(tmp_path, network)
    model, _ = bring(tmp_path, network, options=ImportOptions("stored"))
    assert np.abs(translated(model, values) - stored).max() < EXACT
    model, _ = bring(tmp_path, network, options=ImportOptions("picture"), overwrite=True)
    measured = answer(measuring(network), values)
    assert np.abs(measured - stored).max() > 0.01
    assert np.abs(translated(model, values) - measured).max() < EXACT


def test_a_band_may_be_given_to_several_channels(tmp_path):
    network = plain.waken(plain.Sar2Optical(levels=5))
    grey = picture(1)
    model, _ = bring(tmp_path, network, ["vv"] * 3)
    assert (model.signature.source, model.network.in_channels) == (["vv"], 1)
    expected = answer(network, np.repeat(grey, 3, axis=0))
    assert np.abs(translated(model, grey) - expected).max() < EXACT
    two = picture(2)
    model, _ = bring(tmp_path, network, ["vv", "vh", "vv"], overwrite=True)
    assert model.signature.source == ["vv", "vh"]
    expected = answer(network, two[[0, 1, 0]])
    assert np.abs(translated(model, two) - expected).max() < EXACT
    card = (tmp_path / "model" / "README.md").read_text()
    assert "takes 3 channels, which are vv, vh, vv" in card


def test_an_enhancer_takes_a_repeated_band_too(tmp_path):
    network = plain.waken(plain.Pix2PixHD())
    model, _ = bring(tmp_path, network, ["vv"] * 3, names(2, "t"))
    grey = picture(1)
    expected = answer(network, np.repeat(grey, 3, axis=0))
    assert np.abs(translated(model, grey) - expected).max() < EXACT


def test_ranges_are_minus_one_and_one_of_the_network(tmp_path):
    network = plain.waken(plain.resnet(takes=2, gives=2))
    source = BandSpec(["vv", "vh"], "db", [(-25.0, 5.0), (-32.0, -2.0)])
    target = BandSpec(["red", "nir"], "reflectance", [(0.0, 0.5), (0.1, 0.9)])
    model, _ = bring(tmp_path, network, source=source, target=target)
    share = picture(2)
    low, high = (np.array(x, np.float32)[:, None, None] for x in ([-25, -32], [5, -2]))
    y = answer(network, share)
    expected = np.stack([0.5 * y[0], 0.1 + 0.8 * y[1]])
    found = translated(model, low + (high - low) * share, "db")
    assert np.abs(found - expected).max() < EXACT
    assert model.signature.target_unit("db") == "reflectance"


@pytest.mark.slow
def test_the_whole_way_of_the_seed_at_its_size(tmp_path, capsys):
    """256 x 256 pixels of grey radar, opened as colour, through both commands."""
    network = plain.waken(plain.Sar2Optical(width=64))
    assert sum(p.numel() for p in network.parameters()) == 54_541_827
    torch.save(network.state_dict(), tmp_path / "pix2pix_gen_180.pth")
    grey = np.random.default_rng(1).integers(0, 256, (256, 256)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "s1.png")
    checkpoint, model, out = (str(tmp_path / n) for n in ("pix2pix_gen_180.pth", "m", "out.tif"))
    words = ["import", checkpoint, "--task", "sar2optical", "--source-bands", "vv,vv,vv"]
    words += ["--target-bands", "red,green,blue", "--unit", "display", "-o", model]
    words += ["--licence", "MIT", "--source-url", "https://example.org/weights"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out.strip() == model
    assert said.err.splitlines() == [
        "found: UnetGenerator of yuuIind/SAR2Optical",
        "made: UNet, width 64, levels 8, upsample transpose; batch norm with the statistics of "
        "the file",
        "54,539,779 parameters, margin 766 px, stride 256; 3 channels of 1 band became 1",
    ]
    words = ["translate", str(tmp_path / "s1.png"), "-o", out, "--model", model]
    words += ["--bands", "vv=1", "--sensor", "display", "--dtype", "float32", "--precision", "fp32"]
    assert main(words) == 0
    with rasterio.open(out) as file:
        found, bands = file.read(), file.descriptions
    assert bands == ("red", "green", "blue")
    expected = answer(network, np.repeat(grey[None].astype(np.float32) / 255, 3, axis=0))
    assert expected.std() > 0.01
    assert np.abs(found - expected).max() < EXACT
    capsys.readouterr()
    assert main(["models", model]) == 0
    card = capsys.readouterr().out
    for words in ("Licence of the weights: MIT", "https://example.org/weights", "no baseline",
                  "pix2pix_gen_180.pth", "batch norm with the statistics of the file"):  # fmt: skip
        assert words in card


WRAPPED = {
    "module": lambda s: {f"module.{k}": v for k, v in s.items()},
    "compiled": lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
    "state_dict": lambda s: {"epoch": 3, "state_dict": s},
    "beside others": lambda s: {
        "gen_state_dict": {f"module.{k}": v for k, v in s.items()},
        "disc_state_dict": plain.discriminator().state_dict(),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
        "losses": [1.0, 2.0],
        "note": None,
    },
    "double": lambda s: {k: v.double() if v.is_floating_point() else v for k, v in s.items()},
    "no counters": lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
    "lightning": lambda s: {
        "state_dict": {f"netG.{k}": v for k, v in s.items()}
        | {f"netD.{k}": v for k, v in plain.discriminator().state_dict().items()}
    },
}
SMALL = {
    "sar2optical": lambda: SAR(width=4, levels=3),
    "pix2pix": lambda: plain.pix2pix(levels=3),
    "resnet": lambda: plain.resnet(gives=3, blocks=1),
}


@pytest.mark.parametrize("small", SMALL)
@pytest.mark.parametrize("wrap", WRAPPED)
def test_wrapped_state_dicts(small, wrap, tmp_path):
    network = plain.waken(SMALL[small]())
    model, lines = bring(tmp_path, WRAPPED[wrap](network.state_dict()))
    values = picture(3, 16)
    assert np.abs(translated(model, values) - answer(network, values)).max() < EXACT
    not_read = [line for line in lines if line.startswith("not read")]
    assert (not_read == ["not read: 22 tensors of netD"]) == (wrap == "lightning")
    parts = {"state_dict": "state_dict", "beside others": "gen_state_dict"}
    parts["lightning"] = "state_dict.netG"
    assert model.about["imported"]["part"] == parts.get(wrap, "")


@pytest.mark.parametrize("kind", ["legacy", "safetensors", "half"])
def test_other_files(kind, tmp_path):
    network = plain.waken(SAR(width=4, levels=3))
    state, path = network.state_dict(), tmp_path / "net.pth"
    if kind == "safetensors":
        path = tmp_path / "net.safetensors"
        save_file(state, path)
    elif kind == "half":
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
        torch.save(state, path)
        network.load_state_dict(state)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=False)
    model, _ = bring_file(tmp_path, path)
    values = picture(3, 16)
    assert np.abs(translated(model, values) - answer(network, values)).max() < EXACT


def test_one_of_several_generators(tmp_path):
    one, other = (plain.waken(plain.resnet(gives=3, blocks=1), seed=s) for s in (0, 1))
    both = {"G_A": one.state_dict(), "G_B": other.state_dict(), "D": {"w": torch.ones(2)}}
    with pytest.raises(ModelError, match="several generators; give --part G_A or G_B"):
        bring(tmp_path, both)
    with pytest.raises(ModelError, match="no generator 'G_C' in it: did you mean"):
        bring(tmp_path, both, part="G_C")
    model, _ = bring(tmp_path, both, part="G_B")
    values = picture(3, 16)
    assert np.abs(translated(model, values) - answer(other, values)).max() < EXACT


def without(state, name):
    return {k: v for k, v in state.items() if k != name}


def edit(network, **changes):
    """A state dict with some tensors changed; names with dots are written with `__`."""
    state = dict(network.state_dict())
    for name, change in changes.items():
        key = name.replace("__", ".")
        state[key] = change(state[key]) if key in state else change(None)
    return state


def small():
    return plain.waken(SAR(width=4, levels=3))


ONES = {"extra__w": lambda _: torch.ones(2), "more__w": lambda _: torch.ones(2)}
BROKEN = {
    "an unknown name": (lambda: edit(small(), **ONES), "no part of the network has: extra.w, more"),
    "a missing one": (
        lambda: without(small().state_dict(), "decoder.dec2.conv_block.0.weight"),
        "tensor decoder.dec2.conv_block.0.weight is missing",
    ),
    "a missing statistic": (
        lambda: without(small().state_dict(), "decoder.dec2.conv_block.1.running_var"),
        "tensor decoder.dec2.conv_block.1.running_var is missing",
    ),
    "another shape": (
        lambda: edit(small(), decoder__dec2__conv_block__0__weight=lambda w: w[:-1]),
        "decoder.dec2.conv_block.0.weight is 15x4x4x4, and 16x4x4x4 fits",
    ),
    "not finite": (
        lambda: edit(small(), head__0__bias=lambda b: b * torch.nan),
        "head.0.bias holds values that are not finite",
    ),
    "whole numbers": (lambda: edit(small(), head__0__bias=lambda b: b.int()), "bias is int32, no"),
    "sparse": (
        lambda: edit(small(), head__0__weight=lambda w: w.to_sparse()),
        "head.0.weight is sparse or nested, and only plain tensors are read",
    ),
    "sparse where the layout is looked for": (
        lambda: edit(small(), encoder__enc1__conv_block__0__weight=lambda w: w.to_sparse()),
        "is sparse or nested",
    ),
    "nested": (
        lambda: edit(small(), head__0__bias=lambda b: torch.nested.nested_tensor([b, b])),
        "head.0.bias is sparse or nested",
    ),
    "without values": (
        lambda: edit(small(), head__0__bias=lambda b: b.to("meta")),
        "head.0.bias is without values",
    ),
    "flat": (
        lambda: edit(small(), decoder__dec2__conv_block__0__weight=torch.flatten),
        "has 1 sides, and 4 fit",
    ),
    "a discriminator": (
        lambda: plain.discriminator().state_dict(),
        "this looks like a discriminator's",
    ),
    "discriminators alone": (
        lambda: {"netD": plain.discriminator().state_dict()},
        "this looks like a discriminator's",
    ),
    "another network": (lambda: nn.Linear(3, 4).state_dict(), "named as in no code that is known"),
    "no names": (lambda: {"a": 3}, "holds no tensors under names"),
    "norms of two kinds": (
        lambda: {
            k: v
            for k, v in plain.waken(plain.resnet(norm="batch", gives=3)).state_dict().items()
            if not k.startswith("model.5.")
        },
        "model.2 is batch norm, but model.5 is no norm",
    ),
    "a norm of another code": (
        lambda: {
            k: v
            for k, v in plain.waken(plain.resnet(norm="batch", gives=3)).state_dict().items()
            if "running" not in k
        },
        "model.2 has weights and no statistics",
    ),
    "blocks with zeros around": (
        lambda: {
            k.replace("block.1.", "block.0."): v
            for k, v in plain.resnet(gives=3).state_dict().items()
        },
        "no residual block at model.10",
    ),
    "an old PyTorch-GAN": (
        lambda: edit(plain.PyTorchGAN(gives=3), up2__model__0__weight=lambda w: w[..., :3, :3]),
        "up2.model.0.weight is 64x32x3x3, and 64x32x4x4 fits",
    ),
    "four bands of PyTorch-GAN": (
        lambda: plain.resnet(takes=4, larger=True, name="block").state_dict(),
        "it takes 4 bands: its code keeps the size",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_fit_is_one_line(name, tmp_path, capsys):
    make, message = BROKEN[name]
    torch.save(make(), tmp_path / "net.pth")
    words = ["import", str(tmp_path / "net.pth"), "-o", str(tmp_path / "model"), "--task", "t"]
    words += ["--source-bands", "red,green,blue", "--target-bands", "red,green,blue"]
    assert main([*words, "--unit", "display"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith(f"crossband: {tmp_path / 'net.pth'}")
    assert error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["net.pth"]


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "sprung")


def test_a_pickle_with_other_objects_is_never_unpacked(tmp_path):
    state = small().state_dict()
    with pytest.raises(ModelError, match=r"other objects than tensors .*never unpacked"):
        bring(tmp_path, {"state_dict": state, "trap": Trap(tmp_path / "sprung")})
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(ModelError, match=r"\(argparse\.Namespace\)"):
        bring(tmp_path, {"state_dict": state, "options": argparse.Namespace(lr=1)})
    torch.save(small(), tmp_path / "net.pth")  # a whole module
    with pytest.raises(ModelError, match="other objects than tensors"):
        bring_file(tmp_path, tmp_path / "net.pth")


def test_what_is_no_checkpoint(tmp_path):
    whole = tmp_path / "whole.pth"
    torch.save(small().state_dict(), whole)
    files = {
        "text.pth": (b"hello", "not a file that torch.save wrote"),
        "empty.pth": (b"", "not a file that torch.save wrote"),
        "cut.pth": (whole.read_bytes()[:5000], "cannot be read as a checkpoint"),
        "pickle.pth": (b"\x80\x02N.", "cannot be read|holds no tensors"),
        "cut.safetensors": (b"\x80" * 40, "not a safetensors file"),
    }
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=message):
            bring_file(tmp_path, tmp_path / name)
    for path, message in ((tmp_path, "a folder"), (tmp_path / "no.pth", "no such file")):
        with pytest.raises(ModelError, match=message):
            bring_file(tmp_path, path)


RANGE = [(0.0, 1.0)]
REFUSED = {
    "bands": ({"source": BandSpec(["red"], "display")}, "takes 3 bands.*has 1 .*give red,red,red"),
    "more bands": ({"source": BandSpec([*RGB, "nir"], "display")}, "takes 3 bands, but .* has 4"),
    "target bands": ({"target": BandSpec(["nir"], "display")}, "gives 3 bands, but .* has 1"),
    "twice": ({"target": BandSpec(["nir"] * 3, "display")}, "a band is named twice"),
    "unit": ({"source": BandSpec(RGB, "decibel", RANGE)}, "unknown unit 'decibel'"),
    "no range": ({"source": BandSpec(RGB, "db")}, "--source-range is missing: which db values"),
    "no target range": ({"target": BandSpec(RGB, "kelvin")}, "--target-range is missing"),
    "ranges": ({"source": BandSpec(RGB, "display", RANGE * 2)}, "given 2 times for 3 bands"),
    "turned": ({"target": BandSpec(RGB, "display", [(1.0, 0.0)])}, "first must be below"),
    "upsample": (
        {"options": ImportOptions(upsample="nearest")},
        "transpose convolutions, .* leave it out",
    ),
    "statistics": ({"options": ImportOptions("picture")}, "would measure a single pixel"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_said_must_fit(name, tmp_path):
    options, message = REFUSED[name]
    with pytest.raises((ModelError, UnitError), match=message):
        bring(tmp_path, small(), **options)
    assert not (tmp_path / "model").exists()


def test_what_the_file_cannot_say_must_be_said(tmp_path):
    with pytest.raises(ModelError, match="give --upsample nearest, bilinear or bicubic"):
        bring(tmp_path, plain.waken(SAR(levels=3, larger="bilinear")))
    with pytest.raises(ModelError, match="instance norms, which measure each picture"):
        bring(tmp_path, plain.resnet(gives=3), options=ImportOptions("stored"))
    with pytest.raises(ModelError, match="it has no norms"):
        bring(tmp_path, plain.resnet(gives=3, norm="none"), options=ImportOptions("picture"))


def test_a_model_folder_is_replaced_only_when_told(tmp_path):
    bring(tmp_path, small())
    before = (tmp_path / "model" / "model.json").read_text()
    with pytest.raises(CrossbandError, match="exists already; give --overwrite"):
        bring(tmp_path, small(), name="other")
    with pytest.raises(ModelError, match="discriminator"):
        bring(tmp_path, plain.discriminator(), overwrite=True)
    assert (tmp_path / "model" / "model.json").read_text() == before
    bring(tmp_path, small(), overwrite=True, name="other")
    assert json.loads((tmp_path / "model" / "model.json").read_text())["name"] == "other"
    (tmp_path / "model" / "model.json").unlink()
    with pytest.raises(CrossbandError, match=r"no model\.json in it, so it is not replaced"):
        bring(tmp_path, small(), overwrite=True)


def test_the_card_guesses_nothing(tmp_path):
    model, _ = bring(tmp_path, small())
    card = (tmp_path / "model" / "README.md").read_text()
    assert "Licence of the weights: not given" in card
    assert "Address: not given" in card
    assert "licence" not in model.about
    assert model.baselines == {}
    assert model.about["imported"]["sha256"] in card
    model, _ = bring(tmp_path, small(), origin=Origin("MIT", "https://a.b"), overwrite=True)
    assert (model.about["licence"], model.about["imported"]["url"]) == ("MIT", "https://a.b")


def test_the_command_takes_negative_ranges_and_names_bands(tmp_path, capsys):
    torch.save(plain.waken(plain.resnet(takes=2)).state_dict(), tmp_path / "net.pth")
    words = ["import", str(tmp_path / "net.pth"), "-o", str(tmp_path / "m"), "--task", "t"]
    words += ["--source-bands", "vv, vh", "--target-bands", "nir", "--unit", "db"]
    words += ["--source-range", "-25", "5", "--source-range", "-32.5", "-2"]
    words += ["--target-unit", "reflectance", "--target-range", "0", "0.6"]
    assert main(words) == 0
    unit = load(tmp_path / "m").signature.units["db"]
    assert unit == UnitRange([(-25, 5), (-32.5, -2)], [(0, 0.6)], "reflectance")
    words[words.index("vv, vh")] = "vv,,vh"
    assert main([*words, "--overwrite"]) == 2
    assert "--source-bands 'vv,,vh': names joined by commas" in capsys.readouterr().err


class Start(Method):
    """A method with nothing but a generator."""


def test_training_may_begin_with_an_imported_model(tmp_path):
    model, _ = bring(tmp_path, small(), ["vv"] * 3)
    unit = {"display": UnitRange([(0, 1)], [(0, 1)] * 3)}
    method = Start(Signature(["vv"], RGB, unit), UNet(1, 3, width=4, levels=3))
    load_start(method, str(tmp_path / "model"), tmp_path)
    theirs = method.generator.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in model.network.state_dict().items())


def test_an_imported_model_is_evaluated_without_baselines(tmp_path):
    model, _ = bring(tmp_path, plain.waken(plain.resnet()), RGB, ["thermal"])
    manifest = tiny.pairs(tmp_path / "pairs", "rgb2thermal")
    report = evaluate([model], manifest, tmp_path / "report", pictures=0)
    assert set(report.per_image["by"]) == {"model"}
    assert np.isfinite(report.per_image["mae"]).all()
    assert model.name in report_text(report)


def test_the_page_names_every_code():
    page = (Path(__file__).parents[1] / "docs/importing.md").read_text()
    assert all(code in page for code in known().split(", "))
    assert len({layout.read for layout in FORMATS}) == len(FORMATS)
