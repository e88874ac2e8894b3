"""What a server answers, as far as a client reads it: checked, and never trusted. What is unknown is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from engine.errors import Problem
from engine.work.media import media_type

State = Literal["pending", "running", "done", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
Media = Literal["image", "video", "text", "table", "file"]
MEDIA: Mapping[str, Media] = {"images": "image", "videos": "video", "texts": "text", "tables": "table"}


class Answer(BaseModel):
    """Base of what is answered."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Place(Answer):
    """Where a file is, in the terms of the server."""

    name: str = Field(validation_alias="filename")
    subfolder: str = ""
    type: str = "output"
    """The folder, "output", "input" or "temp"."""

    @property
    def media(self) -> Media:
        """What people see in it, told by its name."""
        return MEDIA.get(media_type(PurePath(self.name)), "file")


class Record(Answer):
    """How a job ended."""

    problems: tuple[Problem, ...] = ()
    seconds: float | None = None


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
    """What it gave: by node, files and texts by what they are."""
    problem: Problem | None = None
    record: Record = Record()

    def saved(self) -> Iterator[tuple[str, tuple[Place, ...]]]:
        """The nodes that saved files, and these."""
        for node, given in self.outputs.items():
            if places := tuple(item for items in given.values() for item in items if isinstance(item, Place)):
                yield node, places

    @property
    def status(self) -> JobStatus:
        """The same for people."""
        return JobStatus(
            **{name: getattr(self, name) for name in ("id", "number", "state", "title", "priority", "attempts")},
            **{name: getattr(self, name) for name in ("created", "started", "finished")},
            seconds=self.record.seconds if self.seconds is None else self.seconds,
            problems=self.record.problems or ((self.problem,) if self.problem else ()),
            texts=tuple(text for given in self.outputs.values() for text in given.get("text", ()) if type(text) is str),
            outputs=dict(self.saved()),
        )


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How it stands with a job."""

    id: str
    number: int
    """It counts all jobs of the server, from 1."""
    state: State
    title: str
    priority: int
    created: datetime
    started: datetime | None
    finished: datetime | None
    attempts: int
    """How often it was begun: more than once if a worker died."""
    seconds: float | None
    """How long the run took, if it came to its end."""
    problems: tuple[Problem, ...]
    """Why it failed; in lists of jobs only the first."""
    texts: tuple[str, ...]
    """What nodes gave that save no files, in a few words each: "out: 42"."""
    outputs: Mapping[str, tuple[Place, ...]]
    """The files that it has saved so far, by node; a job's `files` can be read."""

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


class Listed(Answer):
    """Some jobs."""

    jobs: tuple[Job, ...]


class Waiting(Answer):
    """What runs, and the first of what waits."""

    paused: bool = False
    running: tuple[Job, ...]
    pending: tuple[Job, ...]
    total_pending: int


@dataclass(frozen=True, slots=True)
class Queue:
    """What runs and what waits."""

    paused: bool
    running: tuple[JobStatus, ...]
    pending: tuple[JobStatus, ...]
    """The first of those that wait, in order."""
    total_pending: int


class Submitted(Answer):
    """A job that was taken."""

    prompt_id: str
    number: int


class Checked(Answer):
    """What is wrong with a workflow."""

    valid: bool
    """Whether it can be run, if need be after the models that are missing have been fetched."""
    nodes: int = 0
    targets: tuple[str, ...] = ()
    """The nodes that a run is for."""
    problems: tuple[Problem, ...] = ()
    missing: tuple[Problem, ...] = ()
    """The models and files that aren't there."""
    warnings: tuple[Problem, ...] = ()
    """What is deprecated or ignored in it."""


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


class Kind(Answer):
    """A kind of node."""

    kind: str
    version: int
    category: str = ""
    help: str = ""
    saves: str | None = None
    """What the names of its files begin with, if it saves any."""
    pack: str | None = None
    """The pack that offers it; none if it comes with Kinograph."""
    deprecated: str = ""
    """What to use instead; "" unless it is deprecated."""
    inputs: tuple[Socket, ...] = ()
    outputs: tuple[Socket, ...] = ()
    input_schema: dict[str, Any] = Field({}, validation_alias="schema")
    """The JSON schema of its inputs."""


class Model(Answer):
    """A model that is there."""

    source: str
    """What a workflow calls it."""
    path: str
    """Where it is on the server's machine."""
    bytes: int | None = None
    """Of a single file."""


class Worker(Answer):
    """A process that does jobs."""

    device: str
    job: str | None = None
    """What it is at."""
    bytes: int = 0
    """Memory that it takes."""


class WorkerProblem(Answer):
    """A device that has no worker."""

    device: str
    """"" is the best of the machine."""
    problem: str
    """Why its worker can't start."""


class Health(Answer):
    """Whether a server can do jobs."""

    status: str
    """"ok"; without workers "starting", or "failing" if they can't start."""
    workers: tuple[Worker, ...] = ()
    problems: tuple[WorkerProblem, ...] = ()


class Uploaded(Answer):
    """Where an uploaded file is now."""

    name: str
    subfolder: str = ""


class Converted(Answer):
    """A workflow as a document."""

    document: dict[str, Any]


class RefusedError(Answer):
    type: str
    extra_info: dict[str, Any] = {}


class Refused(Answer):
    """Why something was refused."""

    error: RefusedError
    problems: Annotated[tuple[Problem, ...], Field(min_length=1)]
