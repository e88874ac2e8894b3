"""Set inputs of a workflow to values as people write them on a command line or in Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.document.prepared import Prepared
from engine.document.workflow import as_json, split_path
from engine.errors import UsageError, path_errors, suggestion
from engine.spec import Input, fits


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
    node, place, socket = _found(prepared, name, f"{option} {name}")
    if socket and (socket.file or fits(str, socket.type)):
        value: Any = text
    else:
        value = _json_or_text(text)
    return prepared.with_input(node, place, _with_path(value, socket) if from_cwd else value)


def with_value(
    prepared: Prepared, name: str, value: Any, where: str | None = None, *, from_cwd: bool = True
) -> Prepared:
    """The workflow with another constant for one input.

    Args:
        prepared: the workflow.
        name: `node.input`, or a name that the workflow exposes.
        value: JSON data.
        where: what messages begin with; the name if None.
        from_cwd: whether a file is looked for in the working folder before the workflow's folder.

    Raises:
        UsageError: the workflow has no such input.
    """
    node, place, socket = _found(prepared, name, where or f"'{name}'")
    return prepared.with_input(node, place, as_json(_with_path(value, socket) if from_cwd else value))


def _found(prepared: Prepared, name: str, where: str) -> tuple[str, str, Input | None]:
    """The node and input that a name stands for, and what the input is, if known; `where` begins the message."""
    workflow = prepared.workflow
    node, place = split_path(workflow.inputs.get(name, name), workflow.graph)
    place = prepared.today(node, place)
    found = prepared.leads_to(node, place)
    if found is None:
        hint = prepared.why_gone(node, place) or _near(name, prepared)
        raise UsageError(f"{where}: the workflow has no such input", hint=hint)
    return node, place, found[1]


def _with_path(value: Any, socket: Input | None) -> Any:
    """The name of a file as a path from the working folder; any other value as it is."""
    if isinstance(value, str) and socket and socket.file:
        return _from_cwd(value, socket.file.find or Path.exists)
    return value


def _from_cwd(name: str, find: Callable[[Path], object]) -> str:
    """The absolute path of a file that exists, seen from the working folder, else the name unchanged."""
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
