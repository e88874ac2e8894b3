"""What a node's class says about it."""

from __future__ import annotations

from threading import Thread, current_thread
from typing import Any, Literal

import pytest
import torch
from pydantic import ValidationError

from engine.errors import Cancelled, UsageError
from engine.node import Context, InputFile, Node
from engine.registry import Registry
from engine.spec import fits, name_of
from engine.values import Image, ImageModel, Media, ModelReference, VideoModel
from tests.engine import toys
from tests.engine.toys import Divide, Mix, Number, ReadFile, Style


def test_a_node_can_be_run_by_hand() -> None:
    assert Divide(a=17).run(Context()) == (1, 7)


def test_docstrings_are_the_help() -> None:
    assert Number.spec.help == "A number."
    assert Number.spec.inputs["value"].help == "Which."


def test_annotations_are_the_sockets() -> None:
    assert [(socket.name, socket.type, socket.required) for socket in Mix.spec.inputs.values()] == [
        ("a", int, True),
        ("b", int, False),
        ("scale", float, False),
    ]
    assert [(output.name, output.type) for output in Mix.spec.outputs] == [("out", int)]
    assert [output.name for output in Divide.spec.outputs] == ["quotient", "remainder"]


def test_an_input_that_names_a_file_is_recognised_even_if_it_may_be_none() -> None:
    class Maybe(Node, version=1):
        file: InputFile | None = None

        def run(self, ctx: Context) -> str: ...

    assert ReadFile.spec.inputs["file"].holds == Maybe.spec.inputs["file"].holds == "media"
    assert Mix.spec.inputs["a"].holds is None


def test_constants_are_taken_as_json_means_them() -> None:
    assert repr(Mix.spec.inputs["scale"].validate(1)) == "1.0"
    assert Style.spec.inputs["weights"].validate([1, 2.5]) == (1.0, 2.5)
    for wrong in ("1", 1.5, True, None, [1]):
        with pytest.raises(ValidationError):
            Mix.spec.inputs["a"].validate(wrong)


def test_a_value_is_not_a_constant() -> None:
    class Look(Node, version=1):
        image: Image

        def run(self, ctx: Context) -> Image: ...

    for constant in ("picture", {"pixels": []}):
        with pytest.raises(ValidationError):
            Look.spec.inputs["image"].validate(constant)
    with pytest.raises(ValidationError, match="instance of Image"):
        Look.spec.outputs[0].validate("picture")


def test_half_a_surrogate_pair_is_no_text_but_may_name_a_file() -> None:
    class Say(Node, version=1):
        lines: tuple[str, ...]

        def run(self, ctx: Context) -> str:
            return self.lines[0]

    assert Say(lines=("ü", "🐌")).run(Context()) == "ü"
    with pytest.raises(ValidationError, match=r"lines\n +holds U\+D83D, half of a surrogate pair"):
        Say(lines=("a", "\ud83d"))
    assert ReadFile(file="\udcff.txt").file == "\udcff.txt"


def test_a_node_can_not_be_changed_or_given_unknown_inputs() -> None:
    with pytest.raises(ValidationError):
        Number(value=1).value = 2  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Number(valu=1)  # type: ignore[call-arg]


def test_a_kind_states_its_version() -> None:
    with pytest.raises(TypeError, match="version"):
        type("Unversioned", (Node,), {})


def test_a_kind_that_saves_returns_media() -> None:
    with pytest.raises(TypeError, match="must return Media, Files or a Folder, not int"):

        class SaveNothing(Node, version=1, saves="text"):
            def run(self, ctx: Context) -> int: ...

    assert toys.SaveNumber.spec.outputs[0].type is Media


def test_only_a_kind_that_saves_can_be_temporary() -> None:
    with pytest.raises(TypeError, match="saves nothing"):

        class LookAtNothing(Node, version=1, temporary=True):
            def run(self, ctx: Context) -> int: ...


@pytest.mark.parametrize(
    ("output", "input", "fit"),
    [
        (int, int, True),
        (int, float, True),
        (float, int, False),
        (bool, int, False),
        (bool, bool, True),
        (str, Literal["a", "b"], True),
        (int, Literal["a", "b"], False),
        (Image, Image, True),
        (ImageModel, ModelReference, True),
        (ModelReference, ImageModel, False),
        (ImageModel, ImageModel | VideoModel, True),
        (ImageModel | VideoModel, ImageModel, False),
        (Image | None, Image, False),
        (Image, Image | None, True),
        (tuple[int, ...], tuple[int, ...], True),
        (tuple[int, ...], tuple[str, ...], False),
        (Any, Image, True),
        (Image, Any, True),
    ],
)
def test_which_outputs_fit_which_inputs(output: Any, input: Any, fit: bool) -> None:
    assert fits(output, input) is fit


def test_types_are_named_as_people_name_them() -> None:
    assert name_of(Image | None) == "Image or None"
    assert name_of(int) == "int"
    assert name_of(Literal["a"]) == "Literal['a']"


def test_context_reports_and_ends_a_cancelled_run() -> None:
    reported: list[Any] = []
    ctx = Context(on_progress=lambda *step: reported.append(step), on_text=reported.append)
    ctx.progress(1, 2, unit="token")
    ctx.text("hello")
    assert reported == [(1, 2, "token", None), "hello"]
    with pytest.raises(Cancelled):
        Context(cancelled=lambda: True).progress(0, 1)
    with pytest.raises(Cancelled):
        Context(cancelled=lambda: True).text("")


def test_a_preview_is_drawn_in_the_nodes_thread_and_only_if_wanted() -> None:
    shown: list[Image | None] = []
    wanted, drawn = iter([False, True]), list[Thread]()

    def draw() -> Image:
        drawn.append(current_thread())
        return Image(torch.zeros(1, 3, 1, 1))

    ctx = Context(on_progress=lambda done, total, unit, preview: shown.append(preview), wants_preview=wanted.__next__)
    ctx.progress(1, 2, preview=draw)
    ctx.progress(2, 2, preview=draw)
    ctx.progress(2, 2)
    assert drawn == [current_thread()]
    assert list(map(type, shown)) == [type(None), Image, type(None)]


def test_a_preview_that_fails_does_not_fail_its_node(caplog: pytest.LogCaptureFixture) -> None:
    def draw() -> Image:
        raise ZeroDivisionError("no colours")

    Context(wants_preview=lambda: True).progress(1, 2, preview=draw)
    assert "no colours" in caplog.text


def test_a_registry_holds_each_name_once() -> None:
    assert Registry.of_modules(toys)["Mix"] is Mix
    twin = type("Mix", (Number,), {"__module__": __name__}, version=1)
    with pytest.raises(UsageError, match="two kinds of node are called Mix"):
        Registry([Mix, twin])
