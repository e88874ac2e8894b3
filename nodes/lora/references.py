"""The references of a merge: pictures drawn with each LoRA from its prompt, and what its own model predicts for them.

Their noisy latents are the models' inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from nodes.diffusion.adapters import Factors, applied, factors_of, patched
from nodes.lora.prediction import Conditioning, encode_captions, predict

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, StableDiffusionXLPipeline

    from engine.values import LoRA

AHEAD = 4
"""Draws whose targets are predicted as one batch: a small model takes hardly longer for several."""


class Draw(NamedTuple):
    """Noisy latents (n, C, h, w) of one side at timesteps (n,), and what its own LoRA's model predicts from them."""

    noisy: Tensor
    timesteps: Tensor
    target: Tensor


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two LoRAs, as the loss sees it."""

    factors: Mapping[str, Factors]
    prompt: str
    latents: Tensor
    """Clean latents (n, C, h, w) of pictures drawn with it."""
    conditioning: Conditioning
    """Its prompt (one row), encoded with it applied."""


def draw_side(
    pipeline: StableDiffusionXLPipeline,
    lora: LoRA,
    prompt: str,
    *,
    pictures: int,
    sampling_steps: int,
    guidance_scale: float,
    generator: torch.Generator,
    after_step: Callable[[], None],
) -> Side:
    """Draw a LoRA's pictures, as latents, and encode its prompt; `after_step` is called after each sampling step.

    Raises InputError when the LoRA does not fit the model.
    """

    def on_step_end(*step: object) -> dict[str, Tensor]:
        after_step()
        return {}

    with torch.no_grad(), applied(pipeline, [lora]):
        latents = pipeline(
            prompt,
            num_images_per_prompt=pictures,
            num_inference_steps=sampling_steps,
            guidance_scale=guidance_scale,
            generator=generator,
            output_type="latent",
            callback_on_step_end=on_step_end,
        ).images
        conditioning = encode_captions(pipeline, [prompt])
    like = torch.zeros((), device=pipeline.unet.device)
    factors = {name: layer.to(like) for name, layer in factors_of(lora).items()}
    return Side(factors, prompt, latents.float(), conditioning)


class Draws:
    """Draws for both sides, with fresh noise each time."""

    def __init__(
        self,
        pipeline: StableDiffusionXLPipeline,
        schedule: DDPMScheduler,
        sides: Sequence[Side],
        generator: torch.Generator,
    ) -> None:
        self.pipeline = pipeline
        self.schedule = schedule
        self.sides = sides
        self.generator = generator

    def random(self, times: int, count: int) -> Iterator[list[Draw]]:
        """Yield, `times` over, `count` latents of each side at uniformly drawn timesteps."""
        steps: int = self.schedule.config.num_train_timesteps
        for first in range(0, times, AHEAD):
            now = min(AHEAD, times - first)
            some = [
                self._draw(side, torch.randint(steps, (now * count,), generator=self.generator)) for side in self.sides
            ]
            for i in range(now):
                rows = slice(i * count, (i + 1) * count)
                yield [Draw(draw.noisy[rows], draw.timesteps[rows], draw.target[rows]) for draw in some]

    def spread(self, count: int) -> list[Draw]:
        """`count` latents of each side, at evenly spread timesteps."""
        steps: int = self.schedule.config.num_train_timesteps
        middles = ((torch.arange(count) + 0.5) * steps / count).long()
        return [self._draw(side, middles) for side in self.sides]

    def _draw(self, side: Side, timesteps: Tensor) -> Draw:
        rows = torch.randint(len(side.latents), timesteps.shape, generator=self.generator)
        clean = side.latents[rows.to(side.latents.device)]
        noise = torch.randn(clean.shape, generator=self.generator).to(clean)
        timesteps = timesteps.to(clean.device)
        noisy = self.schedule.add_noise(clean, noise, timesteps)
        with torch.no_grad(), patched(self.pipeline, side.factors):
            target = predict(self.pipeline, noisy, timesteps, side.conditioning.repeated(len(noisy)))
        return Draw(noisy, timesteps, target)
