"""Long checks; what they saw is written to docs/soak.md.

    python benchmarks/soak.py [PART ...] [--kills 10] [--seeds 3] [--steps 400] [--out FILE]

Parts, all of them where none is named:

training: `crossband fit` is killed (SIGKILL) at ten random moments and resumed each time; weights,
    average and optimisers must equal those of an uninterrupted run, bit for bit. And for each
    adversarial objective, bf16 against fp32 on a real scene (the Sentinel-2 sample of spyndex: the
    western half trains, the eastern half judges), several seeds each; the difference of the means
    must lie within the spread of the seeds.
loader: memory of loading processes over 20,000 reads (`soak_loader.py`).
kills: `crossband translate` killed ten times and resumed (`soak_kills.py`).
scenes: memory over 200 scenes in one process (`soak_scenes.py`).
memory: peaks of small and large scenes (`soak_memory.py`); needs 12 GB of disk.

The last four also run alone, by the script that is named.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import soak_kills
import soak_loader
import soak_memory
import soak_scenes
import torch
import yaml
from affine import Affine
from soak_page import HEAD, arguments, put

from crossband import load
from crossband.cli.demo import sample

TESTS = Path(__file__).parents[1] / "tests"
KILLED = {"PairedGAN": TESTS / "recipe.yaml", "CycleGAN": TESTS / "cyclegan.yaml"}
BANDS = ("blue", "green", "red", "nir")


def start(*arguments: Any) -> subprocess.Popen[str]:
    """Start the real command in a process of one thread."""
    command = [sys.executable, "-m", "crossband", *map(str, arguments)]
    return subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a command that must succeed."""
    _, err = process.communicate(timeout=1800)
    if process.returncode != 0:
        raise SystemExit(f"a run failed: {err}")


def step_of(checkpoint: Path) -> int:
    """Return the step of a checkpoint; 0 where there is none."""
    if not checkpoint.exists():
        return 0
    return int(torch.load(checkpoint, weights_only=True)["crossband"]["step"])


def kill_at_random(
    recipe: Path, options: Sequence[Any], folder: Path, kills: int, seed: int
) -> list[int]:
    """Kill the command at random moments, resume it after each, and let it end at last.

    A moment is a number of new checkpoints, and a little time: seconds alone mean another part of
    the run on another machine. There is at least one, so that each start gets somewhere.

    Returns:
        The step that each kill left in the last checkpoint; shorter than `kills` where the run
        ended before it was killed.
    """
    draw = random.Random(seed)
    command = ["fit", recipe, "-o", folder, *options]
    last = folder / "checkpoints/last.ckpt"
    left: list[int] = []
    for _ in range(kills):
        process = start(*command, *(["--resume"] if last.exists() else []))
        seen, wanted = last.stat().st_mtime_ns if last.exists() else 0, draw.randint(1, 5)
        while process.poll() is None and wanted:
            now = last.stat().st_mtime_ns if last.exists() else seen
            wanted, seen = wanted - (now != seen), now
            time.sleep(0.002)
        time.sleep(draw.uniform(0.0, 0.05))
        process.kill()
        _, err = process.communicate()
        if process.returncode == 0:
            return left
        if process.returncode != -signal.SIGKILL:
            raise SystemExit(f"a run failed: {err}")
        left.append(step_of(last))
    finish(start(*command, "--resume"))
    return left


def same(one: Any, other: Any) -> bool:
    """Say whether two checkpoints' states are equal, bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def same_run(one: Path, other: Path) -> bool:
    """Say whether two finished runs have the same weights, average, optimisers and counters."""
    a, b = (
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True) for folder in (one, other)
    )
    return all(same(a[key], b[key]) for key in ("state_dict", "optimizer_states", "crossband"))


def write_scenes(folder: Path) -> Path:
    """Write the halves of the Sentinel-2 sample, and their manifest."""
    stored = sample()
    values = np.stack([stored[b] for b in BANDS]).astype(np.float32) * 1e-4
    half = values.shape[2] // 2
    for name, part in (("train", values[:, :, :half]), ("val", values[:, :, half:])):
        profile: dict[str, Any] = {"count": 4, "height": part.shape[1], "width": part.shape[2]}
        profile |= {"dtype": "float32", "transform": Affine(10, 0, 0, 0, -10, 0)}
        with rasterio.open(folder / f"{name}.tif", "w", **profile) as out:
            out.write(part)
            out.descriptions = BANDS
    table = pd.DataFrame({"source": ["train.tif", "val.tif"], "target": ["train.tif", "val.tif"]})
    table = table.assign(sensor="reflectance", split=["train", "val"])
    table.to_csv(folder / "pairs.csv", index=False)
    return folder / "pairs.csv"


def precision_recipe(objective: str, precision: str, seed: int, steps: int) -> dict[str, Any]:
    """Return a recipe of one run of the precision check."""
    recipe: dict[str, Any] = yaml.safe_load(KILLED["PairedGAN"].read_text())
    method = recipe["method"]["init_args"]
    method["generator"]["init_args"] |= {"width": 32, "depth": 2, "hidden": 16, "drop_path": 0.0}
    method |= {
        "losses": [{"class_path": "L1", "init_args": {"weight": 10.0}}],
        "optimizer": {"class_path": "Adam", "init_args": {"lr": 0.002, "betas": [0.5, 0.99]}},
        "discriminator": {
            "class_path": "PatchGAN",
            "init_args": {"width": 16, "layers": 2, "norm": "none"},
        },
        "adversarial": objective,
        "adversarial_weight": 0.1,
        "penalty": 10.0 if objective == "wasserstein" else 0.0,
        "max_steps": steps,
        "ema_decay": 0.98,
        "clip": 0.0,
    }
    recipe["data"]["init_args"] |= {"crop": 48, "batch": 8, "steps": steps, "transforms": ["Flip"]}
    recipe["data"]["init_args"] |= {"resolution": [1.0, 1.0], "cache_mb": 64}
    return recipe | {"precision": precision, "seed": seed, "device": "cpu"}


def error(model: Path, scene: Path) -> float:
    """Return the MAE of a model at a scene, in reflectance."""
    with rasterio.open(scene) as file:
        blue, green, red, nir = torch.from_numpy(file.read())
    with torch.inference_mode():
        output = load(model)(torch.stack([red, green, blue]))
    return float((output[0] - nir).abs().mean())


def kill_check(kills: int, folder: Path, pairs: Path, seed: int) -> list[dict[str, Any]]:
    """Run the first check."""
    rows = []
    for name, recipe in KILLED.items():
        options = ["--data.manifest", pairs, "--device", "cpu", "--method.max_steps", 150 * kills]
        options += ["--trainer.checkpoint_every", "7"]
        whole, killed = folder / f"{name}-whole", folder / f"{name}-killed"
        finish(start("fit", recipe, "-o", whole, *options))
        left = kill_at_random(recipe, options, killed, kills, seed)
        rows.append({"method": name, "left": left, "steps": 150 * kills})
        rows[-1]["same"] = len(left) == kills and same_run(whole, killed)
        print(rows[-1], flush=True)
    return rows


def precision_check(seeds: int, steps: int, folder: Path) -> list[dict[str, Any]]:
    """Run the second check, two processes at a time."""
    from crossband.training.losses.adversarial import GAN_LOSSES

    pairs = write_scenes(folder)
    rows = []
    for objective in GAN_LOSSES:
        errors: dict[str, list[float]] = {"fp32": [], "bf16": []}
        for seed in range(seeds):
            runs = {}
            for precision in errors:
                file = folder / f"{objective}-{precision}-{seed}.yaml"
                file.write_text(yaml.safe_dump(precision_recipe(objective, precision, seed, steps)))
                out = file.with_suffix("")
                runs[precision] = out, start("fit", file, "--data.manifest", pairs, "-o", out)
            for precision, (out, process) in runs.items():
                finish(process)
                errors[precision].append(error(out / "model", folder / "val.tif"))
        gap = abs(statistics.mean(errors["bf16"]) - statistics.mean(errors["fp32"]))
        spread = max(max(e) - min(e) for e in errors.values())
        rows.append({"objective": objective, **errors, "gap": gap, "spread": spread})
        rows[-1]["within"] = gap <= spread
        print(rows[-1], flush=True)
    return rows


def sections(result: dict[str, Any]) -> list[str]:
    """Return the sections of the page on training."""
    written = (
        f"Written by `python benchmarks/soak.py training` ({result['minutes']:.0f} minutes, "
        f"{result['machine']}, torch {torch.__version__}, random seed {result['seed']}): "
    )
    kills = [
        "## Killed and resumed",
        "",
        f"{written}`crossband fit` killed by SIGKILL at random moments, each time resumed by "
        "`--resume`, compared with an uninterrupted run: weights, average, optimisers, schedule, "
        "replay and counters, bit for bit.",
        "",
        "| method | steps | step of the last checkpoint at each kill | same |",
        "|---|---|---|---|",
    ]
    for row in result["kills"]:
        left = ", ".join(map(str, row["left"]))
        verdict = "yes" if row["same"] else "NO"
        kills.append(f"| {row['method']} | {row['steps']} | {left} | {verdict} |")
    precision = [
        "## bf16 against fp32",
        "",
        f"{written}MAE in reflectance at the eastern half of spyndex's Sentinel-2 sample, trained "
        "on the western half; each number is one seed. The gap is between the means, the spread "
        "between the best and the worst seed of one precision.",
        "",
        "| objective | fp32 | bf16 | gap | spread | within |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["precision"]:
        cells = [", ".join(f"{e:.4f}" for e in row[p]) for p in ("fp32", "bf16")]
        verdict = "yes" if row["within"] else "NO"
        precision.append(
            f"| {row['objective']} | {cells[0]} | {cells[1]} | {row['gap']:.4f} | "
            f"{row['spread']:.4f} | {verdict} |"
        )
    return ["\n".join([*kills, ""]), "\n".join([*precision, ""])]


def training(a: argparse.Namespace) -> tuple[list[str], dict[str, Any], bool]:
    """Run the checks of training; returns sections, numbers, and whether all is well."""
    begun = time.time()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        precision = precision_check(a.seeds, a.steps, folder)
        kills = kill_check(a.kills, folder, folder / "pairs.csv", a.seed)
    result = {"kills": kills, "precision": precision, "seed": a.seed}
    result |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    result["minutes"] = (time.time() - begun) / 60
    well = all([*(r["same"] for r in kills), *(r["within"] for r in precision)])
    return sections(result), result, well


def loader(a: argparse.Namespace) -> tuple[list[str], dict[str, Any], bool]:
    """Run the check of loading processes."""
    result = soak_loader.check(soak_loader.READS, soak_loader.WORKERS)
    well = all(row["within"] for row in result["rows"])
    return [soak_loader.section(result)], result, well


def kills(a: argparse.Namespace) -> tuple[list[str], dict[str, Any], bool]:
    """Run the check of killed translations."""
    result = soak_kills.check()
    return [soak_kills.section(result)], result, result["same"]


def scenes(a: argparse.Namespace) -> tuple[list[str], dict[str, Any], bool]:
    """Run the check of many scenes."""
    result = soak_scenes.check()
    return [soak_scenes.section(result)], result, result["within"]


def memory(a: argparse.Namespace) -> tuple[list[str], dict[str, Any], bool]:
    """Run the check of large scenes."""
    result = soak_memory.check()
    return [soak_memory.section(result)], result, result["within"]


PARTS = {part.__name__: part for part in (training, loader, kills, scenes, memory)}


def main() -> None:
    """Run the checks, write their sections, and fail where one fails."""
    parser = arguments(__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    a = parser.parse_args()
    unknown = [name for name in a.parts if name not in PARTS]
    if unknown:
        parser.error(f"no part is named {unknown[0]}: {', '.join(PARTS)}")
    page = a.out.read_text() if a.out.exists() else HEAD
    found: dict[str, Any] = {}
    failed = []
    for name in a.parts or PARTS:
        new, found[name], well = PARTS[name](a)
        for section in new:
            page = put(page, section)
        a.out.write_text(page)  # what is known stays known if a later part breaks
        failed += [] if well else [name]
    if a.json:
        a.json.write_text(json.dumps(found, indent=1) + "\n")
    if failed:
        raise SystemExit(f"a check failed ({', '.join(failed)}): see {a.out}")


if __name__ == "__main__":
    main()
