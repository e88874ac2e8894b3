"""The workflow that a command is about: found and read.

It may be a file, standard input, one that ships with Kinograph, or what a picture or video carries: a document, a bare
graph, or what the ecosystem's editors save.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from engine.document.formats import from_ui, is_ui, kinds_in, without_traces
from engine.document.prepared import Prepared, prepare
from engine.document.shipped import shipped
from engine.document.tags import tags
from engine.document.workflow import Workflow, json_of
from engine.errors import MissingError, UsageError, WorkflowError, naming, suggestion
from engine.registry import Registry


@dataclass(frozen=True, slots=True)
class Document:
    """A workflow and where it was found."""

    prepared: Prepared
    name: str
    base: Path | None
    """The folder to which the files it names are relative; None for standard input."""

    @property
    def workflow(self) -> Workflow:
        return self.prepared.workflow

    def __repr__(self) -> str:
        return f"<Document '{self.name}' of {len(self.workflow.graph)} nodes>"

    def document(self) -> dict[str, Any]:
        """The whole document, as JSON data."""
        return self.workflow.document()

    def up_to(self, *nodes: str) -> Document:
        """The part that leads to some of its nodes; raises UsageError for one that isn't there."""
        for node in nodes:
            if node not in self.workflow.graph:
                hint = suggestion(node, self.workflow.graph)
                raise UsageError(f"the workflow has no node '{node}'", hint=hint)
        return replace(self, prepared=self.prepared.up_to(*nodes))


def parse(data: Any, registry: Registry) -> Workflow:
    """The workflow that JSON data are: a document, a bare graph, or what the ecosystem's editors save (the UI format).

    Raises:
        WorkflowError: with all that is malformed.
    """
    return from_ui(data, registry) if is_ui(data) else Workflow.read(without_traces(data, registry))


def read(name: str, registry: Registry) -> Document:
    """The document that a command line names: a path, `-` for standard input, or the name of a shipped workflow.

    Raises:
        MissingError: there is none of that name.
        UsageError: it is there but cannot be read.
        WorkflowError: it holds no workflow.
    """
    if name == "-":
        workflow = parse(json_of(sys.stdin.buffer.read()), registry)
        workflow = with_files(workflow, Path.cwd(), registry)
        return Document(prepare(workflow, registry), "standard input", None)
    with naming(name):
        path = Path(name).expanduser()
        if not path.exists():
            path = shipped().get(name, path)
    try:
        held = _held(path, registry)
    except FileNotFoundError:
        raise MissingError(f"there is no workflow '{name}'", hint=_near(path)) from None
    except OSError as error:
        raise UsageError(f"can't read '{name}': {error.strerror}") from None
    workflow = with_files(held, path.parent, registry)
    return Document(prepare(workflow, registry), path.stem, path.parent)


def _near(path: Path) -> str | None:
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    return suggestion(path.name, [*shipped(), *(name for name in beside if not name.startswith("."))])


def _held(path: Path, registry: Registry) -> Workflow:
    carried = tags(path)
    return parse(json_of(path.read_bytes()), registry) if carried is None else _embedded(carried, path, registry)


def with_files(workflow: Workflow, folder: Path, registry: Registry) -> Workflow:
    """The workflow with the files that it uses as nodes, in its folder or below, as subgraphs: it stands by itself."""
    subgraphs = dict(workflow.subgraphs)
    waiting = [workflow, *subgraphs.values()]
    while waiting:
        for entry in waiting.pop().graph.values():
            name = entry.class_type
            if name.endswith(".json") and name not in subgraphs:
                part = _part(name, folder, registry)
                subgraphs[name] = part
                waiting.append(part)
    return workflow.model_copy(update={"subgraphs": subgraphs})


def _part(name: str, folder: Path, registry: Registry) -> Workflow:
    """A file that is used as a node, with its own subgraphs called after it."""
    with naming(name):
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise WorkflowError(f"'{name}' is used as a node, but is not in the workflow's folder or below")
    try:
        part = parse(json_of(path.read_bytes()), registry)
    except OSError:
        raise MissingError(f"there is no workflow '{name}' in {folder} to use as a node", hint=_near(path)) from None
    except WorkflowError as error:
        raise WorkflowError(f"'{name}', used as a node: {error.message}") from None
    if part.subgraphs:
        raise WorkflowError(
            f"'{name}' is used as a node and defines subgraphs itself", hint="put these into files of their own"
        )
    return part


def _embedded(tags: Mapping[str, str], path: Path, registry: Registry) -> Workflow:
    """The document that a file carries; of other programs' the UI format, if all of it can be read, or else the graph.

    These put the former in `workflow`, the latter in `prompt`.
    """
    found = {name: _tag(text, path) for name in ("workflow", "prompt") if (text := tags.get(name))}
    if not found:
        raise WorkflowError(
            f"{path.name} carries no workflow", hint="files that Kinograph saves carry the one that made them"
        )
    if len(found) == 2 and is_ui(found["workflow"]):
        return _whole(found["workflow"], found["prompt"], registry) or parse(found["prompt"], registry)
    return parse(next(iter(found.values())), registry)


def _tag(text: str, path: Path) -> Any:
    """The JSON data in a tag; numbers that JSON doesn't have, as other programs write them, are None."""
    try:
        return from_json(to_json(from_json(text), inf_nan_mode="null"))
    except ValueError as error:
        raise WorkflowError(f"what {path.name} carries as its workflow is not JSON: {error}") from None


def _whole(data: Any, graph: Any, registry: Registry) -> Workflow | None:
    """A workflow in the UI format, unless it can't be read whole, as the graph that was made of it tells."""
    made = kinds_in(graph)
    try:
        prepared = prepare(from_ui(data, registry), registry)
    except WorkflowError:
        return None
    known = {kind for kind in made if kind in registry}
    runs = {entry.class_type for entry in prepared.active.graph.values()}
    has = {entry.class_type for entry in prepared.flat.graph.values()}
    return prepared.workflow if known <= has and {kind for kind in runs if kind not in registry} <= made else None
