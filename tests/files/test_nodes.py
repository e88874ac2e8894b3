from __future__ import annotations

import io

import av
import PIL.Image
import pytest
import torch
from pydantic import ValidationError

from engine.node import Context
from engine.values import Image, Video
from nodes.files.nodes import SaveImage, SaveText, SaveVideo


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
    ["", "/", "folder/", "..", "../up", "a/../../up", "/etc/name", "C:/name", "C:name", "a\\b", "a\0b", "a\nb", "a:b"],
)
def test_a_prefix_never_leads_out_of_the_output_folder(prefix: str) -> None:
    with pytest.raises(ValidationError):
        SaveText(text="", filename_prefix=prefix)


def test_a_prefix_may_name_folders() -> None:
    assert SaveText(text="", filename_prefix="a//b/./c").filename_prefix == "a/b/c"
