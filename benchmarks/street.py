"""Colour to thermal on streets: `rgb2thermal/street` beside the perceptron, on parts not seen.

    python benchmarks/street.py folds            two inner folds: what the recipe was chosen on
    python benchmarks/street.py judge            train on both, and judge the third part, once
    python benchmarks/street.py table            of what was judged

Pictures of RoadScene, MSRS, M3FD, VIFB and LLVIP, 8 bits, thermal with automatic gain. They are for
research only, so no weights are shipped. A part of a drive ends where numbers of frames are missing
(`GAPS`). Every third part of each set is judged, and the others are two inner folds. LLVIP is one
camera site and only trained on. Other options go to `crossband fit` of the recipe.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import pandas as pd
from judged import error_table, ratio_table, ratios, read_places, structure_table
from project import DATA, ROOT, crossband

#: By the names that tables have for them.
RECIPES = {"model": "rgb2thermal/street", "mlp": "rgb2thermal/mlp"}
RUNS = ROOT / "runs" / "street"
#: Folder and glob of the colours of a set, and the folder of its thermal pictures.
SETS = {
    "RoadScene": ("roadscene", "*/RGB/*.jpg", "thermal_8_bit"),
    "MSRS": ("msrs", "vi/*.png", "ir"),
    "M3FD": ("m3fd", "Vis/*.jpg", "Ir"),
    "VIFB": ("vifb", "VI/*.jpg", "IR"),
    "LLVIP": ("llvip", "visible/*/*.jpg", "infrared"),
}
#: Frames that are missing between two parts of a drive; VIFB has one picture of each video.
GAPS = {"RoadScene": 100, "MSRS": 10, "M3FD": 10}
#: Numbers of a part: every third is judged.
THIRDS, JUDGED, FOLDS = 3, 1, (0, 2)


def pairs(data: Path) -> pd.DataFrame:
    """Return the manifest; `third` is empty where a set is only trained on."""
    rows = []
    for family, (folder, colours, thermal) in SETS.items():
        part, last = 0, None  # type: int, int | None
        place = (data / "rgb2thermal" / folder).resolve()
        for path in sorted(place.glob(colours), key=lambda p: p.name):
            where = path.relative_to(place)
            step = 2 if family == "RoadScene" else 1  # RoadScene: train/RGB and val/RGB
            parts = list(where.parts)
            parts[step - 1] = thermal
            target = next((place / Path(*parts)).parent.glob(f"{path.stem}.*"))
            digits = re.findall(r"\d+", path.stem)
            frame = int(digits[-1]) if digits and family in GAPS else 0
            part += last is not None and frame - last >= GAPS.get(family, 0)
            last = frame
            rows.append(
                {
                    "source": str(path),
                    "source_bands": "red=1,green=2,blue=3",
                    "target": str(target),
                    "target_bands": "thermal=1",
                    "sensor": "display",
                    "family": family,
                    "group": family if family == "LLVIP" else f"{family} {part}",
                    "third": np.nan if family == "LLVIP" else part % THIRDS,
                }
            )
    table = pd.DataFrame(rows)
    return table.assign(region=table["group"])


def run(table: pd.DataFrame, judged: int, folder: Path, more: list[str]) -> None:
    """Fit recipe and perceptron, unless that is done, and judge one third of the parts.

    The third that is judged at the end is not trained on by the inner folds.
    """
    held_out = table["third"] == judged
    rows = table[held_out | (table["third"] != JUDGED)]
    rows = rows.assign(split=np.where(held_out[rows.index], "test", "train"))
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "pairs.csv"
    rows.to_csv(manifest, index=False)
    for name, recipe in RECIPES.items():
        if (folder / name / "model" / "model.json").is_file():
            continue
        begun = (folder / name / "checkpoints" / "last.ckpt").is_file()
        crossband("fit", recipe, "--data.manifest", manifest, "-o", folder / name, "--name", name,
                  "--data.val_fraction", 0, "--resume" if begun else "--overwrite",
                  "--no-baselines", *(more if name == "model" else ()))  # fmt: skip
    for name in RECIPES:
        crossband("evaluate", "--model", folder / name / "model", "--manifest", manifest,
                  "--split", "test", "-o", folder / name / "report", "--pictures", 2,
                  "--overwrite")  # fmt: skip


def table(output: Path) -> str:
    """Return the tables of the inner folds and of the judged parts."""
    looks = {
        "inner folds": [output / f"fold-{n}" for n in FOLDS],
        "judged parts": [output / "judged"],
    }
    found, out = {}, []
    for look, folders in looks.items():
        done = [f for f in folders if (f / "mlp" / "report" / "per_image.csv").is_file()]
        if done:
            errors, others = (
                read_places(f / name / "report" / "per_image.csv" for f in done) for name in RECIPES
            )
            mlp = others[others["by"] == "model"].assign(by="mlp")
            errors = pd.concat([errors, mlp], ignore_index=True)
            found[look] = ratios(errors)
            out += [f"\n{look}, {len(done)}", error_table(errors), "", structure_table(errors)]
    return ratio_table(found) + "\n" + "\n".join(out)


def main() -> None:
    """Run a subcommand."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["folds", "judge", "table"])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--output", type=Path, default=RUNS)
    a, more = parser.parse_known_args()
    if more and a.what == "table":
        parser.error(f"unknown: {' '.join(more)}")
    a.output = a.output.resolve()
    for third in {"folds": FOLDS, "judge": (JUDGED,), "table": ()}[a.what]:
        name = "judged" if third == JUDGED else f"fold-{third}"
        run(pairs(a.data), third, a.output / name, more)
    print(table(a.output))


if __name__ == "__main__":
    main()
