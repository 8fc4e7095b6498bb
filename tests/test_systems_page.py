"""docs/systems.md: it is what its numbers give, names every recipe, and shows a finished run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import tiny
from PIL import Image

from crossband.training import recipe

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import systems_page

    return systems_page


@pytest.fixture
def text(page):
    return page.page(DOCS)


def test_the_page_is_what_its_numbers_give(text):
    """Written anew by `python benchmarks/systems.py doc`."""
    assert (DOCS / "systems.md").read_text(encoding="utf-8") == text


def test_every_recipe_has_its_paragraph(page, text):
    plain = {"mean", "linear", "mlp", "bicubic"}
    wanted = {n for n in recipe.available() if n.split("/")[1] not in plain}
    assert set(page.STORIES) == wanted
    assert set(re.findall(r"^### `(.+)`$", text, re.MULTILINE)) == wanted
    for you, take, why in page.ADVICE:
        named = re.findall(r"`([\w-]+/[\w-]+)`", take)
        assert named, you
        assert set(named) <= set(recipe.available()), take
        assert why
    assert not re.search(r"\{\w+\[", text)
    assert "(not finished)" not in text


def test_relations_without_numbers_are_not_finished(page, tmp_path):
    shutil.copy(DOCS / "systems.json", tmp_path)
    text = page.page(tmp_path).split("## What papers say")[1]
    assert text.count("| not finished |") == 12
    row = {
        "text": "A is better",
        "measure": "kid",
        "first_is": "lower",
        "finished": True,
        "values": [1.0, 2.0],
        "difference": -1.0,
        "interval": [-1.5, -0.5],
        "verdict": "shown",
    }
    (tmp_path / "relations.json").write_text(json.dumps([row]))
    text = page.page(tmp_path).split("## What papers say")[1]
    assert (
        "| A is better | KID, thousandths | 1.00 | 2.00 | -1.00 (-1.50 to -0.50) | shown |" in text
    )


def test_a_relation_stays_until_its_runs_are_done_again(page):
    """As do its numbers where another session has begun anew."""
    from relations_shown import merged

    def row(relation, value=None):
        return {"relation": relation, "measure": "mae", "finished": value is not None, "at": value}

    kept = [row("a", 1), row("b", 2), row("c")]
    found = [row("a"), row("b", 3), row("c"), row("d")]
    assert merged(kept, found) == [row("a", 1), row("b", 3), row("c"), row("d")]


def test_pictures_of_the_page_are_there(text):
    shown = re.findall(r"!\[(.*?)\]\((.*?)\)", text)
    assert len(shown) >= 4
    for words, path in shown:
        assert words
        assert (DOCS / path).is_file(), path


def test_a_number_that_the_words_name_is_that_of_the_table(page, tmp_path):
    """Another error in the JSON changes paragraph, place and table alike."""
    kept = json.loads((DOCS / "systems.json").read_text(encoding="utf-8"))
    kept["rgb2nir"]["recipes"]["rgb2nir/mlp"]["metrics"]["mae"] = [0.0123]
    (tmp_path / "systems.json").write_text(json.dumps(kept))
    text = page.page(tmp_path)
    assert "their MAE is 0.0123 and" in text
    assert "| `mlp` | yes | 0.0123 |" in text
    assert "place 2 of 9" in text.split("### `rgb2nir/local-statistics`")[1].split("###")[0]


def test_a_finished_reference_run_is_shown(page, tmp_path):
    shutil.copy(DOCS / "systems.json", tmp_path)
    (tmp_path / "systems").mkdir()
    name = "rgb2nir/flow-matching"
    run = {
        "samples": 640_000,
        "metrics": {"model": {"mae": 0.05, "r": 0.7}, "linear": {"mae": 0.06}},
        "claims": [
            {"text": "error: from 2 to 1", "holds": True},
            {"text": "MAE 0.05, linear 0.06", "holds": True},
            {"text": "RMSE 0.05, mean 0.04", "holds": False},
        ],
        "slope": -1.25,
        "picture": "rgb2nir-flow-matching.png",
    }
    (tmp_path / "systems" / "reference.json").write_text(json.dumps({name: run}))
    part = page.page(tmp_path).split(f"### `{name}`")[1].split("###")[0]
    assert "not finished" not in part
    assert f"| `{name}` | 0.0500 | 0.700 |" in part
    assert "| `linear` | 0.0600 | - |" in part
    assert "- Shown: the error falls (here from 2 to 1); better than `linear` in MAE." in part
    assert "- Not shown: better than `mean` in RMSE (0.05 against 0.04)." in part
    assert "-1.2 %" in part
    assert "one draw" in part
    assert "(systems/rgb2nir-flow-matching.png)" in part


@pytest.mark.slow
def test_a_tiny_reference_run_is_collected_and_drawn(page, interpreters, tmp_path):
    import systems_reference

    table = pd.read_csv(tiny.pairs(tmp_path / "pairs", "rgb2nir", 6, 72, 80))
    table["split"] = ["train"] * 3 + ["val"] + ["test"] * 2
    table["group"] = [f"place {n}" for n in range(6)]
    for side in ("source", "target"):
        table[side] = [str(tmp_path / "pairs" / name) for name in table[side]]
    table.to_csv(tmp_path / "own.csv", index=False)
    name = "rgb2nir/wgan-gp-small"
    done = interpreters.run(
        ROOT / "benchmarks" / "reference.py", "run", "--only", name, "--steps", 2,
        "--manifest", tmp_path / "own.csv", "--output", tmp_path / "runs",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = systems_reference.collect(tmp_path / "runs", tmp_path / "docs" / "systems")
    assert list(found) == [name]
    run = found[name]
    assert run["samples"] == 2 * 16 * 5
    assert list(run["metrics"]) == ["model", "mean", "linear"]
    assert {claim["holds"] for claim in run["claims"]} <= {True, False}
    with Image.open(tmp_path / "docs" / "systems" / run["picture"]) as picture:
        assert picture.width > 500
    shutil.copy(DOCS / "systems.json", tmp_path / "docs")
    (tmp_path / "docs" / "systems" / "reference.json").write_text(json.dumps(found))
    text = page.page(tmp_path / "docs")
    assert "| after 160 samples | MAE |" in text
    assert f"(systems/{run['picture']})" in text


def test_curves_of_short_runs_are_drawn(page, tmp_path):
    import systems_doc

    curve = [[step, 0.3 / step] for step in (100, 200, 300)]
    numbers = {
        "rgb2nir/cnn": {"curve": curve},
        "rgb2nir/mlp": {"curve": curve},
        "rgb2nir/mean": {"curve": curve[:1]},
    }
    systems_doc.draw_curves(numbers, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 800
    (tmp_path / "curves.png").unlink()
    systems_doc.draw_curves({"rgb2nir/mean": {"curve": []}}, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()  # a baseline has no curve


def test_seeds_of_another_day_are_joined(page):
    import systems_doc

    before = {"a": {"seeds": [0, 1], "seconds": [5.0, 6.0], "metrics": {"mae": [0.1, 0.2]}}}
    new = {"a": {"seeds": [1, 2], "seconds": [7.0, 8.0], "metrics": {"mae": [0.3, 0.4]}}}
    found = systems_doc.joined(before | {"b": {"seeds": [0]}}, new)
    assert found["a"]["seeds"] == [1, 2, 0]
    assert found["a"]["seconds"] == [7.0, 8.0, 5.0]
    assert found["a"]["metrics"] == {"mae": [0.3, 0.4, 0.1]}
    assert found["b"] == {"seeds": [0]}


def test_only_what_is_missing_is_run(page):
    import systems

    every = systems.arguments(["run", "--unreferenced", "--seed", "0", "1"])
    missing = systems.arguments(["run", "--unreferenced", "--seed", "0", "1", "--missing"])
    first = systems.arguments(["run", "--unreferenced", "--seed", "0", "--missing"])
    kept = json.loads((DOCS / "systems.json").read_text(encoding="utf-8"))
    known = {n for task in kept.values() for n in task["recipes"]}
    assert "rgb2nir/mlp" in known
    assert not known & {name for _, name, _ in systems.jobs(first)}
    assert ("rgb2nir", "rgb2nir/mlp", 1) in systems.jobs(missing)
    assert len(systems.jobs(missing)) < len(systems.jobs(every))
