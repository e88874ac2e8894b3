"""Workflows as files for ComfyUI's editor."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.document.formats import from_ui, to_ui
from engine.document.formats.arranging import MAX_COORDINATE
from engine.document.formats.writing import ui_id
from engine.document.subgraphs import inlined
from engine.document.workflow import Workflow, as_json, as_link
from engine.errors import WorkflowError
from engine.node import Context, Node
from engine.registry import Registry
from engine.spec import fits
from nodes import registry
from tests.engine.drawn import Draw, Load, Measure, Play, Sow, Split


class Shout(Node, version=1):
    words: tuple[str, ...]
    loud: bool = True
    at: int | None = None
    how: dict[str, int] | None = None
    by: str

    def run(self, ctx: Context) -> str:
        raise NotImplementedError


KINDS = Registry([Load, Split, Draw, Play, Sow, Measure, Shout])

GRAPH = {
    "load": {"class_type": "Load", "inputs": {"image": "snail.png"}},
    "2": {"class_type": "Draw", "inputs": {"image": ["load", 0], "prompt": "a snail", "seed": 7, "weights": [1, 2]}},
    "03": {"class_type": "Draw", "inputs": {"image": ["2", "out"], "prompt": "", "steps": 5}, "_meta": {"title": "It"}},
}


def written(data: dict[str, Any], kinds: Registry = KINDS) -> Any:
    """A file for ComfyUI's editor."""
    return to_ui(Workflow.read(data), kinds)


def nodes(file: dict[str, Any]) -> dict[str, Any]:
    return {str(node["id"]): node for node in file["nodes"]}


def test_a_node_has_its_widgets_in_order_with_what_the_editor_adds() -> None:
    found = nodes(written(GRAPH))
    assert found["2"]["widgets_values"] == ["a snail", 7, "fixed", 20, 1.0, "fine"]
    assert [*found["2"]["widgets_values_named"]] == [
        *("prompt", "seed", "control_after_generate", "steps", "strength", "manner")
    ]
    play = nodes(written({"1": {"class_type": "Play", "inputs": {"file": "a.mp4"}}}))["1"]
    assert play["widgets_values"] == ["a.mp4", 0.0, False, "image"]
    assert play["inputs"] == [], "what is not linked is only a widget"


@pytest.mark.parametrize(
    ("node", "shown"),
    [
        ("7", 7),
        ("0", 0),
        ("07", "07"),
        ("-7", "-7"),
        ("٧", "٧"),
        ("face", "face"),
        ("9007199254740992", 9007199254740992),
        ("9007199254740993", "9007199254740993"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_an_id_is_a_number_if_javascript_writes_that_number_the_same_way(node: str, shown: int | str) -> None:
    assert ui_id(node) == shown


def test_links_are_noted_at_both_ends() -> None:
    file = written(GRAPH)
    assert file["links"] == [[1, "load", 0, 2, 0, "IMAGE"], [2, 2, 0, "03", 0, "IMAGE"]]
    found = nodes(file)
    assert found["load"]["outputs"] == [{"name": "out", "type": "IMAGE", "links": [1]}]
    assert found["2"]["inputs"][0] == {"name": "image", "type": "IMAGE", "link": 1}
    assert (file["last_node_id"], file["last_link_id"]) == (2, 2)


def test_what_no_widget_holds_and_what_was_left_out_is_noted() -> None:
    own = nodes(written(GRAPH))["2"]["properties"]["kinograph"]
    assert own == {"defaults": {"steps": 20, "strength": 1.0, "manner": "fine"}, "inputs": {"weights": [1, 2]}}


def test_what_somebody_changed_in_the_editor_counts() -> None:
    file = written(GRAPH)
    nodes(file)["2"]["widgets_values"][3] = 99
    del nodes(file)["2"]["widgets_values_named"]  # as older editors save it
    read = from_ui(file, KINDS).graph["2"].inputs
    assert read == {"image": ["load", 0], "prompt": "a snail", "seed": 7, "steps": 99, "weights": [1, 2]}


def test_titles_modes_groups_notes_and_colours_are_kept() -> None:
    layout = {
        "nodes": {"load": {"x": 10, "y": -20, "width": 210, "height": 58, "color": "#322"}},
        "groups": [{"title": "Files", "x": 0, "y": 1, "width": 200, "height": 300, "color": "#3f789e"}],
        "notes": [{"id": "9", "text": "Look here.", "x": 5, "y": 6, "width": 70, "height": 80}],
    }
    graph = GRAPH | {"4": {"class_type": "Load", "inputs": {}, "_meta": {"mode": "mute"}}}
    read = from_ui(written({"graph": graph, "layout": layout}), KINDS)
    assert read.graph["03"].meta == {"title": "It"}
    assert read.graph["4"].meta == {"mode": "mute"}
    strict = graph | {"2": {**GRAPH["2"], "_meta": {"partial": "fail"}}}
    allowing = from_ui(written({"graph": strict, "partial": "allow"}), KINDS)
    assert {node: entry.meta["partial"] for node, entry in allowing.graph.items()} == {
        **dict.fromkeys(("load", "03", "4"), "allow"),
        "2": "fail",
    }
    assert read.layout["nodes"]["load"] == layout["nodes"]["load"]
    assert (read.layout["groups"], read.layout["notes"]) == (layout["groups"], layout["notes"])


def test_nodes_without_a_place_stand_right_of_what_they_need_and_none_on_another() -> None:
    found = nodes(written(GRAPH | {"other": GRAPH["load"]}))
    assert found["load"]["pos"][0] < found["2"]["pos"][0] < found["03"]["pos"][0]
    boxes = [(*node["pos"], *node["size"]) for node in found.values()]
    for index, (x, y, width, height) in enumerate(boxes):
        for left, top, wide, high in boxes[index + 1 :]:
            apart = x + width <= left or left + wide <= x or y + height <= top or top + high <= y
            assert apart
    placed = written({"graph": GRAPH, "layout": {"nodes": {"2": {"x": 0, "y": 1000, "width": 50, "height": 70}}}})
    assert nodes(placed)["2"]["pos"] == [0, 1000]
    assert all(nodes(placed)[name]["pos"][1] > 1070 for name in ("load", "03"))


@pytest.mark.parametrize(
    "layout",
    [
        *([1], {"nodes": [1]}, {"nodes": {"2": 5}}, {"nodes": {"2": {"x": "a", "y": 1}}}, {"groups": 5, "notes": {}}),
        {"groups": [1, {"x": 1}], "notes": [{"id": []}]},
        {"nodes": {"2": {"x": 2 * MAX_COORDINATE, "y": float("nan"), "color": 5}}},
    ],
)
def test_a_layout_may_be_anything(layout: Any) -> None:
    file = written({"graph": GRAPH, "layout": layout})
    assert from_ui(file, KINDS).graph.keys() == GRAPH.keys()


PART = {
    "inputs": {"photo": "load.image", "text": "draw.prompt", "n": "draw.steps", "w": "draw.weights"},
    "outputs": {"as it was": ["load", 0], "drawn": ["draw", 0]},
    "graph": {
        "load": {"class_type": "Load", "inputs": {"image": "snail.png"}},
        "draw": {"class_type": "Draw", "inputs": {"image": ["load", 0], "prompt": "a snail"}},
    },
}
USED = {
    "subgraphs": {
        "part": PART,
        "twice": {
            "inputs": {"words": "a.text"},
            "outputs": {"end": ["b", "drawn"]},
            "graph": {
                "a": {"class_type": "part", "inputs": {}},
                "b": {"class_type": "part", "inputs": {"text": "a hen"}},
            },
        },
        "unused": {"graph": {"x": {"class_type": "unused", "inputs": {}}}},
    },
    "graph": {
        "1": {"class_type": "part", "inputs": {"text": "a fox", "w": [1.5]}},
        "2": {"class_type": "twice", "inputs": {}, "_meta": {"mode": "bypass"}},
        "3": {"class_type": "Draw", "inputs": {"image": ["1", "drawn"], "prompt": "x"}},
        "4": {"class_type": "Split", "inputs": {"image": ["2", 0]}},
    },
}


def test_subgraphs_are_defined_in_the_file() -> None:
    file = written(USED)
    assert [each["name"] for each in file["definitions"]["subgraphs"]] == ["part", "twice"]
    ids = [link["id"] for each in file["definitions"]["subgraphs"] for link in each["links"]]
    ids += [link[0] for link in file["links"]]
    assert sorted(ids) == [*range(1, len(ids) + 1)], "no link's id is there twice"
    use = nodes(file)["1"]
    assert use["widgets_values_named"] == {"photo": "snail.png", "text": "a fox", "n": 20}
    assert use["properties"]["kinograph"] == {"defaults": {"photo": "snail.png", "n": 20}, "inputs": {"w": [1.5]}}
    assert same(from_ui(file, KINDS), Workflow.read(USED))


@pytest.mark.parametrize("inputs", [{"a": "draw.prompt", "b": "draw.prompt"}, {"photo": "draw.image"}])
def test_subgraphs_that_cannot_be_defined_are_inlined(inputs: dict[str, str]) -> None:
    workflow = Workflow.read(
        {
            **USED,
            "subgraphs": {"part": {**PART, "inputs": inputs}},
            "graph": {
                "1": {"class_type": "part", "inputs": {}},
                "3": USED["graph"]["3"],
            },
        }
    )
    file = to_ui(workflow, KINDS)
    assert "definitions" not in file
    assert same(from_ui(file, KINDS), inlined(workflow, KINDS).workflow)


def test_a_subgraph_that_contains_itself_is_reported() -> None:
    with pytest.raises(WorkflowError, match=r"contains itself: (a → b|b → a)"):
        written(
            {
                "subgraphs": {
                    name: {"graph": {"1": {"class_type": other, "inputs": {}}}} for name, other in ("ab", "ba")
                },
                "graph": {"1": {"class_type": "a", "inputs": {}}},
            }
        )


def test_every_kind_there_is_can_be_written_with_its_defaults() -> None:
    kinds = registry()
    graph = {name: {"class_type": name, "inputs": {}} for name in kinds}
    assert same(from_ui(written(graph, kinds), kinds), Workflow.read(graph))


def test_ten_thousand_nodes_are_written_in_a_few_seconds() -> None:
    graph = {"0": {"class_type": "Load", "inputs": {"image": "a.png"}}}
    for index in range(1, 10_000):
        graph[str(index)] = {"class_type": "Draw", "inputs": {"image": [str(index - 1), 0], "prompt": "x"}}
    start = time.process_time()
    file = written(graph)
    assert time.process_time() - start < 4
    assert len(file["nodes"]) == 10_000


# Any workflow


def same(one: Workflow, other: Workflow) -> bool:
    """Whether two workflows say the same: the same nodes in the same order, and subgraphs where they are used."""
    return [*one.graph] == [*other.graph] and _plain(one) == _plain(other)


def _plain(workflow: Workflow) -> Any:
    """A workflow with outputs by their names, and without what a file can't say: titles and unused subgraphs."""
    used, waiting = dict[str, Workflow](), [workflow]
    while waiting:
        kinds = {entry.class_type for entry in waiting.pop().graph.values()}
        new = {name: workflow.subgraphs[name] for name in kinds & workflow.subgraphs.keys() - used.keys()}
        used |= new
        waiting += new.values()
    parts = {name: (_plain_graph(part, workflow), part.inputs, [*part.outputs]) for name, part in used.items()}
    return _plain_graph(workflow, workflow), parts


def _plain_graph(part: Workflow, whole: Workflow) -> Any:
    def named(value: Any) -> Any:
        link = as_link(value)
        kind = part.graph[link.node].class_type if link else ""
        if link is None or isinstance(link.slot, str):
            return value
        outputs = [*whole.subgraphs[kind].outputs] if kind in whole.subgraphs else outputs_of(kind)
        return [link.node, outputs[link.slot]]

    entries = {
        node: (entry.class_type, {name: named(value) for name, value in entry.inputs.items()}, entry.meta)
        for node, entry in part.graph.items()
    }
    return entries, [named(end) for end in part.outputs.values()]


def outputs_of(kind: str) -> list[str]:
    """The names of a kind's outputs; of an unknown one, some."""
    return [output.name for output in KINDS[kind].spec.outputs] if kind in KINDS else [*"0123"]


json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "image", "fixed", "é"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "__value__"]), inner, max_size=2),
    max_leaves=3,
)
words = st.sampled_from(["", "a snail", "fixed", "image", "randomize", "True"])
CONSTANTS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-9, 9),
    str: words,
    bool: st.booleans(),
    float: st.floats(-2, 2) | st.integers(-2, 2),
    float | None: st.none() | st.floats(-2, 2),
    int | None: st.none() | st.integers(0, 9),
    int | str: st.integers(0, 9) | words,
    dict[str, int] | None: st.none() | st.dictionaries(words, st.integers(0, 9), max_size=2),
    tuple[float, ...]: st.lists(st.integers(0, 3), max_size=2),
    tuple[int, ...]: st.lists(st.integers(0, 3), max_size=2),
    tuple[str, ...]: st.lists(words, max_size=3),
    **{each: st.sampled_from(get_args(each)) for each in (Literal["fine", "coarse"], Literal["1", "2"])},
}
metas = st.sampled_from(
    [{}, {"title": "Its title"}, {"mode": "mute"}, {"mode": "bypass", "title": "é"}, {"partial": "fail"}]
)
node_ids = st.sampled_from(["1", "2", "03", "12", "-4", "a b", "face/load", "x:1", "1.x", "9" * 15, "9" * 16, "٣"])
foreign = st.dictionaries(st.sampled_from(["a.b", "seed", "upload", "fixed", "", "_"]), json.map(as_json), max_size=4)


@st.composite
def inputs(draw: Any, kind: type[Node], graph: Mapping[str, Any]) -> dict[str, Any]:
    """Some inputs of a node: constants, and links to nodes that stand before it."""
    given: dict[str, Any] = {}
    for name, socket in kind.spec.inputs.items():
        sources = [
            [node, slot]
            for node, entry in graph.items()
            if entry["class_type"] in KINDS
            for index, output in enumerate(KINDS[entry["class_type"]].spec.outputs)
            if fits(output.type, socket.type)
            for slot in (index, output.name)
        ]
        constants = CONSTANTS.get(socket.type, st.nothing()).map(as_json)
        if draw(st.booleans()) and (sources or socket.type in CONSTANTS):
            given[name] = draw(st.sampled_from(sources) | constants if sources else constants)
    return given


@st.composite
def graphs(draw: Any, subgraphs: Mapping[str, Workflow]) -> dict[str, Any]:
    """Nodes, some of which are subgraphs or of an unknown kind."""
    graph: dict[str, Any] = {}
    for node in draw(st.lists(node_ids, unique=True, min_size=1, max_size=5)):
        kind = draw(st.sampled_from([*KINDS, *subgraphs, "Foreign"]))
        if kind in KINDS:
            given = draw(inputs(KINDS[kind], graph))
        elif kind in subgraphs:
            names = draw(st.lists(st.sampled_from([*subgraphs[kind].inputs, "_"]), unique=True))
            given = {name: draw(json.map(as_json)) for name in names if name != "_"}
        else:
            given = draw(foreign) | {f"to {name}": [name, 0] for name in graph if graph[name]["class_type"] in KINDS}
        graph[node] = {"class_type": kind, "inputs": given, "_meta": draw(metas)}
    return graph


@st.composite
def workflows(draw: Any) -> Workflow:
    """Workflows with subgraphs, which may use those before them."""
    subgraphs: dict[str, Workflow] = {}
    for name in draw(st.lists(st.sampled_from(["part", "face.json", "Load 2"]), unique=True, max_size=3)):
        graph = draw(graphs(subgraphs))
        kinds = {**subgraphs, **{kind: KINDS[kind].spec for kind in KINDS}}
        can_be_exposed = [
            f"{node}.{socket}"
            for node, entry in graph.items()
            for socket in (kinds[entry["class_type"]].inputs if entry["class_type"] in kinds else ())
            if not as_link(entry["inputs"].get(socket))
        ]
        paths = draw(st.lists(st.sampled_from(can_be_exposed), unique=True, max_size=3)) if can_be_exposed else []
        ends = [[node, 0] for node, entry in graph.items() if entry["class_type"] in KINDS]
        outputs = draw(st.lists(st.sampled_from(ends), max_size=2)) if ends else []
        subgraphs[name] = Workflow.read(
            {
                "inputs": {f"in {index}": path for index, path in enumerate(paths)},
                "outputs": {f"out {index}": end for index, end in enumerate(outputs)},
                "graph": graph,
            }
        )
    documents = {name: part.document() for name, part in subgraphs.items()}
    return Workflow.read({"graph": draw(graphs(subgraphs)), "subgraphs": documents})


@given(workflows())
def test_what_is_written_is_read_as_the_same_workflow(workflow: Workflow) -> None:
    assert same(from_ui(to_ui(workflow, KINDS), KINDS), workflow)


@given(workflows())
def test_an_editor_that_saves_only_values_by_position_loses_nothing(workflow: Workflow) -> None:
    file = to_ui(workflow, KINDS)
    for graph in (file, *file.get("definitions", {}).get("subgraphs", ())):
        for node in graph["nodes"]:
            if node["type"] != "Foreign":
                del node["widgets_values_named"]
    assert same(from_ui(file, KINDS), workflow)
