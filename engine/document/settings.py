"""Giving the inputs of a workflow other values, as people write them on a command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.document.subgraphs import exposed, inlined
from engine.document.workflow import Workflow
from engine.errors import UsageError, naming, suggestion
from engine.node import fits
from engine.registry import Registry


def with_setting(
    workflow: Workflow, registry: Registry, setting: str, option: str = "--set", *, from_here: bool = True
) -> Workflow:
    """The workflow with one input changed.

    Args:
        workflow: the workflow.
        registry: the kinds of node, which tell what an input takes.
        setting: `node.input=value`, or `name=value` for a name that the workflow exposes. The value is JSON, unless the
            input takes a text or the value is not JSON.
        option: what it was given with, for the message.
        from_here: whether a file is sought where people are, before the workflow's folder.

    Raises:
        UsageError: the workflow has no such input.
    """
    name, equals, text = setting.partition("=")
    if not equals:
        raise UsageError(f"{option} {setting}: there is no '='", hint=f"write {option} node.input=value")
    node, _, place = workflow.inputs.get(name, name).rpartition(".")
    inner = exposed(workflow, node, place)
    entry = inlined(workflow, registry).workflow.graph.get(inner[0]) if inner else None
    kind = registry.get(entry.class_type) if entry else None
    if inner is None or entry is None or (kind and inner[1] not in kind.spec.inputs):
        hint = _near_input(name, workflow, registry)
        raise UsageError(f"{option} {name}: the workflow has no such input", hint=hint)
    socket = kind.spec.inputs[inner[1]] if kind else None
    if socket and socket.file:
        file = _from_here(text, socket.file.find or Path.exists) if from_here else text
        return workflow.with_input(node, place, file)
    return workflow.with_input(node, place, text if socket and fits(str, socket.type) else _json_or_text(text))


def _from_here(name: str, find: Callable[[Path], object]) -> str:
    """The path of a file that is there, seen from where people are, else the name as it is."""
    with naming(name):
        path = Path(name).expanduser().absolute()
        return str(path) if name and find(path) else name


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _near_input(name: str, workflow: Workflow, registry: Registry) -> str | None:
    known = list(workflow.inputs)
    for node, entry in workflow.graph.items():
        kind, subgraph = registry.get(entry.class_type), workflow.subgraphs.get(entry.class_type)
        sockets = kind.spec.inputs if kind else subgraph.inputs if subgraph else ()
        known += [f"{node}.{socket}" for socket in sockets]
    return suggestion(name, known)
