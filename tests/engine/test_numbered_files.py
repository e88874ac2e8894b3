"""Files saved under one name are numbered in the workflow's order, whichever is done first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.events import NodeFinished, NodeSaved
from tests.engine.toys import Run, node


def late_and_soon(first: str, second: str) -> dict[str, Any]:
    """Two savers, the first of which takes longer."""
    return {
        "late": node("Hurry", a=0),
        "soon": node("Hurry", a=3),
        "one": node("SaveNumber", number=["late", 0], prefix=first),
        "two": node("SaveNumber", number=["soon", 0], prefix=second),
    }


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_two_nodes_that_save_under_one_name(tmp_path: Path) -> None:
    run = Run(late_and_soon("same", "same"), out=tmp_path)
    assert [event.node for event in run.of(NodeSaved)] == ["one", "two"]
    assert files(tmp_path) == {"same_00001.txt": "0", "same_00002.txt": "3"}


def test_nodes_that_save_under_different_names_do_not_wait(tmp_path: Path) -> None:
    run = Run(late_and_soon("one", "other"), out=tmp_path)
    assert [event.node for event in run.of(NodeSaved)] == ["two", "one"]


def test_a_name_that_is_made_in_the_run_might_be_any(tmp_path: Path) -> None:
    graph = late_and_soon("n1", "n1")
    graph["number"] = node("Number", value=1)
    graph["name"] = node("PrefixOf", a=["number", 0])
    graph["two"]["inputs"]["prefix"] = ["name", 0]
    Run(graph, out=tmp_path)
    assert files(tmp_path) == {"n1_00001.txt": "0", "n1_00002.txt": "3"}


def test_a_failed_node_and_its_dependents_hold_up_no_others(tmp_path: Path) -> None:
    graph = late_and_soon("same", "same")
    graph["fail"] = node("Fail")
    graph["late"] = node("Mix", a=["fail", 0])
    graph["three"] = node("SaveNumber", number=["wait", 0], prefix="same")
    graph["wait"] = node("Hurry", a=0)
    run = Run(graph, out=tmp_path)
    assert files(tmp_path) == {"same_00001.txt": "3", "same_00002.txt": "0"}
    order = [event.node for event in run.events if isinstance(event, NodeSaved | NodeFinished)]
    assert order.index("two") < order.index("wait")


def test_a_node_whose_lists_differ_in_length_holds_up_no_others(tmp_path: Path) -> None:
    graph = {
        "three": node("Count", to=3),
        "two": node("Count", to=2),
        "name": node("PrefixOf", a=["two", 0]),
        "bad": node("SaveNumber", number=["three", 0], prefix=["name", 0]),
        "good": node("SaveNumber", number=7),
        "wait": node("Hurry", a=-4),
        "late": node("SaveNumber", number=["wait", 0]),
    }
    run = Run(graph, out=tmp_path)
    order = [event.node for event in run.events if isinstance(event, NodeSaved | NodeFinished)]
    assert order.index("good") < order.index("wait")
    assert files(tmp_path) == {"number_00001.txt": "7", "number_00002.txt": "-4"}


def test_a_list_before_a_single_item(tmp_path: Path) -> None:
    graph = {
        "numbers": node("Count", to=4),
        "wait": node("Hurry", a=["numbers", 0]),
        "each": node("SaveNumber", number=["wait", 0]),
        "last": node("SaveNumber", number=9),
    }
    Run(graph, out=tmp_path)
    assert [text for _, text in sorted(files(tmp_path).items())] == ["0", "1", "2", "3", "9"]
