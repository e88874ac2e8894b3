"""A running server that these tests share, clients of it, and servers that only pretend to be one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from engine.client import Client
from tests.server.live import Live, live

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

JOB: dict[str, Any] = {"id": "job", "number": 1, "state": "done", "created": 1.7e9}
"""A job as a server tells of it, with nothing but what must be there."""


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment of these tests has."""
    monkeypatch.delenv("KINOGRAPH_TOKEN", raising=False)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture
def client(server: Live) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client
        client.resume()


@asynccontextmanager
async def pretending(answers: Mapping[str, Any]) -> AsyncIterator[str]:
    """The address of a server that answers at some paths: with JSON data, bytes, or what a handler makes."""

    def handler(answer: Any) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return web.Response(body=answer) if isinstance(answer, bytes) else web.json_response(answer)

        return answer if callable(answer) else handle

    app = web.Application()
    for path, answer in answers.items():
        app.router.add_route("*", path, handler(answer))
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def greeting(request: web.Request) -> web.StreamResponse:
    """A WebSocket that understands what is wanted, and then says nothing more."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for _ in socket:
        await socket.send_json({"type": "feature_flags", "data": {"kinograph_events": True}})
    return socket


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    from PIL import Image

    path = tmp_path / "snail.png"
    Image.new("RGB", (8, 6), "red").save(path)
    return path
