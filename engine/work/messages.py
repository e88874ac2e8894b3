"""What the server and its workers tell each other: one union each way, written and read here alone.

A message is a line of JSON, such as `{"message": "job_begun", "job": "9f…", "attempt": 1}`. A `JobPreview` is followed
by as many bytes as it says, a JPEG.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from engine.run.session import CacheLimits

LONGEST = 64 << 20
"""Bytes of one line."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WorkerSettings(_Message):
    """The first message to a worker: what it is to know."""

    message: Literal["settings"] = "settings"
    name: str
    queue: Path
    roots: dict[str, Path]
    """The only folders that workflows may reach: input, output, temp, models."""
    device: str = ""
    """A torch device; the best there is if empty."""
    nodes: tuple[Path, ...] = ()
    """Python files whose kinds of node are there too."""
    cache: CacheLimits = CacheLimits()


class LookForJobs(_Message):
    """There may be a job in the queue."""

    message: Literal["look_for_jobs"] = "look_for_jobs"


class CancelJob(_Message):
    message: Literal["cancel_job"] = "cancel_job"
    job: str


class ShowPreviews(_Message):
    """Whether someone looks at previews."""

    message: Literal["show_previews"] = "show_previews"
    wanted: bool


class FreeMemory(_Message):
    """Drop models and results in memory once nothing runs."""

    message: Literal["free_memory"] = "free_memory"


class WorkerReady(_Message):
    """A worker has started."""

    message: Literal["worker_ready"] = "worker_ready"
    device: str
    devices: list[dict[str, Any]]
    """All devices of this machine, as `engine.run.devices.every` has them."""


class JobBegun(_Message):
    message: Literal["job_begun"] = "job_begun"
    job: str
    attempt: int


class JobEnded(_Message):
    """A worker is done with a job, or gone; the queue says what became of it."""

    message: Literal["job_ended"] = "job_ended"
    job: str


class NodeStarting(_Message):
    """A node is about to run, in an attempt after one that its worker didn't outlive."""

    message: Literal["node_starting"] = "node_starting"
    node: str
    kind: str


class JobEvents(_Message):
    """The events of a run, as `engine.events.to_json` has them."""

    message: Literal["job_events"] = "job_events"
    job: str
    events: list[dict[str, Any]]


class JobPreview(_Message):
    """How far a picture has come."""

    message: Literal["job_preview"] = "job_preview"
    job: str
    node: str
    size: int = Field(ge=0, le=LONGEST)
    """Bytes of the JPEG that follows."""


class ModelProgress(_Message):
    """A model that a job needs is being fetched."""

    message: Literal["model_progress"] = "model_progress"
    job: str
    source: str
    done: int
    total: int


class ModelFetched(_Message):
    message: Literal["model_fetched"] = "model_fetched"
    job: str
    source: str
    path: str


Command = WorkerSettings | LookForJobs | CancelJob | ShowPreviews | FreeMemory
"""What the server tells a worker."""
Report = WorkerReady | JobBegun | JobEnded | NodeStarting | JobEvents | JobPreview | ModelProgress | ModelFetched
"""What a worker tells the server."""

_commands: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="message")])
_reports: TypeAdapter[Report] = TypeAdapter(Annotated[Report, Field(discriminator="message")])


def to_line(message: Command | Report) -> bytes:
    """The message as it is sent."""
    return message.model_dump_json().encode() + b"\n"


def read_command(line: bytes) -> Command:
    """The command that a line holds; raises ValueError."""
    return _commands.validate_json(line)


def read_report(line: bytes) -> Report:
    """The report that a line holds; raises ValueError."""
    return _reports.validate_json(line)
