"""Workflows used as nodes."""

from __future__ import annotations

from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.document.prepared import prepare
from engine.document.subgraphs import Sizes, inlined
from engine.document.workflow import Workflow
from engine.errors import WorkflowError
from engine.events import NodeSaved
from engine.graph.check import check
from engine.run.execute import Execution
from engine.run.saving import OutputFolder
from engine.store.cache import Cache
from tests.engine.toys import RAN, REGISTRY, Run, checked, node

TWICE: dict[str, Any] = {
    "inputs": {"number": "first.a", "scale": "second.scale"},
    "outputs": {"mixed": ["second", 0], "parts": ["divide", "remainder"]},
    "graph": {
        "first": node("Mix", a=1),
        "second": node("Mix", a=["first", 0], scale=2.0),
        "divide": node("Divide", a=["second", 0]),
    },
}
"""Mixes a number twice."""


def document(graph: dict[str, Any], **subgraphs: Any) -> dict[str, Any]:
    return {"kinograph": 1, "graph": graph, "subgraphs": subgraphs or {"Twice": TWICE}}


def written_out(a: Any, scale: float = 2.0) -> dict[str, Any]:
    return {"first": node("Mix", a=a), "second": node("Mix", a=["first", 0], scale=scale)}


def test_a_subgraph_equals_the_same_nodes_written_by_hand(cache: Cache) -> None:
    graph = document({"one": node("Number", value=1), "twice": node("Twice", number=["one", 0], scale=3.0)})
    run = Run(graph, ["twice"], cache=cache)
    by_hand = Run({"one": node("Number", value=1)} | written_out(["one", 0], 3.0), ["second"], cache=cache)
    assert not by_hand.ran
    assert run.results["twice/second"] == by_hand.results["second"]


def test_an_input_that_is_not_given_keeps_its_inner_value(cache: Cache) -> None:
    run = Run(document({"twice": node("Twice")}), ["twice"], cache=cache)
    assert run.results["twice/second"] == Run(written_out(1), ["second"], cache=cache).results["second"]


@pytest.mark.parametrize("slot", [1, "parts"])
def test_outputs_are_linked_by_index_or_name(slot: int | str, cache: Cache) -> None:
    graph = document({"twice": node("Twice", number=4), "end": node("Mix", a=["twice", slot])})
    by_hand = written_out(4) | {"divide": node("Divide", a=["second", 0]), "end": node("Mix", a=["divide", 1])}
    assert Run(graph, ["end"], cache=cache).results == Run(by_hand, ["end"], cache=cache).results


def test_subgraphs_may_use_each_other_and_lists_map_over_them(cache: Cache) -> None:
    four = {
        "inputs": {"number": "a.number"},
        "outputs": {"out": ["b", "mixed"]},
        "graph": {"a": node("Twice"), "b": node("Twice", number=["a", 0])},
    }
    graph = document(
        {
            "count": node("Count", to=3),
            "four": node("Four", number=["count", 0]),
            "total": node("Total", numbers=["four", 0]),
        },
        Twice=TWICE,
        Four=four,
    )
    assert Run(graph, ["total"], cache=cache).ran["Mix"] == 12


def test_a_muted_subgraph_is_left_out_and_a_bypassed_one_passes_on_its_input(cache: Cache) -> None:
    def graph(mode: str) -> dict[str, Any]:
        twice = node("Twice", number=["one", 0]) | {"_meta": {"mode": mode}}
        return document({"one": node("Number", value=7), "twice": twice, "end": node("Mix", a=2, b=["twice", 0])})

    passed = {"one": node("Number", value=7), "end": node("Mix", a=2, b=["one", 0])}
    assert Run(graph("bypass"), ["end"], cache=cache).results == Run(passed, ["end"], cache=cache).results
    without = {"end": node("Mix", a=2)}
    assert Run(graph("mute"), ["end"], cache=cache).results == Run(without, ["end"], cache=cache).results


def test_the_files_of_a_subgraph_are_saved(cache: Cache, tmp_path: Path) -> None:
    save = {"inputs": {"number": "save.number"}, "graph": {"save": node("SaveNumber", number=5)}}
    run = Run(document({"a": node("Save"), "b": node("Save", number=6)}, Save=save), cache=cache, out=tmp_path)
    assert {event.node for event in run.of(NodeSaved)} == {"a/save", "b/save"}


@pytest.mark.parametrize(
    ("graph", "subgraphs", "message"),
    [
        (
            {"t": node("Twice", nmber=1)},
            {},
            r"node t, input nmber: Twice exposes no such input \(did you mean 'number'",
        ),
        ({"t": node("Twice"), "e": node("Mix", a=["t", 2])}, {}, "node e, input a: links to node t"),
        ({"t": node("Twice", number="x")}, {}, "node t/first, input a: should be a valid integer"),
        (
            {"t": node("Loop")},
            {"Loop": {"graph": {"t": node("Loop")}}},
            "node t: the subgraph 'Loop' contains itself: Loop → Loop",
        ),
        (
            {"t": node("A")},
            {"A": {"graph": {"b": node("B")}}, "B": {"graph": {"c": node("C"), "a": node("A")}}, "C": {"graph": {}}},
            "node t: the subgraph 'A' contains itself: A → B → A",
        ),
        (
            {"t": node("S0")},
            {f"S{depth}": {"graph": {"t": node(f"S{depth + 1}")}} for depth in range(40)} | {"S40": {"graph": {}}},
            "node t(/t){32}: subgraphs are nested more than 32 levels deep",
        ),
        ({"t": node("Mix", a=1)}, {"Mix": TWICE}, "'Mix' has the name of a kind of node"),
        (
            {"t": node("A")},
            {"A": {"graph": {}, "outputs": {"x": ["y", 0]}}},
            "output 'x' of subgraph 'A' leads to node y",
        ),
        ({"t": node("A")}, {"A": {"graph": {}, "inputs": {"x": "y.z"}}}, "input 'x' of subgraph 'A' leads to 'y.z'"),
        ({"t": node("A")}, {"A": {"graph": {}, "subgraphs": {"B": TWICE}}}, "'A' defines subgraphs"),
        ({"t": node("Twice"), "t/first": node("Number")}, {}, "node t/first: exists twice"),
    ],
)
def test_problems_are_reported_with_their_place(graph: Any, subgraphs: Any, message: str) -> None:
    data = {"kinograph": 1, "graph": graph, "subgraphs": subgraphs or {"Twice": TWICE}}
    with pytest.raises(WorkflowError, match=message):
        checked(data, list(graph)[:1])


def doubling(levels: int, last: dict[str, Any], names: tuple[str, str] = ("a", "b")) -> dict[str, Any]:
    """A document of a node that stands for 2 ** levels graphs."""
    levelled = {f"S{depth}": {"graph": dict.fromkeys(names, node(f"S{depth + 1}"))} for depth in range(levels)}
    return document({"start": node("S0")}, **levelled, **{f"S{levels}": {"graph": last}})


@pytest.mark.parametrize(
    ("bomb", "message"),
    [
        (doubling(17, {"n": node("Number"), "m": node("Number")}), "more than 200,000 nodes"),
        (doubling(1000, {"n": node("Number")}), "more than 200,000 nodes"),
        (doubling(15, {"n": node("Mix", **{f"x{i}": 0 for i in range(70)})}), "more than 2,000,000 inputs"),
        (doubling(12, {"n": node("Number")}, names=("a" * 2000, "b")), "more than 100,000,000 letters"),
    ],
)
def test_subgraphs_that_double_are_counted_and_refused_before_they_are_written_out(bomb: Any, message: str) -> None:
    workflow = Workflow.read(bomb)
    started = process_time()
    with pytest.raises(WorkflowError, match=f"with its subgraphs inlined, the workflow has {message}"):
        prepare(workflow, REGISTRY)
    assert process_time() - started < 0.5


def test_subgraphs_that_contain_one_another_are_not_written_out_in_every_order() -> None:
    names = "ABCDEFGHIJKLMNOP"
    knot = {name: {"graph": {other: node(other) for other in names}} for name in names}
    started = process_time()
    with pytest.raises(WorkflowError, match="contains itself"):
        checked(document({"start": node("A")}, **knot), ["start"])
    assert process_time() - started < 0.5


@given(
    st.dictionaries(
        st.sampled_from("ABCDE"), st.dictionaries(st.sampled_from("xyz"), st.sampled_from("ABCDE*"), max_size=3)
    )
)
def test_what_is_counted_is_what_is_written_out(graphs: dict[str, dict[str, str]]) -> None:
    parts = {
        name: {"graph": {each: node("Number", value=1) if kind == "*" else node(kind) for each, kind in graph.items()}}
        for name, graph in graphs.items()
    }
    workflow = Workflow.read(document({"start": node("A"), "more": node("Number")}, **parts))
    counted, written = Sizes(workflow.subgraphs).of(workflow), inlined(workflow, REGISTRY)
    nodes, refused = written.workflow.graph, [problem.node or "" for problem in written.problems]
    ids = [*nodes, *written.outputs, *refused]
    assert counted == (len(ids), sum(len(entry.inputs) for entry in nodes.values()), sum(map(len, ids)))


def test_a_muted_subgraph_within_a_subgraph_is_left_out(cache: Cache) -> None:
    muted = node("Twice", number=["own", 0]) | {"_meta": {"mode": "mute"}}
    around = {
        "outputs": {"out": ["mix", 0]},
        "graph": {"own": node("Number", value=3), "twice": muted, "mix": node("Mix", a=["own", 0], b=["twice", 0])},
    }
    graph = document({"around": node("Around")}, Twice=TWICE, Around=around)
    without = {"own": node("Number", value=3), "mix": node("Mix", a=["own", 0])}
    run = Run(graph, ["around"], cache=cache)
    assert run.ran["Mix"] == 1
    assert run.results["around/mix"] == Run(without, ["mix"], cache=cache).results["mix"]


def test_all_within_a_muted_subgraph_is_muted(cache: Cache) -> None:
    around = {"outputs": {"out": ["twice", 0]}, "graph": {"twice": node("Twice")}}
    muted = node("Around") | {"_meta": {"mode": "mute"}}
    graph = document({"around": muted, "end": node("Mix", a=2, b=["around", 0])}, Twice=TWICE, Around=around)
    assert set(checked(graph, ["end"]).steps) == {"end"}


def bypassed(number: Any) -> dict[str, Any]:
    return node("Twice", number=number) | {"_meta": {"mode": "bypass"}}


def test_bypassed_subgraphs_in_a_row_pass_on_the_first_ones_input_and_a_cycle_nothing(cache: Cache) -> None:
    graph: dict[str, Any] = {"0": node("Number", value=7)}
    graph |= {str(i): bypassed([str(i - 1), 0]) for i in range(1, 60)}
    row = document(graph | {"end": node("Mix", a=["59", 0])})
    passed = {"one": node("Number", value=7), "end": node("Mix", a=["one", 0])}
    assert Run(row, ["end"], cache=cache).results == Run(passed, ["end"], cache=cache).results
    with pytest.raises(WorkflowError, match="can't be run"):
        checked(document({"a": bypassed(["a", 0]), "end": node("Mix", a=["a", 0])}), ["end"])
    long = {"0": node("Number")} | {str(i): bypassed([str(i - 1), 0]) for i in range(1, 500)}
    with pytest.raises(WorkflowError, match="more than 200 bypassed"):
        checked(document({"end": node("Mix", a=["499", 0])} | long), ["end"])


@pytest.mark.parametrize(("slot", "passed"), [(0, "one"), ("left", "one"), (1, "two"), ("right", "two")])
def test_a_bypassed_subgraph_passes_on_the_input_in_the_same_place(slot: int | str, passed: str) -> None:
    both = {
        "inputs": {"first": "a.a", "second": "b.a"},
        "outputs": {"left": ["a", 0], "right": ["b", 0]},
        "graph": {"a": node("Mix", a=1), "b": node("Mix", a=2)},
    }
    use = node("Both", second=["two", 0], first=["one", 0]) | {"_meta": {"mode": "bypass"}}
    graph = {"one": node("Number", value=1), "two": node("Number", value=2), "both": use}
    end = checked(document(graph | {"end": node("Mix", a=["both", slot])}, Both=both), ["end"]).steps["end"]
    assert [source.node for source in end.sources()] == [passed]


def test_a_bypassed_subgraph_passes_on_the_input_of_the_subgraphs_around_it(cache: Cache) -> None:
    within = {"inputs": {"number": "twice.number"}, "outputs": {"out": ["twice", 0]}, "graph": {"twice": bypassed(1)}}
    around = {
        "inputs": {"number": "in.number"},
        "outputs": {"out": ["in", 0]},
        "graph": {"in": node("Within")},
    }
    one, end = node("Number", value=7), node("Mix", a=2, b=["around", 0])
    graph = {"one": one, "around": node("Around", number=["one", 0]), "end": end}
    given = document(graph, Twice=TWICE, Within=within, Around=around)
    passed = {"one": one, "end": node("Mix", a=2, b=["one", 0])}
    assert Run(given, ["end"], cache=cache).results == Run(passed, ["end"], cache=cache).results


@pytest.mark.parametrize(
    ("given", "passed"),
    [({"first": ["one", 0]}, ["one", 0]), ({"second": ["one", 0]}, ["one", 0]), ({"first": 5}, None), ({}, ["own", 0])],
)
def test_an_outer_value_takes_precedence_over_an_inner_one(given: dict[str, Any], passed: Any) -> None:
    around = {
        "inputs": {"first": "in.number", "second": "in.number"},
        "outputs": {"out": ["in", 0]},
        "graph": {"own": node("Number", value=100), "in": bypassed(["own", 0])},
    }
    graph = {"one": node("Number", value=7), "around": node("Around", **given), "end": node("Mix", a=["around", 0])}
    if passed is None:  # a constant can't be handed on: what needs it can't run
        with pytest.raises(WorkflowError, match="can't be run"):
            checked(document(graph, Twice=TWICE, Around=around), ["end"])
        return
    end = checked(document(graph, Twice=TWICE, Around=around), ["end"]).steps["end"]
    assert [source.node.rpartition("/")[2] for source in end.sources()] == [passed[0]]


def test_files_are_named_where_the_document_names_them(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("7")
    read = {
        "inputs": {"file": "read.file"},
        "outputs": {"text": ["read", 0]},
        "graph": {"read": node("ReadFile", file="in.txt")},
    }
    graph = document({"own": node("Read"), "given": node("Read", file="in.txt")}, Read=read)
    workflow = Workflow.read(graph)
    whole = check(prepare(workflow, REGISTRY), base=tmp_path, targets=["own", "given"])
    outputs = OutputFolder(tmp_path / "out", whole.workflow, whole.local_files)
    embedded = Workflow.parse(outputs._tags_in(tmp_path / "out")["kinograph"])
    assert embedded.subgraphs["Read"].graph["read"].inputs["file"] == "../in.txt"
    assert embedded.graph["given"].inputs["file"] == "../in.txt"
    RAN.clear()
    execution = Execution(whole, cache=cache, out=tmp_path / "out")
    list(execution)
    assert set(execution.results) == {"own/read", "given/read"}


def test_a_document_with_subgraphs_is_written_back_unchanged() -> None:
    data = document({"twice": node("Twice", number=1)})
    assert Workflow.read(data).document() == Workflow.read(Workflow.read(data).document()).document()
    assert Workflow.read(Workflow.read(data).document()) == Workflow.read(data)
