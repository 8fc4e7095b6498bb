"""Layouts of satellite and of visible-thermal sets: trees -> rows -> pixels in physical units."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import trees2
from trees2 import TREES

from crossband.core.signature import Signature, UnitRange
from crossband.data import layouts, manifest
from crossband.data.reader import PairReader
from crossband.errors import CrossbandError, InputError, ManifestError, UnitError

UNITS = {u: UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)]) for u in ("reflectance", "display")}
NIR = Signature(["red", "green", "blue"], ["nir"], UNITS)
THERMAL = Signature(["red", "green", "blue"], ["thermal"], UNITS)
MIXED = UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)] * 3, "display")
FINER = Signature(["red", "green", "blue"], ["red", "green", "blue"], {"reflectance": MIXED})
VISIBLE_THERMAL = ["msrs", "roadscene", "llvip", "m3fd", "kaist", "vifb"]


@pytest.fixture
def find(tmp_path, monkeypatch):
    """Index a tree, write the manifest, and read it again."""
    monkeypatch.chdir(tmp_path)

    def run(name, options=None, root=None, tree=True, **how):
        given, make = TREES[name]
        root = root or tmp_path / "data"
        if tree:
            make(root, **how)
        found = layouts.build_manifest(
            layouts.get(name)(**(given if options is None else options)), root
        )
        manifest.write(found.table, tmp_path / "pairs.csv")
        table = manifest.read(tmp_path / "pairs.csv")
        names = table[["source", "target"]].map(lambda p: p and p.removeprefix(f"{root}/"))
        return found, table, names

    return run


def pixels(table, signature, scale=1):
    """Read all pairs whole; returns the middle pixel of each: (source, target), None if masked."""
    reader = PairReader(table, signature, scale)
    out = []
    for i in range(len(table)):
        window = reader.read(i, reader.info(i).grid.box)
        assert window.mask.all()
        middle = window.source.shape[1] // 2
        source = window.source[:, middle, middle]
        out.append((source, window.target[:, middle * scale, middle * scale]))
    return out


def same(found, source, target, tolerance=1e-6):
    for one, two in found:
        np.testing.assert_allclose(one, source, atol=tolerance)
        np.testing.assert_allclose(two, target, atol=tolerance)


def test_shared_modules_are_no_layouts():
    assert set(TREES) <= set(layouts.names())
    assert not [n for n in layouts.names() if n.startswith(("-", "_")) or n == "base"]
    for module in ("_rows", "-rows", "base"):
        with pytest.raises(ManifestError, match="unknown layout"):
            layouts.get(module)


@pytest.mark.parametrize("name", TREES)
def test_a_folder_without_the_dataset(name, find, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=rf"fits the layout {name}: looked for .*0 files") as e:
        find(name, root=tmp_path / "empty", tree=False)
    assert "\n" not in str(e.value)
    with pytest.raises(InputError, match="no such folder"):
        find(name, root=tmp_path / "nothing", tree=False)
    assert layouts.get(name).origin


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("s2-100k", "images"),
        ("sen2naip", "cross-sensor/ROI_0000"),
        ("worldstrat", "hr_dataset"),
        ("msrs", "train/vi"),
        ("roadscene", "cropinfrared"),
        ("llvip", "visible/train"),
        ("m3fd", "M3FD_Fusion/Vis"),
        ("kaist", "set02/V000"),
        ("vifb", "VI"),
    ],
)
def test_a_folder_too_deep(name, inside, find, tmp_path):
    TREES[name][1](tmp_path / "data")
    with pytest.raises(ManifestError, match=rf"fits the layout {name}: looked for"):
        find(name, root=tmp_path / "data" / inside, tree=False)


# S2-100K.


def test_s2_100k(find):
    found, table, names = find("s2-100k")
    assert names["source"].tolist() == [f"images/patch_{i}.tif" for i in range(3)]
    assert (names["source"] == names["target"]).all()
    assert table["group"].tolist() == ["patch_0", "patch_1", "patch_2"]
    assert table["lon"].tolist() == [10.5, 11.5, 12.5]
    assert table["lat"].tolist() == [-20.5, -21.5, -22.5]
    # B04, B03, B02 -> B08: 1300, 1200, 1100, 1700, less the 1000 of baseline 04.00.
    same(pixels(table, NIR), [0.03, 0.02, 0.01], [0.07])
    assert found.lines() == ["3 pairs, 3 groups"]


def test_s2_100k_says_which_patches_have_the_offset_or_nothing_at_all(find):
    granules = [f"S2A_OPER_MSI_L2A_TL_x_T32UME_N{n}" for n in ("02.12", "04.00", "05.09")]
    _, table, _ = find("s2-100k", {"min_bytes": 0}, granules=granules)
    assert table["sensor"].tolist() == ["sentinel-2-l2a-no-offset"] + ["sentinel-2-l2a"] * 2
    read = pixels(table, NIR)
    assert [round(float(target[0]), 4) for _, target in read] == [0.17, 0.07, 0.07]
    with pytest.raises(ManifestError, match="does not end in its processing baseline"):
        find("s2-100k", {"min_bytes": 0}, granules=["S2A", "S2A", "S2A"])
    with pytest.raises(ManifestError, match="say it with --sensor sentinel-2-l2a or"):
        find("s2-100k", {"min_bytes": 0})
    with pytest.raises(UnitError, match="did you mean"):
        find("s2-100k", {"sensor": "sentinel-2-l2"})


def test_s2_100k_says_what_it_left_out(find, tmp_path):
    with pytest.raises(ManifestError, match="3 are below 10,000 bytes"):
        find("s2-100k", {"sensor": "sentinel-2-l2a"})
    (tmp_path / "data/images/patch_0.tif").rename(tmp_path / "data/images/patch_9.tif")
    options, _ = TREES["s2-100k"]
    found, table, _ = find("s2-100k", options, tree=False)
    assert len(table) == 2
    assert found.notes[0] == "1 lines of index.csv have no file in images/"
    assert "1 files are not in index.csv" in found.notes[1]
    with pytest.raises(ManifestError, match="no column 'lat': it has fn, lon, latitude"):
        find("s2-100k", columns=("fn", "lon", "latitude"))
    trees2.s2_100k(tmp_path / "data")
    trees2.write(tmp_path / "data/images/patch_0.tif", (1, 2, 3, 4), "uint16")
    with pytest.raises(ManifestError, match="it has 4 bands; those of S2-100K have 12"):
        find("s2-100k", tree=False)


def test_real_s2_100k(real_data, find, tmp_path):
    source = real_data / "rgb2nir" / "satellite"
    known = pd.read_csv(source / "manifest.csv")
    known = known[known["file"].str.contains("satclip") & (known["bands"] == 12)]
    (tmp_path / "real" / "images").mkdir(parents=True)
    for name in known["file"]:
        (tmp_path / "real" / "images" / name).symlink_to((source / name).resolve())
    known["sensor"] = np.where(
        known["boa_add_offset"] == 0, "sentinel-2-l2a-no-offset", "sentinel-2-l2a"
    )
    for sensor, part in known.groupby("sensor"):
        part.rename(columns={"file": "fn"})[["fn", "lon", "lat"]].to_csv(
            tmp_path / "real" / "index.csv", index=False
        )
        _, table, _ = find("s2-100k", {"sensor": sensor}, root=tmp_path / "real", tree=False)
        assert len(table) == len(part)
        reader = PairReader(table, NIR)
        for i in range(len(table)):
            info = reader.info(i)
            grid, unit = info.grid, info.unit
            np.testing.assert_allclose(
                grid.lonlat(), table.loc[i, ["lon", "lat"]].astype(float), atol=0.02
            )
            assert unit == "reflectance"
            assert reader.read(i, grid.box).target.max() < 2


# SEN2NAIP.


def test_sen2naip(find):
    found, table, names = find("sen2naip")
    assert names["source"].tolist() == [f"cross-sensor/ROI_{i:04d}/lr.tif" for i in range(3)]
    assert names["target"].tolist() == [f"cross-sensor/ROI_{i:04d}/hr.tif" for i in range(3)]
    assert table["group"].tolist() == ["ROI_0000", "ROI_0001", "ROI_0002"]
    same(pixels(table, FINER, 4), [0.1, 0.2, 0.3], [0.2] * 3)
    assert found.lines()[-1] == "targets are 4 times finer: a model for them has scale 4"
    _, table, _ = find("sen2naip", {"sensor": "sentinel-2-l2a"}, tree=False)
    same(pixels(table, FINER, 4), [0.0, 0.1, 0.2], [0.2] * 3)


def test_sen2naip_of_version_2_is_another_unit(find):
    _, table, _ = find("sen2naip", fine="uint16")
    with pytest.raises(ManifestError, match="naip is stored as uint8, but the file is uint16"):
        pixels(table, FINER, 4)
    options = {"target_sensor": "sentinel-2-l2a-no-offset"}
    _, table, _ = find("sen2naip", options, tree=False)
    both = UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)] * 3)
    signature = Signature(FINER.source, FINER.target, {"reflectance": both})
    same(pixels(table, signature, 4), [0.1, 0.2, 0.3], [0.51] * 3)


def test_sen2naip_half_missing_or_packed(find, tmp_path):
    trees2.sen2naip(tmp_path / "data")
    (tmp_path / "data/cross-sensor/ROI_0001/hr.tif").unlink()
    (tmp_path / "data/cross-sensor/ROI_0002/lr.tif").unlink()
    found, table, _ = find("sen2naip", tree=False)
    assert len(table) == 1
    assert "1 of 3 files and pairs have no target" in found.lines()[1]
    assert "1 of 3 files and pairs have no source" in found.lines()[2]
    assert "looked for **/ROI_*/lr.tif (2 files)" in found.lines()[3]
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/sen2naipv2-unet.0000.part.taco").touch()
    with pytest.raises(ManifestError, match="a TACO archive cannot be read as files"):
        find("sen2naip", root=tmp_path / "packed", tree=False)


# WorldStrat.


def test_worldstrat(find):
    found, table, names = find("worldstrat")
    tiles = [f"Amnesty POI-{i}-1-1" for i in range(3)]
    assert names["source"].tolist() == [f"hr_dataset/{t}/{t}_rgbn.tiff" for t in tiles]
    assert (names["source"] == names["target"]).all()
    assert table["group"].tolist() == tiles
    assert table["split"].tolist() == ["train", "val", "test"]
    assert table["split_by"].unique().tolist() == ["WorldStrat"]
    assert table[["lon", "lat", "gsd"]].iloc[2].tolist() == [12, 22, 6]
    same(pixels(table, NIR), [0.1, 0.2, 0.3], [0.4])
    assert found.lines() == ["3 pairs, 3 groups: train 1, val 1, test 1"]


def test_other_products_of_worldstrat(find, tmp_path):
    _, table, _ = find("worldstrat", {"product": "ps", "sensor": "reflectance"})
    same(pixels(table, NIR), [0.1, 0.2, 0.3], [0.4])
    assert table["gsd"].unique().tolist() == [1.5]
    _, table, _ = find("worldstrat", {"product": "ps"}, tree=False)
    with pytest.raises(ManifestError, match="spot-6 is stored as uint16, but the file is float32"):
        pixels(table, NIR)
    _, table, _ = find("worldstrat", {"product": "l2a", "sensor": "reflectance"}, tree=False)
    assert len(table) == 6
    assert table["group"].nunique() == 3
    same(pixels(table, NIR), [0.15, 0.1, 0.05], [0.35])
    with pytest.raises(ManifestError, match="product l2a needs --sensor"):
        find("worldstrat", {"product": "l2a"}, tree=False)
    with pytest.raises(ManifestError, match="no product 'rgb': did you mean 'rgbn'"):
        find("worldstrat", {"product": "rgb"}, tree=False)
    shutil.move(tmp_path / "data/hr_dataset", tmp_path / "12bit")
    shutil.move(tmp_path / "12bit", tmp_path / "data/hr_dataset/12bit")
    assert len(find("worldstrat", tree=False)[1]) == 3  # as on Kaggle


def test_the_tables_of_worldstrat(find, tmp_path):
    split = tmp_path / "data/stratified_train_val_test_split.csv"
    with pytest.raises(ManifestError, match="split 'tset': did you mean 'test'"):
        find("worldstrat", split=("train", "val", "tset"))
    split.write_text("tile,split\nAmnesty POI-0-1-1,train\n")
    found, table, _ = find("worldstrat", tree=False)
    assert len(table) == 1
    assert "2 files are of tiles that strat" in found.notes[0]
    split.write_text("tile,split\nelsewhere,train\n")
    with pytest.raises(ManifestError, match="it names no tile of the 3 files"):
        find("worldstrat", tree=False)
    for text in ("name,split\na,train\n", "tile,part\na,train\n"):
        split.write_text(text)
        with pytest.raises(ManifestError, match=r"no column '(tile|split)': it has"):
            find("worldstrat", tree=False)
    split.unlink()
    found, table, _ = find("worldstrat", tree=False)
    assert "split" not in table.columns
    assert "the published split is not there" in found.notes[0]


# Landsat 8 and SPOT 6.


def test_landsat_scenes_are_stacked(find, tmp_path):
    _, table, _ = find("landsat8")
    paths = [str(tmp_path / "vrt" / f"{scene}.vrt") for scene in trees2.LANDSAT]
    assert table["source"].tolist() == table["target"].tolist() == paths
    assert table["source_bands"].unique().tolist() == ["blue=1,green=2,red=3,nir=4"]
    assert table["group"].unique().tolist() == ["wrs2-193024"]
    # 12000 x 2.75e-5 - 0.2 and so on.
    same(pixels(table, NIR), [0.13, 0.1025, 0.075], [0.1575])
    grid = PairReader(table, NIR).info(0).grid
    assert grid.crs.to_epsg() == 32633
    assert grid.transform.a == 30
    assert not list((tmp_path / "vrt").glob("*.part"))
    _, more, _ = find("landsat8", {"vrt_dir": "more"}, labels=(1, 2, 3, 4, 5, 6, 7))
    assert "coastal=5,swir16=6,swir22=7" in more["source_bands"].iloc[0]
    same(pixels(more, NIR), [0.13, 0.1025, 0.075], [0.1575])


def test_landsat_scenes_that_do_not_fit(find, tmp_path):
    with pytest.raises(ManifestError, match="2 scenes in a file a band: say with --vrt-dir FOLDER"):
        find("landsat8", {})
    broken = tmp_path / "data" / trees2.LANDSAT[0] / f"{trees2.LANDSAT[0]}_SR_B5.TIF"
    trees2.write(broken, (13000,), "uint16")
    with pytest.raises(ManifestError, match=r"SR_B5.TIF: not of the grid and type of .*SR_B2.TIF"):
        find("landsat8", {"vrt_dir": "other"}, tree=False)
    broken.unlink()
    found, table, _ = find("landsat8", {"vrt_dir": "other"}, tree=False)
    assert len(table) == 1
    assert "1 of 2 scenes were left out" in found.notes[0]
    assert found.notes[0].endswith("without nir")
    with pytest.raises(ManifestError, match=r"no scene has all of its bands, as .* without red"):
        find("landsat8", TREES["landsat8"][0], tmp_path / "half", labels=(2, 3, 5))
    shutil.copytree(tmp_path / "data", tmp_path / "data/copy")
    with pytest.raises(ManifestError, match="two folders hold the scene LC0"):
        find("landsat8", {"vrt_dir": "other"}, tree=False)
    trees2.write(tmp_path / "l1/LC08_L1TP_193024_20200408_20200822_02_T1_B4.TIF", (1,), "uint16")
    with pytest.raises(ManifestError, match="Level-1 numbers are no surface reflectance"):
        find("landsat8", root=tmp_path / "l1", tree=False)


def test_landsat_patches(find, tmp_path):
    trees2.landsat8_patches(tmp_path / "data")
    _, table, names = find("landsat8", {"form": "patches"}, tree=False)
    assert names["source"].tolist() == ["l8_0_0.tif", "l8_0_1.tif", "l8_7_0.tif"]
    assert table["group"].tolist() == ["l8_0", "l8_0", "l8_7"]
    same(pixels(table, NIR), [0.1, 0.2, 0.3], [0.4])
    options = {"form": "patches", "bands": "blue=1,green=2,red=3,nir=4"}
    _, table, _ = find("landsat8", options, tree=False)
    same(pixels(table, NIR), [0.3, 0.2, 0.1], [0.4])
    with pytest.raises(ManifestError, match="no form 'patch': did you mean 'patches'"):
        find("landsat8", {"form": "patch"}, tree=False)
    with pytest.raises(CrossbandError, match="bands are given as name=number"):
        find("landsat8", {"form": "patches", "bands": "rgbn"}, tree=False)


def test_spot6(find):
    found, table, _ = find("spot6")
    assert len(table) == 3
    assert table["group"].tolist()[:2] == ["SPOT6-202007290959110"] * 2
    assert table["group"].iloc[2] == "data/patches/a.tif"
    same(pixels(table, NIR), [0.3, 0.2, 0.1], [0.4])
    assert found.notes == ["1 panchromatic files were left out"]
    with pytest.raises(ManifestError, match="the order of the bands differs"):
        find("spot6", {}, tree=False)


# Visible and thermal.


@pytest.mark.parametrize("name", VISIBLE_THERMAL)
def test_visible_and_thermal(name, find):
    found, table, names = find(name)
    assert len(table) == (2 if name == "vifb" else 3)
    assert set(table["sensor"]) == {"display"}
    assert set(table["target_sensor"]) == {"thermal-camera"}
    assert [p.split("/")[-1] for p in names["source"]] == [
        p.split("/")[-1] for p in names["target"]
    ]
    # JPEG moves a constant colour by a number or two.
    same(pixels(table, THERMAL), [0.2, 0.4, 0.6], [0.8], 0.02)
    assert "differ in size" not in " ".join(found.lines())


@pytest.mark.parametrize("name", VISIBLE_THERMAL)
def test_visible_without_thermal(name, find, tmp_path):
    _, table, _ = find(name)
    (tmp_path / "pairs.csv").unlink()
    for path in table["target"].iloc[1:]:
        (tmp_path / path).unlink()
    found, table, _ = find(name, tree=False)
    assert len(table) == 1
    assert "have no target and were left out" in found.lines()[1]
    for path in table["target"]:
        (tmp_path / path).unlink()
    (tmp_path / "data/VI/snow.jpg").unlink(missing_ok=True)
    with pytest.raises(ManifestError, match=r"looked for .*\d files have no counterpart"):
        find(name, tree=False)


def test_msrs(find):
    _, table, names = find("msrs", {"block": 50})
    assert names["source"].tolist() == [
        "test/vi/00055N.png",
        "train/vi/00001D.png",
        "train/vi/00002N.png",
    ]
    assert names["target"].tolist() == [
        "test/ir/00055N.png",
        "train/ir/00001D.png",
        "train/ir/00002N.png",
    ]
    assert table["light"].tolist() == ["night", "day", "night"]
    assert table["split"].tolist() == ["test", "train", "train"]
    assert table["split_by"].unique().tolist() == ["MSRS"]
    assert table["group"].tolist() == ["50-99", "0-49", "0-49"]


def test_roadscene(find, tmp_path):
    _, table, names = find("roadscene")
    assert names["source"].tolist()[2] == "crop_LR_visible/FLIR_08526.jpg"
    assert names["target"].tolist()[2] == "cropinfrared/FLIR_08526.jpg"
    assert table["group"].tolist() == ["0-499", "0-499", "8500-8999"]
    assert find("roadscene", {"block": 10}, tree=False)[1]["group"].tolist()[:2] == ["0-9", "10-19"]
    with pytest.raises(ManifestError, match=r"3 pairs differ in size.*24 x 24 and 8 x 8"):
        find("roadscene", {"high_resolution": True}, tree=False)
    found, table, _ = find("roadscene", {"high_resolution": True, "unpaired": True}, tree=False)
    assert table["source"].notna().sum() == table["target"].notna().sum() == 3
    assert not manifest.is_paired(table).any()
    assert "3 pairs differ in size and have no counterpart" in found.lines()[-1]
    trees2.write(tmp_path / "data/crop_LR_visible/FLIR_00006.jpg", (51, 102, 153), side=9)
    found, table, _ = find("roadscene", tree=False)
    assert len(table) == 2
    assert "1 pairs differ in size and were left out" in found.lines()[-1]
    for name in ("crop_LR_visible", "cropinfrared"):
        (tmp_path / f"data/{name}/FLIR_00018.jpg").rename(tmp_path / f"data/{name}/none.jpg")
    with pytest.raises(ManifestError, match="blocks of 500 need a number in the name"):
        find("roadscene", tree=False)


def test_llvip_and_m3fd_and_kaist_and_vifb(find, tmp_path):
    _, table, names = find("llvip", root=tmp_path / "llvip")
    assert names["target"].tolist()[0] == "infrared/test/190001.jpg"
    assert table["group"].tolist() == ["llvip-19", "llvip-01", "llvip-02"]
    assert table["split"].tolist() == ["test", "train", "train"]
    _, table, names = find("m3fd", {"block": 200}, root=tmp_path / "m3fd")
    assert names["target"].tolist()[2] == "M3FD_Fusion/Ir/00000.png"
    detection = ["M3FD_Detection/0-199", "M3FD_Detection/200-399"]
    assert table["group"].tolist() == [*detection, "M3FD_Fusion/0-199"]
    assert "split" not in table.columns
    _, table, names = find("kaist", root=tmp_path / "kaist")
    assert names["target"].tolist()[0] == "set02/V000/lwir/I00000.jpg"
    assert table["group"].tolist() == ["set02/V000", "set05/V001", "set06/V000"]
    assert table["split"].tolist() == ["train", "train", "test"]
    assert table["light"].tolist() == ["day", "night", "day"]
    assert table["place"].tolist() == ["downtown", "downtown", "campus"]
    found, table, _ = find("vifb", root=tmp_path / "vifb")
    assert table["split"].unique().tolist() == ["test"]
    assert "1 visible pictures are grey and were left out" in found.notes[0]


@pytest.mark.parametrize(
    ("name", "pairs", "groups"),
    [
        ("roadscene", 170, 15),
        ("msrs", 15, 15),
        ("llvip", 15, 1),
        ("m3fd", 12, 12),
        ("vifb", 14, 14),
    ],
)
def test_real_pictures(name, pairs, groups, real_data, find):
    _, table, _ = find(name, {}, root=real_data / "rgb2thermal" / name, tree=False)
    assert (len(table), table["group"].nunique()) == (pairs, groups)
    reader = PairReader(table, THERMAL)
    for i in range(0, pairs, 5):
        window = reader.read(i, reader.info(i).grid.box)
        assert window.mask.all()
        assert window.source.max() <= 1
        assert window.target.std() > 0.01
