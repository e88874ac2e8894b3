"""`kinograph export`: code that builds a workflow, whatever is in it."""

from __future__ import annotations

import ast
import builtins
import json
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import kinograph
from engine.cli.export import python_code
from engine.cli.main import app
from engine.document.prepared import prepare
from engine.document.reading import Document, read
from engine.document.shipped import shipped
from engine.document.workflow import Workflow
from engine.errors import WorkflowError
from engine.graph.check import check, check_without_files
from engine.graph.keys import node_keys
from kinograph import Graph
from nodes import registry
from tests.engine import toys
from tests.engine.graphs import graphs
from tests.engine.toys import REGISTRY, node


@pytest.fixture
def only_toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kinds that there are be the toys."""
    monkeypatch.setattr("kinograph.graph.registry", lambda: REGISTRY)
    monkeypatch.setattr("kinograph.documents.registry", lambda: REGISTRY)


def document(graph: dict[str, Any], **about: Any) -> Document:
    workflow = Workflow.read({"kinograph": 1, "graph": graph} | about)
    return Document(prepare(workflow, REGISTRY), "workflow", None)


def built(code: str) -> Graph:
    """The graph that code builds."""
    around: dict[str, Any] = {"__name__": "exported"}
    exec(compile(code, "exported.py", "exec"), around)
    graph = around["g"]
    assert isinstance(graph, Graph)
    return graph


def keys(document: Document) -> dict[str, str]:
    """The keys of all nodes that take part."""
    nodes = [*document.prepared.active.graph]
    return node_keys(check(document.prepared, base=document.base, targets=nodes), "cpu") if nodes else {}


def same(before: Document) -> Document:
    """What a document becomes as code and back, which comes to the same."""
    after = built(python_code(before)).as_document()
    assert keys(after) == keys(before)
    workflow = after.workflow
    assert (workflow.title, workflow.description) == (before.workflow.title, before.workflow.description)
    assert workflow.inputs == before.workflow.inputs
    assert list(workflow.inputs) == list(before.workflow.inputs)
    assert workflow.outputs.keys() == before.workflow.outputs.keys()
    return after


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_workflow_comes_to_the_same(name: str, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "clip.mp4").touch()
    before = read(name, registry())
    for source, sockets in before.prepared.models.items():
        if source.startswith("pypi:"):  # any other will do that is here
            before = replace(before, prepared=before.prepared.with_input(*sockets[0], "sprite/sdxl"))
    if name == "lvd_f":  # whose models its users name
        for name in ("clip", "aesthetics", "image_captioner"):
            before = replace(before, prepared=before.prepared.with_input("curate", name, "sprite/clip"))
    after = same(before)
    entries = before.workflow.graph.items()
    assert {node: entry.meta for node, entry in after.workflow.graph.items()} == {n: entry.meta for n, entry in entries}


def test_it_reads_like_code_that_one_would_write() -> None:
    assert python_code(read("keyframes", registry())) == dedent(
        """\
        from kinograph import Graph

        g = Graph(
            title="Key frames from a text",
            description="Draws pictures from a prompt and saves them as PNG.",
        )
        image_model = g.ImageModelLoad(source="sprite/sdxl", id="image_model", title="Image model")
        key_frames = g.KeyframeSampler(
            model=image_model,
            prompt="a red fish on a beach in watercolour style",
            count=4,
            steps=20,
            guidance_scale=4.0,
            seed=0,
            id="keyframes",
            title="Key frames",
        )
        g.SaveImage(
            images=key_frames,
            filename_prefix="keyframe",
            scale=4,
            id="save",
            title="Save the pictures",
        )
        g.expose(
            prompt=key_frames.inputs.prompt,
            count=key_frames.inputs.count,
            seed=key_frames.inputs.seed,
        )

        if __name__ == "__main__":
            g.run()
        """
    )


def test_ids_that_a_graph_would_give_itself_are_left_out(only_toys: None) -> None:
    code = python_code(document({"number": node("Number"), "mix": node("Mix", a=["number", 0])}))
    assert "number = g.Number()\ng.Mix(a=number)\n" in code


def test_outputs_are_named_where_there_are_several(only_toys: None) -> None:
    graph = {"d": node("Divide", a=7), "one": node("Mix", a=["d", 1]), "other": node("Mix", a=["d", "quotient"])}
    code = python_code(document(graph))
    assert "a=divide.remainder" in code
    assert "a=divide.quotient" in code
    same(document(graph))


def test_graphs_that_are_used_as_nodes_are_graphs_of_their_own(only_toys: None) -> None:
    twice = {
        "title": "Twice",
        "inputs": {"the number": "first.a", "scale": "second.scale"},
        "outputs": {"mixed": ["second", 0], "na me": ["divide", 1]},
        "graph": {
            "first": node("Mix"),
            "second": node("Mix", a=["first", 0], scale="always given"),
            "divide": node("Divide", a=["second", 0]),
        },
    }
    four = {
        "inputs": {"number": "a.the number"},
        "outputs": {"out": ["b", "na me"]},
        "graph": {
            "b": node("parts/twice.json", **{"the number": ["a", 0], "scale": 2.0}),
            "a": node("parts/twice.json", scale=1.0),
        },
    }
    graph = {"four": node("Four", number=5), "end": node("Mix", a=["four", "out"])}
    before = document(graph, subgraphs={"Four": four, "parts/twice.json": twice}, inputs={"start": "four.number"})
    code = python_code(before)
    assert code.index("parts_twice = Graph(") < code.index("four = Graph(") < code.index("g = Graph(")
    assert 'parts_twice.expose({"the number": mix.inputs.a, "scale": mix_2.inputs.scale})' in code
    assert same(before).workflow.subgraphs.keys() == {"Four", "parts/twice.json"}


def test_what_becomes_of_lists_with_failed_items_is_kept(only_toys: None) -> None:
    graph = {"a": node("Number", value=1) | {"_meta": {"partial": "fail"}}}
    workflow = document(graph, partial="allow")
    assert built(python_code(workflow)).document() == workflow.document()


def moded(mode: str, kind: str, **inputs: Any) -> dict[str, Any]:
    return node(kind, **inputs) | {"_meta": {"mode": mode}}


@pytest.mark.parametrize(
    "graph",
    [
        {"m": moded("mute", "Slow", a=["n", 0]), "after": node("Mix", a=["m", 0])},
        {"b": moded("bypass", "Slow", a=["n", 0]), "after": node("Mix", a=["b", 0])},
        {"m": moded("mute", "NoSuchKind", **{"x y": 1}), "after": node("Mix", a=2, b=["m", "what?"])},
        {
            "m": moded("mute", "Mix", a="bad"),
            "after": node("Mix", a=["m", 0], b="bad too"),
            "c": node("Mix", a=["after", 0]),
        },
        {"m": moded("mute", "Mix", a=["nowhere", 0], b=["n", 7])},
        {"a": moded("bypass", "Mix", a=["b", 0], b=["n", 0]), "b": moded("bypass", "Mix", a=["a", 0])}
        | {"after": node("Mix", a=2, b=["a", 0])},
        {"x": node("Mix", a=["y", 0], b=["m", 0]), "y": node("Mix", a=["x", 0], b=["gone", 0])}
        | {"m": moded("mute", "Number"), "gone": moded("mute", "Number"), "x2": node("Mix", a=["x", 0])},
    ],
)
def test_modes_are_kept_and_what_takes_no_part_may_be_anything(only_toys: None, graph: dict[str, Any]) -> None:
    before = document({"n": node("Number", value=5)} | graph)
    try:
        check_without_files(before.prepared)
    except WorkflowError:
        with pytest.raises(WorkflowError):
            python_code(before)
    else:
        same(before)


TRICKY = [
    *(
        '"',
        "'",
        "\\",
        "\n",
        "\r",
        '"""',
        "\u2028",
        "\0",
        "{x}",
        "%s",
        "ﬁle",
        "naïve",
        "日本",
        "\u202e",
        "\U0001f40c",
        " ",
    ),
    *(
        "id",
        "title",
        "mode",
        "kind",
        "inputs",
        "self",
        "class",
        "None",
        "print",
        "Graph",
        "g",
        "NODES",
        "__class__",
        "a b",
    ),
    *(
        "'); import os; os.abort() #",
        '"); raise SystemExit("x',
        "x\nraise SystemExit",
        "# -*- coding: rot13 -*-",
        "1",
        "a.b",
    ),
]
texts = st.sampled_from(TRICKY) | st.text(max_size=8) | st.lists(st.sampled_from(TRICKY), max_size=3).map("".join)
constants = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def hostile(draw: st.DrawFn) -> dict[str, Any]:
    """A document in which whatever people may write is as bad as can be."""
    graph: dict[str, Any] = {}
    names: dict[str, str] = {}
    for name, entry in draw(graphs(size=6)).items():
        names[name] = draw(texts.filter(lambda text: text not in names.values() and not text.endswith("]")))
        inputs = {
            socket: [names[value[0]], value[1]] if isinstance(value, list) else value
            for socket, value in entry["inputs"].items()
        }
        about = draw(
            st.fixed_dictionaries({}, optional={"title": texts | constants, "mode": st.just("bypass"), "x": texts})
        )
        graph[names[name]] = node(entry["class_type"], **inputs) | {"_meta": about}
    value = draw(constants)
    graph[draw(texts.map(lambda text: f"{text}?"))] = node("Choose", first=True, one={"__value__": value})
    exposed = draw(st.dictionaries(texts, st.sampled_from([*names.values()]), max_size=3))
    inputs = {
        name: f"{node}.{next(iter(REGISTRY[graph[node]['class_type']].spec.inputs))}" for name, node in exposed.items()
    }
    outputs = {
        name: [node, 0]
        for name, node in draw(st.dictionaries(texts, st.sampled_from([*names.values()]), max_size=2)).items()
    }
    about = {"title": draw(texts), "description": draw(texts), "inputs": inputs, "outputs": outputs, "graph": graph}
    if draw(st.booleans()):
        return about
    name = draw(texts.filter(lambda text: text not in REGISTRY))
    used = draw(texts)
    linked = {used: node(name), "end": node("Mix", a=[used, 0])} if outputs else {used: node(name)}
    return {"title": name, "graph": linked, "subgraphs": {name: about}}


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=150
)
@given(hostile())
def test_nothing_in_a_file_is_taken_for_code(only_toys: None, data: dict[str, Any]) -> None:
    before = document(**data)
    try:
        check_without_files(before.prepared)
    except WorkflowError:
        with pytest.raises(WorkflowError):
            python_code(before)
        return
    code = python_code(before)
    calls = {ast.unparse(call.func) for call in ast.walk(ast.parse(code)) if isinstance(call, ast.Call)}
    variables = {name.partition(".")[0] for name in calls}
    assert not variables & {*dir(builtins), "os"}
    assert all(name.isascii() for name in calls)
    same(before)


class TestCommand:
    def call(self, *args: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["export", *args])
        return result.exit_code, result.stdout, result.stderr

    def test_it_writes_code_with_what_was_set(self) -> None:
        code, written, _ = self.call("keyframes", "--python", "--set", "prompt=a blue boat")
        assert code == 0
        assert built(written)["keyframes"].kind == "KeyframeSampler"
        assert 'prompt="a blue boat"' in written

    def test_or_json_which_is_a_workflow_again(self, tmp_path: Path) -> None:
        code, written, _ = self.call("keyframes", "--set", "count=2")
        assert code == 0
        (tmp_path / "flow.json").write_text(written)
        assert kinograph.load("flow.json").workflow.graph["keyframes"].inputs["count"] == 2

    def test_kinds_of_a_file_come_along(self, tmp_path: Path) -> None:
        toy_nodes = str(Path(toys.__file__))
        (tmp_path / "flow.json").write_text(json.dumps({"n": node("Number", value=3)}))
        code, written, _ = self.call("flow.json", "--python", "--nodes", toy_nodes)
        assert code == 0
        assert built(written).run(progress=False)["n"] == 3

    def test_a_file_beside_the_workflow_is_found_from_elsewhere(self, tmp_path: Path) -> None:
        (tmp_path / "flows").mkdir()
        (tmp_path / "flows" / "note.txt").write_text("a note")
        graph = {"read": node("LoadText", file="note.txt"), "other": node("LoadText", file="later.txt")}
        (tmp_path / "flows" / "read.json").write_text(json.dumps(graph))
        _, written, _ = self.call("flows/read.json", "--python")
        files = [entry["inputs"]["file"] for entry in built(written).document()["graph"].values()]
        assert files == [str(tmp_path / "flows" / "note.txt"), "later.txt"]

    def test_what_is_unsound_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "bad.json").write_text(json.dumps({"n": node("Nmber"), "m": node("Text", text=5)}))
        code, written, told = self.call("bad.json", "--python")
        assert (code, written) == (3, "")
        assert "no kind of node is called 'Nmber'" in told
        assert "node m, input text: should be a valid string" in told
