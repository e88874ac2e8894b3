"""The WebSocket clients: each has its own outgoing queue, so that a slow client delays no other."""

from __future__ import annotations

import asyncio
import json
import struct
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal

from aiohttp import WSCloseCode, web

Features = Mapping[str, bool]
EVENTS, PREVIEWS_WITH_DATA = "kinograph_events", "supports_preview_metadata"
"""The features that a client may announce: that it understands Kinograph's own messages, and previews with data."""

MOST_QUEUED = 4096
"""Messages that may be queued for a client; beyond that, messages that aren't needed are dropped."""
MOST_QUEUED_BYTES = 32 << 20
GROUP = 50
"""How many clients are sent a message for all at a time: as many as don't noticeably delay another message."""
CLOSE_SECONDS = 1.0
"""How long a client may take to answer the closing handshake."""
PREVIEW, TEXT, PREVIEW_WITH_DATA = 1, 3, 4
"""The type of a binary message, its first number."""
JPEG = 1


class Client:
    """One connection.

    Args:
        sid: the client id that its jobs carry.
        socket: an open WebSocket.
        abort: ends the connection at once, whatever is still to be sent.
    """

    def __init__(self, sid: str, socket: web.WebSocketResponse, abort: Callable[[], object]) -> None:
        self.sid: str | None = sid
        self.features: Features = {}
        """The features that it announced."""
        self.too_slow = False
        self._socket = socket
        self._abort = abort
        self._outbox: deque[tuple[str | bytes, bool]] = deque()
        self._nbytes = 0
        self._waiting = asyncio.Event()

    @property
    def is_native(self) -> bool:
        """Whether it understands Kinograph's own messages."""
        return bool(self.features.get(EVENTS))

    def enqueue(self, message: str | bytes, *, needed: bool = True) -> None:
        """Add a message to the outgoing queue; one that isn't `needed` may be dropped if the client is slow."""
        if self.too_slow:
            return
        self._outbox.append((message, needed))
        self._nbytes += len(message)
        if len(self._outbox) > MOST_QUEUED or self._nbytes > MOST_QUEUED_BYTES:
            self._outbox = deque(item for item in self._outbox if item[1])
            self._nbytes = sum(len(text) for text, _ in self._outbox)
            self.too_slow = len(self._outbox) > MOST_QUEUED or self._nbytes > MOST_QUEUED_BYTES
            if self.too_slow:
                self._outbox.clear()
                self._abort()  # sending anything more might block for ever, even a closing handshake
        self._waiting.set()

    async def send(self) -> None:
        """Send queued messages until the connection ends or the client is too slow."""
        with suppress(ConnectionError):
            while not (self.too_slow or self._socket.closed):
                await self._waiting.wait()
                self._waiting.clear()
                while self._outbox and not self.too_slow:
                    message, _ = self._outbox.popleft()
                    self._nbytes -= len(message)
                    if isinstance(message, str):
                        await self._socket.send_str(message)
                    else:
                        await self._socket.send_bytes(message)

    async def close(self) -> None:
        """Close the connection; not every client answers the closing handshake."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._socket.close(code=WSCloseCode.GOING_AWAY)
        self._abort()


def understood(announced: Mapping[str, Any]) -> Features:
    """What of a client's announcement matters here; the rest, which may be large, isn't kept."""
    return {name: bool(announced[name]) for name in (EVENTS, PREVIEWS_WITH_DATA) if name in announced}


def send(kind: str, data: Any, receivers: Collection[Client], *, needed: bool = True) -> int:
    """Send a message to some clients; returns its size times its receivers."""
    if not receivers:
        return 0
    message = json.dumps({"type": kind, "data": data})
    for client in receivers:
        client.enqueue(message, needed=needed)
    return len(message) * len(receivers)


class Clients:
    """All clients."""

    def __init__(self) -> None:
        self._clients: set[Client] = set()

    def __len__(self) -> int:
        return len(self._clients)

    def add(self, client: Client) -> None:
        """Add a client; an older connection with the same id no longer gets messages addressed to that id."""
        for other in self._clients:
            if other.sid == client.sid:
                other.sid = None
        self._clients.add(client)

    def remove(self, client: Client) -> None:
        self._clients.discard(client)

    @property
    def has_native(self) -> bool:
        """Whether any client understands Kinograph's own messages."""
        return any(client.is_native for client in self._clients)

    def send(self, kind: str, data: Any, *, to: str, needed: bool = True) -> None:
        """Send a message to the client with an id."""
        send(kind, data, [client for client in self._clients if client.sid == to], needed=needed)

    def send_native(self, kind: str, data: Any, *, needed: bool = True) -> None:
        """Send one of Kinograph's own messages to all clients that understand them."""
        send(kind, data, [client for client in self._clients if client.is_native], needed=needed)

    def groups(self, *, native: bool = False) -> Iterator[tuple[Client, ...]]:
        """All clients, or those that understand Kinograph's own messages, a few at a time."""
        clients = [client for client in self._clients if client.is_native or not native]
        yield from (tuple(clients[start : start + GROUP]) for start in range(0, len(clients), GROUP))

    @property
    def wants_previews(self) -> bool:
        return any(_preview_format(client.features) for client in self._clients)

    def send_preview(self, job: str, node: str, shown: str, jpeg: bytes, *, owner: str | None) -> None:
        """Send a preview to the clients that can show it: the job's owner, and the editors."""
        about = {"node_id": node, "display_node_id": shown, "real_node_id": node, "parent_node_id": None}
        about |= {"prompt_id": job, "image_type": "image/jpeg"}
        text = json.dumps(about).encode()
        messages = {
            "plain": struct.pack(">II", PREVIEW, JPEG) + jpeg,
            "with data": struct.pack(">II", PREVIEW_WITH_DATA, len(text)) + text + jpeg,
        }
        for client in self._clients:
            wanted = _preview_format(client.features)
            if wanted and (client.sid == owner or client.is_native):
                client.enqueue(messages[wanted], needed=False)

    def send_text(self, node: str, text: str, *, to: str) -> None:
        """Send the job's owner a piece of the text that a node is writing."""
        name = node.encode()
        message = struct.pack(">II", TEXT, len(name)) + name + text.encode()
        for client in self._clients:
            if client.sid == to and not client.is_native:
                client.enqueue(message)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(client.close() for client in self._clients))


def _preview_format(features: Features) -> Literal["plain", "with data"] | None:
    """The format in which a client wants previews; None until it has announced one."""
    if PREVIEWS_WITH_DATA not in features:
        return None
    return "with data" if features[PREVIEWS_WITH_DATA] else "plain"


CLIENTS = web.AppKey("clients", Clients)
