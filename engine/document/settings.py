"""Giving the inputs of a workflow other values, as people write them on a command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.document.prepared import Prepared
from engine.errors import UsageError, naming, suggestion
from engine.node import fits


def with_setting(prepared: Prepared, setting: str, option: str = "--set", *, from_here: bool = True) -> Prepared:
    """The workflow with one input changed.

    Args:
        prepared: the workflow.
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
    node, _, place = prepared.workflow.inputs.get(name, name).rpartition(".")
    place = prepared.today(node, place)
    found = prepared.leads_to(node, place)
    if found is None:
        hint = prepared.why_gone(node, place) or _near(name, prepared)
        raise UsageError(f"{option} {name}: the workflow has no such input", hint=hint)
    _, socket = found
    if socket and socket.file:
        value: Any = _from_here(text, socket.file.find or Path.exists) if from_here else text
    else:
        value = text if socket and fits(str, socket.type) else _json_or_text(text)
    return prepared.with_input(node, place, value)


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


def _near(name: str, prepared: Prepared) -> str | None:
    """A hint for a name that leads nowhere, out of all inputs that there are."""
    workflow, known = prepared.workflow, [*prepared.workflow.inputs]
    for node, entry in workflow.graph.items():
        kind, subgraph = prepared.registry.get(entry.class_type), workflow.subgraphs.get(entry.class_type)
        sockets = kind.spec.inputs if kind else subgraph.inputs if subgraph else ()
        known += [f"{node}.{socket}" for socket in sockets]
    return suggestion(name, known)
