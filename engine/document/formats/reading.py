"""A file in the UI format → a workflow.

A subgraph keeps its name from the editor, made unique, and exposes the inputs that can be linked or set from outside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from engine.document.formats.groups import MOST_NODES, Group, groups_in, nodes_within, without_groups
from engine.document.formats.levels import OUTSIDE, Interface, Level, NodeInput, ReadContext
from engine.document.formats.ui import UiGraph, UiSubgraph, definitions, read
from engine.document.formats.variables import unset, with_variables
from engine.document.formats.widgets import EDITOR_WIDGETS
from engine.document.workflow import Workflow
from engine.errors import WorkflowError
from engine.registry import Registry


def from_ui(data: Mapping[str, Any], registry: Registry) -> Workflow:
    """Read JSON data in the UI format as a workflow.

    Args:
        data: data for which `is_ui` is true.
        registry: the kinds of node, which give the names of widgets. A node of another kind is kept as it is.

    Raises:
        WorkflowError: with everything that is malformed.
    """
    return _Reader(read(data), groups_in(data), registry).read()


class _Reader:
    """Reads a file: nested subgraphs before those that contain them."""

    def __init__(self, graph: UiGraph, groups: Mapping[str, Group], registry: Registry) -> None:
        self.context = ReadContext(registry)
        levels = [graph, *definitions(graph)]
        if sum(nodes_within(level, groups) for level in levels) > MOST_NODES:
            groups = {}
        subgraphs = {subgraph.id: without_groups(subgraph, groups) for subgraph in definitions(graph)}
        self.graph, self.subgraphs = with_variables(without_groups(graph, groups), subgraphs)
        kinds = (node.type for each in [graph, *self.subgraphs.values()] for node in each.nodes)
        self.names = _Names([*registry, *kinds])

    def read(self) -> Workflow:
        promoted = self._promoted()
        read = {key: self._subgraph(self.subgraphs[key], promoted.get(key, ())) for key in self._inner_first()}
        named = {self.context.interfaces[key].name: read[key] for key in self.subgraphs}
        level = Level(self.context, self.graph, {})
        workflow = Workflow(graph=level.entries(), subgraphs=named, layout=level.layout() or None)
        return workflow.ignoring(dict.fromkeys(unset(self.graph, self.subgraphs)))

    def _inner_first(self) -> Iterable[str]:
        uses = {
            key: {node.type for node in subgraph.nodes if node.type in self.subgraphs}
            for key, subgraph in self.subgraphs.items()
        }
        try:
            return list(TopologicalSorter(uses).static_order())
        except CycleError as error:
            path = " → ".join(f"'{self.subgraphs[key].name}'" for key in error.args[1])
            raise WorkflowError(f"a subgraph contains itself: {path}") from None

    def _promoted(self) -> dict[str, list[NodeInput]]:
        """The inner widgets that some use of a subgraph shows, by the subgraph's id."""
        promoted: dict[str, dict[NodeInput, None]] = {}
        for graph in (self.graph, *self.subgraphs.values()):
            for node in graph.nodes:
                if node.type in self.subgraphs:
                    promoted.setdefault(node.type, {}).update(dict.fromkeys(node.promoted))
        return {
            key: [
                (node, name)
                for node, name in widgets
                if node != OUTSIDE and not (name in EDITOR_WIDGETS or name[:2] == "$$")
            ]
            for key, widgets in promoted.items()
        }

    def _subgraph(self, subgraph: UiSubgraph, promoted: Iterable[NodeInput]) -> Workflow:
        inputs, outputs = subgraph.inputs or [], subgraph.outputs or []
        level = Level(self.context, subgraph, {target: len(inputs) + index for index, target in enumerate(promoted)})
        graph = level.entries()
        names = _Names()
        slots = {name: index for (_, name), index in reversed(level.promoted.items())}
        labels = [socket.label or socket.name for socket in inputs] + [name for _, name in level.promoted]
        exposed = {
            index: {
                names.unique(re.sub(r"[.=]", "_", label) or "input", "_"): target
                for target in level.targets.get(index, ())
            }
            for index, label in enumerate(labels)
        }
        output_names, sources = _Names(), level.output_sources()
        results = [
            output_names.unique(socket.label or socket.name or "output", "_") if source.link else source
            for socket, source in zip(outputs, sources, strict=True)
        ]
        self.context.interfaces[subgraph.id] = Interface(
            self.names.unique(subgraph.name or "Subgraph", " "),
            slots | {socket.name: index for index, socket in enumerate(inputs)},
            level.widgets(),
            level.promoted,
            tuple(tuple(targets) for targets in exposed.values()),
            tuple(results),
        )
        return Workflow(
            title=subgraph.name,
            description=subgraph.description or "",
            inputs={name: ".".join(target) for targets in exposed.values() for name, target in targets.items()},
            outputs={
                name: list(source.link)
                for name, source in zip(results, sources, strict=True)
                if isinstance(name, str) and source.link
            },
            graph=graph,
            layout=level.layout() or None,
        )


class _Names:
    """Makes names unique, given those that are taken."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._last: dict[str, int] = {}

    def unique(self, name: str, joint: str) -> str:
        """The name, with a number appended if it is taken; the result is taken from then on."""
        found, number = name, self._last.get(name, 1)
        while found in self._taken:
            number += 1
            found = f"{name}{joint}{number}"
        self._last[name] = number
        self._taken.add(found)
        return found
