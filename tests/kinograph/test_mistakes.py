"""Calls with the wrong kind of thing: told in plain words, with what to give instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kinograph
from kinograph import Graph, MissingError, UsageError


@pytest.mark.parametrize("given", [3, None, True, 2.5, [1], (), b"{}", Graph, object()])
@pytest.mark.parametrize("call", [kinograph.load, kinograph.validate, kinograph.run])
def test_what_stands_for_no_workflow(call: Callable[[Any], Any], given: Any) -> None:
    with pytest.raises(UsageError, match=r"is not a workflow \(give a path, the name of a workflow that comes") as told:
        call(given)
    assert "object at 0x" not in told.value.message


def test_inputs_that_are_no_dictionary() -> None:
    for call in (kinograph.run, kinograph.validate):
        with pytest.raises(UsageError, match=r"inputs: .* can't be the text 'prompt' \(give a dictionary"):
            call("keyframes", "prompt")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="can't be a list"):
        Graph().run([("prompt", "x")])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the number 3 is not the name of an input"):
        kinograph.run("keyframes", {3: 1})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("values", "what"), [(3, "the number 3"), ("123", "the text '123'"), ({"a": 1}, "a dictionary"), (None, "None")]
)
def test_an_axis_that_is_no_list(values: Any, what: str) -> None:
    with pytest.raises(UsageError, match=f"axis seed: the values are a list, and can't be {what}") as told:
        kinograph.sweep("keyframes", {"seed": values})
    assert told.value.hint == 'give lists of values, such as {"seed": [1, 2, 3]}'


@pytest.mark.parametrize("axes", ["seed", ["seed"], 3, {}, {3: [1]}])
def test_axes_that_are_no_dictionary_of_lists(axes: Any) -> None:
    with pytest.raises(UsageError, match="axes") as told:
        kinograph.sweep("keyframes", axes)
    assert told.value.hint


@pytest.mark.parametrize("until", [3, [3], None])
def test_a_target_that_is_no_node(until: Any) -> None:
    with pytest.raises(UsageError, match=r"until: (3|None) is not a node \(give ids or handles"):
        kinograph.run("keyframes", until=until, progress=False)


def test_kinds_and_folders_that_are_none() -> None:
    with pytest.raises(UsageError, match="3 is not a kind of node"):
        kinograph.load("keyframes", nodes=3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="3 is not a folder"):
        kinograph.run("keyframes", out=3, progress=False)  # type: ignore[arg-type]


def test_a_place_where_no_graph_can_be_saved(tmp_path: Path) -> None:
    g = Graph()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"'\.' is a folder \(name a file in it: workflow\.json\)"):
        g.save(".")
    with pytest.raises(UsageError, match=r"can't write '.*below\.json': .* \(name a file in a folder"):
        g.save(tmp_path / "file" / "below.json")
    for name in (3, "a\0b"):
        with pytest.raises(UsageError, match="can't be the name of a file"):
            g.save(name)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_only_what_may_be_a_workflow_is_suggested_for_a_missing_one(tmp_path: Path) -> None:
    for folder in ("nope_", "nope.json.d", "folder.json"):
        (tmp_path / folder).mkdir()
    for name in ("nope.py", "nope.txt", ".nope.json"):
        (tmp_path / name).touch()

    def hint(name: str) -> str:
        (problem,) = kinograph.validate(name)
        assert problem.message == f"there is no workflow '{name}'"
        return problem.hint or ""

    assert hint("nope").startswith("available: ")
    assert not {"nope_", "nope.py", "folder.json", ".nope.json"} & set(hint("nope").replace(",", "").split())
    assert hint("keyframe") == "did you mean 'keyframes'?"
    for name in ("boat_trip.json", "boat_ride.mp4", "Fish.PNG"):
        (tmp_path / name).touch()
        assert hint(name[:-1]) == f"did you mean '{name}'?"
    assert hint(str(tmp_path / "elsewhere" / "keyframe")) == "did you mean 'keyframes'?"


def test_what_becomes_of_lists_with_failed_items_is_one_of_two() -> None:
    with pytest.raises(UsageError, match="partial is 'alow', but can be allow or fail"):
        Graph(partial="alow")  # type: ignore[arg-type]


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(MissingError, match=r"can't be the name of a file: it has a null character"):
        kinograph.load("a\0b")
