"""Inline workflows that are used as nodes: the node `face` becomes `face/load`, `face/draw` and so on.

A node is a subgraph if its `class_type` is a name that the document defines under `subgraphs`. Its inputs are those
that the subgraph exposes, its outputs those that it names. The result is an ordinary graph, so keys, and with them
cached results, are those of the same nodes written by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine.document.modes import MODES, mode_of, passes
from engine.document.partial import partial_of
from engine.document.workflow import Link, NodeEntry, Workflow, as_link, split_id, split_path
from engine.errors import Problem, WorkflowError, suggestion
from engine.registry import Registry
from engine.spec import fits

MAX_DEPTH = 32
"""How deep subgraphs may be nested."""
MOST_HINTS = 100
"""Problems up to which similar names are looked for."""
MAX_HOPS = 200
"""How many bypassed or nested subgraphs a link may pass through."""
SEPARATOR = "/"


class Place(NamedTuple):
    """Where in a document a value is written."""

    subgraph: str | None
    """The subgraph whose definition holds it; None for the graph itself."""
    node: str
    input: str


@dataclass(frozen=True)
class Inlined:
    """A workflow without subgraphs."""

    workflow: Workflow
    places: Mapping[tuple[str, str], Place] = field(default_factory=dict)
    """Where the constants of nodes within subgraphs are written, by node and input."""
    outputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The nodes that produce a subgraph's outputs, by the subgraph's node."""
    problems: tuple[Problem, ...] = ()


def inlined(workflow: Workflow, registry: Registry) -> Inlined:
    """The workflow with its subgraphs inlined; raises WorkflowError if that makes more than the `MOST` there may be."""
    if not workflow.subgraphs:
        return Inlined(workflow)
    sizes = Sizes(workflow.subgraphs)
    for number, most, what in zip(sizes.of(workflow), MOST, MOST._fields, strict=True):
        if number > most:
            raise WorkflowError(f"with its subgraphs inlined, the workflow has more than {most:,} {what}")
    inliner = _Inliner(workflow.subgraphs, registry, sizes.cycles)
    for name, subgraph in workflow.subgraphs.items():
        inliner.check(name, subgraph)
    level = _Level(workflow, None, "")
    inliner.inline(level, {})
    outputs = {name: inliner.led(link, level) for name, link in workflow.outputs.items()}
    flat = workflow.model_copy(update={"graph": inliner.graph, "outputs": outputs, "subgraphs": {}})
    return Inlined(flat, inliner.places, inliner.outputs, tuple(inliner.problems))


class Size(NamedTuple):
    """How large a workflow is with its subgraphs inlined."""

    nodes: int
    inputs: int
    letters: int
    """Of all nodes' ids."""


MOST = Size(200_000, 2_000_000, 100_000_000)
"""How large it may be."""


class Sizes:
    """The sizes that workflows with these subgraphs would have inlined, each subgraph counted once."""

    def __init__(self, subgraphs: Mapping[str, Workflow]) -> None:
        self.cycles: dict[str, tuple[str, ...]] = {}
        """Subgraphs that contain themselves, which can't be inlined, and how; without them there are no cycles."""
        self._subgraphs = subgraphs
        self._sizes: dict[str, Size] = {}

    def of(self, workflow: Workflow) -> Size:
        """The size of a workflow, or of a subgraph; beyond `MOST` not exact."""
        for entry in workflow.graph.values():
            self._count(entry.class_type)
        return self._sum(workflow)

    def _count(self, name: str) -> None:
        """Find the size of a subgraph, and of those within it: depth first, to notice cycles."""
        path = dict[str, None]()
        waiting = [(name, False)]
        while waiting:
            name, is_left = waiting.pop()
            if is_left:
                del path[name]
                self._sizes[name] = self._sum(self._subgraphs[name])
            elif name in path:
                around = [*path][[*path].index(name) :]
                self.cycles |= {each: (*around, name) for each in (name, around[-1]) if each not in self.cycles}
            elif name in self._subgraphs and name not in self._sizes:
                path[name] = None
                kinds = {entry.class_type: None for entry in self._subgraphs[name].graph.values()}
                waiting += [(name, True), *((kind, False) for kind in kinds)]

    def _sum(self, workflow: Workflow) -> Size:
        nodes = inputs = letters = 0
        for node, entry in workflow.graph.items():
            kind = entry.class_type
            inner = _NONE if kind in self.cycles else self._sizes.get(kind, _NONE)
            nodes += 1 + inner.nodes
            inputs += len(entry.inputs) + inner.inputs
            letters += len(node) + inner.letters + inner.nodes * (len(node) + 1)
        return Size(*(min(number, most + 1) for number, most in zip((nodes, inputs, letters), MOST, strict=True)))


_NONE = Size(0, 0, 0)


def exposed(workflow: Workflow, node: str, socket: str) -> tuple[str, str] | None:
    """The inner node and input that an input leads to, None if there is none; the same two if it isn't a subgraph's."""
    path = ""
    for _ in range(MAX_DEPTH):
        entry = workflow.graph.get(node)
        if entry is None:
            return None
        path += node
        if (subgraph := workflow.subgraphs.get(entry.class_type)) is None:
            return path, socket
        node, socket = split_path(subgraph.inputs.get(socket, ""), subgraph.graph)
        workflow = subgraph.model_copy(update={"subgraphs": workflow.subgraphs})
        path += SEPARATOR
    return None


def followed(links: Mapping[str, Link], workflow: Workflow, registry: Registry) -> dict[str, Any]:
    """Where links to nodes of a workflow, whose size has been checked, lead with its subgraphs inlined."""
    inliner, level = _Inliner(workflow.subgraphs, registry, {}), _Level(workflow, None, "")
    return {name: inliner.led(list(link), level) for name, link in links.items()}


def outermost(step: str) -> str:
    """The node of the document itself that a step belongs to: `face` for `face/load[3]`."""
    return split_id(step.partition(SEPARATOR)[0])[0]


class _Given(NamedTuple):
    """A value for an input, in terms of the flat graph, and where it is written."""

    value: Any
    place: Place


class _Level(NamedTuple):
    """A graph that is being inlined: the document's own, or that of one use of a subgraph."""

    workflow: Workflow
    subgraph: str | None
    prefix: str
    muted: bool = False
    outer: tuple[_Level, str] | None = None
    """The level that uses it, and the node there."""

    depth: int = 0
    partial: str = ""
    """The setting of `engine.document.partial` for its nodes, where it isn't that of the document."""

    def inner(self, node: str, entry: NodeEntry, subgraph: Workflow, muted: bool) -> _Level:
        prefix = f"{self.prefix}{node}{SEPARATOR}"
        partial = subgraph.partial or partial_of(entry) or self.partial
        at = (self, node), self.depth + 1, partial
        return _Level(subgraph, entry.class_type, prefix, self.muted or muted, *at)


class _Inliner:
    """Collects the flat graph."""

    def __init__(
        self, subgraphs: Mapping[str, Workflow], registry: Registry, cycles: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.subgraphs = subgraphs
        self.cycles = cycles
        self.registry = registry
        self.graph: dict[str, NodeEntry] = {}
        self.places: dict[tuple[str, str], Place] = {}
        self.outputs: dict[str, tuple[str, ...]] = {}
        self.problems: list[Problem] = []
        self._found: dict[tuple[str, Link], tuple[Link, Any]] = {}
        self._depth = 0

    def problem(self, message: str, node: str | None = None, input: str | None = None, hint: str | None = None) -> None:
        self.problems.append(Problem(message, node, input, hint))

    def check(self, name: str, subgraph: Workflow) -> None:
        """Report what is wrong with a definition, whether it is used or not."""
        if name in self.registry:
            self.problem(f"the subgraph '{name}' has the name of a kind of node")
        if subgraph.subgraphs:
            self.problem(f"the subgraph '{name}' defines subgraphs", hint="define all in the document itself")
        for socket, path in subgraph.inputs.items():
            if split_path(path, subgraph.graph)[0] not in subgraph.graph:
                self.problem(f"the input '{socket}' of subgraph '{name}' leads to '{path}', which doesn't exist")
        for output, link in subgraph.outputs.items():
            if link[0] not in subgraph.graph:
                self.problem(f"the output '{output}' of subgraph '{name}' leads to node {link[0]}, which doesn't exist")

    def inline(self, level: _Level, given: Mapping[str, _Given]) -> None:
        """Inline a level's nodes; `given` has values for its exposed inputs."""
        from_outside: dict[str, dict[str, _Given]] = {}
        for name, value in given.items():
            node, socket = split_path(level.workflow.inputs[name], level.workflow.graph)
            from_outside.setdefault(node, {})[socket] = value
        for node, entry in level.workflow.graph.items():
            own = {
                name: _Given(self.led(value, level), Place(level.subgraph, node, name))
                for name, value in entry.inputs.items()
            }
            inputs = own | from_outside.get(node, {})
            if entry.class_type in self.subgraphs:
                self._inline_subgraph(level, node, entry, inputs)
            else:
                self._inline_node(level, node, entry, inputs)

    def _inline_node(self, level: _Level, node: str, entry: NodeEntry, inputs: Mapping[str, _Given]) -> None:
        name = f"{level.prefix}{node}"
        if name in self.graph:
            self.problem("exists twice: as a node, and in a subgraph", name)
        meta = {**entry.meta, "mode": "mute"} if level.muted else entry.meta
        if level.partial and not partial_of(entry):
            meta = {**meta, "partial": level.partial}
        values = {socket: value for socket, (value, _) in inputs.items()}
        self.graph[name] = entry.model_copy(update={"inputs": values, "meta": meta})
        if level.subgraph is not None:
            kind = self.registry.get(entry.class_type)
            named = kind.spec.named_files if kind else ()
            self.places |= {(name, socket): Place(level.subgraph, node, socket) for socket in named}
            self.places |= {(name, socket): place for socket, (_, place) in inputs.items()}

    def _inline_subgraph(self, level: _Level, node: str, entry: NodeEntry, inputs: Mapping[str, _Given]) -> None:
        name, subgraph = entry.class_type, self.subgraphs[entry.class_type]
        at = f"{level.prefix}{node}"
        if cycle := self.cycles.get(name):
            self.problem(f"the subgraph '{name}' contains itself: {' → '.join(cycle)}", at)
            return
        if level.depth >= MAX_DEPTH:
            self.problem(f"subgraphs are nested more than {MAX_DEPTH} levels deep", at)
            return
        for socket in inputs.keys() - subgraph.inputs.keys():
            hint = suggestion(socket, subgraph.inputs) if len(self.problems) < MOST_HINTS else None
            self.problem(f"{name} exposes no such input", at, socket, hint)
        known = {socket: value for socket, value in inputs.items() if socket in subgraph.inputs}
        inner = level.inner(node, entry, subgraph, mode_of(entry) in MODES)
        self.inline(inner, known)
        links = [link for name in subgraph.outputs if (link := _output(subgraph, name))]
        self.outputs[at] = tuple(dict.fromkeys(self._resolved(link, inner)[0].node for link in links))

    def led(self, value: Any, level: _Level) -> Any:
        """A constant as it is, a link in terms of the flat graph."""
        link = as_link(value)
        return list(self._resolved(link, level)[0]) if link else value

    def _resolved(self, link: Link, level: _Level) -> tuple[Link, Any]:
        """The link and its type in the flat graph, followed through subgraphs and past bypassed ones."""
        at = (level.prefix, link)
        if at not in self._found:
            self._found[at] = Link(level.prefix + link.node, link.slot), None  # in case it leads to itself
            self._depth += 1
            if self._depth > MAX_HOPS:
                raise WorkflowError(f"a link passes through more than {MAX_HOPS} bypassed subgraphs", node=link.node)
            self._found[at] = self._resolve(link, level)
            self._depth -= 1
        return self._found[at]

    def _resolve(self, link: Link, level: _Level) -> tuple[Link, Any]:
        entry = level.workflow.graph.get(link.node)
        here = Link(level.prefix + link.node, link.slot)
        if entry is None or level.depth > MAX_DEPTH:
            return here, None
        if (subgraph := self.subgraphs.get(entry.class_type)) is None:
            kind = self.registry.get(entry.class_type)
            slot = kind.spec.slot(link.slot) if kind else None
            return here, None if kind is None or slot is None else kind.spec.outputs[slot].type
        if (inner_link := _output(subgraph, link.slot)) is None:
            return here, None
        inner = level.inner(link.node, entry, subgraph, False)
        found, output_type = self._resolved(inner_link, inner)
        if mode_of(entry) == "bypass":
            for socket in self._passed(entry, subgraph, link.slot):
                passed, input_type = self._source(link.node, socket, level) or (None, None)
                if passed and input_type is not None and output_type is not None and fits(input_type, output_type):
                    return passed, input_type
        return found, output_type

    def _passed(self, entry: NodeEntry, subgraph: Workflow, slot: int | str) -> list[str]:
        """The inputs that a bypassed subgraph may pass on in place of an output: that in the same place comes first."""
        names = list(subgraph.outputs)
        index = names.index(slot) if slot in names else slot
        if named := passes(entry, slot) or passes(entry, names[index] if isinstance(index, int) else slot):
            return [named]
        return sorted(subgraph.inputs, key=lambda socket: [*subgraph.inputs].index(socket) != index)

    def _source(self, node: str, socket: str, level: _Level) -> tuple[Link | None, Any] | None:
        """The link to an input and its type, Nones if the input has a constant; None if it has neither.

        A value from outside, for an input that the level exposes, takes precedence over one inside.
        """
        for name, path in reversed(level.workflow.inputs.items()) if level.outer else ():
            if level.outer and split_path(path, level.workflow.graph) == (node, socket):
                outer, use = level.outer
                if given := self._source(use, name, outer):
                    return given
        inputs = level.workflow.graph[node].inputs
        link = as_link(inputs.get(socket))
        return self._resolved(link, level) if link else ((None, None) if socket in inputs else None)


def _output(subgraph: Workflow, slot: int | str) -> Link | None:
    """The link within a subgraph that one of its outputs names; None if there is no such output."""
    names = list(subgraph.outputs)
    if isinstance(slot, int):
        slot = names[slot] if 0 <= slot < len(names) else ""
    return as_link(subgraph.outputs.get(slot))
