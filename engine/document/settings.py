"""Set inputs of a workflow to values as people write them on a command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.document.prepared import Prepared
from engine.errors import UsageError, path_errors, suggestion
from engine.node import fits


def with_setting(prepared: Prepared, setting: str, option: str = "--set", *, from_cwd: bool = True) -> Prepared:
    """The workflow with one input changed.

    Args:
        prepared: the workflow.
        setting: `node.input=value`, or `name=value` for a name that the workflow exposes. The value is JSON, unless the
            input takes a text or the value is not JSON.
        option: the option it was given with, for messages.
        from_cwd: whether a file is looked for in the working folder before the workflow's folder.

    Raises:
        UsageError: the workflow has no such input.
    """
    name, equals, text = setting.partition("=")
    if not equals:
        raise UsageError(f"{option} {setting}: there is no '='", hint=f"write {option} node.input=value")
    node, _, place = prepared.workflow.inputs.get(name, name).rpartition(".")
    found = prepared.leads_to(node, place)
    if found is None:
        raise UsageError(f"{option} {name}: the workflow has no such input", hint=_near(name, prepared))
    _, socket = found
    if socket and socket.file:
        value: Any = _from_cwd(text, socket.file.find or Path.exists) if from_cwd else text
    else:
        value = text if socket and fits(str, socket.type) else _json_or_text(text)
    return prepared.with_input(node, place, value)


def _from_cwd(name: str, find: Callable[[Path], object]) -> str:
    """The absolute path of a file that exists, seen from the working folder, else the name as it is."""
    with path_errors(name):
        path = Path(name).expanduser().absolute()
        return str(path) if name and find(path) else name


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _near(name: str, prepared: Prepared) -> str | None:
    """A hint for an unknown input, from all inputs of the workflow."""
    workflow, known = prepared.workflow, [*prepared.workflow.inputs]
    for node, entry in workflow.graph.items():
        kind, subgraph = prepared.registry.get(entry.class_type), workflow.subgraphs.get(entry.class_type)
        sockets = kind.spec.inputs if kind else subgraph.inputs if subgraph else ()
        known += [f"{node}.{socket}" for socket in sockets]
    return suggestion(name, known)
