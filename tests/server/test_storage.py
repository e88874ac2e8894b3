"""A full disk, a queue that is locked or damaged, and files that can't be used: answers that say what to do."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData, web
from aiohttp.test_utils import TestClient, TestServer

from engine.server.app import make_app
from engine.server.http.settings import ServerSettings
from engine.server.jobs import queue as queues
from engine.server.jobs.queue import QUEUE
from engine.server.jobs.workers import WorkerPool
from engine.work.queue import Jobs
from nodes import registry
from tests.conftest import largest_file
from tests.server.conftest import png

GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
}
Client = TestClient[web.Request, web.Application]
Play = Callable[[Client], Awaitable[None]]


@pytest.fixture
def play(settings: ServerSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Play], None]:
    """Runs a function with a client of a whole server, which has no workers."""
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(WorkerPool, "start", lambda self: None)
    monkeypatch.setattr(queues, "PATIENCE", 0.05)

    @asynccontextmanager
    async def served() -> AsyncIterator[Client]:
        async with TestClient(TestServer(make_app(settings, registry()))) as client:
            yield client

    def run(act: Play) -> None:
        async def main() -> None:
            async with served() as client:
                await act(client)

        asyncio.run(main())

    return run


async def refused(client: Client, method: str, path: str, **how: Any) -> tuple[int, dict[str, Any]]:
    """The status and the first problem of an answer."""
    async with client.request(method, path, **how) as answer:
        data = await answer.json()
        assert answer.content_type == "application/json"
        return answer.status, data["problems"][0]


async def accepted(client: Client, path: str) -> Any:
    async with client.get(path) as answer:
        assert answer.status == 200
        return await answer.json()


def test_a_full_disk_refuses_jobs_with_507_and_takes_them_once_there_is_room(play: Callable[[Play], None]) -> None:
    async def act(client: Client) -> None:
        assert client.app
        queue = client.app[QUEUE]
        (most,) = await queue.ask(lambda jobs: jobs._db.execute("PRAGMA max_page_count = 1").fetchone())
        large = GRAPH | {"3": {"class_type": "EmptyImage", "inputs": {}, "_meta": {"title": "x" * 100_000}}}
        status, problem = await refused(client, "POST", "/prompt", json={"prompt": large})
        assert (status, problem["message"]) == (507, "the disk is full: jobs.sqlite can't be written")
        assert "make room" in problem["hint"]
        assert (await accepted(client, "/api/kinograph/queue"))["total_pending"] == 0
        await queue.ask(lambda jobs: jobs._db.execute(f"PRAGMA max_page_count = {most + 1000}"))
        async with client.post("/prompt", json={"prompt": large}) as answer:
            assert answer.status == 200

    play(act)


def test_a_locked_queue_refuses_jobs_with_503(play: Callable[[Play], None], settings: ServerSettings) -> None:
    async def act(client: Client) -> None:
        with closing(sqlite3.connect(settings.folders.data / "jobs.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            status, problem = await refused(client, "POST", "/prompt", json={"prompt": GRAPH})
            assert (status, problem["message"]) == (503, "jobs.sqlite is locked by another program")
            assert "close what has it open" in problem["hint"]
            other.execute("ROLLBACK")
        async with client.post("/prompt", json={"prompt": GRAPH}) as answer:
            assert answer.status == 200

    play(act)


def test_a_queue_that_is_damaged_meanwhile_is_named_by_every_route_and_by_health(
    play: Callable[[Play], None], settings: ServerSettings, tmp_path: Path
) -> None:
    async def act(client: Client) -> None:
        assert client.app
        (tmp_path / "torn").write_bytes(b"no database " * 1000)

        def tear(jobs: Any) -> None:
            jobs._db = sqlite3.connect(tmp_path / "torn")

        await client.app[QUEUE].ask(tear)
        await client.app[QUEUE].ask_slow(tear)
        for path in ("/queue", "/history", "/api/jobs", "/api/kinograph/queue", "/api/kinograph/metrics"):
            status, problem = await refused(client, "GET", path)
            assert (status, problem["message"][:22]) == (503, "jobs.sqlite is damaged"), path
            assert "restart the server" in problem["hint"]
        health = await accepted(client, "/api/kinograph/health")
        assert health["status"] == "failing"
        assert "jobs.sqlite is damaged" in health["notices"][0]

    play(act)


def test_after_a_start_with_a_damaged_queue_a_new_one_is_used_and_everyone_is_told(
    play: Callable[[Play], None], settings: ServerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    (settings.folders.data / "jobs.sqlite").write_bytes(b"no database " * 1000)

    async def act(client: Client) -> None:
        (kept,) = settings.folders.data.glob("jobs.damaged-*.sqlite")
        assert kept.read_bytes() == b"no database " * 1000
        async with client.post("/prompt", json={"prompt": GRAPH}) as answer:
            assert answer.status == 200
        for path in ("/api/kinograph/health", "/api/kinograph/queue"):
            (notice,) = (await accepted(client, path))["notices"]
            assert notice.startswith("jobs.sqlite was damaged")
            assert kept.name in notice
        assert any(kept.name in record.message for record in caplog.records if record.levelname == "ERROR")
        async with client.ws_connect("/ws?clientId=editor") as socket:
            await socket.send_json({"type": "feature_flags", "data": {"kinograph_events": True}})
            while (message := await socket.receive_json(timeout=10))["type"] != "queue":
                pass
            assert message["data"]["notices"] == [notice]

    play(act)


class TestFiles:
    """Files of the server other than the queue."""

    def test_an_upload_to_a_full_disk(self, play: Callable[[Play], None], settings: ServerSettings) -> None:
        async def act(client: Client) -> None:
            form = FormData()
            form.add_field("image", png((300, 300)) + bytes(100_000), filename="snail.png")
            with largest_file(50_000):
                status, problem = await refused(client, "POST", "/upload/image", data=form)
            assert (status, problem["message"]) == (507, "the disk is full: snail.png can't be written")
            assert not [*settings.folders.input.rglob("*.p*")]

        play(act)

    def test_a_workflow_that_is_saved_to_a_full_disk(self, play: Callable[[Play], None]) -> None:
        async def act(client: Client) -> None:
            with largest_file(50_000):
                status, problem = await refused(client, "POST", "/userdata/large.json", data=b"x" * 100_000)
            assert (status, problem["message"]) == (507, "the disk is full: large.json can't be written")

        play(act)

    def test_a_file_that_the_server_may_not_write_is_named_without_its_folder(
        self, play: Callable[[Play], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def forbid(path: Path, *args: object, **how: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        async def act(client: Client) -> None:
            monkeypatch.setattr(Path, "open", forbid)
            status, problem = await refused(client, "POST", "/userdata/small.json", data=b"{}")
            assert (status, problem["message"]) == (503, "small.json can't be read or written: Permission denied")
            (line,) = (record.getMessage() for record in caplog.records if record.name == "kinograph")
            assert line.startswith("POST /userdata/small.json: [Errno 13] Permission denied: ")

        play(act)

    def test_a_mistake_of_the_server_is_told_as_json_and_logged(
        self, play: Callable[[Play], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(jobs: Jobs) -> None:
            raise ZeroDivisionError

        async def act(client: Client) -> None:
            with monkeypatch.context() as patched:
                patched.setattr(Jobs, "counts", broken)
                status, problem = await refused(client, "GET", "/api/kinograph/queue")
            assert (status, problem["message"]) == (500, "the server made a mistake: ZeroDivisionError")
            assert "Traceback" in caplog.text

        play(act)
