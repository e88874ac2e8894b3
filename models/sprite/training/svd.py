"""sprite/svd: a small Stable Video Diffusion, trained to set drawn sprites moving as the motion bucket asks."""

from __future__ import annotations

from collections.abc import Sequence
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
from torch import Tensor

from models.sprite import world
from models.sprite.training import encoders
from models.sprite.training.autoencoder import LATENT_CHANNELS, LATENT_SIZE
from models.sprite.training.data import tensor
from models.sprite.training.loop import Recipe, Step, train
from models.sprite.training.sdxl import encode_latents

FRAMES = 14
FPS = (4, 20)
"""Frames per second that the model is shown, from and to."""
BATCH = 4
_UNCONDITIONAL = 0.1


def build_unet() -> UNetSpatioTemporalConditionModel:
    """SVD's factorised UNet, attention at 4×4 only; its input is the noisy latents beside the key frame's."""
    return UNetSpatioTemporalConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=2 * LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlockSpatioTemporal", "DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"),
        up_block_types=("CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
        block_out_channels=(64, 64, 96),
        layers_per_block=1,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=3 * 32,
        cross_attention_dim=encoders.EMBEDDING,
        num_attention_heads=(2, 2, 3),
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
    """One stretch of training. `invented` is how often subject and style are made-up ones, as in `sdxl.COURSES`."""

    steps: int
    invented: float
    lengths: tuple[int, ...] = (FRAMES,)
    """Frames of the clips, in turns from step to step."""
    rate: float = 8e-4


COURSES = (Course(4000, 0.0), Course(4000, 0.4), Course(1200, 0.4, (FRAMES, FRAMES, FRAMES, 25), 5e-4))
"""At last on 25 frames too, as SVD-XT was made from SVD."""


@dataclass(frozen=True)
class Clip:
    """A drawn clip as training sees it."""

    latents: Tensor  # (frames, 12, 16, 16), scaled
    key_frame: Tensor  # (3, 64, 64) in [0, 1]
    embedding: Tensor  # (1, 128)
    fps: int
    bucket: float


class Clips:
    """Endless drawn clips; the first `kept` are kept as latents, since drawing and encoding cost as much as a step."""

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        towers: encoders.Towers,
        invented: float,
        frames: int,
        seed: int,
        kept: int = 2400,
    ) -> None:
        self.autoencoder, self.towers, self.kept = autoencoder, towers, kept
        self.invented, self.frames, self.seed = invented, frames, seed
        self._memory: dict[int, Clip] = {}

    def __getitem__(self, index: int) -> Clip:
        index %= self.kept
        if index not in self._memory:
            self._memory[index] = self._film(index)
        return self._memory[index]

    @torch.no_grad()
    def _film(self, index: int) -> Clip:
        rng = np.random.default_rng((77, self.seed, index))
        fps, bucket = int(rng.integers(FPS[0], FPS[1] + 1)), float(rng.uniform(0, 255))
        scene, motion = world.random_scene(rng, invented=self.invented), world.random_motion(rng, bucket)
        frames = tensor(world.film(scene, motion, self.frames, fps))
        embedding = self.towers.vision(pixel_values=encoders.normalised(frames[:1])).image_embeds
        return Clip(encode_latents(self.autoencoder, frames), frames[0], embedding, fps, bucket)


def _loss(unet: UNetSpatioTemporalConditionModel, autoencoder: AutoencoderKL, clips: list[Clip], step: Step) -> Tensor:
    """Squared error of v at log-normal noise levels (Blattmann et al., 2023, appendix D)."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=step.noise)

    latents = torch.stack([c.latents for c in clips])
    count = len(clips)
    augmentation = (normal(count, 1, 1, 1) * 0.5 - 3).exp()
    key_frames = torch.stack([c.key_frame for c in clips]) * 2 - 1
    with torch.no_grad():
        key = autoencoder.encode(key_frames + augmentation * normal(*key_frames.shape)).latent_dist.mode()
    told = (torch.rand(count, generator=step.noise) >= _UNCONDITIONAL).float()
    key = (key * told.view(-1, 1, 1, 1))[:, None].expand_as(latents)
    seen = torch.stack([c.embedding for c in clips]) * told.view(-1, 1, 1)
    ids = torch.tensor(
        [[c.fps - 1.0, c.bucket, a] for c, a in zip(clips, augmentation.flatten().tolist(), strict=True)]
    )

    sigma = (normal(count) * 1.6 + 1.0).exp()
    signal = (1 / (sigma**2 + 1).sqrt()).view(-1, 1, 1, 1, 1)
    spread = (sigma / (sigma**2 + 1).sqrt()).view(-1, 1, 1, 1, 1)
    noise = normal(*latents.shape)
    noisy = torch.cat([signal * latents + spread * noise, key], 2)
    with torch.autocast("cpu", torch.bfloat16):
        predicted = unet(noisy, 0.25 * sigma.log(), encoder_hidden_states=seen, added_time_ids=ids).sample
    error = (predicted.float() - (signal * noise - spread * latents)).square().mean(2)
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
    """Train on drawn clips of every motion, motion bucket and frame rate."""
    torch.manual_seed(0)
    unet = build_unet()

    def loss_of(step: Step, pools: Sequence[Clips]) -> Tensor:
        clips = pools[step.index % len(pools)]
        count = BATCH * FRAMES // clips.frames  # so that a step costs the same, however long the clips
        return _loss(unet, autoencoder, [clips[int(i)] for i in step.rng.integers(2**31, size=count)], step)

    for number, course in enumerate(courses, 1):
        films = {frames: Clips(autoencoder, towers, course.invented, frames, number) for frames in course.lengths}
        pools = [films[frames] for frames in course.lengths]
        recipe = Recipe(f"svd-{number}", course.steps, course.rate, warmup=200, ema=0.998)
        unet = train(unet.requires_grad_(True), partial(loss_of, pools=pools), recipe)
    return unet


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
