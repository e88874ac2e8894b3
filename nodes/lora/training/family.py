"""What of a training depends on the family of the model: its parts, what conditions its denoiser, and its sizes.

Another family adds a class with the same members, and `family_of` chooses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from engine.errors import InputError
from nodes.diffusion.precision import precision_kept
from nodes.lora.prediction import (
    Conditioning,
    checkpointing,
    encode_captions,
    encode_unconditional,
    noise_schedule,
    predict,
)

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, DiffusionPipeline, StableDiffusionXLPipeline
    from torch import nn

    from nodes.lora.training.pictures import Framing


class Family(Protocol):
    """A pipeline as trainings see it."""

    denoiser: str
    """The component that denoises, whose layers are trained."""

    @property
    def device(self) -> torch.device: ...

    @property
    def side(self) -> int:
        """The pixels of a side of the pictures that the model was made for."""

    @property
    def multiple(self) -> int:
        """What the pixels of a picture's sides must be multiples of."""

    @property
    def schedule(self) -> DDPMScheduler:
        """The discrete noise schedule; raises InputError if the model can't be trained."""

    def models(self) -> Sequence[nn.Module]:
        """Those that a step of training runs."""

    def encode_picture(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and the standard deviation of the latents of a picture (3, H, W), in the denoiser's units."""

    def encode_captions(self, captions: Sequence[str]) -> Conditioning:
        """What the denoiser is given of captions. Differentiable; an empty caption is none."""

    def predict(
        self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning, framings: Sequence[Framing] | None
    ) -> Tensor:
        """The denoiser's prediction; framings are None where pictures are whole."""

    def checkpointing(self, wanted: bool) -> AbstractContextManager[None]:
        """Gradient checkpointing, if wanted."""


class SDXL:
    """Stable Diffusion XL: a UNet, two text encoders, and the sizes of pictures as conditioning."""

    denoiser = "unet"

    def __init__(self, pipeline: StableDiffusionXLPipeline) -> None:
        self.pipeline = pipeline

    @property
    def device(self) -> torch.device:
        device: torch.device = self.pipeline.unet.device
        return device

    @property
    def side(self) -> int:
        return int(self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor)

    @property
    def multiple(self) -> int:
        # The UNet halves the latents once per downsampling block.
        return int(self.pipeline.vae_scale_factor * 2 ** (len(self.pipeline.unet.config.block_out_channels) - 1))

    @cached_property
    def schedule(self) -> DDPMScheduler:
        return noise_schedule(self.pipeline)

    def models(self) -> Sequence[nn.Module]:
        return [self.pipeline.unet, self.pipeline.text_encoder, self.pipeline.text_encoder_2]

    @torch.no_grad()
    def encode_picture(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        vae = self.pipeline.vae
        with precision_kept(vae):
            found = vae.encode((pixels[None] * 2 - 1).to(device=vae.device, dtype=vae.dtype)).latent_dist
        factor = vae.config.scaling_factor
        return found.mean[0].float() * factor, found.std[0].float() * factor

    def encode_captions(self, captions: Sequence[str]) -> Conditioning:
        rows = [self._row(caption) for caption in captions]
        return Conditioning(*(torch.cat(parts) for parts in zip(*rows, strict=True)))

    def _row(self, caption: str) -> Conditioning:
        # One by one: then no caption depends on which others are encoded, not even by rounding.
        return encode_captions(self.pipeline, [caption]) if caption else encode_unconditional(self.pipeline)

    def predict(
        self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning, framings: Sequence[Framing] | None
    ) -> Tensor:
        if framings is None:
            return predict(self.pipeline, noisy, timesteps, conditioning)
        height, width = (side * self.pipeline.vae_scale_factor for side in noisy.shape[-2:])
        sizes = torch.tensor([[*framing, height, width] for framing in framings])
        return predict(self.pipeline, noisy, timesteps, conditioning, sizes)

    def checkpointing(self, wanted: bool) -> AbstractContextManager[None]:
        return checkpointing(self.pipeline, wanted)


TRAINED = {"StableDiffusionXLPipeline": SDXL}
"""By diffusers' class of the pipeline."""


def family_of(pipeline: DiffusionPipeline) -> Family:
    """The family of a pipeline; raises InputError if LoRAs can't be trained for it."""
    name = type(pipeline).__name__
    if name not in TRAINED:
        raise InputError(
            f"LoRAs can't be trained for a {name}",
            input="model",
            hint="give a Stable Diffusion XL that draws from texts",
        )
    return TRAINED[name](pipeline)
