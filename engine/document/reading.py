"""Find and read the workflow that a command is about.

It may be a file, standard input, a workflow that ships with Kinograph, or one embedded in a picture or video: a
document, a bare graph, or what the ecosystem's editors save.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from engine.document.formats import (
    from_ui,
    is_graph,
    is_made_here,
    is_ui,
    kinds_in,
    without_additions,
    without_unknown,
)
from engine.document.jsontext import json_of
from engine.document.prepared import Prepared, prepare
from engine.document.shipped import shipped
from engine.document.tags import DOCUMENT, DRAWN, GRAPH, tags
from engine.document.workflow import Workflow, as_constant, as_link
from engine.errors import MissingError, UsageError, WorkflowError, path_errors, suggestion
from engine.models.folders import NO_FOLDERS, ModelFolders
from engine.registry import Registry

SUFFIXES = {".json", ".png", ".webp", ".mp4", ".mov", ".webm", ".mkv"}
"""The ends of the names of files that may hold a workflow."""


@dataclass(frozen=True, slots=True)
class Document:
    """A workflow and where it was found."""

    prepared: Prepared
    name: str
    base: Path | None
    """The folder to which the files it names are relative; None for standard input."""
    folders: ModelFolders = NO_FOLDERS
    """Where the models it names are looked for after that folder and the working folder."""

    @property
    def workflow(self) -> Workflow:
        return self.prepared.workflow

    def __repr__(self) -> str:
        return f"<Document '{self.name}' of {len(self.workflow.graph)} nodes>"

    def document(self) -> dict[str, Any]:
        """The whole document, as JSON data."""
        return self.workflow.document()

    def imported(self) -> Document:
        """The same with the packs of its nodes imported; raises KinographError if one can't be."""
        return replace(self, prepared=self.prepared.imported())

    def up_to(self, *nodes: str) -> Document:
        """The part that leads to some of its nodes; raises UsageError for one that doesn't exist."""
        for node in nodes:
            if node not in self.workflow.graph:
                hint = suggestion(node, self.workflow.graph)
                raise UsageError(f"the workflow has no node '{node}'", hint=hint)
        return replace(self, prepared=self.prepared.up_to(*nodes))


def parse(data: Any, registry: Registry) -> Workflow:
    """Read JSON data as a workflow: a document, a bare graph, or what the ecosystem's editors save (the UI format).

    Constants that a node doesn't have are mistakes in a document; in the other two they are left out, and reported.

    Raises:
        WorkflowError: with everything that is malformed.
    """
    if is_ui(data):
        return _from_ui(data, registry)
    if is_graph(data):
        return without_unknown(Workflow.read(without_additions(data, registry)), registry)
    return Workflow.read(data)


def _from_ui(data: Mapping[str, Any], registry: Registry) -> Workflow:
    return without_unknown(from_ui(data, registry), registry)


def read(name: str, registry: Registry) -> Document:
    """The document that a command line names: a path, `-` for standard input, or the name of a shipped workflow.

    Raises:
        MissingError: there is none of that name.
        UsageError: it exists but cannot be read.
        WorkflowError: it holds no workflow.
    """
    if name == "-":
        workflow = parse(json_of(sys.stdin.buffer.read(), "standard input"), registry)
        workflow = with_files(workflow, Path.cwd(), registry)
        return Document(prepare(workflow, registry), "standard input", None)
    path = located(name)
    try:
        workflow = _read_file(path, registry)
    except FileNotFoundError:
        raise MissingError(f"there is no workflow '{name}'", hint=near(path)) from None
    except OSError as error:
        raise UsageError(f"can't read '{name}': {error.strerror}") from None
    workflow = with_files(workflow, path.parent, registry)
    return Document(prepare(workflow, registry), path.stem, path.parent)


def located(name: str) -> Path:
    """The path that a name stands for, or that of a shipped workflow; raises MissingError if no file can have it."""
    with path_errors(name):
        if "\0" in name:
            raise ValueError("it has a null character")
        path = Path(name).expanduser()
        return path if path.exists() else shipped().get(name, path)


def near(path: Path) -> str | None:
    """A hint for a file that doesn't exist: a similar name of a shipped workflow, or of a file beside it.

    Only files that may hold a workflow, judging by their names, are suggested.
    """
    try:
        beside = [other.name for other in path.parent.iterdir() if other.suffix.lower() in SUFFIXES and other.is_file()]
    except OSError:  # no folder, or none that may be listed
        beside = []
    return suggestion(path.name, [*shipped(), *(name for name in beside if not name.startswith("."))])


def _read_file(path: Path, registry: Registry) -> Workflow:
    texts = tags(path)
    if texts is not None:
        return _embedded(texts, path, registry)
    return parse(json_of(path.read_bytes(), f"'{path.name}'"), registry)


def with_files(workflow: Workflow, folder: Path, registry: Registry) -> Workflow:
    """The workflow made self-contained: files in its folder or below that it uses as nodes become subgraphs."""
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
    """The workflow of a file that is used as a node."""
    with path_errors(name):
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise WorkflowError(f"'{name}' is used as a node, but is not in the workflow's folder or below")
    try:
        part = parse(json_of(path.read_bytes(), "the file"), registry)
    except OSError:
        raise MissingError(f"there is no workflow '{name}' in {folder} to use as a node", hint=near(path)) from None
    except WorkflowError as error:
        raise WorkflowError(f"'{name}', used as a node: {error.problems[0]}") from None
    if part.subgraphs:
        raise WorkflowError(
            f"'{name}' is used as a node and defines subgraphs itself", hint="put these into files of their own"
        )
    return part


def _embedded(texts: Mapping[str, str], path: Path, registry: Registry) -> Workflow:
    """The workflow embedded in a file.

    Kinograph's own document goes before all else. Other programs put the UI format in `workflow`, which is used if it
    can be read completely, and the graph in `prompt`, which is used otherwise.
    """
    found = {name: _tag(text, path) for name in (DOCUMENT, DRAWN, GRAPH) if (text := texts.get(name))}
    if not found:
        raise WorkflowError(
            f"{path.name} carries no workflow",
            hint="use a file that Kinograph saved, which carries one",
        )
    drawn = found.get(DRAWN)
    if DOCUMENT in found:
        document = Workflow.read(found[DOCUMENT])
        if is_ui(drawn) and not is_made_here(drawn):
            return _as_drawn(drawn, document, registry) or document
        return document
    if GRAPH in found and is_ui(drawn):
        return _complete(drawn, found[GRAPH], registry) or parse(found[GRAPH], registry)
    return parse(next(iter(found.values())), registry)


def _as_drawn(drawn: Any, document: Workflow, registry: Registry) -> Workflow | None:
    """A bare graph as an editor has drawn it, with layout and subgraphs; None unless both say the same."""
    if document.document().keys() - {"kinograph", "graph"}:
        return None
    try:
        read = _from_ui(drawn, registry)
        drawn_active = prepare(read, registry).active
    except WorkflowError:
        return None
    return read if _meaning(drawn_active, registry) == _meaning(document, registry) else None


def _meaning(workflow: Workflow, registry: Registry) -> dict[str, Any]:
    """The nodes of a graph with all of their inputs, by ids as ComfyUI's editor writes them for nodes in subgraphs."""
    kinds = {node: registry.get(entry.class_type) for node, entry in workflow.graph.items()}

    def meant(value: Any) -> Any:
        if link := as_link(value):
            kind = kinds.get(link.node)
            slot = kind.spec.slot(link.slot) if kind else None
            return [link.node.replace("/", ":"), link.slot if slot is None else slot]
        return as_constant(value)

    meanings = {}
    for node, entry in workflow.graph.items():
        kind = kinds[node]
        sockets = kind.spec.inputs if kind else {}
        defaults = {name: socket.default for name, socket in sockets.items() if not socket.required}
        inputs = defaults | {name: meant(value) for name, value in entry.inputs.items()}
        meanings[node.replace("/", ":")] = entry.class_type, inputs
    return meanings


def _tag(text: str, path: Path) -> Any:
    """The JSON data in a tag; numbers that JSON lacks (NaN, infinity), which other programs write, become None."""
    try:
        return from_json(to_json(from_json(text), inf_nan_mode="null"))
    except ValueError as error:
        raise WorkflowError(f"the workflow that {path.name} carries is not JSON: {error}") from None


def _complete(data: Any, graph: Any, registry: Registry) -> Workflow | None:
    """A workflow in the UI format; None if, judging by the graph that was made from it, part of it can't be read."""
    in_graph = kinds_in(graph)
    try:
        workflow = _from_ui(data, registry)
        prepared = prepare(workflow, registry)
    except WorkflowError:
        return None
    known = {kind for kind in in_graph if kind in registry}
    runs = {entry.class_type for entry in prepared.active.graph.values()}
    has = {entry.class_type for entry in prepared.flat.graph.values()}
    return workflow if known <= has and {kind for kind in runs if kind not in registry} <= in_graph else None
