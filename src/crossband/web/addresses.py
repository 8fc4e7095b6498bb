"""Servers to which this machine sends requests for visitors: public ones only.

A name may mean another address at the next look-up, and a server may redirect. So it is not enough
to look at the address that a visitor gives. GDAL gets all that it fetches from servers through a
proxy of this process, which looks a name up once, refuses it unless all its addresses are public,
and connects to the address that it has looked at.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import selectors
import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from typing import TypeAlias
from urllib.parse import urlsplit

from crossband.errors import InputError

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
#: Bytes of the head of a request, and seconds without a byte after which a connection is closed.
_HEAD, _SECONDS = 64 * 1024, 90.0
#: Connections at once.
_CONNECTIONS = 64


def public_addresses(host: str, port: int, networks: Sequence[Network] = ()) -> list[str]:
    """Return the addresses of a host, all of which are public or in one of the networks.

    Raises:
        InputError: the host is not known, or one of its addresses is neither.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(f"{host}: there is no such server") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for text in addresses:
        if not _is_allowed(text, networks):
            raise InputError(f"{host} is not on a public server, and only those are asked")
    return addresses


def _is_allowed(text: str, networks: Sequence[Network]) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    inner: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None
    if isinstance(address, ipaddress.IPv6Address):
        # An address of version 4 in one of version 6: mapped, 6to4, and behind NAT64.
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    for one in (address, inner) if inner is not None else (address,):
        if any(one in network for network in networks if network.version == one.version):
            return True
    seen = inner if inner is not None else address
    return bool(seen.is_global and not seen.is_multicast)


def check_address(text: str, networks: Sequence[Network] = ()) -> None:
    """Raise InputError for an address of a raster that a visitor must not name."""
    wrong = InputError("an address of a raster begins with https:// or http://, and names a server")
    if any(not c.isprintable() or c in ' "\\' for c in text) or len(text) > 2000:
        raise wrong
    try:
        parts = urlsplit(text)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError) as error:
        raise wrong from error
    if not parts.hostname or "@" in parts.netloc or not parts.path.strip("/"):
        raise wrong
    if not text.startswith(("https://", "http://")):
        raise wrong
    public_addresses(parts.hostname, port, networks)


class _Handler(socketserver.BaseRequestHandler):
    """One connection of GDAL: `CONNECT host:port`, or one request to `http://host/...`."""

    server: FilterProxy
    request: socket.socket

    def handle(self) -> None:
        """Look at the request, connect to an address that may be asked, and pass bytes on."""
        self.request.settimeout(_SECONDS)
        with contextlib.suppress(OSError), self.server.slots:
            head = self._head()
            method, _, rest = head.partition(b" ")
            target = rest.split(b" ")[0].decode("latin-1")
            try:
                if method == b"CONNECT":
                    url, first = urlsplit(f"//{target}"), b""
                else:
                    url = urlsplit(target)
                    first = _forwarded(head, target)
                port = url.port or 80
                if not url.hostname or (method != b"CONNECT" and url.scheme != "http"):
                    raise ValueError(target)
                addresses = public_addresses(url.hostname, port, self.server.networks)
            except (InputError, ValueError):
                self.request.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            with _connect(addresses, port) as server:
                if method == b"CONNECT":
                    self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    server.sendall(first)
                _pass_on(self.request, server)

    def _head(self) -> bytes:
        """Return the head of the request; what follows it belongs to the server."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            part = self.request.recv(1)
            if not part or len(head) > _HEAD:
                raise OSError("no whole request")
            head += part
        return head


class FilterProxy(socketserver.ThreadingTCPServer):
    """A proxy on this machine that reaches public servers only.

    Args:
        networks: that may be reached although they are not public.
    """

    daemon_threads, allow_reuse_address, request_queue_size = True, False, 64

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.networks = tuple(networks)
        self.slots = threading.Semaphore(_CONNECTIONS)

    @property
    def address(self) -> str:
        """Host and port, as GDAL takes them."""
        return f"127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def filtered_requests(networks: Sequence[Network] = ()) -> Iterator[FilterProxy]:
    """Have GDAL ask servers through a `FilterProxy`, in all threads of this process."""
    wanted = {"no_proxy": "", "NO_PROXY": ""}
    with FilterProxy(networks) as proxy:
        for name in ("GDAL_HTTP_PROXY", "GDAL_HTTPS_PROXY"):
            wanted[name] = proxy.address
        before = {name: os.environ.get(name) for name in wanted}
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        os.environ.update(wanted)
        try:
            yield proxy
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            proxy.shutdown()
            thread.join()


def _forwarded(head: bytes, target: str) -> bytes:
    """Return the request as the server gets it: with its path only, for one answer."""
    parts = urlsplit(target)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = head.split(b"\r\n")
    method = lines[0].split(b" ")[0]
    kept = [
        line
        for line in lines[1:-2]
        if line.partition(b":")[0].strip().lower()
        not in (b"connection", b"proxy-connection", b"keep-alive", b"host")
    ]
    own = [b" ".join((method, path.encode("latin-1"), b"HTTP/1.1"))]
    own += [b"Host: " + parts.netloc.encode("latin-1"), b"Connection: close"]
    return b"\r\n".join([*own, *kept, b"", b""])


def _connect(addresses: Sequence[str], port: int) -> socket.socket:
    problem: OSError = OSError("no address")
    for text in addresses:
        try:
            return socket.create_connection((text, port), timeout=20)
        except OSError as error:
            problem = error
    raise problem


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    """Pass bytes on in both directions until one side closes."""
    with selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, one)
        while events := ready.select(_SECONDS):
            for key, _ in events:
                source: socket.socket = key.fileobj  # type: ignore[assignment]
                part = source.recv(2**16)
                if not part:
                    return
                key.data.sendall(part)
