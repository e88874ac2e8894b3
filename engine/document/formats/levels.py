"""One graph of a file, its own or a subgraph's: its nodes, and where their links come from.

Nodes that do nothing but lead links about (reroutes, primitives, what is set here and got there) are left out, and
links lead to what is behind them; so it is with a subgraph where its output is its own input. Links that come from
nowhere are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from engine.document.formats.elsewhere import EXTENSION
from engine.document.formats.layout import NOTES, layout
from engine.document.formats.ui import BYPASSED, MUTED, UiGraph, UiNode, UiSubgraph
from engine.document.formats.widgets import values
from engine.document.workflow import Link, NodeEntry, as_json
from engine.errors import Problem, WorkflowError
from engine.registry import Registry

REROUTES = ("Reroute", "Reroute (rgthree)", "SetNode")
"""Kinds that hand on what comes in."""
GETTER = "GetNode"
PRIMITIVES = (
    *("PrimitiveNode", "PrimitiveInt", "PrimitiveFloat", "PrimitiveBoolean"),
    *("PrimitiveString", "PrimitiveStringMultiline"),
)
"""Kinds that give what is written in them, unless something comes in."""
MODES = {MUTED: "mute", BYPASSED: "bypass"}
OUTSIDE = "-1"
MOST = 1_000_000
"""How many inputs all may come to: one that leads to several nodes is several, and subgraphs may lie in each other."""

Spot = tuple[str, str]
"""A node and one of its inputs."""


class _Nothing:
    """What stands where there is no constant, None being one."""


NOTHING = _Nothing()


class Source(NamedTuple):
    """Where a link comes from: an output, else what is given from outside, else a constant, else nowhere."""

    link: Link | None = None
    outside: int | None = None
    """The place of the input, among those of the subgraph."""
    value: Any = NOTHING
    """The constant, or what holds if nothing is given from outside."""

    def or_else(self, value: Any) -> Source:
        """The same with a constant for where it has nothing."""
        return self if self.link or self.value is not NOTHING else self._replace(value=value)


class Face(NamedTuple):
    """A subgraph that was read, as those see it that use it."""

    name: str
    slots: Mapping[str, int]
    """The places of its inputs, and of widgets that it shows, by what the file calls them."""
    widgets: tuple[int, ...]
    """Those that are written on its outside, as well as linked."""
    promoted: Mapping[Spot, int]
    """The places of inputs that lead to widgets within, by these."""
    exposed: tuple[tuple[str, ...], ...]
    """The names under which the workflow exposes each: several, if it leads to several nodes."""
    outputs: tuple[str | Source, ...]
    """The names of its outputs, or what these are if it is no node's."""


class Known:
    """What is known when a graph is read: the kinds of node, and the subgraphs that were read before."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.faces: dict[str, Face] = {}
        """By their ids."""
        self._inputs = 0

    def count(self) -> None:
        """Count an input; raises `WorkflowError` if there are too many."""
        self._inputs += 1
        if self._inputs > MOST:
            raise WorkflowError(f"with its subgraphs the workflow comes to more than {MOST:,} inputs")


class _Use(NamedTuple):
    """What a subgraph is given where it is used, by the places of its inputs."""

    values: Mapping[int, Any]
    links: Mapping[int, int]


class Level:
    """A graph that is being read: the file's own, or that of a subgraph.

    Args:
        known: the kinds of node, and the subgraphs that were read before.
        graph: the graph.
        promoted: the places of inputs that lead to widgets within, by these.
    """

    def __init__(self, known: Known, graph: UiGraph, promoted: Mapping[Spot, int]) -> None:
        self.known = known
        self.graph = graph
        self.promoted = dict(promoted)
        self.nodes = {node.key: node for node in graph.nodes}
        if len(self.nodes) < len(graph.nodes):
            raise WorkflowError.of(_doubles(graph.nodes))
        self.links = {link.id: link for link in graph.links or () if link}
        self.fed: dict[int, list[Spot]] = {}
        """What is given from outside leads to, by the place of the input."""
        self._sources: dict[int, Source] = {}
        self._written = {node.key: node for node in graph.nodes if not self._is_virtual(node)}
        self._set = {node.value: node for node in graph.nodes if node.type == "SetNode" and isinstance(node.value, str)}
        self._shown = {node: place for (node, _), place in reversed(self.promoted.items())}
        self._uses: dict[str, _Use] = {}

    def layout(self) -> dict[str, Any]:
        return layout(self.graph, self._written.values())

    def written(self) -> dict[str, NodeEntry]:
        """The nodes, as a workflow has them."""
        entries = {key: self._entry(node) for key, node in self._written.items()}
        for (key, name), place in list(self.promoted.items()):
            if node := self.nodes.get(key):
                self._promote(node, entries.get(key), name, place)
        return entries

    def widgets(self) -> tuple[int, ...]:
        """The places of the inputs from outside that lead to a widget."""
        subgraph, found = self.graph, set[int]()
        assert isinstance(subgraph, UiSubgraph)
        for link in self.links.values():
            target = self.nodes.get(str(link.target_id))
            sockets = target.inputs or () if target and link.origin_id == subgraph.input_end.id else ()
            if 0 <= link.target_slot < len(sockets) and sockets[link.target_slot].widget:
                found.add(link.origin_slot)
        return tuple(sorted(found))

    def given(self) -> list[Source]:
        """Where a subgraph's outputs come from."""
        subgraph = self.graph
        assert isinstance(subgraph, UiSubgraph)
        ends = {link.target_slot: link.id for link in self.links.values() if link.target_id == subgraph.output_end.id}
        return [self._source(ends.get(place)) for place in range(len(subgraph.outputs or ()))]

    def _is_virtual(self, node: UiNode) -> bool:
        known = node.type in self.known.registry
        return not known and node.type in (*REROUTES, *PRIMITIVES, *NOTES, GETTER)

    def _entry(self, node: UiNode) -> NodeEntry:
        face = self.known.faces.get(node.type)
        inputs = self._has(node, face) if face else self._takes(node)
        meta = {"title": node.title} if node.title and node.title != node.type else {}
        meta |= {"mode": MODES[node.mode]} if node.mode in MODES else {}
        if node.extension and not face and node.type not in self.known.registry:
            meta[EXTENSION] = node.extension
        return NodeEntry(class_type=face.name if face else node.type, inputs=inputs, _meta=meta)

    def _takes(self, node: UiNode) -> dict[str, Any]:
        """What an ordinary node is given."""
        inputs = values(node, self.known.registry.get(node.type))
        for socket in node.inputs or ():
            self._feed(inputs, (node.key, socket.name), self._source(socket.link))
        return inputs

    def _has(self, node: UiNode, face: Face) -> dict[str, Any]:
        """What a subgraph is given where it is used."""
        inputs: dict[str, Any] = {}
        use = self._use(node, face)
        given = [(place, Source(value=value)) for place, value in use.values.items()]
        given += [(place, self._source(link)) for place, link in use.links.items()]
        for place, source in given:
            for name in face.exposed[place]:
                self._feed(inputs, (node.key, name), source)
        return inputs

    def _use(self, node: UiNode, face: Face) -> _Use:
        if node.key not in self._uses:
            named = ((face.slots.get(socket.name), socket.link) for socket in node.inputs or ())
            links = {place: link for place, link in named if place is not None and link is not None}
            values = {
                place: value
                for place, value in _written_outside(node, face)
                if place is not None and 0 <= place < len(face.exposed) and value is not None
            }
            self._uses[node.key] = _Use(values, links)
        return self._uses[node.key]

    def _feed(self, inputs: dict[str, Any], spot: Spot, source: Source) -> None:
        """Give an input what it comes from, or note that this is for those outside to say."""
        self.known.count()
        if source.link:
            inputs[spot[1]] = list(source.link)
            return
        if source.value is not NOTHING:
            inputs[spot[1]] = as_json(source.value)
        if source.outside is not None and "." not in spot[1]:  # no kind here has such inputs, nor could they be exposed
            self.fed.setdefault(source.outside, []).append(spot)

    def _promote(self, node: UiNode, entry: NodeEntry | None, name: str, place: int) -> None:
        """Have an input from outside lead to a widget, unless that is linked."""
        named = (
            socket.link for socket in node.inputs or () if name in (socket.name, socket.widget and socket.widget.name)
        )
        source = self._source(next(named, None) if entry else _incoming(node))
        if source.outside is not None:
            self.promoted[node.key, name] = source.outside
        elif entry and not source.link and source.value is NOTHING:
            self.fed[place] = [(node.key, inner) for inner in self._inner_names(node, entry, name)]

    def _inner_names(self, node: UiNode, entry: NodeEntry, name: str) -> Iterable[str]:
        """What a widget of a node is called in the workflow."""
        if face := self.known.faces.get(node.type):
            place = face.slots.get(name)
            return face.exposed[place] if place is not None else ()
        kind = self.known.registry.get(node.type)
        return [name] if name in entry.inputs or (kind and name in kind.spec.inputs) else ()

    def _source(self, link: int | None) -> Source:
        """Where a link comes from, past all that only leads links about."""
        passed: list[tuple[int, Any]] = []
        found = Source()
        while link is not None and link not in self._sources:
            self._sources[link] = Source()  # for one that leads to itself
            found, following = self._step(link)
            passed.append((link, found.value))
            link = following
        if link is not None:
            found = self._sources[link]
        for each, value in reversed(passed):
            found = self._sources[each] = found.or_else(value)
        return found

    def _step(self, link: int) -> tuple[Source, int | None]:
        """Where a link comes from, and the link to go on with if it is only led about there; that goes before."""
        at = self.links.get(link)
        if at is None:
            return Source(), None
        if isinstance(self.graph, UiSubgraph) and at.origin_id == self.graph.input_end.id:
            return Source(outside=at.origin_slot), None
        node = self.nodes.get(str(at.origin_id))
        if node is None or node.type in NOTES:
            return Source(), None
        if self._is_virtual(node):
            return self._led(node)
        if face := self.known.faces.get(node.type):
            return self._through(node, face, at.origin_slot)
        return Source(Link(node.key, self._slot(node, at.origin_slot))), None

    def _led(self, node: UiNode) -> tuple[Source, int | None]:
        if node.type == GETTER:
            setter = self._set.get(node.value) if isinstance(node.value, str) else None
            return Source(), _incoming(setter) if setter else None
        following = _incoming(node)
        if node.type in REROUTES:
            return Source(), following
        shown = self._shown.get(node.key) if following is None else None
        return Source(outside=shown, value=NOTHING if node.value is None else node.value), following

    def _through(self, node: UiNode, face: Face, slot: int) -> tuple[Source, int | None]:
        """What an output of a subgraph is, which may be one of its inputs."""
        output = face.outputs[slot] if 0 <= slot < len(face.outputs) else Source()
        if isinstance(output, str):
            return Source(Link(node.key, output)), None
        if output.outside is None:
            return output, None
        use = self._use(node, face)
        return Source(value=use.values.get(output.outside, output.value)), use.links.get(output.outside)

    def _slot(self, node: UiNode, slot: int) -> int:
        """The output that a link comes from: by its name, if the kind knows that, or else by its place."""
        kind, outputs = self.known.registry.get(node.type), node.outputs or ()
        told = kind.spec.slot(outputs[slot].name) if kind and 0 <= slot < len(outputs) else None
        return slot if told is None else told


def _written_outside(node: UiNode, face: Face) -> Iterable[tuple[int | None, Any]]:
    """The values that are written on the outside of a subgraph, with their places; else what is written within holds.

    Several editors wrote them in several ways. Where their number fits none, there is no telling which is which.
    """
    if named := node.widgets_values_named:
        return [(face.slots.get(name), value) for name, value in named.items()]
    shown, listed = node.promoted, [socket.name for socket in node.inputs or () if socket.widget]
    ways: tuple[list[int | None], ...] = (
        [face.slots.get(name) if inner == OUTSIDE else face.promoted.get((inner, name)) for inner, name in shown],
        list(face.widgets),
        [face.slots.get(name) for name in listed],
    )
    places = next((way for way in ways if len(way) == len(node.values)), [])
    return zip(places, node.values, strict=False)


def _incoming(node: UiNode) -> int | None:
    """The link that comes into a node of one input."""
    return next((socket.link for socket in node.inputs or () if socket.link is not None), None)


def _doubles(nodes: Iterable[UiNode]) -> Iterator[Problem]:
    seen = set[str]()
    for node in nodes:
        if node.key in seen:
            yield Problem("there are two nodes of this id", node.key)
        seen.add(node.key)
