"""Workflows that clients send: read in whatever form, checked, and told what is wrong with them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx
from aiohttp import web

from engine.document import reading
from engine.document.prepared import models_of
from engine.document.subgraphs import inlined, outermost
from engine.document.workflow import Workflow, as_link
from engine.errors import KinographError, MissingError, Problem
from engine.graph.check import check
from engine.models import can_fetch
from engine.registry import Registry
from engine.server.http.settings import REGISTRY, SETUP, Setup

MOST_NODES = 20_000
"""Nodes that a workflow may have, its subgraphs' definitions included."""


@dataclass(frozen=True)
class Checked:
    """A workflow and what was found."""

    workflow: Workflow
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


def examine(workflow: Workflow, registry: Registry, setup: Setup, targets: Sequence[str] | None = None) -> Checked:
    """Check a workflow; may take as long as it takes to read the files that it names for the first time."""
    roots = setup.folders.roots
    try:
        graph = check(workflow, registry, base=setup.folders.input, targets=targets, roots=roots)
    except MissingError as error:
        fetchable = {
            place for source, places in models_of(workflow, registry).items() if can_fetch(source) for place in places
        }
        only_models = all((problem.node, problem.input) in fetchable for problem in error.problems)
        wanted = tuple(_saving(workflow, registry) if targets is None else targets)
        return Checked(workflow, len(workflow.graph), wanted, missing=error.problems, fetchable=only_models)
    except KinographError as error:
        return Checked(workflow, len(workflow.graph), problems=error.problems)
    return Checked(workflow, len(graph.order), graph.targets)


def examine_parts(
    workflow: Workflow, registry: Registry, setup: Setup, targets: Sequence[str] | None
) -> tuple[Checked, Checked]:
    """A workflow as it is, and the part of it that can be run: what all is wrong leads to is left out.

    As the protocol has it: what can be run is run, and the rest is reported.
    """
    whole = examine(workflow, registry, setup, targets)
    if whole.can_run:
        return whole, whole
    if any(problem.node is None for problem in whole.problems):
        return whole, whole
    links: nx.DiGraph[str] = nx.DiGraph()
    links.add_nodes_from(workflow.graph)
    for name, entry in workflow.graph.items():
        links.add_edges_from((link.node, name) for value in entry.inputs.values() if (link := as_link(value)))
    bad = [outermost(problem.node) for problem in (*whole.problems, *whole.missing) if problem.node is not None]
    spoilt = {node for layer in nx.bfs_layers(links, [node for node in bad if node in links]) for node in layer}
    wanted = _saving(workflow, registry) if targets is None else targets
    good = [node for node in wanted if outermost(node) not in spoilt]
    if not good:
        return whole, whole
    found = examine(workflow.up_to(*map(outermost, good)), registry, setup, good)
    return whole, replace(found, targets=tuple(good)) if found.can_run else found


def _saving(workflow: Workflow, registry: Registry) -> list[str]:
    """The nodes that save, subgraphs with such nodes within included."""
    flat = inlined(workflow, registry).workflow.graph
    saving = (node for node, entry in flat.items() if (kind := registry.get(entry.class_type)) and kind.spec.saves)
    return [*dict.fromkeys(map(outermost, saving))]


def node_errors(checked: Checked) -> dict[str, dict[str, Any]]:
    """What is wrong with each node, in the protocol's form."""
    found: dict[str, dict[str, Any]] = {}
    for problem in (*checked.problems, *checked.missing):
        if problem.node is None:
            continue
        node = outermost(problem.node)
        entry = checked.workflow.graph.get(node)
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


async def examined(app: web.Application, workflow: Workflow, targets: Sequence[str] | None = None) -> Checked:
    """`examine`, while the event loop goes on."""
    return await asyncio.to_thread(examine, workflow, app[REGISTRY], app[SETUP], targets)
