"""What of a workflow takes part: nodes may be muted, as if they weren't there, or bypassed.

A node's mode is in its `_meta`: `{"mode": "mute"}` or `{"mode": "bypass"}`. What needs a muted node is left out with
it; an input that has a default falls back to that. A bypassed node hands on what it was linked to: each of its outputs
is replaced by the first of its links that fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.document.workflow import Link, NodeEntry, Workflow, as_link
from engine.errors import Problem, suggestion
from engine.node import Node, fits
from engine.registry import Registry

MODES = ("mute", "bypass")


def mode_of(entry: NodeEntry) -> str:
    """A node's mode, "" if it is an ordinary one."""
    return str(entry.meta.get("mode") or "")


def problems(workflow: Workflow) -> list[Problem]:
    """Modes that there are not."""
    return [
        Problem(f"there is no mode '{mode}': mute and bypass there are", node, hint=suggestion(mode, MODES))
        for node, entry in workflow.graph.items()
        if (mode := mode_of(entry)) and mode not in MODES
    ]


def active(workflow: Workflow, registry: Registry) -> Workflow:
    """The workflow with its modes carried out: without muted and bypassed nodes, and what needs the muted."""
    if not any(map(mode_of, workflow.graph.values())):
        return workflow
    kinds = {node: registry.get(entry.class_type) for node, entry in workflow.graph.items()}
    graph = {
        node: entry.model_copy(update={"inputs": _passed_by(entry.inputs, workflow.graph, kinds)})
        for node, entry in workflow.graph.items()
        if mode_of(entry) not in MODES
    }
    consumers: dict[str, list[str]] = {}
    for node, entry in graph.items():
        for link in filter(None, map(as_link, entry.inputs.values())):
            consumers.setdefault(link.node, []).append(node)
    gone = [node for node in workflow.graph if node not in graph]
    for source in gone:  # grows while it is walked, by what depends on those that are gone
        for node in consumers.get(source, ()):
            if node not in graph:
                continue
            entry = graph[node]
            lost = {name for name, value in entry.inputs.items() if (at := as_link(value)) and at.node == source}
            kind = kinds[node]
            if kind and any(kind.spec.inputs[name].required for name in lost if name in kind.spec.inputs):
                del graph[node]
                gone.append(node)
            else:
                left = {name: value for name, value in entry.inputs.items() if name not in lost}
                graph[node] = entry.model_copy(update={"inputs": left})
    ends = _passed_by(workflow.outputs, workflow.graph, kinds)
    outputs = {name: end for name, end in ends.items() if (at := as_link(end)) and at.node in graph}
    return workflow.model_copy(update={"graph": graph, "outputs": outputs})


def _passed_by(
    inputs: Mapping[str, Any], graph: Mapping[str, NodeEntry], kinds: Mapping[str, type[Node] | None]
) -> dict[str, Any]:
    """Inputs, with links to bypassed nodes led to what these were linked to."""
    led = dict(inputs)
    for name, value in inputs.items():
        link, seen = as_link(value), set[str]()
        while link and link.node in graph and mode_of(graph[link.node]) == "bypass" and link.node not in seen:
            seen.add(link.node)
            through = _through(link, graph, kinds)
            if through is None:
                break  # a link to a node that is gone, as if it were muted
            link = through
        if link:
            led[name] = list(link)
    return led


def _through(link: Link, graph: Mapping[str, NodeEntry], kinds: Mapping[str, type[Node] | None]) -> Link | None:
    """What a bypassed node hands on in the place of one of its outputs."""
    kind = kinds[link.node]
    index = kind.spec.slot(link.slot) if kind else None
    if kind is None or index is None:
        return None
    wanted = kind.spec.outputs[index].type
    for name in kind.spec.inputs:
        source = as_link(graph[link.node].inputs.get(name))
        giver = kinds.get(source.node) if source else None
        if source and giver:
            slot = giver.spec.slot(source.slot)
            if slot is not None and fits(giver.spec.outputs[slot].type, wanted):
                return source
    return None
