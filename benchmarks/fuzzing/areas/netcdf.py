"""NetCDF: a series of dates as a cube, right and changed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from scipy.io import netcdf_file

from fuzzing.case import RIGHT, Case, Draw, mutate_bytes
from fuzzing.scenes import LINE, NAMES, QUIET, Array, Scene, compare_values, read_result, translate


def case(draw: Draw) -> Case:
    """Draw a case."""
    rng = np.random.default_rng(draw.randrange(2**32))
    count, height, width = draw.randint(1, 3), draw.randint(2, 9), draw.randint(2, 9)
    values = rng.uniform(0.02, 0.6, (count, 4, height, width)).astype(np.float32)
    data = _cube(values, sorted(draw.sample(range(15000, 20000), count)))
    changed = draw.chance(0.7)
    files = {**LINE.files(), "cube.nc": mutate_bytes(draw, data) if changed else data}
    if draw.chance(0.4):  # as one picture
        more = draw.choice(([], ["--sensor", "reflectance", "--bands", "red=1,green=2,blue=3"]))
        return Case(translate("cube.nc", *more), files, made=("out.tif", "*.aux.xml"))
    arguments = ["series", "cube.nc", "-o", "out", *QUIET, "--no-scenes", "--sensor", "reflectance"]

    def check(folder: Path) -> str | None:
        return None if changed else _check(folder / "out" / "NDVI.tif", values)

    must = None if changed else RIGHT
    return Case(arguments, files, must, check, ("out", "out/*"), codes=(0, 1), kept=True)


def _check(path: Path, values: Array) -> str | None:
    """Hold the index of each date against the one of the model's answer."""
    for n, bands in enumerate(values):
        answer, error = LINE.answer(Scene(bands[:3]).physical()[0], "reflectance")
        red = bands[0].astype(np.float64)
        wanted = (answer - red) / (answer + red)
        allowed = 4 * (error + 1e-7) / np.abs(answer + red)
        found = read_result(path, n + 1)
        wrong = compare_values(found, wanted, allowed, np.ones(red.shape, bool))
        if wrong is not None:
            return f"date {n}: {wrong}"
    return None


def _cube(values: Array, days: list[int]) -> bytes:
    """Return the classic form: a variable for each band, and coordinates."""
    out = io.BytesIO()
    file = netcdf_file(out, "w")
    axes = {
        "time": np.array(days, float),
        "y": 5e6 - 5.0 - 10.0 * np.arange(values.shape[2]),
        "x": 5e5 + 5.0 + 10.0 * np.arange(values.shape[3]),
    }
    for name, places in axes.items():
        file.createDimension(name, len(places))
        file.createVariable(name, "d", (name,))[:] = places
    file.variables["time"].units = "days since 1970-01-01"
    for n, name in enumerate((*NAMES, "nir")):
        band = file.createVariable(name, "f", tuple(axes))
        band.units = "reflectance"
        band[:] = values[:, n]
    file.flush()
    return out.getvalue()
