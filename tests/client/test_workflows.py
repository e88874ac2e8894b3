"""What may be given as a workflow, and how its inputs are given other values before it is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.client import Client
from engine.client.connection import Connection
from engine.client.workflows import AnyWorkflow, to_send
from engine.document.workflow import Workflow
from engine.errors import MissingError, UsageError, WorkflowError
from tests.server.live import saving

GRAPH = saving("Wait", "before", steps=1)
DOCUMENT = {"kinograph": 1, "title": "A wait", "inputs": {"theme": "1.text"}, "graph": GRAPH}


def sent(workflow: AnyWorkflow, inputs: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What would be sent; no server is asked."""
    return asyncio.run(to_send(Connection("http://127.0.0.1:9"), workflow, inputs))


def test_json_data_are_sent_as_they_are() -> None:
    assert sent(GRAPH) == GRAPH
    assert sent(DOCUMENT) == DOCUMENT


def test_a_file_is_found_by_its_path_or_as_one_that_comes_along(tmp_path: Path) -> None:
    path = tmp_path / "wait.json"
    path.write_text(json.dumps(DOCUMENT))
    assert sent(path) == sent(str(path)) == DOCUMENT
    assert sent("keyframes")["title"]


def test_whatever_has_a_document_is_one() -> None:
    assert sent(Workflow.read(DOCUMENT)) == DOCUMENT


def test_inputs_are_given_by_their_names_and_the_given_workflow_stays_as_it_was() -> None:
    assert sent(DOCUMENT, {"theme": "after"})["graph"]["1"]["inputs"] == {"text": "after", "steps": 1}
    assert sent(GRAPH, {"1.text": "after", "1.steps": 2})["1"]["inputs"] == {"text": "after", "steps": 2}
    assert GRAPH["1"]["inputs"] == {"text": "before", "steps": 1}


def test_a_list_that_looks_like_a_link_is_sent_as_a_list() -> None:
    assert sent(GRAPH, {"1.text": ("1", 0)})["1"]["inputs"]["text"] == {"__value__": ["1", 0]}
    assert sent(GRAPH, {"1.text": (1, 2)})["1"]["inputs"]["text"] == [1, 2]


def test_inputs_that_are_not_there_or_no_json() -> None:
    with pytest.raises(UsageError, match=r"no input 'them' \(did you mean 'theme'\?\)"):
        sent(DOCUMENT, {"them": "x"})
    with pytest.raises(UsageError, match=r"no input '3\.text'"):
        sent(GRAPH, {"3.text": "x"})
    with pytest.raises(UsageError, match="no input 'text'"):
        sent(GRAPH, {"text": "x"})
    with pytest.raises(UsageError, match=r"'1\.text' isn't JSON: .*`upload` sends a file"):
        sent(GRAPH, {"1.text": Path("snail.png")})
    with pytest.raises(UsageError, match=r"'1\.steps' isn't JSON"):
        sent(GRAPH, {"1.steps": float("nan")})


@pytest.mark.parametrize("given", [3, None, [1], b"{}", Workflow])
def test_what_stands_for_no_workflow(given: Any) -> None:
    with pytest.raises(UsageError, match=r"is not a workflow \(give a path"):
        sent(given)


def test_inputs_and_axes_that_are_no_dictionary() -> None:
    with pytest.raises(UsageError, match=r"inputs: .* can't be the text 'theme'"):
        sent(DOCUMENT, "theme")  # type: ignore[arg-type]
    with Client("http://127.0.0.1:9") as client:
        for values in (3, "123"):
            with pytest.raises(UsageError, match="axis theme: the values are a list"):
                client.sweep(DOCUMENT, {"theme": values})  # type: ignore[dict-item]


def test_files_that_are_used_as_nodes_are_sent_along(tmp_path: Path) -> None:
    part = {"kinograph": 1, "inputs": {"text": "1.text"}, "outputs": {"out": ["1", 0]}, "graph": {"1": GRAPH["1"]}}
    whole = {"1": {"class_type": "part.json", "inputs": {"text": "in a part"}}, "2": GRAPH["2"]}
    (tmp_path / "part.json").write_text(json.dumps(part))
    (tmp_path / "whole.json").write_text(json.dumps(whole))
    found = sent(tmp_path / "whole.json", {"1.text": "after"})
    assert found["graph"]["1"]["inputs"] == {"text": "after"}
    assert found["subgraphs"] == {"part.json": part}
    with pytest.raises(UsageError, match=r"no input '1\.texts'"):
        sent(tmp_path / "whole.json", {"1.texts": "x"})


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (None, MissingError, r"there is no workflow '.*wait\.json' \(did you mean 'waits\.json'"),
        ("{", WorkflowError, "not JSON"),
        ("[]", WorkflowError, "a workflow is a JSON object"),
        ('{"1": {}}', WorkflowError, "node 1: class_type"),
    ],
)
def test_files_that_are_no_workflow(text: str | None, kind: type[Exception], said: str, tmp_path: Path) -> None:
    path = tmp_path / "wait.json"
    if text is None:
        path.with_stem("waits").touch()
    else:
        path.write_text(text)
    with pytest.raises(kind, match=said):
        sent(path)
    with pytest.raises(UsageError, match=r"can't read .*: Is a directory"):
        sent(tmp_path)


def test_what_the_client_cannot_read_the_server_reads(client: Client, tmp_path: Path) -> None:
    """A picture that carries its workflow, and what an editor saves."""
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "carrier"}},
    }
    (file,) = client.run(graph).files
    path = file.download(tmp_path)
    (again,) = client.run(path, {"2.filename_prefix": "carried"}).files
    assert again.name.startswith("carried")
    drawn = {
        "nodes": [
            {"id": 1, "type": "Wait", "outputs": [{"name": "out", "links": [1]}], "widgets_values": ["drawn", 1]},
            {"id": 2, "type": "Note", "inputs": [{"name": "text", "link": 1}], "widgets_values": []},
        ],
        "links": [[1, 1, 0, 2, 0, "STRING"]],
        "version": 0.4,
    }
    assert client.run(drawn).files[0].read() == b"drawn"
    assert client.run(drawn, {"1.text": "redrawn"}).files[0].read() == b"redrawn"
    (tmp_path / "noise.png").write_bytes(b"\x00noise")
    with pytest.raises(WorkflowError, match="not JSON"):
        client.run(tmp_path / "noise.png")
