"""The application: addresses of the page, and which function answers each.

What takes time runs in threads. Cells of a result are waited for, for a few seconds; a request that
would wait longer is answered by 202, and the page asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from crossband.errors import CrossbandError
from crossband.web import choosing, job_answers, tiles
from crossband.web.addresses import filtered_requests
from crossband.web.guard import App, Guard
from crossband.web.scenes import BusyError
from crossband.web.server import Server, clean, in_thread
from crossband.web.settings import Settings

_HERE = Path(__file__).parent


def create_app(settings: Settings, prefix: str | None = None, server: Server | None = None) -> App:
    """Return the ASGI application.

    Args:
        settings: checked options.
        prefix: path under which a reverse proxy passes requests on, if it does not remove it.
        server: with these settings; by default a new one.
    """
    server = server or Server(settings)

    @asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        with filtered_requests(settings.networks) if settings.allow_remote else nullcontext():
            jobs, previews = server.start()
            cleaner = asyncio.create_task(clean(server))
            yield
            cleaner.cancel()
            await in_thread(jobs.close)
            await in_thread(previews.close)

    def route(path: str, answer: Callable[[Server, Request], Any], method: str = "GET") -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                found = await answer(server, request)
                return found if isinstance(found, Response) else JSONResponse(found)
            except BusyError as error:
                return tiles.computing(str(error))
            except CrossbandError as error:
                return JSONResponse({"error": str(error)}, 400)
            except ClientDisconnect:
                return Response(status_code=400)

        return Route(path, endpoint, methods=[method])

    app: App = Starlette(
        routes=[
            route("/", choosing.page),
            route("/api/offer", choosing.offer),
            route("/api/files", choosing.files),
            route("/api/uploads", choosing.upload, "POST"),
            route("/api/scene", choosing.scene),
            route("/api/guide", choosing.guide),
            route("/api/tile/{layer}/{z}/{x}/{y}", tiles.tile),
            route("/api/distribution/{layer}", tiles.distribution),
            route("/api/values", tiles.values),
            route("/api/scatter", tiles.scatter),
            route("/api/jobs", job_answers.new_job, "POST"),
            route("/api/jobs/{id}", job_answers.job),
            route("/api/jobs/{id}/cancel", job_answers.cancel, "POST"),
            route("/api/jobs/{id}/resume", job_answers.resume, "POST"),
            route("/api/jobs/{id}/report", job_answers.report),
            route("/api/jobs/{id}/file", job_answers.download),
            route("/api/jobs/{id}/file/{name}", job_answers.download),
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
