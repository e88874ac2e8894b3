"""Reading workflow files and writing them back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.document.workflow import Link, Workflow, as_constant, as_link, split_path
from engine.errors import WorkflowError

GRAPH = {
    "1": {"class_type": "Text", "inputs": {"text": "a snail"}, "_meta": {"title": "Theme"}},
    "2": {"class_type": "Repeat", "inputs": {"text": ["1", 0], "times": 2}},
}
DOCUMENT = {
    "kinograph": 1,
    "title": "Snail",
    "description": "Twice.",
    "inputs": {"theme": "1.text"},
    "graph": GRAPH,
    "layout": {"1": [10, 20]},
}


def test_a_document_is_read_and_written_unchanged() -> None:
    workflow = Workflow.parse(json.dumps(DOCUMENT))
    assert workflow.graph["1"].meta["title"] == "Theme"
    assert workflow.document() == DOCUMENT
    assert workflow.api() == GRAPH


def test_a_bare_graph_is_read_too() -> None:
    assert Workflow.parse(json.dumps(GRAPH)) == Workflow.parse(json.dumps({"kinograph": 1, "graph": GRAPH}))


def test_links_and_constants() -> None:
    assert as_link(["1", 0]) == Link("1", 0)
    assert as_link(["1", "image"]) == Link("1", "image")
    for constant in ("1", ["1"], [1, 0], ["1", True], ["1", 0.0], ["1", 0, 0], {"__value__": ["1", 0]}):
        assert as_link(constant) is None
    assert as_constant({"__value__": ["1", 0]}) == ["1", 0]
    assert as_constant({"__value__": 1, "other": 2}) == {"__value__": 1, "other": 2}


@pytest.mark.parametrize(
    ("path", "nodes", "split"),
    [
        ("face.seed", "face", ("face", "seed")),
        ("my.face.seed", "my.face my", ("my.face", "seed")),
        ("5.images.image0", "5", ("5", "images.image0")),
        ("5.images.image0", "5 5.images", ("5.images", "image0")),
        ("no.such.input", "face", ("no.such", "input")),
        ("seed", "seed", ("", "seed")),
        ("5" + "." * 18, "5", ("5" + "." * 17, "")),
    ],
)
def test_a_path_to_an_input_is_split_where_the_id_of_a_node_ends(path: str, nodes: str, split: Any) -> None:
    assert split_path(path, nodes.split()) == split


def test_one_input_is_replaced_and_the_rest_shared() -> None:
    workflow = Workflow.read(DOCUMENT)
    changed = workflow.with_input("1", "text", "a fox")
    assert changed.graph["1"].inputs == {"text": "a fox"}
    assert workflow.graph["1"].inputs == {"text": "a snail"}
    assert changed.graph["2"] is workflow.graph["2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the workflow is not JSON: .* line 1 column 1"),
        ("", "is not JSON"),
        ('{"1": NaN}', "NaN is no number that JSON has"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "a workflow is a JSON object"),
        ('{"nodes": [], "links": []}', "in an editor's own format"),
        ('{"kinograph": 1}', "the workflow's graph: Field required"),
        ('{"kinograph": 2, "graph": {}}', "the workflow's kinograph: should be 1"),
        ('{"graph": {}, "titel": "x"}', "the workflow's titel: Extra inputs are not permitted"),
        ('{"1": 5}', "node 1: should be a valid dictionary"),
        ('{"1": {"inputs": {}}}', "node 1: class_type: Field required"),
        ('{"1": {"class_type": "Text", "inputs": []}}', "node 1: inputs: should be a valid dictionary"),
    ],
)
def test_bad_files_are_refused_with_a_reason(text: str, message: str) -> None:
    with pytest.raises(WorkflowError, match=message):
        Workflow.parse(text)


def test_everything_malformed_is_reported_at_once() -> None:
    with pytest.raises(WorkflowError) as caught:
        Workflow.parse('{"1": {}, "2": {"class_type": 3}}')
    assert [problem.node for problem in caught.value.problems] == ["1", "2"]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
graphs = st.dictionaries(
    st.text(min_size=1).filter(lambda name: name not in ("graph", "kinograph", "nodes")),
    st.fixed_dictionaries(
        {"class_type": st.text(), "inputs": st.dictionaries(st.text(), json_values, max_size=3)},
        optional={"_meta": st.dictionaries(st.text(), json_values, min_size=1, max_size=2)},
    ),
    max_size=4,
)


@given(graphs, st.text(), json_values.filter(lambda layout: layout is not None))
def test_any_workflow_survives_the_round_trip(graph: dict[str, Any], title: str, layout: Any) -> None:
    workflow = Workflow.read({"kinograph": 1, "title": title, "graph": graph, "layout": layout})
    assert Workflow.parse(json.dumps(workflow.document())) == workflow
    assert Workflow.parse(json.dumps(workflow.api())).graph == workflow.graph
