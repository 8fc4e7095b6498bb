"""Check requests: host name, token, origin; and set the headers of every answer.

This is plain ASGI, so that nothing is buffered.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response

from crossband.core.html import render
from crossband.web.settings import Settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: A header that only our own script sends: another site's form cannot.
OWN_HEADER = "x-crossband"
#: No script, style, font or request but of this server; Leaflet's tiles are blobs.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"SAMEORIGIN"),
)


class Guard:
    """Refuses requests before the application sees them.

    Args:
        app: the application.
        settings: host names and token.
    """

    def __init__(self, app: App, settings: Settings) -> None:
        self._app, self._settings = app, settings
        token = settings.token
        # The cookie is not the token itself, so that nothing that keeps cookies learns it.
        self._cookie = "" if token is None else _digest(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message.get("headers", [])}
                message["headers"] = [
                    *message.get("headers", []),
                    *((n, v) for n, v in _HEADERS if n not in given),
                ]
                if b"cache-control" not in given:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        refused = self._refused(HTTPConnection(scope))
        answer: Any = self._app if refused is None else refused
        await answer(scope, receive, with_headers)

    def _refused(self, request: HTTPConnection) -> Response | None:
        """Return the answer to a request that is not passed on."""
        host, settings = request.headers.get("host", ""), self._settings
        name = (urlsplit(f"//{host}").hostname or "") if _is_host(host) else ""
        name = f"[{name}]" if ":" in name else name
        if not name or (settings.hosts and name not in settings.hosts):
            return _error(421, f"this page is not reached as {host[:200]!r}; see --allow-host")
        if not _is_own_site(request, host):
            return _error(403, "pages of other sites may not ask this server")
        if request.scope["method"] not in ("GET", "HEAD") and OWN_HEADER not in request.headers:
            return _error(403, f"only the page itself changes something: {OWN_HEADER} is missing")
        return self._without_token(request)

    def _without_token(self, request: HTTPConnection) -> Response | None:
        """Return the answer to a request that does not show the token."""
        token = self._settings.token
        if token is None:
            return None
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        shown = scheme.lower() == "bearer" and _same(given, token)
        shown |= _same(request.cookies.get("crossband", ""), self._cookie)
        path = _path(request)
        if shown or path == "/static/style.css":  # of the form that asks for the token
            return None
        if path != "/" or request.scope["method"] != "GET":
            return _error(401, "give the token that the server was started with")
        given = request.query_params.get("token", "")
        if not _same(given, token):
            wrong = "This is not the token." if given else ""
            text = render("crossband.web", "login.html", wrong=wrong)
            return Response(text, 401, media_type="text/html; charset=utf-8")
        # Without the token in its address, the page can be shown to others, and linked.
        answer = RedirectResponse("./", 303)
        secure = request.scope.get("scheme") == "https"
        answer.set_cookie(
            "crossband", self._cookie, httponly=True, samesite="strict", secure=secure
        )
        return answer


def _digest(token: str) -> str:
    return hashlib.sha256(f"crossband serve {token}".encode()).hexdigest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _is_host(text: str) -> bool:
    """Return whether a Host header is one name or address, perhaps with a port."""
    try:
        parts = urlsplit(f"//{text}")
        _ = parts.port
    except ValueError:
        return False
    return bool(parts.hostname) and parts.netloc == text and "@" not in text


def _is_own_site(request: HTTPConnection, host: str) -> bool:
    """Return whether a request comes from our page, from the address bar, or from no browser."""
    site = request.headers.get("sec-fetch-site", "none")
    if site not in ("same-origin", "none"):
        # A link from elsewhere may open the page itself, which changes nothing.
        mode = request.headers.get("sec-fetch-mode", "")
        opens = mode == "navigate" and request.headers.get("sec-fetch-dest") == "document"
        return opens and request.scope["method"] == "GET" and _path(request) == "/"
    origin = request.headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == host
    except ValueError:  # no address
        return False


def _path(request: HTTPConnection) -> str:
    return str(request.scope["path"]) or "/"


def _error(status: int, words: str) -> Response:
    return JSONResponse({"error": words}, status)
