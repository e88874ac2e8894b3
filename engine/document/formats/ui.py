"""The UI format, 0.4 and 1.0: the parts that make up a workflow.

    {"nodes": [{"id": 3, "type": "Repeat", "pos": [40, 80], "size": [210, 58], "mode": 0,
                "inputs": [{"name": "text", "type": "STRING", "link": 7}],
                "outputs": [{"name": "out", "type": "STRING", "links": []}], "widgets_values": ["", 2]}],
     "links": [[7, 1, 0, 3, 0, "STRING"]], "groups": [], "version": 0.4}

1.0 writes links as objects, as subgraphs do in both. Where a link leads is stored twice; what the input says counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from engine.document.workflow import as_link
from engine.errors import Problem, WorkflowError, plainly

MUTED, BYPASSED = 2, 4
MAX_INTEGER = 2**53
"""JavaScript, which editors are written in, is exact for integers up to here."""

Number = Annotated[int, Field(ge=-MAX_INTEGER, le=MAX_INTEGER)]
Id = Annotated[Number, Strict()] | Annotated[str, Field(max_length=200)]
OWN = "kinograph"
"""The property of a node with what `engine.document.formats.writing` noted there."""
GENERATOR = "kinograph"
"""The `generator` of a file that it wrote, which an editor doesn't keep."""
LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def is_ui(data: Any) -> bool:
    """Whether JSON data are a workflow in the UI format."""
    return isinstance(data, dict) and isinstance(data.get("nodes"), list)


def is_made_here(data: Any) -> bool:
    """Whether JSON data in the UI format are as Kinograph wrote them, and no editor has saved them since."""
    return is_ui(data) and data.get("generator") == GENERATOR


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class UiWidget(_Model):
    name: str = ""


class UiSocket(_Model):
    """An input or an output of a node, or of a subgraph."""

    name: str = ""
    label: str | None = None
    """The user's name for it."""
    type: Any = None
    link: Number | None = None
    """The incoming link."""
    widget: UiWidget | None = None
    """Set for an input that is a widget, or was one before it could be linked."""


class UiLink(_Model):
    id: Number
    origin_id: Id
    origin_slot: Number
    target_id: Id
    target_slot: Number

    @model_validator(mode="before")
    @classmethod
    def _written_as_array(cls, data: Any) -> Any:
        return dict(zip(LINK, data, strict=False)) if isinstance(data, list) else data


class UiNode(_Model):
    id: Id
    type: str
    title: str | None = None
    mode: Number = 0
    inputs: list[UiSocket] | None = None
    outputs: list[UiSocket] | None = None
    properties: dict[str, Any] | None = None
    widgets_values: list[Any] | dict[str, Any] | None = None
    widgets_values_named: dict[str, Any] | None = None
    pos: Any = None
    size: Any = None
    color: Any = None
    bgcolor: Any = None

    @property
    def key(self) -> str:
        """Its id, as workflows write it."""
        return str(self.id)

    @property
    def values(self) -> list[Any]:
        """The widgets' values, if the file has them by position."""
        return self.widgets_values if isinstance(self.widgets_values, list) else []

    @property
    def value(self) -> Any:
        """The first widget's value, None if there is none."""
        return next(iter(self.values), None)

    @property
    def extension(self) -> str | None:
        """The extension that its kind comes from, if the file says: an id of ComfyUI's registry, or a repository."""
        ids = [(self.properties or {}).get(name) for name in ("cnr_id", "aux_id")]
        return next((name for name in ids if isinstance(name, str) and name), None)

    @property
    def promoted(self) -> list[tuple[str, str]]:
        """The inner nodes and widgets that a use of a subgraph shows as its own, as older editors write it.

        The node is "-1" where the name is that of an input of the subgraph.
        """
        pairs = (self.properties or {}).get("proxyWidgets")
        return [
            (pair[0], pair[1]) if isinstance(pair, list) and [*map(type, pair[:2])] == [str, str] else ("", "")
            for pair in (pairs if isinstance(pairs, list) else [])
        ]

    @property
    def defaults(self) -> dict[str, Any]:
        """Values of widgets that were no values of the workflow when Kinograph wrote them."""
        return self._own("defaults")

    @property
    def unheld(self) -> dict[str, Any]:
        """Inputs that no widget holds, as a workflow writes them."""
        return {name: value for name, value in self._own("inputs").items() if not as_link(value)}

    @property
    def partial(self) -> str:
        """What the node does with lists whose items have failed in part, "" if nothing is said."""
        found = self._properties.get("partial")
        return found if isinstance(found, str) else ""

    def _own(self, part: str) -> dict[str, Any]:
        found = self._properties.get(part)
        return found if isinstance(found, dict) else {}

    @property
    def _properties(self) -> dict[str, Any]:
        """What Kinograph wrote among the node's properties."""
        own = (self.properties or {}).get(OWN)
        return own if isinstance(own, dict) else {}


class UiBoundary(_Model):
    """The node that stands for the outside within a subgraph: links from or to it are those of the subgraph itself."""

    id: Id


class UiGraph(_Model):
    nodes: list[UiNode]
    links: list[UiLink | None] | None = None
    groups: Any = None
    definitions: UiDefinitions | None = None


class UiSubgraph(UiGraph):
    id: str
    name: str = ""
    description: str | None = None
    inputs: list[UiSocket] | None = None
    outputs: list[UiSocket] | None = None
    input_boundary: UiBoundary = Field(UiBoundary(id=-10), alias="inputNode")
    output_boundary: UiBoundary = Field(UiBoundary(id=-20), alias="outputNode")


class UiDefinitions(_Model):
    subgraphs: list[UiSubgraph] = []


def read(data: Mapping[str, Any]) -> UiGraph:
    """JSON data in the UI format, checked; raises `WorkflowError` with everything that is malformed."""
    try:
        return UiGraph.model_validate(data)
    except ValidationError as error:
        raise WorkflowError.of(_problem(detail, data) for detail in error.errors(include_url=False)) from None


def definitions(graph: UiGraph) -> Iterator[UiSubgraph]:
    """All subgraphs that a file defines, including nested ones."""
    waiting = [graph]
    while waiting:
        inner = waiting.pop().definitions
        for subgraph in inner.subgraphs if inner else ():
            yield subgraph
            waiting.append(subgraph)


def _problem(detail: ErrorDetails, data: Any) -> Problem:
    """The problem, with the node and the subgraph that it is in."""
    message, node, subgraph, path = plainly(detail["msg"]), None, None, list[str]()
    for step in detail["loc"]:
        data = _at(data, step)
        path.append(str(step))
        if path[-2:-1] == ["nodes"]:
            node, path = _named(data, "id", step), []
        elif path[-2:-1] == ["subgraphs"]:
            subgraph, path = _named(data, "name", step), []
    message = f"{'.'.join(path)}: {message}" if path else message
    return Problem(f"in the subgraph '{subgraph}': {message}" if subgraph else message, node)


def _at(data: Any, step: int | str) -> Any:
    try:
        return data[step]
    except (LookupError, TypeError):  # a missing field, or a step that only pydantic knows
        return data


def _named(data: Any, field: str, index: int | str) -> str:
    name = data.get(field) if isinstance(data, dict) else None
    return str(name) if isinstance(name, str) or (type(name) is int and abs(name) <= MAX_INTEGER) else f"number {index}"
