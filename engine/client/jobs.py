"""A job at the server: how it stands with it, what it tells, what comes of it, and changing its place in the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from engine.client.answers import ENDED, Job, JobStatus, Place
from engine.client.connection import OWN, Connection, Unreachable
from engine.client.events import JobEnded, NodePreview, NodeSaved, Told
from engine.client.feed import Feed
from engine.client.files import AsyncFile
from engine.client.watching import Listener
from engine.errors import Cancelled, NodeError, Problem
from engine.events import RunStarted

AsyncEvent = Told | NodeSaved[AsyncFile] | NodePreview | JobEnded
"""What an `AsyncJob` tells."""
End = Literal["front", "back"]


@dataclass(frozen=True, slots=True)
class AsyncResult:
    """What came of a job."""

    status: JobStatus
    files: tuple[AsyncFile, ...]
    """What its nodes saved."""

    @property
    def texts(self) -> tuple[str, ...]:
        """What nodes gave that save no files, in a few words each: "out: 42"."""
        return self.status.texts


class AsyncJob:
    """A job at a server; made by an `AsyncClient`. The job itself goes on whatever becomes of this object."""

    def __init__(self, id: str, number: int, connection: Connection, feed: Feed) -> None:
        self.id = id
        self.number = number
        """It counts all jobs of the server, from 1."""
        self._connection = connection
        self._feed = feed
        self._watch = feed.watch(id)

    def __repr__(self) -> str:
        return f"<job {self.number}, {self.id}>"

    async def status(self) -> JobStatus:
        """How it stands with the job now; raises MissingError if the server has forgotten it."""
        return (await self._get()).status

    async def files(self) -> tuple[AsyncFile, ...]:
        """What it has saved so far, also where it failed or was cancelled."""
        return self._files(await self._get())

    async def events(self, *, previews: bool = False) -> AsyncGenerator[AsyncEvent, None]:
        """What happens, from the start of the run to its `JobEnded`.

        It starts with what has been told already since the job was submitted here; of what happened before, or while
        the server was away, the files are told, and the end. Of a node's progress only the last is told to who reads
        slowly. A run that is interrupted begins anew, with another `RunStarted`.

        Args:
            previews: also pictures of what is being made; they cost the server time.

        Raises:
            KinographError: the server went away for longer than the client's `patience`, or the job is gone.
        """
        saved = set[str]()
        async with self._feed.listening(self._watch, previews=previews) as listener:
            while True:
                for event in self._rest(listener, saved):
                    yield event
                if listener.doubt and (job := await self._look(listener)):
                    if job.state in ENDED and job.status.seconds is not None:
                        await self._watch.told_all()
                    for event in (*self._rest(listener, saved), *self._missed(job, saved)):
                        yield event
                    if job.state in ENDED:
                        yield JobEnded(job.status)
                        return
                await listener.news()

    async def wait(self, timeout: float | None = None) -> AsyncResult:
        """What comes of the job, once it has ended.

        Args:
            timeout: seconds to wait at most; for ever if None.

        Raises:
            NodeError: it failed; `problems` tells what of.
            Cancelled: it was cancelled.
            TimeoutError: it has not ended in time; it goes on.
            KinographError: the server went away for longer than the client's `patience`, or the job is gone.
        """
        try:
            async with asyncio.timeout(timeout):
                job = await self._end()
        except TimeoutError:
            raise TimeoutError(f"job {self.id} has not ended within {timeout:g} s; it goes on") from None
        if job.state == "failed":
            raise NodeError.of(job.status.problems or [Problem("the job failed")])
        if job.state == "cancelled":
            raise Cancelled(f"job {self.id} was cancelled")
        return AsyncResult(job.status, self._files(job))

    async def cancel(self) -> None:
        """End the job, whether it waits or runs; raises UsageError if it does neither."""
        await self._change("cancel")

    async def retry(self) -> None:
        """Run the job again; raises UsageError if it has neither failed nor been cancelled."""
        self._watch.begins(whole=self._feed.is_live)
        await self._change("retry")

    async def move(self, *, before: AsyncJob | str | None = None, to: End | None = None) -> None:
        """Change the job's place among those that wait: before another job, or to the front or the back.

        Raises:
            UsageError: it doesn't wait, the other doesn't, or neither or both of `before` and `to` are given.
        """
        name = before.id if isinstance(before, AsyncJob) else before
        await self._change("move", {"before": name, "to": to})

    async def _change(self, how: str, data: dict[str, Any] | None = None) -> None:
        await self._connection.post(f"{OWN}/jobs/{quote(self.id, safe='')}/{how}", object, data or {})

    async def _get(self) -> Job:
        return await self._connection.get(f"{OWN}/jobs/{quote(self.id, safe='')}", Job)

    async def _end(self) -> Job:
        async with self._feed.listening(self._watch) as listener:
            while True:
                if listener.doubt and (job := await self._look(listener)) and job.state in ENDED:
                    return job
                await listener.news()

    async def _look(self, listener: Listener) -> Job | None:
        """The job as it is now; None while the server is away: the feed tells when it is back, or won't be."""
        listener.doubt = False
        try:
            return await self._get()
        except Unreachable:
            return None

    def _rest(self, listener: Listener, saved: set[str]) -> Iterator[AsyncEvent]:
        """What has been told by now; `saved` are the nodes whose files have been."""
        for event in listener.backlog.take():
            if isinstance(event, RunStarted):
                saved.clear()
            if not isinstance(event, NodeSaved):
                yield event
            elif event.node not in saved:
                saved.add(event.node)
                yield self._saved(event.node, event.files, event.temporary)

    def _missed(self, job: Job, saved: set[str]) -> Iterator[AsyncEvent]:
        """The files that have not been told of."""
        for node, places in job.saved():
            if node not in saved:
                saved.add(node)
                yield self._saved(node, places, all(place.type == "temp" for place in places))

    def _saved(self, node: str, places: tuple[Place, ...], temporary: bool) -> NodeSaved[AsyncFile]:
        return NodeSaved(node, tuple(AsyncFile(node, place, self._connection) for place in places), temporary)

    def _files(self, job: Job) -> tuple[AsyncFile, ...]:
        return tuple(AsyncFile(node, place, self._connection) for node, places in job.saved() for place in places)
