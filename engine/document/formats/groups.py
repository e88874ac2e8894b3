"""Group nodes, which ComfyUI's editor had before subgraphs: a node `workflow>Faces` stands for several nodes.

    "extra": {"groupNodes": {"Faces": {"nodes": [{"type": "Draw", "index": 0, …}, …],
                                       "links": [[0, 0, 1, 0, 3, "IMAGE"]], "external": [[0, 0, "IMAGE"]]}}}

Nodes are named by their index. The group has the inputs that no link within it leads to, the outputs that no link
within it comes from, unless they are external too, and the widgets of all its nodes. A group node `3` becomes the nodes
`3:0`, `3:1`… One whose values can't be told apart stays as it is, for the check to report, and so does a bypassed one,
which passes on its links as any node does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from pydantic import ValidationError

from engine.document.formats.ui import BYPASSED, MUTED, UiGraph, UiLink, UiNode, UiSocket
from engine.document.formats.variables import G

PREFIXES = ("workflow>", "workflow/")
MOST_NODES = 20_000
"""Nodes that the group nodes of a file may stand for; if they are more, all stay as they are."""


class Group:
    """A kind of group node, as a file defines it.

    Raises:
        ValueError: it is malformed.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.nodes = [UiNode.model_validate({**node, "id": index}) for index, node in enumerate(data["nodes"])]
        rows = [row for row in data.get("links") or () if row[0] is not None]
        if not all(type(place) is int and 0 <= place < MOST_NODES for row in rows for place in row[:4]):
            raise ValueError("a link is malformed")
        self.links = {(row[2], row[3]): (row[0], row[1]) for row in rows}
        """Where each input that is linked within the group comes from: nodes and slots."""
        external = {(row[0], row[1]) for row in data.get("external") or () if type(row[0]) is int}
        inside = {*self.links.values()} - external  # older editors write nodes out, and read no more than indices
        config = data.get("config") or {}
        self.inputs = [
            (index, slot)
            for index, node in enumerate(self.nodes)
            for slot, socket in enumerate(node.inputs or ())
            if (index, slot) not in self.links
            and not socket.widget
            and _shown(config, index, "input", socket.name, True)
        ]
        self.outputs = [
            (index, slot)
            for index, node in enumerate(self.nodes)
            for slot in range(len(node.outputs or ()))
            if _shown(config, index, "output", str(slot), (index, slot) not in inside)
        ]
        if not all(0 <= index < len(self.nodes) for pair in self.links.items() for index, _ in pair):
            raise ValueError("a link leads to no node")


def _shown(config: Mapping[str, Any], index: int, side: str, name: str, otherwise: bool) -> bool:
    """Whether the group shows a socket: as its file says, or else as it would by itself."""
    found = ((config.get(str(index)) or {}).get(side) or {}).get(name) or {}
    return bool(found.get("visible", otherwise))


def groups_in(data: Mapping[str, Any]) -> dict[str, Group]:
    """The kinds of group node that a file defines, by their types; malformed ones are left out."""
    extra = data.get("extra")
    defined = extra.get("groupNodes") if isinstance(extra, dict) else None
    groups: dict[str, Group] = {}
    for name, definition in defined.items() if isinstance(defined, dict) else ():
        try:
            group = Group(definition)
        except (ValidationError, LookupError, TypeError, ValueError, AttributeError):
            continue
        groups |= {f"{prefix}{name}": group for prefix in PREFIXES}
    return groups


def nodes_within(level: UiGraph, groups: Mapping[str, Group]) -> int:
    """How many nodes the group nodes of a graph stand for."""
    return sum(len(groups[node.type].nodes) for node in level.nodes if node.type in groups)


def without_groups(level: G, groups: Mapping[str, Group]) -> G:
    """A graph with the nodes that its group nodes stand for in their place."""
    known = [node for node in level.nodes if node.type in groups and node.mode != BYPASSED]
    found = {node.key: node for node in known if _fits(node, groups[node.type])}
    if not found:
        return level
    links = [_from_within(link, found, groups) if link else link for link in level.links or ()]
    free = count(max((link.id for link in links if link), default=0) + 1)
    nodes: list[UiNode] = []
    for node in level.nodes:
        if str(node.id) in found:
            nodes += _expanded(node, groups[node.type], links, free)
        else:
            nodes.append(node)
    return level.model_copy(update={"nodes": nodes, "links": links})


def _fits(node: UiNode, group: Group) -> bool:
    """Whether a group node has a value for each of its nodes' widgets, and its sockets are the group's."""
    plain = [socket for socket in node.inputs or () if not socket.widget]
    linked = [socket for socket in node.inputs or () if socket.widget and socket.link is not None]
    counts = [len(inner.values) for inner in group.nodes]
    return len(plain) == len(group.inputs) and not linked and len(node.values) in (0, sum(counts))


def _from_within(link: UiLink, found: Mapping[str, UiNode], groups: Mapping[str, Group]) -> UiLink:
    """A link, from a node within if it comes from a group node."""
    node = found.get(str(link.origin_id))
    outputs = groups[node.type].outputs if node else []
    if node is None or not 0 <= link.origin_slot < len(outputs):
        return link
    index, slot = outputs[link.origin_slot]
    return link.model_copy(update={"origin_id": f"{node.key}:{index}", "origin_slot": slot})


def _expanded(node: UiNode, group: Group, links: list[UiLink | None], free: Iterator[int]) -> Iterator[UiNode]:
    """The nodes that a group node stands for; the links between them are added to `links`."""
    plain = [socket.link for socket in node.inputs or () if not socket.widget]
    incoming: dict[tuple[int, int], int | None] = dict(zip(group.inputs, plain, strict=True))
    for (target, at), (origin, slot) in group.links.items():
        number = next(free)
        ends = {"origin_id": f"{node.key}:{origin}", "target_id": f"{node.key}:{target}"}
        links.append(UiLink.model_validate({"id": number, **ends, "origin_slot": slot, "target_slot": at}))
        incoming[target, at] = number
    values = iter(node.values)
    for index, inner in enumerate(group.nodes):
        own = [next(values) for _ in inner.values] if node.values else inner.values
        sockets = [_linked(socket, incoming.get((index, slot))) for slot, socket in enumerate(inner.inputs or ())]
        changed: dict[str, Any] = {"id": f"{node.key}:{index}", "inputs": sockets, "mode": node.mode or inner.mode}
        if isinstance(inner.widgets_values, list):
            changed["widgets_values"] = own
        if inner.mode == MUTED:
            changed["mode"] = MUTED
        yield inner.model_copy(update=changed)


def _linked(socket: UiSocket, link: int | None) -> UiSocket:
    return socket.model_copy(update={"link": link})
