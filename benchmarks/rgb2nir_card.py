"""The card of the bundled model `rgb2nir`, written from what was measured."""

from __future__ import annotations

import tempfile
from typing import Any, cast

import numpy as np
import pandas as pd

from crossband import Model
from crossband.cli import demo
from crossband.translate.engine import Engine
from crossband.translate.options import TileOptions
from crossband.translate.window import translate_window

WHO = ("model", "mlp", "linear", "mean")
COMMAND = "python benchmarks/rgb2nir.py train --data FOLDER"
SENSORS = [
    "sentinel-2-l2a",
    "sentinel-2-l2a-no-offset",
    "sentinel-2-l1c-no-offset",
    "hls",
    "reflectance",
    "naip",
    "display",
]
PROVIDERS = """\
| provider | licence |
|---|---|
| Copernicus Sentinel-2 | free and open, modified Copernicus Sentinel data |
| NASA HLS, USGS Landsat, USDA NAIP | public domain / free and open |
| SpaceNet (WorldView, Rotterdam) | CC BY-SA 4.0, SpaceNet on AWS |"""


def describe(model: Model, pairs: pd.DataFrame, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Fill `about` of the model and return what the card needs beside it."""
    overall = rows[0]
    scene = _demo(model)
    model.about |= {
        "description": "near infrared from red, green, blue; satellite and aerial, reflectance or "
        "display",
        "licence": "Apache-2.0; see the card for the imagery",
        "sensors": SENSORS,
        "gsd": [float(pairs["gsd"].min()), float(pairs["gsd"].max())],
        "metrics": {"held_out": rows, "demo": scene["scores"], "bf16": scene["bf16"]},
        "measured": [
            f"{overall['places']} held-out places, geometric mean of the error ratio: "
            + ", ".join(
                f"{overall[f'mae / {b}']:.2f} of {b} (NDVI {overall[f'NDVI_mae / {b}']:.2f})"
                for b in ("mlp", "linear", "mean")
            ),
            f"demo scene (Sentinel-2): MAE {scene['scores']['model']['mae']:.4f} reflectance, "
            f"NDVI MAE {scene['scores']['model']['NDVI_mae']:.4f}",
        ],
    }
    return scene


def _demo(model: Model) -> dict[str, Any]:
    """Measure the demo scene, and bf16 against fp32 on it."""
    with tempfile.TemporaryDirectory() as folder:
        scores = demo.run(folder, model)["scores"]
    stored = demo.sample()
    values = np.stack([stored[b] for b in ("red", "green", "blue")]).astype(np.float32) * 1e-4
    window = demo.window(values, ("red", "green", "blue"))
    difference = np.abs(
        translate_window(model, window, TileOptions(precision="fp32")).values
        - translate_window(model, window, TileOptions(precision="bf16")).values
    )
    bf16 = {"mean": float(difference.mean()), "largest": float(difference.max())}
    return {"scores": scores, "bf16": bf16, "default": Engine(model).precision}


def card(
    model: Model,
    pairs: pd.DataFrame,
    scene: dict[str, Any],
    ratios: str,
    places: pd.DataFrame,
    folds: int,
) -> str:
    """Return the text of README.md."""
    t, n = model.about["training"], model.network
    units = "\n".join(
        f"| {unit} | "
        + ", ".join(
            f"{b} {lo:g}..{hi:g}"
            for b, (lo, hi) in zip(model.signature.source, r.source, strict=True)
        )
        + f" | {r.target[0][0]:g}..{r.target[0][1]:g} |"
        for unit, r in model.signature.units.items()
    )
    counts = pairs.groupby("family", sort=False).agg(
        files=("source", "size"), places=("group", "nunique")
    )
    data = "\n".join(f"| {f} | {r.files} | {r.places} |" for f, r in counts.iterrows())
    formats = {"mae": ".4f", "rmse": ".4f", "psnr": ".2f", "ssim": ".4f", "r": ".4f"}
    scores = "\n".join(
        f"| {who} | "
        + " | ".join(
            "-" if s[k] is None else format(s[k], f)
            for k, f in {**formats, "NDVI_mae": ".4f"}.items()
        )
        + " |"
        for who, s in scene["scores"].items()
    )
    return f"""\
# rgb2nir

Near infrared from red, green and blue, for satellite and aerial scenes. The result is synthetic:
an estimate from colour and surroundings, not a measurement, and the files say so. It is meant for
pictures and for comparing fields within one scene (false colour, NDVI maps, training data for what
needs a fourth band) where no camera took the near infrared; not for values that a decision rests
on, nor for changes between dates.

| source unit | normalised from | near infrared |
|---|---|---|
{units}

`display` in gives `display` out: an 8-bit picture has no reflectance, and neither has what is made
of it. Other units are refused.

Network: {type(n).__name__}, {model.parameters_total:,} parameters, margin {n.margin} px,
stride {n.stride}. It is strictly local, so a tiled scene equals the whole one. Licence: Apache-2.0.

## How good it is

{folds} folds; in each the shipped recipe was trained anew on the other folds' places and judged at
places that it never saw ({places["group"].nunique()} places in all; no place is cut). Each number
is the geometric mean over places of the ratio model error / baseline error: **below 1 the model is
better**. In brackets: at how many of the places it is better. The baselines have the same inputs,
the same normalisation and the same training pairs: a per-pixel perceptron (`mlp`), a line
(`linear`), the mean.

{ratios}

Mean error over the same places, in each unit:

{_absolute(places)}

{_losses(places)}

The recipe was chosen on these same places: features, loss, optimiser, length and the line's share
of the answer are what did best in many looks at these folds, so the numbers are kind to it. The
seed was not chosen; another one gives other numbers.

The demo scene (Sentinel-2, 300 x 300, not in the training data and not used to choose anything; the
model trained on all places), in reflectance:

| | MAE | RMSE | PSNR | SSIM | r | NDVI MAE |
|---|---|---|---|---|---|---|
{scores}

bf16 against fp32 on that scene: mean difference {scene["bf16"]["mean"]:.5f} reflectance, largest
{scene["bf16"]["largest"]:.4f}.

## Data

| sensors | files | places |
|---|---|---|
{data}

{PROVIDERS}

Left out: imagery under non-commercial or unknown licences, and files whose colours and near
infrared are in different units.

## Training

Recipe `rgb2nir/local-statistics`: {t["steps"]:,} steps, {t["samples"]:,} crops,
{t["seconds"] / 60:.0f} minutes on {t["device"]} ({t["precision"]}); seed {t["seed"]}, PyTorch
{t["versions"]["torch"]}.
The full configuration is in `model.json` under `about.training`.

    {COMMAND}

runs `crossband fit rgb2nir/local-statistics` on all pairs and writes this folder again; the folds
are `python benchmarks/rgb2nir.py folds --data FOLDER`.

## Where not to trust it

- Much of the error at a new place is one constant: over the held-out places the mean error of a
  place is {_bias(places):.0%} of its MAE (median). Season, crop and haze
  decide how bright vegetation is in the near infrared, and colour does not tell. Trust patterns
  within a scene before values between scenes.
- Water, snow, bright roofs and clouds are rare in the training data.
- 8-bit pictures differ from camera to camera. NAIP is the only aerial sensor it has seen.
"""


def _bias(places: pd.DataFrame) -> float:
    """Return the median over places of |mean error| / mean absolute error of the model."""
    own = places[places["by"] == "model"]
    return float((own["bias"].abs() / own["mae"]).median())


def _absolute(places: pd.DataFrame) -> str:
    lines = [
        "| sensors, unit | places | " + " | ".join(f"MAE {w}" for w in WHO) + " | "
        + " | ".join(f"NDVI {w}" for w in WHO) + " |",
        "|---|---|" + "---|" * 8,
    ]  # fmt: skip
    for key, part in places.groupby(["family", "unit"], sort=False):
        family, unit = cast(tuple[str, str], key)
        means = part.groupby("by")[["mae", "NDVI_mae"]].mean().to_dict()
        cells = [f"{means[m][w]:.4f}" for m in ("mae", "NDVI_mae") for w in WHO]
        lines.append(
            f"| {family}, {unit} | {part['group'].nunique()} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def _losses(places: pd.DataFrame) -> str:
    """Say where the model loses to a baseline: families, and the places with the worst ratio."""
    wide = places.pivot(index=["family", "group"], columns="by", values="mae")
    ratio = wide.drop(columns="model").rdiv(wide["model"], axis=0)
    worst = ratio["mlp"].sort_values(ascending=False).head(5)
    lost = []
    for key, part in ratio.groupby(level="family", sort=False):
        family = str(key)
        means = np.exp(np.log(part).mean())
        lost += [f"{family} to {b} ({m:.2f})" for b, m in means.items() if m > 1]
    text = "It loses to a baseline in MAE on: " + "; ".join(lost) + "." if lost else (
        "No family of sensors loses to a baseline in MAE."
    )  # fmt: skip
    listed = ", ".join(
        f"{index[1]} ({value:.2f})"
        for index, value in zip(worst.index.tolist(), worst, strict=True)
    )
    return f"{text} Places with the worst ratio to the perceptron: {listed}."
