"""The bundled models: their training, the one look at their vault, their cards.

    python benchmarks/bundled.py train NAME             fit the recipe to all outside of the vault
    python benchmarks/bundled.py judge NAME --why TEXT  open the vault: the error at its places
    python benchmarks/bundled.py ship NAME              put the judged model into the package
    python benchmarks/bundled.py table NAME             print inner folds beside the vault

Run `manifests.py write` before. The recipe is chosen with `inner_folds.py`, which keeps the vault
closed. A look is written into looks.csv, in the repository. `judge` refuses a second one without
`--again`; the table and the card then say how often the vault was open.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import inner_folds
import pandas as pd
import vault
from bundled_card import card, describe
from judged import Ratio, error_table, losses, ratio_table, ratios, read_places
from project import ROOT, crossband

from crossband import load

RUNS = Path("runs/bundled")


@dataclass(frozen=True)
class Bundled:
    """How a bundled model is made.

    Attributes:
        recipe: its first part is the task, which has a manifest.
        options: of `crossband fit`.
    """

    recipe: str
    options: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """The task, whose manifest it is trained on."""
        return self.recipe.partition("/")[0]


MODELS = {
    "rgb2nir": Bundled("rgb2nir/local-pyramid"),
    "super-resolution-x2": Bundled("super-resolution/subpixel"),
    "super-resolution-x4": Bundled(
        "super-resolution/subpixel",
        ("--method.generator.scale=4", "--data.scale=4", "--data.crop=24", "--data.batch=20"),
    ),
}


def train(name: str, manifests: Path, more: list[str]) -> None:
    """Fit the recipe to all rows outside of the vault; a run that was broken off is resumed."""
    model, run = MODELS[name], RUNS / name / "run"
    # Relative to the repository: the model stores its configuration, and no path of a machine.
    manifest = RUNS / name / "pairs.csv"
    (ROOT / manifest).parent.mkdir(parents=True, exist_ok=True)
    rows = vault.with_weights(vault.read(model.task, folder=manifests))
    rows.assign(split="train").to_csv(ROOT / manifest, index=False)
    begun = (ROOT / run / "checkpoints" / "last.ckpt").is_file()
    crossband("fit", model.recipe, "--data.manifest", manifest, "-o", run, "--name", name,
              "--resume" if begun else "--overwrite", *model.options, *more)  # fmt: skip


def judge(name: str, manifests: Path, why: str, again: bool) -> None:
    """Evaluate the fitted model at the places of the vault.

    Raises:
        SystemExit: the vault was open before, and `again` is not set.
    """
    task = MODELS[name].task
    before = vault.looks(task)
    if before and not again:
        raise SystemExit(
            f"the vault of {task} was opened already ({'; '.join(before)}): whatever is chosen "
            "after that is chosen with it; --again opens it, and the table will say so"
        )
    folder = ROOT / RUNS / name
    model = load(folder / "run" / "model")
    model.name = name
    model.save(folder / "model", dtype="bfloat16")  # what is judged is what ships
    rows = vault.read(task, folder=manifests, look=True, why=why)
    manifest = RUNS / name / "vault.csv"
    rows.assign(split="test").to_csv(ROOT / manifest, index=False)
    crossband("evaluate", "--model", RUNS / name / "model", "--manifest", manifest, "--by",
              "family", "-o", RUNS / name / "report", "--overwrite")  # fmt: skip


def judged(name: str) -> pd.DataFrame:
    """Return the errors at the places of the vault."""
    return read_places((ROOT / RUNS / name / "report").glob("per_image.csv"))


def ship(name: str) -> None:
    """Put the judged model and its card into the package."""
    folder = ROOT / RUNS / name
    target = ROOT / "src" / "crossband" / "weights" / name
    model = load(folder / "model")
    model.about["training"] = load(folder / "run" / "model").about["training"]
    used, errors = pd.read_csv(folder / "pairs.csv", low_memory=False), judged(name)
    looks = vault.looks(MODELS[name].task)
    about = describe(model, used, ratios(errors))
    model.about |= about
    model.save(target, dtype="bfloat16", card=card(model, MODELS[name].recipe, used, errors, looks))
    print(target.relative_to(ROOT))


def table(name: str, to: Path | None) -> None:
    """Print inner folds and vault side by side, and where the model loses."""
    model, found = MODELS[name], {}
    folds = inner_folds.reports(inner_folds.FOLDER / model.recipe)
    if folds:
        found["inner folds"] = ratios(read_places(folds))
    looks = vault.looks(model.task)
    if looks and (ROOT / RUNS / name / "report" / "per_image.csv").is_file():
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
    parser.add_argument("what", choices=["train", "judge", "ship", "table"])
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("--manifests", type=Path, default=vault.FOLDER)
    parser.add_argument("--why", default="", help="what the look at the vault is for")
    parser.add_argument("--again", action="store_true", help="open a vault that was open before")
    parser.add_argument("--json", type=Path, help="write the numbers of the table to FILE")
    a, more = parser.parse_known_args()
    if more and a.what != "train":
        parser.error(f"unknown: {' '.join(more)}")
    if a.what == "train":
        train(a.model, a.manifests, more)
    elif a.what == "judge":
        judge(a.model, a.manifests, a.why, a.again)
        table(a.model, a.json)
    elif a.what == "ship":
        ship(a.model)
    else:
        table(a.model, a.json)


if __name__ == "__main__":
    main()
