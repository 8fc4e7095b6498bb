"""Products in manifests: training's reader, `data check`, packing, the layout of STAC items."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from affine import Affine
from product_trees import item, landsat, numbers, sentinel1, sentinel2, write
from registered import classes

from crossband.cli.main import main
from crossband.core.signature import Signature, UnitRange
from crossband.data import check, layouts, manifest
from crossband.data.pack import pack
from crossband.data.reader import PairReader
from crossband.errors import ManifestError
from crossband.raster import products
from crossband.raster.grid import Box


def signature(source, target, unit="reflectance"):
    ranges = UnitRange([(0.0, 1.0)] * len(source), [(0.0, 1.0)] * len(target))
    return Signature(list(source), list(target), {unit: ranges})


def table(folder, *rows, name="pairs.csv"):
    pd.DataFrame(rows).to_csv(folder / name, index=False)
    return folder / name


def test_every_kind_is_named_in_the_documentation():
    kinds = products.readable_folders().split("; ")
    assert len(kinds) == len(classes(products.ProductReader)) >= 5
    page = (Path(__file__).parents[1] / "docs" / "sources.md").read_text()
    for word in ("Sentinel-2", "Landsat", "Sentinel-1 GRD", "STAC item", "--bands"):
        assert any(word in kind for kind in kinds)
        assert word in page


@pytest.mark.parametrize("name", classes(products.ProductReader))
def test_what_is_no_product_is_left_to_others(name, tmp_path):
    reader = classes(products.ProductReader)[name]()
    (tmp_path / "notes.txt").write_text("nothing")
    assert reader.title
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "none"):
        source = products.Source(str(path), {})
        assert reader.bands(source) is None
        assert reader.when(source) is None


def test_one_product_is_source_and_target(tmp_path):
    safe = sentinel2(tmp_path, labels=("B04", "B08", "B11"))
    path = table(tmp_path, {"source": safe.name, "target": safe.name, "sensor": "sentinel-2-l2a"})
    reader = PairReader(manifest.read(path), signature(["red", "swir16"], ["nir"]))
    info = reader.info(0)
    assert info.grid.transform == Affine(10, 0, 399_960, 0, -10, 7_900_020)
    pixels = reader.read(0, Box(10, 20, 32, 40))
    there = slice(10, 42), slice(20, 60)
    assert np.allclose(pixels.source[0], numbers("B04", 120, 120)[there] * 1e-4 - 0.1, atol=1e-6)
    assert np.allclose(pixels.target[0], numbers("B08", 120, 120)[there] * 1e-4 - 0.1, atol=1e-6)
    assert pixels.mask.all()


def test_a_product_has_two_resolutions_for_super_resolution(tmp_path):
    safe = sentinel2(tmp_path, labels=("B04", "B11"))
    path = table(tmp_path, {"source": safe.name, "target": safe.name})
    reader = PairReader(manifest.read(path), signature(["swir16"], ["red"]), scale=2)
    pixels = reader.read(0, Box(4, 6, 16, 20))
    coarse, fine = numbers("B11", 60, 60), numbers("B04", 120, 120)
    assert np.allclose(pixels.source[0], coarse[4:20, 6:26] * 1e-4 - 0.1, atol=1e-6)
    assert np.allclose(pixels.target[0], fine[8:40, 12:52] * 1e-4 - 0.1, atol=1e-6)


def test_radar_and_files_in_a_folder(tmp_path):
    stored = np.random.default_rng(0).integers(100, 900, (30, 40)).astype(np.uint16)
    safe = sentinel1(tmp_path, stored)
    for number, name in enumerate(("B04", "B03", "B02")):
        write(tmp_path / "optical" / f"x_{name}.tif", stored + number, Affine.identity(), None)
    row = {"source": safe.name, "target": "optical", "target_sensor": "sentinel-2-l2a-no-offset"}
    row["target_bands"] = "red=*_B04.tif,green=*_B03.tif,blue=*_B02.tif"
    units = UnitRange([(-30.0, 10.0)] * 2, [(0.0, 1.0)] * 3, "reflectance")
    both = Signature(["vv", "vh"], ["red", "green", "blue"], {"db": units})
    reader = PairReader(manifest.read(table(tmp_path, row)), both)
    pixels = reader.read(0, Box(0, 0, 30, 40))
    assert np.allclose(pixels.target[1], (stored + 1) * 1e-4)
    assert pixels.source.shape == (2, 30, 40)
    assert pixels.source.mean() < 15


def test_check_opens_products(tmp_path):
    good = sentinel2(tmp_path / "a", labels=("B04", "B08"))
    bad = sentinel2(tmp_path / "b", labels=("B04", "B08"))
    next(bad.glob("**/*B08_10m.jp2")).unlink()
    rows = [{"source": str(s), "target": str(s), "group": str(s)} for s in (good, bad)]
    report = check.check(table(tmp_path, *rows), bands=check.Bands(("red",), ("nir",)), workers=1)
    assert {row for finding in report.findings for row in finding.rows} == {2}
    assert any("B08_10m.jp2" in finding.text for finding in report.findings)


def test_the_fingerprint_counts_what_a_folder_holds(tmp_path):
    safe = landsat(tmp_path)
    path = table(tmp_path, {"source": safe.name, "target": safe.name})
    before = manifest.fingerprint(manifest.read(path))
    assert manifest.fingerprint(manifest.read(path)) == before
    metadata = next(safe.glob("*_MTL.txt"))
    metadata.write_text(metadata.read_text() + "\n")
    assert manifest.fingerprint(manifest.read(path)) != before


def test_products_are_not_packed(tmp_path, capsys):
    safe = landsat(tmp_path)
    path = table(tmp_path, {"source": safe.name, "target": safe.name})
    with pytest.raises(ManifestError, match="a product of several files cannot be packed"):
        pack(path, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()
    assert main(["data", "pack", str(path), "-o", str(tmp_path / "packed")]) == 2
    assert "write its bands as one GeoTIFF first" in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_that_is_no_product_is_named_with_its_row(tmp_path):
    (tmp_path / "words").mkdir()
    path = table(tmp_path, {"source": "words", "target": "words"})
    reader = PairReader(manifest.read(path), signature(["red"], ["nir"]))
    with pytest.raises(ManifestError, match=r"manifest row 1: .*of folders these are read"):
        reader.info(0)


def test_the_layout_knows_offsets_that_are_added_already(tmp_path):
    one = {"type": "image/tiff", "roles": ["data"]}
    stated = {"raster:bands": [{"scale": 1e-4, "offset": -0.1}]}
    assets = {
        name: {**one, **stated, "href": f"{name}.tif", "eo:bands": [{"common_name": name}]}
        for name in ("red", "nir")
    }
    for name in assets:
        values = np.full((8, 8), 3000, np.uint16)
        write(tmp_path / f"{name}.tif", values, Affine(10, 0, 5e5, 0, -10, 5e6), "EPSG:32633")
    for applied in (True, False):
        properties = {"earthsearch:boa_offset_applied": applied}
        path = item(tmp_path, assets, properties=properties)
        layout = layouts.get("stac")(source="red", sensor="sentinel-2-l2a")
        found = layouts.build_manifest(layout, path).table
        assert json.loads(path.read_text())["properties"].items() >= properties.items()
        assert found["offset"].tolist() == [0.0 if applied else -0.1]
