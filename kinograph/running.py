"""One run: prepares and executes a document, and records its events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.document.reading import Document
from engine.document.subgraphs import outermost
from engine.errors import Problem
from engine.events import (
    Event,
    NodeCached,
    NodeFailed,
    NodeFinished,
    NodeReported,
    NodeRetried,
    NodeSaved,
    NodeSkipped,
    NodeWarned,
    RunFinished,
    Status,
)
from engine.figures import Report
from engine.graph.graph import Graph
from engine.run.preparing import runnable_graph
from engine.run.reporter import Reporter
from engine.run.resources import Resources, stream_events
from engine.store.cache import Cache
from kinograph.interrupts import Interrupts
from kinograph.results import ByNode, File, Results
from kinograph.wanted import Wanted

OnEvent = Callable[[Event], object]


class Run:
    """A run in progress, for as long as it is shown.

    Args:
        shared: the models and caches shared with other runs.
        node_threads: holds the id of each thread for as long as a node runs in it.
        stop: cancels it.
        shown: shows its progress.
    """

    def __init__(self, shared: Resources, node_threads: set[int], stop: Interrupts, shown: Reporter) -> None:
        self._shared = shared
        self._node_threads = node_threads
        self._stop = stop
        self._shown = shown

    def ready(self, document: Document, aim: Wanted) -> Graph:
        """The checked graph, with its models fetched."""
        return runnable_graph(document, self._shown, self._stop, aim.targets)

    def carry_out(
        self, graph: Graph, out: Path, listeners: Iterable[OnEvent], *, cache: bool
    ) -> Mapping[str, tuple[Any, ...]]:
        """Run a graph, call the listeners, and return the outputs of targets that don't save, by step.

        An error raised by a listener ends the run in good order first.
        """
        shared = self._shared if cache else self._shared._replace(cache=Cache())
        execution = shared.execution(graph, out, within=self._in_a_node)
        with closing(stream_events(execution, self._shown, self._stop)) as events:
            for event in events:
                for listen in listeners:
                    listen(event)
        return execution.results

    @contextmanager
    def _in_a_node(self) -> Iterator[None]:
        thread = threading.get_ident()
        self._node_threads.add(thread)
        try:
            yield
        finally:
            self._node_threads.discard(thread)


class Noted:
    """The record of the events of a run, or of one part of a sweep.

    Args:
        is_part: whether node ids begin with the number of the part, as in a sweep.
    """

    def __init__(self, is_part: bool = False) -> None:
        self._is_part = is_part
        self._files: dict[str, tuple[File, ...]] = {}
        self._cached: list[str] = []
        self._timings: dict[str, float] = {}
        self._reports: dict[str, Report] = {}
        self._because: set[str] = set()
        self._warnings: list[Problem] = []
        self._end: RunFinished | None = None

    def note(self, event: Event) -> None:
        """Record an event."""
        match event:
            case NodeSaved(node, files, temporary):
                saved = outermost(self._own(node))
                written = tuple(File(path, temporary) for path in files)
                self._files[saved] = (*self._files.get(saved, ()), *written)
            case NodeCached(node):
                self._cached.append(self._own(node))
            case NodeFinished(node, _, seconds):
                self._timings[self._own(node)] = seconds
            case NodeReported(node, figures):
                self._reports[self._own(node)] = figures
            case NodeRetried(node):
                self._reports.pop(self._own(node), None)
            case NodeFailed(node):
                self._because.add(node)
            case NodeSkipped(_, _, because):
                self._because.add(because)  # it may belong to another part that shares it
            case NodeWarned(node, problem):
                self._warnings.append(replace(problem, node=self._own(node)))
            case RunFinished():
                self._end = event

    def results(self, values: Mapping[str, Any], status: Status | None = None) -> Results:
        """The results of a finished run; `status` is that of the part."""
        assert self._end
        return Results(
            ByNode(self._files),
            ByNode(values),
            status or self._end.status,
            self._end.seconds,
            self._timings,
            tuple(self._cached),
            tuple(self._as_own(failure) for failure in self._end.failures if failure.node in self._because),
            tuple(self._warnings),
            self._reports,
        )

    def _own(self, node: str) -> str:
        """A node's id in the document."""
        return node.partition(":")[2] if self._is_part else node

    def _as_own(self, failure: NodeFailed) -> NodeFailed:
        node = self._own(failure.node)
        return replace(failure, node=node, problem=replace(failure.problem, node=node))


def by_part(noted: Sequence[Noted]) -> OnEvent:
    """A listener that passes each event to the parts of a sweep that it concerns."""

    def note(event: Event) -> None:
        node = getattr(event, "node", None)
        for one in noted if node is None else [noted[int(node.partition(":")[0])]]:
            one.note(event)

    return note
