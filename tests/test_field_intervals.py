"""`series --interval`: the mean of each field has an interval of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import rioxarray
import xarray as xr
from affine import Affine
from calibrated import calibrated_model

from crossband.api import Model
from crossband.cli.main import main
from crossband.errors import CrossbandError
from crossband.model.uncertain import uncertain_model
from crossband.raster.grid import Grid, Window
from crossband.series.measure import BOUNDS
from crossband.translate.window import translate_window

SIDE = 40
NAMES = ("red", "green", "blue")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Return a scene with named bands in a projection."""
    values = np.random.default_rng(0).uniform(0.02, 0.4, (3, SIDE, SIDE)).astype(np.float32)
    path = tmp_path / "20240501.tif"
    profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 3, "dtype": "float32"}
    transform = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    with rasterio.open(path, "w", crs="EPSG:32633", transform=transform, **profile) as out:
        out.write(values)
        out.descriptions = NAMES
    return path


def fields(folder: Path) -> Path:
    """Write a field of 20 x 20 pixels, one of 5 x 5, and a point."""

    def square(name: str, col: int, row: int, side: int) -> dict[str, Any]:
        left, top = 500_000 + 10 * col, 5_000_000 - 10 * row
        right, bottom = left + 10 * side, top - 10 * side
        ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        return {"type": "Feature", "properties": {"name": name}, "geometry": geometry}

    point = {"type": "Point", "coordinates": [500_005, 4_999_995]}
    places = [square("large", 10, 10, 20), square("small", 0, 0, 5)]
    places.append({"type": "Feature", "properties": {"name": "point"}, "geometry": point})
    crs = {"type": "name", "properties": {"name": "EPSG:32633"}}
    path = folder / "fields.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": places}))
    return path


@pytest.mark.slow
def test_the_mean_of_a_field_has_the_factor_of_its_size(scene: Path, tmp_path: Path) -> None:
    model = calibrated_model(tmp_path / "model")
    known: Any = model.calibration
    found = series(model, scene, tmp_path, interval=0.9)
    with rasterio.open(scene) as file:
        values = file.read()
    window = Window(values, np.ones((SIDE, SIDE), bool), Grid(SIDE, SIDE), NAMES, "reflectance")
    made = translate_window(uncertain_model(model, "reflectance"), window)
    ndvi = (made.values[0] - values[0]) / (made.values[0] + values[0])
    for name, side, at in (
        ("large", 10, (slice(10, 30), slice(10, 30))),
        ("small", 1, (slice(0, 5), slice(0, 5))),
        ("point", 1, (slice(0, 1), slice(0, 1))),
    ):
        factor = known.factor("NDVI", "reflectance", 0.9, window=side)[0]
        below, above = (made.values[n][at].mean() * factor for n in (3, 4))
        mean = ndvi[at].mean()
        low, high = max(mean - below, -1), min(mean + above, 1)
        assert found.loc[name, "lower"] == pytest.approx(low, abs=1e-4)
        assert found.loc[name, "upper"] == pytest.approx(high, abs=1e-4)
    # The bounds of pixels are clipped at 1; those of a mean are not made of them.
    assert not set(BOUNDS) & set(series(model, scene, tmp_path).columns)


def series(model: Model, scene: Path, folder: Path, **how: Any) -> pd.DataFrame:
    """Return the table of a series of one date, by place."""
    table = model.series(
        [scene], dates=["2024-05-01"], places=fields(folder), sensor="reflectance", **how
    )
    assert isinstance(table, pd.DataFrame)
    return table.set_index("place")


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, {"x": 25}])
def test_a_cube_has_the_intervals_of_its_files(
    scene: Path, tmp_path: Path, chunks: dict[str, int] | None
) -> None:
    model = calibrated_model(tmp_path / "model")
    image = rioxarray.open_rasterio(scene)
    assert isinstance(image, xr.DataArray)
    later = (image * np.float32(1.1)).assign_attrs(image.attrs)
    cube = xr.concat([image, later], "time", combine_attrs="override").assign_coords(
        time=pd.DatetimeIndex(["2024-05-01", "2024-06-01"]), band=list(NAMES)
    )
    cube = cube if chunks is None else cube.chunk(chunks)
    table = model.series(cube, places=fields(tmp_path), sensor="reflectance", interval=0.9)
    assert isinstance(table, pd.DataFrame)
    first = table[table["date"] == "2024-05-01"].set_index("place")
    known = series(model, scene, tmp_path, interval=0.9)
    columns = ["synthetic", "valid", *BOUNDS]
    pd.testing.assert_frame_equal(first[columns], known[columns], rtol=1e-5)
    assert len(table) == 2 * len(known)
    assert not table["lower"].isna().any()
    stricter = model.series(
        cube, places=fields(tmp_path), sensor="reflectance", interval=0.9, promise="places"
    )
    assert (stricter["upper"] > table["upper"]).all()


def test_what_cannot_have_intervals_is_refused(scene: Path, tmp_path: Path) -> None:
    model = calibrated_model(tmp_path / "model")
    with pytest.raises(CrossbandError, match="no calibration of results with a guide"):
        series(model, scene, tmp_path, interval=0.9, guide="earlier")
    with pytest.raises(CrossbandError, match="EVI of a reflectance source was not calibrated"):
        series(model, scene, tmp_path, index="EVI", interval=0.9)
    with pytest.raises(CrossbandError, match="interval: maps have none"):
        model.series([scene], dates=["2024-05-01"], sensor="reflectance", interval=0.9)
    cube = xr.DataArray(np.zeros((1, 3, 8, 8)), dims=("time", "band", "y", "x"))
    with pytest.raises(CrossbandError, match="interval: maps have none"):
        model.series(cube, interval=0.9)
    with pytest.raises(CrossbandError, match="EVI of a reflectance source was not calibrated"):
        model.series(cube, "EVI", places=fields(tmp_path), sensor="reflectance", interval=0.9)
    model.calibration = None
    with pytest.raises(CrossbandError, match="no calibration"):
        series(model, scene, tmp_path, interval=0.9)


@pytest.mark.slow
def test_the_command_writes_bounds_and_removes_the_widths(scene: Path, tmp_path: Path) -> None:
    calibrated_model(tmp_path / "model")
    command = ["series", str(scene), "-o", str(tmp_path / "out"), "--date-pattern", "%Y%m%d"]
    command += ["--model", str(tmp_path / "model"), "--sensor", "reflectance", "--quiet"]
    assert main([*command, "--interval", "0.9", "--no-scenes"]) == 0
    table = pd.read_csv(tmp_path / "out" / "series.csv")
    assert list(table.columns[-2:]) == list(BOUNDS)
    assert (table["lower"] < table["synthetic"]).all()
    assert not list((tmp_path / "out").rglob("*.widths.tif"))
