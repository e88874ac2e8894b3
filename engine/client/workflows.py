"""Prepares a workflow for sending: reads it from its file and sets the values of some inputs."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from aiohttp import FormData

from engine.client.answers import Converted
from engine.client.connection import OWN, Connection
from engine.document.formats import is_graph, is_ui
from engine.document.given import inputs_of, no_workflow
from engine.document.jsontext import json_of
from engine.document.reading import located, near, parse, with_files
from engine.document.subgraphs import exposed
from engine.document.workflow import Workflow, as_link, split_path
from engine.errors import MissingError, UsageError, WorkflowError, suggestion
from engine.registry import Registry

UNKNOWN = Registry([])
"""The client knows no kinds of node: the server does."""
CARRIER = "file"


class HasDocument(Protocol):
    """Anything that can be written as a workflow document, such as `engine.document.workflow.Workflow`."""

    def document(self) -> Mapping[str, Any]: ...


AnyWorkflow = str | os.PathLike[str] | Mapping[str, Any] | HasDocument
"""A path of a file (JSON, or a picture or video that carries its workflow), the name of a workflow that comes with
Kinograph, JSON data (a document, an API graph, an editor's own format), or an object with a `document()`."""


async def to_send(connection: Connection, workflow: AnyWorkflow, inputs: Mapping[str, Any] | None) -> dict[str, Any]:
    """A workflow as JSON data for the server.

    Args:
        connection: the server, for forms that only it can read.
        workflow: in any form.
        inputs: values by input, `node.input` or a name that the workflow exposes.

    Raises:
        MissingError: there is no such file.
        UsageError: it can't be read or is nothing that can stand for a workflow, it has no such input, or a value
            isn't JSON.
        WorkflowError: it isn't a workflow.
    """
    given = inputs_of(inputs)
    data = await _data(connection, workflow)
    if not given:
        return data
    if is_ui(data):
        data = (await connection.post(f"{OWN}/convert", Converted, {"workflow": data})).document
    changed = parse(data, UNKNOWN)
    for name, value in given.items():
        changed = _with_input(changed, name, value)
    return changed.api() if is_graph(data) else changed.document()


async def _data(connection: Connection, workflow: AnyWorkflow) -> dict[str, Any]:
    if isinstance(workflow, Mapping):
        return dict(workflow)
    if not isinstance(workflow, str | os.PathLike):
        if isinstance(workflow, type) or not callable(getattr(workflow, "document", None)):
            raise no_workflow(workflow)
        return dict(workflow.document())
    path = located(os.fspath(workflow))
    try:
        found = await asyncio.to_thread(_read, path)
        if found is None:
            form = FormData()
            with path.open("rb") as file:
                form.add_field(CARRIER, file, filename=f"workflow{path.suffix}")
                found = (await connection.post(f"{OWN}/convert", Converted, form)).document
    except FileNotFoundError:
        raise MissingError(f"there is no workflow '{path}'", hint=near(path)) from None
    except OSError as error:
        raise UsageError(f"can't read '{path}': {error.strerror}") from None
    return found


def _read(path: Path) -> dict[str, Any] | None:
    """The JSON data in a file, with the files it uses as nodes; None if it isn't JSON, which the server may read."""
    with path.open("rb") as file:
        if not file.read(100).lstrip().startswith((b"{", b"[")):
            return None
    data = json_of(path.read_bytes())
    if not isinstance(data, dict):
        raise WorkflowError("a workflow is a JSON object")
    if is_ui(data):
        return data
    workflow = parse(data, UNKNOWN)
    complete = with_files(workflow, path.parent, UNKNOWN)
    return data if complete.subgraphs == workflow.subgraphs else complete.document()


def _with_input(workflow: Workflow, name: str, value: Any) -> Workflow:
    node, socket = split_path(workflow.inputs.get(name, name), workflow.graph)
    if exposed(workflow, node, socket) is None:
        given = [f"{node}.{socket}" for node, entry in workflow.graph.items() for socket in entry.inputs]
        hint = suggestion(name, [*workflow.inputs, *given])
        raise UsageError(f"inputs: the workflow has no input '{name}'", hint=hint)
    return workflow.with_input(node, socket, _constant(name, value))


def _constant(name: str, value: Any) -> Any:
    """A value as a workflow writes it; a list that looks like a link is marked as a constant."""
    try:
        plain = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        hint = "`upload` sends a file, and says what it is called there" if isinstance(value, os.PathLike) else None
        raise UsageError(f"inputs: the value of '{name}' isn't JSON: {error}", hint=hint) from None
    return {"__value__": plain} if as_link(plain) else cast(Any, plain)
