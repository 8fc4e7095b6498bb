"""Model folders that others made: each fault is one line, and takes neither memory nor time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading

import pytest
import torch
from registered import cases
from safetensors.torch import load_file, save_file
from tiers import first_quick
from torch import nn

from crossband import Model, load
from crossband.core.registry import build
from crossband.core.signature import Signature, UnitRange
from crossband.errors import CrossbandError, ModelError
from crossband.model import bundled
from crossband.networks import Generator
from crossband.networks.generators.bicubic import Bicubic
from crossband.networks.generators.progressive import ProgressiveUNet
from crossband.networks.size_limit import TooLargeError, limit_of_weights, size_limit

MANY = 10**9


@pytest.fixture
def folder(tiny_model, tmp_path):
    """Return a copy of a model folder, to be changed."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def change(folder, at, value):
    """Set one value of model.json by its dotted name; the weights' hash where `at` is `weights`."""
    path = folder / "model.json"
    data = json.loads(path.read_text())
    *outer, last = at.split(".")
    place = data
    for key in outer:
        place = place[key]
    place[last] = value
    path.write_text(json.dumps(data))


def put_weights(folder, content):
    """Write the bytes of the weights, and their hash."""
    (folder / "model.safetensors").write_bytes(content)
    change(folder, "weights.sha256", hashlib.sha256(content).hexdigest())


def refusal(folder):
    """Return the one line with which a folder is refused."""
    with pytest.raises(ModelError) as error:
        load(folder)
    line = str(error.value)
    assert line.startswith(str(folder))
    assert len(line) < 600
    return line


def blend(*parts):
    return {"parts": list(parts), "shares": [1.0 / len(parts)] * len(parts)}


def part(name, **arguments):
    return {"class": name, "arguments": arguments}


def line_signature():
    return Signature(["a"], ["b"], {"db": UnitRange([(0.0, 1.0)], [(0.0, 1.0)])})


LARGE = {
    "width": part("LocalUNet", width=16_000, depth=1),
    "many layers": part("LocalUNet", width=1, hidden=1, depth=16_000),
    "many members": part("LocalUNet", width=1, hidden=1, depth=0, members=16_000),
    "units": part("PerPixelMLP", width=16_000),
    "levels without end": part("UNetAutoencoder", width=1, levels=16_000),
    "drawn at once": part("StyleResNet", width=16_000),
    "nested": part("Blend", **blend(part("Blend", **blend(part("LocalUNet", width=16_000))))),
    "many parts": part("Blend", **blend(*[part("Identity", channels=3)] * 1200)),
    "field": part("FlowSampler", field=part("VectorFieldUNet", width=16_000)),
    "encoder": part("LocatedResNet", width=4, blocks=0, encoder={"degrees": 16_000}),
    "centres": part(
        "FamiliarBlend",
        **blend(part("LocalPyramid", in_channels=200, width=1, hidden=1)),
        centres=16_000,
    ),
}
ABSURD = {
    "width": (part("LocalUNet", width=MANY), "width must be at most"),
    "depth": (part("LocalUNet", depth=MANY), "depth must be at most"),
    "digits": (part("LocalUNet", width=10**4000), "width must be at most"),
    "negative": (part("Identity", channels=-MANY), "channels must be at most"),
    "in a list": (part("LocalStatistics", near=[3, MANY + 1]), "a number in near must be at most"),
    "in a mapping": (
        part("LocatedResNet", encoder={"depth": MANY}),
        "a number in encoder must be at most",
    ),
    "pairs of bands": (part("LocalPyramid", in_channels=16_000), "all pairs of bands"),
    "pairs in windows": (part("LocalStatistics", near=[3] * 9000), "all pairs of bands"),
    "levels of a pyramid": (part("LocalPyramid", levels=16_000), "at most .* levels"),
    "levels of growth": (part("ProgressiveUNet", levels=MANY), "levels at most 12"),
    "noise levels": (part("DiffusionSampler", levels=MANY), "levels must be at most"),
    "steps": (part("FlowSampler", steps=10_000), "steps must be at least 1 and at most"),
    "phases": (part("StridedUNet", width=1, largest=1, levels=40, norm="none"), "stride of"),
    "nested": (
        part("Blend", **blend(part("LocalUNet", members=MANY))),
        "a number in parts must be at most",
    ),
    "values": (part("LocalStatistics", near=[3] * 11_000), "more than 10,000 values"),
}


@pytest.mark.parametrize("network", LARGE.values(), ids=LARGE)
def test_arguments_cannot_ask_for_more_than_the_weights_hold(folder, network):
    change(folder, "network", json.loads((folder / "model.json").read_text())["network"] | network)
    line = refusal(folder)
    assert f"describe a {network['class']} that is larger than the weights" in line


@pytest.mark.parametrize(("network", "words"), ABSURD.values(), ids=ABSURD)
def test_arguments_without_end_are_refused_before_any_loop(folder, network, words):
    with pytest.raises(CrossbandError, match=words):
        build(Generator, network["class"], network["arguments"])
    if len(json.dumps(network)) < 4000:  # Python reads no number of so many digits
        change(
            folder, "network", json.loads((folder / "model.json").read_text())["network"] | network
        )
        refusal(folder)


@pytest.mark.parametrize(
    ("name", "arguments"), first_quick(cases(Generator), kind=lambda case: case[0])
)
def test_every_network_is_built_within_what_its_own_weights_need(name, arguments):
    torch.manual_seed(1)
    plain = build(Generator, name, arguments).state_dict()
    sizes = [value.numel() for value in plain.values()]
    torch.manual_seed(1)
    with limit_of_weights(sizes):
        limited = build(Generator, name, arguments).state_dict()
    assert all(torch.equal(limited[key], value) for key, value in plain.items())
    if sum(sizes) > 1:
        with pytest.raises(TooLargeError), size_limit(sum(sizes) - 2, 10**9):
            build(Generator, name, arguments)


def test_the_limit_of_one_thread_is_not_that_of_another():
    made = []
    with size_limit(10, 10):
        other = threading.Thread(target=lambda: made.append(nn.Linear(100, 100)))
        other.start()
        other.join()
        with pytest.raises(TooLargeError):
            nn.Linear(100, 100)
    assert made
    nn.Linear(100, 100)


def test_bundled_models_load_as_they_are():
    for folder in bundled().values():
        model = load(folder)
        stored = load_file(folder / "model.safetensors")
        state = model.network.state_dict()
        assert stored.keys() == state.keys()
        assert all(torch.equal(state[key], value.float()) for key, value in stored.items())


DEEP = "[" * 100_000
WRONG = {
    "class is a number": ("network.class", 5, "network.class must be"),
    "class is null": ("network.class", None, "network.class must be"),
    "class is a list": ("network.class", [], "network.class must be"),
    "class is an object": ("network.class", {}, "network.class must be"),
    "arguments are null": ("network.arguments", None, "network.arguments must be an object"),
    "arguments are a list": ("network.arguments", [], "network.arguments must be an object"),
    "network is a list": ("network", [], "network must be an object"),
    "stride without end": ("network.stride", -1, "network.stride must be"),
    "stride is true": ("network.stride", True, "network.stride must be"),
    "margin is text": ("network.margin", "far", "network.margin must be"),
    "hash is null": ("weights.sha256", None, "weights.sha256 must be"),
    "hash is short": ("weights.sha256", "ab", "weights.sha256 must be"),
    "dtype": ("weights.dtype", "complex64", "weights.dtype must be one of float32"),
    "name is a number": ("name", 5, "name must be a line"),
    "name moves the cursor": ("name", "a\x1b[2J", "name must be a line"),
    "format is NaN": ("format", float("nan"), "format NaN, this version reads 1"),
    "format is true": ("format", True, "format true, this version reads 1"),
    "about is a list": ("about", [], "about must be an object"),
    "sensors are numbers": ("about.sensors", [5], "about.sensors must be a list of texts"),
    "signature is a list": ("signature", [], "signature must be an object"),
    "bands are numbers": ("signature.source", [1, 2, 3], "its bands are no list of names"),
    "a band moves the cursor": ("signature.target", ["\x1b[2J"], "needs a name of 1 to 80"),
    "bands are text": ("signature.source", "rgb", "its bands are no list of names"),
    "no bands": ("signature.source", [], "1 to 1024 source bands"),
    "many bands": ("signature.target", ["b"] * 2000, "1 to 1024 target bands"),
    "ranges are null": ("signature.units.display.source", None, "signature is malformed"),
    "units are text": ("signature.units", "display", "signature is malformed"),
    "no units": ("signature.units", {}, "at least one unit"),
    "unknown unit": ("signature.units.display.target_unit", "metre", "unknown unit 'metre'"),
    "unit is a list": ("signature.units.display.target_unit", ["m"], "is no text"),
    "NaN range": (
        "signature.units.display.target",
        [[0.0, float("nan")]],
        "a target range must be",
    ),
    "endless range": (
        "signature.units.display.target",
        [[-3e38, 3e38]],
        "a target range must be",
    ),
    "no range in float32": (
        "signature.units.display.target",
        [[0.0, 1e-60]],
        "a target range must be",
    ),
    "a class of other kind": ("network.class", "PatchGAN", "unknown Generator 'PatchGAN'"),
    "unknown argument": ("network.arguments", {"size": 3}, "LocalUNet has no argument 'size'"),
    "argument of text": ("network.arguments", {"width": "8"}, "width must be int, not '8'"),
    "argument of a list": ("network.arguments", {"width": [8]}, "width must be int"),
    "argument is null": ("network.arguments", {"width": None}, "width must be int"),
    "argument is true": ("network.arguments", {"width": True}, "width must be int"),
    "argument is NaN": ("network.arguments", {"anchor": float("nan")}, "anchor is no number"),
    "self": ("network.arguments", {"self": 1}, "has no argument 'self'"),
}


@pytest.mark.parametrize(("at", "value", "words"), WRONG.values(), ids=WRONG)
def test_a_value_of_another_kind_is_named(folder, at, value, words):
    change(folder, at, value)
    assert words in refusal(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not readable JSON"),
        ("5", "must hold one object"),
        ("[]", "must hold one object"),
        (DEEP, "nested more than 64 deep"),
        ('{"format": 1, "format": 1}', "the key 'format' is there twice"),
        ('{"format": 1}', "the key 'name' is missing"),
        ('{"format": ' + "9" * 5000 + "}", "not readable JSON"),
    ],
)
def test_a_description_that_is_none(folder, text, words):
    (folder / "model.json").write_text(text)
    assert words in refusal(folder)


@pytest.mark.parametrize(
    "inner", [{"class": "LocalUNet"}, {"arguments": {}}, {}, {"class": 5, "arguments": {}}]
)
def test_a_part_that_is_none(folder, inner):
    change(folder, "network.class", "Blend")
    change(folder, "network.arguments", {"parts": [inner], "shares": [1.0]})
    assert "a class and " in refusal(folder)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_pipes_in_a_model_folder_are_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert f"{name}: a FIFO, and no regular file" in refusal(folder)


def header(**tensors):
    """Return a safetensors file with this header, and 64 bytes of data."""
    text = json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text + bytes(64)


def tensor(shape, offsets, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


FILES = {
    "empty": b"",
    "short": b"\0\0",
    "a header without end": (2**63).to_bytes(8, "little"),
    "a header of 100 MB": (10**8).to_bytes(8, "little") + bytes(64),
    "no JSON": (8).to_bytes(8, "little") + b"notjson!" + bytes(64),
    "deep JSON": len(DEEP).to_bytes(8, "little") + DEEP.encode(),
    "beyond the end": header(a=tensor([100], [0, 400])),
    "offsets the wrong way": header(a=tensor([16], [64, 0])),
    "overlapping": header(a=tensor([16], [0, 64]), b=tensor([16], [0, 64])),
    "a gap": header(a=tensor([8], [32, 64])),
    "a shape of billions": header(a=tensor([MANY, MANY], [0, 64])),
    "an overflow": header(a=tensor([2**62, 8], [0, 64])),
    "a shape of text": header(a=tensor(["16"], [0, 64])),
    "a negative shape": header(a=tensor([-16], [0, 64])),
    "an unknown dtype": header(a=tensor([16], [0, 64], "F12")),
    "offsets of NaN": header(a=tensor([16], [0, float("nan")])),
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_files_that_hold_no_tensors(folder, content):
    put_weights(folder, content)
    assert "model.safetensors: not a safetensors file" in refusal(folder)


def test_a_file_of_holes_is_not_hashed(folder):
    os.truncate(folder / "model.safetensors", 2**40)
    assert "larger than 8192 MiB; CROSSBAND_MAX_WEIGHTS_MIB=1048576" in refusal(folder)


def test_many_tensors(folder):
    put_weights(folder, header(**{f"a{i}": tensor([0], [0, 0]) for i in range(20_001)})[:-64])
    assert "20,001 tensors, and 20,000 are the most" in refusal(folder)


@pytest.fixture
def edited(folder):
    """Return a function that changes the tensors of a folder."""

    def edit(change_tensors):
        tensors = load_file(folder / "model.safetensors")
        change_tensors(tensors)
        save_file(tensors, folder / "model.safetensors")
        put_weights(folder, (folder / "model.safetensors").read_bytes())
        return folder

    return edit


def test_tensors_of_another_network_are_named(edited, folder):
    edited(lambda tensors: tensors.update(more=torch.zeros(2)))
    assert "more is [2], and LocalUNet has no such tensor" in refusal(folder)
    edited(lambda tensors: [tensors.pop("more"), tensors.pop("members.0.pixel_in.bias")])
    assert "members.0.pixel_in.bias is not there, and LocalUNet takes [8]" in refusal(folder)
    edited(lambda tensors: tensors.update({"members.0.pixel_in.bias": torch.zeros(2, 4)}))
    assert "members.0.pixel_in.bias is [2, 4], and LocalUNet takes [8]" in refusal(folder)
    whole = torch.zeros(8, dtype=torch.int64)
    edited(lambda tensors: tensors.update({"members.0.pixel_in.bias": whole}))
    assert "members.0.pixel_in.bias is I64, which LocalUNet does not take" in refusal(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_no_numbers_are_named(edited, folder, value):
    name = "members.1.stem.weight"

    def put(tensors):
        tensors[name] = tensors[name].double()
        tensors[name][0, 0, 0, 0] = value

    edited(put)
    assert f"{name} holds values that are not finite" in refusal(folder)


@pytest.mark.parametrize("growth", [float("nan"), -1.0, 1e9])
def test_a_growth_that_no_training_reaches(growth, tmp_path):
    network = ProgressiveUNet(1, 1, width=4, levels=1)
    network.growth = growth
    folder = Model(network, line_signature(), name="x", task="x").save(tmp_path / "model")
    assert "growth" in refusal(folder)


def test_baselines_that_hold_themselves_end(folder):
    (folder / "baselines").mkdir()
    (folder / "baselines" / "again").symlink_to(folder)
    assert load(folder).baselines.keys() == {"again"}


@pytest.mark.parametrize("name", ["x" * 5000, "nul\0byte", "hf://", "\ud800"])
def test_names_that_no_folder_has(name):
    with pytest.raises(ModelError):
        load(name)


def test_a_network_that_enlarges_without_end_is_no_model():
    with pytest.raises(ModelError, match="a scale of 500, and 1 to 64 are possible"):
        Model(Bicubic(1, 1, scale=500), line_signature(), name="x", task="x")
