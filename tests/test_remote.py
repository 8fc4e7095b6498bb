"""Scenes on servers: ranges only, each block about once, new tries; what fails is one line."""

from __future__ import annotations

import os
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from commands import one_line
from conftest import random_values
from ranges import RangeServer
from tiers import slow

import crossband
from crossband.cli.main import main
from crossband.core.hidden_folder import folder_of
from crossband.errors import CrossbandWarning, InputError, Interrupted, OutputError
from crossband.raster import journal as store_module
from crossband.raster import remote
from crossband.raster.blocks import BlockReader, ReadStats
from crossband.raster.gdal import GDAL_OPTIONS, gdal, gdal_options
from crossband.raster.grid import Box
from crossband.raster.open import open_scene
from crossband.translate.statistics import Statistics
from crossband.translate.tiles import plan_tiles

RGB = ("red", "green", "blue")


@pytest.fixture
def command(capfd):
    """Return a function that runs the command in this process, as `crossband_command` does."""

    def run(*arguments):
        code = main([*map(str, arguments)])
        said = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    return run


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Return a server of the folder `store`, also an S3 endpoint; new tries come soon."""
    (tmp_path / "store" / "bucket").mkdir(parents=True)
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.01")
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "2")
    with RangeServer(tmp_path / "store") as server:
        for name, value in {
            "AWS_S3_ENDPOINT": server.url.removeprefix("http://"),
            "AWS_HTTPS": "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
            "AWS_NO_SIGN_REQUEST": "YES",
        }.items():
            monkeypatch.setenv(name, value)
        yield server


def scene(make_raster, side=700, name="my scene.tif", **options):
    """Write a COG-like file into the store; returns its path there."""
    values = (random_values(3, side, side) * 10000).astype(np.uint16)
    tiles = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
    return make_raster(f"store/bucket/{name}", values, scale=1e-4, **(tiles | options))


def addresses(server, name="my scene.tif"):
    url = f"{server.url}/bucket/{name.replace(' ', '%20')}"
    return {
        "http": url,
        "vsicurl": f"/vsicurl/{url}",
        "s3": f"s3://bucket/{name}",
        "vsis3": f"/vsis3/bucket/{name}",
    }


@pytest.mark.parametrize("kind", ["http", slow("vsicurl"), "s3", slow("vsis3")])
def test_each_block_comes_about_once_and_the_pixels_are_those_of_the_file(
    make_raster, server, tiny_model, tmp_path, kind
):
    near = scene(make_raster)
    model = crossband.load(tiny_model)
    expected = model.translate(near, tmp_path / "near.tif", tile=200)
    found = Statistics()
    out = model.translate(addresses(server)[kind], tmp_path / "far.tif", tile=200, statistics=found)
    with rasterio.open(expected) as a, rasterio.open(out) as b:
        np.testing.assert_array_equal(a.read(), b.read())
        assert (a.crs, a.transform) == (b.crs, b.transform)
        assert b.tags()["CROSSBAND_SOURCE"] == "my scene.tif"
    assert found.reads_per_block == 1.0
    assert server.bytes < 1.1 * near.stat().st_size


def test_a_window_of_a_large_file_fetches_a_small_part(make_raster, server):
    near = scene(make_raster, side=2000)
    box = Box(900, 1000, 200, 180)
    with open_scene(near, needed=RGB) as a, open_scene(addresses(server)["http"], needed=RGB) as b:
        np.testing.assert_array_equal(a.read(box).values, b.read(box).values)
    blocks = 3 * 3 * 128 * 128 * 3 * 2  # at most, uncompressed
    assert server.bytes < blocks + 3 * 16384
    assert server.bytes < 0.05 * near.stat().st_size


@pytest.mark.parametrize(("fault", "every"), [(500, 3), slow(503, 2), slow(429, 3), ("drop", 11)])
@pytest.mark.parametrize("compress", ["deflate", slow("none")])
def test_new_tries_give_the_same_pixels(
    make_raster, server, identity_model, tmp_path, fault, every, compress
):
    near = scene(make_raster, compress=compress)
    server.fail(fault, every=every)
    out = identity_model().translate(
        addresses(server)["http"], tmp_path / "o.tif", tile=200, precision="fp32"
    )
    with rasterio.open(near) as a, rasterio.open(out) as b:
        np.testing.assert_array_equal(a.read(), b.read())
    assert server.requests > 6


@pytest.mark.slow
@pytest.mark.parametrize("fault", [403, 503, "drop"])
@pytest.mark.parametrize("compress", ["deflate", "none"])
def test_wherever_it_fails_no_pixel_is_made_up(make_raster, server, monkeypatch, fault, compress):
    """GDAL alone reads zeros where it got half an index of blocks, or none."""
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "1")
    near = scene(make_raster, compress=compress)
    boxes = [t.source for t in plan_tiles(700, 700, 160, 0, 1)]
    with open_scene(near, needed=RGB) as opened:
        expected = [opened.read(box).values for box in boxes]

    def read():
        with open_scene(addresses(server)["http"], needed=RGB) as opened:
            windows = BlockReader(opened, ReadStats()).windows(boxes)
            for window, values in zip(windows, expected, strict=True):
                np.testing.assert_array_equal(window.values, values)

    server.heal()
    read()
    count = server.requests
    assert count > 6
    for first in range(1, count + 1):
        server.fail(fault, first=first)  # and never again
        with pytest.raises(InputError, match=r"403|503|connection broke"):
            read()
        server.fail("drop", first=first, last=first)  # once
        read()


def test_a_connection_that_breaks_for_a_while(make_raster, server, identity_model, tmp_path):
    near = scene(make_raster)
    server.fail("drop", first=5, last=10)
    out = identity_model().translate(
        addresses(server)["http"], tmp_path / "o.tif", tile=200, precision="fp32"
    )
    assert server.requests > 10
    with rasterio.open(near) as a, rasterio.open(out) as b:
        np.testing.assert_array_equal(a.read(), b.read())


@pytest.mark.parametrize(
    ("kind", "fault", "words"),
    [
        ("http", 404, ["no such file on the server", "404"]),
        ("http", 403, ["refuses access", "403"]),
        ("http", 503, ["the server fails", "503"]),
        ("http", "drop", ["the connection broke"]),
        ("s3", 404, ["specified key does not exist"]),
        ("s3", 403, ["Access Denied"]),
    ],
)
def test_what_cannot_be_fetched_is_one_line(
    command, make_raster, server, tiny_model, tmp_path, kind, fault, words
):
    scene(make_raster, side=200)
    server.fail(fault)
    source = addresses(server)[kind]
    out = tmp_path / "out" / "o.tif"
    done = command("translate", source, "-o", out, "--model", tiny_model)
    one_line(done, source, *words)
    assert not out.parent.exists()  # the folder was made for it


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("http://127.0.0.1:1/scene.tif", "no connection"),
        ("http://nowhere.invalid/scene.tif", "no connection"),
        ("nosuch://bucket/scene.tif", "cannot be opened"),
    ],
)
def test_no_route_is_one_line(command, tiny_model, tmp_path, source, words):
    done = command("translate", source, "-o", tmp_path / "o.tif", "--model", tiny_model)
    one_line(done, source, words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fault", [503, slow(403), slow("drop")])
def test_a_break_in_the_middle_keeps_windows_for_resume_only(
    make_raster, server, tiny_model, tmp_path, monkeypatch, fault
):
    monkeypatch.setattr(store_module, "FLUSH_SECONDS", 0.0)
    near = scene(make_raster)
    model = crossband.load(tiny_model)
    expected = model.translate(near, tmp_path / "near.tif", tile=160)
    source, out = addresses(server)["http"], tmp_path / "far.tif"
    server.heal()
    model.translate(source, tmp_path / "whole.tif", tile=160)
    late = server.requests - 1
    for resume in (False, True):
        server.fail(fault, first=late)
        with pytest.raises(InputError, match="cannot be read") as caught:
            model.translate(source, out, tile=160, resume=resume)
        assert "\n" not in str(caught.value)
        assert folder_of(out).exists() == resume
        assert not out.exists()
    server.heal()
    found = Statistics()
    with warnings.catch_warnings():
        warnings.simplefilter("error", CrossbandWarning)  # this server tells when a file changes
        model.translate(source, out, tile=160, resume=True, statistics=found)
    assert found.resumed > 0
    with rasterio.open(expected) as a, rasterio.open(out) as b:
        np.testing.assert_array_equal(a.read(), b.read())


@pytest.fixture
def stopped(make_raster, server, tiny_model, tmp_path, monkeypatch):
    """Return the address of a scene, its file, and a function that goes on with it."""
    monkeypatch.setattr(store_module, "FLUSH_SECONDS", 0.0)
    near, source, out = scene(make_raster), addresses(server)["http"], tmp_path / "o.tif"
    model = crossband.load(tiny_model)

    def stop(done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    def go(address=source, **options):
        return model.translate(address, out, tile=160, **options)

    def begin():
        with pytest.raises(Interrupted):
            go(progress=stop)

    return near, source, begin, go


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_file_that_changed_on_the_server_is_noticed(stopped, change):
    near, _, begin, go = stopped
    begin()
    if change == "size":
        with open(near, "ab") as file:
            file.write(b"more")
    else:
        state = near.stat()
        os.utime(near, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
    with pytest.raises(OutputError, match="the source changed"):
        go(resume=True)


def test_a_new_signature_in_the_address_is_no_change(stopped):
    _, source, begin, go = stopped
    begin()
    out = go(f"{source}?X-Amz-Signature=secret", resume=True)
    assert b"secret" not in out.read_bytes()
    with rasterio.open(out) as file:
        assert file.tags()["CROSSBAND_SOURCE"] == "my scene.tif"


def test_resume_says_what_it_cannot_notice(stopped, server):
    near, _, begin, go = stopped
    server.tell(False)
    begin()
    with open(near, "ab") as file:
        file.write(b"more")
    with pytest.raises(OutputError, match="the source changed"):  # by its size
        go(resume=True)
    os.truncate(near, near.stat().st_size - 4)
    with pytest.warns(CrossbandWarning, match="leaves the size alone goes unnoticed"):
        go(resume=True)


def test_a_file_that_changed_is_read_anew_by_the_same_process(make_raster, server):
    source = addresses(server)["http"]
    for level in (0.25, 0.5):
        make_raster("store/bucket/my scene.tif", np.full((3, 300, 300), level, np.float32))
        with open_scene(source, needed=RGB) as opened:
            assert np.all(opened.read().values == np.float32(level))


def test_a_mosaic_of_remote_files(make_raster, server, identity_model, tmp_path):
    near = scene(make_raster)
    vrt = tmp_path / "mosaic.vrt"
    with rasterio.open(near) as file, gdal():
        rasterio.shutil.copy(file, vrt, driver="VRT")
    text = vrt.read_text()
    name = addresses(server)["vsicurl"].replace("&", "&amp;")
    assert 'relativeToVRT="1">store/bucket/my scene.tif<' in text
    vrt.write_text(
        text.replace('relativeToVRT="1">store/bucket/my scene.tif<', f'relativeToVRT="0">{name}<')
    )
    server.fail("drop", every=11)
    out = identity_model().translate(vrt, tmp_path / "o.tif", tile=200, precision="fp32")
    with rasterio.open(near) as a, rasterio.open(out) as b:
        np.testing.assert_array_equal(a.read(), b.read())


def test_the_users_own_options_win(server, monkeypatch):
    monkeypatch.delenv("GDAL_CACHEMAX", raising=False)
    assert gdal_options()["GDAL_CACHEMAX"] == GDAL_OPTIONS["GDAL_CACHEMAX"]
    assert "GDAL_HTTP_MAX_RETRY" not in gdal_options()  # the fixture sets it
    monkeypatch.delenv("GDAL_HTTP_MAX_RETRY")
    assert gdal_options()["GDAL_HTTP_MAX_RETRY"] == remote.OPTIONS["GDAL_HTTP_MAX_RETRY"]
    with gdal():
        assert gdal_options()["GDAL_HTTP_MAX_RETRY"] == remote.OPTIONS["GDAL_HTTP_MAX_RETRY"]
    with rasterio.Env(GDAL_HTTP_MAX_RETRY=9):
        assert "GDAL_HTTP_MAX_RETRY" not in gdal_options()
    counts = {}
    for tries in (0, 3):
        monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", str(tries))
        server.fail(503)
        with pytest.raises(InputError, match="503"):
            open_scene(f"{server.url}/bucket/none.tif", needed=RGB)
        counts[tries] = server.requests
    assert counts[3] == 4 * counts[0]
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "many")
    with gdal(), pytest.raises(InputError, match="GDAL_HTTP_MAX_RETRY"):
        remote.retry_delays()


@pytest.mark.parametrize("output", ["s3://bucket/o.tif", "/vsis3/bucket/o.tif", "https://h/o.tif"])
def test_results_stay_on_this_machine(
    command, make_raster, tiny_model, tmp_path, output, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    source = make_raster()
    done = command("translate", source, "-o", output, "--model", tiny_model)
    one_line(done, output, "local disk")
    folder = output.removesuffix("o.tif")
    done = command("translate", source, "-o", folder, "--model", tiny_model)
    one_line(done, folder.rstrip("/"), "local disk")
    assert [p.name for p in tmp_path.iterdir()] == ["scene.tif"]
    with pytest.raises(OutputError, match="local disk"):
        crossband.load(tiny_model).translate(source, output)


def test_names_of_results_of_remote_scenes(
    crossband_command, make_raster, server, tiny_model, tmp_path
):
    scene(make_raster, side=200)
    source = addresses(server)["http"] + "?token=a/b.png"
    done = crossband_command("translate", source, "-o", f"{tmp_path}/out/", "--model", tiny_model)
    assert done.returncode == 0, done.stderr
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["my scene_nir.tif", "summary.jsonl"]


def test_a_path_object_that_lost_a_slash(make_raster, server):
    scene(make_raster, side=200)
    with open_scene(Path(addresses(server)["s3"]), needed=RGB) as opened:
        assert opened.grid.width == 200
