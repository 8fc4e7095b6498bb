"""pix2pix and CycleGAN beside the bundled `sar2optical`, trained as long on the same pairs.

    python benchmarks/radar_gans.py train [--fold N]     fit what is not there yet
    python benchmarks/radar_gans.py judge --why TEXT     at the places of the vault: a look
    python benchmarks/radar_gans.py judge --fold N       at an inner fold
    python benchmarks/radar_gans.py table                of all that was judged

Run `manifests.py write` before. The bundled model was trained in three minutes of one core. pix2pix
gets as many crops, 18,000 of 64 x 64 pixels, which takes four minutes; CycleGAN, whose steps cost
several times as much, gets 3,000 crops in about two minutes. `GANS` has what a CPU makes smaller.
With a fold, all three are trained without this quarter of the regions; else the third is the
bundled model.

    MAE, SSIM, edge F1   as `crossband evaluate` has them
    omission             share of the edges of the truth that are not in the result
    hallucination        share of the edges of the result that are not in the truth
    KID                  of patches of 32 x 32 pixels; see `features`

An edge has a gradient above the 90th percentile of the truth's; it is found where the other picture
has one within a pixel. `by chance`, in brackets, compares with the truth upside down.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import vault
from numpy.typing import NDArray
from project import ROOT, crossband
from scipy import ndimage
from systems_budget import RADAR

from crossband import load
from crossband.data import manifest
from crossband.data.reader import PairReader
from crossband.metrics import PairScorer, Target
from crossband.metrics.distances import kid_full
from crossband.metrics.families.edges import squared_gradient
from crossband.raster.grid import Window
from crossband.translate.options import TileOptions
from crossband.translate.window import translate_window

Floats = NDArray[np.float32]
#: What the looks at the vault are written down for.
LOOK = "sar2optical-gans"
#: Side of a patch, standard deviations of its Gaussians, and what is added before a logarithm.
PATCH, SCALES, SMALLEST = 32, (0.7, 1.4, 2.8, 5.6, 11.2), 1e-3
QUANTILE = 0.9
RUNS = ROOT / "runs" / "radar-gans"
CROPS, BATCH, FOLDS = 18_000, 4, 4
#: Of both GANs: what is alike, and what fits crops of 64 pixels, few pairs, and a CPU.
ALIKE: dict[str, Any] = {
    "task": "sar2optical",
    "baselines": [],
    "method.signature": RADAR,
    "method.generator.in_channels": 2,
    "method.generator.width": 16,
    "method.discriminator.source_channels": 2,
    "method.discriminator.width": 16,
    "method.max_steps": CROPS // BATCH,
    "data.crop": 64,
    "data.batch": BATCH,
    "data.steps": 500,
    "data.transforms": None,  # radar looks from one side
    "trainer.checkpoint_every": 500,
}
GANS: dict[str, tuple[str, dict[str, Any]]] = {
    "pix2pix": ("sar2optical/pix2pix", {"method.generator.levels": 6}),
    # Zhu et al. 2017: cycle loss times 10 on -1..1 is 20 on 0..1; no structure loss.
    "CycleGAN": (
        "rgb2thermal/cyclegan",
        {
            "method.generator.width": 8,
            "method.generator.blocks": 6,
            "method.generator.out_channels": 3,
            "method.back.width": 8,
            "method.back.blocks": 6,
            "method.back.in_channels": 3,
            "method.back.out_channels": 2,
            "method.discriminator.target_channels": 3,
            "method.back_discriminator.width": 16,
            "method.back_discriminator.source_channels": 3,
            "method.back_discriminator.target_channels": 2,
            "method.structure": None,
            "method.adversarial_weight": 1.0,
            "method.cycle": 20.0,
            "method.max_steps": 1500,
            "data.batch": 2,
        },
    ),
}


def folder(fold: int | None) -> Path:
    """Return where the models of a fold lie, or those that are judged at the vault."""
    return RUNS / ("vault" if fold is None else f"fold-{fold}")


def train(fold: int | None) -> None:
    """Fit both GANs, and without a fold of the regions the recipe of the bundled model too."""
    rows = vault.read("sar2optical")
    if fold is not None:
        rows = rows[vault.inner_folds(rows, FOLDS) != fold]
    out = folder(fold)
    out.mkdir(parents=True, exist_ok=True)
    rows = vault.with_weights(rows).assign(split="train")
    rows.to_csv(out / "pairs.csv", index=False)
    recipes = {name: (recipe, ALIKE | more) for name, (recipe, more) in GANS.items()}
    if fold is not None:
        recipes["sar2optical"] = ("sar2optical/local-pyramid", {"baselines": []})
    for name, (recipe, given) in recipes.items():
        if (out / name / "model" / "model.json").is_file():
            continue
        begun = (out / name / "checkpoints" / "last.ckpt").is_file()
        crossband("fit", recipe, "--data.manifest", out / "pairs.csv", "-o", out / name,
                  "--name", name, "--resume" if begun else "--overwrite",
                  *(f"--{key}={json.dumps(value)}" for key, value in given.items()))  # fmt: skip


def judge(fold: int | None, why: str) -> None:
    """Score all three models where they were not trained, and keep the features for KID."""
    out = folder(fold)
    if fold is None:
        vault.check_unopened(LOOK, again=False)
        if not why:
            raise SystemExit("a look at the vault needs --why")
    models = {name: load(out / name / "model") for name in GANS}
    models["sar2optical"] = load("sar2optical" if fold is None else out / "sar2optical" / "model")
    if fold is None:
        rows = vault.read("sar2optical", look=True, model=LOOK, why=why)
    else:
        rows = vault.read("sar2optical")
        rows = rows[vault.inner_folds(rows, FOLDS) == fold]
    rows.to_csv(out / "judged-pairs.csv", index=False)
    signature = models["sar2optical"].signature
    reader = PairReader(manifest.read(out / "judged-pairs.csv"), signature)
    records: list[dict[str, Any]] = []
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in ("truth", *models)}
    for number, row in enumerate(reader.rows):
        info = reader.info(number)
        pixels = reader.read(number, info.grid.box)
        source = Window(
            pixels.source, pixels.source_mask, info.grid, tuple(signature.source), info.unit
        )
        truth = Target(pixels.target, signature.target, info.target_unit, pixels.mask)
        scorer = PairScorer(truth, ("pixel", "structure", "edges"))
        found["truth"].append(features(pixels.target, pixels.mask))
        for name, model in models.items():
            made = translate_window(model, source, TileOptions(precision="fp32")).values
            found[name].append(features(made, pixels.mask))
            numbers = scorer.score(made).numbers()
            record = {k: row[k] for k in ("family", "region", "group")} | {"by": name}
            record |= {k: numbers[k] for k in ("mae", "ssim", "edge_f1")}
            records.append(record | invented(made, pixels.target, pixels.mask))
    pd.DataFrame(records).to_csv(out / "judged.csv", index=False)
    kept: dict[str, Any] = {name: np.concatenate(rows_) for name, rows_ in found.items()}
    np.savez(out / "features.npz", **kept)


def features(image: Floats, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the features of whole, valid patches, one row each.

    For each band: the mean, and the logarithms of the standard deviations of four differences of
    Gaussians, of 0.7, 1.4, 2.8, 5.6 and 11.2 pixels; and the correlation of each pair of bands.
    """
    blurred = [ndimage.gaussian_filter(image, (0, s, s)) for s in SCALES]
    octaves = [fine - coarse for fine, coarse in pairwise(blurred)]
    rows = []
    for top in range(0, mask.shape[0] - PATCH + 1, PATCH):
        for left in range(0, mask.shape[1] - PATCH + 1, PATCH):
            part = (slice(top, top + PATCH), slice(left, left + PATCH))
            if not mask[part].all():
                continue
            bands = image[:, *part].reshape(len(image), -1).astype(np.float64)
            spread = [np.log(o[:, *part].std(axis=(1, 2)) + SMALLEST) for o in octaves]
            centred = bands - bands.mean(axis=1, keepdims=True)
            across = centred @ centred.T / bands.shape[1]
            deviation = np.sqrt(np.diag(across)) + SMALLEST
            pairs = (across / np.outer(deviation, deviation))[np.triu_indices(len(bands), 1)]
            rows.append(np.concatenate([bands.mean(axis=1), *spread, pairs]))
    return np.array(rows).reshape(len(rows), -1)


def invented(made: Floats, true: Floats, mask: NDArray[np.bool_]) -> dict[str, float]:
    """Return omission and hallucination of edges, and the same by chance; see the module."""
    square = [
        np.sum([squared_gradient(band.astype(np.float64)) for band in image], axis=0)
        for image in (made, true)
    ]
    inner = ndimage.binary_erosion(mask, np.ones((3, 3)))[1:-1, 1:-1]
    threshold = np.quantile(square[1][inner], QUANTILE)
    result, truth = ((s > threshold) & inner for s in square)
    record = {"edges": float(result.sum() / truth.sum())}
    for name, other in (("", truth), (" by chance", truth[::-1])):
        record["omission" + name] = missing(other, result)
        record["hallucination" + name] = missing(result, other)
    return record


def missing(edges: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return the share of edges that have none of the other's within a pixel; NaN without edges."""
    near = ndimage.binary_dilation(other, np.ones((3, 3)))
    return float((edges & ~near).sum() / edges.sum()) if edges.any() else float("nan")


def table() -> str:
    """Return means over places and KID, for the inner folds that were judged and for the vault."""
    looks = {
        "inner folds": [folder(n) for n in range(FOLDS) if (folder(n) / "judged.csv").is_file()],
        "vault": [folder(None)] * (folder(None) / "judged.csv").is_file(),
    }
    head = ["places", "by", "MAE", "better at", "SSIM", "KID", "edge F1", "edges", "omission",
            "hallucination"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for look, folders in looks.items():
        if not folders:
            continue
        images = pd.concat([pd.read_csv(f / "judged.csv") for f in folders])
        means = images.groupby(["group", "by"], as_index=False).mean(numeric_only=True)
        parts = {str(by): part.set_index("group") for by, part in means.groupby("by")}
        own = parts["sar2optical"]["mae"]
        stored = [np.load(f / "features.npz") for f in folders]
        of = {name: np.concatenate([s[name] for s in stored]) for name in stored[0]}
        middle, spread = of["truth"].mean(axis=0), of["truth"].std(axis=0)
        scaled = {name: (rows - middle) / spread for name, rows in of.items()}
        for name in ("sar2optical", *GANS):
            part = parts[name]
            mean = part.drop(columns="by").mean().to_dict()
            won = "" if name == "sar2optical" else int((part["mae"] < own).sum())
            kid = kid_full(scaled["truth"], scaled[name], paired=True)
            cells = [f"{look}, {len(part)}", name, f"{mean['mae']:.4f}", won]
            cells += [f"{mean['ssim']:.3f}", f"{kid:.2f}", f"{mean['edge_f1']:.3f}"]
            cells.append(f"{mean['edges']:.2f}")
            cells += [
                f"{mean[k]:.2f} ({mean[k + ' by chance']:.2f})"
                for k in ("omission", "hallucination")
            ]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run a subcommand."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["train", "judge", "table"])
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="of the inner folds")
    parser.add_argument("--why", default="", help="what the look at the vault is for")
    a = parser.parse_args()
    if a.what == "train":
        train(a.fold)
    elif a.what == "judge":
        judge(a.fold, a.why)
    if a.what != "train":
        print(table())


if __name__ == "__main__":
    main()
