"""Sampling pictures from diffusers' pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from engine.errors import InputError
from engine.values import Image
from nodes.diffusion.adapters import applied
from nodes.diffusion.families import family
from nodes.diffusion.pixels import check_finite
from nodes.diffusion.precision import precision_kept
from nodes.diffusion.preview import StepCallback

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import Tensor

    from engine.node import Context
    from engine.values import ImageModel


def sample(
    ctx: Context,
    pipeline: DiffusionPipeline,
    model: ImageModel,
    *,
    prompt: str,
    negative_prompt: str,
    seeds: Sequence[int],
    steps: int,
    guidance_scale: float,
    width: int | None,
    height: int | None,
) -> Image:
    """Draw one picture per seed, with the model's adapters applied.

    Pictures are drawn one after the other, not as a batch: they take the memory of one, and no picture depends on which
    others are drawn, not even through the rounding of batched kernels.

    Raises:
        Cancelled: the run was cancelled; no further step is taken.
        InputError: the model takes no negative prompt.
        NodeError: the result is not finite.
    """
    row = family(model.family)
    options: dict[str, Any] = {row.guidance_argument: guidance_scale}
    if row.negative_prompt:
        options["negative_prompt"] = negative_prompt or None  # None: as the model was trained without a prompt
    elif negative_prompt:
        raise InputError(f"{row.name} takes no negative prompt", input="negative_prompt", hint="leave it empty")
    pictures: list[Tensor] = []
    with applied(pipeline, model.adapters), precision_kept(pipeline.vae):
        for index, seed in enumerate(seeds):
            (picture,) = pipeline(
                prompt=prompt,
                num_inference_steps=steps,
                width=width,
                height=height,
                generator=torch.Generator().manual_seed(seed),
                output_type="pt",
                callback_on_step_end=StepCallback(ctx, model, steps, index=index, count=len(seeds)),
                **options,
            ).images
            pictures.append(picture.float())
    return Image(check_finite(torch.stack(pictures), model.dtype))
