"""A server of a folder that knows ranges, as object stores do; it counts what it gives, and fails
when it is told to."""

from __future__ import annotations

import http.server
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

#: What happens to a request: None is answered, a number is an HTTP error, "drop" is answered with
#: half of the bytes.
Fault = Callable[[str], int | str | None]

#: What S3 says where it refuses: code and message.
ERRORS = {
    403: ("AccessDenied", "Access Denied"),
    404: ("NoSuchKey", "The specified key does not exist."),
    503: ("SlowDown", "Please reduce your request rate."),
}


class RangeServer:
    """Serves a folder on this machine while its context is open.

    Attributes:
        url: its address, without a slash at the end.
        given: name and bytes of each body, in order.
        requests: method and path of each request, in order.
        fault: asked for each request by its path.
        tells: send ETag and Last-Modified.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.given: list[tuple[str, int]] = []
        self.requests: list[tuple[str, str]] = []
        self.fault: Fault = lambda path: None
        self.tells = True

    @property
    def bytes(self) -> int:
        """All bytes of bodies."""
        return sum(size for _, size in self.given)

    def __enter__(self) -> RangeServer:
        handler = type("Bound", (_Handler,), {"about": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    about: RangeServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        self.about.requests.append((self.command, self.path))
        path = self.about.folder / self.path.split("?")[0].lstrip("/").replace("%20", " ")
        fault = self.about.fault(self.path)
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
        if self.about.tells:
            state = path.stat()
            self.send_header("ETag", f'"{state.st_mtime_ns:x}-{state.st_size:x}"')
            self.send_header("Last-Modified", self.date_time_string(int(state.st_mtime)))
        self.end_headers()
        if not body:
            return
        if fault == "drop":
            part = part[: len(part) // 2]
        self.wfile.write(part)
        self.about.given.append((path.name, len(part)))
        if fault == "drop":
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def _refuse(self, status, body):
        code, message = ERRORS.get(status, ERRORS[503])
        text = (
            f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        )
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if body:
            self.wfile.write(text.encode())

    def log_message(self, *arguments):
        pass
