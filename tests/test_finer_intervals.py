"""Intervals and familiarity of models that make pixels finer: all is on the result's pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
from affine import Affine
from calibrated import BANDS, assert_same_bands, finer_model
from rasterio.crs import CRS

from crossband import load
from crossband.cli.main import main
from crossband.core.conformal import coverage
from crossband.core.indices import compute
from crossband.data import manifest as manifests
from crossband.evaluation import calibrate, fit_familiarity, fit_widths, place_errors
from crossband.evaluation.evaluate import evaluate
from crossband.model.uncertain import uncertain_model
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.warp import WindowRaster
from crossband.translate.correction import GuideCorrection
from crossband.translate.options import GuideOptions, TileOptions

SCALES = [2, 4]
OPTIONS: dict[str, Any] = {"bands": BANDS, "sensor": "reflectance", "interval": 0.8}
WAYS = ("Bicubic", "SensorMTF(mtf=0.2, noise=0.02)")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Return a scene of 150 x 130 pixels with a masked corner and a masked hole."""
    rng = np.random.default_rng(0)
    values = rng.uniform(0.02, 0.4, (3, 150, 130)).astype(np.float32)
    values[:, :20, :20] = values[:, 60:75, 100:103] = np.nan
    return write(tmp_path / "scene.tif", values)


def write(path: Path, values: Any) -> Path:
    """Write bands [n, h, w] in which NaN is masked."""
    count, height, width = values.shape
    profile = {"driver": "GTiff", "dtype": "float32", "nodata": np.nan, "count": count}
    with rasterio.open(path, "w", height=height, width=width, **profile) as out:
        out.write(values)
    return path


@pytest.mark.parametrize("scale", SCALES)
def test_tiles_equal_the_whole(scene: Path, tmp_path: Path, scale: int) -> None:
    model = finer_model(tmp_path / "model", scale)
    whole = model.translate(scene, whole=True, familiarity=True, **OPTIONS)
    tiled = model.translate(scene, tile=128, familiarity=True, **OPTIONS)
    sides = [f"{band}_{side}" for band in BANDS for side in ("lower", "upper")]
    assert list(whole.band.values) == [*BANDS, *sides, "dissimilarity"]
    assert whole.shape[1:] == (150 * scale, 130 * scale)
    masked = np.isnan(whole.values)
    assert masked[:, : 20 * scale, : 20 * scale].all()
    assert masked[:, 60 * scale : 75 * scale, 100 * scale : 103 * scale].all()
    assert masked.mean() == pytest.approx((400 + 45) / (150 * 130))
    np.testing.assert_array_equal(np.isnan(tiled.values), masked)
    assert_same_bands(tiled.values, whole.values)


def test_widths_differ_within_a_source_pixel(tmp_path: Path) -> None:
    model = finer_model(tmp_path / "model", 2)
    network = uncertain_model(model, "reflectance").network
    with torch.inference_mode():
        out = network(torch.rand(1, 3, 64, 64))
    assert out.shape == (1, 3 + 8 + 1, 128, 128)
    assert (out[0, 3, 0::2, 0::2] - out[0, 3, 1::2, 1::2]).abs().mean() > 1e-4
    plain = model.network(torch.zeros(1, 3, 8, 8))
    assert plain.shape == (1, 3, 16, 16)


@pytest.mark.parametrize("scale", SCALES)
def test_the_head_sees_what_it_was_fitted_on(tmp_path: Path, scale: int) -> None:
    """Samples of a pair have the widths that a translation gives their pixels."""
    model = finer_model(tmp_path / "model", scale)
    rows = manifests.read(write_pairs(tmp_path, 1, 96, WAYS[:1]))
    (place,) = place_errors.collect(model, rows, [*BANDS])
    network: Any = uncertain_model(model, "reflectance").network
    sample = place.samples[1]
    with torch.inference_mode():
        cells, pixels = (torch.from_numpy(np.stack(a)) for a in (sample.cells, sample.pixels))
        seen = network.head(network.head.cells(cells), pixels)[:, 0, 0].numpy()
    evaluation = place_errors.Evaluation(
        place_errors.ModelCandidate(model, model.name, "cpu", "fp32"), rows, ()
    )
    source, target, output = evaluation.triple(0)
    with torch.inference_mode():
        made = network(torch.from_numpy(source.values)[None] / 0.5)[0].numpy()
    errors = (target.values - output.values) / 0.5
    for width, error in list(zip(seen, np.stack(sample.errors), strict=True))[:20]:
        at = np.abs(errors - error[:, None, None]).sum(axis=0) < 1e-6
        assert at.sum() == 1  # the pixel is known by its errors
        np.testing.assert_allclose(made[3][at], width, rtol=1e-3)


def test_files_lie_on_the_fine_grid(scene: Path, tmp_path: Path) -> None:
    model = finer_model(tmp_path / "model", 2)
    options = OPTIONS | {"indices": ["NGRDI"], "familiarity": True}
    model.translate(scene, tmp_path / "fine.tif", **options)
    read = {}
    for name in ("fine", "fine.interval", "fine.familiarity", "fine_NGRDI", "fine_NGRDI.interval"):
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            assert file.shape == (300, 260)
            read[name] = file.read(masked=True)
    assert len(read["fine.interval"]) == 6
    # An index is of the result's bands: the source has none of its pixels.
    own = compute("NGRDI", dict(zip(BANDS, read["fine"], strict=True)))
    np.testing.assert_allclose(read["fine_NGRDI"][0], own, atol=1e-4)
    low, high = read["fine_NGRDI.interval"]
    assert (low <= own + 1e-4).all()
    assert (own <= high + 1e-4).all()
    assert read["fine.interval"].mask[:, :40, :40].all()


def test_an_index_of_bands_that_are_not_made(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finer_model(tmp_path / "model", 2)
    command = [
        "translate",
        str(scene),
        "-o",
        str(tmp_path / "fine.tif"),
        "--bands",
        "red=1,green=2,blue=3",
    ]
    command += ["--model", str(tmp_path / "model"), "--sensor", "reflectance", "--index", "NDVI"]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "index NDVI needs nir, red; finer makes pixels finer" in line


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, 64])
def test_an_array_has_the_bands_of_a_file(scene: Path, tmp_path: Path, chunks: int | None) -> None:
    model = finer_model(tmp_path / "model", 2)
    with rasterio.open(scene) as file:
        values = file.read()
    array = xr.DataArray(values, dims=("band", "y", "x"), coords={"band": list(BANDS)})
    array = array if chunks is None else array.chunk({"y": chunks, "x": chunks})
    options = {key: value for key, value in OPTIONS.items() if key != "bands"}
    made = model.translate(array, familiarity=True, **options)
    assert (made.chunks is None) == (chunks is None)
    whole = model.translate(scene, familiarity=True, **OPTIONS)
    assert list(made.band.values) == list(whole.band.values)
    assert_same_bands(made.values, whole.values)


def write_pairs(folder: Path, count: int, side: int, ways: tuple[str, ...] = WAYS) -> Path:
    """Write targets of `count` places, and rows that make a source of each in several ways."""
    rng = np.random.default_rng(0)
    lines = ["source,target,target_bands,sensor,group,degradation"]
    for n in range(count):
        values = rng.uniform(0.05, 0.4, (3, side, side)).astype(np.float32)
        path = write(folder / f"{n}.tif", values)
        bands = '"red=1,green=2,blue=3"'
        lines += [f',{path},{bands},reflectance,place-{n},"{way}"' for way in ways]
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return folder / "pairs.csv"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit for a few steps only."""
    monkeypatch.setattr(fit_widths, "STEPS", 5)
    monkeypatch.setattr(fit_familiarity, "CENTRES", 4)
    monkeypatch.setattr(fit_familiarity, "STEPS", 5)


@pytest.mark.usefixtures("quick")
def test_a_place_counts_once_by_its_worst_way(tmp_path: Path) -> None:
    model = finer_model(tmp_path / "model", 2)
    manifest = write_pairs(tmp_path, 11, 32)
    places = place_errors.collect(model, manifests.read(manifest), [*BANDS])
    assert sorted({place.way for place in places}) == sorted(WAYS)
    assert len(places) == 22
    how: dict[str, Any] = {"fitted": "x", "sources": [], "constant": True, "familiarity": False}
    factor, factors = calibrate.fit(places, model, [*BANDS], **how).factor(
        "red", "reflectance", 0.9
    )
    assert factors.places == 11
    shares = [
        coverage(
            [np.abs(np.stack(p.samples[1].errors))[:, 0] for p in places if p.way == way], factor
        )
        for way in WAYS
    ]
    # Ten places would weigh 10 / 11 of all; no smaller factor would do for the worse way.
    worse = np.minimum(*shares).mean()
    assert 0.9 * 12 / 11 <= worse <= 1.0
    assert (
        coverage(
            [np.abs(np.stack(p.samples[1].errors))[:, 0] for p in places if p.way == WAYS[1]],
            factor * 0.8,
        ).mean()
        < 0.9 * 12 / 11
    )


@pytest.mark.usefixtures("quick")
def test_calibrate_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finer_model(tmp_path / "model", 2)
    (tmp_path / "model" / "calibration.json").unlink()
    manifest = write_pairs(tmp_path, 11, 32)
    command = ["calibrate", str(tmp_path / "model"), "--manifest", str(manifest)]
    assert main([*command, "--index", "NGRDI", "-o", str(tmp_path / "model")]) == 0
    said = capsys.readouterr().out
    assert "blue, reflectance: 11 places, at most 91%" in said
    assert "NGRDI, reflectance: 11 places" in said
    model = load(tmp_path / "model")
    assert model.calibration is not None
    assert "11 places" in model.calibration.sources[0]
    assert model.calibration.familiar is not None
    array = model.translate(tmp_path / "0.tif", familiarity=True, **OPTIONS)
    assert array.sizes == {"band": 10, "y": 64, "x": 64}


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_evaluate_judges_the_intervals_that_translate_writes(tmp_path: Path) -> None:
    model = finer_model(tmp_path / "model", 2)
    manifest = write_pairs(tmp_path, 3, 40, WAYS[:1])
    report = evaluate([model], manifest, tmp_path / "report", interval=0.8, pictures=1)
    found = report.metrics["models"][0]["intervals"]["quantities"]
    red = next(q for q in found if (q["quantity"], q["window"]) == ("red", 1))
    assert red["n_places"] == 3
    assert {q["quantity"] for q in found} == {*BANDS, "NGRDI"}
    rows = manifests.read(manifest)
    evaluation = place_errors.Evaluation(
        place_errors.ModelCandidate(model, model.name, "cpu", "fp32"), rows, ()
    )
    inside, widths = [], []
    for position in range(len(rows)):
        source, target = evaluation.pair(position)
        path = write(tmp_path / "source.tif", source.values)
        made = model.translate(path, **OPTIONS)
        low, high = (made.sel(band=f"red_{side}").values for side in ("lower", "upper"))
        inside.append(np.mean((low <= target.values[0]) & (target.values[0] <= high)))
        widths.append(np.mean(high - low))
    assert red["coverage"] == pytest.approx(np.mean(inside), abs=1e-3)
    assert red["width"] == pytest.approx(np.mean(widths), rel=1e-3)


def test_a_calibration_of_another_scale_is_refused(tmp_path: Path) -> None:
    model = finer_model(tmp_path / "model", 2)
    assert model.calibration is not None
    assert model.calibration.head is not None
    head = replace(model.calibration.head, pixels=model.calibration.head.pixels[:, :9])
    model.calibration = replace(model.calibration, head=head)
    with pytest.raises(Exception, match="the calibration is of another network"):
        uncertain_model(model, "reflectance")


def test_a_guide_is_measured_on_pixels_of_the_result(scene: Path, tmp_path: Path) -> None:
    model, place = finer_model(tmp_path / "model", 2), Affine(10, 0, 500_000, 0, -10, 5_000_000)
    rng, grid = np.random.default_rng(0), Grid(64, 64, place, CRS.from_epsg(32633))
    values = rng.uniform(0.1, 0.2, (3, 64, 64)).astype(np.float32)
    source = Window(values, np.ones((64, 64), bool), grid, tuple(BANDS), "reflectance")
    measured = rng.uniform(0.1, 0.2, (3, 32, 32)).astype(np.float32)
    measured[:, :, 16:] = np.nan
    guide = write(tmp_path / "guide.tif", measured)
    with rasterio.open(guide, "r+") as file:
        file.crs, file.transform = grid.crs, place @ Affine.scale(2)
        file.descriptions = tuple(BANDS)
    options = GuideOptions(str(guide), sensor="reflectance", days=0.0)
    with GuideCorrection(options, model, TileOptions(), WindowRaster(source), "it") as correction:
        whole = correction.measured(Box(0, 0, 128, 128))
        part = correction.measured(Box(64, 32, 64, 64))
    assert whole[:, :64].all()
    assert not whole[:, 64:].any()
    np.testing.assert_array_equal(part, whole[64:, 32:96])
