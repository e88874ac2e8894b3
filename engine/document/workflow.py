"""A workflow file: the ecosystem's API-format graph, in a document with a title, exposed inputs and a layout.

    {"kinograph": 1, "title": "Snail", "inputs": {"theme": "1.text"}, "layout": …,
     "graph": {"1": {"class_type": "Text", "inputs": {"text": "a snail"}, "_meta": {"title": "Theme"}},
               "2": {"class_type": "Repeat", "inputs": {"text": ["1", 0], "times": 2}}}}

A bare graph is read as well. An input is a constant or a link `[node, slot]`, where the slot is the index or the name
of an output; a constant list that could be taken for a link is written `{"__value__": […]}`. A workflow that others use
as a node (`engine.document.subgraphs`) names links under `outputs`; the workflows that this one uses as nodes are under
`subgraphs`.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from engine.document.jsontext import json_of
from engine.errors import Problem, WorkflowError, plainly

Partial = Literal["allow", "fail", ""]
"""See `engine.document.partial`."""


class Link(NamedTuple):
    """Where an input comes from: a node, and the index or the name of one of its outputs."""

    node: str
    slot: int | str


def as_link(value: Any) -> Link | None:
    """The link that an input's JSON stands for, or None if it is a constant."""
    if type(value) is list and len(value) == 2 and type(value[0]) is str and type(value[1]) in (int, str):
        return Link(*value)
    return None


def as_constant(value: Any) -> Any:
    """The constant that an input's JSON stands for."""
    return value["__value__"] if type(value) is dict and value.keys() == {"__value__"} else value


def as_json(constant: Any) -> Any:
    """A constant as a workflow writes it, so that it isn't taken for a link."""
    return {"__value__": constant} if as_link(constant) or as_constant(constant) is not constant else constant


_ITEM = re.compile(r"(.*)\[(\d+)\]", re.DOTALL)


def item_id(node: str, index: int) -> str:
    """The id of a node where it runs for one item of a list."""
    return f"{node}[{index}]"


def split_id(node: str) -> tuple[str, int | None]:
    """The node that an id belongs to, and the index of the list item that it runs for, if any."""
    match = _ITEM.fullmatch(node)
    return (match[1], int(match[2])) if match else (node, None)


MOST_DOTS = 16
"""Dots in the name of an input, such as the one of `images.image0`."""


def split_path(path: str, nodes: Container[str]) -> tuple[str, str]:
    """The node and the input of "node.input", given the nodes that there are.

    Both may have dots in them. The node is the one with the longest id that fits, or if none does all before the last
    dot ("" if there is no dot).
    """
    found = next((split for split in splits(path) if split[0] in nodes), None)
    node, _, socket = path.rpartition(".")
    return found or (node, socket)


def splits(path: str) -> Iterator[tuple[str, str]]:
    """All nodes and inputs that "node.input" may stand for, those with the longest id first."""
    dot = path.rfind(".")
    for _ in range(MOST_DOTS + 1):
        if dot < 0:
            return
        yield path[:dot], path[dot + 1 :]
        dot = path.rfind(".", 0, dot)


class NodeEntry(BaseModel):
    """One node of the graph, as written."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    class_type: str
    inputs: dict[str, Any] = {}
    meta: dict[str, Any] = Field({}, alias="_meta")


def _output(link: list[str | int]) -> list[str | int]:
    if as_link(link) is None:
        raise ValueError("must be a link, [node, slot]")
    return link


class Workflow(BaseModel):
    """A workflow document. `engine.graph.check` checks whether its nodes exist and fit together."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_place: str = Field("", alias="$schema")
    """Where text editors find the schema of workflow files (`engine.document.schema`)."""
    kinograph: Literal[1] = 1
    title: str = ""
    description: str = ""
    inputs: dict[str, str] = {}
    """The inputs that the workflow exposes: a name for "node.input" (see `split_path`)."""
    outputs: dict[str, Annotated[list[str | int], AfterValidator(_output)]] = {}
    """Its outputs where it is used as a node: names for links to nodes of the graph."""
    partial: Partial = ""
    """Whether its nodes take what is left of a list whose items have failed in part (`engine.document.partial`)."""
    graph: dict[str, NodeEntry]
    subgraphs: dict[str, Workflow] = {}
    """Workflows, by name, that the graph, or one another, use as nodes."""
    layout: Any = None
    """The editor's data, kept as it is."""
    _ignored: tuple[Problem, ...] = ()

    @property
    def ignored(self) -> tuple[Problem, ...]:
        """Values that were left out when it was read, as its nodes don't have them."""
        return self._ignored

    def ignoring(self, problems: Iterable[Problem]) -> Workflow:
        """The same workflow, of which some values were left out."""
        changed = self.model_copy()
        changed._ignored = (*self._ignored, *problems)
        return changed

    @classmethod
    def parse(cls, text: str | bytes) -> Workflow:
        """Read a workflow file's text; raises `WorkflowError`."""
        return cls.read(json_of(text))

    @classmethod
    def read(cls, data: Any) -> Workflow:
        """Read a workflow's JSON data, a document or a bare graph; raises `WorkflowError`."""
        if not isinstance(data, dict):
            raise WorkflowError("a workflow is a JSON object")
        if isinstance(data.get("nodes"), list):
            raise WorkflowError(
                "this is a workflow in an editor's own format",
                hint="read it with `engine.document.reading.parse`, which takes a registry",
            )
        bare = not data.keys() & {"kinograph", "graph"}
        try:
            return cls.model_validate({"graph": data} if bare else data)
        except ValidationError as error:
            raise WorkflowError.of(map(_problem, error.errors())) from None

    def with_input(self, node: str, input: str, value: Any, *, subgraph: str | None = None) -> Workflow:
        """The same workflow with another constant or link for one input, of its own or of one of its subgraphs."""
        if subgraph is not None:
            changed = self.subgraphs[subgraph].with_input(node, input, value)
            return self.model_copy(update={"subgraphs": {**self.subgraphs, subgraph: changed}})
        entry = self.graph[node]
        entry = entry.model_copy(update={"inputs": {**entry.inputs, input: value}})
        return self.model_copy(update={"graph": {**self.graph, node: entry}})

    def up_to(self, *nodes: str) -> Workflow:
        """The part of the workflow that leads to some of its nodes, including the nodes."""
        needed, waiting = set[str](), [*nodes]
        while waiting:
            if (name := waiting.pop()) in self.graph and name not in needed:
                needed.add(name)
                waiting += [link.node for value in self.graph[name].inputs.values() if (link := as_link(value))]
        graph = {name: entry for name, entry in self.graph.items() if name in needed}
        exposed = {name: path for name, path in self.inputs.items() if split_path(path, self.graph)[0] in needed}
        return self.model_copy(update={"graph": graph, "inputs": exposed})

    def api(self) -> dict[str, Any]:
        """The graph alone, as JSON data."""
        return {
            node: {"class_type": entry.class_type, "inputs": entry.inputs}
            | ({"_meta": entry.meta} if entry.meta else {})
            for node, entry in self.graph.items()
        }

    def document(self) -> dict[str, Any]:
        """The whole document, as JSON data."""
        about = {name: getattr(self, name) for name in ("title", "description", "inputs", "outputs", "partial")}
        subgraphs = {name: workflow.document() for name, workflow in self.subgraphs.items()}
        return (
            ({"$schema": self.schema_place} if self.schema_place else {})
            | {"kinograph": self.kinograph}
            | {name: value for name, value in about.items() if value}
            | {"graph": self.api()}
            | ({"subgraphs": subgraphs} if subgraphs else {})
            | ({} if self.layout is None else {"layout": self.layout})
        )


def _problem(error: ErrorDetails) -> Problem:
    message = plainly(error["msg"])
    match error["loc"]:
        case ("graph", node):
            return Problem(message, node=str(node))
        case ("graph", node, *rest):
            return Problem(f"{'.'.join(map(str, rest))}: {message}", node=str(node))
        case rest:
            return Problem(f"the workflow's {'.'.join(map(str, rest))}: {message}")
