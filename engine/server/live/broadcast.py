"""Forwards what workers report, and changes of the queue, to the clients that want them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from engine.document.subgraphs import outermost
from engine.server.comfyui.messages import JobMessages, Message
from engine.server.comfyui.prompts import left
from engine.server.jobs.queue import Queue
from engine.server.jobs.workers import until_it_works
from engine.server.live.clients import Clients, send
from engine.server.own.control import overview
from engine.work.messages import JobBegun, JobEnded, JobEvents, JobPreview, ModelFetched, ModelProgress, Report
from engine.work.queue import Jobs

QUEUE_SECONDS = 0.1
"""How long changes of the queue are gathered before they are sent."""
QUEUE_BYTES = 4_000_000
"""Bytes per second for changes of the queue: with many clients and a long queue, changes are gathered for longer."""


@dataclass(frozen=True)
class _ActiveJob:
    """A job that is running."""

    messages: JobMessages
    client: str | None


class Broadcaster:
    """Sends clients what workers report.

    Args:
        app: the application, from which the state of the queue is read.
        clients: the clients.
        queue: where the jobs are.
    """

    def __init__(self, app: web.Application, clients: Clients, queue: Queue) -> None:
        self._app = app
        self._clients = clients
        self._queue = queue
        self._active: dict[str, _ActiveJob] = {}
        self._reports: asyncio.Queue[tuple[Report, bytes]] = asyncio.Queue()
        self._queue_changed = asyncio.Event()

    def publish(self, report: Report, data: bytes) -> None:
        """Queue a worker's report, to be forwarded in order."""
        self._reports.put_nowait((report, data))

    def worker_lost(self, job: str) -> None:
        """A job's worker is gone: the job has ended, or is pending again."""
        self._reports.put_nowait((JobEnded(job=job), b""))

    def queue_changed(self) -> None:
        """The queue has changed."""
        self._queue_changed.set()

    def catch_up(self, client: str) -> Iterator[Message]:
        """The messages that bring a returning client up to date on its running jobs."""
        for active in self._active.values():
            if active.client == client:
                yield active.messages.started()
                for node in active.messages.running:
                    yield "executing", {"node": node, "display_node": outermost(node), "prompt_id": active.messages.job}

    async def run(self) -> None:
        """Forward reports and changes until cancelled."""
        await asyncio.gather(self._forward_reports(), self._send_queue_changes())

    async def _forward_reports(self) -> None:
        while True:
            report, data = await self._reports.get()
            match report:
                case JobBegun(job=job):
                    await self._job_started(job)
                case JobEnded(job=job):
                    await self._job_ended(job)
                case ModelProgress() | ModelFetched():
                    about = report.model_dump(exclude={"message", "job"})
                    self._clients.send_native("model", about, needed=False)
                case JobEvents(job=job) if active := self._active.get(job):
                    self._forward_events(active, report.events)
                case JobPreview(job=job, node=node) if active := self._active.get(job):
                    self._clients.send_preview(job, node, outermost(node), data, owner=active.client)

    def _forward_events(self, active: _ActiveJob, events: list[dict[str, Any]]) -> None:
        job, client = active.messages.job, active.client
        self._clients.send_native("kinograph", {"job": job, "events": events})
        messages = list(active.messages.for_events(events))
        if client is None:
            return
        for kind, about in messages:
            self._clients.send(kind, about, to=client, needed=not kind.startswith("progress"))
        for event in events:
            if event["event"] == "node_text":
                self._clients.send_text(event["node"], event["text"], to=client)

    async def _job_started(self, job: str) -> None:
        def nodes_and_client(jobs: Jobs) -> tuple[list[str], str | None]:
            request = jobs.request(job)
            if request is None:
                return [], None
            return [] if request.axes else list(request.document["graph"]), request.client

        nodes, client = await until_it_works(self._queue.ask, nodes_and_client)
        active = self._active[job] = _ActiveJob(JobMessages(job, nodes), client)
        if client is not None:
            self._clients.send(*active.messages.started(), to=client)
        self.queue_changed()

    async def _job_ended(self, name: str) -> None:
        """Report how a job ended, if it has; its history is written by now. Only then is it no longer remaining."""
        active, job = self._active.pop(name, None), await until_it_works(self._queue.ask, Jobs.unreported, name)
        if job and job.client is not None:
            # its worker may have died before it reported anything
            messages = active.messages if active else JobMessages(name, ())
            for kind, about in messages.ended(job):
                self._clients.send(kind, about, to=job.client)
        if job:
            await until_it_works(self._queue.ask, Jobs.mark_reported, name)
        self.queue_changed()

    async def _send_queue_changes(self) -> None:
        while True:
            await self._queue_changed.wait()
            self._queue_changed.clear()
            nbytes = await until_it_works(self._send_status) + await until_it_works(self._send_overview)
            await asyncio.sleep(QUEUE_SECONDS + nbytes / QUEUE_BYTES)

    async def _send_status(self) -> int:
        """Send the number of remaining jobs, which is counted for each group: some clients stop listening at 0."""
        nbytes = 0
        for group in self._clients.groups():
            status = {"status": {"exec_info": {"queue_remaining": await left(self._app)}}}
            nbytes += send("status", status, group)
        return nbytes

    async def _send_overview(self) -> int:
        if not self._clients.has_native:
            return 0
        now, nbytes = await overview(self._app), 0
        for group in self._clients.groups(native=True):
            nbytes += send("queue", now, group)
            await asyncio.sleep(0)
        return nbytes


BROADCASTER = web.AppKey("broadcaster", Broadcaster)
