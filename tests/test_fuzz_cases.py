"""What `make fuzz` found: each input ends with the right answer, or one line and exit code 2."""

from __future__ import annotations

import json
import shutil
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import random_values
from product_trees import landsat

from crossband import load
from crossband.cli.main import main
from crossband.core.messages import printable
from crossband.data.check.registration import edges
from crossband.data.layouts.sen12 import _splits
from crossband.errors import InputError, ManifestError, ModelError
from crossband.series.places import read_places

DEEP = "[" * 10**5


@pytest.fixture
def refused(capfd, tmp_path, monkeypatch):
    """Return a function that runs a command, which has to end with one line; returns the line."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        assert main([str(a) for a in arguments]) == 2
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    return run


def translation(source, model, output="out.tif"):
    return ["translate", source, "-o", output, "--model", model, "--quiet"]


def test_a_tiff_whose_next_directory_is_nowhere(refused, make_raster, tiny_model):
    path = make_raster()
    data = bytearray(path.read_bytes())
    at = struct.unpack_from("<I", data, 4)[0]
    link = at + 2 + 12 * struct.unpack_from("<H", data, at)[0]
    struct.pack_into("<I", data, link, 10**8)
    path.write_bytes(data)
    assert "scene.tif: not a raster that can be opened" in refused(*translation(path, tiny_model))


def test_json_without_end(refused, tmp_path, tiny_model):
    path = tmp_path / "item.json"
    path.write_text('{"type": "Feature", "assets": ' + DEEP)
    assert "item.json: not JSON: its brackets" in refused(*translation(path, tiny_model))
    with pytest.raises(InputError, match="its brackets are nested too deeply"):
        read_places(path)


def test_json_without_end_in_a_dataset(tmp_path):
    (tmp_path / "split.json").write_text(DEEP)
    with pytest.raises(ManifestError, match="its brackets are nested too deeply"):
        _splits(tmp_path / "split.json")


def test_a_list_with_a_nul_byte(refused, tmp_path, tiny_model):
    (tmp_path / "list.txt").write_bytes(b"a.tif\nb\0.tif\n")
    assert "list.txt: line 2 has a NUL byte" in refused(
        *translation("list.txt", tiny_model, "out/")
    )


def test_metadata_of_landsat_are_no_list_of_scenes(tmp_path, tiny_model, monkeypatch):
    monkeypatch.chdir(landsat(tmp_path))
    (path,) = Path().glob("*_MTL.txt")
    assert main(translation(str(path), str(tiny_model))) == 0
    with rasterio.open("out.tif") as file:
        assert file.read_masks(1).any()


def test_a_cube_that_ends_in_its_head(refused, tmp_path, tiny_model):
    (tmp_path / "cube.nc").write_bytes(b"CDF\x01" + struct.pack(">III", 0, 10, 1))
    line = refused("series", "cube.nc", "-o", "out", "--model", tiny_model)
    assert "cube.nc: not a stack that xarray can open" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/proc/self/mem").is_file(), reason="there is no /proc")
def test_a_source_that_cannot_be_read(refused, make_raster, tmp_path, tiny_model):
    make_raster()
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{n}"><Description>{name}</Description>'
        f"<UnitType>reflectance</UnitType><SimpleSource><SourceFilename>/proc/self/mem"
        f"</SourceFilename></SimpleSource></VRTRasterBand>"
        for n, name in enumerate(("red", "green", "blue"), start=1)
    )
    vrt = f'<VRTDataset rasterXSize="5" rasterYSize="5">{bands}</VRTDataset>'
    (tmp_path / "in.vrt").write_text(vrt)
    assert "/proc/self/mem: cannot be read" in refused(*translation("in.vrt", tiny_model))


def test_a_key_of_a_recipe_that_is_null(refused):
    line = refused("fit", "rgb2nir/linear", "-o", "run", "--data.manifest", "x", "--seed=null")
    assert "--seed is null" in line


def test_no_new_folder_stays_after_an_error(refused, make_raster, tmp_path, tiny_model):
    values = np.where(np.arange(40)[:, None] >= 0, np.nan, random_values(3, 40, 50))
    make_raster(values=values)
    refused(*translation("scene.tif", tiny_model, "new/folder/out.tif"))  # every pixel is masked
    refused(*translation("none.tif", tiny_model, "new/folder/out.tif"))
    refused(*translation("scene.tif", tiny_model, "new/out.png"))
    refused("data", "degrade", "scene.tif", "--reference", "scene.tif", "-o", "new/folder")
    assert [p.name for p in tmp_path.iterdir()] == ["scene.tif"]


def test_a_network_without_bands(tiny_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    description = json.loads((folder / "model.json").read_text())
    description["network"] |= {"class": "PerPixelLinear", "arguments": {"in_channels": 0}}
    (folder / "model.json").write_text(json.dumps(description))
    with warnings.catch_warnings(record=True) as seen, pytest.raises(ModelError):
        load(folder)
    assert not seen


def test_numbers_whose_squares_are_not_float32():
    values = random_values(1, 64, 64)[0]
    values[20, 20] = 1e30
    with warnings.catch_warnings(action="error"):
        found = edges(values, np.ones(values.shape, bool))
    assert np.isfinite(found).all()
    assert found.max() > 0


def test_the_mark_of_byte_order_is_shown():
    assert printable("a\ufeff.tif") == r"a\ufeff.tif"


def test_an_option_whose_value_is_two_dashes(refused, make_raster, tiny_model):
    path = make_raster()
    assert "--batch is empty" in refused(*translation(path, tiny_model), "--batch=--")


def test_a_nodata_number_that_float32_does_not_hold(refused, make_raster, tmp_path, tiny_model):
    values = random_values(3, 40, 50)
    assets = {}
    for n, name in enumerate(("red", "green", "blue")):
        make_raster(f"{name}.tif", values[n : n + 1], names=(None,), unit=None)
        band = {"name": name, "common_name": name}
        number = {"scale": 1.0, "offset": 0.0, "unit": "reflectance", "nodata": 1e300}
        assets[name] = {"href": f"{name}.tif", "type": "image/tiff", "roles": ["data"]}
        assets[name] |= {"eo:bands": [band], "raster:bands": [number]}
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "a", "geometry": None}
    item |= {"properties": {"datetime": "2024-05-01T00:00:00Z"}, "links": [], "assets": assets}
    (tmp_path / "item.json").write_text(json.dumps(item))
    with warnings.catch_warnings(action="error"):
        assert main([str(a) for a in translation("item.json", tiny_model)]) == 0
    with rasterio.open("out.tif") as file:
        assert file.read_masks(1).all()
