"""A file in the UI format → a workflow.

A subgraph has the name that it has in the editor, made unique, and exposes what can be linked or written outside of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from engine.document.formats.levels import OUTSIDE, Face, Known, Level, Spot
from engine.document.formats.ui import UiGraph, UiSubgraph, definitions, read
from engine.document.formats.widgets import BESIDE
from engine.document.workflow import Workflow
from engine.errors import WorkflowError
from engine.registry import Registry


def from_ui(data: Mapping[str, Any], registry: Registry) -> Workflow:
    """The workflow that JSON data in the UI format are.

    Args:
        data: what `is_ui` holds for.
        registry: the kinds of node, which tell the names of widgets. A node of another kind is kept as it is.

    Raises:
        WorkflowError: with all that is malformed.
    """
    graph = read(data)
    return _Reader(graph, registry).read()


class _Reader:
    """Reads a file: first the subgraphs that lie within others, then these."""

    def __init__(self, graph: UiGraph, registry: Registry) -> None:
        self.graph = graph
        self.known = Known(registry)
        self.subgraphs = {subgraph.id: subgraph for subgraph in definitions(graph)}
        kinds = (node.type for each in [graph, *self.subgraphs.values()] for node in each.nodes)
        self.names = _Names([*registry, *kinds])

    def read(self) -> Workflow:
        promoted = self._promoted()
        written = {key: self._subgraph(self.subgraphs[key], promoted.get(key, ())) for key in self._inner_first()}
        named = {self.known.faces[key].name: written[key] for key in self.subgraphs}
        level = Level(self.known, self.graph, {})
        return Workflow(graph=level.written(), subgraphs=named, layout=level.layout() or None)

    def _inner_first(self) -> Iterable[str]:
        uses = {
            key: {node.type for node in subgraph.nodes if node.type in self.subgraphs}
            for key, subgraph in self.subgraphs.items()
        }
        try:
            return list(TopologicalSorter(uses).static_order())
        except CycleError as error:
            path = " → ".join(f"'{self.subgraphs[key].name}'" for key in error.args[1])
            raise WorkflowError(f"a subgraph lies in itself: {path}") from None

    def _promoted(self) -> dict[str, list[Spot]]:
        """The inner widgets that some use of a subgraph shows, by the subgraph's id."""
        promoted: dict[str, dict[Spot, None]] = {}
        for graph in (self.graph, *self.subgraphs.values()):
            for node in graph.nodes:
                if node.type in self.subgraphs:
                    promoted.setdefault(node.type, {}).update(dict.fromkeys(node.promoted))
        return {
            key: [(node, name) for node, name in spots if node != OUTSIDE and not (name in BESIDE or name[:2] == "$$")]
            for key, spots in promoted.items()
        }

    def _subgraph(self, subgraph: UiSubgraph, promoted: Iterable[Spot]) -> Workflow:
        inputs, outputs = subgraph.inputs or [], subgraph.outputs or []
        level = Level(self.known, subgraph, {spot: len(inputs) + place for place, spot in enumerate(promoted)})
        graph = level.written()
        names = _Names()
        slots = {name: place for (_, name), place in reversed(level.promoted.items())}
        labels = [socket.label or socket.name for socket in inputs] + [name for _, name in level.promoted]
        exposed = {
            place: {
                names.unique(re.sub(r"[.=]", "_", label) or "input", "_"): spot for spot in level.fed.get(place, ())
            }
            for place, label in enumerate(labels)
        }
        given, sources = _Names(), level.given()
        ends = [
            given.unique(socket.label or socket.name or "output", "_") if source.link else source
            for socket, source in zip(outputs, sources, strict=True)
        ]
        self.known.faces[subgraph.id] = Face(
            self.names.unique(subgraph.name or "Subgraph", " "),
            slots | {socket.name: place for place, socket in enumerate(inputs)},
            level.widgets(),
            level.promoted,
            tuple(tuple(spots) for spots in exposed.values()),
            tuple(ends),
        )
        return Workflow(
            title=subgraph.name,
            description=subgraph.description or "",
            inputs={name: ".".join(spot) for spots in exposed.values() for name, spot in spots.items()},
            outputs={
                name: list(source.link)
                for name, source in zip(ends, sources, strict=True)
                if isinstance(name, str) and source.link
            },
            graph=graph,
            layout=level.layout() or None,
        )


class _Names:
    """Names that are taken, and others like them that are not."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._last: dict[str, int] = {}

    def unique(self, name: str, joint: str) -> str:
        """The name, or with a number after it; it is taken then."""
        found, number = name, self._last.get(name, 1)
        while found in self._taken:
            number += 1
            found = f"{name}{joint}{number}"
        self._last[name] = number
        self._taken.add(found)
        return found
