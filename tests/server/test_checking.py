"""The runnable part of a workflow is run, and the rest reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.server.http.settings import Folders, ServerSettings
from engine.server.jobs.checking import examine_parts
from nodes import registry


@pytest.fixture
def setup(tmp_path: Path) -> ServerSettings:
    folders = Folders(*(tmp_path / name for name in ("input", "output", "models", "data")))
    folders.make()
    return ServerSettings(folders)


def saved(text: str) -> dict[str, Any]:
    return {
        "words": {"class_type": "Text", "inputs": {"text": text}},
        "save": {"class_type": "SaveText", "inputs": {"text": ["words", 0]}},
    }


WRONG = {"wrong": {"class_type": "SaveText", "inputs": {}}}


def test_nodes_that_depend_on_a_faulty_one_are_left_out(setup: ServerSettings) -> None:
    whole, part = examine_parts(prepare(Workflow.read(saved("a") | WRONG), registry()), setup, None)
    assert [problem.node for problem in whole.problems] == ["wrong"]
    assert (part.can_run, part.targets, list(part.prepared.workflow.graph)) == (True, ("save",), ["words", "save"])


def test_a_node_within_a_subgraph_can_be_requested(setup: ServerSettings) -> None:
    document = {
        "kinograph": 1,
        "graph": {"face": {"class_type": "Face", "inputs": {}}, **WRONG},
        "subgraphs": {"Face": {"kinograph": 1, "graph": saved("a")}},
    }
    whole, part = examine_parts(prepare(Workflow.read(document), registry()), setup, ["face/save"])
    assert (part.can_run, part.targets, list(part.prepared.workflow.graph)) == (True, ("face/save",), ["face"])
    assert not whole.can_run


def test_nothing_can_be_run_if_every_node_is_faulty(setup: ServerSettings) -> None:
    whole, part = examine_parts(prepare(Workflow.read(WRONG), registry()), setup, None)
    assert part is whole
    assert not whole.can_run
