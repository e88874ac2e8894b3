"""Sampling videos from the pipelines of all families but Stable Video Diffusion.

Loop and decoding are diffusers' own, so results are its results for the same seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.errors import InputError
from engine.values import Video
from nodes.diffusion.adapters import applied
from nodes.diffusion.cancelling import cancellable
from nodes.diffusion.dtypes import chosen_dtype
from nodes.diffusion.families import Clips, Family, Layout, family, own_figures
from nodes.diffusion.latents import cell_pixels
from nodes.diffusion.noise import HostNoise
from nodes.diffusion.pipelines import pipeline_for
from nodes.diffusion.pixels import check_finite, to_pillow
from nodes.diffusion.precision import precision_kept
from nodes.diffusion.preview import StepCallback
from nodes.diffusion.sizes import check_size, chosen_size

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from engine.node import Context
    from engine.values import VideoModel


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is drawn and how; what is None is the model's own."""

    prompt: str
    negative_prompt: str = ""
    frames: int | None = None
    width: int | None = None
    height: int | None = None
    fps: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int


def sample(ctx: Context, model: VideoModel, picture: Tensor | None, settings: Settings) -> Video:
    """Draw a video from a prompt, and from a picture (3, H, W) in [0, 1] that it continues; adapters are applied.

    Raises:
        Cancelled: the run was cancelled; no further block of any of the model's parts is computed.
        InputError: the model can't do what was asked for, or an adapter doesn't fit it.
        MissingError: a file of the model's is missing or can't be read.
        NodeError: the model has been replaced since it was chosen, or the result is not finite.
    """
    row = family(model.family)
    assert row.clips is not None, "its sampler is another"
    arguments = _guidance(row, settings) | dict(row.call)
    frames = _frames(row, row.clips, settings.frames)
    check_size(settings.width or row.unit, settings.height or row.unit, row.unit)
    pipeline = pipeline_for(ctx, model, "text to video" if picture is None else "image to video")
    if "tokenizer" in pipeline.components:  # a pipeline may set the side that it pads, for all who share it
        pipeline.tokenizer = copy(pipeline.tokenizer)
    most = getattr(pipeline, row.denoiser).config.get("motion_max_seq_length", frames)
    if frames > most:
        message = f"the motion adapter draws {most} frames at most, not {frames}"
        raise InputError(message, input="frames", hint=f"give {most} or fewer")
    width, height = _size(row, row.clips, pipeline, picture, settings)
    steps, fps = settings.steps or row.steps, settings.fps or row.clips.fps
    own = own_figures(
        row,
        steps=None if settings.steps else steps,
        guidance=None if settings.guidance_scale else row.guidance,
    )
    if own:
        ctx.report(own)
    if row.clips.fps_argument:
        arguments[row.clips.fps_argument] = fps
    if picture is not None:
        arguments["image"] = to_pillow(picture)
    # Previews show the first frame that is drawn: the latents of the very first are the picture's, where there is one.
    cell, index = cell_pixels(pipeline.vae), row.clips.padding + (0 if picture is None else 1)
    shown = _frame(row.clips.latents, index, width // cell, height // cell)
    with applied(pipeline, model.adapters), cancellable(ctx, pipeline), precision_kept(pipeline.vae), HostNoise():
        made = pipeline(
            prompt=settings.prompt,
            num_frames=frames,
            width=width,
            height=height,
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(settings.seed),
            output_type="pt",
            callback_on_step_end=StepCallback(ctx, model, steps, shown=shown),
            **arguments,
        ).frames[0]
    return Video(check_finite(made.float().cpu(), chosen_dtype(model, ctx.device)), float(fps))


def _guidance(row: Family, settings: Settings) -> dict[str, Any]:
    """The arguments that say how prompts count; raises InputError for a negative one that the model can't take."""
    arguments: dict[str, Any] = {row.guidance_argument: settings.guidance_scale or row.guidance}
    if row.negative_prompt:
        arguments["negative_prompt"] = settings.negative_prompt or None
    elif settings.negative_prompt:
        raise InputError(f"{row.name} takes no negative prompt", input="negative_prompt", hint="leave it empty")
    return arguments


def _frames(row: Family, clips: Clips, asked: int | None) -> int:
    """How many frames are drawn; raises InputError, with the nearest numbers, for one that the model can't draw."""
    count, spacing = asked or clips.frames, clips.spacing
    if count == 1:
        hint = f"give {spacing + 1} or more, or 0 for the model's own number"
        raise InputError("a video needs more than one frame", input="frames", hint=hint)
    if below := (count - 1) % spacing:
        near = [number for number in (count - below, count - below + spacing) if number > 1]
        raise InputError(
            f"{row.name} draws one frame more than a multiple of {spacing}, not {count}",
            input="frames",
            hint=f"give {' or '.join(map(str, near))}",
        )
    return count


def _size(
    row: Family, clips: Clips, pipeline: DiffusionPipeline, picture: Tensor | None, settings: Settings
) -> tuple[int, int]:
    """Width and height of the video; raises InputError if the model can't draw what was asked for."""
    config = getattr(pipeline, row.denoiser).config
    own = clips.size or _configured_size(config, cell_pixels(pipeline.vae))
    if config.get("use_learned_positional_embeddings"):  # they are of one size
        if (settings.width or own[0], settings.height or own[1]) != own:
            raise InputError(
                f"the model draws videos of {own[0]} × {own[1]} pixels only",
                input="width",
                hint="leave width and height 0: the picture is scaled to that",
            )
        return own
    shape = None if picture is None else (picture.shape[2], picture.shape[1])
    width, height = chosen_size(settings.width, settings.height, own, row.unit, shape)
    check_size(width, height, row.unit)
    return width, height


def _configured_size(config: Mapping[str, Any], cell: int) -> tuple[int, int]:
    """Width and height in pixels, for which a denoiser's configuration says how many cells of `cell` pixels."""
    side = config.get("sample_size")
    return config.get("sample_width", side) * cell, config.get("sample_height", side) * cell


def _frame(layout: Layout, index: int, width: int, height: int) -> Callable[[Tensor], Tensor]:
    """Takes the latents (1, C, h, w) at an index of time out of those of a video, of `width` by `height` cells."""

    def frame(latents: Tensor) -> Tensor:
        match layout:
            case "channels first":
                return latents[:1, :, index]
            case "frames first":
                return latents[:1, index]
            case "packed":
                return latents[:1].view(1, -1, height, width, latents.shape[-1])[:, index].movedim(-1, 1)

    return frame
