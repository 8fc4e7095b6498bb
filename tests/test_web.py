"""The server of the page, asked as the page asks it: scenes, tiles, values, jobs."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

pytest.importorskip("starlette")

from calibrated import calibration, finer_model
from starlette.testclient import TestClient

from crossband import load, web
from crossband.errors import OutputError
from crossband.raster.gdal import gdal
from crossband.raster.grid import Box, Grid
from crossband.translate.engine import Engine
from crossband.translate.options import TileOptions
from crossband.web import jobs as job_module
from crossband.web import render
from crossband.web import scenes as scene_module
from crossband.web.app import create_app
from crossband.web.previews import Models, Previews, cells_of
from crossband.web.scenes import Choice
from crossband.web.server import Server
from crossband.web.settings import Settings
from crossband.web.views import Bounds, View

OWN = {"x-crossband": "1"}
HALF = 20037508.342789244
SEVERAL = TileOptions(tile=256)


@pytest.fixture
def settings(tmp_path, tiny_model):
    folder, root = tmp_path / "served", tmp_path / "root"
    folder.mkdir()
    root.mkdir()
    return Settings(folder, root.resolve(), models=(str(tiny_model),), tile=SEVERAL)


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as opened:
        yield opened


def smooth(bands=4, height=300, width=340, top=0.5):
    rows, cols = np.mgrid[:height, :width] / 40
    return np.stack(
        [top * (0.5 + 0.4 * np.sin(rows + b) * np.cos(cols - b)) for b in range(bands)]
    ).astype(np.float32)


NAMES = ("red", "green", "blue", "nir")


@pytest.fixture
def scene(make_raster, settings):
    """Return the query of a scene of four bands, of 300 x 340 pixels, stored as uint16."""
    stored = (smooth() * 10_000).astype(np.uint16)
    make_raster("root/s.tif", stored, names=NAMES, scale=1e-4)
    return {"scene": "root:s.tif", "model": "tiny"}


def get(client, path, query, status=200, **more):
    """Ask until the answer is there, as the page does."""
    for _ in range(100):
        answer = client.get(path, params={**query, **more})
        if answer.status_code != 202:
            assert answer.status_code == status, answer.text
            return answer
    raise AssertionError("the server computes for ever")


def tile_at(about, zoom=None):
    """Return z, x, y of the tile in the middle of a scene."""
    view = about["view"]
    z = view["native_zoom"] if zoom is None else zoom
    left, bottom, right, top = view["bounds"]
    x, y = (left + right) / 2, (bottom + top) / 2
    if view["kind"] == "plane":
        return z, int(x * 2**z // 256), int(-y * 2**z // 256)
    return z, int((x + HALF) / (2 * HALF) * 2**z), int((HALF - y) / (2 * HALF) * 2**z)


def pixels(answer):
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))


def finished(client, job, states=("done",)):
    for _ in range(600):
        about = client.get(f"/api/jobs/{job}").json()
        if about["state"] in ("done", "failed", "cancelled"):
            assert about["state"] in states, about
            return about
        threading.Event().wait(0.05)
    raise AssertionError("the job does not end")


def order(client, query, **more):
    answer = client.post("/api/jobs", json={**query, **more}, headers=OWN)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def test_what_is_offered(client, settings):
    about = client.get("/api/offer").json()
    assert [m["name"] for m in about["models"]] == ["tiny"]
    assert about["models"][0]["windows"] is True
    assert {"sentinel-2-l2a", "naip"} <= {s["name"] for s in about["sensors"]}


def test_a_scene_says_what_can_be_shown(client, scene):
    about = get(client, "/api/scene", scene).json()
    names = [layer["name"] for layer in about["layers"]]
    assert names[:3] == ["source", "synthetic", "index-NDVI"]
    assert {"measured", "measured-NDVI"} <= set(names)
    assert about["unit"] == "reflectance"
    assert about["scatter"] is True
    assert [b["name"] for b in about["bands"]] == list(NAMES)


def test_what_the_file_does_not_say_is_asked_in_the_words_of_the_command(
    client, settings, make_raster
):
    picture = (smooth(5) * 255).astype(np.uint8)
    make_raster("root/p.tif", picture, names=(), unit=None, photometric="minisblack")
    query = {"scene": "root:p.tif", "model": "tiny"}
    about = get(client, "/api/scene", query).json()
    assert "say it with --bands red=NUMBER,green=NUMBER,blue=NUMBER" in about["problem"]
    assert "/root/" not in about["problem"]
    query["bands"] = "red=1,green=2,blue=3"
    assert "--sensor" in get(client, "/api/scene", query).json()["problem"]
    query["sensor"] = "display"
    about = get(client, "/api/scene", query).json()
    assert about["problem"] == ""
    assert about["unit"] == "display"


def test_a_preview_has_the_pixels_of_the_file(settings, scene, tmp_path):
    server = Server(settings)
    choice = Choice.of(scene)
    shown, layer = server.layer(choice, "synthetic")
    model = load(settings.models[0])
    path = tmp_path / "out.tif"
    model.translate(tmp_path / "root/s.tif", path, dtype="float32", tile=256)
    with rasterio.open(path) as file:
        whole = file.read()
    for box in (Box(0, 0, 300, 340), Box(250, 10, 50, 60), Box(130, 200, 3, 1)):
        for future in server.previews.ask(shown.scene, layer.cells(box)):
            future.result(60)
        values = layer.read(box, 1)
        np.testing.assert_allclose(values, whole[:, *box.slices()], rtol=0, atol=2e-6)
    server.previews.close()


@pytest.mark.slow
def test_a_cell_that_is_kept_is_not_computed_again(client, settings, scene, monkeypatch):
    calls = []
    compute = Engine.compute
    monkeypatch.setattr(
        Engine,
        "compute",
        lambda self, ready: calls.append(ready.batch.tiles[0].core) or compute(self, ready),
    )
    about = get(client, "/api/scene", scene).json()
    z, x, y = tile_at(about)
    for layer in ("synthetic", "index-NDVI", "synthetic", "index-GNDVI"):
        for dx in (0, 1):
            get(client, f"/api/tile/{layer}/{z}/{x + dx}/{y}", scene)
    bounds = ",".join(map(str, about["view"]["bounds"]))
    get(client, "/api/scatter", scene, bounds=bounds)
    assert calls
    assert len(calls) == len(set(calls))


@pytest.mark.slow
def test_cells_are_kept_within_their_room(settings, scene, tiny_model):
    server = Server(settings)
    shown = server.shown(Choice.of(scene))
    previews = Previews(Models(settings.models), kept=300_000)
    for future in previews.ask(
        shown.scene, cells_of(shown.scene, shown.model, Box(0, 0, 300, 340))
    ):
        future.result(60)
    assert previews._bytes <= 300_000
    assert previews.computed == 4
    previews.close()


@pytest.mark.slow
def test_tiles_far_away_are_not_computed_but_show_the_source(client, make_raster, settings):
    make_raster("root/big.tif", smooth(3, 1500, 1800), names=NAMES[:3])
    query = {"scene": "root:big.tif", "model": "tiny"}
    about = get(client, "/api/scene", query).json()
    z, x, y = tile_at(about, about["view"]["native_zoom"] - 4)
    far = get(client, f"/api/tile/synthetic/{z}/{x}/{y}", query)
    assert far.headers["x-crossband-far"] == "1"
    assert pixels(get(client, f"/api/tile/source/{z}/{x}/{y}", query))[..., 3].any()


def test_a_large_scene_without_overviews_is_read_from_afar_once(
    client, make_raster, settings, monkeypatch
):
    monkeypatch.setattr(scene_module, "_COARSE", 64)
    values = smooth(3, 500, 700)
    make_raster("root/big.tif", values, names=NAMES[:3], tiled=True, blockxsize=64, blockysize=64)
    query = {"scene": "root:big.tif", "model": "tiny"}
    about = get(client, "/api/scene", query).json()
    z, x, y = tile_at(about, about["view"]["native_zoom"] - 4)
    seen = pixels(get(client, f"/api/tile/source/{z}/{x}/{y}", query, ranges="0,0.5,0,0.5,0,0.5"))
    opaque = seen[seen[..., 3] > 0]
    assert len(opaque) > 300
    np.testing.assert_allclose(opaque[:, :3].mean(axis=0), values.mean((1, 2)) * 2 * 255, atol=12)


def write(path, values, **profile):
    """Write a raster of any kind, without names of bands."""
    defaults = {"driver": "GTiff", "count": len(values), "dtype": values.dtype}
    defaults |= {"height": values.shape[1], "width": values.shape[2]}
    with gdal(), rasterio.open(path, "w", **(defaults | profile)) as out:
        out.write(values)


ROTATED = Affine(8.0, 6.0, 500_000.0, 6.0, -8.0, 5_000_000.0)
UTM = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)
DEGREES = Affine(1e-4, 0.0, 10.0, 0.0, -1e-4, 45.0)
UTM_FAR = Affine(10.0, 0.0, 5e9, 0.0, -10.0, 5e9)
WIDE = Affine(60_000.0, 0.0, -1e7, 0.0, -60_000.0, 9e6)
LOCAL, GLOBE = 'LOCAL_CS["x",UNIT["metre",1]]', "+proj=ortho +lat_0=40 +lon_0=10"
KINDS = {
    "striped": ("uint16", {"crs": "EPSG:32633", "transform": UTM, "blockysize": 1}, "mercator"),
    "tiled": ("uint16", {"crs": "EPSG:32633", "transform": UTM, "tiled": True}, "mercator"),
    "geographic": ("uint8", {"crs": "EPSG:4326", "transform": DEGREES}, "mercator"),
    "float with NaN": ("float32", {"crs": "EPSG:32633", "transform": UTM}, "mercator"),
    "rotated": ("uint16", {"crs": "EPSG:32633", "transform": ROTATED}, "mercator"),
    "rotated, no CRS": ("uint8", {"transform": ROTATED}, "plane"),
    "no georeference": ("uint8", {}, "plane"),
    "polar": ("uint8", {"crs": "EPSG:3413", "transform": Affine.scale(10, -10)}, "plane"),
    "far beyond its CRS": ("uint8", {"crs": "EPSG:32633", "transform": UTM_FAR}, "plane"),
    "no place on the earth": ("uint8", {"crs": LOCAL, "transform": UTM}, "plane"),
    "geocentric": ("uint8", {"crs": "EPSG:4978", "transform": UTM}, "plane"),
    "the globe": ("uint8", {"crs": GLOBE, "transform": WIDE}, "plane"),
}


@pytest.mark.parametrize(
    "kind", [k if k == "striped" else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]
)
def test_every_kind_of_raster_is_displayed(client, settings, tmp_path, kind):
    dtype, profile, lies = KINDS[kind]
    values = smooth(3)
    stored = values
    sensor = "reflectance"
    if dtype != "float32":
        scale = {"uint8": 255, "uint16": 65535}[dtype]
        stored, sensor = (values * scale).astype(dtype), "display"
    else:
        stored = values.copy()
        stored[:, 100:140, 100:140] = np.nan
    write(tmp_path / "root/k.tif", stored, **profile)
    query = {"scene": "root:k.tif", "model": "tiny"}
    query |= {"sensor": sensor, "bands": "red=1,green=2,blue=3"}
    about = get(client, "/api/scene", query).json()
    assert about["problem"] == ""
    assert about["view"]["kind"] == lies
    z, x, y = tile_at(about)
    for layer in ("source", "synthetic"):
        seen = pixels(get(client, f"/api/tile/{layer}/{z}/{x}/{y}", query))
        assert (seen[..., 3] > 0).mean() > 0.1
        assert len(np.unique(seen[seen[..., 3] > 0], axis=0)) > 20  # neither black nor one grey
    if kind == "float with NaN":
        view = View.of(Grid(300, 340, UTM, rasterio.crs.CRS.from_epsg(32633)))
        outline = view.outline()
        x, y = outline.left, outline.top
        middle = outline.left + 0.353 * (outline.right - outline.left)
        down = outline.top - 0.4 * (outline.top - outline.bottom)
        found = get(client, "/api/values", query, x=middle, y=down).json()
        assert found["layers"][0]["values"] == [None] * 3


@pytest.mark.parametrize("value", [0.0, 0.1, 3e38])
def test_a_constant_layer_has_a_stretch(value):
    values = np.full((1, 20, 20), value, np.float32)
    values[0, ::2] *= np.float32(1 + 1e-7)  # the last bit
    ranges = render.stretch(values)
    (bins,) = render.histogram(values, ranges)
    assert sum(bins["counts"]) == 400
    assert sum(map(sum, render.scatter(values[0], values[0])["counts"])) == 400


@pytest.mark.filterwarnings("error")
def test_a_stretch_of_the_whole_range_of_float32(tmp_path):
    values = np.array([[[3e38, -3e38], [0, 1]]], np.float32)
    (low, high) = render.stretch(values)[0]
    assert low < 0 < high
    (bins,) = render.histogram(values, [(-3e38, 3e38)])
    assert sum(bins["counts"]) == 4
    (tmp_path / "a.png").write_bytes(render.picture(values, [(-3e38, 3e38)], "viridis"))
    seen = np.asarray(Image.open(tmp_path / "a.png")).astype(int)[..., :3].sum(axis=2)
    assert seen[0, 0] > seen[1, 0] > seen[0, 1]


def test_a_stretch_that_no_number_can_hold_is_refused(client, scene):
    query = {**scene, "ranges": "-1.7e308,1.7e308"}
    found = client.get("/api/tile/synthetic/0/0/0", params=query)
    assert found.status_code == 400
    assert "too wide" in found.text


@pytest.mark.slow
def test_the_value_under_the_pointer_is_physical_and_of_that_pixel(client, scene, tmp_path):
    about = get(client, "/api/scene", scene).json()
    z, x, y = tile_at(about)
    get(client, f"/api/tile/synthetic/{z}/{x}/{y}", scene)
    left, bottom, right, top = about["view"]["bounds"]
    at = {"x": (left + right) / 2, "y": (bottom + top) / 2}
    found = get(client, "/api/values", scene, **at).json()
    row, col = found["pixel"]
    with rasterio.open(tmp_path / "root/s.tif") as file:
        stored = file.read()[:, row, col]
    layers = {layer["name"]: layer for layer in found["layers"]}
    np.testing.assert_allclose(layers["source"]["values"], stored[:3] * 1e-4, atol=1e-7)
    np.testing.assert_allclose(layers["measured"]["values"], stored[3:] * 1e-4, atol=1e-7)
    nir, red = layers["synthetic"]["values"][0], stored[0] * 1e-4
    assert layers["index-NDVI"]["values"][0] == pytest.approx((nir - red) / (nir + red), abs=1e-6)
    assert get(client, "/api/values", scene, x=0, y=0).json() == {"pixel": None, "layers": []}


@pytest.mark.slow
def test_the_stretch_is_that_of_the_view_or_of_the_scene(client, scene):
    about = get(client, "/api/scene", scene).json()
    bounds = ",".join(map(str, about["view"]["bounds"]))
    for layer in ("source", "synthetic", "index-NDVI", "measured"):
        for of in ({"of": "scene"}, {"bounds": bounds}):
            said = get(client, f"/api/distribution/{layer}", scene, **of).json()
            for low, high in said["ranges"]:
                assert low < high
            assert sum(said["histograms"][0]["counts"]) > 1000


@pytest.mark.slow
def test_the_scatter_measures_what_the_page_says(client, scene, settings, tmp_path):
    about = get(client, "/api/scene", scene).json()
    bounds = ",".join(map(str, about["view"]["bounds"]))
    said = get(client, "/api/scatter", scene, bounds=bounds).json()
    model = load(settings.models[0])
    made = model.translate(tmp_path / "root/s.tif").values[0]
    with rasterio.open(tmp_path / "root/s.tif") as file:
        error = made - file.read(4) * 1e-4
    assert said["mae"] == pytest.approx(np.abs(error).mean(), rel=0.02)  # pixels of the map
    assert said["bias"] == pytest.approx(error.mean(), rel=0.02)


@pytest.mark.parametrize("of", ["0,0,0,0", "1,2,3", "nan,0,1,1", "a,b,c,d", "0,0,1e400,1"])
def test_wrong_numbers_are_refused(client, scene, of):
    get(client, "/api/distribution/source", scene, 400, bounds=of)
    for path in ("/api/tile/source/a/0/0", "/api/tile/source/99/0/0", "/api/tile/none/3/0/0"):
        get(client, path, scene, 400)
    get(client, "/api/values", scene, 400, x=of, y=0)


# -------------------------------------------------------------------------------------------- jobs


@pytest.mark.slow
def test_the_download_is_the_file_of_the_command(client, scene, settings, tmp_path):
    job = order(client, scene, indices=["NDVI"])
    about = finished(client, job)
    assert about["files"] == ["s_nir.tif", "s_nir_NDVI.tif"]
    (tmp_path / "own").mkdir()
    own = tmp_path / "own" / "s_nir.tif"
    model = load(settings.models[0])
    model.translate(tmp_path / "root/s.tif", own, indices=["NDVI"], tile=256)
    for name in about["files"]:
        answer = client.get(f"/api/jobs/{job}/file/{name}")
        assert answer.content == own.with_name(name).read_bytes()
        assert name in answer.headers["content-disposition"]
    assert client.get(f"/api/jobs/{job}/file").content == own.read_bytes()
    report = client.get(f"/api/jobs/{job}/report").text
    assert "crossband translate s.tif -o s_nir.tif" in report
    assert "MAE" in report
    assert "data:image/png;base64" in report


@pytest.mark.slow
def test_layers_come_from_the_file_once_it_is_there(client, scene, settings):
    job = order(client, scene)
    finished(client, job)
    about = get(client, "/api/scene", scene, job=job).json()
    assert about["result"] is True
    assert not any(layer["computed"] for layer in about["layers"])
    z, x, y = tile_at(about, about["view"]["native_zoom"] - 3)
    seen = pixels(get(client, f"/api/tile/synthetic/{z}/{x}/{y}", scene, job=job))
    assert seen[..., 3].any()
    # An upload of somebody else, or another model, does not get this result.
    with_other = {**scene, "scene": "root:absent.tif", "job": job}
    get(client, "/api/scene", with_other, 400)


@pytest.mark.slow
def test_an_upload_is_translated_under_its_own_name(client, scene, settings, tmp_path):
    content = (tmp_path / "root/s.tif").read_bytes()
    answer = client.post(
        "/api/uploads", params={"name": "my field.TIF"}, content=content, headers=OWN
    )
    assert answer.json()["name"] == "my field.tif"
    job = order(client, {**scene, "scene": answer.json()["scene"]})
    about = finished(client, job)
    assert about["files"] == ["my field_nir.tif"]
    path = tmp_path / "down.tif"
    path.write_bytes(client.get(f"/api/jobs/{job}/file").content)
    with rasterio.open(path) as file:
        assert file.tags()["CROSSBAND_SOURCE"] == "my field.tif"


@pytest.mark.slow
def test_a_job_fails_in_the_words_of_the_command(client, scene, monkeypatch, tmp_path):
    held = Held(monkeypatch)
    first = order(client, scene)
    assert held.reached.wait(60)
    later = order(client, scene, indices=["NDVI"])
    (tmp_path / "root/s.tif").write_bytes(b"no raster any more")
    held.go.set()
    finished(client, first, ("done", "failed"))
    about = finished(client, later, ("failed",))
    assert "s.tif" in about["error"]
    assert str(tmp_path) not in about["error"]
    assert client.get(f"/api/jobs/{later}/file").status_code == 400


def test_what_is_no_order_is_refused(client, scene):
    half = json.dumps({**scene, "dtype": "\ud800"}).encode()
    for body in (b"", b"[]", b"{", b'{"scene": "root:../x"}', b'{"indices": 3}', half):
        assert client.post("/api/jobs", content=body, headers=OWN).status_code == 400
    assert client.post("/api/jobs", content=bytes(70_000), headers=OWN).status_code == 413
    assert client.get("/api/jobs/../../x").status_code in (400, 404)
    assert client.get(f"/api/jobs/{'0' * 32}").status_code == 400


class Held:
    """Stops translations after their first window until it is released."""

    def __init__(self, monkeypatch):
        self.reached, self.go = threading.Event(), threading.Event()
        translate = job_module.translate_scene

        def held(*args, progress, **options):
            def stopped(done, total):
                if done and not self.go.is_set():
                    self.reached.set()
                    self.go.wait(30)
                progress(done, total)

            return translate(*args, progress=stopped, **options)

        monkeypatch.setattr(job_module, "translate_scene", held)


def held_job(client, scene, monkeypatch):
    """Order a job that waits within its first window; return what lets it go, and the job."""
    held = Held(monkeypatch)
    job = order(client, scene)
    assert held.reached.wait(60)
    return held, job


def test_a_job_is_cancelled_and_resumed(client, scene, monkeypatch, tmp_path):
    held, job = held_job(client, scene, monkeypatch)
    assert client.get(f"/api/jobs/{job}").json()["state"] == "running"
    client.post(f"/api/jobs/{job}/cancel", headers=OWN)
    held.go.set()
    about = finished(client, job, ("cancelled",))
    assert about["total"] == 300 * 340
    with monkeypatch.context() as busy:
        busy.setattr(job_module, "MOST_JOBS", 0)
        answer = client.post(f"/api/jobs/{job}/resume", headers=OWN)
        assert "too many jobs wait" in answer.json()["error"]
    client.post(f"/api/jobs/{job}/resume", headers=OWN)
    assert finished(client, job)["resumed"] > 0


def full(*_):
    raise OutputError("job.json: No space left on device")


def test_a_full_disk_ends_no_server(client, scene, monkeypatch):
    held, job = held_job(client, scene, monkeypatch)
    with monkeypatch.context() as disk:
        disk.setattr(job_module.Jobs, "_store", full)
        held.go.set()
        finished(client, job)
    finished(client, order(client, scene))


def test_a_job_that_cannot_be_resumed_stays_as_it_is(client, scene, monkeypatch):
    held, job = held_job(client, scene, monkeypatch)
    client.post(f"/api/jobs/{job}/cancel", headers=OWN)
    held.go.set()
    finished(client, job, ("cancelled",))
    with monkeypatch.context() as disk:
        disk.setattr(job_module.Jobs, "_store", full)
        for path in (f"/api/jobs/{job}/resume", "/api/jobs"):
            answer = client.post(path, json=scene, headers=OWN)
            assert "No space left" in answer.json()["error"]
    finished(client, job, ("cancelled",))
    client.post(f"/api/jobs/{job}/resume", headers=OWN)
    finished(client, job)


def test_a_job_is_as_old_as_its_end(settings, scene):
    jobs = Server(settings).jobs
    order_of = job_module.Order(Choice("root:s.tif", "tiny"))
    long_ago = time.time() - 200 * 3600
    job = job_module.Job(job_module.new_id(), order_of, "s", "done", created=long_ago)
    folder = settings.folder / "jobs" / job.id
    folder.mkdir()
    jobs._jobs[job.id] = job
    jobs._store(job)
    jobs.remove_old()
    assert folder.exists()
    os.utime(folder / "job.json", (long_ago, long_ago))
    jobs.remove_old()
    assert not folder.exists()
    jobs.close()


@pytest.mark.slow
def test_a_server_that_ends_takes_its_job_up_again(settings, scene, monkeypatch, tmp_path):
    with monkeypatch.context() as patched:
        held = Held(patched)
        with TestClient(create_app(settings), base_url="http://127.0.0.1") as one:
            job = order(one, scene)
            assert held.reached.wait(60)
            threading.Timer(0.2, held.go.set).start()
    state = json.loads((settings.folder / "jobs" / job / "job.json").read_text())["state"]
    assert state in ("waiting", "running")
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as other:
        assert finished(other, job)["resumed"] > 0
        own = tmp_path / "own" / "s_nir.tif"
        own.parent.mkdir()
        load(settings.models[0]).translate(tmp_path / "root/s.tif", own, tile=256)
        assert other.get(f"/api/jobs/{job}/file").content == own.read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills a process by its signal")
def test_a_job_of_a_killed_server_goes_on_from_its_store(make_raster, tiny_model, tmp_path):
    (tmp_path / "root").mkdir()
    stored = (smooth(3, 1200, 1200) * 10_000).astype(np.uint16)
    make_raster("root/s.tif", stored, names=NAMES[:3], scale=1e-4)
    words = ["--port", "0", "--root", tmp_path / "root", "--folder", tmp_path / "served"]
    words += ["--model", tiny_model, "--tile", "128"]

    def start():
        running = subprocess.Popen(
            [sys.executable, "-m", "crossband", "serve", *map(str, words)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert running.stdout is not None
        return running, running.stdout.readline().split()[3].rstrip("/")

    def ask(address, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"{address}/api/{path}", data, OWN), timeout=60) as answer:
            return answer.read()

    def until(reached):
        while not reached(about := json.loads(ask(address, f"jobs/{job}"))):
            threading.Event().wait(0.05)
        return about

    running, address = start()
    try:
        job = json.loads(ask(address, "jobs", {"scene": "root:s.tif", "model": "tiny"}))["id"]
        journal = tmp_path / "served/jobs" / job / "out/.s_nir.tif.crossband/journal"
        until(lambda about: journal.exists() and journal.stat().st_size)
    finally:
        running.kill()
        running.wait(30)
    assert json.loads((journal.parents[2] / "job.json").read_text())["state"] == "running"
    running, address = start()
    try:
        about = until(lambda about: about["state"] in ("done", "failed"))
        assert about["state"] == "done"
        assert about["resumed"] > 0
        found = ask(address, f"jobs/{job}/file")
    finally:
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0
    own = tmp_path / "own" / "s_nir.tif"
    own.parent.mkdir()
    load(tiny_model).translate(tmp_path / "root/s.tif", own, tile=128)
    assert found == own.read_bytes()


@pytest.mark.slow
def test_a_guide_corrects_the_file(client, scene, make_raster, tmp_path):
    coarse = (smooth(1, 30, 34, 0.8) * 10_000).astype(np.uint16)
    make_raster(
        "root/g.tif",
        coarse,
        names=("nir",),
        scale=1e-4,
        transform=Affine(100.0, 0.0, 500_000.0, 0.0, -100.0, 5_000_000.0),
    )
    job = order(client, scene, guide="root:g.tif", guide_method="difference")
    about = finished(client, job)
    path = tmp_path / "down.tif"
    path.write_bytes(client.get(f"/api/jobs/{job}/file").content)
    with rasterio.open(path) as file:
        assert "g.tif" in file.tags()["CROSSBAND_GUIDED"]
    assert about["files"] == ["s_nir.tif"]
    assert "Is it of another place" in about["warnings"][0]
    assert str(tmp_path) not in about["warnings"][0]
    assert "--guide g.tif --guide-method difference" in client.get(f"/api/jobs/{job}/report").text
    # The file is the result of these options only.
    guided = {**scene, "guide": "root:g.tif", "guide_method": "difference", "job": job}
    for more, is_shown in (({}, True), ({"guide_method": ""}, False), ({"guide": ""}, False)):
        assert get(client, "/api/scene", {**guided, **more}).json()["result"] is is_shown
    bad = client.post("/api/jobs", json={**scene, "guide": "root:../x.tif"}, headers=OWN)
    assert bad.status_code == 400


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"sensor": "absent"}, "unknown sensor"),
        ({"indices": ["EVI2x"]}, "unknown index"),
        ({"indices": ["NBR"]}, "needs"),
        ({"dtype": "uint3"}, "--dtype uint3"),
        ({"bands": "red=1,green=2,blue=9"}, "band"),
        ({"familiarity": True}, "no calibration"),
        ({"interval": "0.9"}, "no calibration"),
        ({"interval": "nan"}, "a share between 0 and 1"),
        ({"interval": "2"}, "a share between 0 and 1"),
        ({"dtype": "int8", "scale": "0.0001"}, "int8"),
        ({"guide": "root:s.tif", "guide_bands": "nir=9"}, "9"),
        ({"guide": "root:s.tif", "guide_sensor": "none"}, "none"),
    ],
)
def test_an_order_that_cannot_be_carried_out_is_refused(client, scene, tmp_path, more, words):
    answer = client.post("/api/jobs", json={**scene, **more}, headers=OWN)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert str(tmp_path) not in answer.json()["error"]


def test_a_level_that_cannot_be_promised_is_refused(settings, scene):
    known = create_app(replace(settings, models=("rgb2nir",)))
    order = {**scene, "model": "rgb2nir", "interval": "0.999"}
    with TestClient(known, base_url="http://127.0.0.1:8000") as client:
        answer = client.post("/api/jobs", json=order, headers=OWN)
        assert answer.status_code == 400
        assert "promise at most 0.99 (no higher level is calibrated)" in answer.json()["error"]


def test_an_order_of_everything_is_taken(settings, scene):
    known = create_app(replace(settings, models=("rgb2nir",)))
    sure = {"indices": ["NDVI"], "interval": "0.8", "promise": "places", "familiarity": True}
    with TestClient(known, base_url="http://127.0.0.1:8000") as client:
        about = finished(client, order(client, {**scene, "model": "rgb2nir", **sure}))
    assert [name for name in about["files"] if "interval" in name or "familiarity" in name]


@pytest.mark.filterwarnings("error")
def test_a_tile_of_half_the_world_has_no_scene_to_show(client, make_raster):
    # Most of it has no place in the scene's CRS.
    values = np.full((4, 3000, 30), 2000, np.uint16)
    make_raster("root/long.tif", values, names=NAMES, scale=1e-4, crs="EPSG:32632")
    query = {"scene": "root:long.tif", "model": "tiny"}
    for z in (-3, 0):
        answer = get(client, f"/api/tile/source/{z}/0/0", query)
        assert not pixels(answer)[..., 3].any()


@pytest.mark.parametrize(
    "planted",
    [
        {"created": "yesterday"},
        {"created": None},
        {"files": ["../../../secret.tif"]},
        {"files": [5]},
        {"id": "0" * 32},
        {"name": 5},
        {"seconds": "x"},
        {"order": {"choice": {"scene": 5}}},
        {"order": 5},
    ],
)
def test_a_job_file_of_others_stops_no_server(settings, scene, planted):
    order_of = job_module.Order(Choice("root:s.tif", "tiny"))
    kept, bad = (job_module.Job(job_module.new_id(), order_of, "s", "done") for _ in range(2))
    for job, change in ((kept, {}), (bad, planted)):
        folder = settings.folder / "jobs" / job.id
        folder.mkdir(parents=True)
        text = json.dumps(job.describe() | change)
        (folder / "job.json").write_text(text)
    jobs = Server(settings).jobs
    assert [*jobs._jobs] == [kept.id]
    jobs.close()


def test_old_uploads_and_jobs_are_deleted(settings, scene, tmp_path):
    server = Server(settings)
    upload = server.places.new_upload("a.tif")
    upload.write((tmp_path / "root/s.tif").read_bytes())
    upload.close()
    name = server.places.finish_upload(upload, None)["scene"]
    server.places.remove_old(set())
    assert server.places.find(name)
    for hours, used, there in ((200, {name}, True), (200, set(), False)):
        old = time.time() - hours * 3600
        os.utime(upload.folder, (old, old))
        server.places.remove_old(used)
        assert upload.folder.exists() is there
    unreadable = settings.folder / "jobs" / ("0" * 32)
    unreadable.mkdir(parents=True)
    (unreadable / "job.json").write_text('{"order": {"of": "another version"}}')
    jobs = server.jobs
    done = job_module.Job(job_module.new_id(), job_module.Order(Choice("root:s.tif", "tiny")), "s")
    done.state, done.created = "done", time.time() - 200 * 3600
    (settings.folder / "jobs" / done.id).mkdir()
    jobs._jobs[done.id] = done
    jobs.remove_old()
    assert os.listdir(settings.folder / "jobs") == [unreadable.name]
    os.utime(unreadable, (old, old))
    jobs.remove_old()
    assert not unreadable.exists()
    jobs.close()


def test_a_prefix_that_the_proxy_leaves_is_removed(settings):
    with TestClient(create_app(settings, "/lab/crossband"), base_url="http://127.0.0.1") as page:
        for path in ("/lab/crossband/", "/lab/crossband/api/offer", "/api/offer"):
            assert page.get(path).status_code == 200


def test_a_tile_of_the_plane_is_that_of_leaflet():
    view = View.of(Grid(600, 800))
    grid = view.tile(-1, 1, 0)
    assert grid.transform == Affine(2.0, 0.0, 512.0, 0.0, -2.0, 0.0)
    box, ratio = view.part(grid)
    assert ratio == 2.0
    assert (box.col, box.width, box.height) == (510, 290, 514)
    assert view.pixel(799.5, -599.5) == (599, 799)
    assert view.pixel(800.5, -1.0) is None
    assert view.window(Bounds(0, -600, 800, 0), 100).transform.a == 8.0


@pytest.mark.slow
def test_the_value_under_the_pointer_is_that_of_the_file_in_every_layer(
    scene, settings, tiny_model, tmp_path
):
    folder = shutil.copytree(tiny_model, tmp_path / "tiny")
    calibration(load(folder).weights_hash).save(folder)
    source, made = tmp_path / "root/s.tif", tmp_path / "s_nir.tif"
    load(folder).translate(
        source,
        made,
        dtype="float32",
        tile=256,
        interval=0.9,
        familiarity=True,
        indices=["NDVI"],
    )

    def of(name, *bands):
        with rasterio.open(tmp_path / name) as file:
            scales = np.array(file.scales)[[b - 1 for b in bands], None, None]
            return file.read(bands) * scales

    stored, interval = of("root/s.tif", 1, 2, 3, 4), of("s_nir.interval.tif", 1, 2)
    red, nir = stored[0], stored[3]
    wanted = {
        "source": stored[:3],
        "synthetic": of("s_nir.tif", 1),
        "index-NDVI": of("s_nir_NDVI.tif", 1),
        "measured": stored[3:],
        "measured-NDVI": ((nir - red) / (nir + red))[None],
        "lower-nir": interval[:1],
        "upper-nir": interval[1:],
        "width-nir": interval[1:] - interval[:1],
        "familiarity": of("s_nir.familiarity.tif", 1),
    }
    several = replace(settings, models=(str(folder),))
    with TestClient(create_app(several), base_url="http://127.0.0.1:8000") as client:
        job = order(client, scene, dtype="float32")
        finished(client, job)
        for query in (scene, {**scene, "job": job}):
            about = get(client, "/api/scene", query).json()
            left, bottom, right, top = about["view"]["bounds"]
            bounds = f"{left},{bottom},{right},{top}"
            for layer in ("width-nir", "synthetic"):  # computed, as by a look at them
                get(client, f"/api/distribution/{layer}", query, bounds=bounds)
            for down, across in ((0.5, 0.5), (0.03, 0.04), (0.97, 0.9), (0.8, 0.11)):
                at = {"x": left + across * (right - left), "y": top - down * (top - bottom)}
                found = get(client, "/api/values", query, **at).json()
                row, col = found["pixel"]
                layers = {layer["name"]: layer["values"] for layer in found["layers"]}
                assert set(wanted) <= set(layers)
                for name, values in wanted.items():
                    np.testing.assert_allclose(
                        layers[name], values[:, row, col], rtol=1e-4, atol=5e-6, err_msg=name
                    )
                    assert len(np.unique(values)) > 100


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 4])
def test_intervals_of_finer_pixels_are_those_of_the_file(scene, settings, tmp_path, scale):
    model = finer_model(tmp_path / "finer", scale)
    fine = {"tile": 256, "interval": 0.9, "familiarity": True, "indices": ["NGRDI"]}
    model.translate(tmp_path / "root/s.tif", tmp_path / "fine.tif", dtype="float32", **fine)
    read = {}
    for part in ("", ".interval", ".familiarity"):
        with rasterio.open(tmp_path / f"fine{part}.tif") as file:
            read[part] = file.read()
    low, high = read[".interval"][:2]
    wanted = {
        "synthetic": read[""],
        "lower-red": low[None],
        "upper-red": high[None],
        "width-red": (high - low)[None],
        "familiarity": read[".familiarity"],
    }
    several = replace(settings, models=(str(tmp_path / "finer"),))
    query = scene | {"model": "finer"}
    with TestClient(create_app(several), base_url="http://127.0.0.1:8000") as client:
        about = get(client, "/api/scene", query).json()
        assert about["indices"] == []  # near infrared is not made, and that of the source is coarse
        left, bottom, right, top = about["view"]["bounds"]
        for layer in ("width-red", "synthetic"):
            bounds = f"{left},{bottom},{right},{top}"
            get(client, f"/api/distribution/{layer}", query, bounds=bounds)
        for down, across in ((0.501, 0.503), (0.03, 0.04), (0.97, 0.9)):
            at = {"x": left + across * (right - left), "y": top - down * (top - bottom)}
            found = get(client, "/api/values", query, **at).json()
            layers = {layer["name"]: layer["values"] for layer in found["layers"]}
            assert set(wanted) <= set(layers)
            row, col = int(down * 300 * scale), int(across * 340 * scale)
            for name, values in wanted.items():
                np.testing.assert_allclose(
                    layers[name], values[:, row, col], rtol=1e-4, atol=5e-6, err_msg=name
                )


def test_a_proxy_that_removes_its_prefix(settings):
    """As Jupyter's does: the application sees no prefix, so no address may begin at the root."""
    inner, prefix = create_app(settings), "/user/ann/proxy/8000"

    async def proxy(scope, receive, send):
        if scope["type"] == "http":
            assert scope["path"].startswith(f"{prefix}/")
            path = scope["path"].removeprefix(prefix)
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await inner(scope, receive, send)

    with TestClient(proxy, base_url="http://127.0.0.1:8000") as client:
        page = client.get(f"{prefix}/").text
        named = re.findall(r'(?:src|href)="([^"#]+)"', page)
        assert "static/main.js" in named
        for address in named:
            if not address.startswith("data:"):
                assert client.get(f"{prefix}/{address}").status_code == 200
        assert client.get(f"{prefix}/api/offer").json()["models"]
    for script in Path(web.__file__).parent.glob("static/*.js"):
        assert not re.search(r'(?:fetch|open|from|href =) ?\(?[`"]/', script.read_text()), script
