"""`fit`: recipes by name, overrides, what lies in the output folder, resume, Ctrl-C, bad input."""

from __future__ import annotations

import json
import signal
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
import xarray as xr
import yaml
from fitting import RECIPE, options, same_weights
from tiers import slow

from crossband import load
from crossband.cli.main import main
from crossband.core.hidden_folder import HiddenFolder
from crossband.core.signature import Signature, UnitRange
from crossband.data import manifest
from crossband.errors import (
    CrossbandError,
    CrossbandWarning,
    Interrupted,
    ManifestError,
    OutputError,
    RecipeError,
    TrainingError,
)
from crossband.evaluation.calibrate import calibrate
from crossband.evaluation.evaluate import evaluate
from crossband.evaluation.rows import select_split
from crossband.model.training_data import read_training_data, trained_units
from crossband.networks.base import Generator
from crossband.networks.generators.familiar_blend import FamiliarBlend
from crossband.training import (
    fit_baselines,
    recipe,
    recipe_parser,
    run_folder,
    training_pairs,
)
from crossband.training.callbacks.stopping import StopRequest
from crossband.training.fit import fit
from crossband.training.methods.base import Method
from crossband.training.run import TrainingRun


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, make_pairs):
    return make_pairs(tmp_path_factory.mktemp("pairs"))


def model_names(model):
    return list(model.network.state_dict())


def test_a_model_lists_the_pairs_that_it_was_trained_on(pairs, tmp_path):
    folder = fit(RECIPE, options(pairs, "--seed=3", "--licence", "CC-BY-4.0"), tmp_path / "run")
    listed = read_training_data(folder)
    table = manifest.read(tmp_path / "run/pairs.csv")
    trained = {Path(p).name for p in table.loc[table["split"] == "train", "target"]}
    assert {name.rpartition("/")[2] for name in listed.values()} == trained
    for split, count in (("train", len(listed)), ("val", 0)):
        report = evaluate([folder], tmp_path / "run/pairs.csv", tmp_path / split, split=split)
        assert report.metrics["models"][0]["trained_on"] == count
    assert load(folder).about["licence"] == "CC-BY-4.0"
    assert "Licence of the weights: CC-BY-4.0." in (folder / "README.md").read_text()


def test_a_scene_of_a_unit_that_nothing_trained_is_told(pairs, tmp_path, make_raster):
    def trained(name, *more):
        words = options(pairs, "--data.crop=16", *more)
        return fit("rgb2nir/mlp", words, tmp_path / name, fast_run=True, baselines=False)

    folder = trained("run")
    model = load(folder)
    assert {"reflectance", "display"} <= set(model.signature.units)
    assert list(model.about["training"]["data"]["units"]) == ["reflectance"]
    scene = make_raster(values=np.full((3, 40, 40), 90, np.uint8), unit=None)
    said = "trained on reflectance alone, and these are values of display"
    with pytest.warns(CrossbandWarning, match=said):
        model.translate(scene, tmp_path / "nir.tif", sensor="display")
    with pytest.warns(CrossbandWarning, match=said):
        model.translate(scene, sensor="display")
    array = xr.DataArray(np.full((3, 40, 40), 90, np.uint8), dims=("band", "y", "x"))
    named = array.assign_coords(band=["red", "green", "blue"])
    with pytest.warns(CrossbandWarning, match=f"the array: .*{said}"):
        model.translate(named.chunk(), sensor="display")
    again = load(trained("again", "--start", str(folder)))
    assert again.about["training"]["start"]["units"] == ["reflectance"]
    assert trained_units(again.about, again.signature) == {"reflectance"}


@pytest.mark.parametrize(
    ("recorded", "units"),
    [
        ({"data": {"units": {"display": 4}}, "start": None}, {"display"}),
        ({"data": {"units": {"display": 4}}, "start": {"units": ["display"]}}, {"display"}),
        ({"data": {"units": {"display": 4}}, "start": {}}, {"reflectance", "display"}),
        ({"data": {"units": ["display"]}}, {"reflectance", "display"}),
        ({"data": {"units": {"sunshine": 1}}}, {"reflectance", "display"}),
        (7, {"reflectance", "display"}),
    ],
)
def test_units_of_the_training_are_those_recorded(recorded, units):
    known = {unit: UnitRange([(0, 1)], [(0, 1)]) for unit in ("reflectance", "display")}
    assert trained_units({"training": recorded}, Signature(["red"], ["nir"], known)) == units


@pytest.mark.parametrize("name", ["../../x", "a/b", ".."])
def test_a_name_that_is_no_folder_of_runs_is_refused(pairs, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="is no name of a folder in runs/: give --output"):
        fit(RECIPE, options(pairs, f"--name={json.dumps(name)}"))
    assert not (tmp_path / "runs").exists()


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_a_run_goes_on_with_its_own_pairs_and_steps(pairs, tmp_path):
    """Its files would say that the weights were trained on others."""
    fit(RECIPE, options(pairs, "--seed=3"), tmp_path / "run", baselines=False)
    before = contents(tmp_path / "run")
    table = manifest.read(tmp_path / "run/pairs.csv")
    table["split"] = ["train", *table["split"][:-1]]
    table.to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(RecipeError, match=r"trained on other pairs: \d of \d are new"):
        fit(
            RECIPE, options(tmp_path / "other.csv", "--seed=3"), tmp_path / "run", resume=True,
            baselines=False,
        )  # fmt: skip
    with pytest.raises(RecipeError, match=r"the run is at step \d+ already, and max_steps is 1"):
        fit(
            RECIPE, options(pairs, "--seed=3", "--method.max_steps=1"), tmp_path / "run",
            resume=True, baselines=False,
        )  # fmt: skip
    with pytest.raises(RecipeError, match=r"the run is at step \d+ already, and max_steps is 2"):
        fit(
            RECIPE, options(pairs, "--seed=3"), tmp_path / "run", resume=True, fast_run=True,
            baselines=False,
        )  # fmt: skip
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("wrong", ["--trainer.monitor=val/foo", "--method.optimizer.lr=1e30"])
def test_a_run_that_fails_at_once_leaves_the_earlier_one(pairs, tmp_path, wrong):
    given = options(pairs, "--seed=3", "--method.max_steps=4", "--data.steps=4")
    fit(RECIPE, given, tmp_path / "run", baselines=False)
    before = contents(tmp_path / "run")
    with pytest.raises(CrossbandError):
        fit(RECIPE, [*given, wrong], tmp_path / "run", overwrite=True, baselines=False)
    assert contents(tmp_path / "run") == before
    fit(RECIPE, [*given, "--seed=4"], tmp_path / "run", overwrite=True, baselines=False)
    assert not (tmp_path / "run" / ".before").exists()
    assert contents(tmp_path / "run") != before


@pytest.mark.parametrize("stop", range(6))
def test_a_kill_while_a_run_is_put_aside_loses_nothing(pairs, tmp_path, stop):
    given = options(pairs, "--seed=3", "--method.max_steps=4", "--data.steps=4")
    fit(RECIPE, given, tmp_path / "run", baselines=False)
    before, left = contents(tmp_path / "run"), [stop]

    def killed(function):
        def counted(*args, **more):
            if not left[0]:
                raise SystemExit("killed")
            left[0] -= 1
            return function(*args, **more)

        return counted

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_folder.shutil, "copyfile", killed(run_folder.shutil.copyfile))
        patched.setattr(Path, "rename", killed(Path.rename))
        patched.setattr(Path, "touch", killed(Path.touch))
        with pytest.raises(SystemExit), run_folder.run_folder(tmp_path / "run", False, True):
            pass
    for resume in (True, False):
        with pytest.raises(KeyError), run_folder.run_folder(tmp_path / "run", resume, not resume):
            raise KeyError
        assert contents(tmp_path / "run") == before


def test_a_run_that_was_killed_at_its_start_goes_on_without_the_earlier(pairs, tmp_path):
    given = options(pairs, "--seed=3", "--method.max_steps=4", "--data.steps=4")
    fit(RECIPE, given, tmp_path / "run", baselines=False)
    weights = (tmp_path / "run/model/model.safetensors").read_bytes()
    run_folder._set_aside(tmp_path / "run")  # and then it was killed
    more = [*given, "--method.optimizer.lr=0.05"]
    fit(RECIPE, more, tmp_path / "run", resume=True, baselines=False)
    fit(RECIPE, more, tmp_path / "new", baselines=False)
    made = (tmp_path / "run/model/model.safetensors").read_bytes()
    assert made == (tmp_path / "new/model/model.safetensors").read_bytes()
    assert made != weights
    assert not (tmp_path / "run/.before").exists()


def test_time_is_counted_from_where_a_run_goes_on(pairs, tmp_path, capsys):
    given = options(pairs, "--method.max_steps=100000", "--trainer.max_time=00:00:00:01")
    steps = []
    for resume in (False, True):
        folder = fit(RECIPE, given, tmp_path / "run", resume=resume, baselines=False)
        steps.append(load(folder).about["training"]["steps"])
        said = capsys.readouterr().err
        assert f"trainer.max_time is over at step {steps[-1]} of 100000: --resume goes on" in said
    assert steps[1] > steps[0] > 0


def test_names_and_files_are_no_yaml(pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("pairs #1.csv", "a: b.csv"):
        (tmp_path / name).touch()
        config = recipe.load(RECIPE, ["--data.manifest", name, "--name", "2024"])
        assert config["data"]["init_args"]["manifest"] == name
        assert config["name"] == "2024"
    assert recipe.load(RECIPE, ["--licence", "1.0"])["licence"] == "1.0"


def test_columns_to_stratify_by_are_for_a_new_split(pairs, tmp_path):
    manifest.read(pairs).assign(split=["train", "train", "val", "test"]).to_csv(
        tmp_path / "split.csv", index=False
    )
    with pytest.raises(ManifestError, match=r"data\.stratify is for a new split"):
        fit(RECIPE, options(tmp_path / "split.csv", "--data.stratify=[sensor]"), tmp_path / "run")


def test_a_loss_of_negative_weight_is_refused(pairs, tmp_path):
    with pytest.raises(RecipeError, match=r"L1: weight must be 0 or more, not -1"):
        fit(RECIPE, options(pairs, "--method.losses.0.weight=-1"), tmp_path / "run")


def test_fit_alone_lists_recipes_and_with_options_wants_one(capsys):
    for words in (["--resume"], ["-o", "x"], ["--fast-run"]):
        assert main(["fit", *words]) == 2
        assert "name a recipe first" in capsys.readouterr().err
    assert main(["fit"]) == 0


class _Halving(Generator):
    """Makes half of the rows."""

    in_channels, out_channels, margin = 3, 1, 0

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 1, 1)

    def forward(self, x):
        return self.layer(x)[:, :, ::2]


def test_a_network_of_ones_own_is_told_of_and_checked(pairs, tmp_path):
    given = options(pairs, f"--method.generator={__name__}._Halving")
    with (
        pytest.warns(CrossbandWarning, match="found by no entry point crossband.generator"),
        pytest.raises(RecipeError, match=r"_Halving made \[2, 1, 8, 16\] for a target of"),
    ):
        fit(RECIPE, given, tmp_path / "run", baselines=False)


def test_targets_too_large_to_hash_are_counted(pairs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training_pairs, "MOST_VALUES", 1)
    folder = fit(RECIPE, options(pairs, "--seed=3"), tmp_path / "run")
    assert "lacks 0 that cannot be read and 3 of more than 1 values" in capsys.readouterr().err
    assert read_training_data(folder) == {}


def test_what_a_run_leaves(pairs, tmp_path, capsys):
    small = options(pairs, "--method.max_steps", "6", "--data.steps", "3")
    folder = fit(RECIPE, [*small, "--seed=3"], tmp_path / "run")
    about = json.loads((folder / "model.json").read_text())["about"]["training"]
    assert (about["seed"], about["steps"], about["samples"]) == (3, 6, 12)
    assert about["versions"]["torch"] == torch.__version__
    assert (about["data"]["pairs"], len(about["data"]["val_groups"])) == (3, 1)
    assert len(about["data"]["fingerprint"]) == 64
    assert about["config"]["method"]["init_args"]["generator"]["init_args"]["width"] == 8
    found = {p.name for p in (tmp_path / "run").iterdir()}
    assert found == {"config.yaml", "pairs.csv", "checkpoints", "logs", "model"}
    split = manifest.read(tmp_path / "run/pairs.csv")
    held_out = split.loc[split["split"] == "val", "group"]
    assert held_out.tolist() == about["data"]["val_groups"]
    assert len(split) == 4
    assert {p.name for p in (tmp_path / "run/checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    assert list((tmp_path / "run/logs").glob("events.*"))
    # The configuration that lies there is a recipe, and gives the same weights again.
    again = fit(tmp_path / "run/config.yaml", [], tmp_path / "again")
    assert same_weights(again, folder)
    err = capsys.readouterr().err
    assert "val 0." in err
    assert "Lightning" not in err
    assert "warn" not in err.lower()


def test_the_models_weights_are_the_averages(pairs, tmp_path):
    arguments = options(pairs, "--method.max_steps", "4")
    model = load(fit(RECIPE, arguments, tmp_path / "run"))
    state = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, state[f"average.{name}"])
    same = [torch.equal(state[f"average.{n}"], state[f"generator.{n}"]) for n in model_names(model)]
    assert not all(same)


def test_baselines_are_fitted_on_the_same_pairs(pairs, quick, tmp_path):
    """The truth is a straight line, so the linear baseline must find it."""
    arguments = options(pairs, "--method.max_steps", "2", "--data.steps", "2")
    arguments += ["--baselines", f"[{quick('linear')}, {quick('mean')}]"]
    model = load(fit(RECIPE, arguments, tmp_path / "run"))
    source = torch.rand(3, 8, 8) * 0.25
    expected = 0.05 + 0.6 * source[:1] + 0.4 * source[1:2]
    torch.testing.assert_close(model.baselines["linear"](source), expected, atol=1e-4, rtol=0)
    assert model.baselines["mean"](source).unique().numel() == 1
    assert model.baselines["mean"](source).mean().item() == pytest.approx(0.21, abs=0.01)


def test_calibrating_on_the_training_pairs_is_warned_of(pairs, tmp_path):
    """It was done without a word, and promised what does not hold."""
    fit(RECIPE, options(pairs, "--method.max_steps=2", "--data.steps=2"), tmp_path / "run")
    model, kept = load(tmp_path / "run" / "model"), tmp_path / "run" / "pairs.csv"
    with pytest.warns(CrossbandWarning, match=r"was trained on (\d) of \1 pairs"):
        calibrate(model, kept, split="train")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        calibrate(model, kept, split="val")
    assert not any("was trained on" in str(one.message) for one in heard)


def test_a_run_keeps_the_rows_that_judge_it(make_pairs, tmp_path):
    """They were left out of its `pairs.csv`, so that `evaluate` judged by those of validation."""
    path = make_pairs(tmp_path)
    table = pd.read_csv(path).assign(split=["train", "train", "val", "test"])
    table.to_csv(path, index=False)
    fit(RECIPE, options(path, "--method.max_steps=2", "--data.steps=2"), tmp_path / "run")
    kept = manifest.read(tmp_path / "run" / "pairs.csv")
    assert kept["split"].tolist() == ["train", "train", "val", "test"]
    assert select_split(kept, None)[1] == "test"


def test_a_runs_configuration_gives_its_baselines_again(pairs, quick, tmp_path):
    """It states the default precision, where the recipe of the perceptron has one of its own."""
    words = ["--method.max_steps=2", "--data.steps=2", f"--baselines=[{quick('mlp')}]"]
    first = fit(RECIPE, options(pairs, *words, "--blend={mlp: 0.5}"), tmp_path / "a")
    again = fit(tmp_path / "a" / "config.yaml", [], tmp_path / "b")
    assert same_weights(again, first)
    found = [
        json.loads((tmp_path / run / "checkpoints/baselines/mlp/model.json").read_text())["about"]
        for run in "ab"
    ]
    assert found[0] == found[1]
    config = found[0]["fitted_from"]["config"]
    assert config["precision"] == "fp32"
    assert config["data"]["init_args"]["balance"] == ["group"]
    fit(RECIPE, options(pairs, *words, "--precision=bf16"), tmp_path / "c")
    kept = tmp_path / "c" / "checkpoints/baselines/mlp/model.json"
    assert json.loads(kept.read_text())["about"]["fitted_from"]["config"]["precision"] == "bf16"


def test_without_baselines_there_is_no_blend_and_the_end_says_what_to_type(
    line_pairs, tmp_path, capsys
):
    """Also that a baseline is a phase with a name."""
    words = ["fit", "rgb2nir/linear", "--data.manifest", str(line_pairs), "--method.max_steps", "1"]
    words += ["--baselines", "[rgb2nir/mean]", "--blend", "{mean: 0.5}", "-o", str(tmp_path / "a")]
    assert main([*words, "--no-baselines"]) == 2
    assert "'mean' is no baseline of this run" in capsys.readouterr().err
    config = {"baselines": ["rgb2nir/mean"], "blend": {"mean": 0.5}}
    fit_baselines.leave_out(config, [])
    assert config == {"baselines": None, "blend": None}
    assert "the model is the network alone" in capsys.readouterr().err
    assert main([*words[:6], "-o", str(tmp_path / "b"), "--fast-run"]) == 0
    model, pairs = tmp_path / "b/model", tmp_path / "b/pairs.csv"
    err = capsys.readouterr().err
    assert "no pair to validate on" not in err
    assert err.splitlines()[-2:] == [
        f"next: crossband evaluate --model {model} --manifest {pairs} -o {tmp_path / 'b/report'}",
        f"next: crossband translate SCENE.tif -o RESULT.tif --model {model}",
    ]
    assert "after the training" not in err  # this recipe has none
    alone = [*words[:6], "-o", str(tmp_path / "c"), "--fast-run", "--data.val_fraction", "0"]
    assert main([*alone, "--baselines", "[rgb2nir/mean]"]) == 0
    err = capsys.readouterr().err
    assert "crossband: no pair to validate on" in err
    assert "these baselines are fitted to the same pairs: mean;" in err


# Overrides and their names.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method.generator.widht", "3"], "unknown option --method.generator.widht (LocalUNet)"),
        (["--data.manifst", "x"], "did you mean --data.manifest?"),
        (["--method.optimizer.lrr", "1"], "did you mean --method.optimizer.lr?"),
        (["--method.losses.1.indx", "EVI"], "did you mean --method.losses.1.index?"),
        (["--data.transforms.1.gian", "1"], "did you mean --data.transforms.1.gain?"),
        (["--method.signature.sources", "[red]"], "did you mean --method.signature.source?"),
        (["--trainer.device", "2"], "did you mean --trainer.devices?"),
        (["--metod.max_steps", "1"], "did you mean '--method'?"),
        (["--method.generator", "LocalUnt"], "unknown Generator 'LocalUnt': did you mean"),
        (["--method", "PairedGN"], "unknown Method 'PairedGN': did you mean 'PairedGAN'?"),
        (["--method.optimizer", "Adm"], "did you mean 'Adam'?"),
        (["--method.generator", "os.system"], "--method.generator"),
        (["--method.losses.9.weight", "1"], "'9' is none of the 2"),
        (["--method.max_steps", "many"], "--method.max_steps: Expected a int. Got value: many"),
        (["--method.generator.width", "[8]"], "--method.generator.width"),
        (["--method.schedule", "Cosin"], "unknown Schedule 'Cosin': did you mean 'Cosine'?"),
        (["--method.schedule.warmpu", "5"], "did you mean --method.schedule.warmup?"),
        (["--method.ema_dacay", "0"], "did you mean --method.ema_decay?"),
        (["--method.max_stepps", "9"], "did you mean --method.max_steps?"),
        (["--method.on_nan", "ignore"], "--method.on_nan"),
        (["--method.critic_steps", "2"], "adversarial_weight is 0"),
        (["--method.losses.1.index", "NDVY"], "did you mean 'NDVI'?"),
        (["--method.generator.in_channels", "4"], "the generator takes 4 bands"),
        (["--method.discriminator.width", "8"], "name of a class"),
        (["--method.adversarial_weight", "1"], "there is no discriminator"),
        (["--data.fold", "9"], "data.fold must be 0 to 3"),
        (["--seed"], "--seed needs a value"),
        (["max_steps=1"], "unexpected 'max_steps=1'"),
        (["--baselines", "[rgb2nir/maen]"], "did you mean 'rgb2nir/mean'?"),
        (["--device", "gpu"], "--device: Expected"),
    ],
)
def test_wrong_options_are_one_line_and_nothing_is_written(pairs, tmp_path, arguments, message):
    with pytest.raises(RecipeError) as error:
        fit(RECIPE, options(pairs, *arguments), tmp_path / "run")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250
    assert not (tmp_path / "run").exists()


def test_unknown_recipes(tmp_path):
    with pytest.raises(RecipeError, match="did you mean 'rgb2nir/local-unet'"):
        fit("rgb2nir/local-unt", [], tmp_path / "run")
    with pytest.raises(RecipeError, match="no such recipe file"):
        fit(tmp_path / "mine.yaml", [], tmp_path / "run")
    (tmp_path / "mine.yaml").write_text("a: [")
    with pytest.raises(RecipeError, match="not YAML"):
        fit(tmp_path / "mine.yaml", [], tmp_path / "run")
    with pytest.raises(RecipeError, match=r"--data.manifest is missing"):
        fit(RECIPE, [], tmp_path / "run")


def test_bad_data_writes_nothing(pairs, tmp_path):
    with pytest.raises(ManifestError, match="no such manifest"):
        fit(RECIPE, ["--data.manifest", "nothing.csv"], tmp_path / "run")
    with pytest.raises(ManifestError, match="no column 'biome'"):
        fit(RECIPE, options(pairs, "--data.balance", "[biome]"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_overrides_reach_the_constructors(pairs):
    arguments = options(pairs, "--method.optimizer.lr=1e-3", "--method.losses.1.weight=.5")
    arguments += ["--method.generator", "PerPixelMLP", "--method.generator.width", "9"]
    arguments += ["--data.resolution", "[1, 2]", "--method.generator.in_channels=3"]
    built = recipe_parser.instantiate(recipe_parser.parse(recipe.load(RECIPE, arguments)))
    assert type(built.method.generator).__name__ == "PerPixelMLP"
    assert built.method.generator.hidden[0].out_channels == 9
    assert built.method.losses[1].weight == 0.5
    assert built.method.configure_optimizers()[0].defaults["lr"] == 1e-3
    assert built.data.resolution == (1.0, 2.0)


def test_what_a_recipe_leaves_out_is_the_classes_own_default(pairs):
    """A default of another optimiser once leaked its weight decay into the MLP baseline's Adam."""
    built = recipe_parser.instantiate(
        recipe_parser.parse(recipe.load("rgb2nir/mlp", options(pairs)))
    )
    for group in built.method.configure_optimizers()[0].param_groups:
        assert group["weight_decay"] == 0.0
        assert group["betas"] == (0.9, 0.999)
    arguments = options(pairs, "--method.optimizer", "Adam", "--method.optimizer.lr", "0.5")
    built = recipe_parser.instantiate(recipe_parser.parse(recipe.load(RECIPE, arguments)))
    defaults = built.method.configure_optimizers()[0].defaults
    assert (defaults["lr"], defaults["weight_decay"]) == (0.5, 0.0)


# The output folder.


def test_a_run_is_not_overwritten_unasked(pairs, tmp_path):
    arguments = options(pairs)
    fit(RECIPE, arguments, tmp_path / "run", fast_run=True)
    with pytest.raises(OutputError, match="a run is there already; use --resume or --overwrite"):
        fit(RECIPE, arguments, tmp_path / "run", fast_run=True)
    (tmp_path / "run" / "mine.txt").write_text("keep")
    fit(RECIPE, arguments, tmp_path / "run", fast_run=True, overwrite=True)
    assert (tmp_path / "run" / "mine.txt").read_text() == "keep"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="no training run"):
        fit(RECIPE, arguments, tmp_path / "other", fast_run=True, overwrite=True)
    with pytest.raises(OutputError, match="nothing to resume"):
        fit(RECIPE, arguments, tmp_path / "new", resume=True)
    with pytest.raises(RecipeError, match="exclude each other"):
        fit(RECIPE, arguments, tmp_path / "run", resume=True, overwrite=True)


# Stop and go on.


def test_a_stopped_run_goes_on_to_the_same_model(pairs, tmp_path, monkeypatch):
    arguments = options(pairs, "--method.max_steps", "9", "--data.steps", "4")
    whole = fit(RECIPE, arguments, tmp_path / "whole")

    original = Method.training_step

    def interrupted(self, batch, index):
        original(self, batch, index)
        if self.step == 6:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Method, "training_step", interrupted)
        with pytest.raises(Interrupted, match="stopped after step 6; go on with --resume") as error:
            fit(RECIPE, arguments, tmp_path / "parts")
    assert error.value.exit_code == 130
    assert not (tmp_path / "parts/model").exists()
    parts = fit(RECIPE, arguments, tmp_path / "parts", resume=True)
    assert same_weights(parts, whole)
    # A run that has done all its steps is only saved again.
    assert fit(RECIPE, arguments, tmp_path / "parts", resume=True) == parts
    assert same_weights(parts, whole)


def test_a_resumed_run_counts_the_time_of_all_its_processes(pairs, tmp_path):
    fit(RECIPE, options(pairs), tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    state = torch.load(last, weights_only=True)
    assert 0 < state["seconds"] < 600
    torch.save(state | {"seconds": 5000.0}, last)
    model = load(fit(RECIPE, options(pairs), tmp_path / "run", resume=True))
    assert model.about["training"]["seconds"] > 5000


def test_a_checkpoint_of_another_network_is_one_line(pairs, tmp_path):
    arguments = options(pairs)
    fit(RECIPE, arguments, tmp_path / "run", fast_run=True)
    other = [*arguments, "--method.generator.width", "12"]
    with pytest.raises(TrainingError, match=r"last\.ckpt: does not fit this recipe") as error:
        fit(RECIPE, other, tmp_path / "run", resume=True)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(": method.generator.width was 8, and now is 12")
    assert "width: 8" in (tmp_path / "run/config.yaml").read_text()
    (tmp_path / "run/checkpoints/best.ckpt").unlink()
    (tmp_path / "run/checkpoints/last.ckpt").write_bytes(b"half a file")
    with pytest.raises(TrainingError, match=r"last\.ckpt: cannot be read"):
        fit(RECIPE, arguments, tmp_path / "run", resume=True)


def test_nan_is_one_line_and_leaves_no_model(pairs, tmp_path, monkeypatch):
    from crossband.training.losses.pixel import L1

    monkeypatch.setattr(L1, "forward", lambda self, p: p.output.mean(dim=(1, 2, 3)) * float("nan"))
    with pytest.raises(TrainingError, match="step 1: L1 is nan"):
        fit(RECIPE, options(pairs), tmp_path / "run")
    assert not (tmp_path / "run/model").exists()


def test_an_adversarial_recipe_from_the_command_line(pairs, tmp_path):
    arguments = options(pairs, "--method.adversarial_weight", "0.1")
    arguments += ["--method.discriminator", "PatchGAN", "--data.crop", "32"]
    arguments += ["--weights", "best", "--trainer.logger", "csv"]
    folder = fit(RECIPE, arguments, tmp_path / "run", fast_run=True)
    assert not any("discriminator" in k for k in load(folder).network.state_dict())
    text = (tmp_path / "run/logs/metrics.csv").read_text()
    assert "loss/discriminator" in text
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert config["method"]["init_args"]["discriminator"]["class_path"].endswith("PatchGAN")


def test_data_and_generator_must_have_one_scale(pairs, tmp_path):
    with pytest.raises(RecipeError, match=r"data\.scale is 2, but the generator's is 1"):
        fit(RECIPE, options(pairs, "--data.scale", "2"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_crossband_errors_only(pairs, tmp_path):
    """Whatever a user writes in a recipe, no traceback of jsonargparse comes out."""
    for text in ("method: 3", "method: {class_path: PairedGAN}", "data: [1]", "method: null", "[]"):
        (tmp_path / "mine.yaml").write_text(text)
        with pytest.raises(CrossbandError) as error:
            fit(tmp_path / "mine.yaml", [], tmp_path / "run")
        assert "\n" not in str(error.value)


PYRAMID = [
    "--method.generator={class_path: LocalPyramid, init_args: {width: 8, hidden: 6, levels: 2}}",
    "--blend_by=familiarity",
]


@pytest.mark.parametrize("more", [slow([]), ["--data.pixels=6", "--data.context=4"]])
def test_a_blend_by_familiarity_holds_far_from_the_training_pictures(pairs, linear, tmp_path, more):
    arguments = [*options(pairs, "--method.max_steps=4", f"--baselines=[{linear}]"), *PYRAMID]
    arguments += ["--data.transforms=[]", "--data.resolution=[1.0, 1.0]", "--data.batch=16"]
    arguments += ["--data.crop=24", "--data.val_fraction=0"]
    folders = [
        fit(RECIPE, [*arguments, "--blend={linear: 1.0}", *more], tmp_path / name)
        for name in ("one", "other")
    ]
    assert same_weights(*folders)
    model = load(folders[0])
    assert isinstance(model.network, FamiliarBlend)
    assert model.network.shares == [0.0, 1.0]
    centres = model.network.centres
    assert 0 < model.network.reach < float("inf")
    assert len(centres.unique(dim=0)) > 10
    # The pictures of training vary from pixel to pixel, and this one not at all.
    even = torch.full((3, 48, 48), 0.1)
    line = model.baselines["linear"]
    torch.testing.assert_close(model(even), line(even), atol=1e-3, rtol=0)
    with rasterio.open(pairs.parent / "0.tif") as file:
        known = torch.from_numpy(file.read([3, 2, 1]))
    source = model.signature.normalise(known[None], ["reflectance"], "source")
    unknown = model.signature.normalise(even[None], ["reflectance"], "source")
    pyramid = model.network.parts[0]
    own, new = (
        model.network.weights(pyramid.description(pyramid.surroundings(x)))
        for x in (source, unknown)
    )
    assert own.mean() > 20 * new.mean()
    assert new.max() < 0.01
    assert (model(known) - line(known)).abs().max() > 0.01


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--blend={linear: 1.5}"], "sum to at most 1"),
        (["--blend={linear: 0.5}", "--method.generator=LocalUNet"], "LocalPyramid as --method.gen"),
    ],
)
def test_a_blend_by_familiarity_that_cannot_be(pairs, linear, tmp_path, wrong, said):
    arguments = [*options(pairs, f"--baselines=[{linear}]"), *PYRAMID, *wrong]
    with pytest.raises(RecipeError, match=said):
        fit(RECIPE, arguments, tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


@pytest.mark.slow
def test_a_blend_is_the_networks_and_the_baselines_mean(pairs, linear, tmp_path):
    arguments = options(pairs, "--method.max_steps", "4", "--baselines", f"[{linear}]")
    plain = load(fit(RECIPE, arguments, tmp_path / "plain"))
    blended = load(fit(RECIPE, [*arguments, "--blend", "{linear: 0.25}"], tmp_path / "blend"))
    source = torch.rand(3, 12, 12) * 0.2 + 0.1
    expected = 0.75 * plain(source) + 0.25 * plain.baselines["linear"](source)
    torch.testing.assert_close(blended(source), expected, atol=1e-5, rtol=0)
    assert (plain(source) - blended(source)).abs().max() > 1e-4
    for wrong in ("{mlp: 0.5}", "{linear: 1.5}"):
        with pytest.raises(RecipeError, match="--blend"):
            fit(RECIPE, [*arguments, "--blend", wrong], tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_a_run_that_was_killed_at_its_beginning(line_pairs, tmp_path):
    """What is left of writing its first file is no reason to refuse the folder."""
    begun = HiddenFolder.open(tmp_path / "run" / "config.yaml")
    begun.mark()
    begun.close()
    fit(RECIPE, ["--data.manifest", str(line_pairs)], tmp_path / "run", fast_run=True)
    assert not list((tmp_path / "run").glob(".*"))


def test_a_run_that_is_being_replaced_stays_a_run(line_pairs, tmp_path, monkeypatch):
    """A kill after the old one is deleted, and before the new one has a file."""
    arguments = ["--data.manifest", str(line_pairs)]
    fit(RECIPE, arguments, tmp_path / "run", fast_run=True)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("crossband.training.fit.write_text_atomically", killed)
        with pytest.raises(CrossbandError):
            fit(RECIPE, arguments, tmp_path / "run", fast_run=True, overwrite=True)
    fit(RECIPE, arguments, tmp_path / "run", fast_run=True, overwrite=True)


@pytest.mark.slow
def test_a_resumed_run_takes_the_baselines_that_are_finished(
    line_pairs, linear, tmp_path, monkeypatch
):
    """A run that was stopped within its baselines once began each of them anew."""
    words = ["--method.max_steps=2", "--data.steps=2", f"--baselines=[{linear}]"]
    folder = fit(RECIPE, options(line_pairs, *words), tmp_path / "run")
    before = (folder / "baselines" / "linear" / "model.safetensors").read_bytes()
    trained = []
    monkeypatch.setattr(TrainingRun, "train", lambda run, resume=False: trained.append(run.title))
    settings = recipe_parser.parse(recipe.load(tmp_path / "run" / "config.yaml"))
    kept = tmp_path / "run" / "checkpoints" / "baselines"
    found = fit_baselines.fit_baselines(settings, False, StopRequest(), kept)
    assert not trained
    found["linear"].save(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == before


def test_help_of_a_recipe_has_its_options_and_defaults(capsys):
    assert main(["fit", "rgb2nir/linear", "--help"]) == 0
    said = capsys.readouterr().out
    assert "usage: crossband fit" in said
    assert "--method.max_steps " in said
    assert "--data.manifest MANIFEST" in said
    assert "`00:00:01:00` is one minute" in said
