"""`crossband calibrate`: a model's errors at places become its calibration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from crossband import load
from crossband.api import Model
from crossband.cli.main import main
from crossband.core.conformal import coverage
from crossband.core.signature import Signature
from crossband.evaluation import calibrate, fit_familiarity, fit_widths, place_errors
from crossband.evaluation.place_intervals import PlaceIntervals
from crossband.networks.generators.small_cnn import SmallCNN
from crossband.raster.grid import Grid, Window
from crossband.translate.options import IntervalOptions

RANGE = [[0.0, 0.5]]
SIGNATURE = {
    "source": ["red", "green", "blue"],
    "target": ["nir"],
    "units": {"reflectance": {"source": RANGE * 3, "target": RANGE, "target_unit": None}},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a model of random weights and pairs of eleven places."""
    monkeypatch.setattr(fit_widths, "STEPS", 5)
    monkeypatch.setattr(fit_familiarity, "CENTRES", 4)
    monkeypatch.setattr(fit_familiarity, "STEPS", 5)
    torch.manual_seed(0)
    made = Model(SmallCNN(3, 1), Signature.from_json(SIGNATURE), name="tiny", task="rgb2nir")
    made.save(tmp_path / "model")
    rng = np.random.default_rng(0)
    lines = ["source,target,source_bands,target_bands,sensor,group"]
    for n in range(11):
        path = tmp_path / f"{n}.tif"
        values = rng.uniform(0.05, 0.4, (4, 32, 32)).astype(np.float32)
        profile = {"driver": "GTiff", "height": 32, "width": 32, "count": 4, "dtype": "float32"}
        with rasterio.open(path, "w", **profile) as out:
            out.write(values)
        lines.append(f'{path},{path},"red=1,green=2,blue=3",nir=4,reflectance,place-{n}')
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_calibrate_writes_what_translate_reads(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["calibrate", str(folder / "model"), "--manifest", str(folder / "pairs.csv")]
    assert main([*command, "-o", str(folder / "model")]) == 0
    assert "nir, reflectance: 11 places, at most 91%" in capsys.readouterr().out
    model = load(folder / "model")
    assert model.calibration is not None
    assert model.calibration.quantities == ("nir", "NDVI")
    familiar = model.calibration.familiar
    assert familiar is not None
    assert familiar.wrong is not None
    assert familiar.wrong.kinds == ("bands", "haze", "night", "offset")
    made = model.translate(
        folder / "0.tif",
        bands={"red": 1, "green": 2, "blue": 3},
        sensor="reflectance",
        interval=0.9,
    )
    assert list(made.band.values) == ["nir", "nir_lower", "nir_upper"]
    assert main([*command, "-o", str(folder / "model")]) == 2  # --overwrite replaces it
    assert main([*command, "-o", str(folder / "other")]) == 0
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").touch()
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patched:  # refused before the work
        patched.setattr("crossband.evaluation.calibrate.calibrate", None)
        for output, words in (
            ("model/sub", "is inside of"),
            ("notes", "there is no model.json in it"),
            ("0.tif", "there is no model.json in it"),
        ):
            assert main([*command, "-o", str(folder / output), "--overwrite"]) == 2
            assert words in capsys.readouterr().err
    weights = [(folder / name / "model.safetensors").read_bytes() for name in ("model", "other")]
    assert weights[0] == weights[1]


def test_constant_widths_are_the_plain_thresholds(folder: Path) -> None:
    from crossband.data import manifest as manifests

    model = load(folder / "model")
    places = place_errors.collect(model, manifests.read(folder / "pairs.csv"), ["nir"])
    found = calibrate.fit(
        places, model, ["nir"], fitted="x", sources=[], constant=True, familiarity=False
    )
    factor, factors = found.factor("nir", "reflectance", 0.9)
    scores = [np.abs(np.stack(place.samples[1].errors))[:, 0] for place in places]
    assert factors.places == 11
    # Ten places would weigh 10 / 11 of all: the largest scores of some places are needed.
    assert 0.9 * 12 / 11 <= coverage(scores, factor).mean() <= 1.0


@pytest.mark.slow
def test_the_error_rises_with_what_is_unfamiliar(folder: Path) -> None:
    """Scenes ever brighter than those of the calibration, with errors that grow alike."""
    made = calibrate.calibrate(load(folder / "model"), folder / "pairs.csv")
    model = load(folder / "model")
    model.calibration = made
    judge = PlaceIntervals(model, IntervalOptions(0.8))
    rng = np.random.default_rng(1)
    for number, bright in enumerate((1.0, 1.2, 1.5, 2.0, 3.0)):
        values = (bright * rng.uniform(0.05, 0.4, (3, 64, 64))).astype(np.float32)
        bands = tuple(model.signature.source)
        source = Window(values, np.ones((64, 64), bool), Grid(64, 64), bands, "reflectance")
        found = judge.translate(source)[0]
        truth = found.values + np.float32(0.02 * bright)
        row = {"group": f"{number}", "sensor": "tiny", "target_sensor": None}
        judge.add(row, source, replace(found, values=truth))
    classes = judge.record()["familiarity"][0]
    errors = np.array([mae for mae in classes["mae"] if np.isfinite(mae)])
    assert len(errors) >= 3
    assert (np.diff(errors) > -1e-6).all()
    assert errors[-1] > 1.5 * errors[0]


def _places(regions: list[str]) -> list[place_errors.PlaceErrors]:
    return [
        place_errors.PlaceErrors(f"place-{n}", region, "reflectance", "")
        for n, region in enumerate(regions)
    ]


def test_no_place_is_judged_by_a_head_that_saw_it() -> None:
    """Names of regions that fall into one part, and one region for all places."""
    parts = calibrate._folds(_places([f"region-{n}" for n in range(30)]))
    together = [f"region-{n}" for n in range(30) if parts[n] == parts[0]][:3]
    assert len(together) == 3
    assert calibrate._folds(_places([*together, together[0]])) == [0, 1, 2, 0]
    with pytest.warns(UserWarning, match="of one region"):
        found = calibrate._folds(_places(["there"] * 12))
    assert {found.count(part) for part in range(calibrate.FOLDS)} == {2, 3}


@pytest.mark.parametrize("cell", ["", None, float("nan")])
def test_an_empty_region_is_the_group(folder: Path, cell: object) -> None:
    from crossband.data import manifest as manifests

    rows = manifests.read(folder / "pairs.csv").assign(region=cell)
    places = place_errors.collect(load(folder / "model"), rows, ["nir"])
    assert {place.region for place in places} == {f"place-{n}" for n in range(11)}


def test_an_index_without_errors_in_all_other_regions_has_no_scores_there(folder: Path) -> None:
    from crossband.data import manifest as manifests

    model = load(folder / "model")
    rows = manifests.read(folder / "pairs.csv")
    places = place_errors.collect(model, rows, ["nir", "NDVI"])
    for place in places:
        place.region = "one" if place.place == "place-0" else "another"
        if place.region == "another":
            for sample in place.samples.values():
                sample.errors = [np.array([e[0], np.nan], np.float32) for e in sample.errors]
    table = calibrate._Widths.of(places)
    of_first = table.tables[1].place == next(
        n for n, place in enumerate(places) if place.region == "one"
    )
    assert torch.isfinite(table.scores[1][:, 0]).all()
    assert torch.isnan(table.scores[1][of_first, 1]).all()
