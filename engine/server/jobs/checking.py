"""Workflows that clients send: read in any format, and checked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import networkx as nx
from aiohttp import web

from engine.document import reading
from engine.document.prepared import Prepared, prepare
from engine.document.subgraphs import Sizes, outermost
from engine.document.workflow import Workflow, as_link
from engine.errors import KinographError
from engine.graph import check
from engine.graph.check import Verdict
from engine.registry import Registry
from engine.server.http.settings import REGISTRY, SETTINGS, ServerSettings

MOST_NODES = 20_000
"""Nodes that a workflow may have: with its subgraph definitions, and with its subgraphs inlined."""
MOST_INPUTS = 1000
"""Inputs that a node may have."""


def parse(data: Any, registry: Registry) -> Workflow:
    """The workflow in JSON data; raises KinographError if it is too large, WorkflowError if it is invalid."""
    _check_size(data)
    workflow = reading.parse(data, registry)
    check_nodes(workflow)
    return workflow


def check_nodes(workflow: Workflow) -> None:
    """Raise KinographError if a workflow has more nodes than the server takes."""
    nodes = len(workflow.graph) + sum(len(inner.graph) for inner in workflow.subgraphs.values())
    _check_count(nodes)
    if Sizes(workflow.subgraphs).of(workflow).nodes > MOST_NODES:
        raise KinographError(
            f"with its subgraphs inlined, the workflow has more than {MOST_NODES:,} nodes, the most the server takes"
        )


def _check_size(data: Any) -> None:
    """As `check_nodes`, for data that may not be a workflow at all: reading those would take long already."""
    if not isinstance(data, dict):
        return
    nodes = data.get("graph", data.get("nodes", data))
    if isinstance(nodes, dict | list):
        _check_count(len(nodes))
    for node in nodes.values() if isinstance(nodes, dict) else ():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        if isinstance(inputs, dict) and len(inputs) > MOST_INPUTS:
            raise KinographError(f"a node has {len(inputs):,} inputs; the server takes at most {MOST_INPUTS:,}")


def _check_count(nodes: int) -> None:
    if nodes > MOST_NODES:
        raise KinographError(f"the workflow has {nodes:,} nodes; the server takes at most {MOST_NODES:,}")


def examine(prepared: Prepared, settings: ServerSettings, targets: Sequence[str] | None = None) -> Verdict:
    """Check a workflow; the first time, this takes as long as reading the files that it names."""
    folders = settings.folders
    roots, models = folders.roots, folders.of_models
    return check.examine(prepared, base=folders.input, targets=targets, roots=roots, folders=models)


def examine_parts(
    prepared: Prepared, settings: ServerSettings, targets: Sequence[str] | None
) -> tuple[Verdict, Verdict]:
    """Check a workflow, and the part of it that can be run, without the nodes that depend on faulty ones.

    ComfyUI's protocol asks for it: what can be run is run, and the rest is reported.
    """
    whole = examine(prepared, settings, targets)
    if whole.can_run:
        return whole, whole
    if any(problem.node is None for problem in whole.problems):
        return whole, whole
    links: nx.DiGraph[str] = nx.DiGraph()
    graph = prepared.workflow.graph
    links.add_nodes_from(graph)
    for name, entry in graph.items():
        links.add_edges_from((link.node, name) for value in entry.inputs.values() if (link := as_link(value)))
    faulty = [outermost(problem.node) for problem in (*whole.problems, *whole.missing) if problem.node is not None]
    affected = {node for layer in nx.bfs_layers(links, [node for node in faulty if node in links]) for node in layer}
    requested = prepared.saving if targets is None else targets
    good = [node for node in requested if outermost(node) not in affected]
    if not good:
        return whole, whole
    part = examine(prepared.up_to(*map(outermost, good)), settings, good)
    return whole, replace(part, targets=tuple(good)) if part.can_run else part


async def parsed(app: web.Application, data: Any) -> Workflow:
    """`parse`, in a thread."""
    return await asyncio.to_thread(parse, data, app[REGISTRY])


async def prepared(app: web.Application, data: Any) -> Prepared:
    """`parse` and `prepare`, in a thread."""
    return await asyncio.to_thread(lambda: prepare(parse(data, app[REGISTRY]), app[REGISTRY]))


async def examined(app: web.Application, prepared: Prepared, targets: Sequence[str] | None = None) -> Verdict:
    """`examine`, in a thread."""
    return await asyncio.to_thread(examine, prepared, app[SETTINGS], targets)
