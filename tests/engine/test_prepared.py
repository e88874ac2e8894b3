"""A workflow is prepared once: changing an input, or taking a part, gives the same as preparing again."""

from __future__ import annotations

from typing import Any

import pytest

from engine.document.prepared import Prepared, prepare
from engine.document.workflow import Link, Workflow
from tests.engine.toys import REGISTRY, node

INNER = {
    "inputs": {"number": "first.a", "other": "first.b"},
    "outputs": {"mixed": ["second", 0]},
    "graph": {"first": node("Mix", a=1), "second": node("Mix", a=["first", 0], scale=2.0)},
}
OUTER = {
    "inputs": {"start": "pair.number"},
    "outputs": {"end": ["pair", 0]},
    "graph": {"pair": node("Inner", other=5)},
}
DOCUMENT: dict[str, Any] = {
    "kinograph": 1,
    "inputs": {"begin": "deep.start", "scale": "end.scale"},
    "graph": {
        "number": node("Number", value=3),
        "deep": node("Outer", start=["number", 0]),
        "flat": node("Inner"),
        "gone": node("Mix", a=["flat", 0]) | {"_meta": {"mode": "mute"}},
        "passed": node("Mix", a=["flat", 0]) | {"_meta": {"mode": "bypass"}},
        "end": node("Mix", a=["deep", 0], b=["passed", 0]),
        "apart": node("Mix", a=["gone", 0]),
    },
    "subgraphs": {"Inner": INNER, "Outer": OUTER},
}


def document() -> Prepared:
    return prepare(Workflow.read(DOCUMENT), REGISTRY)


def places(prepared: Prepared) -> dict[Any, Any]:
    """Where the constants of inner nodes are written; those of the document's own nodes need no entry."""
    return {socket: place for socket, place in prepared.places.items() if "/" in socket[0]}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("number.value", 7),
        ("deep.start", 4),
        ("flat.number", 9),
        ("flat.other", ["number", 0]),
        ("end.a", ["flat", "mixed"]),
        ("end.b", 1),
        ("end.b", ["passed", 0]),
        ("apart.a", 2),
    ],
)
def test_changing_an_input_equals_preparing_again(path: str, value: Any) -> None:
    node, _, socket = path.partition(".")
    changed, anew = (
        document().with_input(node, socket, value),
        prepare(document().workflow.with_input(node, socket, value), REGISTRY),
    )
    assert changed.workflow == anew.workflow
    assert changed.flat == anew.flat
    assert changed.active == anew.active
    assert places(changed) == places(anew)
    assert changed.outputs == anew.outputs


@pytest.mark.parametrize("socket", ["number", "other"])
def test_a_constant_in_place_of_a_link_that_a_bypassed_subgraph_passes_on(socket: str) -> None:
    bypassed = node("Inner", number=["number", 0]) | {"_meta": {"mode": "bypass"}}
    graph = {"number": node("Number"), "flat": bypassed, "end": node("Mix", a=["flat", "mixed"])}
    before = prepare(Workflow.read({"kinograph": 1, "graph": graph, "subgraphs": {"Inner": INNER}}), REGISTRY)
    changed = before.with_input("flat", socket, 4)
    anew = prepare(changed.workflow, REGISTRY)
    assert (changed.flat, changed.active) == (anew.flat, anew.active)
    assert ("end" in changed.active.graph) == (socket == "other")


@pytest.mark.parametrize("nodes", [["end"], ["flat", "number"], ["passed"], ["apart"], ["deep"]])
def test_taking_a_part_equals_preparing_the_part(nodes: list[str]) -> None:
    part, anew = document().up_to(*nodes), prepare(document().workflow.up_to(*nodes), REGISTRY)
    assert part.workflow == anew.workflow
    assert part.flat.graph == anew.flat.graph
    assert part.active.graph == anew.active.graph


def test_a_part_has_no_problems_of_nodes_outside_it() -> None:
    graph = {"good": node("Number"), "bad": node("Number") | {"_meta": {"mode": "asleep"}}}
    whole = prepare(Workflow.read(graph), REGISTRY)
    assert [problem.node for problem in whole.problems] == ["bad"]
    assert whole.up_to("good").problems == ()


def test_an_input_is_followed_through_subgraphs() -> None:
    socket, about = document().leads_to("deep", "start") or ((), None)
    assert socket == ("deep/pair/first", "a")
    assert about
    assert about.name == "a"
    assert document().leads_to("deep", "end") is None
    assert document().leads_to("nobody", "a") is None


def test_links_are_followed_through_subgraphs_and_past_bypassed_nodes_to_active_ones() -> None:
    links = {
        "through": Link("deep", "end"),
        "past": Link("passed", 0),
        "itself": Link("end", "out"),
        "muted": Link("gone", 0),
        "needs what is muted": Link("apart", 0),
        "nowhere": Link("nothing", 0),
    }
    assert document().ends(links) == {
        "through": Link("deep/pair/second", 0),
        "past": Link("flat/second", 0),
        "itself": Link("end", "out"),
    }


def test_links_are_followed_past_bypassed_subgraphs_without_inlining_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bypassed = node("Inner", number=["number", 0]) | {"_meta": {"mode": "bypass"}}
    graph = {"number": node("Number"), "flat": bypassed, "end": node("Mix", a=["flat", "mixed"])}
    prepared = prepare(Workflow.read({"kinograph": 1, "graph": graph, "subgraphs": {"Inner": INNER}}), REGISTRY)
    monkeypatch.setattr("engine.document.prepared.inlined", None)
    assert prepared.ends({"it": Link("flat", "mixed")}) == {"it": Link("number", 0)}
    assert prepared.ends({"it": Link("flat", "nothing")}) == {}
