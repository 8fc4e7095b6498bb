"""Intervals of results that a guide corrects: calibrated by the size and the age of the guide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from calibrated import SIGNATURE, assert_same_bands, calibration, with_guides
from scipy.ndimage import gaussian_filter

from crossband import load
from crossband.api import Model
from crossband.cli.main import main
from crossband.core.conformal import interval_score
from crossband.core.signature import Signature
from crossband.errors import CrossbandError, CrossbandWarning
from crossband.evaluation import calibrate, fit_familiarity, fit_widths
from crossband.evaluation.evaluate import evaluate
from crossband.model.calibration import GuideClass
from crossband.networks.generators.guided_residual import GuidedResidual
from crossband.networks.generators.guided_unet import GuidedUNet
from crossband.networks.generators.small_cnn import SmallCNN
from crossband.translate.options import IntervalOptions
from crossband.translate.uncertain_files import guide_class

BANDS = ["red", "green", "blue", "nir"]
SAME, COARSER = GuideClass.of(8, False), GuideClass.of(16, False)
GUIDED = {**SIGNATURE, "guide": BANDS}
GUIDED["units"] = {
    "reflectance": {**SIGNATURE["units"]["reflectance"], "guide": [[0.0, 0.6]] * 4}  # type: ignore[index]
}


def write(path: Path, values: Any, pixel: float = 1.0, bands: list[str] = BANDS) -> Path:
    """Write bands in reflectance."""
    count, height, width = values.shape
    place = Affine(pixel, 0, 5e5, 0, -pixel, 5e6)
    profile = {"driver": "GTiff", "dtype": "float32", "crs": "EPSG:32632", "nodata": -9.0}
    size = {"count": count, "height": height, "width": width}
    with rasterio.open(path, "w", **profile, **size, transform=place) as out:
        out.write(values.astype(np.float32))
        for number, name in enumerate(bands, start=1):
            out.set_band_description(number, name)
    return path


def field(seed: int = 0, size: int = 192) -> Any:
    """Return four smooth bands in reflectance."""
    values = np.random.default_rng(seed).uniform(0.0, 1.0, (4, size, size))
    return (0.2 + 1.5 * (gaussian_filter(values, (0, 4, 4)) - 0.5)).clip(0.02)


def coarse(values: Any, ratio: int) -> Any:
    """Return means over squares of pixels."""
    side = values.shape[1] // ratio
    return values.reshape(4, side, ratio, side, ratio).mean((2, 4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with calibrated models, a scene, and guides of it."""
    path = tmp_path_factory.mktemp("guided")
    torch.manual_seed(0)
    network = GuidedUNet(3, 1, guide=4, carried=[3], width=6, depth=1, hidden=4)
    carried = GuidedResidual(3, 1, guide=4, width=6, depth=1, hidden=4)
    for name, of, signature in (
        ("plain", SmallCNN(3, 1), SIGNATURE),
        ("trained", network, GUIDED),
        ("carried", carried, GUIDED),
    ):
        made = Model(of, Signature.from_json(signature), name=name, task="rgb2nir")
        made.save(path / name)
        own = with_guides(calibration(made.weights_hash), {SAME: 40, COARSER: 12}, (1, 10))
        own.save(path / name)
    values = field()
    write(path / "scene.tif", values[:3], bands=BANDS[:3])
    guide = coarse(values, 8)
    guide[:, :12] = -9.0  # a hole
    write(path / "guide.tif", guide, 8.0)
    return path


def translate(folder: Path, name: str, output: str, **options: Any) -> Path:
    """Translate the scene with a guide of the same day."""
    given = {"interval": 0.9, "guide_days": 0, "indices": ["NDVI"], "precision": "fp32"} | options
    return load(folder / name).translate(
        folder / "scene.tif",
        folder / output,
        guide=folder / "guide.tif",
        sensor="reflectance",
        guide_sensor="reflectance",
        overwrite=True,
        **given,
    )


def read(path: Path) -> tuple[Any, dict[str, str]]:
    """Return bands and tags of a file."""
    with rasterio.open(path) as file:
        return file.read(), file.tags()


@pytest.mark.parametrize("name", ["plain", "trained", "carried"])
def test_tiles_equal_the_whole_and_holes_have_plain_intervals(folder: Path, name: str) -> None:
    found = []
    for output, tile in (("a.tif", None), ("b.tif", 64)):
        translate(folder, name, output, tile=tile, familiarity=True)
        stem = folder / Path(output).stem
        kinds = (".tif", ".interval.tif", "_NDVI.interval.tif", ".familiarity.tif")
        found.append([read(Path(f"{stem}{kind}")) for kind in kinds])
    for (one, _), (other, _) in zip(*found, strict=True):
        assert_same_bands(one, other, atol=2e-6)
    (nir, _), (bounds, tags), *_ = found[0]
    inside = (bounds[0] <= nir[0] + 1e-6) & (nir[0] <= bounds[1] + 1e-6)
    assert np.nanmean(inside) == 1
    said = json.loads(tags["CROSSBAND_INTERVAL_CALIBRATION"])["nir"]
    assert said == {"places": 40, "group": "all places", "guide": SAME.words}
    assert "agreement" in tags["CROSSBAND_GUIDED"]
    if name != "plain":
        return
    # In the hole of the guide the widths are those of a run without a guide; elsewhere others.
    load(folder / name).translate(
        folder / "scene.tif",
        folder / "alone.tif",
        sensor="reflectance",
        interval=0.9,
        overwrite=True,
        precision="fp32",
    )
    above = bounds[1] - nir[0]
    alone = read(folder / "alone.interval.tif")[0][1] - read(folder / "alone.tif")[0][0]
    np.testing.assert_allclose(above[:80], alone[:80], rtol=1e-2)  # as both are rounded
    assert np.abs(above[110:] - alone[110:]).mean() > 0.1 * alone[110:].mean()


def test_a_class_with_few_places_takes_the_next_coarser_one(folder: Path) -> None:
    found = with_guides(calibration("x"), {SAME: 5, COARSER: 12})
    how = (["nir"], "reflectance", 0.9)
    assert found.guide_class(8.0, False, *how) == COARSER
    assert found.guide_class(1.0, False, *how) == COARSER  # no class of its own
    with pytest.raises(CrossbandError, match="were not calibrated; this model has guide's pixels"):
        found.guide_class(30.0, False, *how)
    with pytest.raises(CrossbandError, match="another date"):
        found.guide_class(8.0, True, *how)
    few = with_guides(calibration("x"), {SAME: 5})
    with pytest.raises(CrossbandError, match=r"has 5 places of nir .* promise at most 0.83"):
        few.guide_class(8.0, False, *how)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("plain", {"guide_method": "linear"}, "--guide-method linear are not calibrated"),
        ("plain", {"guide_days": 5}, "another date.* were not calibrated"),
        ("plain", {"guide_days": None}, "not known; --guide-days of translate"),
        ("plain", {"guide_days": -1.0}, "--guide-days -1: 0 to 36,525"),
        ("plain", {"guide_days": float("inf")}, "--guide-days inf: 0 to 36,525"),
        ("plain", {"guide_method": "difference", "guide_days": 5}, "its colours are not"),
        ("trained", {"guide_days": 5}, "another date.* were not calibrated"),
        ("trained", {"interval": 0.99}, "40 places .* at most 0.97"),
    ],
)
def test_what_was_not_calibrated_is_refused_in_one_line(
    folder: Path, name: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(CrossbandError, match=words) as error:
        translate(folder, name, "no.tif", **options)
    assert "\n" not in str(error.value)
    assert not (folder / "no.tif").exists()


def test_a_guide_of_unknown_age_counts_as_one_of_another_date(folder: Path) -> None:
    model = load(folder / "plain")
    assert model.calibration is not None
    dated = GuideClass.of(8, True)
    model.calibration = with_guides(model.calibration, {SAME: 40, dated: 40})
    seen = (8.0, float("nan")), "reflectance", None
    with pytest.warns(CrossbandWarning, match="--guide-days of translate"):
        assert guide_class(model, IntervalOptions(0.9), *seen) == dated
    assert guide_class(model, IntervalOptions(0.9), (8.0, 0.0), *seen[1:]) == SAME


def test_a_calibration_with_guides_is_saved_and_checked(folder: Path) -> None:
    model = load(folder / "plain")
    found = model.calibration
    assert found is not None
    assert {f.guide for f in found.factors} == {None, SAME, COARSER}
    path = folder / "plain" / "calibration.json"
    text = path.read_text()
    try:
        path.write_text(text.replace('"high":12.0', '"high":11.0'))
        with pytest.raises(CrossbandError, match="a class of guides from 6 to 11"):
            load(folder / "plain")
    finally:
        path.write_text(text)


@pytest.mark.parametrize("name", ["plain", "trained"])
def test_calibrate_with_guides_by_command(
    folder: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(fit_widths, "STEPS", 5)
    monkeypatch.setattr(fit_familiarity, "CENTRES", 4)
    monkeypatch.setattr(fit_familiarity, "STEPS", 5)
    monkeypatch.setattr(calibrate, "FOLDS", 2)
    lines = ["source,target,source_bands,target_bands,sensor,group,date,"
             "guide,guide_sensor,guide_datetime"]  # fmt: skip
    for n in range(10):
        values = field(n + 1, 48)
        path = write(tmp_path / f"{n}.tif", values)
        guide = write(tmp_path / f"{n}-guide.tif", coarse(values, 4), 4.0)
        pair = f'{path},{path},"red=1,green=2,blue=3",nir=4,reflectance,place-{n},2024-05-01'
        lines.append(f"{pair},{guide},reflectance,2024-05-01")
        if n < 3:  # too few of another date
            lines.append(f"{pair},{guide},reflectance,2024-04-01")
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    command = ["calibrate", str(folder / name), "--manifest", str(tmp_path / "pairs.csv")]
    assert main([*command, "-o", str(tmp_path / "model")]) == 0
    said = capsys.readouterr().out
    alone = "nir, reflectance: 10 places, at most 90%"
    assert (alone in said) == (name == "plain")  # what was trained with a guide needs one
    assert "3 to 6 times larger, the same date: 10 places, at most 90%" in said
    assert "3 to 6 times larger, another date: 3 places, at most 75%" in said
    model = load(tmp_path / "model")
    assert model.calibration is not None
    assert {f.window for f in model.calibration.factors if f.guide is not None} == {1, 10}
    options = {"sensor": "reflectance", "guide_sensor": "reflectance", "interval": 0.9}
    scene, guide = tmp_path / "0.tif", tmp_path / "0-guide.tif"
    out = tmp_path / "out.tif"
    bands = {"red": 1, "green": 2, "blue": 3}
    model.translate(scene, out, bands=bands, guide=guide, guide_days=0, **options)
    truth, (low, high) = field(1, 48)[3], read(tmp_path / "out.interval.tif")[0]
    assert np.mean((low <= truth) & (truth <= high)) > 0.5
    with pytest.raises(CrossbandError, match=r"3 places of nir .*another date"):
        model.translate(
            scene, tmp_path / "x.tif", bands=bands, guide=guide, guide_days=30, **options
        )


def pairs(folder: Path, *guides: tuple[str, str]) -> Path:
    """Write a manifest of the scene, one place for each guide and date of it."""
    lines = ["source,target,target_bands,sensor,group,datetime,guide,guide_sensor,guide_datetime"]
    for n, (name, date) in enumerate(guides):
        pair = f"{folder / 'scene.tif'},{folder / 'truth.tif'},nir=4,reflectance,place-{n}"
        lines.append(f"{pair},2024-05-01,{folder / name},reflectance,{date}")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return folder / "pairs.csv"


@pytest.fixture(scope="module")
def judged(folder: Path) -> Path:
    """Return the folder with the truth of the scene, and further guides of it."""
    values = field()
    values[3] = field(1)[3] * 0.5 + 0.1  # near infrared that the model does not know
    write(folder / "truth.tif", values)
    write(folder / "coarse.tif", coarse(values, 16), 16.0)
    write(folder / "coarsest.tif", coarse(values, 24), 24.0)
    return folder


def coverage_of_means(
    model: Path, made: Path, guide: str, truth: Any, of: GuideClass
) -> tuple[float, int]:
    """Return the covered share of means of NDVI over squares on the guide, and their number.

    The widths are those of the pixels' intervals, divided by the factor of pixels.
    """
    known: Any = load(model).calibration
    factors = [
        known.factor("NDVI", "reflectance", 0.9, window=side, guide=of)[0] for side in (1, 10)
    ]
    ndvi = read(made.with_name("made_NDVI.tif"))[0][0]
    low, high = read(made.with_name("made_NDVI.interval.tif"))[0]
    first = 100 if guide == "guide.tif" else 0  # 96 rows without a guide
    rows, columns = slice(first, 190), slice(0, 190)

    def means(values: Any) -> Any:
        part = values[rows, columns]
        return part.reshape(part.shape[0] // 10, 10, 19, 10).mean((1, 3))

    ratio = factors[1] / factors[0]
    below, above = (ratio * means(np.abs(end - ndvi)) for end in (low, high))
    error = means(truth) - means(ndvi)
    inside = (-below <= error) & (error <= above)
    return float(inside.mean()), inside.size


@pytest.mark.usefixtures("no_figures")
@pytest.mark.filterwarnings("ignore:.*the correlation of its structure")
@pytest.mark.parametrize("name", ["plain", "trained", "carried"])
def test_evaluate_judges_the_intervals_that_translate_writes(
    judged: Path, name: str, tmp_path: Path
) -> None:
    same, before = "2024-05-01", "2024-04-01"
    manifest = pairs(
        judged, ("guide.tif", same), ("coarse.tif", same), ("coarsest.tif", same),
        ("guide.tif", before),
    )  # fmt: skip
    how = {"interval": 0.9, "precision": "fp32", "pictures": 1}
    report = evaluate([judged / name], manifest, tmp_path / "report", **how)  # type: ignore[arg-type]
    about = report.metrics["models"][0]["intervals"]
    found = {(p["group"], p["quantity"]): p for p in about["places"] if p["window"] == 1}
    assert set(found) == {(f"place-{n}", q) for n in (0, 1) for q in ("nir", "NDVI")}
    means = {p["group"]: p for p in about["places"] if (p["quantity"], p["window"]) == ("NDVI", 10)}
    assert set(means) == {"place-0", "place-1"}
    red, nir = (read(judged / "truth.tif")[0][n] for n in (0, 3))
    truth = {"nir": nir, "NDVI": (nir - red) / (nir + red)}
    for group, guide, of in (("place-0", "guide.tif", SAME), ("place-1", "coarse.tif", COARSER)):
        load(judged / name).translate(
            judged / "scene.tif", tmp_path / "made.tif", sensor="reflectance", interval=0.9,
            guide=judged / guide, guide_sensor="reflectance", guide_days=0, indices=["NDVI"],
            precision="fp32", overwrite=True,
        )  # fmt: skip
        for quantity, true in truth.items():
            kind = "" if quantity == "nir" else "_NDVI"
            low, high = read(tmp_path / f"made{kind}.interval.tif")[0]
            place = found[group, quantity]
            assert place["guide"] == of.words
            assert place["n"] == true.size
            inside = (low <= true) & (true <= high)
            assert 0.02 < inside.mean() < 0.98  # else a wrong factor would change nothing
            assert place["coverage"] == pytest.approx(inside.mean(), abs=1e-3)
            assert place["width"] == pytest.approx((high - low).mean(), rel=1e-4)
            score = interval_score(low, high, true, 0.9).mean()
            assert place["score"] == pytest.approx(score, rel=1e-3)
        wanted = coverage_of_means(judged / name, tmp_path / "made.tif", guide, truth["NDVI"], of)
        assert 0.02 < wanted[0] < 0.98
        assert means[group]["coverage"] == pytest.approx(wanted[0], abs=1e-6)
        assert means[group]["n"] == wanted[1]
    said = [(r["guide"], r["pairs"]) for r in about["left_out"]]
    assert said == [(GuideClass.of(24, False).words, 1), (GuideClass.of(8, True).words, 1)]
    assert about["coarser"] == []
    for file in ("table.txt", "index.html"):
        text = (tmp_path / "report" / file).read_text()
        assert text.count("Not judged, as no calibration of 90% covers them: 1 pair (") == 1
        assert SAME.words.replace("'", "&#39;" if file == "index.html" else "'") in text


@pytest.mark.usefixtures("no_figures")
@pytest.mark.filterwarnings("ignore:.*the correlation of its structure")
def test_a_pair_of_a_class_with_few_places_is_said_to_be_judged_by_another(
    judged: Path, tmp_path: Path
) -> None:
    model = load(judged / "plain")
    model.calibration = with_guides(calibration(model.weights_hash), {SAME: 5, COARSER: 12})
    manifest = pairs(judged, ("guide.tif", "2024-05-01"))
    report = evaluate([model], manifest, tmp_path / "report", interval=0.9, pictures=0)
    about = report.metrics["models"][0]["intervals"]
    assert {q["guide"] for q in about["quantities"]} == {COARSER.words}
    assert {"guide": SAME.words, "by": COARSER.words, "pairs": 1} in about["coarser"]
    assert (
        "Judged by the next class of larger pixels"
        in (tmp_path / "report" / "table.txt").read_text()
    )


@pytest.mark.filterwarnings("ignore:.*the correlation of its structure")
@pytest.mark.parametrize(
    ("date", "interval", "words"),
    [
        ("2024-04-01", 0.9, "no pair can be judged.*another date.*were not calibrated"),
        ("", 0.9, "no pair can be judged.*another date.*were not calibrated"),
        ("2024-05-01", 0.99, "no pair can be judged.*40 places .* at most 0.97"),
    ],
)
def test_evaluate_without_a_pair_to_judge_is_refused_in_one_line(
    judged: Path, tmp_path: Path, date: str, interval: float, words: str
) -> None:
    manifest = pairs(judged, ("guide.tif", date))
    with pytest.raises(CrossbandError, match=words) as error:
        evaluate([judged / "plain"], manifest, tmp_path / "r", interval=interval, pictures=0)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("name", ["rgb2nir", "rgb2nir-guided"])
def test_bundled_models_are_calibrated_with_guides_and_for_fields(name: str) -> None:
    known: Any = load(name).calibration
    assert known.familiar is not None
    for guide in (None, GuideClass.of(2, False), SAME, COARSER, GuideClass.of(1, True)):
        factors = [
            known.factor(quantity, "reflectance", 0.9, window=side, guide=guide)[0]
            for quantity in ("nir", "NDVI", "EVI")
            for side in (1, 10, 50)
        ]
        assert all(0.1 < factor < 10 for factor in factors)


@pytest.mark.slow
def test_intervals_of_the_bundled_guided_model_are_the_same_in_tiles(
    folder: Path, tmp_path: Path
) -> None:
    found = []
    for tile in (None, 96):
        out = tmp_path / f"{tile}.tif"
        load("rgb2nir-guided").translate(
            folder / "scene.tif", out, guide=folder / "guide.tif", guide_days=0, tile=tile,
            sensor="reflectance", guide_sensor="reflectance", interval=0.9, indices=["NDVI"],
            precision="fp32", familiarity=True,
        )  # fmt: skip
        kinds = ("interval", "familiarity")
        parts = [read(tmp_path / f"{tile}.{kind}.tif")[0] for kind in kinds]
        found.append([*parts, read(tmp_path / f"{tile}_NDVI.interval.tif")[0]])
    for one, other in zip(*found, strict=True):
        assert_same_bands(one, other)
