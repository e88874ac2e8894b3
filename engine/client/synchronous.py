"""The client for programs that aren't asynchronous: it has an `AsyncClient` do everything, in a thread beside them."""

from __future__ import annotations

import os
import weakref
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from engine.client.answers import Checked, Health, JobStatus, Kind, Media, Model, Queue
from engine.client.asynchronous import ADDRESS, AsyncClient
from engine.client.background import Background
from engine.client.events import JobEnded, NodePreview, NodeSaved, Told
from engine.client.files import AsyncFile
from engine.client.jobs import AsyncEvent, AsyncJob, AsyncResult, End
from engine.client.workflows import AnyWorkflow

T = TypeVar("T")


class Client:
    """Asks one server; from any thread, also where an event loop runs, as in a notebook.

        with Client() as client:
            result = client.run("snail.json", {"theme": "rain"})

    All methods raise ServerError where no server answers, or not as it should, UsageError where it doesn't take the
    token or what is asked of it, WorkflowError and MissingError, with all `problems`, where a workflow can't be run.

    Args:
        address: where the server is; it may have the `?token=…` that the server prints.
        token: what the server wants to be shown; by default that of the address or the environment's `KINOGRAPH_TOKEN`.
        connect_timeout: seconds until the server must have taken a connection.
        silence_timeout: seconds within which something must come of an answer.
        patience: how many seconds a job is waited for while the server is away, as it may be started again; for ever
            if None.
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End all connections; jobs go on."""
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
        """Put a workflow into the queue; on return it is on the server's disk.

        Args:
            workflow: a path, the name of a workflow that comes with Kinograph, JSON data, or what has a `document()`.
            inputs: values by input: `node.input`, or a name that the workflow exposes.
            priority: from -1000 to 1000; higher ones go first.
            front: whether it goes before all others of its priority.
            targets: the nodes whose outputs are wanted; all that save if None.
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
        """`submit` a workflow, and `wait` for its result; raises what they raise."""
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
            axes: one to four inputs, and the values of each; the last is across in the contact sheet.
            inputs: values that are the same in all.
            priority: higher ones go first.
        """
        return Job(self, self._run(self._client.sweep(workflow, axes, inputs=inputs, priority=priority)))

    def validate(self, workflow: AnyWorkflow, inputs: Mapping[str, Any] | None = None) -> Checked:
        """Tell all that is wrong with a workflow, and what it misses, without running it."""
        return self._run(self._client.validate(workflow, inputs))

    def job(self, id: str) -> Job:
        """A job that was submitted before, by whomever; raises MissingError if there is none."""
        return Job(self, self._run(self._client.job(id)))

    def queue(self) -> Queue:
        """What runs and what waits."""
        return self._run(self._client.queue())

    def history(self, limit: int = 50) -> tuple[JobStatus, ...]:
        """The jobs that ended last, at most 1000, the latest first."""
        return self._run(self._client.history(limit))

    def pause(self) -> None:
        """Have the server begin no more jobs, also after a restart; what runs goes on."""
        self._run(self._client.pause())

    def resume(self) -> None:
        """Have it go on."""
        self._run(self._client.resume())

    def nodes(self) -> dict[str, Kind]:
        """The kinds of node that the server has, by name."""
        return self._run(self._client.nodes())

    def models(self) -> tuple[Model, ...]:
        """The models that are on the server's machine."""
        return self._run(self._client.models())

    def health(self) -> Health:
        """Whether the server can do jobs: its workers, and what they are at."""
        return self._run(self._client.health())

    def upload(
        self, path: str | os.PathLike[str], *, name: str | None = None, subfolder: str = "", overwrite: bool = False
    ) -> str:
        """Send a picture or a video to the server's input folder.

        Args:
            path: the file.
            name: what it is to be called there; as here if None.
            subfolder: the folder in the input folder.
            overwrite: whether it takes the place of a file of its name; else it gets a number, unless its content is
                the same.

        Returns:
            What a workflow calls it, for `LoadImage` or `LoadVideo`.
        """
        return self._run(self._client.upload(path, name=name, subfolder=subfolder, overwrite=overwrite))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._background.run(work)

    def _each(self, stream: AsyncGenerator[T, None]) -> Iterator[T]:
        """What an asynchronous generator yields."""

        async def following() -> T | None:
            return await anext(stream, None)

        try:
            while (item := self._run(following())) is not None:
                yield item
        finally:
            self._background.start(_closed(stream))  # not waited for: it may be the loop's own thread that tidies up


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
        """As the server calls it, which may be anything: `download` makes sure of it."""
        return self._file.name

    @property
    def subfolder(self) -> str:
        return self._file.subfolder

    @property
    def type(self) -> str:
        """The server's folder: "output", or "temp" for what is only for looking at."""
        return self._file.type

    @property
    def media(self) -> Media:
        """What people see in it: "image", "video", "text", "table" or "file"."""
        return self._file.media

    def read(self) -> bytes:
        """What is in it."""
        return self._client._run(self._file.read())

    def download(self, folder: str | os.PathLike[str] = ".") -> Path:
        """Save it in a folder, which is made if it isn't there; returns where it is.

        Nothing is written over: if something else has its name, it is called `name (1).png`. A file with the same
        content is taken for this one.

        Raises:
            ServerError: the server gives it a name that leads out of the folder, or is hidden in it.
            UsageError: it can't be written.
        """
        return self._client._run(self._file.download(folder))


Event = Told | NodeSaved[File] | NodePreview | JobEnded
"""What a `Job` tells."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a job."""

    status: JobStatus
    files: tuple[File, ...]
    """What its nodes saved."""

    @property
    def texts(self) -> tuple[str, ...]:
        """What nodes gave that save no files, in a few words each: "out: 42"."""
        return self.status.texts


class Job:
    """A job at a server; made by a `Client`. The job itself goes on whatever becomes of this object."""

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
        """It counts all jobs of the server, from 1."""
        return self._job.number

    def status(self) -> JobStatus:
        """How it stands with the job now; raises MissingError if the server has forgotten it."""
        return self._client._run(self._job.status())

    def files(self) -> tuple[File, ...]:
        """What it has saved so far, also where it failed or was cancelled."""
        return self._files(self._client._run(self._job.files()))

    def events(self, *, previews: bool = False) -> Iterator[Event]:
        """What happens, from the start of the run to its `JobEnded`.

        It starts with what has been told already since the job was submitted here; of what happened before, or while
        the server was away, the files are told, and the end. Of a node's progress only the last is told to who reads
        slowly. A run that is interrupted begins anew, with another `RunStarted`.

        Args:
            previews: also pictures of what is being made; they cost the server time.

        Raises:
            KinographError: the server went away for longer than the client's `patience`, or the job is gone.
        """
        for event in self._client._each(self._job.events(previews=previews)):
            yield self._event(event)

    def wait(self, timeout: float | None = None) -> Result:
        """What comes of the job, once it has ended.

        Args:
            timeout: seconds to wait at most; for ever if None.

        Raises:
            NodeError: it failed; `problems` tells what of.
            Cancelled: it was cancelled.
            TimeoutError: it has not ended in time; it goes on.
            KinographError: the server went away for longer than the client's `patience`, or the job is gone.
        """
        result: AsyncResult = self._client._run(self._job.wait(timeout))
        return Result(result.status, self._files(result.files))

    def cancel(self) -> None:
        """End the job, whether it waits or runs; raises UsageError if it does neither."""
        self._client._run(self._job.cancel())

    def retry(self) -> None:
        """Run the job again; raises UsageError if it has neither failed nor been cancelled."""
        self._client._run(self._job.retry())

    def move(self, *, before: Job | str | None = None, to: End | None = None) -> None:
        """Change the job's place among those that wait: before another job, or to the front or the back.

        Raises:
            UsageError: it doesn't wait, the other doesn't, or neither or both of `before` and `to` are given.
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
