"""One graph of a file, its own or a subgraph's: its nodes, and where their links come from.

Nodes that only route links (reroutes, primitives, setters and getters) are left out, and links lead to what is behind
them; likewise for a subgraph whose output is one of its inputs. Links that come from nowhere are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from engine.document.formats.elsewhere import EXTENSION
from engine.document.formats.layout import NOTES, layout
from engine.document.formats.ui import BYPASSED, MUTED, UiGraph, UiNode, UiSubgraph
from engine.document.formats.variables import GETTER, SETTER, VARIABLE, is_getter, setters
from engine.document.formats.widgets import named_in_order, values
from engine.document.modes import PASSES
from engine.document.workflow import Link, NodeEntry, as_constant, as_json
from engine.errors import Problem, WorkflowError
from engine.registry import Registry

REROUTES = ("Reroute", "Reroute (rgthree)", SETTER)
"""Kinds that pass on what comes in."""
WRITTEN_INTO = "PrimitiveNode"
"""The kind that an editor writes into the widgets that it is linked to, whatever its mode."""
PRIMITIVES = (
    *(WRITTEN_INTO, "PrimitiveInt", "PrimitiveFloat", "PrimitiveBoolean"),
    *("PrimitiveString", "PrimitiveStringMultiline"),
)
"""Kinds that give what is written in them, unless something comes in."""
MODES = {MUTED: "mute", BYPASSED: "bypass"}
OUTSIDE = "-1"
MAX_INPUTS = 200_000
"""How many inputs a file may have in all: one that leads to several nodes counts as several, in nested subgraphs too.
"""

NodeInput = tuple[str, str]
"""A node and one of its inputs."""


class _Nothing:
    """Marks the absence of a constant, as None is one."""


NOTHING = _Nothing()


class Source(NamedTuple):
    """Where a link comes from: an output, else an input of the subgraph, else a constant, else nowhere."""

    link: Link | None = None
    outside: int | None = None
    """The index of the subgraph's input."""
    value: Any = NOTHING
    """The constant, or the value that holds if the subgraph's input is given none."""

    def or_else(self, value: Any) -> Source:
        """The same with this constant, if it has neither a link nor a constant."""
        return self if self.link or self.value is not NOTHING else self._replace(value=value)


class Interface(NamedTuple):
    """A subgraph that has been read, as seen from outside."""

    name: str
    slots: Mapping[str, int]
    """The indices of its inputs, and of widgets that it shows, by their names in the file."""
    widgets: tuple[int, ...]
    """The inputs that can be set from outside, as well as linked."""
    promoted: Mapping[NodeInput, int]
    """The indices of the inputs that lead to inner widgets, by widget."""
    exposed: tuple[tuple[str, ...], ...]
    """The names under which the workflow exposes each input: several, if it leads to several nodes."""
    outputs: tuple[str | Source, ...]
    """The names of its outputs, or the sources of those that come from no node."""


class ReadContext:
    """What is known while a graph is read: the kinds of node, and the subgraphs that have been read."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.interfaces: dict[str, Interface] = {}
        """By the subgraphs' ids."""
        self._inputs = 0

    def count(self) -> None:
        """Count an input; raises `WorkflowError` if there are too many."""
        self._inputs += 1
        if self._inputs > MAX_INPUTS:
            raise WorkflowError(f"with its subgraphs, the workflow has more than {MAX_INPUTS:,} inputs")


class _Instance(NamedTuple):
    """What a subgraph is given where it is used, by the indices of its inputs."""

    values: Mapping[int, Any]
    links: Mapping[int, int]


class Level:
    """A graph that is being read: the file's own, or that of a subgraph.

    Args:
        context: the kinds of node, and the subgraphs that have been read.
        graph: the graph.
        promoted: the indices of the inputs that lead to inner widgets, by widget.
    """

    def __init__(self, context: ReadContext, graph: UiGraph, promoted: Mapping[NodeInput, int]) -> None:
        self.context = context
        self.graph = graph
        self.promoted = dict(promoted)
        self.nodes = {node.key: node for node in graph.nodes}
        if len(self.nodes) < len(graph.nodes):
            raise WorkflowError.of(_duplicates(graph.nodes))
        self.links = {link.id: link for link in graph.links or () if link}
        self.targets: dict[int, list[NodeInput]] = {}
        """The node inputs that each input of the subgraph leads to, by its index."""
        self._sources: dict[int, Source] = {}
        self._real = {node.key: node for node in graph.nodes if not self._is_virtual(node)}
        self._set = setters(graph)
        self._shown = {node: index for (node, _), index in reversed(self.promoted.items())}
        self._instances: dict[str, _Instance] = {}

    def layout(self) -> dict[str, Any]:
        return layout(self.graph, self._real.values())

    def entries(self) -> dict[str, NodeEntry]:
        """The nodes, as a workflow has them."""
        entries = {key: self._entry(node) for key, node in self._real.items()}
        for (key, name), index in list(self.promoted.items()):
            if node := self.nodes.get(key):
                self._promote(node, entries.get(key), name, index)
        return entries

    def widgets(self) -> tuple[int, ...]:
        """The indices of the subgraph's inputs that lead to a widget."""
        subgraph, found = self.graph, set[int]()
        assert isinstance(subgraph, UiSubgraph)
        for link in self.links.values():
            target = self.nodes.get(str(link.target_id))
            sockets = target.inputs or () if target and link.origin_id == subgraph.input_boundary.id else ()
            if 0 <= link.target_slot < len(sockets) and sockets[link.target_slot].widget:
                found.add(link.origin_slot)
        variables = {index for index, socket in enumerate(subgraph.inputs or ()) if socket.name.startswith(VARIABLE)}
        found -= variables
        return tuple(sorted(found))

    def output_sources(self) -> list[Source]:
        """Where a subgraph's outputs come from."""
        subgraph = self.graph
        assert isinstance(subgraph, UiSubgraph)
        end = subgraph.output_boundary.id
        links = {link.target_slot: link.id for link in self.links.values() if link.target_id == end}
        return [self._source(links.get(index)) for index in range(len(subgraph.outputs or ()))]

    def _is_virtual(self, node: UiNode) -> bool:
        known = node.type in self.context.registry
        return not known and node.type in (*REROUTES, *PRIMITIVES, *NOTES, GETTER)

    def _entry(self, node: UiNode) -> NodeEntry:
        interface = self.context.interfaces.get(node.type)
        inputs = self._subgraph_inputs(node, interface) if interface else self._node_inputs(node)
        meta: dict[str, Any] = {"title": node.title} if node.title and node.title != node.type else {}
        meta |= {"mode": MODES[node.mode]} if node.mode in MODES else {}
        meta |= {"partial": node.partial} if node.partial else {}
        if node.extension and not interface and node.type not in self.context.registry:
            meta[EXTENSION] = node.extension
        if node.mode == BYPASSED and (passed := self._passed(node, interface)):
            meta[PASSES] = passed
        return NodeEntry(class_type=interface.name if interface else node.type, inputs=inputs, _meta=meta)

    def _passed(self, node: UiNode, interface: Interface | None) -> dict[str, str]:
        """The inputs that a bypassed node passes on, by output, where its file must tell: types of an unknown kind, or
        places of a subgraph's inputs, some of which the workflow exposes several times."""
        if node.type in self.context.registry or (interface and all(len(names) == 1 for names in interface.exposed)):
            return {}
        passed: dict[str, str] = {}
        sockets = node.inputs or ()
        for slot, output in enumerate(node.outputs or ()):
            opposite = [socket for socket in sockets[slot : slot + 1] if _fit(socket.type, output.type)]
            exact = [socket for socket in sockets if socket.type == output.type]
            fitting = [socket for socket in sockets if _fit(socket.type, output.type)]
            for socket in (*opposite, *exact, *fitting)[:1]:
                if interface is None:
                    passed[str(slot)] = socket.name
                    continue
                index, end = interface.slots.get(socket.name), interface.outputs[slot : slot + 1]
                if index is not None and interface.exposed[index] and isinstance(end[0] if end else None, str):
                    passed[str(end[0])] = interface.exposed[index][0]
        return passed

    def _node_inputs(self, node: UiNode) -> dict[str, Any]:
        """The inputs of an ordinary node."""
        inputs = _with_own(node, values(node, self.context.registry.get(node.type)))
        for socket in node.inputs or ():
            self._connect(inputs, (node.key, socket.name), self._source(socket.link))
        return inputs

    def _subgraph_inputs(self, node: UiNode, interface: Interface) -> dict[str, Any]:
        """The inputs of a node that is a subgraph."""
        inputs: dict[str, Any] = {}
        instance = self._instance(node, interface)
        sources = [(index, Source(value=value)) for index, value in instance.values.items()]
        sources += [(index, self._source(link)) for index, link in instance.links.items()]
        for index, source in sources:
            for name in interface.exposed[index]:
                self._connect(inputs, (node.key, name), source)
        return _with_own(node, inputs)

    def _instance(self, node: UiNode, interface: Interface) -> _Instance:
        if node.key not in self._instances:
            named = ((interface.slots.get(socket.name), socket.link) for socket in node.inputs or ())
            links = {index: link for index, link in named if index is not None and link is not None}
            values = {
                index: value
                for index, value in _outer_values(node, interface)
                if index is not None and 0 <= index < len(interface.exposed) and value is not None
            }
            self._instances[node.key] = _Instance(values, links)
        return self._instances[node.key]

    def _connect(self, inputs: dict[str, Any], target: NodeInput, source: Source) -> None:
        """Give a node's input its source, or note that it is a target of an input of the subgraph."""
        self.context.count()
        _, name = target
        if source.link:
            inputs[name] = list(source.link)
            return
        if source.value is not NOTHING:
            inputs[name] = as_json(source.value)
        if source.outside is not None:
            self.targets.setdefault(source.outside, []).append(target)

    def _promote(self, node: UiNode, entry: NodeEntry | None, name: str, index: int) -> None:
        """Have an input of the subgraph lead to a widget, unless that is linked."""
        named = (
            socket.link for socket in node.inputs or () if name in (socket.name, socket.widget and socket.widget.name)
        )
        source = self._source(next(named, None) if entry else _incoming(node))
        if source.outside is not None:
            self.promoted[node.key, name] = source.outside
        elif entry and not source.link and source.value is NOTHING:
            self.targets[index] = [(node.key, inner) for inner in self._inner_names(node, entry, name)]

    def _inner_names(self, node: UiNode, entry: NodeEntry, name: str) -> Iterable[str]:
        """The names in the workflow of a node's widget."""
        if interface := self.context.interfaces.get(node.type):
            index = interface.slots.get(name)
            return interface.exposed[index] if index is not None else ()
        kind = self.context.registry.get(node.type)
        return [name] if name in entry.inputs or (kind and name in kind.spec.inputs) else ()

    def _source(self, link: int | None) -> Source:
        """Where a link comes from, past nodes that only route links."""
        passed: list[tuple[int, Any]] = []
        found = Source()
        while link is not None and link not in self._sources:
            self._sources[link] = Source()  # in case it leads to itself
            found, following = self._follow(link)
            passed.append((link, found.value))
            link = following
        if link is not None:
            found = self._sources[link]
        for each, value in reversed(passed):
            found = self._sources[each] = found.or_else(value)
        return found

    def _follow(self, link: int) -> tuple[Source, int | None]:
        """Where a link comes from, and the link to follow if its origin only routes it; that takes precedence."""
        at = self.links.get(link)
        if at is None:
            return Source(), None
        if isinstance(self.graph, UiSubgraph) and at.origin_id == self.graph.input_boundary.id:
            return Source(outside=at.origin_slot), None
        node = self.nodes.get(str(at.origin_id))
        if node is None or node.type in NOTES:
            return Source(), None
        if self._is_virtual(node):
            return self._through_virtual(node)
        if interface := self.context.interfaces.get(node.type):
            return self._through_subgraph(node, interface, at.origin_slot)
        return Source(Link(node.key, self._slot(node, at.origin_slot))), None

    def _through_virtual(self, node: UiNode) -> tuple[Source, int | None]:
        if node.type == GETTER:
            setter = self._set.get(node.value) if is_getter(node) and isinstance(node.value, str) else None
            return Source(), _incoming(setter) if setter else None
        if node.mode == MUTED and node.type != WRITTEN_INTO:
            return Source(), None
        following = _incoming(node)
        if node.type in REROUTES or (node.mode == BYPASSED and node.type != WRITTEN_INTO):
            return Source(), following
        shown = self._shown.get(node.key) if following is None else None
        return Source(outside=shown, value=NOTHING if node.value is None else node.value), following

    def _through_subgraph(self, node: UiNode, interface: Interface, slot: int) -> tuple[Source, int | None]:
        """The source of a subgraph's output, which may be one of its inputs."""
        output = interface.outputs[slot] if 0 <= slot < len(interface.outputs) else Source()
        if isinstance(output, str):
            return Source(Link(node.key, output)), None
        if output.outside is None:
            return output, None
        instance = self._instance(node, interface)
        return Source(value=instance.values.get(output.outside, output.value)), instance.links.get(output.outside)

    def _slot(self, node: UiNode, slot: int) -> int:
        """The output that a link comes from: by its name, if the kind knows that, or else by its index."""
        kind, outputs = self.context.registry.get(node.type), node.outputs or ()
        by_name = kind.spec.slot(outputs[slot].name) if kind and 0 <= slot < len(outputs) else None
        return slot if by_name is None else by_name


def _outer_values(node: UiNode, interface: Interface) -> Iterable[tuple[int | None, Any]]:
    """The values set on a use of a subgraph, by the index of the input; inputs without one keep their inner value.

    Different editors wrote them in different orders. If their number fits none, they can't be told apart. Values by
    name come first here, so that those by position count where both are given.
    """
    named = node.widgets_values_named or {}
    by_name = [(interface.slots.get(name), value) for name, value in named.items()]
    if names := named_in_order(node):
        return [(interface.slots.get(name), value) for name, value in zip(names, node.values, strict=True)]
    shown, listed = node.promoted, [socket.name for socket in node.inputs or () if socket.widget]
    orders: tuple[list[int | None], ...] = (
        [
            interface.slots.get(name) if inner == OUTSIDE else interface.promoted.get((inner, name))
            for inner, name in shown
        ],
        list(interface.widgets),
        [interface.slots.get(name) for name in listed],
    )
    indices = next((order for order in orders if len(order) == len(node.values)), [])
    return [*by_name, *zip(indices, node.values, strict=False)]


def _with_own(node: UiNode, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A node's inputs, without defaults that nobody has changed, and with those that no widget holds."""
    is_default = {name for name, value in node.defaults.items() if as_constant(inputs.get(name)) == value}
    given = {name: value for name, value in inputs.items() if name not in is_default}
    return node.unheld | given


def _fit(one: Any, other: Any) -> bool:
    """Whether two types may be linked: "*" may with any, and "A,B" with either."""
    if "*" in (one, other) or one == other:
        return True
    if not (isinstance(one, str) and isinstance(other, str)):
        return False
    return not {*one.lower().split(",")}.isdisjoint(other.lower().split(","))


def _incoming(node: UiNode) -> int | None:
    """The link into a node that has one input."""
    return next((socket.link for socket in node.inputs or () if socket.link is not None), None)


def _duplicates(nodes: Iterable[UiNode]) -> Iterator[Problem]:
    seen = set[str]()
    for node in nodes:
        if node.key in seen:
            yield Problem("there are two nodes with this id", node.key)
        seen.add(node.key)
