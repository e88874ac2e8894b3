"""What is told of a job while it is done: the engine's own events, rebuilt from what the server tells of them.

Of what has files, these can be read: `NodeSaved` here holds them instead of paths. At the end stands a `JobEnded`.
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
    NodeResult,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeText,
    RunExtended,
    RunFinished,
    RunStarted,
    name_of,
)

F = TypeVar("F")

Told = (
    RunStarted
    | RunExtended
    | NodeStarted
    | NodeProgress
    | NodeText
    | NodeResult
    | NodeCached
    | NodeFinished
    | NodeRetried
    | NodeFailed
    | NodeSkipped
    | RunFinished
)
"""The engine's events that are here as they are there; a `NodeProgress` never has a `preview`."""


@dataclass(frozen=True, slots=True)
class NodeSaved(Generic[F]):
    """A node's files, as this run wrote them."""

    node: str
    files: tuple[F, ...]
    temporary: bool = False
    """Whether they are only for looking at."""


@dataclass(frozen=True, slots=True)
class NodePreview:
    """What a node's result looks like so far."""

    node: str
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The last event of every job; a run may be begun again after its `RunFinished`, or end without one."""

    status: JobStatus


Raw = Told | NodeSaved[Place] | NodePreview
"""What is told, with files that can't be read yet."""

KINDS = {name_of(kind): kind for kind in get_args(Told)}


class _Saved(Answer):
    node: str
    files: tuple[Place, ...]
    temporary: bool = False


def read(events: Iterable[Mapping[str, Any]]) -> Iterator[Raw]:
    """Events as the server tells them; kinds that aren't known here are left out, as servers may be newer.

    Raises:
        ValidationError: one isn't as it should be.
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
