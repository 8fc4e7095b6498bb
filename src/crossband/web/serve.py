"""Run the page until Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import warnings

import uvicorn
from rasterio.errors import NotGeoreferencedWarning

from crossband.core.locks import locked
from crossband.core.messages import say
from crossband.errors import CrossbandError
from crossband.raster.gdal import GDAL_OPTIONS
from crossband.web.app import create_app
from crossband.web.server import Server
from crossband.web.settings import Settings


def serve(settings: Settings, host: str, port: int, prefix: str | None = None) -> None:
    """Serve the page.

    Args:
        settings: checked options.
        host: address to listen on.
        port: to listen on; 0 for any free one.
        prefix: path that a reverse proxy leaves in front of the addresses.

    Raises:
        CrossbandError: the address is taken, or does not exist; another server uses the folder; a
            model cannot be loaded.
    """
    prefix = (prefix or "").rstrip("/")
    # The cache of GDAL is one of the process, whatever thread has filled it.
    os.environ.setdefault("GDAL_CACHEMAX", str(GDAL_OPTIONS["GDAL_CACHEMAX"] // 2**20))
    # In many threads at once, what one of them switches off comes back in another.
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    server = Server(settings)
    for name in server.models.names:
        server.models.get(name)  # what cannot be loaded is told now, and not to visitors
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    query = "" if settings.token is None else "?token=..."
    config = uvicorn.Config(
        create_app(settings, prefix, server),
        log_level="warning",
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=20,
        limit_concurrency=500,
        ws="none",
    )
    # Ctrl-C is how it ends; jobs are kept.
    stopped = contextlib.suppress(KeyboardInterrupt)
    with listening, locked(settings.folder / "lock", settings.folder), stopped:
        say(f"Crossband is at http://{shown}:{port}{prefix}/{query} (Ctrl-C ends it)")
        uvicorn.Server(config).run(sockets=[listening])
    if any(thread.name in ("jobs", "previews") for thread in threading.enumerate()):
        # One is inside a long computation, which cannot be broken off; its store is on disk.
        os._exit(0)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(128)  # who asks from now on waits until the server has started
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = "another program listens there; choose another --port" if taken else error.strerror
        raise CrossbandError(f"{host}:{port}: {why}") from error
    return found
