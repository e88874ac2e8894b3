"""sprite/svd: a small Stable Video Diffusion, trained to animate drawn sprites as fast as the motion bucket asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from torch import Tensor, nn

from models.sprite import world
from models.sprite.training import encoders
from models.sprite.training.autoencoder import LATENT_CHANNELS, LATENT_SIDE
from models.sprite.training.graphs import Recorded
from models.sprite.training.loop import Recipe, Step, run_name, train
from models.sprite.training.sdxl import encode_latents
from models.sprite.training.stock import Stock

FRAMES = 14
_UNCONDITIONAL = 0.1
_VARIETY = 0.6
"""Variety of place, size and tilt: more than key frames have, as moving things leave the middle."""
_BLURRED = 0.3
"""How often a clip is out of focus, as generated key frames often are."""


def build_unet(*, finer: bool = False) -> UNetSpatioTemporalConditionModel:
    """SVD's factorised UNet; its input is the noisy latents together with the key frame's.

    It has attention at 4×4, and if `finer` at 8×8 too, on the way down.
    """
    middle = "CrossAttnDownBlockSpatioTemporal" if finer else "DownBlockSpatioTemporal"
    return UNetSpatioTemporalConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=2 * LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlockSpatioTemporal", middle, "CrossAttnDownBlockSpatioTemporal"),
        up_block_types=("CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
        block_out_channels=(64, 64, 96),
        layers_per_block=1,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=3 * 32,
        cross_attention_dim=encoders.EMBEDDING,
        num_attention_heads=(2, 2, 3),
        num_frames=FRAMES,
    )


def refined(unet: UNetSpatioTemporalConditionModel) -> UNetSpatioTemporalConditionModel:
    """The same network made `finer`: its attention at 8×8 has no effect until it is trained.

    Norms of that level are the same except for their epsilon, which diffusers sets by the type of block.
    """
    finer = build_unet(finer=True).to(unet.device)
    if not finer.load_state_dict(unet.state_dict(), strict=False).missing_keys:
        raise ValueError("the network already has attention at 8×8")
    (attention,) = finer.down_blocks[1].attentions
    nn.init.zeros_(attention.proj_out.weight)
    nn.init.zeros_(attention.proj_out.bias)
    return finer


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
    """One course of training: how long, and on what."""

    steps: int
    batch: int
    """Clips of `FRAMES` frames per step; fewer if they are longer, so that each step costs the same."""
    drawn: int
    """Different clips; drawing and encoding one takes a CPU as long as learning from it."""
    learning_rate: float = 8e-4
    invented: float = 0.4
    """How often the subject is made up, and likewise the style, as in `sdxl.Course`."""
    subjects: Sequence[str] = world.BASE_SUBJECTS
    """The other subjects; one listed twice comes twice as often."""
    lengths: Sequence[int] = (FRAMES, FRAMES, FRAMES, 25)
    """Frames of the clips, alternating from step to step: SVD's, and SVD-XT's."""
    fps: tuple[int, int] = (4, 20)
    """Lowest and highest frames per second."""
    buckets: tuple[float, float] = (0, 255)
    """Lowest and highest motion bucket."""
    refines: bool = False
    """Whether the network is made finer before the course."""


def _far(steps: int, batch: int, drawn: int) -> Course:
    """For motion over long distances: long clips at low frame rates, with more of the subjects that fall apart."""
    return Course(
        steps,
        batch,
        drawn,
        learning_rate=5e-4,
        invented=0.3,
        subjects=(*world.BASE_SUBJECTS, "fish", "house", "star"),
        lengths=(25, 25, 25, FRAMES),
        fps=(4, 14),
        refines=True,
    )


_FAST = Course(
    3200,
    4,
    2400,
    learning_rate=1e-4,
    invented=0.1,
    subjects=(*world.BASE_SUBJECTS, *("fish", "car", "tree") * 2),
    lengths=(25,),
    fps=(5, 9),
    buckets=(128, 255),
)
"""For what was still wrong after the others: fast clips, and the subjects that change most in them."""

COURSES = (Course(7000, 4, 4000), _far(2000, 4, 3000))
"""For a CPU."""
COURSES_OF_A_GPU = (Course(10_000, 64, 40_000), _far(8000, 64, 60_000), _FAST)
"""For a GPU: the shipped model was trained by these, the last one on a CPU."""

Drawn = tuple[NDArray[np.uint8], int, float]
"""A clip's frames, frames per second and motion bucket."""


def draw_clip(index: int, course: Course) -> Drawn:
    """One clip of a course: a scene that moves in its own way, at a random frame rate and motion bucket."""
    rng = np.random.default_rng((77, index))
    fps, bucket = int(rng.integers(course.fps[0], course.fps[1] + 1)), float(rng.uniform(*course.buckets))
    scene = world.random_scene(rng, course.subjects, variety=_VARIETY, invented=course.invented)
    frames = world.film(scene, world.own_motion(scene, bucket), max(course.lengths), fps)
    if rng.random() < _BLURRED:
        frames = world.blurred(frames, float(rng.uniform(0.3, 1.5)))
    return frames, fps, bucket


class Films:
    """Prepares drawn clips for training, on the models' device."""

    def __init__(self, autoencoder: AutoencoderKL, towers: encoders.Towers) -> None:
        self.autoencoder, self.towers = autoencoder, towers

    @torch.no_grad()
    def __call__(self, drawn: Sequence[Drawn]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latents (N, frames, 12, 16, 16), key frames in [0, 1], their embeddings (N, 1, 128), rates and buckets."""
        device = self.autoencoder.device
        frames = torch.from_numpy(np.stack([frames for frames, _, _ in drawn]))  # to the device as bytes, not floats
        films = frames.to(device).movedim(-1, 2).float() / 255
        latents = encode_latents(self.autoencoder, films.flatten(0, 1))
        latents = latents.view(*films.shape[:2], *latents.shape[1:])
        key_frames = films[:, 0]
        seen = self.towers.vision(pixel_values=encoders.normalised(key_frames)).image_embeds[:, None]
        conditions = torch.tensor([[fps - 1.0, bucket] for _, fps, bucket in drawn], device=device)
        return latents, key_frames, seen, conditions


def _loss(unet: Recorded, autoencoder: AutoencoderKL, clips: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """Squared error of v at log-normal noise levels (Blattmann et al., 2023, appendix D)."""
    latents, key_frames, seen, conditions = clips
    count, device = len(latents), latents.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    augmentation = (normal(count, 1, 1, 1) * 0.5 - 3).exp()
    pixels = key_frames * 2 - 1
    with torch.no_grad():
        key = autoencoder.encode(pixels + augmentation * normal(*pixels.shape)).latent_dist.mode()
    conditioned = (torch.rand(count, generator=generator, device=device) >= _UNCONDITIONAL).float()
    key = (key * conditioned.view(-1, 1, 1, 1))[:, None].expand_as(latents)
    ids = torch.cat([conditions, augmentation.view(-1, 1)], 1)

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
    first frame. Most of a picture is still, so moving parts would otherwise count for little.
    """
    change = (latents - latents[:, :1]).abs().mean(2) + 1e-3
    return 0.5 + 0.5 * change / change.mean((1, 2, 3), keepdim=True)


def train_unet(
    towers: encoders.Towers, autoencoder: AutoencoderKL, courses: Sequence[Course]
) -> UNetSpatioTemporalConditionModel:
    """Train on drawn clips, on the autoencoder's device."""
    torch.manual_seed(0)
    device = autoencoder.device
    unet, films = build_unet().to(device), Films(autoencoder, towers)

    def loss_of(step: Step, course: Course, stock: Stock[Drawn], recorded: Recorded) -> Tensor:
        frames = course.lengths[step.index % len(course.lengths)]
        latents, *conditions = stock.batch(step.index, step.rng, max(1, course.batch * FRAMES // frames))
        return _loss(recorded, autoencoder, [latents[:, :frames], *conditions], step.noise)

    for number, course in enumerate(courses, 1):
        if course.refines:
            torch.manual_seed(0)  # new weights don't depend on whether the last course ran just now or earlier
            unet = refined(unet)
        stock = Stock(partial(draw_clip, course=course), films, course.drawn, course.steps, device)
        recorded = Recorded(unet.requires_grad_(True), _velocity(unet))
        recipe = Recipe(run_name(f"svd-{number}", device), course.steps, course.learning_rate, warmup=200)
        unet = train(unet, partial(loss_of, course=course, stock=stock, recorded=recorded), recipe)
    return unet


def _velocity(unet: UNetSpatioTemporalConditionModel) -> Callable[..., Tensor]:
    def forward(noisy: Tensor, t: Tensor, seen: Tensor, ids: Tensor) -> Tensor:
        velocity: Tensor = unet(noisy, t, encoder_hidden_states=seen, added_time_ids=ids).sample
        return velocity

    return forward


def assemble(
    towers: encoders.Towers, autoencoder: AutoencoderKL, unet: UNetSpatioTemporalConditionModel
) -> StableVideoDiffusionPipeline:
    """The parts as diffusers' own pipeline."""
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
