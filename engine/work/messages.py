"""The messages between the server and its workers: one union each way, written and read only here.

A message is a line of JSON, such as `{"message": "job_begun", "job": "9f…", "attempt": 1}`. A `JobPreview` is followed
by a JPEG of as many bytes as it says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from engine.models.folders import NO_FOLDERS, ModelFolders
from engine.run.devices import Device
from engine.run.resources import CacheLimits

MAX_LINE_BYTES = 64 << 20
"""The largest size of a line, and of a preview."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WorkerSettings(_Message):
    """The first message to a worker."""

    message: Literal["settings"] = "settings"
    name: str
    queue: Path
    roots: dict[str, Path]
    """The only folders that workflows may reach: input, output, temp, models."""
    models: ModelFolders = NO_FOLDERS
    """All folders of models, which workflows may read too."""
    device: str = ""
    """A torch device; the best one if empty. A GPU is the only one that the worker sees (`engine.models.visible`)."""
    nodes: tuple[Path, ...] = ()
    """Python files that define further kinds of node."""
    cache: CacheLimits = CacheLimits()
    hides_paths: bool = False
    """Whether errors have no absolute paths, as those who read them may be elsewhere."""


class LookForJobs(_Message):
    """There may be a job in the queue."""

    message: Literal["look_for_jobs"] = "look_for_jobs"


class CancelJob(_Message):
    message: Literal["cancel_job"] = "cancel_job"
    job: str


class ShowPreviews(_Message):
    """Whether anyone is watching previews."""

    message: Literal["show_previews"] = "show_previews"
    wanted: bool


class FreeMemory(_Message):
    """Drop models and results from memory once nothing runs."""

    message: Literal["free_memory"] = "free_memory"


class WorkerReady(_Message):
    """A worker has started."""

    message: Literal["worker_ready"] = "worker_ready"
    device: str
    devices: list[Device]
    """All devices that it sees: its own or, if it was to choose one, all of the machine."""


class WorkerFailed(_Message):
    """A worker can't start, or go on; nothing follows. `engine.work.__main__` writes it, which imports little."""

    message: Literal["worker_failed"] = "worker_failed"
    problem: str


class JobBegun(_Message):
    message: Literal["job_begun"] = "job_begun"
    job: str
    attempt: int


class JobEnded(_Message):
    """A worker is done with a job, or gone; the queue has the outcome."""

    message: Literal["job_ended"] = "job_ended"
    job: str


class NodeStarting(_Message):
    """A node is about to run, in an attempt after one that its worker didn't survive."""

    message: Literal["node_starting"] = "node_starting"
    node: str
    kind: str


class JobEvents(_Message):
    """The events of a run, as `engine.events.to_json` returns them."""

    message: Literal["job_events"] = "job_events"
    job: str
    events: list[dict[str, Any]]


class JobPreview(_Message):
    """A preview of a picture in progress."""

    message: Literal["job_preview"] = "job_preview"
    job: str
    node: str
    size: int = Field(ge=0, le=MAX_LINE_BYTES)
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
"""A message from the server to a worker."""
_WorkerReport = WorkerReady | WorkerFailed
_JobReport = JobBegun | JobEnded | NodeStarting | JobEvents | JobPreview | ModelProgress | ModelFetched
Report = _WorkerReport | _JobReport
"""A message from a worker to the server."""

_commands: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="message")])
_reports: TypeAdapter[Report] = TypeAdapter(Annotated[Report, Field(discriminator="message")])


def to_line(message: Command | Report) -> bytes:
    """A message as it is sent."""
    return message.model_dump_json().encode() + b"\n"


def read_command(line: bytes) -> Command:
    """The command that a line holds; raises ValueError."""
    return _commands.validate_json(line)


def read_report(line: bytes) -> Report:
    """The report that a line holds; raises ValueError."""
    return _reports.validate_json(line)
