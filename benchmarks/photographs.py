"""Super-resolution of photographs, x4, trained and judged as published systems are.

    python benchmarks/photographs.py train    fit the recipe to T91 and BSDS200, or resume that
    python benchmarks/photographs.py table    PSNR and SSIM on Set5, Set14 and BSD100, by step

The protocol is `sr-classic`: MATLAB's bicubic resize, Y of BT.601, 4 pixels off each border, the
mean over pictures. The pictures lie beside the repository (`--data`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from project import DATA, ROOT, crossband

from crossband import Model, load
from crossband.core.registry import build
from crossband.core.signature import Signature, UnitRange
from crossband.evaluation.evaluate import evaluate
from crossband.networks import Generator
from crossband.training.callbacks import checkpoints

RECIPE = "super-resolution/photographs"
RUN = Path("runs/photographs")
TRAIN, TEST = ("T91", "BSDS200_train"), ("Set5", "Set14", "BSD100")
#: VDSR (Kim et al. 2016, table 3), trained on the same pictures: PSNR in dB and SSIM.
VDSR = {"Set5": (31.35, 0.8838), "Set14": (28.01, 0.7674), "BSD100": (27.29, 0.7251)}
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif")


def manifest(data: Path, folders: tuple[str, ...], path: Path) -> Path:
    """Write the manifest of some folders of pictures."""
    files = [
        (name, picture)
        for name in folders
        for picture in sorted((data / "super-resolution" / name).rglob("*"))
        if picture.suffix.lower() in SUFFIXES
    ]
    rows = [
        {
            "source": None,
            "target": str(picture.resolve()),
            "target_bands": "red=1,green=2,blue=3",
            "sensor": "display",
            "degradation": "Bicubic",
            "group": picture.stem,
            "family": name,
            "split": "train" if name in TRAIN else "test",
        }
        for name, picture in files
    ]
    (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(ROOT / path, index=False)
    return path


def train(data: Path, more: list[str]) -> None:
    """Fit the recipe; a run that was broken off is resumed."""
    pairs, run = manifest(data, TRAIN, RUN / "pairs.csv"), RUN / "run"
    begun = (ROOT / run / "checkpoints" / "last.ckpt").is_file()
    crossband("fit", RECIPE, "--data.manifest", pairs, "-o", run, "--trainer.keep_last", 1000,
              "--trainer.checkpoint_every", 1000, "--resume" if begun else "--overwrite",
              *more)  # fmt: skip


def table(data: Path) -> str:
    """Return PSNR and SSIM of bicubic, of each checkpoint that was kept, and of the model."""
    pairs = ROOT / manifest(data, TEST, RUN / "test.csv")
    run = ROOT / RUN / "run"
    rows: dict[str, pd.DataFrame] = {}
    last = run / "checkpoints" / "last.ckpt"
    kept = sorted((run / "checkpoints").glob("step-*.ckpt")) or [last]
    chosen = sorted({*kept[:: max(len(kept) // 8, 1)], kept[-1]})
    for path in chosen:
        state = checkpoints.read(path)
        model = _model(state["state_dict"])
        report = evaluate([model], pairs, ROOT / RUN / "report", pictures=0, overwrite=True)
        found = report.per_image
        rows.setdefault("bicubic", found[found["by"] == "bicubic"])
        rows[f"{state['crossband']['step']:,} steps"] = found[found["by"] == "model"]
    lines = ["| | " + " | ".join(TEST) + " |", "|" + "---|" * (len(TEST) + 1)]
    for name, found in rows.items():
        means = found.groupby("family")[["sr_classic_psnr", "sr_classic_ssim"]].mean()
        cells = [f"{means.loc[n].iloc[0]:.2f} / {means.loc[n].iloc[1]:.4f}" for n in TEST]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    published = [f"{psnr:.2f} / {ssim:.4f}" for psnr, ssim in VDSR.values()]
    lines.append("| VDSR (published) | " + " | ".join(published) + " |")
    if (run / "model" / "model.json").is_file():
        seconds = load(run / "model").about["training"]["seconds"]
        lines.append(f"\nTrained in {seconds / 3600:.1f} hours.")
    return "\n".join(lines)


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
    a, more = parser.parse_known_args()
    if more and a.what != "train":
        parser.error(f"unknown: {' '.join(more)}")
    if a.what == "train":
        train(a.data, more)
    else:
        print(table(a.data))


if __name__ == "__main__":
    main()
