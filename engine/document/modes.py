"""Take muted and bypassed nodes out of a workflow.

A node's mode is in its `_meta`: `{"mode": "mute"}` or `{"mode": "bypass"}`. Nodes that need a muted node are left out
with it; an input that has a default falls back to that. A bypassed node passes on what it was linked to, as in
ComfyUI's editor: each of its outputs is replaced by the link of the socket in the same place if that takes the same
type, linked or not, or else by the first of its links that fits.

`_meta` may name the input instead: `{"mode": "bypass", "passes": {"0": "model"}}`, by output as in links. Files that an
editor saved tell so of nodes whose kind isn't known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.document.sockets import sockets
from engine.document.workflow import Link, NodeEntry, Workflow, as_link
from engine.errors import Problem, suggestion
from engine.node import Node
from engine.registry import Registry
from engine.spec import fits, linkable

MODES = ("mute", "bypass")
PASSES = "passes"
"""The key in a bypassed node's `_meta` for the inputs that it passes on."""


def mode_of(entry: NodeEntry) -> str:
    """A node's mode, "" if it is an ordinary one."""
    return str(entry.meta.get("mode") or "")


def problems(workflow: Workflow) -> list[Problem]:
    """Unknown modes."""
    return [
        Problem(f"there is no mode '{mode}': the modes are mute and bypass", node, hint=suggestion(mode, MODES))
        for node, entry in workflow.graph.items()
        if (mode := mode_of(entry)) and mode not in MODES
    ]


def active(workflow: Workflow, registry: Registry) -> Workflow:
    """The workflow with its modes applied: without muted and bypassed nodes, and nodes that need a muted one."""
    if not any(map(mode_of, workflow.graph.values())):
        return workflow
    kinds = _kinds(workflow, registry)
    graph = {
        node: entry.model_copy(update={"inputs": _past_bypassed(entry.inputs, workflow.graph, kinds)})
        for node, entry in workflow.graph.items()
        if mode_of(entry) not in MODES
    }
    consumers: dict[str, list[str]] = {}
    for node, entry in graph.items():
        for link in filter(None, map(as_link, entry.inputs.values())):
            consumers.setdefault(link.node, []).append(node)
    removed = [node for node in workflow.graph if node not in graph]
    for source in removed:  # grows during the loop, by nodes that depend on removed ones
        for node in consumers.get(source, ()):
            if node not in graph:
                continue
            entry = graph[node]
            lost = {name for name, value in entry.inputs.items() if (at := as_link(value)) and at.node == source}
            kind = kinds[node]
            if kind and any(kind.spec.inputs[name].required for name in lost if name in kind.spec.inputs):
                del graph[node]
                removed.append(node)
            else:
                left = {name: value for name, value in entry.inputs.items() if name not in lost}
                graph[node] = entry.model_copy(update={"inputs": left})
    ends = _past_bypassed(workflow.outputs, workflow.graph, kinds)
    outputs = {name: end for name, end in ends.items() if (at := as_link(end)) and at.node in graph}
    return workflow.model_copy(update={"graph": graph, "outputs": outputs})


def past_bypassed(links: Mapping[str, Any], workflow: Workflow, registry: Registry) -> dict[str, Any]:
    """Links to a workflow's nodes, with those to bypassed nodes replaced by the links of those nodes."""
    if not any(map(mode_of, workflow.graph.values())):
        return dict(links)
    return _past_bypassed(links, workflow.graph, _kinds(workflow, registry))


def _kinds(workflow: Workflow, registry: Registry) -> dict[str, type[Node] | None]:
    return {node: registry.get(entry.class_type) for node, entry in workflow.graph.items()}


def _past_bypassed(
    inputs: Mapping[str, Any], graph: Mapping[str, NodeEntry], kinds: Mapping[str, type[Node] | None]
) -> dict[str, Any]:
    """Inputs, with links to bypassed nodes replaced by the links of those nodes."""
    redirected = dict(inputs)
    for name, value in inputs.items():
        link, seen = as_link(value), set[str]()
        while link and link.node in graph and mode_of(graph[link.node]) == "bypass" and link.node not in seen:
            seen.add(link.node)
            replacement = _replacement(link, graph, kinds)
            if replacement is None:
                break  # nothing fits, so the link counts as one to a muted node
            link = replacement
        if link:
            redirected[name] = list(link)
    return redirected


def _replacement(link: Link, graph: Mapping[str, NodeEntry], kinds: Mapping[str, type[Node] | None]) -> Link | None:
    """What a bypassed node passes on in place of one of its outputs; None if nothing fits."""
    kind, entry = kinds[link.node], graph[link.node]
    if passed := passes(entry, link.slot):
        return as_link(entry.inputs.get(passed))
    index = kind.spec.slot(link.slot) if kind else None
    if kind is None or index is None:
        return None
    wanted = kind.spec.outputs[index].type
    opposite = sockets(kind)[index : index + 1]
    if opposite and linkable(wanted, opposite[0].type):
        return as_link(entry.inputs.get(opposite[0].name))
    for name in kind.spec.inputs:
        source = as_link(entry.inputs.get(name))
        producer = kinds.get(source.node) if source else None
        if source and producer:
            slot = producer.spec.slot(source.slot)
            if slot is not None and fits(producer.spec.outputs[slot].type, wanted):
                return source
    return None


def passes(entry: NodeEntry, slot: int | str) -> str | None:
    """The input that a bypassed node passes on in place of an output, if the node itself names it."""
    named = entry.meta.get(PASSES)
    found = named.get(str(slot)) if isinstance(named, dict) else None
    return found if isinstance(found, str) else None
