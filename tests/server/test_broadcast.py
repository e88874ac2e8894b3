"""Changes of the queue are sent soon, but no more of them than a machine can send."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from aiohttp import web

from engine.server.http.settings import Folders, ServerSettings
from engine.server.jobs.queue import QUEUE, Queue
from engine.server.jobs.workers import WORKERS, WorkerPool
from engine.server.live.broadcast import QUEUE_BYTES, QUEUE_SECONDS, Broadcaster
from engine.server.live.clients import GROUP, Client, Clients
from engine.work.messages import JobBegun, JobEnded
from engine.work.queue import Jobs
from engine.work.records import Request


class Listening(Client):
    """A client that records the messages it gets."""

    def __init__(self, sid: str) -> None:
        super().__init__(sid, web.WebSocketResponse(), lambda: None)
        self.messages: list[Any] = []

    def enqueue(self, message: str | bytes, *, needed: bool = True) -> None:
        content = json.loads(message)
        left = content["data"]["status"]["exec_info"]["queue_remaining"] if content["type"] == "status" else None
        self.messages.append(content["type"] if left is None else left)


class Counting(Client):
    """A client that counts its messages."""

    def __init__(self) -> None:
        super().__init__("", web.WebSocketResponse(), lambda: None)
        self.features = {"kinograph_events": True}
        self.messages = 0
        self.nbytes = 0

    def enqueue(self, message: str | bytes, *, needed: bool = True) -> None:
        self.messages += 1
        self.nbytes += len(message)


def sent(folder: Path, count: int, jobs: int, seconds: float) -> list[Counting]:
    """Clients of a queue that changes constantly, after some time."""

    async def main() -> list[Counting]:
        app, clients, made = web.Application(), Clients(), [Counting() for _ in range(count)]
        queue = app[QUEUE] = Queue(folder / "jobs.sqlite")
        for client in made:
            clients.add(client)
            client.sid = None

        def fill(queue: Jobs) -> None:
            for number in range(jobs):
                queue.add(Request(str(number), {"kinograph": 1, "graph": {}}))

        await queue.ask(fill)
        folders = Folders(*(folder / name for name in ("input", "output", "models", "data")))
        app[WORKERS] = WorkerPool(ServerSettings(folders), queue, {}, lambda report, data: None, lambda job: None)
        broadcaster: Any = Broadcaster(app, clients, queue)
        running = asyncio.create_task(broadcaster.run())
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            broadcaster.queue_changed()
            await asyncio.sleep(0.01)
        running.cancel()
        await queue.close()
        return made

    return asyncio.run(main())


def test_with_many_clients_and_a_long_queue_changes_are_gathered(tmp_path: Path) -> None:
    clients = sent(tmp_path, count=200, jobs=100, seconds=1.0)
    once = max(client.nbytes / client.messages for client in clients) * 2 * len(clients)
    assert sum(client.nbytes for client in clients) <= QUEUE_BYTES + 2 * once


def test_with_one_client_changes_are_sent_at_once(tmp_path: Path) -> None:
    (client,) = sent(tmp_path, count=1, jobs=100, seconds=1.0)
    assert client.messages > 0.5 / QUEUE_SECONDS


def test_a_message_for_one_need_not_wait_until_all_have_the_queue(tmp_path: Path) -> None:
    async def main() -> list[Listening]:
        app, clients = web.Application(), Clients()
        made = [Listening(str(number)) for number in range(2 * GROUP + 1)]
        queue = app[QUEUE] = Queue(tmp_path / "jobs.sqlite")
        for client in made:
            clients.add(client)
        broadcaster = Broadcaster(app, clients, queue)
        running = asyncio.create_task(broadcaster.run())
        broadcaster.queue_changed()
        while not any(client.messages for client in made):
            await asyncio.sleep(0)
        for client in made:
            clients.send("executing", {}, to=str(client.sid))
        await asyncio.sleep(QUEUE_SECONDS)
        running.cancel()
        await queue.close()
        return made

    received = [client.messages for client in asyncio.run(main())]
    assert all(sorted(messages, key=str) == [0, "executing"] for messages in received)
    assert sum(messages == ["executing", 0] for messages in received) >= GROUP


def test_a_job_counts_as_remaining_until_its_client_knows_how_it_ended(tmp_path: Path) -> None:
    def done(jobs: Jobs) -> None:
        jobs.add(Request("a", {"kinograph": 1, "graph": {}}, client="me"))
        lease = jobs.claim("w")
        assert lease
        jobs.finish(lease, "done", {}, {})

    async def main() -> list[Any]:
        app, clients, client = web.Application(), Clients(), Listening("me")
        queue = app[QUEUE] = Queue(tmp_path / "jobs.sqlite")
        clients.add(client)
        broadcaster = Broadcaster(app, clients, queue)
        running = asyncio.create_task(broadcaster.run())
        await queue.ask(done)
        broadcaster.queue_changed()
        await asyncio.sleep(2 * QUEUE_SECONDS)
        broadcaster.publish(JobBegun(job="a", attempt=1), b"")
        broadcaster.publish(JobEnded(job="a"), b"")
        broadcaster.worker_lost("a")  # its worker may end just then
        await asyncio.sleep(4 * QUEUE_SECONDS)
        running.cancel()
        await queue.close()
        return client.messages

    messages = asyncio.run(main())
    assert [each for each in messages if isinstance(each, str)] == ["execution_start", "execution_success", "executing"]
    assert 0 not in messages[: messages.index("executing")]
    assert messages[-1] == 0
