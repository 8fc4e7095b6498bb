"""Series whose dates are guided by earlier measured ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from conftest import random_values

import crossband
from crossband import Model
from crossband.cli import main as cli
from crossband.errors import CrossbandError, InputError, UpToDate
from crossband.jobs import summary

SIZE = 48
NAMES = ("red", "green", "blue", "nir")
DAYS = ("20240501", "20240511", "20240521", "20240610")
pytestmark = pytest.mark.filterwarnings("ignore:.*the correlation of its structure")


@pytest.fixture
def model(tiny_model) -> Model:
    return crossband.load(tiny_model)


@pytest.fixture
def images():
    """Return four dates of one place: clear, clouds to the left, all cloud, clear."""
    base = random_values(4, SIZE, SIZE)
    out = [0.7 * base + 0.3 * random_values(4, SIZE, SIZE, seed=n) for n in range(1, 5)]
    out[1][:, :, :20] = np.nan
    out[2][:] = np.nan
    return [image.astype(np.float32) for image in out]


def guides(folder):
    """Return day -> name of the guide, of the scenes of a series."""
    lines = summary.read(folder / "scenes").values()
    return {
        line.output[:8]: line.guide and line.guide.rsplit("/", 1)[-1]
        for line in lines
        if line.status != "failed"
    }


def pixels(path):
    with rasterio.open(path) as file:
        return file.read(), file.tags()


def test_each_date_is_guided_by_the_last_one_that_was_measured(
    make_raster, images, model, tmp_path, capsys, tiny_model
):
    """A date that is all cloud guides none; the first one has no guide, which is said."""
    for day, image in zip(DAYS, images, strict=True):
        make_raster(f"{day}.tif", image, names=NAMES, nodata=np.nan)
    words = ["series", f"{tmp_path}/2024*.tif", "-o", f"{tmp_path / 'out'}", "--precision", "fp32"]
    words += ["--date-pattern", "%Y%m%d", "--model", str(tiny_model), "--guide", "earlier"]
    assert cli.main(words) == 0
    said, warned = capsys.readouterr()
    assert "not guided, as no earlier date was measured: 20240501" in said
    assert "changes between dates" not in warned
    assert guides(tmp_path / "out") == {
        "20240501": None, "20240511": "20240501.tif", "20240610": "20240511.tif"
    }  # fmt: skip
    alone = model.translate(
        tmp_path / "20240610.tif", tmp_path / "alone.tif", guide=tmp_path / "20240511.tif",
        precision="fp32",
    )  # fmt: skip
    made, tags = pixels(next((tmp_path / "out" / "scenes").glob("20240610*_nir.tif")))
    np.testing.assert_array_equal(made, pixels(alone)[0])
    assert tags["CROSSBAND_GUIDED"].startswith("20240511.tif, residual, ")
    assert cli.main(words) == 0
    assert "exists already, made from the same" in capsys.readouterr().err
    bare = [*words[:-2], "-o", str(tmp_path / "bare")]
    assert cli.main(bare) == 0
    said, warned = capsys.readouterr()
    assert "without a guide, changes between dates are not measured" in warned
    error = pd.read_csv(tmp_path / "bare" / "series.csv")["difference"].dropna()
    assert f"and bias {error.mean():+.3f} on {len(error)}" in said


@pytest.mark.slow
def test_the_next_date_is_guided_by_those_that_were_there(make_raster, images, model, tmp_path):
    for day, image in zip(DAYS, images, strict=True):
        make_raster(f"{day}.tif", image, names=NAMES, nodata=np.nan)
    dates = {"date_pattern": "%Y%m%d", "stacked": False, "drawn": False}
    paths = [tmp_path / f"{day}.tif" for day in DAYS]
    options = {"output": tmp_path / "out", "guide": "earlier", "precision": "fp32", **dates}
    model.series(paths[:2], places=[], **options)
    model.series(paths[:4], places=[], overwrite=True, **options)
    lines = [line.status for line in summary.read(tmp_path / "out" / "scenes").values()]
    assert sorted(lines) == ["done", "failed", "skipped", "skipped"]  # the cloudy date is masked


def test_the_target_of_a_row_guides_with_its_source(make_raster, images, model, tmp_path):
    """As one file with all bands does."""
    rows = []
    for day, image in zip(DAYS[:2], images[::3], strict=True):
        make_raster(f"rgb{day}.tif", image[:3])
        make_raster(f"nir{day}.tif", image[3:], names=("nir",))
        make_raster(f"all{day}.tif", image, names=NAMES)
        rows.append({"source": f"rgb{day}.tif", "target": f"nir{day}.tif", "date": day})
    pd.DataFrame(rows).to_csv(tmp_path / "list.csv", index=False)
    options = {"drawn": False, "output": tmp_path / "out", "precision": "fp32"}
    model.series(tmp_path / "list.csv", guide="earlier", **options)
    made, tags = pixels(next((tmp_path / "out" / "scenes").glob("20240511*_nir.tif")))
    assert tags["CROSSBAND_GUIDED"].startswith("nir20240501.tif, residual, ")
    alone = model.translate(
        tmp_path / "rgb20240511.tif", tmp_path / "alone.tif", guide=tmp_path / "all20240501.tif",
        precision="fp32",
    )  # fmt: skip
    np.testing.assert_array_equal(made, pixels(alone)[0])
    with pytest.raises(UpToDate):
        model.series(tmp_path / "list.csv", guide="earlier", **options)
    make_raster("nir20240501.tif", images[3][3:] * 0.5, names=("nir",))
    with pytest.raises(CrossbandError, match="exists already"):  # the guide has changed
        model.series(tmp_path / "list.csv", guide="earlier", **options)


@pytest.mark.slow
def test_dates_of_a_cube(images, model, tmp_path):
    times = pd.to_datetime([f"{d[:4]}-{d[4:6]}-{d[6:]}" for d in DAYS])
    x, y = 500_005.0 + 10 * np.arange(SIZE), 4_999_995.0 - 10 * np.arange(SIZE)
    cube = xr.DataArray(
        np.stack(images), dims=("time", "band", "y", "x"),
        coords={"time": times, "band": list(NAMES), "y": y, "x": x},
        attrs={"units": "reflectance"}, name="s2",
    ).rio.write_crs("EPSG:32633")  # fmt: skip
    cube.to_netcdf(tmp_path / "cube.nc", engine="scipy")
    options = {"drawn": False, "output": tmp_path / "out", "precision": "fp32", "guide": "earlier"}
    model.series(tmp_path / "cube.nc", **options)
    assert guides(tmp_path / "out") == {
        "20240501": None, "20240511": "cube_20240501.tif", "20240610": "cube_20240511.tif"
    }  # fmt: skip
    with pytest.raises(UpToDate):
        model.series(tmp_path / "cube.nc", **options)
    with pytest.raises(CrossbandError, match="takes no 'guide'"):
        model.series(cube, guide="earlier")


@pytest.mark.slow
def test_a_folder_and_a_column_hold_for_series_too(make_raster, images, model, tmp_path):
    (tmp_path / "guides").mkdir()
    for day, image in zip(DAYS, images, strict=True):
        make_raster(f"{day}.tif", images[0][:3])
        path = make_raster(f"guides/g{day}.tif", image[3:], names=("nir",), nodata=np.nan)
        with rasterio.open(path, "r+") as file:
            file.update_tags(ACQUISITION_DATE=day)
    (tmp_path / "guides" / "g20240521.tif").unlink()
    paths = [tmp_path / f"{day}.tif" for day in DAYS[1:3]]
    options = {"date_pattern": "%Y%m%d", "drawn": False, "precision": "fp32"}
    model.series(paths, guide=tmp_path / "guides", output=tmp_path / "out", **options)
    assert guides(tmp_path / "out") == {"20240511": "g20240511.tif", "20240521": "g20240511.tif"}
    rows = "source,date,guide\n20240511.tif,20240511,guides/g20240610.tif\n20240521.tif,20240521,\n"
    (tmp_path / "list.csv").write_text(rows)
    model.series(tmp_path / "list.csv", output=tmp_path / "two", drawn=False, precision="fp32")
    assert guides(tmp_path / "two") == {"20240511": "g20240610.tif", "20240521": None}


def test_dates_that_none_can_guide(make_raster, images, model, tmp_path):
    paths = [make_raster(f"{day}.tif", images[0][:3]) for day in DAYS[:2]]
    options = {"date_pattern": "%Y%m%d", "drawn": False, "output": tmp_path / "out"}
    with pytest.raises(InputError, match="no date has another before it on which nir was measured"):
        model.series(paths, guide="earlier", **options)
    with pytest.raises(CrossbandError, match="--guide-sensor is for a raster"):
        model.series(paths, guide="earlier", guide_sensor="naip", **options)
    with pytest.raises(CrossbandError, match="--guide-method linar"):
        model.series(paths, guide="earlier", guide_method="linar", **options)
