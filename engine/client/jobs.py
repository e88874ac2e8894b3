"""A job on the server: its status, its events, its outcome, and its place in the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from urllib.parse import quote

from engine.client.answers import ENDED, Job, JobStatus, Place
from engine.client.connection import OWN, Connection, Unreachable
from engine.client.events import EngineEvent, JobEnded, NodePreview, NodeSaved
from engine.client.feed import Feed
from engine.client.files import AsyncFile
from engine.client.watching import Listener
from engine.document.given import seconds_of
from engine.errors import Cancelled, NodeError, Problem
from engine.events import RunStarted

AsyncEvent = EngineEvent | NodeSaved[AsyncFile] | NodePreview | JobEnded
"""The events of an `AsyncJob`."""
End = Literal["front", "back"]
MOST_SHOWN = 12
"""The most files that a result names when it is printed."""


@dataclass(frozen=True, slots=True)
class AsyncResult:
    """The outcome of a job."""

    status: JobStatus
    files: tuple[AsyncFile, ...]
    """The files its nodes saved."""

    def __repr__(self) -> str:
        return outcome(self.status, self.files)

    @property
    def texts(self) -> tuple[str, ...]:
        """The outputs of nodes that save no files, abridged: "out: 42"."""
        return self.status.texts


class Saved(Protocol):
    """A file that a job has saved."""

    @property
    def node(self) -> str: ...

    @property
    def name(self) -> str: ...


def outcome(status: JobStatus, files: Sequence[Saved]) -> str:
    """A job's outcome in a few lines: how it ended, its files by node, its texts and warnings."""
    took = "" if status.seconds is None else f" in {status.seconds:.1f} s"
    return "\n".join(
        [
            f"job {status.number} {status.state}{took}",
            *(f"  {file.node}: {file.name}" for file in files[:MOST_SHOWN]),
            *([f"  and {len(files) - MOST_SHOWN} more files"] if len(files) > MOST_SHOWN else []),
            *(f"  {text}" for text in status.texts),
            *(f"  warning: {problem}" for problem in status.warnings),
        ]
    )


class AsyncJob:
    """A job on a server; made by an `AsyncClient`. The job itself continues whatever happens to this object."""

    def __init__(self, id: str, number: int, connection: Connection, feed: Feed) -> None:
        self.id = id
        self.number = number
        """Its number among all jobs of the server, from 1."""
        self._connection = connection
        self._feed = feed
        self._watch = feed.watch(id)

    def __repr__(self) -> str:
        return f"<job {self.number}, {self.id}>"

    async def status(self) -> JobStatus:
        """The job's current status; raises MissingError if the server no longer has it."""
        return (await self._get()).status

    async def files(self) -> tuple[AsyncFile, ...]:
        """The files saved so far, even if it failed or was cancelled."""
        return self._files(await self._get())

    async def events(self, *, previews: bool = False) -> AsyncGenerator[AsyncEvent, None]:
        """Yield the job's events, from the start of the run to its `JobEnded`.

        Events received since the job was submitted here come first; of anything that happened earlier, or while the
        server was away, only the files and the end are reported. A slow reader gets only the latest progress of each
        node. An interrupted run starts again, with another `RunStarted`.

        Args:
            previews: whether to include previews of unfinished results, which cost the server time.

        Raises:
            KinographError: the server went away for longer than the client's `patience`, or the job is gone.
        """
        saved = set[str]()
        async with self._feed.listening(self._watch, previews=previews) as listener:
            while True:
                for event in self._rest(listener, saved):
                    yield event
                if listener.may_have_ended and (job := await self._look(listener)):
                    if job.state in ENDED and job.status.seconds is not None:
                        await self._watch.finished()
                    for event in (*self._rest(listener, saved), *self._missed(job, saved)):
                        yield event
                    if job.state in ENDED:
                        yield JobEnded(job.status)
                        return
                await listener.changed()

    async def wait(self, timeout: float | None = None) -> AsyncResult:
        """Wait for the job to end, and return its outcome.

        Args:
            timeout: seconds to wait at most; for ever if None.

        Raises:
            NodeError: it failed; `problems` says why.
            Cancelled: it was cancelled.
            TimeoutError: it has not ended in time; it continues.
            KinographError: the server went away for longer than the client's `patience`, or the job is gone.
        """
        most = None if timeout is None else seconds_of(timeout, "timeout", can_be_zero=True)
        try:
            async with asyncio.timeout(most):
                job = await self._end()
        except TimeoutError:
            raise TimeoutError(f"job {self.id} has not ended within {most:g} s; it goes on") from None
        if job.state == "failed":
            raise NodeError.of(job.status.problems or [Problem("the job failed")])
        if job.state == "cancelled":
            raise Cancelled(f"job {self.id} was cancelled")
        return AsyncResult(job.status, self._files(job))

    async def cancel(self) -> None:
        """Cancel the job, waiting or running; raises UsageError if it is neither."""
        await self._change("cancel")

    async def retry(self) -> None:
        """Run the job again; raises UsageError if it has neither failed nor been cancelled."""
        self._watch.begin(complete=self._feed.is_live)
        await self._change("retry")

    async def move(self, *, before: AsyncJob | str | None = None, to: End | None = None) -> None:
        """Move the job within the queue: before another job, or to the front or the back.

        Raises:
            UsageError: it isn't waiting, the other isn't, or neither or both of `before` and `to` are given.
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
                if listener.may_have_ended and (job := await self._look(listener)) and job.state in ENDED:
                    return job
                await listener.changed()

    async def _look(self, listener: Listener) -> Job | None:
        """The job as it is now; None while the server is away: the feed reports when it is back, or is given up on."""
        listener.may_have_ended = False
        try:
            return await self._get()
        except Unreachable:
            return None

    def _rest(self, listener: Listener, saved: set[str]) -> Iterator[AsyncEvent]:
        """The events received by now; `saved` are the nodes whose files have been reported."""
        for event in listener.backlog.take():
            if isinstance(event, RunStarted):
                saved.clear()
            if not isinstance(event, NodeSaved):
                yield event
            elif event.node not in saved:
                saved.add(event.node)
                yield self._saved(event.node, event.files, event.temporary)

    def _missed(self, job: Job, saved: set[str]) -> Iterator[AsyncEvent]:
        """The files that have not been reported."""
        for node, places in job.saved():
            if node not in saved:
                saved.add(node)
                yield self._saved(node, places, all(place.type == "temp" for place in places))

    def _saved(self, node: str, places: tuple[Place, ...], temporary: bool) -> NodeSaved[AsyncFile]:
        return NodeSaved(node, tuple(AsyncFile(node, place, self._connection) for place in places), temporary)

    def _files(self, job: Job) -> tuple[AsyncFile, ...]:
        return tuple(AsyncFile(node, place, self._connection) for node, places in job.saved() for place in places)
