"""The server's event stream, over a WebSocket, for watched jobs; it reconnects when the connection breaks."""

from __future__ import annotations

import asyncio
import json
import struct
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import aiohttp
from pydantic import BaseModel, ValidationError

from engine.client.answers import Answer
from engine.client.connection import CLOSED, TO_CHECK, Connection, Unreachable
from engine.client.events import NodePreview, read
from engine.client.watching import Listener, Watch
from engine.errors import KinographError, ServerError, UsageError

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two attempts to reach a server that is away: a tenth of the time that it has been."""
PREVIEW_WITH_DATA = 4
HEAD = struct.Struct(">II")

M = TypeVar("M", bound=BaseModel)


class _Message(Answer):
    type: str
    data: Any = None


class _Events(Answer):
    job: str
    events: list[dict[str, Any]]


class _Id(Answer):
    id: str


class _Queue(Answer):
    running: list[_Id]
    pending: list[_Id]
    total_pending: int


class _Executing(Answer):
    node: str | None
    prompt_id: str


class _Preview(Answer):
    node_id: str
    prompt_id: str


class Feed:
    """Publishes events to watches; runs while any job is watched.

    Args:
        connection: the server.
        patience: how many seconds the server may be away; for ever if None.
    """

    def __init__(self, connection: Connection, patience: float | None) -> None:
        self.client = uuid.uuid4().hex
        """The id by which the server tells clients apart."""
        self._connection = connection
        self._patience = patience
        self._watches: WeakValueDictionary[str, Watch] = WeakValueDictionary()
        self._previewing = 0
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._task: asyncio.Task[None] | None = None
        self._connected: asyncio.Future[None] | None = None

    @property
    def is_live(self) -> bool:
        """Whether events are being received."""
        return self._socket is not None

    def watch(self, job: str) -> Watch:
        """A job's watch, kept as long as something refers to it."""
        return self._watches.setdefault(job, Watch())

    async def opened(self) -> None:
        """Wait until events are received; returns at once if the server has only gone away for a while.

        Raises:
            KinographError: the server can't be reached, or refuses.
        """
        if self._task is None or self._connected is None or self._task.done():
            self._connected = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._run(self._connected))
            self._task.add_done_callback(self._ended)
        await asyncio.wait([self._task, self._connected], return_when=asyncio.FIRST_COMPLETED)
        if self._task.done() and not self._connected.done():
            self._task.result()

    @asynccontextmanager
    async def listening(self, watch: Watch, *, previews: bool = False) -> AsyncIterator[Listener]:
        """A listener to a job; previews are requested only while some listener wants them."""
        self._previewing += previews
        try:
            with watch.listening(previews=previews) as listener:
                await self.opened()
                if previews:
                    await self._send_wanted()
                yield listener
        finally:
            self._previewing -= previews
            if previews:
                await self._send_wanted()

    async def _send_wanted(self) -> None:
        if self._socket:
            with suppress(ConnectionError):  # it is sent again once the server is back
                await self._socket.send_str(self._wanted())

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._fail(UsageError(CLOSED, hint="make another"))

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        for watch in self._watches.values():
            watch.fail(error)

    async def _run(self, connected: asyncio.Future[None]) -> None:
        away_since: float | None = None
        while self._watches:
            try:
                async with self._connection.socket(self.client) as socket:
                    await self._greet(socket)
                    self._socket, away_since = socket, None
                    if not connected.done():
                        connected.set_result(None)
                    for watch in self._watches.values():
                        watch.suspect_end()
                    await self._receive(socket)
                    self._socket = None
            except KinographError as error:
                now = time.monotonic()
                is_final = not isinstance(error, Unreachable) or not connected.done()
                if is_final or (self._patience is not None and now - (away_since or now) > self._patience):
                    raise
            finally:
                self._socket = None
            if away_since is None:
                away_since = time.monotonic()
                for watch in self._watches.values():
                    watch.interrupted()
            away = time.monotonic() - away_since
            await asyncio.sleep(min(max(SHORTEST_PAUSE, away / 10), LONGEST_PAUSE))

    async def _greet(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Request events and wait for the confirmation: from then on nothing is missed."""
        await socket.send_str(self._wanted())
        async with asyncio.timeout(self._connection.silence_timeout):
            async for message in socket:
                greeting = self._read(_Message, message.data) if message.type is aiohttp.WSMsgType.TEXT else None
                if greeting and greeting.type == "feature_flags":
                    if isinstance(greeting.data, dict) and greeting.data.get("kinograph_events"):
                        return
                    raise ServerError(f"the server at {self._connection} doesn't report on its jobs", hint=TO_CHECK)
        raise Unreachable(f"the server at {self._connection} ended the connection", hint="look whether it still runs")

    def _wanted(self) -> str:
        wanted = {"kinograph_events": True} | ({"supports_preview_metadata": True} if self._previewing else {})
        return json.dumps({"type": "feature_flags", "data": wanted})

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self._take(self._read(_Message, message.data))
            elif message.type is aiohttp.WSMsgType.BINARY:
                self._show(message.data)
            if not self._watches:
                return

    def _take(self, message: _Message) -> None:
        """Pass on a message; unknown ones are ignored."""
        match message.type:
            case "kinograph":
                batch = self._read(_Events, message.data)
                if watch := self._watches.get(batch.job):
                    try:
                        for event in read(batch.events):
                            watch.publish(event)
                    except ValidationError as error:
                        watch.fail(self._connection.strange(error))
            case "executing":
                ended = self._read(_Executing, message.data)
                if ended.node is None and (watch := self._watches.get(ended.prompt_id)):
                    watch.suspect_end()
            case "queue":
                queue = self._read(_Queue, message.data)
                if queue.total_pending <= len(queue.pending):  # else an unlisted job may be waiting
                    there = {job.id for job in (*queue.running, *queue.pending)}
                    for name in {*self._watches} - there:
                        if watch := self._watches.get(name):
                            watch.suspect_end()

    def _show(self, data: bytes) -> None:
        """Pass on a preview; other binary messages are for other clients."""
        if len(data) < HEAD.size:
            return
        kind, size = HEAD.unpack_from(data)
        if kind == PREVIEW_WITH_DATA:
            about = self._read(_Preview, data[HEAD.size : HEAD.size + size])
            if watch := self._watches.get(about.prompt_id):
                watch.publish(NodePreview(about.node_id, data[HEAD.size + size :]))

    def _read(self, kind: type[M], data: Any) -> M:
        try:
            return kind.model_validate_json(data) if isinstance(data, str | bytes) else kind.model_validate(data)
        except ValidationError as error:
            raise self._connection.strange(error) from None
