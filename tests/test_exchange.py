"""Models as STAC items: what is written is valid, and loads again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from crossband import load
from crossband.cli.main import main
from crossband.errors import ModelError
from crossband.model.exporting.stac import MLM, export_stac

SCHEMAS = Path(__file__).parent / "schemas"


@pytest.fixture
def item(tiny_model, tmp_path):
    """The item of a model with a licence, and its folder."""
    model = load(tiny_model)
    model.about |= {"licence": "MIT", "sensors": ["naip"]}
    folder = model.save(tmp_path / "saved")
    return export_stac(load(folder), tmp_path / "item.json")


def check_schema(data, name):
    """Validate against a schema of tests/schemas, which refer to each other."""
    jsonschema = pytest.importorskip("jsonschema", reason="the package validates STAC items")
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT7

    held = {p.stem: json.loads(p.read_text()) for p in SCHEMAS.glob("*.json")}
    registry = Registry().with_resources(
        (s["$id"].rstrip("#"), Resource.from_contents(s, default_specification=DRAFT7))
        for s in held.values()
    )
    jsonschema.Draft7Validator(held[name], registry=registry).validate(data)


@pytest.mark.parametrize("version", ["1.4.0", "1.5.2"])
def test_an_item_is_valid(item, version):
    data = json.loads(item.read_text())
    data["stac_extensions"][0] = MLM.format(version)
    check_schema(data, f"mlm-{version}")
    data["properties"].pop("mlm:tasks")
    with pytest.raises(Exception, match="'mlm:tasks' is a required property"):
        check_schema(data, f"mlm-{version}")


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
    held = json.loads((SCHEMAS / "processing-1.1.0.json").read_text())
    jsonschema = pytest.importorskip("jsonschema", reason="the package validates STAC items")
    field = held["definitions"]["fields"]["properties"]["processing:expression"]
    jsonschema.Draft7Validator(field).validate(expression)


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
