"""A workflow → a file in the UI format, for ComfyUI's editor.

    {"version": 0.4, "generator": "kinograph",
     "nodes": [{"id": 3, "type": "Repeat", "pos": [40, 80], "widgets_values": ["ab", 2], …}], "links": […]}

Reading it gives the same graph. What the editor has no place for is among a node's `properties`, which it keeps:

    {"kinograph": {"defaults": {"times": 2}, "inputs": {"weights": [1, 2]}}}

are values of widgets that the workflow leaves out, for as long as nobody changes them, and constants that no widget
holds. Beside them is what the node does with lists whose items have failed in part, `"partial": "allow"`. A subgraph is
defined in the file; if one exposes what such a definition can't, all are inlined.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from itertools import count
from typing import Any, NamedTuple

from engine.document.formats.arranging import Box, arranged, color, extent, groups, notes
from engine.document.formats.layout import NOTES
from engine.document.formats.levels import MODES
from engine.document.formats.ui import GENERATOR, MAX_INTEGER, OWN, UiNode
from engine.document.formats.widgets import values
from engine.document.modes import mode_of
from engine.document.partial import on_nodes, partial_of
from engine.document.sockets import choices, has_control, has_widget, sockets, type_name, uploads
from engine.document.subgraphs import inlined
from engine.document.workflow import Link, NodeEntry, Workflow, as_constant, as_link, split_path
from engine.errors import WorkflowError
from engine.node import Node
from engine.registry import Registry
from engine.spec import Input

INPUT_NODE, OUTPUT_NODE = -10, -20
"""The ids of the nodes that stand for the outside within a subgraph."""
MODE_NUMBERS = {mode: number for number, mode in MODES.items()}
CONTROL, UPLOAD = ("control_after_generate", "fixed"), ("upload", "image")
"""The widgets that the editor adds after a seed, and to choose a file, with their values."""
NEUTRAL: Mapping[str, Any] = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}
"""What a widget without a value or a default shows."""
WIDTH, WIDE = 270, 400
"""Pixels of a node, and of one with a text of several lines."""
LINE, TEXT = 24, 100
"""Pixels of a socket or widget, and of such a text."""
MOST_NODES = 2000
"""Nodes of a workflow, those of its subgraphs included, that are written: a few hundred bytes each."""

Json = dict[str, Any]


def is_small(workflow: Workflow) -> bool:
    """Whether a workflow is small enough to be drawn in an editor."""
    return len(workflow.graph) + sum(len(part.graph) for part in workflow.subgraphs.values()) <= MOST_NODES


def to_ui(workflow: Workflow, registry: Registry) -> Json:
    """A workflow as JSON data in the UI format; its title, and the inputs that it exposes, have no place there.

    Raises:
        WorkflowError: a subgraph contains itself, or all of them inlined make too many nodes.
    """
    workflow = on_nodes(workflow)
    used = _inner_first(workflow)
    if not all(_can_be_defined(workflow.subgraphs[name]) for name in used):
        workflow, used = inlined(workflow, registry).workflow, ()
    writer = _Writer(workflow.subgraphs, registry)
    defined = [writer.definition(name) for name in used]
    graph = writer.graph(workflow)
    return {
        "generator": GENERATOR,
        "last_node_id": _last(graph.nodes),
        "last_link_id": next(writer.links) - 1,
        "nodes": graph.nodes,
        "links": [list(link.values()) for link in graph.links],
        "groups": groups(workflow.layout),
        **({"definitions": {"subgraphs": defined}} if defined else {}),
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _inner_first(workflow: Workflow) -> tuple[str, ...]:
    """The subgraphs that a workflow uses, nested ones before those that use them."""
    uses: dict[str, set[str]] = {}
    waiting = [workflow]
    while waiting:
        kinds = {entry.class_type for entry in waiting.pop().graph.values()}
        for name in sorted(kinds & workflow.subgraphs.keys() - uses.keys()):
            inner = workflow.subgraphs[name]
            uses[name] = {entry.class_type for entry in inner.graph.values()} & workflow.subgraphs.keys()
            waiting.append(inner)
    try:
        return tuple(TopologicalSorter(uses).static_order())
    except CycleError as error:
        raise WorkflowError(f"a subgraph contains itself: {' → '.join(error.args[1])}") from None


def _can_be_defined(subgraph: Workflow) -> bool:
    """Whether each input that a subgraph exposes leads to a socket of its own, and each output comes from a node."""
    targets = [split_path(path, subgraph.graph) for path in subgraph.inputs.values()]
    ends = [link.node for link in map(as_link, subgraph.outputs.values()) if link]
    if not {node for node, _ in targets} | {*ends} <= subgraph.graph.keys():
        return False
    linked = any(as_link(subgraph.graph[node].inputs.get(name)) for node, name in targets)
    return len({*targets}) == len(targets) and not linked


class _Slot(NamedTuple):
    """An input of a node."""

    name: str
    type: str = "*"
    has_widget: bool = False
    has_control: bool = False
    default: Any = None
    """What its widget shows if the workflow has no value."""


class _Graph(NamedTuple):
    """The nodes of one graph with its notes, its links, and where the nodes stand."""

    nodes: list[Json]
    links: list[Json]
    boxes: list[Box]


class _Writer:
    """Writes the graphs of a document.

    Args:
        subgraphs: its subgraphs, by name.
        registry: the kinds of node.
    """

    def __init__(self, subgraphs: Mapping[str, Workflow], registry: Registry) -> None:
        self.subgraphs = subgraphs
        self.registry = registry
        self.links = count(1)
        """The ids of links, of which a file has none twice."""
        self._slots: dict[str, list[_Slot]] = {}
        """The inputs of the subgraphs that have been written."""
        self._outputs: dict[str, list[tuple[str, str]]] = {}
        """Their outputs: names and types."""

    def graph(self, workflow: Workflow) -> _Graph:
        """One graph: the document's own, or a subgraph's, without the links from and to the outside."""
        boxes = arranged(workflow, {node: self._size(entry) for node, entry in workflow.graph.items()})
        nodes = {node: self._node(node, entry, boxes[node]) for node, entry in workflow.graph.items()}
        links: list[Json] = []
        for order, (node, entry) in enumerate(workflow.graph.items()):
            nodes[node] |= {"order": order} | _colors(color(workflow.layout, node))
            for index, slot in enumerate(nodes[node]["inputs"]):
                link = as_link(entry.inputs.get(slot["name"]))
                if link and link.node in nodes:
                    origin = self._index(workflow.graph[link.node], link.slot)
                    links.append(self._link(nodes[link.node], origin, nodes[node], index))
        listed = [*nodes.values()]
        listed += _notes(workflow.layout, listed, self.registry)
        return _Graph(listed, links, [*boxes.values()])

    def definition(self, name: str) -> Json:
        """A subgraph, as a file defines it; to be called for those that it uses before."""
        subgraph = self.subgraphs[name]
        ends = [(label, link) for label, end in subgraph.outputs.items() if (link := as_link(end))]
        self._slots[name] = [self._leads_to(subgraph, label, path) for label, path in subgraph.inputs.items()]
        self._outputs[name] = [(label, self._type(subgraph, link)) for label, link in ends]
        graph = self.graph(subgraph)
        at = {str(node["id"]): node for node in graph.nodes}
        before: Json = {"id": INPUT_NODE, "outputs": [_output(slot.name, slot.type) for slot in self._slots[name]]}
        behind: Json = {"id": OUTPUT_NODE, "inputs": [_input(_Slot(*output)) for output in self._outputs[name]]}
        for index, (slot, path) in enumerate(zip(self._slots[name], subgraph.inputs.values(), strict=True)):
            node, socket = split_path(path, subgraph.graph)
            graph.links.append(self._link(before, index, at[node], _place(at[node], slot._replace(name=socket))))
        for index, (_, link) in enumerate(ends):
            origin = self._index(subgraph.graph[link.node], link.slot)
            graph.links.append(self._link(at[link.node], origin, behind, index))
        last = {"lastGroupId": 0, "lastNodeId": _last(graph.nodes), "lastRerouteId": 0}
        around = extent(graph.boxes)
        return {
            "id": _uuid(name),
            "version": 1,
            "state": last | {"lastLinkId": max((link["id"] for link in graph.links), default=0)},
            "revision": 0,
            "config": {},
            "name": name,
            "inputNode": {"id": INPUT_NODE, "bounding": [around.x - 200, around.y, 120, 200]},
            "outputNode": {"id": OUTPUT_NODE, "bounding": [around.x + around.width + 80, around.y, 120, 200]},
            "inputs": [_boundary(f"{name}/inputs", slot, slot["links"]) for slot in before["outputs"]],
            "outputs": [_boundary(f"{name}/outputs", slot, [slot["link"]]) for slot in behind["inputs"]],
            "widgets": [],
            "nodes": graph.nodes,
            "groups": groups(subgraph.layout),
            "links": graph.links,
            "extra": {},
        }

    def _leads_to(self, subgraph: Workflow, label: str, path: str) -> _Slot:
        """An input that a subgraph exposes: like the one that it leads to, but without control of a seed."""
        node, socket = split_path(path, subgraph.graph)
        entry = subgraph.graph[node]
        slot = next((slot for slot in self._slots_of(entry) if slot.name == socket), _Slot(socket))
        shown = as_constant(entry.inputs.get(socket, slot.default))
        return slot._replace(name=label, has_control=False, default=shown)

    def _type(self, subgraph: Workflow, link: Link) -> str:
        """The type of what comes through a link."""
        entry = subgraph.graph[link.node]
        outputs, index = self._outputs_of(entry), self._index(entry, link.slot)
        return outputs[index][1] if index < len(outputs) else "*"

    def _slots_of(self, entry: NodeEntry) -> list[_Slot]:
        """A node's inputs in the editor's order: those without a widget first."""
        if entry.class_type in self.subgraphs:
            return sorted(self._slots[entry.class_type], key=lambda slot: slot.has_widget)
        if kind := self.registry.get(entry.class_type):
            return list(_slots(kind))
        slots = [_Slot(name, has_widget=as_link(value) is None) for name, value in entry.inputs.items()]
        return sorted(slots, key=lambda slot: slot.has_widget)

    def _outputs_of(self, entry: NodeEntry) -> list[tuple[str, str]]:
        """The names and types of a node's outputs; none for an unknown kind."""
        if entry.class_type in self.subgraphs:
            return self._outputs[entry.class_type]
        kind = self.registry.get(entry.class_type)
        return [(output.name, type_name(output.type)) for output in kind.spec.outputs] if kind else []

    def _index(self, entry: NodeEntry, slot: int | str) -> int:
        """The index of an output, given by index or by name."""
        if isinstance(slot, int):
            return max(slot, 0)
        names = [name for name, _ in self._outputs_of(entry)]
        return names.index(slot) if slot in names else 0

    def _node(self, node: str, entry: NodeEntry, box: Box) -> Json:
        slots, is_subgraph = self._slots_of(entry), entry.class_type in self.subgraphs
        shown, title = self._shown(entry, slots), entry.meta.get("title")
        written: Json = {
            "id": ui_id(node),
            "type": _uuid(entry.class_type) if is_subgraph else entry.class_type,
            **({"title": title} if isinstance(title, str) and title else {}),
            "pos": [box.x, box.y],
            "size": [box.width, box.height],
            "flags": {},
            "mode": MODE_NUMBERS.get(mode_of(entry), 0),
            "inputs": [_input(slot) for slot in slots if not slot.has_widget or as_link(entry.inputs.get(slot.name))],
            "outputs": [_output(*output) for output in self._outputs_of(entry)],
            "properties": {} if is_subgraph else {"Node name for S&R": entry.class_type},
            "widgets_values": [value for _, value in shown],
            "widgets_values_named": dict(shown),
        }
        return written | {"properties": written["properties"] | self._own(written, entry)}

    def _shown(self, entry: NodeEntry, slots: list[_Slot]) -> list[tuple[str, Any]]:
        """What a node's widgets show, in order, those that the editor adds included."""
        shown: list[tuple[str, Any]] = []
        for slot in slots:
            if slot.has_widget:
                value = entry.inputs.get(slot.name, slot.default)
                shown.append((slot.name, slot.default if as_link(value) else as_constant(value)))
                shown += [CONTROL] if slot.has_control else []
        kind = self.registry.get(entry.class_type)
        return shown + ([UPLOAD] if kind and uploads(kind) else [])

    def _own(self, written: Json, entry: NodeEntry) -> Json:
        """The property that holds what reading a node's widgets doesn't give."""
        if entry.class_type in self.subgraphs:
            slots = self._slots[entry.class_type]
            shown = {name: value for name, value in written["widgets_values_named"].items() if value is not None}
            read = {slot.name: shown[slot.name] for slot in slots if slot.name in shown}
        else:
            read = values(UiNode.model_validate(written), self.registry.get(entry.class_type))
        left_out = {name: as_constant(value) for name, value in read.items() if name not in entry.inputs}
        unheld = {name: value for name, value in entry.inputs.items() if not (name in read or as_link(value))}
        own: Json = ({"defaults": left_out} if left_out else {}) | ({"inputs": unheld} if unheld else {})
        own |= {"partial": partial} if (partial := partial_of(entry)) else {}
        return {OWN: own} if own else {}

    def _link(self, origin: Json, slot: int, target: Json, index: int) -> Json:
        """A link, which is noted at both of its ends."""
        outputs = origin["outputs"]
        while len(outputs) <= slot:  # of a node of an unknown kind
            outputs.append(_output(f"output {len(outputs)}", "*"))
        number = next(self.links)
        outputs[slot]["links"].append(number)
        target["inputs"][index]["link"] = number
        ends = {"origin_id": origin["id"], "origin_slot": slot, "target_id": target["id"], "target_slot": index}
        return {"id": number, **ends, "type": outputs[slot]["type"]}

    def _size(self, entry: NodeEntry) -> tuple[int, int]:
        """The width and height that a node needs, roughly."""
        kind, slots = self.registry.get(entry.class_type), self._slots_of(entry)
        texts = _texts(kind) if kind else 0
        plain = len([slot for slot in slots if not slot.has_widget])
        lines = max(plain, len(self._outputs_of(entry))) + len(slots) - plain
        return WIDE if texts else WIDTH, LINE * (lines + 1) + TEXT * texts


def ui_id(node: str) -> int | str:
    """A node's id as the UI format has it: a number if it is written like one."""
    number = int(node) if node.isascii() and node.isdigit() and len(node) <= len(str(MAX_INTEGER)) else -1
    return number if str(number) == node and number <= MAX_INTEGER else node


@lru_cache
def _slots(kind: type[Node]) -> tuple[_Slot, ...]:
    """The inputs of a kind, those without a widget first."""
    return tuple(map(_slot, sockets(kind)))


def _slot(socket: Input) -> _Slot:
    """An input as its kind describes it."""
    chosen, name, shown = choices(socket.type), type_name(socket.type), has_widget(socket)
    default = None if socket.required else socket.default
    if shown and default is None:
        default = chosen[0] if chosen else NEUTRAL[name]
    is_combo = shown and (chosen or socket.holds == "media")
    return _Slot(socket.name, "COMBO" if is_combo else name, shown, has_control(socket), default)


@lru_cache
def _texts(kind: type[Node]) -> int:
    """How many texts of several lines a kind has."""
    extras = (socket.field.json_schema_extra for socket in kind.spec.inputs.values())
    return sum(isinstance(extra, dict) and extra.get("widget") == "multiline" for extra in extras)


def _input(slot: _Slot) -> Json:
    widget = {"widget": {"name": slot.name}} if slot.has_widget else {}
    return {"name": slot.name, "type": slot.type, "link": None, **widget}


def _output(name: str, type: str) -> Json:
    return {"name": name, "type": type, "links": []}


def _place(node: Json, slot: _Slot) -> int:
    """The index of a node's socket, which is added if it is that of a widget, or of an unknown kind."""
    names = [socket["name"] for socket in node["inputs"]]
    if slot.name not in names:
        node["inputs"].append(_input(slot))
        return len(names)
    return names.index(slot.name)


def _boundary(path: str, slot: Json, links: list[int]) -> Json:
    """An input or output of a subgraph."""
    return {"id": _uuid(f"{path}/{slot['name']}"), "name": slot["name"], "type": slot["type"], "linkIds": links}


def _colors(color: str | None) -> Json:
    return {"color": color, "bgcolor": color} if color else {}


def _notes(layout: Any, nodes: list[Json], registry: Registry) -> list[Json]:
    """The notes of a layout, as nodes; none if kinds of node have their names."""
    kind = next((kind for kind in NOTES if kind not in registry), None)
    written, taken, free = list[Json](), {node["id"] for node in nodes}, count(_last(nodes) + 1)
    for name, text, box in notes(layout) if kind else ():
        key = ui_id(name)
        if not name or key in taken:
            key = next(number for number in free if number not in taken)
        taken.add(key)
        place: Json = {"pos": [box.x, box.y], "size": [box.width, box.height], "flags": {}, "mode": 0}
        written.append({"id": key, "type": kind, **place, "order": 0, "properties": {}, "widgets_values": [text]})
    return written


def _last(nodes: list[Json]) -> int:
    """The highest id that is a number."""
    return max((node["id"] for node in nodes if isinstance(node["id"], int)), default=0)


def _uuid(name: str) -> str:
    """An id that is always the same for a name."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))
