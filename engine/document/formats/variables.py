"""Variables (SetNode, GetNode), which carry links by name, as the extension KJNodes for ComfyUI has them.

One that is set in a graph holds there and in the subgraphs within: the innermost counts, and of several in one graph
the first. It becomes one more input of the subgraph that gets it from outside, and of those around it, up to the graph
where it is set.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from itertools import count
from typing import TypeVar

from engine.document.formats.ui import BYPASSED, MUTED, UiGraph, UiLink, UiNode, UiSocket, UiSubgraph
from engine.errors import Problem

SETTER, GETTER = "SetNode", "GetNode"
VARIABLE = "\0"
"""Begins the name of an input that stands for a variable."""

G = TypeVar("G", bound=UiGraph)


def with_variables(graph: UiGraph, subgraphs: Mapping[str, UiSubgraph]) -> tuple[UiGraph, Mapping[str, UiSubgraph]]:
    """A graph and the subgraphs, by id, with the variables that they get from outside as inputs."""
    needed = _needed(graph, subgraphs)
    if not any(needed.values()):
        return graph, subgraphs
    given = {key: _with_inputs(level, sorted(needed[key])) for key, level in subgraphs.items()}
    return _linked(graph, {}, needed), {key: _linked(level, _places(level), needed) for key, level in given.items()}


def _needed(graph: UiGraph, subgraphs: Mapping[str, UiSubgraph]) -> dict[str, set[str]]:
    """The variables, by subgraph, that it gets from outside for itself or for those within, if anything sets them."""
    own = {key: setters(level).keys() for key, level in subgraphs.items()}
    known = setters(graph).keys() | set[str]().union(*own.values())
    needed = {key: getters(level) & known - own[key] for key, level in subgraphs.items()}
    users: dict[str, set[str]] = {key: set() for key in subgraphs}
    for key, level in subgraphs.items():
        for node in level.nodes:
            if node.type in users:
                users[node.type].add(key)
    waiting = [key for key in subgraphs if needed[key]]
    while waiting:
        inner = waiting.pop()
        for user in users[inner]:
            if more := needed[inner] - own[user] - needed[user]:
                needed[user] |= more
                waiting.append(user)
    return needed


def unset(graph: UiGraph, subgraphs: Mapping[str, UiSubgraph]) -> Iterator[Problem]:
    """The variables that a graph, or one of these subgraphs, gets though nothing sets them there or further out.

    Args:
        graph: a file's graph, as `with_variables` returns it.
        subgraphs: its subgraphs, likewise.
    """
    own = {key: setters(level).keys() for key, level in subgraphs.items()}
    asked = {key: _places(level).keys() for key, level in subgraphs.items()}
    inside = {name: subgraphs[key].name for key in reversed(own) for name in own[key]}
    for name in sorted(_linked_getters(graph) - setters(graph).keys()):
        yield _unset(name, graph, inside.get(name))
    for key, level in subgraphs.items():
        for name in sorted(_linked_getters(level) - own[key] - asked[key]):
            yield _unset(name, level, inside.get(name))
    for each in (graph, *subgraphs.values()):
        for node in each.nodes:
            given = {socket.name.removeprefix(VARIABLE) for socket in node.inputs or () if socket.link is not None}
            for name in sorted(asked.get(node.type, set()) - given):
                yield _unset(name, subgraphs[node.type], inside.get(name))


def _unset(name: str, level: UiGraph, inside: str | None) -> Problem:
    """That a level gets a variable in vain; `inside` is the first subgraph that sets it."""
    where = f"in the subgraph '{level.name}': " if isinstance(level, UiSubgraph) else ""
    hint = f"the subgraph '{inside}' sets it, but only for itself and what is in it" if inside else None
    return Problem(f"{where}the variable '{name}' is left out: nothing sets it", hint=hint)


def _linked_getters(level: UiGraph) -> set[str]:
    """The variables that a graph gets and uses."""
    used = {str(link.origin_id) for link in level.links or () if link}
    return getters(level, used)


def setters(level: UiGraph) -> dict[str, UiNode]:
    """The nodes that set a graph's variables, by the names of these."""
    named = ((node.value, node) for node in reversed(level.nodes) if node.type == SETTER)
    return {name: node for name, node in named if isinstance(name, str) and name}


def getters(level: UiGraph, among: Container[str] | None = None) -> set[str]:
    """The variables that a graph gets; a muted or bypassed node gets none."""
    found = (node for node in level.nodes if is_getter(node) and (among is None or node.key in among))
    return {node.value for node in found if isinstance(node.value, str) and node.value}


def is_getter(node: UiNode) -> bool:
    return node.type == GETTER and node.mode not in (MUTED, BYPASSED)


def _with_inputs(level: UiSubgraph, names: list[str]) -> UiSubgraph:
    sockets = [UiSocket(name=f"{VARIABLE}{name}", label=name, type="*") for name in names]
    return level.model_copy(update={"inputs": [*(level.inputs or ()), *sockets]})


def _places(level: UiSubgraph) -> dict[str, int]:
    """The indices of the inputs that stand for variables, by variable."""
    sockets = enumerate(level.inputs or ())
    return {socket.name.removeprefix(VARIABLE): index for index, socket in sockets if socket.name.startswith(VARIABLE)}


def _linked(level: G, places: Mapping[str, int], needed: Mapping[str, set[str]]) -> G:
    """A graph whose getters of outer variables, and the subgraphs that it uses, are linked to where these come from."""
    outer = {node.key: places[node.value] for node in level.nodes if is_getter(node) and node.value in places}
    outside = level.input_boundary.id if isinstance(level, UiSubgraph) else None
    links = [
        link.model_copy(update={"origin_id": outside, "origin_slot": outer[str(link.origin_id)]})
        if link and outside is not None and str(link.origin_id) in outer
        else link
        for link in level.links or ()
    ]
    by_id = {link.id: link for link in links if link}
    free = count(max(by_id, default=0) + 1)
    incoming = {name: _incoming(node) for name, node in setters(level).items()}
    inner = {name: by_id[link] for name, link in incoming.items() if link in by_id}

    def given(node: UiNode) -> UiNode:
        sockets = [*(node.inputs or ())]
        for name in sorted(needed.get(node.type, ())):
            if name in inner:
                origin: tuple[int | str, int] = (inner[name].origin_id, inner[name].origin_slot)
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
