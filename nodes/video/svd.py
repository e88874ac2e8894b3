"""Sampling videos from a Stable Video Diffusion pipeline (Blattmann et al. 2023, arXiv 2311.15127).

The loop is diffusers' own, so results are its results: the picture in 8 bits, the augmentation noise drawn before the
latents, the frame rate lowered by one where the model is conditioned on it. With guidance 1 on all frames it leaves out
the unconditional pass. Decoding happens in `nodes.video.decoding`, layer by layer, so that it can be cancelled between
layers and takes little memory.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from engine.values import Video
from nodes.diffusion.adapters import applied
from nodes.diffusion.dtypes import chosen_dtype
from nodes.diffusion.pixels import check_finite, to_pillow
from nodes.diffusion.precision import precision_kept
from nodes.diffusion.preview import StepCallback
from nodes.diffusion.sizes import check_size
from nodes.video.decoding import decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import AutoencoderKLTemporalDecoder, StableVideoDiffusionPipeline
    from torch import Tensor

    from engine.node import Context
    from engine.values import VideoModel


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a video is sampled; None leaves the number of frames to the model, and decodes them as one chunk."""

    seed: int
    frames: int | None = None
    width: int | None = None
    height: int | None = None
    fps: int = 7
    motion_bucket: int = 127
    augmentation: float = 0.02
    steps: int = 25
    min_guidance: float = 1.0
    max_guidance: float = 3.0
    decode_chunk: int | None = None


def sample(
    ctx: Context,
    pipeline: StableVideoDiffusionPipeline,
    model: VideoModel,
    picture: Tensor,
    settings: Settings,
) -> Video:
    """Set a picture (3, H, W) in [0, 1] moving, with the model's adapters applied.

    Raises:
        Cancelled: the run was cancelled; no further step is taken.
        InputError: the size doesn't suit the model, or an adapter doesn't fit it.
        NodeError: the result is not finite.
    """
    height, width = settings.height or picture.shape[1], settings.width or picture.shape[2]
    check_size(width, height, _unit(pipeline), input="image")
    with applied(pipeline, model.adapters), precision_kept(pipeline.vae):
        latents = pipeline(
            to_pillow(picture),
            height=height,
            width=width,
            num_frames=settings.frames,
            num_inference_steps=settings.steps,
            min_guidance_scale=settings.min_guidance,
            max_guidance_scale=settings.max_guidance,
            fps=settings.fps,
            motion_bucket_id=settings.motion_bucket,
            noise_aug_strength=settings.augmentation,
            generator=torch.Generator().manual_seed(settings.seed),
            output_type="latent",
            callback_on_step_end=StepCallback(ctx, model, settings.steps),
        ).frames
    frames = _decode(ctx, pipeline, latents, settings.decode_chunk or latents.shape[1])
    return Video(check_finite(frames, chosen_dtype(model, ctx.device)), float(settings.fps))


def _unit(pipeline: StableVideoDiffusionPipeline) -> int:
    """The latents must halve evenly on every level of the UNet, and diffusers wants multiples of 8."""
    levels = len(pipeline.unet.config.block_out_channels)
    return max(8, int(pipeline.vae_scale_factor) << (levels - 1))


def _decode(ctx: Context, pipeline: StableVideoDiffusionPipeline, latents: Tensor, chunk: int) -> Tensor:
    """Latents (1, T, C, h, w) → frames (T, 3, H, W) in [0, 1]. The decoder mixes frames within a chunk."""
    total, unscaled = latents.shape[1], latents[0] / pipeline.vae.config.scaling_factor
    pictures: list[Tensor] = []
    for start in range(0, total, chunk):
        part = unscaled[start : start + chunk]

        def report(done: int, of: int, start: int = start, count: int = len(part)) -> None:
            ctx.progress(start + count * done // of, total, unit="frame")

        pictures.append((_decode_chunk(pipeline.vae, part, report).float() / 2 + 0.5).clamp(0, 1))
    ctx.progress(total, total, unit="frame")
    return torch.cat(pictures)


def _decode_chunk(vae: AutoencoderKLTemporalDecoder, latents: Tensor, on_layer: Callable[[int, int], None]) -> Tensor:
    """Frames from latents; if the device runs out of memory, from the start with less on it, which gives the same."""
    with suppress(torch.OutOfMemoryError):
        return decode(vae, latents, on_layer)
    return decode(vae, latents, on_layer, on_host=True)
