"""Workflows as the ecosystem's editors save them."""

from __future__ import annotations

import copy
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.document.formats import converted, from_ui, is_ui, levels
from engine.document.formats.elsewhere import WIDGETS
from engine.document.prepared import prepare
from engine.document.reading import parse
from engine.document.workflow import Workflow
from engine.errors import WorkflowError
from engine.graph.check import check
from engine.registry import Registry
from nodes import registry
from tests.engine.drawn import (
    DRAWN,
    GIVEN,
    REGISTRY,
    Measure,
    Play,
    Send,
    Sow,
    inputs,
    link,
    node,
    read,
    sketch,
    socket,
    subgraph,
    ui,
)


def test_only_the_editors_format_is_recognised() -> None:
    assert is_ui(ui())
    assert not is_ui({"nodes": {"class_type": "Load", "inputs": {}}})
    assert not is_ui([])


# Values


@pytest.mark.parametrize(
    ("values", "sockets"),
    [
        (DRAWN, []),
        ([*DRAWN[:2], *DRAWN[3:]], []),
        (DRAWN, [socket("image"), socket("seed", widget=True)]),
        (DRAWN, [socket("image"), *(socket(name, widget=True) for name in GIVEN)]),
        (DRAWN, [socket(name, widget=True) for name in ("seed", "prompt", "steps", "strength", "manner")]),
        (GIVEN | {"control_after_generate": "fixed"}, []),
    ],
    ids=["by position", "without control", "a converted one", "all listed", "listed out of order", "by name"],
)
def test_values_are_named(values: Any, sockets: list[dict[str, Any]]) -> None:
    assert inputs(read(node(1, "Draw", values, inputs=sockets)), "1") == GIVEN


def test_values_by_position_count_before_those_by_name() -> None:
    named = {"prompt": "a fox", "seed": 3, "control_after_generate": "fixed", "steps": 9}
    told = read(node(1, "Draw", ["a snail", 7, "fixed", 30], widgets_values_named=named))
    assert inputs(told, "1") == {"prompt": "a snail", "seed": 7, "steps": 30}
    fewer = read(node(1, "Draw", ["a snail"], widgets_values_named=named))
    assert inputs(fewer, "1") == {"prompt": "a snail", "seed": 3, "steps": 9}, "what has no position is taken by name"


def test_names_for_all_values_tell_what_each_is() -> None:
    named = {"flag": True, "upload": "image", "prompt": "a fox", "seed": 3, "control_after_generate": "fixed"}
    foreign = read(node(1, "Foreign", [False, "image", "a hen", 5, "randomize"], widgets_values_named=named))
    assert inputs(foreign, "1") == {"flag": False, "prompt": "a hen", "seed": 5}
    drawn = read(node(1, "Draw", ["coarse", "a hen"], widgets_values_named={"manner": "fine", "prompt": ""}))
    assert inputs(drawn, "1") == {"manner": "coarse", "prompt": "a hen"}


def test_an_upload_button_is_not_a_value() -> None:
    sockets = [socket("image", widget=True), socket("upload", widget=True)]
    for told in ([], sockets):
        assert inputs(read(node(1, "Load", ["snail.png", "image"], inputs=told)), "1") == {"image": "snail.png"}
    play = {"file": "a.mp4", "start": 1.5, "loop": True}
    for listed in (["a.mp4", "image", 1.5, True], ["a.mp4", 1.5, True, "image"], ["a.mp4", 1.5, True]):
        assert inputs(from_ui(ui(node(1, "Play", listed)), Registry([Play])), "1") == play


@pytest.mark.parametrize("control", ["randomize", "increment-wrap", True, False])
def test_what_becomes_of_a_seed_is_no_value(control: object) -> None:
    listed = [7, control, False, "a snail", 20]
    sown = {"seed": 7, "tiled": False, "text": "a snail", "steps": 20}
    for one in (listed, [each for each in listed if each is not control or each is False]):
        assert inputs(from_ui(ui(node(1, "Sow", one)), Registry([Sow])), "1") == sown
    told = [socket("seed", widget=True, type="INT"), socket("tiled", widget=True, type="BOOLEAN")]
    told += [socket("text", widget=True, type="STRING"), socket("steps", widget=True, type="INT")]
    assert inputs(from_ui(ui(node(1, "Foreign", listed, inputs=told)), Registry([])), "1") == sown


def test_a_text_after_a_seed_may_be_the_word_for_what_becomes_of_it() -> None:
    told = from_ui(ui(node(1, "Sow", [7, "randomize", True, "fixed", 20])), Registry([Sow]))
    assert inputs(told, "1") == {"seed": 7, "tiled": True, "text": "fixed", "steps": 20}


THEIRS = [
    ("LoadVideo", ["a.mp4", "image"], {"file": "a.mp4"}),
    ("LoadImage", ["f.png", "image"], {"image": "f.png"}),
    ("SaveVideo", ["v", "auto", "auto"], {"filename_prefix": "v", "format": "auto", "codec": "auto"}),
    ("SaveVideo", ["v", "auto", "auto", "auto"], {"filename_prefix": "v", "format": "auto", "codec": "auto"}),
    ("LoadImage", ["f.png", {"filename": "f.png"}], {"image": "f.png"}),
    ("SaveVideo", ["v", "mp4", "h264", 20], {"filename_prefix": "v", "format": "mp4", "codec": "h264"}),
    ("SaveImage", ["ComfyUI", ""], {"filename_prefix": "ComfyUI"}),
    ("SaveImage", ["ComfyUI"], {"filename_prefix": "ComfyUI"}),
    ("EmptyImage", [64, 32, 1, 0], {"width": 64, "height": 32, "batch_size": 1, "color": 0}),
]
"""Values of ComfyUI's own nodes, and what each is."""


@pytest.mark.parametrize(("kind", "listed", "given"), THEIRS)
def test_further_inputs_of_a_kind_that_comfyui_has_too_are_not_given_by_position(
    kind: str, listed: list[Any], given: dict[str, Any]
) -> None:
    found = inputs(from_ui(ui(node(1, kind, listed)), registry()), "1")
    assert {name: value for name, value in found.items() if not name.startswith("value ")} == given


def test_unless_the_file_has_a_value_for_each_or_names_them() -> None:
    every = {"filename_prefix": "v", "format": "auto", "codec": "auto", "quality": 20, "fps": 8, "scale": 2}
    assert inputs(from_ui(ui(node(1, "SaveVideo", [*every.values()])), registry()), "1") == every
    told = [socket(name, widget=True) for name in ("filename_prefix", "scale")]
    assert inputs(from_ui(ui(node(1, "SaveImage", ["v", 4], inputs=told)), registry()), "1") == {
        "filename_prefix": "v",
        "scale": 4,
    }


def test_widgets_that_comfyui_has_are_those_of_the_kinds_that_are_here() -> None:
    for name, theirs in WIDGETS.items():
        assert {*theirs} <= {*registry()[name].spec.inputs}


def test_a_prompt_may_be_the_name_of_an_editors_widget() -> None:
    assert inputs(read(node(1, "Draw", ["fixed", 7, "fixed", 30])), "1") == {"prompt": "fixed", "seed": 7, "steps": 30}


@pytest.mark.parametrize("name", ["upload", "choose file to upload", "control_after_generate", "video-preview"])
def test_the_widgets_of_an_editor_are_left_out_of_graphs_too(name: str) -> None:
    graph = {"1": {"class_type": "Load", "inputs": {"image": "snail.png", name: "image"}}}
    assert inputs(parse(graph, REGISTRY), "1") == {"image": "snail.png"}
    linked = {"1": {"class_type": "Load", "inputs": {"image": "snail.png", name: ["1", 0]}}}
    foreign = {"1": {"class_type": "Foreign", "inputs": {name: "image"}}}
    for kept in (linked, foreign):
        assert parse(kept, REGISTRY).api() == kept
    with pytest.raises(WorkflowError, match="class_type"):
        parse({"1": {"class_type": [], "inputs": {name: "image"}}}, REGISTRY)


def test_an_input_may_have_the_name_of_an_editors_widget() -> None:
    graph = {"1": {"class_type": "Send", "inputs": {"upload": "image"}}}
    assert parse(graph, Registry([Send])).api() == graph


def sent(name: str, value: Any) -> Any:
    """What an input is given by a graph that a client of ComfyUI sends."""
    registry = Registry([Measure])
    graph = {"1": {"class_type": "Measure", "inputs": {name: value}}}
    return inputs(converted(parse(graph, registry), registry), "1")[name]


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        *[("whole", 8.0, 8), ("whole", "8", 8), ("whole", True, 1), ("whole", {"__value__": 8.0}, 8)],
        *[("number", "1.5", 1.5), ("number", True, 1.0)],
        *[("text", 8, "8"), ("text", 0.5, "0.5")],
        *[("truth", 0, False), ("truth", 1, True), ("truth", 1.0, True)],
    ],
)
def test_constants_from_clients_are_converted_to_what_an_input_takes(name: str, value: Any, taken: Any) -> None:
    assert (sent(name, value), type(sent(name, value))) == (taken, type(taken))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("whole", 8.5), ("whole", "8.0"), ("whole", "eight"), ("whole", "9" * 5000), ("whole", None), ("whole", [8])],
        *[("number", "much"), ("number", "inf"), ("number", "nan"), ("number", None), ("number", 10**400)],
        *[("text", True), ("text", None), ("text", {}), ("truth", "false"), ("truth", "true"), ("truth", None)],
        *[("file", 8), ("manner", 1), ("numbers", "8"), ("anything", 8.0)],
        *[("whole", ["1", 0]), ("whole", {"__value__": ["1", 0]})],
    ],
)
def test_constants_that_cannot_be_converted_without_loss_are_left_for_the_check(name: str, value: Any) -> None:
    assert sent(name, value) == value


def test_values_without_a_widget_are_kept_for_the_check_to_report() -> None:
    workflow = read(node(1, "Load", ["snail.png", "image", "more"]), node(2, "Foreign", [1, None, ""]))
    assert inputs(workflow, "1") == {"image": "snail.png", "value 3": "more"}
    assert inputs(workflow, "2") == {"value 1": 1}
    with pytest.raises(WorkflowError) as caught:
        check(prepare(workflow, REGISTRY), targets=[])
    problems = {(problem.node, problem.input, problem.message) for problem in caught.value.problems}
    assert ("1", "value 3", "Load has no such input") in problems
    assert ("2", None, "no kind of node is called 'Foreign'") in problems


def test_a_file_made_for_another_node_of_that_name_keeps_its_own_names() -> None:
    sockets = [socket("prompt", widget=True), socket("scheduler", widget=True)]
    assert inputs(read(node(1, "Draw", ["a snail", "karras"], inputs=sockets)), "1") == {
        "prompt": "a snail",
        "scheduler": "karras",
    }


def test_a_value_that_looks_like_a_link_stays_a_value() -> None:
    assert inputs(read(node(1, "Draw", {"weights": ["1", 0]})), "1") == {"weights": {"__value__": ["1", 0]}}


@pytest.mark.parametrize(
    ("kind", "hint"), [("KSampler", "a node of ComfyUI"), ("workflow>Faces", "make it a subgraph")]
)
def test_a_kind_known_from_elsewhere_gets_a_hint(kind: str, hint: str) -> None:
    with pytest.raises(WorkflowError, match=f"no kind of node is called '{kind}' .*{hint}"):
        check(prepare(read(node(1, kind)), REGISTRY), targets=[])


@pytest.mark.parametrize(
    ("properties", "hint"),
    [
        ({"cnr_id": "comfyui-impact-pack", "ver": "8.0"}, r"a node of the extension comfyui-impact-pack, which Kin.*"),
        ({"aux_id": "someone/ComfyUI-Faces"}, r"a node of the extension someone/ComfyUI-Faces, which Kin.*"),
        ({"cnr_id": "comfy-core"}, "a node of ComfyUI that Kinograph doesn't have"),
    ],
)
def test_the_extension_of_an_unknown_kind_is_named(properties: dict[str, Any], hint: str) -> None:
    workflow = read(node(1, "FaceDetailer", properties=properties))
    for kept in (workflow, Workflow.read(workflow.document())):
        with pytest.raises(WorkflowError, match=rf"no kind of node is called 'FaceDetailer' \({hint}\)$"):
            check(prepare(kept, REGISTRY), targets=[])
    assert read(node(1, "Load", properties=properties)).graph["1"].meta == {}


@pytest.mark.parametrize("name", ["x" * 200, "two\nlines", {"a": 1}, None, 5 * [1], ""])
def test_an_invalid_extension_name_is_not_shown(name: Any) -> None:
    entry = {"class_type": "FaceDetailer", "inputs": {}, "_meta": {"extension": name}}
    for made in (read(node(1, "FaceDetailer", properties={"cnr_id": name})), Workflow.read({"1": entry})):
        with pytest.raises(WorkflowError) as caught:
            check(prepare(made, REGISTRY), targets=[])
        assert "extension" not in str(caught.value)


# Links and modes


def test_links_are_read_in_both_versions() -> None:
    nodes = [
        node(1, "Load", ["snail.png"], outputs=[{"name": "out", "links": [5]}]),
        node(2, "Split", inputs=[socket("image", 5)], outputs=[{"name": "right"}]),
        node(3, "Draw", DRAWN, inputs=[socket("image", 6), socket("prompt", 99, widget=True)]),
    ]
    links = [link(5, 1, 0, 2), link(6, 2, 0, 3)]
    workflow = read(*nodes, links=links)
    assert inputs(workflow, "2") == {"image": ["1", 0]}
    assert inputs(workflow, "3") == GIVEN | {"image": ["2", 1]}, "the output's name decides, dangling links are dropped"
    assert from_ui({"version": 1, "nodes": nodes, "links": links, "state": {}}, REGISTRY) == workflow


def test_a_link_takes_precedence_over_the_value_of_its_widget() -> None:
    workflow = read(
        node(1, "Foreign"),
        node(2, "Draw", DRAWN, inputs=[socket("seed", 5, widget=True)]),
        links=[link(5, 1, 2, 2)],
    )
    assert inputs(workflow, "2") == GIVEN | {"seed": ["1", 2]}


def test_titles_and_modes() -> None:
    workflow = read(
        node(1, "Load", ["a.png"], title="Load", mode=0),
        node(2, "Load", ["b.png"], title="Snail", mode=2),
        node(3, "Load", ["c.png"], mode=4),
    )
    metas = [entry.meta for entry in workflow.graph.values()]
    assert metas == [{}, {"title": "Snail", "mode": "mute"}, {"mode": "bypass"}]


def test_a_bypassed_node_of_an_unknown_kind_passes_on_what_its_file_says() -> None:
    sockets = [socket("model", 1, type="MODEL"), socket("image", 2, type="IMAGE"), socket("other", 3, type="IMAGE")]
    outputs = [{"name": "a", "type": "IMAGE"}, {"name": "b", "type": "IMAGE"}, {"name": "c", "type": "MODEL"}]
    outputs.append({"name": "d", "type": "AUDIO"})
    workflow = read(
        *(node(number, "Load", ["snail.png"]) for number in (1, 2, 3)),
        node(4, "Elsewhere", mode=4, inputs=sockets, outputs=outputs),
        links=[link(1, 1, 0, 4), link(2, 2, 0, 4, 1), link(3, 3, 0, 4, 2)],
    )
    assert workflow.graph["4"].meta == {"mode": "bypass", "passes": {"0": "image", "1": "image", "2": "model"}}


def test_a_bypassed_subgraph_passes_on_the_input_in_the_same_place_of_its_file() -> None:
    """Its first input leads to two nodes, and so the workflow exposes it twice."""
    inner = subgraph(
        "u", "Both",
        *(node(number, "Split", inputs=[socket("image", number)]) for number in (1, 2, 3)),
        inputs=[{"name": "a", "type": "IMAGE"}, {"name": "b", "type": "IMAGE"}],
        outputs=[{"name": "x", "type": "IMAGE"}, {"name": "y", "type": "IMAGE"}],
        links=[link(1, -10, 0, 1), link(2, -10, 0, 2), link(3, -10, 1, 3), link(4, 1, 0, -20), link(5, 3, 0, -20, 1)],
    )  # fmt: skip
    ends = [socket("a", 1, type="IMAGE"), socket("b", 2, type="IMAGE")]
    outputs = [{"name": "x", "type": "IMAGE"}, {"name": "y", "type": "IMAGE"}]
    workflow = read(
        node(1, "Load", ["one.png"]),
        node(2, "Load", ["two.png"]),
        node(3, "u", mode=4, inputs=ends, outputs=outputs),
        *(node(number, "Split", inputs=[socket("image", number)]) for number in (4, 5)),
        links=[link(1, 1, 0, 3), link(2, 2, 0, 3, 1), link(4, 3, 0, 4), link(5, 3, 1, 5)],
        definitions={"subgraphs": [inner]},
    )
    active = prepare(workflow, REGISTRY).active.graph
    assert [active[name].inputs["image"] for name in ("4", "5")] == [["1", 0], ["2", 0]]


def test_the_layout_is_kept() -> None:
    workflow = read(
        node(1, "Load", ["a.png"], pos=[10.4, -20], size={"0": 210, "1": 58}, color="#322", bgcolor="#533"),
        node(2, "Load", ["a.png"], pos={"0": 1, "1": 2}, color="url(x)"),
        node(3, "Note", ["Look here."], pos=[5, 6], size=[70, 80]),
        node(4, "Reroute", pos=[0, 0]),
        groups=[{"title": "Files", "bounding": [0, 1, 200, 300], "color": "#3f789e"}, {"title": "Nowhere"}],
    )
    assert workflow.layout == {
        "nodes": {
            "1": {"x": 10, "y": -20, "width": 210, "height": 58, "color": "#322"},
            "2": {"x": 1, "y": 2},
        },
        "groups": [{"title": "Files", "x": 0, "y": 1, "width": 200, "height": 300, "color": "#3f789e"}],
        "notes": [{"id": "3", "text": "Look here.", "x": 5, "y": 6, "width": 70, "height": 80}],
    }
    inner = subgraph("a", "A", node(1, "Load", ["a.png"], pos=[1, 2]), links=[])
    outer = read(node(1, "a"), definitions={"subgraphs": [inner]})
    assert (outer.layout, outer.subgraphs["A"].layout) == (None, {"nodes": {"1": {"x": 1, "y": 2}}})


# Bad files


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (ui({"id": 3}), "node 3: type: Field required"),
        (ui(node(3, "Load", inputs=[{"link": "x"}])), r"node 3: inputs\.0\.link: should be a valid integer"),
        (ui(node(3, "Load", 5)), "node 3: widgets_values"),
        (ui(node(2**60, "Load")), "node number 0: id"),
        (ui({"type": "Load"}), "node number 0: id"),
        (ui(node(3, "Load"), node("3", "Load")), "node 3: there are two nodes with this id"),
        (ui() | {"links": [[1, 2]]}, "the workflow's links.0.origin_slot: Field required|links.0.origin_slot"),
        (
            ui(definitions={"subgraphs": [subgraph("a", "Sketch", {"id": 3}, links=[])]}),
            "node 3: in the subgraph 'Sketch': type: Field required",
        ),
    ],
)
def test_malformed_files_are_refused_with_the_node(data: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkflowError, match=message):
        from_ui(data, REGISTRY)


def test_inputs_that_multiply_from_level_to_level_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "MAX_INPUTS", 1000)

    def twofold(level: int) -> dict[str, Any]:
        kind = f"level {level - 1}" if level else "Split"
        nodes = [node(place, kind, inputs=[socket("image", place)]) for place in (1, 2)]
        links = [link(place, -10, 0, place) for place in (1, 2)]
        return subgraph(f"level {level}", "Twofold", *nodes, links=links, inputs=[{"name": "image"}])

    with pytest.raises(WorkflowError, match="has more than 1,000 inputs"):
        read(definitions={"subgraphs": [twofold(level) for level in range(40)]})


WHOLE = ui(
    node(1, "Load", ["snail.png", "image"], pos=[1, 2], size=[3, 4], mode=4),
    node(2, "5d1e", ["a hen"], inputs=[socket("image", 1), socket("text", widget=True)]),
    node(3, "Draw", DRAWN, inputs=[socket("image", 2), socket("seed", 3, True)], title="Draw it"),
    node(4, "PrimitiveNode", [9, "fixed"]),
    node(5, "Note", ["Look here."]),
    node(6, "5d1e", [4], inputs=[socket("image", 4)], properties={"proxyWidgets": [["1", "seed"]]}),
    links=[link(1, 1, 0, 2), link(2, 2, 0, 3), link(3, 4, 0, 3, 1), link(4, 2, 1, 6)],
    definitions={"subgraphs": [sketch()]},
    groups=[{"title": "Files", "bounding": [0, 1, 200, 300]}],
)
"""A file with a bit of everything."""


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all values within JSON data."""
    steps = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path] * bool(path) + [inner for step, value in steps for inner in places(value, (*path, step))]


scraps = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from(
        [-20, -10, 0, 1, 2, 3, 6, 2**70, "5d1e", "1", "-1", "GetNode", "SetNode", "Reroute", "PrimitiveInt"]
    )
    | st.floats()
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["0", "1", "id", "name", "link", "type", "nodes", "widget"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)


@given(st.lists(st.tuples(st.sampled_from(places(WHOLE)), scraps), min_size=1, max_size=6))
def test_a_mangled_file_is_read_or_refused(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    data = copy.deepcopy(WHOLE)
    for path, scrap in changes:
        at: Any = data
        with suppress(LookupError, TypeError):  # where an earlier change removed the target of this one
            for step in path[:-1]:
                at = at[step]
            at[path[-1]] = scrap
    if is_ui(data):
        with suppress(WorkflowError):
            check(prepare(from_ui(data, REGISTRY), REGISTRY), targets=[])


def test_ten_thousand_nodes_are_read_in_a_moment() -> None:
    count = 5000
    nodes = [node(0, "PrimitiveInt", [3])]
    links = []
    for index in range(1, count):
        nodes.append(node(index, "Reroute", inputs=[socket("", index)]))
        nodes.append(node(index + count, "Draw", DRAWN, inputs=[socket("seed", index + count, True)]))
        links += [link(index, index - 1, 0, index), link(index + count, index, 0, index + count)]
    data = ui(*nodes, links=links)
    start = time.process_time()
    workflow = from_ui(data, REGISTRY)
    assert time.process_time() - start < 2
    assert all(entry.inputs == GIVEN | {"seed": 3} for entry in workflow.graph.values())
