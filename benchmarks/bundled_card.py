"""The cards of the bundled models, written from what was measured at the places of the vault."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from fidelity import fidelity_table
from judged import (
    METRICS,
    Ratio,
    baselines,
    constant_share,
    error_table,
    losses,
    overall,
    ratio_table,
    ratios,
    structure_table,
)

from crossband import Model
from crossband.cli import demo
from crossband.translate.options import TileOptions
from crossband.translate.window import translate_window


@dataclass(frozen=True)
class Words:
    """What a card says that is not measured.

    Attributes:
        line: what the model does, in a line.
        purpose: what it is for, and what not.
        distrust: where not to trust it, an item each.
        promises: what the vault can promise.
        structure: how the table of structure is read; without it there is none.
        bands: how the table of each band is read.
    """

    line: str
    purpose: str
    distrust: tuple[str, ...]
    promises: str = ""
    structure: str = ""
    bands: str = ""


#: What the vault can promise; see `manifests.py`.
PROMISES = (
    "No place of the vault lies within 50 km of a place of the training data, as far as "
    "coordinates are known. The HLS water chips have none: chips that share ground are kept "
    "together, neighbours cannot be told. The Sentinel-2 chips (`chips`) have none either: their "
    "row measures other chips of the same campaign, and says nothing on other campaigns."
)


def _super_resolution(scale: int) -> Words:
    return Words(
        f"red, green, blue on a grid {scale} times as fine; satellite and aerial, reflectance or "
        "display",
        f"Every pixel becomes {scale} x {scale}. The result is synthetic: edges as the network "
        "knows them from other places, no new facts. The sources of the training were made from "
        "their targets, by MATLAB's bicubic resize and by sensors of several sharpnesses (an MTF "
        "of 0.12 to 0.3 at the Nyquist frequency) with white noise of 0.0003 to 0.002. The "
        "network finds out from the source which one it was. A gain or an offset of the source "
        "comes back in the result.",
        (
            "No pair of two sensors was used: a real coarse sensor also has aliasing, "
            "compression and an atmosphere that differ from the ones here.",
            "Where the source has noise and little else, so has the result.",
        ),
        PROMISES,
        "At most 384 x 384 pixels from the middle of each scene were judged. "
        "Improvement, omission and hallucination are shares of the detail that is nearer to the "
        "truth, still as in the source, or in neither (opensr-test's definition).",
    )


WORDS = {
    "rgb2nir": Words(
        "near infrared from red, green, blue; satellite and aerial, reflectance or display",
        "The result is synthetic: an estimate from colour and surroundings, not a measurement, and "
        "the files say so. It is meant for pictures and for comparing fields within one scene "
        "(false colour, NDVI maps, training data for what needs a fourth band) where no camera "
        "took the near infrared; not for values that a decision rests on, nor for changes between "
        "dates. Where the same place was measured by any sensor, give that as `--guide`.\n\n"
        "`display` in gives `display` out: an 8-bit picture has no reflectance, and neither has "
        "what is made of it. Other units are refused.",
        (
            "Trust patterns within a scene before values between scenes.",
            "8-bit pictures differ from camera to camera. Few places of the training data are "
            "aerial: NAIP over two regions, and TreeSatAI.",
            "Snow, cloud and their shadows are rare in the training data.",
        ),
        PROMISES,
    ),
    "sar2optical": Words(
        "red, green, blue from Sentinel-1 VV and VH in decibels; a first guess of colour",
        "Radar does not see colour. The result is what the places of the training that look alike "
        "to the radar have on average, so it is smooth: use it to look at a cloudy scene, or as a "
        "start for training on your own pairs (`--start sar2optical`), not to measure or to "
        "classify. Where a clear image of another date exists, give that as `--guide`: see "
        "docs/guiding.md.",
        (
            "Few places could be had under a licence for any use: three in the vault are too few "
            "to promise anything elsewhere.",
            "Season, crop, snow and cloud change the colour and hardly the radar. The model says "
            "the usual colour, whichever the date.",
            "Its edges lie where the truth has edges no more often than by chance (edge F1 about "
            "0.1): do not read borders of fields or roads from it.",
            "Bright targets (ships, roofs) and radar shadow become colours of something else.",
            "It leaves out what it does not know and invents little: at the vault it had none of "
            "the strong edges of the truth. pix2pix and CycleGAN, trained as long on the same "
            "pairs, have textures that look real (KID 1.8 and 2.4, this model 40), larger errors "
            "(MAE 0.0568 and 0.0710, this model 0.0519; SSIM 0.519 and 0.472, this model 0.551), "
            "and edges at the right place no more often than by chance: "
            "`python benchmarks/radar_gans.py`, docs/models.md.",
        ),
        "No place of the vault lies within 50 km of a place of the training data, as far as "
        "coordinates are known; the two BioMassters places in Finland have none.",
        "Edge F1 compares the strongest tenth of the gradients of both images: 1 - F1 of the "
        "strong edges of the truth are missing (omission), and as many of the result are where "
        "the truth has none (hallucination). Edges at random would have 0.1.",
    ),
    "rgb2nir-guided": Words(
        "near infrared from red, green, blue and a measurement of the same place; reflectance",
        "The guide (`--guide`) has red, green, blue and near infrared in reflectance, with pixels "
        "up to 16 times larger than those of the source, of the same date or another one. The "
        "network of `rgb2nir` translates the source and the guide's colours; what it does wrong at "
        "the guide is carried over, as far as a small network trusts it. Beyond the guide and in "
        "its holes the answer is that of the unguided network.",
        (
            "A guide that is misplaced by more than half of its pixels does harm.",
            "Few places with two dates could be had: 26, of which 18 are forests in Czechia. The "
            "row of another date says little elsewhere.",
            "Detail smaller than the guide's pixels is as synthetic as without a guide.",
        ),
        PROMISES + " The guides of the same date were made from the truth, as a sensor with an "
        "MTF of 0.3 at the Nyquist frequency would have seen it. `residual` is the method of that "
        "name with the bundled `rgb2nir`, `unguided` that model without a guide. Guides of another "
        "date have pixels as large as those of the source.",
    ),
    "sentinel-2-sharpen": Words(
        "the 20 m bands of Sentinel-2 at 10 m, from its four 10 m bands; reflectance",
        "The source has red, green, blue and near infrared at 10 m, the guide (`--guide`) the six "
        "bands at 20 m, of the same acquisition. The detail of the result is synthetic, its level "
        "that of the guide. It was trained at half the resolution (Wald's protocol, as DSen2, "
        "Lanaras et al. 2018): 20 m bands from 40 m bands, where the truth is known.",
        (
            "All places are chips of one campaign in Europe; deserts, snow and open sea are "
            "missing. The source of the chips had brought the 20 m bands to 10 m smoothly.",
            "Nobody can measure the error at 10 m itself: the table is of the half resolution.",
        ),
        "The chips have no coordinates: each is one place.",
        bands="The root mean square error of each band, mean over the same places, in reflectance "
        "times 10,000, as DSen2 is judged. `high-pass` adds what the mean of the 10 m bands lost "
        "by the same blur, `per pixel` regresses the band on the four 10 m bands.",
    ),
    "super-resolution-x2": _super_resolution(2),
    "super-resolution-x4": _super_resolution(4),
}
#: Beginnings of what the manifest says of a repository or package that held an image.
HOLDERS = ("repo", "no licence file", "package")


def describe(model: Model, used: pd.DataFrame, found: Sequence[Ratio]) -> dict[str, Any]:
    """Return what `about` says of a model: what it does, its sensors, what was measured."""
    return {
        "description": WORDS[model.name].line,
        "licence": "Apache-2.0; see the card for the imagery",
        "sensors": sorted(used["sensor"].dropna().unique()),
        "gsd": [float(used["gsd"].min()), float(used["gsd"].max())],
        "metrics": {"vault": [asdict(r) for r in found]},
        "measured": measured(overall(found)),
    }


def measured(found: Sequence[Ratio]) -> list[str]:
    """Return what `crossband models` says of ratios: a line for each kind of places."""
    lines = []
    for (places, count), of in groupby(found, lambda r: (r.places, r.count)):
        by_baseline = [
            f"{baseline}: "
            + ", ".join(
                f"{METRICS[r.metric]} {r.value:.2f} ({r.low:.2f} to {r.high:.2f})" for r in ratios
            )
            for baseline, ratios in groupby(of, lambda r: r.baseline)
        ]
        kind = "" if places == "all" else f", {places}"
        lines.append(
            f"{count} places of the vault{kind}; error over that of " + "; ".join(by_baseline)
        )
    return lines


def card(
    model: Model,
    recipe: str,
    used: pd.DataFrame,
    errors: pd.DataFrame,
    looks: Sequence[str],
    kept: pd.DataFrame | None = None,
    bands: str = "",
) -> str:
    """Return the text of README.md.

    Args:
        model: as it ships, with `about`.
        recipe: its name.
        used: the manifest that it was trained on.
        errors: see `judged.read_places`.
        looks: why the vault was opened, each time.
        kept: see `fidelity.measure`; None where there is no scale.
        bands: a table of the error of each band.
    """
    words, t, n, found = WORDS[model.name], model.about["training"], model.network, ratios(errors)
    counts = used.groupby("family").agg(
        files=("target", "size"),
        places=("group", "nunique"),
        regions=("region", "nunique"),
        licences=("licence", _licences),
    )
    data = "\n".join(
        f"| {f} | {r.files} | {r.places} | {r.regions} | {r.licences} |"
        for f, r in counts.iterrows()
    )
    units = "\n".join(
        f"| {unit} | {_bands(model.signature.source, r.source)} | "
        f"{_bands(model.signature.target, r.target)} |"
        for unit, r in model.signature.units.items()
    )
    opened = "once" if len(looks) == 1 else f"{len(looks)} times ({'; '.join(looks)})"
    distrust = "\n".join(f"- {item}" for item in (*_bias(model, errors), *words.distrust))
    return f"""\
# {model.name}

{words.line[0].upper()}{words.line[1:]}.

{words.purpose}

| source unit | normalised from | result |
|---|---|---|
{units}

Network: {type(n).__name__}, {model.parameters_total:,} parameters, margin {n.margin} px, stride
{n.stride}. It is strictly local, so a tiled scene equals the whole one. Licence: Apache-2.0.

## How good it is

A quarter of the regions of each source is a vault: not trained on, and closed while recipe and
network were chosen. It was opened {opened}. {words.promises}

Each number is the geometric mean over places of model error / baseline error: **below 1 the model
is better**. In brackets the 95 % interval (bootstrap over regions); then the number of places at
which the model is better. The baselines have the same inputs, the same normalisation and the same
training pairs: {_names(errors)}.

{ratio_table({"vault": found})}

{losses(errors, found)}

Mean error over the same places, in each unit:

{error_table(errors)}
{_structure(words, errors, kept, bands)}{_demo(model)}
## Data

Trained on:

| sensors | files | places | regions | licences |
|---|---|---|---|---|
{data}

Left out: imagery under non-commercial or unknown licences, files whose bands are in different
units, and the vault.

[training_data.csv](training_data.csv) has the name and a hash of the target of each pair, and
`crossband evaluate` says where it judges the model on one of them.

## Training

Recipe `{recipe}`: {t["steps"]:,} steps, {t["samples"]:,} crops{_minutes(t)}, on
{t["device"]} ({t["precision"]}); seed {t["seed"]}, PyTorch {t["versions"]["torch"]}. The full
configuration is in `model.json` under `about.training`.

    python benchmarks/manifests.py write
    python benchmarks/bundled.py train {model.name}

## Where not to trust it

{distrust}
"""


def _bias(model: Model, errors: pd.DataFrame) -> list[str]:
    """Return what is said of the mean error of a place, where that was measured and counts."""
    # What super-resolution adds is detail, whose mean is 0.
    if "bias" not in errors or model.network.scale > 1:
        return []
    return [
        f"Much of the error at a new place is one constant: over the places of the vault the mean "
        f"error of a place is {constant_share(errors):.0%} of its MAE (median)."
    ]


def _names(errors: pd.DataFrame) -> str:
    """Return the names of the baselines; the weights of before are none."""
    names = ", ".join(f"`{b}`" for b in baselines(errors) if b != "before")
    if (errors["by"] == "before").any():
        names += (
            ". `before` are the weights of version 0.1, which were trained on some of these places"
        )
    return names


def _structure(words: Words, errors: pd.DataFrame, kept: pd.DataFrame | None, bands: str) -> str:
    """Return what was measured of bands, of structure, and of fidelity to the source."""
    parts = [words.bands, bands] if bands else []
    if words.structure:
        parts.append(f"Structure, means over the same places. {words.structure}")
        parts.append(structure_table(errors))
    if kept is not None:
        parts.append(
            "Fidelity to the source: the result is made coarse again as its source was, without "
            "noise. A network that removes the source's noise differs from it by that noise."
        )
        parts.append(fidelity_table(kept))
    return "".join(f"\n{part}\n" for part in parts)


def _minutes(training: dict[str, Any]) -> str:
    """Return how long a training took, of all processes."""
    return f", {training['seconds'] / 60:.0f} minutes"


def _licences(column: pd.Series) -> str:
    """Return the licences of images, without those of the repositories that held them."""
    parts = [[p.strip() for p in str(text).split(";")] for text in column.unique()]
    of_images = {
        p for found in parts for p in ([q for q in found if not q.startswith(HOLDERS)] or found)
    }
    return "; ".join(sorted(of_images))


def _bands(names: Sequence[str], ranges: Sequence[tuple[float, float]]) -> str:
    pairs = zip(names, ranges, strict=True)
    return ", ".join(f"{name} {low:g}..{high:g}" for name, (low, high) in pairs)


def _demo(model: Model) -> str:
    """Return the section on the demo scene, for a model that can translate it."""
    if model.task != "rgb2nir" or model.signature.guide:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        scores = demo.run(folder, model)["scores"]
    stored = demo.sample()
    values = np.stack([stored[b] for b in model.signature.source]).astype(np.float32) * 1e-4
    window = demo.window(values, tuple(model.signature.source))
    fp32, bf16 = (
        translate_window(model, window, TileOptions(precision=p)).values for p in ("fp32", "bf16")
    )
    difference = np.abs(fp32 - bf16)
    formats = {"mae": ".4f", "rmse": ".4f", "psnr": ".2f", "ssim": ".3f", "NDVI_mae": ".4f"}
    lines = [
        f"| {who} | " + " | ".join(format(s[k], f) for k, f in formats.items()) + " |"
        for who, s in scores.items()
    ]
    return f"""
The scene of `crossband demo` (Sentinel-2, 300 x 300, in reflectance), which was not trained on and
not used to choose anything:

| | MAE | RMSE | PSNR | SSIM | NDVI MAE |
|---|---|---|---|---|---|
{chr(10).join(lines)}

bf16 against fp32 on that scene: mean difference {difference.mean():.5f} reflectance, largest
{difference.max():.4f}.
"""
