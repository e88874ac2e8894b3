"""What stands for a pack's kinds is as they are, as far as anyone can tell who doesn't run them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import engine.registry
import kinograph
from engine.catalogue import as_data
from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.errors import KinographError, MissingError, WorkflowError
from engine.graph.check import check
from engine.graph.contents import Content, Contents
from engine.graph.keys import node_keys
from engine.node import Context, Node
from engine.registry import Registry
from engine.server.comfyui.object_info import info, links
from engine.server.http.settings import Folders
from engine.spec import fits
from engine.values import Image
from nodes import registry
from tests.packs.site import Site

pytestmark = pytest.mark.filterwarnings("ignore:Field name .copy.:UserWarning")  # what the pack's author has seen

EVERY = Path(__file__).with_name("every.py")
KINDS = ("Every", "MakeMask", "SaveEvery")


@pytest.fixture
def both(site: Site) -> tuple[Registry, Registry]:
    """The registry with stand-ins, and with the pack's own classes."""
    site.add("every-kind", {"every.py": EVERY.read_text()})
    described = registry()
    assert "every" not in sys.modules
    return described, described.imported(["Every"])


def pairs(both: tuple[Registry, Registry]) -> list[tuple[type[Node], type[Node]]]:
    return [(both[0][kind], both[1][kind]) for kind in KINDS]


def test_both_are_told_of_alike(both: tuple[Registry, Registry], tmp_path: Path) -> None:
    folders = Folders(*(tmp_path / name for name in ("input", "output", "models", "data")))
    for made, real in pairs(both):
        assert made is not real
        assert as_data(made) == as_data(real)
        assert info(made, folders) == info(real, folders)
    assert links(both[0]) == links(both[1])


def test_both_have_the_same_spec(both: tuple[Registry, Registry]) -> None:
    plain = ("kind", "version", "category", "uses", "saves", "temporary", "retries", "help", "named", "pack")
    derived = ("volatile", "libraries", "required", "lazy", "dynamic", "storable")
    for made, real in pairs(both):
        for name in (*plain, *derived):
            assert getattr(made.spec, name) == getattr(real.spec, name), name
        assert made.spec.named_files == real.spec.named_files
        for name, socket in real.spec.inputs.items():
            mine = made.spec.inputs[name]
            if mine.file and socket.file:
                assert (mine.file.categories, mine.file.takes) == (socket.file.categories, socket.file.takes)
            assert (mine.default, mine.help, mine.holds, mine.lazy, mine.names_files) == (
                *(socket.default, socket.help, socket.holds, socket.lazy, socket.names_files),
            )


CONSTANTS: list[tuple[str, list[Any]]] = [
    ("text", ["abc", "", "abcdefghijk", "ABC", 1, None]),
    ("lower", ["ABCD", "abcde"]),
    ("steps", [1, 100, 0, 101, 1.0, "1", True, None]),
    ("size", [8, 9, -8, 8192, 8200]),
    ("part", [0.5, 0, 1, 0.0]),
    ("free", [1, 1.5, "1"]),
    ("flag", [True, 1]),
    ("mode", ["fast", 3, None, "bad", 4]),
    ("weights", [[], [1, 2.5], [-1], 1]),
    ("pair", [[1, "a"], [1], ["a", 1]]),
    ("names", [[], ["a"], [1]]),
    ("words", [{}, {"a": ["b"]}, {"a": "b"}]),
    ("limit", [None, 2, 1]),
    ("picture", ["a.png", None]),
    ("mask", [None, 1]),
    ("anything", [None, 1, "a", [1]]),
]


@pytest.mark.parametrize(("name", "constants"), CONSTANTS, ids=[name for name, _ in CONSTANTS])
def test_constants_are_judged_alike(both: tuple[Registry, Registry], name: str, constants: list[Any]) -> None:
    def judged(kind: type[Node], constant: Any) -> Any:
        try:
            return kind.spec.inputs[name].validate(constant)
        except ValidationError as error:
            return [(found["type"], found["msg"].replace("every.", "")) for found in error.errors()]

    made, real = (registry["Every"] for registry in both)
    for constant in constants:
        assert judged(made, constant) == judged(real, constant), constant


def test_what_only_the_packs_own_validators_know_is_not_judged(both: tuple[Registry, Registry]) -> None:
    made, real = (registry["Every"].spec.inputs for registry in both)
    for name, right, wrong in (("even", 8, 3), ("halved", 16, 40), ("speed", None, "quick")):
        real[name].validate(right)
        with pytest.raises((ValidationError, ValueError)):
            real[name].validate(wrong)
        made[name].validate(right)
        made[name].validate(wrong)
    with pytest.raises(ValidationError):
        made["even"].validate("three")  # no int comes to the validator


def test_kinographs_own_validators_are_known(both: tuple[Registry, Registry]) -> None:
    for kinds in both:
        with pytest.raises(ValidationError, match="lead out of"):
            kinds["SaveEvery"].spec.inputs["prefix"].validate("../a")


def test_values_of_the_pack_fit_where_their_classes_would(both: tuple[Registry, Registry]) -> None:
    def fitting(kinds: Registry) -> list[bool]:
        masks, depth, _ = (output.type for output in kinds["Every"].spec.outputs)
        soft, mask = kinds["MakeMask"].spec.outputs[0].type, masks.__args__[0]
        return [fits(soft, mask), fits(mask, soft), fits(depth, Image), fits(Image, depth), fits(soft, Image)]

    assert fitting(both[0]) == fitting(both[1]) == [True, False, True, False, False]


def keys_of(kinds: Registry, saved: str = "text") -> dict[str, str]:
    """The keys of a graph of all three kinds, that saves one output of `Every`."""
    given = {"model": "sprite/captioner", "dated": "2024@here", "text": "abc", "lower": "ABCD", "free": 1}
    linked = {"picture": ["empty", 0], "mask": ["mask", 0]}
    graph = {
        "empty": {"class_type": "EmptyImage"},
        "mask": {"class_type": "MakeMask"},
        "every": {
            "class_type": "Every",
            "inputs": {**given, **linked, "free": 1, "weights": [3], "words": {"b": ["c"]}},
        },
        "save": {"class_type": "SaveEvery", "inputs": {"text": ["every", saved], "prefix": "a//b"}},
        "apart": {"class_type": "SaveEvery", "inputs": {"text": "x", "prefix": "a//b"}},
    }
    return node_keys(check(prepare(Workflow.read(graph), kinds)), "cpu")


def test_keys_are_equal(both: tuple[Registry, Registry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "2024.txt").touch()
    made, real = map(keys_of, both)
    by_own_find = {"every", "save"}  # how the pack names files enters these keys, and only it knows that
    assert {name for name in made if made[name] != real[name]} == by_own_find


def test_keys_of_all_constants_are_equal(both: tuple[Registry, Registry], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Contents, "_media", lambda self, name, file: Content(name, "digest"))  # finds files alike
    assert keys_of(both[0]) == keys_of(both[1])


def test_a_link_of_the_wrong_type_is_told(both: tuple[Registry, Registry]) -> None:
    for kinds in both:
        with pytest.raises(WorkflowError, match="takes str, but 'depth' of node every is Depth"):
            keys_of(kinds, saved="depth")


def test_a_file_that_the_packs_own_way_may_find_is_not_missing(both: tuple[Registry, Registry]) -> None:
    keys_of(both[0])
    with pytest.raises(MissingError, match="no files match '2024@here'"):
        keys_of(both[1])


def test_a_stand_in_does_not_run(both: tuple[Registry, Registry]) -> None:
    with pytest.raises(KinographError, match="the pack every-kind 1\\.0 is not imported"):
        both[0]["MakeMask"]().run(Context())


CHANGED = """
from collections.abc import Mapping
from typing import Annotated, Any

from engine.node import Context, Deprecated, Node


class Blur(
    Node, version=2, deprecated="use Soften", renamed={"picture": "text"}, removed={"edges": "mirrored"},
    replaced={"percent": "share"},
):
    text: str
    share: float
    speed: Annotated[int, Deprecated("leave it out")] = 0

    @classmethod
    def replacing(cls, old: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"share": old["percent"] / 100}

    def run(self, ctx: Context) -> str:
        return self.text
"""


@pytest.fixture
def changed(site: Site) -> tuple[Registry, Registry]:
    """The same of a kind whose inputs have changed since an earlier version."""
    site.add("changed", {"changed.py": CHANGED})
    described = registry()
    return described, described.imported(["Blur"])


def old(**inputs: Any) -> Workflow:
    blur = {"class_type": "Blur", "inputs": {"picture": "a", "edges": "black", "speed": 1, **inputs}}
    return Workflow.read({"blur": blur, "save": {"class_type": "SaveText", "inputs": {"text": ["blur", 0]}}})


def test_old_workflows_load_with_stand_ins(changed: tuple[Registry, Registry]) -> None:
    made, real = (prepare(old(share=0.5), kinds) for kinds in changed)
    assert made.workflow == real.workflow
    assert made.warnings == real.warnings
    assert len(made.warnings) == 3
    assert node_keys(check(made), "cpu") == node_keys(check(real), "cpu")
    assert as_data(changed[0]["Blur"]) == as_data(changed[1]["Blur"])


def test_what_the_packs_own_code_converts_waits_for_the_run(changed: tuple[Registry, Registry]) -> None:
    described = prepare(old(percent=50), changed[0])
    check(described)
    assert described.workflow.graph["blur"].inputs == {"text": "a", "speed": 1, "percent": 50}
    assert described.imported().workflow.graph["blur"].inputs == {"text": "a", "speed": 1, "share": 0.5}


def test_importing_packs_keeps_what_is_prepared_unless_their_code_converts_values(
    changed: tuple[Registry, Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    described = prepare(old(share=0.5), changed[0])
    converted = prepare(old(percent=50), changed[0]).imported()
    monkeypatch.setattr("engine.document.prepared.prepare", None)
    ready = described.imported()
    assert not ready.registry["Blur"].spec.is_stand_in
    assert (ready.flat, ready.active) == (described.flat, described.active)
    assert ready.warnings == described.warnings
    assert len(ready.ignored) == len(converted.ignored) == len(described.ignored) > 0
    assert ready.imported() is ready


def test_a_sweep_imports_a_pack_once(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("changed", {"changed.py": CHANGED})
    asked, original = list[Any](), engine.registry._imported
    monkeypatch.setattr("engine.registry._imported", lambda offer: asked.append(offer) or original(offer))
    document = old(share=0.5).document()
    swept = kinograph.sweep(document, {"blur.text": ["a", "b"], "blur.speed": [1, 2]}, out=tmp_path, progress=False)
    assert {one.results.status for one in swept} == {"done"}
    assert len(asked) == 1


def test_without_old_inputs_what_is_missing_is_told(changed: tuple[Registry, Registry]) -> None:
    for kinds in changed:
        with pytest.raises(WorkflowError, match="input share: is missing"):
            check(prepare(old(), kinds))
