"""Sampling pictures from an SDXL pipeline (Podell et al. 2023, arXiv 2307.01952)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from engine.values import Image
from nodes.diffusion.adapters import applied
from nodes.diffusion.pixels import finite
from nodes.diffusion.preview import Steps

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline
    from torch import Tensor

    from engine.node import Context
    from engine.values import ImageModel


def sample(
    ctx: Context,
    pipeline: StableDiffusionXLPipeline,
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
    """Draw a picture per seed, with the model's adapters applied meanwhile.

    Pictures are drawn one after the other, not as a batch: memory stays that of one, and no picture depends on which
    others were asked for, not even by the rounding of batched kernels.

    Raises:
        Cancelled: the run was cancelled; no further step is taken.
        NodeError: the result is not finite.
    """
    pictures: list[Tensor] = []
    with applied(pipeline, model.adapters):
        for index, seed in enumerate(seeds):
            (picture,) = pipeline(
                prompt=prompt,
                negative_prompt=negative_prompt or None,  # as the model was trained to be told nothing
                num_inference_steps=steps,
                guidance_scale=guidance_scale,
                width=width,
                height=height,
                generator=torch.Generator().manual_seed(seed),
                output_type="pt",
                callback_on_step_end=Steps(ctx, model, steps, index=index, count=len(seeds)),
            ).images
            pictures.append(picture.float())
    return Image(finite(torch.stack(pictures), model.dtype))
