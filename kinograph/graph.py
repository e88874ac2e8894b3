"""Workflows built in Python.

g = Graph(title="A picture")
model = g.ImageModelLoad(source="sprite/sdxl")
pictures = g.KeyframeSampler(model=model, prompt="a red fish on a beach in crayon style")
g.SaveImage(images=pictures)
g.expose(prompt=pictures.inputs.prompt)
g.run({"prompt": "a blue boat in the snow in neon style"})
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Unpack

from engine.atomic import write
from engine.document.formats import elsewhere
from engine.document.given import INPUTS_HINT, described, text_of
from engine.document.given import named as by_name
from engine.document.names import node_id
from engine.document.partial import PARTIAL
from engine.document.prepared import prepare
from engine.document.reading import Document
from engine.document.workflow import NodeEntry, Partial, Workflow, as_json
from engine.errors import Problem, UsageError, WorkflowError, suggestion
from engine.node import Node
from engine.spec import name_of
from kinograph.calls import RunOptions, run, validated
from kinograph.documents import NodeKinds, Path_, as_data, with_kinds
from kinograph.handles import Handle, Inlet, Outlet, link_of
from kinograph.kinds import Kinds
from kinograph.results import Results
from nodes import registry

ABOUT_NODE = {"id": None, "title": "", "mode": "", "partial": ""}
"""A call's arguments besides the node's inputs, with their defaults."""


class NoSuchKind(WorkflowError, AttributeError):
    """No kind of node has this name."""


class Graph(Kinds):
    """A workflow built by calling kinds of node: each is a method that takes its inputs by name.

    Each call is checked at once: kinds, inputs, types, constants. Files needn't exist before a run. The workflow is
    like those in files: it can be run, saved, sent to a server, and used as a node of another.

    Args:
        title: its title.
        description: what it does.
        name: its name as a node of other graphs. Required inputs may then be left for the user of that node to give.
        nodes: kinds of node to use besides those that come with Kinograph: classes, or Python files.
        partial: "allow" has its nodes take what is left of a list some of whose items failed; by default they fail.

    Raises:
        UsageError: `partial` is something else, a text isn't one, or something isn't a kind of node.
    """

    def __init__(
        self,
        title: str = "",
        *,
        description: str = "",
        name: str | None = None,
        nodes: NodeKinds = (),
        partial: Partial = "",
    ) -> None:
        if partial not in ("", *PARTIAL):
            raise UsageError(f"partial is {_quoted(partial)}, but can be allow or fail")
        self._partial: Partial = partial
        self.title = text_of(title, "title")
        self.description = text_of(description, "description")
        self.name = None if name is None else text_of(name, "name", 'such as Graph(name="face")')
        self._registry = with_kinds(registry(), nodes)
        self._entries: dict[str, NodeEntry] = {}
        self._handles: dict[str, Handle] = {}
        self._inputs: dict[str, str] = {}
        self._outputs: dict[str, list[str | int]] = {}
        self._subgraphs: dict[str, Workflow] = {}

    def add(
        self,
        kind: str | type[Node] | Graph,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        id: str | None = None,
        title: str = "",
        mode: str = "",
        partial: str = "",
        **named: Any,
    ) -> Handle:
        """Add a node.

        Args:
            kind: the name of a kind, a class of your own, or a Graph, used as a node in its present state.
            inputs: constants and links by input, including names that can't be written as `named`.
            id: its id in the workflow; by default derived from its kind.
            title: its title.
            mode: "mute" leaves it out of runs, "bypass" has it hand on what it was linked to. It isn't checked then.
            partial: "allow" or "fail", for this node alone: whether it takes what is left of a list.
            named: constants and links by input.

        Raises:
            WorkflowError: there is no such kind or input, or a value doesn't fit.
            UsageError: the id, or the name of a kind, is taken.
        """
        about = {name: text_of(text, name) for name, text in (("title", title), ("mode", mode), ("partial", partial))}
        known, subgraphs = self._registry, self._subgraphs
        name = self._known(kind)
        own_id = node_id(name, self._entries) if id is None else text_of(id, "id", "give another id, or none")
        try:
            return self._add(name, _together(inputs, named), own_id, about)
        except BaseException:
            self._registry, self._subgraphs = known, subgraphs
            raise

    def _add(self, kind: str, given: Mapping[str, Any], id: str, about: Mapping[str, str]) -> Handle:
        if id in self._entries:
            raise UsageError(f"there is a node '{id}' already", hint="give another id, or none")
        meta = {name: text for name, text in about.items() if text}
        inputs = {name: self._given(value, id, name) for name, value in given.items()}
        entry = NodeEntry.model_validate({"class_type": kind, "inputs": inputs, "_meta": meta})
        self._check(id, entry)
        self._entries[id] = entry
        self._handles[id] = self._handle(id, kind)
        return self._handles[id]

    def set_inputs(self, handle: Handle, inputs: Mapping[str, Any]) -> None:
        """Set some inputs of a node to other constants or links, as `handle.set` does."""
        self._own(handle)
        entry = self._entries[handle.id]
        given = {
            name: self._given(value, handle.id, name) for name, value in by_name(inputs, "inputs", INPUTS_HINT).items()
        }
        changed = entry.model_copy(update={"inputs": entry.inputs | given})
        self._check(handle.id, changed)
        self._entries[handle.id] = changed

    def expose(self, inputs: Mapping[str, Inlet] | None = None, /, **named: Inlet) -> None:
        """Name inputs by which others may set them: `g.expose(prompt=pictures.inputs.prompt)`.

        Raises:
            UsageError: a name is taken, or a value isn't an input of this graph's nodes.
        """
        found = {}
        for name, inlet in _together(inputs, named).items():
            if not isinstance(inlet, Inlet):
                raise UsageError(
                    f"'{name}' can't be {described(inlet)}", hint="give an input, such as handle.inputs.prompt"
                )
            if name in self._inputs:
                raise UsageError(f"an input is exposed as '{name}' already", hint="give another name")
            self._own(inlet.handle)
            found[name] = f"{inlet.handle.id}.{inlet.name}"
        self._inputs |= found

    def output(self, outputs: Mapping[str, Handle | Outlet] | None = None, /, **named: Handle | Outlet) -> None:
        """Name the workflow's outputs, for runs and for its use as a node: `g.output(image=pictures)`.

        Raises:
            UsageError: a name is taken, or a value isn't an output of this graph's nodes.
        """
        found = {}
        for name, given in _together(outputs, named).items():
            if not isinstance(given, Handle | Outlet):
                raise UsageError(
                    f"'{name}' can't be {described(given)}", hint="give an output of a node, such as a handle"
                )
            if name in self._outputs:
                raise UsageError(f"an output is called '{name}' already", hint="give another name")
            found[name] = self._link(given)
        self._outputs |= found

    @property
    def workflow(self) -> Workflow:
        """The workflow as built so far."""
        return Workflow(
            title=self.title,
            description=self.description,
            inputs=dict(self._inputs),
            outputs=dict(self._outputs),
            graph=dict(self._entries),
            subgraphs=dict(self._subgraphs),
            partial=self._partial,
        )

    def document(self) -> dict[str, Any]:
        """The workflow as built so far, as JSON data."""
        return self.workflow.document()

    def as_document(self) -> Document:
        """The workflow as built so far, prepared for checks and runs."""
        return Document(prepare(self.workflow, self._registry), self.name or self.title or "workflow", None)

    def save(self, path: Path_) -> Path:
        """Write it as a workflow file. File names are written as given, a `Path` as absolute.

        Raises:
            UsageError: no file can be written there.
        """
        data = (json.dumps(self.document(), indent=2, ensure_ascii=False) + "\n").encode()
        hint = "name a file in a folder that you may write to, such as workflow.json"
        try:
            target = Path(path).expanduser()
            if target.is_dir():
                raise UsageError(f"'{path}' is a folder", hint=f"name a file in it: {target / 'workflow.json'}")
            write(target, data)
        except OSError as error:
            raise UsageError(f"can't write '{path}': {error.strerror}", hint=hint) from error
        except (RuntimeError, TypeError, ValueError) as error:  # an unknown `~user`, not a path, a null byte
            raise UsageError(f"{path!r} can't be the name of a file: {error}", hint=hint) from error
        return target

    def validate(self) -> list[Problem]:
        """Everything that is wrong with it, or missing on this machine, as `kinograph.validate` tells it."""
        return validated(self, None, (), stacklevel=3)

    def run(self, inputs: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]) -> Results:
        """Run it; options, results and errors are those of `kinograph.run`."""
        return run(self, inputs, **options)

    def __getitem__(self, id: str) -> Handle:
        """The node with an id."""
        try:
            return self._handles[id]
        except (KeyError, TypeError):
            hint = suggestion(id, self._handles)
            raise KeyError(f"no node is called {_quoted(id)}" + (f": {hint}" if hint else "")) from None

    def __iter__(self) -> Iterator[Handle]:
        return iter(self._handles.values())

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and id in self._handles

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._registry]

    def __repr__(self) -> str:
        return f"<Graph '{self.title}' of {len(self._entries)} nodes>"

    def __getattr__(self, name: str) -> Callable[..., Handle]:
        if name.startswith("_"):  # Python's own protocols look up many that don't exist
            raise AttributeError(name)
        if name not in self._registry:
            hint = elsewhere(name, {}) or suggestion(name, [*self._registry])
            raise NoSuchKind(f"no kind of node is called '{name}'", hint=hint)
        return _call(self, self._registry[name])

    def _known(self, kind: str | type[Node] | Graph) -> str:
        """The name of a kind, after making it known to the graph."""
        if isinstance(kind, str):
            return kind
        if not isinstance(kind, Graph):
            self._registry = with_kinds(self._registry, [kind])
            return kind.spec.kind
        if kind.name is None:
            raise UsageError("a graph that is used as a node needs a name", hint='such as Graph(name="face")')
        definition = kind.workflow.model_copy(update={"subgraphs": {}})
        subgraphs = {**kind._subgraphs, kind.name: definition}
        if twice := next((name for name, one in subgraphs.items() if self._subgraphs.get(name, one) != one), None):
            raise UsageError(f"another graph is used as '{twice}' already", hint="give it another name")
        self._registry = with_kinds(self._registry, kind._registry.values())
        self._subgraphs = self._subgraphs | subgraphs
        return kind.name

    def _handle(self, id: str, kind: str) -> Handle:
        if kind in self._registry:
            spec = self._registry[kind].spec
            return Handle(self, id, kind, tuple(spec.inputs), tuple(output.name for output in spec.outputs))
        if kind in self._subgraphs:
            subgraph = self._subgraphs[kind]
            return Handle(self, id, kind, tuple(subgraph.inputs), tuple(subgraph.outputs))
        return Handle(self, id, kind, None, None)

    def _given(self, value: Any, node: str, name: str) -> Any:
        """An input's value, as a workflow writes it."""
        if isinstance(value, Handle | Outlet):
            return self._link(value, node, name)
        return as_json(as_data(value, name, node))

    def _link(self, given: Handle | Outlet, node: str | None = None, name: str | None = None) -> list[str | int]:
        self._own(given if isinstance(given, Handle) else given.handle)
        try:
            return [*link_of(given)]
        except WorkflowError as error:
            raise WorkflowError(error.message, node=node, input=name, hint=error.hint) from None

    def _own(self, handle: object) -> None:
        if not isinstance(handle, Handle):
            raise UsageError(f"{described(handle)} is not a node", hint="give what adding a node returned")
        if handle.graph is not self:
            raise UsageError(f"{handle!r} is a node of another graph")

    def _check(self, id: str, entry: NodeEntry) -> None:
        from engine.graph.check import check_node

        graph = self._entries | {id: entry}
        workflow = Workflow(graph={}).model_copy(update={"graph": graph, "subgraphs": self._subgraphs})
        if problems := check_node(workflow, id, self._registry, whole=self.name is None):
            raise WorkflowError.of(problems)


def _together(given: Mapping[str, Any] | None, named: Mapping[str, Any]) -> dict[str, Any]:
    first = by_name(given, "by name", INPUTS_HINT)
    if twice := next((name for name in first if name in named), None):
        raise UsageError(f"'{twice}' is given twice")
    return {**first, **named}


def _quoted(given: object) -> str:
    return repr(given) if isinstance(given, str) else described(given)


def _call(graph: Graph, kind: type[Node]) -> Callable[..., Handle]:
    """A function that adds a node of a kind, with the help and signature that notebooks show."""

    def call(**named: Any) -> Handle:
        return graph.add(kind.spec.kind, **named)

    sockets = kind.spec.inputs.values()
    keyword, empty = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.empty
    parameters = [
        inspect.Parameter(
            socket.name, keyword, default=empty if socket.required else socket.default, annotation=name_of(socket.type)
        )
        for socket in sockets
        if socket.name not in ABOUT_NODE
    ]
    for name, default in ABOUT_NODE.items():
        annotation = "str | None" if default is None else "str"
        parameters.append(inspect.Parameter(name, keyword, default=default, annotation=annotation))
    call.__name__ = call.__qualname__ = kind.spec.kind
    call.__doc__ = "\n".join(
        [kind.spec.help, "", *(f"{socket.name}: {' '.join(socket.help.split())}" for socket in sockets)]
    )
    call.__signature__ = inspect.Signature(parameters, return_annotation="Handle")  # type: ignore[attr-defined]
    return call
