"""The networks behind FID: their published shapes, their files, and what is refused of them."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiers import slow
from torch import nn

from crossband.errors import CrossbandError, ModelError
from crossband.metrics.extractors import inception, load
from crossband.metrics.extractors.base import Distance
from crossband.metrics.extractors.inception import Block, InceptionV3

#: Shapes as tf-slim's inception_v3.py notes them beside each layer (height = width, channels), and
#: table 1 of Szegedy et al. 2016 for the input of each.
PUBLISHED = {
    "Conv2d_1a_3x3": (149, 32),
    "Conv2d_2a_3x3": (147, 32),
    "Conv2d_2b_3x3": (147, 64),
    "MaxPool_3a_3x3": (73, 64),
    "Conv2d_3b_1x1": (73, 80),
    "Conv2d_4a_3x3": (71, 192),
    "MaxPool_5a_3x3": (35, 192),
    "Mixed_5b": (35, 256),
    "Mixed_5c": (35, 288),
    "Mixed_5d": (35, 288),
    "Mixed_6a": (17, 768),
    "Mixed_6b": (17, 768),
    "Mixed_6c": (17, 768),
    "Mixed_6d": (17, 768),
    "Mixed_6e": (17, 768),
    "Mixed_7a": (8, 1280),
    "Mixed_7b": (8, 2048),
    "Mixed_7c": (8, 2048),
}
FIRST = "Conv2d_1a_3x3.conv.weight"


#: SHA-256 of "name [shape]" lines, sorted, of the network of torch-fidelity 0.4.0; and what that
#: network gives for `wavy` weights and `pictures()`: every 256th feature, the greatest probability.
LAYOUT = "e3dd03f9cf965828e1bbc1d9d1172fe1de37b53d8b23591dfcb566b2db60e00b"
ANSWERS = [
    [21.9105, 0.7135, 0.4368, 0.8807, 0.6772, 0.7066, 3.1864, 7.4128],
    [21.8085, 0.7681, 0.4419, 0.9603, 0.7902, 0.7487, 3.1894, 7.4357],
]
GREATEST = 0.5290


def wavy(state):
    """Fill a state dict with numbers that look random, and are the same everywhere."""
    filled = {}
    for i, (name, value) in enumerate(sorted(state.items())):
        if name.endswith("num_batches_tracked"):
            filled[name] = value
            continue
        wave = (
            torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 12.9898 + i) * 43758.5453
        )
        wave = (2 * (wave - wave.floor()) - 1).reshape(value.shape)
        if value.ndim > 1:
            wave *= math.sqrt(6 / value[0].numel())
        elif name.endswith(("bn.weight", "running_var")):
            wave = 1 + wave / 2
        else:
            wave /= 10
        filled[name] = wave.float()
    return filled


def pictures():
    """Return two pictures [2, 3, 299, 299] of waves, whole numbers 0..255."""
    row, col = torch.meshgrid(torch.arange(299.0), torch.arange(299.0), indexing="ij")
    waves = [
        torch.stack([torch.sin(row / (5 + c) + n) * torch.cos(col / (9 - 2 * c)) for c in range(3)])
        for n in range(2)
    ]
    return (torch.stack(waves) * 127.5 + 127.5).round()


@pytest.fixture(scope="module")
def network():
    made = InceptionV3().eval()
    made.load_state_dict(wavy(made.state_dict()))
    return made


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "weights.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture
def light(network):
    """Return the same tensors' shapes in a file of a few kilobytes: one stored number each."""
    return {
        k: torch.zeros((), dtype=v.dtype).expand(v.shape) for k, v in network.state_dict().items()
    }


def saved(folder, state, name="weights.pth"):
    torch.save(state, folder / name)
    return folder / name


def noise(count, side):
    torch.manual_seed(3)
    return torch.rand(count, 3, side, side) * 255


# ---- our own Inception ----------------------------------------------------------------------


def test_layers_have_their_published_shapes(network):
    shapes = {}
    hooks = [
        module.register_forward_hook(
            lambda _, __, out, name=name: shapes.update({name: tuple(out.shape)})
        )
        for name, module in network.named_children()
    ]
    with torch.no_grad():
        values = network(torch.zeros(1, 3, 299, 299))
    for hook in hooks:
        hook.remove()
    assert shapes == {name: (1, c, s, s) for name, (s, c) in PUBLISHED.items()}
    assert values.shape == (1, 2048)
    assert network.fc(values).shape == (1, 1008)


def test_parameters_are_as_many_as_published(network):
    # torchvision's page of inception_v3 says 27,161,264. Its auxiliary head has 3,326,696 of them
    # (768 -> 128 -> 768 by 1 x 1 and 5 x 5, two batch norms, 768 -> 1000), and its last layer 1000
    # classes, not 1008.
    head = 768 * 128 + 2 * 128 + 128 * 768 * 25 + 2 * 768 + 769 * 1000
    assert sum(p.numel() for p in network.parameters()) == 27_161_264 - head + 8 * 2049
    # Keras' InceptionV3 without its top has 21,802,784: beside the convolutions, 3 numbers for each
    # channel of a batch norm, which has no scale there.
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    convolutions = sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d))
    assert convolutions + 3 * sum(m.num_features for m in norms) == 21_802_784
    assert len(norms) == 94
    assert len(network.state_dict()) == 566  # entries of the published file
    assert all(m.eps == 0.001 for m in norms)


def test_tensors_are_named_and_shaped_as_published(network):
    state = sorted(network.state_dict().items())
    lines = "".join(f"{name} {list(value.shape)}\n" for name, value in state)
    assert hashlib.sha256(lines.encode()).hexdigest() == LAYOUT


def test_pools_are_those_of_the_fid_network(network):
    kinds = {name: m.pool for name, m in network.named_children() if isinstance(m, Block)}
    halving, greatest = {"Mixed_6a", "Mixed_7a"}, {"Mixed_7c"}
    assert {n for n, kind in kinds.items() if kind == "halve"} == halving
    assert {n for n, kind in kinds.items() if kind == "max"} == greatest
    assert len(kinds) == 11


@pytest.mark.parametrize(("pool", "expected"), [("mean", [1, 3]), ("max", [1, 8])])
def test_pools_do_not_count_the_padding(pool, expected):
    block = Block(1, (), pool, 1).eval()
    nn.init.ones_(block.branch_pool.conv.weight)
    block.branch_pool.bn.eps = 0.0
    ones = torch.ones(1, 1, 4, 4)
    assert torch.allclose(block(ones), ones)  # a counted padding would darken edges and corners
    spot = torch.zeros(1, 1, 5, 5)
    spot[0, 0, 0, 0], spot[0, 0, 0, 1] = 8.0, 4.0
    corners = [block(x)[0, 0, 0, 0].item() for x in (ones, spot)]
    assert corners == pytest.approx(expected)


@pytest.mark.parametrize("kind", [slow("safetensors"), "pth, nested and old"])
def test_weights_come_back_from_a_file(kind, network, weights, tmp_path):
    path = weights
    if kind != "safetensors":
        state = network.state_dict()
        old = {k: v for k, v in state.items() if "num_batches" not in k}  # before PyTorch 0.4.1
        path = saved(tmp_path, {"state_dict": old, "epoch": 3})
    extractor = load(path, device="cpu")
    assert extractor.weights_hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not extractor.about()["published_weights"]
    assert extractor.about()["resize"] == "bilinear, antialiased, to 299 x 299"
    assert not extractor.network.training
    assert not any(p.requires_grad for p in extractor.network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(extractor.network.state_dict()[name], value), name


def test_features_and_classes_are_those_of_torch_fidelity(network, weights):
    extractor = load(weights, device="cpu")
    found = extractor(pictures())
    assert found.values.shape == (2, 2048)
    assert found.probabilities.shape == (2, 1008)
    torch.testing.assert_close(found.values[:, ::256], torch.tensor(ANSWERS), rtol=1e-4, atol=1e-4)
    assert float(found.probabilities.max()) == pytest.approx(GREATEST, abs=1e-4)
    logits = network.fc(found.values) - network.fc.bias  # the score's authors leave the bias out
    torch.testing.assert_close(found.probabilities, logits.softmax(1), rtol=1e-4, atol=1e-8)
    assert extractor.prepare(noise(1, 64)[0]).shape == (3, 299, 299)


def refused(path, message):
    with pytest.raises(ModelError, match=message) as caught:
        load(path, device="cpu")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_tensors_that_do_not_fit_are_named(light, tmp_path):
    def bad(name, value):
        return saved(tmp_path, {**light, name: value})

    first = light[FIRST]
    assert load(bad(FIRST, first), device="cpu").name == "inception"
    thousand = first[0, 0, 0, 0].expand(1000, 2048)
    refused(bad("fc.weight", thousand), r"fc.weight is \[1000, 2048\].*\[1008, 2048\]")
    refused(bad("AuxLogits.fc.bias", torch.zeros(9)), "has no tensor AuxLogits.fc.bias")
    refused(bad(FIRST, first + torch.nan), f"{FIRST} holds values that are not finite")
    refused(bad(FIRST, first.int()), f"{FIRST} is int32, no number")
    refused(saved(tmp_path, {FIRST: first}), "Conv2d_1a_3x3.bn.weight is missing")
    refused(saved(tmp_path, {"conv1.weight": first}), f"no tensor {FIRST}")


class Runs:
    def __reduce__(self):
        return os.mkdir, ("unpacked",)


def test_what_is_not_plain_tensors_is_never_unpacked(light, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(saved(tmp_path, {**light, "more": Runs()}), "holds other objects than tensors")
    refused(saved(tmp_path, InceptionV3), "holds other objects than tensors")
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "script.pt")
    refused(tmp_path / "script.pt", "cannot be read as a checkpoint|other objects than tensors")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Runs()))
    refused(tmp_path / "plain.pth", "other objects than tensors|cannot be read")
    (tmp_path / "words.pth").write_text("no weights")
    refused(tmp_path / "words.pth", "not a file that torch.save wrote")
    (tmp_path / "words.safetensors").write_text("no weights at all")
    refused(tmp_path / "words.safetensors", "not a safetensors file")
    refused(tmp_path / "gone.pth", "no such file")
    assert not (tmp_path / "unpacked").exists()


def test_the_name_takes_the_published_file(light, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    with pytest.raises(ModelError, match=r"put pt_inception-2015-12-05-6726825d.pth .* into"):
        load("inception")
    folder.mkdir(parents=True)
    path = saved(folder, light, inception.FILES[1])
    with pytest.raises(ModelError, match="not the published weights"):
        load("inception", device="cpu")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "PUBLISHED", digest)
    assert load("inception", device="cpu").about()["published_weights"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("incepton", "did you mean 'inception'"),
        ("resnet", "known: inception, lpips, torch-fidelity, or a file .safetensors"),
        ("weights.onxx", "unknown feature extractor"),
    ],
)
def test_unknown_names(text, message):
    with pytest.raises(CrossbandError, match=message):
        load(text)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"")
    refused(tmp_path / "weights.bin", "an extractor is a file .safetensors")


# ---- ONNX -----------------------------------------------------------------------------------


@pytest.fixture
def graph(tmp_path):
    """Return a function that writes an ONNX file: the mean of each channel, and two classes."""
    onnx = pytest.importorskip("onnx", reason="the package onnx writes the files of these tests")
    pytest.importorskip("onnxruntime", reason="crossband[onnx] is not installed")
    from onnx import TensorProto, helper, numpy_helper

    def make(shape=("n", 3, "h", "w"), kind=TensorProto.FLOAT, pool=True, classes=True, inputs=1):
        classes = classes and pool
        matrix = np.array([[1, 0], [0, 1], [0, 0]], np.float32) / 10
        nodes = [helper.make_node("Cast", ["x0"], ["f"], to=TensorProto.FLOAT)]
        if pool:
            nodes.append(helper.make_node("ReduceMean", ["f", "axes"], ["features"], keepdims=0))
        else:
            nodes.append(helper.make_node("Identity", ["f"], ["features"]))
        outputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, None)]
        if classes:
            nodes.append(helper.make_node("MatMul", ["features", "m"], ["logits"]))
            outputs.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, None))
        given = [helper.make_tensor_value_info(f"x{i}", kind, shape) for i in range(inputs)]
        numbers = [
            numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
            numpy_helper.from_array(matrix, "m"),
        ]
        made = helper.make_graph(nodes, "means", given, outputs, numbers)
        opset = [helper.make_opsetid("", 18)]
        model = helper.make_model(made, opset_imports=opset, ir_version=9)
        onnx.save(model, tmp_path / "means.onnx")
        return tmp_path / "means.onnx"

    return make


def test_onnx_features_and_classes(graph):
    path = graph()
    extractor = load(path)
    given = noise(3, 20)
    found = extractor(given)
    torch.testing.assert_close(found.values, given.mean((2, 3)))
    expected = (given.mean((2, 3))[:, :2] / 10).softmax(1)
    torch.testing.assert_close(found.probabilities, expected)
    assert extractor.about() == {
        "name": "onnx means.onnx",
        "weights_hash": hashlib.sha256(path.read_bytes()).hexdigest(),
        "resize": "none",
    }
    assert torch.equal(extractor.prepare(given[0]), given[0])
    assert load(graph(classes=False))(given).probabilities is None


def test_onnx_takes_bytes_a_fixed_size_and_whole_batches(graph):
    from onnx import TensorProto

    extractor = load(graph((2, 3, 8, 8), TensorProto.UINT8))
    assert (extractor.size, extractor.batch) == (8, 2)
    assert extractor.resize == "bilinear, antialiased, to 8 x 8, rounded to 8 bits"
    given = torch.stack([extractor.prepare(p) for p in noise(5, 20)])
    assert given.shape == (5, 3, 8, 8)
    found = extractor(given).values
    torch.testing.assert_close(found, given.round().mean((2, 3)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": 2}, "one input .* is needed, not x0 .*; x1"),
        (
            {"shape": ("n", 3, "h"), "pool": False},
            r"is needed, not x0 tensor.float. \['n', 3, 'h'\]",
        ),
        ({"shape": ("n", 1, "h", "w"), "classes": False}, "3 channels and equal sides"),
        ({"shape": ("n", 3, 8, 9)}, "3 channels and equal sides"),
        ({"kind": 11}, "float32 or uint8 is needed, not x0 tensor.double"),
    ],
)
def test_onnx_inputs_are_laid_down(graph, options, message):
    refused(graph(**options), message)


def test_onnx_outputs_are_laid_down(graph):
    extractor = load(graph(pool=False))
    with pytest.raises(ModelError, match=r"output features is \[2, 3, 9, 9\].*pool it"):
        extractor(noise(2, 9))


def test_onnx_stands_alone(graph, tmp_path):
    import onnx

    path = graph()
    onnx.save_model(
        onnx.load(path), path, save_as_external_data=True, location="more.bin", size_threshold=0
    )
    assert (tmp_path / "more.bin").exists()
    refused(path, "cannot open it")
    path.write_bytes(b"no graph")
    refused(path, "cannot open it")
    path.unlink()
    refused(path, "no such file")


# ---- other packages -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("net.onnx", "onnxruntime", "onnx"),
        ("torch-fidelity", "torch_fidelity", "fidelity"),
        ("lpips", "lpips", "lpips"),
    ],
)
def test_a_missing_package_is_one_line(name, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CrossbandError, match=rf"pip install 'crossband\[{extra}\]'"):
        load(name)


def stand_in(monkeypatch, name, **content):
    """Put a module where a package would be."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        module = ModuleType(".".join(parts[:end]))
        module.__path__ = []
        monkeypatch.setitem(sys.modules, module.__name__, module)
    vars(module).update(content)


class PlainInception(nn.Module):
    """Called as torch-fidelity's: uint8 in, a tuple of the layers asked for out."""

    def __init__(self, name, features_list, feature_extractor_weights_path=None):
        super().__init__()
        assert name == "inception-v3-compat"
        assert feature_extractor_weights_path is None
        assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
        self.layers, self.weight = features_list, nn.Parameter(torch.eye(3)[:2])

    def forward(self, x):
        assert x.dtype == torch.uint8
        mean = x.float().mean((2, 3))
        return tuple(
            {"2048": mean, "logits_unbiased": mean @ self.weight.T}[k] for k in self.layers
        )


def test_torch_fidelity_is_called_its_way(monkeypatch):
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    place = "torch_fidelity.feature_extractor_inceptionv3"
    stand_in(monkeypatch, place, FeatureExtractorInceptionV3=PlainInception)
    extractor = load("torch-fidelity", device="cpu")
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    given = noise(2, 9)
    found = extractor(given)
    torch.testing.assert_close(found.values, given.round().mean((2, 3)))
    torch.testing.assert_close(found.probabilities, found.values[:, :2].softmax(1))
    assert extractor.about()["resize"].startswith("bilinear as in TensorFlow 1")
    assert torch.equal(extractor.prepare(given[0]), given[0])
    assert len(extractor.weights_hash) == 64


class PlainLpips(nn.Module):
    """Called as lpips.LPIPS: -1..1 in, [N, 1, 1, 1] out."""

    def __init__(self, net, version, verbose):
        super().__init__()
        assert (net, version, verbose) == ("alex", "0.1", False)
        self.register_buffer("shift", torch.zeros(1))

    def forward(self, one, two):
        assert min(one.min(), two.min()) >= -1
        assert max(one.max(), two.max()) <= 1
        return (one - two).abs().mean((1, 2, 3), keepdim=True)


def test_lpips_is_called_its_way(monkeypatch):
    stand_in(monkeypatch, "lpips", LPIPS=PlainLpips)
    distance = load("lpips", device="cpu")
    assert isinstance(distance, Distance)
    black, white = torch.zeros(2, 3, 40, 40), torch.full((2, 3, 40, 40), 255.0)
    assert distance(black, white).tolist() == [2.0, 2.0]
    assert distance(white, white).tolist() == [0.0, 0.0]
    assert (distance.name, len(distance.weights_hash)) == ("lpips", 64)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (pickle.UnpicklingError("x\ny"), "other objects than tensors, which are never unpacked"),
        (OSError("no network\nat all"), "lpips: its network cannot be built: no network at all"),
    ],
)
def test_a_package_that_fails_is_one_line(error, message, monkeypatch):
    def fail(**_):
        raise error

    stand_in(monkeypatch, "lpips", LPIPS=fail)
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")
    with pytest.raises(CrossbandError, match=message):
        load("lpips", device="cpu")
    assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "0"


def really(package):
    """Skip where a package is absent, or does not import with this torch."""
    return pytest.importorskip(package, reason=f"{package} is not installed", exc_type=ImportError)


def test_ours_equals_torch_fidelitys(weights, network, tmp_path, monkeypatch):
    really("torch_fidelity.feature_extractor_inceptionv3")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    saved(folder, network.state_dict(), inception.FILES[1])
    given = pictures()
    theirs = load("torch-fidelity", device="cpu")(given)
    ours = load(weights, device="cpu")(given)
    torch.testing.assert_close(ours.values, theirs.values)
    torch.testing.assert_close(ours.probabilities, theirs.probabilities, rtol=1e-3, atol=1e-6)


def test_the_real_lpips(tmp_path):
    really("lpips")
    try:
        distance = load("lpips", device="cpu")
    except CrossbandError as error:
        pytest.skip(f"AlexNet's weights are not there: {error}")
    given = noise(2, 40)
    assert distance(given, given).tolist() == [0.0, 0.0]
    assert (distance(given, given.flip(-1)) > 0).all()
    small = torch.zeros(1, 3, distance.min_side, distance.min_side)
    assert distance(small, small).tolist() == [0.0]
