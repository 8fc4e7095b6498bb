"""The site: its generated pages, its links, and what a browser sees; `make docs` builds it."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from site_pages import api, families, options, streams

from crossband.cli.main import _parser
from crossband.series.options import SeriesKeywords
from crossband.translate.options import TranslateOptions

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CHROMIUM = os.environ.get("CROSSBAND_CHROMIUM") or shutil.which("chromium")


def leaves(parser, words=()):
    """Yield the words and the parser of each command that has options of its own."""
    for name, command in parser.commands.items():
        if not command.deprecated:
            yield from (
                leaves(command, (*words, name)) if command.commands else [((*words, name), command)]
            )


def test_every_option_of_every_command_is_in_the_reference():
    pages = options.pages()
    seen = set()
    for words, parser in leaves(_parser()):
        text = pages[f"commands/{words[0]}"]
        part = text.split(f"`crossband {' '.join(words)}`\n")[1].split("\n## ")[0]
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction) and action.help != argparse.SUPPRESS:
                for name in action.option_strings:
                    row = re.search(rf"^\| .*`{re.escape(name)}`.* \| .+ \|$", part, re.MULTILINE)
                    assert row, (words, name)
                    seen.add(name)
    assert {"--sensor", "--guide", "--manifest", "--promise", "--stratify"} <= seen


def test_the_page_lists_the_extras_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (DOCS / "install.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert rows == sorted(project["optional-dependencies"])


def test_the_keywords_of_the_reference_are_those_that_translate_and_series_take():
    page = api._options()
    listed = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(SeriesKeywords.__annotations__)
    assert TranslateOptions.of(allow_local_references=True).read.allow_local_references


def test_every_argument_of_a_class_has_a_meaning():
    for name, page in families.pages().items():
        rows = re.findall(r"^\| `\w+` \|.+\|$", page, re.MULTILINE)
        assert len(rows) > 10, name
        assert [row for row in rows if row.endswith("|  |")] == [], name


def test_lines_of_a_command_are_not_broken_where_its_output_was_read_in_pieces():
    def piece(name, text):
        return {"output_type": "stream", "name": name, "text": text}

    figure = {"output_type": "display_data"}
    pieces = [piece("stderr", "10 %\r"), piece("stdout", "nir.t"), piece("stderr", "done"), figure]
    merged = streams.merge([*pieces, piece("stdout", "if\nndvi.tif\n\n")])
    assert merged == [piece("stdout", "nir.tif\nndvi.tif\n"), piece("stderr", "done\n"), figure]


def public():
    """Yield name and function of all that the reference documents, methods included."""
    for _, _, modules in api.PAGES.values():
        for module, _, chosen in (text.partition(":") for text in modules):
            for name, member in vars(importlib.import_module(module)).items():
                if name.startswith("_") or getattr(member, "__module__", "") != module:
                    continue
                if chosen and name not in chosen.replace(",", "").split():
                    continue
                members = vars(member) if inspect.isclass(member) else {name: member}
                for inner, value in members.items():
                    function = getattr(value, "__func__", getattr(value, "fget", value))
                    if not inner.startswith("_") and inspect.isfunction(inspect.unwrap(function)):
                        yield f"{module}.{inner}", inspect.unwrap(function)


def test_the_reference_states_errors_and_shapes():
    found = 0
    for name, function in public():
        said = inspect.getdoc(function) or ""
        assert said, f"{name} has no docstring"
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        raised = {
            node.exc.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and isinstance(node.exc.func, ast.Name)
        }
        assert not raised or "Raises:" in said or raised & set(re.findall(r"\w+", said)), (
            f"{name} does not say that it raises {raised}"
        )
        kinds = [str(p.annotation) for p in inspect.signature(function).parameters.values()]
        if any(re.search("Tensor|NDArray|ArrayLike", kind) for kind in kinds):
            found += 1
            assert "[" in said or "shape" in said, f"{name} does not state the shape of its arrays"
    assert found > 20


def test_the_title_of_a_page_is_the_question_that_people_type():
    pages = [p for p in DOCS.rglob("*.md") if "generated" not in p.parts and p.name != "index.md"]
    texts = {p.name: p.read_text(encoding="utf-8") for p in pages}
    titles = {name: re.search("^# (.+)$", text, re.MULTILINE)[1] for name, text in texts.items()}
    assert len(titles) > 40
    assert [name for name, title in titles.items() if "?" not in title] == []
    assert len(set(titles.values())) == len(titles)


# ---- the built site --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site as `make docs` does; a warning is an error. Tutorials: `test_tutorials.py`."""
    for needed in ("sphinx", "furo", "myst_nb", "sphinx_copybutton"):
        pytest.importorskip(needed)
    folder = tmp_path_factory.mktemp("site")
    # In a process of its own: autodoc replaces the defaults of the functions that it describes.
    words = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(DOCS), str(folder)]
    built = subprocess.run(
        words,
        check=False,
        env=os.environ | {"CROSSBAND_TUTORIALS": "off"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return folder


class Page(HTMLParser):
    """The links of a page, its anchors, and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.loads = [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        elif values.get("src"):
            self.loads.append(values["src"])
        elif tag == "link" and values.get("rel") != "canonical":
            self.loads.append(values["href"])


@pytest.mark.slow
def test_internal_links_lead_to_pages_and_anchors_and_nothing_is_loaded_from_elsewhere(site):
    read = cache(Page)
    dead = []
    for path in sorted(site.rglob("*.html")):
        page = read(path)
        assert [a for a in page.loads if urlsplit(a).scheme not in ("", "data")] == [], path
        for link in {*page.links, *page.loads}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.is_file() or (
                anchor and target.suffix == ".html" and anchor not in read(target).anchors
            ):
                dead.append((path.name, link))
    assert dead == []


@pytest.mark.slow
def test_every_network_recipe_and_sensor_has_its_place(site):
    from crossband.core.registry import available
    from crossband.core.sensors import SENSORS
    from crossband.networks import Discriminator, Generator
    from crossband.training import recipe

    def text(name):
        return (site / "generated" / f"{name}.html").read_text(encoding="utf-8")

    ours = [
        (name, cls)
        for base in (Generator, Discriminator)
        for name, cls in available(base).items()
        if cls.__module__.startswith("crossband.")
    ]
    assert [name for name, _ in ours if f"<h3>{name}<" not in text("networks")] == []
    assert [name for name in recipe.available() if name not in text("recipes")] == []
    assert [name for name in SENSORS if f"<h2>{name}<" not in text("sensors")] == []


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt install chromium)")
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["desktop", "phone"])
def test_a_browser_opens_every_page_and_asks_no_server(site, size):
    """With CROSSBAND_SHOTS=FOLDER it leaves a picture of each page there."""
    sync_api = pytest.importorskip("playwright.sync_api")
    shots = os.environ.get("CROSSBAND_SHOTS")
    problems = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND"],
        )
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: m.type == "error" and problems.append(m.text))
        page.on(
            "request",
            lambda r: urlsplit(r.url).scheme not in ("file", "data") and problems.append(r.url),
        )
        for path in sorted(site.rglob("*.html")):
            if "_modules" in path.parts:
                continue
            name = path.relative_to(site).with_suffix("").as_posix()
            page.goto(path.as_uri())
            if page.evaluate("document.documentElement.scrollWidth") > size[0]:
                problems.append(f"{name} is wider than the window")
            if shots:
                picture = Path(shots) / f"{name.replace('/', '-')}-{size[0]}.png"
                page.screenshot(path=picture, full_page=True)
        browser.close()
    assert problems == []
