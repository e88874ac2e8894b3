"""Lists that map item by item, and choices that run only the chosen side."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.document.prepared import prepare
from engine.document.workflow import Workflow, split_id
from engine.errors import MissingError, WorkflowError
from engine.events import NodeCached, NodeFailed, NodeSaved, NodeSkipped, NodeStarted, RunExtended, RunStarted
from engine.graph.check import check
from engine.run.execute import Execution
from engine.store.cache import Cache
from engine.store.disk import Disk
from engine.store.encoding import load
from tests.engine import toys
from tests.engine.toys import MODULUS, RAN, REGISTRY, SEEN, MaybeOpen, Run, checked, node


def squares(to: int = 3) -> dict[str, Any]:
    """Numbers, each mixed with itself, and the sum of all."""
    return {
        "count": node("Count", to=to),
        "mix": node("Mix", a=["count", 0], b=["count", 0]),
        "total": node("Total", numbers=["mix", 0]),
    }


def mixed(*numbers: int) -> list[int]:
    return [38 * number + 4 for number in numbers]


def test_a_list_that_meets_a_single_input_maps_over_it(cache: Cache) -> None:
    run = Run(squares(), ["total"], cache=cache)
    assert run.results == {"total": sum(mixed(0, 1, 2))}
    assert run.ran == {"Count": 1, "Mix": 3, "Total": 1}
    assert run.events[0] == RunStarted(1, ("count",))
    assert run.of(RunExtended) == [RunExtended(("mix[0]", "mix[1]", "mix[2]", "total"))]


def test_each_item_has_a_key_of_its_own(cache: Cache) -> None:
    Run(squares(3), ["total"], cache=cache)
    more = Run(squares(5), ["total"], cache=cache)
    assert more.ran == {"Count": 1, "Mix": 2, "Total": 1}
    assert more.results == {"total": sum(mixed(0, 1, 2, 3, 4))}


def test_an_item_shares_its_key_with_the_same_node_written_by_hand(cache: Cache) -> None:
    Run({"mix": node("Mix", a=2, b=2)}, ["mix"], cache=cache)
    assert Run(squares(), ["total"], cache=cache).ran["Mix"] == 2


def test_mapping_goes_on_item_by_item_up_to_an_input_that_takes_a_list(cache: Cache) -> None:
    graph = squares() | {
        "again": node("Mix", a=["mix", 0], b=["count", 0], scale=2.0),
        "total": node("Total", numbers=["again", 0]),
        "after": node("Mix", a=["total", 0]),
    }
    run = Run(graph, ["after"], cache=cache)
    assert run.ran == {"Count": 1, "Mix": 7, "Total": 1}
    alone = {"mix": node("Mix", a=2, b=2), "again": node("Mix", a=["mix", 0], b=2, scale=2.0)}
    assert not Run(alone, ["again"], cache=cache).ran


def test_lists_of_opaque_values_map_too(cache: Cache) -> None:
    graph = {
        "open": node("OpenAll", to=3),
        "use": node("Use", handle=["open", 0], times=2),
        "total": node("Total", numbers=["use", 0]),
    }
    assert Run(graph, ["total"], cache=cache).results == {"total": 6}


def test_a_list_of_lists_is_flattened(cache: Cache) -> None:
    graph = {
        "outer": node("Count", to=4),
        "inner": node("Count", to=["outer", 0]),
        "each": node("Mix", a=["inner", 0]),
        "whole": node("Total", numbers=["inner", 0]),
        "total": node("Total", numbers=["each", 0], start=["whole", 0]),
    }
    SEEN.clear()
    run = Run(graph, ["total"], cache=cache)
    assert SEEN[0] == (0, 0, 1, 0, 1, 2)
    assert run.ran["Mix"] == 3  # of six items with three values


def test_a_single_value_goes_where_a_list_is_taken_and_an_empty_list_maps_to_nothing(cache: Cache) -> None:
    single = {"one": node("Number", value=5), "total": node("Total", numbers=["one", 0])}
    assert Run(single, ["total"], cache=cache).results == {"total": 5}
    assert Run(squares(0), ["total"], cache=cache).results == {"total": 0}


def test_every_item_is_saved(cache: Cache, tmp_path: Path) -> None:
    graph = squares() | {"save": node("SaveNumber", number=["mix", 0])}
    for name in ("a", "b"):
        run = Run(graph, cache=cache, out=tmp_path / name)
        assert sorted(event.node for event in run.of(NodeSaved)) == ["save[0]", "save[1]", "save[2]"]
        texts = [path.read_text() for path in sorted((tmp_path / name).iterdir())]
        assert sorted(map(int, texts)) == mixed(0, 1, 2)
    assert not run.ran
    assert len(run.of(NodeCached)) == 3


def test_a_later_run_knows_the_length_of_a_list_without_computing_it(tmp_path: Path) -> None:
    graph = squares() | {
        "open": node("OpenAll", to=2),  # can't be stored
        "use": node("Use", handle=["open", 0]),
        "save": node("SaveNumber", number=["use", 0]),
    }
    for ran in ({"OpenAll", "Use", "SaveNumber"}, set[str]()):
        with Cache(disk=Disk(tmp_path / "cache")) as cache:
            assert set(Run(graph, cache=cache, out=tmp_path / "out").ran) == ran


def test_files_are_numbered_in_the_order_of_the_list_whichever_is_done_first(tmp_path: Path) -> None:
    graph = {
        "numbers": node("Count", to=4),
        "wait": node("Hurry", a=["numbers", 0]),  # the last is the quickest
        "check": node("FailOn", a=["wait", 0], bad=1),
        "save": node("SaveNumber", number=["check", 0]),
    }
    Run(graph, cache=Cache(), out=tmp_path)
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["0", "2", "3"]


def test_a_target_runs_alone_on_held_items(cache: Cache) -> None:
    def alone(cache: Cache) -> Execution:
        RAN.clear()
        return Execution(checked(squares(), ["total"]), cache=cache, out=Path("output"), alone=True)

    with pytest.raises(MissingError, match="node count: has not been computed"):
        list(alone(Cache()))
    Run(squares(), ["count"], cache=cache)
    with pytest.raises(MissingError, match=r"node mix\[0\]: has not been computed"):
        list(alone(cache))
    Run(squares(), ["mix"], cache=cache)
    execution = alone(cache)
    list(execution)
    assert execution.results == {"total": (sum(mixed(0, 1, 2)),)}
    assert RAN == {"Total": 1}


def test_an_item_that_can_not_be_written_does_not_lose_those_that_waited_for_it(tmp_path: Path) -> None:
    graph = {
        "numbers": node("Count", to=3),
        "wait": node("Hurry", a=["numbers", 0]),
        "prefix": node("PrefixOf", a=["wait", 0]),
        "save": node("SaveNumber", number=["wait", 0], prefix=["prefix", 0]),
    }
    cache = Cache()
    for _ in range(2):  # the second time all is held
        run = Run(graph, cache=cache, out=tmp_path / "out")
        assert [event.node for event in run.of(NodeFailed)] == ["save[0]"]
        assert [event.node for event in run.of(NodeSaved)] == ["save[1]", "save[2]"]


def test_an_item_done_before_the_list_was_known_is_still_delivered(cache: Cache) -> None:
    graph = {
        "early": node("Mix", a=0, b=0),
        "keep": node("Slow", a=["early", 0], seconds=0.2),
        "late": node("Mix", a=["keep", 0], b=["early", 0]),
        "start": node("Slow", a=2, seconds=0.1),
        "count": node("Count", to=["start", 0]),
        "x": node("Mix", a=["count", 0], b=["count", 0]),
    }
    run = Run(graph, ["late", "x"], cache=cache)
    assert {name for name in run.results if name != "late"} == {"x[0]", "x[1]", "x[2]"}


def test_an_item_that_failed_before_the_list_was_known_loses_only_itself(cache: Cache) -> None:
    graph = {
        "alone": node("FailOn", a=2, bad=2),
        "start": node("Slow", a=2, seconds=0.1),
        "count": node("Count", to=["start", 0]),
        "x": node("FailOn", a=["count", 0], bad=2),
        "total": node("Total", numbers=["x", 0]) | {"_meta": {"partial": "allow"}},
    }
    assert Run(graph, ["alone", "total"], cache=cache).results == {"total": 0 + 1}


def test_items_keep_their_indices_when_one_of_several_lists_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = {
        "count": node("Count", to=3),
        "open": node("MaybeOpen", a=["count", 0]),  # a list of two handles for each
        "use": node("Use", handle=["open", 0]),
        "total": node("Total", numbers=["use", 0]),
    }
    truths = []
    for bad in (-1, 1, -1):
        monkeypatch.setattr(MaybeOpen, "bad", bad)
        with Cache(memory=0, disk=Disk(tmp_path / "cache")) as cache:
            truths.append(Run(graph, ["use"], cache=cache).results)
        for path in (tmp_path / "cache").iterdir():
            if not isinstance(load(path)[0][0], str):
                path.unlink()  # leaves only the structures of lists
    complete, without, again = truths
    assert complete == again == {f"use[{i}]": value for i, value in enumerate((0, 1, 10, 11, 20, 21))}
    assert without == {name: complete[name] for name in ("use[0]", "use[1]", "use[4]", "use[5]")}


def test_a_run_ends_in_an_orderly_way_if_the_node_that_makes_its_list_fails_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = {
        "open": node("MaybeOpen", a=1),
        "use": node("Use", handle=["open", 0]),
        "wait": node("Hurry", a=-1),
        "late": node("Mix", a=["wait", 0]),
        "mix": node("Mix", a=["use", 0], b=["late", 0]),
    }
    for bad, status in ((-1, "done"), (1, "failed")):
        monkeypatch.setattr(MaybeOpen, "bad", bad)
        with Cache(memory=0, disk=Disk(tmp_path / "cache")) as cache:
            assert Run(graph, ["mix"], cache=cache).end.status == status
        for path in (tmp_path / "cache").iterdir():
            if not isinstance(load(path)[0][0], str):
                path.unlink()


def test_a_choice_is_followed_while_another_node_takes_its_time(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toys, "GATE", [threading.Event()])
    graph = {
        "wait": node("Hurry", a=3),
        "odd": node("IsOdd", a=["wait", 0]),
        "open": node("OpenGate", a=["wait", 0]),
        "choose": node("Choose", first=["odd", 0], one=["open", 0]),
        "steps": node("Steps", steps=5),  # waits at the gate
    }
    assert Run(graph, ["steps", "choose"], cache=cache).results == {"steps": 5, "choose": 3}


def test_the_condition_of_a_choice_is_not_computed_again_for_the_chosen_side() -> None:
    graph = {
        "number": node("Slow", a=3, seconds=0.1),
        "odd": node("IsOdd", a=["number", 0]),
        "choose": node("Choose", first=["odd", 0], one=["number", 0]),
        "other": node("Slow", a=2, seconds=0.1),
        "count": node("Count", to=["other", 0]),
        "mix": node("Mix", a=["count", 0], b=["other", 0]),
    }
    assert Run(graph, ["choose", "mix"], cache=Cache(memory=0)).ran["Slow"] == 2


def failing(bad: int) -> dict[str, Any]:
    return {
        "count": node("Count", to=4),
        "check": node("FailOn", a=["count", 0], bad=bad),
        "mix": node("Mix", a=["check", 0]),
        "save": node("SaveNumber", number=["mix", 0]),
        "total": node("Total", numbers=["mix", 0]),
        "last": node("SaveNumber", number=["total", 0], prefix="total"),
    }


def allowing(graph: dict[str, Any], partial: str = "allow", at: str = "total") -> dict[str, Any]:
    """The graph with a node's setting of what it does with lists whose items have failed in part."""
    return graph | {at: graph[at] | {"_meta": {"partial": partial}}}


def test_what_takes_a_list_as_a_whole_fails_with_any_of_its_items(cache: Cache, tmp_path: Path) -> None:
    run = Run(failing(1), cache=cache, out=tmp_path / "a")
    assert [event.node for event in run.of(NodeFailed)] == ["check[1]"]
    assert {event.node: event.because for event in run.of(NodeSkipped)} == dict.fromkeys(
        ("mix[1]", "save[1]", "total", "last"), "check[1]"
    )
    assert {event.node for event in run.of(NodeSaved)} == {"save[0]", "save[2]", "save[3]"}
    assert (run.end.status, run.end.exit_code) == ("failed", 5)


def test_items_that_are_unknown_since_their_list_failed_count_as_lost(cache: Cache, tmp_path: Path) -> None:
    graph = {
        "count": node("Count", to=3),
        "check": node("FailOn", a=["count", 0], bad=1),
        "pair": node("Pair", a=["check", 0]),
        "each": node("Mix", a=["pair", 0]),
        "total": node("Total", numbers=["each", 0]),
    }
    for bad in (0, 1, 2):
        graph["check"]["inputs"]["bad"] = bad
        run = Run(graph, ["total"], cache=cache)
        assert not run.results
        assert [(event.node, event.because) for event in run.of(NodeSkipped) if event.node == "total"] == [
            ("total", f"check[{bad}]")
        ]
        left = sum(31 * number + 11 for start in range(3) if start != bad for number in (start, start + 1))
        assert Run(allowing(graph), ["total"], cache=cache).results == {"total": left}
    none_left = allowing(graph) | {"count": node("Count", to=1), "check": node("FailOn", a=["count", 0], bad=0)}
    assert not Run(none_left, ["total"], cache=cache).results


def test_a_list_with_failed_items_matters_only_if_it_is_chosen(cache: Cache) -> None:
    graph = {
        "count": node("Count", to=3),
        "check": node("FailOn", a=["count", 0], bad=1),
        "whole": node("Choose", first=False, one=["check", 0], other=7),
        "each": node("ChooseList", a=["count", 0], lists=["check", 0]),
    }
    run = Run(graph, ["whole", "each"], cache=cache)
    assert run.results == {"whole": 7, "each[0]": 0, "each[2]": 2}
    assert [(event.node, event.because) for event in run.of(NodeSkipped)] == [("each[1]", "check[1]")]


@pytest.mark.parametrize("where", ["document", "node", "use of a subgraph", "subgraph"])
@pytest.mark.parametrize("overruled", [False, True])
def test_what_is_left_of_a_list_is_taken_where_that_is_allowed(where: str, overruled: bool, cache: Cache) -> None:
    data: dict[str, Any] = {"graph": failing(1)}
    if "subgraph" in where:
        inner = {"outputs": {"out": ["total", 0]}, "graph": failing(1)}
        data = {"subgraphs": {"part": inner}, "graph": {"use": {"class_type": "part"}}}
    holder = {
        "document": data,
        "node": data["graph"].get("total", {}).setdefault("_meta", {}) if where == "node" else {},
        "use of a subgraph": data["graph"].get("use", {}).setdefault("_meta", {}) if "subgraph" in where else {},
        "subgraph": data.get("subgraphs", {}).get("part", {}),
    }[where]
    holder["partial"] = "allow"
    if overruled:  # by the node itself
        graph = data["subgraphs"]["part"]["graph"] if "subgraph" in where else data["graph"]
        graph["total"]["_meta"] = {"partial": "fail"}
    written = Workflow.read(Workflow.read(data).document())
    target = "use/total" if "subgraph" in where else "total"
    execution = Execution(check(prepare(written, REGISTRY), targets=[target]), cache=cache, out=Path("output"))
    list(execution)
    expected = {} if overruled else {target: (sum(31 * number + 11 for number in (0, 2, 3)),)}
    assert execution.results == expected


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(WorkflowError, match=r"node total: partial is 'alow', but can be allow or fail.*'allow'"):
        checked(allowing(failing(1), "alow"))
    with pytest.raises(WorkflowError, match="partial"):
        Workflow.read({"graph": {}, "partial": "alow"})


def test_a_failed_item_loses_only_itself_if_that_is_allowed(cache: Cache, tmp_path: Path) -> None:
    run = Run(allowing(failing(1)), cache=cache, out=tmp_path / "a")
    assert [(event.node, event.problem.message) for event in run.of(NodeFailed)] == [
        ("check[1]", "ZeroDivisionError: 1 is bad")
    ]
    assert {(event.node, event.because) for event in run.of(NodeSkipped)} == {
        ("mix[1]", "check[1]"),
        ("save[1]", "check[1]"),
    }
    assert {event.node for event in run.of(NodeSaved)} == {"save[0]", "save[2]", "save[3]", "last"}
    assert run.end.status == "failed"
    whole = sum((number * 31 + 11) for number in (0, 2, 3))
    assert (tmp_path / "a" / "total_00001.txt").read_text() == str(whole)


def test_a_list_without_its_failed_item_is_not_mistaken_for_the_complete_list(cache: Cache, tmp_path: Path) -> None:
    Run(allowing(failing(1)), cache=cache, out=tmp_path / "a")
    Run(failing(-1), cache=cache, out=tmp_path / "b")
    assert (tmp_path / "b" / "total_00001.txt").read_text() == str(sum(number * 31 + 11 for number in range(4)))


def test_nodes_that_need_a_list_whose_items_have_all_failed_are_skipped(cache: Cache, tmp_path: Path) -> None:
    graph = allowing(failing(0)) | {"count": node("Count", to=1)}
    run = Run(graph, cache=cache, out=tmp_path)
    assert {event.node for event in run.of(NodeSkipped)} == {"mix[0]", "save[0]", "total", "last"}
    assert not run.of(NodeSaved)


def test_a_list_that_can_not_be_computed_stops_the_nodes_that_map_over_it(cache: Cache) -> None:
    graph = squares() | {"fail": node("Fail"), "count": node("Count", to=["fail", 0])}
    run = Run(graph, ["total"], cache=cache)
    assert {(event.node, event.because) for event in run.of(NodeSkipped)} == {
        ("count", "fail"),
        ("mix", "fail"),
        ("total", "fail"),
    }


def test_lists_of_different_lengths_can_not_meet(cache: Cache, tmp_path: Path) -> None:
    graph = {
        "three": node("Count", to=3),
        "two": node("Count", to=2),
        "mix": node("Mix", a=["three", 0], b=["two", 0]),
        "total": node("Total", numbers=["mix", 0]),
        "one": node("Number"),
        "save": node("SaveNumber", number=["one", 0]),
    }
    run = Run(graph, ["total", "save"], cache=cache, out=tmp_path)
    (failure,) = run.of(NodeFailed)
    assert (failure.node, failure.kind) == ("mix", "Mix")
    assert failure.problem.message == "is linked to lists of different lengths: 3 for a, 2 for b"
    assert [(event.node, event.because) for event in run.of(NodeSkipped)] == [("total", "mix")]
    assert [event.node for event in run.of(NodeSaved)] == ["save"]


def test_a_list_does_not_fit_an_input_of_another_type() -> None:
    with pytest.raises(WorkflowError, match=r"takes Handle, but 'out' of node count is"):
        checked({"count": node("Count", to=1), "use": node("Use", handle=["count", 0])}, ["use"])


def test_ids_can_not_be_mistaken_for_those_of_items() -> None:
    with pytest.raises(WorkflowError, match="number in brackets"):
        checked({"mix[0]": node("Number")}, ["mix[0]"])


def choosing(first: Any) -> dict[str, Any]:
    return {
        "one": node("Mix", a=1),
        "other": node("Slow", a=7, seconds=0.0),
        "choose": node("Choose", first=first, one=["one", 0], other=["other", 0]),
        "end": node("Mix", a=["choose", 0]),
    }


def test_only_the_chosen_side_runs(cache: Cache) -> None:
    assert Run(choosing(True), ["end"], cache=cache).ran == {"Mix": 2, "Choose": 1}
    assert Run(choosing(False), ["end"], cache=cache).ran == {"Slow": 1, "Choose": 1, "Mix": 1}


def test_a_choice_may_depend_on_the_output_of_a_node(cache: Cache) -> None:
    for value, side in ((3, "one"), (4, "other")):
        graph = choosing(["odd", 0]) | {"number": node("Number", value=value), "odd": node("IsOdd", a=["number", 0])}
        run = Run(graph, ["end"], cache=cache)
        started = {event.node for event in run.of(NodeStarted)}
        assert started & {"one", "other"} == {side}
        assert not Run(graph, ["end"], cache=cache).ran


def test_each_item_chooses_for_itself(cache: Cache) -> None:
    graph = {
        "count": node("Count", to=4),
        "odd": node("IsOdd", a=["count", 0]),
        "slow": node("Slow", a=["count", 0], seconds=0.0),
        "choose": node("Choose", first=["odd", 0], one=["count", 0], other=["slow", 0]),
        "total": node("Total", numbers=["choose", 0]),
    }
    SEEN.clear()
    run = Run(graph, ["total"], cache=cache)
    assert SEEN == [(1, 1, 3, 3)]
    assert run.ran["Slow"] == 2


def test_a_choice_may_depend_on_a_complete_list(cache: Cache) -> None:
    for to, side in ((2, "one"), (3, "other")):
        graph = {
            "count": node("Count", to=to),
            "each": node("Mix", a=["count", 0]),
            "one": node("Number", value=1),
            "other": node("Number", value=2),
            "choose": node("ChooseByLength", numbers=["each", 0], one=["one", 0], other=["other", 0]),
        }
        run = Run(graph, ["choose"], cache=cache)
        assert run.results == {"choose": {"one": 1, "other": 2}[side]}
        assert {event.node for event in run.of(NodeStarted)} & {"one", "other"} == {side}


def test_a_side_that_fails_matters_only_if_it_is_chosen(cache: Cache) -> None:
    graph = choosing(True) | {"other": node("Fail")}
    assert Run(graph, ["end"], cache=cache).end.status == "done"


Outcome = int | list[int]
"""The result of a node in a random graph: one number, or one for each item."""


@st.composite
def listing_graphs(draw: st.DrawFn) -> dict[str, Any]:
    """A graph of numbers, lists of two, sums, mixes and choices, in which each node links to earlier ones."""
    graph: dict[str, Any] = {"0": node("Number", value=draw(st.integers(0, 3)))}
    for index in range(1, draw(st.integers(2, 9))):
        one, other, third = ([draw(st.sampled_from(sorted(graph, key=int))), 0] for _ in range(3))
        graph[str(index)] = draw(
            st.sampled_from(
                [
                    node("Number", value=index),
                    node("Pair", a=one),
                    node("Mix", a=one, b=other),
                    node("FailOn", a=one, bad=index),
                    node("Total", numbers=one),
                    node("ChooseOdd", a=one, one=other, other=third),
                ]
            )
        )
    return graph


class Invalid(Exception):
    """Lists of different lengths meet, or a node fails: what remains of the lists is not computed by hand."""


def by_hand(graph: dict[str, Any], target: str) -> Outcome:
    """The result of a node, computed by recursion and without the engine."""
    entry = graph[target]
    given = {
        name: by_hand(graph, value[0]) if isinstance(value, list) and (name, entry["class_type"]) not in LAZY else value
        for name, value in entry["inputs"].items()
    }
    if entry["class_type"] == "Total":
        numbers = given["numbers"]
        return sum(numbers) if isinstance(numbers, list) else numbers
    if entry["class_type"] == "ChooseOdd" and not isinstance(given["a"], list):
        return by_hand(graph, given["one" if given["a"] % 2 else "other"][0])
    given = {
        name: by_hand(graph, value[0]) if isinstance(value, list) and (name, entry["class_type"]) in LAZY else value
        for name, value in given.items()
    }
    lengths = {len(value) for value in given.values() if isinstance(value, list)}
    if len(lengths) > 1:
        raise Invalid
    if not lengths:
        made = once(entry["class_type"], given)
        return list(made) if isinstance(made, tuple) else made
    items = [
        once(entry["class_type"], {n: v[i] if isinstance(v, list) else v for n, v in given.items()})
        for i in range(lengths.pop())
    ]
    return [number for item in items for number in (item if isinstance(item, tuple) else (item,))]


LAZY = {("one", "ChooseOdd"), ("other", "ChooseOdd")}


def once(kind: str, given: dict[str, Any]) -> int | tuple[int, ...]:
    match kind:
        case "Number":
            return int(given["value"])
        case "Pair":
            return given["a"], given["a"] + 1
        case "Mix":
            return (given["a"] * 31 + given["b"] * 7 + 4) % MODULUS
        case "FailOn":
            if given["a"] == given["bad"]:
                raise Invalid
            return int(given["a"])
        case "ChooseOdd":
            return int(given["one"] if given["a"] % 2 else given["other"])
    raise AssertionError(kind)


@settings(max_examples=150)
@given(graph=listing_graphs(), memory=st.integers(0, 3000), disk=st.integers(0, 2000))
def test_lists_and_choices_give_the_results_of_plain_calls(
    graph: dict[str, Any], memory: int, disk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = next(reversed(graph))
    try:
        truth: Outcome | None = by_hand(graph, target)
    except Invalid:
        truth = None
    folder = tmp_path_factory.mktemp("cache")
    found = []
    for _ in range(2):
        with Cache(memory, Disk(folder, disk)) as cache:
            run = Run(graph, [target], cache=cache)
        by_index = sorted((split_id(name)[1] or 0, value) for name, value in run.results.items())
        found.append([n for _, value in by_index for n in (value if isinstance(value, tuple) else (value,))])
        if truth is not None:
            assert run.end.status == "done"
            assert found[-1] == (truth if isinstance(truth, list) else [truth])
    assert found[0] == found[1]
