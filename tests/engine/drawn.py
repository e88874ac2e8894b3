"""Workflows as the ecosystem's editors save them, and the kinds of node in them, for tests."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from engine.document.formats import from_ui
from engine.document.workflow import Workflow
from engine.node import Context, InputFile, Node
from engine.registry import Registry
from engine.values import Image


class Load(Node, version=1):
    image: str

    def run(self, ctx: Context) -> Image:
        raise NotImplementedError


class Halves(NamedTuple):
    left: Image
    right: Image


class Split(Node, version=1):
    image: Image

    def run(self, ctx: Context) -> Halves:
        raise NotImplementedError


class Draw(Node, version=1):
    prompt: str
    image: Image | None = None
    seed: int = 0
    steps: int = 20
    strength: float = 1.0
    manner: Literal["fine", "coarse"] = "fine"
    weights: tuple[float, ...] = ()

    def run(self, ctx: Context) -> Image:
        raise NotImplementedError


class Send(Node, version=1):
    upload: str

    def run(self, ctx: Context) -> str:
        raise NotImplementedError


class Play(Node, version=1):
    start: float = 0.0
    loop: bool = False
    file: InputFile

    def run(self, ctx: Context) -> str:
        raise NotImplementedError


class Sow(Node, version=1):
    seed: int = 0
    tiled: bool = False
    text: str = ""
    steps: int = 20

    def run(self, ctx: Context) -> str:
        raise NotImplementedError


class Measure(Node, version=1):
    whole: int = 0
    number: float | None = 0.0
    text: str = ""
    truth: bool = False
    file: InputFile | None = None
    manner: Literal["1", "2"] = "1"
    numbers: tuple[int, ...] = ()
    anything: int | str = 0

    def run(self, ctx: Context) -> str:
        raise NotImplementedError


REGISTRY = Registry([Load, Split, Draw])
DRAWN = ["a snail", 7, "randomize", 30, 0.5, "coarse"]
"""The values of Draw's widgets, as an editor saves them."""
GIVEN = {"prompt": "a snail", "seed": 7, "steps": 30, "strength": 0.5, "manner": "coarse"}
"""The same by name."""


def node(id: int | str, type: str, values: Any = None, **more: Any) -> dict[str, Any]:
    """A node; `more` has fields by the names that editors give them."""
    return {"id": id, "type": type} | ({} if values is None else {"widgets_values": values}) | more


def socket(name: str, link: int | None = None, widget: bool = False, type: str = "*") -> dict[str, Any]:
    return {"name": name, "type": type, "link": link} | ({"widget": {"name": name}} if widget else {})


def link(id: int, source: int, slot: int, target: int, at: int = 0) -> dict[str, Any]:
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    return dict(zip(names, (id, source, slot, target, at, "*"), strict=True))


def ui(*nodes: dict[str, Any], links: list[dict[str, Any]] = [], **more: Any) -> dict[str, Any]:  # noqa: B006
    return {"version": 0.4, "nodes": list(nodes), "links": [list(each.values()) for each in links], **more}


def subgraph(id: str, name: str, *nodes: dict[str, Any], links: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    ends = {"inputNode": {"id": -10}, "outputNode": {"id": -20}}
    return {"id": id, "name": name, "nodes": list(nodes), "links": links} | ends | more


def read(*nodes: dict[str, Any], **more: Any) -> Workflow:
    return from_ui(ui(*nodes, **more), REGISTRY)


def inputs(workflow: Workflow, key: str) -> dict[str, Any]:
    return workflow.graph[key].inputs


def sketch(**more: Any) -> dict[str, Any]:
    """A subgraph that draws two pictures, and gives both their steps from a primitive."""
    return subgraph(
        "5d1e",
        "Sketch",
        node(1, "Draw", DRAWN, inputs=[socket("image", 1), socket("prompt", 2, True), socket("steps", 5, True)]),
        node(2, "Draw", DRAWN, inputs=[socket("image", 3), socket("prompt", 4, True), socket("steps", 6, True)]),
        node(3, "PrimitiveInt", [12]),
        links=[
            *(link(1, -10, 0, 1), link(2, -10, 1, 1, 1), link(3, 1, 0, 2), link(4, -10, 1, 2, 1)),
            *(link(5, 3, 0, 1, 2), link(6, 3, 0, 2, 2), link(7, 2, 0, -20), link(8, -10, 0, -20, 1)),
        ],
        inputs=[{"name": "image"}, {"name": "text", "label": "What to draw."}],
        outputs=[{"name": "drawn"}, {"name": "as it was"}],
        **more,
    )
