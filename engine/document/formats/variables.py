"""Variables (SetNode, GetNode) that are set outside of the subgraph that gets them.

Such a variable becomes one more input of the subgraph, and of those around it, up to the graph where it is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import TypeVar

from engine.document.formats.ui import UiGraph, UiLink, UiNode, UiSocket, UiSubgraph

SETTER, GETTER = "SetNode", "GetNode"
VARIABLE = "\0"
"""Begins the name of an input that stands for a variable."""

G = TypeVar("G", bound=UiGraph)


def with_variables(graph: UiGraph, subgraphs: Mapping[str, UiSubgraph]) -> tuple[UiGraph, Mapping[str, UiSubgraph]]:
    """A graph and the subgraphs, by id, with the variables that they get from outside as inputs."""
    known = {name for level in (graph, *subgraphs.values()) for name in _named(level, SETTER)}
    needed: dict[str, set[str]] = {key: set() for key in subgraphs}
    growing = True
    while growing:  # inner subgraphs may need what is set further out
        growing = False
        for key, level in subgraphs.items():
            inner = {name for node in level.nodes for name in needed.get(node.type, ())}
            names = (_named(level, GETTER).keys() | inner) & known - _named(level, SETTER).keys()
            growing = growing or names > needed[key]
            needed[key] = names
    if not any(needed.values()):
        return graph, subgraphs
    given = {key: _with_inputs(level, sorted(needed[key])) for key, level in subgraphs.items()}
    return _linked(graph, {}, needed), {key: _linked(level, _places(level), needed) for key, level in given.items()}


def _named(level: UiGraph, kind: str) -> dict[str, UiNode]:
    """The setters, or getters, by the names of their variables."""
    return {node.value: node for node in level.nodes if node.type == kind and isinstance(node.value, str)}


def _with_inputs(level: UiSubgraph, names: list[str]) -> UiSubgraph:
    sockets = [UiSocket(name=f"{VARIABLE}{name}", label=name, type="*") for name in names]
    return level.model_copy(update={"inputs": [*(level.inputs or ()), *sockets]})


def _places(level: UiSubgraph) -> dict[str, int]:
    """The indices of the inputs that stand for variables, by variable."""
    sockets = enumerate(level.inputs or ())
    return {socket.name.removeprefix(VARIABLE): index for index, socket in sockets if socket.name.startswith(VARIABLE)}


def _linked(level: G, places: Mapping[str, int], needed: Mapping[str, set[str]]) -> G:
    """A graph whose getters of outer variables, and the subgraphs that it uses, are linked to where these come from."""
    getters = {str(node.id): places[node.value] for node in level.nodes if node.type == GETTER and node.value in places}
    outside = level.input_boundary.id if isinstance(level, UiSubgraph) else None
    links = [
        link.model_copy(update={"origin_id": outside, "origin_slot": getters[str(link.origin_id)]})
        if link and outside is not None and str(link.origin_id) in getters
        else link
        for link in level.links or ()
    ]
    by_id = {link.id: link for link in links if link}
    free = count(max(by_id, default=0) + 1)
    incoming = {name: _incoming(node) for name, node in _named(level, SETTER).items()}
    setters = {name: by_id[link] for name, link in incoming.items() if link in by_id}

    def given(node: UiNode) -> UiNode:
        sockets = [*(node.inputs or ())]
        for name in sorted(needed.get(node.type, ())):
            if name in setters:
                origin: tuple[int | str, int] = (setters[name].origin_id, setters[name].origin_slot)
            elif name in places and outside is not None:
                origin = (outside, places[name])
            else:
                continue
            number = next(free)
            ends = {"origin_id": origin[0], "origin_slot": origin[1], "target_id": node.id, "target_slot": len(sockets)}
            links.append(UiLink.model_validate({"id": number, **ends}))
            sockets.append(UiSocket(name=f"{VARIABLE}{name}", type="*", link=number))
        return node.model_copy(update={"inputs": sockets})

    nodes = [given(node) if needed.get(node.type) else node for node in level.nodes]
    return level.model_copy(update={"nodes": nodes, "links": links})


def _incoming(setter: UiNode) -> int | None:
    return next((socket.link for socket in setter.inputs or () if socket.link is not None), None)
