"""The events of a run, in order, for whoever iterates over it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic_core import to_jsonable_python

from engine.errors import KinographError, NodeError, Problem
from engine.figures import Figure
from engine.values import Image, brief

Status = Literal["done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The plan is ready: of the workflow's `nodes`, those in `pending` will run; the rest are cached or not needed."""

    nodes: int
    pending: tuple[str, ...]
    warnings: tuple[Problem, ...] = ()
    """What is deprecated or ignored in the workflow, each once."""


@dataclass(frozen=True, slots=True)
class RunExtended:
    """A list or a choice has become known: these nodes will run as well."""

    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeStarted:
    node: str
    kind: str


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """`done` of `total` units; `preview`, if given, shows the current state."""

    node: str
    done: int
    total: int
    unit: str
    preview: Image | None = None


@dataclass(frozen=True, slots=True)
class NodeText:
    """A piece of the text that a node is writing."""

    node: str
    text: str


@dataclass(frozen=True, slots=True)
class NodeReported:
    """What a node says about how it works, in place of what it said before in this attempt."""

    node: str
    figures: Mapping[str, Figure]
    """By name, the most telling first."""


@dataclass(frozen=True, slots=True)
class NodeSaved:
    """A node's files, as this run wrote them."""

    node: str
    files: tuple[Path, ...]
    temporary: bool = False
    """Whether they are only for viewing, and not kept."""


@dataclass(frozen=True, slots=True)
class NodeResult:
    """The outputs of a target that saves no files, by name, each in brief."""

    node: str
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NodeCached:
    """A node's outputs came from the cache: neither it nor what only it needs runs."""

    node: str
    kind: str


@dataclass(frozen=True, slots=True)
class NodeFinished:
    node: str
    kind: str
    seconds: float


@dataclass(frozen=True, slots=True)
class NodeRetried:
    """A node failed and runs again after `seconds`: attempt `attempt` of at most `attempts`."""

    node: str
    problem: Problem
    attempt: int
    attempts: int
    seconds: float


@dataclass(frozen=True, slots=True)
class NodeWarned:
    """A node goes on in spite of a problem that people should know of, such as a file that was replaced meanwhile."""

    node: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class NodeFailed:
    """A node failed; what depends on it is skipped, everything else continues."""

    node: str
    kind: str
    problem: Problem
    error: str
    """The exception's class: "ValueError", "torch.OutOfMemoryError"."""
    exit_code: int
    inputs: Mapping[str, str]
    """Its inputs by name, each in brief."""
    trace: str
    """The Python traceback, for the log."""

    @classmethod
    def of(cls, node: str, kind: str, error: BaseException, inputs: Mapping[str, Any]) -> Self:
        """The event for an exception that a node raised."""
        code = error.exit_code if isinstance(error, KinographError) else NodeError.exit_code
        in_brief = {name: brief(value) for name, value in inputs.items()}
        trace = "".join(traceback.format_exception(error))
        return cls(node, kind, problem_of(node, error), _name(type(error)), code, in_brief, trace)


@dataclass(frozen=True, slots=True)
class NodeSkipped:
    """A node can't run because the node `because` failed."""

    node: str
    kind: str
    because: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The last event of every run."""

    status: Status
    seconds: float
    cached: int
    """How many nodes' outputs were taken from the cache."""
    timings: Mapping[str, float]
    """Seconds spent in `run`, by node, for the nodes that finished."""
    failures: tuple[NodeFailed, ...]
    warnings: tuple[Problem, ...] = ()
    """Problems that nodes went on in spite of."""

    @property
    def exit_code(self) -> int:
        if self.status == "cancelled":
            return 130
        return self.failures[0].exit_code if self.failures else 0


Event = (
    RunStarted
    | RunExtended
    | NodeStarted
    | NodeProgress
    | NodeText
    | NodeReported
    | NodeSaved
    | NodeResult
    | NodeCached
    | NodeFinished
    | NodeRetried
    | NodeWarned
    | NodeFailed
    | NodeSkipped
    | RunFinished
)


PYDANTIC = "    For further information visit https://errors.pydantic.dev/"
"""Begins a line in the texts of pydantic's errors that helps nobody who runs a workflow."""


def problem_of(node: str, error: BaseException) -> Problem:
    """An exception that a node raised, as a problem of that node."""
    if isinstance(error, KinographError):
        return Problem(error.message, node, error.input, error.hint)
    lines = "".join(traceback.format_exception_only(error)).splitlines()
    return Problem("\n".join(line for line in lines if not line.startswith(PYDANTIC)).strip(), node)


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def name_of(kind: type) -> str:
    """What a kind of event is called in JSON data: `node_started` of NodeStarted."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def to_json(event: Event) -> dict[str, Any]:
    """The event as JSON data, named `node_started` and so on under "event"; previews are left out."""
    return {"event": name_of(type(event)), **to_jsonable_python(event, exclude={"preview"})}
