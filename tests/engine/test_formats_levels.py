"""What stands for other nodes in the ecosystem's files: reroutes, variables, group nodes, subgraphs."""

from __future__ import annotations

from typing import Any

import pytest

from engine.document.prepared import prepare
from engine.document.subgraphs import inlined
from engine.document.workflow import Workflow
from engine.errors import WorkflowError
from tests.engine.drawn import DRAWN, GIVEN, REGISTRY, inputs, link, node, read, sketch, socket, subgraph


def test_reroutes_primitives_and_variables_are_left_out() -> None:
    workflow = read(
        node(1, "Load", ["snail.png"]),
        node(2, "Reroute", inputs=[socket("", 5)]),
        node(3, "SetNode", ["picture"], inputs=[socket("*", 6)]),
        node(4, "GetNode", ["picture"]),
        node(5, "PrimitiveNode", [9, "fixed"]),
        node(6, "Reroute", inputs=[socket("", 8)]),
        node(7, "PrimitiveString", ["a hen"]),
        node(8, "Draw", DRAWN, inputs=[socket("image", 7), socket("seed", 9, True), socket("prompt", 10, True)]),
        links=[
            *(link(5, 1, 0, 2), link(6, 2, 0, 3), link(7, 4, 0, 8), link(8, 5, 0, 6), link(9, 6, 0, 8, 1)),
            link(10, 7, 0, 8, 2),
        ],
    )
    assert workflow.graph.keys() == {"1", "8"}
    assert inputs(workflow, "8") == GIVEN | {"image": ["1", 0], "seed": 9, "prompt": "a hen"}


FACES: dict[str, Any] = {
    "nodes": [
        node(-1, "Load", ["snail.png"], outputs=[{"name": "out", "type": "IMAGE"}]) | {"index": 0},
        node(-1, "Draw", DRAWN, inputs=[socket("image", 99)], outputs=[{"name": "out", "type": "IMAGE"}])
        | {"index": 1},
        node(-1, "Split", inputs=[socket("image")], outputs=[{"name": "left"}, {"name": "right"}]) | {"index": 2},
    ],
    "links": [[0, 0, 1, 0, 7, "IMAGE"], [None, 0, 2, 0, 8, "IMAGE"]],
    "external": [],
}
"""A group of three nodes: a picture is loaded and drawn, another is split."""


def grouped(definition: Any, *nodes: dict[str, Any], **more: Any) -> Workflow:
    return read(*nodes, extra={"groupNodes": {"Faces": definition}}, **more)


@pytest.mark.parametrize("kind", ["workflow>Faces", "workflow/Faces"])
def test_a_group_node_is_the_nodes_that_it_stands_for(kind: str) -> None:
    values = ["hen.png", "a hen", 8, "fixed", 31, 0.6, "fine"]
    workflow = grouped(
        FACES,
        node(1, "Load", ["other.png"]),
        node(2, kind, values, inputs=[socket("image", 1)]),
        node(3, "Split", inputs=[socket("image", 2)]),
        node(4, "Split", inputs=[socket("image", 3)]),
        links=[link(1, 1, 0, 2), link(2, 2, 0, 3), link(3, 2, 2, 4)],
    )
    drawn = {"prompt": "a hen", "seed": 8, "steps": 31, "strength": 0.6, "manner": "fine"}
    assert {name: entry.inputs for name, entry in workflow.graph.items()} == {
        "1": {"image": "other.png"},
        "2:0": {"image": "hen.png"},
        "2:1": drawn | {"image": ["2:0", 0]},
        "2:2": {"image": ["1", 0]},
        "3": {"image": ["2:1", 0]},
        "4": {"image": ["2:2", 1]},
    }


def test_a_group_may_show_what_it_links_itself() -> None:
    for shown in ({"external": [[0, 0, "IMAGE"]]}, {"config": {"0": {"output": {"0": {"visible": True}}}}}):
        workflow = grouped(
            FACES | shown,
            node(2, "workflow>Faces", inputs=[socket("image")]),
            node(3, "Split", inputs=[socket("image", 2)]),
            links=[link(2, 2, 0, 3)],
        )
        assert inputs(workflow, "3") == {"image": ["2:0", 0]}
        assert inputs(workflow, "2:1") == GIVEN | {"image": ["2:0", 0]}


def test_a_muted_group_node_mutes_its_nodes() -> None:
    workflow = grouped(FACES, node(2, "workflow>Faces", mode=2, inputs=[socket("image")]))
    assert {entry.meta["mode"] for entry in workflow.graph.values()} == {"mute"}


def test_an_output_that_an_older_editor_names_by_writing_out_its_node_is_not_shown() -> None:
    loaded = FACES["nodes"][0]
    for shown in ([[loaded, 0, "IMAGE"]], []):
        workflow = grouped(
            FACES | {"external": shown},
            node(2, "workflow/Faces", inputs=[socket("image")]),
            node(3, "Split", inputs=[socket("image", 2)]),
            links=[link(2, 2, 0, 3)],
        )
        assert inputs(workflow, "3") == {"image": ["2:1", 0]}


def test_a_bypassed_group_node_passes_on_what_comes_in() -> None:
    types = {"outputs": [{"name": name, "type": "IMAGE"} for name in ("out", "left", "right")], "mode": 4}
    workflow = grouped(
        FACES,
        node(1, "Load", ["snail.png"]),
        node(2, "workflow>Faces", inputs=[socket("image", 1, type="IMAGE")], **types),
        node(3, "Split", inputs=[socket("image", 2)]),
        links=[link(1, 1, 0, 2), link(2, 2, 0, 3)],
    )
    active = prepare(workflow, REGISTRY).active.graph
    assert {key: entry.inputs for key, entry in active.items()} == {
        "1": {"image": "snail.png"},
        "3": {"image": ["1", 0]},
    }


@pytest.mark.parametrize(
    "definition",
    [
        None,
        [],
        {"nodes": 5},
        {"nodes": [{"type": 3}]},
        FACES | {"links": [[0, 0, 9, 0]]},
        FACES | {"links": [5]},
        FACES | {"links": [["0", 0, 1, 0]]},
    ],
)
def test_a_malformed_group_is_left_for_the_check(definition: Any) -> None:
    assert [*grouped(definition, node(2, "workflow>Faces", inputs=[socket("image")])).graph] == ["2"]


def test_groups_that_stand_for_very_many_nodes_are_left_for_the_check() -> None:
    many = {"nodes": [node(-1, "Load", ["snail.png"])] * 200}
    assert len(grouped(many, *(node(number, "workflow>Faces") for number in range(100))).graph) == 20_000
    assert len(grouped(many, *(node(number, "workflow>Faces") for number in range(101))).graph) == 101


def test_a_group_whose_values_cannot_be_told_apart_is_left_for_the_check() -> None:
    workflow = grouped(FACES, node(2, "workflow>Faces", ["hen.png", "a hen"], inputs=[socket("image")]))
    assert [*workflow.graph] == ["2"]


@pytest.mark.parametrize(
    ("kind", "mode", "seed"),
    [
        ("PrimitiveInt", 0, 9),
        ("PrimitiveInt", 2, 7),
        ("PrimitiveInt", 4, 7),
        ("PrimitiveNode", 2, 9),
        ("PrimitiveNode", 4, 9),
    ],
)
def test_a_primitive_that_is_off_leaves_what_it_is_linked_to_its_own_value(kind: str, mode: int, seed: int) -> None:
    workflow = read(
        node(1, kind, [9, "fixed"], mode=mode),
        node(2, "Draw", DRAWN, inputs=[socket("seed", 1, True)]),
        links=[link(1, 1, 0, 2)],
    )
    assert inputs(workflow, "2") == GIVEN | {"seed": seed}


@pytest.mark.parametrize(("mode", "given"), [(0, {"image": ["1", 0]}), (2, {}), (4, {"image": ["1", 0]})])
def test_a_muted_reroute_passes_nothing_on(mode: int, given: dict[str, Any]) -> None:
    workflow = read(
        node(1, "Load", ["snail.png"]),
        node(2, "Reroute", inputs=[socket("", 1)], mode=mode),
        node(3, "Split", inputs=[socket("image", 2)]),
        links=[link(1, 1, 0, 2), link(2, 2, 0, 3)],
    )
    assert inputs(workflow, "3") == given


@pytest.mark.parametrize("reroutes", [0, 1, 3])
def test_a_primitive_at_the_end_of_reroutes_from_nowhere_keeps_its_own_value(reroutes: int) -> None:
    row = range(1, reroutes + 1)
    ends = [8 if number == reroutes else number + 1 for number in row]
    workflow = read(
        *(node(number, "Reroute", inputs=[socket("", number - 1 or None)]) for number in row),
        node(8, "PrimitiveInt", [9, "fixed"], inputs=[socket("value", reroutes or None, True)]),
        node(9, "Draw", DRAWN, inputs=[socket("seed", 8, True)]),
        links=[*(link(number, number, 0, end) for number, end in zip(row, ends, strict=True)), link(8, 8, 0, 9)],
    )
    assert inputs(workflow, "9") == GIVEN | {"seed": 9}


def test_reroutes_that_lead_to_each_other_lead_nowhere() -> None:
    workflow = read(
        node(1, "Reroute", inputs=[socket("", 6)]),
        node(2, "Reroute", inputs=[socket("", 5)]),
        node(3, "Split", inputs=[socket("image", 6)]),
        links=[link(5, 1, 0, 2), link(6, 2, 0, 1)],
    )
    assert inputs(workflow, "3") == {}


# Subgraphs


def sketched(**instance: Any) -> Workflow:
    return read(
        node(1, "Load", ["snail.png"]),
        node(2, "5d1e", inputs=[socket("image", 1), socket("text", widget=True)], **instance),
        node(3, "Draw", DRAWN, inputs=[socket("image", 2)]),
        node(4, "Draw", DRAWN, inputs=[socket("image", 3)]),
        links=[link(1, 1, 0, 2), link(2, 2, 0, 3), link(3, 2, 1, 4)],
        definitions={"subgraphs": [sketch()]},
    )


def test_a_subgraph_exposes_its_inputs_and_outputs() -> None:
    workflow = sketched()
    inner = workflow.subgraphs["Sketch"]
    assert inner.title == "Sketch"
    assert inner.inputs == {"image": "1.image", "What to draw_": "1.prompt", "What to draw__2": "2.prompt"}
    assert inner.outputs == {"drawn": ["2", 0]}
    assert inner.graph["1"].inputs == GIVEN | {"steps": 12}
    assert workflow.graph["2"].class_type == "Sketch"
    assert inputs(workflow, "2") == {"image": ["1", 0]}
    assert inputs(workflow, "3")["image"] == ["2", "drawn"]
    assert inputs(workflow, "4")["image"] == ["1", 0], "an output that is an input is skipped"
    assert not inlined(workflow, REGISTRY).problems


@pytest.mark.parametrize(
    "instance",
    [
        {"widgets_values": ["a hen"]},
        {"widgets_values_named": {"text": "a hen"}},
        {"widgets_values": ["a hen"], "widgets_values_named": {"text": "a fox"}},
        {"widgets_values": ["a hen"], "widgets_values_named": {"text": "a fox", "gone": 1}},
        {"widgets_values": ["gone", "a hen"], "widgets_values_named": {"gone": 1, "text": "a fox"}},
        {"widgets_values": ["a hen"], "properties": {"proxyWidgets": [["-1", "text"]]}},
        {"widgets_values": ["a hen"], "properties": {"proxyWidgets": [["1", "prompt"]]}},
    ],
)
def test_an_outer_value_holds_for_all_inputs_that_it_leads_to(instance: dict[str, Any]) -> None:
    flat = inlined(sketched(**instance), REGISTRY).workflow.graph
    assert [flat[name].inputs["prompt"] for name in ("2/1", "2/2")] == ["a hen", "a hen"]


def test_without_an_outer_value_the_inner_ones_hold() -> None:
    flat = inlined(sketched(widgets_values=["one", "too many"]), REGISTRY).workflow.graph
    assert flat["2/1"].inputs["prompt"] == "a snail"


def test_widgets_that_older_editors_show_on_the_outside() -> None:
    shown = [["1", "seed"], ["1", "control_after_generate"], ["3", "value"], ["9", "gone"], ["2", "$$canvas"]]
    workflow = sketched(properties={"proxyWidgets": shown}, widgets_values=[5, "fixed", 99, None, None])
    assert workflow.subgraphs["Sketch"].inputs.keys() >= {"seed", "value", "value_2"}
    flat = inlined(workflow, REGISTRY).workflow.graph
    assert [flat[name].inputs["seed"] for name in ("2/1", "2/2")] == [5, 7]
    assert [flat[name].inputs["steps"] for name in ("2/1", "2/2")] == [99, 99]


def test_nested_subgraphs_are_all_defined_at_the_top() -> None:
    outer = subgraph(
        "a0",
        "Sketch",
        node(7, "5d1e", inputs=[socket("image", 1), socket("text", 2, True)]),
        links=[link(1, -10, 0, 7), link(2, -10, 1, 7, 1), link(3, 7, 0, -20), link(4, 7, 1, -20, 1)],
        inputs=[{"name": "photo"}, {"name": "text"}],
        outputs=[{"name": "drawing"}, {"name": "photo"}],
        definitions={"subgraphs": [sketch()]},
    )
    workflow = read(
        node(1, "Load", ["snail.png"]),
        node(2, "a0", ["a hen"], inputs=[socket("photo", 1)]),
        node(3, "Draw", DRAWN, inputs=[socket("image", 2)]),
        node(4, "Split", inputs=[socket("image", 3)]),
        links=[link(1, 1, 0, 2), link(2, 2, 0, 3), link(3, 2, 1, 4)],
        definitions={"subgraphs": [outer]},
    )
    assert workflow.subgraphs.keys() == {"Sketch", "Sketch 2"}
    assert inputs(workflow, "4") == {"image": ["1", 0]}
    flat = inlined(workflow, REGISTRY)
    assert not flat.problems
    assert [flat.workflow.graph[name].inputs["prompt"] for name in ("2/7/1", "2/7/2")] == ["a hen", "a hen"]
    assert flat.workflow.graph["3"].inputs["image"] == ["2/7/2", 0]


def test_inputs_with_dots_in_their_names_are_linked_and_set_through_several_levels() -> None:
    batch = [socket("images.image0", 1), socket("images.image1", 2), socket("mode.scale", 3, True, "FLOAT")]
    ends: dict[str, Any] = {
        "inputs": [{"name": "images.image0"}, {"name": "b"}, {"name": "mode.scale"}],
        "outputs": [{"name": "out"}],
    }
    links = [*(link(at + 1, -10, at, 1, at) for at in range(3)), link(4, 1, 0, -20)]
    inner = subgraph("in", "Inner", node(1, "Batch", [0.5], inputs=batch), links=links, **ends)
    use = [socket("images.image0", 1), socket("b", 2), socket("mode.scale", 3, True)]
    outer = subgraph("out", "Outer", node(1, "in", inputs=use), links=links, **ends)
    workflow = read(
        node("5.a", "Load", ["a.png"]),
        node(5, "out", [0.75], inputs=[socket("images.image0", 1), socket("b", 2), socket("mode.scale", None, True)]),
        links=[link(1, "5.a", 0, 5), link(2, "5.a", 0, 5, 1)],
        definitions={"subgraphs": [outer, inner]},
    )
    prepared = prepare(workflow, REGISTRY)
    assert not prepared.problems
    assert prepared.flat.graph["5/1/1"].inputs == {
        "images.image0": ["5.a", 0],
        "images.image1": ["5.a", 0],
        "mode.scale": 0.75,
    }


def test_a_subgraph_is_never_mistaken_for_a_kind_of_node() -> None:
    made = [subgraph(name, name, links=[]) for name in ("Draw", "Foreign")]
    workflow = read(node(1, "Foreign 2"), definitions={"subgraphs": [made[0] | {"id": "x"}, made[1] | {"id": "y"}]})
    assert workflow.subgraphs.keys() == {"Draw 2", "Foreign"}


def test_a_subgraph_that_contains_itself_is_reported() -> None:
    one = subgraph("a", "One", node(1, "b"), links=[])
    other = subgraph("b", "Other", node(1, "a"), links=[])
    with pytest.raises(WorkflowError, match=r"a subgraph contains itself: '(One|Other)' → "):
        read(node(1, "a"), definitions={"subgraphs": [one, other]})


# The layout
