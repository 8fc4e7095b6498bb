"""Whether equal seeds give equal weights, also where the training was stopped and resumed.

    python benchmarks/same_weights.py [NAME ...] [--steps 200] [--output FOLDER]

Each bundled model is trained twice for a few steps by the options of `bundled.py train`. The
second training gets SIGTERM after a third of the steps, and goes on from its checkpoint. The files
of the weights must have the same bytes; the exit code is 1 if one differs. Run `manifests.py write`
before.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

import bundled
import vault
from project import ROOT

NAMES = ("rgb2nir", "sar2optical", "super-resolution-x2", "super-resolution-x4")
#: Exit code of a training that was stopped by SIGTERM.
STOPPED = 75


def weights(name: str, folder: Path, manifests: Path, steps: int, stop: bool) -> str:
    """Train in a folder, and return the hash of the weights.

    Raises:
        SystemExit: a training failed, or was not stopped before its end.
    """
    shutil.rmtree(folder, ignore_errors=True)
    given = bundled.arguments(name, manifests, folder)
    every = max(steps // 3, 1)
    given += [f"--method.max_steps={steps}", f"--trainer.checkpoint_every={every}"]
    command = [sys.executable, "-m", "crossband", *given, "--no-baselines"]
    checkpoints = ROOT / folder / "run" / "checkpoints"
    if stop:
        with subprocess.Popen(command, cwd=ROOT) as first:
            while first.poll() is None and not any(checkpoints.glob("*.ckpt")):
                time.sleep(0.05)
            first.terminate()
        if first.returncode != STOPPED:
            raise SystemExit(
                f"{name} ended with {first.returncode} and was not stopped: more --steps"
            )
        command[command.index("--overwrite")] = "--resume"
    if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise SystemExit(code)
    file = ROOT / folder / "run" / "model" / "model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main() -> int:
    """Train each model twice, and say whether the weights are the same."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=NAMES, metavar="NAME")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--manifests", type=Path, default=vault.FOLDER)
    parser.add_argument("--output", type=Path, default=Path("runs/same-weights"))
    a = parser.parse_args()
    if wrong := set(a.models) - set(bundled.MODELS):
        parser.error(f"no bundled model: {', '.join(sorted(wrong))}")
    differ = 0
    for name in a.models:
        whole, resumed = (
            weights(name, a.output / name / part, a.manifests, a.steps, part == "resumed")
            for part in ("whole", "resumed")
        )
        differ += whole != resumed
        said = "the same" if whole == resumed else f"DIFFERENT: {resumed[:16]}"
        print(f"{name}, {a.steps} steps: {whole[:16]}, stopped and resumed {said}", flush=True)
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main())
