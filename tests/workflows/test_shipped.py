from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest

from engine.document.reading import read
from engine.document.shipped import shipped
from engine.document.workflow import Workflow
from engine.errors import MissingError
from engine.events import NodeSaved
from engine.graph.check import check
from engine.run.execute import Execution
from engine.store.cache import Cache
from nodes import registry
from nodes.lora.reading import read_lora
from tests.tiny import tiny_sdxl, tiny_svd

SHIPPED = shipped()


@pytest.mark.parametrize("name", SHIPPED)
def test_every_workflow_is_sound_and_tells_what_it_is(name: str) -> None:
    document = read(name, registry())
    assert document.workflow.title
    assert document.workflow.description
    assert document.workflow.inputs
    with suppress(MissingError):  # a model not yet downloaded doesn't make a workflow unsound
        check(document.prepared, base=document.base)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_node_has_a_title(name: str) -> None:
    graph = read(name, registry()).workflow.graph
    assert [node for node, entry in graph.items() if not entry.meta.get("title")] == []


def test_key_frames_are_drawn_and_saved(tmp_path: Path) -> None:
    tiny_sdxl().save_pretrained(tmp_path / "sdxl")
    settings = {
        "image_model.source": str(tmp_path / "sdxl"),
        "keyframes.prompt": "a red snail",
        "keyframes.count": 2,
        "keyframes.steps": 2,
    }
    saved = run("keyframes", settings, tmp_path)
    assert [path.name for path in saved] == ["keyframe_00001.png", "keyframe_00002.png"]
    for path in saved:
        with PIL.Image.open(path) as picture:
            assert picture.size == (256, 256)
            assert Workflow.parse(picture.info["kinograph"]).graph["keyframes"].inputs["prompt"] == "a red snail"


def test_a_picture_is_set_moving_and_saved(tmp_path: Path) -> None:
    tiny_svd().save_pretrained(tmp_path / "svd")
    (path,) = run("image_to_video", {"video_model.source": str(tmp_path / "svd"), "video.steps": 2}, tmp_path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.average_rate == 7
        assert Workflow.parse(container.metadata["kinograph"]).graph["video"].inputs["steps"] == 2
    assert np.stack(frames).shape == (14, 256, 256, 3)


@pytest.mark.full
def test_two_loras_are_trained_zipped_and_drawn_with(tmp_path: Path) -> None:
    tiny_sdxl().save_pretrained(tmp_path / "sdxl")
    short = {"subject.steps": 2, "style.steps": 2, "zipped.steps": 1, "zipped.pictures": 1, "zipped.sampling_steps": 1}
    drawn = {"image_model.source": str(tmp_path / "sdxl"), "keyframes.count": 3, "keyframes.steps": 1}
    saved = run("train_and_zip", short | drawn, tmp_path)
    assert sorted(path.name for path in saved) == [
        "neon_00001.safetensors",
        "rocket_00001.safetensors",
        "trained_and_zipped_00001.png",
    ]
    (grid,) = (path for path in saved if path.suffix == ".png")
    with PIL.Image.open(grid) as picture:
        assert picture.size == (4 * (2 * 64 + 2), 4 * (2 * 64 + 2))
    rocket = next(path for path in saved if path.name.startswith("rocket"))
    assert read_lora(rocket).words == {"subject": ("rocket",)}


def run(name: str, settings: dict[str, object], folder: Path) -> list[Path]:
    """Run a shipped workflow with some of its inputs changed; the files that it saved."""
    document = read(name, registry())
    prepared = document.prepared
    for place, value in settings.items():
        node, _, name = place.partition(".")
        prepared = prepared.with_input(node, name, value)
    graph = check(prepared, base=document.base)
    with Cache() as cache:
        events = list(Execution(graph, cache=cache, out=folder / "out"))
    return [path for event in events if isinstance(event, NodeSaved) for path in event.files]
