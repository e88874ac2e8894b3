"""Saved files are found again, with the workflow that made them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.document.workflow import Workflow
from engine.run.saving import OutputFolder
from engine.server.http.limits import MOST_VALUES
from engine.server.http.settings import Folders
from engine.server.own import gallery
from engine.server.own.gallery import OutputsQuery, page
from engine.values import Media
from tests.server.conftest import Server, png
from tests.server.test_files import opened, video

ROUTE = "/api/kinograph/outputs"


def workflow(title: str, prompt: str) -> Workflow:
    nodes = {"draw": {"class_type": "KeyframeSampler", "inputs": {"prompt": prompt, "model": ["load", 0]}}}
    return Workflow.read({"kinograph": 1, "title": title, "graph": nodes, "layout": {"hidden words": "snake"}})


def save(server: Server, name: str, data: bytes, flow: Workflow) -> Path:
    """Save a file as a run does, one second newer than all before."""
    prefix, extension = name.rsplit(".", 1)
    (path,) = OutputFolder(server.folders.output, flow).write(Media(data, extension, prefix))
    when = time.time() + len(list(server.folders.output.rglob("*")))
    os.utime(path, (when, when))
    return path


def test_a_file_in_the_ui_format_is_searched_by_its_graph(server: Server) -> None:
    flow, theirs = workflow("", "a red snail"), {"nodes": [{"id": 1, "type": "Foreign", "widgets_values": ["whale"]}]}
    (path,) = OutputFolder(server.folders.output, flow, carried={"workflow": theirs}).write(Media(png(), "png", "key"))
    assert names(server, query="red snail") == [path.name]
    assert names(server, query="whale") == []


def test_a_file_that_carries_too_much_is_listed_without_it(server: Server) -> None:
    about = PngInfo()
    about.add_text("kinograph", json.dumps({"title": "Snail", "padding": [0] * (MOST_VALUES + 1)}))
    Image.new("RGB", (8, 8)).save(server.folders.output / "snail.png", pnginfo=about)
    assert [item["title"] for item in server.get(ROUTE).json["items"]] == [""]


@pytest.fixture
def filled(server: Server) -> Server:
    """A server with three pictures, a video and a text."""
    for title, prompt in (("Snails", "a red snail"), ("Fish", "a blue fish on the beach"), ("Birds", "a gull")):
        save(server, "key.png", png(), workflow(title, prompt))
    save(server, "clips/film.mp4", video(), workflow("Film", "the snail sets out"))
    save(server, "notes.txt", b"once", workflow("", ""))
    return server


def names(server: Server, **query: str | int) -> list[str]:
    return [item["filename"] for item in server.get(ROUTE, **query).json["items"]]


def test_files_are_listed_newest_first_with_title_and_kind(filled: Server) -> None:
    answer = filled.get(ROUTE).json
    assert answer["total"] == 5
    about = [(item["subfolder"], item["filename"], item["kind"], item["title"]) for item in answer["items"]]
    assert about == [
        ("", "notes_00001.txt", "text", ""),
        ("clips", "film_00001.mp4", "video", "Film"),
        ("", "key_00003.png", "image", "Birds"),
        ("", "key_00002.png", "image", "Fish"),
        ("", "key_00001.png", "image", "Snails"),
    ]
    assert answer["items"][0].keys() == {"filename", "subfolder", "type", "size", "modified", "kind", "title"}


def test_files_are_searched_by_name_title_and_prompt(filled: Server) -> None:
    assert names(filled, query="SNAIL") == ["film_00001.mp4", "key_00001.png"]
    assert names(filled, query="snail red") == ["key_00001.png"]
    assert names(filled, query="beach 00002") == ["key_00002.png"]
    assert names(filled, query="notes") == ["notes_00001.txt"]
    assert names(filled, query="snake") == []  # the layout isn't searched
    assert names(filled, query="snail", kind="video") == ["film_00001.mp4"]
    assert names(filled, kind="image") == ["key_00003.png", "key_00002.png", "key_00001.png"]
    assert filled.get(ROUTE, kind="sound").status == 400


def test_the_list_is_paged(filled: Server) -> None:
    everything = names(filled)
    assert [names(filled, limit=2, offset=offset) for offset in (0, 2, 4, 6)] == [
        everything[:2],
        everything[2:4],
        everything[4:],
        [],
    ]
    assert filled.get(ROUTE, query="snail", limit=1).json["total"] == 2
    for wrong in ({"limit": 0}, {"limit": 501}, {"offset": -1}, {"limit": "many"}):
        assert filled.get(ROUTE, **wrong).status == 400


def test_a_changed_file_is_read_again(filled: Server) -> None:
    path = filled.folders.output / "key_00001.png"
    assert names(filled, query="red snail") == ["key_00001.png"]
    flow = workflow("Snails", "a green frog")
    (other,) = OutputFolder(filled.folders.output / "else", flow).write(Media(png(), "png", "key"))
    other.replace(path)
    assert names(filled, query="red snail") == []
    assert names(filled, query="green frog") == ["key_00001.png"]


def test_files_with_invalid_metadata_are_listed_all_the_same(server: Server) -> None:
    def written(name: str, **texts: str) -> None:
        info = PngInfo()
        for key, text in texts.items():
            info.add_text(key, text)
        Image.new("RGB", (2, 2)).save(server.folders.output / name, pnginfo=info)

    written("a.png", workflow="{")
    written("b.png", workflow="[1, 2]", prompt="5")
    written("c.png", workflow='{"title": 5, "graph": {"1": {"class_type": "A", "inputs": 5}}}')
    (server.folders.output / "d.png").write_bytes(png()[:40])
    (server.folders.output / "e.mp4").write_bytes(video()[:100])
    (server.folders.output / "f.mp4").write_bytes(b"")
    (server.folders.output / "g.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert len(names(server)) == 7
    assert names(server, query="zebra") == []


def test_another_programs_prompt_is_searched_too(server: Server) -> None:
    info = PngInfo()
    info.add_text(
        "prompt", '{"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a lighthouse", "clip": ["4", 1]}}}'
    )
    Image.new("RGB", (2, 2)).save(server.folders.output / "ComfyUI_00001_.png", pnginfo=info)
    assert names(server, query="lighthouse") == ["ComfyUI_00001_.png"]


def test_the_workflow_of_a_file_is_served(filled: Server) -> None:
    def ask(**query: str) -> Any:
        return filled.get(f"{ROUTE}/workflow", **query)

    document = workflow("Fish", "a blue fish on the beach").document()
    assert ask(filename="key_00002.png").json == {"document": document, "warnings": []}
    assert ask(filename="film_00001.mp4", subfolder="clips", type="output").json["document"]["title"] == "Film"
    (filled.folders.input / "mine.png").write_bytes((filled.folders.output / "key_00001.png").read_bytes())
    assert ask(filename="mine.png", type="input").json["document"]["title"] == "Snails"
    (filled.folders.input / "bare.png").write_bytes(png())
    assert (ask(filename="bare.png", type="input").status, ask(filename="nothing.png").status) == (400, 404)


def test_what_is_left_out_of_the_workflow_of_another_programs_file_is_told(server: Server) -> None:
    graph = {"6": {"class_type": "KeyframeSampler", "inputs": {"prompt": "a gull", "polish": 3}}}
    for name, said in (("ComfyUI_00001_.png", {"prompt": graph}), ("own.png", {"kinograph": {"graph": graph}})):
        info = PngInfo()
        for tag, data in said.items():
            info.add_text(tag, json.dumps(data))
        Image.new("RGB", (2, 2)).save(server.folders.output / name, pnginfo=info)
    theirs, own = (server.get(f"{ROUTE}/workflow", filename=name).json for name in ("ComfyUI_00001_.png", "own.png"))
    assert theirs["document"]["graph"]["6"]["inputs"] == {"prompt": "a gull"}
    assert [(about["node"], about["input"]) for about in theirs["warnings"]] == [("6", "polish")]
    assert own["document"]["graph"] == graph
    assert own["warnings"] == []


def test_a_file_is_deleted_only_in_the_output_folder(filled: Server, tmp_path: Path) -> None:
    (filled.folders.input / "mine.png").write_bytes(png())
    (filled.folders.data / "settings.json").write_text("{}")
    (tmp_path / "secret.png").touch()
    (filled.folders.output / "link.png").symlink_to(tmp_path / "secret.png")
    before = sorted(tmp_path.rglob("*"))
    for name in ("../input/mine.png", "../data/settings.json", "%2e%2e/data/settings.json", "link.png", "clips", ""):
        assert filled.delete(ROUTE, filename=name).status in (400, 404)
    assert filled.delete(ROUTE, filename="mine.png", subfolder="../input").status == 400
    assert sorted(tmp_path.rglob("*")) == before
    assert filled.delete(ROUTE, filename="film_00001.mp4", subfolder="clips").status == 204
    assert filled.delete(ROUTE, filename="film_00001.mp4", subfolder="clips").status == 404
    assert filled.get(ROUTE).json["total"] == 4


def test_an_input_is_not_deleted_as_an_output(filled: Server) -> None:
    (filled.folders.input / "mine.png").write_bytes(png())
    assert filled.delete(ROUTE, filename="mine.png [input]").status == 404
    assert (filled.folders.input / "mine.png").exists()


@pytest.mark.parametrize(("name", "data"), [("a.png", png((300, 100))), ("a.mp4", video(size=(96, 32)))])
def test_a_thumbnail_is_a_small_jpeg_that_is_kept(server: Server, name: str, data: bytes) -> None:
    (server.folders.output / name).write_bytes(data)
    answer = server.get("/api/kinograph/thumbnail", filename=name, size=48)
    image = opened(answer.body)
    assert (answer.headers["Content-Type"], image.format, image.size) == ("image/jpeg", "JPEG", (48, 16))
    (kept,) = (server.folders.data / "thumbnails").iterdir()
    kept.write_bytes(b"kept")
    assert server.get("/api/kinograph/thumbnail", filename=name, size=48).body == b"kept"
    os.utime(server.folders.output / name, (1, 1))
    assert server.get("/api/kinograph/thumbnail", filename=name, size=48).body == answer.body
    assert server.get("/api/kinograph/thumbnail", filename=name, size=2000).status == 400


def test_files_that_are_not_pictures_have_no_thumbnail(server: Server) -> None:
    for name, data in (("a.txt", b"text"), ("a.png", b"text"), ("a.mp4", b"text"), ("a.svg", b"<svg/>")):
        (server.folders.output / name).write_bytes(data)
        assert server.get("/api/kinograph/thumbnail", filename=name).status == 400
    assert not list(server.folders.data.glob("thumbnails/*"))


def test_transparent_parts_are_black(server: Server) -> None:
    Image.new("RGBA", (8, 8), (255, 255, 255, 0)).save(server.folders.output / "a.png")
    pixel = opened(server.get("/api/kinograph/thumbnail", filename="a.png").body).getpixel((4, 4))
    assert pixel == (0, 0, 0)


def test_ten_thousand_files_are_searched_fast(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    read = gallery._read
    reads: list[Path] = []
    monkeypatch.setattr(gallery, "_read", lambda path: reads.append(path) or read(path))
    (first,) = OutputFolder(folders.output, workflow("Snails", "a red snail")).write(Media(png(), "png", "key"))
    for number in range(2, 10_001):
        (folders.output / f"key_{number:05}.png").hardlink_to(first)
    assert page(folders, OutputsQuery()).total == 10_000
    assert len(reads) == 50  # only what is shown
    found = page(folders, OutputsQuery(query="snail"))
    assert (found.total, len(reads)) == (10_000, 10_000)
    seconds = []
    for _ in range(3):  # the quickest counts: other processes slow each other down
        began = time.process_time()
        assert page(folders, OutputsQuery(query="snail", offset=9_000)).total == 10_000
        seconds.append(time.process_time() - began)
    assert min(seconds) < 1
    assert len(reads) == 10_000
