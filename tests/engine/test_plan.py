"""What a run has to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.graph.keys import node_keys
from engine.graph.plan import Plan, make_plan
from engine.run.costs import Costs
from tests.engine.graphs import graphs
from tests.engine.toys import chain, checked, node


def planned(graph: dict[str, Any], targets: list[str], held: set[str]) -> tuple[Plan, dict[str, str]]:
    """The plan if the outputs of the nodes named in `held` are, and the keys."""
    checked_graph = checked(graph, targets=targets)
    keys = node_keys(checked_graph, "cpu")
    return make_plan(checked_graph, keys, {keys[name] for name in held}.__contains__), keys


@given(graphs(), st.data())
def test_a_plan_is_complete_ordered_and_counts_uses(graph: dict[str, Any], data: st.DataObject) -> None:
    names = st.sampled_from(sorted(graph))
    targets = data.draw(st.lists(names, min_size=1, unique=True))
    held = data.draw(st.sets(names))
    plan, keys = planned(graph, targets, held)

    done = set(plan.hits)
    for key in plan.runs:
        assert set(plan.sources[key]) <= done, "a step comes after its sources"
        done.add(key)
    assert {keys[name] for name in targets} <= done
    assert set(plan.hits) <= {keys[name] for name in held}
    assert not set(plan.runs) & {keys[name] for name in held}, "held steps are not run"
    used = [source for key in plan.runs for source in plan.sources[key]]
    assert plan.uses == {key: used.count(key) for key in used}
    assert done == set(used) | {keys[name] for name in targets}, "nothing is run or loaded for nothing"


def test_nodes_above_a_hit_are_neither_run_nor_loaded() -> None:
    plan, keys = planned(chain(5), ["4"], {"0", "1", "2"})
    assert [step.id for step in plan.runs.values()] == ["3", "4"]
    assert list(plan.hits) == [keys["2"]]


def test_the_longest_branch_by_measured_cost_comes_first(tmp_path: Path) -> None:
    graph = {
        "quick": node("Mix", a=1),
        "number": node("Number"),
        "slow": node("Slow", a=["number", 0]),
        "both": node("Mix", a=["quick", 0], b=["slow", 0]),
        "other": node("Slow", a=["slow", 0]),
    }
    measured = Costs(tmp_path / "costs.json")
    measured.record("Slow", 3.0)
    measured.record("Mix", 0.1)
    measured.save()
    part = checked(graph, targets=["both", "other"])
    for seconds, order in (
        (None, ["quick", "number", "slow", "both", "other"]),
        (Costs(tmp_path / "costs.json").of, ["number", "slow", "other", "quick", "both"]),
        (Costs(tmp_path / "none.json").of, ["quick", "number", "slow", "both", "other"]),
    ):
        plan = make_plan(part, node_keys(part, "cpu"), lambda key: False, seconds=seconds)
        assert [step.id for step in plan.runs.values()] == order


@pytest.mark.parametrize(
    ("long", "second"),
    [
        ({"a": node("Mix", a=1), "b": node("Mix", a=["a", 0]), "long": node("Mix", a=["b", 0])}, ["a", "b", "long"]),
        (
            {"n": node("Number"), "a": node("Mix", a=1), "b": node("Mix", a=["n", 0], b=["a", 0])}
            | {"long": node("Mix", a=["b", 0], b=["n", 0])},
            ["a", "n", "b", "long"],
        ),
    ],
)
def test_a_branch_is_as_long_as_its_longest_path(long: dict[str, Any], second: list[str]) -> None:
    """Three steps of two seconds are longer than one of five."""
    graph = {"slow": node("Slow", a=3), **long, "end": node("Mix", a=["slow", 0], b=["long", 0])}
    part = checked(graph, targets=["end"])
    plan = make_plan(
        part, node_keys(part, "cpu"), lambda key: False, seconds={"Slow": 5, "Mix": 2, "Number": 0}.__getitem__
    )
    assert [step.id for step in plan.runs.values()] == [*second, "slow", "end"]


def test_the_cost_of_a_kind_is_learnt_and_a_corrupt_file_ignored(tmp_path: Path) -> None:
    costs = Costs(tmp_path / "costs.json")
    costs.record("Slow", 2.0)
    costs.record("Slow", 4.0)
    costs.save()
    assert Costs(tmp_path / "costs.json").of("Slow") == 3.0
    assert [path.name for path in tmp_path.iterdir()] == ["costs.json"]
    for torn in ("{", "[1]", '{"Slow": "x"}', '{"Slow": null}'):
        (tmp_path / "costs.json").write_text(torn)
        assert Costs(tmp_path / "costs.json").of("Slow") == 0.0


def test_equal_nodes_are_one_step() -> None:
    twins = {"1": node("Number", value=1), "2": node("Number", value=1), "3": node("Mix", a=["1", 0], b=["2", 0])}
    plan, keys = planned(twins, ["3"], set())
    assert [step.id for step in plan.runs.values()] == ["1", "3"]
    assert plan.uses == {keys["1"]: 1}


def test_branches_are_run_one_by_one_so_that_few_values_are_alive() -> None:
    graph = {
        "a": node("Number", value=1),
        "a2": node("Mix", a=["a", 0]),
        "b": node("Number", value=2),
        "b2": node("Mix", a=["b", 0]),
        "end": node("Mix", a=["a2", 0], b=["b2", 0]),
    }
    plan, _ = planned(graph, ["end"], set())
    assert [step.id for step in plan.runs.values()] == ["a", "a2", "b", "b2", "end"]


def test_long_chains_are_planned_without_recursion() -> None:
    plan, _ = planned(chain(5000), ["4999"], set())
    assert len(plan.runs) == 5000
