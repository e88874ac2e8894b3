"""Adding noise to latents and predicting it, as an SDXL pipeline's own model was trained to do.

Used where gradients are needed: to train adapters and to merge them.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from engine.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from diffusers import DDPMScheduler, StableDiffusionXLPipeline


class Conditioning(NamedTuple):
    """What the UNet is given of n captions: token embeddings (n, tokens, width) and pooled ones (n, width_2)."""

    embeds: Tensor
    pooled: Tensor

    def take(self, rows: Tensor) -> Conditioning:
        return Conditioning(self.embeds[rows], self.pooled[rows])

    def repeated(self, times: int) -> Conditioning:
        """A single caption's conditioning, repeated for a batch."""
        return Conditioning(self.embeds.expand(times, -1, -1), self.pooled.expand(times, -1))


def encode_captions(pipeline: StableDiffusionXLPipeline, captions: Sequence[str]) -> Conditioning:
    """Encode captions with both text encoders. Differentiable."""
    embeds, _, pooled, _ = pipeline.encode_prompt(list(captions), do_classifier_free_guidance=False)
    return Conditioning(embeds, pooled)


def encode_unconditional(pipeline: StableDiffusionXLPipeline) -> Conditioning:
    """The conditioning without a caption (n = 1): zeros or the empty caption, as the pipeline is configured."""
    empty = encode_captions(pipeline, [""])
    if pipeline.config.force_zeros_for_empty_prompt:
        return Conditioning(torch.zeros_like(empty.embeds), torch.zeros_like(empty.pooled))
    return empty


def noise_schedule(pipeline: StableDiffusionXLPipeline) -> DDPMScheduler:
    """The discrete noise schedule behind the pipeline's sampler.

    Raises InputError unless the model can be trained: it must predict noise (epsilon) or velocity (v_prediction), and
    not be in float16.
    """
    from diffusers import DDPMScheduler

    if pipeline.unet.dtype == torch.float16:
        hint = "load the model as bfloat16 or float32"
        raise InputError("gradients vanish in a float16 model", input="model", hint=hint)

    settings = pipeline.scheduler.config
    prediction = settings.get("prediction_type")
    # EDM's schedulers (Karras et al. 2022) share the names of predictions, but scale inputs and outputs.
    if prediction not in ("epsilon", "v_prediction") or "sigma_data" in settings:
        raise InputError(
            f"the model's scheduler is {type(pipeline.scheduler).__name__} with prediction type {prediction!r}",
            input="model",
            hint="use a model that predicts epsilon or v_prediction at discrete noise levels",
        )
    return DDPMScheduler.from_config(settings)


def predict(
    pipeline: StableDiffusionXLPipeline,
    noisy: Tensor,
    timesteps: Tensor,
    conditioning: Conditioning,
    sizes: Tensor | None = None,
) -> Tensor:
    """The UNet's prediction for noisy latents (n, C, h, w) at integer timesteps (n,), in float32 at least.

    `sizes` (n, 6) are the size conditioning: a picture's own height and width, what was cropped at the top and left,
    and its present height and width. By default the picture has its original size and is uncropped.
    """
    dtype = pipeline.unet.dtype
    if sizes is None:
        height, width = (side * pipeline.vae_scale_factor for side in noisy.shape[-2:])
        sizes = torch.tensor([[height, width, 0, 0, height, width]])
    time_ids = sizes.to(dtype=dtype, device=noisy.device)
    prediction: Tensor = pipeline.unet(
        noisy.to(dtype),
        timesteps,
        encoder_hidden_states=conditioning.embeds.to(dtype),
        added_cond_kwargs={
            "text_embeds": conditioning.pooled.to(dtype),
            "time_ids": time_ids.expand(len(noisy), -1),
        },
    ).sample
    return prediction.to(torch.promote_types(dtype, torch.float32))


@contextmanager
def checkpointing(pipeline: StableDiffusionXLPipeline, wanted: bool) -> Iterator[None]:
    """Gradient checkpointing of the UNet, if wanted; off again afterwards if it was off before."""
    unet = pipeline.unet
    switched = wanted and not unet.is_gradient_checkpointing
    if switched:
        unet.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if switched:
            unet.disable_gradient_checkpointing()
