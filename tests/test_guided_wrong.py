"""Guides that lie: refused in one line, or warned of, whatever the method."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from scipy.ndimage import gaussian_filter

from crossband import load
from crossband.cli.demo import sample
from crossband.errors import BandError, CrossbandWarning, UnitError
from crossband.raster.open import open_scene
from crossband.translate.guide_file import check_numbers

SIDE, COARSER, SHIFT = 296, 8, 20
BANDS = ("red", "green", "blue", "nir")
Array = Any


def write(path: Path, values: Array, size: float) -> Path:
    """Write bands in reflectance."""
    count, height, width = values.shape
    profile = {"driver": "GTiff", "dtype": "float32", "count": count, "crs": "EPSG:32633"}
    profile |= {"height": height, "width": width, "transform": Affine(size, 0, 5e5, 0, -size, 5e6)}
    with rasterio.open(path, "w", **profile) as file:
        file.write(values.astype(np.float32))
        file.descriptions = BANDS[:count]
        file.units = ("reflectance",) * count
    return path


@pytest.fixture(scope="module")
def scene() -> Array:
    """Return the demo's scene: four bands in reflectance."""
    stored = sample()
    return np.stack([stored[name][:SIDE, :SIDE] * 1e-4 for name in BANDS])


@pytest.fixture(scope="module")
def guide(scene: Array) -> Array:
    """Return what a sensor with pixels eight times larger has seen of it."""
    side = SIDE // COARSER
    return scene.reshape(4, side, COARSER, side, COARSER).mean((2, 4))


def clouds(guide: Array) -> Array:
    """Return clouds that no mask knows of."""
    noise = np.random.default_rng(0).normal(size=guide.shape[1:])
    return np.stack([0.6 + 1.5 * gaussian_filter(noise, 3) * f for f in (1, 1.02, 1.05, 0.98)])


LIES: dict[str, tuple[Callable[[Array], Array], str, str]] = {
    "another place": (lambda g: g[:, ::-1, ::-1], "another place", "another place"),
    "moved": (lambda g: np.roll(g, SHIFT, 2), "shifted", "shifted"),
    "clouds": (clouds, "cloudy", "cloudy"),
    "red and nir swapped": (lambda g: g[[3, 1, 2, 0]], "Is its nir another band", "another band"),
    "red for nir": (lambda g: g[[0, 1, 2, 0]], "Is its nir another band", "another band"),
}


def test_dark_water_is_a_measurement(scene: Array, guide: Array, tmp_path: Path) -> None:
    """An atmospheric correction leaves numbers a little below 0 there."""
    path = write(tmp_path / "guide.tif", np.where(np.arange(37) > 3, guide * 0 - 0.002, guide), 80)
    with open_scene(path, needed=BANDS) as opened:
        check_numbers(opened, "it")


def test_bands_of_a_guide_that_are_named_must_be_there(
    scene: Array, guide: Array, tmp_path: Path
) -> None:
    """They were left out without a word, and an old guide was taken as one of the same date."""
    source = write(tmp_path / "source.tif", scene[:3], 10.0)
    path = write(tmp_path / "guide.tif", guide, 10.0 * COARSER)
    named: dict[str, Any] = {"nir": "nir", "red": "red", "green": "green"}
    for wrong in (9, "BLUEE"):
        with pytest.raises(BandError, match=str(wrong)):
            load("rgb2nir").translate(
                source, tmp_path / "out.tif", guide=path, guide_bands={**named, "blue": wrong}
            )
    load("rgb2nir").translate(
        source, tmp_path / "out.tif", guide=path, guide_bands={"nir": 4}, guide_days=0
    )


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("name", ["rgb2nir-guided", "rgb2nir"])
def test_a_guide_that_lies_is_warned_of(
    scene: Array, guide: Array, name: str, lie: str, tmp_path: Path
) -> None:
    change, of_network, of_residual = LIES[lie]
    words = of_network if name == "rgb2nir-guided" else of_residual
    source = write(tmp_path / "source.tif", scene[:3], 10.0)
    path = write(tmp_path / "guide.tif", change(guide), 10.0 * COARSER)
    with pytest.warns(CrossbandWarning, match=words):
        load(name).translate(source, tmp_path / "out.tif", guide=path)


@pytest.mark.parametrize("method", ["linear", "histogram"])
@pytest.mark.parametrize("lie", [None, *LIES])
def test_a_curve_of_a_guide_that_lies_is_warned_of(
    scene: Array, guide: Array, method: str, lie: str | None, tmp_path: Path
) -> None:
    """It was fitted without a word: no pixel of the curve's result shows where the guide lies."""
    source = write(tmp_path / "source.tif", scene[:3], 10.0)
    path = write(tmp_path / "guide.tif", LIES[lie][0](guide) if lie else guide, 10.0 * COARSER)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", CrossbandWarning)
        load("rgb2nir").translate(source, tmp_path / "o.tif", guide=path, guide_method=method)
    assert any("Is it of another place" in str(w.message) for w in heard) == (lie is not None)


@pytest.mark.parametrize("name", ["rgb2nir-guided", "rgb2nir"])
def test_the_right_guide_is_not_warned_of_and_helps(
    scene: Array, guide: Array, name: str, tmp_path: Path
) -> None:
    source = write(tmp_path / "source.tif", scene[:3], 10.0)
    path = write(tmp_path / "guide.tif", guide, 10.0 * COARSER)
    errors = []
    for made, given in ((load("rgb2nir"), None), (load(name), path)):
        with warnings.catch_warnings():
            warnings.simplefilter("error", CrossbandWarning)
            out = made.translate(source, tmp_path / f"{len(errors)}.tif", guide=given)
        with rasterio.open(out) as file:
            errors.append(float(np.abs(file.read(1) - scene[3]).mean()))
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("name", ["rgb2nir-guided", "rgb2nir"])
@pytest.mark.parametrize("factor", [100.0, 10_000.0])
def test_numbers_that_are_no_reflectance_are_refused(
    scene: Array, guide: Array, name: str, factor: float, tmp_path: Path
) -> None:
    source = write(tmp_path / "source.tif", scene[:3], 10.0)
    path = write(tmp_path / "guide.tif", guide * factor, 10.0 * COARSER)
    with pytest.raises(UnitError, match=r"half of its red is above .*, and reflectance is 0 to 2"):
        load(name).translate(source, tmp_path / "out.tif", guide=path)
    assert not (tmp_path / "out.tif").exists()


def test_a_guide_in_degrees_celsius_is_no_guide_in_kelvin(tmp_path: Path) -> None:
    """Kelvin begin at 0, so that 20 degrees were taken for 20 kelvin."""
    path = tmp_path / "guide.tif"
    for low, words in (
        (20.0, "half of its thermal is below .*, and kelvin is 150 to 500"),
        (293, ""),
    ):
        values = low + np.random.default_rng(0).uniform(0, 9, (1, 40, 40)).astype(np.float32)
        profile = {"driver": "GTiff", "count": 1, "height": 40, "width": 40, "dtype": "float32"}
        grid = {"crs": "EPSG:32633", "transform": Affine(100, 0, 400000, 0, -100, 5000000)}
        with rasterio.open(path, "w", **profile, **grid) as file:
            file.write(values)
            file.descriptions, file.units = ("thermal",), ("K",)
        with open_scene(path, needed=["thermal"]) as guide:
            if words:
                with pytest.raises(UnitError, match=words):
                    check_numbers(guide, "--guide g.tif")
            else:
                check_numbers(guide, "--guide g.tif")
