"""Every recipe: fitted, saved, loaded, translated with, judged; resumed, and overfits one batch."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import pytest
import rasterio
import tiny
import torch
from tiers import first_quick
from torch.utils.data import DataLoader, Dataset

from crossband import load
from crossband.cli.main import main
from crossband.core.registry import build
from crossband.data.module import Pairs
from crossband.errors import RecipeError
from crossband.evaluation.baselines import untrained_baselines
from crossband.evaluation.evaluate import evaluate
from crossband.networks import Discriminator, Generator, parameter_count
from crossband.networks.generators.thermal_gan import Encoder
from crossband.raster.grid import Grid, Window
from crossband.training import recipe, recipe_parser
from crossband.training.fit import fit
from crossband.training.losses.pixel import L1
from crossband.training.methods.base import Method
from crossband.training.recipe_table import recipe_info
from crossband.translate.options import TileOptions
from crossband.translate.window import translate_window

CONFIGS = {name: recipe.load(name) for name in recipe.available()}
#: Recipes with a guide need guides and other bands: tests/test_trained_guide.py.
NAMES = [
    name for name, config in CONFIGS.items()
    if "guide" not in config["method"]["init_args"]["signature"]
]  # fmt: skip


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    return {task: tiny.pairs(folder / task, task) for task in tiny.WRITERS}


def options(manifests, name, *more):
    manifest = manifests[CONFIGS[name]["task"]]
    return [*tiny.overrides(name), f"--data.manifest={manifest}", "--trainer.logger=csv", *more]


def test_every_recipe_says_what_it_is():
    for name, path in recipe.available().items():
        assert path.read_text().startswith("# "), name
        config = CONFIGS[name]
        assert config["task"] == name.partition("/")[0], name
        assert config["task"] in tiny.WRITERS


def test_every_recipe_that_follows_a_publication_says_what_differs():
    """A publication has a year; a system has an owner and a name."""
    cited = {n for n, c in CONFIGS.items() if re.search(r"\b(19|20)\d\d\b|\w/\w", c["source"])}
    assert cited == {name for name, config in CONFIGS.items() if "differs" in config}
    assert len(cited) == 30
    for name in cited:
        said = CONFIGS[name]["differs"]
        assert len(said) == len(set(said)) > 0, name
        assert all(re.fullmatch(r"[A-Z][^\n]{20,}\.", text) for text in said), name


#: Those that are trained for an hour or two, not for minutes.
REFERENCE = (
    "rgb2nir/discrete-flow-matching", "rgb2nir/flow-matching", "rgb2nir/nir-gan",
    "rgb2nir/nir-gan-satclip", "rgb2nir/wgan-gp-small", "rgb2thermal/cyclegan",
    "rgb2thermal/unit", "sar2optical/pix2pix", "super-resolution/unet-autoencoder",
)  # fmt: skip


def test_nine_recipes_have_a_reference_run_that_can_be_built():
    assert {n for n, c in CONFIGS.items() if "reference" in c} == set(REFERENCE)
    for name in REFERENCE:
        given = recipe.reference_options(CONFIGS[name])
        words = [f"--{key}={json.dumps(value)}" for key, value in given.items()]
        config = recipe.load(name, words)
        with torch.device("meta"):
            run = recipe_parser.instantiate(
                recipe_parser.parse(recipe.load(name, [*words, "--data.manifest=pairs.csv"]))
            )
        assert run.method.max_steps == given["method.max_steps"] < 100_000
        rounds = run.method.max_steps * run.method.critic_steps / given["data.steps"]
        assert rounds == 20, name  # points of its curve
        crop = config["data"]["init_args"]["crop"]
        assert crop <= 128


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("3", "--reference is a mapping"),
        ("{method.generator.widht: 3}", "widht"),
        ("{method.losses.7.weight: 3}", "none of the"),
        ("{seed: 3}", "begins with none of method, data"),
        ("{reference: 3}", "begins with none of method, data"),
    ],
)
def test_a_wrong_reference_is_refused(reference, message):
    with pytest.raises(RecipeError, match=message):
        recipe.load("rgb2nir/nir-gan", [f"--reference={reference}"])


@pytest.mark.slow
def test_the_table_has_every_recipe_with_the_numbers_of_its_networks(capsys, monkeypatch):
    once = functools.cache(recipe_info)
    monkeypatch.setattr("crossband.training.recipe_table.recipe_info", once)
    rows = {row.name: row for row in map(once, NAMES)}
    for name, row in rows.items():
        config = recipe.load(name, ["--data.manifest=pairs.csv"])
        with torch.device("meta"):
            run = recipe_parser.instantiate(recipe_parser.parse(config))  # as a fit builds it
        method = run.method
        networks = [n for _, part in method.parts().values() for n in part] or [method.generator]
        trained = {p for network in networks for p in network.parameters()}
        assert row.parameters == parameter_count(method.generator), name
        assert row.trained == sum(p.numel() for p in trained), name
        assert (row.paired, row.method) == (run.data.paired, type(method).__name__), name
        assert (row.task, row.source) == (config["task"], run.source), name
        assert len(row.source) > 10
    assert not rows["rgb2thermal/cyclegan"].paired
    lines = {}
    for width, words in ((80, ["models", "--recipes"]), (120, ["fit"])):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main(words) == 0
        lines[width] = capsys.readouterr().out.splitlines()
        assert max(map(len, lines[width])) <= width
        for name, row in rows.items():
            (at,) = (n for n, x in enumerate(lines[width]) if x.split(" ")[0] == name)
            assert f" {row.parameters:,}" in lines[width][at]
            assert f" {row.trained:,}" in lines[width][at]
            below = [x.strip() for x in lines[width][at + 1 : at + 4]]
            assert row.source.startswith(below[0])
            assert row.source in " ".join(below)
    listed = " ".join(" ".join(lines[80]).split())
    assert all(text in listed for row in rows.values() for text in row.differs)
    assert all(row.reference in listed for row in rows.values())
    assert rows["rgb2thermal/unit"].reference
    assert not any(line.startswith("      - ") for line in lines[120])  # fit: only their names


#: What a method's networks are called, and of which family they are.
PARTS = {
    "generator": Generator,
    "back": Generator,
    "encoder": Encoder,
    "discriminator": Discriminator,
    "back_discriminator": Discriminator,
    "contrast_discriminator": Discriminator,
}
#: Parameters of the networks of the published systems, in that order, as docs/training.md has them.
#: Some of them have other bands than their publication; `test_seed_networks.py` and
#: `test_techniques.py` hold the published numbers against the published bands.
COUNTS = {
    "rgb2nir/wgan-gp": (16_747_009, 2_795_553),
    "rgb2nir/wgan-gp-small": (4_164_097, 694_305),
    "rgb2nir/nir-gan": (11_371_905, 2_765_761),
    "rgb2nir/nir-gan-satclip": (16_028_290, 2_765_761),
    "rgb2nir/flow-matching": (17_637_185,),
    "rgb2nir/discrete-flow-matching": (4_593_729,),
    "rgb2nir/diffusion": (17_637_185,),
    "rgb2nir/cnn": (19_969,),
    "sar2optical/pix2pix": (54_539_779, 2_766_657),
    "sar2optical/pix2pixhd": (182_697_123, 8_300_355),
    "rgb2thermal/pix2pix": (54_530_177, 2_765_761),
    "rgb2thermal/wgan-gp": (16_747_009, 2_795_553),
    "rgb2thermal/cyclegan": (11_371_905, 11_371_907, 2_762_689, 2_764_737),
    "rgb2thermal/discogan": (54_405_505, 54_407_555, 660_929, 662_977),
    "rgb2thermal/dualgan": (54_405_505, 54_407_555, 6_960_321, 6_962_369),
    "rgb2thermal/unit": (10_188_673, 10_182_531, 6_273_537, 6_274_689),
    "rgb2thermal/unit-vit": (100_019_200, 100_019_712, 6_273_537, 6_274_689),
    "rgb2thermal/thermalgan": (121_675_522, 6_957_520, 2_765_761, 2_766_785),
    "super-resolution/unet-autoencoder": (7_699_011,),
    "super-resolution/edsr": (1_369_859,),
}


@pytest.mark.parametrize("name", COUNTS)
def test_recipes_have_the_networks_of_their_systems(name):
    inner = recipe.load(name)["method"]["init_args"]
    counts = []
    with torch.device("meta"):
        for key, family in PARTS.items():
            if about := inner.get(key):
                made = build(family, about["class_path"], about["init_args"])
                counts.append(parameter_count(made))
    assert tuple(counts) == COUNTS[name]
    text = (Path(__file__).parents[1] / "docs/training.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
    assert all(f"{count:,}" in row for count in counts)


#: The first recipe of each task that has baselines; those of a task take the same pairs.
BASELINES = {
    task: next(n for n in NAMES if n.startswith(f"{task}/") and CONFIGS[n].get("baselines"))
    for task in tiny.WRITERS
}.values()


def of_method(case):
    """Return what a recipe has to itself: its method; or its name, if it has baselines."""
    (name,) = case
    return name if name in BASELINES else CONFIGS[name]["method"]["class_path"]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("name", first_quick([(name,) for name in NAMES], of_method))
def test_fit_save_load_translate_evaluate(name, manifests, tmp_path):
    """Baselines are fitted once a task here, and with every recipe below."""
    more = [] if name in BASELINES else ["--baselines=null", "--blend=null"]
    folder = fit(name, options(manifests, name, *more), tmp_path / "run", fast_run=True)
    assert folder == tmp_path / "run" / "model"
    model = load(folder)
    wanted = (CONFIGS[name].get("baselines") or []) if name in BASELINES else []
    assert set(model.baselines) == {w.rpartition("/")[2] for w in wanted}

    signature, scale = model.signature, model.network.scale
    unit = next(iter(signature.units))
    low, high = np.array(signature.units[unit].source, np.float32).T[:, :, None, None]
    values = low + (high - low) * np.random.default_rng(1).random((len(low), 21, 26), np.float32)
    mask = np.ones((21, 26), bool)
    mask[3:5, 4:9] = False
    window = Window(values * mask, mask, Grid(21, 26), tuple(signature.source), unit)
    out = translate_window(model, window, TileOptions(precision="fp32", tile=4096))
    assert out.values.shape == (len(signature.target), 21 * scale, 26 * scale)
    assert np.isfinite(out.values).all()
    assert out.unit == signature.target_unit(unit)
    assert not out.values[:, ~out.mask].any()
    for baseline in model.baselines.values():
        assert baseline.signature == signature
        theirs = translate_window(baseline, window, TileOptions(precision="fp32"))
        assert theirs.values.shape == out.values.shape
        assert np.isfinite(theirs.values).all()

    report = evaluate([model], manifests[model.task], tmp_path / "report", pictures=0)
    assert {*model.baselines, *untrained_baselines(signature, scale)} == set(
        report.per_image["by"]
    ) - {"model"}
    assert np.isfinite(report.per_image["mae"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_resumed_equals_whole(name, manifests, tmp_path):
    """Two steps and one more are three; with the recipe's own baselines and their blend."""
    arguments = options(manifests, name)
    if "optimizer" in CONFIGS[name]["method"]["init_args"]:
        arguments += ["--method.schedule=Constant"]  # another depends on how many steps there are
    model = load(fit(name, arguments, tmp_path / "run", fast_run=True))
    wanted = CONFIGS[name].get("baselines") or []
    assert set(model.baselines) == {w.rpartition("/")[2] for w in wanted}
    more = [*arguments, "--method.max_steps=3", "--data.steps=2", "--data.val_windows=1"]
    more += ["--data.val_tile=64", "--baselines=null", "--blend=null"]
    resumed = fit(name, more, tmp_path / "run", resume=True)
    whole = fit(name, more, tmp_path / "whole")
    assert json.loads((resumed / "model.json").read_text())["about"]["training"]["steps"] == 3
    one, other = (load(f).network.state_dict() for f in (resumed, whole))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[k], other[k]) for k in one)


def test_a_baseline_has_the_scale_of_its_recipe(manifests, tmp_path):
    name = "super-resolution/edsr"
    more = ["--data.scale=4", "--method.generator.scale=4"]
    model = load(fit(name, options(manifests, name, *more), tmp_path / "run", fast_run=True))
    assert (model.network.scale, model.baselines["bicubic"].network.scale) == (4, 4)


class OneBatch(Dataset):
    """The same two samples again and again."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return 10**6

    def __getitem__(self, i):
        return self.samples[i % len(self.samples)]


class Fixed(lightning.LightningDataModule):
    def __init__(self, samples):
        super().__init__()
        self.samples = samples

    def train_dataloader(self):
        return DataLoader(OneBatch(self.samples), batch_size=len(self.samples))


PAIRED = [
    name
    for name in NAMES
    if CONFIGS[name]["method"]["class_path"] == "PairedGAN"
    and "LocalStatistics" not in str(CONFIGS[name])
]
#: Rates at which narrow networks learn two samples in a few hundred steps.
FASTER = {"Adam": {"lr": 0.004}, "AdamW": {"lr": 0.004}, "MuonAdamW": {}}
#: Those that may take longer than the others.
SLOW = {
    "rgb2nir/local-unet": 300,
    "rgb2thermal/adain": 200,
    "rgb2thermal/style": 300,
    "sar2optical/pix2pix": 300,
    "sar2optical/pix2pixhd": 300,
    "super-resolution/unet-autoencoder": 300,
}
#: Share of the first error that is left, where the first answer is nearly right: these networks add
#: to the bicubic image, one of them by a single weight.
LEFT = {"SubpixelResNet": 1 / 2, "SharpenedBicubic": 1}
#: What draws at random while networks train, or only costs time.
CALM = {
    "EDSR": {"bicubic": False},  # with it the first answer is nearly right
    "LocalPyramid": {"members": 1},  # more than samples: some would learn nothing
    "LocalUNet": {"drop_path": 0.0, "drop_context": 0.0, "members": 1, "anchor": 0.0},
    "ResNet": {"border": 2},
    "StridedUNet": {"dropout": 0.0},
    "StyleResNet": {"style": 1},
    "UNet": {"dropout": 0.0},
    "UNetAutoencoder": {"dropout": 0.0},
}


class Learned(lightning.Callback):
    """Ends the training as soon as it is good enough; looks at every tenth step."""

    def __init__(self, good):
        self.good = good

    def on_train_batch_end(self, trainer, pl_module, *_):
        if pl_module.step % 10 == 0 and self.good():
            trainer.should_stop = True


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRED)
def test_a_batch_is_learned_by_heart(name, manifests):
    steps = SLOW.get(name, 150)
    arguments = options(manifests, name, f"--method.max_steps={steps}", "--method.ema_decay=0.0")
    config = recipe.load(name, arguments)
    inner = config["method"]["init_args"]
    for key, value in FASTER[inner["optimizer"]["class_path"]].items():
        recipe.set_option(config, f"method.optimizer.{key}", value)
    recipe.set_option(config, "method.schedule", "Cosine")
    recipe.set_option(config, "method.critic_steps", 1)
    if inner.get("feature_matching"):  # what it matches moves more slowly than what learns it
        slow = {"class_path": "Adam", "init_args": {"lr": 0.001, "betas": [0.5, 0.999]}}
        recipe.set_option(config, "method.discriminator_optimizer", slow)
    for key, value in CALM.get(inner["generator"]["class_path"], {}).items():
        recipe.set_option(config, f"method.generator.{key}", value)
    recipe.set_option(config, "data.transforms", [])
    lightning.seed_everything(0, verbose=False)
    built = recipe_parser.instantiate(recipe_parser.parse(config))
    method, data = built.method, built.data
    assert isinstance(method, Method)
    assert isinstance(data, Pairs)
    data.load(method.signature, 0)
    samples = [data._train[i] for i in range(2)]
    batch = next(iter(Fixed(samples).train_dataloader()))

    def error():
        method.eval()
        with torch.no_grad():
            value = L1()(method.predict_batch(method.generator, batch)).mean().item()
        method.train()
        return value

    enough = error() * LEFT.get(inner["generator"]["class_path"], 1 / 10)
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        limit_val_batches=0, callbacks=[Learned(lambda: error() < enough)],
    )  # fmt: skip
    trainer.fit(method, Fixed(samples))
    assert error() < enough


def real_rows(data, task, polarisations, paired=True):
    """A handful of real pairs, described as a user would."""
    rgb = "red=1,green=2,blue=3"
    if task == "rgb2nir":
        files = sorted((data / "rgb2nir/satellite").glob("naip_wv_*_old.tif"))[:3]
        about = pd.read_csv(data / "rgb2nir/satellite/manifest.csv", index_col="file")
        return [
            {"source": f, "target": f, "sensor": "naip", "gsd": about.loc[f.name, "gsd_m"]}
            for f in files
        ]
    if task == "rgb2thermal" and not paired:
        folder = data / "rgb2thermal/roadscene/train"
        colour, thermal = (
            sorted(folder.glob(f"{part}/*.jp*g")) for part in ("RGB", "thermal_8_bit")
        )
        both = {"sensor": "display", "source_bands": rgb, "target_sensor": "thermal-camera"}
        places = [(0, None), (1, None), (None, 2), (None, 3), (4, 4), (5, 5)]
        return [
            both | {"source": None if i is None else colour[i], "group": f"{i}{j}",
                    "target": None if j is None else thermal[j],
                    "split": "val" if i == j else "train"}
            for i, j in places
        ]  # fmt: skip
    if task == "rgb2thermal":
        folder = data / "rgb2thermal/msrs"
        return [
            {"source": f, "sensor": "display", "source_bands": rgb,
             "target": folder / "ir" / f.name, "target_sensor": "thermal-camera"}
            for f in sorted((folder / "vi").glob("*N.png"))[:3]
        ]  # fmt: skip
    if task == "super-resolution":
        files = sorted((data / "super-resolution/T91").glob("*.png"))[:4]
        return [
            {"source": None, "target": f, "sensor": "display", "target_bands": rgb} for f in files
        ]
    folder = data / "sar2optical/terramesh_geo"
    radar, optical = (sorted((folder / part).glob("*.tif")) for part in ("s1", "s2"))
    rows = [
        {"source": one, "sensor": "sentinel-1-grd-db", "source_bands": "vv=1,vh=2",
         "target": two, "target_sensor": "sentinel-2-l2a-no-offset",
         "target_bands": "red=4,green=3,blue=2"}
        for one, two in zip(radar, optical, strict=True)
    ]  # fmt: skip
    if polarisations == ["vv"]:  # pictures, too: another unit in the same manifest
        folder = data / "sar2optical/sih1733_scenes"
        radar, optical = (sorted((folder / part).glob("*.jp*g")) for part in ("s1", "s2"))
        rows.append(
            {"source": radar[0], "sensor": "display", "source_bands": "vv=1",
             "target": optical[0], "target_sensor": "display", "target_bands": rgb}
        )  # fmt: skip
    return rows


#: Run in a process of their own, as a user would, one recipe of each task; the others call the
#: same `main` here, which costs less.
OWN_PROCESS = (
    "rgb2nir/nir-gan-satclip",
    "rgb2thermal/cyclegan",
    "sar2optical/pix2pix",
    "super-resolution/edsr",
)


@pytest.fixture
def command(capsys, crossband_command):
    """Return a function: whether in an own process, words -> exit code, stderr."""

    def run(alone, *words):
        if alone:
            done = crossband_command(*words)
            return done.returncode, done.stderr
        return main([str(word) for word in words]), capsys.readouterr().err

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_real_pairs_through_the_command(name, real_data, tmp_path, command):
    config = recipe.load(name)
    signature = config["method"]["init_args"]["signature"]
    paired = config["data"]["init_args"].get("paired", True)
    rows = real_rows(real_data, config["task"], signature["source"], paired)
    pd.DataFrame(rows).to_csv(tmp_path / "pairs.csv", index=False)
    arguments = [*tiny.overrides(name), f"--data.manifest={tmp_path / 'pairs.csv'}"]
    arguments += ["--trainer.logger=csv", "--baselines=null", "--blend=null"]
    alone = name in OWN_PROCESS
    code, said = command(alone, "fit", name, "--fast-run", "-o", tmp_path / "run", *arguments)
    assert code == 0, said
    assert "val 0." in said
    model = load(tmp_path / "run/model")

    first = rows[0]
    side = "source" if first["source"] else "target"
    bands = str(first.get(f"{side}_bands", "")).split(",") if first.get(f"{side}_bands") else []
    wanted = [b for b in bands if b.partition("=")[0] in model.signature.source]
    words = ["translate", first[side], "-o", tmp_path / "out.tif", "--quiet", "--device", "cpu"]
    words += ["--model", tmp_path / "run/model", "--sensor", first["sensor"]]
    words += ["--bands", ",".join(wanted)] if wanted else []
    code, said = command(alone, *words)
    assert code == 0, said
    with rasterio.open(first[side]) as given, rasterio.open(tmp_path / "out.tif") as out:
        scale = model.network.scale
        assert out.shape == (given.height * scale, given.width * scale)
        assert list(out.descriptions) == model.signature.target
        assert np.isfinite(out.read()).all()


@pytest.mark.parametrize(
    "words",
    [
        ["--method.generator.init_args=5"],
        ["--method.schedule={class_path: Cosine, init_args: 3}"],
        ["--data.init_args=text"],
        ["--method.init_args=1.5", "--method.max_steps=2"],
        ["--trainer=5"],
        ["--method.losses.\u00b2=2"],
    ],
)
def test_options_that_are_no_mapping_are_refused_in_one_line(words):
    with pytest.raises(RecipeError) as error:
        recipe.load("rgb2nir/mlp", words)
    assert str(error.value).startswith("--")
    assert "\n" not in str(error.value)
