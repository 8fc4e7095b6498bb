"""Packs: the same pixels at the same positions as from the files, near and far; nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import socket
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pytest
import rasterio
import torch
from affine import Affine
from guided_models import guided_model
from pyarrow import parquet
from ranges import RangeServer
from rasterio.windows import Window
from samples import NAMES, SIGNATURE, dataset, same, values
from tiers import slow
from torch.utils.data import DataLoader

from crossband import load
from crossband.cli.main import main
from crossband.core.file_hash import sha256
from crossband.core.signature import Signature, UnitRange
from crossband.data import manifest
from crossband.data.degrade.sensor import Bicubic
from crossband.data.made_guide import MadeGuide
from crossband.data.module import Pairs
from crossband.data.packed.cache import ShardCache
from crossband.data.packed.read import Packs, location, name_in, split_name
from crossband.data.reader import PairReader
from crossband.data.rows import open_guide
from crossband.data.samples import PairDataset
from crossband.errors import (
    CrossbandError,
    InputError,
    ManifestError,
    OutputError,
    RecipeError,
    UnreadableError,
    UpToDate,
)
from crossband.evaluation.evaluate import evaluate
from crossband.raster.grid import Box
from crossband.training.fit import fit

webdataset = pytest.importorskip("webdataset", reason="packing needs the extra `pack`")
pack = pytest.importorskip("crossband.data.pack").pack

RECIPE = Path(__file__).parent / "recipe.yaml"


def samples_equal(one, two, positions=range(12)):
    """Compare samples but for the file's name, which is another one in a pack."""
    for position in positions:
        a, b = one[position], two[position]
        assert split_name(b.pop("name"))[1] == Path(a.pop("name")).name
        same(a, b)


def reader(path, scale=1, **options):
    return PairReader(manifest.read(path), options.pop("signature", SIGNATURE), scale, **options)


def masked():
    mask = np.ones((40, 50), bool)
    mask[5:20, 8:30] = False
    return mask


def with_holes():
    out = (values().astype(np.float32) % 900) / 1000
    out[1, 3:9, 4:40] = np.nan
    out[:, 30, 20] = np.inf
    return out


RASTERS = {
    "uint16": {"nodata": 7},
    "int16, offset": {"values": values().astype(np.int16), "offset": -0.1},
    "float32 with NaN": {"values": with_holes(), "scale": None, "nodata": float("nan")},
    "float64": {"values": with_holes().astype(np.float64), "scale": None},
    "mask": {"mask": masked()},
    "8 bit with alpha": {
        "values": np.concatenate([values() % 255, 255 * masked()[None]]).astype(np.uint8),
        "names": (*NAMES, None),
        "photometric": "RGB",
        "alpha": True,
    },
    "rotated": {"transform": (10, 2, 5e5, 2, -10, 5e6)},
    "strips, deflate": {"compress": "deflate", "predictor": 2},
}


@pytest.mark.parametrize("kind", RASTERS)
def test_windows_and_facts_are_equal(pairs, tmp_path, kind):
    given = dict(RASTERS[kind])
    if "transform" in given:
        given["transform"] = Affine(*given["transform"])
    path = pairs(2, **given)
    made = pack(path, tmp_path / "packed", block=16)
    assert made.files == 2
    files, packed = reader(path), reader(tmp_path / "packed")
    rng = np.random.default_rng(0)
    for index in range(2):
        a, b = files.info(index), packed.info(index)
        assert a == b
        for _ in range(20):
            row, col = int(rng.integers(39)), int(rng.integers(49))
            box = Box(row, col, int(rng.integers(1, 41 - row)), int(rng.integers(1, 51 - col)))
            one, two = files.read(index, box), packed.read(index, box)
            for name in ("source", "target", "source_mask", "mask"):
                np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
            assert one.mask.shape == (box.height, box.width)


def test_samples_are_equal_and_go_on_in_the_middle_of_an_epoch(pairs, tmp_path):
    path = pairs(4, {"weight": [1, 2, 3, 0], "group": list("aabb")}, nodata=7)
    pack(path, tmp_path / "packed", block=16, shard_mb=0.01)
    assert len(list((tmp_path / "packed" / "shards").iterdir())) > 2
    options = {"seed": 5, "resolution": (0.5, 2.0), "mix": 0.3}
    samples_equal(dataset(path, **options), dataset(tmp_path / "packed", **options))
    # A run that is resumed starts at another position, in another process.
    samples_equal(dataset(path, **options), dataset(tmp_path / "packed", **options), [7, 1001])


def test_pictures_with_a_finer_target(tmp_path, make_raster):
    rng = np.random.default_rng(0)
    for name, side in (("low.png", 24), ("high.png", 48)):
        make_raster(name, rng.integers(0, 255, (3, side, side)).astype(np.uint8), unit=None)
    columns = {"source": ["low.png"], "target": ["high.png"], "sensor": ["display"]}
    columns["target_bands"] = ["nir=2"]
    pd.DataFrame(columns).to_csv(tmp_path / "pairs.csv", index=False)
    pack(tmp_path / "pairs.csv", tmp_path / "packed", block=16)
    facts = pd.read_parquet(tmp_path / "packed" / "files.parquet")
    blocks = {n: json.loads(f)["block"] for n, f in zip(facts["name"], facts["facts"], strict=True)}
    assert blocks == {"low.png": [16, 16], "high.png": [32, 32]}
    options = {"scale": 2, "crop": 8}
    samples_equal(
        dataset(tmp_path / "pairs.csv", **options), dataset(tmp_path / "packed", **options)
    )


def test_parts_of_files_are_packed_once_and_only_where_needed(pairs, tmp_path):
    windows = ["0,0,20,16", "32,0,16,16", "3,5,20,16"]
    table = pd.read_csv(pairs(1))
    table = pd.concat([table] * 3).assign(source_window=windows, target_window=windows)
    table.to_csv(tmp_path / "pairs.csv", index=False)
    made = pack(tmp_path / "pairs.csv", tmp_path / "packed", block=16)
    assert (made.rows, made.files, made.blocks) == (3, 1, 5)  # (0 to 1, 0 to 1) and (0, 2)
    samples_equal(dataset(tmp_path / "pairs.csv", crop=8), dataset(tmp_path / "packed", crop=8))


def test_rows_without_counterpart_and_made_sources(pairs, tmp_path):
    path = pairs(3)
    table = pd.read_csv(path)
    table.loc[0, "source"] = table.loc[1, "target"] = None
    table.to_csv(path, index=False)
    pack(path, tmp_path / "packed", block=16)
    samples_equal(dataset(path, paired=False), dataset(tmp_path / "packed", paired=False))
    # `Bicubic` makes the source from the target, with one band that both have.
    table = table.drop(index=1).assign(source=None, degradation="Bicubic")
    table.to_csv(path, index=False)
    pack(path, tmp_path / "made", block=16)
    options = {"scale": 2, "crop": 8, "signature": type(SIGNATURE)(["nir"], ["nir"], RANGES_NIR)}
    samples_equal(dataset(path, **options), dataset(tmp_path / "made", **options))
    options["degradation"] = Bicubic()
    samples_equal(dataset(path, **options), dataset(tmp_path / "made", **options))


RANGES_NIR = {k: type(v)([(0.0, 1.0)], [(0.0, 1.0)]) for k, v in SIGNATURE.units.items()}


def test_columns_weights_and_split_are_kept(pairs, tmp_path):
    path = pairs(4, {"weight": [1.0, 2.0, 3.0, 4.0], "terrain": list("abab"), "lon": 7.5})
    pack(path, tmp_path / "packed")
    before, after = manifest.read(path), manifest.read(tmp_path / "packed")
    kept = [c for c in before.columns if c not in ("source", "target")]
    pd.testing.assert_frame_equal(before[kept], after[kept], check_dtype=False)
    assert set(after.columns) - set(before.columns) == {"pack"}
    for seed in range(3):
        one = Pairs(path, val_fraction=0.5).split(seed)
        two = Pairs(tmp_path / "packed", val_fraction=0.5).split(seed)
        assert [list(t["row"]) for t in one] == [list(t["row"]) for t in two]


def test_odd_paths_and_a_pack_that_moves(tmp_path, make_raster):
    home = tmp_path / "my data #1 %20"
    (home / "in").mkdir(parents=True)
    make_raster("a.tif", values(), names=NAMES, scale=1e-4)
    (tmp_path / "a.tif").rename(home / "in" / "a #1 %41.tif")
    (home / "link.tif").symlink_to(home / "in" / "a #1 %41.tif")
    table = pd.DataFrame({"source": ["in/a #1 %41.tif", "link.tif"]})
    table.assign(target=table["source"]).to_csv(home / "pairs.csv", index=False)
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    made = pack(home / "pairs.csv", tmp_path / "linked" / "the pack", block=16)
    assert made.files == 1  # the link is the same file
    first = dataset(home / "pairs.csv")[3]
    moved = tmp_path / "moved # here"
    (tmp_path / "real" / "the pack").rename(moved)
    sample = dataset(moved)[3]
    first.pop("name")
    assert sample.pop("name") == name_in(str(moved), "in/a #1 %41.tif")
    same(first, sample)
    assert not list(tmp_path.glob("real/.*"))


def test_two_packs_of_the_same_are_the_same(pairs, tmp_path):
    path = pairs(3)
    for name in ("one", "two"):
        pack(path, tmp_path / name, block=16)
    shards = [(tmp_path / n / "shards" / "000000.tar").read_bytes() for n in ("one", "two")]
    assert shards[0] == shards[1]
    prints = [manifest.fingerprint(manifest.read(tmp_path / n)) for n in ("one", "two")]
    assert prints[0] == prints[1]
    pairs(3, values=values(9))  # other pixels, files of the same names and sizes
    pack(path, tmp_path / "three", block=16)
    assert manifest.fingerprint(manifest.read(tmp_path / "three")) != prints[0]


def test_any_tar_and_webdataset_read_the_shards(pairs, tmp_path):
    pack(pairs(1, values=values()), tmp_path / "packed", block=64)
    (shard,) = (tmp_path / "packed" / "shards").iterdir()
    (sample,) = webdataset.WebDataset(str(shard), shardshuffle=False)
    assert sample["__key__"] == "000000_00000_00000"
    import pyarrow

    # One zstd frame a band, low bytes first: what docs/data-packed.md says.
    index = pd.read_parquet(tmp_path / "packed" / "blocks.parquet")
    plane = sample["zst"][: index["planes"][0][0]]
    assert zlib.crc32(plane[:-4]) == int.from_bytes(plane[-4:], "little")
    raw = pyarrow.Codec("zstd").decompress(plane[:-4], 40 * 50 * 2)
    low, high = np.frombuffer(raw, np.uint8).reshape(2, 40, 50).astype(np.uint16)
    np.testing.assert_array_equal(low | high << 8, values()[0])


def test_overwrite_replaces_a_pack_and_nothing_else(pairs, tmp_path):
    path = pairs(2)
    pack(path, tmp_path / "packed")
    with pytest.raises(UpToDate, match="packed: exists already, made from the same in the same"):
        pack(path, tmp_path / "packed")
    with pytest.raises(OutputError, match="exists already; give --overwrite"):
        pack(path, tmp_path / "packed", block=64)
    before = (tmp_path / "packed" / "pack.json").read_text()
    pairs(3, values=values(9))
    pack(path, tmp_path / "packed", overwrite=True)
    assert (tmp_path / "packed" / "pack.json").read_text() != before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("mine")
    with pytest.raises(OutputError, match="not replaced"):
        pack(path, tmp_path / "photos", overwrite=True)
    with pytest.raises(ManifestError, match="it is a pack already"):
        pack(tmp_path / "packed", tmp_path / "again")


GUIDED = Signature(
    list(NAMES[:3]),
    ["nir"],
    {"reflectance": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)], None, [(0.0, 1.0)] * 4)},
    guide=list(NAMES),
)


@pytest.fixture
def guided_pairs(make_raster, tmp_path):
    """Write a large scene, two windows of which are pairs, and a larger guide of pixels `by`."""

    def make(by, crs=None):
        rng = np.random.default_rng(4)
        fine = Affine(10, 0, 5e5, 0, -10, 5e6)
        scene = rng.uniform(0.05, 0.4, (4, 300, 300)).astype(np.float32)
        make_raster("scene.tif", scene, names=NAMES, transform=fine)
        side = int(2400 / by)
        guide = rng.uniform(0.05, 0.4, (4, side, side)).astype(np.float32)
        at = fine @ Affine.translation(-1100, -1100) @ Affine.scale(by)
        tags = {"TIFFTAG_DATETIME": "2024:05:20 10:00:00"}
        path = make_raster("guide.tif", guide, names=NAMES, transform=at)
        with rasterio.open(path, "r+") as file:
            file.update_tags(**tags)
        rows = [{"source_window": f"{n},40,64,64", "target_window": f"{n},40,64,64",
                 "source": "scene.tif", "target": "scene.tif", "guide": "guide.tif",
                 "date": "2024-05-01"} for n in (10, 200)]  # fmt: skip
        pd.DataFrame(rows).to_csv(tmp_path / "pairs.csv", index=False)
        return tmp_path / "pairs.csv"

    return make


@pytest.mark.parametrize("by", [0.5, 1.0, 2.5, 8.0])
def test_guides_are_packed_around_their_pairs(guided_pairs, tmp_path, by):
    path = guided_pairs(by)
    made = pack(path, tmp_path / "packed", block=32)
    stored = 4 * 4 * (2400 / by) ** 2
    assert made.files == 2
    assert by > 4 or made.stored < stored / 3  # not all of the guide
    assert (
        manifest.read(tmp_path / "packed")["guide_datetime"].str[:10].tolist() == ["2024-05-20"] * 2
    )
    files, packed = (reader(p, signature=GUIDED) for p in (path, tmp_path / "packed"))
    for index in range(2):
        for box in (Box(0, 0, 64, 64), Box(0, 30, 10, 34), Box(60, 60, 4, 4)):
            one, two = files.read_then(index, box), packed.read_then(index, box)
            assert one.mask.all()
            assert (one.days, one.ratio) == (two.days, two.ratio) == (19.0, pytest.approx(by))
            np.testing.assert_array_equal(one.values, two.values)
            np.testing.assert_array_equal(one.mask, two.mask)
    makes = MadeGuide(ratio=(1.0, 8.0), other_dates=1.0)
    datasets = [
        PairDataset(r, manifest.read(p), crop=32, resolution=(1.0, 3.0), guide=makes)
        for r, p in ((files, path), (packed, tmp_path / "packed"))
    ]
    samples_equal(*datasets)


@pytest.mark.slow
def test_evaluate_reads_guides_of_a_pack(guided_pairs, tmp_path, no_figures):
    path = guided_pairs(8.0)
    pack(path, tmp_path / "packed", block=32)
    model = load(guided_model(tmp_path / "trained", ["nir"], list(NAMES)))
    found = []
    for name in (path, tmp_path / "packed"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # random pixels agree with nothing
            report = evaluate([model], name, tmp_path / f"{name.name}-out", pictures=0)
        sensors = report.metrics["models"][0]["sensors"]
        found.append({n: s["pixels"]["mae"] for r in sensors for n, s in r["scores"].items()})
    assert found[0] == found[1]
    assert len(found[0]) > 2


def test_a_window_beyond_what_is_packed_of_a_guide_is_an_error(guided_pairs, tmp_path):
    pack(guided_pairs(1.0), tmp_path / "packed", block=32)
    row = reader(tmp_path / "packed", signature=GUIDED).rows[0]
    with open_guide(row, ["nir"]) as guide, pytest.raises(InputError, match="not in the pack"):
        guide.read(Box(0, 0, 8, 8))


class Stop(Exception):
    """Stands for what may happen at any time."""


@pytest.mark.parametrize("kind", ["interrupt", "full", "broken", "window"])
def test_nothing_half_written_is_left(pairs, tmp_path, monkeypatch, kind):
    path = pairs(3)
    home = tmp_path / "out"
    home.mkdir()
    given, expected, words = {}, OutputError, "No space left"
    if kind == "interrupt":

        def progress(done, total):
            if done == 2:
                raise KeyboardInterrupt

        given, expected, words = {"progress": progress}, KeyboardInterrupt, ""
    elif kind == "full":

        def full(number):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
    elif kind == "broken":
        whole = (tmp_path / "1.tif").read_bytes()
        (tmp_path / "1.tif").write_bytes(whole[: len(whole) // 2])
        expected, words = ManifestError, "manifest row 2: .*1.tif"
    else:
        pd.read_csv(path).assign(source_window="0,0,9,99").to_csv(path, index=False)
        expected, words = ManifestError, "manifest row 1: source_window '0,0,9,99' is not inside"
    with pytest.raises(expected, match=words):
        pack(path, home / "packed", block=16, shard_mb=0.001, **given)
    assert list(home.iterdir()) == []


def test_a_wrong_number_is_a_one_line_error(pairs, tmp_path, capsys):
    path = pairs(1)
    with pytest.raises(RecipeError, match="--block must be at least 16"):
        pack(path, tmp_path / "packed", block=8)
    with pytest.raises(RecipeError, match="--shard-mb must be a finite number above 0"):
        pack(path, tmp_path / "packed", shard_mb=0)
    assert main(["data", "pack", str(path), "-o", str(tmp_path / "p"), "--block", "x"]) == 2
    assert "'x' is not a whole number" in capsys.readouterr().err


def test_packs_that_cannot_be_read(pairs, tmp_path):
    packed = tmp_path / "packed"
    pack(pairs(2), packed, block=16)
    about = json.loads((packed / "pack.json").read_text())
    (packed / "pack.json").write_text(json.dumps(about | {"version": 99}))
    with pytest.raises(ManifestError, match=r"a pack of version 99, but .* pack it anew"):
        manifest.read(packed)
    (packed / "pack.json").write_text("{")
    with pytest.raises(ManifestError, match=r"pack.json: cannot be read"):
        manifest.read(packed)
    (packed / "pack.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=r"no file 'x.tif' in this pack"):
        Packs().open(name_in(str(packed), "x.tif"))
    with pytest.raises(ManifestError, match="a folder that is no pack"):
        manifest.read(tmp_path)  # a folder, but no pack
    shard = packed / "shards" / "000000.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:512] + bytes(len(whole) - 512))
    with pytest.raises(UnreadableError, match="manifest row 1: "):
        reader(packed).read(0, Box(0, 0, 8, 8))
    shard.write_bytes(whole[:-512])
    with pytest.raises(UnreadableError, match="has not its"):
        reader(packed).read(0, Box(0, 0, 8, 8))
    sample = dataset(packed, on_error="skip")
    with pytest.raises(UnreadableError):
        sample[0]  # every row is broken


@pytest.fixture
def packed(pairs, tmp_path):
    """Return a small pack, to be changed."""
    pack(pairs(2), tmp_path / "packed", block=16)
    return tmp_path / "packed"


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../../elsewhere"},
        {"id": 5},
        {"id": ""},
        {"shards": 5},
        {"shards": [{"name": "../000000.tar", "bytes": 5}]},
        {"shards": [{"name": "/etc/passwd", "bytes": 5}]},
        {"shards": [{"name": "000000.tar", "bytes": None}]},
        {"shards": [{}]},
    ],
)
def test_a_pack_names_nothing_outside_of_itself(packed, change):
    about = json.loads((packed / "pack.json").read_text())
    (packed / "pack.json").write_text(json.dumps(about | change))
    with pytest.raises(ManifestError, match=r"pack.json: cannot be read"):
        manifest.read(packed)


@pytest.mark.parametrize("text", ["[" * 10**5, "5", "[]", '{"a": 1, "a": 1}', "\xff", ""])
def test_a_pack_json_that_is_none(packed, text):
    (packed / "pack.json").write_text(text, encoding="latin-1")
    with pytest.raises(ManifestError, match=r"pack.json: cannot be read"):
        manifest.read(packed)


@pytest.mark.parametrize("name", ["pack.json", "pairs.parquet"])
def test_pipes_in_a_pack_are_not_waited_for(packed, name):
    (packed / name).unlink()
    os.mkfifo(packed / name)
    with pytest.raises(
        ManifestError, match=r"a FIFO, and no regular file|a folder that is no pack"
    ):
        manifest.read(packed)


def blocks_of(packed, **columns):
    """Change columns of the index of blocks."""
    table = parquet.read_table(packed / "blocks.parquet")
    for name, change_column in columns.items():
        values = change_column(table[name].to_pylist())
        table = table.set_column(table.column_names.index(name), name, [values])
    parquet.write_table(table, packed / "blocks.parquet")
    reseal(packed)


def reseal(packed):
    """State the hashes of the tables as they are now, as one who forges a pack would."""
    about = json.loads((packed / "pack.json").read_text())
    about["tables"] = {name: sha256(packed / name) for name in about["tables"]}
    (packed / "pack.json").write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"shard": lambda v: [9] * len(v)}, "out of its range"),
        ({"offset": lambda v: [-1] * len(v)}, "out of its range"),
        ({"offset": lambda v: [10**9] * len(v)}, "outside of its shard"),
        ({"file": lambda v: [None] * len(v)}, "out of its range"),
        ({"row": lambda v: [str(n) for n in v]}, "out of its range|index cannot be read"),
        ({"col": lambda v: [2**40] * len(v)}, "out of its range"),
        ({"planes": lambda v: [[10**6] * 4] * len(v)}, "outside of its shard"),
        ({"planes": lambda v: [[-5]] * len(v)}, "out of its range"),
        ({"planes": lambda v: [5] * len(v)}, "index cannot be read"),
        ({"row": lambda v: [0] * len(v), "col": lambda v: [0] * len(v)}, "there twice"),
    ],
)
def test_an_index_that_points_elsewhere(packed, columns, words):
    blocks_of(packed, **columns)
    with pytest.raises(InputError, match=words):
        Packs().open(name_in(str(packed), "0.tif"))


def test_an_index_is_no_larger_than_its_shards(packed):
    table = parquet.read_table(packed / "blocks.parquet")
    parquet.write_table(pyarrow.concat_tables([table] * 50), packed / "blocks.parquet")
    reseal(packed)
    with pytest.raises(InputError, match=r"index cannot be read: it has .*, more than"):
        Packs().open(name_in(str(packed), "0.tif"))


@pytest.mark.parametrize("name", ["pairs.parquet", "files.parquet", "blocks.parquet"])
def test_a_table_of_another_pack(packed, pairs, tmp_path, name):
    pack(pairs(2, values=values(9)), tmp_path / "other", block=32)
    shutil.copyfile(tmp_path / "other" / name, packed / name)
    read = (
        manifest.read if name == "pairs.parquet" else lambda p: Packs().open(name_in(str(p), "0"))
    )
    with pytest.raises(CrossbandError, match=rf"{name} is not the table that pack.json describes"):
        read(packed)


def test_a_damaged_block_is_never_used(packed):
    names = pd.read_parquet(packed / "files.parquet")["name"]
    blocks = pd.read_parquet(packed / "blocks.parquet")
    for at in np.random.default_rng(0).integers(0, len(blocks), 20):
        block = blocks.iloc[at]
        shard = packed / "shards" / f"{block['shard']:06d}.tar"
        content = bytearray(shard.read_bytes())
        content[block["offset"] + sum(block["planes"]) // 2] ^= 16
        kept = shard.read_bytes()
        shard.write_bytes(content)
        raster = Packs().open(name_in(str(packed), names[block["file"]]))
        bands, whole = [*range(1, raster.count + 1)], Window(0, 0, raster.width, raster.height)
        with pytest.raises(OSError, match="is damaged: its CRC-32 is another one"):
            raster.read(bands, whole)
        shard.write_bytes(kept)


def test_a_pack_of_version_1_has_no_checksums(pairs, tmp_path):
    packed, path = tmp_path / "packed", pairs(1, values=values()[:1], names=("nir",))
    pack(path, packed, block=64)
    blocks_of(packed, planes=lambda v: [[size - 4 for size in sizes] for sizes in v])
    about = json.loads((packed / "pack.json").read_text())
    del about["tables"]
    (packed / "pack.json").write_text(json.dumps(about | {"version": 1}))
    raster = Packs().open(name_in(str(packed), "0.tif"))
    np.testing.assert_array_equal(raster.read(1, Window(0, 0, 50, 40)), values()[0])


def test_a_pack_of_others_and_sizes_that_are_none(packed):
    about = json.loads((packed / "pack.json").read_text())
    text = json.dumps(about | {"format": "theirs"})
    (packed / "pack.json").write_text(text)
    with pytest.raises(ManifestError, match=r"no pack of Crossband: its format is 'theirs'"):
        manifest.read(packed)
    for other in ("{}", "[]", "null", "5"):
        (packed / "pack.json").write_text(other)
        with pytest.raises(ManifestError, match=r"no object of JSON|no pack of Crossband"):
            manifest.read(packed)
    shards = json.dumps(about["shards"]).replace(str(about["shards"][0]["bytes"]), "1e400")
    text = json.dumps(about | {"shards": 0}).replace('"shards": 0', f'"shards": {shards}')
    (packed / "pack.json").write_text(text)
    with pytest.raises(ManifestError, match=r"pack.json: cannot be read"):
        manifest.read(packed)


def test_a_server_that_does_not_answer(tmp_path):
    pytest.importorskip("aiohttp", reason="fsspec's http needs aiohttp")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ManifestError, match="the server cannot be reached"):
        manifest.read(f"http://127.0.0.1:{port}/packed")


def test_files_of_others_stay_in_a_pack_that_is_replaced(pairs, tmp_path):
    packed = tmp_path / "packed"
    pack(pairs(2), packed)
    (packed / "notes").mkdir()
    (packed / "notes" / "mine.txt").write_text("mine")
    (packed / "shards" / "000007.tar").write_text("of an earlier pack")
    pack(pairs(3, values=values(9)), packed, overwrite=True)
    assert (packed / "notes" / "mine.txt").read_text() == "mine"
    assert not (packed / "shards" / "000007.tar").exists()


def test_a_pack_is_checked_like_its_files(packed, capsys):
    assert main(["data", "check", str(packed)]) in (0, 1)
    assert "unreadable" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        {"height": 0},
        {"width": 10**12},
        {"block": [10**5, 10**5]},
        {"block": 5},
        {"dtypes": ["object"] * 4},
        {"dtypes": []},
        {"dtypes": ["complex64"] * 4},
        {"scales": [1.0]},
        {"transform": [1]},
        {"crs": "nowhere"},
        {"colours": [99] * 4},
        {"flags": None},
    ],
)
def test_metadata_of_no_raster(packed, change):
    table = parquet.read_table(packed / "files.parquet").to_pydict()
    table["facts"] = [json.dumps(json.loads(text) | change) for text in table["facts"]]
    parquet.write_table(pyarrow.table(table), packed / "files.parquet")
    reseal(packed)
    with pytest.raises(InputError, match=r"the metadata of '0.tif' are damaged"):
        Packs().open(name_in(str(packed), "0.tif"))


@pytest.fixture
def far(tmp_path):
    """Return a server of the folder `store`."""
    pytest.importorskip("aiohttp", reason="fsspec's http needs aiohttp")
    (tmp_path / "store").mkdir()
    with RangeServer(tmp_path / "store") as server:
        yield server


@pytest.mark.parametrize("fits", [True, slow(False)])
def test_a_far_pack_by_several_workers(pairs, tmp_path, far, fits):
    path = pairs(4)
    made = pack(path, tmp_path / "store" / "my pack", block=16, shard_mb=0.01)
    cache = tmp_path / "cache"
    packs = Packs(cache, 1.0 if fits else 0.9 * made.bytes / 2**30)
    table = manifest.read(location(Path(far.url + "/my pack")))
    near, distant = dataset(path, seed=2), dataset(path, seed=2)
    distant.reader = PairReader(table, SIGNATURE, packs=packs)
    samples_equal(near, distant, range(4))  # in this process, before others are forked
    loader = DataLoader(distant, batch_sampler=[[p] for p in range(4, 24)], num_workers=2)
    for position, batch in enumerate(loader, start=4):
        torch.testing.assert_close(batch["source"][0], near[position]["source"], rtol=0, atol=0)
    given = [size for name, size in far.given if name.endswith(".tar")]
    if fits:  # every shard comes once, whole
        assert len(given) == made.shards
        assert sum(given) == made.bytes
        assert sum(p.stat().st_size for p in cache.rglob("*.tar")) == made.bytes
    else:  # ranges of blocks, and nothing is kept
        assert max(given) < made.bytes / made.shards
        assert not cache.exists()
    assert not list(tmp_path.rglob(".*tar.[a-z0-9_]*[!k]"))


def test_a_far_pack_that_is_not_there(far):
    with pytest.raises(ManifestError, match=r"no pack: there is no pack.json"):
        manifest.read(far.url + "/nothing")
    with pytest.raises(ManifestError, match=r"Protocol not known|is not known|not known"):
        manifest.read("nosuch://bucket/packed")


def test_the_cache_is_bounded_and_forgets_what_was_not_used(tmp_path):
    cache = ShardCache(tmp_path / "c", 300 / 2**30)
    fetched = []

    def get(name):
        def fetch(to):
            fetched.append(name)
            Path(to).write_bytes(b"x" * 100)

        path = cache.get(f"id/{name}.tar", 100, fetch)
        os.utime(path, (len(fetched), len(fetched)) if name in fetched[-1:] else None)
        return path

    for name in "abc":
        get(name)
    get("a")  # used again: later than all
    get("d")
    assert fetched == list("abcd")
    assert sorted(p.stem for p in (tmp_path / "c" / "id").glob("*.tar")) == ["a", "c", "d"]
    (tmp_path / "c" / "id" / "a.tar").write_bytes(b"short")
    get("a")
    assert fetched[-1] == "a"

    def fails(to):
        Path(to).write_bytes(b"half")
        raise Stop

    with pytest.raises(Stop):
        cache.get("id/e.tar", 100, fails)
    assert not list((tmp_path / "c" / "id").glob("*e.tar*[!k]"))


def test_a_reader_goes_to_another_process(pairs, tmp_path):
    path = pairs(2)
    pack(path, tmp_path / "packed", block=16)
    one = dataset(tmp_path / "packed")
    before = one[0]
    again = pickle.loads(pickle.dumps(one))  # as processes that are spawned get it
    same(before, again[0])


@pytest.mark.slow
def test_fit_and_evaluate_take_a_pack(make_pairs, tmp_path, capsys):
    path = make_pairs(tmp_path)
    packed = tmp_path / "packed"
    assert main(["data", "pack", str(path), "-o", str(packed), "--block", "16"]) == 0
    assert "4 rows, 4 files" in capsys.readouterr().out
    small = ["--seed", "1", "--data.steps", "3", "--method.max_steps", "6", "--baselines", "[]"]
    runs = []
    for name, given in (("files", path), ("packed", packed)):
        options = ["--data.manifest", str(given), "--data.cache_mb", "0", *small]
        runs.append(fit(RECIPE, options, tmp_path / f"run-{name}"))
    one, two = (load(r).network.state_dict() for r in runs)
    assert all(torch.equal(one[k], two[k]) for k in one)
    reports = []
    for name, given in (("a", path), ("b", packed)):
        out = tmp_path / name
        command = ["evaluate", "--model", str(runs[0]), "--manifest", str(given), "-o", str(out)]
        assert main(command) == 0
        reports.append(json.loads((out / "metrics.json").read_text()))
    numbers = [{k: v for k, v in r.items() if k in ("units", "models")} for r in reports]
    assert numbers[0] == numbers[1]
    # The split that a run leaves names files of the pack, and is a manifest again.
    left = manifest.read(tmp_path / "run-packed" / "pairs.csv")
    samples_equal(dataset(path), dataset(tmp_path / "run-packed" / "pairs.csv"), range(3))
    assert set(left["split"]) == {"train", "val"}


def test_packing_says_what_it_needs(pairs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(CrossbandError, match=r"pip install 'crossband\[pack\]'"):
        pack(pairs(1), tmp_path / "packed")


def test_a_pack_whose_shard_is_cut_off_says_so(packed):
    shard = packed / "shards" / "000000.tar"
    shard.write_bytes(shard.read_bytes()[:600])
    with pytest.raises((ManifestError, UnreadableError)) as error:
        reader(packed).read(0, Box(0, 0, 8, 8))
    assert "its shards hold 600 bytes; is one cut off or missing?" in str(error.value)
    assert "CROSSBAND_MAX_ROWS" not in str(error.value)
