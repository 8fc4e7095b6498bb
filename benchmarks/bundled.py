"""The bundled models: their training, the one look at their vault, their cards.

    python benchmarks/bundled.py train NAME             fit the recipe to all outside of the vault
    python benchmarks/bundled.py judge NAME --why TEXT  open the vault: the error at its places
                                  [--beside FOLDER]     the same of the weights of before
    python benchmarks/bundled.py ship NAME              put the judged model into the package
    python benchmarks/bundled.py table NAME             print inner folds beside the vault
    python benchmarks/bundled.py pairs NAME             write names and hashes of its training pairs

Run `manifests.py write` before. The recipe is chosen with `inner_folds.py`, which keeps the vault
closed. A look is written into looks.csv, in the repository. `judge` refuses a second one without
`--again`; the table and the card then say how often the vault was open.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import fidelity
import guided_places
import inner_folds
import pandas as pd
import rasterio
import sharpen
import vault
from bundled_card import card, describe
from judged import MADE as BETWEEN
from judged import Ratio, error_table, losses, ratio_table, ratios, read_places
from project import ROOT, crossband

from crossband import Model, load
from crossband.data.degrade import parse_degradation
from crossband.data.manifest import read as read_manifest
from crossband.data.reader import PairReader
from crossband.model.training_data import write_training_data
from crossband.raster.gdal import gdal
from crossband.training.training_pairs import hash_pairs

RUNS = Path("runs/bundled")
#: What lies in the folder of a run beside the model: its report, that of the weights of before, and
#: what `fidelity.py` measured.
REPORT, BEFORE, FIDELITY = "report", "report-before", "fidelity.csv"
#: Largest side that is judged where the source is made, in fine pixels, a multiple of every scale.
SIDE, WHOLE = 384, 12


@dataclass(frozen=True)
class Bundled:
    """How a bundled model is made.

    Attributes:
        recipe: its first part is the task, which has a manifest.
        options: of `crossband fit`.
        made: name and degradation of each way in which the judged sources are made; empty where the
            manifest has sources.
        manifest: name of the manifest; that of the task where empty.
        judged_by: returns the errors at rows of the manifest, as `crossband evaluate` writes them
            for each image; that command where None.
    """

    recipe: str
    options: tuple[str, ...] = ()
    made: tuple[tuple[str, str], ...] = ()
    manifest: str = ""
    judged_by: Callable[[Model, pd.DataFrame], pd.DataFrame] | None = None

    @property
    def task(self) -> str:
        """The name of the manifest that it is trained on."""
        return self.manifest or self.recipe.partition("/")[0]


#: MATLAB's bicubic resize, and a sensor as sharp as Sentinel-2 with its noise.
MADE = (("bicubic", "Bicubic"), ("sensor", "SensorMTF(mtf=0.2, noise=0.001)"))
MODELS = {
    "rgb2nir": Bundled("rgb2nir/local-pyramid"),
    "rgb2nir-guided": Bundled(
        "rgb2nir/guided", manifest="rgb2nir-guided", judged_by=guided_places.judge
    ),
    "sentinel-2-sharpen": Bundled(
        "super-resolution/sharpen", manifest="sharpen", judged_by=sharpen.judge
    ),
    "sar2optical": Bundled("sar2optical/local-pyramid"),
    "super-resolution-x2": Bundled("super-resolution/subpixel", made=MADE),
    "super-resolution-x4": Bundled(
        "super-resolution/subpixel",
        # The chips, of which there are most, have 16 coarse pixels at this scale.
        (
            "--method.generator.scale=4",
            "--data.scale=4",
            "--data.crop=16",
            "--method.max_steps=1200",
        ),
        MADE,
    ),
}


def train(name: str, manifests: Path, more: list[str]) -> None:
    """Fit the recipe to all rows outside of the vault; a run that was broken off is resumed."""
    crossband(*arguments(name, manifests, RUNS / name), *more)


def arguments(name: str, manifests: Path, folder: Path) -> list[str]:
    """Write the pairs of a model's training into a folder, and return the command that fits it.

    The folder is relative to the repository: the model stores its configuration, and no path of a
    machine.
    """
    model, manifest = MODELS[name], folder / "pairs.csv"
    (ROOT / folder).mkdir(parents=True, exist_ok=True)
    rows = vault.with_weights(vault.read(model.task, folder=manifests))
    rows.assign(split="train").to_csv(ROOT / manifest, index=False)
    begun = (ROOT / folder / "run" / "checkpoints" / "last.ckpt").is_file()
    return ["fit", model.recipe, "--data.manifest", str(manifest), "-o", str(folder / "run"),
            "--name", name, "--resume" if begun else "--overwrite", *model.options]  # fmt: skip


def judge(name: str, manifests: Path, why: str, again: bool, beside: Path | None) -> None:
    """Evaluate the fitted model at the places of the vault.

    Args:
        name: of the model.
        manifests: their folder.
        why: what the look is for.
        again: open a vault that was open before.
        beside: a model folder that is judged at the same places, as the weights of before.

    Raises:
        SystemExit: the vault was open before, and `again` is not set.
    """
    vault.check_unopened(name, again)
    folder = ROOT / RUNS / name
    model = load(folder / "run" / "model")
    model.name = name
    model.save(folder / "model", dtype="bfloat16")  # what is judged is what ships
    task = MODELS[name].task
    rows = vault.read(task, folder=manifests, look=True, model=name, why=why)
    judged_by = MODELS[name].judged_by
    if judged_by is not None:
        (folder / REPORT).mkdir(exist_ok=True)
        found = judged_by(load(folder / "model"), rows)
        found.to_csv(folder / REPORT / "per_image.csv", index=False)
        return
    manifest = RUNS / name / "vault.csv"
    _made(rows, MODELS[name].made).assign(split="test").to_csv(ROOT / manifest, index=False)
    models = {REPORT: RUNS / name / "model"} | ({BEFORE: beside} if beside else {})
    for report, of in models.items():
        crossband("evaluate", "--model", of, "--manifest", manifest, "--by", "family",
                  "-o", RUNS / name / report, "--overwrite")  # fmt: skip
    if MODELS[name].made:
        fidelity.measure(model, ROOT / manifest).to_csv(folder / FIDELITY, index=False)


def in_ways(rows: pd.DataFrame, made: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    """Return the rows once for each way in which their source is made, with its degradation.

    Of scenes larger than `SIDE` the middle is judged.
    """
    if not made:
        return rows
    whole = rows["target_window"].isna()
    rows = rows.assign(
        target_window=rows["target_window"].where(~whole, rows["target"].map(_middle))
    )
    return pd.concat([rows.assign(degradation=how) for _, how in made], ignore_index=True)


def _made(rows: pd.DataFrame, made: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    """Return the rows of `in_ways`; their family says which way it is."""
    if not made:
        return rows
    rows, names = in_ways(rows, made), {how: name for name, how in made}
    return rows.assign(family=rows["degradation"].map(names) + BETWEEN + rows["family"])


def _middle(path: str) -> str:
    """Return the window of at most `SIDE` pixels in the middle of a file, as GDAL's srcwin."""
    with gdal(), rasterio.open(path) as d:
        width, height = (min(SIDE, n) // WHOLE * WHOLE for n in (d.width, d.height))
        return f"{(d.width - width) // 2},{(d.height - height) // 2},{width},{height}"


def judged(name: str) -> pd.DataFrame:
    """Return the errors at the places of the vault, of the weights of before too."""
    folder = ROOT / RUNS / name
    errors = read_places((folder / REPORT).glob("per_image.csv"))
    before = list((folder / BEFORE).glob("per_image.csv"))
    if not before:
        return errors
    old = read_places(before)
    return pd.concat([errors, old[old["by"] == "model"].assign(by="before")], ignore_index=True)


def ship(name: str) -> None:
    """Put the judged model and its card into the package."""
    folder = ROOT / RUNS / name
    target = ROOT / "src" / "crossband" / "weights" / name
    model = load(folder / "model")
    model.about["training"] = load(folder / "run" / "model").about["training"]
    used, errors = pd.read_csv(folder / "pairs.csv", low_memory=False), judged(name)
    looks = vault.looks(name)
    about = describe(model, used, ratios(errors))
    model.about |= about
    kept = pd.read_csv(folder / FIDELITY) if (folder / FIDELITY).is_file() else None
    images = pd.read_csv(folder / REPORT / "per_image.csv")
    bands = sharpen.band_table(images) if "band" in images else ""
    text = card(model, MODELS[name].recipe, used, errors, looks, kept, bands)
    old = target / "README.md"
    sure = intervals_section(old.read_text(encoding="utf-8")) if old.is_file() else ""
    text = text.replace("## Data\n", f"{sure}## Data\n", 1)
    model.save(target, dtype="bfloat16", card=text)
    if sure:
        print("the card's section on intervals is that of the weights before: calibrate them again")
    write_training_data(target, _pairs(model, used))
    print(target.relative_to(ROOT))


def intervals_section(text: str) -> str:
    """Return the section of a card that is written by hand, after the model was calibrated."""
    found = re.search(r"^## How sure it is\n.*?(?=^## )", text, re.MULTILINE | re.DOTALL)
    return found[0] if found else ""


def name_training_data(name: str, manifests: Path) -> None:
    """Write the names and hashes of the pairs that a model in the package was trained on."""
    model = load(name)
    rows, about = vault.read(MODELS[name].task, folder=manifests), model.about["training"]["data"]
    if len(rows) != about["pairs"]:
        raise SystemExit(
            f"{len(rows)} rows outside of the vault, and {about['pairs']} were trained on"
        )
    assert model.folder is not None
    write_training_data(model.folder, _pairs(model, rows))


def _pairs(model: Model, rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Return name and hash of the target of each row, as `crossband evaluate` reads it."""
    scale = model.network.scale
    degradation = parse_degradation("Bicubic") if rows["source"].isna().all() else None
    with tempfile.TemporaryDirectory() as folder:
        rows.to_csv(Path(folder) / "pairs.csv", index=False)
        table = read_manifest(Path(folder) / "pairs.csv")
    reader = PairReader(table, model.signature, scale, degradation=degradation)
    return hash_pairs(reader)


def table(name: str, to: Path | None) -> None:
    """Print inner folds and vault side by side, and where the model loses."""
    model, found = MODELS[name], {}
    folds = inner_folds.reports(inner_folds.FOLDER / model.recipe)
    if folds:
        found["inner folds"] = ratios(read_places(folds))
    looks = vault.looks(name)
    if looks and (ROOT / RUNS / name / REPORT / "per_image.csv").is_file():
        errors = judged(name)
        found["vault"] = ratios(errors)
        print(error_table(errors) + "\n")
        print(losses(errors, found["vault"]) + "\n")
    elif looks:  # as it was measured for the model that ships
        found["vault"] = [Ratio(**ratio) for ratio in load(name).about["metrics"]["vault"]]
    print(ratio_table(found))
    print(f"\nLooks at the vault: {len(looks)}" + "".join(f"\n- {why}" for why in looks))
    if to:
        numbers = {look: [asdict(ratio) for ratio in of] for look, of in found.items()}
        to.write_text(json.dumps({"looks": looks, "ratios": numbers}, indent=1) + "\n")


def main() -> None:
    """Run a subcommand."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["train", "judge", "ship", "table", "pairs"])
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("--manifests", type=Path, default=vault.FOLDER)
    parser.add_argument("--why", default="", help="what the look at the vault is for")
    parser.add_argument("--again", action="store_true", help="open a vault that was open before")
    parser.add_argument(
        "--beside", type=Path, metavar="FOLDER", help="a model that is judged with it: before"
    )
    parser.add_argument("--json", type=Path, help="write the numbers of the table to FILE")
    a, more = parser.parse_known_args()
    if more and a.what != "train":
        parser.error(f"unknown: {' '.join(more)}")
    if a.what == "train":
        train(a.model, a.manifests, more)
    elif a.what == "judge":
        judge(a.model, a.manifests, a.why, a.again, a.beside)
        table(a.model, a.json)
    elif a.what == "ship":
        ship(a.model)
    elif a.what == "pairs":
        name_training_data(a.model, a.manifests)
    else:
        table(a.model, a.json)


if __name__ == "__main__":
    main()
