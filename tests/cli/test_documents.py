"""Where a workflow may come from."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.document import tags
from engine.document.reading import read
from engine.document.shipped import shipped
from engine.errors import MissingError, WorkflowError
from nodes import registry
from tests.cli.conftest import Command

GRAPH = {"1": {"class_type": "SaveText", "inputs": {"text": "snail"}}}


def save_png(path: Path, **tags: object) -> None:
    info = PngInfo()
    for name, data in tags.items():
        info.add_text(name, json.dumps(data))
    Image.new("RGB", (2, 2)).save(path, pnginfo=info)


def save_webp(path: Path, **tags: object) -> None:
    """As ComfyUI does: `name:text` in the EXIF tags from 0x0110 down."""
    picture = Image.new("RGB", (2, 2))
    exif = picture.getexif()
    for tag, (name, data) in enumerate(tags.items()):
        exif[0x0110 - tag] = f"{name}:{json.dumps(data)}"
    picture.save(path, exif=exif)


def save_video(path: Path, **tags: object) -> None:
    write_video(path, {name: json.dumps(data) for name, data in tags.items()})


def save_commented(path: Path, **tags: object) -> None:
    """As VideoHelperSuite does: everything in the comment."""
    write_video(path, {"comment": json.dumps(tags)})


def write_video(path: Path, metadata: dict[str, str]) -> None:
    options = {"movflags": "use_metadata_tags"} if path.suffix == ".mp4" else {}
    with av.open(path, "w", options=options) as container:
        container.metadata.update(metadata)
        stream = container.add_stream("mpeg4" if path.suffix == ".mp4" else "libvpx-vp9", rate=8)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8))))
        container.mux(stream.encode(None))


CARRIERS = pytest.mark.parametrize(
    ("save", "name"),
    [
        (save_png, "a.png"),
        (save_webp, "a.webp"),
        (save_video, "a.mp4"),
        (save_video, "a.webm"),
        (save_commented, "b.mp4"),
    ],
)


@CARRIERS
@pytest.mark.parametrize("tag", ["kinograph", "workflow"], ids=["now", "in older files"])
def test_a_picture_or_video_carries_its_document(tmp_path: Path, save: object, name: str, tag: str) -> None:
    assert callable(save)
    save(tmp_path / name, **{tag: {"kinograph": 1, "title": "Snail", "graph": GRAPH}}, prompt=GRAPH)
    document = read(str(tmp_path / name), registry())
    assert document.workflow.title == "Snail"
    assert document.base == tmp_path


def test_a_very_long_comment_is_not_read_as_a_workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_commented(tmp_path / "a.mp4", workflow={"kinograph": 1, "graph": GRAPH})
    monkeypatch.setattr(tags, "LONGEST_COMMENT", 100)
    with pytest.raises(WorkflowError, match="carries no workflow"):
        read(str(tmp_path / "a.mp4"), registry())


UI = {
    "nodes": [
        {"id": 1, "type": "SaveText", "pos": [10, 20], "widgets_values": ["snail", "kinograph"]},
        {"id": 2, "type": "Note", "pos": [0, 0], "widgets_values": ["Look here."]},
    ],
    "links": [],
    "version": 0.4,
}
"""The same graph, as the ecosystem's editors save it."""


def test_a_workflow_saved_by_an_editor_runs(tmp_path: Path, kinograph: Command) -> None:
    (tmp_path / "a.json").write_text(json.dumps(UI))
    result = kinograph("run", "a.json", "--set", "1.text=fox", "--out", "out")
    assert Path(result.stdout.strip()).read_text() == "fox\n"
    assert kinograph("validate", "-", stdin=json.dumps(UI)).exit_code == 0


@CARRIERS
def test_from_another_programs_picture_or_video_the_editors_workflow_is_read(
    tmp_path: Path, save: object, name: str
) -> None:
    assert callable(save)
    prompt = {"1": {**GRAPH["1"], "is_changed": [float("nan")]}}
    save(tmp_path / name, workflow=UI, prompt=prompt)
    workflow = read(str(tmp_path / name), registry()).workflow
    assert workflow.graph["1"].inputs == {"text": "snail", "filename_prefix": "kinograph"}
    assert workflow.layout["notes"][0]["text"] == "Look here."


IN_PART = {"graph": {"5:1": {"class_type": "SaveText", "inputs": {"text": "snail", "filename_prefix": "kinograph"}}}}
"""A graph as an editor sends it that has the node in a subgraph."""


def drawn(text: str) -> dict[str, object]:
    """What such an editor saves."""
    part = {"id": "a0", "name": "Part", "nodes": [{"id": 1, "type": "SaveText", "widgets_values": [text]}], "links": []}
    return {"nodes": [{"id": 5, "type": "a0", "pos": [1, 2]}], "links": [], "definitions": {"subgraphs": [part]}}


@CARRIERS
def test_a_graph_is_opened_as_the_clients_editor_drew_it(tmp_path: Path, save: object, name: str) -> None:
    assert callable(save)
    save(tmp_path / name, kinograph={"kinograph": 1, **IN_PART}, prompt=IN_PART["graph"], workflow=drawn("snail"))
    workflow = read(str(tmp_path / name), registry()).workflow
    assert (workflow.graph["5"].class_type, *workflow.subgraphs) == ("Part", "Part")
    assert workflow.layout == {"nodes": {"5": {"x": 1, "y": 2}}}


@pytest.mark.parametrize(
    ("document", "workflow"),
    [
        (IN_PART, drawn("fox")),
        (IN_PART, {"nodes": [{"id": 1}]}),
        (IN_PART, {"generator": "kinograph", **drawn("snail")}),
        ({"title": "Snail", **IN_PART}, drawn("snail")),
    ],
    ids=["it says something else", "it is malformed", "Kinograph made it", "the document says more"],
)
def test_what_ran_goes_before_what_an_editor_drew(
    tmp_path: Path, document: dict[str, object], workflow: dict[str, object]
) -> None:
    save_png(tmp_path / "a.png", kinograph={"kinograph": 1, **document}, prompt={}, workflow=workflow)
    found = read(str(tmp_path / "a.png"), registry()).workflow
    assert found.document() == {"kinograph": 1, **document}


FOREIGN = {"nodes": [*UI["nodes"], {"id": 3, "type": "SwitchOfSomeExtension"}], "links": []}


@pytest.mark.parametrize(
    "workflow", [{"nodes": [], "links": []}, {"nodes": [{"id": 1}]}, FOREIGN], ids=["less", "malformed", "more"]
)
def test_if_the_editors_workflow_can_not_be_read_completely_the_graph_is_read(
    tmp_path: Path, workflow: dict[str, object]
) -> None:
    save_png(tmp_path / "a.png", workflow=workflow, prompt={"1": {**GRAPH["1"], "is_changed": [float("nan")]}})
    assert read(str(tmp_path / "a.png"), registry()).workflow.api() == GRAPH


@CARRIERS
def test_a_picture_without_a_workflow_is_reported(tmp_path: Path, save: object, name: str) -> None:
    assert callable(save)
    save(tmp_path / name)
    with pytest.raises(WorkflowError, match="carries no workflow"):
        read(str(tmp_path / name), registry())


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ("3", "is a JSON object"), ("[" * 100_000, "is not JSON")]
)
def test_invalid_data_in_a_picture_are_reported(tmp_path: Path, text: str, message: str) -> None:
    info = PngInfo()
    info.add_text("prompt", text)
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(WorkflowError, match=message):
        read(str(tmp_path / "a.png"), registry())


@pytest.mark.parametrize("name", ["~nobody-of-that-name/a.json", "a" * 300])
def test_a_name_that_no_file_can_have_is_missing(name: str) -> None:
    with pytest.raises(MissingError, match="can't be"):
        read(name, registry())


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\nnothing"),
        ("a.webp", b"RIFF\4\0\0\0WEBPnothing"),
        ("a.mp4", b"\0\0\0\x20ftypisomnothing"),
        ("a.webm", b"\x1a\x45\xdf\xa3nothing"),
    ],
)
def test_a_damaged_picture_or_video_is_reported(tmp_path: Path, name: str, start: bytes) -> None:
    (tmp_path / name).write_bytes(start)
    with pytest.raises(WorkflowError, match=name):
        read(str(tmp_path / name), registry())


def test_a_workflow_that_ships_is_found_by_name_unless_a_file_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, path = next(iter(shipped().items()))
    monkeypatch.chdir(tmp_path)
    assert read(name, registry()).base == path.parent

    Path(name).write_text(json.dumps(GRAPH))
    assert read(name, registry()).workflow.api() == GRAPH


PART = {
    "inputs": {"text": "shout.text"},
    "outputs": {"loud": ["shout", 0]},
    "graph": {"shout": {"class_type": "Shout", "inputs": {"text": "snail"}, "_meta": {"title": "Shout"}}},
}
WHOLE = {
    "inputs": {"text": "part.text"},
    "graph": {
        "part": {"class_type": "parts/shout.json", "inputs": {"text": "fox"}},
        "save": {"class_type": "SaveText", "inputs": {"text": ["part", "loud"]}},
    },
}


def test_a_file_is_used_as_a_node(tmp_path: Path, kinograph: Command) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "shout.json").write_text(json.dumps(PART))
    (tmp_path / "whole.json").write_text(json.dumps({"kinograph": 1, **WHOLE}))
    result = kinograph("run", "whole.json", "--set", "text=a hen", "--out", "out")
    assert Path(result.stdout.strip()).read_text() == "A HEN!\n"
    assert "Shout (part/shout)" in result.stderr
    assert "FOX!" in kinograph("run", "whole.json", "--until", "part").stdout
    assert read("whole.json", registry()).workflow.subgraphs.keys() == {"parts/shout.json"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../secret.json", "is not in the workflow's folder or below"),
        ("nothing.json", "there is no workflow 'nothing.json'"),
        ("broken.json", "'broken.json', used as a node: the file is not JSON"),
        ("deep.json", "is used as a node and defines subgraphs itself"),
    ],
)
def test_a_file_that_can_not_be_used_as_a_node_is_reported(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "secret.json").write_text(json.dumps(PART))
    folder = tmp_path / "workflows"
    folder.mkdir()
    (folder / "broken.json").write_text("{")
    (folder / "deep.json").write_text(json.dumps({**PART, "subgraphs": {"A": PART}}))
    (folder / "whole.json").write_text(json.dumps({"1": {"class_type": name}}))
    with pytest.raises((WorkflowError, MissingError), match=message):
        read(str(folder / "whole.json"), registry())
