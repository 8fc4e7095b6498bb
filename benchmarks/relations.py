"""Relations that papers report: does a small training on our chips show them?

    python benchmarks/manifests.py write            before the first run
    python benchmarks/relations.py run [--only RELATION ...]
    python benchmarks/relations.py table [--json FILE]

A relation compares two arms: trainings that differ in one thing. Each arm is trained with three
seeds, on three quarters of the Sentinel-2 chips of 64 pixels outside of the vault, and judged on
the other quarter (the first inner fold). Differences are paired by place. The interval is a
bootstrap over places and seeds, of 95 %. A relation is `shown` where the interval lies on the
paper's side of 0, `opposite` where it lies on the other side, and `not shown` where it holds 0.

A run takes a few minutes on one core, and has a low priority. What is finished is not run again,
and what was stopped goes on: `run` may be stopped at any time.

KID (Binkowski et al. 2018) has the kernel (x . y / D + 1)^3. Its features are those of a network
of random weights, as Naeem et al. 2020 (Reliable fidelity and diversity metrics) advise for images
that are unlike photographs; each feature is divided by its standard deviation over the targets.
A place's share of KID is its jackknife pseudo-value, so that KID too can be paired by place.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
import vault
from project import ROOT
from reference import NICE, command
from reference_shown import read_pairs
from relations_shown import MEASURES, RELATIONS, SEEDS, collect, table

from crossband import load
from crossband.data import manifest as manifests
from crossband.evaluation.evaluation import score_windows
from crossband.raster.grid import Window
from crossband.translate.window import translate_window

#: Chips whose error is logged in training.
WATCHED = 24

Array = NDArray[np.float64]
Options = Mapping[str, Any]

BASE: Options = {"data.crop": 64, "data.batch": 16, "trainer.logger": "csv", "baselines": []}
#: NIR-GAN's ResNet and discriminator, at a quarter of their width and with 4 blocks.
RESNET: Options = {
    "recipe": "rgb2nir/nir-gan",
    "method.generator.width": 16,
    "method.generator.blocks": 4,
    "method.generator.border": 0,
    "method.discriminator.width": 16,
    "method.schedule": "Constant",
    "data.gsd": None,
    "method.max_steps": 1500,
}
#: The small WGAN-GP at half of its width, with 3 critic steps and a tenth of its L1, so that the
#: critic matters in so short a training.
WGAN: Options = {
    "recipe": "rgb2nir/wgan-gp-small",
    "method.generator.width": 16,
    "method.discriminator.width": 16,
    "method.critic_steps": 3,
    "method.losses": [{"class_path": "L1", "init_args": {"weight": 10}}],
    "method.penalty_reduction": "mean",
    "method.max_steps": 800,
}
GROWING = {"width": 16, "levels": 3}
#: Progressive growing as in rgb2thermal/progressive, for chips of 64 pixels.
PROGRESSIVE: Options = {
    **WGAN,
    "method.critic_steps": 1,
    "method.optimizer.lr": 0.001,
    "method.optimizer.betas": [0.0, 0.99],
    "method.max_steps": 1500,
}


def _l1(*others: tuple[str, float]) -> list[dict[str, Any]]:
    indices = [
        {"class_path": "IndexLoss", "init_args": {"index": name, "weight": weight}}
        for name, weight in others
    ]
    return [{"class_path": "L1", "init_args": {"weight": 100}}, *indices]


def _growing(grown: int) -> Options:
    return {
        "method.generator": {
            "class_path": "ProgressiveUNet",
            "init_args": {**GROWING, "grown": grown},
        },
        "method.discriminator": {
            "class_path": "ProgressiveCritic",
            "init_args": {"source_channels": 3, "target_channels": 1, **GROWING, "grown": grown},
        },
    }  # fmt: skip


def _indices(weight: float) -> list[dict[str, Any]]:
    return _l1(*((name, weight) for name in ("NDVI", "NDWI", "EVI")))


PIXELS = {**RESNET, "method.adversarial_weight": 0.0}
ARMS: dict[str, Options] = {
    "l1": {**PIXELS, "method.losses": _l1()},
    "l1-gan": {**RESNET, "method.losses": _l1()},
    "l1-index": {**PIXELS, "method.losses": _indices(0.3333)},
    "l1-index-30": {**PIXELS, "method.losses": _indices(10.0)},
    "gan-conditional": {**RESNET, "method.losses": []},
    "gan-unconditional": {
        **RESNET,
        "method.losses": [],
        "method.discriminator.conditional": False,
    },
    "wgan-penalty": WGAN,
    "wgan-penalty-short": {**WGAN, "method.max_steps": 100},
    "wgan-clipping": {**WGAN, "method.penalty": 0.0, "method.weight_clip": 0.01},
    "wgan-sum": {**WGAN, "method.losses": _l1(), "method.penalty_reduction": "sum"},
    "wgan-mean": {**WGAN, "method.losses": _l1()},
    "progressive": {**PROGRESSIVE, **_growing(900)},
    "full-size": {**PROGRESSIVE, **_growing(1)},
}


def pairs(manifests_folder: Path, output: Path) -> pd.DataFrame:
    """Return the chips outside of the vault: the first inner fold is judged.

    Bands are written as plain GeoTIFFs: to decode JPEG 2000 anew in each run takes minutes.
    """
    table = vault.read("rgb2nir", folder=manifests_folder)
    table = table[table["family"] == "chips"].reset_index(drop=True)
    table["split"] = np.where(vault.inner_folds(table, 4) == 0, "test", "train")
    watched = table.index[table["split"] == "train"]
    table.loc[watched[:: len(watched) // WATCHED][:WATCHED], "split"] = "val"
    for keys, rows in table.groupby(["source", "source_bands", "target_bands"]):
        path, colours, nir = map(str, keys)
        plain = output / Path(path).with_suffix(".tif").name
        copy_bands(Path(path), plain, [int(b.split("=")[1]) for b in f"{colours},{nir}".split(",")])
        table.loc[rows.index, ["source", "target"]] = str(plain.resolve())
    return table.assign(source_bands="red=1,green=2,blue=3", target_bands="nir=4")


def copy_bands(path: Path, to: Path, bands: Sequence[int]) -> None:
    """Write some bands of a file as an uncompressed GeoTIFF in blocks of a chip."""
    with rasterio.open(path) as file:
        profile = {"dtype": file.dtypes[0], "height": file.height, "width": file.width}
        values = file.read(list(bands))
    blocks = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    with rasterio.open(to, "w", driver="GTiff", count=len(bands), **profile, **blocks) as file:
        file.write(values)


def options(arm: str, manifest: Path, steps: int | None = None) -> list[str]:
    """Return the options of an arm's training.

    Args:
        arm: one of `ARMS`.
        manifest: the pairs.
        steps: generator steps, for a trial.
    """
    given = {**BASE, **ARMS[arm], "data.manifest": str(manifest)}
    del given["recipe"]
    total = steps or given["method.max_steps"]
    batches = total * given.get("method.critic_steps", 1)
    given |= {
        "method.max_steps": total,
        "data.steps": max(batches // 4, 1),
        "trainer.checkpoint_every": max(total // 4, 1),
    }
    return [f"--{key}={json.dumps(value)}" for key, value in given.items()]


def run(arm: str, seed: int, a: argparse.Namespace) -> int:
    """Train and judge an arm with a seed unless that is done; return the exit code."""
    folder = a.output / arm / f"seed-{seed}"
    given = options(arm, a.output / "pairs.csv", a.steps)
    kept = folder / "options.json"
    if kept.is_file() and json.loads(kept.read_text()) != given:
        print(f"{folder}: begun with other options; remove the folder to train it anew")
        return 2
    if (folder / "places.csv").is_file():
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(given))
    fitted = folder / "run"
    begun = any((fitted / "checkpoints").glob("*.ckpt"))
    if not (fitted / "model" / "model.json").is_file():
        more = ["--resume"] if begun else ["--overwrite"] * fitted.is_dir()
        code = command("fit", ARMS[arm]["recipe"], "-o", fitted, "--seed", seed, *given, *more)
        if code:
            return code
    part = folder / "places.part"
    judge(folder, a.output / "pairs.csv").to_csv(part, index=False)
    part.replace(folder / "places.csv")
    shutil.rmtree(fitted / "checkpoints", ignore_errors=True)
    print(f"{arm}, seed {seed}: judged", flush=True)
    return 0


def judge(folder: Path, manifest: Path) -> pd.DataFrame:
    """Return the measures of a fitted run at each judged place."""
    model = load(folder / "run" / "model")
    rows = manifests.read(manifest)
    rows = rows[rows["split"] == "test"].reset_index(drop=True)
    extract = random_network(len(model.signature.target))
    found: list[dict[str, Any]] = []
    seen: dict[str, list[Array]] = {"target": [], "output": []}
    for group, (source, truth, mask) in zip(rows["group"], read_pairs(model, rows), strict=True):
        bands, unit = tuple(model.signature.target), model.signature.target_unit(source.unit)
        target = Window(truth, mask, source.grid, bands, unit)
        output = translate_window(model, source)
        numbers = score_windows(output, source, target, ["NDVI"]).numbers()
        found.append({"group": group, **{m: numbers[m] for m in MEASURES if m in numbers}})
        for side, window in (("target", target), ("output", output)):
            seen[side].append(features(extract, np.where(mask, window.values, 0.0)))
    shares = 1000.0 * kid_shares(np.stack(seen["target"]), np.stack(seen["output"]))
    return pd.DataFrame(found).assign(kid=shares)


def random_network(bands: int) -> nn.Sequential:
    """Return convolutions of fixed random weights: four levels, each of half the size."""
    torch.manual_seed(0)
    layers, before = [], bands
    for channels in (32, 64, 128, 128):
        convolution = nn.Conv2d(before, channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight)
        layers.append(nn.Sequential(convolution, nn.ReLU(), nn.AvgPool2d(2)))
        before = channels
    return nn.Sequential(*layers)


def features(network: nn.Sequential, values: NDArray[np.floating[Any]]) -> Array:
    """Return the mean response of each channel of each level to a picture [C, H, W]."""
    x: Tensor = torch.from_numpy(np.asarray(values, np.float32))[None]
    found = []
    with torch.inference_mode():
        for level in network:
            x = level(x)
            found.append(x.mean(dim=(0, 2, 3)).double().numpy())
    return np.concatenate(found)


def _kernel(x: Array, y: Array) -> Array:
    return np.asarray((x @ y.T / x.shape[1] + 1.0) ** 3)


def kid_shares(target: Array, output: Array) -> Array:
    """Return each pair's jackknife pseudo-value of KID; their mean is KID, unbiased for pairs.

    With h(i, j) = k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(y_i, x_j), KID is the mean of h over
    i != j. Without pair i it is (n (n - 1) KID - 2 sum_j h(i, j)) / ((n - 1) (n - 2)).

    Args:
        target: features [n, D].
        output: features [n, D] of the same places.
    """
    spread = target.std(axis=0) + 1e-12
    x, y = target / spread, output / spread
    cross = _kernel(x, y)
    h = _kernel(x, x) + _kernel(y, y) - cross - cross.T
    np.fill_diagonal(h, 0.0)
    n, sums = len(x), h.sum(axis=1)
    whole = sums.sum() / (n * (n - 1))
    without = (sums.sum() - 2.0 * sums) / ((n - 1) * (n - 2))
    return np.asarray(n * whole - (n - 1) * without)


def main() -> int:
    """Read the command line."""
    p = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    p.add_argument("what", choices=["run", "table"])
    p.add_argument("--only", nargs="+", choices=list(RELATIONS), metavar="RELATION",
                   help=", ".join(RELATIONS))  # fmt: skip
    p.add_argument("--manifests", type=Path, default=vault.FOLDER)
    p.add_argument("--output", type=Path, default=ROOT / "runs" / "relations")
    p.add_argument("--steps", type=int, help="fewer steps, for a trial")
    p.add_argument("--json", type=Path, help="write the numbers to FILE")
    a = p.parse_args()
    names = a.only or list(RELATIONS)
    if a.what == "run":
        os.nice(NICE)
        a.output.mkdir(parents=True, exist_ok=True)
        if not (a.output / "pairs.csv").is_file():
            part = a.output / "pairs.part"
            pairs(a.manifests, a.output).to_csv(part, index=False)
            part.replace(a.output / "pairs.csv")
        arms = dict.fromkeys(arm for name in names for arm in RELATIONS[name].arms)
        for arm in arms:  # an arm of several relations is run once
            for seed in SEEDS:
                if code := run(arm, seed, a):
                    return code
    rows = collect(a.output, names)
    print(table(rows))
    if a.json:
        a.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
