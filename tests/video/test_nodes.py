from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from engine.errors import InputError
from engine.node import Context
from engine.values import Image, Video
from nodes.video.nodes import CreateVideo, JoinVideos, PickFrame, VideoFrames, VideoModelLoad


def test_a_folder_becomes_a_light_reference(folder: Path) -> None:
    model = VideoModelLoad(source=str(folder), dtype="bfloat16").run(Context())
    assert (model.source, model.path, model.dtype) == (str(folder), str(folder), "bfloat16")


def test_an_image_model_is_sent_to_its_own_node(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline"}))
    with pytest.raises(InputError, match="holds a Stable Diffusion XL model") as caught:
        VideoModelLoad(source=str(tmp_path)).run(Context())
    assert caught.value.hint == "ImageModelLoad loads it"


def test_a_single_file_is_not_a_video_model(tmp_path: Path) -> None:
    file = tmp_path / "svd.safetensors"
    file.write_bytes(b"")
    with pytest.raises(InputError, match=r"no model_index\.json"):
        VideoModelLoad(source=str(file)).run(Context())


def test_videos_are_joined_in_order() -> None:
    first, second = Video(torch.rand(3, 3, 8, 8), 7.0), Video(torch.rand(2, 3, 8, 8), 7.0)
    for node in (JoinVideos(first=(first,), second=(second,)), JoinVideos(first=(first, second))):
        joined = node.run(Context())
        assert joined.fps == 7.0
        assert torch.equal(joined.frames[:3], first.frames)
        assert torch.equal(joined.frames[3:], second.frames)


def test_no_videos_make_none() -> None:
    with pytest.raises(InputError, match="no video to join"):
        JoinVideos(first=()).run(Context())


@pytest.mark.parametrize(
    ("second", "described"),
    [
        (Video(torch.rand(2, 3, 8, 16), 7.0), "16 × 8 pixels at 7 frames"),
        (Video(torch.rand(2, 3, 8, 8), 12.5), "8 × 8 pixels at 12.5 frames"),
    ],
)
def test_videos_that_differ_are_not_joined(second: Video, described: str) -> None:
    with pytest.raises(InputError, match="first video has 8 × 8 pixels at 7 frames") as caught:
        JoinVideos(first=(Video(torch.rand(2, 3, 8, 8), 7.0),), second=(second,)).run(Context())
    assert caught.value.input == "second"
    assert described in str(caught.value)


def test_a_video_is_split_and_put_together_again() -> None:
    frames, fps = VideoFrames(video=Video(torch.rand(3, 3, 8, 8), 12.5)).run(Context())
    assert len(frames.pixels) == 3
    again = CreateVideo(images=frames, fps=fps).run(Context())
    assert (again.fps, torch.equal(again.frames, frames.pixels)) == (12.5, True)


@pytest.mark.parametrize(("index", "which"), [(0, 0), (2, 2), (-1, 2), (-3, 0)])
def test_a_frame_is_counted_from_either_end(index: int, which: int) -> None:
    video = Video(torch.rand(3, 3, 8, 8), 7.0)
    picture: Image = PickFrame(video=video, index=index).run(Context())
    assert torch.equal(picture.pixels, video.frames[which : which + 1])


@pytest.mark.parametrize("index", [3, -4])
def test_a_frame_that_does_not_exist(index: int) -> None:
    with pytest.raises(InputError, match=f"no frame {index} in a video of 3") as caught:
        PickFrame(video=Video(torch.rand(3, 3, 8, 8), 7.0), index=index).run(Context())
    assert caught.value.hint == "give an index from 0 to 2, or from -3 to -1"
