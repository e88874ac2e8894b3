"""Who may ask: pages of other sites may not, whatever they call this machine, nor anyone without the token.

A browser sends a page's requests to any address, this one too, so each is looked at: `Host` must be a name of this
server (against DNS rebinding), `Origin`, if there is one, the same (against forged requests; `null` is none of ours),
and `Sec-Fetch-Site` may not say that another site asks.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

from engine.errors import Problem
from engine.server.http.routes import refusal
from engine.server.http.settings import SETTINGS, ServerSettings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

COOKIE = "kinograph_token"
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
    """Whether only this machine can reach an address that a server listens on."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what may not be asked."""
    setup = request.app[SETTINGS]
    if problem := _foreign(request, setup):
        return refusal(403, "forbidden", [problem])
    if setup.token and not _may(request, setup.token):
        if request.method == "GET" and request.path == "/" and "token" in request.query:
            return refusal(401, "unauthorized", [Problem("this is not the token that the server was started with")])
        hint = "open the address that the server printed, or send 'Authorization: Bearer TOKEN'"
        return refusal(401, "unauthorized", [Problem("a token is needed", hint=hint)])
    if setup.token and request.path == "/" and "token" in request.query:
        answer = web.HTTPSeeOther("/")
        answer.set_cookie(COOKIE, setup.token, httponly=True, samesite="Strict", path="/")
        return answer
    if "Content-Encoding" in request.headers:  # a small body can unpack to any size
        return refusal(415, "unsupported", [Problem("compressed bodies are not taken", hint="send it as it is")])
    return await handler(request)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Have browsers keep within bounds."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.path.startswith("/assets/") and response.status == 200:
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"  # their names change with them


def _foreign(request: web.Request, setup: ServerSettings) -> Problem | None:
    """What is wrong with where a request comes from."""
    host = _name(request.headers.get("Host", ""))
    if host is None or not _is_ours(host, setup):
        hint = "open it by the address that it printed, or start it with --allow-host NAME"
        return Problem("the server is not known by this name", hint=hint)
    origin = request.headers.get("Origin")
    if origin is not None and _place(origin) != request.headers["Host"].lower():
        return Problem("pages of other sites may not use this server")
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in ("none", "same-origin") and not _is_visit(request):
        return Problem("pages of other sites may not use this server")
    return None


def _is_visit(request: web.Request) -> bool:
    """Whether someone follows a link to the editor."""
    return request.method == "GET" and request.path == "/" and request.headers.get("Sec-Fetch-Mode") == "navigate"


def _is_ours(host: str, setup: ServerSettings) -> bool:
    if host in LOOPBACK or host in setup.hosts:
        return True
    return bool(setup.token) and (_is_address(host) or host in (socket.gethostname().lower(), setup.host))


def _name(host: str) -> str | None:
    """The name in a `Host` header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _place(origin: str) -> str | None:
    """The name and port in an `Origin` header."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _may(request: web.Request, token: str) -> bool:
    """Whether a request shows the token: in a header, a cookie or, for the first visit, in the address."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    shown = [request.cookies.get(COOKIE, "")]
    if scheme.lower() == "bearer":
        shown.append(bearer.strip())
    if request.path == "/":
        shown.append(request.query.get("token", ""))
    return any(hmac.compare_digest(_bytes(each), _bytes(token)) for each in shown)


def _bytes(text: str) -> bytes:
    """What was sent, also where it is no text."""
    return text.encode(errors="surrogateescape")
