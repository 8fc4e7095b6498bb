"""What happens on the page while an answer is on its way; answers are held back on purpose."""
# ruff: noqa: F811 (fixtures)

from __future__ import annotations

import shutil
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from pages import (  # noqa: F401
    IN_BROWSER,
    browser,
    loaded,
    open_page,
    serve,
    settings,
    write_scene,
)

pytestmark = IN_BROWSER


class Held:
    """Requests of a page that are held back until they are let go."""

    def __init__(self, page, path, having=""):
        self.page, self.routes, self.open = page, [], False
        page.route(lambda url: urlsplit(url).path.endswith(path) and having in url, self.take)

    def take(self, route):
        """Hold a request, or pass it on."""
        if self.open:
            route.continue_()
        else:
            self.routes.append(route)

    def wait(self):
        """Wait until one is held."""
        while not self.routes:
            self.page.wait_for_timeout(20)

    def go(self):
        """Let all that are held and that come go on, and wait until they are answered."""
        self.open = True
        for route in self.routes:
            route.continue_()
        self.page.wait_for_timeout(500)


def said(page):
    return page.evaluate("Object.fromEntries(new URLSearchParams(location.hash.slice(1)))")


def is_open(page, name):
    page.wait_for_function(
        "(name) => document.querySelector('#scene-name').textContent.startsWith(name)", arg=name
    )
    loaded(page, "right")


@pytest.fixture
def two(settings, tiny_model, tmp_path):
    """Return settings with two scenes and two models."""
    write_scene(settings.root / "second.tif")
    other = shutil.copytree(tiny_model, tmp_path / "other")
    return replace(settings, models=(str(tiny_model), str(other)))


@pytest.mark.parametrize("late", ["api/offer", "static/main.js", "static/api.js"])
def test_a_file_that_is_chosen_before_the_page_has_started_is_opened(
    settings, serve, open_page, tmp_path, late
):
    page = open_page("phone")
    held = Held(page, late)
    page.goto(serve(settings), wait_until="commit")
    held.wait()
    page.set_input_files("#file", write_scene(tmp_path / "early.tif"))
    page.wait_for_timeout(100)
    held.go()
    is_open(page, "early.tif")


def test_controls_wait_for_the_start(two, serve, open_page):
    page = open_page("desktop")
    held = Held(page, "api/files")
    page.goto(f"{serve(two)}/#scene=root:fields.tif")
    held.wait()
    page.select_option("#model", "other")
    page.wait_for_timeout(100)
    held.go()
    is_open(page, "fields.tif")
    assert said(page)["model"] == "other"
    assert page.is_hidden("#error")


def test_the_scene_that_was_chosen_last_is_shown(two, serve, open_page):
    page = open_page("desktop")
    page.goto(serve(two))
    page.click("#root summary")
    held = Held(page, "api/scene", "fields")
    page.click("text=fields.tif")
    held.wait()
    page.click("text=second.tif")
    is_open(page, "second.tif")
    held.go()
    assert page.inner_text("#scene-name").startswith("second.tif")
    assert said(page)["scene"] == "root:second.tif"
    assert page.is_hidden("#error")


def test_a_model_that_is_changed_while_previews_are_computed(two, serve, open_page):
    page = open_page("desktop")
    held = Held(page, "", "api/tile/synthetic")
    page.goto(f"{serve(two)}/#scene=root:fields.tif&model=tiny")
    held.wait()
    asked = []
    page.on("request", lambda r: asked.append(parse_qs(urlsplit(r.url).query)))
    page.select_option("#model", "other")
    page.wait_for_function("() => location.hash.includes('model=other')")
    held.go()
    is_open(page, "fields.tif")
    page.select_option("#right", "index-NDVI")
    loaded(page, "right")
    page.wait_for_timeout(700)
    models = [query["model"][0] for query in asked if "model" in query]
    # From the first request for the new model on, nothing is asked of the old one.
    assert models
    assert set(models[models.index("other") :]) == {"other"}


def test_a_layer_and_a_place_of_the_old_scene_do_not_reach_the_new_one(two, serve, open_page):
    page = open_page("desktop")
    page.goto(f"{serve(two)}/#scene=root:fields.tif")
    is_open(page, "fields.tif")
    page.click("#root summary")
    held = Held(page, "api/scene", "second")
    chart = Held(page, "api/distribution/measured")
    page.select_option("#right", "measured")
    chart.wait()
    page.click("text=second.tif")
    held.wait()
    assert page.evaluate("document.querySelector('#layers').inert")
    page.focus("#map")
    page.keyboard.press("ArrowRight")
    assert "x" not in said(page)
    page.evaluate(
        """const left = document.querySelector('#left');
        left.value = 'measured'; left.dispatchEvent(new Event('change'))"""
    )
    assert "left" not in said(page)
    held.go()
    chart.go()
    is_open(page, "second.tif")
    page.wait_for_selector("#histogram svg polygon", state="attached")
    page.wait_for_function("() => document.querySelector('#histogram-said').textContent")
    assert said(page)["right"] == "synthetic"
    assert page.inner_text("#right-name") == "Synthetic nir"
    assert page.evaluate("!document.querySelector('#layers').inert")


def test_a_scene_that_cannot_be_opened_leaves_nothing_of_the_one_before(two, serve, open_page):
    page = open_page("desktop", refused=True)
    page.goto(f"{serve(two)}/#scene=root:fields.tif")
    is_open(page, "fields.tif")
    page.click("#root summary")
    (two.root / "second.tif").unlink()
    page.click("text=second.tif")
    page.wait_for_selector("#error:not([hidden])")
    assert page.is_hidden("#layers")
    assert page.is_visible("#empty")
    page.click("text=fields.tif")
    is_open(page, "fields.tif")
    assert page.is_hidden("#error")


def test_folders_are_listed_as_they_were_last_asked_for(settings, serve, open_page):
    for name in ("one", "two"):
        (settings.root / name).mkdir()
        write_scene(settings.root / name / f"in_{name}.tif")
    page = open_page("desktop")
    page.goto(serve(settings))
    page.click("#root summary")
    held = Held(page, "api/files", "folder=one")
    page.click("text=one/")
    held.wait()
    page.click("text=two/")
    page.wait_for_selector("text=in_two.tif")
    held.go()
    assert page.is_visible("text=in_two.tif")


def test_an_upload_does_not_take_the_place_of_what_was_chosen_after_it(
    two, serve, open_page, tmp_path
):
    page = open_page("desktop")
    page.goto(serve(two))
    page.click("#root summary")
    held = Held(page, "api/uploads")
    page.set_input_files("#file", write_scene(tmp_path / "sent.tif"))
    held.wait()
    page.click("text=second.tif")
    is_open(page, "second.tif")
    held.go()
    page.wait_for_timeout(1500)
    assert page.inner_text("#scene-name").startswith("second.tif")
    assert page.is_hidden("#upload-progress")


def test_a_job_goes_on_beside_a_scene_that_is_opened_meanwhile(two, serve, open_page):
    page = open_page("desktop")
    page.goto(f"{serve(two)}/#scene=root:fields.tif")
    is_open(page, "fields.tif")
    page.click("#root summary")
    held = Held(page, "api/jobs")
    page.click("#translate")
    held.wait()
    assert page.is_disabled("#translate")
    page.click("text=second.tif")
    is_open(page, "second.tif")
    held.go()
    page.wait_for_function(
        "() => document.querySelector('#other-jobs').textContent.includes('fields.tif, tiny: done')"
    )
    assert "job" not in said(page)
    assert page.locator("#downloads a").count() == 0
    assert page.is_enabled("#translate")
    # It is still there after the page was loaded anew, and its scene opens with it.
    page.reload()
    is_open(page, "second.tif")
    page.click("#other-jobs button")
    is_open(page, "fields.tif")
    page.wait_for_selector("#downloads a")
    assert page.is_hidden("#jobs")
    assert len(list((two.folder / "jobs").iterdir())) == 1


def test_two_clicks_order_one_job(settings, serve, open_page):
    page = open_page("desktop")
    page.goto(f"{serve(settings)}/#scene=root:fields.tif")
    is_open(page, "fields.tif")
    page.evaluate(
        "for (const i of [1, 2, 3]) document.querySelector('#translate').click()",
    )
    page.wait_for_selector("#downloads a")
    assert len(list((settings.folder / "jobs").iterdir())) == 1


def test_two_stretches_one_after_the_other_leave_no_tiles_behind(settings, serve, open_page):
    page = open_page("desktop")
    page.goto(f"{serve(settings)}/#scene=root:fields.tif")
    is_open(page, "fields.tif")
    # Only then the stretch of the scene is another than that of the model.
    page.wait_for_function("() => document.querySelector('#scatter-said').textContent")
    held = Held(page, "", "api/tile/")
    for stretch in ("model", "view", "scene"):
        page.check(f"input[name=stretch][value={stretch}]")
        page.wait_for_timeout(200)
    held.open = True  # the tiles of the last one come, while those before are still on their way
    page.check("input[name=stretch][value=model]")
    loaded(page, "left")
    loaded(page, "right")
    for side in ("left", "right"):
        tiles = f".leaflet-{side}-pane .leaflet-layer"
        page.wait_for_function("(t) => document.querySelectorAll(t).length == 1", arg=tiles)
