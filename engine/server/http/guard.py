"""Access control: refuses requests from pages of other sites, and requests without the token.

A page's requests may go to any address, including this server's, so each request is checked: `Host` must be a name of
this server (against DNS rebinding), `Origin`, if present, the server's own (against forged requests; `null` is never
accepted), and `Sec-Fetch-Site` must not name another site.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

from engine.errors import Problem
from engine.server.http.peers import PEERS
from engine.server.http.routes import refusal
from engine.server.http.settings import SETTINGS, ServerSettings
from engine.server.http.tokens import TOKENS, cookie_name

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether a server that listens on an address can be reached from this machine only."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests of other sites, or without the token, and close their connections."""
    answer = await _guarded(request, handler)
    if answer.status in (401, 403):
        answer.force_close()
    return answer


async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    settings = request.app[SETTINGS]
    if problem := _origin_problem(request, settings):
        return refusal(403, "forbidden", [problem])
    if tokens := request.app[TOKENS]:
        if not await tokens.carried_by(request):
            return _unauthorized(request)
        if request.path == "/" and "token" in request.query:
            answer = web.HTTPSeeOther("/")
            answer.set_cookie(cookie_name(request), tokens.cookie, httponly=True, samesite="Strict", path="/")
            return answer
    elif not await request.app[PEERS].is_own(request):
        message = "without a token, only the account that runs this server may use it, and through no proxy"
        hint = "start the server with KINOGRAPH_TOKEN set to a secret, and send that"
        return refusal(401, "unauthorized", [Problem(message, hint=hint)])
    if "Content-Encoding" in request.headers:  # a small body can unpack to any size
        return refusal(415, "unsupported", [Problem("compressed bodies are not accepted", hint="send it uncompressed")])
    return await handler(request)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that restrict what browsers do with a response."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.path.startswith("/assets/") and response.status == 200:
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"  # the names change with the content


def _origin_problem(request: web.Request, settings: ServerSettings) -> Problem | None:
    """Why a request is refused for its origin; None if it isn't."""
    host = _hostname(request.headers.get("Host", ""))
    if host is None or not _is_own_name(host, settings):
        hint = "open it by the address that it printed, or start it with --allow-host NAME"
        return Problem("the server doesn't answer to this name", hint=hint)
    origin = request.headers.get("Origin")
    if origin is not None and _authority(origin) != request.headers["Host"].lower():
        return Problem("pages of other sites may not use this server")
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in ("none", "same-origin") and not _is_navigation(request):
        return Problem("pages of other sites may not use this server")
    return None


def _is_navigation(request: web.Request) -> bool:
    """Whether a link to the editor was followed."""
    return request.method == "GET" and request.path == "/" and request.headers.get("Sec-Fetch-Mode") == "navigate"


def _is_own_name(host: str, settings: ServerSettings) -> bool:
    if host in LOOPBACK or host in settings.hosts:
        return True
    return bool(settings.token) and (_is_address(host) or host in (socket.gethostname().lower(), settings.host))


def _hostname(host: str) -> str | None:
    """The name in a `Host` header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _authority(origin: str) -> str | None:
    """The name and port in an `Origin` header; None unless it is that of a page, and not of a browser's extension."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _unauthorized(request: web.Request) -> web.Response:
    """The refusal of a request without the token."""
    is_wrong = "Authorization" in request.headers or (request.path == "/" and "token" in request.query)
    message = "this is not the token that the server was started with" if is_wrong else "a token is required"
    hint = "open the address that the server printed, or send 'Authorization: Bearer TOKEN'"
    answer = refusal(401, "unauthorized", [Problem(message, hint=hint)])
    # some programs send a password only when asked; a browser would ask its user, for each file of the editor
    is_browser = "Sec-Fetch-Mode" in request.headers or request.headers.get("User-Agent", "").startswith("Mozilla/")
    answer.headers["WWW-Authenticate"] = "Bearer" if is_browser else 'Basic realm="Kinograph", charset="UTF-8"'
    return answer
