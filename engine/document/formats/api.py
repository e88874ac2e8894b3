"""The API format, as other programs send it and embed it in the files they save."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, Union, get_args, get_origin

from engine.document.formats.ui import is_ui
from engine.document.formats.widgets import EDITOR_WIDGETS
from engine.document.workflow import NodeEntry, Workflow, as_constant, as_link
from engine.registry import Registry
from engine.spec import Input

IS_CHANGED = "is_changed"
"""Where other programs note that a node had changed in a run."""


def is_graph(data: Any) -> bool:
    """Whether JSON data, if they are a workflow, are a bare graph."""
    return isinstance(data, dict) and not (data.keys() & {"kinograph", "graph"} or is_ui(data))


def without_additions(data: Any, registry: Registry) -> Any:
    """JSON data without what other programs add to the nodes of a bare graph: whether they had changed in a run, and
    the values of widgets that editors add.
    """
    if not is_graph(data):
        return data
    return {node: _cleaned(entry, registry) if isinstance(entry, dict) else entry for node, entry in data.items()}


def _cleaned(entry: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    cleaned = {name: value for name, value in entry.items() if name != IS_CHANGED}
    kind, inputs = registry.get(str(cleaned.get("class_type"))), cleaned.get("inputs")
    if kind and isinstance(inputs, dict):
        added = {name for name, value in inputs.items() if name in EDITOR_WIDGETS and not as_link(value)}
        added -= set(kind.spec.inputs)
        cleaned["inputs"] = {name: value for name, value in inputs.items() if name not in added}
    return cleaned


def kinds_in(data: Any) -> set[str]:
    """The kinds of node that a bare graph names."""
    entries = data.values() if isinstance(data, dict) else ()
    kinds = (entry.get("class_type") for entry in entries if isinstance(entry, dict))
    return {kind for kind in kinds if isinstance(kind, str)}


def converted(workflow: Workflow, registry: Registry) -> Workflow:
    """A graph with numbers, texts and booleans converted to what its inputs take, as ComfyUI converts what it is sent.

    Values that can't be converted without loss are left for the check to report.
    """
    graph = {node: _converted(entry, registry) for node, entry in workflow.graph.items()}
    return workflow.model_copy(update={"graph": graph})


def _converted(entry: NodeEntry, registry: Registry) -> NodeEntry:
    if (kind := registry.get(entry.class_type)) is None:
        return entry
    sockets, today = kind.spec.inputs, kind.spec.changes.today
    inputs = {
        name: _convert(sockets[today(name)], value) if today(name) in sockets else value
        for name, value in entry.inputs.items()
    }
    return entry.model_copy(update={"inputs": inputs})


def _convert(socket: Input, value: Any) -> Any:
    members = get_args(socket.type) if get_origin(socket.type) is Union else (socket.type,)
    constant, wanted = as_constant(value), [member for member in members if member is not NoneType]
    convert = CONVERTED.get(wanted[0], {}).get(type(constant)) if len(wanted) == 1 and not socket.holds else None
    try:
        return convert(constant) if convert else value
    except (ValueError, OverflowError):
        return value


def _integer(number: float) -> int:
    if not number.is_integer():
        raise ValueError("not a whole number")
    return int(number)


def _finite(number: Any) -> float:
    if not math.isfinite(made := float(number)):
        raise ValueError("not a finite number")
    return made


CONVERTED: Mapping[type, Mapping[type, Callable[[Any], Any]]] = {
    int: {str: int, float: _integer, bool: int},
    float: {str: _finite, bool: float},
    str: {int: str, float: str},
    bool: {int: bool, float: bool},
}
"""By an input's type, the types that are converted to it. No text becomes a bool: "false" would be true."""
