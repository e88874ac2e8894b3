"""sprite/sdxl: a small Stable Diffusion XL, trained on captions and drawn sprites of the base vocabulary."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTokenizer

from models.sprite import world
from models.sprite.training import encoders
from models.sprite.training.autoencoder import LATENT_CHANNELS, LATENT_SIZE
from models.sprite.training.data import pictures
from models.sprite.training.loop import Recipe, Step, train

VARIETY = 0.3
"""Of place, size and tilt: as people frame what a picture is about, in the middle, and so learnt in hours by a CPU."""
COURSES = (0.0, 0.4)
"""How often the subject is a made-up one, and the style, in each course of training. From eight subjects in five styles
alone a model learns to draw just these, and a LoRA can't teach it a ninth."""
STEPS, BATCH = 4000, 32
"""Steps of each course."""
_UNCONDITIONAL = 0.1


def build_unet() -> UNet2DConditionModel:
    """SDXL's conditioning (text and sizes added to the time embedding) and levels: the finest without attention."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 96, 160),
        layers_per_block=1,
        norm_num_groups=16,
        transformer_layers_per_block=1,
        attention_head_dim=(2, 3, 5),
        cross_attention_dim=64 + 128,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=encoders.EMBEDDING + 6 * 16,
    )


def scheduler() -> EulerDiscreteScheduler:
    """v-prediction from pure noise on: backgrounds fill the picture, so the lowest frequencies must be free."""
    return EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.02,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


class TextConditions:
    """Captions → what SDXL's UNet is conditioned on; an empty caption is the zero embedding, as in the pipeline."""

    def __init__(self, tokenizer: CLIPTokenizer, towers: encoders.Towers) -> None:
        self.tokenizer, self.towers = tokenizer, towers

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> tuple[Tensor, dict[str, Tensor]]:
        ids = encoders.encode(self.tokenizer, captions)
        first = self.towers.first(input_ids=ids, output_hidden_states=True)
        second = self.towers.second(input_ids=ids, output_hidden_states=True)
        told = torch.tensor([bool(caption) for caption in captions]).float()
        words = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1) * told[:, None, None]
        sizes = torch.tensor([world.SIZE, world.SIZE, 0, 0, world.SIZE, world.SIZE]).float().expand(len(captions), 6)
        return words, {"text_embeds": second.text_embeds * told[:, None], "time_ids": sizes}


@torch.no_grad()
def encode_latents(autoencoder: AutoencoderKL, images: Tensor) -> Tensor:
    """Pictures in [0, 1] → scaled latents (N, 12, 16, 16), the posterior's mean."""
    latents: Tensor = autoencoder.encode(images * 2 - 1).latent_dist.mean * autoencoder.config.scaling_factor
    return latents


class Drawn:
    """Drawn base scenes and their latents; `kept` different ones, since drawing and encoding cost half a step."""

    def __init__(self, autoencoder: AutoencoderKL, invented: float, kept: int = 60_000) -> None:
        self.autoencoder, self.invented, self.kept = autoencoder, invented, kept
        self._memory: dict[int, tuple[world.Scene, Tensor]] = {}

    def batch(self, indices: Iterable[int]) -> tuple[list[world.Scene], Tensor]:
        """Scenes and their scaled latents (N, 12, 16, 16)."""
        wanted = [int(i) % self.kept for i in indices]
        new = [i for i in dict.fromkeys(wanted) if i not in self._memory]
        if new:
            scenes = [self._scene(np.random.default_rng((33, i))) for i in new]
            self._memory.update(
                zip(new, zip(scenes, encode_latents(self.autoencoder, pictures(scenes)), strict=True), strict=True)
            )
        found = [self._memory[i] for i in wanted]
        return [scene for scene, _ in found], torch.stack([latents for _, latents in found])

    def _scene(self, rng: np.random.Generator) -> world.Scene:
        return world.random_scene(rng, variety=VARIETY, invented=self.invented)


class NoiseLevels:
    """The scheduler's discrete noise levels, for training by v-prediction.

    Every level above the signal-to-noise ratio `gamma` weighs less, and levels are drawn from a triangle, so that steps
    go to what decides the picture: neither its last details nor what pure noise can't tell.
    """

    def __init__(self, alphas_cumprod: Tensor, gamma: float = 5.0) -> None:
        self.signal, self.noise = alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()
        self.weight = (gamma * (1 - alphas_cumprod) / alphas_cumprod).clamp(max=1)

    def loss(self, unet: UNet2DConditionModel, latents: Tensor, step: Step, conditions: dict[str, object]) -> Tensor:
        """Weighted squared error of v at one random level a picture."""
        shape = (len(latents), 1, 1, 1)
        t = (torch.rand(2, len(latents), generator=step.noise).mean(0) * len(self.signal)).long()
        noise = torch.randn(latents.shape, generator=step.noise)
        signal, sigma = self.signal[t].view(shape), self.noise[t].view(shape)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = unet(signal * latents + sigma * noise, t, **conditions).sample
        error = (predicted.float() - (signal * noise - sigma * latents)).square().mean((1, 2, 3))
        return (error * self.weight[t]).mean()


def train_unet(
    tokenizer: CLIPTokenizer, towers: encoders.Towers, autoencoder: AutoencoderKL, steps: int
) -> UNet2DConditionModel:
    """Train on drawn sprites, in two courses; a tenth of the captions are left out for guidance."""
    torch.manual_seed(0)
    unet, conditions = build_unet(), TextConditions(tokenizer, towers)
    levels = NoiseLevels(scheduler().alphas_cumprod)

    def loss_of(step: Step, drawn: Drawn) -> Tensor:
        scenes, latents = drawn.batch(step.rng.integers(2**31, size=BATCH))
        captions = [world.caption(s, step.rng) if step.rng.random() > _UNCONDITIONAL else "" for s in scenes]
        words, added = conditions(captions)
        return levels.loss(unet, latents, step, {"encoder_hidden_states": words, "added_cond_kwargs": added})

    for course, invented in enumerate(COURSES, 1):
        drawn = Drawn(autoencoder, invented)
        recipe = Recipe(f"sdxl-{course}", steps, 8e-4, warmup=200, ema=0.998)
        unet = train(unet.requires_grad_(True), partial(loss_of, drawn=drawn), recipe)
    return unet


def assemble(
    tokenizer: CLIPTokenizer, towers: encoders.Towers, autoencoder: AutoencoderKL, unet: UNet2DConditionModel
) -> StableDiffusionXLPipeline:
    """The parts as the pipeline that everyone knows."""
    return StableDiffusionXLPipeline(
        vae=autoencoder,
        text_encoder=towers.first,
        text_encoder_2=towers.second,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=scheduler(),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def save(pipeline: StableDiffusionXLPipeline, folder: Path) -> None:
    """Write the pipeline in half precision."""
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
