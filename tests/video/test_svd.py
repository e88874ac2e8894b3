from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest.mock import patch

import PIL.Image
import pytest
import torch
from diffusers import StableVideoDiffusionPipeline
from torch import Tensor

from engine.errors import Cancelled, InputError
from engine.node import Context
from engine.values import Image, LoRA, Video, VideoModel
from nodes.diffusion.layers import layers
from nodes.diffusion.pipelines import pipeline_for
from nodes.lora.nodes import LoRAApplyToVideo
from nodes.video.nodes import SVDSampler, VideoModelLoad
from tests.tiny import tiny_svd

LEVELS = torch.randint(0, 256, (64, 64, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
PICTURE = Image(LEVELS.movedim(-1, 0)[None] / 255)


def animate(ctx: Context, model: VideoModel, image: Image = PICTURE, **inputs: object) -> Video:
    settings = {"steps": 2, "frames": 3, "seed": 7} | inputs
    return SVDSampler(model=model, image=image, **settings).run(ctx)


Reference = Callable[..., torch.Tensor]


@pytest.fixture(scope="module")
def expected(folder: Path) -> Reference:
    """What diffusers makes by itself of the same picture."""
    pipeline = StableVideoDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    picture = PIL.Image.fromarray(LEVELS.numpy())

    @cache
    def run(seed: int = 7, **options: object) -> torch.Tensor:
        settings = {"num_inference_steps": 2, "num_frames": 3, "height": 64, "width": 64} | options
        return pipeline(picture, generator=torch.Generator().manual_seed(seed), output_type="pt", **settings).frames[0]

    return run


def test_videos_are_those_of_diffusers(ctx: Context, model: VideoModel, expected: Reference) -> None:
    video = animate(ctx, model)
    assert video.frames.shape == (3, 3, 64, 64)
    assert video.frames.dtype == torch.float32
    assert video.fps == 7
    torch.testing.assert_close(video.frames, expected(), atol=1e-5, rtol=0)


def test_adapters_of_the_model_are_applied_while_it_samples(ctx: Context, model: VideoModel, folder: Path) -> None:
    theirs = StableVideoDiffusionPipeline.from_pretrained(folder)
    theirs.set_progress_bar_config(disable=True)
    names = [name for name in layers(theirs) if name.startswith("unet.") and name.endswith("attn1.to_v")]
    assert any("temporal_transformer_blocks" in name for name in names)
    shapes = {name: layers(theirs)[name].weight.shape for name in names}
    draw = torch.Generator().manual_seed(0)
    up = {name: torch.randn(out, 2, generator=draw) / 5 for name, (out, _) in shapes.items()}
    down = {name: torch.randn(2, inputs, generator=draw) / 5 for name, (_, inputs) in shapes.items()}
    with torch.no_grad():
        for name in names:
            layers(theirs)[name].weight += 0.5 * up[name] @ down[name]
    settings = {"num_inference_steps": 2, "num_frames": 3, "height": 64, "width": 64, "output_type": "pt"}
    picture, noise = PIL.Image.fromarray(LEVELS.numpy()), torch.Generator().manual_seed(7)
    wanted = theirs(picture, generator=noise, **settings).frames[0]
    plain = animate(ctx, model).frames
    adapted = LoRAApplyToVideo(model=model, lora=LoRA(up, down, "motion"), strength=0.5).run(ctx)
    found = animate(ctx, adapted).frames
    assert (found - plain).abs().max() > 1e-3
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert torch.equal(animate(ctx, model).frames, plain)


@pytest.mark.parametrize(
    ("inputs", "options"),
    [
        ({"fps": 12}, {"fps": 12}),
        ({"motion_bucket": 20}, {"motion_bucket_id": 20}),
        ({"augmentation": 0.5}, {"noise_aug_strength": 0.5}),
        ({"augmentation": 0.0}, {"noise_aug_strength": 0.0}),
        ({"min_guidance": 2.0, "max_guidance": 6.0}, {"min_guidance_scale": 2.0, "max_guidance_scale": 6.0}),
        ({"max_guidance": 1.0}, {"max_guidance_scale": 1.0}),
        ({"decode_chunk": 2}, {"decode_chunk_size": 2}),
        ({"frames": 0}, {"num_frames": 14}),
        ({"steps": 1}, {"num_inference_steps": 1}),
        ({"width": 48, "height": 32}, {"width": 48, "height": 32}),
        ({"seed": 8}, {"seed": 8}),
    ],
)
def test_every_setting_does_what_it_does_in_diffusers(
    ctx: Context,
    model: VideoModel,
    expected: Reference,
    inputs: dict[str, object],
    options: dict[str, object],
) -> None:
    frames = animate(ctx, model, **inputs).frames
    torch.testing.assert_close(frames, expected(**options), atol=1e-5, rtol=0)
    default = expected()
    assert frames.shape != default.shape or (frames - default).abs().max() > 1e-3


def test_the_model_is_conditioned_on_the_frame_rate_less_one(ctx: Context, model: VideoModel) -> None:
    with _unet_calls(ctx, model) as calls:
        animate(ctx, model, fps=7, motion_bucket=100, augmentation=0.25)
    assert calls[0]["added_time_ids"].tolist() == [[6.0, 100.0, 0.25]] * 2


def test_without_guidance_the_unconditional_pass_is_left_out(ctx: Context, model: VideoModel) -> None:
    with _unet_calls(ctx, model) as calls:
        animate(ctx, model, min_guidance=1.0, max_guidance=1.0)
    assert [len(call["sample"]) for call in calls] == [1, 1]
    with _unet_calls(ctx, model) as calls:
        animate(ctx, model, min_guidance=1.0, max_guidance=1.5)
    assert [len(call["sample"]) for call in calls] == [2, 2]


@contextmanager
def _unet_calls(ctx: Context, model: VideoModel) -> Iterator[list[dict[str, torch.Tensor]]]:
    """The arguments of the UNet's calls."""
    calls: list[dict[str, torch.Tensor]] = []
    unet = pipeline_for(ctx, model, "image to video").unet
    forward = unet.forward

    def record(sample: torch.Tensor, timestep: torch.Tensor, **arguments: torch.Tensor) -> object:
        calls.append({"sample": sample, "timestep": timestep} | arguments)
        return forward(sample, timestep, **arguments)

    with patch.object(unet, "forward", record):
        yield calls


def test_a_picture_in_memory_gives_the_video_of_the_picture_in_a_file(ctx: Context, model: VideoModel) -> None:
    between_levels = Image((PICTURE.pixels + 0.4 / 255).clamp(0, 1))
    assert torch.equal(animate(ctx, model, between_levels).frames, animate(ctx, model).frames)


def test_steps_and_decoded_frames_are_reported_and_previews_show_the_first_frame(
    ctx: Context, model: VideoModel
) -> None:
    reports: list[tuple[int, int, str]] = []
    shown: list[Tensor] = []

    def listen(done: int, total: int, unit: str, preview: Image | None) -> None:
        reports.append((done, total, unit))
        if preview:
            shown.append(preview.pixels)

    video = animate(dataclasses.replace(ctx, on_progress=listen, wants_preview=lambda: True), model, decode_chunk=1)

    steps, frames = reports[:3], reports[3:]
    assert steps == [(done, 2, "step") for done in range(3)]
    assert [*dict.fromkeys(frames)] == [(done, 3, "frame") for done in range(4)]
    assert [picture.shape for picture in shown] == [(1, *video.frames.shape[1:])] * 2
    torch.testing.assert_close(shown[-1], video.frames[:1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("steps_allowed", [0, 1])
def test_a_cancel_prevents_the_next_step_and_leaves_no_trace(
    ctx: Context, model: VideoModel, expected: Reference, steps_allowed: int
) -> None:
    asked = iter(range(100))
    cancelled = dataclasses.replace(ctx, cancelled=lambda: next(asked) >= steps_allowed)
    with _unet_calls(ctx, model) as calls, pytest.raises(Cancelled):
        animate(cancelled, model)
    assert len(calls) == steps_allowed
    torch.testing.assert_close(animate(ctx, model).frames, expected(), atol=1e-5, rtol=0)


def test_a_cancel_prevents_the_next_layer_from_being_decoded(ctx: Context, model: VideoModel) -> None:
    units: list[str] = []

    def listen(done: int, total: int, unit: str, preview: object) -> None:
        units.append(unit)

    cancelled = dataclasses.replace(ctx, on_progress=listen, cancelled=lambda: units.count("frame") == 2)
    with pytest.raises(Cancelled):
        animate(cancelled, model, decode_chunk=1)


def test_a_batch_of_pictures_is_sent_to_pick_image(ctx: Context, model: VideoModel) -> None:
    with pytest.raises(InputError, match="not a batch of 2") as caught:
        animate(ctx, model, Image(torch.rand(2, 3, 64, 64)))
    assert caught.value.input == "image"
    assert "PickImage" in str(caught.value)


def test_a_size_that_does_not_suit_the_model_comes_with_one_that_does(ctx: Context, model: VideoModel) -> None:
    with pytest.raises(InputError, match="61 × 100 pixels") as caught:
        animate(ctx, model, Image(torch.rand(1, 3, 100, 61)))
    assert "64 × 96" in str(caught.value)
    assert animate(ctx, model, Image(torch.rand(1, 3, 100, 61)), width=64, height=96).frames.shape == (3, 3, 96, 64)


def test_each_level_of_the_unet_but_the_last_halves_the_latents(tmp_path: Path, ctx: Context) -> None:
    """As in the published model, which has four levels: there the unit is 8 × 2³ pixels, here 4 × 2³."""
    tiny_svd(levels=4).save_pretrained(tmp_path)
    model = VideoModelLoad(source=str(tmp_path)).run(Context())
    assert animate(ctx, model, steps=1, frames=2, width=96, height=32).frames.shape == (2, 3, 32, 96)
    with pytest.raises(InputError, match="80 × 32 pixels don't suit the model: it needs multiples of 32") as caught:
        animate(ctx, model, width=80, height=32)
    assert "64 × 32" in str(caught.value)


def test_guidance_that_falls_along_the_frames_is_refused(ctx: Context, model: VideoModel) -> None:
    with pytest.raises(InputError, match="3, is above the last's, 2") as caught:
        animate(ctx, model, min_guidance=3.0, max_guidance=2.0)
    assert caught.value.input == "min_guidance"


def test_a_single_frame_is_refused(ctx: Context, model: VideoModel) -> None:
    with pytest.raises(InputError, match="more than one frame"):
        animate(ctx, model, frames=1)
