"""Every recipe on real pairs of its task, small and alike: what docs/systems.md shows.

    python benchmarks/systems.py run [--task T ...] [--recipe R ...] [--seed S ...] [--reverse]
    python benchmarks/systems.py run --unreferenced     recipes without a run of reference.py
    python benchmarks/systems.py run --missing          what docs has no numbers of
    python benchmarks/systems.py table          what each must show, and whether it does
    python benchmarks/systems.py doc            write docs/systems.md from all finished runs,
                                                reference.py's and relations.py's among them

What is the same for all recipes of a task: the pairs, the samples that are seen, crops of at most
64 pixels, batches of 4. What a CPU makes smaller, by one rule: a network of over a million
parameters has a quarter of its width; what a crop of 64 has no room for goes (levels of a U-Net, a
scale of a discriminator, three quarters of a patch of 64); and what a recipe counts in steps
(growing, patience) keeps its share of the whole. Nothing else of a recipe is changed, nothing is
tuned.

Runs are done one after the other at a low priority. Finished ones are not run again, and what was
stopped (Ctrl-C, SIGTERM) goes on where it was: training resumes from its last checkpoint and gives
the same weights as without a stop. Several processes may work on one folder (`--reverse` begins at
the other end). After each run its numbers are in results.csv; the error at unseen places in the
course of the training is in run/logs/metrics.csv of each. `doc` keeps the numbers and a picture of
each finished run in docs/systems, so that a task may be run in parts, on several machines.

Run `manifests.py write` before. Pairs are those of task_pairs.py, as in reference.py. The images
lie beside the repository (`--data`); their SOURCES.md says where they come from.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import io
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
from reference_shown import HEAD, MEMBERS, further, row, wanted
from systems_budget import BATCH, BUDGET, CROP, LEFT_OUT, RADAR, SEEDS
from task_pairs import packed, pairs

from crossband.metrics import MODEL

ROOT = Path(__file__).resolve().parent.parent
TASKS = tuple(BUDGET)
#: Fitted as their recipes say, without a budget: what every system is held against.
BASELINES = ("mean", "linear", "mlp", "bicubic")
#: Nothing in them is random.
CLOSED = ("mean", "linear", "bicubic")
LARGE = 1_000_000
#: Points of the curve, and checkpoints, of a run.
POINTS = 20
#: Pixels of the window of a place that gives the curve.
TILE = 64
#: How nice a run is: everything else on the machine goes first.
NICE = 15
#: Exit codes of Ctrl-C and of SIGTERM.
STOPPED = (130, 75)
#: Metrics of results.csv; swd is the distance of the histograms of values, such as temperatures.
METRICS = ("mae", "rmse", "psnr", "ssim", "r", "swd")


def options(name: str, task: str, budget: int) -> list[str]:
    """Return the options that make a recipe small, by the rules at the top."""
    from crossband.training import recipe

    config = recipe.load(name)
    data = config["data"]["init_args"]
    found: dict[str, Any] = {}
    if task == "sar2optical":  # the recipes differ in what they take: here all take the same
        found["method.signature"] = json.dumps(RADAR)
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
        "data.steps": max(steps // POINTS, 1),
        "data.val_tile": TILE,
        "data.val_windows": 1,
        "method.max_steps": steps,
        "trainer.checkpoint_every": max(steps // POINTS, 1),
        "trainer.logger": "csv",
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
        if full.get(key, 0) > deepest and name in ("UNet", "DiscoUNet", "TwoStepThermal"):
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
    if a.unreferenced:
        names = [n for n in names if not recipe.load(n).get("reference")]
    names = sorted(names, key=lambda n: Path(n).stem in BASELINES)  # the slowest come last
    found = [
        (n.split("/")[0], n, seed)
        for seed in a.seed
        for n in names
        if seed == SEEDS[0] or Path(n).stem not in CLOSED
    ]
    if a.missing:
        known = kept_seeds(ROOT / "docs")
        found = [job for job in found if job[2] not in known.get(job[1], ())]
    return found[::-1] if a.reverse else found


def kept_seeds(docs: Path) -> dict[str, list[int]]:
    """Return recipe -> the seeds whose numbers are kept in docs; see `systems_doc.write`."""
    return {
        name: own["seeds"]
        for path in (docs / "systems.json", docs / "systems" / "runs.json")
        for task, runs in json.loads(path.read_text()).items()
        if runs["samples"] == BUDGET[task]  # else it was another training
        for name, own in runs["recipes"].items()
    }


def run(a: argparse.Namespace) -> int:
    """Fit and evaluate what is not there yet; return the exit code."""
    a.output.mkdir(parents=True, exist_ok=True)
    for task in a.task:
        path = a.output / f"{task}.csv"
        if not path.is_file():
            part = path.with_suffix(f".{os.getpid()}")
            pairs(task, a.data, own=a.own_split).to_csv(part, index=False)
            part.replace(path)
    failed = 0
    for task, name, seed in jobs(a):
        folder = a.output / name / f"seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # another process works on it
                continue
            if (folder / "run.json").is_file():
                continue
            try:
                one(folder, task, name, seed, a)
            except Failed as error:  # the others go on; the table says what was not run
                print(f"{name} seed {seed}: {error}", flush=True)
                if error.code in STOPPED:
                    return error.code
                failed = 1
        write_results(a.output)
    for task, name, seed in jobs(a):  # now, as samplers are held against another recipe's members
        show(task, name, seed, a.output)
    return failed


def one(folder: Path, task: str, name: str, seed: int, a: argparse.Namespace) -> None:
    """Fit a recipe with one seed, evaluate it, and leave run.json."""
    manifest, fitted = a.output / f"{task}.csv", folder / "run"
    budget = a.budget or BUDGET[task]
    given = [*options(name, task, budget), *(f"--{option}" for option in a.option)]
    clock, start = folder / "fit-seconds", time.monotonic()
    before = float(clock.read_text()) if clock.is_file() else 0.0  # until it was stopped
    if not (fitted / "model" / "model.json").is_file():
        begun = any((fitted / "checkpoints").glob("*.ckpt"))
        more = ["--resume"] if begun else ["--overwrite"] * fitted.is_dir()
        try:
            crossband("fit", name, "--data.manifest", packed(manifest), "--seed", seed,
                      "-o", fitted, *given, *more)  # fmt: skip
        finally:
            clock.write_text(str(before + time.monotonic() - start))
    took, start = float(clock.read_text()), time.monotonic()
    crossband("evaluate", "--model", fitted / "model", "--manifest", manifest, "--split", "test",
              "--overwrite", "-o", folder / "report")  # fmt: skip
    seconds = {"fit": took, "evaluate": time.monotonic() - start}
    part = folder / "run.part"
    part.write_text(json.dumps({"options": given, "samples": budget, "seconds": seconds}))
    part.replace(folder / "run.json")
    print(f"{name} seed {seed}: {took:.0f} s, {seconds['evaluate']:.0f} s", flush=True)


def show(task: str, name: str, seed: int, output: Path) -> None:
    """Leave shown.json of a finished run: what it must show beside its report."""
    folder = output / name / f"seed-{seed}"
    members = output / MEMBERS / f"seed-{seed}" / "run" / "model"
    if Path(name).stem in BASELINES or not (folder / "run.json").is_file():
        return
    known = {"options": json.loads((folder / "run.json").read_text())["options"]}
    if (folder / "shown.json").is_file():
        known = json.loads((folder / "shown.json").read_text())
        if set(wanted(name)) <= set(known):
            return
    if "members" in wanted(name) and not (members / "model.json").is_file():
        print(f"{name} seed {seed}: not judged, as {MEMBERS} is not there", flush=True)
        return
    manifest, part = output / f"{task}.csv", folder / "shown.part"
    found = further(name, folder, known, manifest=manifest, members=members)
    part.write_text(json.dumps(found, indent=1) + "\n")
    part.replace(folder / "shown.json")


def write_results(output: Path) -> None:
    """Write results.csv: a row for each finished run, of its model, the mean and the line."""
    rows = []
    for path in sorted(output.glob("*/*/seed-*/run.json")):
        images = pd.read_csv(path.parent / "report" / "per_image.csv")
        about = json.loads(path.read_text())
        found = {
            "recipe": "/".join(path.parts[-4:-2]),
            "seed": path.parts[-2].removeprefix("seed-"),
        }
        found |= {"samples": about["samples"], "fit_seconds": round(about["seconds"]["fit"])}
        for by in (MODEL, "mean", "linear"):
            means = images[images["by"] == by].mean(numeric_only=True)
            found |= {f"{by}_{metric}": means[metric] for metric in METRICS if metric in means}
        rows.append(found)
    part = output / f"results.{os.getpid()}"
    pd.DataFrame(rows).to_csv(part, index=False)
    part.replace(output / "results.csv")


class Failed(Exception):
    """A command that did not end well.

    Attributes:
        code: its exit code.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def crossband(*arguments: Any) -> None:
    """Run the real command, in this process: torch is imported once for all runs."""
    from crossband.cli.main import main

    words = io.StringIO()
    with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
        code = main([str(a) for a in arguments])
    if code:
        raise Failed(code, f"crossband {' '.join(map(str, arguments))}\n{words.getvalue()[-4000:]}")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    p = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    p.add_argument("what", choices=["run", "table", "doc"])
    p.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    p.add_argument("--output", type=Path, default=ROOT / "runs" / "systems")
    p.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    p.add_argument("--recipe", nargs="+", help="only these")
    p.add_argument("--seed", nargs="+", type=int, default=list(SEEDS))
    p.add_argument("--budget", type=int, help="samples, for a trial")
    p.add_argument("--unreferenced", action="store_true", help="only recipes without a run of "
                   "reference.py")  # fmt: skip
    p.add_argument("--missing", action="store_true", help="only recipes whose numbers are not kept "
                   "in docs")  # fmt: skip
    p.add_argument("--option", nargs="+", default=[], metavar="KEY=VALUE", help="of every recipe, "
                   "as method.penalty_reduction=mean")  # fmt: skip
    p.add_argument("--reverse", action="store_true", help="begin at the end of the list")
    p.add_argument("--own-split", action="store_true", help="of RoadScene: its frames from 8526 on")
    return p.parse_args(given)


def main() -> int:
    """Run what the command line says; return the exit code."""
    a = arguments()
    if a.what == "run":
        os.nice(NICE)
        return run(a)
    if a.what == "table":
        print(HEAD)
        for _, name, seed in jobs(a):
            if Path(name).stem not in BASELINES:
                print(row(f"{name} seed {seed}", name, a.output / name / f"seed-{seed}"))
        return 0
    from systems_doc import write

    write(a.output, ROOT / "docs", root=a.output.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
