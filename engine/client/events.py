"""The events of a job: the engine's own, rebuilt from the server's messages.

`NodeSaved` here holds files that can be read instead of paths. The last event is a `JobEnded`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar, get_args

from pydantic import TypeAdapter

from engine.client.answers import Answer, JobStatus, Place
from engine.events import (
    NodeCached,
    NodeFailed,
    NodeFinished,
    NodeProgress,
    NodeReported,
    NodeResult,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeText,
    NodeWarned,
    RunExtended,
    RunFinished,
    RunStarted,
    name_of,
)

F = TypeVar("F")

EngineEvent = (
    RunStarted
    | RunExtended
    | NodeStarted
    | NodeProgress
    | NodeText
    | NodeReported
    | NodeResult
    | NodeCached
    | NodeFinished
    | NodeRetried
    | NodeWarned
    | NodeFailed
    | NodeSkipped
    | RunFinished
)
"""The engine's events that are passed on unchanged; a `NodeProgress` never has a `preview`."""


@dataclass(frozen=True, slots=True)
class NodeSaved(Generic[F]):
    """A node's files, as this run wrote them."""

    node: str
    files: tuple[F, ...]
    temporary: bool = False
    """Whether they are only previews."""


@dataclass(frozen=True, slots=True)
class NodePreview:
    """What a node's result looks like so far."""

    node: str
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The last event of every job; a run may be started again after its `RunFinished`, or end without one."""

    status: JobStatus


Raw = EngineEvent | NodeSaved[Place] | NodePreview
"""An event as received, with files that can't be read yet."""

KINDS = {name_of(kind): kind for kind in get_args(EngineEvent)}


class _Saved(Answer):
    node: str
    files: tuple[Place, ...]
    temporary: bool = False


def read(events: Iterable[Mapping[str, Any]]) -> Iterator[Raw]:
    """Events from the server's messages; unknown ones are left out, as servers may be newer.

    Raises:
        ValidationError: one is malformed.
    """
    for event in events:
        name = event.get("event")
        if name == name_of(NodeSaved):
            saved = _Saved.model_validate(event)
            yield NodeSaved(saved.node, saved.files, saved.temporary)
        elif name in KINDS:
            yield _adapter(name).validate_python(event)


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(KINDS[name])
