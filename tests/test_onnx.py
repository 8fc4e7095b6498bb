"""Models in ONNX: what is exported gives torch's numbers, and a file of others is checked."""

from __future__ import annotations

import json
from dataclasses import replace
from operator import itemgetter

import numpy as np
import pytest
import torch
from registered import cases, waken
from tiers import first_quick, slow

from crossband import Model, load
from crossband.cli.main import main
from crossband.core.registry import build
from crossband.core.signature import Signature, UnitRange
from crossband.errors import CrossbandError, ModelError, OutputError, UnitError
from crossband.networks import Generator
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions
from crossband.translate.options import TileOptions
from crossband.translate.window import translate_window

onnx = pytest.importorskip("onnx", reason="crossband[onnx] is not installed")
pytest.importorskip("onnxruntime", reason="crossband[onnx] is not installed")

from crossband.model.exporting.onnx_file import (  # noqa: E402
    export_onnx,
    on_onnx_runtime,
    physical_graph,
)
from crossband.model.onnx_file import KEY  # noqa: E402

CASES = cases(Generator)
#: Why each class is no graph; those that are not here are exported.
REFUSED = {
    "DiffusionSampler": "it draws random numbers",
    "FlowSampler": "it draws random numbers",
    "TwoStepThermal": "it draws random numbers",
    "StyleResNet": "it draws random numbers",
    "LocatedResNet": "it takes the place on Earth",
    "DiscoUNet": "depends on the whole image",
    "UNITViT": "depends on the whole image",
    "GuidedUNet": "takes a guide",
    "GuidedResidual": "takes a guide",
    "GuidedDetail": "takes a guide",
}
#: Classes of a thousand operators.
LONG = frozenset({"FamiliarBlend", "LocalPyramid", "LocalStatistics", "ProgressiveUNet"})
SATELLITE = "rgb2nir/satellite/hls_sr_waterchip_013.tif"
RADAR = "sar2optical/biomassters_fi/s1/000aa810_10.tif"


def model_of(network, low=0.0, high=1.0):
    """A model in decibels, which may be negative, so that clipping hides no difference."""
    bands = [f"b{i}" for i in range(network.in_channels)]
    outs = [f"t{i}" for i in range(network.out_channels)]
    guide = [f"g{i}" for i in range(network.guide)]
    one = [(low, high)]
    ranges = UnitRange(one * len(bands), one * len(outs), None, one * len(guide))
    return Model(network, Signature(bands, outs, {"db": ranges}, guide), name="m", task="t")


def _tiers():
    """One of each class in the quick tier, but for those whose graph takes long to trace."""
    for case in first_quick(CASES, itemgetter(0)):
        yield slow(*case.values) if case.values[0] in LONG and not case.marks else case


@pytest.mark.parametrize(("name", "arguments"), _tiers())
def test_every_network_is_exported_or_refused_by_its_name(name, arguments):
    network = waken(build(Generator, name, arguments))
    everywhere = network.margin is None and not network.conditioned
    words = REFUSED.get(name) or ("depends on the whole image" if everywhere else None)
    if words is not None:
        with pytest.raises(ModelError, match=f"{name} cannot be exported to ONNX: .*{words}"):
            on_onnx_runtime(model_of(network))
        return
    torch_model = model_of(network)
    traced = on_onnx_runtime(torch_model)
    for shape in ((1, 1), (7, 10), (16, 16), (61, 83), (network.stride, 2 * network.stride)):
        x = torch.rand(1 + shape[0] % 2, network.in_channels, *shape)
        with torch.no_grad():
            assert (traced(x) - torch_model(x)).abs().max() <= 1e-5


@pytest.fixture(scope="module")
def small():
    """A model of two units whose network has a margin, a stride and random weights."""
    network = waken(build(Generator, "LocalUNet", {"width": 8, "depth": 1, "hidden": 6}))
    ranges = {
        "reflectance": UnitRange([(0.0, 0.4), (0.1, 0.5), (0.0, 0.3)], [(0.0, 0.6)]),
        "display": UnitRange([(0.0, 1.0)] * 3, [(0.0, 0.9)]),
    }
    return Model(
        network,
        Signature(["red", "green", "blue"], ["nir"], ranges),
        name="small",
        task="rgb2nir",
        about={"licence": "MIT", "sensors": ["naip"], "training": {"seed": 1}},
    )


@pytest.fixture(scope="module")
def small_file(small, tmp_path_factory):
    return export_onnx(small, tmp_path_factory.mktemp("onnx") / "small.onnx")


def test_a_file_takes_and_gives_physical_values_and_says_what_it_is(small, small_file):
    model = load(small_file)
    x = 0.5 * torch.rand(1, 3, 45, 33)
    with torch.no_grad():
        assert (model(x) - small(x)).abs().max() <= 1e-5
    assert model.network.margin == small.network.margin
    assert (model.network.stride, model.network.scale) == (4, 1)
    assert list(model.signature.units) == ["reflectance"]
    held = onnx.load(small_file)
    assert (held.opset_import[0].version, held.ir_version) == (17, 8)
    (entry,) = held.metadata_props
    about = json.loads(entry.value)
    assert entry.key == KEY
    assert len(about["weights"]["sha256"]) == 64
    assert about["about"] == {"licence": "MIT", "sensors": ["naip"]}
    assert [d.dim_param for d in held.graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        "",
        "height",
        "width",
    ]


def test_a_graph_masks_nan_and_infinity_as_a_translated_scene_does(small, small_file):
    import onnxruntime

    x = 0.5 * np.random.default_rng(0).random((1, 3, 40, 30), np.float32)
    x[0, 1, 20, 5], x[0, :, 3:9, 12:20] = np.inf, np.nan
    (found,) = onnxruntime.InferenceSession(small_file).run(None, {"source": x})
    mask = np.isfinite(x[0]).all(axis=0)
    assert np.array_equal(np.isfinite(found[0, 0]), mask)
    low = np.array([0.0, 0.1, 0.0], np.float32)[:, None, None]
    with torch.no_grad():
        expected = small(torch.from_numpy(np.where(mask, x[0], low)))[0].numpy()
    assert np.abs(found[0, 0] - expected)[mask].max() <= 1e-5


def test_a_file_of_another_unit(small, tmp_path):
    model = load(export_onnx(small, tmp_path / "display.onnx", unit="display"))
    x = torch.rand(2, 3, 9, 14)
    with torch.no_grad():
        assert (model(x, "display") - small(x, "display")).abs().max() <= 1e-5
    with pytest.raises(UnitError, match="--unit kelvin: the model takes reflectance and display"):
        export_onnx(small, tmp_path / "no.onnx", unit="kelvin")
    assert not (tmp_path / "no.onnx").exists()


def test_the_same_model_gives_the_same_bytes(small, small_file):
    again = physical_graph(small).SerializeToString(deterministic=True)
    assert again == small_file.read_bytes()


@pytest.mark.parametrize("kind", ["runtime", "file"])
def test_tiles_of_onnx_runtime_are_exact(small, small_file, kind, make_raster, tmp_path):
    model = on_onnx_runtime(small) if kind == "runtime" else load(small_file)
    mask = np.random.default_rng(1).random((75, 91)) > 0.05
    values = 0.4 * np.random.default_rng(0).random((3, 75, 91), np.float32)
    scene = make_raster(values=values, mask=mask)
    with open_scene(scene, ReadOptions(), needed=["red", "green", "blue"]) as opened:
        window = opened.read()
    expected = translate_window(small, window, TileOptions(precision="fp32"))
    whole = translate_window(model, window)
    tiled = translate_window(model, window, TileOptions(tile=48, batch=2))
    assert np.array_equal(tiled.mask, expected.mask)
    assert np.abs(whole.values - expected.values).max() <= 1e-5
    assert np.abs(tiled.values - whole.values).max() <= 1e-6


@pytest.mark.parametrize(
    ("name", "path", "read"),
    [
        slow("rgb2nir", SATELLITE, ReadOptions(sensor="hls")),
        slow("super-resolution-x2", SATELLITE, ReadOptions(sensor="hls")),
        slow("super-resolution-x4", SATELLITE, ReadOptions(sensor="hls")),
        slow("sar2optical", RADAR, ReadOptions(sensor="sentinel-1-grd-db")),
    ],
)
def test_bundled_models_on_real_scenes(name, path, read, real_data, tmp_path):
    """At most 1e-5 in physical units: whole, in two tile sizes, and on an odd shape."""
    model = load(name)
    file = load(export_onnx(model, tmp_path / f"{name}.onnx"))
    runtime = on_onnx_runtime(model)
    with open_scene(real_data / path, read, needed=model.signature.source) as scene:
        window = scene.read()
    odd = window.crop(replace(window.grid.box, row=3, col=5, height=67, width=101))
    fp32 = TileOptions(precision="fp32")
    for part, tiles in ((window, (None, 96, 160)), (odd, (None,))):
        expected = translate_window(model, part, fp32)
        assert len(np.unique(expected.values)) > 100
        for tile in tiles:
            for other in (file, runtime):
                found = translate_window(other, part, replace(fp32, tile=tile))
                assert np.abs(found.values - expected.values).max() <= 1e-5
                assert np.array_equal(found.mask, expected.mask)


def test_commands(tiny_model, make_raster, tmp_path, capsys):
    scene, file = make_raster(values=np.full((3, 30, 40), 0.2, np.float32)), tmp_path / "m.onnx"
    assert main(["export", str(tiny_model), "--to", "onnx", "-o", str(file)]) == 0
    assert main(["export", str(tiny_model), "--to", "onnx", "-o", str(file)]) == 2
    assert "exists already" in capsys.readouterr().err
    pixels = {}
    for name, options in {
        "torch": ["--model", str(tiny_model), "--precision", "fp32"],
        "runtime": ["--model", str(tiny_model), "--engine", "onnx"],
        "file": ["--model", str(file)],
        "both": ["--model", str(file), "--engine", "onnx", "--tile", "64"],
    }.items():
        out = tmp_path / f"{name}.tif"
        assert main(["translate", str(scene), "-o", str(out), "--quiet", *options]) == 0
        with open_scene(out, ReadOptions(), needed=["nir"]) as opened:
            pixels[name] = opened.read().values
    for values in pixels.values():
        assert np.abs(values - pixels["torch"]).max() <= 1e-5
    again = ["translate", str(scene), "-o", str(tmp_path / "runtime.tif"), "--resume"]
    assert main([*again, "--model", str(tiny_model), "--engine", "onnx"]) == 0
    assert "is done already" in capsys.readouterr().out
    assert main([*again, "--model", str(tiny_model)]) == 2  # of the other engine
    assert "the model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--engine", "onnx", "--device", "cuda"], "--device cuda: onnxruntime computes with cpu"),
        (["--engine", "onnx", "--precision", "bf16"], "--precision bf16: onnxruntime computes"),
        (["--engine", "onxn"], "--engine onxn: did you mean 'onnx'?"),
    ],
)
def test_what_the_engine_does_not_do(options, words, tiny_model, make_raster, tmp_path, capsys):
    scene, out = make_raster(), tmp_path / "out.tif"
    given = ["translate", str(scene), "-o", str(out), "--model", str(tiny_model), *options]
    assert main(given) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.slow
def test_an_exported_model_is_evaluated(small, small_file, tmp_path):
    import pandas as pd
    from tiny import pairs

    from crossband.evaluation.evaluate import evaluate

    small.save(tmp_path / "folder")
    manifest = pairs(tmp_path / "pairs", "rgb2nir", count=2)
    found = {}
    for name in (str(small_file), str(tmp_path / "folder")):
        output = tmp_path / f"report-{len(found)}"
        report = evaluate([name], manifest, output, pictures=0, precision="fp32")
        assert report.metrics["models"][0]["name"] == "small"
        table = pd.read_csv(output / "per_image.csv")
        found[name] = table[table["by"] == "model"][["mae", "rmse", "r", "ssim", "NDVI_mae"]]
    one, other = found.values()
    assert len(one) == 2
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_network_that_branches_on_sizes_is_refused():
    class _Branching(Generator):
        in_channels, out_channels = 1, 1

        def forward(self, x):
            return x * (2.0 if x.shape[-1] > 8 else 1.0) if x.shape[-2] < 6 else x

    network = _Branching()
    network.arguments = {}
    with pytest.raises(ModelError, match="the graph differs from torch by"):
        on_onnx_runtime(model_of(network))


def test_an_operation_that_onnx_lacks_is_one_line():
    class _Foreign(Generator):
        in_channels, out_channels = 1, 1

        def forward(self, x):
            return torch.special.bessel_j0(x)

    network = _Foreign()
    network.arguments = {}
    with pytest.raises(ModelError, match="_Foreign cannot be exported to ONNX: ") as error:
        on_onnx_runtime(model_of(network))
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)


def test_a_model_in_onnx_has_no_folder(small_file, tmp_path):
    model = load(small_file)
    with pytest.raises(ModelError, match="has no weights for a model folder"):
        model.save(tmp_path / "folder")
    with pytest.raises(ModelError, match="it is a graph of ONNX already"):
        export_onnx(model, tmp_path / "again.onnx")
    with pytest.raises(OutputError, match=r"give the file the suffix \.onnx"):
        export_onnx(model, tmp_path / "again.pb")


# ---- files of others ------------------------------------------------------------------------


def _opset(model, version):
    model.opset_import[0].version = version


def _custom(model):
    model.graph.node[0].domain = "com.evil"
    model.opset_import.add().domain = "com.evil"


def _inner(model):
    """A custom operator in a branch of an If."""
    from onnx import TensorProto, helper

    inner = helper.make_graph(
        [helper.make_node("Call", [], ["y"], domain="com.evil")],
        "branch",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model.graph.node.append(
        helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    )


def _external(model):
    tensor = next(t for t in model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"


def _constant(model):
    """External data in the attribute of a node."""
    node = model.graph.node.add()
    node.op_type = "Constant"
    node.output.append("c")
    attribute = node.attribute.add()
    attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
    attribute.t.data_location = onnx.TensorProto.EXTERNAL


def _loop(model):
    model.graph.node.add().op_type = "Loop"


def _functions(model):
    model.functions.add().name = "f"


def _no_metadata(model):
    model.ClearField("metadata_props")


def _twice(model):
    model.metadata_props.append(model.metadata_props[0])


def _described(model, **changes):
    entry = model.metadata_props[0]
    entry.value = json.dumps(json.loads(entry.value) | changes)


def _key(model):
    _described(model, code="print()")


def _scale(model):
    network = json.loads(model.metadata_props[0].value)["network"]
    _described(model, network=network | {"scale": 2})


FAULTS = {
    "old": (lambda m: _opset(m, 5), "opset 5, and 13 to"),
    "new": (lambda m: _opset(m, 99), "opset 99, and 13 to"),
    "no-opset": (lambda m: m.ClearField("opset_import"), "does not say of which opset"),
    "custom": (_custom, "is of 'com.evil' and not of ONNX"),
    "custom-in-a-branch": (_inner, "is of 'com.evil' and not of ONNX"),
    "external": (_external, "lie in another file, which is not read"),
    "external-constant": (_constant, "lie in another file, which is not read"),
    "loop": (_loop, "its operator Loop is a loop, which may not end"),
    "functions": (_functions, "defines operators of its own"),
    "no-metadata": (_no_metadata, "does not say which bands and units it takes"),
    "metadata-twice": (_twice, "are there twice"),
    "unknown-key": (_key, "unknown key 'code'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_refused(fault, small_file, tmp_path):
    change, words = FAULTS[fault]
    model = onnx.load(small_file)
    change(model)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError) as error:
        load(path)
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)


def test_a_graph_of_another_shape_than_its_metadata_is_one_line(small_file, tmp_path):
    model = onnx.load(small_file)
    _scale(model)
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    with pytest.raises(
        ModelError, match=r"it makes \[1, 1, 8, 8\], and \[1, 1, 16, 16\] is needed"
    ) as error:
        load(path)(torch.rand(1, 3, 8, 8))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"not a protobuf at all", b"\x08" * 5000])
def test_what_is_no_onnx_file(content, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="no ONNX file"):
        load(path)


def test_damaged_files_are_one_line(small_file, tmp_path):
    """Any byte may be another one: a line, or a model, and nothing else."""
    content, rng, lines = small_file.read_bytes(), np.random.default_rng(0), []
    path = tmp_path / "m.onnx"
    for _ in range(40):
        damaged = bytearray(content)
        for at in rng.integers(len(content), size=3):
            damaged[at] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            load(path)(torch.rand(1, 3, 6, 6))
        except CrossbandError as error:
            lines.append(str(error))
    assert lines
    assert "\n" not in "".join(lines)


def test_a_large_file_is_not_read(small_file, tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSBAND_MAX_WEIGHTS_MIB", "1")
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(2**21)
    with pytest.raises(ModelError, match="larger than 1 MiB"):
        load(path)


def test_without_the_package(small, monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(CrossbandError, match=r"pip install 'crossband\[onnx\]'"):
        export_onnx(small, tmp_path / "m.onnx")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(CrossbandError, match=r"onnxruntime.*pip install 'crossband\[onnx\]'"):
        on_onnx_runtime(small)


def test_a_file_of_another_program_is_described(small, small_file, make_raster, tmp_path, capsys):
    """With its bands and units stated, a graph without our metadata is a model."""
    held, foreign = onnx.load(small_file), tmp_path / "foreign.onnx"
    held.ClearField("metadata_props")
    onnx.save(held, foreign)
    named = tmp_path / "named.onnx"
    given = ["import", str(foreign), "-o", str(named), "--task", "rgb2nir", "--unit", "reflectance"]
    bands = ["--source-bands", "red,green,blue", "--target-bands", "nir"]
    tiles = ["--margin", str(small.network.margin), "--stride", "4"]
    assert main([*given, *bands, *tiles]) == 0
    x = 0.5 * torch.rand(1, 3, 45, 33)
    with torch.no_grad():
        assert (load(named)(x) - small(x)).abs().max() <= 1e-5
    capsys.readouterr()
    for options, words in (
        ([*bands, "--scale", "2"], "and [1, 1, 16, 16] is needed"),
        (["--source-bands", "red", "--target-bands", "nir"], "ONNX Runtime failed"),
        ([*bands, "--stride", "0"], "--stride 0: 1 to 4096"),
        ([*bands, "--part", "g"], "--part is not for an ONNX file"),
    ):
        assert main([*given, *options, "--overwrite"]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
