"""A network, a method and a recipe are one file each: dropped into the package, or installed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import rasterio
import yaml

import crossband

NETWORK = '''
from torch import Tensor, nn

from crossband.networks.base import Generator


class Throwaway(Generator):
    """A convolution, and its answer shifted."""

    def __init__(self, in_channels: int = 3, out_channels: int = 1, shift: float = 0.0) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.margin = in_channels, out_channels, 1
        self.layer, self.shift = nn.Conv2d(in_channels, out_channels, 3, padding=1), shift

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.shift
'''
METHOD = '''
from lightning.pytorch.cli import OptimizerCallable

from crossband.training.losses.base import masked_mean
from crossband.training.methods.base import Method
from crossband.networks.base import Generator
from crossband.core.signature import Signature


class Steep(Method):
    """A power of the error; `power` is an option of recipes at once."""

    def __init__(
        self,
        signature: Signature,
        generator: Generator,
        *,
        optimizer: OptimizerCallable,
        power: float = 4.0,
        **options,
    ) -> None:
        super().__init__(signature, generator, **options)
        self.optimizer, self.power = optimizer, power

    def parts(self):
        return {"generator": (self.optimizer, [self.generator])}

    def backward_losses(self, batch, generator):
        p = self.predict_batch(self.generator, batch)
        value = masked_mean((p.output - p.target).abs() ** self.power, p.mask).mean()
        self.record_loss("power", value)
        self.accumulate_gradients(value, self.generator)
'''
RECIPE = {
    "name": "throwaway",
    "task": "rgb2nir",
    "method": {
        "class_path": "Steep",
        "init_args": {
            "signature": {
                "source": ["red", "green", "blue"],
                "target": ["nir"],
                "units": {"reflectance": {"source": [[0, 0.4]] * 3, "target": [[0, 0.6]]}},
            },
            "generator": {"class_path": "Throwaway", "init_args": {"shift": 0.25}},
            "optimizer": {"class_path": "Adam", "init_args": {"lr": 0.01}},
            "power": 2.0,
        },
    },
    "data": {"class_path": "Pairs", "init_args": {"crop": 16, "batch": 2, "steps": 2}},
}


def dropped_in(folder):
    """Copy the package and add a file to each of three of its folders, no other one touched."""
    package = folder / "crossband"
    here = Path(crossband.__file__).parent
    shutil.copytree(here, package, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    (package / "networks/throwaway.py").write_text(NETWORK)
    (package / "methods/steep.py").write_text(METHOD)
    (package / "recipes/rgb2nir/throwaway.yaml").write_text("# Ours.\n" + yaml.safe_dump(RECIPE))
    return "rgb2nir/throwaway"


def installed(folder):
    """Install another package: one module, and the entry points that a build writes beside it."""
    about = folder / "throwaway-1.0.dist-info"
    about.mkdir()
    (folder / "throwaway.py").write_text(NETWORK + METHOD)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: throwaway\nVersion: 1.0\n")
    points = {"crossband.generator": "Throwaway", "crossband.method": "Steep"}
    text = "".join(f"[{group}]\n{n} = throwaway:{n}\n" for group, n in points.items())
    (about / "entry_points.txt").write_text(text)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    return str(folder / "recipe.yaml")


@pytest.mark.parametrize("way", [dropped_in, installed])
def test_one_file_is_found_fitted_and_translated_with(way, line_pairs, crossband_command, tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    recipe = way(folder)
    paths = [folder] if way is dropped_in else [folder, Path(crossband.__file__).parents[1]]
    environment = {"PYTHONPATH": ":".join(map(str, paths))}
    run = tmp_path / "run"
    arguments = ["--data.manifest", line_pairs, "--trainer.logger=csv", "--method.power=3"]
    done = crossband_command("fit", recipe, "--fast-run", "-o", run, *arguments, env=environment)
    assert done.returncode == 0, done.stderr
    assert "loss/power" in (run / "logs/metrics.csv").read_text()
    about = json.loads((run / "model/model.json").read_text())
    assert about["network"]["class"] == "Throwaway"
    assert about["network"]["arguments"]["shift"] == 0.25
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["method"]["init_args"]["power"] == 3

    # A process that has not seen the file yet finds it by the name in the model folder.
    source = line_pairs.with_name("0.tif")
    out = tmp_path / "out.tif"
    command = ["translate", source, "-o", out, "--model", run / "model", "--sensor", "reflectance"]
    done = crossband_command(*command, env=environment)
    assert done.returncode == 0, done.stderr
    with rasterio.open(out) as file:
        assert file.tags()["CROSSBAND_MODEL"] == "throwaway"
    # And without the file it is one line, which knows the name.
    if way is installed:
        done = crossband_command(*command, "--overwrite", env={"PYTHONPATH": str(paths[-1])})
        assert done.returncode == 2
        assert "unknown Generator 'Throwaway'" in done.stderr
        assert done.stderr.count("\n") == 1
