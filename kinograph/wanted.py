"""The aim of a run: its target nodes, and the values to return."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.document.given import described
from engine.document.prepared import Prepared
from engine.document.reading import Document
from engine.document.subgraphs import outermost
from engine.document.workflow import Link, as_link, split_id
from engine.errors import UsageError
from kinograph.handles import Handle, Outlet, node_of

if TYPE_CHECKING:
    from engine.graph.graph import Graph

Until = str | Handle | Outlet


@dataclass(frozen=True)
class Wanted:
    """The aim of a run of a document."""

    targets: list[str] | None
    """The target nodes; those that save files if None."""
    values: Mapping[str, Mapping[str, Link]]
    """For each value, by name, the outputs that make it up: links to nodes of the flat graph, by output name."""

    def found(self, results: Mapping[str, tuple[Any, ...]], graph: Graph, prefix: str = "") -> dict[str, Any]:
        """The values, from the outputs of a run's targets; failed ones are left out.

        Args:
            results: the outputs of targets, by step.
            graph: the graph that was run.
            prefix: the prefix of this document's node ids there.
        """
        items: dict[str, list[tuple[int, tuple[Any, ...]]]] = {}
        for step, outputs in results.items():
            node, index = split_id(step)
            items.setdefault(node, []).append((-1 if index is None else index, outputs))
        found = {}
        for name, links in self.values.items():
            values = {
                output: _value(items[node], graph, Link(node, link.slot))
                for output, link in links.items()
                if (node := prefix + link.node) in items
            }
            if values:
                found[name] = next(iter(values.values())) if len(links) == 1 else _as_tuple(values)
        return found


def wanted(document: Document, until: Until | Iterable[Until] = ()) -> tuple[Document, Wanted]:
    """The part of a document that a run needs, and the run's aim.

    The aim is `until`: nodes, or outputs of nodes. If it is empty, the aim is what the workflow saves and names as its
    outputs; failing that, the outputs of its last nodes.

    Raises:
        UsageError: there is no such node, or something is given that isn't one.
    """
    if names := list(dict.fromkeys(map(node_of, _each(until)))):
        document = document.up_to(*names)
        return document, Wanted(names, _of_nodes(document.prepared, names))
    prepared = document.prepared
    if prepared.workflow.outputs:
        links = {name: link for name, value in prepared.workflow.outputs.items() if (link := as_link(value))}
        ends = prepared.ends(links)
        targets = dict.fromkeys([*_saving(prepared), *(link.node for link in ends.values())])
        return document, Wanted([*targets], {name: {name: link} for name, link in ends.items()})
    if prepared.saving:
        return document, Wanted(None, {})
    last = _last(prepared)
    return document, Wanted(last or None, _of_nodes(prepared, last))


def _each(until: Until | Iterable[Until]) -> list[Until]:
    several = [until] if isinstance(until, Until) or not isinstance(until, Iterable) else [*until]
    for node in several:
        if not isinstance(node, Until):
            raise UsageError(
                f"until: {described(node)} is not a node", hint="give ids or handles of nodes, or their outputs"
            )
    return several


def _of_nodes(prepared: Prepared, nodes: Iterable[str]) -> dict[str, dict[str, Link]]:
    """The outputs of nodes of the document that don't save, by node and name."""
    workflow, links = prepared.workflow, dict[tuple[str, str], Link]()
    for node in nodes:
        entry = workflow.graph[node]
        kind, subgraph = prepared.registry.get(entry.class_type), workflow.subgraphs.get(entry.class_type)
        if kind and not kind.spec.saves:
            links |= {(node, output.name): Link(node, output.name) for output in kind.spec.outputs}
        elif subgraph:
            links |= {(node, name): Link(node, name) for name in subgraph.outputs}
    numbered = {str(index): at for index, at in enumerate(links)}
    ends = prepared.ends({number: links[at] for number, at in numbered.items()})
    found: dict[str, dict[str, Link]] = {}
    for number, end in ends.items():
        node, output = numbered[number]
        found.setdefault(node, {})[output] = end
    return found


def _saving(prepared: Prepared) -> list[str]:
    """The nodes of the flat graph that save."""
    kinds = prepared.registry
    return [
        node
        for node, entry in prepared.active.graph.items()
        if (kind := kinds.get(entry.class_type)) and kind.spec.saves
    ]


def _last(prepared: Prepared) -> list[str]:
    """The active nodes of the document that lead to no other."""
    graph, linked = prepared.active.graph, set[str]()
    for node, entry in graph.items():
        sources = {outermost(link.node) for value in entry.inputs.values() if (link := as_link(value))}
        linked |= sources - {outermost(node)}
    return [node for node in dict.fromkeys(map(outermost, graph)) if node not in linked]


def _value(items: list[tuple[int, tuple[Any, ...]]], graph: Graph, link: Link) -> Any:
    """An output of a node; if it ran for the items of a list, the outputs for all items as one list."""
    spec = graph.steps[link.node].kind.spec
    index = spec.slot(link.slot)
    assert index is not None
    if items[0][0] < 0:
        return items[0][1][index]
    given = [outputs[index] for _, outputs in sorted(items, key=lambda item: item[0])]
    return tuple(part for one in given for part in one) if spec.outputs[index].item is not None else tuple(given)


def _as_tuple(values: Mapping[str, Any]) -> Any:
    """Several outputs as a named tuple; names that aren't valid in Python become `_0`, `_1`…, by position."""
    kind: Any = namedtuple("Outputs", [*values], rename=True)  # type: ignore[misc] # the names are known only now
    return kind(*values.values())
