"""Evaluation of pairs with guides: what the guide adds, beside what it gives alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from affine import Affine
from scipy.ndimage import gaussian_filter

from crossband import Model
from crossband.core.signature import Signature, UnitRange
from crossband.errors import ManifestError
from crossband.evaluation import evaluate as ev
from crossband.evaluation.guide_names import AGE, ENLARGED, LINE, RATIO, UNGUIDED
from crossband.evaluation.guides import enlarge
from crossband.metrics import MODEL
from crossband.networks.generators.per_pixel import PerPixelLinear
from crossband.raster.grid import Grid
from crossband.raster.open import open_scene
from crossband.raster.point_spread import read_as_seen

SIZE = 96
FINE = Affine(10, 0, 5e5, 0, -10, 5e6)
NAMES = ("red", "green", "blue", "nir")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*the correlation of its structure"),
    pytest.mark.usefixtures("no_figures"),
]


def smooth(seed, sizes=(0.7, 3, 12)):
    rng = np.random.default_rng(seed)
    out = sum(s * gaussian_filter(rng.normal(size=(SIZE, SIZE)), s) * 4 for s in sizes)
    return (0.05 + 0.4 * (out - out.min()) / np.ptp(out)).astype(np.float32)


def line(gain, constant, name="line"):
    network = PerPixelLinear()
    network.set_solution(torch.tensor([[0.0], [gain], [0.0], [constant]]))
    ranges = UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)])
    signature = Signature(list(NAMES[:3]), ["nir"], {"reflectance": ranges})
    return Model(network, signature, name=name, task="rgb2nir")


@pytest.fixture
def pairs(make_raster, tmp_path):
    """Write pairs, each with a guide 8 times coarser; near infrared is no line of the colours."""

    def make(count=2, by=8, **columns):
        rows = []
        for i in range(count):
            rgb = np.stack([smooth(3 * i + k) for k in range(3)])
            nir = 0.7 * rgb[1] + 0.3 * smooth(90 + i, (6, 20)) + 0.02 * i
            all_bands = np.concatenate([rgb, nir[None]])
            path = make_raster(f"{i}.tif", all_bands, names=NAMES, transform=FINE)
            with open_scene(path, needed=["nir"]) as scene:
                seen = read_as_seen(scene, scene.grid.shrink(by), by)
            values = np.where(seen.mask, seen.values, np.float32(np.nan))
            at = {"transform": FINE @ Affine.scale(by), "nodata": np.nan, "names": ("nir",)}
            make_raster(f"g{i}.tif", values, **at)
            rows.append({"source": f"{i}.tif", "target": f"{i}.tif", "guide": f"g{i}.tif"})
        table = pd.DataFrame(rows).assign(**columns)
        table.to_csv(tmp_path / "pairs.csv", index=False)
        return tmp_path / "pairs.csv"

    return make


def scores(report, record=None):
    record = record or report.metrics["models"][0]["sensors"][0]
    return {name: s["pixels"]["mae"] for name, s in record["scores"].items()}


@pytest.mark.slow
def test_a_guided_model_stands_beside_what_the_guide_gives_alone(pairs, tmp_path):
    days = {"datetime": ["2024-05-01", "2024-05-01"], "guide_datetime": ["2024-05-01", "20240601"]}
    model = line(0.7, 0.1)
    model.baselines = {"mean": line(0.0, 0.3, "mean")}
    report = ev.evaluate([model], pairs(**days), tmp_path / "out", precision="fp32", pictures=1)
    found = scores(report)
    assert list(found) == [MODEL, UNGUIDED, ENLARGED, LINE, "mean"]
    assert found[MODEL] < 0.6 * min(found[UNGUIDED], found[ENLARGED])
    assert found[LINE] < found["mean"]
    assert report.metrics["models"][0]["guided"] == "residual"
    # The rows beside it, by hand.
    errors = {UNGUIDED: [], LINE: [], MODEL: []}
    for i in range(2):
        with rasterio.open(tmp_path / f"{i}.tif") as file:
            *rgb, nir = file.read()
        errors[UNGUIDED].append(np.abs(0.7 * rgb[1] + 0.1 - nir))
        made = model.translate(
            tmp_path / f"{i}.tif", tmp_path / "made.tif", guide=tmp_path / f"g{i}.tif",
            precision="fp32", overwrite=True,
        )  # fmt: skip
        with rasterio.open(made) as file:
            errors[MODEL].append(np.abs(file.read(1) - nir))
        with open_scene(tmp_path / f"{i}.tif", needed=NAMES[:3]) as scene:
            coarse = read_as_seen(scene, scene.grid.shrink(8), 8).values.reshape(3, -1)
        with rasterio.open(tmp_path / f"g{i}.tif") as file:
            measured = file.read(1).ravel()
        x = np.vstack([coarse, np.ones_like(measured)]).T
        weights = np.linalg.lstsq(x, measured, rcond=None)[0]
        fit = np.tensordot(weights[:3], np.stack(rgb), axes=1) + weights[3]
        errors[LINE].append(np.abs(fit - nir))
    for name, both in errors.items():
        assert found[name] == pytest.approx(np.mean(both), rel=1e-3)
    breakdowns = {b["column"]: b["values"] for b in report.metrics["models"][0]["breakdowns"]}
    assert [v["value"] for v in breakdowns[AGE]] == ["0 days", "9 to 32 days"]
    assert [v["value"] for v in breakdowns[RATIO]] == ["6 to 12"]
    assert scores(report, breakdowns[RATIO][0]) == found
    text = (tmp_path / "out" / "table.txt").read_text()
    page = (tmp_path / "out" / "index.html").read_text()
    for words in (f"by {AGE}", f"by {RATIO}", "9 to 32 days", ENLARGED, LINE):
        assert words in text
        assert words in page
    assert "== line, guided ==" in text
    for name in ("output", UNGUIDED, ENLARGED):
        assert page.count(f'data-key="{name}"') == 2
    assert set(report.per_image["by"]) == set(found)
    assert report.per_image[AGE].iloc[-1] == "9 to 32 days"


def test_without_a_guide_there_is_nothing_about_guides(pairs, tmp_path):
    path = pairs(guide=[None, None])
    report = ev.evaluate([line(0.7, 0.1)], path, tmp_path / "out", precision="fp32", pictures=0)
    assert list(scores(report)) == [MODEL]
    assert "n_unguided" not in report.metrics["manifest"]
    for name in ("table.txt", "index.html", "metrics.json", "per_image.csv"):
        words = (tmp_path / "out" / name).read_text().replace(str(tmp_path), "")
        assert "guide" not in words


@pytest.mark.slow
def test_pairs_without_a_guide_are_left_out_and_counted(pairs, tmp_path):
    path = pairs(3, guide=["g0.tif", None, "g2.tif"], datetime="2024-05-01")
    report = ev.evaluate([line(0.7, 0.1)], path, tmp_path / "out", precision="fp32", pictures=0)
    assert (report.metrics["manifest"]["n_rows"], report.metrics["manifest"]["n_unguided"]) == (
        2,
        1,
    )
    assert "left out for want of a guide: 1 pair" in ev.report_text(report)
    ages = report.metrics["models"][0]["breakdowns"][0]["values"]
    assert [v["value"] for v in ages] == ["unknown"]  # the guides do not say when


@pytest.mark.slow
def test_files_stand_beside_the_guide_too(pairs, tmp_path):
    path = pairs(source_bands="red=1,green=2,blue=3", target_bands="nir=4")
    (tmp_path / "theirs").mkdir()
    for i in range(2):
        line(0.7, 0.1).translate(
            tmp_path / f"{i}.tif", tmp_path / f"theirs/{i}.tif", precision="fp32"
        )
    report = ev.evaluate([], path, tmp_path / "out", predictions=[tmp_path / "theirs"], pictures=0)
    assert list(scores(report)) == [MODEL, ENLARGED, LINE]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"guide": ["g0.tif", "far.tif"]}, "row 2: guide .*far.tif.*do not overlap"),
        ({"guide": ["g0.tif", "kelvin.tif"]}, "row 2: .*kelvin.tif: it is kelvin, .*reflectance"),
        ({"guide": ["g0.tif", "red.tif"]}, "row 2: .*red.tif.*nir"),
        ({"guide_sensor": "naips"}, "row 1: .*naips"),
        ({"datetime": "May"}, "row 1: datetime 'May' is no date"),
    ],
)
def test_a_guide_that_does_not_fit_names_its_row(pairs, make_raster, tmp_path, change, words):
    coarse = np.full((1, 12, 12), 0.3, np.float32)
    at = {"names": ("nir",), "transform": FINE @ Affine.scale(8)}
    make_raster("far.tif", coarse, **at | {"transform": FINE @ Affine.translation(9000, 0)})
    make_raster("kelvin.tif", coarse, **at, unit="K")
    make_raster("red.tif", coarse, **at | {"names": ("red",)})
    with pytest.raises(ManifestError, match=words) as error:
        ev.evaluate([line(0.7, 0.1)], pairs(**change), tmp_path / "out", pictures=0)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("by", [8, 0.25])
def test_an_enlarged_guide_has_no_holes(make_raster, by):
    """A coarser one is filled before it is enlarged, a finer one is averaged."""
    side = int(SIZE / by)
    values = np.tile(np.linspace(0.1, 0.5, side, dtype=np.float32), (1, side, 1))
    hole = side // 3, side // 3 + 2
    values[:, slice(*hole), slice(*hole)] = np.nan
    path = make_raster(
        "g.tif", values, names=("nir",), nodata=np.nan, transform=FINE @ Affine.scale(by)
    )
    with open_scene(path, needed=["nir"]) as guide:
        found = enlarge(guide, Grid(SIZE, SIZE, FINE, guide.grid.crs), by)
    assert found.shape == (1, SIZE, SIZE)
    expected = np.interp(np.arange(SIZE) + 0.5, (np.arange(side) + 0.5) * by, values[0, 0])
    np.testing.assert_allclose(found[0].mean(axis=0), expected, atol=0.01)
