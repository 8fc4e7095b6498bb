"""Every recipe on real pairs of its task, small and alike: what docs/systems.md shows.

    python benchmarks/systems.py run [--task T ...] [--recipe R ...] [--seed S ...] [--reverse]
    python benchmarks/systems.py doc            write docs/systems.md from all finished runs,
                                                reference.py's and relations.py's among them

What is the same for all recipes of a task: the pairs, the samples that are seen, crops of at most
64 pixels, batches of 4. What a CPU makes smaller, by one rule: a network of over a million
parameters has a quarter of its width; what a crop of 64 has no room for goes (levels of a U-Net, a
scale of a discriminator, three quarters of a patch of 64); and what a recipe counts in steps
(growing, patience) keeps its share of the whole. Nothing else of a recipe is changed, nothing is
tuned. Runs that are there are not run again; several processes may work on one folder (`--reverse`
begins at the other end).

Run `manifests.py write` before. Pairs are those outside of the vault; the first inner fold is
judged.

The images lie beside the repository (`--data`); their SOURCES.md says where they come from.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio

sys.path.insert(0, str(Path(__file__).parent))
import vault
from systems_budget import BATCH, BUDGET, CROP, LEFT_OUT, SEEDS

from crossband.raster.gdal import gdal

ROOT = Path(__file__).resolve().parent.parent
TASKS = tuple(BUDGET)
#: Fitted as their recipes say, without a budget: what every system is held against.
BASELINES = ("mean", "linear", "mlp", "bicubic")
#: Nothing in them is random.
CLOSED = ("mean", "linear", "bicubic")
SIDE = 256
LARGE = 1_000_000
#: Frames of a drive that lie between two parts of it.
GAP = 100


def pairs(task: str, data: Path, *, own: bool = False) -> pd.DataFrame:
    """Return the manifest of a task, with a split that cuts no group, or RoadScene's own."""
    table = {
        "rgb2nir": _rgb2nir,
        "sar2optical": _sar2optical,
        "rgb2thermal": _rgb2thermal,
        "super-resolution": _super_resolution,
    }[task](data)
    if own and task == "rgb2thermal":
        table["split"] = np.where(table["source"].str.contains("/val/"), "test", "train")
    test = table["split"] == "test"
    table["source_window"] = table["target_window"] = None
    for row in table[test].itertuples():
        window = middle(Path(str(row.target)))
        table.loc[row.Index, "target_window"] = window
        if row.source:
            table.loc[row.Index, "source_window"] = window
    return table


def middle(path: Path) -> str:
    """Return the window of at most SIDE pixels in the middle, as GDAL's srcwin."""
    with gdal(), rasterio.open(path) as d:
        # Whole cells of every scale that is offered.
        w, h = (min(SIDE, n // 12 * 12) for n in (d.width, d.height))
        return f"{(d.width - w) // 2},{(d.height - h) // 2},{w},{h}"


def _rgb2nir(data: Path) -> pd.DataFrame:
    """Sentinel-2 and HLS, reflectance; see `_fold`."""
    table = _fold("rgb2nir")
    return table[table["family"].isin(["Sentinel-2", "HLS"])].reset_index(drop=True)


def _sar2optical(data: Path) -> pd.DataFrame:
    """Sentinel-1 in decibels and Sentinel-2; see `_fold`."""
    return _fold("sar2optical")


def _fold(task: str) -> pd.DataFrame:
    """Return the rows outside of the vault in a physical unit; the first inner fold is judged."""
    table = vault.read(task)
    # Reflectance and decibels: units are never averaged together.
    table = table[~table["sensor"].isin(["display", "naip"])].reset_index(drop=True)
    table["split"] = np.where(vault.inner_folds(table, 4) == 0, "test", "train")
    first = ~table.duplicated("group")  # of a place with many dates one is judged
    return table[(table["split"] == "train") | first].reset_index(drop=True)


def _rgb2thermal(data: Path) -> pd.DataFrame:
    """RoadScene; where GAP frames or more are missing a part begins; every third is judged.

    Its own split (`--own-split`) judges one stretch of road of another brightness, where pix2pix
    gets worse the longer it learns; docs/systems.md has the numbers.
    """
    folder = (data / "rgb2thermal" / "roadscene").resolve()
    rows, frames = [], sorted(folder.glob("*/RGB/*.jpg"), key=lambda path: path.name)
    part, last = 0, None
    for path in frames:
        frame = int(path.stem.split("_")[1])
        part += last is not None and frame - last >= GAP
        last = frame
        rows.append(
            {
                "source": str(path),
                "source_bands": "red=1,green=2,blue=3",
                "target": str(path.parents[1] / "thermal_8_bit" / path.name),
                "target_bands": "thermal=1",
                "sensor": "display",
                "group": f"part {part}",
                "split": "test" if part % 3 == 1 else "train",
            }
        )
    return pd.DataFrame(rows)


def _super_resolution(data: Path) -> pd.DataFrame:
    """The colours of satellite scenes; the source is made from the target; see `_fold`."""
    table = _fold("super-resolution")
    families = ["Sentinel-2", "HLS", "Landsat"]
    return (
        table[table["family"].isin(families)].assign(degradation="Bicubic").reset_index(drop=True)
    )


def options(name: str, task: str, budget: int) -> list[str]:
    """Return the options that make a recipe small, by the rules at the top."""
    from crossband.training import recipe

    config = recipe.load(name)
    data = config["data"]["init_args"]
    found: dict[str, Any] = {}
    if task == "sar2optical":  # the recipes differ in what they take: here all take the same
        found["method.signature"] = json.dumps(
            {
                "source": ["vv", "vh"],
                "target": ["red", "green", "blue"],
                "units": {
                    "db": {
                        "source": [[-25, 5], [-32, -2]],
                        "target": [[0, 0.5]] * 3,
                        "target_unit": "reflectance",
                    }
                },
            }
        )
        found["method.generator.in_channels"] = 2
        if "discriminator" in config["method"]["init_args"]:
            found["method.discriminator.source_channels"] = 2
    if Path(name).stem in BASELINES:
        return [f"--{k}={v}" for k, v in found.items()]
    crop = min(data["crop"], CROP)
    steps = budget // BATCH
    share = steps / config["method"]["init_args"]["max_steps"]
    found |= {
        "data.crop": crop,
        "data.batch": BATCH,
        "data.steps": max(steps // 4, 1),
        "method.max_steps": steps,
        "trainer.checkpoint_every": steps,
        "trainer.logger": "none",
        "baselines": "[]",
        "blend": "{}",
    }
    found |= dict(_smaller(config["method"], "method", crop, share))
    return [f"--{k}={v}" for k, v in found.items()]


def _smaller(node: Any, path: str, crop: int, share: float) -> Iterator[tuple[str, Any]]:
    if isinstance(node, list):
        for number, item in enumerate(node):
            yield from _smaller(item, f"{path}.{number}", crop, share)
    if not isinstance(node, dict):
        return
    if "class_path" in node:
        yield from _one(node, path, crop, share)
    for key, value in (node.get("init_args") or {}).items():
        yield from _smaller(value, f"{path}.{key}", crop, share)


def _one(node: dict[str, Any], path: str, crop: int, share: float) -> Iterator[tuple[str, Any]]:
    from crossband.core.registry import available, build
    from crossband.networks import Discriminator, Generator

    name, given = node["class_path"], dict(node.get("init_args") or {})
    if "patience" in given:
        yield f"{path}.patience", max(round(given["patience"] * share), 1)
    if name == "SpatialCorrelative":  # a quarter of the crop, as in the recipe
        yield f"{path}.patch", crop // 4
    family = next((f for f in (Generator, Discriminator) if name in available(f)), None)
    if family is None:
        return
    network: Any = build(family, name, given)
    full = network.arguments
    deepest = crop.bit_length() - 1
    for key in ("levels", "contrast_levels"):
        if full.get(key, 0) > deepest and name in ("UNet", "TwoStepThermal"):
            yield f"{path}.{key}", deepest
    if name == "MultiScalePatchGAN":  # each scale halves the crop, and sees 70 pixels of it
        yield f"{path}.scales", 2
    if "grown" in full:
        yield f"{path}.grown", max(round(full["grown"] * share), 1)
    if sum(p.numel() for p in network.parameters()) < LARGE:
        return
    if "field" in full:
        inner = full["field"]["arguments"]
        yield (
            f"{path}.field",
            json.dumps({**full["field"], "arguments": {**inner, "width": inner["width"] // 4}}),
        )
    for key in ("width", "heads"):
        if key in full:
            yield f"{path}.{key}", full[key] // 4


def jobs(a: argparse.Namespace) -> list[tuple[str, str, int]]:
    """Return task, recipe and seed of every run, a seed after the other."""
    from crossband.training import recipe

    names = [n for n in recipe.available() if n.split("/")[0] in a.task]
    names = [n for n in names if n.split("/")[1] not in LEFT_OUT]
    if a.recipe:
        names = [n for n in names if n in a.recipe]
    names = sorted(names, key=lambda n: Path(n).stem in BASELINES)  # the slowest come last
    found = [
        (n.split("/")[0], n, seed)
        for seed in a.seed
        for n in names
        if seed == SEEDS[0] or Path(n).stem not in CLOSED
    ]
    return found[::-1] if a.reverse else found


def run(a: argparse.Namespace) -> None:
    """Fit and evaluate what is not there yet."""
    a.output.mkdir(parents=True, exist_ok=True)
    for task in a.task:
        path = a.output / f"{task}.csv"
        if not path.is_file():
            part = path.with_suffix(f".{os.getpid()}")
            pairs(task, a.data, own=a.own_split).to_csv(part, index=False)
            part.replace(path)
    for task, name, seed in jobs(a):
        folder = a.output / name / f"seed-{seed}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if (folder / "report" / "metrics.json").is_file() or not a.again:
                continue
            shutil.rmtree(folder)
            folder.mkdir()
        try:
            one(folder, task, name, seed, a)
        except SystemExit as error:  # the others go on; the table says what was not run
            print(f"{name} seed {seed}: {error}", flush=True)


def one(folder: Path, task: str, name: str, seed: int, a: argparse.Namespace) -> None:
    """Fit a recipe with one seed, evaluate it, and leave run.json."""
    start = time.monotonic()
    manifest = a.output / f"{task}.csv"
    given = options(name, task, a.budget or BUDGET[task])
    crossband("fit", name, "--data.manifest", manifest, "--data.val_fraction", 0.1,
              "--seed", seed, "-o", folder / "run", *given)  # fmt: skip
    fitted = time.monotonic()
    crossband("evaluate", "--model", folder / "run" / "model", "--manifest", manifest,
              "--split", "test", "-o", folder / "report")  # fmt: skip
    took = {"fit": fitted - start, "evaluate": time.monotonic() - fitted}
    (folder / "run.json").write_text(json.dumps({"options": given, "seconds": took}))
    print(f"{name} seed {seed}: {took['fit']:.0f} s, {took['evaluate']:.0f} s", flush=True)


def crossband(*arguments: Any) -> None:
    """Run the real command, in this process: torch is imported once for all runs."""
    from crossband.cli.main import main

    words = io.StringIO()
    with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
        code = main([str(a) for a in arguments])
    if code:
        raise SystemExit(f"crossband {' '.join(map(str, arguments))}\n{words.getvalue()[-4000:]}")


def main() -> None:
    """Read the command line."""
    p = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    p.add_argument("what", choices=["run", "doc"])
    p.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    p.add_argument("--output", type=Path, default=ROOT / "runs" / "systems")
    p.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    p.add_argument("--recipe", nargs="+", help="only these")
    p.add_argument("--seed", nargs="+", type=int, default=list(SEEDS))
    p.add_argument("--budget", type=int, help="samples, for a trial")
    p.add_argument("--reverse", action="store_true", help="begin at the end of the list")
    p.add_argument("--again", action="store_true", help="run anew what was begun and not finished")
    p.add_argument("--own-split", action="store_true", help="of RoadScene: its frames from 8526 on")
    a = p.parse_args()
    if a.what == "run":
        run(a)
    else:
        from systems_doc import write

        write(a.output, ROOT / "docs", root=a.output.parent)


if __name__ == "__main__":
    main()
