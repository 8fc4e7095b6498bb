"""What each published system lets its user choose, chosen on the command line and seen to be there.

Every row overrides a recipe, fits it for two steps and looks at the run; the recipes as they are,
are fitted in `test_recipes.py`.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
import vggs
import yaml
from tiers import slow

from crossband import load
from crossband.cli.main import main
from crossband.networks.layers.convolution import Resize
from crossband.raster.grid import Grid, Window
from crossband.training import recipe, recipe_parser
from crossband.training.methods.schedules import Linear, Plateau
from crossband.translate.options import TileOptions
from crossband.translate.window import translate_window

SIX = ("NDVI", "NDWI", "EVI", "SAVI", "MSAVI", "GNDVI")
WEIGHTS = dict(zip(SIX, (0.5, 0.25, 0.125, 1.0, 2.0, 4.0), strict=True))
INDEX_LOSSES = [
    {"class_path": "IndexLoss", "init_args": {"index": name, "weight": weight}}
    for name, weight in WEIGHTS.items()
]


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options")
    return {task: tiny.pairs(folder / task, task) for task in tiny.WRITERS}


@pytest.fixture
def fitted(manifests, tmp_path, capsys):
    """Return a function: recipe, overrides -> model, configuration of the run, its log, stderr."""

    def run(name, *overrides, manifest=None):
        manifest = manifest or manifests[recipe.load(name)["task"]]
        words = [*tiny.overrides(name), f"--data.manifest={manifest}", "--trainer.logger=csv"]
        words += ["--baselines=null", "--blend=null", "--method.log_every=1", *overrides]
        assert main(["fit", name, "--fast-run", "-o", str(tmp_path / "run"), *words]) == 0
        config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
        log = pd.read_csv(tmp_path / "run/logs/metrics.csv")
        return load(tmp_path / "run/model"), config["method"]["init_args"], log

    return run


def answers(model, size=(17, 22)):
    """Translate a picture of odd sides."""
    signature = model.signature
    unit = next(iter(signature.units))
    low, high = np.array(signature.units[unit].source, np.float32).T[:, :, None, None]
    values = low + (high - low) * np.random.default_rng(1).random((len(low), *size), np.float32)
    window = Window(values, np.ones(size, bool), Grid(*size), tuple(signature.source), unit)
    out = translate_window(model, window, TileOptions(precision="fp32"))
    assert out.values.shape[1:] == tuple(n * model.network.scale for n in size)
    assert np.isfinite(out.values).all()
    return out.values


@pytest.mark.parametrize("kind", ["add", slow("concat"), slow("channel")])
def test_places_come_in_as_chosen(fitted, kind):
    """The recipe multiplies."""
    model, config, _ = fitted("rgb2nir/nir-gan-satclip", f"--method.generator.injection={kind}")
    assert config["generator"]["init_args"]["border"] > 0
    assert model.network.arguments["injection"] == kind
    answers(model)


def test_every_index_is_a_loss_with_a_weight(fitted):
    losses = json.dumps([{"class_path": "L1", "init_args": {"weight": 100}}, *INDEX_LOSSES])
    _, config, log = fitted("rgb2nir/nir-gan", f"--method.losses={losses}")
    assert [loss["init_args"]["weight"] for loss in config["losses"]] == [100, *WEIGHTS.values()]
    assert recipe.load("rgb2nir/nir-gan")["method"]["init_args"]["schedule"]["class_path"] == (
        Plateau.__name__
    )
    row = log.dropna(subset=["loss/total"]).iloc[0]
    total = 100 * row["loss/L1"] + row["loss/adversarial"]
    total += sum(weight * row[f"loss/{name}"] for name, weight in WEIGHTS.items())
    assert row["loss/total"] == pytest.approx(total, rel=1e-4)
    assert all(row[f"loss/{name}"] > 0 for name in SIX)


@pytest.mark.slow
def test_a_vgg_file_judges_structure_and_content_and_is_needed_no_more(fitted, tmp_path, capsys):
    """Its weights are in no checkpoint; the model is used without the file."""
    path = vggs.write(tmp_path / "vgg.pth", vggs.network())
    vgg = ["--method.structure.vgg=" + path, "--method.structure.layers=[relu2_1, relu3_1]"]
    _, config, log = fitted("rgb2thermal/cyclegan", "--method.structure_back=true", *vgg)
    assert config["structure"]["init_args"]["vgg"] == path
    row = log.dropna(subset=["loss/total"]).iloc[0]
    assert 0 < row["loss/structure"] < 2
    assert 0 < row["loss/structure_back"] < 2
    stored = torch.load(next((tmp_path / "run").rglob("last.ckpt")), weights_only=True)
    assert not [name for name in stored["state_dict"] if "relu" in name or "vgg" in name]
    losses = [{"class_path": "L1"}, {"class_path": "Perceptual"}]
    losses[1]["init_args"] = {"vgg": path, "layers": ["relu1_2", "relu2_2"], "weight": 0.5}
    paired = f"--method.losses={json.dumps(losses)}"
    _, _, log = fitted("sar2optical/pix2pix", paired, "--overwrite")
    row = log.dropna(subset=["loss/total"]).iloc[0]
    expected = row["loss/L1"] + 0.5 * row["loss/Perceptual"] + row["loss/adversarial"]
    assert row["loss/total"] == pytest.approx(expected, rel=1e-4)
    (tmp_path / "vgg.pth").unlink()
    answers(load(tmp_path / "run/model"))
    words = [*tiny.overrides("sar2optical/pix2pix"), f"--data.manifest={tmp_path / 'none.csv'}"]
    capsys.readouterr()
    assert main(["fit", "sar2optical/pix2pix", "-o", str(tmp_path / "x"), *words, paired]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == f"crossband: {path}: no such file"
    # An argument that may also be None: the reason is not that it should have been None.
    name = "rgb2thermal/cyclegan"
    words = [*tiny.overrides(name), f"--data.manifest={tmp_path / 'none.csv'}", vgg[0]]
    assert main(["fit", name, "-o", str(tmp_path / "x"), *words]) == 2
    assert capsys.readouterr().err.strip() == f"crossband: {path}: no such file"


@pytest.mark.slow
def test_sensors_are_mixed_by_weights_at_resolutions_that_are_drawn(fitted, manifests, tmp_path):
    near = pd.read_csv(manifests["rgb2nir"])
    near["source"] = near["target"] = [str(manifests["rgb2nir"].parent / s) for s in near["source"]]
    for name, gsd in (("a", 1.0), ("b", 10.0)):
        near.assign(gsd=gsd).to_csv(tmp_path / f"{name}.csv", index=False)
    both = [str(tmp_path / f"{name}.csv") for name in "ab"]
    overrides = ["--data.shares=[3, 1]", "--data.gsd=[1.0, 2.0]"]
    fitted("rgb2nir/nir-gan", *overrides, manifest=both)
    built = recipe_parser.instantiate(
        recipe_parser.parse(
            recipe.load(
                "rgb2nir/nir-gan",
                [*tiny.overrides("rgb2nir/nir-gan"), f"--data.manifest={both}", *overrides],
            )
        )
    )
    built.data.load(built.method.signature, 0)
    samples = [built.data._train[i] for i in range(80)]
    fine = [s["gsd"].item() for s in samples if s["gsd"] < 5]
    assert len(fine) / 80 == pytest.approx(0.75, abs=0.12)
    assert len(set(fine)) > 5
    assert 1.0 <= min(fine) <= max(fine) <= 2.0
    assert {s["gsd"].item() for s in samples if s["gsd"] > 5} == {10.0}  # never finer than it is


@pytest.mark.parametrize(
    ("options", "critic"),
    [
        (["--method.generator.upsample=resize"], {"layers": 2}),
        (["--method.discriminator.conditional=false"], {"conditional": False}),
        (["--method.discriminator.layers=1"], {"layers": 1}),
        (
            [
                "--method.discriminator=PixelGAN",
                "--method.discriminator.source_channels=1",
                "--method.discriminator.target_channels=3",
            ],
            {"norm": "batch"},
        ),
    ],
    ids=["upsample and convolve", "unconditional", "n layers", "pixels"],
)
def test_pix2pix_as_the_radar_system_has_it(fitted, options, critic):
    model, config, log = fitted("sar2optical/pix2pix", *options)
    own = config["discriminator"]
    assert own["class_path"].endswith("PixelGAN" if "--method.discriminator=PixelGAN" in options
                                      else ".PatchGAN")  # fmt: skip
    assert critic.items() <= own["init_args"].items()
    upsampled = any("Upsample" in type(m).__name__ for m in model.network.modules())
    assert upsampled == ("resize" in options[0])
    assert config["adversarial"] == "bce"
    row = log.dropna(subset=["loss/total"]).iloc[0]
    expected = 200 * row["loss/L1"] + row["loss/adversarial"]  # 100 on -1..1
    assert row["loss/total"] == pytest.approx(expected, rel=1e-4)
    answers(model)


def test_pix2pix_learns_from_the_published_split_and_from_one_that_cuts_no_group(
    fitted, manifests, tmp_path
):
    """The published one has every scene on all sides; it is taken as it is only by its column."""
    table = pd.read_csv(manifests["sar2optical"])
    for side in ("source", "target"):
        table[side] = [str(manifests["sar2optical"].parent / s) for s in table[side]]
    table["group"] = [*"aabb"]
    table.assign(split=["train", "val", "train", "val"], split_by="split.json").to_csv(
        tmp_path / "theirs.csv", index=False
    )
    table.to_csv(tmp_path / "ours.csv", index=False)
    for name, leaks in (("theirs", True), ("ours", False)):
        run = tmp_path / name
        words = [*tiny.overrides("sar2optical/pix2pix"), "--trainer.logger=csv"]
        words += [f"--data.manifest={tmp_path / name}.csv", "--baselines=null"]
        assert main(["fit", "sar2optical/pix2pix", "--fast-run", "-o", str(run), *words]) == 0
        split = pd.read_csv(run / "pairs.csv").groupby("group")["split"].nunique()
        assert (split > 1).any() == leaks
        assert (split > 1).all() == leaks


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_autoencoder_takes_any_size_at_each_scale(fitted, scale):
    chosen = [f"--method.generator.scale={scale}", f"--data.scale={scale}"]
    model, _, _ = fitted("super-resolution/unet-autoencoder", *chosen)
    assert model.network.scale == scale
    assert any(isinstance(m, Resize) for m in model.network.modules())
    for size in ((1, 1), (5, 9), (17, 22)):
        answers(model, size)


@pytest.mark.slow
def test_super_resolution_with_a_discriminator_and_structure(fitted):
    """Both look at the coarse source beside the fine target."""
    critic = {"source_channels": 3, "target_channels": 3, "width": 6, "layers": 2}
    chosen = {
        "losses": [
            {"class_path": "L1"},
            {"class_path": "SpatialCorrelative", "init_args": {"queries": 3, "patch": 8}},
        ],
        "discriminator": {"class_path": "PatchGAN", "init_args": critic},
    }
    words = [f"--method.{name}={json.dumps(value)}" for name, value in chosen.items()]
    _, _, log = fitted("super-resolution/edsr", *words, "--method.adversarial_weight=0.1")
    row = log.dropna(subset=["loss/total"]).iloc[0]
    expected = row["loss/L1"] + row["loss/SpatialCorrelative"] + 0.1 * row["loss/adversarial"]
    assert row["loss/total"] == pytest.approx(expected, rel=1e-4)
    assert row["loss/SpatialCorrelative"] > 0


@pytest.mark.slow
def test_cyclegan_with_identity_and_without_replay_and_structure(fitted, manifests, tmp_path):
    grey = {"source": ["red"], "target": ["thermal"],
            "units": {"display": {"source": [[0, 1]], "target": [[0, 1]]}}}  # fmt: skip
    ones = [
        f"--method.{part}.{bands}=1"
        for part in ("generator", "back", "discriminator", "back_discriminator")
        for bands in (
            ("in_channels", "out_channels")
            if "disc" not in part
            else ("source_channels", "target_channels")
        )
    ]
    chosen = ["--method.identity=5", "--method.replay=0", "--method.structure=null"]
    _, config, log = fitted(
        "rgb2thermal/cyclegan", f"--method.signature={json.dumps(grey)}", *ones, *chosen
    )
    assert (config["identity"], config["replay"], config["structure"]) == (5.0, 0, None)
    assert config["schedule"]["class_path"].endswith(Linear.__name__)
    row = log.dropna(subset=["loss/total"]).iloc[0]
    assert not [name for name in log if "structure" in name]
    sides = {"adversarial": 3.0, "cycle": 16.0, "identity": 5.0}
    expected = sum(
        factor * (row[f"loss/{name}"] + row[f"loss/{name}_back"]) for name, factor in sides.items()
    )
    assert row["loss/total"] == pytest.approx(expected, rel=1e-4)


def test_flow_and_diffusion_sample_as_chosen(fitted):
    chosen = ["--method.generator.solver=rk4", "--method.generator.steps=3"]
    model, _, _ = fitted("rgb2nir/flow-matching", *chosen, "--method.times=logit-normal")
    assert (model.network.solver, model.network.steps) == ("rk4", 3)
    assert (model.network.atol, model.network.rtol) == (1e-5, 1e-5)
    assert answers(model).std() > 0


@pytest.mark.slow
def test_diffusion_with_the_library_of_schedulers(fitted):
    pytest.importorskip("diffusers")
    model, _, _ = fitted("rgb2nir/diffusion", "--method.generator.solver=dpm-solver++")
    assert model.network.solver == "dpm-solver++"
    assert answers(model).std() > 0
