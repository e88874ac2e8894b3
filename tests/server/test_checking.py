"""The runnable part of a workflow is run, and the rest reported."""

from __future__ import annotations

from pathlib import Path
from time import process_time
from typing import Any

import pytest

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.errors import KinographError
from engine.server.http.settings import Folders, ServerSettings
from engine.server.jobs.checking import examine, examine_parts, parse
from nodes import registry


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    folders = Folders(*(tmp_path / name for name in ("input", "output", "models", "data")))
    folders.make()
    return ServerSettings(folders)


def saved(text: str) -> dict[str, Any]:
    return {
        "words": {"class_type": "Text", "inputs": {"text": text}},
        "save": {"class_type": "SaveText", "inputs": {"text": ["words", 0]}},
    }


WRONG = {"wrong": {"class_type": "SaveText", "inputs": {}}}


def test_nodes_that_depend_on_a_faulty_one_are_left_out(settings: ServerSettings) -> None:
    whole, part = examine_parts(prepare(Workflow.read(saved("a") | WRONG), registry()), settings, None)
    assert [problem.node for problem in whole.problems] == ["wrong"]
    assert (part.can_run, part.targets, list(part.prepared.workflow.graph)) == (True, ("save",), ["words", "save"])


def test_nodes_that_need_a_model_to_be_fetched_are_not_faulty(settings: ServerSettings) -> None:
    source = "pypi:some-model==1/model.gguf"
    graph = {
        "llm": {"class_type": "LLMLoad", "inputs": {"source": source}},
        "write": {"class_type": "LookaheadDecode", "inputs": {"llm": ["llm", 0], "prompt": "a"}},
        "save": {"class_type": "SaveText", "inputs": {"text": ["write", "text"]}},
    }
    whole, part = examine_parts(prepare(Workflow.read(graph | WRONG), registry()), settings, None)
    assert [problem.node for problem in whole.problems + whole.missing] == ["wrong"]
    assert (part.can_run, part.targets, part.to_fetch()) == (True, ("save",), (source,))


def test_a_node_within_a_subgraph_can_be_requested(settings: ServerSettings) -> None:
    document = {
        "kinograph": 1,
        "graph": {"face": {"class_type": "Face", "inputs": {}}, **WRONG},
        "subgraphs": {"Face": {"kinograph": 1, "graph": saved("a")}},
    }
    whole, part = examine_parts(prepare(Workflow.read(document), registry()), settings, ["face/save"])
    assert (part.can_run, part.targets, list(part.prepared.workflow.graph)) == (True, ("face/save",), ["face"])
    assert not whole.can_run


def test_a_workflow_is_counted_with_its_subgraphs_inlined() -> None:
    levels = {f"S{i}": {"graph": {name: {"class_type": f"S{i + 1}"} for name in "ab"}} for i in range(13)}
    document = {
        "kinograph": 1,
        "graph": {"a": {"class_type": "S0"}},
        "subgraphs": levels | {"S13": {"graph": saved("a")}},
    }
    with pytest.raises(KinographError, match="inlined, the workflow has more than 20,000 nodes"):
        parse(document, registry())


def test_thousands_of_problems_are_found_in_a_moment(settings: ServerSettings) -> None:
    links = {f"link {index}": [f"nowhere {index}", 0] for index in range(1000)}
    graph = {str(index): {"class_type": f"Texte{index}", "inputs": {}} for index in range(1000)}
    graph |= {f"node {index}": {"class_type": "Text", "inputs": links} for index in range(20)}
    started = process_time()
    checked = examine(prepare(parse(graph, registry()), registry()), settings)
    assert process_time() - started < 2
    assert len(checked.problems) == 1000 + 20 * 1001
    assert checked.problems[0].hint == "did you mean 'Text'?"


def test_nothing_can_be_run_if_every_node_is_faulty(settings: ServerSettings) -> None:
    whole, part = examine_parts(prepare(Workflow.read(WRONG), registry()), settings, None)
    assert part is whole
    assert not whole.can_run
