"""The bundled model `rgb2nir`: its pairs, its training, and its error at places it never saw.

    python benchmarks/rgb2nir.py pairs            write the manifest of the pairs it is trained on
    python benchmarks/rgb2nir.py folds            train the shipped recipe once for each fold and
                                                  print the error at the held-out places
    python benchmarks/rgb2nir.py table            print the table of finished folds again
    python benchmarks/rgb2nir.py train            train on all pairs and put the model into the
                                                  package, with its card

The images lie beside the repository (`--data`); their SOURCES.md says where they come from. Only
those whose provider allows any use are taken. No place is in two folds: the groups are dealt out
within each family of sensors, in the order of a hash, so that every fold holds some of each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
RECIPE = "rgb2nir/local-statistics"
BASELINES = ("mlp", "linear", "mean")
FAMILIES = ("Sentinel-2", "HLS", "Landsat", "NAIP", "WorldView")
#: Not for shipped weights: licence (non-commercial or unknown), or RGB and NIR in two units.
LEFT_OUT = (
    "s2_earthnet_",
    "ikonos_",
    "geoeye1_",
    "worldview2_",
    "rapideye-like_",
    "s2_l2a_california_",
)
#: Several files of one place.
ONE_PLACE = (
    "naip_nd",
    "naip_wv",
    "s2_l2a_ftw-austria",
    "s2_l2a_czechia",
    "s2_l2a_fort-mcmurray",
    "worldview_rotterdam",
)


def pairs(folder: Path) -> pd.DataFrame:
    """Return the manifest: one row a file, source and target in the same file."""
    rows = []
    for record in pd.read_csv(folder / "manifest.csv").to_dict("records"):
        r = {str(k): v for k, v in record.items()}
        name = str(r["file"])
        if name.startswith(LEFT_OUT):
            continue
        rows.append(
            {
                "source": str((folder / name).resolve()),
                "target": str((folder / name).resolve()),
                "source_bands": f"red={r['red']},green={r['green']},blue={r['blue']}",
                "target_bands": f"nir={r['nir']}",
                **radiometry(name, r),
                "group": group(name, str(r["place"])),
                "family": family(name),
                "gsd": r["gsd_m"],
                "place": r["place"],
                "licence": r["licence"],
            }
        )
    return pd.DataFrame(rows)


def radiometry(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return sensor, scale, offset and nodata as the data's own manifest states them."""
    if "1e4" in str(row["scale"]):
        sensor = "hls" if name.startswith("hls") else "reflectance"
        if name.startswith(("s2_", "sentinel2")):
            level = "l1c" if "L1C" in str(row["sensor"]) else "l2a"
            sensor = f"sentinel-2-{level}" + ("" if row["boa_add_offset"] < 0 else "-no-offset")
        return {"sensor": sensor, "scale": 1e-4, "offset": row["boa_add_offset"] * 1e-4}
    if name.startswith("naip"):
        return {"sensor": "naip"}
    if name.startswith("landsat5"):  # 8-bit numbers in 16-bit storage
        return {"sensor": "display", "scale": 1 / 255, "offset": 0.0}
    if name.startswith("worldview"):  # 11 bits
        return {"sensor": "display", "scale": 1 / 2047, "offset": 0.0}
    if row["dtype"] == "uint16":  # an exporter's stretch; 0 lies outside the picture
        return {"sensor": "display", "nodata": 0}
    return {"sensor": "display"}


def group(name: str, place: str) -> str:
    """Return the place that no fold may cut."""
    region = re.search(r"region group (\d+)", place)
    if region:
        return f"hls_region_{region[1]}"
    return next((p for p in ONE_PLACE if name.startswith(p)), Path(name).stem)


def family(name: str) -> str:
    """Return the family of sensors."""
    heads = {"s2": 0, "sentinel2": 0, "hls": 1, "landsat": 2, "naip": 3, "worldview": 4}
    return next(FAMILIES[i] for head, i in heads.items() if name.startswith(head))


def fold_of(table: pd.DataFrame, folds: int) -> pd.Series:
    """Return the fold of each row: groups in the order of a hash, dealt out family by family."""
    fold: dict[str, int] = {}
    for _, part in sorted(table.groupby(["family", "sensor"])):
        for name in sorted(
            part["group"].unique(), key=lambda g: hashlib.sha256(g.encode()).digest()
        ):
            fold.setdefault(name, len(fold) % folds)
    return table["group"].map(fold)


def run_folds(a: argparse.Namespace) -> None:
    """Fit the shipped recipe for each fold that is not there yet, and evaluate it."""
    table = pairs(a.data)
    fold = fold_of(table, a.folds)
    for k in range(a.folds) if a.fold is None else [a.fold]:
        run = a.output / f"fold-{k}"
        if (run / "report" / "metrics.json").is_file():
            continue
        run.parent.mkdir(parents=True, exist_ok=True)
        manifest = a.output / f"fold-{k}.csv"
        split = np.where(fold == k, "test", "train")
        table.assign(split=split).to_csv(manifest, index=False)
        if not (run / "model" / "baselines" / BASELINES[0]).is_dir():
            crossband("fit", RECIPE, "--data.manifest", manifest, "-o", run, "--overwrite", *a.more)
        crossband("evaluate", "--model", run / "model", "--manifest", manifest, "--split", "test",
                  "-o", run / "report", "--overwrite")  # fmt: skip


def crossband(*arguments: Any) -> None:
    """Run the real command."""
    command = [sys.executable, "-m", "crossband", *map(str, arguments)]
    subprocess.run(command, check=True, cwd=ROOT)


def places(output: Path) -> pd.DataFrame:
    """Return MAE and NDVI MAE of model and baselines for each held-out place of the folds."""
    rows = []
    for path in sorted(output.glob("fold-*/report/per_image.csv")):
        images = pd.read_csv(path)
        images["fold"] = int(path.parts[-3].split("-")[1])
        keys = ["fold", "family", "unit", "group", "by"]
        for key, part in images.groupby(keys):
            record = dict(zip(keys, key, strict=True))
            for metric, count in (("mae", "n_valid"), ("bias", "n_valid"), ("NDVI_mae", "NDVI_n")):
                known = part[part[count] > 0]
                record[metric] = float(np.average(known[metric], weights=known[count]))
            rows.append({**record, "pixels": int(part["n_valid"].sum())})
    if not rows:
        raise SystemExit(f"no finished folds in {output}; run: rgb2nir.py folds")
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the geometric mean over places of model / baseline, overall and by family."""
    wide = table.pivot(index=["family", "group"], columns="by", values=["mae", "NDVI_mae"])
    out = []
    found = set(wide.index.unique("family"))
    known = [f for f in FAMILIES if f in found]
    for name in ("all", *known, *sorted(found - set(known))):
        part = wide if name == "all" else wide[wide.index.get_level_values("family") == name]
        row: dict[str, Any] = {"sensors": name, "places": len(part)}
        for metric in ("mae", "NDVI_mae"):
            for baseline in BASELINES:
                ratio = part[metric]["model"] / part[metric][baseline]
                row[f"{metric} / {baseline}"] = math.exp(float(np.log(ratio).mean()))
                row[f"{metric} won {baseline}"] = int((ratio < 1).sum())
        out.append(row)
    return out


def text(rows: list[dict[str, Any]]) -> str:
    """Return the table as Markdown; a value below 1 means that the model errs less."""
    head = [f"MAE / {b}" for b in BASELINES] + [f"NDVI MAE / {b}" for b in BASELINES]
    lines = [
        "| held-out places | n | " + " | ".join(head) + " |",
        "|---|---|" + "---|" * len(head),
    ]
    for row in rows:
        cells = []
        for metric in ("mae", "NDVI_mae"):
            for baseline in BASELINES:
                won = row[f"{metric} won {baseline}"]
                cells.append(f"{row[f'{metric} / {baseline}']:.3f} ({won})")
        lines.append(f"| {row['sensors']} | {row['places']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def train(a: argparse.Namespace) -> None:
    """Train on all pairs and put the model, with its card, into the package."""
    from rgb2nir_card import card, describe

    from crossband import load

    # Relative to the repository: the model stores its configuration, and no path of a machine.
    run, manifest = Path("runs/rgb2nir"), Path("runs/rgb2nir-pairs.csv")
    (ROOT / manifest).parent.mkdir(exist_ok=True)
    table = pairs(a.data)
    table.assign(split="train").to_csv(ROOT / manifest, index=False)
    if not (ROOT / run / "model" / "baselines" / BASELINES[0]).is_dir():
        crossband("fit", RECIPE, "--data.manifest", manifest, "-o", run, "--overwrite", *a.more)
    held_out = places(a.output)
    rows = summary(held_out)
    model = load(ROOT / run / "model")
    target = ROOT / "src" / "crossband" / "weights" / "rgb2nir"
    # What is measured is what ships: the weights as they are stored.
    model.save(target, dtype="bfloat16")
    training = model.about
    model = load(target)
    model.about = training
    scene = describe(model, table, rows)
    folds = held_out["fold"].nunique()
    ratios = f"{text(rows)}\n\n{intervals(held_out)}"
    written = card(model, table, scene, ratios, held_out, folds)
    model.save(target, dtype="bfloat16", card=written)
    print(text(rows))
    print(target.relative_to(ROOT))


def intervals(table: pd.DataFrame, draws: int = 4000) -> str:
    """Return a line with the bootstrap 95% intervals over places of the ratios to each baseline."""
    wide = table.pivot(index=["family", "group"], columns="by", values=["mae", "NDVI_mae"])
    rng = np.random.default_rng(0)
    words = []
    for metric, name in (("mae", "MAE"), ("NDVI_mae", "NDVI MAE")):
        for baseline in BASELINES:
            ratio = np.log(wide[metric]["model"] / wide[metric][baseline]).to_numpy()
            means = rng.choice(ratio, (draws, len(ratio))).mean(axis=1)
            low, high = np.exp(np.percentile(means, [2.5, 97.5]))
            words.append(f"{name} / {baseline} {low:.2f} to {high:.2f}")
    return "95% intervals over places (bootstrap), all sensors: " + ", ".join(words) + "."


def main() -> None:
    """Run a subcommand."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["pairs", "folds", "table", "train"])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/rgb2nir/satellite")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "rgb2nir-folds")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--fold", type=int, help="only this one")
    parser.add_argument("--json", type=Path, help="write the numbers of every place to FILE")
    a, more = parser.parse_known_args()
    a.more = more
    if a.what == "pairs":
        target = ROOT / "runs" / "rgb2nir-pairs.csv"
        target.parent.mkdir(exist_ok=True)
        pairs(a.data).to_csv(target, index=False)
        print(target)
        return
    if a.what == "train":
        train(a)
        return
    if a.what == "folds":
        run_folds(a)
    if a.what in ("folds", "table"):
        table = places(a.output)
        rows = summary(table)
        print(text(rows))
        print("\n" + intervals(table))
        if a.json:
            data = {"summary": rows, "places": table.to_dict("records")}
            a.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
