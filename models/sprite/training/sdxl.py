"""sprite/sdxl: a small Stable Diffusion XL, trained on captions and drawn sprites of the base vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTokenizer

from models.sprite import world
from models.sprite.training import encoders
from models.sprite.training.autoencoder import LATENT_CHANNELS, LATENT_SIDE
from models.sprite.training.data import tensor
from models.sprite.training.graphs import Recorded
from models.sprite.training.loop import Recipe, Step, run_name, train
from models.sprite.training.stock import Stock

VARIETY = 0.3
"""Variety of place, size and tilt: as people frame a subject, near the middle, and so learnt by a CPU in hours."""


@dataclass(frozen=True)
class Course:
    """One course of training. `invented` is how often the subject is made up, and likewise the style.

    From only eight subjects in five styles a model learns to draw just these, and a LoRA can't teach it a ninth.
    """

    steps: int
    batch: int
    invented: float
    drawn: int
    """Different pictures; drawing and encoding one takes a CPU half as long as learning from it."""


COURSES = (Course(3000, 32, 0.0, 20_000), Course(5000, 32, 0.5, 30_000))
"""For a CPU."""
COURSES_OF_A_GPU = (Course(1500, 128, 0.0, 30_000), Course(11_500, 128, 0.5, 100_000))
"""For a GPU: the shipped model was trained by these."""
_CAPTIONS = 4
"""Captions of each picture."""
_UNCONDITIONAL = 0.1


def build_unet() -> UNet2DConditionModel:
    """SDXL's conditioning (text and sizes added to the time embedding) and levels: the finest without attention."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
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
    """v-prediction starting from pure noise: backgrounds fill the picture, so the lowest frequencies must be free."""
    return EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.02,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


class TextConditions:
    """Token ids (N, 32) → the conditioning of SDXL's UNet; zeros where `captioned` is 0, as in the pipeline."""

    def __init__(self, towers: encoders.Towers) -> None:
        self.towers = towers

    @torch.no_grad()
    def __call__(self, ids: Tensor, captioned: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first = self.towers.first(input_ids=ids, output_hidden_states=True)
        second = self.towers.second(input_ids=ids, output_hidden_states=True)
        words = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1) * captioned[:, None, None]
        sizes = torch.tensor([world.SIZE, world.SIZE, 0, 0, world.SIZE, world.SIZE], device=ids.device).float()
        return words, second.text_embeds * captioned[:, None], sizes.expand(len(ids), 6)


@torch.no_grad()
def encode_latents(autoencoder: AutoencoderKL, images: Tensor) -> Tensor:
    """Pictures in [0, 1] → scaled latents (N, 12, 16, 16), the posterior's mean."""
    latents: Tensor = autoencoder.encode(images * 2 - 1).latent_dist.mean * autoencoder.config.scaling_factor
    return latents


Described = tuple[NDArray[np.uint8], list[str]]
"""A picture and captions of it."""


def draw_described(index: int, course: Course) -> Described:
    """One picture of a course, with its captions."""
    rng = np.random.default_rng((33, index))
    scene = world.random_scene(rng, variety=VARIETY, invented=course.invented)
    return world.draw(scene), [world.caption(scene, rng) for _ in range(_CAPTIONS)]


class NoiseLevels:
    """The scheduler's discrete noise levels, for training by v-prediction.

    Every level above the signal-to-noise ratio `gamma` weighs less, and levels are drawn from a triangular
    distribution, so that steps go to what decides the picture: neither to its last details nor to near-pure noise.
    """

    def __init__(self, alphas_cumprod: Tensor, gamma: float = 5.0) -> None:
        self.signal, self.noise = alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()
        self.weight = (gamma * (1 - alphas_cumprod) / alphas_cumprod).clamp(max=1)

    def loss(self, unet: Recorded, latents: Tensor, noise: torch.Generator, conditions: Sequence[Tensor]) -> Tensor:
        """Weighted squared error of v at one random level per picture."""
        shape, device = (len(latents), 1, 1, 1), latents.device
        t = (torch.rand(2, len(latents), generator=noise, device=device).mean(0) * len(self.signal)).long()
        drawn = torch.randn(latents.shape, generator=noise, device=device)
        signal, sigma = self.signal[t].view(shape), self.noise[t].view(shape)
        predicted = unet(signal * latents + sigma * drawn, t, *conditions)
        error = (predicted - (signal * drawn - sigma * latents)).square().mean((1, 2, 3))
        return (error * self.weight[t]).mean()


def train_unet(
    tokenizer: CLIPTokenizer,
    towers: encoders.Towers,
    autoencoder: AutoencoderKL,
    courses: Sequence[Course],
) -> UNet2DConditionModel:
    """Train on drawn sprites, on the autoencoder's device; a tenth of the captions are left out for guidance."""
    torch.manual_seed(0)
    device = autoencoder.device
    unet, conditions = build_unet().to(device), TextConditions(towers)
    levels = NoiseLevels(scheduler().alphas_cumprod.to(device))

    def prepare(drawn: Sequence[Described]) -> tuple[Tensor, ...]:
        ids = encoders.encode(tokenizer, [caption for _, captions in drawn for caption in captions])
        images = tensor(picture for picture, _ in drawn).to(device)
        return encode_latents(autoencoder, images), ids.view(len(drawn), _CAPTIONS, -1).to(device)

    def loss_of(step: Step, batch: int, stock: Stock[Described], recorded: Recorded) -> Tensor:
        latents, captions = stock.batch(step.index, step.rng, batch)
        captioned = torch.rand(batch, generator=step.noise, device=device) >= _UNCONDITIONAL
        ids = captions[:, step.index % _CAPTIONS]
        return levels.loss(recorded, latents, step.noise, conditions(ids, captioned.float()))

    for number, course in enumerate(courses, 1):
        stock = Stock(partial(draw_described, course=course), prepare, course.drawn, course.steps, device)
        recorded = Recorded(unet.requires_grad_(True), _velocity(unet))
        recipe = Recipe(run_name(f"sdxl-{number}", device), course.steps, 8e-4, warmup=200)
        unet = train(unet, partial(loss_of, batch=course.batch, stock=stock, recorded=recorded), recipe)
    return unet


def _velocity(unet: UNet2DConditionModel) -> Callable[..., Tensor]:
    def forward(noisy: Tensor, t: Tensor, words: Tensor, pooled: Tensor, sizes: Tensor) -> Tensor:
        added = {"text_embeds": pooled, "time_ids": sizes}
        velocity: Tensor = unet(noisy, t, encoder_hidden_states=words, added_cond_kwargs=added).sample
        return velocity

    return forward


def assemble(
    tokenizer: CLIPTokenizer, towers: encoders.Towers, autoencoder: AutoencoderKL, unet: UNet2DConditionModel
) -> StableDiffusionXLPipeline:
    """The parts as diffusers' own pipeline."""
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
