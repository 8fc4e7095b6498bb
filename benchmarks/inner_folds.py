"""Train a recipe on the inner folds of its task, and print its error where it was not trained.

    python benchmarks/inner_folds.py rgb2nir/local-pyramid               all folds, then the table
    python benchmarks/inner_folds.py rgb2nir/local-pyramid --fold 0      one fold
    python benchmarks/inner_folds.py rgb2nir/local-pyramid --table       the table again
    python benchmarks/inner_folds.py rgb2nir/guided --manifest rgb2nir-guided --unguided FOLDER

Run `manifests.py write` before. Folds are cut by region, and the vault stays closed. Other options
go to `crossband fit`, with the number of the fold for `{fold}`. A run that was broken off is
resumed; one that is done is not repeated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import vault
from judged import error_table, losses, ratio_table, ratios, read_places
from project import ROOT, crossband

FOLDER = ROOT / "runs" / "folds"


def run(
    recipe: str,
    fold: int,
    table: pd.DataFrame,
    output: Path,
    more: list[str],
    *,
    evaluated: bool = True,
) -> None:
    """Fit a recipe without one fold, unless that is done, and evaluate it there if wanted."""
    split = np.where(table["fold"] == fold, "test", "train")
    table["split"] = split
    weighted = vault.with_weights(table[split == "train"])["weight"]
    table["weight"] = weighted.reindex(table.index).fillna(1.0)
    folder, manifest = output / f"fold-{fold}", output / f"fold-{fold}.csv"
    if (folder / "report" / "metrics.json").is_file():
        return
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(manifest, index=False)
    begun = (folder / "checkpoints" / "last.ckpt").is_file()
    # Baselines are fitted at the end; what is not evaluated may have none.
    done = (folder / "model" / ("baselines" if evaluated else "model.json")).exists()
    if not done:
        crossband("fit", recipe, "--data.manifest", manifest, "-o", folder,
                  "--resume" if begun else "--overwrite",
                  *(word.replace("{fold}", str(fold)) for word in more))  # fmt: skip
    if not evaluated:
        return
    crossband("evaluate", "--model", folder / "model", "--manifest", manifest, "--split", "test",
              "-o", folder / "report", "--pictures", 0, "--overwrite")  # fmt: skip


def read(task: str, manifest: str, folder: Path, folds: int) -> pd.DataFrame:
    """Return the rows of a manifest with their fold, in which their region is in the task's."""
    rows, table = (vault.read(name, folder=folder) for name in (task, manifest))
    fold = dict(zip(rows["region"], vault.inner_folds(rows, folds), strict=True))
    return table.assign(fold=table["region"].map(fold))


def reports(output: Path) -> list[Path]:
    """Return the numbers of the folds that are done."""
    return sorted(output.glob("fold-*/report/per_image.csv"))


def main() -> None:
    """Train and judge, or only print."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("recipe", help="as in rgb2nir/local-pyramid")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--fold", type=int, help="only this one")
    parser.add_argument("--manifest", help="name of the manifest; default: that of the task")
    parser.add_argument("--manifests", type=Path, default=vault.FOLDER)
    parser.add_argument("--output", type=Path, help="default: runs/folds/RECIPE")
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--only-fit", action="store_true", help="evaluate nothing")
    a, more = parser.parse_known_args()
    output = (a.output or FOLDER / a.recipe).resolve()
    if not a.table:
        task = a.recipe.partition("/")[0]
        table = read(task, a.manifest or task, a.manifests, a.folds)
        for fold in range(a.folds) if a.fold is None else [a.fold]:
            run(a.recipe, fold, table, output, more, evaluated=not a.only_fit)
        if a.only_fit:
            return
    found = read_places(reports(output))
    of_all = ratios(found)
    print(ratio_table({"inner folds": of_all}))
    print("\n" + error_table(found))
    print("\n" + losses(found, of_all))
    print(f"\nInner folds by region: {len(reports(output))}.")


if __name__ == "__main__":
    main()
