"""Bad workflows: one clear message for each problem, with node, input, what was expected and a hint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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


@pytest.mark.parametrize("form", ["api", "ui"])
def test_values_that_nodes_do_not_have_are_ignored_in_other_programs_files_and_told(
    kinograph: Command, form: str
) -> None:
    api = {
        "1": {"class_type": "Shout", "inputs": {"text": "a", "marks": 2, "mark": 3}},
        "2": {"class_type": "Keep", "inputs": {"text": ["1", 0]}},
    }
    ui = {
        "nodes": [
            {"id": 1, "type": "Shout", "widgets_values": {"text": "a", "marks": 2, "mark": 3}},
            {"id": 2, "type": "Keep", "inputs": [{"name": "text", "link": 5}]},
        ],
        "links": [[5, 1, 0, 2, 0, "STRING"]],
    }
    Path("theirs.json").write_text(json.dumps(api if form == "api" else ui))
    result = kinograph("run", "theirs.json")
    assert result.exit_code == 0
    assert "warning: node 1, input mark: is ignored: Shout has no such input (did you mean 'marks'?)" in result.stderr
    assert Path("output/note_00001.txt").read_text() == "A!!"
    result = kinograph("validate", "theirs.json")
    assert "warning: node 1, input mark: is ignored" in result.stderr
    Path("ours.json").write_text(json.dumps({"kinograph": 1, "graph": api}))
    assert kinograph("validate", "ours.json").exit_code == 3


def test_a_file_that_an_input_names_must_exist(kinograph: Command) -> None:
    Path("snail.png").touch()
    graph = {"load": ("LoadImage", {"image": "snial.png"}), "save": ("SaveImage", {"images": ["load", 0]})}
    result = kinograph("validate", write("picture.json", graph))
    assert result.exit_code == 4
    assert "node load, input image: there is no file 'snial.png'" in result.stderr
    assert "did you mean 'snail.png'?" in result.stderr


@pytest.mark.parametrize("number", ["1e999", "-Infinity", "NaN"])
def test_a_number_that_json_lacks_is_refused_with_its_place(kinograph: Command, snail: str, number: str) -> None:
    graph = f'{{"weigh": {{"class_type": "Shout", "inputs": {{"text": "a", "marks": {number}}}}}}}'
    Path("bad.json").write_text(graph)
    result = kinograph("validate", "bad.json")
    assert result.exit_code == 3
    assert f"error: node weigh, input marks: {number} is no number that JSON has" in result.stderr
    result = kinograph("run", snail, "--set", f"say.marks={number}")
    assert result.exit_code == 3
    assert "node say, input marks: must be finite" in result.stderr


def test_a_node_that_is_there_twice_is_named(kinograph: Command) -> None:
    Path("bad.json").write_text('{"kinograph": 1, "graph": {"a": {"class_type": "X"}, "a": {"class_type": "Y"}}}')
    result = kinograph("validate", "bad.json")
    assert result.exit_code == 3
    assert "node a: is written twice" in result.stderr


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_that_other_systems_write_are_read(kinograph: Command, snail: str, encoding: str) -> None:
    Path("other.json").write_text(Path(snail).read_text(), encoding)
    assert kinograph("validate", "other.json").exit_code == 0


def test_a_file_that_is_not_json_is_named(kinograph: Command) -> None:
    Path("bad.json").write_bytes(b'{"1": "\xe9"}')
    assert "'bad.json' is not JSON" in kinograph("validate", "bad.json").stderr


@pytest.mark.parametrize("letters", ["é" * 150, "a" * 201, "folder/" + "漢" * 67])
def test_a_name_too_long_for_a_file_is_refused_before_the_run(kinograph: Command, letters: str) -> None:
    result = kinograph("run", write("long.json", {"keep": ("SaveText", {"text": "a", "filename_prefix": letters})}))
    assert result.exit_code == 3
    assert "node keep, input filename_prefix: " in result.stderr
    assert "Value error" not in result.stderr


def test_a_name_as_long_as_allowed_is_written(kinograph: Command) -> None:
    name = "é" * 100
    assert (
        kinograph("run", write("long.json", {"keep": ("SaveText", {"text": "a", "filename_prefix": name})})).exit_code
        == 0
    )
    assert [path.name for path in Path().rglob("*.txt")] == [f"{name}_00001.txt"]


def test_a_node_file_that_ends_the_process_is_named(kinograph: Command, snail: str) -> None:
    Path("program.py").write_text("import sys\nsys.exit(0)\n")
    result = kinograph("validate", snail, "--nodes", "program.py")
    assert result.exit_code == 2
    assert "'program.py' ends the process" in result.stderr


def test_a_wrong_result_is_told_without_an_address(kinograph: Command) -> None:
    Path("wrong.py").write_text(
        "from kinograph import Context, Node\n\n\nclass Wrong(Node, version=1, category='toy'):\n"
        "    'Give a text.'\n\n    def run(self, ctx: Context) -> int:\n        return 'seven'\n"
    )
    result = kinograph("run", write("wrong.json", {"w": ("Wrong", {})}), "--until", "w", "--nodes", "wrong.py")
    assert result.exit_code == 5
    assert (
        "Wrong returned something other than what it declares: should be a valid integer, not 'seven'" in result.stderr
    )
    assert "pydantic.dev" not in result.stderr


def test_help_is_printed_where_only_ascii_can_be(tmp_path: Path) -> None:
    (tmp_path / "more.py").write_text(
        "from kinograph import Context, Node\n\n\nclass More(Node, version=1, category='toy'):\n"
        "    'Give ≥ 3.'\n\n    def run(self, ctx: Context) -> int:\n        return 3\n"
    )
    command = [sys.executable, "-m", "kinograph", "nodes", "More", "--nodes", str(tmp_path / "more.py")]
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Give \\u2265 3." in done.stdout
