"""Intervals of a model that sharpens the bands of its guide, as `sentinel-2-sharpen` does."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from scipy.ndimage import gaussian_filter
from tiers import slow

from crossband import load
from crossband.api import Model
from crossband.cli.main import main
from crossband.core.signature import Signature
from crossband.errors import CrossbandError
from crossband.evaluation import calibrate, fit_familiarity, fit_widths
from crossband.evaluation.evaluate import evaluate
from crossband.networks.generators.guided_unet import GuidedUNet

FINE, COARSE = ["red", "green", "nir"], ["rededge071", "swir16"]
PLACES, SIDE = 10, 48


def write(path: Path, values: Any, bands: list[str], pixel: float) -> Path:
    """Write bands in reflectance."""
    count, height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=count, height=height, width=width,
        crs="EPSG:32632", nodata=-9.0, transform=Affine(pixel, 0, 5e5, 0, -pixel, 5e6),
    ) as out:  # fmt: skip
        out.write(values.astype(np.float32))
        out.descriptions, out.units = bands, ("reflectance",) * count
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, ten places with guides, and the calibrated model."""
    path = tmp_path_factory.mktemp("sharpen")
    torch.manual_seed(0)
    network = GuidedUNet(3, 2, guide=2, carried=[0, 1], width=6, depth=1, hidden=4)
    ends = [[0.0, 0.5]]
    unit = {"source": ends * 3, "target": ends * 2, "guide": ends * 2, "target_unit": None}
    bands = {"source": FINE, "target": COARSE, "guide": COARSE}
    signature = Signature.from_json({**bands, "units": {"reflectance": unit}})
    Model(network, signature, name="tiny", task="super-resolution").save(path / "plain")
    lines = ["source,target,sensor,group,date,guide,guide_sensor,guide_datetime"]
    for n in range(PLACES):
        values = np.random.default_rng(n).uniform(0, 1, (5, SIDE, SIDE))
        values = (0.2 + 1.2 * (gaussian_filter(values, (0, 2, 2)) - 0.5)).clip(0.02)
        low = values[3:].reshape(2, SIDE // 2, 2, SIDE // 2, 2).mean((2, 4))
        if n == 0:
            low[:, 8:16, 8:16] = -9.0  # a cloud
        files = [
            write(path / f"{n}.tif", values[:3], FINE, 10),
            write(path / f"{n}-true.tif", values[3:], COARSE, 10),
            write(path / f"{n}-guide.tif", low, COARSE, 20),
        ]
        source, target, guide = map(str, files)
        lines.append(
            f"{source},{target},reflectance,place-{n},2024-05-01,{guide},reflectance,2024-05-01"
        )
    (path / "pairs.csv").write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fit_widths, "STEPS", 20)
        patched.setattr(fit_familiarity, "CENTRES", 4)
        patched.setattr(fit_familiarity, "STEPS", 5)
        patched.setattr(calibrate, "FOLDS", 2)
        command = ["calibrate", str(path / "plain"), "--manifest", str(path / "pairs.csv")]
        assert main([*command, "-o", str(path / "model")]) == 0
    return path


def read(path: Path) -> tuple[Any, Any]:
    """Return bands, by their names, and tags of a file."""
    with rasterio.open(path) as file:
        return dict(zip(file.descriptions, file.read(), strict=True)), file.tags()


def translate(folder: Path, out: Path, **options: Any) -> tuple[Any, Any, dict[str, str]]:
    """Translate the first place with its guide; return result, bounds and tags."""
    given = {"interval": 0.9, "dtype": "float32", "precision": "fp32"} | options
    load(folder / "model").translate(folder / "0.tif", out, guide=folder / "0-guide.tif", **given)
    bounds, tags = read(out.with_suffix(".interval.tif"))
    return read(out)[0], bounds, tags


def test_each_band_has_an_interval_by_guides_of_its_class(folder: Path, tmp_path: Path) -> None:
    """The files have no dates: it is said that the guide is taken for one of the same date."""
    with pytest.warns(UserWarning, match="that of a guide of the same date. When guide or scene"):
        made, bounds, tags = translate(folder, tmp_path / "a.tif")
    assert list(bounds) == [f"{band}_{side}" for band in COARSE for side in ("lower", "upper")]
    said = json.loads(tags["CROSSBAND_INTERVAL_CALIBRATION"])
    assert list(said) == COARSE
    for band in COARSE:
        assert said[band]["places"] == PLACES
        assert said[band]["guide"] == "guide's pixels 1.5 to 3 times larger, the same date"
        low, high = bounds[f"{band}_lower"], bounds[f"{band}_upper"]
        inside = (low <= made[band]) & (made[band] <= high)
        assert np.array_equal(inside, np.isfinite(low))
        assert inside.mean() > 0.2
    tiled = translate(folder, tmp_path / "b.tif", tile=32, guide_days=0)[1]
    for name, values in translate(folder, tmp_path / "c.tif", guide_days=0)[1].items():
        np.testing.assert_allclose(values, tiled[name], atol=2e-6)


def test_there_is_no_interval_where_the_guide_is_invalid(folder: Path, tmp_path: Path) -> None:
    """What is made in a hole depends on what is around it, which no calibration knows."""
    made, bounds, _ = translate(folder, tmp_path / "a.tif", guide_days=0)
    true, _ = read(folder / "0-true.tif")
    cloud = np.zeros((SIDE, SIDE), bool)
    cloud[16:32, 16:32] = True
    for band in COARSE:
        low, high = bounds[f"{band}_lower"], bounds[f"{band}_upper"]
        known = np.isfinite(low)
        assert np.array_equal(known, np.isfinite(high))
        assert not known[cloud].any()
        reach = load(folder / "model").network.margin
        assert reach is not None
        far = np.ones((SIDE, SIDE), bool)
        far[max(14 - reach, 0) : 34 + reach, max(14 - reach, 0) : 34 + reach] = False
        near = np.zeros((SIDE, SIDE), bool)
        near[16 - reach : 32 + reach, 16 - reach : 32 + reach] = True
        assert not known[near].any()
        assert known[far].all()
        assert far.any()
        assert np.isfinite(made[band]).all()  # the result itself has no hole
        inside = (low <= true[band]) & (true[band] <= high)
        assert inside[known].mean() > 0.8


def test_a_guide_of_another_date_is_warned_of(folder: Path, tmp_path: Path) -> None:
    """The model was judged with guides of the same date, and this one cannot show what changed."""
    model, guide = load(folder / "model"), folder / "0-guide.tif"
    with pytest.warns(UserWarning, match="5 days lie between it and the scene, and tiny"):
        model.translate(folder / "0.tif", tmp_path / "a.tif", guide=guide, guide_days=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.translate(folder / "0.tif", tmp_path / "b.tif", guide=guide, guide_days=0)


def test_calibrate_needs_guides(folder: Path, tmp_path: Path, capsys: Any) -> None:
    rows = [line.rsplit(",", 3)[0] for line in (folder / "pairs.csv").read_text().splitlines()]
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n")
    command = ["calibrate", str(folder / "plain"), "--manifest", str(tmp_path / "pairs.csv")]
    assert main([*command, "-o", str(tmp_path / "model")]) == 2
    assert "tiny takes a guide, and no pair has one to use" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"guide_days": 3}, "another date.* were not calibrated"),
        ({"guide_days": 0, "interval": 0.95}, "10 places of rededge071 .* promise at most 0.9 "),
        ({"guide_days": 0, "indices": ["NDMI"]}, "NDMI of a reflectance source was not calibrated"),
    ],
)
def test_what_was_not_calibrated_is_refused(
    folder: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(CrossbandError, match=words):
        translate(folder, tmp_path / "a.tif", **options)
    assert not list(tmp_path.iterdir())


def test_an_index_without_a_made_band_is_refused(folder: Path, tmp_path: Path, capsys: Any) -> None:
    command = ["calibrate", str(folder / "plain"), "--manifest", str(folder / "pairs.csv")]
    assert main([*command, "--index", "NDVI", "-o", str(tmp_path / "model")]) == 2
    said = capsys.readouterr().err
    assert "--index NDVI: no pair has an error of it: tiny makes none of its bands" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "model").exists()


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("dates", [True, slow(False)])
def test_evaluate_judges_them(folder: Path, tmp_path: Path, dates: bool) -> None:
    manifest = folder / "pairs.csv"
    if not dates:
        manifest = tmp_path / "pairs.csv"
        manifest.write_text((folder / "pairs.csv").read_text().replace("2024-05-01", ""))
    report = evaluate([folder / "model"], manifest, tmp_path / "report", interval=0.9, pictures=0)
    about = report.metrics["models"][0]["intervals"]
    assert about["left_out"] == []
    assert {q["quantity"] for q in about["quantities"]} == set(COARSE)
    assert all(q["coverage"] >= 0.85 for q in about["quantities"])
