"""The demo: translate a real Sentinel-2 scene and compare its near infrared with the truth.

The scene is the 300 x 300 sample in the spyndex package (reflectance x 10000; bands B02, B03, B04,
B08; the order of its dims band, x, y is kept as rows and columns). No model was trained on it. It
has no coordinates and no date, so none are written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossband.core.atomic import write_text_atomically
from crossband.core.sensors import REFLECTANCE
from crossband.core.version import __version__
from crossband.errors import CrossbandError, ModelError
from crossband.raster.grid import Grid, Window
from crossband.translate.options import TileOptions

if TYPE_CHECKING:
    from crossband import Model

SCENE, NIR, NDVI = "scene.tif", "nir.tif", "ndvi.tif"
PICTURE, METRICS = "comparison.png", "metrics.json"
#: Level of the intervals.
LEVEL = 0.9
#: Columns of the table, and the order of its rows.
COLUMNS = ("mae", "rmse", "psnr", "ssim", "r", "NDVI_mae")
ORDER = ("linear", "mlp", "mean")
_TITLES = {"linear": "per-pixel linear", "mlp": "per-pixel MLP", "mean": "mean"}
_SCALE = 1e-4
_SOURCE = ("red", "green", "blue")


def run(
    output: str | Path,
    model: Model | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
) -> dict[str, Any]:
    """Translate the demo scene to near infrared and NDVI, and compare both with the true values.

    Writes `scene.tif` (red, green, blue), `nir.tif`, `ndvi.tif`, `comparison.png`, `metrics.json`
    into the folder, replacing files of these names. Of a calibrated model also the 90 % intervals:
    `nir.interval.tif`, `ndvi.interval.tif`. Needs no network.

    Args:
        output: folder, created if it does not exist.
        model: takes red, green, blue in reflectance and gives nir; the bundled `rgb2nir` where
            None.
        device: auto, cpu, cuda, mps.
        precision: auto, fp32, bf16; of the model, while baselines always run in fp32.

    Returns:
        The content of metrics.json.
    """
    from crossband import load
    from crossband.evaluation.evaluation import score_windows
    from crossband.evaluation.report.pictures import draw_comparison
    from crossband.raster.open import open_scene
    from crossband.raster.output_paths import make_folder
    from crossband.translate.window import translate_window

    model = load("rgb2nir") if model is None else model
    _check(model)
    output = Path(output)
    make_folder(output)
    stored = sample()
    write_scene(output / SCENE, stored)
    level = LEVEL if _is_calibrated(model) else None
    model.translate(
        output / SCENE,
        output / NIR,
        indices={"NDVI": output / NDVI},
        device=device,
        precision=precision,
        interval=level,
        overwrite=True,
    )
    with open_scene(output / SCENE, needed=model.signature.source) as scene:
        source = scene.read()
    truth = window(stored["nir"][None] * _SCALE, ("nir",))
    # Evaluate the file that a user gets, rounded to its 16 bits.
    with open_scene(output / NIR, needed=("nir",)) as scene:
        made = scene.read()
    results = {"model": made}
    for name, baseline in model.baselines.items():
        results[name] = translate_window(
            baseline, source, TileOptions(device=device, precision="fp32")
        )
    numbers = {
        name: score_windows(result, source, truth, ["NDVI"]).numbers()
        for name, result in results.items()
    }
    interval = _covered(output, stored) if level else None
    metrics = _report(model, numbers, interval)
    own = numbers["model"]
    title = (
        f"{model.name} on the Sentinel-2 sample: NIR MAE {own['mae']:.4f} reflectance, "
        f"NDVI MAE {own['NDVI_mae']:.4f}"
    )
    if interval is not None:
        covered = interval["bands"]["nir"]["covered"]
        title += f"; {covered:.0%} of the true NIR inside its {LEVEL:.0%} interval"
    draw_comparison(
        output / PICTURE,
        source,
        truth,
        made,
        title=title,
    )
    text = json.dumps(metrics, indent=2, allow_nan=False) + "\n"
    write_text_atomically(output / METRICS, text)
    return metrics


def scores_table(metrics: Mapping[str, Any]) -> str:
    """Return the table that `crossband demo` prints: model, per-pixel linear, MLP, mean."""
    from crossband.evaluation.report.text import BETTER, score_lines

    rows = {"model": metrics["scores"]["model"]}
    rows |= {_TITLES.get(b, b): metrics["scores"][b] for b in metrics["scores"] if b != "model"}
    lines = score_lines(rows, COLUMNS, first=metrics["unit"])
    notes = [
        f"{metrics['model']['name']}: Sentinel-2, {metrics['n_pixels']:,} pixels, MAE and RMSE in "
        f"{metrics['unit']}, PSNR in dB"
    ]
    if any(BETTER in line for line in lines):
        notes.append(f"{BETTER} better than the model")
    if metrics["interval"] is not None:
        widths = ", ".join(
            f"{name} {found['mean_width']:.3f} ({found['covered']:.0%})"
            for name, found in metrics["interval"]["bands"].items()
        )
        level = metrics["interval"]["level"]
        notes.append(f"{level:.0%} interval, mean width (true values inside): {widths}")
    return "\n".join([*lines, *notes])


def sample() -> dict[str, np.ndarray]:
    """Return the scene's stored numbers, uint16 [300, 300] (reflectance x 10000), by band."""
    import spyndex

    scene = spyndex.datasets.open("sentinel")
    names = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}
    return {name: scene.sel(band=b).values.astype(np.uint16) for b, name in names.items()}


def write_scene(path: Path, stored: Mapping[str, np.ndarray]) -> Path:
    """Write red, green and blue of the sample as a GeoTIFF that states scale, unit and names."""
    from crossband.raster.encoding import Encoding
    from crossband.raster.scene_writer import SceneWriter

    values = np.stack([stored[b] for b in _SOURCE]) * np.float32(_SCALE)
    pixels = window(values, _SOURCE)
    tags = {"TIFFTAG_IMAGEDESCRIPTION": "Sentinel-2 sample of the spyndex package, measured"}
    encoding = Encoding("uint16", _SCALE)
    with SceneWriter(
        path, pixels.grid, pixels.bands, pixels.unit, encoding, tags, overwrite=True
    ) as writer:
        writer.write(pixels.grid.box, pixels.values, pixels.mask)
        return writer.commit()


def window(values: np.ndarray, bands: tuple[str, ...]) -> Window:
    """Return a window of valid pixels in reflectance, without georeference."""
    shape = values.shape[1:]
    valid = np.ones(shape, dtype=bool)
    return Window(values.astype(np.float32), valid, Grid(*shape), bands, REFLECTANCE)


def _check(model: Model) -> None:
    signature = model.signature
    fits = set(signature.source) <= set(_SOURCE) and signature.target == ["nir"]
    if not fits or REFLECTANCE not in signature.units or model.network.scale != 1:
        raise ModelError(
            f"the demo scene is red, green, blue -> nir in reflectance; {model.name} translates "
            f"{', '.join(signature.source)} -> {', '.join(signature.target)} in "
            f"{' and '.join(signature.units)}"
        )


def _is_calibrated(model: Model) -> bool:
    """Return whether the model has intervals of near infrared and NDVI."""
    known = model.calibration
    try:
        return known is not None and all(
            known.factor(name, REFLECTANCE, LEVEL) for name in ("nir", "NDVI")
        )
    except CrossbandError:  # not of these, or of too few places
        return False


def _covered(folder: Path, stored: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return how wide the written intervals are, and which share of the truth lies in them."""
    import rasterio

    from crossband.core import indices
    from crossband.translate.options import IntervalOptions
    from crossband.translate.uncertain_files import uncertain_paths

    reflectance = {name: numbers * np.float32(_SCALE) for name, numbers in stored.items()}
    truth = {"nir": reflectance["nir"], "NDVI": indices.compute("NDVI", reflectance)}
    paths = uncertain_paths(folder / NIR, {"NDVI": folder / NDVI}, IntervalOptions(LEVEL))
    found = {}
    for name, path in zip(truth, paths, strict=True):
        with rasterio.open(path) as bounds:
            low, high = bounds.read()
        found[name] = {
            "mean_width": float(np.mean(high - low)),
            "covered": float(np.mean((low <= truth[name]) & (truth[name] <= high))),
        }
    return {"level": LEVEL, "bands": found}


def _report(
    model: Model, numbers: Mapping[str, Mapping[str, float]], interval: dict[str, Any] | None
) -> dict[str, Any]:
    from crossband.metrics import DATA_RANGE, GUARD, as_json

    order = ["model", *(b for b in ORDER if b in numbers)]
    order += [b for b in numbers if b not in order]
    out: dict[str, Any] = as_json(
        {
            "schema": "crossband.demo/1",
            "crossband": __version__,
            "scene": "spyndex.datasets 'sentinel': Sentinel-2 B02 B03 B04 B08, 300 x 300",
            "unit": REFLECTANCE,
            "data_range": DATA_RANGE[REFLECTANCE],
            "index_guard": GUARD,
            "n_pixels": numbers["model"]["n_valid"],
            "model": {"name": model.name, "weights_hash": model.weights_hash},
            "scores": {name: dict(numbers[name]) for name in order},
            "interval": interval,
        }
    )
    return out
