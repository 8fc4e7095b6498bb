"""Models that were trained with a guide, on the page: asked for, previews and files."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from affine import Affine

pytest.importorskip("starlette")

from calibrated import calibration, with_guides
from guided_models import BANDS, RGB, guided_model
from starlette.testclient import TestClient

from crossband import load
from crossband.model.calibration import GuideClass
from crossband.raster.grid import Box
from crossband.translate.options import TileOptions
from crossband.web import guides
from crossband.web.app import create_app
from crossband.web.scenes import Choice
from crossband.web.server import Server
from crossband.web.settings import Settings

OWN = {"x-crossband": "1"}
HEIGHT, WIDTH = 560, 640
#: A preview and a file differ by the last bits of float32 only.
CLOSE = 3e-6


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models: the result of one is corrected by its guide, that of the other is not."""
    at = tmp_path_factory.mktemp("models")
    wide = ("nir08", "swir16")
    made = guided_model(at / "corrected", ("nir",), BANDS)
    return made, guided_model(at / "sharpened", wide, wide)


@pytest.fixture
def settings(tmp_path, models, make_raster):
    folder, root = tmp_path / "served", tmp_path / "root"
    folder.mkdir()
    root.mkdir()
    rng = np.random.default_rng(0)
    fields = rng.uniform(0.05, 0.4, (6, 14, 16)).repeat(40, 1).repeat(40, 2)
    fields = (fields + rng.normal(0, 0.01, fields.shape)).clip(0.03)
    stored = (fields * 10_000).astype(np.uint16)
    place = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)
    make_raster("root/s.tif", stored[:3], names=RGB, scale=1e-4, transform=place)
    for size, name in ((2, "g.tif"), (10, "coarse.tif")):
        coarse = stored.reshape(6, HEIGHT // size, size, WIDTH // size, size).mean((2, 4))
        coarse[:, : 16 // size * 5, : 20 // size * 5] = 0.0  # a hole
        make_raster(
            f"root/{name}",
            coarse.astype(np.uint16),
            names=(*BANDS, "nir08", "swir16"),
            scale=1e-4,
            transform=place @ Affine.scale(size),
            nodata=0,
        )
    return Settings(folder, root.resolve(), models=models, tile=TileOptions(tile=256))


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as opened:
        yield opened


@pytest.fixture
def server(settings):
    made = Server(settings)
    yield made
    made.previews.close()


def preview(server, choice, name, box):
    """Return what the page shows of a box of a layer."""
    shown, layer = server.layer(choice, name)
    for future in server.previews.ask(shown.scene, layer.cells(box)):
        future.result(120)
    return layer.read(box, 1)


def translated(settings, number, path, **options):
    load(settings.models[number]).translate(
        settings.root / "s.tif", path, tile=256, dtype="float32", **options
    )
    with rasterio.open(path) as file:
        return file.read(masked=True).filled(np.nan)


def test_the_model_asks_for_its_guide(client):
    offered = {m["name"]: m["guide"] for m in client.get("/api/offer").json()["models"]}
    assert offered == {"corrected": list(BANDS), "sharpened": ["nir08", "swir16"]}
    query = {"scene": "root:s.tif", "model": "corrected"}
    about = client.get("/api/scene", params=query).json()
    assert about["guide_wanted"] == list(BANDS)
    assert about["problem"] == ""
    assert [layer["name"] for layer in about["layers"]] == ["source"]
    answer = client.post("/api/jobs", json=query, headers=OWN)
    assert answer.status_code == 400
    assert answer.json()["error"].endswith("of red, green, blue, nir as guide: choose one")
    guided = {**query, "guide": "root:g.tif"}
    about = client.get("/api/scene", params=guided).json()
    assert about["guide_wanted"] == []
    assert {"synthetic", "index-NDVI"} <= {layer["name"] for layer in about["layers"]}
    said = client.get("/api/guide", params=guided).json()
    assert said["said"].startswith("g.tif, trained,")
    assert said["poor"] == ""
    # One that cannot be used is said, and the source is shown.
    about = client.get("/api/scene", params={**guided, "guide_method": "linear"}).json()
    assert "leave it out" in about["guide_problem"]
    assert about["guide_wanted"] == list(BANDS)
    about = client.get("/api/scene", params={**query, "guide": "root:s.tif"}).json()
    assert "nir" in about["guide_problem"]
    assert str(about).count("/root/") == 0


@pytest.mark.parametrize(
    ("number", "guide"),
    [
        (0, "g.tif"),
        pytest.param(0, "coarse.tif", marks=pytest.mark.slow),
        (1, "g.tif"),
        pytest.param(1, "coarse.tif", marks=pytest.mark.slow),
    ],
)
def test_a_preview_has_the_values_of_the_file(settings, server, tmp_path, number, guide):
    whole = translated(settings, number, tmp_path / "own.tif", guide=settings.root / guide)
    name = ("corrected", "sharpened")[number]
    choice = Choice("root:s.tif", name, guide=f"root:{guide}")
    layer = ("synthetic", "synthetic-swir16")[number]
    for box in (Box(200, 300, 90, 70), Box(0, 0, 40, 40)):
        found = preview(server, choice, layer, box)
        np.testing.assert_allclose(found[0], whole[number, *box.slices()], rtol=0, atol=CLOSE)


@pytest.mark.slow
def test_a_job_has_the_file_of_the_command(client, settings, tmp_path):
    query = {"scene": "root:s.tif", "model": "corrected", "guide": "root:g.tif"}
    job = client.post("/api/jobs", json={**query, "indices": ["NDVI"]}, headers=OWN).json()["id"]
    while (about := client.get(f"/api/jobs/{job}").json())["state"] in ("waiting", "running"):
        pass
    assert about["files"] == ["s_nir.tif", "s_nir_NDVI.tif"], about
    own = tmp_path / "own" / "s_nir.tif"
    own.parent.mkdir()
    load(settings.models[0]).translate(
        settings.root / "s.tif", own, guide=settings.root / "g.tif", tile=256, indices=["NDVI"]
    )
    for name in about["files"]:
        got = client.get(f"/api/jobs/{job}/file/{name}").content
        assert got == (own.parent / name).read_bytes()
    assert "--guide g.tif" in client.get(f"/api/jobs/{job}/report").text
    # Then the layers are those of the file, and no guide is asked for.
    shown = client.get("/api/scene", params={**query, "job": job}).json()
    assert shown["result"] is True
    assert shown["guide_wanted"] == []


@pytest.mark.slow
def test_a_large_scene_and_a_guide_of_large_pixels_have_no_preview(settings, server, monkeypatch):
    monkeypatch.setattr(guides, "_MOST", 400 * 400)
    for name, guide, words in (
        ("corrected", "coarse.tif", "most of the scene"),
        ("corrected", "g.tif", ""),
        ("sharpened", "coarse.tif", ""),
    ):
        shown = server.shown(Choice("root:s.tif", name, guide=f"root:{guide}"))
        assert words in shown.guide.note
        assert shown.can_compute is not bool(words)


def test_a_guide_of_too_few_pixels_is_refused_as_the_command_does(client, make_raster, settings):
    place = Affine(10.0, 0.0, 506_380.0, 0.0, -10.0, 5_000_000.0)
    few = np.full((4, 3, 50), 2000, np.uint16)
    make_raster("root/few.tif", few, names=BANDS, scale=1e-4, transform=place)
    query = {"scene": "root:s.tif", "model": "corrected", "guide": "root:few.tif"}
    answer = client.get("/api/guide", params=query)
    assert answer.status_code == 400
    assert "valid in it and in the scene" in answer.json()["error"]
    assert str(settings.root) not in answer.json()["error"]


def test_a_guide_without_a_place_on_the_earth_is_one_line(client, make_raster):
    values = np.full((4, 60, 60), 2000, np.uint16)
    local = 'LOCAL_CS["x",UNIT["metre",1]]'
    make_raster("root/local.tif", values, names=BANDS, scale=1e-4, crs=local)
    query = {"scene": "root:s.tif", "model": "corrected", "guide": "root:local.tif"}
    about = client.get("/api/scene", params=query).json()
    assert "cannot be told in" in about["guide_problem"]
    assert "root/" not in about["guide_problem"]


@pytest.mark.slow
def test_a_guided_result_has_the_intervals_of_the_command(settings, tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "calibrated")
    made = with_guides(calibration(load(folder).weights_hash), {GuideClass.of(10, False): 60})
    made.save(folder)
    query = {"scene": "root:s.tif", "model": "calibrated", "guide": "root:coarse.tif"}
    app = create_app(replace(settings, models=(str(folder),)))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        # Of another day nothing was calibrated, and that it is of this day is not known.
        assert client.get("/api/scene", params=query).json()["levels"]["mean"] == []
        query["guide_days"] = "0"
        about = client.get("/api/scene", params=query).json()
        assert 0.8 in about["levels"]["mean"]
        assert about["familiarity"] is True
        wanted = {"interval": "0.8", "promise": "places", "familiarity": True}
        job = client.post("/api/jobs", json={**query, **wanted}, headers=OWN).json()["id"]
        while (done := client.get(f"/api/jobs/{job}").json())["state"] in ("waiting", "running"):
            pass
        assert len(done["files"]) == 3, done
        own = tmp_path / "own" / "s_nir.tif"
        own.parent.mkdir()
        load(folder).translate(
            settings.root / "s.tif",
            own,
            guide=settings.root / "coarse.tif",
            guide_days=0,
            interval=0.8,
            promise="places",
            familiarity=True,
            tile=256,
        )
        for name in done["files"]:
            got = client.get(f"/api/jobs/{job}/file/{name}").content
            assert got == (own.parent / name).read_bytes()
        report = client.get(f"/api/jobs/{job}/report").text
        assert "--guide-days 0 --interval 0.8 --promise places --familiarity" in report
        # The options stay for another job, also where the guide is deleted.
        shown = client.get("/api/scene", params={**query, "job": job}).json()
        assert shown["result"] is True
        assert 0.8 in shown["levels"]["mean"]
        (settings.root / "coarse.tif").unlink()
        shown = client.get("/api/scene", params={**query, "job": job}).json()
        assert (shown["result"], shown["guide_problem"]) == (True, "")
