"""`evaluate --interval`: coverage, width and score by place, against plain NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from calibrated import BANDS, calibrated_model

from crossband.api import Model
from crossband.core.indices import compute
from crossband.errors import CrossbandError
from crossband.evaluation.evaluate import evaluate
from crossband.evaluation.place_intervals import ENDS, PlaceIntervals
from crossband.raster.grid import Grid, Window
from crossband.translate.options import IntervalOptions

pytestmark = pytest.mark.usefixtures("no_figures")
SIDE = 40


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """Return a calibrated model with random weights."""
    return calibrated_model(tmp_path / "model")


def write_pairs(folder: Path, count: int = 6, further: str = "") -> tuple[Path, list[Any]]:
    """Write scenes of four bands, two of each place, and their manifest."""
    rng = np.random.default_rng(0)
    lines, scenes = ["source,target,source_bands,target_bands,sensor,group" + further[:6]], []
    for n in range(count):
        path = folder / f"{n}.tif"
        values = rng.uniform(0.02, 0.4, (4, SIDE, SIDE)).astype(np.float32)
        values[:, :3, :3] = np.nan
        profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 4, "nodata": np.nan}
        with rasterio.open(path, "w", dtype="float32", **profile) as out:
            out.write(values)
        bands = '"red=1,green=2,blue=3",nir=4,reflectance'
        lines.append(f"{path},{path},{bands},place-{n // 2}{further[6:]}")
        scenes.append((path, values))
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return folder / "pairs.csv", scenes


@pytest.mark.slow
def test_the_report_has_what_the_files_say(model: Model, tmp_path: Path) -> None:
    manifest, scenes = write_pairs(tmp_path)
    report = evaluate([model], manifest, tmp_path / "report", interval=0.9, pictures=1)
    shares: dict[str, list[Any]] = {"nir": [], "NDVI": []}
    widths, inside = [], []
    for path, values in scenes:
        made = model.translate(path, bands=BANDS, sensor="reflectance", interval=0.9)
        low, high = (made.sel(band=f"nir_{side}").values for side in ("lower", "upper"))
        known = np.isfinite(low)
        inside.append(((low <= values[3]) & (values[3] <= high))[known])
        widths.append((high - low)[known])
        model.translate(
            path, tmp_path / "n.tif", bands=BANDS, sensor="reflectance", interval=0.9,
            indices=["NDVI"], overwrite=True,
        )  # fmt: skip
        with rasterio.open(tmp_path / "n_NDVI.interval.tif") as file:
            below, above = file.read()
        truth = compute("NDVI", {"red": values[0], "nir": values[3]})
        shares["NDVI"].append(((below <= truth) & (truth <= above))[known])
    shares["nir"] = inside
    record = report.metrics["models"][0]["intervals"]
    found = {(q["quantity"], q["window"]): q for q in record["quantities"]}
    for name, of in shares.items():
        places = [np.concatenate(of[n : n + 2]).mean() for n in range(0, len(of), 2)]
        assert found[name, 1]["coverage"] == pytest.approx(np.mean(places), abs=1e-3)
        assert found[name, 1]["n_places"] == 3
    assert found["nir", 1]["width"] == pytest.approx(np.mean(np.concatenate(widths)), rel=1e-4)
    assert set(found) == {(q, w) for q in ("nir", "NDVI") for w in (1, 10)}
    observed = [at["observed"] for at in found["nir", 1]["levels"]]
    assert observed == sorted(observed)
    text = (tmp_path / "report" / "index.html").read_text()
    assert 'id="intervals"' in text
    assert "width of the 90% interval" in text
    assert "90% intervals:" in (tmp_path / "report" / "table.txt").read_text()


def test_means_over_windows_and_classes_of_familiarity(model: Model) -> None:
    rng = np.random.default_rng(1)
    source = Window(
        rng.uniform(0.02, 0.4, (3, SIDE, SIDE)).astype(np.float32),
        np.ones((SIDE, SIDE), bool),
        Grid(SIDE, SIDE),
        tuple(BANDS),
        "reflectance",
    )
    judge = PlaceIntervals(model, IntervalOptions(0.8))
    made, further = judge.translate(source)
    truth = made.values + np.float32(0.02)
    target = Window(truth, source.mask, source.grid, ("nir",), "reflectance")
    judge.add({"group": "a", "sensor": "naip", "target_sensor": None}, source, target)
    record = judge.record()
    by = {(q["quantity"], q["window"]): q for q in record["quantities"]}
    known: Any = model.calibration
    factor = known.factor("nir", "reflectance", 0.8, window=10)[0]
    widths = further[:2].reshape(2, 4, 10, 4, 10).mean(axis=(2, 4)) * factor
    means = made.values[0].reshape(4, 10, 4, 10).mean(axis=(1, 3))
    low, high = np.clip(means - widths[0], 0, None), means + widths[1]
    inside = (low <= means + 0.02) & (means + 0.02 <= high)
    assert by["nir", 10]["coverage"] == pytest.approx(inside.mean())
    classes = next(c for c in record["familiarity"] if c["quantity"] == "nir")
    far = further[-1]
    assert sum(classes["n"]) == SIDE * SIDE
    assert sum(classes["n"][ENDS.index(1.0) + 1 :]) == (far >= 1).sum()
    assert np.nanmax(classes["mae"]) == pytest.approx(0.02, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("no calibration", "no calibration"),
        ("files", "judges models"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    model: Model, tmp_path: Path, change: str, words: str
) -> None:
    further = f",guide,{tmp_path / '0.tif'}" if change == "guide" else ""
    manifest, _ = write_pairs(tmp_path, 1, further)
    models, files = [model], list[Path]()
    if change == "no calibration":
        model.calibration = None
    if change == "files":
        models, files = [], [tmp_path]
    with pytest.raises(CrossbandError, match=words):
        evaluate(models, manifest, tmp_path / "r", predictions=files, interval=0.9)
    assert not (tmp_path / "r").exists()
