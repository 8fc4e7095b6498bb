"""`series --interval` with guides: each date by the class of its own guide."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from calibrated import calibrated_model, with_guides
from scipy.ndimage import gaussian_filter

from crossband import load
from crossband.api import Model
from crossband.cli.main import main
from crossband.model.calibration import GuideClass
from crossband.model.uncertain import uncertain_model
from crossband.raster.grid import Box, Grid, Window
from crossband.series.field_widths import FieldWidths
from crossband.series.measure import BOUNDS
from crossband.translate.window import translate_window

SIDE = 60
BANDS = ("red", "green", "blue", "nir")
DAYS = ("20240501", "20240511", "20240521")
#: Size and age of the guides: those of another date of the series, and one of pixels of 40 m.
EARLIER, SAME, LATER = GuideClass.of(1, True), GuideClass.of(4, False), GuideClass.of(4, True)
pytestmark = pytest.mark.filterwarnings("ignore:.*the correlation of its structure")


def write(path: Path, values: Any, pixel: int = 10, day: str = "") -> Path:
    """Write bands in reflectance, as they are named."""
    count, height, width = values.shape
    place = Affine(pixel, 0, 500_000, 0, -pixel, 5_000_000)
    profile = {"driver": "GTiff", "dtype": "float32", "crs": "EPSG:32633", "nodata": np.nan}
    size = {"count": count, "height": height, "width": width}
    with rasterio.open(path, "w", **profile, **size, transform=place) as out:
        out.write(values.astype(np.float32))
        out.descriptions, out.units = BANDS[:count], ("reflectance",) * count
        if day:
            out.update_tags(ACQUISITION_DATE=day)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a calibrated model, dates, a guide of the second, and fields."""
    path = tmp_path_factory.mktemp("series")
    model = calibrated_model(path / "model")
    assert model.calibration is not None
    classes = {EARLIER: 40, SAME: 50, LATER: 60}
    with_guides(model.calibration, classes, (1, 10)).save(path / "model")
    for number, day in enumerate(DAYS):
        noise = np.random.default_rng(number).uniform(0, 1, (4, SIDE, SIDE))
        values = (0.2 + 0.8 * (gaussian_filter(noise, (0, 2, 2)) - 0.5)).clip(0.02)
        if number == 0:
            values[:, :, :20] = np.nan  # no guide of later dates to the left
        write(path / f"{day}.tif", values)
        if number == 1:
            coarse = values.reshape(4, SIDE // 4, 4, SIDE // 4, 4).mean((2, 4))
            write(path / "guide.tif", coarse, 40, day)
    features = []
    for name, col, row, width, height in (
        ("guided", 30, 10, 20, 20),
        ("half", 15, 30, 10, 20),  # 5 columns without a guide of the first date
        ("outside", 2, 2, 12, 12),
        ("small", 40, 40, 4, 4),
    ):
        left, top = 500_000 + 10 * col, 5_000_000 - 10 * row
        right, bottom = left + 10 * width, top - 10 * height
        ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        shape = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": {"name": name}, "geometry": shape})
    crs = {"type": "name", "properties": {"name": "EPSG:32633"}}
    places = {"type": "FeatureCollection", "crs": crs, "features": features}
    (path / "fields.json").write_text(json.dumps(places))
    return path


#: Name of a field -> its rows and columns.
FIELDS = {
    "guided": (slice(10, 30), slice(30, 50)),
    "half": (slice(30, 50), slice(15, 25)),
    "outside": (slice(2, 14), slice(2, 14)),
    "small": (slice(40, 44), slice(40, 44)),
}


def command(folder: Path, output: Path, *more: str) -> list[str]:
    """Return a command for all dates."""
    words = ["series", f"{folder}/2024*.tif", "-o", str(output), "--date-pattern", "%Y%m%d"]
    words += ["--model", str(folder / "model"), "--interval", "0.9", "--precision", "fp32"]
    return [*words, "--places", str(folder / "fields.json"), "--quiet", *more]


def by_hand(
    model: Model, scene: Path, made: Path, at: Any, by: Any, guide: GuideClass | None
) -> tuple[float, float]:
    """Return the interval of the mean NDVI of a field, from the network's widths.

    Args:
        model: calibrated.
        scene: that was translated.
        made: its NDVI.
        at: rows and columns of the field.
        by: where the guide is valid.
        guide: its class.
    """
    with rasterio.open(scene) as file:
        colours = file.read((1, 2, 3))
    with rasterio.open(made) as file:
        ndvi = file.read(1)
    grid, names = Grid(SIDE, SIDE), BANDS[:3]
    window = Window(np.nan_to_num(colours), np.isfinite(ndvi), grid, names, "reflectance")
    channels = translate_window(uncertain_model(model, "reflectance", guide), window).values
    inside, known, below, above = np.zeros((SIDE, SIDE), bool), model.calibration, 0.0, 0.0
    inside[at] = np.abs(ndvi[at]) <= 1
    for first, of, part in ((3, None, inside & ~by), (7, guide, inside & by)):
        if part.any():
            side = 10 if part.sum() >= 100 else 1
            factor = known.factor("NDVI", "reflectance", 0.9, window=side, guide=of)[0]
            below += factor * channels[first][part].sum() / inside.sum()
            above += factor * channels[first + 1][part].sum() / inside.sum()
    mean = ndvi[inside].mean()
    return max(mean - below, -1), min(mean + above, 1)


@pytest.mark.parametrize("guide", ["earlier", "guide.tif"])
def test_each_date_has_the_intervals_of_its_own_guide(
    folder: Path, guide: str, tmp_path: Path
) -> None:
    earlier = guide == "earlier"
    given = guide if earlier else str(folder / guide)
    assert main(command(folder, tmp_path / "out", "--guide", given)) == 0
    table = pd.read_csv(tmp_path / "out" / "series.csv").set_index(["date", "place"])
    model, checked = load(folder / "model"), 0
    classes = (None, EARLIER, EARLIER) if earlier else (LATER, SAME, LATER)
    valid = np.full((SIDE, SIDE), not earlier)  # the first date has no earlier one
    for day, of in zip(DAYS, classes, strict=True):
        scene = folder / f"{day}.tif"
        made = next((tmp_path / "out" / "scenes").glob(f"{day}*_NDVI.tif"))
        date = f"{day[:4]}-{day[4:6]}-{day[6:]}"
        for name, at in FIELDS.items():
            row = table.loc[(date, name)]
            if not row["valid"]:
                assert np.isnan(row["lower"])
                continue
            wanted = by_hand(model, scene, made, at, valid, of)
            assert tuple(row[list(BOUNDS)]) == pytest.approx(wanted, abs=2e-4)
            assert wanted[1] - wanted[0] < 1.9  # else both were cut, and any factor would do
            checked += 1
        if earlier:
            with rasterio.open(scene) as file:
                valid = np.isfinite(file.read(1))
    assert checked == 11  # one field has no pixel on the first date


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--guide-method", "linear"), "--guide-method linear are not calibrated; those of resid"),
        (("--guide-method", "histogram"), "--guide-method histogram are not calibrated"),
        (("--guide-method", "difference"), "not calibrated for guides of another date"),
        (("--model", "plain"), "plain has no calibration of results with a guide"),
    ],
)
def test_what_no_date_could_have_is_refused_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: Any, words: str
) -> None:
    if "plain" in more:
        calibrated_model(tmp_path / "plain")
        more = ("--model", str(tmp_path / "plain"))
        words = words.replace("plain", "tiny")
    assert main(command(folder, tmp_path / "out", "--guide", "earlier", *more)) == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "\n" not in said
    assert not (tmp_path / "out" / "series.csv").exists()


def test_a_guide_without_the_own_bands_of_another_date_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with rasterio.open(folder / "guide.tif") as file:
        values = file.read()
    path = write(tmp_path / "nir.tif", values[3:], 40, DAYS[1])
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("nir",)
    words = command(folder, tmp_path / "out", "--guide", str(path))
    assert main(words) == 1  # the date of the guide is translated, the others fail
    assert "has not all bands that the model takes" in capsys.readouterr().err
    assert set(pd.read_csv(tmp_path / "out" / "series.csv")["date"]) == {"2024-05-11"}


def test_a_model_that_is_calibrated_with_guides_only(folder: Path, tmp_path: Path) -> None:
    """All fields lie on the guide: their intervals are those of the model with both."""
    calibrated_model(tmp_path / "model")
    known = load(folder / "model").calibration
    assert known is not None
    kept = tuple(f for f in known.factors if f.guide is not None)
    replace(known, factors=kept).save(tmp_path / "model")
    tables = []
    for name in (folder / "model", tmp_path / "model"):
        words = ["--guide", str(folder / "guide.tif"), "--model", str(name)]
        assert main(command(folder, tmp_path / name.parent.name, *words)) == 0
        tables.append(pd.read_csv(tmp_path / name.parent.name / "series.csv"))
    assert tables[1]["lower"].notna().sum() == 11
    for side in BOUNDS:
        np.testing.assert_array_equal(tables[0][side], tables[1][side])
    widths = FieldWidths("NDVI", lambda box: np.ones((3, 1, 1), np.float32), None, {1: 1.0})
    inside = widths.sums(Box(0, 0, 1, 1), np.ones((1, 1), bool))
    assert widths.bounds(0.2, inside) == pytest.approx((-0.8, 1.0))
    assert np.isnan(widths.bounds(0.2, inside[::-1])).all()  # a pixel lies beside the guide
