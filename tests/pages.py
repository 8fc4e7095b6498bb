"""The page of `crossband serve` in a real browser, which reaches this machine only."""

from __future__ import annotations

import os
import shutil
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pytest
import rasterio
from affine import Affine

from crossband.web.settings import Settings

sync_api = pytest.importorskip("playwright.sync_api")
uvicorn = pytest.importorskip("uvicorn")

app = pytest.importorskip("crossband.web.app")

CHROMIUM = os.environ.get("CROSSBAND_CHROMIUM") or shutil.which("chromium")
IN_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt install chromium)"),
]
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


def write_scene(path, name="<script>alert(1)</script>"):
    """Write a scene of four bands with fields, of 700 x 800 pixels of 10 m."""
    rng = np.random.default_rng(3)
    fields = rng.uniform(0.03, 0.35, (4, 14, 16)).repeat(50, 1).repeat(50, 2)
    noise = rng.normal(0, 0.01, fields.shape)
    stored = ((fields + noise).clip(0.01, 1) * 10_000).astype(np.uint16)
    profile = {"driver": "GTiff", "count": 4, "height": 700, "width": 800, "dtype": "uint16"}
    profile |= {"crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 5e6)}
    with rasterio.open(path, "w", **profile) as out:
        out.write(stored)
        out.descriptions = ("red", "green", "blue", "nir")
        out.scales, out.units = (1e-4,) * 4, ("reflectance",) * 4
        out.update_tags(1, DESCRIPTION=name)
    return path


@contextmanager
def serving(settings, prefix=None):
    """Serve the page in a thread; yield its address."""
    config = uvicorn.Config(
        app.create_app(settings, prefix), host="127.0.0.1", port=0, log_level="error", ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


@contextmanager
def proxied(address, prefix, keeps):
    """Publish a server below a path, as a reverse proxy does; yield the address.

    Args:
        address: of the server.
        prefix: path below which it is published.
        keeps: the prefix stays in the addresses that the server gets.
    """
    inner = urlsplit(address)

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self):
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404)
                return
            path = self.path if keeps else self.path.removeprefix(prefix)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            server = HTTPConnection(inner.hostname, inner.port, timeout=120)
            server.request(self.command, path, body, dict(self.headers))
            answer = server.getresponse()
            content = answer.read()
            server.close()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(OSError):  # of a request that the browser has broken off
                self.wfile.write(content)

        do_GET = do_POST = pass_on

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}{prefix}/"
        running.shutdown()


@pytest.fixture(scope="module")
def browser():
    """Return Chromium, for which no other name than this machine's exists."""
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        yield opened
        opened.close()


@pytest.fixture
def serve():
    """Return a function that serves the page until the browser has left it."""
    with ExitStack() as stack:
        yield lambda *given: stack.enter_context(serving(*given))


@pytest.fixture
def open_page(browser, serve):
    """Return a function that opens a page; at the end it has said and asked nothing wrong."""
    problems, contexts = [], []

    def start(size, refused=False, **options):
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            has_touch=size == "phone",
            permissions=["clipboard-read", "clipboard-write"],
            accept_downloads=True,
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)

        def asked(request):
            parts = urlsplit(request.url)
            if parts.scheme in ("http", "https", "ws") and parts.hostname != "127.0.0.1":
                problems.append(f"outside: {request.url}")

        page.on("request", asked)

        def told(message):
            # The browser itself reports each answer that is an error.
            expected = refused and message.text.startswith("Failed to load resource")
            if message.type in ("error", "warning") and not expected:
                problems.append(message.text)

        page.on("console", told)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        return page

    yield start
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture
def settings(tmp_path, tiny_model):
    folder, root = tmp_path / "served", tmp_path / "root"
    folder.mkdir()
    root.mkdir()
    write_scene(root / "fields.tif")
    return Settings(folder, root.resolve(), models=(str(tiny_model),))


def loaded(page, side):
    """Wait until all tiles of a side are there."""
    page.wait_for_function(
        """(side) => {
            const tiles = [...document.querySelectorAll(`.leaflet-${side}-pane img`)];
            return tiles.length > 0 && tiles.every((t) => t.complete && t.src);
        }""",
        arg=side,
    )


def write_guide(path, seed=None):
    """Write a near infrared of 50 m over the scene: that of its fields, or of other ones."""
    scene = write_scene(path)
    with rasterio.open(scene) as file:
        nir = file.read(4)
    if seed is not None:
        nir = np.random.default_rng(seed).integers(300, 4000, nir.shape)
    coarse = nir.reshape(140, 5, 160, 5).mean((1, 3)).astype(np.uint16)
    profile = {"driver": "GTiff", "count": 1, "height": 140, "width": 160, "dtype": "uint16"}
    profile |= {"crs": "EPSG:32633", "transform": Affine(50, 0, 5e5, 0, -50, 5e6)}
    with rasterio.open(path, "w", **profile) as out:
        out.write(coarse, 1)
        out.descriptions = ("nir",)
        out.scales, out.units = (1e-4,), ("reflectance",)
    return path
