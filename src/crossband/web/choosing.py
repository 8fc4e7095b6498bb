"""Answers about the page, models, files, uploads and an open scene."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from crossband.core.html import render
from crossband.core.sensors import SENSORS
from crossband.core.version import __version__
from crossband.errors import CrossbandError
from crossband.raster.grid import Grid
from crossband.web import render as pictures
from crossband.web.layers import layers_of, offered_indices, offered_levels
from crossband.web.scenes import BusyError, Choice
from crossband.web.server import Server, in_thread
from crossband.web.shown import Shown
from crossband.web.views import View


async def page(server: Server, request: Request) -> Response:
    """Return the page itself."""
    return HTMLResponse(render("crossband.web", "page.html", version=__version__))


async def offer(server: Server, request: Request) -> dict[str, Any]:
    """Return what can be chosen."""
    settings = server.settings

    def models() -> list[dict[str, Any]]:
        out = []
        for name in server.models.names:
            model = server.models.get(name)
            signature, network = model.signature, model.network
            out.append(
                {
                    "name": name,
                    "task": model.task,
                    "about": str(model.about.get("description", "")),
                    "source": list(signature.source),
                    "target": list(signature.target),
                    "guide": list(signature.guide),
                    "units": list(signature.units),
                    "windows": network.margin is not None,
                }
            )
        return out

    return {
        "models": await in_thread(models),
        "sensors": [{"name": s.name, "title": s.title} for s in SENSORS.values()],
        "root": settings.root is not None,
        "remote": settings.allow_remote,
        "max_upload": settings.max_upload,
        "colours": {name: pictures.table(name)[::15].tolist() for name in pictures.COLOURS},
    }


async def files(server: Server, request: Request) -> dict[str, Any]:
    """Return what lies in a folder below the root."""
    folder = request.query_params.get("folder", "")
    return await in_thread(lambda: server.places.folder(folder))


async def upload(server: Server, request: Request) -> Response:
    """Store what a visitor sends, and refuse it as soon as it is too large."""
    most = server.settings.max_upload
    declared = request.headers.get("content-length", "")
    too_large = JSONResponse({"error": f"larger than {most / 1e6:g} MB, the most"}, 413)
    if declared.isdigit() and int(declared) > most:
        return too_large
    name = request.query_params.get("name", "scene.tif")
    text = request.query_params.get("modified", "")
    modified = float(text) / 1000 if text.isdigit() and len(text) < 15 else None
    upload = await in_thread(lambda: server.places.new_upload(name))
    kept = False
    try:
        async for part in request.stream():
            if not await in_thread(lambda part=part: upload.write(part)):  # type: ignore[misc]
                return too_large
        await in_thread(upload.close)
        about = await in_thread(lambda: server.places.finish_upload(upload, modified))
        kept = True
        return JSONResponse(about, 201)
    finally:
        if not kept:
            await in_thread(upload.discard)


async def scene(server: Server, request: Request) -> dict[str, Any]:
    """Return what a file holds, and what can be shown of it; or what must be said first."""
    choice = Choice.of(request.query_params)
    about = await in_thread(lambda: server.scenes.describe(choice))

    def shown() -> dict[str, Any]:
        found, problem = _shown(server, choice)
        scene, model = found.scene, found.model
        view, layers = View.of(scene.grid), layers_of(found)
        return {
            "problem": "",
            "width": scene.grid.width,
            "height": scene.grid.height,
            "unit": scene.unit,
            "crs": "" if scene.grid.crs is None else _crs_name(scene.grid),
            "view": view.describe(view.finer(model.network.scale)),
            "layers": [layer.describe() for layer in layers.values()],
            "indices": offered_indices(found),
            "levels": offered_levels(found),
            "familiarity": "familiarity" in layers,
            "guide_name": server.places.name_of(choice.guide),
            "guide_problem": problem,
            "guide_wanted": list(model.signature.guide) if found.wants_guide else [],
            "guide_note": "" if found.guide is None or found.result else found.guide.note,
            "scatter": scene.truth is not None and found.can_compute,
            "result": found.result is not None,
        }

    try:
        return about | await in_thread(shown)
    except CrossbandError as error:
        return about | {"problem": str(error), "layers": []}


def _shown(server: Server, choice: Choice) -> tuple[Shown, str]:
    """Return what is shown, and why it is without the guide where that cannot be used."""
    try:
        return server.shown(choice), ""
    except CrossbandError as error:
        if not choice.guide or isinstance(error, BusyError):
            raise
        return server.shown(replace(choice, guide="", job="")), str(error)


async def guide(server: Server, request: Request) -> dict[str, Any]:
    """Return how a guide is used, and how well it agrees with what was computed so far."""
    choice = Choice.of(request.query_params)
    found = (await in_thread(lambda: server.shown(choice))).guide
    if found is None:
        return {}
    await in_thread(found.check)
    return {"said": found.said, "poor": found.poor}


def _crs_name(grid: Grid) -> str:
    crs = grid.crs
    assert crs is not None
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(json.dumps(crs.to_wkt())[1:60])
