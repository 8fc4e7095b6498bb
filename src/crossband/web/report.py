"""The report of a finished job: one HTML file that loads no others."""

from __future__ import annotations

import base64
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from crossband.core.html import render
from crossband.core.version import __version__
from crossband.raster.gdal import gdal
from crossband.raster.grid import Box
from crossband.web import render as pictures
from crossband.web.jobs import Job, Order
from crossband.web.layers import layers_of
from crossband.web.shown import Layer, Shown

#: Longest side of a picture in pixels, and pixels along a side that numbers are taken from.
_PICTURE, _NUMBERS = 480, 1024


def report_page(job: Job, shown: Shown, path: Path, guide: str) -> str:
    """Return the report of a job.

    Args:
        job: that is done.
        shown: its scene with its result.
        path: of the result.
        guide: its name for people; nothing without one.
    """
    # What is computed while somebody looks at it is in no file of the job.
    layers = {name: of for name, of in layers_of(shown).items() if not of.computed}
    with gdal(), rasterio.open(path) as file:
        tags = {k: v for k, v in sorted(file.tags().items()) if k.startswith("CROSSBAND")}
        tags.pop("CROSSBAND_FACTS", None)
        size = f"{file.width} x {file.height} pixels, {file.count} x {file.dtypes[0]}"
    return render(
        "crossband.web",
        "report.html",
        version=__version__,
        name=job.name,
        created=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(job.created)),
        seconds=f"{job.seconds:.0f}",
        size=size,
        megabytes=f"{path.stat().st_size / 1e6:.1f}",
        tags=tags,
        warnings=job.warnings,
        command=command(job.order, job.name, path.name, guide),
        pictures=list(_pictures(layers)),
        numbers=[_numbers(layer) for layer in layers.values()],
        agreement=_agreement(layers),
    )


def command(order: Order, name: str, output: str, guide: str) -> str:
    """Return the command that makes the same file."""
    words = ["crossband", "translate", name, "-o", output, "--model", order.choice.model]
    options = {
        "--sensor": order.choice.sensor,
        "--bands": order.choice.bands,
        "--scale": order.choice.scale,
        "--offset": order.choice.offset,
        "--dtype": order.dtype,
        "--guide": guide,
        "--guide-sensor": order.choice.guide_sensor,
        "--guide-bands": order.choice.guide_bands,
        "--guide-method": order.choice.guide_method,
        "--guide-days": order.choice.guide_days,
        "--interval": order.interval,
        "--promise": order.promise if order.interval else "",
    }
    for flag, value in options.items():
        if value:
            words += [flag, value]
    if order.familiarity:
        words.append("--familiarity")
    for index in order.indices:
        words += ["--index", index]
    return shlex.join(words)


def _thinned(layer: Layer, side: int) -> Any:
    grid = layer.view.grid
    factor = max((max(grid.height, grid.width) - 1) // side, 0)
    return layer.read(grid.box, 2 ** factor.bit_length())


def _pictures(layers: dict[str, Layer]) -> Iterator[dict[str, str]]:
    for layer in layers.values():
        values = _thinned(layer, _PICTURE)
        ranges = None if values is None else pictures.stretch(values)
        if ranges is None:
            continue
        content = base64.b64encode(pictures.picture(values, ranges, layer.colours)).decode()
        ends = ", ".join(f"{low:.4g} to {high:.4g}" for low, high in ranges)
        unit = "" if layer.unit == "1" else f" {layer.unit}"
        yield {
            "title": layer.title,
            "caption": f"{layer.title}: darkest to brightest {ends}{unit}",
            "uri": f"data:image/png;base64,{content}",
        }


def _numbers(layer: Layer) -> dict[str, Any]:
    """Return statistics of a layer over about a million pixels of it."""
    values = _thinned(layer, _NUMBERS)
    rows = []
    for name, band in zip(layer.bands, values if values is not None else [], strict=False):
        known = band[np.isfinite(band)]
        if known.size:
            q = np.quantile(known, (0.02, 0.5, 0.98))
            share = known.size / band.size
            rows.append([name, f"{known.mean():.4f}", *(f"{v:.4f}" for v in q), f"{share:.1%}"])
    return {"title": layer.title, "unit": "" if layer.unit == "1" else layer.unit, "rows": rows}


def _agreement(layers: dict[str, Layer]) -> dict[str, Any] | None:
    """Return the errors against the measured band, from windows that are spread over the scene."""
    if "measured" not in layers or "synthetic" not in layers:
        return None
    one, other = layers["measured"], layers["synthetic"]
    whole = one.view.grid.box
    side, last = 256, 3
    boxes = {
        Box(
            max((whole.height - side) * i // last, 0),
            max((whole.width - side) * j // last, 0),
            side,
            side,
        ).intersection(whole)
        for i in range(last + 1)
        for j in range(last + 1)
    }
    pairs: list[Any] = [(one.read(box, 1), other.read(box, 1)) for box in boxes]
    found = [np.stack([of[0].ravel() for of in pair]) for pair in pairs]
    values = np.concatenate(found, axis=1)
    about = pictures.scatter(values[0][None], values[1][None])
    if "mae" not in about:
        return None
    r = "-" if about["r"] is None else f"{about['r']:.3f}"
    return {
        "count": f"{about['count']:,}",
        "mae": f"{about['mae']:.4f}",
        "rmse": f"{about['rmse']:.4f}",
        "bias": f"{about['bias']:+.4f}",
        "r": r,
        "unit": one.unit,
    }
