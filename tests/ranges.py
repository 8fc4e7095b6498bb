"""A server of a folder that knows ranges, as object stores do; it counts what it gives, and fails
when it is told to.

It runs in a process of its own: GDAL may wait for it while it holds Python's lock.
"""

from __future__ import annotations

import http.server
import json
import re
import socket
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

#: What S3 says where it refuses: code and message.
ERRORS = {
    403: ("AccessDenied", "Access Denied"),
    404: ("NoSuchKey", "The specified key does not exist."),
    503: ("SlowDown", "Please reduce your request rate."),
}
CONTROL = "/.control"


class RangeServer:
    """Serves a folder on this machine while its context is open.

    Attributes:
        url: its address, without a slash at the end.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.url = ""

    def fail(
        self, what: int | str, *, first: int = 1, last: int | None = None, every: int = 1
    ) -> None:
        """Spoil the requests from now on.

        Args:
            what: an HTTP status, or "drop": half of the bytes, then the connection breaks.
            first: number of the first one, counted from 1.
            last: number of the last one.
            every: this one of so many.
        """
        self._control(fault=[what, first, last, every])

    def heal(self) -> None:
        """Answer again."""
        self._control(fault=None)

    def tell(self, tells: bool) -> None:
        """Send ETag and Last-Modified, or do not."""
        self._control(tells=tells)

    @property
    def given(self) -> list[tuple[str, int]]:
        """Name and bytes of each body, in order."""
        return [(name, size) for name, size in self._control()["given"]]

    @property
    def requests(self) -> int:
        """Requests since the last `fail` or `heal`."""
        return int(self._control()["requests"])

    @property
    def bytes(self) -> int:
        """All bytes of bodies."""
        return sum(size for _, size in self.given)

    def _control(self, **change: Any) -> dict[str, Any]:
        request = urllib.request.Request(self.url + CONTROL, json.dumps(change).encode())
        with urllib.request.urlopen(request) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def __enter__(self) -> RangeServer:
        command = [sys.executable, __file__, str(self.folder)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class _Handler(http.server.BaseHTTPRequestHandler):
    folder: Path
    protocol_version = "HTTP/1.1"
    given: list[tuple[str, int]] = []  # noqa: RUF012
    about: dict[str, Any] = {"fault": None, "tells": True, "requests": 0}  # noqa: RUF012

    def do_POST(self):
        change = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "fault" in change:
            change["requests"] = 0
        self.about.update(change)
        text = json.dumps({**self.about, "given": self.given}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _fault(self):
        self.about["requests"] += 1
        what, first, last, every = self.about["fault"] or (None, 1, None, 1)
        number = self.about["requests"]
        spoilt = number >= first and number <= (last or number) and number % every == 0
        return what if spoilt else None

    def _answer(self, body):
        if self.path.startswith("/to/"):  # what follows is an address on this server, or any
            self.send_response(302)
            self.send_header("Location", urllib.parse.unquote(self.path.removeprefix("/to/")))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        fault = self._fault()
        path = self.folder / self.path.split("?")[0].lstrip("/").replace("%20", " ")
        if isinstance(fault, int) or not path.is_file():
            self._refuse(fault if isinstance(fault, int) else 404, body)
            return
        content = path.read_bytes()
        wanted = re.match(r"bytes=(\d+)-(\d+)?", self.headers.get("Range", ""))
        first, last = 0, len(content) - 1
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2] or last), last)
        part = content[first : last + 1]
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        if self.about["tells"]:
            state = path.stat()
            self.send_header("ETag", f'"{state.st_mtime_ns:x}-{state.st_size:x}"')
            self.send_header("Last-Modified", self.date_time_string(int(state.st_mtime)))
        self.end_headers()
        if not body:
            return
        if fault == "drop":
            part = part[: len(part) // 2]
        self.given.append((path.name, len(part)))
        self.wfile.write(part)
        if fault == "drop":
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def _refuse(self, status, body):
        code, message = ERRORS.get(status, ERRORS[503])
        text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if body:
            self.wfile.write(text.encode())

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    _Handler.folder = Path(sys.argv[1])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()  # the end of the process that asked for it ends this one
