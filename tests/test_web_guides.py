"""A guide on the page: previews are corrected as the file is."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import rasterio
from affine import Affine

pytest.importorskip("starlette")

from crossband import load
from crossband.raster.grid import Box
from crossband.translate.options import TileOptions
from crossband.web import guides, previews
from crossband.web.guides import OpenGuide
from crossband.web.scenes import Choice
from crossband.web.server import Server
from crossband.web.settings import Settings

OWN = {"x-crossband": "1"}
RGB = ("red", "green", "blue")
HEIGHT, WIDTH = 560, 640
#: A preview and a file differ by the last bits of float32 only.
CLOSE = 3e-6


def at(pixel):
    return Affine(pixel, 0.0, 500_000.0, 0.0, -pixel, 5_000_000.0)


def fields(bands, height, width, size, seed=0):
    """Return fields of 400 m with noise, at pixels of `size` m, 0.03 to 0.5."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0.05, 0.4, (bands, 20, 20))
    rows, cols = (np.arange(n) * size // 400 for n in (height, width))
    noise = rng.normal(0, 0.01, (bands, height, width))
    return (coarse[:, rows.astype(int)][:, :, cols.astype(int)] + noise).clip(0.03, 0.5)


@pytest.fixture
def settings(tmp_path, tiny_model, make_raster):
    folder, root = tmp_path / "served", tmp_path / "root"
    folder.mkdir()
    root.mkdir()
    values = (fields(3, HEIGHT, WIDTH, 10) * 10_000).astype(np.uint16)
    make_raster("root/s.tif", values, names=RGB, scale=1e-4, transform=at(10.0))
    return Settings(folder, root.resolve(), models=(str(tiny_model),), tile=TileOptions(tile=256))


@pytest.fixture
def write_guide(make_raster):
    """Return a function that writes a guide of pixels of so many metres."""

    def write(pixel, names=("nir",), seed=1, name="root/g.tif"):
        height, width = (int(n * 10 / pixel) for n in (HEIGHT, WIDTH))
        values = fields(len(names), height, width, pixel, seed)
        values[:, : height // 8, : width // 8] = 0.0  # a hole
        stored = (values * 10_000).astype(np.uint16)
        make_raster(name, stored, names=names, scale=1e-4, transform=at(pixel), nodata=0)

    return write


def preview(settings, box, **choice):
    """Return what the page shows of a box of the result."""
    server = Server(settings)
    try:
        shown, layer = server.layer(Choice("root:s.tif", "tiny", **choice), "synthetic")
        for future in server.previews.ask(shown.scene, layer.cells(box)):
            future.result(120)
        return layer.read(box, 1), server.previews.computed, shown.guide
    finally:
        server.previews.close()


def translated(settings, path, **options):
    """Return the result as the command writes it, NaN where masked."""
    load(settings.models[0]).translate(
        settings.root / "s.tif",
        path,
        dtype="float32",
        tile=256,
        guide=settings.root / "g.tif",
        **options,
    )
    with rasterio.open(path) as file:
        return file.read(masked=True).filled(np.nan)


@pytest.mark.parametrize(
    ("pixel", "names", "method"),
    [
        (100.0, ("nir",), ""),
        pytest.param(20.0, ("nir",), "", marks=pytest.mark.slow),
        pytest.param(4.0, ("nir",), "", marks=pytest.mark.slow),
        pytest.param(50.0, (*RGB, "nir"), "", marks=pytest.mark.slow),
        pytest.param(50.0, (*RGB, "nir"), "difference", marks=pytest.mark.slow),
        pytest.param(50.0, ("nir",), "linear", marks=pytest.mark.slow),
        pytest.param(50.0, ("nir",), "histogram", marks=pytest.mark.slow),
    ],
)
def test_a_guided_preview_has_the_values_of_the_file(
    settings, write_guide, tmp_path, pixel, names, method
):
    write_guide(pixel, names)
    options = {"guide_method": method} if method else {}
    whole = translated(settings, tmp_path / "own.tif", **options)
    plain, _, _ = preview(settings, Box(200, 300, 90, 70))
    box = Box(200, 300, 90, 70)
    found, computed, guide = preview(settings, box, guide="root:g.tif", **options)
    np.testing.assert_allclose(found, whole[:, *box.slices()], rtol=0, atol=CLOSE)
    assert np.abs(found - plain).max() > 0.01
    assert computed <= 9  # each cell of the network once, however many blocks need it
    assert guide.note == ""
    corner = Box(0, 0, 40, 40)
    found, _, _ = preview(settings, corner, guide="root:g.tif", **options)
    np.testing.assert_allclose(found, whole[:, *corner.slices()], rtol=0, atol=CLOSE)


@pytest.mark.slow
def test_a_large_scene_is_computed_near_the_window_only(settings, write_guide, monkeypatch):
    write_guide(20.0)
    monkeypatch.setattr(guides, "_MOST", 400 * 400)
    monkeypatch.setattr(guides, "_SIDE", 64)
    _, computed, guide = preview(settings, Box(0, 0, 20, 20), guide="root:g.tif")
    assert guide.note == ""
    assert computed == 4
    write_guide(100.0)
    with pytest.raises(Exception, match="no layer 'synthetic'"):
        preview(settings, Box(0, 0, 20, 20), guide="root:g.tif")
    server = Server(settings)
    for more, words in (({}, "large"), ({"guide_method": "linear"}, "whole result at once")):
        choice = Choice("root:s.tif", "tiny", guide="root:g.tif", **more)
        assert words in server.shown(choice).guide.note
    server.previews.close()


@pytest.mark.slow
def test_a_picture_gets_the_unit_of_its_guide(settings, write_guide, make_raster, tmp_path):
    values = (fields(3, HEIGHT, WIDTH, 10) * 510).clip(0, 255).astype(np.uint8)
    make_raster("root/s.tif", values, names=RGB, unit="display", transform=at(10.0))
    write_guide(50.0)
    whole = translated(settings, tmp_path / "own.tif")
    box = Box(300, 100, 80, 120)
    found, _, guide = preview(settings, box, guide="root:g.tif")
    assert guide.unit == "reflectance"
    assert "agreement" in guide.said
    assert "Is it of another place" in guide.poor
    np.testing.assert_allclose(found, whole[:, *box.slices()], rtol=0, atol=CLOSE)
    server = Server(settings)
    choice = Choice("root:s.tif", "tiny", guide="root:g.tif")
    shown, layer = server.layer(choice, "synthetic")
    assert layer.unit == "reflectance"
    assert layer.ranges == tuple(shown.model.signature.units["reflectance"].target)
    server.previews.close()


@pytest.mark.slow
def test_a_guide_leaves_threads_to_others(settings, write_guide, monkeypatch):
    """Cells of one guide are computed one after the other, and the network's beside them."""
    write_guide(20.0)
    monkeypatch.setattr(previews.torch, "get_num_threads", lambda: 2)
    server = Server(settings)
    guided = server.layer(Choice("root:s.tif", "tiny", guide="root:g.tif"), "synthetic")
    plain = server.layer(Choice("root:s.tif", "tiny"), "synthetic")
    reached, go = threading.Event(), threading.Event()
    correct = OpenGuide.correct

    def held(self, result, box):
        reached.set()
        go.wait(60)
        return correct(self, result, box)

    monkeypatch.setattr(OpenGuide, "correct", held)
    whole = Box(0, 0, HEIGHT, WIDTH)
    waiting = server.previews.ask(guided[0].scene, guided[1].cells(whole))
    assert reached.wait(60)
    for future in server.previews.ask(plain[0].scene, plain[1].cells(whole)):
        future.result(60)
    assert not any(future.done() for future in waiting)
    go.set()
    for future in waiting:
        future.result(60)
    assert server.previews.computed == 9
    server.previews.close()
