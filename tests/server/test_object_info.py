"""Descriptions of the kinds of node, for ComfyUI's clients and for Kinograph's editor."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from engine.document.sockets import type_name, widgets
from engine.node import Context, InputFile, Lazy, ModelFile, Node
from engine.registry import Registry
from engine.server.comfyui.object_info import info, links
from engine.server.http.settings import Folders
from engine.values import Image, LoRA, Video
from tests.engine.drawn import Draw
from tests.server.conftest import Server, png


class Both(NamedTuple):
    pictures: tuple[Image, ...]
    sound: float


class Everything(Node, version=1, category="toys"):
    """Every type of input."""

    picture: Image
    """A picture."""
    source: ModelFile
    text: Annotated[str, Field(json_schema_extra={"widget": "multiline"})] = "hello"
    steps: Annotated[int, Field(ge=1, le=100)] = 20
    even: Annotated[int, Field(ge=0, multiple_of=8)] = 64
    strength: Annotated[float, Field(gt=0, le=4)] = 1.0
    free: float = 0.5
    seed: Annotated[int, Field(ge=0, json_schema_extra={"widget": "seed"})] = 0
    flag: bool = True
    mode: Literal["fast", "good"] = "good"
    many: tuple[Video, ...]
    either: Image | Video
    perhaps: LoRA | None = None
    limit: Annotated[int, Field(ge=2)] | None = None
    anything: Annotated[Any, Lazy()] = None

    def run(self, ctx: Context) -> Both:
        raise NotImplementedError


class Shown(Node, version=1, category="toys"):
    """Reads a picture."""

    image: InputFile

    def run(self, ctx: Context) -> Image:
        raise NotImplementedError


class Played(Node, version=1, category="toys"):
    """Reads a video."""

    video: InputFile

    def run(self, ctx: Context) -> Video:
        raise NotImplementedError


def spec(kind: type[Node], folders: Folders, name: str) -> Any:
    inputs: Any = info(kind, folders)["input"]
    return (inputs["required"] | inputs["optional"])[name]


def test_every_type_has_its_name_in_the_protocol(folders: Folders) -> None:
    names = {name: spec(Everything, folders, name)[0] for name in Everything.spec.inputs}
    assert names == {
        "picture": "IMAGE",
        "source": "STRING",
        "text": "STRING",
        "steps": "INT",
        "even": "INT",
        "strength": "FLOAT",
        "free": "FLOAT",
        "seed": "INT",
        "flag": "BOOLEAN",
        "mode": ["fast", "good"],
        "many": "VIDEO",
        "either": "IMAGE,VIDEO",
        "perhaps": "LORA",
        "limit": "INT",
        "anything": "*",
    }
    assert type_name(tuple[Image, ...]) == "IMAGE"


def test_numbers_have_limits_steps_and_defaults(folders: Folders) -> None:
    def limits(name: str) -> list[Any]:
        about = spec(Everything, folders, name)[1]
        return [about.get(key) for key in ("default", "min", "max", "step")]

    assert limits("steps") == [20, 1, 100, 1]
    assert limits("even") == [64, 0, 2**53 - 1, 8]
    assert limits("strength") == [1.0, 0.01, 4, 0.01]
    assert limits("free") == [0.5, -1e9, 1e9, 0.01]
    assert limits("limit") == [None, 2, 2**53 - 1, 1]


def test_widgets_have_their_options(folders: Folders) -> None:
    assert spec(Everything, folders, "seed")[1]["control_after_generate"] is True
    assert "control_after_generate" not in spec(Everything, folders, "steps")[1]
    assert spec(Draw, folders, "seed")[1]["control_after_generate"] is True, "an input that is only called so"
    assert spec(Everything, folders, "text")[1]["multiline"] is True
    assert spec(Everything, folders, "source")[1] == {"tooltip": "", "multiline": False, "dynamicPrompts": False}
    assert spec(Everything, folders, "picture")[1] == {"tooltip": "A picture."}
    assert spec(Everything, folders, "mode")[1]["default"] == "good"
    assert spec(Everything, folders, "limit")[1]["forceInput"] is True
    assert spec(Everything, folders, "anything")[1]["lazy"] is True


def test_a_list_or_none_is_only_linked_for_no_widget_holds_it(folders: Folders) -> None:
    class Listed(Node, version=1):
        words: tuple[str, ...] = ()
        manners: tuple[Literal["fine", "coarse"], ...] = ()
        steps: int | None = None
        either: int | str = 0
        word: str | None = "hello"

        def run(self, ctx: Context) -> str:
            raise NotImplementedError

    about = {name: spec(Listed, folders, name) for name in Listed.spec.inputs}
    assert {name: given[0] for name, given in about.items()} == {
        "words": "STRING",
        "manners": "STRING",
        "steps": "INT",
        "either": "INT,STRING",
        "word": "STRING",
    }
    forced = {name for name, given in about.items() if given[1].get("forceInput")}
    assert forced == {"words", "manners", "steps"}
    assert not any("default" in about[name][1] for name in forced)
    assert [socket.name for socket in widgets(Listed)] == ["word"]


def test_a_kind_is_described_in_the_standard_shape(folders: Folders) -> None:
    about: Any = info(Everything, folders)
    assert about["input_order"]["required"] == ["picture", "source", "many", "either"]
    assert about["input_order"]["optional"][:2] == ["text", "steps"]
    assert about["input"]["hidden"] == {}
    assert (about["output"], about["output_is_list"], about["output_name"]) == (
        ["IMAGE", "FLOAT"],
        [True, False],
        ["pictures", "sound"],
    )
    assert (about["name"], about["category"], about["output_node"]) == ("Everything", "toys", False)
    assert about["description"] == "Every type of input."
    expected = (
        "input input_order output output_is_list output_name name display_name description python_module category"
    )
    assert about.keys() >= {*expected.split(), "output_node", "deprecated", "experimental", "output_tooltips"}


def test_files_are_chosen_from_the_input_folder(folders: Folders) -> None:
    (folders.input / "sub").mkdir()
    for name in ("b.png", "sub/a.JPG", "film.mp4", "disc.VOB", "loop.gif", "notes.txt", ".hidden.png"):
        (folders.input / name).touch()
    assert spec(Shown, folders, "image") == [["b.png", "loop.gif", "sub/a.JPG"], {"tooltip": "", "image_upload": True}]
    assert spec(Played, folders, "video") == [
        ["disc.VOB", "film.mp4", "loop.gif"],
        {"tooltip": "", "video_upload": True},
    ]


def test_texts_are_chosen_from_the_input_folder_too(server: Server) -> None:
    server.upload(b"a red snail", "prompts.txt")
    server.upload(png(), "mine.png")
    (files, about) = server.get("/object_info/LoadText").json["LoadText"]["input"]["required"]["file"]
    assert (files, "image_upload" in about) == (["prompts.txt"], False)


def test_all_kinds_are_described_and_each_by_itself(server: Server) -> None:
    server.upload(png(), "mine.png")
    everything = server.get("/object_info").json
    assert everything.keys() >= {"LoadImage", "KeyframeSampler", "SaveVideo"}
    assert everything["SaveVideo"]["output_node"] is True
    assert everything["LoadImage"]["input"]["required"]["image"][0] == ["mine.png"]
    assert server.get("/api/object_info/SaveVideo").json == {"SaveVideo": everything["SaveVideo"]}
    assert server.get("/object_info/SaveVideos").json == {}


def test_the_editor_gets_schemas_and_types(server: Server) -> None:
    nodes = server.get("/api/kinograph/nodes").json
    assert nodes["SaveVideo"]["schema"]["properties"]["quality"]["maximum"] == 51
    assert nodes["TextLines"]["outputs"] == [{"name": "out", "type": "list of str"}]
    types = server.get("/api/kinograph/types").json["links"]
    assert "list of Image" in types["Image"]
    assert "Video" not in types["Image"]
    assert set(types) == {output["type"] for node in nodes.values() for output in node["outputs"]}


def test_types_are_linkable_as_in_the_engine() -> None:
    found = links(Registry([Everything, Shown, Played]))
    assert {"Image", "Image or Video", "Any"} <= set(found["list of Image"])
    assert {"float", "Any"} <= set(found["float"])
    assert "int" not in found["float"]
    assert "list of Video" in found["Video"]
