"""What is wrong with a workflow, as ComfyUI's clients read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.graph.check import Verdict
from engine.server.comfyui.refusals import node_errors, refused
from engine.server.http.settings import Folders, ServerSettings
from engine.server.jobs.checking import examine
from nodes import registry


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    folders = Folders(*(tmp_path / name for name in ("input", "output", "models", "data")))
    folders.make()
    return ServerSettings(folders)


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def examined(graph: dict[str, Any], settings: ServerSettings) -> Verdict:
    return examine(prepare(Workflow.read(graph), registry()), settings)


PICTURE = node("LoadImage", image="a.png")


@pytest.mark.parametrize(
    ("faulty", "kind", "about"),
    [
        (node("SaveImage"), "required_input_missing", {"input_name": "images"}),
        (node("SaveImage", images=["0", 9]), "bad_linked_input", {"input_name": "images", "linked_node": ["0", 9]}),
        (node("SaveImage", images=["9", 0]), "bad_linked_input", {"input_name": "images", "linked_node": ["9", 0]}),
        (
            node("SaveText", text=["0", 0]),
            "return_type_mismatch",
            {"input_name": "text", "linked_node": ["0", 0]},
        ),
        (
            node("SaveImage", images=["0", 0], scale=99),
            "value_bigger_than_max",
            {"input_name": "scale", "received_value": 99},
        ),
        (
            node("SaveImage", images=["0", 0], scale=0),
            "value_smaller_than_min",
            {"input_name": "scale", "received_value": 0},
        ),
        (
            node("SaveImage", images=["0", 0], scale="x"),
            "invalid_input_type",
            {"input_name": "scale", "received_value": "x"},
        ),
        (
            node("SaveImage", images=["0", 0], filename_prefix="../a"),
            "custom_validation_failed",
            {"input_name": "filename_prefix", "received_value": "../a"},
        ),
        (
            node("LoadImage", image="b.png"),
            "custom_validation_failed",
            {"input_name": "image", "received_value": "b.png"},
        ),
        (
            node("ImageModelLoad", source="nowhere"),
            "value_not_in_list",
            {"input_name": "source", "received_value": "nowhere"},
        ),
        (
            node("ImageModelLoad", source="sprite/sdxl", dtype="float8"),
            "value_not_in_list",
            {"input_name": "dtype", "received_value": "float8"},
        ),
        (
            node("KSampler") | {"_meta": {"title": "Sample"}},
            "missing_node_type",
            {"node_id": "1", "class_type": "KSampler", "node_title": "Sample"},
        ),
        (node("TextLines", text=["1", 0]), "dependency_cycle", {}),
    ],
)
def test_the_sort_of_a_mistake_is_named(
    faulty: dict[str, Any], kind: str, about: dict[str, Any], settings: ServerSettings
) -> None:
    (settings.folders.input / "a.png").touch()
    checked = examined({"0": PICTURE, "1": faulty, "save": node("SaveImage", images=["0", 0])}, settings)
    found = node_errors(checked)["1"]
    assert found["class_type"] == faulty["class_type"]
    (error,) = [error for error in found["errors"] if error["type"] != "return_type_mismatch" or kind == error["type"]]
    assert (error["type"], error["extra_info"]) == (kind, about)
    assert error["message"]
    assert isinstance(error["details"], str)


def test_the_outputs_that_depend_on_a_node_are_listed(settings: ServerSettings) -> None:
    graph = {
        "bad": node("Text"),
        "lines": node("TextLines", text=["bad", 0]),
        "a": node("SaveText", text=["lines", 0]),
        "b": node("SaveText", text=["bad", 0]),
        "other": node("SaveText"),
    }
    errors = node_errors(examined(graph, settings))
    assert {name: about["dependent_outputs"] for name, about in errors.items()} == {
        "bad": ["a", "b"],
        "other": ["other"],
    }
    assert node_errors(examined(graph, settings), ["b"])["bad"]["dependent_outputs"] == ["b"]


def test_of_thousands_of_outputs_the_first_are_listed_in_a_moment(settings: ServerSettings) -> None:
    graph = {"0": node("Text")} | {str(i): node("Text", text=[str(i - 1), 0]) for i in range(1, 1000)}
    graph |= {f"save {i}": node("SaveText", text=["999", 0]) for i in range(5000)}
    assert node_errors(examined(graph, settings))["0"]["dependent_outputs"] == [f"save {i}" for i in range(100)]


def test_a_workflow_that_saves_nothing_has_no_outputs(settings: ServerSettings) -> None:
    answer = refused(examined({"1": node("Text", text="a")}, settings))
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body)["error"]["type"] == "prompt_no_outputs"
