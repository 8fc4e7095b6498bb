"""Recipes and options that make no sense: one line, before anything is trained or written."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from crossband.cli.main import main
from crossband.core.memory import total_memory
from crossband.data.module import Pairs
from crossband.errors import CrossbandError, RecipeError
from crossband.training import recipe, recipe_parser, search_space
from crossband.training.recipe_keys import TrainerOptions

RECIPE = Path(__file__).parent / "recipe.yaml"
LAUGHS = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "\n".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)
)


def refusal(*options):
    """Return the one line with which options of a recipe are refused."""
    with pytest.raises(CrossbandError) as error:
        recipe_parser.instantiate(recipe_parser.parse(recipe.load(RECIPE, options)))
    line = str(error.value)
    assert len(line) < 400
    return line


OPTIONS = {
    "--seed=-1": "--seed must be 0 to 4294967295",
    f"--seed=1{'0' * 23}": "--seed is too large a number",
    f"--seed={2**32}": "--seed must be 0 to 4294967295",
    "--data.seed=-1": "data.seed must be at least 0",
    "--data.workers=-1": "data.workers must be at least 0, not -1",
    "--data.workers=5000": "data.workers must be at most 1024, not 5000",
    "--data.val_fraction=-0.5": "data.val_fraction must be at least 0",
    "--data.mix=2": "data.mix must be at most 1",
    "--data.folds=1": "data.folds must be at least 2",
    "--data.cache_mb=-1": "data.cache_mb must be at least 0",
    "--data.crop=1000000000": "data.crop must be at most 65536",
    "--data.resize=[0, 8]": "data.resize must be two sides",
    "--data.scale=1000": "data.scale must be at most 64",
    "--method.optimizer.lr=.nan": "lr is no number",
    "--method.optimizer.lr=.inf": "lr must be a finite number",
    "--data.batch=99999999999": "give a smaller data.batch",
    "--method.optimizer.lr=-1": "Invalid learning rate: -1.0",
    "--method.optimizer.betas=[2, 3]": "Invalid beta",
    "--method.generator.width=1000000000": "width must be at most 16,384",
    "--method.generator.width=-1": "width",
    "--method.generator.width=.inf": "width must be a finite number",
    "--method.generator.width=16384": "the memory of this machine",
    f"--method.generator.depth={'[' * 100_000}": "--method.generator.depth",
    "--method.generator=../../x": "cannot import ../../x",
    f"--name={'x' * 201}": "--name must be a line of at most 200 characters",
    "--name=[]": "--name must be a line",
    '--task="a\\eb"': "--task must be a line",
    "--trainer.devices=-1": "trainer.devices must be 1 to",
    "--trainer.num_nodes=0": "trainer.num_nodes must be 1 to",
    "--trainer.max_time=tomorrow": "trainer.max_time must be DD:HH:MM:SS",
    "--trainer.keep_last=1e400": "--trainer.keep_last",
    "--method.generator.in_channels=0": "takes 0 bands and gives 1",
}


@pytest.mark.parametrize(("option", "words"), OPTIONS.items(), ids=[o[:40] for o in OPTIONS])
def test_an_option_that_makes_no_sense_is_named(option, words, monkeypatch):
    # So that no machine is large enough; the layers are refused before they are made.
    monkeypatch.setattr(recipe_parser, "total_memory", lambda: 2**30)
    given = [option, "--data.manifest=pairs.csv"]
    with warnings.catch_warnings(action="error", category=UserWarning):
        assert words in refusal(*given)


def test_baselines_of_one_name_are_refused_before_the_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["fit", str(RECIPE), "--data.manifest=pairs.csv", "--baselines", "[linear, linear]"]
    assert main(given) == 2
    assert "--baselines: two are called linear" in capsys.readouterr().err


def test_the_command_says_so_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for option in ("--seed=-1", "--method.optimizer.lr=.nan", "--data.workers=-1"):
        given = ["fit", str(RECIPE), "--data.manifest=pairs.csv", option]
        assert main(given) == 2
        said = capsys.readouterr().err
        assert said.startswith("crossband: ")
        assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--trainer.max_time=00:12:00:00", "--data.val_fraction=0"])
def test_what_makes_sense_is_taken(option):
    recipe_parser.instantiate(
        recipe_parser.parse(recipe.load(RECIPE, [option, "--data.manifest=pairs.csv"]))
    )


def test_memory_is_known():
    assert (total_memory() or 2**30) >= 2**28


FILES = {
    "empty": ("", "a recipe is a YAML mapping"),
    "a list": ("[]", "a recipe is a YAML mapping"),
    "deep": ("[" * 100_000, "nested more than 64 deep"),
    "deep by lines": ("- " * 100_000, "nested more than 64 deep"),
    "laughs": (LAUGHS, "more than 100,000 values"),
    "itself": ("method: &a {class_path: *a}", r"\*a stands for nothing before it"),
    "a tag": ("method: !!python/name:os.system ''", "tag !!python/name:os.system"),
    "an object": ("!!python/object/apply:os.system [true]", "tag !!python/object/apply"),
    "twice": ("seed: 1\nseed: 2", "line 2: the key 'seed' is there twice"),
    "a key of a number": ("{1: 2}", "a key that is no text"),
    "NUL": ("seed: \0", "not YAML that can be read"),
    "large": ("# " + "x" * 2**20, "larger than 1 MiB"),
}


@pytest.mark.parametrize(("text", "words"), FILES.values(), ids=FILES)
def test_a_recipe_that_is_none(tmp_path, text, words):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=words) as error:
        recipe.load(path)
    assert str(path) in str(error.value)
    with pytest.raises(RecipeError, match=rf"--sweep {path}: "):
        search_space.read(path)


def test_a_pipe_is_no_recipe(tmp_path):
    os.mkfifo(tmp_path / "recipe.yaml")
    with pytest.raises(RecipeError, match=r"a FIFO, and no regular file|no such recipe file"):
        recipe.load(tmp_path / "recipe.yaml")
    with pytest.raises(RecipeError, match="a FIFO, and no regular file"):
        search_space.read(tmp_path / "recipe.yaml")


def test_constructors_check_themselves():
    with pytest.raises(RecipeError, match=r"data.workers must be at least 0"):
        Pairs("pairs.csv", workers=-1)
    with pytest.raises(RecipeError, match=r"trainer.devices must be 1 to"):
        TrainerOptions(devices=0)
