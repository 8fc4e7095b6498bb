"""Reference runs: nine systems, about half an hour of two cores each, and what each must show.

    python benchmarks/manifests.py write            before the first run
    python benchmarks/reference.py run [--only NAME ...]
    python benchmarks/reference.py judge            what finished runs do not show yet
    python benchmarks/reference.py table            what each must show, and whether it does
    python benchmarks/reference.py curves           reference.png: the error at unseen places

A recipe with the key `reference` has such a run: the key holds the options that a CPU of two cores
makes smaller. `run` fits it, and judges it and the baselines at places of which neither training
nor validation saw any. It goes on where it stopped: training resumes from the last checkpoint and
gives the same weights as without a stop. It runs at a low priority. Ctrl-C and SIGTERM stop it
within a step; run it again to go on.

Pairs are those of task_pairs.py: regions that nothing trains on are judged, and places of
others give the curve; pix2pix learns from 8-bit pictures of radar, and is judged at other parts of
two of their scenes. With --manifest, pairs of one's own are used, with their column `split`.
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
from project import DATA, ROOT
from reference_shown import MEMBERS, draw_curves, further, table, wanted
from task_pairs import packed, pairs, radar_pictures

from crossband.training import recipe

#: The recipe that learns from pictures of radar.
PICTURES = "sar2optical/pix2pix"
#: Checkpoints of a run.
CHECKPOINTS = 40
#: Pixels of the window of a place that gives the curve.
TILE = 64
#: How nice a run is: everything else on the machine goes first.
NICE = 15


def names() -> list[str]:
    """Return the recipes that have a reference run."""
    return [name for name in recipe.available() if recipe.load(name).get("reference")]


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
        return judge(name, a)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "pairs.csv"
    if not manifest.is_file():
        part = manifest.with_suffix(".part")
        found = pd.read_csv(a.manifest) if a.manifest else pairs_of(name, a.data)
        found.to_csv(part, index=False)
        part.replace(manifest)
    fitted = folder / "run"
    if not (fitted / "model" / "model.json").is_file():
        begun = any((fitted / "checkpoints").glob("*.ckpt"))
        more = ["--resume"] if begun else ["--overwrite"] * fitted.is_dir()
        code = command(
            "fit", name, "-o", fitted, *options(name, packed(manifest), a.steps), *more,
            "--seed", a.seed,
        )  # fmt: skip
        if code:
            return code
    if not (folder / "report" / "metrics.json").is_file():
        shutil.rmtree(folder / "report", ignore_errors=True)
        code = command("evaluate", "--model", fitted / "model", "--manifest", manifest,
                       "--split", "test", "--pictures", 2, "-o", folder / "report")  # fmt: skip
        if code:
            return code
    return judge(name, a)


def pairs_of(name: str, data: Path) -> pd.DataFrame:
    """Return the pairs of a recipe's run."""
    if name == PICTURES:
        return radar_pictures(data)
    return pairs(name.split("/", maxsplit=1)[0], data, located=name.endswith("satclip"))


def judge(name: str, a: argparse.Namespace) -> int:
    """Write into shown.json what a finished run does not show yet; return the exit code."""
    folder = a.output / name
    shown_at, manifest = folder / "shown.json", folder / "pairs.csv"
    if not (folder / "report" / "metrics.json").is_file():
        print(f"{name}: not finished", flush=True)
        return 0
    shown = json.loads(shown_at.read_text()) if shown_at.is_file() else {}
    missing = [what for what in wanted(name) if what not in shown]
    if shown and not missing:
        print(f"{name}: finished", flush=True)
        return 0
    members = folder / "members"
    if "members" in missing and not (members / "model" / "model.json").is_file():
        code = command("fit", MEMBERS, "-o", members, "--overwrite", "--seed", a.seed,
                       f"--data.manifest={packed(manifest)}", "--baselines=[]", "--blend={}",
                       *([f"--method.max_steps={a.steps}"] if a.steps else []))  # fmt: skip
        if code:
            return code
    given = {"options": options(name, packed(manifest), a.steps)}
    part = folder / "shown.part"
    part.write_text(json.dumps(further(name, folder, given | shown), indent=1) + "\n")
    part.replace(shown_at)
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
    p.add_argument("what", choices=["run", "judge", "table", "curves"])
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
    if a.what in ("run", "judge"):
        os.nice(NICE)
        for name in chosen:
            if code := (run if a.what == "run" else judge)(name, a):
                return code
    elif a.what == "table":
        print(table(chosen, a.output))
    else:
        print(draw_curves(chosen, a.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
