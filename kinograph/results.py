"""The results of a run: files, values, timings, failures."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from engine.document.given import described
from engine.errors import (
    InputError,
    KinographError,
    MissingError,
    NodeError,
    Problem,
    UsageError,
    WorkflowError,
    suggestion,
)
from engine.events import NodeFailed, Status
from engine.figures import Report
from engine.values import brief
from kinograph.display import html_of_file, html_of_results
from kinograph.handles import Handle, Outlet, node_of

T = TypeVar("T")
MOST_PARTS = 8
"""The most items of a list that are printed."""

Key = str | Handle | Outlet
"""A node, by its id or handle; one of its outputs; or the name of an output of the workflow."""

RAISED = {
    f"{kind.__module__}.{kind.__qualname__}": kind
    for kind in (InputError, MissingError, UsageError, WorkflowError, KinographError)
}
"""The errors of nodes that are raised as their own type; all others become NodeError."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that a run wrote; usable wherever a path is."""

    path: Path
    """Absolute."""
    temporary: bool = False
    """Whether it is only a preview."""

    @property
    def media_type(self) -> str:
        """Such as "image/png"."""
        return mimetypes.guess_type(self.path.name)[0] or "application/octet-stream"

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_png_(self) -> bytes | None:
        return self.path.read_bytes() if self.media_type == "image/png" and self.path.is_file() else None

    def _repr_html_(self) -> str | None:
        return None if self.media_type == "image/png" else html_of_file(self.path, self.media_type)


class ByNode(Mapping[str, T]):
    """What nodes produced, by id; handles also work as keys."""

    def __init__(self, found: Mapping[str, T]) -> None:
        self._found = found

    def __getitem__(self, key: Key) -> T:
        name = node_of(key)
        try:
            return self._found[name]
        except (KeyError, TypeError):
            hint, what = suggestion(name, self._found), f"'{name}'" if isinstance(name, str) else described(name)
            raise KeyError(f"there is no result of {what}" + (f": {hint}" if hint else "")) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: {shown(found)}' for name, found in self._found.items())}}}"


@dataclass(frozen=True, eq=False)
class Results:
    """The results of a run. A notebook shows its pictures, videos and texts."""

    files: ByNode[tuple[File, ...]]
    """The files written, by the node that saves them."""
    values: ByNode[Any]
    """The workflow's outputs; if it names none, the outputs of the run's targets that save no files. A list is a tuple;
    several outputs of one node are a named tuple."""
    status: Status
    seconds: float
    timings: Mapping[str, float]
    """Seconds by node, for those that finished; a node that runs for the items of a list has an entry for each."""
    cached: tuple[str, ...]
    """The nodes whose outputs were taken from the cache; nodes that lead only to these aren't included."""
    failures: tuple[NodeFailed, ...] = ()
    warnings: tuple[Problem, ...] = ()
    """Problems that nodes went on in spite of, such as a file that was replaced during the run."""
    reports: Mapping[str, Report] = field(default_factory=dict)
    """What nodes that ran said about how they worked, as figures by name; each item of a list has its own."""

    def __getitem__(self, key: Key) -> Any:
        """A value, or for a node that saves files, these."""
        name = node_of(key)
        if isinstance(name, str) and name in self.files and name not in self.values:
            return self.files[name]
        value = self.values[name]
        if isinstance(key, Outlet) and isinstance(value, tuple) and hasattr(value, "_fields"):
            return value[key.slot]
        return value

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files, in the order in which they were written."""
        return tuple(file.path for files in self.files.values() for file in files)

    def check(self) -> None:
        """Raise the errors of failed nodes as one, with all problems; NodeError unless the first is Kinograph's own.

        The tracebacks are its notes.
        """
        if self.failures:
            kind = RAISED.get(self.failures[0].error, NodeError)
            error = kind.of(failure.problem for failure in self.failures)
            for failure in self.failures:
                error.add_note(failure.trace.rstrip())
            raise error

    def __repr__(self) -> str:
        return "\n".join(
            [
                self.summary,
                *(f"  {node}: {file.path}" for node, files in self.files.items() for file in files),
                *(f"  {name}: {shown(value)}" for name, value in self.values.items()),
                *(f"  {failure.problem}" for failure in self.failures),
                *(f"  warning: {problem}" for problem in self.warnings),
            ]
        )

    @property
    def summary(self) -> str:
        """Such as "done in 3.2 s: 4 nodes ran, 1 came from the cache"."""
        nodes = "node" if len(self.timings) == 1 else "nodes"
        ran = f"{len(self.timings)} {nodes} ran, {len(self.cached)} came from the cache"
        return f"{self.status} in {self.seconds:.1f} s: {ran}"

    def _repr_html_(self) -> str:
        files = {node: [(file.path, file.media_type) for file in found] for node, found in self.files.items()}
        return html_of_results(self.summary, files, self.values)


def shown(value: Any) -> str:
    """A value in short; of a list, or several outputs, each part: "(Image of 1 × 64×64, 'a boat')"."""
    if isinstance(value, File):
        return repr(value)
    if not isinstance(value, tuple):
        return brief(value)
    fields = getattr(value, "_fields", ())
    parts = [shown(part) for part in value[:MOST_PARTS]]
    if fields:
        parts = [f"{name}={part}" for name, part in zip(fields, parts, strict=False)]
    if len(value) > MOST_PARTS:
        parts.append(f"… {len(value) - MOST_PARTS} more")
    return f"({', '.join(parts)}{',' if len(value) == 1 and not fields else ''})"
