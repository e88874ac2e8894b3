"""A checked workflow: steps, what they are linked to, and the order in which they can run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from engine.document.subgraphs import Place
from engine.document.workflow import Workflow
from engine.errors import Problem
from engine.graph.confinement import Confinement
from engine.node import Node


class Source(NamedTuple):
    """Where a checked input comes from: a node, and the index of one of its outputs, or of an item of that list."""

    node: str
    output: int
    item: int | None = None


class Gathered(NamedTuple):
    """A list put together from several sources; of a list all its items are taken."""

    sources: tuple[Source, ...]


class Step(NamedTuple):
    """A checked node."""

    id: str
    kind: type[Node]
    constants: Mapping[str, Any]
    """The constants given, as the node takes them; local files by a path that holds wherever it is run."""
    links: Mapping[str, Source | Gathered]
    """A checked graph has sources only: lists are gathered where `engine.graph.expand` writes them out."""
    contents: Mapping[str, str]
    """What the files that inputs name hold: a digest, by input."""

    def sources(self) -> Iterator[Source]:
        """All that it is linked to."""
        for link in self.links.values():
            if isinstance(link, Source):
                yield link
            else:
                yield from link.sources


@dataclass(frozen=True)
class Graph:
    """A checked workflow."""

    workflow: Workflow
    """The document, with its subgraphs and the nodes that are muted."""
    steps: Mapping[str, Step]
    order: tuple[str, ...]
    """All nodes, each after those it depends on."""
    targets: tuple[str, ...]
    """The nodes whose outputs a run is for."""
    parts: Mapping[str, tuple[Graph, str]] = field(default_factory=dict)
    """Where several graphs were joined: the one that each target comes from, and its id there."""
    places: Mapping[tuple[str, str], Place] = field(default_factory=dict)
    """Where the workflow has the constants of nodes within subgraphs."""
    confinement: Confinement | None = None
    """The folders that may be read, if not all."""
    warnings: tuple[Problem, ...] = ()
    """What the workflow had better not use any more."""
    carried: Any = None
    """JSON data that saved files carry in place of the document, as a client's own editor wants them."""

    def part_of(self, target: str) -> tuple[Graph, str]:
        """The graph that a target comes from, and its id there: this one, unless several were joined."""
        return self.parts.get(target, (self, target))

    @cached_property
    def dynamic(self) -> bool:
        """Whether it holds lists or choices."""
        return any(step.kind.spec.dynamic for step in self.steps.values())

    @cached_property
    def mapped(self) -> frozenset[str]:
        """The nodes that may run for the items of a list: what they take one of may be linked to a list."""
        found: set[str] = set()
        for node in self.order:
            step = self.steps[node]
            for name, link in step.links.items():
                assert isinstance(link, Source)
                lists = self.steps[link.node].kind.spec.outputs[link.output].item is not None
                if step.kind.spec.inputs[name].item is None and (lists or link.node in found):
                    found.add(node)
        return frozenset(found)

    @property
    def local_files(self) -> dict[Place, str]:
        """The absolute paths of the files whose names depend on where the workflow lies, by the place of the name."""
        if self.confinement:
            return {}
        named = [(step.id, name, step.constants[name]) for step in self.steps.values() for name in step.contents]
        return {
            self.places.get((node, name), Place(None, node, name)): file
            for node, name, file in named
            if Path(file).is_absolute()
        }
