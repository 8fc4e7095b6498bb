"""Layouts: every one has a tree; trees -> rows -> pixels in physical units; the command."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import trees
from commands import one_line
from registered import classes

from crossband.cli.main import main
from crossband.core.signature import Signature, UnitRange
from crossband.data import layouts, manifest
from crossband.data.layouts import Layout
from crossband.data.reader import PairReader
from crossband.errors import InputError, ManifestError, OutputError, UnitError

TREES = dict(trees.TREES)
if importlib.util.find_spec("trees2") is not None:
    TREES |= importlib.import_module("trees2").TREES


def signature(source, target, unit="display", target_unit=None):
    """Return a signature of these bands for one unit."""
    bands = source.split(), target.split()
    ranges = [[(0.0, 1.0)] * len(names) for names in bands]
    return Signature(*bands, {unit: UnitRange(*ranges, target_unit)})


@pytest.fixture
def find(tmp_path, monkeypatch):
    """Index a tree, write the manifest, and read it again."""
    monkeypatch.chdir(tmp_path)

    def run(name, options=None, root=None):
        root = root or tmp_path / "data"
        given = TREES[name][0] if options is None else options
        found = layouts.build_manifest(layouts.get(name)(**given), root)
        manifest.write(found.table, tmp_path / "pairs.parquet")
        table = manifest.read(tmp_path / "pairs.parquet")
        here = lambda p: p and p.removeprefix(f"{root}/")  # noqa: E731
        return found, table, table[["source", "target"]].map(here)

    return run


def check(table, sig, source, target, scale=1, tolerance=1e-6):
    """Read all pairs whole, and compare the pixel in the middle."""
    reader = PairReader(table, sig, scale)
    for i in range(len(table)):
        window = reader.read(i, reader.info(i).grid.box)
        assert window.mask.all()
        for values, expected in ((window.source, source), (window.target, target)):
            middle = values[:, values.shape[1] // 2, values.shape[2] // 2]
            np.testing.assert_allclose(middle, expected, atol=tolerance)


RGB2NIR = signature("red green blue", "nir")
JPEG = 0.01
VISIBLE = [0.2, 0.4, 0.6]


# What holds for every layout.


def test_every_layout_has_a_tree():
    assert set(TREES) == set(classes(Layout))


@pytest.mark.parametrize("name", TREES)
def test_a_tree_gives_a_manifest(name, find, tmp_path):
    TREES[name][1](tmp_path / "data")
    found, table, _ = find(name)
    assert len(table) == len(found.table) > 0
    assert manifest.is_paired(table).any()
    assert all("\n" not in line for line in found.lines())
    # Rows are in the same order wherever and whenever they are found.
    again, _, _ = find(name)
    pd.testing.assert_frame_equal(found.table, again.table)


@pytest.mark.parametrize("name", layouts.names())
def test_an_empty_folder(name, find, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(ManifestError, match=r"looked for .+ \(0 files\)") as error:
        find(name, dict(layouts.get(name).examples[0]))
    assert f"the layout {name}:" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no such folder"):
        find(name, dict(layouts.get(name).examples[0]), tmp_path / "none")


@pytest.mark.parametrize("name", layouts.names())
def test_help_lists_every_option(name, capsys):
    assert main(["data", "manifest", name, "--help"]) == 0
    said = capsys.readouterr().out
    arguments = layouts.get(name)(**layouts.get(name).examples[0]).arguments
    for option in arguments:
        # With a text of its own, so that an argument without documentation fails here.
        flag = rf"^  --{option.replace('_', '-')}(, --no-\S+)?( \{{\S+\}}| [A-Z_]+)?\s+(?!-)\w"
        assert re.search(flag, said, re.MULTILINE), option
    assert set(re.findall(r"^  --([a-z-]+)", said.partition("options of")[2], re.M)) == {
        option.replace("_", "-") for option in arguments
    }


# The frame.


class _Toy(Layout):  # the underscore keeps it out of `layouts.names()`
    """A layout for tests.

    Args:
        count: how many
            rows there are.
        share: 100% of nothing.
        flag: a switch.
        must: has no default.
    """

    name = "toy"
    origin = "nowhere"

    def __init__(self, must: int, count: int = 2, share: float = 0.5, flag: bool = False):
        pass

    def rows(self, search):
        a, share, flag = (self.arguments[n] for n in ("count", "share", "flag"))
        assert (type(a), type(share)) == (int, float)
        for i in range(a):
            yield {"source": f"{i}.tif", "target": None, "share": share, "flag": flag}


def test_options_come_from_the_constructor(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(Layout.known, "toy", _Toy)
    out = tmp_path / "p.csv"
    run = ["data", "manifest", "toy", str(tmp_path), "-o", str(out), "--must", "1"]
    assert main([*run, "--count", "3", "--flag"]) == 0
    table = pd.read_csv(out)
    assert table["flag"].tolist() == [True] * 3
    assert capsys.readouterr().out.splitlines() == [
        "0 pairs, no groups",
        "3 rows have a source only",
        str(out),
    ]
    assert main(run) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*run, "--overwrite", "--no-flag"]) == 0
    assert pd.read_csv(out)["flag"].tolist() == [False] * 2
    assert main([*run, "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "how many rows there are. (default 2)" in said
    assert "100% of nothing. (default 0.5)" in said
    assert main(run[:-2]) == 2
    assert "--must" in capsys.readouterr().err


def test_where_the_data_may_be_instead(find, tmp_path):
    trees.pix2pix(tmp_path / "data/inner")
    with pytest.raises(ManifestError, match=r"such files are in \S+/data/inner: is that"):
        find("folders")
    with pytest.raises(ManifestError, match=r"such files are in \S+/data/inner: is that"):
        find("folders", root=tmp_path / "data/inner/train_A")
    with pytest.raises(InputError, match="not a folder"):
        find("folders", root=tmp_path / "data/inner/train_A/0.png")


def test_half_of_the_counterparts_are_missing(find, tmp_path):
    trees.pix2pix(tmp_path / "data")
    for path in (tmp_path / "data/train_B").iterdir():
        path.unlink()
    found, table, _ = find("folders")
    assert len(table) == 3
    lines = found.lines()
    assert "3 of 6 files and pairs have no target and were left out, as " in lines[1]
    assert "train_A/0.png" in lines[1]
    assert "half of them or more; looked for " in lines[2]
    assert "train_B/**/* (0 files)" in lines[2]


# folders.


def test_pix2pix(find, tmp_path):
    trees.pix2pix(tmp_path / "data")
    (tmp_path / "data/train_A/notes.txt").write_text("no picture")
    found, table, names = find("folders")
    assert names.values.tolist()[:2] == [
        ["train_A/0.png", "train_B/0.jpg"],
        ["train_A/1.png", "train_B/1.jpg"],
    ]
    assert table["split"].value_counts().to_dict() == {"train": 3, "test": 2, "val": 1}
    assert table.loc[0, ["sensor", "target_sensor"]].tolist() == ["display", "display"]
    assert table.loc[0, ["source_bands", "target_bands"]].tolist() == [
        "red=1,green=2,blue=3",
        "nir=1",
    ]
    check(table, RGB2NIR, VISIBLE, [0.8], tolerance=JPEG)
    assert found.lines() == ["6 pairs, no groups: train 3, val 1, test 2"]
    _, table, names = find("folders", {"source": "nir", "direction": "BtoA"})
    assert names.loc[0].tolist() == ["train_B/0.jpg", "train_A/0.png"]
    check(table, signature("nir", "red green blue"), [0.8], VISIBLE, tolerance=JPEG)


def test_cyclegan_has_no_counterparts(find, tmp_path):
    trees.cyclegan(tmp_path / "data")
    found, table, _ = find("folders", {"target": "thermal"})
    assert (table["source"].isna() != table["target"].isna()).all()
    assert found.lines() == [
        "0 pairs, no groups: train 4, test 4",
        "4 rows have a source only",
        "4 rows have a target only",
    ]
    assert not manifest.is_paired(table).any()
    _, table, names = find("folders", {"target": "thermal", "paired": "yes"})
    assert names.values.tolist() == [
        ["trainA/1.jpg", "trainB/1.jpg"],
        ["testA/1.jpg", "testB/1.jpg"],
    ]


def test_halves(find, tmp_path):
    trees.halves(tmp_path / "data")
    trees.write(tmp_path / "data/train/odd.png", trees.RGB, size=(4, 7))
    found, table, names = find("folders", {"target": "nir"})
    assert (names["source"] == names["target"]).all()
    assert table.loc[0, ["source_window", "target_window"]].tolist() == ["0,0,8,8", "8,0,8,8"]
    check(table, RGB2NIR, VISIBLE, [0.8])
    assert "odd.png: two halves, but 7 pixels wide" in found.lines()[1]
    _, table, _ = find("folders", {"source": "nir", "direction": "BtoA"})
    check(table, signature("nir", "red green blue"), [0.8], VISIBLE)
    _, table, _ = find("folders", {"target": "nir", "paired": "no"})
    assert len(table) == 12
    assert not manifest.is_paired(table).any()


def test_two_trees(find, tmp_path):
    for split in ("train", "valid"):
        trees.write(tmp_path / f"data/{split}/RGB/s1/7.JPG", trees.RGB, driver="JPEG")
        trees.write(tmp_path / f"data/{split}/IR/s1/7.png", trees.GREY)
    options = {"source_folder": "*/RGB", "target_folder": "*/IR", "target": "thermal"}
    _, table, names = find("folders", options | {"group_by": "parent"})
    assert names.values.tolist() == [
        ["train/RGB/s1/7.JPG", "train/IR/s1/7.png"],
        ["valid/RGB/s1/7.JPG", "valid/IR/s1/7.png"],
    ]
    assert table["split"].tolist() == ["train", "val"]
    assert table["group"].tolist() == ["train/RGB/s1", "valid/RGB/s1"]
    # A split of the folders may cut a group, and says so.
    found, table, _ = find("folders", options | {"group_by": r"(s\d)/"})
    assert table["group"].tolist() == ["s1", "s1"]
    assert found.lines()[-1].startswith("the folders leaks: 1 of 1 val rows (100%)")
    with pytest.raises(ManifestError, match=r"is not in 'train/RGB/s1/7\.JPG'"):
        find("folders", options | {"group_by": "scene"})
    with pytest.raises(ManifestError, match="no regular expression"):
        find("folders", options | {"group_by": "("})
    trees.write(tmp_path / "data/train/RGB/s1/7.png", trees.RGB)
    with pytest.raises(ManifestError, match=r"7\.JPG and \S+7\.png are both called"):
        find("folders", options)


def test_folders_state_nothing_that_is_not_known(find, tmp_path):
    trees.pix2pix(tmp_path / "data")
    with pytest.raises(ManifestError, match=r"0\.jpg: 1 band without colour: .* --target nir"):
        find("folders", {})
    with pytest.raises(ManifestError, match="--target nir=2, but it has 1 band"):
        find("folders", {"target": "nir=2"})
    root = tmp_path / "tiff"
    for folder in "AB":
        trees.write(root / folder / "1.tif", (1000,), "uint16")
    options = {"source_folder": "A", "target_folder": "B", "source": "red", "target": "nir"}
    with pytest.raises(ManifestError, match="uint16 numbers of unknown unit: give --sensor"):
        find("folders", options, root)
    with pytest.raises(ManifestError, match="give --target-sensor"):
        find("folders", options | {"sensor": "sentinel-2-l2a"}, root)
    sensor = {"sensor": "sentinel-2-l2a-no-offset", "target_sensor": "sentinel-2-l2a-no-offset"}
    _, table, _ = find("folders", options | sensor, root)
    check(table, signature("red", "nir", "reflectance"), [0.1], [0.1])
    # 16 bits of a PNG may be anything.
    for folder in "AB":
        trees.write(tmp_path / "png" / folder / "2.png", (1000,), "uint16")
    with pytest.raises(ManifestError, match=r"2\.png: uint16 numbers of unknown unit"):
        find("folders", options | {"target_sensor": "display"}, tmp_path / "png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source_folder": "A"}, "belong together"),
        ({"source_folder": "A", "target_folder": "A"}, "one folder"),
        ({"source_folder": "A", "target_folder": "B", "direction": "BtoA"}, "swap"),
        ({"source": "red,red"}, "each once"),
        ({"source": "red,"}, "each once"),
    ],
)
def test_options_of_folders_that_do_not_fit(options, message):
    with pytest.raises(ManifestError, match=message):
        layouts.get("folders")(**options)
    with pytest.raises(UnitError, match="did you mean 'display'"):
        layouts.get("folders")(sensor="dispaly")


# sen12ms.


@pytest.mark.parametrize("season", ["{}", "{}_{}"])
def test_sen12ms(find, tmp_path, season):
    trees.sen12ms(tmp_path / "data", season)
    found, table, names = find("sen12ms")
    assert names.loc[0].tolist() == [
        f"{season.format('ROIs1158_spring', side)}/{side}_1/ROIs1158_spring_{side}_1_p30.tif"
        for side in ("s1", "s2")
    ]
    assert found.lines() == ["6 pairs, 3 groups"]
    assert sorted(set(table["group"])) == [f"{name}_{scene}" for name, scene in trees.SEASONS]
    sar = signature("vv vh", "red green blue", "db", "reflectance")
    check(table, sar, [-12.5, -19.25], [0.13, 0.12, 0.11])
    # B8A is the ninth band, before B9: 1000 for B1, 100 more for each that follows.
    infrared = signature("red green blue", "nir nir08 cirrus swir22", "reflectance")
    _, table, names = find("sen12ms", {"pairs": "s2-s2"})
    assert (names["source"] == names["target"]).all()
    check(table, infrared, [0.13, 0.12, 0.11], [0.17, 0.18, 0.20, 0.22])
    _, table, _ = find("sen12ms", {"pairs": "s2-s1"})
    back = signature("nir", "vh", "reflectance", "db")
    check(table, back, [0.17], [-19.25])


def test_sen12ms_as_pictures(find, tmp_path):
    trees.pix2pix(tmp_path / "data")
    with pytest.raises(ManifestError, match=r"these are pictures .*: --pairs pictures"):
        find("sen12ms")
    found, table, _ = find("sen12ms", {"pairs": "pictures"})
    check(table, RGB2NIR, VISIBLE, [0.8], tolerance=JPEG)
    assert "the names do not say the scene" in found.lines()[-1]
    for side, bands in (("A", trees.RGB), ("B", trees.GREY)):
        (tmp_path / "data" / f"train_{side}/0.{'png' if side == 'A' else 'jpg'}").unlink()
        trees.write(tmp_path / f"data/train_{side}/ROIs1158_spring_s2_1_p30.png", bands)
    found, table, _ = find("sen12ms", {"pairs": "pictures"})
    assert "ROIs1158_spring_1" in set(table["group"])
    assert len(found.lines()) == 1


# sen12.


def split_file(root, **lists):
    path = root / "split.json"
    path.write_text(json.dumps({"data": lists}))
    return path


def test_sen12(find, tmp_path):
    trees.sen12(tmp_path / "data")
    found, table, names = find("sen12")
    assert names.loc[0].tolist() == [
        "v_2/agri/s1/ROIs1868_summer_s1_59_p12.png",
        "v_2/agri/s2/ROIs1868_summer_s2_59_p12.png",
    ]
    assert found.lines() == ["8 pairs, 3 groups"]
    assert table.loc[[0, 7], "terrain"].tolist() == ["agri", "urban"]
    check(table, signature("vv", "red green blue"), [0.8], VISIBLE)
    _, inside, _ = find("sen12", root=tmp_path / "data/v_2")
    assert inside["source"].tolist() == table["source"].tolist()
    # As published: no terrain.
    for side, bands in (("s1", trees.GREY), ("s2", trees.RGB)):
        name = f"ROIs1970_fall/{side}_7/ROIs1970_fall_{side}_7_p1.png"
        trees.write(tmp_path / "published" / name, bands)
    _, table, _ = find("sen12", root=tmp_path / "published")
    assert table["group"].tolist() == ["ROIs1970_fall_7"]
    assert "terrain" not in table


def test_split_json_is_taken_as_it_is_and_its_leakage_is_said(find, tmp_path):
    trees.sen12(tmp_path / "data")
    place = "{}/s1/ROIs1868_summer_s1_{}.png".format
    path = split_file(
        tmp_path,
        train=[place("agri", "59_p12"), place("urban", "8_p2").replace("/", "\\")],
        val=[place("barrenland", "59_p2")],
        test=[place("urban", "8_p3"), place("grassland", "72_p2"), place("urban", "8_p99")],
    )
    found, table, _ = find("sen12", {"split": str(path)})
    assert table["split"].tolist() == ["train", "val", "test", "train", "test"]
    assert set(table["split_by"]) == {"split.json"}
    lines = found.lines()
    assert lines[0] == "5 pairs, 3 groups: train 2, val 1, test 2"
    assert lines[1].startswith("3 pairs are not in ")
    assert lines[2].startswith("1 files of ")
    assert lines[2].endswith("s1_8_p99.png")
    assert lines[3].startswith("split.json leaks: 1 of 1 val rows (100%)")
    assert lines[4].startswith("split.json leaks: 1 of 2 test rows (50%)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("{", "not JSON"),
        ('{"train": []}', 'looked for {"data": {"train"'),
        ('{"data": {"trian": []}}', 'looked for {"data": {"train"'),
        ('{"data": {"train": "a.png"}}', "train is not a list of file names"),
        ('{"data": {"train": ["a"], "val": ["a"]}}', "a is in train and in val"),
        ('{"data": {"train": ["a"]}}', "8 pairs are not in"),
    ],
)
def test_a_broken_split_json(find, tmp_path, text, message):
    trees.sen12(tmp_path / "data")
    path = tmp_path / "split.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ManifestError, match=re.escape(message)) as error:
        find("sen12", {"split": str(path)})
    assert "split.json" in str(error.value)


# flir-adas-v2.


def test_flir(find, tmp_path):
    trees.flir(tmp_path / "data")
    trees.write(tmp_path / f"data/video_rgb_test/data/{trees.frame('ww', 9)}.jpg", trees.RGB)
    found, table, names = find("flir-adas-v2", {})
    paired = table["source"].notna() & table["target"].notna()
    assert table["group"].tolist()[:5] == [
        "video-vv",
        "video-vv",
        "video-ww",
        "video-ww",
        "video-aa",
    ]
    assert names.loc[0].tolist() == [
        f"video_rgb_test/data/{trees.frame('vv', 1)}.jpg",
        f"video_thermal_test/data/{trees.frame('tvv', 6)}.jpg",
    ]
    thermal = signature("red green blue", "thermal")
    check(table[paired], thermal, VISIBLE, [0.8], tolerance=JPEG)
    lines = found.lines()
    assert lines[0] == "4 pairs, 8 groups: train 4, val 2, test 4"
    assert lines[1:3] == ["3 rows have a source only", "3 rows have a target only"]
    assert "1 of 11 files and pairs have no target" in lines[3]
    assert "only the frames of the videos are pairs" in lines[4]
    _, table, _ = find("flir-adas-v2", {"part": "videos"})
    assert "split" not in table
    _, table, _ = find("flir-adas-v2", {"part": "images"})
    assert not manifest.is_paired(table).any()


def test_flir_in_kelvin(find, tmp_path):
    trees.flir(tmp_path / "data")
    raw = {"part": "videos", "thermal": "analyticsData", "kelvin_per_count": 0.04}
    found, table, _ = find("flir-adas-v2", raw)
    kelvin = signature("red green blue", "thermal", "display", "kelvin")
    check(table, kelvin, VISIBLE, [300.0], tolerance=JPEG)
    assert "uint8, not 16-bit counts" in "\n".join(found.lines())
    assert len(table) == 3
    for options, message in (
        ({"thermal": "analyticsData"}, "give --kelvin-per-count"),
        ({"kelvin_per_count": 0.04}, "--thermal analyticsData"),
        (raw | {"part": "aligned"}, "8-bit"),
    ):
        with pytest.raises(ManifestError, match=message):
            layouts.get("flir-adas-v2")(**options)


def test_flir_says_that_sizes_differ(find, tmp_path):
    trees.flir(tmp_path / "data")
    for path in (tmp_path / "data/video_thermal_test/data").iterdir():
        trees.write(path, trees.GREY)
    found, _, _ = find("flir-adas-v2")
    assert found.lines()[1].startswith("the pictures of a pair are not of one size (20 x 16 and 8")


def test_flir_aligned(find, tmp_path):
    trees.flir_aligned(tmp_path / "data")
    for root in (tmp_path / "data", tmp_path / "data/align"):
        found, table, _ = find("flir-adas-v2", {"part": "aligned"}, root)
        assert table["split"].tolist() == ["train", "train", "val"]
        check(table, signature("red green blue", "thermal"), VISIBLE, [0.8], tolerance=JPEG)
        assert found.notes[0] == "1 pairs are in no align_*.txt and were left out"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "without it no frame has a pair"),
        ("{", "not JSON"),
        ("[1]", 'looked for {"visible.jpg": "thermal.jpg", ...}'),
        ("{}", "is in no"),
    ],
)
def test_flir_with_a_broken_map(find, tmp_path, text, message):
    trees.flir(tmp_path / "data")
    (tmp_path / "data" / trees.FLIR).unlink()
    if text is not None:
        (tmp_path / "data" / trees.FLIR).write_text(text)
    expected = "8 files have no counterpart" if text == "{}" else message
    with pytest.raises(ManifestError, match=re.escape(expected)):
        find("flir-adas-v2")


def test_flir_with_another_name(find, tmp_path):
    trees.write(tmp_path / "data/images_rgb_train/data/FLIR_00001.jpg", trees.RGB)
    with pytest.raises(ManifestError, match="looked for a name as video-ID-frame"):
        find("flir-adas-v2", {})


# div2k.


def test_div2k(find, tmp_path):
    trees.div2k(tmp_path / "data")
    found, table, names = find("div2k")
    assert names.loc[3].tolist() == [
        "DIV2K_valid_LR_bicubic/X2/0801x2.png",
        "DIV2K_valid_HR/0801.png",
    ]
    assert found.lines() == ["4 pairs, 4 groups: train 3, val 1"]
    check(table, signature("red green blue", "red green blue"), VISIBLE, VISIBLE, scale=2)
    with pytest.raises(ManifestError, match=r"DIV2K_train_LR_bicubic/X3/\*x3.png \(0 files\)"):
        find("div2k", {"scale": 3})


def test_div2k_without_coarse_files(find, tmp_path):
    trees.div2k(tmp_path / "data")
    found, table, _ = find("div2k", {})
    assert table["source"].isna().all()
    assert manifest.is_paired(table).all()
    assert set(table["degradation"]) == {"Bicubic"}
    assert found.lines()[1:] == ["4 targets, whose source is made at reading: Bicubic"]
    found, table, names = find("div2k", {"degradation": "Blind"}, tmp_path / "data/DIV2K_train_HR")
    assert names["target"].tolist() == ["0001.png", "0002.png", "0003.png"]
    assert "split" not in table
    assert set(table["degradation"]) == {"Blind"}
    for options in ({"scale": 5}, {"scale": 2, "degradation": "Bicubic"}, {"track": "unknown"}):
        with pytest.raises(ManifestError, match="--"):
            layouts.get("div2k")(**options)


# geotiff.


def test_geotiff(find, tmp_path):
    trees.geotiff(tmp_path / "data")
    found, table, names = find("geotiff")
    assert names["source"].tolist() == [
        f"{p}/scene{i}.tif" for p in ("north", "south") for i in "01"
    ]
    assert table.loc[0, "source_bands"] == "red=1,green=2,blue=3"
    assert table.loc[0, "target_bands"] == "nir=4"
    check(table, signature("red green blue", "nir", "reflectance"), [0.03, 0.02, 0.01], [0.4])
    assert found.lines() == ["4 pairs, no groups"]
    options = {"sensor": "sentinel-2-l2a", "group_by": "parent"}
    _, table, _ = find("geotiff", options)
    assert table["group"].tolist() == ["north", "north", "south", "south"]


def test_geotiff_files_that_do_not_tell(find, tmp_path):
    trees.geotiff(tmp_path / "data")
    trees.write(tmp_path / "data/plain.tif", (300, 200, 100, 4000), "uint16")
    (tmp_path / "data/words.tif").write_text("no raster")
    found, table, _ = find("geotiff")
    assert len(table) == 4
    line = found.lines()[1]
    assert line.startswith("2 files cannot be used and were left out, as ")
    assert "plain.tif: cannot tell which band is nir" in line or "which band is red" in line
    bands = {"bands": "red=1,green=2,blue=3,nir=4", "sensor": "sentinel-2-l2a-no-offset"}
    found, table, _ = find("geotiff", bands)
    assert len(table) == 5
    check(table, signature("red green blue", "nir", "reflectance"), [0.03, 0.02, 0.01], [0.4])
    with pytest.raises(ManifestError, match=r"6 files cannot be used, as .*--sensor"):
        find("geotiff", {})


def test_geotiff_in_two_files(find, tmp_path):
    trees.geotiff_apart(tmp_path / "data")
    globs = {"source_glob": "*_rgb.tif", "target_glob": "*_nir.tif"}
    options = globs | {"sensor": "display", "target_sensor": "reflectance"}
    options |= {"target_bands": "nir=1"}
    _, table, names = find("geotiff", options)
    assert names.values.tolist() == [["0_rgb.tif", "0_nir.tif"], ["1_rgb.tif", "1_nir.tif"]]
    mixed = signature("red green blue", "nir", "display", "reflectance")
    check(table, mixed, VISIBLE, [0.75])
    for wrong, message in (
        ({"source_glob": "*/*_rgb.tif"}, "equally many stars"),
        ({"target_glob": ""}, "give --target-glob"),
    ):
        with pytest.raises(ManifestError, match=message):
            layouts.get("geotiff")(**(options | wrong))
    trees.write(tmp_path / "data/2_nir.tif", (0.5,), "float32")
    found, _, _ = find("geotiff", options)
    assert "1 of 3 files and pairs have no source" in found.lines()[1]


def test_a_table_of_facts(find, tmp_path):
    trees.geotiff(tmp_path / "data")
    trees.write(tmp_path / "data/old.tif", (30, 20, 10, 90), "int16")
    facts = tmp_path / "facts.csv"
    facts.write_text(
        "file,sensor,scale,offset,nodata,bands,group,cloud\n"
        'old.tif,reflectance,0.01,0,-1,"red=1,green=2,blue=3,nir=4",old,0.5\n'
        "north/scene0.tif,,,,,,first,\n"
        "none.tif,,,,,,,\n"
    )
    options = TREES["geotiff"][0] | {"table": str(facts)}
    found, table, names = find("geotiff", options)
    last = names.index[names["source"] == "old.tif"]
    assert table.loc[last, ["sensor", "group", "cloud"]].values.tolist() == [
        ["reflectance", "old", "0.5"]
    ]
    assert table.loc[0, "group"] == "first"
    check(
        table.loc[last], signature("red green blue", "nir", "reflectance"), [0.3, 0.2, 0.1], [0.9]
    )
    assert found.notes == [
        f"1 rows of {facts} are about no file, as 'none.tif'",
        f"{facts} has rows for 2 of 5 files",
    ]
    for text, message in (
        ("name\nold.tif\n", "no column 'file'"),
        ("file\nold.tif\nold.tif\n", "two rows are about 'old.tif'"),
        ("", "not a table that can be read"),
    ):
        facts.write_text(text)
        with pytest.raises(ManifestError, match=message):
            find("geotiff", options)


def test_facts_of_a_target(find, tmp_path):
    """One file with two radiometries, and a target's own file with a scale of its own."""
    trees.write(
        tmp_path / "one/a.tif",
        (51, 102, 153, 4000),
        "uint16",
        names=("red", "green", "blue", "nir"),
    )
    facts = tmp_path / "facts.csv"
    facts.write_text(
        "file,sensor,scale,target_sensor,target_scale\na.tif,display,0.001,reflectance,1e-4\n"
    )
    _, table, _ = find("geotiff", {"table": str(facts)}, tmp_path / "one")
    mixed = signature("red green blue", "nir", "display", "reflectance")
    check(table, mixed, [0.051, 0.102, 0.153], [0.4])
    trees.write(
        tmp_path / "two/a_rgb.tif", (51, 102, 153), "uint16", names=("red", "green", "blue")
    )
    trees.write(tmp_path / "two/a_nir.tif", (4000,), "uint16", names=("nir",))
    facts.write_text("file,scale\na_rgb.tif,0.001\na_nir.tif,1e-4\n")
    options = {"source_glob": "*_rgb.tif", "target_glob": "*_nir.tif", "sensor": "reflectance"}
    _, table, _ = find("geotiff", options | {"table": str(facts)}, tmp_path / "two")
    check(table, signature("red green blue", "nir", "reflectance"), [0.051, 0.102, 0.153], [0.4])


def test_geotiff_of_real_scenes(find, real_data, tmp_path):
    """Files of many providers, in which no two say the same of themselves."""
    folder = real_data / "rgb2nir/satellite"
    known = pd.read_csv(folder / "manifest.csv")
    known = known[known["sensor"].str.contains("NAIP") & (known["dtype"] == "uint8")].head(5)
    numbers = known[["red", "green", "blue", "nir"]].astype(int).itertuples(index=False)
    bands = [f"red={r},green={g},blue={b},nir={n}" for r, g, b, n in numbers]
    facts = pd.DataFrame({"file": known["file"], "sensor": "naip", "bands": bands})
    facts.to_csv(tmp_path / "facts.csv", index=False)
    options = {
        "table": str(tmp_path / "facts.csv"),
        "source_glob": f"{known['file'].iloc[0][:4]}*.tif",
    }
    _, table, _ = find("geotiff", options, folder)
    assert set(known["file"]) <= {p.rpartition("/")[2] for p in table["source"]}
    reader = PairReader(table, RGB2NIR)
    window = reader.read(0, reader.info(0).grid.box)
    assert 0 < window.source[:, window.source_mask].mean() < 1
    assert np.isfinite(window.target).all()


# stac.


def test_stac(find, tmp_path):
    trees.stac(tmp_path / "data")
    for root in (tmp_path / "data", tmp_path / "data/items.json"):
        _, table, _ = find("stac", root=root)
        check(table, signature("red green blue", "nir", "reflectance"), [0.2, 0.1, 0.05], [0.4])
    assert table["group"].tolist() == ["item0", "MGRS-33UUP", "MGRS-33UUP"]
    row = table.loc[0]
    assert (row["lon"], row["lat"], row["collection"]) == (10.5, 50.5, "fields")
    assert row["datetime"] == "2024-06-01T10:00:00Z"
    assert (row["scale"], row["offset"], row["nodata"]) == (0.0001, -0.1, 0)
    assert row["source_bands"] == "red=1,green=3,blue=4"
    # The picture counts where it is named.
    _, table, _ = find("stac", {"sensor": "display", "target": "red", "assets": "visual"})
    assert table.loc[0, "source"].endswith("images/0.png")
    check(table, signature("red green", "red"), VISIBLE[:2], VISIBLE[:1])


def test_stac_with_a_file_for_each_band(find, tmp_path):
    trees.stac_apart(tmp_path / "data")
    sensor = {"sensor": "sentinel-2-l2a"}
    with pytest.raises(ManifestError, match=r"in several files .*: give --vrt-dir"):
        find("stac", sensor)
    before = sorted((tmp_path / "data").rglob("*"))
    for _ in range(2):  # what is there already and says the same stays
        _, table, names = find("stac", sensor | {"vrt_dir": "stacks"})
    assert sorted((tmp_path / "data").rglob("*")) == before
    assert table.loc[0, "source"] == str(tmp_path / "stacks/one_source.vrt")
    assert names.loc[0, "target"] == "one/nir.tif"
    check(table, signature("red green blue", "nir", "reflectance"), [0.3, 0.2, 0.15], [0.5])
    (tmp_path / "stacks/one_source.vrt").write_text("mine")
    with pytest.raises(OutputError, match="says something else"):
        find("stac", sensor | {"vrt_dir": "stacks"})
    assert (tmp_path / "stacks/one_source.vrt").read_text() == "mine"
    trees.write(tmp_path / "data/one/green.tif", (1,), "uint16", size=(4, 4))
    with pytest.raises(ManifestError, match=r"green\.tif: not of the grid and type of \S+red\.tif"):
        find("stac", sensor | {"vrt_dir": "other"})


def test_stacked_bands_with_scales_of_their_own(find, tmp_path):
    trees.stac_apart(tmp_path / "data")
    options = {"sensor": "sentinel-2-l2a", "vrt_dir": "stacks"}
    path = tmp_path / "data/one/item.json"
    whole = json.loads(path.read_text())
    whole["assets"]["green"] |= {"raster:scale": 0.001, "raster:offset": -1.5}
    path.write_text(json.dumps(whole))
    _, table, _ = find("stac", options)
    assert np.isnan(table.loc[0, "scale"])
    check(table, signature("red green blue", "nir", "reflectance"), [0.3, 0.5, 0.15], [0.5])
    # A scale of 1 is a statement too: the sensor's own would be 0.0001.
    for asset in whole["assets"].values():
        asset |= {"raster:scale": 1, "raster:offset": 0}
    path.write_text(json.dumps(whole))
    _, table, _ = find("stac", options | {"vrt_dir": "others"})
    check(table, signature("red green blue", "nir", "reflectance"), [3000, 2000, 1500], [5000])
    del whole["assets"]["green"]["raster:scale"], whole["assets"]["green"]["raster:offset"]
    path.write_text(json.dumps(whole))
    with pytest.raises(ManifestError, match="state a scale, some do not"):
        find("stac", options | {"vrt_dir": "more"})


def change(root, edit):
    path = root / "items.json"
    data = json.loads(path.read_text())
    edit(data["features"])
    path.write_text(json.dumps(data))


def same_id(items):
    items[1]["id"] = "item0"


def no_assets(items):
    items[0]["assets"] = {"data": {"href": 7, "eo:bands": 3}}


def no_nir(items):
    items[0]["assets"]["data"]["eo:bands"][1]["common_name"] = "rededge"


def two_assets(items):
    items[0]["assets"]["again"] = items[0]["assets"]["data"]


def two_reds(items):
    items[0]["assets"]["data"]["eo:bands"][2]["common_name"] = "red"


def no_file(items):
    items[0]["assets"]["data"]["href"] = "./images/none.tif"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (no_assets, "not as STAC has it"),
        (no_nir, "no asset has nir; there are blue, green, red, rededge"),
        (two_assets, "red, green, blue: in assets data, again: choose with --assets"),
        (two_reds, "no asset has red, green; there are blue, nir"),
        (no_file, "none.tif: no such file"),
    ],
)
def test_an_item_that_cannot_be_used(find, tmp_path, edit, message):
    trees.stac(tmp_path / "data")
    change(tmp_path / "data", edit)
    found, table, _ = find("stac")
    assert len(table) == 2
    assert message in found.lines()[1]
    assert "item item0" in found.lines()[1]


def test_stac_errors(find, tmp_path):
    trees.stac(tmp_path / "data")
    with pytest.raises(ManifestError, match="give --sensor"):
        layouts.get("stac")()
    with pytest.raises(ManifestError, match="no property 'platform' to group by"):
        find("stac", TREES["stac"][0] | {"group_by": "platform"})
    change(tmp_path / "data", same_id)
    with pytest.raises(ManifestError, match="two items are called 'item0'"):
        find("stac")
    (tmp_path / "data/items.json").write_text("{")
    with pytest.raises(ManifestError, match=r"items\.json: not JSON"):
        find("stac")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda item: item["assets"]["data"].update(href=""), "has no href"),
        (lambda item: item["assets"]["data"].update(href=5), "has no href"),
        (lambda item: item.update(bbox=[0, 0, 1e400, 1]), "a bbox of"),
        (lambda item: item.update(bbox=[0, 9, 1, 5]), "a bbox of"),
        (lambda item: item["properties"].update(datetime="yesterday"), "not as STAC has it"),
        (lambda item: stated(item, "scale", 10**400), "is no number"),
        (lambda item: stated(item, "scale", 1e300), "a scale of 1e[+]300"),
        (lambda item: stated(item, "offset", "inf"), "an offset of inf"),
    ],
)
def test_an_item_that_states_what_cannot_be_is_left_out(find, tmp_path, edit, words):
    trees.stac(tmp_path / "data")
    change(tmp_path / "data", lambda items: edit(items[0]))
    found, table, _ = find("stac")
    assert len(table) == 2
    assert re.search(words, found.lines()[1])


def stated(item, name, value):
    """State a number of all bands."""
    bands = item["assets"]["data"]
    for key in ("raster:bands", "bands"):
        for band in bands.get(key, []):
            band[name] = value
    bands.pop("raster:" + name, None)


def test_remote_files_stay_as_they_are_and_the_antimeridian_is_no_edge(find, tmp_path):
    trees.stac(tmp_path / "data")

    def edit(items):
        items[0]["assets"]["data"]["href"] = "https://example.org/a.tif"
        items[0]["bbox"] = [179, -1, 0, -178, 1, 0]

    change(tmp_path / "data", edit)
    _, table, _ = find("stac")
    assert table.loc[0, "source"] == table.loc[0, "target"] == "https://example.org/a.tif"
    assert (table.loc[0, "lon"], table.loc[0, "lat"]) == (-179.5, 0)


# The command.


def test_the_command(crossband_command, tmp_path):
    """Write a manifest, then train on it, as a user does."""
    trees.geotiff(tmp_path / "data")
    pairs, run = tmp_path / "pairs.parquet", tmp_path / "run"
    options = ["--sensor", "sentinel-2-l2a-no-offset", "--group-by", "parent"]
    done = crossband_command(
        "data", "manifest", "geotiff", tmp_path / "data", "-o", pairs, *options
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"4 pairs, 2 groups\n{pairs}\n"
    small = ["--data.manifest", pairs, "--data.crop", "8", "--data.batch", "2", "--fast-run"]
    done = crossband_command("fit", "rgb2nir/local-unet", "-o", run, *small)
    assert done.returncode == 0, done.stderr
    assert (run / "model/model.json").is_file()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sen21", "x", "-o", "p.csv"], ["unknown layout 'sen21'", "did you mean 'sen12'?"]),
        (["-o", "p.csv", "sen12", "x"], ["name a layout first"]),
        (["sen12", "x", "-o", "p.csv", "--splt", "f"], ["'--splt'", "--split"]),
        (["sen12", "x"], ["-o/--output"]),
        (["sen12", "x", "-o", "p.txt"], [".csv or .parquet"]),
        (["sen12", "x", "-o", "p.csv"], ["x: no such folder"]),
        (["div2k", "x", "-o", "p.csv", "--scale", "7"], ["--scale", "0, 2, 3, 4"]),
        (["sen12ms", "x", "-o", "p.csv", "--pairs", "s3"], ["--pairs", "s1-s2"]),
        (["stac", "x", "-o", "p.csv"], ["give --sensor"]),
        (["geotiff", "x", "-o", "p.csv", "--source", "red,"], ["red,green,blue"]),
    ],
)
def test_bad_words(tmp_path, monkeypatch, capsys, words, expected):
    monkeypatch.chdir(tmp_path)
    code = main(["data", "manifest", *words])
    done = subprocess.CompletedProcess([], code, "", capsys.readouterr().err)
    one_line(done, *expected)
    assert not list(tmp_path.iterdir())


def test_help(capsys, monkeypatch):
    assert main(["data"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^    manifest +write", said, re.MULTILINE)
    assert "index" not in said
    for words in (["data", "manifest"], ["data", "manifest", "--help"]):
        assert main(words) == 0
        said = capsys.readouterr().out
        for name in layouts.names():
            assert f"  {name} " in said
            assert layouts.get(name).origin in said
    for typed, hint in (
        ("manifst", "did you mean 'manifest'?"),
        ("indx", "known: check, degrade, "),
    ):
        assert main(["data", typed]) == 2
        said = capsys.readouterr().err
        assert hint in said
        assert "index" not in said


def test_the_old_name_of_the_command(tmp_path, capsys):
    trees.geotiff(tmp_path / "data")
    options = ["--sensor", "sentinel-2-l2a-no-offset"]
    for name in ("index", "manifest"):
        words = [
            "data",
            name,
            "geotiff",
            str(tmp_path / "data"),
            "-o",
            str(tmp_path / f"{name}.csv"),
        ]
        assert main([*words, *options]) == 0
        told = capsys.readouterr().err
        assert told == (
            "crossband: 'data index' is deprecated: call 'data manifest' instead\n"
            if name == "index"
            else ""
        )
    assert (tmp_path / "index.csv").read_text() == (tmp_path / "manifest.csv").read_text()


def test_help_stays_light():
    code = "import sys; from crossband.cli.main import main\n"
    code += "try:\n main(sys.argv[1:])\nexcept SystemExit: pass\n"
    code += "sys.exit(bool({'torch', 'pandas', 'rasterio'} & set(sys.modules)))"
    for words in (["--help"], ["data", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], check=False, capture_output=True
        )
        assert done.returncode == 0
    code = code.replace(", 'pandas', 'rasterio'", "")
    done = subprocess.run([sys.executable, "-c", code, "data", "manifest"], check=False)
    assert done.returncode == 0
