"""The files that a step's inputs name, watched while it runs, since others may replace them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from engine.errors import Problem
from engine.graph.contents import watch
from engine.graph.graph import Graph, Step
from engine.spec import any_file


class WatchedFiles:
    """Tells whether a step has read what was checked, which its key names.

    Args:
        step: a checked step that is about to run.
        graph: the graph that it belongs to.
    """

    def __init__(self, step: Step, graph: Graph) -> None:
        self._step = step
        self._confinement = graph.confinement
        may_read = graph.confinement.allows if graph.confinement else any_file
        sockets, constants = step.kind.spec.inputs, step.constants
        named = [(name, sockets[name].file, checked) for name, checked in step.contents.items()]
        self._watches = {name: watch(file, constants[name], checked, may_read) for name, file, checked in named if file}

    def problems(self) -> Iterator[Problem]:
        """A warning for each input whose files have not been the checked ones all the time."""
        for name, watched in self._watches.items():
            if not watched.unchanged():
                yield Problem(
                    f"'{self._shown(self._step.constants[name])}' was changed or replaced during the run",
                    self._step.id,
                    name,
                    "what was made of it may mix old and new, and is not kept: run the workflow again",
                )

    def _shown(self, name: str) -> str:
        """A checked name as people may see it: within the folders that may be read if these are confined."""
        return self._confinement.named(Path(name)) if self._confinement else name
