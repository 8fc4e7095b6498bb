"""The application: addresses of the page, and what each answers.

What takes time runs in threads. Cells of a result are waited for, for a few seconds; a request that
would wait longer is answered by 202, and the page asks again.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import anyio.to_thread
import numpy as np
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from crossband.core.html import render
from crossband.core.json_text import parse_json
from crossband.core.sensors import SENSORS
from crossband.core.version import __version__
from crossband.errors import CrossbandError, InputError
from crossband.raster.grid import Box, Grid
from crossband.web import render as pictures
from crossband.web.addresses import filtered_requests
from crossband.web.guard import App, Guard
from crossband.web.jobs import Jobs, Order
from crossband.web.layers import Layer, Shown, layers_of, offered_indices
from crossband.web.places import Places
from crossband.web.previews import Cell, Models, Previews
from crossband.web.report import report_page
from crossband.web.scenes import BusyError, Choice, OpenResult, OpenScene, Scenes
from crossband.web.settings import Settings
from crossband.web.views import FINEST, Bounds, View

T = TypeVar("T")
#: Seconds that a request waits for cells; bytes of JSON that it may bring.
PATIENCE, _MOST_JSON = 4.0, 64 * 1024
#: Pixels along a side of a view whose distribution is measured; cells that it may need.
_SIDE, _MOST_CELLS = 512, 160
#: Sampled windows of a scene along each axis, and their side in pixels.
_SAMPLES, _SAMPLE_SIDE = 3, 128
_HERE = Path(__file__).parent


@dataclass
class Server:
    """What the answers are made from.

    Attributes:
        settings: of the server.
    """

    settings: Settings

    @cached_property
    def places(self) -> Places:
        """Files that are offered."""
        return Places(self.settings)

    @cached_property
    def models(self) -> Models:
        """Models that are offered."""
        return Models(self.settings.models, self.settings.tile)

    @cached_property
    def scenes(self) -> Scenes:
        """Open scenes."""
        return Scenes(self.places, self.models.get)

    @cached_property
    def previews(self) -> Previews:
        """Computes what is looked at."""
        return Previews(self.models, self.settings.tile)

    @cached_property
    def jobs(self) -> Jobs:
        """Whole scenes."""
        s = self.settings
        return Jobs(s.folder / "jobs", self.places, self.models, s.tile, s.keep)

    @cached_property
    def results(self) -> dict[str, OpenResult]:
        """Open files of finished jobs."""
        return {}

    def shown(self, choice: Choice) -> Shown:
        """Return a scene with its model, and the result of a job where one is chosen."""
        scene, model = self.scenes.get(choice), self.models.get(choice.model)
        return Shown(scene, model, self.previews, self._result(choice, model.signature.target))

    def _result(self, choice: Choice, bands: Sequence[str]) -> OpenResult | None:
        if not choice.job:
            return None
        job = self.jobs.get(choice.job)
        ordered = job.order.choice
        if job.state != "done" or (ordered.scene, ordered.model) != (choice.scene, choice.model):
            return None
        if job.id not in self.results:
            while len(self.results) >= 8:
                self.results.pop(next(iter(self.results)), None)
            self.results[job.id] = OpenResult(self.jobs.file(job), bands)
        return self.results[job.id]

    def layer(self, choice: Choice, name: str) -> tuple[Shown, Layer]:
        """Return one layer of a scene."""
        shown = self.shown(choice)
        layers = layers_of(shown)
        if name not in layers:
            raise InputError(f"there is no layer {name[:60]!r} of this scene and model")
        return shown, layers[name]

    async def ready(self, scene: OpenScene, cells: Sequence[Cell]) -> bool:
        """Wait for cells to be computed, for a few seconds; return whether all are there."""
        try:
            futures = self.previews.ask(scene, cells)
        except BusyError:
            return False
        if not futures:
            return True
        waiting = [asyncio.wrap_future(future) for future in futures]
        end = time.monotonic() + PATIENCE
        while waiting:
            done, left = await asyncio.wait(waiting, timeout=max(end - time.monotonic(), 0.01))
            for one in done:
                if one.cancelled():
                    return False
                one.result()
            waiting = list(left)
            if waiting and time.monotonic() >= end:
                for one in waiting:
                    one.add_done_callback(_forget)
                return False
        return True


def create_app(settings: Settings, prefix: str | None = None) -> App:
    """Return the ASGI application.

    Args:
        settings: checked options.
        prefix: path under which a reverse proxy passes requests on, if it does not remove it.
    """
    server = Server(settings)

    @asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        with filtered_requests(settings.networks) if settings.allow_remote else nullcontext():
            jobs, previews = server.jobs, server.previews
            cleaner = asyncio.create_task(_clean(server))
            yield
            cleaner.cancel()
            await _thread(jobs.close)
            await _thread(previews.close)

    def route(path: str, answer: Callable[[Server, Request], Any], method: str = "GET") -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                found = await answer(server, request)
                return found if isinstance(found, Response) else JSONResponse(found)
            except BusyError as error:
                return _computing(str(error))
            except CrossbandError as error:
                return JSONResponse({"error": str(error)}, 400)
            except ClientDisconnect:
                return Response(status_code=400)

        return Route(path, endpoint, methods=[method])

    app: App = Starlette(
        routes=[
            route("/", _page),
            route("/api/offer", _offer),
            route("/api/files", _files),
            route("/api/uploads", _upload, "POST"),
            route("/api/scene", _scene),
            route("/api/tile/{layer}/{z}/{x}/{y}", _tile),
            route("/api/distribution/{layer}", _distribution),
            route("/api/values", _values),
            route("/api/scatter", _scatter),
            route("/api/jobs", _new_job, "POST"),
            route("/api/jobs/{id}", _job),
            route("/api/jobs/{id}/cancel", _cancel, "POST"),
            route("/api/jobs/{id}/resume", _resume, "POST"),
            route("/api/jobs/{id}/report", _report),
            route("/api/jobs/{id}/file", _download),
            route("/api/jobs/{id}/file/{name}", _download),
            Mount("/static", StaticFiles(directory=_HERE / "static")),
        ],
        lifespan=running,
    )
    guarded = Guard(app, settings)
    return _Prefixed(guarded, prefix.rstrip("/")) if prefix else guarded


class _Prefixed:
    """Removes a path prefix that a reverse proxy has left in the addresses."""

    def __init__(self, app: App, prefix: str) -> None:
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and scope["path"].startswith(f"{self._prefix}/"):
            path = scope["path"].removeprefix(self._prefix)
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)


async def _page(server: Server, request: Request) -> Response:
    return HTMLResponse(render("crossband.web", "page.html", version=__version__))


async def _offer(server: Server, request: Request) -> dict[str, Any]:
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
                    "units": list(signature.units),
                    "scale": network.scale,
                    "windows": network.margin is not None,
                }
            )
        return out

    return {
        "version": __version__,
        "models": await _thread(models),
        "sensors": [{"name": s.name, "title": s.title} for s in SENSORS.values()],
        "root": settings.root is not None,
        "remote": settings.allow_remote,
        "max_upload": settings.max_upload,
        "colours": {name: pictures.table(name)[::15].tolist() for name in pictures.COLOURS},
    }


async def _files(server: Server, request: Request) -> dict[str, Any]:
    folder = request.query_params.get("folder", "")
    return await _thread(lambda: server.places.folder(folder))


async def _upload(server: Server, request: Request) -> Response:
    """Store what a visitor sends, and refuse it as soon as it is too large."""
    most = server.settings.max_upload
    declared = request.headers.get("content-length", "")
    too_large = JSONResponse({"error": f"larger than {most / 1e6:g} MB, the most"}, 413)
    if declared.isdigit() and int(declared) > most:
        return too_large
    name = request.query_params.get("name", "scene.tif")
    text = request.query_params.get("modified", "")
    modified = float(text) / 1000 if text.isdigit() and len(text) < 15 else None
    upload = await _thread(lambda: server.places.new_upload(name))
    kept = False
    try:
        async for part in request.stream():
            if not await _thread(lambda part=part: upload.write(part)):  # type: ignore[misc]
                return too_large
        await _thread(upload.close)
        about = await _thread(lambda: server.places.finish_upload(upload, modified))
        kept = True
        return JSONResponse(about, 201)
    finally:
        if not kept:
            await _thread(upload.discard)


async def _scene(server: Server, request: Request) -> dict[str, Any]:
    """Return what a file holds, and what can be shown of it; or what must be said first."""
    choice = Choice.of(request.query_params)
    about = await _thread(lambda: server.scenes.describe(choice))

    def shown() -> dict[str, Any]:
        found = server.shown(choice)
        scene, model = found.scene, found.model
        view = View.of(scene.grid)
        return {
            "problem": "",
            "width": scene.grid.width,
            "height": scene.grid.height,
            "unit": scene.unit,
            "crs": "" if scene.grid.crs is None else _crs_name(scene.grid),
            "view": view.describe(view.finer(model.network.scale)),
            "layers": [layer.describe() for layer in layers_of(found).values()],
            "indices": offered_indices(scene, model),
            "scatter": scene.truth is not None and found.can_compute,
            "result": found.result is not None,
        }

    try:
        return about | await _thread(shown)
    except CrossbandError as error:
        return about | {"problem": str(error), "layers": []}


async def _tile(server: Server, request: Request) -> Response:
    choice, path = Choice.of(request.query_params), request.path_params
    z, x, y = (_integer(path[name]) for name in "zxy")
    if not -20 <= z <= 30 or max(abs(x), abs(y)) > 2**30:
        raise InputError("there is no such tile")
    shown, layer = await _thread(lambda: server.layer(choice, path["layer"]))
    grid = layer.view.tile(z, x, y)
    ranges = _ranges(request.query_params.get("ranges", ""), layer)
    values = await _on_grid(server, shown, layer, grid, _MOST_CELLS)
    if isinstance(values, str):
        nothing = _picture(pictures.empty(), far=values == "far")
        return _computing() if values == "missing" else nothing
    return _picture(await _thread(lambda: pictures.picture(values, ranges, layer.colours)))


async def _on_grid(server: Server, shown: Shown, layer: Layer, grid: Grid, most: int) -> Any:
    """Return the values [C, H, W] of a layer on a grid of the map.

    `outside` where the scene does not lie there, `far` where its pixels are too small to be
    computed, `missing` where they are not computed yet.
    """
    found = await _thread(lambda: layer.view.part(grid))
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

    return await _thread(warped)


async def _distribution(server: Server, request: Request) -> Any:
    """Return quantiles and a histogram of a layer, in the view or in samples of the scene."""
    choice = Choice.of(request.query_params)
    shown, layer = await _thread(lambda: server.layer(choice, request.path_params["layer"]))
    if request.query_params.get("of") == "scene":
        values = await _sampled(server, shown, layer)
    else:
        grid = layer.view.window(_bounds(request), _SIDE)
        values = await _on_grid(server, shown, layer, grid, _MOST_CELLS)
    if isinstance(values, str):
        return _computing() if values == "missing" else {"ranges": None, "why": values}

    def measured() -> dict[str, Any]:
        ranges = pictures.stretch(values)
        if ranges is None:
            return {"ranges": None, "why": "masked"}
        bins = pictures.histogram(values, ranges)
        return {"ranges": ranges, "histograms": bins, "bands": list(layer.bands)}

    return await _thread(measured)


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

    return await _thread(read)


async def _values(server: Server, request: Request) -> dict[str, Any]:
    """Return the values of all layers at a point of the map; None where not computed yet."""
    choice = Choice.of(request.query_params)
    x, y = (_float(request.query_params.get(name, "")) for name in ("x", "y"))
    shown = await _thread(lambda: server.shown(choice))

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

    return await _thread(read)


async def _scatter(server: Server, request: Request) -> Any:
    """Return how the result agrees with the measured band, in the view."""
    choice = Choice.of(request.query_params)
    shown = await _thread(lambda: server.shown(choice))
    layers = await _thread(lambda: layers_of(shown))
    if "measured" not in layers or "synthetic" not in layers:
        raise InputError("the file has no measured band to compare with")
    found = []
    for name in ("measured", "synthetic"):
        layer = layers[name]
        grid = layer.view.window(_bounds(request), _SIDE)
        values = await _on_grid(server, shown, layer, grid, _MOST_CELLS)
        if isinstance(values, str):
            return _computing() if values == "missing" else {"count": 0, "why": values}
        found.append(values)
    about = await _thread(lambda: pictures.scatter(found[0][0], found[1][0]))
    return about | {"unit": layers["synthetic"].unit, "band": layers["synthetic"].bands[0]}


async def _new_job(server: Server, request: Request) -> Response:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_JSON:
            return JSONResponse({"error": "too long"}, 413)
    try:
        given = parse_json(body)
    except ValueError as error:
        raise InputError(f"no JSON: {error}") from error
    if not isinstance(given, dict):
        raise InputError("no JSON object")
    job = await _thread(lambda: server.jobs.add(Order.of(given)))
    return JSONResponse(job.describe(), 201)


async def _job(server: Server, request: Request) -> dict[str, Any]:
    return server.jobs.get(request.path_params["id"]).describe()


async def _cancel(server: Server, request: Request) -> dict[str, Any]:
    return (await _thread(lambda: server.jobs.cancel(request.path_params["id"]))).describe()


async def _resume(server: Server, request: Request) -> dict[str, Any]:
    return (await _thread(lambda: server.jobs.resume(request.path_params["id"]))).describe()


async def _report(server: Server, request: Request) -> Response:
    job = server.jobs.get(request.path_params["id"])
    shown = await _thread(lambda: server.shown(replace(job.order.choice, job=job.id)))
    await _thread(shown.scene.wait)
    text = await _thread(lambda: report_page(job, shown, server.jobs.file(job)))
    return HTMLResponse(text, headers={"content-disposition": _attachment("report.html")})


async def _download(server: Server, request: Request) -> Response:
    job = server.jobs.get(request.path_params["id"])
    path = server.jobs.file(job, request.path_params.get("name", ""))
    return FileResponse(
        path,
        media_type="image/tiff; application=geotiff; profile=cloud-optimized",
        headers={"content-disposition": _attachment(path.name)},
    )


def _attachment(name: str) -> str:
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._- ") else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _picture(content: bytes, *, far: bool = False) -> Response:
    headers = {"cache-control": "private, max-age=600"} if not far else {"x-crossband-far": "1"}
    return Response(content, media_type="image/png", headers=headers)


def _computing(words: str = "computing") -> Response:
    return JSONResponse({"state": words}, 202, headers={"retry-after": "1"})


def _ranges(text: str, layer: Layer) -> list[tuple[float, float]]:
    """Read the stretch of each band, as `low,high,low,high,...`."""
    if not text:
        return list(layer.ranges)
    numbers = [_float(part) for part in text.split(",")]
    if len(numbers) != 2 * len(layer.bands):
        raise InputError("the stretch needs a low and a high value of each band")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _bounds(request: Request) -> Bounds:
    parts = request.query_params.get("bounds", "").split(",")
    if len(parts) != 4:
        raise InputError("the bounds of the view are left, bottom, right and top")
    return Bounds(*(_float(part) for part in parts))


def _integer(text: str) -> int:
    try:
        return int(text[:20])
    except ValueError as error:
        raise InputError("there is no such tile") from error


def _float(text: str) -> float:
    try:
        number = float(text[:40])
    except ValueError as error:
        raise InputError(f"{text[:40]!r}: a number is needed") from error
    if not math.isfinite(number):
        raise InputError(f"{text[:40]!r}: a number is needed")
    return number


def _crs_name(grid: Grid) -> str:
    crs = grid.crs
    assert crs is not None
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(json.dumps(crs.to_wkt())[1:60])


def _forget(future: asyncio.Future[None]) -> None:
    """Take the error of a cell that nobody waits for any more."""
    if not future.cancelled():
        future.exception()


async def _clean(server: Server) -> None:
    """Delete what is too old, at the start and every ten minutes."""
    while True:
        await _thread(server.jobs.remove_old)
        await _thread(lambda: server.places.remove_old(server.jobs.used_scenes()))
        await asyncio.sleep(600)


async def _thread(call: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(call)
