"""Models as STAC items: what is written is valid, and loads again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from crossband import load
from crossband.cli.main import main
from crossband.errors import ModelError
from crossband.model.exporting.onnx_file import export_onnx
from crossband.model.exporting.stac import FILE, MLM, export_stac

SCHEMAS = Path(__file__).parent / "schemas"


@pytest.fixture
def item(tiny_model, tmp_path):
    """The item of a model with a licence, and its folder."""
    model = load(tiny_model)
    model.about |= {"licence": "MIT", "sensors": ["naip"]}
    folder = model.save(tmp_path / "saved")
    return export_stac(load(folder), tmp_path / "item.json")


def validate(data):
    """Validate an item against its core schema and each extension that it states, offline."""
    pystac = pytest.importorskip("pystac.validation.stac_validator", reason="it validates items")
    validator = pystac.JsonSchemaSTACValidator()  # has the core's schemas within the package
    for path in SCHEMAS.glob("*.json"):
        schema = json.loads(path.read_text())
        validator.schema_cache[schema["$id"].rstrip("#")] = schema
    known = set(validator.schema_cache)
    used = validator.validate(data, "Feature", data["stac_version"], data["stac_extensions"])
    assert len(used) == 1 + len(data["stac_extensions"])
    assert set(validator.schema_cache) == known  # none was fetched


@pytest.mark.parametrize("version", ["1.4.0", "1.5.2"])
def test_an_item_is_valid(item, version):
    data = json.loads(item.read_text())
    assert data["stac_extensions"] == [MLM.format("1.5.2"), FILE]
    data["stac_extensions"][0] = MLM.format(version)
    validate(data)


@pytest.mark.parametrize(
    ("schema", "change"),
    [
        ("/item-spec/json-schema/item.json", lambda d: d["properties"].pop("datetime")),
        ("/mlm/v1.5.2/schema.json", lambda d: d["properties"].pop("mlm:tasks")),
        ("/file/v2.1.0/schema.json", lambda d: d["assets"]["README.md"].update({"file:size": "1"})),
    ],
)
def test_each_schema_is_asked(schema, change, item):
    data = json.loads(item.read_text())
    change(data)
    with pytest.raises(Exception, match=f"against schema at https://[^/]*(/v1.1.0)?{schema}\n"):
        validate(data)


@pytest.mark.slow
def test_the_model_in_onnx_is_a_further_asset(item, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="crossband[onnx] is not installed")
    folder, out = str(tmp_path / "saved"), tmp_path / "both.json"
    assert main(["export", folder, "--to", "stac", "--with-onnx", "-o", str(out)]) == 0
    data = json.loads(out.read_text())
    validate(data)
    asset = data["assets"]["model.onnx"]
    assert (asset["roles"], asset["mlm:artifact_type"]) == (["mlm:model"], "onnx")
    of_folder, of_item = load(folder), load(out)
    assert of_item.weights_hash == of_folder.weights_hash  # the folder's weights come first
    x = 0.4 * torch.rand(1, 3, 40, 33)
    del data["assets"]["model.safetensors"], data["assets"]["model.json"]
    out.write_text(json.dumps(data))
    in_onnx = load(out)
    assert in_onnx.network.runtime == "onnxruntime"
    with torch.no_grad():
        assert (in_onnx(x) - of_folder(x)).abs().max() <= 1e-5
    asset["file:checksum"] = "1220" + "0" * 64
    out.write_text(json.dumps(data))
    with pytest.raises(ModelError, match="has another SHA-256 than the item states"):
        load(out)
    capsys.readouterr()
    words = ["export", folder, "--to", "onnx", "--with-onnx", "-o", str(tmp_path / "m.onnx")]
    assert main(words) == 2
    assert capsys.readouterr().err == "crossband: --with-onnx is for --to stac\n"


def test_an_item_says_what_a_program_needs(item):
    data = json.loads(item.read_text())["properties"]
    (given,), (made,) = data["mlm:input"], data["mlm:output"]
    assert (data["mlm:architecture"], data["mlm:tasks"]) == ("LocalUNet", ["regression"])
    assert given["bands"] == ["red", "green", "blue"]
    assert given["value_scaling"][0]["type"] == "min-max"
    assert made["value_scaling"] == [{"type": "clip", "minimum": 0.0, "maximum": 2.0}]
    assert data["mlm:total_parameters"] > 0


def test_an_item_is_valid_for_pystac_and_loads_there(item):
    pystac = pytest.importorskip("pystac", reason="the package reads STAC items")
    read = pystac.Item.from_file(str(item))
    assert read.assets["model.safetensors"].roles == ["mlm:model", "mlm:weights"]
    assert Path(read.assets["README.md"].get_absolute_href()).is_file()


def test_an_item_alone_is_a_model(item, tiny_model):
    model = load(item)
    assert model.weights_hash == load(tiny_model).weights_hash
    assert model.address == str(item)


def test_a_result_names_its_model_and_its_source(item, make_raster, tmp_path):
    scene = make_raster(values=np.full((3, 20, 30), 0.2, np.float32))
    out = tmp_path / "nir.tif"
    given = ["translate", str(scene), "-o", str(out), "--model", str(item), "--stac-item"]
    assert main([*given, "--quiet"]) == 0
    data = json.loads((tmp_path / "nir.json").read_text())
    expression = data["properties"]["processing:expression"]
    assert expression == {"format": "stac-mlm", "expression": "item.json"}
    assert [link["href"] for link in data["links"]] == ["scene.tif", "item.json"]
    assert {link["rel"] for link in data["links"]} == {"derived_from"}
    assert "translated by the model tiny" in data["properties"]["processing:lineage"]
    west, south, east, north = data["bbox"]
    assert west < east
    assert south < north
    validate(data)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("2024-05-01T10:30:00Z", ("2024-05-01T10:30:00Z", None, None)),
        ("2024-05-01", (None, "2024-05-01T00:00:00Z", "2024-05-01T23:59:59Z")),
        ("2024-02", (None, "2024-02-01T00:00:00Z", "2024-02-29T23:59:59Z")),
    ],
)
def test_a_result_is_of_the_time_of_its_source(item, make_raster, tmp_path, stated, said):
    scene = make_raster(values=np.full((3, 20, 30), 0.2, np.float32))
    with rasterio.open(scene, "r+") as file:
        file.update_tags(ACQUISITION_DATETIME=stated)
    given = ["translate", str(scene), "-o", str(tmp_path / "nir.tif"), "--model", str(item)]
    assert main([*given, "--stac-item", "--quiet"]) == 0
    data = json.loads((tmp_path / "nir.json").read_text())
    properties = data["properties"]
    keys = ("datetime", "start_datetime", "end_datetime")
    assert tuple(properties.get(key) for key in keys) == said
    assert properties["created"] > "2026"
    validate(data)


def test_a_time_that_is_none_does_not_fail_a_finished_result(item, make_raster, tmp_path):
    scene = make_raster(values=np.full((3, 20, 30), 0.2, np.float32))
    with rasterio.open(scene, "r+") as file:
        file.update_tags(ACQUISITION_DATETIME="in spring")
    given = ["translate", str(scene), "-o", str(tmp_path / "nir.tif"), "--model", str(item)]
    assert main([*given, "--stac-item", "--quiet"]) == 0
    properties = json.loads((tmp_path / "nir.json").read_text())["properties"]
    assert properties["datetime"] == properties["created"]


def test_a_result_of_a_graph_names_what_the_graph_was_made_of(tiny_model, make_raster, tmp_path):
    scene = make_raster(values=np.full((3, 20, 30), 0.2, np.float32))
    model = load(tiny_model)
    graph = export_onnx(model, tmp_path / "tiny.onnx")
    for of in (["--model", str(graph)], ["--model", str(tiny_model), "--engine", "onnx"]):
        words = ["translate", str(scene), "-o", str(tmp_path / "nir.tif"), *of, "--stac-item"]
        assert main([*words, "--quiet", "--overwrite"]) == 0
        data = json.loads((tmp_path / "nir.json").read_text())
        told = data["properties"]["processing:expression"]["expression"]
        assert told["mlm:framework"] == "ONNX"
        assert told["mlm:architecture"] == type(model.network).__name__
        assert told["mlm:total_parameters"] == model.parameters_total


def test_an_item_brings_calibration_and_training_data(tmp_path):
    path = export_stac(load("rgb2nir"), tmp_path / "item.json")
    data = json.loads(path.read_text())
    validate(data)
    assert {"calibration.json", "training_data.csv"} < set(data["assets"])
    found = load(path)
    assert found.calibration is not None
    assert found.calibration.weights == found.weights_hash
    for name in ("calibration.json", "training_data.csv"):
        file = tmp_path / "item" / name
        was = file.read_bytes()
        file.write_bytes(was + b" ")
        with pytest.raises(ModelError, match=f"{name}' has another SHA-256 than the item states"):
            load(path)
        file.write_bytes(was)


def changed(item, change):
    data = json.loads(item.read_text())
    change(data)
    item.write_text(json.dumps(data))


def _asset(name, **values):
    return lambda data: data["assets"][name].update(values)


FAULTS = {
    "no-assets": (lambda d: d.pop("assets"), "no STAC item: it has no assets"),
    "assets-of-text": (lambda d: d.update(assets={"a": "b"}), "no STAC item: it has no assets"),
    "no-model": (lambda d: d["assets"].pop("model.safetensors"), "has the role mlm:model"),
    "other-hash": (
        _asset("model.safetensors", **{"file:checksum": "1220" + "0" * 64}),
        "has another SHA-256 than the item states",
    ),
    "no-hash": (_asset("model.json", **{"file:checksum": None}), "states no SHA-256"),
    "missing": (_asset("model.json", href="item/none.json"), "is missing"),
    "elsewhere": (_asset("model.json", href="https://x.org/model.json"), "lies elsewhere"),
    "outside": (_asset("model.json", href="../../etc/passwd"), "outside of the folder"),
    "absolute": (_asset("model.json", href="/etc/passwd"), "outside of the folder"),
    "no-properties": (lambda d: d.update(properties=7), "no STAC item: it has no properties"),
    "weights-outside": (
        _asset("model.safetensors", href="../../etc/passwd"),
        "lies outside of the folder",
    ),
    "weights-of-a-list": (_asset("model.safetensors", href=["a"]), "has no address"),
    "no-address": (_asset("model.json", href=None), "has no address"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_item_that_is_refused(fault, item):
    change, words = FAULTS[fault]
    changed(item, change)
    with pytest.raises(ModelError) as error:
        load(item)
    assert str(error.value).startswith(str(item))
    assert words in str(error.value)


def test_weights_that_were_changed_after_the_item(item):
    weights = item.with_suffix("") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ModelError, match="has another SHA-256"):
        load(item)


def test_the_command(tmp_path, capsys, tiny_model):
    out = tmp_path / "rgb2nir.json"
    assert main(["export", "rgb2nir", "--to", "stac", "-o", str(out)]) == 0
    assert main(["export", "rgb2nir", "--to", "stac", "-o", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert load(out).name == "rgb2nir"
    other = tmp_path / "tiny.json"
    assert main(["export", str(tiny_model), "--to", "stac", "-o", str(other)]) == 2
    assert "does not state its licence" in capsys.readouterr().err
    assert not other.with_suffix("").exists()
