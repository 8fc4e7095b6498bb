"""docs/systems.md as text, from the numbers in docs alone: `page` opens no run and no picture."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import photographs_shown
from relations_shown import collect
from relations_shown import table as relations_table
from systems_budget import BATCH, CROP
from systems_text import ADVICE, STORIES, WHY

from crossband.metrics import Metric, describe
from crossband.training import recipe

BASELINES = ("mean", "linear", "mlp", "bicubic", "sharpened")
METRICS = ("mae", "psnr", "ssim", "r", "swd", "NDVI_mae", "EVI_mae")
TITLES = {
    "rgb2nir": "Colours to near infrared",
    "sar2optical": "Radar to colours",
    "rgb2thermal": "Colours to thermal",
    "super-resolution": "Coarse to fine",
}
DATA = {
    "rgb2nir": "Scenes in reflectance.",
    "sar2optical": "Sentinel-1 VV and VH in decibels to Sentinel-2 red, green and blue in "
    "reflectance. So few places cannot say which recipe is better.",
    "rgb2thermal": "RoadScene: 8-bit pictures of a car's cameras, thermal with automatic gain. A "
    "part begins where 100 frames of the drive or more are missing, and every third part is "
    "judged. RoadScene's own split (`run --own-split`) judges one stretch of road of another "
    "brightness. There pix2pix gets worse the longer it learns: 0.178 after 1,500 samples and "
    "0.192 after 6,000, while `mean` has 0.184 (seed 0, version 0.1). The pictures are for "
    "research and are not shown: only what the models made of them.",
    "super-resolution": "Red, green and blue of scenes in reflectance, twice as fine; the source "
    "is made by MATLAB's bicubic resize.",
}
#: Machines whose training steps were timed, and the file in docs.
SPEED_OF = {
    "AMD EPYC, bf16 in AVX-512": "train-systems.json",
    "Intel Xeon, bf16 in AMX": "train-systems-amx.json",
}
#: What claims compare a recipe with.
AGAINST = ("mean", "linear", "bicubic", "luminance")
PHOTOGRAPHS = "super-resolution/photographs"
#: What draws several answers: the picture shows one of them.
SAMPLERS = ("FlowMatching", "Diffusion")


class _Numbers(dict[str, str]):
    """Numbers of recipes by name, for the text."""

    def __init__(self, recipes: Mapping[str, Any], metric: str, form: str) -> None:
        super().__init__(
            {
                name: format(np.mean(own["metrics"][metric]), form)
                for name, own in recipes.items()
                if metric in own["metrics"]
            }
        )

    def __missing__(self, name: str) -> str:
        return "(not finished)"


def page(docs: Path) -> str:
    """Return the page from the JSON files in docs."""
    short = json.loads((docs / "systems.json").read_text())
    reference = _read(docs / "systems" / "reference.json", {})
    every = {name: own for task in short.values() for name, own in task["recipes"].items()}
    long = {name: {"metrics": own["metrics"]["model"]} for name, own in reference.items()}
    numbers = {
        f"{of}{metric}": _Numbers(runs, metric, form)
        for of, runs in (("", every), ("long_", long))
        for metric, form in (("mae", ".4f"), ("r", ".2f"))
    }
    parts = [HEAD, "## Which recipe for which data", advice(numbers), HOW]
    for task, own in short.items():
        parts += [f"## {TITLES[task]}", facts(task, own), table(own["recipes"])]
        if (docs / "systems" / f"{task}.png").is_file():
            what = "Output" if task == "rgb2thermal" else "Source, target, output and error"
            parts.append(
                f"![{what} of one judged pair after the short training, a row for each recipe]"
                f"(systems/{task}.png)"
            )
        if (docs / "systems" / f"{task}-curves.png").is_file():
            parts.append(
                "![The error at unseen places in the course of the short training, a curve for "
                f"each recipe](systems/{task}-curves.png)"
            )
        named = [n for n in STORIES if n.split("/")[0] == task]
        for n in named:
            parts += system(n, own, reference, numbers)
            if n == PHOTOGRAPHS:
                parts += photographs(docs / "systems" / "photographs.json")
    parts += ["## What papers say, and what small trainings here show", RELATIONS]
    kept = docs / "relations.json"
    # Without a file, all are not finished.
    parts.append(relations_table(_read(kept, None) or collect(kept)))
    from train_systems import table as speed_table

    parts += ["## How fast is a training step?", SPEED]
    for machine, name in SPEED_OF.items():
        found = _read(docs / name, {})
        parts.append(
            f"{machine} (`{name}`){':' if found else ': not measured on an idle machine.'}"
        )
        if found:
            parts.append(speed_table(found))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _read(path: Path, default: Any) -> Any:
    return json.loads(path.read_text()) if path.is_file() else default


def photographs(path: Path) -> list[str]:
    """Return table and picture of the recipe for photographs; nothing where it was not run."""
    if not path.is_file():
        return []
    alt = "The gain in PSNR over bicubic on Set5, Set14 and BSD100 by steps, and that of VDSR"
    picture = f"![{alt}](systems/{path.with_suffix('.png').name})"
    return [photographs_shown.table(json.loads(path.read_text())), picture]


def advice(numbers: Mapping[str, Any]) -> str:
    """Return the table of advice."""
    lines = ["| you have | take | why |", "|---|---|---|"]
    lines += [f"| {you} | {take} | {why.format_map(numbers)} |" for you, take, why in ADVICE]
    return "\n".join(lines)


def facts(task: str, own: Mapping[str, Any]) -> str:
    """Return what the numbers of a task come from."""
    return (
        f"{DATA[task]} {own['train']} pairs to train on, {own['test']} to judge; "
        f"**{own['samples']:,} samples** seen by each recipe."
    )


def system(
    name: str, own: Mapping[str, Any], reference: Mapping[str, Any], numbers: Mapping[str, Any]
) -> list[str]:
    """Return heading, paragraph, costs and the long training of a recipe."""
    parts = [f"### `{name}`", STORIES[name].format_map(numbers)]
    lines = [_published(name)]
    if name in own["recipes"]:
        lines.append(_short(name, own))
    has_reference = bool(recipe.load(name).get("reference"))
    if has_reference and name not in reference:
        lines.append("- Long training: not finished.")
    parts.append("\n".join(line for line in lines if line))
    if name in reference:
        parts += _long(name, reference[name])
    return parts


def _published(name: str) -> str:
    config = recipe.load(name)
    data, method = config["data"]["init_args"], config["method"]["init_args"]
    steps = method.get("max_steps")
    if not steps or name.split("/")[1] in BASELINES:
        return ""
    critic = method.get("critic_steps", 1)
    more = f", {critic} critic steps in each" if critic > 1 else ""
    return (
        f"- At full length: {steps:,} steps of {data['batch']} crops of {data['crop']} x "
        f"{data['crop']} source pixels{more}."
    )


def _short(name: str, own: Mapping[str, Any]) -> str:
    recipes = own["recipes"]
    mae = {n: float(np.mean(v["metrics"]["mae"])) for n, v in recipes.items() if v["metrics"]}
    if name not in mae:
        return "- Short training: its output is not finite."
    base = next((f"{name.split('/', maxsplit=1)[0]}/{b}" for b in ("linear", "bicubic")
                 if f"{name.split('/', maxsplit=1)[0]}/{b}" in mae), None)  # fmt: skip
    place = sorted(mae.values()).index(mae[name]) + 1
    minutes = statistics.median(recipes[name]["seconds"]) / 60
    against = f", {mae[name] / mae[base]:.2f} times that of `{base.split('/')[1]}`" if base else ""
    return (
        f"- Short training: MAE {mae[name]:.4f}{against}; place {place} of {len(mae)}. "
        f"{recipes[name]['parameters']:,} weights as run; {minutes:.1f} minutes on two shared "
        "cores."
    )


def _long(name: str, run: Mapping[str, Any]) -> list[str]:
    """Return the row, the claims and the picture of a finished reference run."""
    metrics = [m for m in METRICS if any(m in v for v in run["metrics"].values())]
    heads = [f"after {run['samples']:,} samples", *(_heading(m) for m in metrics)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for who, values in run["metrics"].items():
        known = (values.get(m) for m in metrics)
        cells = ["-" if v is None else format(v, _metric(m).format)
                 for m, v in zip(metrics, known, strict=True)]  # fmt: skip
        lines.append(
            f"| {f'`{name}`' if who == 'model' else f'`{who}`'} | " + " | ".join(cells) + " |"
        )
    claims = [
        f"- {'Shown' if holds else 'Not shown'}: {words}."
        for holds in (True, False)
        if (words := _claimed(run["claims"], holds, [_heading(m).split(",")[0] for m in metrics]))
    ]
    if name in WHY and not all(c["holds"] for c in run["claims"]):
        claims.append(f"- Why: {WHY[name]}")
    if run["slope"] is not None:
        claims.append(
            f"- Slope at the end: {run['slope']:+.1f} % over as many steps as the last half has."
        )
    drawn = "one draw" if recipe.load(name)["method"]["class_path"] in SAMPLERS else "output"
    what = drawn if name.startswith("rgb2thermal") else f"source, target and {drawn}"
    alt = f"The error at unseen places by steps, and {what} at places that are the same for all"
    return ["\n".join(lines), "\n".join(claims), f"![{alt}](systems/{run['picture']})"]


def _claimed(claims: list[dict[str, Any]], holds: bool, known: list[str]) -> str:
    """Return the claims of a run that hold, or that do not, in words.

    Args:
        claims: of the run.
        holds: which of them.
        known: metrics whose numbers are in the table of the run.
    """
    better: dict[str, list[str]] = {}
    words = []
    for text in (c["text"] for c in claims if c["holds"] is holds):
        if found := re.fullmatch(r"(.+): from (\S+) to (\S+)", text):
            what, first, last = found.groups()
            words.append(f"the {what} falls (here from {first} to {last})")
        elif (found := re.fullmatch(r"(.+) ([\d.]+), (.+) ([\d.]+)", text)) and found[3] in AGAINST:
            metric, own, other, theirs = found.groups()
            numbers = "" if metric in known else f" ({own} against {theirs})"
            better.setdefault(other, []).append(metric + numbers)
        else:
            words.append(text)
    words += [f"better than `{other}` in {_listed(m)}" for other, m in better.items()]
    return "; ".join(words)


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def table(numbers: dict[str, dict[str, Any]]) -> str:
    """Return the table of a task: the baselines first, then the recipes by MAE."""
    metrics = [m for m in METRICS if any(m in v["metrics"] for v in numbers.values())]
    names = sorted(numbers, key=lambda n: (order(n), np.mean(numbers[n]["metrics"]["mae"])))
    mean = next((numbers[n] for n in names if n.endswith("/mean")), None)
    heads = ["recipe", "pairs", *(_heading(m) for m in metrics)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name in names:
        own = numbers[name]
        cells = [f"`{name.split('/')[1]}`", "yes" if own["paired"] else "no"]
        for m in metrics:
            values = own["metrics"].get(m, [])
            cells.append(_cell(values, _metric(m).format))
            if m == "mae" and mean is not None and values:
                worse = np.mean(values) > np.mean(mean["metrics"]["mae"])
                cells[-1] += " *" if worse else ""
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _metric(name: str) -> Metric:
    found = describe(name)
    assert found is not None
    return found


def _heading(name: str) -> str:
    about = _metric(name)
    return f"{about.heading}, dB" if about.unit == "dB" else about.heading


def order(name: str) -> int:
    """Return where a recipe stands in tables: baselines first."""
    stem = name.split("/")[1]
    return BASELINES.index(stem) if stem in BASELINES else len(BASELINES)


def _cell(values: list[float], form: str) -> str:
    """Mean and spread: half the distance between the smallest and the largest."""
    known = [v for v in values if np.isfinite(v)]
    if not known:
        return "-"
    words = format(np.mean(known), form)
    return words if len(known) == 1 else f"{words} ±{format(np.ptp(known) / 2, form)}"


HEAD = """\
# Which recipe should I take, and what does each learn?

Crossband has a recipe for each published system that it knows, and some of its own. This page says
for which data to take which, and shows what each reached here on a CPU. Two kinds of training are
behind the numbers:

- a **short** one of most recipes, of 7,500 to 20,000 samples, as many for all recipes of a task. It
  says how fast a system learns, and not how good it becomes: published trainings have a hundred to
  ten thousand times as many samples. Recipes with a guide, or for photographs, have none.
- a **long** one of nine recipes, about half an hour of two cores each: it says whether a system
  learns what its paper says that it learns."""

HOW = f"""\
## How the numbers were made

    python benchmarks/systems.py run          the short trainings
    python benchmarks/reference.py run        the long ones
    python benchmarks/relations.py run        relations that papers report
    python benchmarks/train_systems.py --json docs/train-systems.json
    python benchmarks/systems.py doc          this page, from what is finished

In the short training all recipes of a task have the same pairs, the same number of samples, crops
of at most {CROP} pixels, and batches of {BATCH}. A network of over a million parameters runs at a
quarter of its width. Parts for which a crop of {CROP} is too small are left out (levels of a U-Net,
a scale of a discriminator). Numbers of steps in a recipe are scaled with the length of the
training. Nothing was tuned. The baselines `mean`, `linear`, `mlp` are fitted as their own recipes
say, on the same pairs. Recipes that need a guide, and the one for photographs, are not among them.

Each number is the mean over the judged pictures (at most 256 x 256 pixels from the middle of each);
where several seeds were trained, ± is half the distance between the lowest and the highest. `*`
marks what is worse than `mean` in MAE. `pairs` says whether the recipe learns from pairs. Weights
are those of the generator as it was run. Pictures show the pair in the middle of the list;
the error is drawn from 0 to half of the target's range. Curves show how a recipe learns, not which
is better: their errors are in parts of the range that the recipe states (0..0.5 or 0..1 of
reflectance), and `super-resolution/subpixel` is validated on blurred and noisy sources, too."""

RELATIONS = """\
Two arms that differ in one thing, three seeds each, a few minutes of training on 804 chips of 64
pixels, judged at 276 others. Networks have a quarter or half of their published width; the
Wasserstein GANs have a tenth of their L1, so that the critic matters (`benchmarks/relations.py`).
Differences are paired by place; intervals are bootstraps over places and seeds. *Shown*: the
interval lies on the paper's side of 0. *Not shown*: it holds 0. So short a training can fail to
show what is true of a long one.

KID is a mean of cubes of products of features. A few outputs far out of range make it huge, as
those of the Wasserstein GANs here, and its intervals are wide. One of the three trainings at full
size from the start diverged: its MAE is 0.21, that of the others 0.05 and 0.06. So the MAE stands
beside KID for these two relations. It was added after KID had been seen, and papers claim better
pictures, not a smaller error.
"""

SPEED = """\
One generator step of Crossband's method (with its critic steps) against a plain PyTorch loop of the
same networks, which steps as the public code of the system does: fp32, eager, unfused optimisers,
one pass after the other. Numbers are the plain time divided by Crossband's, in fp32 and in the
precision that the recipe is run with (bf16 where the processor has it).

What limits it: the arithmetic of the networks. Passes through them, forward and backward, take 99 %
of a step of CycleGAN (`--profile`). It is the same in both ways, so that in fp32 only doubled
passes, copies and optimisers can be saved. bf16 makes convolutions up to about twice as fast, less
so small ones (`wgan-gp-small`, whose layers have 4 to 32 pixels a side). A step of `mlp`, which has
4,481 weights, takes 3 ms: 60 % of them are passes through the network, and the trainer takes 27 %.
A processor with AMX computes bf16 faster, so that the same code gains more there.

The same step may take a fifth longer in one process than in the next, on the same idle machine. So
flow matching, DualGAN, CycleGAN, UNIT and UNIT-ViT were timed in two to four starts (`--again`).
On the EPYC the two rows of NIR-GAN, and half of that of UNIT-ViT, are from before padding stayed in
bf16. On the Xeon other work ran beside some rounds.
"""
