"""sprite/svd: a small Stable Video Diffusion, trained to set drawn sprites moving as the motion bucket asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from numpy.typing import NDArray
from torch import Tensor

from models.sprite import world
from models.sprite.training import encoders
from models.sprite.training.autoencoder import VIDEOS
from models.sprite.training.data import tensor
from models.sprite.training.graphs import Recorded
from models.sprite.training.loop import Recipe, Step, train
from models.sprite.training.sdxl import encode_latents
from models.sprite.training.stock import Stock

FRAMES = 14
FPS = (4, 20)
"""Frames per second that the model is shown, from and to."""
BATCH = 4
_UNCONDITIONAL = 0.1


def build_unet() -> UNetSpatioTemporalConditionModel:
    """SVD's factorised UNet, attention at 4×4 only; its input is the noisy latents beside the key frame's."""
    return UNetSpatioTemporalConditionModel(
        sample_size=VIDEOS.size,
        in_channels=2 * VIDEOS.latents,
        out_channels=VIDEOS.latents,
        down_block_types=("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"),
        up_block_types=("CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
        block_out_channels=(64, 96),
        layers_per_block=1,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=3 * 32,
        cross_attention_dim=encoders.EMBEDDING,
        num_attention_heads=(2, 3),
        num_frames=FRAMES,
    )


def scheduler() -> EulerDiscreteScheduler:
    """As released with SVD: v-prediction, Karras noise levels from 0.002 to 700, continuous timesteps."""
    return EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        timestep_type="continuous",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
        steps_offset=1,
        timestep_spacing="leading",
    )


@dataclass(frozen=True)
class Course:
    """One stretch of training. `invented` is how often subject and style are made-up ones, as in `sdxl.Course`."""

    steps: int
    invented: float
    drawn: int
    """Different clips of each length; to draw and encode one costs as much as learning from it does."""
    lengths: tuple[int, ...] = (FRAMES,)
    """Frames of the clips, in turns from step to step."""
    rate: float = 8e-4


COURSES = (
    Course(5000, 0.0, 2400),
    Course(5000, 0.4, 2400),
    Course(4000, 0.4, 4000, (FRAMES, FRAMES, FRAMES, 25), 5e-4),
)
"""At last on 25 frames too, as SVD-XT was made from SVD."""

Drawn = tuple[NDArray[np.uint8], int, float]
"""A clip's frames, frames per second and motion bucket."""


def draw_clip(index: int, number: int, course: Course, frames: int) -> Drawn:
    """One clip of a course: a scene that moves, at a frame rate and motion bucket by chance."""
    rng = np.random.default_rng((77, number, index))
    fps, bucket = int(rng.integers(FPS[0], FPS[1] + 1)), float(rng.uniform(0, 255))
    scene, motion = world.random_scene(rng, invented=course.invented), world.random_motion(rng, bucket)
    return world.film(scene, motion, frames, fps), fps, bucket


class Films:
    """Makes of drawn clips what training needs, where the models are."""

    def __init__(self, autoencoder: AutoencoderKL, towers: encoders.Towers) -> None:
        self.autoencoder, self.towers = autoencoder, towers

    @torch.no_grad()
    def __call__(self, drawn: Sequence[Drawn]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latents (N, frames, 16, 8, 8), key frames in [0, 1], their embeddings (N, 1, 128), rates and buckets."""
        device = self.autoencoder.device
        films = torch.stack([tensor(frames) for frames, _, _ in drawn]).to(device)
        latents = encode_latents(self.autoencoder, films.flatten(0, 1))
        latents = latents.view(*films.shape[:2], *latents.shape[1:])
        key_frames = films[:, 0]
        seen = self.towers.vision(pixel_values=encoders.normalised(key_frames)).image_embeds[:, None]
        told = torch.tensor([[fps - 1.0, bucket] for _, fps, bucket in drawn], device=device)
        return latents, key_frames, seen, told


def _loss(unet: Recorded, autoencoder: AutoencoderKL, clips: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """Squared error of v at log-normal noise levels (Blattmann et al., 2023, appendix D)."""
    latents, key_frames, seen, told = clips
    count, device = len(latents), latents.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    augmentation = (normal(count, 1, 1, 1) * 0.5 - 3).exp()
    pixels = key_frames * 2 - 1
    with torch.no_grad():
        key = autoencoder.encode(pixels + augmentation * normal(*pixels.shape)).latent_dist.mode()
    conditioned = (torch.rand(count, generator=generator, device=device) >= _UNCONDITIONAL).float()
    key = (key * conditioned.view(-1, 1, 1, 1))[:, None].expand_as(latents)
    ids = torch.cat([told, augmentation.view(-1, 1)], 1)

    sigma = (normal(count) * 1.6 + 1.0).exp()
    signal = (1 / (sigma**2 + 1).sqrt()).view(-1, 1, 1, 1, 1)
    spread = (sigma / (sigma**2 + 1).sqrt()).view(-1, 1, 1, 1, 1)
    noise = normal(*latents.shape)
    noisy = torch.cat([signal * latents + spread * noise, key], 2)
    predicted = unet(noisy, 0.25 * sigma.log(), seen * conditioned.view(-1, 1, 1), ids)
    error = (predicted - (signal * noise - spread * latents)).square().mean(2)
    return (error * _attention_to_motion(latents)).mean()


def _attention_to_motion(latents: Tensor) -> Tensor:
    """Weights (clips, frames, height, width) of mean 1: half is spread evenly, half goes to what has changed since the
    first frame. Most of a picture stands still, and what moves would else count for little.
    """
    change = (latents - latents[:, :1]).abs().mean(2) + 1e-3
    return 0.5 + 0.5 * change / change.mean((1, 2, 3), keepdim=True)


def train_unet(
    towers: encoders.Towers, autoencoder: AutoencoderKL, courses: Sequence[Course] = COURSES
) -> UNetSpatioTemporalConditionModel:
    """Train on drawn clips of every motion, motion bucket and frame rate, where autoencoder and towers are."""
    torch.manual_seed(0)
    device = autoencoder.device
    unet, films = build_unet().to(device), Films(autoencoder, towers)

    def loss_of(step: Step, course: Course, stocks: Mapping[int, Stock[Drawn]], recorded: Recorded) -> Tensor:
        frames = course.lengths[step.index % len(course.lengths)]
        count = BATCH * FRAMES // frames  # so that a step costs the same, however long the clips
        return _loss(recorded, autoencoder, stocks[frames].batch(step.index, step.rng, count), step.noise)

    for number, course in enumerate(courses, 1):
        stocks = {
            frames: Stock(
                partial(draw_clip, number=number, course=course, frames=frames),
                films,
                course.drawn,
                course.steps,
                device,
            )
            for frames in set(course.lengths)
        }
        recorded = Recorded(unet.requires_grad_(True), _velocity(unet))
        recipe = Recipe(f"svd-{number}", course.steps, course.rate, warmup=200, ema=0.998)
        unet = train(unet, partial(loss_of, course=course, stocks=stocks, recorded=recorded), recipe)
    return unet


def _velocity(unet: UNetSpatioTemporalConditionModel) -> Callable[..., Tensor]:
    def forward(noisy: Tensor, t: Tensor, seen: Tensor, ids: Tensor) -> Tensor:
        velocity: Tensor = unet(noisy, t, encoder_hidden_states=seen, added_time_ids=ids).sample
        return velocity

    return forward


def assemble(
    towers: encoders.Towers, autoencoder: AutoencoderKL, unet: UNetSpatioTemporalConditionModel
) -> StableVideoDiffusionPipeline:
    """The parts as the pipeline that everyone knows."""
    return StableVideoDiffusionPipeline(
        vae=autoencoder,
        image_encoder=towers.vision,
        unet=unet,
        scheduler=scheduler(),
        feature_extractor=encoders.image_processor(),
    )


def save(pipeline: StableVideoDiffusionPipeline, folder: Path) -> None:
    """Write the pipeline in half precision."""
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
