from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest
import torch
from pydantic import ValidationError

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.errors import InputError
from engine.events import NodeSaved
from engine.graph.check import check
from engine.node import Context
from engine.run.execute import Execution
from engine.store.cache import Cache
from engine.values import Image, Video
from nodes import registry
from nodes.files.nodes import LoadText, PreviewImage, PreviewText, PreviewVideo, SaveImage, SaveText, SaveVideo


def test_a_batch_is_saved_picture_by_picture() -> None:
    files = SaveImage(images=Image(torch.rand(3, 3, 8, 10)), filename_prefix="stills/key", scale=2).run(Context())
    assert [(item.extension, item.prefix) for item in files.items] == [("png", "stills/key")] * 3
    assert [PIL.Image.open(io.BytesIO(item.data)).size for item in files.items] == [(20, 16)] * 3


@pytest.mark.parametrize(("asked", "played"), [(0.0, 7), (12.0, 12)])
def test_a_video_plays_at_its_own_rate_or_the_one_asked_for(asked: float, played: int) -> None:
    (item,) = SaveVideo(video=Video(torch.rand(3, 3, 16, 16), 7.0), fps=asked, scale=2).run(Context()).items
    assert (item.extension, item.prefix) == ("mp4", "kinograph")
    with av.open(io.BytesIO(item.data)) as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.width, stream.frames) == (played, 32, 3)


def test_quality_reaches_the_encoder() -> None:
    video = Video(torch.rand(3, 3, 64, 64), 7.0)
    sizes = [len(SaveVideo(video=video, quality=quality).run(Context()).items[0].data) for quality in (1, 51)]
    assert sizes[0] > sizes[1]


def test_a_text_is_saved_as_utf_8_with_a_final_newline() -> None:
    for text in ("Grüße, 世界", "Grüße, 世界\n"):
        (item,) = SaveText(text=text).run(Context()).items
        assert (item.data.decode(), item.extension) == ("Grüße, 世界\n", "txt")


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "/",
        "folder/",
        "..",
        "../up",
        "a/../../up",
        "/etc/name",
        "C:/name",
        "C:name",
        "a\\b",
        "a\0b",
        "a\nb",
        "a:b",
        ".a",
        "a/.b/c",
    ],
)
def test_a_prefix_never_leads_out_of_the_output_folder(prefix: str) -> None:
    with pytest.raises(ValidationError):
        SaveText(text="", filename_prefix=prefix)


def test_a_prefix_may_contain_the_size() -> None:
    prefix = "%width%x%height%/%year%"
    image = SaveImage(images=Image(torch.rand(2, 3, 8, 10)), filename_prefix=prefix, scale=2).run(Context())
    video = SaveVideo(video=Video(torch.rand(1, 3, 8, 10), 8.0), filename_prefix=prefix).run(Context())
    assert [item.prefix for item in (*image.items, *video.items)] == ["20x16/%year%", "20x16/%year%", "10x8/%year%"]


def test_a_prefix_may_name_folders() -> None:
    assert SaveText(text="", filename_prefix="a//b/./c").filename_prefix == "a/b/c"


def test_pictures_videos_and_texts_are_shown_in_the_temporary_folder(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.full((4, 6, 3), 200, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("snail")
    graph = {
        "picture": {"class_type": "LoadImage", "inputs": {"image": str(tmp_path / "a.png")}},
        "text": {"class_type": "LoadText", "inputs": {"file": str(tmp_path / "a.txt")}},
        "video": {"class_type": "CreateVideo", "inputs": {"images": ["picture", "out"]}},
        "1": {"class_type": "PreviewImage", "inputs": {"images": ["picture", 0]}},
        "2": {"class_type": "PreviewVideo", "inputs": {"video": ["video", 0]}},
        "3": {"class_type": "PreviewText", "inputs": {"text": ["text", 0]}},
    }
    execution = Execution(
        check(prepare(Workflow.read(graph), registry())), cache=Cache(), out=tmp_path, temp=tmp_path / "temp"
    )
    saved = {event.node: event for event in execution if isinstance(event, NodeSaved)}
    assert all(event.temporary and event.files[0].parent == tmp_path / "temp" for event in saved.values())
    assert {node: event.files[0].suffix for node, event in saved.items()} == {"1": ".png", "2": ".mp4", "3": ".txt"}
    with PIL.Image.open(saved["1"].files[0]) as picture:
        assert (picture.size, picture.getpixel((0, 0))) == ((6, 4), (200, 200, 200))
        assert Workflow.parse(picture.info["kinograph"]).graph["1"].class_type == "PreviewImage"
    assert saved["3"].files[0].read_text() == "snail"


def test_previews_show_everything() -> None:
    assert len(PreviewImage(images=Image(torch.rand(3, 3, 8, 8))).run(Context()).items) == 3
    (item,) = PreviewVideo(video=Video(torch.rand(5, 3, 16, 16), 12.5)).run(Context()).items
    with av.open(io.BytesIO(item.data)) as container:
        stream = container.streams.video[0]
        assert (stream.frames, float(stream.average_rate or 0)) == (5, 12.5)
    (item,) = PreviewText(text="Grüße").run(Context()).items
    assert item.data.decode() == "Grüße"


def test_a_text_is_read_as_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffeine Schnecke\r\nin Öl".encode())
    assert LoadText(file=str(tmp_path / "a.txt")).run(Context()) == "eine Schnecke\nin Öl"


@pytest.mark.parametrize(("data", "message"), [(b"\xff\xfe", "not UTF-8 text"), (b"x" * 1_000_001, "longer than")])
def test_a_file_that_is_not_text_or_too_long_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(InputError, match=message):
        LoadText(file=str(tmp_path / "a.txt")).run(Context())
