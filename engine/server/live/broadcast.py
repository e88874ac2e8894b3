"""What workers tell, and changes of the queue, handed on to the clients that they are for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from engine.document.subgraphs import outermost
from engine.server.comfyui.messages import JobMessages, Message
from engine.server.comfyui.prompts import left
from engine.server.jobs.queue import Queue
from engine.server.jobs.workers import until_it_works
from engine.server.live.clients import Clients
from engine.server.own.control import overview
from engine.work.messages import JobBegun, JobEnded, JobEvents, JobPreview, ModelFetched, ModelProgress, Report
from engine.work.queue import Jobs

QUEUE_SECONDS = 0.1
"""How long changes of the queue are gathered before clients are told."""
QUEUE_BYTES = 4_000_000
"""Of what is told of the queue in a second: with many clients and a long queue, changes are gathered for longer."""


class _Watched:
    """A job that is being done."""

    def __init__(self, story: JobMessages, client: str | None) -> None:
        self.story = story
        self.client = client


class Broadcaster:
    """Takes what the workers tell.

    Args:
        app: the application, for what changes of the queue are told with.
        clients: the clients.
        queue: where the jobs are.
    """

    def __init__(self, app: web.Application, clients: Clients, queue: Queue) -> None:
        self._app = app
        self._clients = clients
        self._queue = queue
        self._watched: dict[str, _Watched] = {}
        self._line: asyncio.Queue[tuple[Report, bytes]] = asyncio.Queue()
        self._changed = asyncio.Event()

    def tell(self, report: Report, data: bytes) -> None:
        """Hand on what a worker tells, in its turn."""
        self._line.put_nowait((report, data))

    def lost(self, job: str) -> None:
        """A job's worker is gone: it has ended, or waits again."""
        self._line.put_nowait((JobEnded(job=job), b""))

    def changed(self) -> None:
        """The queue has changed."""
        self._changed.set()

    def now(self, client: str) -> Iterator[Message]:
        """What a client that comes back is to know of its jobs that are being done."""
        for watched in self._watched.values():
            if watched.client == client:
                yield watched.story.begun()
                for node in watched.story.running:
                    yield "executing", {"node": node, "display_node": outermost(node), "prompt_id": watched.story.job}

    async def run(self) -> None:
        """Hand on what comes, for ever."""
        await asyncio.gather(self._hand_on(), self._tell_changes())

    async def _hand_on(self) -> None:
        while True:
            report, data = await self._line.get()
            match report:
                case JobBegun(job=job):
                    await self._begin(job)
                case JobEnded(job=job):
                    await self._end(job)
                case ModelProgress() | ModelFetched():
                    about = report.model_dump(exclude={"message", "job"})
                    self._clients.tell_ours("model", about, needed=False)
                case JobEvents(job=job) if watched := self._watched.get(job):
                    self._pass_on(watched, report.events)
                case JobPreview(job=job, node=node) if watched := self._watched.get(job):
                    self._clients.preview(job, node, outermost(node), data, of=watched.client)

    def _pass_on(self, watched: _Watched, events: list[dict[str, Any]]) -> None:
        job, client = watched.story.job, watched.client
        self._clients.tell_ours("kinograph", {"job": job, "events": events})
        told = list(watched.story.tell(events))
        if client is None:
            return
        for kind, about in told:
            self._clients.tell(kind, about, to=client, needed=not kind.startswith("progress"))
        for event in events:
            if event["event"] == "node_text":
                self._clients.text(event["node"], event["text"], to=client)

    async def _begin(self, job: str) -> None:
        def told(jobs: Jobs) -> tuple[list[str], str | None]:
            asked = jobs.request(job)
            if asked is None:
                return [], None
            return [] if asked.axes else list(asked.document["graph"]), asked.client

        nodes, client = await self._queue.ask(told)
        watched = self._watched[job] = _Watched(JobMessages(job, nodes), client)
        if client is not None:
            self._clients.tell(*watched.story.begun(), to=client)
        self.changed()

    async def _end(self, name: str) -> None:
        """Tell how a job ended, if it has; its history is written by now. Only then does it remain no longer."""
        watched, job = self._watched.pop(name, None), await self._queue.ask(Jobs.unreported, name)
        if job and job.client is not None:
            # its worker may have died before it said anything
            story = watched.story if watched else JobMessages(name, ())
            for kind, about in story.ended(job):
                self._clients.tell(kind, about, to=job.client)
        if job:
            await until_it_works(self._queue.ask, Jobs.mark_reported, name)
        self.changed()

    async def _tell_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            status = {"status": {"exec_info": {"queue_remaining": await left(self._app)}}}
            nbytes = self._clients.tell("status", status)
            if self._clients.has_ours:
                nbytes += self._clients.tell_ours("queue", await overview(self._app))
            await asyncio.sleep(QUEUE_SECONDS + nbytes / QUEUE_BYTES)


BROADCASTER = web.AppKey("broadcaster", Broadcaster)
