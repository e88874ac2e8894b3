"""The client for asynchronous programs; `engine.client.synchronous` is for all others."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self
from urllib.parse import quote

from aiohttp import FormData

from engine.client import answers
from engine.client.answers import Checked, Health, JobStatus, Model, NodeKind, Queue, Submitted, Uploaded
from engine.client.connection import OWN, Connection, Unreachable
from engine.client.feed import Feed
from engine.client.jobs import AsyncJob, AsyncResult
from engine.client.workflows import AnyWorkflow, to_send
from engine.document.given import axes_of, path_of, seconds_of, text_of, texts_of, whole_of
from engine.errors import MissingError, UsageError

ADDRESS = "http://127.0.0.1:8188"
"""Where `kinograph serve` listens."""


class AsyncClient:
    """Talks to one server; belongs to the event loop in which it is first used.

        async with AsyncClient() as client:
            result = await client.run("snail.json", {"theme": "rain"})

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
        self._connection = Connection(address, token, connect_timeout=connect_timeout, silence_timeout=silence_timeout)
        if patience is not None:
            patience = seconds_of(patience, "patience", can_be_zero=True)
        self._feed = Feed(self._connection, patience)

    def __repr__(self) -> str:
        return f"<AsyncClient of {self._connection}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; jobs continue."""
        await self._feed.close()
        await self._connection.close()

    async def submit(
        self,
        workflow: AnyWorkflow,
        *,
        inputs: Mapping[str, Any] | None = None,
        priority: int = 0,
        front: bool = False,
        targets: Sequence[str] | None = None,
    ) -> AsyncJob:
        """Queue a workflow; on return it is on the server's disk.

        Args:
            workflow: a path, the name of one that comes with Kinograph, JSON data, or an object with a `document()`.
            inputs: values by `node.input`, or by a name that the workflow exposes.
            priority: from -1000 to 1000; higher ones go first.
            front: whether it goes before all others of its priority.
            targets: the nodes whose outputs are wanted; all that save files if None.
        """
        data = await to_send(self._connection, workflow, inputs)
        wanted = None if targets is None else texts_of(targets, "targets", 'give ids of nodes, such as ["3"]')
        body = {"prompt": data, "whole": True, "partial_execution_targets": wanted}
        return await self._submit("prompt", body | {"priority": priority, "front": front})

    async def run(
        self,
        workflow: AnyWorkflow,
        inputs: Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
        front: bool = False,
        targets: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> AsyncResult:
        """`submit` a workflow and `wait` for its result; raises what they raise."""
        job = await self.submit(workflow, inputs=inputs, priority=priority, front=front, targets=targets)
        return await job.wait(timeout)

    async def sweep(
        self,
        workflow: AnyWorkflow,
        axes: Mapping[str, Iterable[Any]],
        *,
        inputs: Mapping[str, Any] | None = None,
        priority: int = 0,
    ) -> AsyncJob:
        """Submit a workflow with every combination of some inputs' values, as one job.

        It also makes a contact sheet and a table: the files of the node "sweep".

        Args:
            workflow: as for `submit`.
            axes: one to four inputs, and the values of each; the last runs across the contact sheet.
            inputs: values shared by all combinations.
            priority: higher ones go first.
        """
        listed = [{"name": name, "values": values} for name, values in axes_of(axes).items()]
        data = await to_send(self._connection, workflow, inputs)
        return await self._submit(f"{OWN}/sweeps", {"workflow": data, "axes": listed, "priority": priority})

    async def validate(self, workflow: AnyWorkflow, inputs: Mapping[str, Any] | None = None) -> Checked:
        """Report everything that is wrong with a workflow, or missing for it, without running it."""
        data = await to_send(self._connection, workflow, inputs)
        return await self._connection.post(f"{OWN}/validate", Checked, {"workflow": data})

    async def job(self, id: str) -> AsyncJob:
        """A job that was submitted earlier, by any client; raises MissingError if there is none."""
        name = text_of(id, "id", "give the `id` of a job")
        found = await self._connection.get(f"{OWN}/jobs/{quote(name, safe='')}", answers.Job)
        return AsyncJob(found.id, found.number, self._connection, self._feed)

    async def queue(self) -> Queue:
        """The running and waiting jobs."""
        found = await self._connection.get(f"{OWN}/queue", answers.Waiting)
        running, pending = (tuple(job.status for job in jobs) for jobs in (found.running, found.pending))
        return Queue(found.paused, running, pending, found.total_pending)

    async def history(self, limit: int = 50) -> tuple[JobStatus, ...]:
        """The most recently ended jobs, at most 1000, latest first."""
        most = whole_of(limit, "limit", "give a number from 1 to 1000")
        found = await self._connection.get(f"{OWN}/jobs", answers.Listed, limit=most)
        return tuple(job.status for job in found.jobs)

    async def pause(self) -> None:
        """Stop the server from starting jobs, even after a restart; running jobs continue."""
        await self._connection.post(f"{OWN}/pause", object, {})

    async def resume(self) -> None:
        """Let the server start jobs again."""
        await self._connection.post(f"{OWN}/resume", object, {})

    async def nodes(self) -> dict[str, NodeKind]:
        """The kinds of node that the server has, by name."""
        return await self._connection.get(f"{OWN}/nodes", dict[str, NodeKind])

    async def models(self) -> tuple[Model, ...]:
        """The models on the server's machine."""
        return await self._connection.get(f"{OWN}/models", tuple[Model, ...])

    async def health(self) -> Health:
        """Whether the server can run jobs: its workers, and what they are doing."""
        return await self._connection.get(f"{OWN}/health", Health)

    async def upload(
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
        file = path_of(path, "path", "name a picture, a video or a text")
        own_name = file.name if name is None else text_of(name, "name", "give the name that it gets on the server")
        subfolder = text_of(subfolder, "subfolder", "give the name of a folder, or none")
        if not own_name.isprintable():
            raise UsageError(f"{own_name!r} can't be the name of an upload", hint="give it another name=…")
        form = FormData(quote_fields=False)
        try:
            with file.open("rb") as opened:
                form.add_field("subfolder", subfolder)
                form.add_field("overwrite", str(overwrite).lower())
                form.add_field("image", opened, filename=own_name or file.name)
                kept = await self._connection.post("upload/image", Uploaded, form)
        except FileNotFoundError:
            raise MissingError(f"there is no file '{file}'") from None
        except OSError as error:
            raise UsageError(f"can't read '{file}': {error.strerror}") from None
        return f"{kept.subfolder}/{kept.name}" if kept.subfolder else kept.name

    async def _submit(self, path: str, body: dict[str, Any]) -> AsyncJob:
        """Submit a job, watched before it starts; if the connection breaks, check whether the server has it."""
        name = uuid.uuid4().hex
        watch = self._feed.watch(name)
        await self._feed.opened()
        watch.begin(complete=self._feed.is_live)
        try:
            sent = body | {"prompt_id": name, "client_id": self._feed.client}
            number = (await self._connection.post(path, Submitted, sent)).number
        except Unreachable as error:
            try:
                return await self.job(name)
            except (MissingError, Unreachable):
                raise error from None
        return AsyncJob(name, number, self._connection, self._feed)
