"""Answers about jobs: start one, its progress, its files and its report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from crossband.core.json_text import parse_json
from crossband.errors import InputError
from crossband.web.jobs import Order
from crossband.web.report import report_page
from crossband.web.server import Server, in_thread

#: Bytes of JSON that a request may bring.
_MOST_JSON = 64 * 1024


async def new_job(server: Server, request: Request) -> Response:
    """Queue the job that a request orders."""
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
    job = await in_thread(lambda: server.jobs.add(Order.of(given)))
    return JSONResponse(job.describe(), 201)


async def job(server: Server, request: Request) -> dict[str, Any]:
    """Return how a job goes on."""
    return server.jobs.get(request.path_params["id"]).describe()


async def cancel(server: Server, request: Request) -> dict[str, Any]:
    """Stop a job."""
    return (await in_thread(lambda: server.jobs.cancel(request.path_params["id"]))).describe()


async def resume(server: Server, request: Request) -> dict[str, Any]:
    """Go on with a job."""
    return (await in_thread(lambda: server.jobs.resume(request.path_params["id"]))).describe()


async def report(server: Server, request: Request) -> Response:
    """Return the report of a finished job."""
    job = server.jobs.get(request.path_params["id"])
    shown = await in_thread(lambda: server.shown(replace(job.order.choice, job=job.id)))
    await in_thread(shown.scene.wait)
    guide = await in_thread(lambda: server.places.name_of(job.order.choice.guide))
    text = await in_thread(lambda: report_page(job, shown, server.jobs.file(job), guide))
    return HTMLResponse(text, headers={"content-disposition": _attachment("report.html")})


async def download(server: Server, request: Request) -> Response:
    """Return a file of a finished job."""
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
