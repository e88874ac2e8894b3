"""A checked workflow: steps, what they are linked to, and the order in which they can run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from engine.document.subgraphs import Place
from engine.document.workflow import NodeEntry, Workflow
from engine.errors import Problem
from engine.graph.confinement import Confinement
from engine.node import Node
from engine.registry import Registry


class Source(NamedTuple):
    """Where a checked input comes from: a node, the index of one of its outputs and, in a list, that of an item."""

    node: str
    output: int
    item: int | None = None


class Gathered(NamedTuple):
    """A list assembled from several sources; one that is a list contributes all of its items."""

    sources: tuple[Source, ...]


class Step(NamedTuple):
    """A checked node."""

    id: str
    kind: type[Node]
    constants: Mapping[str, Any]
    """The constants given, as the node takes them; local files by a path that is valid wherever it runs."""
    links: Mapping[str, Source | Gathered]
    """Only sources in a checked graph; `engine.graph.expand` gathers lists."""
    contents: Mapping[str, str]
    """The digests of the files that inputs name, by input."""
    partial: bool = False
    """Whether it takes what is left of a list whose items have failed in part."""

    def sources(self) -> Iterator[Source]:
        """All sources of its links."""
        for link in self.links.values():
            if isinstance(link, Source):
                yield link
            else:
                yield from link.sources


@dataclass(frozen=True)
class Graph:
    """A checked workflow."""

    workflow: Workflow
    """The document, with its subgraphs and muted nodes."""
    steps: Mapping[str, Step]
    order: tuple[str, ...]
    """All nodes, each after those it depends on."""
    targets: tuple[str, ...]
    """The nodes whose outputs a run is for."""
    parts: Mapping[str, tuple[Graph, str]] = field(default_factory=dict)
    """If several graphs were joined: the one that each target comes from, and its id there."""
    places: Mapping[tuple[str, str], Place] = field(default_factory=dict)
    """Where the workflow has the constants of nodes within subgraphs."""
    confinement: Confinement | None = None
    """The folders that may be read, if not all."""
    registry: Registry = field(default_factory=lambda: Registry([]))
    """The kinds of node that it may use."""
    carried: Mapping[str, Any] = field(default_factory=dict)
    """Further JSON data that saved files carry, by the names of their tags."""
    warnings: tuple[Problem, ...] = ()
    """What is deprecated or ignored in the workflow."""
    flat: Mapping[str, NodeEntry] = field(default_factory=dict)
    """The workflow's nodes as they are written, with its subgraphs inlined; none if several graphs were joined."""
    in_folders: frozenset[str] = frozenset()
    """The paths of models that were found in folders of models, whose names hold wherever the workflow lies."""

    def part_of(self, target: str) -> tuple[Graph, str]:
        """The graph that a target comes from, and its id there: this one, unless several were joined."""
        return self.parts.get(target, (self, target))

    @cached_property
    def dynamic(self) -> bool:
        """Whether it holds lists or choices."""
        return any(step.kind.spec.dynamic for step in self.steps.values())

    @cached_property
    def mapped(self) -> frozenset[str]:
        """The nodes that may run for each item of a list: an input that takes one item may be linked to a list."""
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
        """The absolute paths of the files whose names depend on the workflow's folder, by the place of the name."""
        if self.confinement:
            return {}
        named = [(step.id, name, step.constants[name]) for step in self.steps.values() for name in step.contents]
        return {
            self.places.get((node, name), Place(None, node, name)): file
            for node, name, file in named
            if Path(file).is_absolute() and file not in self.in_folders
        }
