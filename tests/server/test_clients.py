"""WebSocket clients that must not disturb others: slow ones, duplicates, and those still connected at the end."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from engine.server.live.clients import understood
from tests.server.live import Live, live, saving

FLAGS = {"type": "feature_flags", "data": {"kinograph_events": True}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("server")) as running:
        yield running


def silent(server: Live) -> socket.socket:
    """A client that never reads."""
    host, _, port = server.host.rpartition(":")
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect((host, int(port)))
    key = base64.b64encode(os.urandom(16)).decode()
    head = f"GET /ws HTTP/1.1\r\nHost: {server.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    made.sendall(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    return made


def say(client: socket.socket, text: str) -> None:
    data = text.encode()
    client.sendall(bytes([0x81, 0x80 | len(data)]) + bytes(4) + data)


def clients(server: Live) -> int:
    (line,) = [
        line
        for line in server.get("/api/kinograph/metrics").decode().splitlines()
        if line.startswith("kinograph_clients")
    ]
    return int(line.split()[1])


def test_a_client_that_never_reads_is_disconnected(server: Live) -> None:
    with silent(server) as client:
        server.until(lambda: clients(server) == 1)
        start = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - start < 20:
                say(client, json.dumps(FLAGS))  # each gets an answer that is never read
        server.until(lambda: clients(server) == 0)
    assert time.monotonic() - start < 20, "it was disconnected for its silence, not for its queue"


def test_a_replaced_connection_gets_no_job_messages(server: Live) -> None:
    async def connect() -> list[str]:
        kinds: list[str] = []
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{server.address}ws?clientId=twice") as old,
            session.ws_connect(f"{server.address}ws?clientId=twice") as new,
        ):
            job = await asyncio.to_thread(server.submit, saving("Wait", "for nobody", steps=1), client_id="")
            await asyncio.to_thread(server.ended, job)
            for connected in (old, new):
                with suppress(TimeoutError):
                    while True:
                        kinds.append((await connected.receive_json(timeout=0.3))["type"])
        return kinds

    assert set(asyncio.run(connect())) == {"status"}


def test_messages_are_not_compressed_for_each_client(server: Live) -> None:
    async def extensions() -> str | None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{server.address}ws", compress=15) as connected,
        ):
            return connected._response.headers.get("Sec-WebSocket-Extensions")

    assert asyncio.run(extensions()) is None


def test_the_server_stops_at_once_even_with_connected_clients(tmp_path: Path) -> None:
    async def close_code(server: Live) -> int | None:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{server.address}ws") as connected:
            await connected.receive_json()
            server.process.terminate()
            while (await connected.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            return connected.close_code

    with live(tmp_path) as server, silent(server):
        server.until(lambda: clients(server) == 1)
        start = time.monotonic()
        assert asyncio.run(close_code(server)) == aiohttp.WSCloseCode.GOING_AWAY
        assert server.process.wait(20) == 0
        assert time.monotonic() - start < 8
        assert "Traceback" not in server.log


def test_what_clients_announce_takes_no_memory(server: Live) -> None:
    """Only what the server understands is kept, and longer messages end the connection."""

    async def announce(numbers: int) -> int | None:
        flags = {"kinograph_events": True, "more": [[]] * numbers}
        async with aiohttp.ClientSession() as session, session.ws_connect(f"http://{server.host}/ws") as socket:
            await socket.send_json({"type": "feature_flags", "data": flags})
            async for message in socket:
                if json.loads(message.data)["type"] == "feature_flags":
                    return None
            return socket.close_code

    assert asyncio.run(announce(10_000)) is None
    assert asyncio.run(announce(100_000)) == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
    assert understood({"kinograph_events": [1], "supports_preview_metadata": 0, "more": [[]]}) == {
        "kinograph_events": True,
        "supports_preview_metadata": False,
    }
    assert understood({}) == {}
