"""Limits on connections: how many may be open, and how long each may take to send what it has begun.

aiohttp waits for ever for the rest of a request, and each connection takes one of the files that a process may have
open. So each connection is counted, and watched until its request is complete:

- one that doesn't send its headers, or too little of its body, in time is closed (408);
- when all are taken, the oldest that hasn't sent a complete request makes room for a new one, or else the one that has
  been idle between requests for longest; if all are being answered, the new one is refused (503).
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

try:
    import resource
except ImportError:  # Windows, where open files aren't limited like this
    resource = None  # type: ignore[assignment]

logger = logging.getLogger("kinograph")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

WATCH_SECONDS = 1.0
IDLE_SECONDS = 75.0
"""How long a connection is kept open for the next request."""
LINGER_SECONDS = 3.0
"""How long the rest of a refused body is read, so that the client gets to read the answer."""
STALLED_SECONDS = 300.0
"""How long a client may not read what it is sent, where the system can tell (Linux)."""

MOST_FILES = 10_240
"""Open files to ask the system for; macOS gives no more."""
OWN_FILES = 64
"""Files that the server has open anyway, workers and the queue included."""
MOST_WITHOUT_LIMIT = 2048
"""Connections where the system doesn't limit open files."""
MOST_ACCEPTED = 128
"""Connections that are accepted at once, before any of them can be refused."""


@dataclass(frozen=True)
class Patience:
    """How long clients may take."""

    header_seconds: float = 20.0
    """To send the headers of a request."""
    body_seconds: float = 30.0
    """To send at least `body_bytes` more of a body, unless less is left."""
    body_bytes: int = 16_384


@dataclass(frozen=True)
class Capacity:
    """How many connections there may be."""

    open: int
    accepted: int
    """At once."""


def capacity() -> Capacity:
    """How many connections this process can have, with files left for all else; first asks the system for more files.

    A quarter of the files is left for those that are served, uploaded and written.
    """
    limit = _most_files()
    if limit is None:
        return Capacity(MOST_WITHOUT_LIMIT, MOST_ACCEPTED)
    accepted = min(MOST_ACCEPTED, max(4, limit // 16))
    return Capacity(max(8, limit - limit // 4 - OWN_FILES), accepted)


def _most_files() -> int | None:
    """How many files this process may have open, as many as it may ask for; None if there is no limit."""
    if resource is None:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return None if soft == resource.RLIM_INFINITY else soft


class Body(Protocol):
    """A request's body, while it is received."""

    def is_eof(self) -> bool: ...


class Connection(asyncio.Protocol):
    """One connection: passes everything on to aiohttp's handler, and notes what the client has sent.

    Args:
        pool: the connections it belongs to.
        handler: aiohttp's.
    """

    def __init__(self, pool: Connections, handler: asyncio.Protocol) -> None:
        self._pool = pool
        self._handler = handler
        self._transport: asyncio.Transport | None = None
        self._accepted = False
        self._in_request = False
        self._body: Body | None = None
        self._received = 0
        self._since = 0.0
        """When the present `_received` were counted from."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._pool.make_room():
            transport.write(_FULL)
            transport.close()
            return
        self._accepted = True
        _limit_stalls(transport)
        self._pool.opened(self)
        self._handler.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self._accepted:
            return
        self._received += len(data)
        if not self._in_request:
            self._pool.awaited(self)
        self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        return self._handler.eof_received() if self._accepted else None

    def pause_writing(self) -> None:
        if self._accepted:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        if self._accepted:
            self._handler.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._pool.closed(self)
        if self._accepted:
            self._handler.connection_lost(error)

    def begin(self, body: Body, now: float) -> None:
        """The headers of a request are complete."""
        self._in_request = True
        self._body, self._received, self._since = body, 0, now
        self._pool.answering(self)

    def end(self) -> None:
        """The whole answer has been written; the system may still have some of it to send."""
        self._in_request, self._body = False, None
        self._pool.answered(self)

    @property
    def has_unsent(self) -> bool:
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def check_body(self, now: float, patience: Patience) -> None:
        """Close the connection if it sends too little of a body that is waited for."""
        body, transport = self._body, self._transport
        if body is None or transport is None:
            return
        if body.is_eof():
            self._body = None
        elif not transport.is_reading() or self._received >= patience.body_bytes:  # not reading: it's not its turn
            self._received, self._since = 0, now
        elif now - self._since > patience.body_seconds:
            self.time_out()

    def time_out(self) -> None:
        """Answer that it took too long, and close it."""
        self._pool.closed(self)
        if self._transport and not self._transport.is_closing():
            self._transport.write(_LATE)
            self._transport.close()

    def abort(self) -> None:
        """Close it at once."""
        self._pool.closed(self)
        if self._transport:
            self._transport.abort()


class Connections:
    """All connections.

    Args:
        most: how many may be open, WebSockets included.
        patience: how long clients may take.
    """

    def __init__(self, most: int, patience: Patience) -> None:
        self.most = most
        self._patience = patience
        self._open = set[Connection]()
        self._waiting: dict[Connection, float] = {}
        """Those that haven't sent the headers of a request, oldest first, and since when."""
        self._idle: dict[Connection, None] = {}
        """Those that have been answered and haven't begun another request, longest first."""

    @property
    def most_sockets(self) -> int:
        """How many WebSockets there may be, so that there is room for other requests."""
        return max(1, self.most * 3 // 4)

    def factory(self, handlers: Callable[[], asyncio.Protocol]) -> Callable[[], Connection]:
        """Makes the protocol of each connection, for `loop.create_server`; `handlers` makes aiohttp's."""
        return lambda: Connection(self, handlers())

    def __len__(self) -> int:
        return len(self._open)

    def make_room(self) -> bool:
        """Whether one more connection can be opened, after one on which nothing is being answered made room for it."""
        if len(self._open) < self.most:
            return True
        oldest = next(iter(self._waiting), None) or next((one for one in self._idle if not one.has_unsent), None)
        if oldest is None:
            logger.warning("all %d connections are taken; a new one is refused", self.most)
            return False
        logger.warning("all %d connections are taken; one without a request is closed", self.most)
        oldest.abort()
        return True

    def opened(self, connection: Connection) -> None:
        self._open.add(connection)
        self.awaited(connection)

    def awaited(self, connection: Connection) -> None:
        """A connection has started a request, whose headers have to follow."""
        if connection in self._open:
            self._idle.pop(connection, None)
            self._waiting.setdefault(connection, asyncio.get_running_loop().time())

    def answering(self, connection: Connection) -> None:
        """The headers of a connection's request are complete."""
        self._idle.pop(connection, None)
        self._waiting.pop(connection, None)

    def answered(self, connection: Connection) -> None:
        """A connection's request has been answered."""
        if connection in self._open:
            self._idle[connection] = None

    def closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)
        self._waiting.pop(connection, None)

    async def watch(self) -> None:
        """Close connections that take too long, until cancelled."""
        while True:
            await asyncio.sleep(min(WATCH_SECONDS, self._patience.header_seconds))
            now = asyncio.get_running_loop().time()
            for connection, since in list(self._waiting.items()):
                if now - since <= self._patience.header_seconds:
                    break
                connection.time_out()
            for connection in list(self._open):
                connection.check_body(now, self._patience)


CONNECTIONS = web.AppKey("connections", Connections)


@web.middleware
async def watched(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Note that the headers of a request are complete."""
    if connection := _connection_of(request):
        connection.begin(request.content, asyncio.get_running_loop().time())
    return await handler(request)


class Answered(AbstractAccessLogger):
    """Notes that a request has been answered: the access log is what aiohttp calls when all of an answer is written."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        if connection := _connection_of(request):
            connection.end()


def _connection_of(request: web.BaseRequest) -> Connection | None:
    """The connection of a request; None if it was closed meanwhile."""
    protocol = request.transport.get_protocol() if request.transport else None
    return protocol if isinstance(protocol, Connection) else None


def _limit_stalls(transport: asyncio.Transport) -> None:
    """Have the system close a connection whose client doesn't read."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    own = transport.get_extra_info("socket")
    if option is not None and own is not None:
        with suppress(OSError):
            own.setsockopt(socket.IPPROTO_TCP, option, int(STALLED_SECONDS * 1000))


def _answer(status: str, message: str, *headers: str) -> bytes:
    """A whole response with an error, for where aiohttp hasn't got a request."""
    problem = {"message": message, "node": None, "input": None, "hint": None}
    error = {"type": "http_error", "message": message, "details": "", "extra_info": {}}
    body = json.dumps({"error": error, "node_errors": {}, "problems": [problem]}).encode()
    head = [f"HTTP/1.1 {status}", "Connection: close", "Content-Type: application/json", *headers]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


_FULL = _answer("503 Service Unavailable", "the server has too many connections; try again later", "Retry-After: 5")
_LATE = _answer("408 Request Timeout", "the request took too long to arrive")
