"""Intervals and familiarity beside a translated scene, and the file that they come from."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
from calibrated import BANDS, assert_same_bands, calibrated_model, calibration

from crossband import load
from crossband.api import Model
from crossband.cli.main import main
from crossband.core.conformal import highest_level
from crossband.errors import (
    CrossbandError,
    CrossbandWarning,
    ModelError,
)
from crossband.jobs import summary
from crossband.model.calibration import (
    LEVELS,
    Calibration,
    Factors,
)
from crossband.model.calibration_file import read_calibration
from crossband.model.files import CALIBRATION
from crossband.model.folder import bundled
from crossband.model.identity import identity
from crossband.model.uncertain import uncertain_model
from crossband.networks.cells import cells_at, interpolate_cells
from crossband.networks.uncertainty import surroundings_of
from crossband.raster.grid import Grid, Window
from crossband.translate.familiarity import SIDE, sample_boxes, window_familiarity
from crossband.translate.options import IntervalOptions
from crossband.translate.statistics import Statistics
from crossband.translate.stream import compute_index_values
from crossband.translate.uncertain_bands import WIDTH_BITS, BandIntervals, Bounds, rounded_outwards
from crossband.translate.unfamiliar_causes import WORDS, likely_cause


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """Return a calibrated model with random weights."""
    return calibrated_model(tmp_path / "model")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Return a scene of 150 x 130 pixels with a masked corner."""
    rng = np.random.default_rng(0)
    values = rng.uniform(0.02, 0.4, (3, 150, 130)).astype(np.float32)
    values[:, :20, :20] = np.nan
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=150, width=130, count=3, dtype="float32", nodata=np.nan
    ) as out:
        out.write(values)
    return path


def test_files_tags_and_values(model: Model, scene: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"bands": BANDS, "sensor": "reflectance", "indices": ["NDVI"]}
    model.translate(scene, tmp_path / "plain.tif", **options)
    model.translate(scene, tmp_path / "nir.tif", interval=0.9, familiarity=True, **options)
    read: dict[str, Any] = {}
    for name in ("plain", "nir", "nir.interval", "nir_NDVI.interval", "nir_NDVI"):
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            read[name], tags = file.read(masked=True), file.tags()
            if name.endswith("interval"):
                assert tags["CROSSBAND_INTERVAL"] == "0.9"
                assert "60" in tags["CROSSBAND_INTERVAL_CALIBRATION"]
                quantity = "NDVI" if "NDVI" in name else "nir"
                assert file.descriptions == (f"{quantity}_lower", f"{quantity}_upper")
    np.testing.assert_allclose(read["nir"], read["plain"], atol=1e-5)
    for values, bounds in (
        (read["nir"][0], "nir.interval"),
        (read["nir_NDVI"][0], "nir_NDVI.interval"),
    ):
        low, high = read[bounds]
        assert (low <= values + 1e-6).all()
        assert (values <= high + 1e-6).all()
    assert read["nir.interval"].min() >= 0
    assert abs(read["nir_NDVI.interval"]).max() <= 1
    assert read["nir.interval"].mask[:, :20, :20].all()
    assert (tmp_path / "nir.familiarity.tif").exists()


def test_bounds_are_rounded_outwards() -> None:
    rng = np.random.default_rng(0)
    lower = rng.normal(0, 10.0 ** rng.uniform(-4, 4, 50_000)).astype(np.float32)
    width = (10.0 ** rng.uniform(-6, 3, 50_000)).astype(np.float32)
    upper = lower + width
    low, high = rounded_outwards(lower, upper, (-np.inf, np.inf))
    assert (low <= lower).all()
    assert (upper <= high).all()
    wide = upper - lower > 0
    assert (((high - low) / (upper - lower))[wide] <= 1 + 2 / 2**WIDTH_BITS + 1e-6).all()
    np.testing.assert_array_equal(low[~wide], lower[~wide])
    np.testing.assert_array_equal(high[~wide], upper[~wide])
    same = np.array([0.3, -7, 1e4, 0], np.float32)
    np.testing.assert_array_equal(rounded_outwards(same, same, (-10, 1e5)), [same, same])
    # Of the 23 bits of the numbers the last 11 are zeros.
    near = rng.uniform(0.1, 0.5, 1000).astype(np.float32)
    bits = rounded_outwards(near, near + np.float32(0.1), (0, 1)).view(np.int32)
    assert (bits & 0x7FF == 0).all()


def test_tiles_equal_the_whole(model: Model, scene: Path) -> None:
    options: dict[str, Any] = {"bands": BANDS, "sensor": "reflectance", "interval": 0.8}
    whole = model.translate(scene, whole=True, familiarity=True, **options)
    tiled = model.translate(scene, tile=128, familiarity=True, **options)
    assert list(whole.band.values) == ["nir", "nir_lower", "nir_upper", "dissimilarity"]
    assert_same_bands(tiled.values, whole.values)


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, 64])
def test_an_array_has_the_bands_of_a_file(model: Model, scene: Path, chunks: int | None) -> None:
    with rasterio.open(scene) as file:
        values = file.read()
    array = xr.DataArray(values, dims=("band", "y", "x"), coords={"band": list(BANDS)})
    array = array if chunks is None else array.chunk({"y": chunks, "x": chunks})
    options: dict[str, Any] = {"sensor": "reflectance", "interval": 0.9, "familiarity": True}
    made = model.translate(array, **options)
    assert (made.chunks is None) == (chunks is None)
    whole = model.translate(scene, bands=BANDS, **options)
    assert list(made.band.values) == list(whole.band.values)
    assert made.attrs["CROSSBAND_INTERVAL"] == "0.9"
    assert_same_bands(made.values, whole.values)
    with pytest.raises(CrossbandError, match="interval: maps have none"):
        model.series(array, interval=0.9)


def test_wider_at_a_higher_level_and_a_stricter_promise(model: Model, scene: Path) -> None:
    def width(**how: Any) -> float:
        a = model.translate(scene, bands=BANDS, sensor="reflectance", **how)
        return float(np.nanmean(a.sel(band="nir_upper") - a.sel(band="nir_lower")))

    low, high = width(interval=0.5), width(interval=0.95)
    assert 0 < low < high < width(interval=0.95, promise="places") + 1e-9


def test_cells_at_pixels_are_those_interpolated() -> None:
    cells = torch.randn(1, 4, 5, 3)
    every = interpolate_cells(cells, slice(0, 64), slice(0, 80), 16)
    rows, columns = torch.tensor([0, 7, 8, 33, 63]), torch.tensor([0, 9, 79, 40, 71])
    found = cells_at(cells, rows, columns, 16)
    torch.testing.assert_close(found[0], every[0, rows, columns], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"interval": 0.99}, "promise at most 0.98"),
        ({"interval": 1.5}, "between 0 and 1"),
        ({"interval": 0.9, "promise": "all"}, "mean or places"),
    ],
)
def test_a_level_that_cannot_be_promised(
    model: Model, scene: Path, how: dict[str, Any], words: str
) -> None:
    with pytest.raises(CrossbandError, match=words):
        model.translate(scene, bands=BANDS, sensor="reflectance", **how)


def test_an_index_that_was_not_calibrated(model: Model, scene: Path, tmp_path: Path) -> None:
    with pytest.raises(CrossbandError, match="EVI of a reflectance source was not calibrated"):
        model.translate(
            scene, tmp_path / "o.tif", bands=BANDS, sensor="reflectance", interval=0.9,
            indices=["EVI"],
        )  # fmt: skip
    assert not (tmp_path / "o.tif").exists()


def test_eight_places_promise_what_the_refusal_names(
    model: Model, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundled sar2optical has eight places."""
    calibration(model.weights_hash, places=8).save(tmp_path / "model")
    command = ["translate", str(scene), "-o", str(tmp_path / "nir.tif"), "--sensor", "reflectance"]
    command += ["--model", str(tmp_path / "model"), "--bands", "red=1,green=2,blue=3"]
    assert main([*command, "--interval", "0.9"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "8 places of nir in reflectance, which promise at most 0.88 (level <= K /" in said
    assert not (tmp_path / "nir.tif").exists()
    assert main([*command, "--interval", said.split("at most ")[1].split()[0]]) == 0
    with rasterio.open(tmp_path / "nir.interval.tif") as file:
        low, high = file.read(masked=True)
    assert (high >= low).all()
    assert 0 < (high - low).mean() < 1


@pytest.mark.parametrize(
    ("name", "places", "guided"),
    [("rgb2nir", 1279, 241), ("sar2optical", 8, 0), ("sentinel-2-sharpen", 0, 233)],
)
def test_bundled_calibrations_are_of_the_weights_beside_them(
    name: str, places: int, guided: int
) -> None:
    model = load(name)
    found = model.calibration
    assert found is not None
    assert model.folder is not None
    weights = hashlib.sha256((model.folder / "model.safetensors").read_bytes()).hexdigest()
    assert found.weights == weights
    bands = tuple(model.signature.target)
    assert found.quantities[: len(bands)] == bands
    for band in bands:
        own = [f for f in found.factors if (f.quantity, f.window, f.group) == (band, 1, "")]
        plain, others = ([f.places for f in own if (f.guide is None) == alone] for alone in (1, 0))
        assert max(plain, default=0) == places
        assert max(others, default=0) == guided
    assert found.familiar is not None
    unit = next(iter(found.familiar.bands))
    assert uncertain_model(model, unit).network.dissimilarity is not None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "change", [{"distance": 1e-300}, {"limit": 1e7}, {"usual": 1e7}, {"turn": -1e9}]
)
def test_a_calibration_whose_surroundings_overflow_is_refused(
    model: Model, tmp_path: Path, change: dict[str, float]
) -> None:
    model.save(tmp_path / "model")
    path = tmp_path / "model" / "calibration.json"
    data = json.loads(path.read_text())
    for key, value in change.items():
        held = data["familiar"]
        if key == "turn":
            held[key][0][0] = value
        elif key == "usual":
            held[key][0] = value
        else:
            held[key] = value
    path.write_text(json.dumps(data))
    with pytest.raises(CrossbandError, match=r"not between 0 and 1e\+06|is no number of this file"):
        load(tmp_path / "model")


@pytest.mark.parametrize("value", [4.876214, 4.87625, 1.0, 0.000123456, 99999.6, math.inf, 0.0])
def test_stored_factors_are_never_smaller(model: Model, tmp_path: Path, value: float) -> None:
    found = calibration(model.weights_hash)
    first = found.factors[0]
    levels = len(first.mean)
    changed = replace(first, mean=(value,) * levels, strict=(value,) * levels)
    replace(found, factors=(changed,)).save(tmp_path)
    stored = read_calibration(tmp_path, model.weights_hash)
    assert stored is not None
    assert value <= stored.factors[0].mean[0] <= value * (1 + 1.1e-4)
    assert stored.factors[0].strict == stored.factors[0].mean


def test_a_model_without_calibration(model: Model, scene: Path) -> None:
    model.calibration = None
    with pytest.raises(ModelError, match="crossband calibrate"):
        model.translate(scene, bands=BANDS, sensor="reflectance", interval=0.9)


def test_a_file_of_other_weights_is_refused(model: Model, tmp_path: Path) -> None:
    replace(calibration("0" * 64)).save(tmp_path / "model")
    with pytest.raises(ModelError, match="other weights"):
        load(tmp_path / "model")


def test_saved_and_read_again(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "copy")
    again = load(tmp_path / "copy").calibration
    assert again is not None
    assert model.calibration is not None
    assert again.factors == model.calibration.factors
    model.network.load_state_dict({k: v + 1 for k, v in model.network.state_dict().items()})
    model.save(tmp_path / "changed")
    assert load(tmp_path / "changed").calibration is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["format"], 1),
        (["quantities"], "nir"),
        (["factors", 0, "mean"], [1.0]),
        (["factors", 0, "mean", 3], 1e9),
        (["factors", 0, "places"], -1),
        (["factors", 0, "window"], 7),
        (["factors", 0, "quantity"], "red"),
        (["head", "bias"], [0.0]),
        (["head", "out", 0, 0], True),
        (["head", "cells", 0], [1.0]),
        (["familiar", "distance"], 0),
        (["familiar", "usual"], ["a"]),
        (["familiar", "bands"], []),
        (["familiar", "wrong", "kinds"], ["bands", "other"]),
        (["familiar", "wrong", "out_bias"], [0.0]),
        (["familiar", "wrong", "spread"], 0),
        (["sources"], [["x"]]),
        (["weights"], None),
    ],
)
def test_a_hostile_file_is_refused_in_one_line(
    model: Model, tmp_path: Path, path: list[Any], value: Any
) -> None:
    file = tmp_path / "model" / CALIBRATION
    data = json.loads(file.read_text())
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    file.write_text(json.dumps(data))
    with pytest.raises(ModelError) as error:
        read_calibration(tmp_path / "model", model.weights_hash)
    assert "\n" not in str(error.value)


CALIBRATED = [name for name, folder in bundled().items() if (folder / CALIBRATION).exists()]


@pytest.mark.parametrize("name", CALIBRATED)
def test_a_bundled_calibration_is_of_its_model(name: str) -> None:
    model = load(name)
    found, bands = model.calibration, model.signature.target
    assert model.folder is not None
    assert (model.folder / CALIBRATION).stat().st_size < 2**19
    assert found is not None
    assert found.weights == model.weights_hash
    assert found.quantities[: len(bands)] == tuple(bands)
    for unit, guide in {(f.unit, f.guide) for f in found.factors if f.window == 1}:
        for quantity in bands:
            of_all = found.find(quantity, unit, guide=guide)[0]
            level = min(0.9, math.floor(100 * highest_level(of_all.places)) / 100)
            assert level > 0.8
            assert 0.1 < found.factor(quantity, unit, level, guide=guide)[0] < 10
        network = uncertain_model(model, unit, guide).network
        values = torch.rand(1, len(model.signature.source), 70, 66) * 0.3 + 0.1
        with torch.inference_mode():
            out = network(values)[0, len(bands) :]
        assert out.shape[1:] == (70 * network.scale, 66 * network.scale)
        assert torch.isfinite(out).all()
        assert (out[:-1] > 0).all()  # the last one is the dissimilarity


def test_bundled_models_are_calibrated() -> None:
    assert set(CALIBRATED) == set(bundled())


def test_factors_rise_with_the_level() -> None:
    for factors in calibration("0" * 64).factors:
        assert list(factors.mean) == sorted(factors.mean)
        assert len(factors.mean) == len(LEVELS)


def test_further_channels_do_not_change_the_result(model: Model) -> None:
    x = torch.rand(1, 3, 48, 64)
    sure = uncertain_model(model, "reflectance")
    with torch.inference_mode():
        torch.testing.assert_close(sure.network(x)[:, :1], model.network(x).float())
    assert surroundings_of(model.network).stride == sure.network.stride


def test_every_translation_says_how_familiar_its_scene_is(
    model: Model, scene: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"bands": BANDS, "sensor": "reflectance", "indices": ["NDVI"]}
    statistics = Statistics()
    model.translate(scene, tmp_path / "nir.tif", statistics=statistics, **options)
    assert statistics.unfamiliar is not None
    for name in ("nir", "nir_NDVI"):
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            assert file.tags()["CROSSBAND_UNFAMILIAR"] == f"{statistics.unfamiliar:.3f}"
    again = Statistics()
    model.translate(scene, tmp_path / "nir.tif", statistics=again, skip=True, **options)
    assert again.skipped
    assert again.unfamiliar is None
    model.calibration = None
    model.translate(scene, tmp_path / "plain.tif", statistics=again, **options)
    with rasterio.open(tmp_path / "plain.tif") as file:
        assert "CROSSBAND_UNFAMILIAR" not in file.tags()


def test_a_fleet_says_which_scenes_are_unfamiliar(
    model: Model, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with rasterio.open(scene) as file:
        profile, values = file.profile, file.read()
    other = tmp_path / "other.tif"
    with rasterio.open(other, "w", **profile) as out:
        out.write(values * 10_000)
    command = ["translate", str(scene), str(other), "-o", f"{tmp_path}/out/", "--model"]
    command += [str(tmp_path / "model"), "--bands", "red=1,green=2,blue=3"]
    assert main([*command, "--sensor", "reflectance"]) == 0
    lines = {line.input: line for line in summary.read(tmp_path / "out").values()}
    assert lines[str(other)].unfamiliar == 1.0
    said = capsys.readouterr().err
    assert "other_nir.tif: 100% of the scene is unlike" in said
    assert "likely: a missing --scale" in said
    assert "of 2 scenes are unlike what the model was trained on" in said
    command[4] = f"{tmp_path}/again/"
    assert main([*command, "--sensor", "reflectance", "--quiet"]) == 0
    heard = capsys.readouterr()  # a warning is no summary
    assert heard.out == ""
    assert "other_nir.tif: 100% of the scene is unlike" in heard.err
    assert "of 2 scenes are unlike" in heard.err
    one = ["translate", str(other), "-o", f"{tmp_path}/one.tif", *command[5:]]
    assert main([*one, "--sensor", "reflectance", "--quiet"]) == 0
    assert "100% of the scene is unlike" in capsys.readouterr().err


def test_what_looks_wrong_is_unfamiliar_in_its_unit_only(model: Model) -> None:
    known: Any = model.calibration
    wrong = replace(known.familiar.wrong, limit=-100.0)
    model.calibration = replace(known, familiar=replace(known.familiar, wrong=wrong))
    window = Window(
        np.full((3, 64, 64), 0.1, np.float32), np.ones((64, 64), bool), Grid(64, 64), tuple(BANDS),
        "reflectance",
    )  # fmt: skip
    found: Any = window_familiarity(model, [window])
    assert found.share == 1.0
    assert found.cause in WORDS.values()
    without = uncertain_model(model, "display").network
    assert without.dissimilarity.classifier is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([900.0, 1000.0, 1100.0], "missing --scale"),
        ([0.001, 0.002, 0.001], "night, or a wrong --scale"),
        ([0.0, 0.5, 1.0], "display stretch"),
        ([0.55, 0.56, 0.57], "snow or clouds"),
        ([0.05, 0.1, 0.2], "bands in another order"),
    ],
)
def test_the_likely_cause_is_named(model: Model, values: list[float], words: str) -> None:
    known: Any = model.calibration
    seen = np.array(values * 20, np.float32)
    bands = dict.fromkeys(BANDS, seen)
    looks = {"bands": 0.5} if words.startswith("bands") else {}
    order = ["blue", "green", "red"]
    assert words in likely_cause(known.familiar, bands, "reflectance", looks, order)
    assert "another order" not in likely_cause(known.familiar, bands, "reflectance", looks)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: np.where(np.arange(len(x)) % 9, x, -1.0), "11% of the pixels are -1 in every"),
        (lambda x: np.where(np.arange(len(x)) % 9, x, 0.0), "gdal_edit -a_nodata declares it"),
        (lambda x: (8 * x).clip(0, 1), "display stretch"),
        (lambda x: 6 * x - 0.05, "the contrast is"),
        (lambda x: x - 0.1, "subtracted twice"),
        (lambda x: x + 0.1, "a missing --offset"),
    ],
)
def test_a_cause_is_not_taken_for_another(model: Model, change: Any, words: str) -> None:
    known: Any = model.calibration
    generator = np.random.default_rng(0)
    usual = {"reflectance": dict.fromkeys(BANDS, (0.02, 0.08, 0.45))}
    bands = {
        name: change(generator.gamma(3.0, 0.02, 900) + 0.015).astype(np.float32) for name in BANDS
    }
    familiar = replace(known.familiar, bands=usual)
    assert words in likely_cause(familiar, bands, "reflectance", {"offset": 0.5})


def test_what_is_said_of_light_is_not_said_of_radar(model: Model) -> None:
    known: Any = model.calibration
    familiar = replace(known.familiar, bands={"db": {"vv": (-20.0, -12.0, -3.0)}})
    bands = {"vv": np.full(60, -22.0, np.float32)}
    assert likely_cause(familiar, bands, "db", {}) == ""
    assert likely_cause(familiar, bands, "db", {"bands": 0.5}, ["vh"]) == f"{WORDS['bands']} vh"


def test_an_interval_of_an_earlier_result_is_told(
    model: Model, scene: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"bands": BANDS, "sensor": "reflectance"}
    model.translate(scene, tmp_path / "nir.tif", interval=0.9, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CrossbandWarning)
        told = {"overwrite": True, "statistics": Statistics(), **options}  # of what is unfamiliar
        model.translate(scene, tmp_path / "nir.tif", interval=0.9, **told)
    with pytest.warns(CrossbandWarning, match=r"nir\.interval\.tif: it belongs to"):
        model.translate(scene, tmp_path / "nir.tif", overwrite=True, **options)


def test_an_index_of_an_earlier_result_is_told(model: Model, scene: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"bands": BANDS, "sensor": "reflectance", "overwrite": True}
    with_index = {"indices": ["NDVI"], "interval": 0.9}
    model.translate(scene, tmp_path / "nir.tif", **with_index, **options)
    with pytest.warns(CrossbandWarning) as told:
        model.translate(scene, tmp_path / "nir.tif", **options)
    words = " ".join(str(w.message) for w in told)
    for name in ("nir_NDVI.tif", "nir.interval.tif", "nir_NDVI.interval.tif"):
        assert f"{name}: it belongs to an earlier result" in words


def test_each_file_is_described_by_its_own_bands(model: Model, scene: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"bands": BANDS, "sensor": "reflectance", "indices": ["NDVI"]}
    model.translate(scene, tmp_path / "nir.tif", interval=0.9, familiarity=True, **options)
    for name, bands in (
        ("nir.tif", "nir"),
        ("nir_NDVI.tif", "NDVI"),
        ("nir.interval.tif", "nir_lower, nir_upper"),
        ("nir_NDVI.interval.tif", "NDVI_lower, NDVI_upper"),
        ("nir.familiarity.tif", "dissimilarity"),
    ):
        with rasterio.open(tmp_path / name) as file:
            words = file.tags()["TIFFTAG_IMAGEDESCRIPTION"]
        assert words == f"SYNTHETIC {bands}: translated by the model {model.name}, not measured"


def test_a_hole_in_the_middle_hides_no_wrong_scene(model: Model, tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(200, 4000, (3, 300, 304)).astype(np.float32)
    values[:, 70:230, 70:230] = np.nan
    path, statistics = tmp_path / "hole.tif", Statistics()
    profile = {"driver": "GTiff", "height": 300, "width": 304, "count": 3, "dtype": "float32"}
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
    model.translate(
        path, tmp_path / "nir.tif", bands=BANDS, sensor="reflectance", statistics=statistics
    )
    assert statistics.unfamiliar is not None
    assert statistics.unfamiliar > 0.9


def test_a_familiar_scene_costs_a_few_small_windows() -> None:
    for side in (100, 511, 4000, 20_000):
        boxes = sample_boxes(Grid(side, side))
        pixels = sum(box.height * box.width for box in boxes)
        assert pixels <= max(side * side // 8, SIDE * SIDE)
        assert all(box.row + box.height <= side for box in boxes)


def test_a_calibrated_model_has_one_hash_whenever_it_is_loaded(tiny_model, tmp_path):
    """Else a run with --interval could not be resumed."""
    folder = shutil.copytree(tiny_model, tmp_path / "tiny")
    calibration(load(folder).weights_hash).save(folder)
    one, other = (identity(uncertain_model(load(folder), "reflectance")) for _ in range(2))
    assert one == other


def test_python_is_told_of_an_unfamiliar_scene(model: Model, tmp_path: Path) -> None:
    """Of a file, of an array that a file gives, and of an array; and of edges as of the middle."""
    generator = np.random.default_rng(0)
    values = generator.uniform(200, 4000, (3, 420, 420)).astype(np.float32)
    values[:, 100:320, 100:320] = generator.uniform(0.05, 0.3, (3, 220, 220))
    path, line = tmp_path / "edges.tif", r"of the scene is unlike .* a missing --scale"
    profile = {"driver": "GTiff", "height": 420, "width": 420, "count": 3, "dtype": "float32"}
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
    options: dict[str, Any] = {"bands": BANDS, "sensor": "reflectance"}
    with pytest.warns(CrossbandWarning, match=line):
        model.translate(path, tmp_path / "nir.tif", **options)
    with pytest.warns(CrossbandWarning, match=line):
        made = model.translate(path, **options)
    array = xr.DataArray(values, dims=("band", "y", "x"), coords={"band": list(BANDS)})
    with pytest.warns(CrossbandWarning, match=line):
        same = model.translate(array, sensor="reflectance")
    with rasterio.open(tmp_path / "nir.tif") as file:
        share = file.tags()["CROSSBAND_UNFAMILIAR"]
    assert float(share) > 0.5
    assert made.attrs["CROSSBAND_UNFAMILIAR"] == share == same.attrs["CROSSBAND_UNFAMILIAR"]


def test_the_share_is_that_of_the_familiarity_where_one_is_written(
    model: Model, tmp_path: Path
) -> None:
    known: Any = model.calibration
    limit = 5 * known.familiar.limit  # so that only the bright stripe is unfamiliar
    model.calibration = replace(known, familiar=replace(known.familiar, limit=limit))
    generator = np.random.default_rng(0)
    values = generator.uniform(0.05, 0.3, (3, 400, 900)).astype(np.float32)
    values[:, :, 150:420] = generator.uniform(200, 4000, (3, 400, 270))  # between two windows
    path = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "height": 400, "width": 900, "count": 3, "dtype": "float32"}
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
    options: dict[str, Any] = {"bands": BANDS, "sensor": "reflectance", "familiarity": True}
    statistics, array = Statistics(), xr.DataArray(values, dims=("band", "y", "x"))
    with pytest.warns(CrossbandWarning, match="unlike"):
        made = [model.translate(path, **options)]
    with pytest.warns(CrossbandWarning, match="unlike"):
        made.append(model.translate(array.assign_coords(band=list(BANDS)), **options))
    model.translate(path, tmp_path / "nir.tif", statistics=statistics, **options)
    with rasterio.open(tmp_path / "nir.familiarity.tif") as file:
        share = float((file.read() > 1).mean())
    assert 0.1 < share < 0.9
    assert statistics.unfamiliar == share
    assert statistics.unfamiliar_line.startswith(f"{share:.0%} of the scene is unlike")
    for name in ("nir", "nir.familiarity"):
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            assert file.tags()["CROSSBAND_UNFAMILIAR"] == f"{share:.3f}"
    for result in made:
        assert result.attrs["CROSSBAND_UNFAMILIAR"] == f"{share:.3f}"


def test_a_promise_needs_an_interval() -> None:
    with pytest.raises(CrossbandError, match="--promise places: it is of --interval"):
        IntervalOptions(promise="places")


def test_another_interval_of_a_result_is_named(model: Model, scene: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"bands": BANDS, "sensor": "reflectance", "statistics": Statistics()}
    model.translate(scene, tmp_path / "nir.tif", interval=0.9, **options)
    for now, words in (
        ({"interval": 0.8}, r"interval changed.*0\.9 \(mean\).*0\.8 \(mean\)"),
        ({"interval": 0.9, "familiarity": True}, r"interval changed.*\(mean\), familiarity"),
    ):
        with pytest.raises(CrossbandError, match=words):
            model.translate(scene, tmp_path / "nir.tif", skip=True, **now, **options)
    assert model.calibration is not None
    again = load(tmp_path / "model")
    again.calibration = replace(model.calibration, fitted="another way")
    with pytest.raises(CrossbandError, match="the calibration changed"):
        again.translate(scene, tmp_path / "nir.tif", skip=True, interval=0.9, **options)


def test_a_calibration_stays_until_the_next_is_whole(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.calibration is not None
    folder = tmp_path / "model"
    before = (folder / "calibration.json").read_bytes()
    names = sorted(path.name for path in folder.iterdir())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CrossbandError, match="No space left on device"):
        replace(model.calibration, fitted="another way").save(folder)
    assert sorted(path.name for path in folder.iterdir()) == names
    assert (folder / "calibration.json").read_bytes() == before


def test_the_interval_of_an_index_is_where_the_index_is(model: Model) -> None:
    """Of a negative band, which is noise, there is neither."""
    bound = replace(
        Bounds.of(model, "NDVI", "reflectance", IntervalOptions(0.9), None), channel=0, factor=1.0
    )
    known = {
        "nir": np.array([[0.30, 0.06, 0.02, 0.30]], np.float32),
        "red": np.array([[-0.01, -0.055, -0.05, 0.10]], np.float32),
    }
    further = np.full((2, 1, 4), 0.2, np.float32)
    bounds, mask = BandIntervals((bound,))(known, further, np.ones((1, 4), bool))
    assert mask.tolist() == [[False, False, False, True]]
    np.testing.assert_allclose(bounds[:, 0, 3], [0.3, 0.7], atol=2e-3)
    values, defined = compute_index_values("NDVI", known, np.ones((1, 4), bool), "reflectance")
    assert defined.tolist() == mask.tolist()
    assert values[0, 0, 3] == pytest.approx(0.5)


def test_a_sensor_means_pairs_whose_source_is_of_it() -> None:
    rng = np.random.default_rng(1)
    groups = {"naip to s2": 1.0, "aerial to s2": 3.0}
    found = [
        Factors.of(
            "nir", "reflectance", 1, group, (group,), [size * rng.random(50) for _ in range(50)]
        )
        for group, size in groups.items()
    ]
    made = Calibration("x", ("nir",), tuple(found), "f", ("s",))
    factors = {
        sensor: made.factor("nir", "reflectance", 0.9, sensor=sensor)[0]
        for sensor in ("naip", "naip to s2", "aerial", "another", None)
    }
    assert factors["naip"] == factors["naip to s2"] < factors["aerial"]
    assert factors["another"] == factors[None] == factors["aerial"]


def test_the_stricter_promise_is_never_narrower() -> None:
    rng = np.random.default_rng(0)
    for places in (5, 12, 40):
        found = Factors.of(
            "nir", "reflectance", 1, "", (), [rng.gamma(1, 1, 4) for _ in range(places)]
        )
        for level in LEVELS:
            try:
                strict = found.at(level, "places")
            except CrossbandError:
                continue
            assert strict >= found.at(level, "mean")
    made = replace(found, mean=tuple(np.linspace(1, 2, len(LEVELS))), strict=(1.5,) * len(LEVELS))
    assert made.at(LEVELS[-1], "places") == 2.0


def test_negative_factors_are_refused(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "model" / CALIBRATION
    data = json.loads(path.read_text())
    data["factors"][0]["mean"] = [-5.0] * len(data["factors"][0]["mean"])
    path.write_text(json.dumps(data))
    with pytest.raises(ModelError, match="factors that are negative"):
        load(path.parent)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(ModelError):
        load(path.parent)
