"""Sampling pictures from an SDXL pipeline (Podell et al. 2023, arXiv 2307.01952)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from engine.values import Image
from nodes.diffusion.adapters import applied
from nodes.diffusion.pixels import check_finite
from nodes.diffusion.precision import precision_kept
from nodes.diffusion.preview import StepCallback

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
    """Draw one picture per seed, with the model's adapters applied.

    Pictures are drawn one after the other, not as a batch: they take the memory of one, and no picture depends on which
    others are drawn, not even through the rounding of batched kernels.

    Raises:
        Cancelled: the run was cancelled; no further step is taken.
        NodeError: the result is not finite.
    """
    pictures: list[Tensor] = []
    with applied(pipeline, model.adapters), precision_kept(pipeline.vae):
        for index, seed in enumerate(seeds):
            (picture,) = pipeline(
                prompt=prompt,
                negative_prompt=negative_prompt or None,  # None: as the model was trained without a prompt
                num_inference_steps=steps,
                guidance_scale=guidance_scale,
                width=width,
                height=height,
                generator=torch.Generator().manual_seed(seed),
                output_type="pt",
                callback_on_step_end=StepCallback(ctx, model, steps, index=index, count=len(seeds)),
            ).images
            pictures.append(picture.float())
    return Image(check_finite(torch.stack(pictures), model.dtype))
