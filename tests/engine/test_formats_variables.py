"""Variables of the ecosystem's editor (SetNode, GetNode), in graphs and across the borders of subgraphs."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from typing import Any

import pytest

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from tests.engine.drawn import DRAWN, GIVEN, REGISTRY, inputs, link, node, read, socket, subgraph


def test_a_subgraph_gets_a_variable_that_is_set_around_it() -> None:
    """It is set in the file's graph, and got in a subgraph of a subgraph, for a widget and for a socket."""
    inner = subgraph(
        "i", "Inner",
        node(1, "GetNode", ["picture"]),
        node(2, "GetNode", ["number"]),
        node(3, "Draw", DRAWN, inputs=[socket("image", 1), socket("seed", 2, True)]),
        inputs=[{"name": "steps", "type": "INT"}], outputs=[{"name": "out", "type": "IMAGE"}],
        links=[link(1, 1, 0, 3), link(2, 2, 0, 3, 1), link(3, 3, 0, -20)],
    )  # fmt: skip
    outer = subgraph(
        "o", "Outer",
        node(1, "i", [], inputs=[]),
        node(2, "PrimitiveInt", [9, "fixed"]),
        node(3, "SetNode", ["number"], inputs=[socket("*", 2)]),
        outputs=[{"name": "out", "type": "IMAGE"}],
        links=[link(1, 1, 0, -20), link(2, 2, 0, 3)],
    )  # fmt: skip
    workflow = read(
        node(1, "Load", ["snail.png"]),
        node(2, "SetNode", ["picture"], inputs=[socket("*", 1)]),
        node(3, "o"),
        node(4, "Split", inputs=[socket("image", 2)]),
        links=[link(1, 1, 0, 2), link(2, 3, 0, 4)],
        definitions={"subgraphs": [outer, inner]},
    )
    active = prepare(workflow, REGISTRY).active.graph
    assert active["3/1/3"].inputs == GIVEN | {"image": ["1", 0], "seed": 9}


def test_a_variable_that_a_subgraph_sets_itself_is_its_own() -> None:
    inner = subgraph(
        "i", "Inner",
        node(1, "GetNode", ["number"]),
        node(2, "PrimitiveInt", [5, "fixed"]),
        node(3, "SetNode", ["number"], inputs=[socket("*", 2)]),
        node(4, "Draw", DRAWN, inputs=[socket("seed", 1, True)]),
        links=[link(1, 1, 0, 4), link(2, 2, 0, 3)],
    )  # fmt: skip
    workflow = read(
        node(1, "PrimitiveInt", [9, "fixed"]),
        node(2, "SetNode", ["number"], inputs=[socket("*", 1)]),
        node(3, "i"),
        links=[link(1, 1, 0, 2)],
        definitions={"subgraphs": [inner]},
    )
    assert prepare(workflow, REGISTRY).active.graph["3/4"].inputs == GIVEN | {"seed": 5}
    assert not workflow.subgraphs["Inner"].inputs


def setter(id: int, name: str, link: int | None, **more: Any) -> dict[str, Any]:
    return node(id, "SetNode", [name], inputs=[socket("*", link)], **more)


def getting(id: str, *before: dict[str, Any], links: list[dict[str, Any]] = []) -> dict[str, Any]:  # noqa: B006
    """A subgraph that splits the picture that its variable "a" has."""
    nodes = [node(8, "GetNode", ["a"]), node(9, "Split", inputs=[socket("image", 9)])]
    return subgraph(id, id, *before, *nodes, links=[*links, link(9, 8, 0, 9)])


def setting(id: str, *more: dict[str, Any]) -> dict[str, Any]:
    """A subgraph that sets its variable "a"."""
    return subgraph(id, id, node(1, "Load", ["inner.png"]), setter(2, "a", 1), *more, links=[link(1, 1, 0, 2)])


def test_a_variable_that_is_set_in_a_subgraph_does_not_hold_outside_of_it() -> None:
    outside = read(
        node(1, "Inner"),
        node(2, "GetNode", ["a"]),
        node(3, "Split", inputs=[socket("image", 2)]),
        links=[link(2, 2, 0, 3)],
        definitions={"subgraphs": [setting("Inner")]},
    )
    beside = read(node(1, "Inner"), node(2, "Other"), definitions={"subgraphs": [setting("Inner"), getting("Other")]})
    around = read(node(2, "Other"), definitions={"subgraphs": [getting("Other", node(1, "Inner")), setting("Inner")]})
    said = "the variable 'a' is left out: nothing sets it"
    for workflow, getter, where in ((outside, "3", ""), (beside, "2/9", "Other"), (around, "2/9", "Other")):
        flat = prepare(workflow, REGISTRY).flat.graph
        assert flat[getter].inputs == {}
        (problem,) = workflow.ignored
        assert problem.message == (f"in the subgraph '{where}': {said}" if where else said)
        assert problem.hint == "the subgraph 'Inner' sets it, but only for itself and what is in it"


def test_the_innermost_of_several_variables_of_a_name_counts_wherever_the_subgraph_is_used() -> None:
    workflow = read(
        node(1, "Load", ["outer.png"]),
        setter(2, "a", 1),
        node(3, "Inner"),
        node(4, "Outer"),
        links=[link(1, 1, 0, 2)],
        definitions={"subgraphs": [setting("Outer", node(3, "Inner")), getting("Inner")]},
    )
    flat = prepare(workflow, REGISTRY).flat.graph
    assert flat["3/9"].inputs == {"image": ["1", 0]}
    assert flat["4/3/9"].inputs == {"image": ["4/1", 0]}
    assert not workflow.ignored


def test_a_variable_may_be_set_from_an_input_of_a_subgraph_and_from_another_variable() -> None:
    outer = subgraph(
        "Outer", "Outer",
        setter(1, "b", 1),
        node(2, "GetNode", ["b"]),
        setter(3, "a", 2),
        node(4, "Inner"),
        links=[link(1, -10, 0, 1), link(2, 2, 0, 3)], inputs=[{"name": "picture"}],
    )  # fmt: skip
    workflow = read(
        node(1, "Load", ["snail.png"]),
        node(2, "Outer", inputs=[socket("picture", 1)]),
        links=[link(1, 1, 0, 2)],
        definitions={"subgraphs": [outer, getting("Inner")]},
    )
    assert prepare(workflow, REGISTRY).flat.graph["2/4/9"].inputs == {"image": ["1", 0]}


def test_a_variable_may_lead_from_outside_through_a_subgraph_and_out_again() -> None:
    through = subgraph(
        "Through", "Through", node(1, "GetNode", ["a"]), links=[link(1, 1, 0, -20)], outputs=[{"name": "out"}]
    )
    workflow = read(
        node(1, "Load", ["snail.png"]),
        setter(2, "a", 1),
        node(3, "Through"),
        node(4, "Split", inputs=[socket("image", 2)]),
        links=[link(1, 1, 0, 2), link(2, 3, 0, 4)],
        definitions={"subgraphs": [through]},
    )
    assert inputs(workflow, "4") == {"image": ["1", 0]}


@pytest.mark.parametrize(
    ("nodes", "image"),
    [
        ([setter(2, "a", 1), setter(4, "a", 3), node(5, "GetNode", ["a"])], ["1", 0]),
        ([setter(2, "", 1), node(5, "GetNode", [""])], None),
        ([setter(2, "a", 1), node(5, "GetNode", [["a"]])], None),
        ([setter(2, "a", 1), node(5, "GetNode", ["a"], mode=2)], None),
        ([setter(2, "a", 1), node(5, "GetNode", ["a"], mode=4)], None),
        ([setter(2, "a", 1, mode=2), node(5, "GetNode", ["a"])], ["1", 0]),
        ([setter(2, "a", None), node(5, "GetNode", ["a"])], None),
        ([node(5, "GetNode", ["a"])], None),
    ],
)
def test_a_variable_has_a_name_and_the_first_of_that_name_counts(nodes: list[dict[str, Any]], image: Any) -> None:
    workflow = read(
        *(node(1, "Load", ["one.png"]), node(3, "Load", ["other.png"]), *nodes),
        node(6, "Split", inputs=[socket("image", 5)]),
        links=[link(1, 1, 0, 2), link(3, 3, 0, 4), link(5, 5, 0, 6)],
    )
    assert inputs(workflow, "6").get("image") == image


def quickest(reading: Callable[[], Workflow]) -> tuple[Workflow, float]:
    """What is read, and the CPU seconds of the quickest of three times: other processes slow each other down."""
    seconds = []
    for _ in range(3):
        started = process_time()
        workflow = reading()
        seconds.append(process_time() - started)
    return workflow, min(seconds)


def test_a_thousand_variables_that_nothing_sets_are_told_in_a_moment() -> None:
    count = 2000
    nodes = [node(index, "GetNode", [f"unset {index}"]) for index in range(count)]
    nodes += [node(count + index, "Split", inputs=[socket("image", index)]) for index in range(count)]
    links = [link(index, index, 0, count + index) for index in range(count)]
    others = [node(index, "SetNode", [f"other {index}"]) for index in range(count)]
    definitions = {"subgraphs": [subgraph("i", "Inner", *others, links=[])]}
    workflow, seconds = quickest(lambda: read(*nodes, links=links, definitions=definitions))
    assert seconds < 0.8
    assert len(workflow.ignored) == count


@pytest.mark.parametrize("inner_first", [True, False])
def test_a_variable_passes_many_nested_subgraphs_in_a_moment(inner_first: bool) -> None:
    depth = 600
    nested = [getting("0"), *(subgraph(str(at), str(at), node(1, str(at - 1)), links=[]) for at in range(1, depth))]
    definitions = {"subgraphs": nested if inner_first else nested[::-1]}
    nodes = [node(1, "Load", ["snail.png"]), setter(2, "a", 1), node(3, str(depth - 1))]
    workflow, seconds = quickest(lambda: read(*nodes, links=[link(1, 1, 0, 2)], definitions=definitions))
    assert seconds < 0.4
    assert [*workflow.graph["3"].inputs.values()] == [["1", 0]]
    assert not workflow.ignored
