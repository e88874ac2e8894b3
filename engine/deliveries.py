"""What a run gives to those it is for: files in the output folder, or values for the caller.

The items of a list are given in its order, whatever order they come in, so that the numbers in files' names don't
depend on which was done first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from engine.cache import Entry
from engine.events import Event, NodeFailed, NodeResult, NodeSaved
from engine.graph import Graph, Step
from engine.outputs import Outputs
from engine.values import brief
from engine.workflow import split_id


@dataclass(slots=True)
class _List:
    """The items of one node that can't be given yet, since others come first."""

    next: int = 0
    waiting: dict[int, tuple[Step, Entry] | None] = field(default_factory=dict)
    """By index; None for one that will never come."""

    def turns(self) -> list[tuple[Step, Entry]]:
        """Those whose turn it is."""
        found = []
        while self.next in self.waiting:
            if item := self.waiting.pop(self.next):
                found.append(item)
            self.next += 1
        return found


class Deliveries:
    """Gives each target's outputs once; safe to use from several threads.

    Args:
        graph: what `check` returned.
        out: the folder that media are written to.
        tell: takes the events.
    """

    def __init__(self, graph: Graph, out: Path, tell: Callable[[Event], None]) -> None:
        self.results: dict[str, tuple[Any, ...]] = {}
        """The outputs, by node, of targets that don't save files."""
        self._graph = graph
        self._tell = tell
        wholes = {id(part): part for part, _ in map(graph.part_of, graph.targets)}
        self._outputs = {name: Outputs(out, part.workflow, part.local_files) for name, part in wholes.items()}
        self._lists: dict[str, _List] = {}
        self._lock = Lock()

    def give(self, step: Step, entry: Entry) -> None:
        """Write a target's files, or keep its outputs; in its turn if it is an item. Raises what writing raises."""
        node, index = split_id(step.id)
        if index is None:
            self._give(step, entry)
            return
        with self._lock:
            items = self._lists.setdefault(node, _List())
            items.waiting[index] = step, entry
            self._give_all(items.turns(), mine=step)

    def skip(self, node: str) -> None:
        """Take note that a step will give nothing."""
        node, index = split_id(node)
        if index is not None:
            with self._lock:
                items = self._lists.setdefault(node, _List())
                items.waiting.setdefault(index, None)
                self._give_all(items.turns())

    def flush(self) -> None:
        """Give what waits for items that will not come any more."""
        with self._lock:
            for items in self._lists.values():
                left = [item for _, item in sorted(items.waiting.items()) if item]
                items.waiting.clear()
                self._give_all(left)

    def _give_all(self, items: list[tuple[Step, Entry]], mine: Step | None = None) -> None:
        """Give items; what goes wrong is told of the item that it is about, and raised if that is `mine`."""
        own: Exception | None = None
        for step, entry in items:
            try:
                self._give(step, entry)
            except Exception as error:  # noqa: BLE001 - it costs this item, and none of those that waited for it
                if step is mine:
                    own = error
                else:
                    self._tell(NodeFailed.of(step.id, step.kind.spec.kind, error, step.constants))
        if own:
            raise own

    def _give(self, step: Step, entry: Entry) -> None:
        if step.kind.spec.saves:
            part, _ = self._graph.part_of(split_id(step.id)[0])
            self._tell(NodeSaved(step.id, self._outputs[id(part)].write(entry.outputs[0])))
        else:
            self.results[step.id] = entry.outputs
            named = zip(step.kind.spec.outputs, entry.outputs, strict=True)
            self._tell(NodeResult(step.id, {output.name: brief(value) for output, value in named}))
