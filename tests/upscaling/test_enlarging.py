"""Making pictures and videos larger: sizes, memory, progress and cancelling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from engine.errors import Cancelled, InputError, NodeError
from engine.node import Context, Figure
from engine.values import Image, UpscaleModel, Video
from nodes.image.nodes import ImageScale, ImageUpscale, UpscaleModelLoad
from nodes.upscaling import enlarging
from nodes.video.nodes import VideoUpscale
from tests.fakecuda import fake_cuda
from tests.upscaling.files import by_esrgan, compact, saved, watched

PICTURES = torch.rand(3, 3, 40, 70, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def model(file: Path) -> UpscaleModel:
    return UpscaleModelLoad(source=str(file)).run(Context())


@pytest.fixture(scope="module")
def larger(state: Mapping[str, Tensor]) -> Tensor:
    """The pictures, four times as large."""
    return by_esrgan(state, PICTURES).clamp(0, 1)


def enlarge(model: UpscaleModel, ctx: Context | None = None, pixels: Tensor = PICTURES, **inputs: Any) -> Tensor:
    return ImageUpscale(model=model, image=Image(pixels), **inputs).run(ctx or Context()).pixels


def test_pictures_become_as_much_larger_as_the_model_makes_them(model: UpscaleModel, larger: Tensor) -> None:
    for scale in (0.0, 4.0):
        torch.testing.assert_close(enlarge(model, scale=scale), larger, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("scale", "size"), [(2.0, (80, 140)), (1.5, (60, 105)), (0.01, (1, 1))])
def test_a_smaller_factor_is_made_of_the_model_s_own_by_lanczos(
    scale: float, size: tuple[int, int], model: UpscaleModel, larger: Tensor
) -> None:
    found = enlarge(model, scale=scale)
    shrunk = ImageScale(image=Image(larger), upscale_method="lanczos", height=size[0], width=size[1]).run(Context())
    assert tuple(found.shape[2:]) == size
    torch.testing.assert_close(found, shrunk.pixels, atol=1e-4, rtol=0)


def test_a_larger_factor_than_the_model_s_is_refused_before_it_is_loaded(model: UpscaleModel) -> None:
    ctx = Context()
    with pytest.raises(InputError, match=r"makes pictures 4 times as large, not 4\.5 times") as caught:
        enlarge(model, ctx, scale=4.5)
    assert caught.value.input == "scale"
    assert len(ctx.models) == 0


@pytest.mark.parametrize("wrong", [{"scale": -1.0}, {"tile": -8}, {"tile": 100}, {"overlap": -1}, {"overlap": 1000}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any], model: UpscaleModel) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ImageUpscale(model=model, image=Image(PICTURES), **wrong)


def test_a_picture_does_not_depend_on_those_beside_it(model: UpscaleModel) -> None:
    assert torch.equal(enlarge(model)[1:2], enlarge(model, pixels=PICTURES[1:2]))


def test_no_picture_makes_none(model: UpscaleModel) -> None:
    assert enlarge(model, pixels=PICTURES[:0]).shape == (0, 3, 160, 280)


def test_tiles_are_reported_and_each_may_be_the_last(model: UpscaleModel, monkeypatch: pytest.MonkeyPatch) -> None:
    progress: list[tuple[int, int, str]] = []
    figures: list[Mapping[str, Figure]] = []
    ctx = Context(on_progress=lambda *report: progress.append(report[:3]), on_report=figures.append)
    enlarge(model, ctx, tile=40)
    assert progress == [(done, 6, "tile") for done in range(7)], "two for each picture"
    assert figures == [{"tiles": Figure(6), "tile": Figure(40, "px")}]

    seen = watched(monkeypatch, "DenseNet")
    ctx.cancelled = lambda: len(seen) == 4
    with pytest.raises(Cancelled):
        enlarge(model, ctx, tile=40)
    assert len(seen) == 4


def test_tiles_become_smaller_until_memory_suffices(
    model: UpscaleModel, larger: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watched(monkeypatch, "DenseNet", most=1500)
    progress: list[tuple[int, int]] = []
    found = enlarge(model, Context(on_progress=lambda *report: progress.append(report[:2])), overlap=8)
    assert [shape[2:] for shape in seen] == [(40, 70)] + [(28, 43)] * 12, "four tiles for each picture"
    assert progress[-1] == (12, 12)
    torch.testing.assert_close(found, larger, atol=0.02, rtol=0)


def test_an_error_that_has_nothing_to_do_with_memory_ends_the_work_at_once(
    model: UpscaleModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watched(monkeypatch, "DenseNet", most=0, error=RuntimeError("an illegal memory access"))
    with pytest.raises(RuntimeError, match="illegal"):
        enlarge(model)
    assert len(seen) == 1


def test_memory_that_does_not_suffice_for_the_smallest_tile_is_an_error(
    model: UpscaleModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watched(monkeypatch, "DenseNet", most=0)
    with pytest.raises(torch.OutOfMemoryError):
        enlarge(model)
    assert [shape[3] for shape in seen] == [70, 70, 62]


def test_tiles_are_as_large_as_free_memory_suggests(model: UpscaleModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is taken to hold 3 × 4 numbers for each of the 16 pixels that it makes of one, and 32 more, in 896
    bytes. A tile may take half of the memory. Of 600 pixels in a row there are two tiles of at most 512, or five of at
    most 128, which have 120 and 39 on both sides.
    """
    tiles: list[Any] = []
    ctx = Context(on_report=tiles.append)
    picture = torch.zeros(1, 3, 8, 600)
    for free in (2**40, 2 * 896 * 8 * 200, 0):
        monkeypatch.setattr(enlarging, "room_on", lambda device, free=free: free)
        enlarge(model, ctx, picture)
    assert [report["tile"].value for report in tiles] == [512, 128, 32]


def test_values_that_are_not_finite_are_an_error(model: UpscaleModel, tmp_path: Path) -> None:
    state = {name: weight * 1000 for name, weight in compact().items()}
    large = UpscaleModelLoad(source=str(saved(state, tmp_path / "a.safetensors")), dtype="float16").run(Context())
    with pytest.raises(NodeError, match="not finite in float16") as caught:
        enlarge(large)
    assert "bfloat16" in str(caught.value)


def test_a_video_is_made_larger_frame_by_frame(
    model: UpscaleModel, larger: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watched(monkeypatch, "DenseNet")
    video = VideoUpscale(model=model, video=Video(PICTURES, 7.0)).run(Context())
    assert seen == [(3, 3, 40, 70)], "small frames are computed together"
    assert video.fps == 7.0
    torch.testing.assert_close(video.frames, larger, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("size", "tile"), [((40, 70), 0), ((8, 8), 32)])
def test_frames_that_do_not_fit_together_are_computed_by_fewer(
    size: tuple[int, int],
    tile: int,
    model: UpscaleModel,
    state: Mapping[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = PICTURES[:, :, : size[0], : size[1]]
    seen = watched(monkeypatch, "DenseNet", most=size[0] * size[1])
    video = VideoUpscale(model=model, video=Video(frames, 7.0), tile=tile).run(Context())
    assert [shape[0] for shape in seen] == [3, 1, 1, 1]
    torch.testing.assert_close(video.frames, by_esrgan(state, frames).clamp(0, 1), atol=1e-5, rtol=0)


def test_tiles_of_frames_that_are_computed_together_are_reported_together(model: UpscaleModel) -> None:
    progress: list[tuple[int, int, str]] = []
    ctx = Context(on_progress=lambda *report: progress.append(report[:3]))
    VideoUpscale(model=model, video=Video(PICTURES, 7.0), tile=40).run(ctx)
    assert progress == [(0, 6, "tile"), (3, 6, "tile"), (6, 6, "tile")]


def test_what_does_not_fit_on_a_gpu_is_made_in_smaller_tiles_there(
    model: UpscaleModel, larger: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = watched(monkeypatch, "DenseNet")
    with fake_cuda() as gpu:
        ctx = Context("cuda")
        enlarge(model, ctx, PICTURES[:1])
        gpu.capacity = gpu.peak * 3 // 4
        found = enlarge(model, ctx, PICTURES[:1], tile=512, overlap=8)
        assert shapes[-1] == (1, 3, 28, 43)
    torch.testing.assert_close(found, larger[:1], atol=0.02, rtol=0)
