"""The client for programs that aren't asynchronous: an `AsyncClient` in a background thread does the work."""

from __future__ import annotations

import os
import weakref
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from engine.client.answers import Checked, Health, JobStatus, Media, Model, NodeKind, Queue
from engine.client.asynchronous import ADDRESS, AsyncClient
from engine.client.background import Background
from engine.client.events import EngineEvent, JobEnded, NodePreview, NodeSaved
from engine.client.files import AsyncFile
from engine.client.jobs import AsyncEvent, AsyncJob, AsyncResult, End, outcome
from engine.client.workflows import AnyWorkflow

T = TypeVar("T")


class Client:
    """Talks to one server, from any thread, even where an event loop runs, as in a notebook.

        with Client() as client:
            result = client.run("snail.json", {"theme": "rain"})

    All methods raise ServerError if no server answers, or it answers incorrectly; UsageError if it refuses the token or
    the request; WorkflowError and MissingError, with all `problems`, if a workflow can't be run.

    Args:
        address: the server's address; it may include the `?token=…` that the server prints.
        token: the server's token; by default that of the address or the environment's `KINOGRAPH_TOKEN`.
        connect_timeout: seconds within which the server must accept a connection.
        silence_timeout: seconds after which a silent server is given up on.
        patience: how many seconds to wait for a server that has gone away, as it may be restarted; for ever if None.
    """

    def __init__(
        self,
        address: str = ADDRESS,
        *,
        token: str | None = None,
        connect_timeout: float = 10.0,
        silence_timeout: float = 300.0,
        patience: float | None = 600.0,
    ) -> None:
        self._client = AsyncClient(
            address, token=token, connect_timeout=connect_timeout, silence_timeout=silence_timeout, patience=patience
        )
        self._background = Background(self._client.close)
        self._stop = weakref.finalize(self, self._background.stop)

    def __repr__(self) -> str:
        return repr(self._client).replace("AsyncClient", "Client", 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; jobs continue."""
        self._stop()

    def submit(
        self,
        workflow: AnyWorkflow,
        *,
        inputs: Mapping[str, Any] | None = None,
        priority: int = 0,
        front: bool = False,
        targets: Sequence[str] | None = None,
    ) -> Job:
        """Queue a workflow; on return it is on the server's disk.

        Args:
            workflow: a path, the name of one that comes with Kinograph, JSON data, or an object with a `document()`.
            inputs: values by `node.input`, or by a name that the workflow exposes.
            priority: from -1000 to 1000; higher ones go first.
            front: whether it goes before all others of its priority.
            targets: the nodes whose outputs are wanted; all that save files if None.
        """
        submitting = self._client.submit(workflow, inputs=inputs, priority=priority, front=front, targets=targets)
        return Job(self, self._run(submitting))

    def run(
        self,
        workflow: AnyWorkflow,
        inputs: Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
        front: bool = False,
        targets: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> Result:
        """`submit` a workflow and `wait` for its result; raises what they raise."""
        return self.submit(workflow, inputs=inputs, priority=priority, front=front, targets=targets).wait(timeout)

    def sweep(
        self,
        workflow: AnyWorkflow,
        axes: Mapping[str, Iterable[Any]],
        *,
        inputs: Mapping[str, Any] | None = None,
        priority: int = 0,
    ) -> Job:
        """Submit a workflow with every combination of some inputs' values, as one job.

        It also makes a contact sheet and a table: the files of the node "sweep".

        Args:
            workflow: as for `submit`.
            axes: one to four inputs, and the values of each; the last runs across the contact sheet.
            inputs: values shared by all combinations.
            priority: higher ones go first.
        """
        return Job(self, self._run(self._client.sweep(workflow, axes, inputs=inputs, priority=priority)))

    def validate(self, workflow: AnyWorkflow, inputs: Mapping[str, Any] | None = None) -> Checked:
        """Report everything that is wrong with a workflow, or missing for it, without running it."""
        return self._run(self._client.validate(workflow, inputs))

    def job(self, id: str) -> Job:
        """A job that was submitted earlier, by any client; raises MissingError if there is none."""
        return Job(self, self._run(self._client.job(id)))

    def queue(self) -> Queue:
        """The running and waiting jobs."""
        return self._run(self._client.queue())

    def history(self, limit: int = 50) -> tuple[JobStatus, ...]:
        """The most recently ended jobs, at most 1000, latest first."""
        return self._run(self._client.history(limit))

    def pause(self) -> None:
        """Stop the server from starting jobs, even after a restart; running jobs continue."""
        self._run(self._client.pause())

    def resume(self) -> None:
        """Let the server start jobs again."""
        self._run(self._client.resume())

    def nodes(self) -> dict[str, NodeKind]:
        """The kinds of node that the server has, by name."""
        return self._run(self._client.nodes())

    def models(self) -> tuple[Model, ...]:
        """The models on the server's machine."""
        return self._run(self._client.models())

    def health(self) -> Health:
        """Whether the server can run jobs: its workers, and what they are doing."""
        return self._run(self._client.health())

    def upload(
        self, path: str | os.PathLike[str], *, name: str | None = None, subfolder: str = "", overwrite: bool = False
    ) -> str:
        """Send a picture or a video to the server's input folder.

        Args:
            path: the file.
            name: its name there; the same as here if None.
            subfolder: a folder in the input folder.
            overwrite: whether to replace a file of that name; if not, it gets a number, unless the content is the same.

        Returns:
            The name to use in a workflow, for `LoadImage` or `LoadVideo`.
        """
        return self._run(self._client.upload(path, name=name, subfolder=subfolder, overwrite=overwrite))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._background.run(work)

    def _each(self, stream: AsyncGenerator[T, None]) -> Iterator[T]:
        """Yield what an asynchronous generator yields."""

        async def following() -> T | None:
            return await anext(stream, None)

        try:
            while (item := self._run(following())) is not None:
                yield item
        finally:
            self._background.start(_closed(stream))  # not awaited: this may run in the loop's own thread


@dataclass(frozen=True, slots=True)
class File:
    """A file that a job has saved."""

    _file: AsyncFile
    _client: Client = field(compare=False)

    def __repr__(self) -> str:
        return repr(self._file).removeprefix("Async")

    @property
    def node(self) -> str:
        """The node that saved it."""
        return self._file.node

    @property
    def name(self) -> str:
        """The server's name for it, which may be anything: `download` checks it."""
        return self._file.name

    @property
    def subfolder(self) -> str:
        return self._file.subfolder

    @property
    def type(self) -> str:
        """The server's folder: "output", or "temp" for previews."""
        return self._file.type

    @property
    def media(self) -> Media:
        """What kind of content it has: "image", "video", "text", "table" or "file"."""
        return self._file.media

    def read(self) -> bytes:
        """Its content."""
        return self._client._run(self._file.read())

    def download(self, folder: str | os.PathLike[str] = ".") -> Path:
        """Save it in a folder, which is created if it doesn't exist; returns its path.

        Nothing is overwritten: if the name is taken, it is saved as `name (1).png`. An existing file with the same
        content is used instead.

        Raises:
            ServerError: the server's name for it leads out of the folder, or would be hidden in it.
            UsageError: it can't be written.
        """
        return self._client._run(self._file.download(folder))


Event = EngineEvent | NodeSaved[File] | NodePreview | JobEnded
"""The events of a `Job`."""


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a job."""

    status: JobStatus
    files: tuple[File, ...]
    """The files its nodes saved."""

    def __repr__(self) -> str:
        return outcome(self.status, self.files)

    @property
    def texts(self) -> tuple[str, ...]:
        """The outputs of nodes that save no files, abridged: "out: 42"."""
        return self.status.texts


class Job:
    """A job on a server; made by a `Client`. The job itself continues whatever happens to this object."""

    def __init__(self, client: Client, job: AsyncJob) -> None:
        self._client = client
        self._job = job

    def __repr__(self) -> str:
        return repr(self._job)

    @property
    def id(self) -> str:
        return self._job.id

    @property
    def number(self) -> int:
        """Its number among all jobs of the server, from 1."""
        return self._job.number

    def status(self) -> JobStatus:
        """The job's current status; raises MissingError if the server no longer has it."""
        return self._client._run(self._job.status())

    def files(self) -> tuple[File, ...]:
        """The files saved so far, even if it failed or was cancelled."""
        return self._files(self._client._run(self._job.files()))

    def events(self, *, previews: bool = False) -> Iterator[Event]:
        """Yield the job's events, from the start of the run to its `JobEnded`.

        Events received since the job was submitted here come first; of anything that happened earlier, or while the
        server was away, only the files and the end are reported. A slow reader gets only the latest progress of each
        node. An interrupted run starts again, with another `RunStarted`.

        Args:
            previews: whether to include previews of unfinished results, which cost the server time.

        Raises:
            KinographError: the server went away for longer than the client's `patience`, or the job is gone.
        """
        for event in self._client._each(self._job.events(previews=previews)):
            yield self._event(event)

    def wait(self, timeout: float | None = None) -> Result:
        """Wait for the job to end, and return its outcome.

        Args:
            timeout: seconds to wait at most; for ever if None.

        Raises:
            NodeError: it failed; `problems` says why.
            Cancelled: it was cancelled.
            TimeoutError: it has not ended in time; it continues.
            KinographError: the server went away for longer than the client's `patience`, or the job is gone.
        """
        result: AsyncResult = self._client._run(self._job.wait(timeout))
        return Result(result.status, self._files(result.files))

    def cancel(self) -> None:
        """Cancel the job, waiting or running; raises UsageError if it is neither."""
        self._client._run(self._job.cancel())

    def retry(self) -> None:
        """Run the job again; raises UsageError if it has neither failed nor been cancelled."""
        self._client._run(self._job.retry())

    def move(self, *, before: Job | str | None = None, to: End | None = None) -> None:
        """Move the job within the queue: before another job, or to the front or the back.

        Raises:
            UsageError: it isn't waiting, the other isn't, or neither or both of `before` and `to` are given.
        """
        other = before.id if isinstance(before, Job) else before
        self._client._run(self._job.move(before=other, to=to))

    def _files(self, files: Iterable[AsyncFile]) -> tuple[File, ...]:
        return tuple(File(file, self._client) for file in files)

    def _event(self, event: AsyncEvent) -> Event:
        if isinstance(event, NodeSaved):
            return NodeSaved(event.node, self._files(event.files), event.temporary)
        return event


async def _closed(stream: AsyncGenerator[Any, None]) -> None:
    await stream.aclose()
