"""Deliver the outputs of a run's targets: as files in the output folder, or as values for the caller.

Nodes that save under one name form a series: their files are written in the order of the nodes in the workflow, and of
the items in a list, whichever is done first. So the numbers in file names don't depend on timing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from engine.document.workflow import split_id
from engine.errors import Cancelled
from engine.events import Event, NodeFailed, NodeProgress, NodeResult, NodeSaved
from engine.graph.graph import Graph, Step
from engine.run.saving import OutputFolder
from engine.store.cache import Entry
from engine.values import brief

_Name = tuple[str, Any]
"""What a node saves, and the prefix of its file names, None if only known during the run. For temporary files it is the
node itself, since the numbers in their names don't matter.
"""


def _ignore(step: str, names: Sequence[Path]) -> None: ...


@dataclass(frozen=True)
class Claims:
    """The names that steps claim for their files, so that another attempt at a run uses the same."""

    earlier: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    """Those that an earlier, killed attempt claimed, by step; files that are complete aren't written again."""
    on_claim: Callable[[str, Sequence[Path]], object] = _ignore
    """Called with a step and all of its names so far, the last of which it is about to claim."""


@dataclass(slots=True)
class _Series:
    """Steps that save under one name, in order."""

    steps: list[str] = field(default_factory=list)
    next: int = 0
    """The index of the next step to deliver."""
    waiting: dict[str, tuple[Step, Entry] | None] = field(default_factory=dict)
    """Steps that are done before their turn; None for a step that delivers nothing."""
    busy: bool = False
    """Whether a thread is writing a file of the series."""

    def turn(self) -> tuple[Step, Entry] | None:
        """The step whose turn it is, if it is done."""
        while self.next < len(self.steps) and self.steps[self.next] in self.waiting:
            item = self.waiting.pop(self.steps[self.next])
            self.next += 1
            if item:
                return item
        return None

    def close(self) -> None:
        """Stop waiting for steps that won't come: only those that are done remain, unexpected ones last."""
        left = sorted(self.waiting.keys() - set(self.steps[self.next :]), key=split_id)
        self.steps = [step for step in self.steps[self.next :] if step in self.waiting] + left
        self.next = 0


class Deliveries:
    """Delivers each target's outputs once; safe to use from several threads.

    Args:
        graph: what `check` returned.
        out: the folder that media are written to.
        temp: the folder for temporary media.
        emit: called with each event.
        cancelled: whether the run was cancelled, in which case the rest of a folder isn't written.
        claims: the file names that an earlier attempt claimed, and a callback for new claims.
    """

    def __init__(
        self,
        graph: Graph,
        out: Path,
        temp: Path,
        emit: Callable[[Event], None],
        cancelled: Callable[[], bool],
        claims: Claims,
    ) -> None:
        self.results: dict[str, tuple[Any, ...]] = {}
        """The outputs, by node, of targets that don't save files; in host memory."""
        self._graph = graph
        self._emit = emit
        self._cancelled = cancelled
        self._claims = claims
        self._lock = Lock()
        self._out = out
        self._temp = temp
        self._folders: dict[tuple[int, bool], OutputFolder] = {}
        """By part of the graph, for files to keep and for temporary ones; made when the first is saved."""
        self._names = _names(graph)
        self._series = {name: _Series() for name in dict.fromkeys(self._names.values())}

    def expect(self, targets: Iterable[str]) -> None:
        """Set the steps to deliver, in order; to be called again once more of them are known."""
        steps: dict[_Name, list[str]] = {}
        for step in targets:
            if name := self._names.get(split_id(step)[0]):
                steps.setdefault(name, []).append(step)
        with self._lock:
            for name, series in self._series.items():
                delivered = dict.fromkeys(series.steps[: series.next])
                series.steps = [*delivered, *(step for step in steps.get(name, ()) if step not in delivered)]

    def skip(self, step: str) -> None:
        """Record that a step will deliver nothing; `write` then delivers what waited for it."""
        if name := self._names.get(split_id(step)[0]):
            with self._lock:
                self._series[name].waiting.setdefault(step, None)

    def deliver(self, step: Step, entry: Entry) -> None:
        """Write a target's files, when it is its turn, or keep its outputs. Raises what writing them now raises."""
        name = self._names.get(split_id(step.id)[0])
        if name is None:
            self._keep(step, entry)
            return
        with self._lock:
            self._series[name].waiting[step.id] = step, entry
        self._write_series(self._series[name], mine=step)

    def write(self) -> None:
        """Write the files whose turn has come."""
        for series in self._series.values():
            self._write_series(series)

    def flush(self) -> None:
        """Write the files that still wait for others, which won't come any more."""
        with self._lock:
            for series in self._series.values():
                series.close()
        self.write()

    def _write_series(self, series: _Series, mine: Step | None = None) -> None:
        """Write files, one thread at a time, without blocking the other threads.

        An error is reported as a failure of the step that it concerns, or raised if that is `mine`.
        """
        own: Exception | None = None
        while item := self._turn(series):
            step, entry = item
            try:
                self._save(step, entry)
            except Exception as error:  # noqa: BLE001 - it fails this step, and none of those that waited for it
                if step is mine:
                    own = error
                elif not isinstance(error, Cancelled):
                    self._emit(NodeFailed.of(step.id, step.kind.spec.kind, error, step.constants))
            finally:
                series.busy = False
        if own:
            raise own

    def _turn(self, series: _Series) -> tuple[Step, Entry] | None:
        with self._lock:
            item = None if series.busy else series.turn()
            series.busy = series.busy or item is not None
            return item

    def _save(self, step: Step, entry: Entry) -> None:
        part, _ = self._graph.part_of(split_id(step.id)[0])
        temporary = step.kind.spec.temporary
        written = self._folder(part, temporary).write(
            entry.outputs[0],
            partial(self._progress, step.id),
            claimed=self._claims.earlier.get(step.id, ()),
            on_claim=partial(self._claims.on_claim, step.id),
        )
        self._emit(NodeSaved(step.id, written, temporary))

    def _folder(self, part: Graph, temporary: bool) -> OutputFolder:
        with self._lock:
            if (name := (id(part), temporary)) not in self._folders:
                place, files = self._temp if temporary else self._out, part.local_files
                self._folders[name] = OutputFolder(place, part.workflow, files, part.carried, part.registry, part.flat)
            return self._folders[name]

    def _progress(self, step: str, done: int, total: int) -> None:
        if self._cancelled():
            raise Cancelled
        self._emit(NodeProgress(step, done, total, "file"))

    def _keep(self, step: Step, entry: Entry) -> None:
        outputs = self.results[step.id] = entry.host_outputs()
        named = zip(step.kind.spec.outputs, outputs, strict=True)
        self._emit(NodeResult(step.id, {output.name: brief(value) for output, value in named}))


def _names(graph: Graph) -> dict[str, _Name]:
    """The name under which each target saves, without targets that save no files.

    A prefix that is only known during the run could be any, so then all targets that save the same form one series.
    """
    names: dict[str, _Name] = {}
    for node in graph.targets:
        step = graph.steps[node]
        if step.kind.spec.temporary:
            names[node] = "", node
        elif saves := step.kind.spec.saves:
            names[node] = saves, _prefix(step)
    unknown = {saves for saves, prefix in names.values() if prefix is None}
    return {node: (saves, None if saves in unknown else prefix) for node, (saves, prefix) in names.items()}


def _prefix(step: Step) -> Any:
    socket = step.kind.spec.prefix
    if socket is None or socket.name in step.links:
        return None
    return step.constants.get(socket.name, None if socket.required else socket.default)
