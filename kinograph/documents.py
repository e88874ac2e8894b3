"""Converts workflows, kinds of node and values, as callers give them, to what the engine takes."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from engine.document.given import described, inputs_of, no_workflow, path_of
from engine.document.prepared import prepare
from engine.document.reading import Document, parse, read, with_files
from engine.document.settings import with_value
from engine.document.workflow import Workflow
from engine.errors import UsageError, WorkflowError
from engine.models.folders import ModelFolders
from engine.models.given import from_environment, model_folders
from engine.node import Node
from engine.registry import FILE_MODULE, Registry, load_file, origin
from kinograph.handles import Handle, Outlet
from nodes import registry
from nodes.text.grammar import schema_text

Path_ = str | os.PathLike[str]
NodeKind = type[Node] | Path_
"""A node class, or a Python file that defines some."""
NodeKinds = NodeKind | Iterable[NodeKind]
"""One or several of these."""


@runtime_checkable
class HasDocument(Protocol):
    """Anything that stands for a workflow, such as a Graph."""

    def as_document(self) -> Document: ...


AnyWorkflow = Path_ | Mapping[str, Any] | Workflow | Document | HasDocument
"""A path (JSON, or a picture or video that carries a workflow), the name of a workflow that comes with Kinograph, JSON
data, or an object made from these by `load`, the engine or `Graph`."""


def load(workflow: AnyWorkflow, *, nodes: NodeKinds = ()) -> Document:
    """Load the workflow that a path, a name or data stand for, with its name and folder.

    Args:
        workflow: a path, the name of one that comes with Kinograph, JSON data or a `Graph`.
        nodes: kinds of node to use besides those that come with Kinograph.

    Raises:
        MissingError: there is no workflow of that name.
        UsageError: it can't be read, or is nothing that can stand for a workflow.
        WorkflowError: it isn't a workflow.
    """
    if isinstance(workflow, type):  # such as Graph, which has the method but isn't one
        raise no_workflow(workflow)
    match workflow:
        case Document():
            return _with_nodes(workflow, nodes)
        case HasDocument():
            return _with_nodes(workflow.as_document(), nodes)
        case str() | os.PathLike():
            return read(os.fspath(workflow), with_kinds(registry(), nodes))
    if not isinstance(workflow, Workflow | Mapping):
        raise no_workflow(workflow)
    kinds = with_kinds(registry(), nodes)
    if not isinstance(workflow, Workflow):
        workflow = parse(dict(workflow), kinds)
    complete = with_files(workflow, Path.cwd(), kinds)
    return Document(prepare(complete, kinds), complete.title or "workflow", None)


def with_inputs(document: Document, inputs: Mapping[str, Any] | None) -> Document:
    """The document with the values of some inputs changed, by `node.input` or a name that it exposes.

    Raises:
        UsageError: it has no such input, or these aren't values by name.
        WorkflowError: a workflow can't hold one of the values.
    """
    prepared = document.prepared
    for name, value in inputs_of(inputs).items():
        prepared = with_value(prepared, name, as_data(value, name))
    return replace(document, prepared=prepared)


def each_of(nodes: NodeKinds) -> list[NodeKind]:
    """Kinds of node as a list; anything that is neither a kind nor several is left for `with_kinds` to refuse."""
    return [*nodes] if isinstance(nodes, Iterable) and not isinstance(nodes, str | os.PathLike | type) else [nodes]


def folders_of(models: Path_ | Iterable[Path_] | None) -> ModelFolders:
    """The folders of models that a caller gives, or else those of the environment; warns of what is passed over.

    Raises:
        UsageError: one isn't there, or isn't a path.
    """
    if models is None:
        folders = from_environment()
    else:
        given = [models] if isinstance(models, str | os.PathLike) else models
        hint = "give a folder, or a list of folders"
        if not isinstance(given, Iterable):
            raise UsageError(f"models: {described(models)} is not a folder", hint=hint)
        folders = model_folders([path_of(path, "models", hint) for path in given], "models")
    for note in folders.notes:
        warnings.warn(note, stacklevel=4)
    return folders


def with_kinds(known: Registry, nodes: NodeKinds) -> Registry:
    """The known kinds and some more; one that is redefined, as in a notebook, replaces its former version.

    Raises:
        MissingError: there is no such file.
        UsageError: the file can't be run, something isn't a kind of node, or two kinds have the same name.
    """
    kinds = dict(known)
    for node in each_of(nodes):
        for kind in _kinds_in(node):
            name = kind.spec.kind
            if name in kinds and not _is_redefined(kinds[name], kind):
                both = f"of {origin(kinds[name])} and of {origin(kind)}"
                raise UsageError(f"two kinds of node are called {name}: {both}", hint="rename one of the classes")
            kinds[name] = kind
    return Registry(kinds.values(), known.packs)


def as_data(value: Any, name: str, node: str | None = None) -> Any:
    """A Python value as JSON data: a path absolute, a tuple as a list, numpy's numbers as Python's.

    A pydantic model becomes the text of its JSON schema.

    Raises:
        WorkflowError: JSON can't represent it; `name` is the input it was given to.
    """
    match value:
        case None | bool() | str():
            return value
        case Integral():
            return int(value)
        case Real() if math.isfinite(value):
            return float(value)
        case _ if getattr(value, "shape", None) == ():  # a numpy scalar, or a tensor that holds a single value
            return as_data(value.item(), name, node)
        case PurePath():
            return str(Path(value).expanduser().absolute())
        case type() if issubclass(value, BaseModel) and not issubclass(value, Node):
            return _schema(value, name, node)
        case Mapping() if all(isinstance(key, str) for key in value):
            return {key: as_data(part, name, node) for key, part in value.items()}
        case Sequence() if not isinstance(value, bytes | bytearray | memoryview):
            return [as_data(part, name, node) for part in value]
    if isinstance(value, Handle | Outlet):
        message, hint = "a list or dictionary can't hold what nodes give", "link the input to a node that gives a list"
        raise WorkflowError(message, node=node, input=name, hint=hint)
    raise WorkflowError(
        f"a workflow can't hold {_what(value)}",
        node=node,
        input=name,
        hint="give numbers, texts, paths and lists and dictionaries of these, or link it to a node's output",
    )


def _schema(model: type[BaseModel], name: str, node: str | None) -> str:
    try:
        return str(schema_text(model))
    except ValueError as error:
        hint = "give a model of texts, numbers, lists and other such models"
        raise WorkflowError(str(error), node=node, input=name, hint=hint) from error


def _with_nodes(document: Document, nodes: NodeKinds) -> Document:
    known = document.prepared.registry
    kinds = with_kinds(known, nodes)
    if dict(kinds) == dict(known):
        return document
    return replace(document, prepared=prepare(document.workflow, kinds))


def _kinds_in(node: NodeKind) -> Iterable[type[Node]]:
    if isinstance(node, type) and issubclass(node, Node) and node is not Node:
        return [node]
    if isinstance(node, str | os.PathLike):
        return Registry.of_modules(load_file(Path(node))).values()
    raise UsageError(
        f"{described(node)} is not a kind of node", hint="give a subclass of kinograph.Node, or a Python file"
    )


def _is_redefined(known: type[Node], kind: type[Node]) -> bool:
    """Whether a kind is a new version of the known one of its name."""
    if known.__module__.startswith(FILE_MODULE):  # each state of a file is a module of its own
        return _file(known) == _file(kind)
    return known.__module__ == kind.__module__


def _file(kind: type[Node]) -> str | None:
    return getattr(sys.modules.get(kind.__module__), "__file__", None)


def _what(value: Any) -> str:
    if isinstance(value, Real):
        return repr(value)
    return "a dictionary with keys that are no texts" if isinstance(value, Mapping) else f"a {type(value).__name__}"
