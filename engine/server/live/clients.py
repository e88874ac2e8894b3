"""The WebSocket clients: each has a line of its own for what is to be sent, so that a slow one holds up nobody."""

from __future__ import annotations

import asyncio
import json
import struct
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal

from aiohttp import WSCloseCode, web

Features = Mapping[str, Any]

LONGEST_LINE = 4096
"""Messages that may wait for a client; then what can be done without is left out."""
LARGEST_LINE = 32 << 20
"""Bytes that may wait."""
FAREWELL_SECONDS = 1.0
"""How long a client may take to answer that the connection ends."""
PREVIEW, TEXT, PREVIEW_WITH_DATA = 1, 3, 4
"""What a binary message is, as its first number says."""
JPEG = 1


class Client:
    """One connection.

    Args:
        sid: the id by which its jobs know it.
        socket: an open WebSocket.
        cut: ends the connection at once, whatever is still to be sent.
    """

    def __init__(self, sid: str, socket: web.WebSocketResponse, cut: Callable[[], object]) -> None:
        self.sid: str | None = sid
        self.features: Features = {}
        """What it said that it understands."""
        self.too_slow = False
        self._socket = socket
        self._cut = cut
        self._line: deque[tuple[str | bytes, bool]] = deque()
        self._nbytes = 0
        self._waiting = asyncio.Event()

    @property
    def is_ours(self) -> bool:
        """Whether it knows Kinograph's own messages."""
        return bool(self.features.get("kinograph_events"))

    def offer(self, message: str | bytes, *, needed: bool = True) -> None:
        """Put a message at the end of the line; what isn't `needed` may be left out if the client is slow."""
        if self.too_slow:
            return
        self._line.append((message, needed))
        self._nbytes += len(message)
        if len(self._line) > LONGEST_LINE or self._nbytes > LARGEST_LINE:
            self._line = deque(item for item in self._line if item[1])
            self._nbytes = sum(len(text) for text, _ in self._line)
            self.too_slow = len(self._line) > LONGEST_LINE or self._nbytes > LARGEST_LINE
            if self.too_slow:
                self._line.clear()
                self._cut()  # what it is sent now may wait for it for ever, a farewell as well
        self._waiting.set()

    async def send(self) -> None:
        """Send what comes, until the connection ends or the client is too slow."""
        with suppress(ConnectionError):
            while not (self.too_slow or self._socket.closed):
                await self._waiting.wait()
                self._waiting.clear()
                while self._line and not self.too_slow:
                    message, _ = self._line.popleft()
                    self._nbytes -= len(message)
                    if isinstance(message, str):
                        await self._socket.send_str(message)
                    else:
                        await self._socket.send_bytes(message)

    async def close(self) -> None:
        """End the connection; not every client takes leave."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._socket.close(code=WSCloseCode.GOING_AWAY)
        self._cut()


class Clients:
    """All clients."""

    def __init__(self) -> None:
        self._clients: set[Client] = set()

    def __len__(self) -> int:
        return len(self._clients)

    def add(self, client: Client) -> None:
        """Take a client in; another connection of the same id gets nothing more that is for it alone."""
        for other in self._clients:
            if other.sid == client.sid:
                other.sid = None
        self._clients.add(client)

    def remove(self, client: Client) -> None:
        self._clients.discard(client)

    @property
    def has_ours(self) -> bool:
        """Whether there is a client that knows Kinograph's own messages."""
        return any(client.is_ours for client in self._clients)

    def tell(self, kind: str, data: Any, *, to: str | None = None, needed: bool = True) -> int:
        """A message for all clients, or for the one whose id is given; returns its size times those who get it."""
        return self._send(kind, data, [client for client in self._clients if to in (None, client.sid)], needed)

    def tell_ours(self, kind: str, data: Any, *, needed: bool = True) -> int:
        """A message of Kinograph's own, for all clients that know these; returns as `tell` does."""
        return self._send(kind, data, [client for client in self._clients if client.is_ours], needed)

    def _send(self, kind: str, data: Any, receivers: list[Client], needed: bool) -> int:
        if not receivers:
            return 0
        message = json.dumps({"type": kind, "data": data})
        for client in receivers:
            client.offer(message, needed=needed)
        return len(message) * len(receivers)

    @property
    def wants_previews(self) -> bool:
        return any(_preview_form(client.features) for client in self._clients)

    def preview(self, job: str, node: str, shown: str, jpeg: bytes, *, of: str | None) -> None:
        """A preview for those who can show it: the client whose job it is, and the editors."""
        about = {"node_id": node, "display_node_id": shown, "real_node_id": node, "parent_node_id": None}
        about |= {"prompt_id": job, "image_type": "image/jpeg"}
        text = json.dumps(about).encode()
        forms = {
            "plain": struct.pack(">II", PREVIEW, JPEG) + jpeg,
            "with data": struct.pack(">II", PREVIEW_WITH_DATA, len(text)) + text + jpeg,
        }
        for client in self._clients:
            form = _preview_form(client.features)
            if form and (client.sid == of or client.is_ours):
                client.offer(forms[form], needed=False)

    def text(self, node: str, text: str, *, to: str) -> None:
        """A piece of text that a node is writing, for the client whose job it is."""
        name = node.encode()
        message = struct.pack(">II", TEXT, len(name)) + name + text.encode()
        for client in self._clients:
            if client.sid == to and not client.is_ours:
                client.offer(message)

    async def close(self) -> None:
        """End all connections."""
        await asyncio.gather(*(client.close() for client in self._clients))


def _preview_form(features: Features) -> Literal["plain", "with data"] | None:
    """In which form a client wants previews: none until it has said so."""
    if "supports_preview_metadata" not in features:
        return None
    return "with data" if features["supports_preview_metadata"] else "plain"


CLIENTS = web.AppKey("clients", Clients)
