"""The parts of a server's answers that a client reads: checked, and never trusted. Unknown fields are ignored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from engine.errors import Problem
from engine.figures import Figure
from engine.work.media import media_group

State = Literal["pending", "running", "done", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
Media = Literal["image", "video", "text", "table", "file"]
MEDIA: Mapping[str, Media] = {"images": "image", "videos": "video", "texts": "text", "tables": "table"}


class Answer(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Place(Answer):
    """Where a file is on the server."""

    name: str = Field(validation_alias="filename")
    subfolder: str = ""
    type: str = "output"
    """The folder, "output", "input" or "temp"."""

    @property
    def media(self) -> Media:
        """What kind of content it has, judged by its name."""
        return MEDIA.get(media_group(PurePath(self.name)), "file")


class Record(Answer):
    """How a job ended."""

    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    seconds: float | None = None
    reports: dict[str, dict[str, Figure]] = {}
    """What nodes said about how they worked."""


class Job(Answer):
    """A job as the server has it."""

    id: str
    number: int
    state: State
    title: str = ""
    priority: int = 0
    created: AwareDatetime
    started: AwareDatetime | None = None
    finished: AwareDatetime | None = None
    attempts: int = 0
    seconds: float | None = None
    outputs: dict[str, dict[str, tuple[Place | str, ...]]] = {}
    """Its outputs so far: by node, files and texts by media type."""
    problem: Problem | None = None
    record: Record = Record()

    def saved(self) -> Iterator[tuple[str, tuple[Place, ...]]]:
        """The nodes that saved files, each with its files."""
        for node, given in self.outputs.items():
            if places := tuple(item for items in given.values() for item in items if isinstance(item, Place)):
                yield node, places

    @property
    def status(self) -> JobStatus:
        """The job as the client presents it."""
        return JobStatus(
            **{name: getattr(self, name) for name in ("id", "number", "state", "title", "priority", "attempts")},
            **{name: getattr(self, name) for name in ("created", "started", "finished")},
            seconds=self.record.seconds if self.seconds is None else self.seconds,
            problems=self.record.problems or ((self.problem,) if self.problem else ()),
            texts=tuple(text for given in self.outputs.values() for text in given.get("text", ()) if type(text) is str),
            outputs=dict(self.saved()),
            warnings=self.record.warnings,
            reports=self.record.reports,
        )


@dataclass(frozen=True, slots=True)
class JobStatus:
    """The state of a job."""

    id: str
    number: int
    """Its number among all jobs of the server, from 1."""
    state: State
    title: str
    priority: int
    created: datetime
    started: datetime | None
    finished: datetime | None
    attempts: int
    """How often it was started: more than once if a worker died."""
    seconds: float | None
    """How long the run took, if it finished."""
    problems: tuple[Problem, ...]
    """Why it failed; in lists of jobs only the first."""
    texts: tuple[str, ...]
    """The outputs of nodes that save no files, abridged: "out: 42"."""
    outputs: Mapping[str, tuple[Place, ...]]
    """The files saved so far, by node; a job's `files` can be read."""
    warnings: tuple[Problem, ...] = ()
    """Problems that nodes went on in spite of, such as a replaced file; none in lists of jobs."""
    reports: Mapping[str, Mapping[str, Figure]] = field(default_factory=dict)
    """What nodes said about how they worked, once the job has ended; none in lists of jobs."""

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


class Listed(Answer):
    """A list of jobs."""

    jobs: tuple[Job, ...]


class Waiting(Answer):
    """The running jobs, and the first of the waiting ones."""

    paused: bool = False
    running: tuple[Job, ...]
    pending: tuple[Job, ...]
    total_pending: int


@dataclass(frozen=True, slots=True)
class Queue:
    """The running and waiting jobs."""

    paused: bool
    running: tuple[JobStatus, ...]
    pending: tuple[JobStatus, ...]
    """The first of the waiting jobs, in order."""
    total_pending: int


class Submitted(Answer):
    """A job that was accepted."""

    prompt_id: str
    number: int


class Checked(Answer):
    """What is wrong with a workflow."""

    valid: bool
    """Whether it can be run, if necessary after fetching missing models."""
    nodes: int = 0
    targets: tuple[str, ...] = ()
    """The nodes whose outputs a run produces."""
    problems: tuple[Problem, ...] = ()
    missing: tuple[Problem, ...] = ()
    """The models and files that are missing, without the models that a run fetches."""
    to_fetch: tuple[str, ...] = ()
    """The sources of the models that a run fetches."""
    warnings: tuple[Problem, ...] = ()
    """What in it is deprecated or ignored."""


class Socket(Answer):
    """An input or an output of a kind of node."""

    name: str
    type: str
    help: str = ""
    required: bool = False
    """Whether a workflow must give it."""
    default: Any = None
    deprecated: str = ""
    """What to do instead of giving it; "" unless it is deprecated."""


class NodeKind(Answer):
    """A kind of node."""

    kind: str
    version: int
    category: str = ""
    help: str = ""
    saves: str | None = None
    """The prefix of its files' names, if it saves any."""
    pack: str | None = None
    """The pack that offers it; None if it comes with Kinograph."""
    deprecated: str = ""
    """What to use instead; "" unless it is deprecated."""
    volatile: bool = False
    """Whether it runs in every run, and so does what depends on it."""
    libraries: tuple[str, ...] = ()
    """Distributions besides torch, diffusers and transformers whose versions its results depend on."""
    inputs: tuple[Socket, ...] = ()
    outputs: tuple[Socket, ...] = ()
    input_schema: dict[str, Any] = Field({}, validation_alias="schema")
    """The JSON schema of its inputs."""


class Model(Answer):
    """A model on the server's machine."""

    source: str
    """What a workflow calls it."""
    path: str
    """Where it is on the server's machine."""
    bytes: int | None = None
    """The size of a single file."""


class WorkerStatus(Answer):
    """A process that runs jobs."""

    device: str
    job: str | None = None
    """The job it is running."""
    bytes: int = 0
    """The memory it uses."""


class WorkerProblem(Answer):
    """A device that has no worker."""

    device: str
    """"" is the best of the machine."""
    problem: str
    """Why its worker can't start."""


class Health(Answer):
    """Whether a server can run jobs."""

    status: str
    """"ok"; without workers "starting", or "failing" if they can't start."""
    workers: tuple[WorkerStatus, ...] = ()
    problems: tuple[WorkerProblem, ...] = ()
    notices: tuple[str, ...] = ()
    """What is wrong with the queue: its file can't be used, or was damaged when the server started."""


class Uploaded(Answer):
    """Where an uploaded file is now."""

    name: str
    subfolder: str = ""


class Converted(Answer):
    """A workflow as a document."""

    document: dict[str, Any]
    warnings: tuple[Problem, ...] = ()
    """Values that the document doesn't have, as their nodes have no such input."""


class RefusedError(Answer):
    type: str
    extra_info: dict[str, Any] = {}


class Refused(Answer):
    """Why something was refused."""

    error: RefusedError
    problems: Annotated[tuple[Problem, ...], Field(min_length=1)]
