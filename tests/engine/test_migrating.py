"""Old workflows still load: inputs that were renamed, removed or replaced since, or are deprecated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo

from engine.catalogue import as_data
from engine.document.formats import converted
from engine.document.prepared import Prepared, prepare
from engine.document.reading import parse, read
from engine.document.settings import with_setting
from engine.document.workflow import Workflow
from engine.errors import UsageError, WorkflowError
from engine.events import RunStarted
from engine.graph.check import check
from engine.graph.keys import node_keys
from engine.node import Context, Deprecated, Node
from engine.registry import Registry
from engine.run.execute import Execution
from engine.run.sweep import joined
from engine.store.cache import Cache
from engine.values import Files, Media
from nodes.files.nodes import SaveImage
from nodes.image.nodes import EmptyImage


class Blur(
    Node,
    version=3,
    renamed={"picture": "text", "image": "text"},
    removed={"edges": "they are always mirrored"},
    replaced={"percent": "share", "size": ("width", "height")},
):
    """Blurs."""

    text: str
    share: float = 0.1
    width: int = 0
    height: int = 0
    speed: Annotated[int, Deprecated("it makes no difference")] = 0

    @classmethod
    def replacing(cls, old: Mapping[str, Any]) -> Mapping[str, Any]:
        made: dict[str, Any] = {}
        if "percent" in old:
            made["share"] = old["percent"] / 100
        if old.get("size") == "dates":
            return {"width": object()}
        if "size" in old:
            made["width"], made["height"] = map(int, old["size"].split("x"))
        return made

    def run(self, ctx: Context) -> str:
        return f"{self.text} {self.share} {self.width} {self.height}"


class Smear(Node, version=1, deprecated="use Blur instead"):
    """Smears."""

    text: str

    def run(self, ctx: Context) -> str:
        return self.text


class Keep(Node, version=1, saves="text"):
    """Saves a text."""

    text: str

    def run(self, ctx: Context) -> Files:
        return Files((Media(self.text.encode(), "txt", "kept"),))


KINDS = Registry([Blur, Smear, Keep, EmptyImage, SaveImage])


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def document(graph: dict[str, Any], **about: Any) -> Prepared:
    return prepare(Workflow.read({"kinograph": 1, "graph": graph, **about}), KINDS)


def problems(prepared: Prepared) -> list[str]:
    with pytest.raises(WorkflowError) as caught:
        check(prepared)
    return [str(problem) for problem in caught.value.problems]


def warnings(prepared: Prepared) -> list[str]:
    return [str(problem) for problem in prepared.warnings]


SAVE = node("Keep", text=["blur", 0])


def test_a_renamed_input_is_known_by_its_old_names() -> None:
    today = document({"blur": node("Blur", text="a"), "save": SAVE})
    for old in ("picture", "image"):
        prepared = document({"blur": node("Blur", **{old: "a"}), "save": SAVE})
        assert prepared.workflow == today.workflow
        assert node_keys(check(prepared), "cpu") == node_keys(check(today), "cpu")
        assert prepared.warnings == ()


def test_links_are_migrated() -> None:
    prepared = document(
        {"first": node("Smear", text="a"), "blur": node("Blur", picture=["first", "out"]), "save": SAVE}
    )
    assert check(prepared).steps["blur"].links.keys() == {"text"}


def test_a_current_document_is_not_changed() -> None:
    workflow = Workflow.read({"blur": node("Blur", text="a", share=0.5), "save": SAVE})
    assert prepare(workflow, KINDS).workflow == workflow


def test_the_present_name_takes_precedence_over_the_old_one() -> None:
    prepared = document({"blur": node("Blur", picture="old", text="new"), "save": SAVE})
    assert prepared.workflow.graph["blur"].inputs == {"text": "new"}
    assert warnings(prepared) == [
        "node blur, input picture: is ignored, as it is now called text, which is given too",
    ]


def test_a_removed_input_is_left_out_and_reported() -> None:
    prepared = document({"blur": node("Blur", text="a", edges="black"), "save": SAVE})
    assert check(prepared).steps["blur"].constants == {"text": "a"}
    assert warnings(prepared) == [
        "node blur, input edges: is ignored, as Blur no longer has it: they are always mirrored",
    ]


def test_replaced_inputs_are_converted() -> None:
    prepared = document({"blur": node("Blur", text="a", percent=50, size="8x6"), "save": SAVE})
    assert check(prepared).steps["blur"].constants == {"text": "a", "share": 0.5, "width": 8, "height": 6}
    assert prepared.warnings == ()


def test_a_present_input_takes_precedence_over_a_converted_one() -> None:
    prepared = document({"blur": node("Blur", text="a", percent=50, share=0.25), "save": SAVE})
    assert prepared.workflow.graph["blur"].inputs == {"text": "a", "share": 0.25}


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("8", "ValueError: not enough values"),
        (8, "AttributeError"),
        (None, "AttributeError"),
        ("axb", "invalid literal"),
        ("dates", "not JSON serializable"),
    ],
)
def test_a_constant_that_cannot_be_converted_is_reported_once(size: Any, message: str) -> None:
    (found,) = problems(document({"blur": node("Blur", text="a", size=size), "save": SAVE}))
    assert found.startswith("node blur, input size: can't be converted: ")
    assert message in found
    assert found.endswith("(replaced by width and height)")


def test_a_link_cannot_be_converted() -> None:
    graph = {"first": node("Smear", text="a"), "blur": node("Blur", text="a", percent=["first", 0]), "save": SAVE}
    assert problems(document(graph)) == ["node blur, input percent: Blur has no such input (replaced by share)"]


def test_exposed_inputs_are_migrated() -> None:
    prepared = document({"blur": node("Blur", picture="a"), "save": SAVE}, inputs={"theme": "blur.picture"})
    assert prepared.workflow.inputs == {"theme": "blur.text"}
    assert check(with_setting(prepared, "theme=b")).steps["blur"].constants == {"text": "b"}


def test_settings_may_use_old_names() -> None:
    prepared = document({"blur": node("Blur", picture="a"), "save": SAVE})
    assert check(with_setting(prepared, "blur.image=b")).steps["blur"].constants == {"text": "b"}


@pytest.mark.parametrize(("name", "hint"), [("percent", "replaced by share"), ("edges", "they are always mirrored")])
def test_a_setting_that_cannot_be_migrated_says_why(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        with_setting(document({"blur": node("Blur", text="a"), "save": SAVE}), f"blur.{name}=1")
    assert caught.value.hint == hint


def test_an_exposed_input_that_was_replaced_names_its_replacements() -> None:
    prepared = document({"blur": node("Blur", text="a"), "save": SAVE}, inputs={"p": "blur.percent"})
    assert problems(prepared) == [
        "the exposed input 'p' leads to 'blur.percent', which doesn't exist (replaced by share)"
    ]


def test_an_exposed_input_that_was_removed_is_left_out() -> None:
    prepared = document({"blur": node("Blur", text="a"), "save": SAVE}, inputs={"e": "blur.edges"})
    assert prepared.workflow.inputs == {}
    assert warnings(prepared) == ["the exposed input 'e' is dropped: 'blur.edges' no longer exists"]
    check(prepared)


def nested(**inner: Any) -> Prepared:
    """A document that gives a subgraph's subgraph an old text, and edges."""
    parts = {
        "soft": {
            "graph": {"blur": node("Blur", **inner)},
            "inputs": {"picture": "blur.picture", "edges": "blur.edges"},
            "outputs": {"out": ["blur", 0]},
        },
        "twice": {
            "graph": {"soft": node("soft", edges="white")},
            "inputs": {"p": "soft.picture", "e": "soft.edges"},
            "outputs": {"out": ["soft", "out"]},
        },
    }
    graph = {"use": node("twice", p="given", e="black"), "save": node("Keep", text=["use", "out"])}
    return document(graph, subgraphs=parts)


def test_nested_subgraphs_are_migrated() -> None:
    prepared = nested(picture="own", percent=50)
    assert check(prepared).steps["use/soft/blur"].constants == {"text": "given", "share": 0.5}
    assert prepared.workflow.subgraphs["soft"].inputs == {"picture": "blur.text"}
    assert prepared.workflow.subgraphs["twice"].inputs == {"p": "soft.picture"}
    assert prepared.workflow.graph["use"].inputs == {"p": "given"}


def test_a_value_for_a_removed_input_of_a_subgraph_is_reported() -> None:
    assert warnings(nested(picture="own", edges="black")) == [
        "in the subgraph 'soft', node blur, input edges: is ignored, as Blur no longer has it: they are always mirrored"
    ]


def test_bypassed_nodes_pass_on_inputs_under_old_names() -> None:
    graph = {
        "first": node("Smear", text="a"),
        "blur": node("Blur", picture=["first", 0]) | {"_meta": {"mode": "bypass"}},
        "save": SAVE,
    }
    assert [source.node for source in check(document(graph)).steps["save"].sources()] == ["first"]


def test_another_programs_values_are_converted_by_the_old_name_too() -> None:
    workflow = converted(Workflow.read({"blur": node("Blur", picture=7), "save": SAVE}), KINDS)
    assert check(prepare(workflow, KINDS)).steps["blur"].constants == {"text": "7"}


def test_old_widgets_in_the_editors_format_are_migrated() -> None:
    sockets = [{"name": name, "type": "STRING", "widget": {"name": name}} for name in ("share", "picture")]
    data = {"nodes": [{"id": 1, "type": "Blur", "inputs": sockets, "widgets_values": [0.5, "a"]}], "links": []}
    assert prepare(parse(data, KINDS), KINDS).workflow.graph["1"].inputs == {"share": 0.5, "text": "a"}


def test_a_removed_input_in_another_programs_picture_is_reported(tmp_path: Path) -> None:
    values = {"text": "a", "edges": "black", "mark": 1}
    texts = PngInfo()
    texts.add_text("prompt", json.dumps({"1": node("Blur", **values)}))
    drawn = {"nodes": [{"id": 1, "type": "Blur", "widgets_values": values}], "links": []}
    texts.add_text("workflow", json.dumps(drawn))
    Picture.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=texts)
    prepared = read(str(tmp_path / "a.png"), KINDS).prepared
    assert prepared.workflow.graph["1"].inputs == {"text": "a"}
    assert [(problem.node, problem.input) for problem in prepared.ignored] == [("1", "mark"), ("1", "edges")]


def test_a_part_of_a_workflow_keeps_its_warnings() -> None:
    graph = {"a": node("Blur", text="a", edges="x"), "b": node("Blur", text="b", edges="x")}
    assert [problem.node for problem in document(graph).up_to("b").warnings] == ["b"]


def test_saved_files_carry_the_present_form(tmp_path: Path) -> None:
    """A file's workflow is written as it ran: by present names, which keep their meaning in later versions."""
    graph = {
        "blur": node("Blur", picture="a", percent=50),
        "empty": node("EmptyImage", width=8, height=8),
        "save": node("SaveImage", images=["empty", 0]),
        "keep": node("Keep", text=["blur", 0]),
    }
    for _ in Execution(check(document(graph)), cache=Cache(), out=tmp_path):
        pass
    (saved,) = tmp_path.glob("*.png")
    with Picture.open(saved) as picture:
        carried = json.loads(picture.info["kinograph"])
    assert carried["graph"]["blur"]["inputs"] == {"text": "a", "share": 0.5}


DEPRECATED = {
    "one": node("Smear", text="a"),
    "two": node("Smear", text=["one", 0]),
    "blur": node("Blur", text=["two", 0], speed=3),
    "save": SAVE,
}


def test_deprecated_inputs_work_and_are_reported() -> None:
    prepared = document(DEPRECATED)
    check(prepared)
    assert warnings(prepared) == [
        "node one: Smear is deprecated: use Blur instead",
        "node two: Smear is deprecated: use Blur instead",
        "node blur, input speed: is deprecated: it makes no difference",
    ]
    assert document({"blur": node("Blur", text="a"), "save": SAVE}).warnings == ()


def test_a_run_reports_each_warning_once(tmp_path: Path) -> None:
    graph = check(document(DEPRECATED))
    for run in (graph, joined([graph, graph])):
        started = next(iter(Execution(run, cache=Cache(), out=tmp_path)))
        assert isinstance(started, RunStarted)
        assert [problem.node for problem in started.warnings] == ["one", "blur"]


def test_deprecated_inputs_are_marked_in_json() -> None:
    data = as_data(Blur)
    assert data["deprecated"] == ""
    assert data["inputs"][-1]["deprecated"] == "it makes no difference"
    assert not any("deprecated" in socket for socket in data["inputs"][:-1])
    assert data["schema"]["properties"]["speed"]["deprecated"] is True
    assert as_data(Smear)["deprecated"] == "use Blur instead"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"renamed": {"text": "share"}}, "still has the input text"),
        ({"renamed": {"old": "gone"}}, "has no input gone"),
        ({"removed": {"text": "why"}}, "still has the input text"),
        ({"replaced": {"old": "text"}}, "has no method `replacing`"),
        ({"replaced": {"old": ("text", "gone")}}, "has no input gone"),
        ({"renamed": {"old": "text"}, "removed": {"old": "why"}}, "lists a former input twice"),
    ],
)
def test_invalid_changes_are_refused_when_the_class_is_defined(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):

        class Wrong(Node, version=1, **changes):
            text: str = ""
            share: float = 0.0

            def run(self, ctx: Context) -> str: ...
