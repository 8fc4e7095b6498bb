"""The cards of the bundled `super-resolution-*` and `sar2optical`, from what was measured."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pandas as pd

from crossband import Model

DRAWS = 4000
PROVIDERS = {
    "Sentinel-2": "Copernicus Sentinel-2: free and open, modified Copernicus Sentinel data",
    "HLS": "NASA HLS: public domain",
    "Landsat": "USGS Landsat: public domain",
    "NAIP": "USDA NAIP: public domain",
    "WorldView": "SpaceNet (Rotterdam): CC BY-SA 4.0, SpaceNet on AWS",
    "terramesh": "TerraMesh (IBM, ESA): CC BY-SA 4.0; modified Copernicus Sentinel data",
    "bigearthnet": "BigEarthNet: CDLA Permissive 1.0; modified Copernicus Sentinel data",
}


def places(judged: pd.DataFrame) -> pd.DataFrame:
    """Return MAE, PSNR, SSIM of model and baselines for each judged place, from per_image rows."""
    keys = ["family", "unit", "group", "by"]
    rows = []
    for key, part in judged[judged["n_valid"] > 0].groupby(keys):
        row: dict[str, Any] = dict(zip(keys, cast(tuple[str, ...], key), strict=True))
        for metric in ("mae", "psnr", "ssim"):
            known = part[np.isfinite(part[metric])]
            weights = known["n_valid"]
            row[metric] = float(np.average(known[metric], weights=weights)) if len(known) else None
        rows.append(row)
    return pd.DataFrame(rows)


def ratios(judged: pd.DataFrame) -> list[dict[str, Any]]:
    """Return, overall and by family, the geometric mean over places of the ratio of MAE."""
    table = places(judged)
    wide = table.pivot(index=["family", "group"], columns="by", values="mae")
    rng = np.random.default_rng(0)
    out = []
    for name in ("all", *dict.fromkeys(table["family"])):
        part = wide if name == "all" else wide[wide.index.get_level_values("family") == name]
        for baseline in (c for c in part.columns if c != "model"):
            log = np.log(part["model"].to_numpy() / part[baseline].to_numpy())
            draws = rng.choice(log, (DRAWS, len(log))).mean(axis=1)
            low, high = np.exp(np.percentile(draws, [2.5, 97.5]))
            out.append(
                {
                    "places": name,
                    "n": len(log),
                    "baseline": baseline,
                    "ratio": math.exp(log.mean()),
                    "low": float(low),
                    "high": float(high),
                    "won": int((log < 0).sum()),
                }
            )
    return out


def table(judged: pd.DataFrame) -> str:
    """Return what was measured as Markdown: ratios, then the errors themselves in each unit."""
    lines = [
        "| places | n | MAE / baseline | ratio | 95% over places | better at |",
        "|" + "---|" * 6,
    ]
    for r in ratios(judged):
        between = f"{r['low']:.2f} to {r['high']:.2f}" if r["n"] > 2 else "-"
        lines.append(
            f"| {r['places']} | {r['n']} | {r['baseline']} | {r['ratio']:.3f} | {between} | "
            f"{r['won']} |"
        )
    lines += ["", "| sensors, unit | places | by | MAE | PSNR, dB | SSIM |", "|" + "---|" * 6]
    for key, part in places(judged).groupby(["family", "unit"], sort=False):
        family, unit = cast(tuple[str, str], key)
        for by in sorted(part["by"].unique(), key=lambda b: (b != "model", b)):
            own = part[part["by"] == by]
            lines.append(
                f"| {family}, {unit} | {len(own)} | {by} | {own['mae'].mean():.4f} | "
                f"{own['psnr'].mean():.2f} | {own['ssim'].mean():.3f} |"
            )
    return "\n".join(lines)


def measured(model: Model, used: pd.DataFrame, judged: pd.DataFrame) -> dict[str, Any]:
    """Return what `about` says of the model."""
    found = ratios(judged)
    overall = [r for r in found if r["places"] == "all"]
    words = ", ".join(f"{r['ratio']:.2f} of {r['baseline']}" for r in overall)
    return {
        "description": _what(model)[0],
        "licence": "Apache-2.0; see the card for the imagery",
        "sensors": sorted(used["sensor"].dropna().unique()),
        "gsd": [float(used["gsd"].min()), float(used["gsd"].max())],
        "metrics": {"held_out": found},
        "measured": [
            f"{overall[0]['n']} held-out places, geometric mean of the ratio of MAE: {words}"
        ],
    }


def _what(model: Model) -> tuple[str, str]:
    """Return what the model does, in a line and in a paragraph."""
    if model.task == "sar2optical":
        return (
            "red, green, blue from Sentinel-1 VV and VH; a proof of the way, of seven pairs",
            "**Do not use this model for work.** It was trained on seven pairs of six places, all "
            "that could be had under a licence for any use. It shows the way from radar to colour "
            "in Crossband, and the numbers below say how far seven pairs get: train your own with "
            "`crossband fit sar2optical/local-statistics` or `sar2optical/pix2pix`.",
        )
    scale = model.network.scale
    return (
        f"red, green, blue on a grid {scale} times as fine; satellite and aerial, reflectance or "
        "display",
        f"Every pixel becomes {scale} x {scale}. The result is synthetic: sharper edges where the "
        "network knows how they usually look, no new facts. The source of every training pair was "
        "made from its target by MATLAB's bicubic resize, the protocol of published "
        "super-resolution; a scene that is softer than that (most sensors blur more) comes out "
        "softer, and one that was sharpened before comes out with halos.",
    )


def card(model: Model, used: pd.DataFrame, judged: pd.DataFrame) -> str:
    """Return the text of README.md."""
    t, n = model.about["training"], model.network
    counts = used.groupby("family", sort=False).agg(
        files=("target", "size"), places=("group", "nunique")
    )
    data = "\n".join(f"| {f} | {r.files} | {r.places} |" for f, r in counts.iterrows())
    providers = "\n".join(f"- {PROVIDERS[f]}" for f in counts.index.astype(str))
    units = "\n".join(
        f"- {unit}: "
        + ", ".join(
            f"{b} {lo:g}..{hi:g}"
            for b, (lo, hi) in zip(model.signature.source, r.source, strict=True)
        )
        + f" to {model.signature.target_unit(unit)}"
        for unit, r in model.signature.units.items()
    )
    return f"""\
# {model.name}

{_what(model)[0][0].upper()}{_what(model)[0][1:]}.

{_what(model)[1]}

Source units, with the range that is normalised to 0..1:

{units}

Network: {type(n).__name__}, {model.parameters_total:,} parameters, margin {n.margin} px, stride
{n.stride}. It is strictly local, so a tiled scene equals the whole one. Licence: Apache-2.0.

## How good it is

{_protocol(model)} A ratio is the geometric mean over places of the model's error divided by the
baseline's: **below 1 the model is better**. The baselines have the same inputs, the same
normalisation and the same training pairs.

{table(judged)}

{_verdict(judged)}

## Data

| sensors | files | places |
|---|---|---|
{data}

{providers}

## Training

Recipe `{RECIPE_OF[str(model.task)]}`: {t["steps"]:,} steps, {t["samples"]:,} crops,
{t["seconds"] / 60:.0f} minutes on {t["device"]} ({t["precision"]}); seed {t["seed"]}, PyTorch
{t["versions"]["torch"]}. The full configuration is in `model.json` under `about.training`.

    python benchmarks/bundled.py fit {model.name} --data FOLDER
    python benchmarks/bundled.py ship {model.name} --data FOLDER
"""


RECIPE_OF = {
    "sar2optical": "sar2optical/local-statistics",
    "super-resolution": "super-resolution/edsr-small",
}


def _protocol(model: Model) -> str:
    if model.task == "sar2optical":
        return (
            "Each place was left out once: the recipe was trained anew on the others and judged "
            "there. The shipped weights are trained on all of them."
        )
    return (
        "A quarter of the places was held out and never trained on; these shipped weights were "
        "judged there, at the middle 480 x 480 pixels of each scene. The recipe was not tuned on "
        "them: this is its first and only look."
    )


def _verdict(judged: pd.DataFrame) -> str:
    """Say in words where the model loses."""
    found = ratios(judged)
    lost = [
        f"to {r['baseline']} on {r['places']} ({r['ratio']:.2f})"
        for r in found
        if r["ratio"] >= 1 and r["places"] != "all"
    ]
    everywhere = [r["baseline"] for r in found if r["ratio"] >= 1 and r["places"] == "all"]
    words = []
    if everywhere:
        words.append(f"Over all places it LOSES to: {', '.join(everywhere)}.")
    words.append(f"It loses {'; '.join(lost)}." if lost else "No family of sensors loses.")
    return " ".join(words)
