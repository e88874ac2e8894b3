"""A workflow prepared once for everything that is done with it: checking, running, listing models, changing inputs.

workflow → former input names migrated → subgraphs inlined → modes applied
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from engine.changes import Changes
from engine.document.migrating import migrated
from engine.document.modes import active, mode_of, past_bypassed
from engine.document.modes import problems as problems_of_modes
from engine.document.partial import problems as problems_of_partial
from engine.document.subgraphs import Place, exposed, followed, inlined, outermost
from engine.document.workflow import Link, Workflow, as_constant, as_link
from engine.errors import Problem
from engine.models import can_fetch
from engine.registry import Registry
from engine.spec import Input

Socket = tuple[str, str]
"""A node of the flat workflow, and one of its inputs."""


@dataclass(frozen=True)
class Prepared:
    """A workflow, the kinds of node that it may use, and what follows from both."""

    workflow: Workflow
    """As it is written, but with present names of inputs."""
    registry: Registry
    flat: Workflow
    """With its subgraphs inlined."""
    active: Workflow
    """The same without muted and bypassed nodes."""
    places: Mapping[Socket, Place]
    """Where the document has the constants of nodes within subgraphs."""
    outputs: Mapping[str, tuple[str, ...]]
    """The nodes that produce a subgraph's outputs, by the subgraph's node."""
    problems: tuple[Problem, ...]
    """What is wrong with its subgraphs and modes, and with values of former inputs."""
    ignored: tuple[Problem, ...] = ()
    """Values of former inputs that are dropped."""

    @cached_property
    def warnings(self) -> tuple[Problem, ...]:
        """Deprecated kinds and inputs, values that are ignored, and what kinds remark on; the workflow can run."""
        return (*self.ignored, *self._deprecated(), *self._remarks())

    def _deprecated(self) -> Iterator[Problem]:
        specs = {name: kind.spec for name, kind in self.registry.items() if kind.spec.has_deprecated}
        for node, entry in self.active.graph.items() if specs else ():
            if spec := specs.get(entry.class_type):
                if spec.deprecated:
                    yield Problem(f"{entry.class_type} is deprecated: {spec.deprecated}", node)
                for name in entry.inputs:
                    if name in spec.inputs and (instead := spec.inputs[name].deprecated):
                        yield Problem(f"is deprecated: {instead}", node, name)

    def _remarks(self) -> Iterator[Problem]:
        kinds = {name: kind for name, kind in self.registry.items() if kind.spec.has_remarks}
        for node, entry in self.active.graph.items() if kinds else ():
            if kind := kinds.get(entry.class_type):
                constants = {name: as_constant(value) for name, value in entry.inputs.items() if not as_link(value)}
                for remark in kind.remarks_on(kind.spec.given(constants, entry.inputs)):
                    yield replace(remark, node=node)

    @cached_property
    def models(self) -> Mapping[str, tuple[Socket, ...]]:
        """The model sources that active nodes name, with the inputs that name them."""
        sources: dict[str, tuple[Socket, ...]] = {}
        for node, entry in self.active.graph.items():
            kind = self.registry.get(entry.class_type)
            for socket in kind.spec.inputs.values() if kind else ():
                value = as_constant(entry.inputs.get(socket.name, None if socket.required else socket.default))
                if socket.holds == "model" and isinstance(value, str):
                    sources[value] = (*sources.get(value, ()), (node, socket.name))
        return sources

    @cached_property
    def wanted(self) -> Mapping[str, tuple[str, ...]]:
        """The categories of models that inputs want, by the source that they name."""
        kinds, graph, found = self.registry, self.active.graph, dict[str, tuple[str, ...]]()
        for source, sockets in self.models.items():
            marks = (kinds[graph[node].class_type].spec.inputs[name].file for node, name in sockets)
            found[source] = tuple(dict.fromkeys(each for mark in marks if mark for each in mark.categories))
        return found

    @cached_property
    def saving(self) -> tuple[str, ...]:
        """The document's nodes that save, or whose subgraphs do."""
        graph, kinds = self.flat.graph, self.registry
        found = (node for node, entry in graph.items() if (kind := kinds.get(entry.class_type)) and kind.spec.saves)
        return tuple(dict.fromkeys(map(outermost, found)))

    def imported(self) -> Prepared:
        """The same with the packs of its nodes imported, as a run needs them; raises KinographError."""
        registry = self.registry.imported({entry.class_type for entry in self.flat.graph.values()})
        if registry is self.registry:
            return self
        today = migrated(self.workflow, registry)
        if today.workflow == self.workflow and not today.problems:
            return replace(self, registry=registry)._with_flat(self.flat)
        anew = prepare(self.workflow, registry)  # values of former inputs that only the pack's own code converts
        return replace(anew, ignored=tuple(dict.fromkeys((*self.ignored, *anew.ignored))))

    def ends(self, links: Mapping[str, Link]) -> Mapping[str, Link]:
        """The outputs of active nodes that links to nodes of the document lead to, through subgraphs and past bypassed
        nodes. Links that lead to nothing are left out."""
        flat = followed(links, self.workflow, self.registry)
        led = past_bypassed(flat, self.flat, self.registry)
        found = {name: as_link(value) for name, value in led.items()}
        return {name: link for name, link in found.items() if link and link.node in self.active.graph}

    def divided(self, missing: Iterable[Problem]) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
        """What is missing: first that which a run wouldn't fetch, then the models that it would."""
        fetched = {socket for source, sockets in self.models.items() if can_fetch(source) for socket in sockets}
        kept, found = list[Problem](), list[Problem]()
        for problem in missing:
            (found if (problem.node, problem.input) in fetched else kept).append(problem)
        return tuple(kept), tuple(found)

    def leads_to(self, node: str, socket: str) -> tuple[Socket, Input | None] | None:
        """Where an input of the document leads, through subgraphs, and what it is; None if it leads nowhere.

        A node of an unknown kind may have any input, and nothing is known about it.
        """
        inner = exposed(self.workflow, node, socket)
        entry = self.flat.graph.get(inner[0]) if inner else None
        if inner is None or entry is None:
            return None
        kind = self.registry.get(entry.class_type)
        if kind is None:
            return inner, None
        return (inner, kind.spec.inputs[inner[1]]) if inner[1] in kind.spec.inputs else None

    def today(self, node: str, socket: str) -> str:
        """The present name of an input of one of the document's nodes."""
        return changes.today(socket) if (changes := self._changes(node)) else socket

    def why_gone(self, node: str, socket: str) -> str | None:
        """What to do about a former input of one of the document's nodes; None if it never was one."""
        return changes.hint(socket) if (changes := self._changes(node)) else None

    def _changes(self, node: str) -> Changes | None:
        entry = self.workflow.graph.get(node)
        kind = self.registry.get(entry.class_type) if entry else None
        return kind.spec.changes if kind else None

    def with_input(self, node: str, socket: str, value: Any) -> Prepared:
        """The same with another constant or link for an existing input of the document."""
        workflow = self.workflow.with_input(node, socket, value)
        found = self.leads_to(node, socket)
        if found is None or as_link(value):  # a link may lead through subgraphs, and past bypassed nodes
            return prepare(workflow, self.registry)
        inner, _ = found
        if self._bypasses_subgraphs and as_link(self.flat.graph[inner[0]].inputs.get(inner[1])):
            return prepare(workflow, self.registry)  # a bypassed subgraph may have passed on the former link
        changed = replace(self, workflow=workflow, places={**self.places, inner: Place(None, node, socket)})
        return changed._with_flat(self.flat.with_input(*inner, value))

    @cached_property
    def _bypasses_subgraphs(self) -> bool:
        levels = (self.workflow, *self.workflow.subgraphs.values())
        uses = (entry for level in levels for entry in level.graph.values())
        return any(entry.class_type in self.workflow.subgraphs and mode_of(entry) == "bypass" for entry in uses)

    def up_to(self, *nodes: str) -> Prepared:
        """The part that leads to some nodes of the document, including the nodes."""
        workflow = self.workflow.up_to(*nodes)
        graph = {node: entry for node, entry in self.flat.graph.items() if outermost(node) in workflow.graph}

        def of_part(problems: Iterable[Problem]) -> tuple[Problem, ...]:
            return tuple(each for each in problems if each.node is None or outermost(each.node) in workflow.graph)

        part = replace(self, workflow=workflow, problems=of_part(self.problems), ignored=of_part(self.ignored))
        return part._with_flat(self.flat.model_copy(update={"graph": graph, "inputs": workflow.inputs}))

    def _with_flat(self, flat: Workflow) -> Prepared:
        return replace(self, flat=flat, active=active(flat, self.registry))


def prepare(workflow: Workflow, registry: Registry) -> Prepared:
    """Prepare a workflow; raises WorkflowError if its subgraphs expand to too many nodes."""
    today = migrated(workflow, registry)
    written = inlined(today.workflow, registry)
    flat = written.workflow
    problems = (*today.problems, *written.problems, *problems_of_modes(flat), *problems_of_partial(flat))
    parts = (flat, active(flat, registry), written.places, written.outputs, problems)
    return Prepared(today.workflow, registry, *parts, ignored=(*workflow.ignored, *today.warnings))
