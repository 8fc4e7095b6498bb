"""Answers about pixels: tiles of the map, distributions, values under the pointer, scatter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from crossband.errors import InputError
from crossband.raster.grid import Box, Grid
from crossband.web import render as pictures
from crossband.web.layers import layers_of
from crossband.web.previews import Cell
from crossband.web.queries import bounds, number, ranges_of, whole_number
from crossband.web.scenes import Choice
from crossband.web.server import Server, in_thread
from crossband.web.shown import Layer, Shown
from crossband.web.views import FINEST, View

#: Pixels along a side of a view whose distribution is measured; cells that it may need.
_SIDE, _MOST_CELLS = 512, 160
#: Sampled windows of a scene along each axis, and their side in pixels.
_SAMPLES, _SAMPLE_SIDE = 3, 128


async def tile(server: Server, request: Request) -> Response:
    """Return one tile of a layer as a picture."""
    choice, path = Choice.of(request.query_params), request.path_params
    z, x, y = (whole_number(path[name]) for name in "zxy")
    if not -20 <= z <= 30 or max(abs(x), abs(y)) > 2**30:
        raise InputError("there is no such tile")
    shown, layer = await in_thread(lambda: server.layer(choice, path["layer"]))
    grid = layer.view.tile(z, x, y)
    ranges = ranges_of(request.query_params.get("ranges", ""), layer)
    values = await _on_grid(server, shown, layer, grid, _MOST_CELLS)
    if isinstance(values, str):
        nothing = _picture(pictures.empty(), far=values == "far")
        return computing() if values == "missing" else nothing
    return _picture(await in_thread(lambda: pictures.picture(values, ranges, layer.colours)))


async def distribution(server: Server, request: Request) -> Any:
    """Return quantiles and a histogram of a layer, in the view or in samples of the scene."""
    choice = Choice.of(request.query_params)
    shown, layer = await in_thread(lambda: server.layer(choice, request.path_params["layer"]))
    if request.query_params.get("of") == "scene":
        values = await _sampled(server, shown, layer)
    else:
        grid = layer.view.window(bounds(request), _SIDE)
        values = await _on_grid(server, shown, layer, grid, _MOST_CELLS)
    if isinstance(values, str):
        return computing() if values == "missing" else {"ranges": None, "why": values}

    def measured() -> dict[str, Any]:
        ranges = pictures.stretch(values)
        if ranges is None:
            return {"ranges": None, "why": "masked"}
        bins = pictures.histogram(values, ranges)
        return {"ranges": ranges, "histograms": bins, "bands": list(layer.bands)}

    return await in_thread(measured)


async def values(server: Server, request: Request) -> dict[str, Any]:
    """Return the values of all layers at a point of the map; None where not computed yet."""
    choice = Choice.of(request.query_params)
    x, y = (number(request.query_params.get(name, "")) for name in ("x", "y"))
    shown = await in_thread(lambda: server.shown(choice))

    def read() -> dict[str, Any]:
        pixel = View.of(shown.scene.grid).pixel(x, y)
        if pixel is None:
            return {"pixel": None, "layers": []}
        found = []
        for layer in layers_of(shown).values():
            at = layer.view.pixel(x, y)
            values = None if at is None else layer.read(Box(*at, 1, 1), 1)
            known = [None] * len(layer.bands) if values is None else values[:, 0, 0].tolist()
            found.append(
                {
                    "name": layer.name,
                    "title": layer.title,
                    "unit": layer.unit,
                    "bands": list(layer.bands),
                    "values": [v if v is not None and math.isfinite(v) else None for v in known],
                }
            )
        return {"pixel": list(pixel), "layers": found}

    return await in_thread(read)


async def scatter(server: Server, request: Request) -> Any:
    """Return how the result agrees with the measured band, in the view."""
    choice = Choice.of(request.query_params)
    shown = await in_thread(lambda: server.shown(choice))
    layers = await in_thread(lambda: layers_of(shown))
    if "measured" not in layers or "synthetic" not in layers:
        raise InputError("the file has no measured band to compare with")
    found = []
    for name in ("measured", "synthetic"):
        layer = layers[name]
        grid = layer.view.window(bounds(request), _SIDE)
        values = await _on_grid(server, shown, layer, grid, _MOST_CELLS)
        if isinstance(values, str):
            return computing() if values == "missing" else {"count": 0, "why": values}
        found.append(values)
    about = await in_thread(lambda: pictures.scatter(found[0][0], found[1][0]))
    return about | {"unit": layers["synthetic"].unit, "band": layers["synthetic"].bands[0]}


def computing(words: str = "computing") -> Response:
    """Return the answer after which the page asks again."""
    return JSONResponse({"state": words}, 202, headers={"retry-after": "1"})


async def _on_grid(server: Server, shown: Shown, layer: Layer, grid: Grid, most: int) -> Any:
    """Return the values [C, H, W] of a layer on a grid of the map.

    `outside` where the scene does not lie there, `far` where its pixels are too small to be
    computed, `missing` where they are not computed yet.
    """
    found = await in_thread(lambda: layer.view.part(grid))
    if found is None:
        return "outside"
    box, ratio = found
    cells: Sequence[Cell] = ()
    if layer.computed:
        pixels = box.height * box.width
        if ratio > 4 * FINEST or pixels > most * 256**2:
            return "far"
        cells = layer.cells(box)
        if len(cells) > most:
            return "far"
    if cells and not await server.ready(shown.scene, cells):
        return "missing"
    factor = 1 if layer.computed else 2 ** max(int(math.log2(max(ratio, 1.0))), 0)
    whole = layer.view.grid.box

    def warped() -> Any:
        # Every n-th pixel is counted from the scene's origin, so that tiles fit each other.
        row, col = box.row // factor * factor, box.col // factor * factor
        bottom = min(-(-(box.row + box.height) // factor) * factor, whole.height)
        right = min(-(-(box.col + box.width) // factor) * factor, whole.width)
        at = Box(row, col, bottom - row, right - col)
        values = layer.read(at, factor)
        return "missing" if values is None else layer.view.warp(values, at, grid)

    return await in_thread(warped)


async def _sampled(server: Server, shown: Shown, layer: Layer) -> Any:
    """Return values [C, n] of windows that are spread over the scene."""
    whole = layer.view.grid.box
    side = _SAMPLE_SIDE
    boxes = {
        Box(
            max(whole.height * (2 * i + 1) // (2 * _SAMPLES) - side // 2, 0),
            max(whole.width * (2 * j + 1) // (2 * _SAMPLES) - side // 2, 0),
            side,
            side,
        ).intersection(whole)
        for i in range(_SAMPLES)
        for j in range(_SAMPLES)
    }
    cells = {c.key: c for box in boxes for c in layer.cells(box)} if layer.computed else {}
    if cells and not await server.ready(shown.scene, list(cells.values())):
        return "missing"

    def read() -> Any:
        parts = [layer.read(box, 1) for box in boxes]
        known = [p.reshape(len(p), -1) for p in parts if p is not None]
        return np.concatenate(known, axis=1) if len(known) == len(parts) else "missing"

    return await in_thread(read)


def _picture(content: bytes, *, far: bool = False) -> Response:
    headers = {"cache-control": "private, max-age=600"} if not far else {"x-crossband-far": "1"}
    return Response(content, media_type="image/png", headers=headers)
