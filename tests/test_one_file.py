"""Whatever can be added is one file: dropped into the package, or installed as another package.

Both ways it is found by its name, used by the commands, and tested by the tests that go over the
registry, without a change to any other file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import rasterio
import yaml

import crossband

#: The worked example of CONTRIBUTING.md.
_PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
NETWORK = re.search(r"```python\n(.*?)```", _PAGE, re.DOTALL)[1].replace(
    "ShiftedConvolution", "ThrowawayGenerator"
)
_EXAMPLE = re.search(r"```python\n(.*?)```", _PAGE, re.DOTALL)[1]
DISCRIMINATOR = '''
from torch import Tensor, nn

from crossband.networks.base import Discriminator


class ThrowawayDiscriminator(Discriminator):
    """A score for each pixel."""

    def __init__(self, source_channels: int = 3, target_channels: int = 1) -> None:
        super().__init__()
        self.layer = nn.Conv2d(source_channels + target_channels, 1, 1)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.layer(self.stacked_input(source, target))
'''
LOSS = '''
from crossband.training.losses.base import Loss, masked_mean


class ThrowawayLoss(Loss):
    """A power of the error.

    >>> ThrowawayLoss(power=3.0).power
    3.0
    """

    examples = ({}, {"power": 3.0})

    def __init__(self, power: float = 2.0, weight: float = 1.0) -> None:
        super().__init__()
        self.power, self.weight = power, weight

    def forward(self, prediction):
        error = (prediction.output - prediction.target).abs() ** self.power
        return masked_mean(error, prediction.mask)
'''
METHOD = '''
from lightning.pytorch.cli import OptimizerCallable

from crossband.core.signature import Signature
from crossband.networks.base import Generator
from crossband.training.losses.base import Loss
from crossband.training.methods.base import Method
from crossband.training.methods.examples import OPTIMIZER, RESNET, part


class ThrowawayMethod(Method):
    """One loss, scaled; `factor` is an option of recipes at once."""

    examples = ({"generator": RESNET, "loss": part("L1"), "optimizer": OPTIMIZER},)

    def __init__(
        self,
        signature: Signature,
        generator: Generator,
        *,
        loss: Loss,
        optimizer: OptimizerCallable,
        factor: float = 1.0,
        **options,
    ) -> None:
        super().__init__(signature, generator, **options)
        self.loss, self.optimizer, self.factor = loss, optimizer, factor

    def parts(self):
        return {"generator": (self.optimizer, [self.generator])}

    def backward_losses(self, batch, generator):
        value = self.factor * self.loss(self.predict_batch(self.generator, batch)).mean()
        self.record_loss("scaled", value)
        self.accumulate_gradients(value, self.generator)
'''
SCHEDULE = '''
from crossband.training.methods.schedules import Schedule


class ThrowawaySchedule(Schedule):
    """Falls with the square of the steps that are left."""

    def shape(self, progress: float) -> float:
        return (1.0 - progress) ** 2
'''
TRANSFORM = '''
from crossband.data.transforms.base import Transform


class ThrowawayTransform(Transform):
    """Another brightness of source and target."""

    def __call__(self, sample, rng):
        gain = float(rng.uniform(0.9, 1.1))
        return {**sample, "source": sample["source"] * gain, "target": sample["target"] * gain}
'''
LAYOUT = '''
from crossband.data.layouts.base import Layout


class Throwaway(Layout):
    """Files `<n>.tif` that hold source and target.

    Args:
        sensor: of all files.
    """

    name = "throwaway"
    origin = "a test"

    def __init__(self, sensor: str = "reflectance") -> None:
        self.sensor = sensor

    def rows(self, search):
        for path in search.files("[0-9].tif"):
            yield {"source": path, "target": path, "sensor": self.sensor}
'''
DEGRADATION = '''
from torch.nn.functional import avg_pool2d

from crossband.data.degrade.base import Degradation, check_shape


class ThrowawayDegradation(Degradation):
    """The mean of the fine pixels."""

    def __call__(self, x, scale, rng):
        check_shape(x, scale)
        return avg_pool2d(x[None], scale)[0]
'''
METRIC = '''
from dataclasses import dataclass

import numpy as np

from crossband.metrics.family import DATA, Family, Metric, Sums


@dataclass(frozen=True, eq=False)
class ThrowawaySums(Sums):
    """Pixels, and the sum of their errors."""

    n: int = 0
    total: float = 0.0

    def numbers(self, unit, scale):
        return {"throwaway": self.total / self.n if self.n else float("nan")}


class Throwaway(Family):
    """The mean absolute error again."""

    name = "throwaway"
    metrics = (Metric("throwaway", "thrown away", DATA, "less", "mean of |error|"),)

    def sums(self, output):
        errors = np.abs(output.flat - self.target.flat)
        return ThrowawaySums(errors.size, float(errors.sum()))
'''
PRODUCT = '''
from pathlib import Path

from crossband.raster.products.base import Band, ProductReader


class Throwaway(ProductReader):
    """A folder with a file of bands."""

    title = "a folder with throwaway.tif"

    def bands(self, source):
        path = Path(source.path, "throwaway.tif")
        names = ("blue", "green", "red", "nir")
        if not path.is_file():
            return None
        return [Band(f"T{n}", name, str(path), n) for n, name in enumerate(names, start=1)]
'''
#: File in the package -> entry point group, text, file of the tests that go over the family.
FILES = {
    "networks/throwaway.py": ("generator", NETWORK, "test_networks"),
    "networks/throwaway_critic.py": ("discriminator", DISCRIMINATOR, "test_networks"),
    "training/losses/throwaway.py": ("loss", LOSS, "test_losses"),
    "training/methods/throwaway.py": ("method", METHOD, "test_methods"),
    "training/methods/throwaway_schedule.py": ("schedule", SCHEDULE, "test_methods"),
    "data/transforms/throwaway.py": ("transform", TRANSFORM, "test_data"),
    "data/layouts/throwaway.py": ("layout", LAYOUT, "test_layouts"),
    "data/degrade/throwaway.py": ("degradation", DEGRADATION, "test_degrade"),
    "metrics/families/throwaway.py": ("metric", METRIC, "test_metrics_families"),
    "raster/products/throwaway.py": ("product", PRODUCT, "test_product_data"),
}
#: Families that are found by a name of their own; the others by that of the class.
NAMED = ("layout", "metric")
RECIPE = {
    "name": "throwaway",
    "task": "rgb2nir",
    "source": "a test of one file",
    "method": {
        "class_path": "ThrowawayMethod",
        "init_args": {
            "signature": {
                "source": ["red", "green", "blue"],
                "target": ["nir"],
                "units": {
                    "reflectance": {"source": [[0, 0.4]] * 3, "target": [[0, 0.6]]},
                    "display": {"source": [[0, 1]] * 3, "target": [[0, 1]]},
                },
            },
            "generator": {"class_path": "ThrowawayGenerator", "init_args": {"shift": 0.25}},
            "loss": {"class_path": "ThrowawayLoss"},
            "optimizer": {"class_path": "Adam", "init_args": {"lr": 0.01}},
            "schedule": {"class_path": "ThrowawaySchedule"},
            "factor": 2.0,
        },
    },
    "data": {
        "class_path": "Pairs",
        "init_args": {
            "crop": 16,
            "batch": 2,
            "steps": 2,
            "transforms": [{"class_path": "ThrowawayTransform"}],
        },
    },
}
TESTS = Path(__file__).parent


def dropped_in(folder):
    """Copy the package and add files to its folders, no other one touched."""
    package = folder / "crossband"
    here = Path(crossband.__file__).parent
    shutil.copytree(here, package, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    for name, (_, text, _) in FILES.items():
        (package / name).write_text(text)
    (package / "recipes/rgb2nir/throwaway.yaml").write_text("# Ours.\n" + yaml.safe_dump(RECIPE))
    return "rgb2nir/throwaway", [folder]


def installed(folder):
    """Install another package: modules, and the entry points that a build writes beside them."""
    about, package = folder / "other-1.0.dist-info", folder / "other"
    about.mkdir()
    package.mkdir()
    points = ""
    for group, text, _ in FILES.values():
        (package / f"{group}.py").write_text(text)
        cls = re.search(r"class (Throwaway\w*)", text)[1]
        name = "throwaway" if group in NAMED else cls
        points += f"[crossband.{group}]\n{name} = other.{group}:{cls}\n"
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(points)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    return str(folder / "recipe.yaml"), [folder, Path(crossband.__file__).parents[1]]


@pytest.fixture(params=[dropped_in, installed], ids=lambda way: way.__name__)
def way(request, tmp_path):
    """Add everything; return the way, the name of the recipe, and what finds the files."""
    folder = tmp_path / "site"
    folder.mkdir()
    recipe, paths = request.param(folder)
    return request.param, recipe, {"PYTHONPATH": os.pathsep.join(map(str, paths))}


@pytest.mark.slow
def test_the_worked_example_passes_the_checks_of_the_project(tmp_path):
    root = Path(__file__).parents[1]
    name = "src/crossband/networks/generators/shifted_convolution.py"
    path = tmp_path / "shifted_convolution.py"
    path.write_text(_EXAMPLE)
    checks = (
        ("ruff", ["check", "--stdin-filename", name, "-"]),
        ("ruff", ["format", "--check", "--stdin-filename", name, "-"]),
        ("mypy", ["--config-file", "pyproject.toml", str(path)]),
    )
    for package, words in checks:
        pytest.importorskip(package, reason="the example is checked by the project's own tools")
        command = [sys.executable, "-m", package, *words]
        done = subprocess.run(
            command, input=_EXAMPLE, text=True, cwd=root, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(os.name != "posix", reason="sed")
def test_the_recipe_of_the_worked_example_says_nothing_of_another_network(tmp_path):
    root = Path(__file__).parents[1]
    command = re.search(r"^sed .*?> mine\.yaml$", _PAGE, re.DOTALL | re.MULTILINE)[0]
    done = subprocess.run(["sh", "-c", command.replace("> mine.yaml", "")],
                          cwd=root, capture_output=True, text=True, check=True)  # fmt: skip
    config = yaml.safe_load(done.stdout)
    assert config["name"] == "shifted"
    assert not {"source", "differs"} & config.keys()
    generator = config["method"]["init_args"]["generator"]["class_path"]
    assert generator == "ShiftedConvolution"


@pytest.mark.slow
def test_all_are_used_by_name(way, line_pairs, crossband_command, tmp_path):
    kind, recipe, environment = way

    def command(*words, env=environment):
        done = crossband_command(*words, env=env)
        return done.returncode, done.stderr

    manifest = tmp_path / "manifest.csv"
    words = ("data", "manifest", "throwaway", line_pairs.parent, "-o", manifest)
    assert command(*words) == (0, "")
    run = tmp_path / "run"
    options = ["--data.manifest", manifest, "--trainer.logger=csv", "--method.factor=3"]
    code, said = command("fit", recipe, "--fast-run", "-o", run, *options)
    assert code == 0, said
    assert "loss/scaled" in (run / "logs/metrics.csv").read_text()
    about = json.loads((run / "model/model.json").read_text())
    assert about["network"]["class"] == "ThrowawayGenerator"
    assert about["network"]["arguments"]["shift"] == 0.25
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["method"]["init_args"]["factor"] == 3

    # A process that has not seen the files yet finds them: the network by the name in the model
    # folder, the product by its folder.
    product = tmp_path / "product"
    product.mkdir()
    shutil.copy(line_pairs.with_name("0.tif"), product / "throwaway.tif")
    out = tmp_path / "out.tif"
    words = ["translate", product, "-o", out, "--model", run / "model", "--sensor", "reflectance"]
    code, said = command(*words)
    assert code == 0, said
    with rasterio.open(out) as file:
        assert file.tags()["CROSSBAND_MODEL"] == "throwaway"
    # And without the file it is one line, which knows the name.
    if kind is installed:
        words[1] = product / "throwaway.tif"
        plain = environment["PYTHONPATH"].split(os.pathsep)[-1]
        code, said = command(*words, "--overwrite", env={"PYTHONPATH": plain})
        assert code == 2
        assert "unknown Generator 'ThrowawayGenerator'" in said
        assert said.count("\n") == 1


@pytest.mark.slow
def test_the_tests_over_the_registry_have_them(way, tmp_path):
    kind, _, environment = way
    files = {test for _, _, test in FILES.values()} | {"test_overfit"}
    if kind is dropped_in:
        files.add("test_recipes")
    own = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    report = tmp_path / "report.xml"
    words = ["-m", "pytest", "-k", "throwaway", "-p", "no:cacheprovider", f"--junitxml={report}"]
    words += [str(TESTS / f"{name}.py") for name in sorted(files)]
    done = subprocess.run(
        [sys.executable, *words],
        env={**own, **environment, "OMP_NUM_THREADS": "1"},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    cases = ElementTree.parse(report).getroot().iter("testcase")
    passed = [(c.get("classname"), c.get("name").partition("[")[0]) for c in cases if len(c) == 0]
    assert {name.rpartition(".")[2] for name, _ in passed} == files
    assert {
        "test_tiled_equals_whole",
        "test_discriminators_say_how_small_a_picture_they_can_judge",
        "test_resumed_equals_uninterrupted_bit_for_bit",
        "test_every_schedule_is_a_function_of_the_step_and_of_what_it_was_told",
        "test_every_method_overfits_one_batch",
    } <= {test for _, test in passed}
