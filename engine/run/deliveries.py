"""What a run gives to those it is for: files in the output folder, or values for the caller.

Nodes that save under one name are a row: their files are written in the order in which the workflow has the nodes, and
a list its items, whatever is done first. So the numbers in files' names don't depend on how long things take.
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
from engine.run.saving import Outputs
from engine.store.cache import Entry
from engine.values import brief

_Name = tuple[str, Any]
"""What a node saves, and the prefix of its files' names, None where that is only known in the run. Of what is temporary
it is the node itself, since the numbers in those names don't matter.
"""


def _forget(step: str, names: Sequence[Path]) -> None: ...


@dataclass(frozen=True)
class Claims:
    """The names that steps take for their files, so that another attempt at a run gives them the same."""

    earlier: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    """Those that an earlier, killed attempt took, by step: what of them is whole isn't written again."""
    note: Callable[[str, Sequence[Path]], object] = _forget
    """Called with a step and all of its names so far, the last of which it is about to take."""


@dataclass(slots=True)
class _Row:
    """Steps that save under one name, in order."""

    steps: list[str] = field(default_factory=list)
    next: int = 0
    """Which of them is to be given next."""
    waiting: dict[str, tuple[Step, Entry] | None] = field(default_factory=dict)
    """What is done before its turn; None for a step that gives nothing."""
    busy: bool = False
    """Whether a thread is writing a file of it."""

    def turn(self) -> tuple[Step, Entry] | None:
        """The one whose turn it is, if it is done."""
        while self.next < len(self.steps) and self.steps[self.next] in self.waiting:
            item = self.waiting.pop(self.steps[self.next])
            self.next += 1
            if item:
                return item
        return None

    def close(self) -> None:
        """Nothing comes any more: what waits needs wait no longer, nor what isn't expected after all."""
        left = sorted(self.waiting.keys() - set(self.steps[self.next :]), key=split_id)
        self.steps = [step for step in self.steps[self.next :] if step in self.waiting] + left
        self.next = 0


class Deliveries:
    """Gives each target's outputs once; safe to use from several threads.

    Args:
        graph: what `check` returned.
        out: the folder that media are written to.
        temp: the folder for those that are temporary.
        tell: takes the events.
        cancelled: whether the run was; then a folder is not written to its end.
        claims: the names of files that were taken before, and who notes those that are.
    """

    def __init__(
        self,
        graph: Graph,
        out: Path,
        temp: Path,
        tell: Callable[[Event], None],
        cancelled: Callable[[], bool],
        claims: Claims,
    ) -> None:
        self.results: dict[str, tuple[Any, ...]] = {}
        """The outputs, by node, of targets that don't save files."""
        self._graph = graph
        self._tell = tell
        self._cancelled = cancelled
        self._claims = claims
        self._lock = Lock()
        wholes = {id(part): part for part, _ in map(graph.part_of, graph.targets)}
        self._outputs = {
            (name, temporary): Outputs(folder, part.workflow, part.local_files, part.carried)
            for name, part in wholes.items()
            for temporary, folder in ((False, out), (True, temp))
        }
        self._names = _names(graph)
        self._rows = {name: _Row() for name in dict.fromkeys(self._names.values())}

    def expect(self, targets: Iterable[str]) -> None:
        """The steps that are to be given, in order, as far as they are known: again, once more are."""
        steps: dict[_Name, list[str]] = {}
        for step in targets:
            if name := self._names.get(split_id(step)[0]):
                steps.setdefault(name, []).append(step)
        with self._lock:
            for name, row in self._rows.items():
                given = dict.fromkeys(row.steps[: row.next])
                row.steps = [*given, *(step for step in steps.get(name, ()) if step not in given)]

    def skip(self, step: str) -> None:
        """Take note that a step will give nothing; `write` gives what waited for it."""
        if name := self._names.get(split_id(step)[0]):
            with self._lock:
                self._rows[name].waiting.setdefault(step, None)

    def give(self, step: Step, entry: Entry) -> None:
        """Write a target's files, when it is its turn, or keep its outputs. Raises what writing them now raises."""
        name = self._names.get(split_id(step.id)[0])
        if name is None:
            self._keep(step, entry)
            return
        with self._lock:
            self._rows[name].waiting[step.id] = step, entry
        self._write_row(self._rows[name], mine=step)

    def write(self) -> None:
        """Write what there is by now."""
        for row in self._rows.values():
            self._write_row(row)

    def flush(self) -> None:
        """Write what waits for others that will not come any more."""
        with self._lock:
            for row in self._rows.values():
                row.close()
        self.write()

    def _write_row(self, row: _Row, mine: Step | None = None) -> None:
        """Write files, by one thread at a time, without keeping the others from anything else.

        What goes wrong is told of the step that it is about, and raised if that is `mine`.
        """
        own: Exception | None = None
        while item := self._turn(row):
            step, entry = item
            try:
                self._save(step, entry)
            except Exception as error:  # noqa: BLE001 - it costs this step, and none of those that waited for it
                if step is mine:
                    own = error
                elif not isinstance(error, Cancelled):
                    self._tell(NodeFailed.of(step.id, step.kind.spec.kind, error, step.constants))
            finally:
                row.busy = False
        if own:
            raise own

    def _turn(self, row: _Row) -> tuple[Step, Entry] | None:
        with self._lock:
            item = None if row.busy else row.turn()
            row.busy = row.busy or item is not None
            return item

    def _save(self, step: Step, entry: Entry) -> None:
        part, _ = self._graph.part_of(split_id(step.id)[0])
        temporary = step.kind.spec.temporary
        written = self._outputs[id(part), temporary].write(
            entry.outputs[0],
            partial(self._progress, step.id),
            claimed=self._claims.earlier.get(step.id, ()),
            on_claim=partial(self._claims.note, step.id),
        )
        self._tell(NodeSaved(step.id, written, temporary))

    def _progress(self, step: str, done: int, total: int) -> None:
        if self._cancelled():
            raise Cancelled
        self._tell(NodeProgress(step, done, total, "file"))

    def _keep(self, step: Step, entry: Entry) -> None:
        self.results[step.id] = entry.outputs
        named = zip(step.kind.spec.outputs, entry.outputs, strict=True)
        self._tell(NodeResult(step.id, {output.name: brief(value) for output, value in named}))


def _names(graph: Graph) -> dict[str, _Name]:
    """Under which name each target saves, those that keep their outputs left out.

    If one's prefix is only known in the run, it might be any: all that save the same are one row then.
    """
    names: dict[str, _Name] = {}
    for node in graph.targets:
        step = graph.steps[node]
        if step.kind.spec.temporary:
            names[node] = "", node
        elif saves := step.kind.spec.saves:
            names[node] = saves, _prefix(step)
    open_ones = {saves for saves, prefix in names.values() if prefix is None}
    return {node: (saves, None if saves in open_ones else prefix) for node, (saves, prefix) in names.items()}


def _prefix(step: Step) -> Any:
    socket = step.kind.spec.prefix
    if socket is None or socket.name in step.links:
        return None
    return step.constants.get(socket.name, None if socket.required else socket.default)
