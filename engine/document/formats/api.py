"""The API format, as other programs send it and leave it in the files they save."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, Union, get_args, get_origin

from engine.document.formats.ui import is_ui
from engine.document.formats.widgets import BESIDE
from engine.document.workflow import NodeEntry, Workflow, as_constant, as_link
from engine.node import Input
from engine.registry import Registry

TRACE = "is_changed"


def is_graph(data: Any) -> bool:
    """Whether JSON data, if they are a workflow, are a bare graph."""
    return isinstance(data, dict) and not (data.keys() & {"kinograph", "graph"} or is_ui(data))


def without_traces(data: Any, registry: Registry) -> Any:
    """JSON data without what others leave in the nodes of a bare graph: whether they had changed in a run, and what
    belongs to widgets that editors add.
    """
    if not is_graph(data):
        return data
    return {node: _own(entry, registry) if isinstance(entry, dict) else entry for node, entry in data.items()}


def _own(entry: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    own = {name: value for name, value in entry.items() if name != TRACE}
    kind, inputs = registry.get(str(own.get("class_type"))), own.get("inputs")
    if kind and isinstance(inputs, dict):
        beside = {name for name, value in inputs.items() if name in BESIDE and not as_link(value)} - {*kind.spec.inputs}
        own["inputs"] = {name: value for name, value in inputs.items() if name not in beside}
    return own


def kinds_in(data: Any) -> set[str]:
    """The kinds of node that a bare graph names."""
    entries = data.values() if isinstance(data, dict) else ()
    kinds = (entry.get("class_type") for entry in entries if isinstance(entry, dict))
    return {kind for kind in kinds if isinstance(kind, str)}


def converted(workflow: Workflow, registry: Registry) -> Workflow:
    """A graph with numbers, texts and truth values turned into what its inputs take, as ComfyUI turns what it is sent.

    What can't be, or not without loss, stays for the check to tell.
    """
    graph = {node: _converted(entry, registry) for node, entry in workflow.graph.items()}
    return workflow.model_copy(update={"graph": graph})


def _converted(entry: NodeEntry, registry: Registry) -> NodeEntry:
    if (kind := registry.get(entry.class_type)) is None:
        return entry
    sockets, today = kind.spec.inputs, kind.spec.changes.today
    inputs = {
        name: _taken(sockets[today(name)], value) if today(name) in sockets else value
        for name, value in entry.inputs.items()
    }
    return entry.model_copy(update={"inputs": inputs})


def _taken(socket: Input, value: Any) -> Any:
    members = get_args(socket.type) if get_origin(socket.type) is Union else (socket.type,)
    constant, wanted = as_constant(value), [member for member in members if member is not NoneType]
    convert = CONVERTED.get(wanted[0], {}).get(type(constant)) if len(wanted) == 1 and not socket.holds else None
    try:
        return convert(constant) if convert else value
    except (ValueError, OverflowError):
        return value


def _whole(number: float) -> int:
    if not number.is_integer():
        raise ValueError("it would be another number")
    return int(number)


def _finite(number: Any) -> float:
    if not math.isfinite(made := float(number)):
        raise ValueError("JSON has no word for it")
    return made


CONVERTED: Mapping[type, Mapping[type, Callable[[Any], Any]]] = {
    int: {str: int, float: _whole, bool: int},
    float: {str: _finite, bool: float},
    str: {int: str, float: str},
    bool: {int: bool, float: bool},
}
"""By what an input takes, what is turned into it. No text becomes a truth value: "false" would be true."""
