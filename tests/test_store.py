"""What is computed survives a kill; --resume gives the same pixels, and notices what changed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import rasterio
import torch
from conftest import random_values, rgb2nir_signature
from killing import killed
from rio_cogeo.cogeo import cog_validate
from tiers import slow

import crossband
from crossband import Model
from crossband.cli.main import main
from crossband.core.hidden_folder import folder_of
from crossband.errors import CrossbandError, Interrupted, OutputError
from crossband.networks.generators.resnet import ResNet
from crossband.raster import journal as store_module
from crossband.raster.encoding import Encoding
from crossband.raster.grid import Box, Grid
from crossband.raster.journal import RawFile, Store
from crossband.raster.radiometry import Radiometry
from crossband.raster.scene_writer import SceneWriter
from crossband.translate.statistics import Statistics


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pixels(path):
    with rasterio.open(path) as file:
        return file.read(masked=True).filled(0), file.dataset_mask()


@pytest.fixture
def source(make_raster):
    values = (random_values(3, 210, 250) * 10000).astype(np.uint16)
    values[:, 20:90, 30:190] = 0
    return make_raster(values=values, scale=1e-4, nodata=0)


def test_killed_and_resumed_gives_the_same_pixels(source, tiny_model, tmp_path, interpreters):
    model = crossband.load(tiny_model)
    straight = tmp_path / "a.tif"
    whole = Statistics()
    model.translate(source, straight, tile=48, indices=["NDVI"], statistics=whole)
    out = tmp_path / "b.tif"
    arguments = [source, "-o", out, "--model", tiny_model, "--tile", 48, "--index", "NDVI"]
    killed(interpreters, 8, *arguments)
    assert not out.exists()
    killed(interpreters, 12, *arguments, "--resume")
    with open(folder_of(out) / "journal", "ab") as journal:
        journal.write(b"7")  # a line that a power cut tore
    found = Statistics()
    model.translate(source, out, tile=48, indices=["NDVI"], resume=True, statistics=found)
    assert found.resumed >= 12
    assert found.computed + found.empty == whole.tiles - found.resumed
    for name in ("{}.tif", "{}_NDVI.tif"):
        one, other = (tmp_path / name.format(n) for n in ("a", "b"))
        for a, b in zip(pixels(one), pixels(other), strict=True):
            np.testing.assert_array_equal(a, b)
        assert cog_validate(other, strict=True)[0]
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_blended_tiles_go_on_to_the_same_pixels(make_raster, tmp_path, interpreters):
    torch.manual_seed(1)
    network = ResNet(3, 1, width=4, blocks=1, activation="none")
    network.head.layers[-1].bias.data.fill_(0.5)
    folder = Model(network, rgb2nir_signature(), name="seeing", task="rgb2nir").save(tmp_path / "m")
    source = make_raster(values=random_values(3, 200, 220))
    model = crossband.load(folder)
    for batch, kill in ((1, 12), (2, 6)):
        straight = model.translate(source, tmp_path / f"a{batch}.tif", tile=64, batch=batch)
        out = tmp_path / f"b{batch}.tif"
        arguments = [source, "-o", out, "--model", folder, "--tile", 64, "--batch", batch]
        killed(interpreters, kill, *arguments)
        found = Statistics()
        model.translate(source, out, tile=64, batch=batch, resume=True, statistics=found)
        assert found.resumed >= kill
        assert found.computed < found.tiles
        np.testing.assert_array_equal(pixels(straight)[0], pixels(out)[0])
        with rasterio.open(out) as file:
            assert file.tags()["CROSSBAND_EXACT"] == "NO"


@pytest.fixture
def stopped(source, tiny_model, tmp_path, monkeypatch):
    """Return a run that was interrupted after a few windows."""
    monkeypatch.setattr(store_module, "FLUSH_SECONDS", 0.0)
    out = tmp_path / "nir.tif"

    def stop(done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="--resume goes on"):
        crossband.load(tiny_model).translate(source, out, tile=48, precision="fp32", progress=stop)
    assert folder_of(out).is_dir()
    assert not out.exists()
    return out


@pytest.mark.parametrize("change", ["size", "time", "content"])
def test_a_changed_source_is_noticed_and_refused(stopped, source, tiny_model, change):
    state = source.stat()
    if change == "size":
        with open(source, "ab") as file:
            file.write(b"more")
    elif change == "time":
        os.utime(source, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
    else:
        data = bytearray(source.read_bytes())
        data[-1] ^= 1
        source.write_bytes(data)
        os.utime(source, ns=(state.st_atime_ns, state.st_mtime_ns))
    refused(crossband.load(tiny_model), source, stopped, "the source changed")


def test_a_change_of_model_or_options_is_noticed_and_refused(stopped, source, tiny_model):
    """Nothing is lost by a refusal, so that one run serves for all."""
    for change, words in [
        ({"tile": 64}, "--tile changed"),
        ({"dtype": "float32"}, "--dtype"),
        ({"batch": 2}, "--batch changed"),
        ({"precision": "bf16"}, "--precision changed"),
        ({"scale": 2e-4}, "how the source is read changed"),
        ({"bands": {"red": 3, "green": 2, "blue": 1}}, "how the source is read changed"),
        ({"indices": ["NDVI"]}, "--index changed"),
    ]:
        refused(crossband.load(tiny_model), source, stopped, words, **change)
    model = crossband.load(tiny_model)
    next(model.network.parameters()).data[0] += 1e-6
    refused(model, source, stopped, "the model changed")
    found = Statistics()
    crossband.load(tiny_model).translate(
        source, stopped, tile=48, precision="fp32", resume=True, statistics=found
    )
    assert found.resumed > 0


def refused(model, source, stopped, words, **change):
    """Try to go on with a stopped run; it says `words` in one line, and nothing is lost."""
    before = sorted(p.name for p in folder_of(stopped).iterdir())
    with pytest.raises(OutputError, match=words) as caught:
        model.translate(source, stopped, resume=True, **{"tile": 48, "precision": "fp32", **change})
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in folder_of(stopped).iterdir()) == before


def test_without_resume_it_starts_anew(stopped, source, tiny_model):
    found = Statistics()
    crossband.load(tiny_model).translate(source, stopped, tile=64, statistics=found)
    assert found.resumed == 0
    assert not folder_of(stopped).exists()


def test_what_was_placed_before_a_kill_may_be_there(stopped, source, tiny_model):
    """Killed between two renames: one name is taken by what this run has put there."""
    model = crossband.load(tiny_model)
    stopped.write_text("a finished file")
    with pytest.raises(OutputError, match="--overwrite"):
        model.translate(source, stopped, tile=48, resume=True)
    (folder_of(stopped) / "placing").write_text(json.dumps([str(stopped)]))
    model.translate(source, stopped, tile=48, precision="fp32", resume=True)
    assert cog_validate(stopped)[0]


@pytest.mark.parametrize("left", [True, slow(False)])
def test_a_kill_when_the_file_was_in_place(source, tiny_model, tmp_path, capsys, left):
    """Whether the store is still there or not: the same command with --resume is done, exit 0."""
    out = tmp_path / "nir.tif"
    model = crossband.load(tiny_model)
    with pytest.MonkeyPatch.context() as patched:
        if left:
            patched.setattr(Store, "remove", Store.close)
        model.translate(source, out, tile=48, indices=["NDVI"])
    stamp = out.stat().st_mtime_ns
    command = ["translate", source, "-o", out, "--model", tiny_model, "--index", "NDVI"]

    def run(*more):
        code = main([*map(str, command), *map(str, more)])
        return code, capsys.readouterr()

    code, said = run("--tile", 48)
    assert code == 2
    assert "exists already; give --overwrite" in said.err
    code, said = run("--tile", 48, "--resume")
    assert (code, said.out, said.err) == (0, f"{out}  is done already\n", "")
    assert out.stat().st_mtime_ns == stamp
    assert not folder_of(out).exists()
    code, said = run("--tile", 64, "--resume")
    assert code == 2
    assert "exists already, and --tile changed" in said.err
    assert "--overwrite makes it anew" in said.err
    (tmp_path / "nir_NDVI.tif").unlink()  # only one of two is there
    code, said = run("--tile", 48, "--resume")
    assert code == 0
    assert cog_validate(tmp_path / "nir_NDVI.tif", quiet=True)[0]


def test_a_failure_keeps_what_is_done_where_resume_is_given(make_raster, tiny_model, tmp_path):
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    source = make_raster(values=random_values(3, 400, 400), **tiles)
    good = source.read_bytes()
    data = bytearray(good)
    data[-200_000:-150_000] = bytes(50_000)
    source.write_bytes(data)
    out = tmp_path / "nir.tif"
    with pytest.raises(CrossbandError, match="cannot be read"):
        crossband.load(tiny_model).translate(source, out, tile=64, resume=True)
    assert (folder_of(out) / "journal").read_text().count("\n") > 3
    with pytest.raises(CrossbandError, match="cannot be read"):
        crossband.load(tiny_model).translate(source, out, tile=64)
    assert not folder_of(out).exists()


def test_two_processes_do_not_share_a_file(source, tiny_model, tmp_path):
    out = tmp_path / "nir.tif"
    code = (
        "import sys, time; from pathlib import Path; from crossband.raster.journal import Store\n"
        "Store.open(Path(sys.argv[1]), {}); print('held', flush=True); time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, out], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        for resume in (False, True):
            with pytest.raises(OutputError, match="another process"):
                crossband.load(tiny_model).translate(source, out, resume=resume)
        assert (folder_of(out) / "run.json").exists()
    finally:
        other.kill()
        other.communicate()
    crossband.load(tiny_model).translate(source, out)
    assert out.exists()


def test_raw_windows_have_their_places(tmp_path):
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 9999, (2, 20, 30)).astype(np.uint16)
    mask = rng.random((20, 30)) > 0.5
    raw = RawFile(tmp_path / "x.raw", whole.shape, "uint16", masked=True)
    for box in (Box(0, 0, 7, 30), Box(7, 0, 13, 11), Box(7, 11, 13, 19)):
        rows, cols = box.slices()
        raw.write(box, whole[:, rows, cols], mask[rows, cols])
    raw.close()
    data = np.fromfile(tmp_path / "x.raw", np.uint8)
    np.testing.assert_array_equal(data[:2400].view(np.uint16).reshape(whole.shape), whole)
    np.testing.assert_array_equal(data[2400:].reshape(20, 30) == 255, mask)


def test_the_journal_says_only_what_is_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "FLUSH_SECONDS", 1000.0)
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(handle), real(handle)))
    store = Store.open(tmp_path / "a.tif", {"the model": "x"})
    raw = store.raw("values", (1, 4, 4), "uint8", masked=False)
    store.mark_done(3, [16])
    assert (store.folder / "journal").read_bytes() == b""
    synced.clear()
    store.flush()
    assert synced == [raw._handle, store._journal]  # the pixels, and then the line
    assert (store.folder / "journal").read_text() == "3 16\n"
    store.close()
    again = Store.open(tmp_path / "a.tif", {"the model": "x"}, resume=True)
    assert again.done == {3: (16,)}
    again.remove()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
@pytest.mark.parametrize("compress", ["deflate", "zstd", "lzw", "none"])
def test_files_are_valid_whatever_is_chosen(make_raster, tiny_model, tmp_path, compress, dtype):
    source = make_raster(values=random_values(3, 300, 280))
    options = {"out_scale": 0.01} if dtype in ("uint8", "int16") else {}
    out = crossband.load(tiny_model).translate(
        source, tmp_path / "n.tif", dtype=dtype, compress=compress, blocksize=128, **options
    )
    assert cog_validate(out, strict=True)[0]
    with rasterio.open(out) as file:
        assert file.dtypes == (dtype,)
        assert file.block_shapes == [(128, 128)]
        assert (file.compression.value if file.compression else "NONE") == compress.upper()
        predictor = file.tags(ns="IMAGE_STRUCTURE").get("PREDICTOR")
        wanted = None if compress == "none" else "3" if dtype.startswith("float") else "2"
        assert predictor == wanted


def test_out_scale_and_nodata(make_raster, tiny_model, tmp_path):
    values = random_values(3, 60, 70)
    values[:, 3, 4] = np.nan
    source = make_raster(values=values)
    model = crossband.load(tiny_model)
    physical = pixels(model.translate(source, tmp_path / "p.tif"))[0]
    out = model.translate(
        source, tmp_path / "n.tif", dtype="int16", out_scale=1e-3, out_offset=-0.1, nodata=-999
    )
    with rasterio.open(out) as file:
        assert (file.scales[0], file.offsets[0], file.nodata) == (1e-3, -0.1, -999)
        assert file.read(1)[3, 4] == -999
        restored = file.read(1) * 1e-3 - 0.1
    valid = physical[0] != 0
    assert np.abs(restored - physical[0])[valid].max() < 0.51e-3
    for wrong, words in (
        ({"dtype": "int16"}, "--out-scale"),
        ({"dtype": "float32", "out_scale": 0.1}, "are for integers"),
        ({"dtype": "uint8", "out_scale": 0.1, "nodata": 300}, "0 to 255"),
        ({"dtype": "complex64"}, "--dtype"),
        ({"compress": "zip"}, "--compress"),
        ({"blocksize": 100}, "--blocksize"),
    ):
        with pytest.raises(OutputError, match=words):
            model.translate(source, tmp_path / "x.tif", **wrong)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["n.tif", "p.tif", "scene.tif"]


@pytest.mark.parametrize("blocksize", [128, 256, 528])
@pytest.mark.parametrize("stored", ["int16 -999", "uint16 0", "float32 -1", "float32 nan"])
def test_the_command_makes_a_valid_cog(make_raster, tiny_model, tmp_path, stored, blocksize):
    values = random_values(3, 300, 600)
    values[:, :50, :70] = np.nan
    out = tmp_path / "n.tif"
    dtype, nodata = stored.split()
    options = ["--dtype", dtype, "--nodata", nodata, "--compress", "zstd", "--tile", "256"]
    options += ["--out-scale", "0.0001"] if "int" in dtype else []
    words = ["translate", make_raster(values=values), "-o", out, "--model", tiny_model]
    assert main([*map(str, words), *options, "--blocksize", str(blocksize), "--quiet"]) == 0
    assert cog_validate(out, strict=True)[0]
    with rasterio.open(out) as file:
        assert file.dtypes == (dtype,)
        assert np.array_equal(file.nodata, float(nodata), equal_nan=True)
        assert file.block_shapes == [(blocksize, blocksize)]
        assert bool(file.overviews(1)) == (blocksize < 600)
        mask = file.dataset_mask() > 0
        assert mask[50:].all()
        assert mask[:, 70:].all()
        assert not mask[:40, :60].any()


def test_encoding_of_a_finite_float_nodata_keeps_valid_values_off_it():
    stored = Encoding("float32", nodata=0.0).encode(
        np.zeros((1, 1, 2), np.float32), np.array([[True, False]])
    )
    assert stored[0, 0, 0] > 0
    assert stored[0, 0, 1] == 0


def test_a_writer_that_is_left_leaves_nothing(tmp_path):
    encoding = Encoding("uint8", 0.01)
    with SceneWriter(tmp_path / "a.tif", Grid(5, 6), ("red",), "reflectance", encoding, {}) as made:
        made.write(Box(0, 0, 5, 6), np.ones((1, 5, 6), np.float32), np.ones((5, 6), bool))
    assert list(tmp_path.iterdir()) == []


def test_facts_keep_their_form():
    """A run that an earlier version began is known again by these texts."""
    radiometry = Radiometry("reflectance", (1e-4,), (0.0,), (None,), False, "the file")
    assert radiometry.fact() == (
        "Radiometry(unit='reflectance', scale=(0.0001,), offset=(0.0,), nodata=(None,), "
        "power=False, said_by='the file')"
    )
    assert Encoding("uint16", 1e-4, nodata=0.0).fact() == (
        "Encoding(dtype='uint16', scale=0.0001, offset=0.0, nodata=0.0, mask_band=False)"
    )
