"""Attacks with connections: half-sent requests, trickling bodies, too many at once, lines that fill the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from engine.server.http.connections import Answered, Capacity, Connections, Patience, capacity, watched
from engine.server.http.logs import WINDOW_SECONDS, Repeats
from tests.server.live import Live, live, saving

HALF = b"GET /prompt HTTP/1.1\r\nHost: 127.0.0.1"
WHOLE = HALF + b"\r\n\r\n"
PATIENCE = Patience(header_seconds=0.4, body_seconds=0.4, body_bytes=1000)


class Reader:
    """A connection of a client, of which every byte can be sent by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def status(self, sent: bytes = b"") -> int | None:
        """The status of the next answer, after sending something; None if the connection was closed."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(sent)
            line = await self.reader.readline()
            while line and await self.reader.readline() not in (b"\r\n", b""):
                pass
            if line:
                return int(line.split()[1])
        return None

    async def is_closed(self) -> bool:
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(0.1):
                return await self.reader.read() == b""
        return False


Open = Callable[[], Awaitable[Reader]]


def play(do: Callable[[Open, Connections], Awaitable[None]], most: int = 5, keepalive: int = 1) -> None:
    """Have something done to a server that answers `204`, or the size of a body as status."""

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(float(request.query.get("sleep", 0)))
        return web.Response(status=200 if await request.read() else 204)

    async def send(request: web.Request) -> web.FileResponse:
        return web.FileResponse(request.query["path"])

    async def main() -> None:
        app = web.Application(middlewares=[watched])
        app.router.add_route("*", "/prompt", answer)
        app.router.add_get("/file", send)
        runner = web.AppRunner(app, keepalive_timeout=keepalive, access_log_class=Answered)
        await runner.setup()
        assert runner.server
        connections = Connections(most, PATIENCE)
        listener = socket.create_server(("127.0.0.1", 0))
        loop = asyncio.get_running_loop()
        serving = await loop.create_server(connections.factory(runner.server), sock=listener)
        watching = asyncio.create_task(connections.watch())

        opened = list[Reader]()

        async def connect() -> Reader:
            opened.append(Reader(*await asyncio.open_connection(*listener.getsockname())))
            return opened[-1]

        try:
            async with asyncio.timeout(20):
                await do(connect, connections)
        finally:
            for each in opened:
                each.writer.close()
                with contextlib.suppress(ConnectionError):
                    await each.writer.wait_closed()
            watching.cancel()
            serving.close()
            await runner.cleanup()

    asyncio.run(main())


@pytest.mark.parametrize("sent", [b"", b"G", HALF], ids=["nothing", "a letter", "half"])
def test_a_request_whose_headers_do_not_arrive_is_timed_out(sent: bytes) -> None:
    async def do(connect: Open, connections: Connections) -> None:
        connection, start = await connect(), time.monotonic()
        assert await connection.status(sent) == 408
        async with asyncio.timeout(5):
            await connection.reader.read()  # ends when the connection is closed
        assert time.monotonic() - start < 5
        assert len(connections) == 0

    play(do, keepalive=60)  # it isn't aiohttp that closes it


def test_half_a_second_request_is_not_waited_for_either() -> None:
    async def do(connect: Open, connections: Connections) -> None:
        sent_at_once, later = await connect(), await connect()
        assert [await each.status(sent) for each, sent in ((sent_at_once, WHOLE + HALF), (later, WHOLE))] == [204, 204]
        assert await later.status(HALF) == 408
        assert await sent_at_once.status() is None
        assert len(connections) == 0

    play(do)


def test_headers_that_trickle_in_gain_no_time() -> None:
    async def do(connect: Open, connections: Connections) -> None:
        connection, start = await connect(), time.monotonic()
        connection.writer.write(HALF)
        while not connection.reader.at_eof():
            assert time.monotonic() - start < 5
            with contextlib.suppress(ConnectionError, TimeoutError):
                connection.writer.write(b"x")
                async with asyncio.timeout(0.05):
                    await connection.reader.read()

    play(do)


def test_a_body_that_trickles_in_is_timed_out_and_a_slow_one_is_not() -> None:
    async def do(connect: Open, connections: Connections) -> None:
        head = b"POST /prompt HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n"
        trickling, slow = await connect(), await connect()
        trickling.writer.write(head)
        slow.writer.write(head)
        for _ in range(9):
            slow.writer.write(b"x" * 1000)
            with contextlib.suppress(ConnectionError):
                trickling.writer.write(b"x")
                await trickling.writer.drain()
            await asyncio.sleep(0.3)
        assert await slow.status() == 200
        assert await trickling.status() in (408, None)
        assert len(connections) == 1

    play(do)


def test_a_handler_may_take_as_long_as_it_likes() -> None:
    async def do(connect: Open, connections: Connections) -> None:
        connection = await connect()
        assert await connection.status(WHOLE.replace(b"/prompt", b"/prompt?sleep=1.5")) == 204
        await asyncio.sleep(0.6)
        assert await connection.status(WHOLE) == 204, "nor is a connection closed that may be used again"

    play(do)


def test_the_oldest_that_has_sent_no_request_makes_room_for_a_new_one() -> None:
    async def do(connect: Open, connections: Connections) -> None:
        used = [await connect() for _ in range(2)]
        assert [await each.status(WHOLE) for each in used] == [204, 204]
        waiting = [await connect() for _ in range(3)]
        for each in waiting:
            each.writer.write(HALF)
        await asyncio.sleep(0.1)
        new = await connect()
        assert await new.status(WHOLE) == 204
        assert [await each.is_closed() for each in waiting] == [True, False, False]  # they are not timed out yet
        assert [await each.status(WHOLE) for each in used] == [204, 204]
        assert len(connections) == 5

    play(do)


def test_else_the_one_that_has_been_idle_for_longest_makes_room() -> None:
    async def do(connect: Open, connections: Connections) -> None:
        used = [await connect() for _ in range(5)]
        assert [await each.status(WHOLE) for each in used] == [204] * 5
        assert await used[0].status(WHOLE) == 204
        assert await (await connect()).status(WHOLE) == 204
        assert [await each.is_closed() for each in used] == [False, True, False, False, False]
        assert await used[0].status(WHOLE) == 204

    play(do)


def test_when_all_are_being_answered_a_new_one_is_refused_and_those_are_served_on() -> None:
    async def do(connect: Open, connections: Connections) -> None:
        used = [await connect() for _ in range(5)]
        for each in used:
            each.writer.write(WHOLE.replace(b"/prompt", b"/prompt?sleep=0.3"))
        await asyncio.sleep(0.1)
        assert await (await connect()).status(WHOLE) == 503
        assert [await each.status() for each in used] == [204] * 5
        assert await (await connect()).status(WHOLE) == 204

    play(do)


def test_an_answer_that_a_client_still_reads_is_not_cut(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * (30 << 20))  # more than the system takes in advance

    async def do(connect: Open, connections: Connections) -> None:
        reading = [await connect() for _ in range(5)]
        for each in reading:
            each.writer.write(f"GET /file?path={large} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await asyncio.sleep(0.3)
        assert await (await connect()).status(WHOLE) == 503
        for each in reading:
            await each.reader.readuntil(b"\r\n\r\n")
            await each.reader.readexactly(30 << 20)

    play(do)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [((256, 256), Capacity(128, 16)), ((1024, 1024), Capacity(704, 64)), ((64, 64), Capacity(8, 4))],
)
def test_files_are_left_for_all_else(
    limit: tuple[int, int], expected: Capacity, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda which: limit)
    assert capacity() == expected
    assert expected.open + expected.accepted < limit[0]


def test_more_files_are_asked_for_than_systems_give_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    asked = list[tuple[int, int]]()
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 1 << 20))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: asked.append(limits))
    assert capacity().open > 7000
    assert asked == [(10_240, 1 << 20)]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server that may have few files open."""
    with live(tmp_path_factory.mktemp("server"), files=128) as server:
        yield server


def test_half_sent_requests_shut_nobody_out(small: Live) -> None:
    host, _, port = small.host.partition(":")
    logged, half = len(small.log), list[socket.socket]()
    try:
        for _ in range(400):
            connection = socket.create_connection((host, int(port)), timeout=10)
            connection.send(HALF)
            half.append(connection)
            if len(half) % 50 == 0:
                start = time.monotonic()
                assert "exec_info" in small.get("/prompt")
                assert time.monotonic() - start < 2
        job = small.submit(saving("Wait", "beside them", steps=1))
        assert small.ended(job)["state"] == "done"
    finally:
        for connection in half:
            connection.close()
    assert len(small.log) - logged < 2000, small.log[-2000:]
    assert "Traceback" not in small.log


def test_websockets_leave_room_for_other_requests(small: Live) -> None:
    async def connect() -> list[int]:
        statuses = list[int]()
        async with aiohttp.ClientSession() as session, contextlib.AsyncExitStack() as stack:
            for _ in range(100):
                try:
                    await stack.enter_async_context(session.ws_connect(f"http://{small.host}/ws"))
                    statuses.append(101)
                except aiohttp.WSServerHandshakeError as refused:
                    statuses.append(refused.status)
            assert await asyncio.to_thread(small.ask, "GET", "/prompt") == (200, {"exec_info": {"queue_remaining": 0}})
        return statuses

    statuses = asyncio.run(connect())
    assert statuses[0] == 101
    assert statuses[-1] == 503
    assert "Traceback" not in small.log


Shown = tuple[logging.Logger, list[str], Repeats, list[float]]


class TestTheLog:
    @pytest.fixture
    def shown(self) -> Shown:
        """A logger, the lines that come through, the filter, and its clock."""
        clock, lines = [0.0], list[str]()
        repeats = Repeats(lambda: clock[0])
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
        handler.addFilter(repeats)
        logger = logging.Logger("test")
        logger.addHandler(handler)
        return logger, lines, repeats, clock

    def test_a_line_that_repeats_is_counted(self, shown: Shown) -> None:
        logger, lines, repeats, clock = shown
        for number in range(1000):
            logger.error("out of files at fd=%d, <Socket 0x%x>", number, number)
        assert lines == [f"out of files at fd={n}, <Socket 0x{n:x}>" for n in range(3)]
        assert list(repeats.summary()) == []
        clock[0] += WINDOW_SECONDS + 1
        assert list(repeats.summary()) == ["out of files at fd=0, <Socket 0x0> (997 times more)"]
        assert list(repeats.summary(all=True)) == []
        logger.error("out of files at fd=%d, <Socket 0x%x>", 5, 5)
        assert len(lines) == 4

    def test_the_same_line_about_an_error_elsewhere_is_another(self, shown: Shown) -> None:
        logger, lines, _, _ = shown

        def divide() -> None:
            raise ZeroDivisionError

        for _ in range(5):
            for fault in (divide, lambda: {}["a"]):
                try:
                    fault()
                except Exception:
                    logger.exception("Error handling request")
        assert len(lines) == 6

    def test_other_lines_are_shown_meanwhile(self, shown: Shown) -> None:
        logger, lines, _, _ = shown
        for name in "abcdef" * 2:
            logger.warning("job of %s failed", name)
        assert len(lines) == 12
