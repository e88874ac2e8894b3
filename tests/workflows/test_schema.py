"""The JSON Schema of workflow files: it takes what the check takes, and refuses what text editors are to mark."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field, ValidationError

from engine.document.prepared import prepare
from engine.document.schema import schema_of
from engine.document.shipped import shipped
from engine.document.workflow import Workflow, as_link
from engine.graph.check import check
from engine.node import Context, Deprecated, Node
from engine.registry import Registry
from nodes import registry
from tests.cli.conftest import Command, kinograph

__all__ = ["kinograph"]

SCHEMA = Draft202012Validator(schema_of(registry()))


def faults(data: Any, schema: Draft202012Validator = SCHEMA) -> list[str]:
    """What is wrong, each with its place."""

    def leaves(errors: Any) -> Iterator[str]:
        for error in errors:
            yield f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
            yield from leaves(error.context)

    return [*leaves(schema.iter_errors(data))]


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_workflow_is_right(name: str) -> None:
    assert faults(json.loads(shipped()[name].read_text())) == []


def test_it_is_a_schema_itself() -> None:
    Draft202012Validator.check_schema(SCHEMA.schema)
    json.dumps(SCHEMA.schema, allow_nan=False)


CONSTANTS: list[Any] = [
    *(0, 1, -1, 7, 8, 100, 2**64, 10**12, 0.0, 0.5, 1.0, 1e9, True, False, None),
    *("", "a", "nearest-exact", "sprite/sdxl", "a" * 300),
    *([], [1], ["a"], ["a", 0], [1.5, 2], {}, {"a": ["b"]}, {"a": 1}, {"__value__": ["a", 0]}),
]


@pytest.mark.parametrize("kind", sorted(registry()))
def test_it_takes_whatever_constants_the_check_takes(kind: str) -> None:
    for name, socket in registry()[kind].spec.inputs.items():
        for constant in CONSTANTS:
            try:
                socket.validate(constant)
            except (ValidationError, ValueError):
                continue
            if socket.holds and as_link(constant):
                continue
            node = {"class_type": kind, "inputs": {name: constant}}
            document = {"graph": {"1": node}, "outputs": {"out": ["1", 0]}}  # the rest may come from outside
            assert faults(document) == [], (name, constant)


FISH = {
    "1": {"class_type": "ImageModelLoad", "inputs": {"source": "sprite/sdxl"}},
    "2": {"class_type": "KeyframeSampler", "inputs": {"model": ["1", 0], "prompt": "a fish", "steps": 20}},
    "3": {
        "class_type": "SaveImage",
        "inputs": {"images": ["2", "out"]},
        "_meta": {"title": "Save", "position": [1, 2]},
    },
}


def changed(node: str, **inputs: Any) -> dict[str, Any]:
    """The graph with other inputs for one node; None leaves one out."""
    given = {name: value for name, value in (FISH[node]["inputs"] | inputs).items() if value is not ...}
    return FISH | {node: FISH[node] | {"inputs": given}}


def test_a_document_and_a_bare_graph_are_right() -> None:
    assert faults(FISH) == []
    assert faults({"kinograph": 1, "graph": FISH}) == []
    about = {"$schema": "./workflow.schema.json", "title": "t", "inputs": {"p": "2.prompt"}, "layout": {"nodes": {}}}
    assert faults({**about, "graph": FISH}) == []


@pytest.mark.parametrize(
    ("graph", "where"),
    [
        (changed("2", step=3), "2.inputs: Additional properties are not allowed ('step' was unexpected)"),
        (changed("2", steps=-1), "2.inputs.steps: -1 is less than the minimum of 0"),
        (changed("2", steps="3"), "2.inputs.steps: '3' is not of type 'integer'"),
        (changed("2", prompt=...), "2.inputs: 'prompt' is a required property"),
        (changed("2", model="a"), "2.inputs.model: 'a' should not be valid under {}"),
        (changed("2", model=["1"]), "2.inputs.model: ['1'] is too short"),
        (changed("1", source=["2", 0]), "1.inputs.source: ['2', 0] is not of type 'string'"),
        (
            changed("1", dtype="float3"),
            "1.inputs.dtype: 'float3' is not one of ['auto', 'float32', 'float16', 'bfloat16']",
        ),
        (FISH | {"3": {"class_type": "SaveImag"}}, "3.class_type: 'SaveImag' does not match '\\\\.json$'"),
        (FISH | {"3": {"inputs": {}}}, "3: 'class_type' is a required property"),
        (FISH | {"3": {"class_type": "SaveImage"}}, "3: 'inputs' is a required property"),
        (FISH | {"3": {**FISH["3"], "_meta": {"mode": "off"}}}, "3._meta.mode: 'off' is not one of"),
        (FISH | {"3": {**FISH["3"], "_meta": {"partial": "off"}}}, "3._meta.partial: 'off' is not one of"),
        (FISH | {"3": {**FISH["3"], "more": 1}}, "3: Additional properties are not allowed ('more' was unexpected)"),
    ],
)
def test_a_broken_one_is_told_where(graph: dict[str, Any], where: str) -> None:
    assert any(fault.startswith(where) for fault in faults(graph)), faults(graph)
    assert any(fault.startswith(f"graph.{where}") for fault in faults({"kinograph": 1, "graph": graph}))


@pytest.mark.parametrize(
    "document",
    [
        {"kinograph": 2, "graph": FISH},
        {"kinograph": 1},
        {"kinograph": 1, "graph": FISH, "partial": "off"},
        {"kinograph": 1, "graph": FISH, "titel": "x"},
        {"kinograph": 1, "graph": FISH, "inputs": {"p": 1}},
        {"kinograph": 1, "graph": FISH, "outputs": {"p": "2.out"}},
        {"$schema": "x", "1": FISH["1"]},
        [],
    ],
)
def test_a_broken_document_is_refused(document: Any) -> None:
    assert faults(document)


def test_what_is_muted_may_lack_inputs() -> None:
    graph = changed("2", prompt=...)
    graph["2"] |= {"_meta": {"mode": "mute"}}
    assert faults(graph) == []


def test_subgraphs_are_kinds_and_may_be_given_the_rest_from_outside() -> None:
    face = {"graph": {"draw": {"class_type": "KeyframeSampler"}}, "inputs": {"p": "draw.prompt"}}
    use = {"class_type": "face", "inputs": {"p": "a fish", "m": ["1", 0]}}
    assert faults({"graph": {"1": FISH["1"], "use": use}, "subgraphs": {"face": face}}) == []
    assert faults({"graph": {"use": use}})
    assert faults({"graph": {"use": {**use, "class_type": "parts/face.json"}}}) == []
    wrong = {"graph": {"draw": {"class_type": "KeyframeSampler", "inputs": {"steps": "many"}}}}
    assert faults({"graph": {"use": use}, "subgraphs": {"face": wrong}})


class Spot(BaseModel):
    x: int


class Changed(
    Node,
    version=2,
    deprecated="use another",
    renamed={"words": "text"},
    removed={"edges": "mirrored"},
    replaced={"size": ("width", "height")},
):
    """Has changed."""

    text: str
    """What it is about."""
    width: int
    height: int
    spots: tuple[Spot, ...] = ()
    endless: float = float("inf")
    speed: Annotated[int, Field(ge=0), Deprecated("leave it out")] = 0

    @classmethod
    def replacing(cls, old: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"width": old["size"], "height": old["size"]}

    def run(self, ctx: Context) -> str: ...


@pytest.mark.parametrize(
    ("inputs", "is_right"),
    [
        ({"text": "a", "width": 1, "height": 1}, True),
        ({"words": "a", "size": 8, "edges": "x"}, True),
        ({"words": 1, "size": 8}, False),
        ({"size": 8}, False),
        ({"text": "a", "width": 1}, False),
        ({"text": "a", "size": 8, "spots": [{"x": 1}]}, True),
        ({"text": "a", "size": 8, "spots": [{"x": "one"}]}, False),
    ],
)
def test_old_names_are_taken_too(inputs: dict[str, Any], is_right: bool) -> None:
    kinds = Registry([Changed])
    schema = Draft202012Validator(schema_of(kinds))
    graph = {"1": {"class_type": "Changed", "inputs": inputs}}
    assert (faults(graph, schema) == []) is is_right
    if is_right:
        check(prepare(Workflow.read(graph), kinds), targets=["1"])


def test_it_says_what_things_are() -> None:
    schema = schema_of(Registry([Changed]))
    json.dumps(schema, allow_nan=False)
    inputs = schema["$defs"]["inputs of Changed"]
    assert (inputs["description"], inputs["deprecated"]) == ("Has changed.", True)
    assert inputs["properties"]["text"]["description"] == "What it is about."
    assert inputs["properties"]["speed"]["deprecated"] is True
    assert inputs["properties"]["words"]["description"] == "renamed to text"


def test_the_command_writes_it(kinograph: Command) -> None:
    result = kinograph("nodes", "--schema")
    assert result.exit_code == 0
    assert "Shout" in json.dumps(json.loads(result.stdout)["$defs"]["node"])
    assert kinograph("nodes", "Shout", "--schema").exit_code == 2


def test_a_document_that_names_it_keeps_the_name(tmp_path: Path) -> None:
    data = {"$schema": "./workflow.schema.json", "kinograph": 1, "title": "Fish", "graph": FISH}
    workflow = Workflow.read(data)
    assert workflow.document() == data
    assert next(iter(workflow.document())) == "$schema"
    assert "$schema" not in Workflow.read({"graph": FISH}).document()
    assert check(prepare(workflow, registry())).workflow.document() == data
