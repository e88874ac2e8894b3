"""Files that are only for viewing go to a folder of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.catalogue import as_data
from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.events import NodeFinished, NodeSaved, to_json
from engine.graph.check import check
from engine.run.execute import Execution
from engine.run.sweep import joined, outcomes, record, table
from engine.store.cache import Cache
from tests.engine.toys import REGISTRY, Run, SaveNumber, ShowNumber, checked, node

BOTH = {"save": node("SaveNumber", number=1), "show": node("ShowNumber", number=2)}


def saved(execution: Execution) -> dict[str, NodeSaved]:
    return {event.node: event for event in execution if isinstance(event, NodeSaved)}


def test_it_is_written_to_the_folder_for_temporary_files(tmp_path: Path) -> None:
    events = saved(Execution(checked(BOTH), cache=Cache(), out=tmp_path / "out", temp=tmp_path / "temp"))
    assert events["save"] == NodeSaved("save", (tmp_path / "out" / "number_00001.txt",))
    assert events["show"] == NodeSaved("show", (tmp_path / "temp" / "shown_00001.txt",), temporary=True)
    assert (tmp_path / "temp" / "shown_00001.txt").read_text() == "2"
    assert [to_json(events[name])["temporary"] for name in BOTH] == [False, True]


def test_without_such_a_folder_it_is_one_within_the_outputs(tmp_path: Path) -> None:
    events = saved(Execution(checked(BOTH), cache=Cache(), out=tmp_path))
    assert events["show"].files == (tmp_path / "temp" / "shown_00001.txt",)


def test_it_waits_for_nothing_else(tmp_path: Path) -> None:
    graph = {
        "late": node("Hurry", a=0),
        "soon": node("Hurry", a=3),
        "one": node("ShowNumber", number=["late", 0]),
        "two": node("ShowNumber", number=["soon", 0]),
    }
    run = Run(graph, out=tmp_path)
    order = [event.node for event in run.events if isinstance(event, NodeSaved | NodeFinished)]
    assert order.index("two") < order.index("late")


def test_it_is_cached_like_anything_else_and_shown_in_every_run(tmp_path: Path) -> None:
    cache = Cache()
    Run(BOTH, cache=cache, out=tmp_path / "a")
    again = Run(BOTH, cache=cache, out=tmp_path / "b")
    assert not again.ran
    assert {event.node for event in again.of(NodeSaved)} == {"save", "show"}


def test_kinds_declare_that_their_files_are_temporary() -> None:
    assert [as_data(kind)["temporary"] for kind in (SaveNumber, ShowNumber)] == [False, True]


def test_a_sweep_lists_only_the_files_in_its_folder(tmp_path: Path) -> None:
    graphs: list[Any] = [check(prepare(Workflow.read(BOTH), REGISTRY)), check(prepare(Workflow.read(BOTH), REGISTRY))]
    whole = joined(graphs)
    made = outcomes(whole, [("1",), ("2",)])
    for event in Execution(whole, cache=Cache(), out=tmp_path / "out", temp=tmp_path / "temp"):
        record(made, event)
    assert [outcome.status for outcome in made] == ["done", "done"]
    assert table([], made, tmp_path / "out").splitlines()[1:] == ["1,done,number_00001.txt", "2,done,number_00002.txt"]
