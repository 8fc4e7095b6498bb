"""A Hugging Face Space: upload a raster, look at the result beside it, download the GeoTIFF.

Gradio is used here only. It sends no statistics, takes files of at most 200 MB, and keeps none
longer than an hour. The full page is `crossband serve`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
import numpy as np

import crossband
from crossband.core.sensors import SENSORS
from crossband.errors import CrossbandError
from crossband.raster import dataset
from crossband.raster.bands import parse_bands
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions
from crossband.translate.options import TranslateOptions, WriteOptions
from crossband.translate.scene import translate_scene
from crossband.web.render import picture, stretch
from crossband.web.settings import default_models

MODELS = list(default_models(guided=False))
#: Pixels of an upload, at most, and of the pictures along a side.
MOST, SIDE = 40_000_000, 1024
MODELS_LOADED = {}


def run(file: str | None, model: str, sensor: str, bands: str) -> tuple[tuple[str, str], str]:
    """Translate an upload; return two pictures and the file."""
    if not file:
        raise gr.Error("choose a raster first")
    try:
        given = parse_bands(bands) if bands.strip() else None
        read = ReadOptions(given, sensor or None, self_contained=True)
        with dataset.open_dataset(file, self_contained=True) as raster:
            if raster.width * raster.height > MOST:
                raise CrossbandError(f"at most {MOST:,} pixels are translated here")
        if model not in MODELS_LOADED:
            MODELS_LOADED[model] = crossband.load(model)
        loaded = MODELS_LOADED[model]
        folder = Path(tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR")))
        output = folder / f"{Path(file).stem}_{model}.tif"
        translate_scene(loaded, file, output, TranslateOptions(read, write=WriteOptions()))
        return (
            _picture(folder / "source.png", file, read, loaded.signature.source),
            _picture(folder / "result.png", output, ReadOptions(), loaded.signature.target),
        ), str(output)
    except CrossbandError as error:
        raise gr.Error(str(error).replace(str(Path(file).parent) + "/", "")) from error


def _picture(path: Path, raster: str | Path, read: ReadOptions, bands: list[str]) -> str:
    """Write a stretched picture of a raster; return its path."""
    with open_scene(raster, read, needed=bands) as scene:
        factor = max(-(-max(scene.grid.height, scene.grid.width) // SIDE), 1)
        window = scene.read_thinned(scene.grid.box, factor)
    values = np.where(window.mask, window.values, np.float32(np.nan))
    values = values if len(values) == 3 else values[:1]
    ranges = stretch(values) or [(0.0, 1.0)] * len(values)
    path.write_bytes(picture(values, ranges, "grey"))
    return str(path)


with gr.Blocks(title="Crossband", analytics_enabled=False, delete_cache=(600, 3600)) as app:
    gr.Markdown("# Crossband\nWhat a model made is not measured: the result is synthetic.")
    source = gr.File(label="GeoTIFF, JPEG 2000, PNG or JPEG", type="filepath")
    chosen = gr.Dropdown(MODELS, value=MODELS[0], label="Model")
    kind = gr.Dropdown(["", *SENSORS], value="", label="Sensor, where the file does not state it")
    named = gr.Textbox(label="Bands, where the file does not name them: red=3,green=2,blue=1")
    start = gr.Button("Translate", variant="primary")
    seen = gr.ImageSlider(label="Source and result, stretched from 2 to 98 %", type="filepath")
    made = gr.File(label="Cloud Optimized GeoTIFF")
    start.click(run, [source, chosen, kind, named], [seen, made], concurrency_limit=1)

if __name__ == "__main__":
    app.queue(max_size=16).launch(max_file_size="200mb", share=False)
