"""`--until` and `--only` run a part of a workflow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command, write


@pytest.fixture
def two() -> str:
    """A workflow that saves two files, one of which needs a model that doesn't exist."""
    return write(
        "two.json",
        {
            "say": ("Shout", {"text": "snail"}),
            "again": ("Shout", {"text": ["say", 0]}),
            "keep": ("Keep", {"text": ["again", 0]}),
            "model": ("Load", {"source": "hf:nobody/nothing"}),
            "other": ("Keep", {"text": ["model", 0]}),
        },
        inputs={"theme": "say.text", "model": "model.source"},
    )


def test_until_runs_a_node_and_what_it_needs_and_prints_its_outputs(kinograph: Command, two: str) -> None:
    result = kinograph("run", two, "--until", "again")
    assert result.exit_code == 0
    assert result.stdout == "SNAIL!!\n"
    assert "2 nodes ran" in result.stderr
    assert not Path("output").exists()


def test_until_a_node_that_saves_writes_its_file_with_the_workflow_that_made_it(kinograph: Command, two: str) -> None:
    result = kinograph("run", two, "--until", "keep", "--set", "theme=boat")
    assert result.stdout == f"{Path('output/note_00001.txt')}\n"
    assert Path("output/note_00001.txt").read_text() == "BOAT!!"


def test_a_long_text_is_printed_completely(kinograph: Command, two: str) -> None:
    assert kinograph("run", two, "--until", "say", "--set", f"theme={'x' * 500}").stdout == f"{'X' * 500}!\n"


def test_with_json_it_is_an_event(kinograph: Command, two: str) -> None:
    events = [json.loads(line) for line in kinograph("run", two, "--until", "say", "--json").stdout.splitlines()]
    assert {"event": "node_result", "node": "say", "outputs": {"out": "'SNAIL!'"}} in events


def test_only_takes_what_it_needs_from_earlier_runs(kinograph: Command, two: str) -> None:
    kinograph("run", two, "--until", "say")
    result = kinograph("run", two, "--only", "again")
    assert result.stdout == "SNAIL!!\n"
    assert "1 node ran, 1 came from the cache" in result.stderr


def test_only_reports_what_has_not_been_computed(kinograph: Command, two: str) -> None:
    result = kinograph("run", two, "--only", "keep")
    assert result.exit_code == 4
    assert result.stderr.startswith("error: node again: has not been computed, or is no longer kept")
    assert "(run it together with what it needs)" in result.stderr


def test_both_at_once_are_refused(kinograph: Command, two: str) -> None:
    result = kinograph("run", two, "--only", "keep", "--until", "say")
    assert (result.exit_code, result.stderr) == (2, "error: --until and --only exclude each other\n")


@pytest.mark.parametrize("option", ["--only", "--until"])
def test_an_unknown_node_is_refused_with_a_hint(kinograph: Command, two: str, option: str) -> None:
    result = kinograph("run", two, option, "agian")
    assert result.exit_code == 2
    assert "the workflow has no node 'agian'" in result.stderr
    assert "again" in result.stderr
