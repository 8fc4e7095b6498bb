"""Super-resolution of photographs, x4, trained and judged as published systems are.

    python benchmarks/photographs.py train    fit the recipe to T91 and BSDS200, or resume that
    python benchmarks/photographs.py table    PSNR and SSIM on Set5, Set14 and BSD100, by step;
                                              --json FILE also writes them, and a picture beside

The protocol is `sr-classic`: MATLAB's bicubic resize, Y of BT.601, 4 pixels off each border, the
mean over pictures. The pictures lie beside the repository (`--data`).
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
from photographs_shown import TESTED, draw, table
from PIL import Image
from project import DATA, ROOT, crossband

from crossband import Model, load
from crossband.core.registry import build
from crossband.core.signature import Signature, UnitRange
from crossband.evaluation.evaluate import evaluate
from crossband.networks import Generator
from crossband.training.callbacks import checkpoints

RECIPE = "super-resolution/photographs"
RUN = Path("runs/photographs")
TRAIN = ("T91", "BSDS200_train")
#: Checkpoints that are judged, about.
JUDGED = 8
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif")
#: Sizes at which a picture is trained on, as by Lai et al. 2017 (LapSRN), who draw them from 0.5
#: to 1; and the shortest side that a crop fits into.
SIZES = (1.0, 0.85, 0.7, 0.55)
SHORTEST = 132


def manifest(data: Path, folders: tuple[str, ...], path: Path) -> Path:
    """Write the manifest of some folders of pictures; those to train on also come smaller."""
    files = [
        (name, picture)
        for name in folders
        for picture in sorted((data / "super-resolution" / name).rglob("*"))
        if picture.suffix.lower() in SUFFIXES
    ]
    rows = [
        {
            "source": None,
            "target": str(as_read.resolve()),
            "target_bands": "red=1,green=2,blue=3",
            "sensor": "display",
            "degradation": "Bicubic",
            "group": picture.stem,
            "family": name,
            "grey": Image.open(picture).mode == "L",
            "split": "train" if name in TRAIN else "test",
        }
        for name, picture in files
        for as_read in (_sizes(picture) if name in TRAIN else [_coloured(picture)])
    ]
    (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(ROOT / path, index=False)
    return path


def _coloured(picture: Path) -> Path:
    """Return a picture with three bands: a grey one is copied, thrice the same band."""
    with Image.open(picture) as image:
        if image.mode == "RGB":
            return picture
        copy = ROOT / RUN / "coloured" / f"{picture.parent.name}-{picture.stem}.png"
        copy.parent.mkdir(parents=True, exist_ok=True)
        image.convert("RGB").save(copy)
        return copy


def _sizes(picture: Path) -> list[Path]:
    """Return a picture and its smaller copies, which are written once."""
    paths = []
    with Image.open(picture) as image:
        for size in SIZES:
            width, height = (round(side * size) for side in image.size)
            if size == 1:
                paths.append(picture)
            elif min(width, height) >= SHORTEST:
                name = f"{picture.parent.name}-{picture.stem}-{size:.2f}.png"
                paths.append(ROOT / RUN / "smaller" / name)
                paths[-1].parent.mkdir(parents=True, exist_ok=True)
                if not paths[-1].is_file():
                    small = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
                    small.save(paths[-1])
    return paths


def train(data: Path, more: list[str]) -> None:
    """Fit the recipe; a run that was broken off is resumed."""
    pairs, run = manifest(data, TRAIN, RUN / "pairs.csv"), RUN / "run"
    begun = (ROOT / run / "checkpoints" / "last.ckpt").is_file()
    crossband("fit", RECIPE, "--data.manifest", pairs, "-o", run, "--trainer.keep_last", 1000,
              "--trainer.checkpoint_every", 1000, "--resume" if begun else "--overwrite",
              *more)  # fmt: skip


def measure(data: Path) -> dict[str, Any]:
    """Return the numbers of bicubic and of each checkpoint that was kept; see `table`."""
    pairs = ROOT / manifest(data, TESTED, RUN / "test.csv")
    run = ROOT / RUN / "run"
    numbers: dict[str, Any] = {"steps": {}, "hours": None}
    last = run / "checkpoints" / "last.ckpt"
    kept = sorted((run / "checkpoints").glob("step-*.ckpt")) or [last]
    for path in sorted({*kept[:: max(len(kept) // JUDGED, 1)], kept[-1]}):
        state = checkpoints.read(path)
        model = _model(state["state_dict"])
        report = evaluate([model], pairs, ROOT / RUN / "report", pictures=0, overwrite=True)
        numbers["bicubic"] = _means(report.per_image, "bicubic")
        numbers["steps"][str(state["crossband"]["step"])] = _means(report.per_image, "model")
    if (run / "model" / "model.json").is_file():
        numbers["hours"] = load(run / "model").about["training"]["seconds"] / 3600
    return numbers


def _means(images: pd.DataFrame, by: str) -> dict[str, list[float]]:
    """Return set -> mean PSNR and SSIM of its pictures.

    Published numbers of a grey picture are those of its values of 0 to 255. Those of its Y, which
    is 16 to 235, are higher.
    """
    metrics = ["sr_classic_psnr", "sr_classic_ssim"]
    own = images[images["by"] == by].copy()
    own.loc[own["grey"].astype(bool), metrics[0]] -= 20 * math.log10(255 / 219)
    means = own.groupby("family")[metrics].mean()
    return {name: [float(value) for value in means.loc[name].to_numpy()] for name in TESTED}


def _model(weights: dict[str, Any]) -> Model:
    """Return the model of a checkpoint; its sizes are those of its weights."""
    own = {
        k.removeprefix("generator."): v for k, v in weights.items() if k.startswith("generator.")
    }
    blocks = len({k.split(".")[1] for k in own if k.startswith("body.")})
    sizes = {"width": len(own["first.weight"]), "blocks": blocks, "scale": 4}
    network = build(Generator, "SubpixelResNet", sizes)
    network.load_state_dict(own)
    bands = ["red", "green", "blue"]
    ranges = {"display": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)] * 3)}
    network = network.eval().requires_grad_(False)
    return Model(network, Signature(bands, bands, ranges), name="model", task="super-resolution")


def main() -> None:
    """Run a subcommand; other options go to `crossband fit`."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["train", "table"])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--json", type=Path, help="for table: docs/systems/photographs.json")
    a, more = parser.parse_known_args()
    if more and a.what != "train":
        parser.error(f"unknown: {' '.join(more)}")
    if a.what == "train":
        train(a.data, more)
    else:
        numbers = measure(a.data)
        print(table(numbers))
        if a.json is not None:
            a.json.write_text(json.dumps(numbers, indent=1) + "\n")
            draw(numbers, a.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
