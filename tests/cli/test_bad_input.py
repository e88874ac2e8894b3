"""Bad workflows: one clear message for each problem, with node, input, what was expected and a hint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command, write

KEEP = ("Keep", {"text": ["say", 0]})


@pytest.mark.parametrize(
    ("graph", "parts"),
    [
        ({"say": ("Shuot", {"text": "a"}), "keep": KEEP}, ["node say: ", "'Shuot'", "did you mean 'Shout'?"]),
        (
            {"say": ("Shout", {"text": "a", "mark": 2}), "keep": KEEP},
            ["node say, input mark: ", "did you mean 'marks'?"],
        ),
        ({"say": ("Shout", {}), "keep": KEEP}, ["node say, input text: is missing", "str"]),
        ({"say": ("Shout", {"text": 1}), "keep": KEEP}, ["node say, input text: should be a valid string, not 1"]),
        (
            {"say": ("Shout", {"text": "a", "marks": 10}), "keep": KEEP},
            ["input marks: ", "less than or equal to 9, not 10"],
        ),
        ({"say": ("Shout", {"text": "a", "manner": "lower"}), "keep": KEEP}, ["input manner: ", "'upper' or 'title'"]),
        ({"keep": KEEP}, ["node keep, input text: ", "say", "doesn't exist"]),
        ({"say": ("Shout", {"text": "a"}), "keep": ("Keep", {"text": ["say", 1]})}, ["has no output 1"]),
        (
            {"n": ("Shout", {"text": "a"}), "keep": ("KeepNumber", {"number": ["n", 0]})},
            ["node keep, input number: takes int", "str"],
        ),
        ({"say": ("Shout", {"text": "a"})}, ["nothing to run", "Keep"]),
        (
            {"a": ("Shout", {"text": ["b", 0]}), "b": ("Shout", {"text": ["a", 0]}), "k": ("Keep", {"text": ["a", 0]})},
            ["cycle: ", "a → b → a"],
        ),
    ],
)
def test_an_invalid_workflow_is_reported(kinograph: Command, graph: dict[str, Any], parts: list[str]) -> None:
    for command in ("run", "validate"):
        result = kinograph(command, write("bad.json", graph))
        assert result.exit_code == 3
        assert result.stdout == ""
        for part in parts:
            assert part in result.stderr.replace("b → a → b", "a → b → a")
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"1": {"class_type": "Keep",}}', "not JSON: trailing comma at line 1 column 29"),
        ("", "not JSON: EOF while parsing a value at line 1 column 0"),
        ("[]", "a workflow is a JSON object"),
        ('{"kinograph": 9, "graph": {}}', "the workflow's kinograph"),
        ('{"nodes": [], "links": []}', "there is nothing to run"),
        ('{"nodes": [{"id": 3}], "links": []}', "node 3: type: Field required"),
        ('{"1": {"inputs": {}}}', "node 1: class_type: "),
    ],
)
def test_a_file_without_a_workflow_is_reported(kinograph: Command, text: str, message: str) -> None:
    Path("bad.json").write_text(text)
    result = kinograph("validate", "bad.json")
    assert result.exit_code == 3
    assert message in result.stderr


def test_all_problems_are_reported_at_once(kinograph: Command) -> None:
    graph = {
        "say": ("Shout", {"marks": 99, "lound": True}),
        "keep": ("Keep", {"text": ["gone", 0]}),
        "weigh": ("Weigh", {"model": "nowhere.safetensors"}),
    }
    result = kinograph("validate", write("bad.json", graph))

    assert result.exit_code == 3
    for part in ("input text: is missing", "input marks", "input lound", "gone", "nowhere.safetensors"):
        assert part in result.stderr


def test_json_lists_the_problems(kinograph: Command) -> None:
    result = kinograph("validate", write("bad.json", {"keep": ("Keep", {"txt": "a"})}), "--json")

    assert result.exit_code == 3
    error = json.loads(result.stdout)
    assert error["exit_code"] == 3
    assert {problem["input"] for problem in error["problems"]} == {"txt", "text"}
    assert all(problem["node"] == "keep" for problem in error["problems"])


@pytest.mark.parametrize(
    ("name", "message"),
    [("snial.json", "did you mean 'snail.json'?"), ("image_to_vdeo", "did you mean 'image_to_video'?")],
)
def test_a_workflow_that_does_not_exist_is_missing(kinograph: Command, snail: str, name: str, message: str) -> None:
    result = kinograph("validate", name)
    assert result.exit_code == 4
    assert f"there is no workflow '{name}'" in result.stderr
    assert message in result.stderr


def test_a_folder_is_not_a_workflow(kinograph: Command, tmp_path: Path) -> None:
    result = kinograph("validate", str(tmp_path))
    assert result.exit_code == 2
    assert "Is a directory" in result.stderr


def test_a_file_that_an_input_names_must_exist(kinograph: Command) -> None:
    Path("snail.png").touch()
    graph = {"load": ("LoadImage", {"image": "snial.png"}), "save": ("SaveImage", {"images": ["load", 0]})}
    result = kinograph("validate", write("picture.json", graph))
    assert result.exit_code == 4
    assert "node load, input image: there is no file 'snial.png'" in result.stderr
    assert "did you mean 'snail.png'?" in result.stderr
