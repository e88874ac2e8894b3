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
    with pytest.raises(UsageError, match=r"until: (the number 3|None) is not a node \(give ids or handles"):
        kinograph.run("keyframes", until=until, progress=False)


def test_kinds_and_folders_that_are_none() -> None:
    with pytest.raises(UsageError, match="3 is not a kind of node"):
        kinograph.load("keyframes", nodes=3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="out: the number 3 is not a path"):
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


NO_TEXTS = [3, 2.5, True, b"cpu", [1], object(), int]


@pytest.mark.parametrize("given", NO_TEXTS)
def test_a_device_that_is_no_text(given: Any) -> None:
    for call in (kinograph.Session, lambda device: kinograph.run("keyframes", device=device)):
        with pytest.raises(UsageError, match=r"^device: .* is not a text \(use cpu, cuda, cuda:1 or mps\)$"):
            call(given)


@pytest.mark.parametrize("given", [3, b"cache", [1], object(), "a\0b", "~nobody-here/cache"])
def test_a_cache_folder_that_is_no_path(given: Any) -> None:
    with pytest.raises(UsageError, match=r"^cache_dir: .* is not a path.* \(give a folder, or none") as told:
        kinograph.Session("cpu", cache_dir=given)
    assert "0x" not in str(told.value)


@pytest.mark.parametrize("name", ["cache_device", "cache_host", "cache_disk"])
@pytest.mark.parametrize("given", [2.5, -1, True, [1], b"20GB"])
def test_a_budget_that_is_no_size(name: str, given: Any) -> None:
    with pytest.raises(UsageError, match=rf'^{name}: .* is not a whole number from 0 on \(give bytes, or .* "20GB"\)$'):
        kinograph.Session("cpu", **{name: given})


@pytest.mark.parametrize("given", [3, "print", [print], object(), 0])
def test_a_listener_that_cannot_be_called_is_refused_before_anything_runs(given: Any, tmp_path: Path) -> None:
    graph = {"1": {"class_type": "SaveText", "inputs": {"text": "x"}}}
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"^on_event: .* can't be called \(give a function"):
        kinograph.run(graph, out=out, on_event=given)
    with pytest.raises(UsageError, match=r"^on_event: .* can't be called \(give a function"):
        kinograph.sweep(graph, {"1.text": ["a"]}, out=out, on_event=given)
    assert not out.exists()


def test_a_folder_and_a_file_of_nodes_that_no_file_can_be() -> None:
    with pytest.raises(UsageError, match=r"out: the text 'a.*b' is not a path: it has a null character"):
        kinograph.sweep("keyframes", {"seed": [1]}, out="a\0b")
    with pytest.raises(UsageError, match="can't be the name of a file: embedded null byte"):
        kinograph.load("keyframes", nodes="a\0b.py")


@pytest.mark.parametrize("given", NO_TEXTS)
def test_what_a_graph_calls_by_anything_but_a_text(given: Any) -> None:
    for name in ("title", "description", "name"):
        with pytest.raises(UsageError, match=f"^{name}: .* is not a text"):
            Graph(**{name: given})
    g = Graph()
    for name in ("id", "title", "mode", "partial"):
        with pytest.raises(UsageError, match=f"^{name}: .* is not a text"):
            g.add("SaveText", {"text": "x"}, **{name: given})
    assert list(g) == []


@pytest.mark.parametrize("given", [3, "text", [("text", "x")], object(), {3: "x"}])
def test_inputs_of_a_node_that_are_not_given_by_name(given: Any) -> None:
    g = Graph()
    node = g.SaveText(text="x")
    for call in (g.expose, g.output, node.set, lambda some: g.add("SaveText", some)):
        with pytest.raises(UsageError, match=r"is not a (dictionary|name) \(give a dictionary"):
            call(given)
    assert len(list(g)) == 1


@pytest.mark.parametrize("given", [2.5, None, [1], {"a": 1}, object()])
def test_nodes_inputs_and_outputs_looked_up_by_anything_but_a_name(given: Any) -> None:
    g = Graph()
    node = g.TextLines(text="x")
    with pytest.raises(KeyError, match=r"no node is called (the number 2\.5|None|a list|a dictionary|an object)"):
        g[given]
    assert given not in g
    with pytest.raises(UsageError, match="is not the name of an input"):
        node.inputs[given]
    with pytest.raises(UsageError, match="is not an output"):
        node[given]
    with pytest.raises(UsageError, match="is not a node"):
        g.set_inputs(given, {})


def test_results_looked_up_by_anything_but_a_node(tmp_path: Path) -> None:
    results = kinograph.run({"1": {"class_type": "SaveText", "inputs": {"text": "x"}}}, out=tmp_path, progress=False)
    for given in (3, None, [1], object()):
        with pytest.raises(KeyError, match=r"there is no result of (the number 3|None|a list|an object)"):
            results[given]  # type: ignore[index]
        with pytest.raises(KeyError, match="there is no result of"):
            results.files[given]  # type: ignore[index]


def test_a_picture_of_something_else() -> None:
    with pytest.raises(kinograph.InputError, match=r"an image must be a float32 tensor .*, not a list"):
        kinograph.Image([1])  # type: ignore[arg-type]
