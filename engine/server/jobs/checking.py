"""Workflows that clients send: read in whatever form, checked, and told what is wrong with them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx
from aiohttp import web

from engine.document import reading
from engine.document.prepared import Prepared, prepare
from engine.document.subgraphs import outermost
from engine.document.workflow import Workflow, as_link
from engine.errors import KinographError, MissingError, Problem
from engine.graph.check import check
from engine.registry import Registry
from engine.server.http.settings import REGISTRY, SETTINGS, ServerSettings

MOST_NODES = 20_000
"""Nodes that a workflow may have, its subgraphs' definitions included."""


@dataclass(frozen=True)
class Checked:
    """A workflow and what was found."""

    prepared: Prepared
    nodes: int = 0
    targets: tuple[str, ...] = ()
    """What a run of it is for; none if it can't be run."""
    problems: tuple[Problem, ...] = ()
    """What is wrong."""
    missing: tuple[Problem, ...] = ()
    """What models and files are not here."""
    fetchable: bool = False
    """Whether nothing is missing but models that the run will fetch."""

    @property
    def can_run(self) -> bool:
        return not self.problems and (not self.missing or self.fetchable)


def parse(data: Any, registry: Registry) -> Workflow:
    """The workflow that JSON data holds; raises WorkflowError."""
    workflow = reading.parse(data, registry)
    nodes = len(workflow.graph) + sum(len(inner.graph) for inner in workflow.subgraphs.values())
    if nodes > MOST_NODES:
        raise KinographError(f"the workflow has {nodes:,} nodes, and at most {MOST_NODES:,} are taken")
    return workflow


def examine(prepared: Prepared, setup: ServerSettings, targets: Sequence[str] | None = None) -> Checked:
    """Check a workflow; may take as long as it takes to read the files that it names for the first time."""
    roots, count = setup.folders.roots, len(prepared.workflow.graph)
    try:
        graph = check(prepared, base=setup.folders.input, targets=targets, roots=roots)
    except MissingError as error:
        wanted, fetchable = tuple(prepared.saving if targets is None else targets), prepared.can_fetch(error.problems)
        return Checked(prepared, count, wanted, missing=error.problems, fetchable=fetchable)
    except KinographError as error:
        return Checked(prepared, count, problems=error.problems)
    return Checked(prepared, len(graph.order), graph.targets)


def examine_parts(prepared: Prepared, setup: ServerSettings, targets: Sequence[str] | None) -> tuple[Checked, Checked]:
    """A workflow as it is, and the part of it that can be run: what all is wrong leads to is left out.

    As the protocol has it: what can be run is run, and the rest is reported.
    """
    whole = examine(prepared, setup, targets)
    if whole.can_run:
        return whole, whole
    if any(problem.node is None for problem in whole.problems):
        return whole, whole
    links: nx.DiGraph[str] = nx.DiGraph()
    graph = prepared.workflow.graph
    links.add_nodes_from(graph)
    for name, entry in graph.items():
        links.add_edges_from((link.node, name) for value in entry.inputs.values() if (link := as_link(value)))
    bad = [outermost(problem.node) for problem in (*whole.problems, *whole.missing) if problem.node is not None]
    spoilt = {node for layer in nx.bfs_layers(links, [node for node in bad if node in links]) for node in layer}
    wanted = prepared.saving if targets is None else targets
    good = [node for node in wanted if outermost(node) not in spoilt]
    if not good:
        return whole, whole
    found = examine(prepared.up_to(*map(outermost, good)), setup, good)
    return whole, replace(found, targets=tuple(good)) if found.can_run else found


def node_errors(checked: Checked) -> dict[str, dict[str, Any]]:
    """What is wrong with each node, in the protocol's form."""
    found: dict[str, dict[str, Any]] = {}
    for problem in (*checked.problems, *checked.missing):
        if problem.node is None:
            continue
        node = outermost(problem.node)
        entry = checked.prepared.workflow.graph.get(node)
        about = found.setdefault(
            node, {"errors": [], "dependent_outputs": [], "class_type": entry and entry.class_type}
        )
        where = {"input_name": problem.input} if problem.input else {}
        about["errors"].append(
            {"type": "invalid", "message": problem.message, "details": problem.hint or "", "extra_info": where}
        )
    return found


async def parsed(app: web.Application, data: Any) -> Workflow:
    """`parse`, while the event loop goes on."""
    return await asyncio.to_thread(parse, data, app[REGISTRY])


async def prepared(app: web.Application, data: Any) -> Prepared:
    """The same, made ready."""
    return await asyncio.to_thread(lambda: prepare(parse(data, app[REGISTRY]), app[REGISTRY]))


async def examined(app: web.Application, prepared: Prepared, targets: Sequence[str] | None = None) -> Checked:
    """`examine`, while the event loop goes on."""
    return await asyncio.to_thread(examine, prepared, app[SETTINGS], targets)
