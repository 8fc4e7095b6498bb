"""The page in a real browser, which reaches this machine only; see also `test_web.py`."""
# ruff: noqa: F811 (fixtures)

from __future__ import annotations

import base64
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from calibrated import calibration
from guided_models import BANDS, guided_model
from pages import (  # noqa: F401
    IN_BROWSER,
    SIZES,
    browser,
    loaded,
    open_page,
    proxied,
    serve,
    settings,
    write_guide,
    write_scene,
)

from crossband import load
from crossband.web import guides

pytestmark = IN_BROWSER
#: With CROSSBAND_SHOTS=FOLDER the tests leave pictures of the page there.
SHOTS = os.environ.get("CROSSBAND_SHOTS")


def shot(page, name):
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png")


def border(page):
    return page.evaluate(
        "getComputedStyle(document.querySelector('.leaflet-right-pane')).clip.split(' ')"
        ".pop().replace(/[^0-9.-]/g, '')"
    )


@pytest.mark.parametrize("size", SIZES)
def test_a_visitor_uploads_looks_translates_downloads_and_shares(
    settings, serve, open_page, tmp_path, size
):
    upload = write_scene(tmp_path / "<img src=x onerror=alert(1)>.tif")
    address = serve(settings)
    page = open_page(size)
    page.goto(address)
    page.set_input_files("#file", upload)
    page.wait_for_selector("#layers:not([hidden])")
    # Sides show source and synthetic band; the other two layers are chosen.
    loaded(page, "left")
    loaded(page, "right")
    assert "<img src_x" in page.inner_text("#scene-name")
    page.select_option("#left", "measured")
    loaded(page, "left")
    page.select_option("#right", "index-NDVI")
    loaded(page, "right")
    page.wait_for_selector("#scatter svg rect", state="attached")
    assert "MAE" in page.inner_text("#scatter-said")
    page.wait_for_selector("#histogram svg polygon", state="attached")
    page.select_option("#right", "synthetic")
    page.select_option("#left", "source")
    loaded(page, "right")

    # Swipe: by the mouse, then by the keyboard.
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator("#swipe").bounding_box()
    before = float(border(page))
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, middle, steps=5)
    page.mouse.up()
    assert int(page.input_value("#swipe")) > 70
    assert float(border(page)) > before
    by_mouse = float(border(page))
    page.focus("#swipe")
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    assert float(border(page)) < by_mouse

    # The value under the pointer, and by the keyboard that in the middle.
    map_box = page.locator("#map").bounding_box()
    page.mouse.move(map_box["x"] + map_box["width"] / 2, map_box["y"] + map_box["height"] * 0.35)
    page.wait_for_function("() => document.querySelectorAll('#values tr').length >= 4")
    assert "reflectance" in page.inner_text("#values")
    page.focus("#map")
    said = page.inner_text("#pixel")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "(said) => document.querySelector('#pixel').textContent !== said", arg=said
    )

    page.fill("#opacity", "60")
    assert page.evaluate("document.querySelector('.leaflet-right-pane').style.opacity") == "0.6"
    page.check("input[name=stretch][value=view]")
    loaded(page, "right")
    shot(page, f"{size}-layers")

    page.check("#indices input[value=NDVI]")
    page.click("#translate")
    page.wait_for_selector("#downloads a")
    with page.expect_download() as got:
        page.click("#downloads a >> nth=0")
    stored = next((settings.folder / "uploads").glob("*/file/*"))
    own = tmp_path / "own" / got.value.suggested_filename
    own.parent.mkdir()
    load(settings.models[0]).translate(stored, own, indices=["NDVI"])
    assert Path(got.value.path()).read_bytes() == own.read_bytes()
    with page.expect_download() as report:
        page.click("#downloads a >> nth=2")
    text = Path(report.value.path()).read_text()
    assert "crossband translate" in text
    assert "<img src_x" not in text
    assert "&lt;img src_x" in text
    loaded(page, "right")
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]

    # The link restores scene, layers, options and view.
    page.click("#copy")
    link = page.evaluate("navigator.clipboard.readText()")
    other = open_page(size)
    other.goto(link)
    loaded(other, "right")
    for name in ("left", "right", "opacity", "swipe"):
        assert other.input_value(f"#{name}") == page.input_value(f"#{name}")
    assert other.is_checked("input[name=stretch][value=view]")
    assert other.locator("#downloads a").count() == 3
    places = [
        p.evaluate("Object.fromEntries(new URLSearchParams(location.hash.slice(1)))")
        for p in (page, other)
    ]
    assert places[0]["z"] == places[1]["z"]
    assert float(places[0]["x"]) == pytest.approx(float(places[1]["x"]), abs=20)
    shot(other, f"{size}-restored")


def test_a_guide_corrects_what_is_seen_and_a_poor_one_is_told(settings, serve, open_page, tmp_path):
    write_guide(settings.root / "g.tif")
    page = open_page("desktop")
    page.goto(f"{serve(settings)}/#scene=root:fields.tif")
    loaded(page, "right")

    def error():
        page.wait_for_function("() => document.querySelector('#scatter-said').textContent")
        return float(re.search("MAE ([0-9.]+)", page.inner_text("#scatter-said"))[1])

    before = error()
    page.evaluate("document.querySelector('#scatter-said').textContent = ''")
    page.click("#root summary")
    page.click("[aria-label='Take g.tif as the guide']")
    page.wait_for_function("() => document.querySelector('#guide-said').textContent")
    loaded(page, "right")
    assert error() < before / 2
    assert "agreement" in page.inner_text("#guide-said")
    assert "guide: g.tif" in page.inner_text("#guide-name")
    shot(page, "desktop-guide")

    # One of another place: told as soon as it is looked at, and with the file.
    page.set_input_files("#guide-file", write_guide(tmp_path / "elsewhere.tif", seed=1))
    page.wait_for_selector("#guide-poor:not([hidden])")
    assert "Is it of another place" in page.inner_text("#guide-poor")
    page.click("#translate")
    page.wait_for_selector("#downloads a")
    assert "Is it of another place" in page.inner_text("#job-warnings")
    assert str(settings.folder) not in page.inner_text("#job-warnings")
    with page.expect_download() as got:
        page.click("#downloads a >> nth=0")
    guide = next((settings.folder / "uploads").glob("*/file/*"))
    own = tmp_path / "own" / got.value.suggested_filename
    own.parent.mkdir()
    load(settings.models[0]).translate(settings.root / "fields.tif", own, guide=guide)
    assert Path(got.value.path()).read_bytes() == own.read_bytes()

    # What cannot be a guide is said, and the result is shown without it.
    with rasterio.open(settings.root / "bad.tif", "w", **bad_profile()) as out:
        out.write(np.ones((1, 20, 20), np.uint8))
    page.evaluate("location.hash = location.hash.replace(/guide=[^&]*/, 'guide=root%3Abad.tif')")
    page.wait_for_selector("#guide-problem:not([hidden])")
    loaded(page, "right")
    assert "so you see the result without it" in page.inner_text("#guide-problem")


@pytest.mark.parametrize("size", SIZES)
def test_a_model_that_needs_a_guide_asks_for_it(settings, serve, open_page, tmp_path, size):
    model = guided_model(tmp_path / "guided", ("nir",), BANDS)
    guide = write_scene(tmp_path / "sent.tif")
    with rasterio.open(settings.root / "bad.tif", "w", **bad_profile()) as out:
        out.write(np.ones((1, 20, 20), np.uint8))
    page = open_page(size)
    page.goto(serve(replace(settings, models=(*settings.models, model))))
    page.click("#root summary")
    page.click("#files button.name:has-text('fields.tif')")
    loaded(page, "right")
    page.click("#guide-details summary")
    page.select_option("#guide-method", "linear")
    page.select_option("#model", "guided")
    page.wait_for_selector("#guide-wanted:not([hidden])")
    words = "This model needs a guide: a raster of the same place with red, green, blue and nir."
    assert page.inner_text("#guide-wanted") == words
    assert page.inner_text("#hint").startswith("Choose a guide")
    assert page.input_value("#right") == "source"
    assert page.is_hidden("#guide-method")
    loaded(page, "left")
    page.wait_for_function("() => document.querySelector('#histogram-said').textContent")
    assert "Choose a guide" in page.inner_text("#hint")
    page.click("#translate")
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error") == "This model needs a guide: choose one first."
    box = page.locator("#error").bounding_box()
    assert 0 <= box["y"] < SIZES[size][1]  # where the visitor is
    shot(page, f"{size}-guide-wanted")

    # By the keyboard: a button leads to the files on the server, of which one is not fit.
    page.focus("#guide-list")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.className === 'guide'")
    page.keyboard.press("Enter")
    page.wait_for_selector("#guide-name:has-text('guide: bad.tif')")
    assert "you see the source only" in page.inner_text("#guide-problem")
    assert page.is_visible("#guide-wanted")
    page.set_input_files("#guide-file", guide)
    page.wait_for_selector("#right option[value=synthetic]", state="attached")
    assert page.input_value("#right") == "synthetic"
    loaded(page, "right")
    page.wait_for_function(
        "() => document.querySelector('#guide-said').textContent.includes('trained')"
    )
    for name in ("#guide-wanted", "#job-wanted", "#hint", "#error"):
        assert page.is_hidden(name)
    page.click("#copy")
    link = page.evaluate("navigator.clipboard.readText()")
    other = open_page("phone")
    other.goto(link)
    loaded(other, "right")
    assert "guide: sent.tif" in other.inner_text("#guide-name")
    assert other.input_value("#model") == "guided"
    other.click("#translate")
    other.wait_for_selector("#downloads a")
    with other.expect_download() as got:
        other.click("#downloads a >> nth=0")
    own = tmp_path / "own" / got.value.suggested_filename
    own.parent.mkdir()
    sent = next((settings.folder / "uploads").glob("*/file/*"))
    load(model).translate(settings.root / "fields.tif", own, guide=sent)
    assert Path(got.value.path()).read_bytes() == own.read_bytes()
    shot(other, f"{size}-guide-trained")
    # Without its guide again, nothing of the result is left.
    page.click("#no-guide")
    page.wait_for_selector("#guide-wanted:not([hidden])")
    assert page.locator("#right option").count() == page.locator("#left option").count()
    assert "synthetic" not in page.inner_html("#right")


def bad_profile():
    return {"driver": "GTiff", "count": 1, "height": 20, "width": 20, "dtype": "uint8"}


def test_a_link_restores_the_options_of_the_job(settings, serve, open_page, tmp_path):
    folder = shutil.copytree(settings.models[0], tmp_path / "calibrated")
    calibration(load(folder).weights_hash).save(folder)
    address = serve(replace(settings, models=(str(folder),)))
    page = open_page("desktop")
    page.goto(f"{address}/#scene=root:fields.tif")
    loaded(page, "right")
    page.check("#indices input[value=NDVI]")
    page.select_option("#dtype", "float32")
    assert page.is_disabled("#promise")
    page.select_option("#interval", "0.8")
    page.select_option("#promise", "places")
    page.check("#familiarity")
    page.click("#copy")
    link = page.evaluate("navigator.clipboard.readText()")
    other = open_page("phone")
    other.goto(link)
    other.wait_for_selector("#job:not([hidden])")
    loaded(other, "right")
    assert other.is_checked("#indices input[value=NDVI]")
    assert not other.is_checked("#indices input[value=GNDVI]")
    assert other.input_value("#dtype") == "float32"
    assert other.input_value("#interval") == "0.8"
    assert other.input_value("#promise") == "places"
    assert other.is_checked("#familiarity")
    other.click("#translate")
    other.wait_for_selector("#downloads a")
    files = other.locator("#downloads a").all_inner_texts()
    parts = ["", "_NDVI"]
    wanted = [f"Download fields_nir{part}.tif" for part in parts]
    wanted += [f"Download fields_nir{part}.interval.tif" for part in parts]
    assert {*wanted, "Download fields_nir.familiarity.tif"} <= set(files)
    # The options stay after the job, and the layers then come from its file.
    assert other.is_checked("#indices input[value=NDVI]")
    own = load(folder).translate(
        settings.root / "fields.tif",
        tmp_path / "fields_nir.tif",
        indices=["NDVI"],
        dtype="float32",
        interval=0.8,
        promise="places",
        familiarity=True,
    )
    job = next((settings.folder / "jobs").iterdir()) / "out"
    for path in job.glob("*.tif"):
        assert path.read_bytes() == Path(own).with_name(path.name).read_bytes()


def test_a_link_outlives_its_job_and_a_wrong_one_opens_the_scene(settings, serve, open_page):
    address = serve(settings)
    page = open_page("desktop", refused=True)
    page.goto(f"{address}/#scene=root:fields.tif&job={'0' * 32}")
    loaded(page, "right")
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error") == "there is no such job: it may have been deleted"
    assert page.is_enabled("#translate")
    assert "job=" not in page.url
    page = open_page("desktop")
    page.goto(f"{address}/#scene=root:fields.tif&z=abc&x=NaN&y=1e999&swipe=x&opacity=x&promise=x")
    loaded(page, "right")
    assert page.is_hidden("#error")


def test_bands_and_sensor_are_asked_for(settings, serve, open_page, tmp_path):
    picture = tmp_path / "picture.png"
    values = np.random.default_rng(0).integers(0, 255, (4, 300, 400)).astype(np.uint8)
    profile = {"driver": "PNG", "count": 4, "height": 300, "width": 400, "dtype": "uint8"}
    with rasterio.open(picture, "w", **profile) as out:
        out.write(values)
    address = serve(settings)
    page = open_page("desktop")
    page.goto(address)
    page.set_input_files("#file", picture)
    page.wait_for_selector("#problem:not([hidden])")
    assert "--sensor" in page.inner_text("#problem")
    assert page.is_hidden("#layers")
    page.select_option("#sensor", "display")
    page.click("#reading button")
    page.wait_for_selector("#layers:not([hidden])")
    loaded(page, "right")
    assert "pixels" in page.inner_text(".leaflet-control-scale-line")


@pytest.mark.parametrize("keeps", [False, True], ids=["removes", "keeps"])
def test_a_reverse_proxy_publishes_the_page_below_a_path(
    settings, serve, open_page, tmp_path, keeps
):
    prefix = "/user/ann/proxy/8000"
    inner = serve(replace(settings, token="correct-horse", hosts=()), prefix if keeps else None)
    with proxied(inner, prefix, keeps) as address:
        page = open_page("desktop", refused=True)  # the form for the token is answered by 401
        page.goto(address)
        page.fill("#token", "correct-horse")
        page.click("button")
        page.set_input_files("#file", write_scene(tmp_path / "sent.tif"))
        page.wait_for_selector("#layers:not([hidden])")
        loaded(page, "right")
        assert page.url.startswith(f"{address}#")
        page.click("#root summary")
        page.click("#files button.name")
        page.wait_for_function("() => location.hash.includes('fields')")
        loaded(page, "right")
        page.click("#translate")
        page.wait_for_selector("#downloads a")
        with page.expect_download() as got:
            page.click("#downloads a >> nth=0")
        made = next((settings.folder / "jobs").glob("*/out/*.tif"))
        assert Path(got.value.path()).read_bytes() == made.read_bytes()
        page.reload()
        loaded(page, "right")
        page.context.close()


def test_a_guide_without_a_preview_is_told_over_the_map(settings, serve, open_page, monkeypatch):
    monkeypatch.setattr(guides, "_MOST", 400 * 400)
    write_guide(settings.root / "g.tif")
    page = open_page("desktop")
    page.goto(f"{serve(settings)}/#scene=root:fields.tif&guide=root:g.tif&guide_method=linear")
    page.wait_for_selector("#hint:not([hidden])")
    assert "translate the whole scene to see it with the guide" in page.inner_text("#hint")
    loaded(page, "right")
    assert page.input_value("#right") == "source"
    page.click("#translate")
    page.wait_for_selector("#downloads a")
    page.wait_for_selector("#right option[value=synthetic]", state="attached")
    assert page.input_value("#right") == "synthetic"
    loaded(page, "right")
    assert page.is_hidden("#hint")


def test_a_file_is_dropped_on_the_map(settings, serve, open_page, tmp_path):
    page = open_page("desktop")
    page.goto(serve(settings))
    page.wait_for_selector("#model option", state="attached")
    content = base64.b64encode(write_scene(tmp_path / "sent.tif").read_bytes()).decode()
    dropped = page.evaluate_handle(
        """(text) => {
            const made = new DataTransfer();
            const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            made.items.add(new File([bytes], "sent.tif"));
            return made;
        }""",
        content,
    )
    page.dispatch_event("#map", "dragover", {"dataTransfer": dropped})
    assert "over" in page.get_attribute("#empty", "class")
    page.dispatch_event("#map", "drop", {"dataTransfer": dropped})
    loaded(page, "right")
    assert "sent.tif" in page.inner_text("#scene-name")
    # On a desktop only the panel scrolls: the map stays where it is.
    page.locator("#copy").scroll_into_view_if_needed()
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")


def test_a_token_is_asked_for_once(settings, serve, open_page):
    address = serve(replace(settings, token="correct-horse", hosts=()))
    page = open_page("phone")
    page.route("**/favicon.ico", lambda route: route.abort())
    page.goto(f"{address}/?token=correct-horse")
    page.wait_for_selector("#model option", state="attached")
    assert "token" not in page.url


def test_everything_is_reached_by_the_keyboard(settings, serve, open_page):
    address = serve(settings)
    page = open_page("desktop")
    page.goto(f"{address}/#scene=root:fields.tif")
    loaded(page, "right")
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    wanted = {"map", "swipe", "file", "sensor", "bands", "model", "left", "right", "opacity"}
    assert wanted | {"translate", "copy", "whole", "dtype"} <= reached
    unnamed = page.evaluate(
        """[...document.querySelectorAll('input, select, button, progress')].filter((e) =>
            !e.labels?.length && !e.textContent.trim() && !e.ariaLabel).map((e) => e.id)"""
    )
    assert unnamed == []
