"""Reference runs: nine systems that are trained for an hour or two, and what each must show.

    python benchmarks/manifests.py write            before the first run
    python benchmarks/reference.py run [--only NAME ...]
    python benchmarks/reference.py table            what each must show, and whether it does
    python benchmarks/reference.py curves           reference.png: the error at unseen places

A recipe with the key `reference` has such a run: the key holds the options that a CPU of two cores
makes smaller. `run` fits it, and judges it and the baselines at places of which neither training
nor validation saw any. It goes on where it stopped: training resumes from the last checkpoint and
gives the same weights as without a stop. It runs at a low priority. Ctrl-C and SIGTERM stop it
within a step; run it again to go on.

Pairs are those of `manifests.py` outside of the vault, in physical units, and RoadScene for colour
to thermal. Regions are dealt out in four folds: that of the fewest files is judged, at most PLACES
places of the next give the curve, all others are trained on. With --manifest, pairs of one's own
are used, with their column `split`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
import systems
import vault
from project import DATA, ROOT
from reference_shown import draw_curves, further, table

from crossband.training import recipe

#: Places that give the curve, and checkpoints of a run.
PLACES, CHECKPOINTS = 24, 40
#: Pixels of the window of a place that gives the curve.
TILE = 64
#: How nice a run is: everything else on the machine goes first.
NICE = 15


def names() -> list[str]:
    """Return the recipes that have a reference run."""
    return [name for name in recipe.available() if recipe.load(name).get("reference")]


def pairs(name: str, data: Path) -> pd.DataFrame:
    """Return the pairs of a recipe, with a split that cuts no region."""
    task = name.split("/", maxsplit=1)[0]
    if task == "rgb2thermal":
        table = systems.pairs(task, data)
        # A third of the parts of the drive is judged; the shortest others give the curve.
        sizes = table["group"][table["split"] == "train"].value_counts().sort_values(kind="stable")
        table.loc[table["group"].isin(sizes.index[sizes.cumsum() <= PLACES]), "split"] = "val"
        return table
    table = vault.read(task)
    table = table[~table["sensor"].isin(["display", "naip"])].reset_index(drop=True)
    if name.endswith("satclip"):
        table = table[table["lon"].notna()].reset_index(drop=True)
    if task == "super-resolution":
        table = table.assign(degradation="Bicubic")
    folds = vault.inner_folds(table, 4)
    fewest = folds.value_counts(ascending=True).sort_index().sort_values(kind="stable").index
    table["split"] = folds.map({fewest[0]: "test", fewest[1]: "val"}).fillna("train")
    first = ~table.duplicated("group")  # of a place with many dates one is judged
    table = table[(table["split"] == "train") | first].reset_index(drop=True)
    seen = table["group"][table["split"] == "val"].drop_duplicates()
    seen = seen.iloc[:: -(-len(seen) // PLACES)]  # of all families: they come one after the other
    table.loc[(table["split"] == "val") & ~table["group"].isin(seen), "split"] = "train"
    for side in ("source", "target"):
        column = f"{side}_window"
        if column not in table:
            table[column] = None
        table[column] = table[column].astype(object)
        there = (table["split"] == "test") & table[side].notna() & table[column].isna()
        for row in table.index[there]:
            table.loc[row, column] = systems.middle(Path(str(table.loc[row, "target"])))
    return table


def options(name: str, manifest: Path, steps: int | None = None) -> list[str]:
    """Return the options of a recipe's reference run.

    Args:
        name: the recipe.
        manifest: its pairs.
        steps: fewer steps, for a trial, with two rounds.
    """
    given = dict(recipe.reference_options(recipe.load(name)))
    if steps:
        inner = recipe.load(name)["method"]["init_args"].get("critic_steps", 1)
        given |= {"method.max_steps": steps, "data.steps": max(steps * inner // 2, 1)}
    given |= {
        "data.manifest": str(manifest),
        "data.val_tile": TILE,
        "data.val_windows": 1,
        "baselines": [],  # `evaluate` fits the mean and the line to the same rows
        "blend": {},
        "trainer.logger": "csv",
        "trainer.checkpoint_every": max(given["method.max_steps"] // CHECKPOINTS, 1),
    }
    return [f"--{key}={json.dumps(value)}" for key, value in given.items()]


def run(name: str, a: argparse.Namespace) -> int:
    """Fit, evaluate and draw what is not there yet; return the exit code."""
    folder = a.output / name
    if (folder / "shown.json").is_file():
        print(f"{name}: finished", flush=True)
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "pairs.csv"
    if not manifest.is_file():
        part = manifest.with_suffix(".part")
        found = pd.read_csv(a.manifest) if a.manifest else pairs(name, a.data)
        found.to_csv(part, index=False)
        part.replace(manifest)
    fitted = folder / "run"
    if not (fitted / "model" / "model.json").is_file():
        begun = any((fitted / "checkpoints").glob("*.ckpt"))
        more = ["--resume"] if begun else ["--overwrite"] * fitted.is_dir()
        code = command(
            "fit", name, "-o", fitted, *options(name, manifest, a.steps), *more, "--seed", a.seed
        )
        if code:
            return code
    if not (folder / "report" / "metrics.json").is_file():
        shutil.rmtree(folder / "report", ignore_errors=True)
        code = command("evaluate", "--model", fitted / "model", "--manifest", manifest,
                       "--split", "test", "--pictures", 2, "-o", folder / "report")  # fmt: skip
        if code:
            return code
    shown = {"options": options(name, manifest, a.steps), **further(name, folder)}
    part = folder / "shown.part"
    part.write_text(json.dumps(shown, indent=1) + "\n")
    part.replace(folder / "shown.json")
    return 0


def command(*arguments: Any) -> int:
    """Run the real command in this process, which then gets the signals itself."""
    from crossband.cli.main import main

    return main([str(a) for a in arguments])


def main() -> int:
    """Read the command line."""
    p = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    p.add_argument("what", choices=["run", "table", "curves"])
    p.add_argument("--only", nargs="+", metavar="NAME", help="only these recipes")
    p.add_argument("--data", type=Path, default=DATA)
    p.add_argument("--output", type=Path, default=ROOT / "runs" / "reference")
    p.add_argument("--manifest", type=Path, help="pairs of one's own, with a column split")
    p.add_argument("--steps", type=int, help="fewer steps, for a trial")
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    known = names()
    wrong = set(a.only or ()) - set(known)
    if wrong:
        p.error(f"no reference run: {', '.join(sorted(wrong))}; known: {', '.join(known)}")
    chosen = a.only or known
    if a.what == "run":
        os.nice(NICE)
        for name in chosen:
            if code := run(name, a):
                return code
    elif a.what == "table":
        print(table(chosen, a.output))
    else:
        print(draw_curves(chosen, a.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
