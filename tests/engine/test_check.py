"""Checking a workflow: all problems are reported at once, with node, input, what was expected and a hint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from pathlib import Path
from typing import Any

import pytest

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.errors import InputError, MissingError, Problem, WorkflowError
from engine.graph.check import check, check_node, check_without_files
from engine.graph.graph import Graph, Source
from engine.node import Context, Node
from engine.registry import Registry
from tests.engine.toys import REGISTRY, chain, checked, node


def problems(graph: dict[str, Any], **more: Any) -> tuple[Problem, ...]:
    with pytest.raises(WorkflowError) as caught:
        checked(graph, **more)
    return caught.value.problems


def only(graph: dict[str, Any]) -> str:
    """The only problem, as it is shown."""
    (problem,) = problems(graph)
    return str(problem)


SAVE = {"9": node("SaveNumber", number=1)}


def test_a_valid_workflow_becomes_steps_in_order() -> None:
    graph = checked(
        {
            "save": node("SaveNumber", number=["divide", "remainder"]),
            "divide": node("Divide", a=["number", 0], by=7),
            "number": node("Number", value=5),
        }
    )
    assert graph.order == ("number", "divide", "save")
    assert graph.targets == ("save",)
    assert graph.steps["save"].links == {"number": Source("divide", 1)}
    assert graph.steps["divide"].constants == {"by": 7}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (node("Nmber"), "node 1: no kind of node is called 'Nmber' (did you mean 'Number'?)"),
        (node("Number", valu=3), "node 1, input valu: Number has no such input (did you mean 'value'?)"),
        (node("Mix"), "node 1, input a: is missing: Mix needs a value of type int"),
        (node("ReadFile"), "node 1, input file: is missing: ReadFile needs the name of a media file"),
        (node("Number", value="x"), "node 1, input value: should be a valid integer, not 'x'"),
        (node("Number", value=-1), "node 1, input value: should be greater than or equal to 0, not -1"),
        (node("Number", value=None), "node 1, input value: should be a valid integer, not None"),
        (
            node("Style", style="crayons"),
            "node 1, input style: should be 'crayon' or 'pencil', not 'crayons' (did you mean 'crayon'?)",
        ),
        (node("Style", weights=[1, "x"]), "node 1, input weights: [1] should be a valid number, not 'x'"),
        (node("Style", weights="x"), "node 1, input weights: should be a list, not 'x'"),
        (
            node("Style", style="a\ud800"),
            "node 1, input style: holds U+D800, half of a surrogate pair, which is no character (leave it out)",
        ),
        (
            node("Style", weights=[1, {"\udcff": 2}]),
            "node 1, input weights: holds U+DCFF, half of a surrogate pair, which is no character (leave it out)",
        ),
        (node("Use", handle=5), "node 1, input handle: takes Handle, not 5 (link it to an output that gives one)"),
        (node("Use", handle={}), "node 1, input handle: takes Handle, not {} (link it to an output that gives one)"),
        (node("Use", handle=["9", 0]), "node 1, input handle: takes Handle, but 'out' of node 9 is Media"),
        (node("Mix", a=["7", 0]), "node 1, input a: links to node 7, which doesn't exist (available: 1, 9)"),
        (
            node("SaveFolder", texts=["a fox", "a crow"]),
            "node 1, input texts: links to node a fox, which doesn't exist"
            ' (if it is a list of two texts, write {"__value__": ["a fox", "a crow"]})',
        ),
        (node("Mix", a=["9", 1]), "node 1, input a: node 9 (SaveNumber) has no output 1 (available: out)"),
        (node("Mix", a=["9", "ut"]), "node 1, input a: node 9 (SaveNumber) has no output ut (did you mean 'out'?)"),
        (
            node("ReadFile", file=["9", 0]),
            "node 1, input file: can't be linked: the file's contents must be known before the run "
            "(write the file's name here)",
        ),
    ],
)
def test_a_problem_of_a_node_is_reported(entry: dict[str, Any], message: str) -> None:
    assert only({"1": entry} | SAVE) == message


def test_all_problems_are_reported_at_once() -> None:
    found = problems(
        {
            "1": node("Nmber"),
            "2": node("Mix", a=["1", 0], b="x", c=1),
            "3": node("Mix", a=["4", 0], b=["3", 0]),
            "5": node("ReadFile", file="nowhere.txt"),
        }
    )
    assert [(problem.node, problem.input) for problem in found] == [
        ("1", None),
        ("2", "b"),
        ("2", "c"),
        ("3", "a"),
        ("3", None),
        ("5", "file"),
    ]


def test_a_cycle_is_reported_as_a_path() -> None:
    graph = {
        "1": node("Mix", a=["3", 0]),
        "2": node("Mix", a=["1", 0]),
        "3": node("Mix", a=["2", 0]),
        "4": node("Mix", a=["4", 0]),
    }
    knot, loop = problems(graph | SAVE)
    assert knot.message.split(": ")[1] in ("1 → 2 → 3 → 1", "2 → 3 → 1 → 2", "3 → 1 → 2 → 3")
    assert loop.message == "the nodes form a cycle: 4 → 4"


def test_something_must_be_saved() -> None:
    assert (
        only({"1": node("Number")})
        == "there is nothing to run: no node saves anything (add one of SaveFolder, SaveNumber, ShowNumber)"
    )
    assert only({}).startswith("there is nothing to run")


def test_a_target_must_exist() -> None:
    (problem,) = problems({"number": node("Number")}, targets=["numbr"])
    assert str(problem) == "no node is called 'numbr', so it can't be run (did you mean 'number'?)"


def test_exposed_inputs_must_exist() -> None:
    document = {"graph": {"1.5": node("SaveNumber", number=1)}, "inputs": {"n": "1.5.number", "x": "1.5.numbr"}}
    with pytest.raises(WorkflowError, match=r"the exposed input 'x' leads to '1.5.numbr', which doesn't exist$"):
        check(prepare(Workflow.read(document), REGISTRY))


def test_a_missing_file_is_distinguished_from_an_invalid_workflow(tmp_path: Path) -> None:
    (tmp_path / "theme.txt").write_text("snail")
    with pytest.raises(MissingError) as caught:
        checked({"1": node("ReadFile", file="thme.txt")} | SAVE, base=tmp_path)
    (problem,) = caught.value.problems
    assert (problem.node, problem.input) == ("1", "file")
    assert problem.hint == "did you mean 'theme.txt'?"
    assert str(tmp_path) in problem.message


def test_a_file_is_looked_for_beside_the_workflow_then_in_the_working_folder(tmp_path: Path) -> None:
    beside = tmp_path / "workflows"
    beside.mkdir()
    (tmp_path / "here.txt").write_text("working folder")
    (beside / "there.txt").write_text("beside")
    graph = checked(
        {"1": node("ReadFile", file="here.txt"), "2": node("ReadFile", file="there.txt")} | SAVE, base=beside
    )
    assert graph.steps["1"].constants["file"] == str(tmp_path / "here.txt")
    assert graph.steps["2"].constants["file"] == str(beside / "there.txt")


class Span(Node, version=1):
    """From one number to another."""

    first: int
    last: int = 9
    file: str | None = None

    @classmethod
    def remarks_on(cls, given: Mapping[str, Any]) -> Iterator[Problem]:
        if given.get("first") == given.get("last"):
            yield Problem("is a span of one number", input="last")

    @classmethod
    def check_inputs(cls, given: Mapping[str, Any]) -> None:
        if given.get("first", 0) > given.get("last", inf):
            raise InputError("the span ends before it begins", input="last", hint="swap them")
        if not given["file"] and given.get("first") == 7:
            raise MissingError("spans from 7 on need a file", input="file")

    def run(self, ctx: Context) -> int: ...


class TestInputsThatMustGoTogether:
    """`Node.check_inputs` and `Node.remarks_on` see constants and defaults before a run."""

    kinds = Registry([*REGISTRY.values(), Span])

    def checked(self, **inputs: Any) -> Graph:
        graph = {"n": node("Number"), "a": node("Span", **inputs)}
        return check(prepare(Workflow.read(graph), self.kinds), targets=["a"])

    def test_those_that_don_t_are_problems_of_the_workflow(self) -> None:
        with pytest.raises(WorkflowError) as caught:
            self.checked(first=10)
        assert str(caught.value) == "node a, input last: the span ends before it begins (swap them)"
        self.checked(first=10, last=10)
        self.checked(first=10, last=["n", 0])  # which is known in the run only

    def test_a_file_that_is_to_be_named_is_missing(self) -> None:
        with pytest.raises(MissingError, match="spans from 7 on need a file") as caught:
            self.checked(first=7)
        assert (caught.value.node, caught.value.input) == ("a", "file")
        self.checked(first=7, file="a.txt")

    def test_invalid_inputs_are_reported_alone(self) -> None:
        with pytest.raises(WorkflowError) as caught:
            self.checked(first=10, last="x")
        assert [problem.message for problem in caught.value.problems] == ["should be a valid integer, not 'x'"]

    def test_remarks_are_warnings_of_the_graph(self) -> None:
        assert self.checked(first=1).warnings == ()
        assert self.checked(first=["n", 0]).warnings == ()
        assert [str(problem) for problem in self.checked(first=9).warnings] == [
            "node a, input last: is a span of one number"
        ]


def test_long_chains_are_checked_without_recursion() -> None:
    assert len(checked(chain(5000), targets=["4999"]).order) == 5000


def test_a_long_cycle_is_found_without_recursion() -> None:
    graph = chain(5000)
    graph["0"] = node("Mix", a=["4999", 0])
    (problem,) = problems(graph, targets=["1"])
    assert problem.message.count("→") == 5000


class TestOneNode:
    """`check_node`, for building a workflow node by node."""

    def found(self, graph: dict[str, Any], of: str = "it", **how: Any) -> list[str]:
        return [str(problem) for problem in check_node(Workflow.read(graph), of, REGISTRY, **how)]

    def test_problems_of_other_nodes_are_not_included(self) -> None:
        graph = {"n": node("Number", value=-1), "it": node("Mix", a=["n", 0]), "after": node("Mix", a="x")}
        assert self.found(graph) == []
        assert self.found(graph, "n") == ["node n, input value: should be greater than or equal to 0, not -1"]

    def test_links_are_checked_against_their_sources(self) -> None:
        passed = {"n": node("Style"), "b": node("Slow", a=["n", 0]) | {"_meta": {"mode": "bypass"}}}
        for link, graph in (("n", {"n": node("Style")}), ("b", passed)):  # what b is linked to takes its place
            assert self.found(graph | {"it": node("Mix", a=[link, 0])}) == [
                "node it, input a: takes int, but 'out' of node n is str"
            ]
        passed["b"] = node("Slow", a=3) | {"_meta": {"mode": "bypass"}}
        assert self.found(passed | {"it": node("Mix", a=["b", 0])}) == []  # it isn't checked: b hands on nothing
        (message,) = self.found({"it": node("Mix", a=["nowhere", 0])})
        assert message.startswith("node it, input a: links to node nowhere, which doesn't exist")

    def test_files_need_not_exist_yet(self) -> None:
        assert self.found({"it": node("ReadFile", file="later.txt")}) == []
        assert "should be a valid string" in self.found({"it": node("ReadFile", file=5)})[0]

    def test_inactive_nodes_are_not_checked(self) -> None:
        assert self.found({"it": node("Nothing") | {"_meta": {"mode": "mute"}}}) == []
        muted = {"m": node("Number") | {"_meta": {"mode": "mute"}}}
        assert self.found(muted | {"it": node("Mix", a=["m", 0], b="x")}) == []

    def test_required_inputs_may_be_left_to_users_of_the_workflow(self) -> None:
        assert self.found({"it": node("Mix")}) == ["node it, input a: is missing: Mix needs a value of type int"]
        assert self.found({"it": node("Mix", b="x")}, whole=False) == [
            "node it, input b: should be a valid integer, not 'x'"
        ]


def test_a_workflow_can_be_checked_without_its_files() -> None:
    graph = {"r": node("ReadFile", file="later.txt"), "m": node("Mix", a=1)}
    check_without_files(prepare(Workflow.read(graph), REGISTRY))
    with pytest.raises(WorkflowError, match=r"the nodes form a cycle: m → m"):
        check_without_files(prepare(Workflow.read(graph | {"m": node("Mix", a=["m", 0])}), REGISTRY))
