"""The bundled models `super-resolution-x2`, `-x4`, `sar2optical`: pairs, training, held-out error.

    python benchmarks/bundled.py fit MODEL      train and judge, by the command
    python benchmarks/bundled.py ship MODEL     put the fitted model and its card into the package
    python benchmarks/bundled.py table          print the held-out numbers of what was fitted

The super-resolution models ship exactly as judged: a quarter of the places is held out and never
trained on. `sar2optical` has seven pairs of six places: it is judged by leaving out one place at a
time, and what ships is trained on all seven.

The images lie beside the repository (`--data`); their SOURCES.md says where they come from. Only
those whose provider allows any use are taken.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bundled_card import card, measured, ratios, table
from rgb2nir import ROOT, crossband, fold_of
from rgb2nir import pairs as satellite_pairs

from crossband import load

MODELS = ("super-resolution-x2", "super-resolution-x4", "sar2optical")
#: Pixels of a scene that are judged: the middle. NAIP scenes would outweigh all others.
SIDE = 480
RECIPES = {
    "super-resolution-x2": "super-resolution/edsr-small",
    "super-resolution-x4": "super-resolution/edsr-small",
    "sar2optical": "sar2optical/local-statistics",
}


def pairs(model: str, data: Path) -> pd.DataFrame:
    """Return the manifest of a model: one row a pair, with `family`, `place`, `licence`."""
    return _radar(data) if model == "sar2optical" else _coarse(data)


def _coarse(data: Path) -> pd.DataFrame:
    """The colours of the satellite and aerial scenes; the source is made from the target."""
    table = satellite_pairs(data / "rgb2nir" / "satellite")
    table = table.rename(columns={"source_bands": "colours"}).drop(columns="target_bands")
    table = table.rename(columns={"colours": "target_bands"})
    table["source"], table["degradation"] = None, "Bicubic"
    fold = fold_of(table, 4)
    table["split"] = np.where(fold == 0, "test", "train")
    return table


def _radar(data: Path) -> pd.DataFrame:
    """TerraMesh and BigEarthNet: dB and reflectance of the same grid."""
    rows = []
    for folder, licence in (("terramesh_geo", "CC BY-SA 4.0"), ("bigearthnet_geo", "CDLA")):
        for path in sorted((data / "sar2optical" / folder / "s1").glob("*.tif")):
            # Two patches of one acquisition lie beside each other.
            acquisition = path.stem.rsplit("_", 2)[0]
            rows.append(
                {
                    "source": str(path.resolve()),
                    "sensor": "sentinel-1-grd-db",
                    "source_bands": "vv=1,vh=2",
                    "target": str((path.parents[1] / "s2" / path.name).resolve()),
                    "target_sensor": "sentinel-2-l2a-no-offset",
                    "target_bands": "red=B04,green=B03,blue=B02",
                    "group": acquisition if folder.startswith("big") else path.stem,
                    "family": folder.split("_")[0],
                    "gsd": 10.0,
                    "licence": licence,
                }
            )
    return pd.DataFrame(rows)


def fit(a: argparse.Namespace) -> None:
    """Train and judge one model, unless it is there."""
    folder = ROOT / "runs" / "bundled" / a.model
    folder.mkdir(parents=True, exist_ok=True)
    rows, recipe = pairs(a.model, a.data), RECIPES[a.model]
    if a.model != "sar2optical":
        scale = int(a.model[-1])
        rows["target_window"] = [middle(r) for r in rows.itertuples()]
        manifest = folder / "pairs.csv"
        rows.to_csv(manifest, index=False)
        scaled = ("--method.generator.scale", scale, "--data.scale", scale, "--name", a.model)
        _run(folder / "run", recipe, manifest, *scaled, *a.more)
        return
    for number, group in enumerate(sorted(rows["group"].unique())):
        split = np.where(rows["group"] == group, "test", "train")
        manifest = folder / f"without-{number}.csv"
        rows.assign(split=split).to_csv(manifest, index=False)
        _run(folder / f"without-{number}", recipe, manifest, *a.more)
    manifest = folder / "pairs.csv"
    rows.assign(split="train").to_csv(manifest, index=False)
    _run(folder / "run", recipe, manifest, *a.more)


def middle(row: Any) -> str | None:
    """Return the window of a judged scene, as GDAL's srcwin; None: all of it."""
    import rasterio

    if row.split != "test":
        return None
    with rasterio.open(row.target) as d:
        w, h = (min(SIDE, n // 12 * 12) for n in (d.width, d.height))
        return f"{(d.width - w) // 2},{(d.height - h) // 2},{w},{h}"


def _run(folder: Path, recipe: str, manifest: Path, *options: Any) -> None:
    # Relative to the repository: the model stores its configuration, and no path of a machine.
    folder, manifest = folder.relative_to(ROOT), manifest.relative_to(ROOT)
    if not (ROOT / folder / "model" / "baselines").is_dir():
        crossband("fit", recipe, "--data.manifest", manifest, "-o", folder, "--overwrite", *options)
    judged = "test" in set(pd.read_csv(ROOT / manifest)["split"])
    if judged and not (ROOT / folder / "report" / "metrics.json").is_file():
        _judge(folder / "model", manifest, folder / "report")


def _judge(model: Path, manifest: Path, report: Path) -> None:
    split = ("--manifest", manifest, "--split", "test")
    crossband("evaluate", "--model", model, *split, "-o", report, "--overwrite")


def held_out(model: str) -> pd.DataFrame:
    """Return the numbers of every judged pair, by model and baselines."""
    folder = ROOT / "runs" / "bundled" / model
    found = [pd.read_csv(p) for p in sorted(folder.glob("*/report/per_image.csv"))]
    if not found:
        raise SystemExit(f"nothing was judged in {folder}; run: bundled.py fit {model}")
    return pd.concat(found, ignore_index=True)


def ship(a: argparse.Namespace) -> None:
    """Put the fitted model, with its card, into the package."""
    run = ROOT / "runs" / "bundled" / a.model / "run"
    target = ROOT / "src" / "crossband" / "weights" / a.model
    model = load(run / "model")
    model.name = a.model
    training = model.about
    model.save(target, dtype="bfloat16")
    if a.model != "sar2optical":  # what is measured is what ships: the weights as they are stored
        _judge(target, run.parent / "pairs.csv", run / "report")
    model, judged = load(target), held_out(a.model)
    model.about = training
    used = pd.read_csv(run.parent / "pairs.csv")
    model.about |= measured(model, used, judged)
    model.save(target, dtype="bfloat16", card=card(model, used, judged))
    print(table(judged))
    print(target.relative_to(ROOT))


def main() -> None:
    """Run a subcommand."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["fit", "ship", "table"])
    parser.add_argument("model", choices=MODELS, nargs="?")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--json", type=Path, help="write the numbers of every pair to FILE")
    a, more = parser.parse_known_args()
    a.more = more
    if a.what != "table" and a.model is None:
        parser.error(f"which model? {', '.join(MODELS)}")
    if a.what == "fit":
        fit(a)
    elif a.what == "ship":
        ship(a)
    numbers = {}
    for model in [a.model] if a.model else MODELS:
        judged = held_out(model)
        print(f"\n{model}\n\n{table(judged)}")
        numbers[model] = {"ratios": ratios(judged), "pairs": judged.to_dict("records")}
    if a.json:
        a.json.write_text(json.dumps(numbers, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
