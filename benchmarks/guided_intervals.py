"""Intervals of results that a guide corrects: calibrated on inner folds, judged on the vault.

    python benchmarks/fold_models.py sample, train, guide    models of the folds
    python benchmarks/guided_intervals.py collect            errors of each at its fold
    python benchmarks/guided_intervals.py inner              quarters of the regions held out: table
    python benchmarks/guided_intervals.py fit                write them into calibration.json
    python benchmarks/guided_intervals.py judge --why TEXT   one look at the vault, counted

They are those of rgb2nir, which a guide corrects; `--model rgb2nir-guided` is the network that
takes the guide as input. Its results without a guide are calibrated here, too, as they stand where
the guide is not valid. Its familiarity is that of rgb2nir: surroundings and places are the same.

Guides are made from measured images, coarser by a sensor's point spread function, and no better
than real ones: moved by up to half of their pixels, brighter or darker by up to 3 %, and noisy. A
guide of the same date has the near infrared only, and all four bands for a network that takes them.
One of another date is another measurement of the place, with all four bands. `judge` writes its
look into looks.csv, and refuses a second one without `--again`.
"""

from __future__ import annotations

import argparse
import pickle
import tempfile
import zlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
import vault
from affine import Affine
from fold_models import FOLDS, GUIDED, HELD
from fold_models import RUNS as MODELS
from guided_places import BANDS, as_text, measured, place_of, write
from judged_intervals import Rival, Widths, constant_widths, judged, table
from numpy.typing import NDArray
from project import ROOT

from crossband import load
from crossband.api import Model
from crossband.data import manifest as manifests
from crossband.evaluation.calibrate import fit, with_guided
from crossband.evaluation.place_errors import PlaceErrors, Sample, collect_guided
from crossband.evaluation.place_errors import collect as collect_plain
from crossband.model.calibration import Calibration, GuideClass
from crossband.model.uncertain import width_head
from crossband.raster.grid import Grid, Window
from crossband.raster.point_spread import read_as_seen
from crossband.raster.warp import WindowRaster

RUNS = ROOT / "runs" / "guided-intervals"
WEIGHTS = ROOT / "src" / "crossband" / "weights"
#: The models, and the names under which looks at the vault are counted.
LOOKS = {
    "rgb2nir": "rgb2nir-guided-intervals",
    "rgb2nir-guided": "rgb2nir-guided-own-intervals",
}
QUANTITIES = ("nir", "NDVI", "EVI")
#: Sizes of the guides' pixels of the same date and of another one, in pixels of the source.
SAME, OTHER = (2, 4, 8, 16), (1, 2, 4, 8)
#: Least number of the guide's pixels along a side, chips of all folds and of the vault, guides of
#: another date, and chips without a guide.
LEAST, CHIPS, JUDGED, PAIRS, ALONE = 8, 120, 120, 4, 400
QUARTERS = 4
#: Folds whose errors are measured: fold 2 has no guide of another date.
USED = {"rgb2nir": (0, 1, 3), "rgb2nir-guided": HELD}
#: Misregistration in pixels of the guide, error of the calibration, noise.
SHIFT, GAIN, NOISE = 0.5, 0.03, 0.002
FITTED = (
    "cross-fitted: the errors of each place are those of a model of the same kind that was not "
    "trained on its region, not of the shipped weights. So the formal guarantee at a level 1 - a "
    "is 1 - 2a; measured coverage is in docs/uncertainty.md"
)
Record = Mapping[Hashable, Any]


def guide_of(true: Window, ratio: int, rng: np.random.Generator) -> Window:
    """Return what another sensor with larger pixels may have delivered of a measured image."""
    grid = true.grid.shrink(ratio)
    right, down = rng.uniform(-SHIFT, SHIFT, 2)
    moved = Grid(
        grid.height, grid.width, grid.transform * Affine.translation(right, down), grid.crs
    )
    seen = read_as_seen(WindowRaster(true), moved, ratio) if ratio > 1 else true
    values = seen.values * np.float32(1 + rng.uniform(-GAIN, GAIN))
    values = values + rng.normal(0, NOISE, values.shape).astype(np.float32)
    return replace(seen, values=np.where(seen.mask, values, np.float32(0)), grid=grid)


def rows_of(
    place: Record, dated: pd.DataFrame, folder: Path, bands: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Write a place and its guides as files; yield a row of a manifest for each guide.

    Guides of the same date have some bands, those of another one all.
    """
    found = place_of(place)
    if found is None:
        return
    name = f"{len(list(folder.iterdir()))}"
    rng = np.random.default_rng(zlib.crc32(str(place["group"]).encode()))
    source = write(found.true, folder / f"{name}.tif", BANDS)
    row = {key: place[key] for key in ("group", "region", "family")}
    row |= {"source": source, "target": source, "sensor": "reflectance"}
    row |= {"source_bands": "red=1,green=2,blue=3", "target_bands": "nir=4", "date": "2000-01-01"}
    side = min(found.true.mask.shape)
    for ratio in SAME:
        if side >= LEAST * ratio:
            guide = guide_of(found.true, ratio, rng)
            path = write(guide, folder / f"{name}-{ratio}.tif", bands)
            yield row | {"guide": path, "guide_datetime": "2000-01-01"}
    others = dated[(dated["source"] == place["source"]) & (dated["group"] == place["group"])]
    for number, other in enumerate(others.head(PAIRS).to_dict("records")):
        radiometry = {**other, "sensor": other["guide_sensor"]}
        then = measured(other["guide"], other["guide_bands"], radiometry)
        if then is None or then.mask.shape != found.true.mask.shape:
            continue
        for ratio in OTHER:
            if side >= LEAST * ratio:
                guide = guide_of(replace(then, grid=found.true.grid), ratio, rng)
                path = write(guide, folder / f"{name}-{number}-{ratio}.tif", BANDS)
                yield row | {"guide": path, "guide_datetime": "2001-01-01"}


def errors(model: Model, rows: pd.DataFrame, most: int) -> list[PlaceErrors]:
    """Return the errors of guided results at the places of a manifest, of some chips only."""
    every = as_text(rows)
    dated = every[every["guide"] != ""]
    places = every[every["guide"] == ""].sample(frac=1.0, random_state=0)
    several = places["group"].isin(dated["group"])  # all dates of these
    one = places[~several].drop_duplicates("group")
    chips = one["family"] == "chips"
    chosen = pd.concat([places[several], one[~chips], one[chips].head(most)])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        given = dated, folder / "images", BANDS if model.signature.guide else BANDS[3:]
        made = [row for place in chosen.to_dict("records") for row in rows_of(place, *given)]
        table_of = pd.DataFrame(made).assign(guide_sensor="reflectance", split="test")
        table_of.to_csv(folder / "rows.csv", index=False)
        read = manifests.read(folder / "rows.csv")
        found = collect_guided(model, read, QUANTITIES, "family")
    sensors = every.groupby("group")["sensor"].agg(set)
    for place in found:  # the files here are in reflectance, whatever the sensor
        place.sensors = sensors[place.place]
    return found


def errors_alone(model: Model, rows: pd.DataFrame, most: int) -> list[PlaceErrors]:
    """Return the errors of results without a guide, at some chips and all other places."""
    alone = rows[rows["guide"].isna()].sample(frac=1.0, random_state=0)
    chips = alone["family"] == "chips"
    with tempfile.TemporaryDirectory() as name:
        chosen = pd.concat([alone[~chips], alone[chips].head(most)])
        chosen.assign(split="test").to_csv(Path(name) / "rows.csv", index=False)
        read = manifests.read(Path(name) / "rows.csv")
        return collect_plain(model, read, QUANTITIES, "family")


@dataclass(frozen=True)
class Subject:
    """A bundled model whose guided results are calibrated and judged.

    Attributes:
        name: of the model.
    """

    name: str

    @property
    def runs(self) -> Path:
        """The folder of collected errors."""
        return RUNS / self.name

    @property
    def takes_guide(self) -> bool:
        """Whether the network takes the guide: its results without one are calibrated here, too."""
        return bool(load(self.name).signature.guide)

    def of_fold(self, fold: int) -> Model:
        """Return a model that was trained without a fold."""
        return load(GUIDED / "run" / "model" if self.takes_guide else MODELS / f"fold-{fold}")

    def write_errors(self, name: str, model: Model, rows: pd.DataFrame, *most: int) -> None:
        """Measure and keep the errors of a model, at some chips with guides and without."""
        self.runs.mkdir(parents=True, exist_ok=True)
        alone = errors_alone(model, rows, most[1]) if self.takes_guide else []
        found = {"guided": errors(model, rows, most[0]), "alone": alone}
        (self.runs / f"{name}.pkl").write_bytes(pickle.dumps(found))

    def collect(self, folder: Path, folds: Sequence[int]) -> None:
        """Measure the errors of the model of each fold at its places."""
        rows = vault.read("rgb2nir-guided", folder=folder)
        plain = vault.read("rgb2nir", folder=folder)
        of = dict(zip(plain["region"], vault.inner_folds(plain, FOLDS), strict=True))
        most = [chips // len(USED[self.name]) for chips in (CHIPS, ALONE)]
        for fold in folds:
            inside = rows[rows["region"].map(of) == fold]
            self.write_errors(f"fold-{fold}", self.of_fold(fold), inside, *most)

    def places(self, names: str = "fold-*") -> list[PlaceErrors]:
        """Return the errors that were collected, those without a guide first."""
        found = [pickle.loads(path.read_bytes()) for path in sorted(self.runs.glob(f"{names}.pkl"))]
        return [place for kind in ("alone", "guided") for of in found for place in of[kind]]

    def fitted(self, places: Sequence[PlaceErrors], *, constant: bool = False) -> Calibration:
        """Return the calibration of the bundled model with that of guided results."""
        alone, guided = (
            [p for p in places if (p.guide is None) == without] for without in (True, False)
        )
        known = load("rgb2nir").calibration
        assert known is not None
        groups = sorted({place.place for place in guided})
        dated = {place.place for place in guided if place.guide is not None and place.guide.dated}
        regions = {place.region for place in guided if place.place in dated}
        sources = [
            f"with guides: {len(groups)} places",
            f"with guides of another date: {len(dated)} places in {len(regions)} regions",
        ]
        if not self.takes_guide and not constant:
            kept = [name for name in known.sources if not name.startswith("with guides")]
            known = replace(known, sources=tuple(kept))
            return with_guided(known, guided, fitted=FITTED, sources=sources)
        sources = [f"without a guide: {len(alone)} places", *sources] if alone else sources
        how: dict[str, Any] = {"fitted": FITTED, "sources": sources, "constant": constant}
        made = fit(
            alone or guided,
            load(self.name),
            QUANTITIES,
            guided=guided if alone else (),
            familiarity=False,
            **how,
        )
        return replace(made, familiar=known.familiar)


def guided_widths(calibration: Calibration, guided: bool = True) -> Widths:
    """Return the widths of the head of guided results, or of those without a guide."""
    of = calibration.guided if guided else calibration.head
    assert of is not None
    head = width_head(of)

    def widths(sample: Sample) -> NDArray[np.float32]:
        cells, pixels = (torch.from_numpy(np.stack(a)) for a in (sample.cells, sample.pixels))
        with torch.inference_mode():
            return cast(NDArray[np.float32], head(head.cells(cells), pixels).mean(dim=1).numpy())

    return widths


def tables(parts: Sequence[tuple[Calibration, Calibration, Sequence[PlaceErrors]]]) -> str:
    """Return a table for each class of guides, beside one constant width for all pixels.

    Args:
        parts: calibration, that of the constant width, and the places at which both are judged.
    """
    texts = []
    for guide in sorted({place.guide for *_, places in parts for place in places}, key=_order):
        rows, others = list[dict[str, Any]](), list[dict[str, Any]]()
        for calibration, plain, places in parts:
            own = [place for place in places if place.guide == guide]
            rows += judged(calibration, own, guided_widths(calibration, guide is not None))
            others += judged(plain, own, constant_widths)
        if rows:
            rivals = [Rival("constant width", others)]
            texts.append(f"{guide.words if guide else 'without a guide'}\n\n{table(rows, rivals)}")
    return "\n\n".join(texts)


def _order(guide: GuideClass | None) -> tuple[bool, float]:
    return (False, 0.0) if guide is None else (guide.dated, guide.high)


def inner(subject: Subject) -> None:
    """Hold out each quarter of the regions, fit on the others."""
    places, parts = subject.places(), []
    quarter = [zlib.crc32(f"quarter {place.region}".encode()) % QUARTERS for place in places]
    for held in range(QUARTERS):
        kept = [p for p, q in zip(places, quarter, strict=True) if q != held]
        new = [p for p, q in zip(places, quarter, strict=True) if q == held]
        parts.append((subject.fitted(kept), subject.fitted(kept, constant=True), new))
    print(tables(parts))


def judge(subject: Subject, folder: Path, why: str, again: bool) -> None:
    """Measure the shipped calibration at the places of the vault: one look, counted."""
    model, look = load(subject.name), LOOKS[subject.name]
    if model.calibration is None or model.calibration.guided is None:
        raise SystemExit("fit first")
    vault.check_unopened(look, again)
    rows = vault.read("rgb2nir-guided", folder=folder, look=True, model=look, why=why)
    subject.write_errors("vault", model, rows, JUDGED, ALONE)


def main() -> None:
    """Run a subcommand."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["collect", "inner", "fit", "judge", "table"])
    parser.add_argument("--model", choices=sorted(LOOKS), default="rgb2nir")
    parser.add_argument("--manifests", type=Path, default=vault.FOLDER)
    parser.add_argument("--fold", type=int, help="for collect: only this one")
    parser.add_argument("--why", default="", help="what the look at the vault is for")
    parser.add_argument("--again", action="store_true", help="open a vault that was open before")
    a = parser.parse_args()
    subject = Subject(a.model)
    if a.fold not in (None, *USED[a.model]):
        parser.error(f"--fold: {a.model} has errors of folds {USED[a.model]}")
    if a.what == "collect":
        subject.collect(a.manifests, USED[a.model] if a.fold is None else [a.fold])
    elif a.what == "inner":
        inner(subject)
    elif a.what == "fit":
        print(subject.fitted(subject.places()).save(WEIGHTS / a.model))
    else:
        if a.what == "judge":
            judge(subject, a.manifests, a.why, a.again)
        calibration = load(a.model).calibration
        assert calibration is not None
        plain = subject.fitted(subject.places(), constant=True)
        print(tables([(calibration, plain, subject.places("vault"))]))
        print(f"\nLooks at the vault: {len(vault.looks(LOOKS[a.model]))}")


if __name__ == "__main__":
    main()
