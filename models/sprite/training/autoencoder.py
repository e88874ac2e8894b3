"""The family's autoencoder: 64×64 pictures ↔ 8×8 latents of 16 channels, for SDXL and SVD alike.

SVD's own decoder across frames normalises in 32 groups, whatever the width; at the widths that two cores can train
that would be a channel a group, which loses the colours. `StableVideoDiffusionPipeline` takes this one as well.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.sprite import world
from models.sprite.training.data import tensor
from models.sprite.training.loop import PARTS, Recipe, Step, train

CHANNELS = (24, 32, 64, 96)
LATENT_CHANNELS = 16


def build() -> AutoencoderKL:
    """Its posterior starts narrow: what is learnt first is to reconstruct."""
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=world.SIZE,
        mid_block_add_attention=False,
    )
    with torch.no_grad():
        model.quant_conv.weight[LATENT_CHANNELS:] = 0
        model.quant_conv.bias[LATENT_CHANNELS:] = -6
    return model


def reconstruction_loss(error: Tensor) -> Tensor:
    """Absolute and squared error at full size and in ever larger blocks, so that colours come as soon as lines."""
    blocks = [error, *(F.avg_pool2d(error, side) for side in (2, 4, 8))]
    return torch.stack([block.abs().mean() + block.square().mean() for block in blocks]).sum()


def _batch(step: Step, batch: int) -> Tensor:
    """Pictures in [−1, 1]: whole ones in even steps, four times as many quarters around the sprite in odd ones.

    In half of them the colour channels change places. The world's large areas are blue or sand; without this the
    colours of small things would be the last that is learnt.
    """
    count = batch * 4 if step.index % 2 else batch
    scenes = [world.random_scene(step.rng, companions=0.3) for _ in range(count)]
    drawn = [world.draw(scene) for scene in scenes]
    if step.index % 4 == 0:
        drawn[0] = world.abstract(step.rng)
    if step.index % 2:
        drawn = [_quarter(picture, scene) for picture, scene in zip(drawn, scenes, strict=True)]
    drawn = [p[..., step.rng.permutation(3)] if step.rng.random() < 0.5 else p for p in drawn]
    return tensor(drawn) * 2 - 1


def _quarter(picture: NDArray[np.uint8], scene: world.Scene) -> NDArray[np.uint8]:
    """The 32×32 piece nearest to the first sprite, on the latents' grid."""
    hero, half = scene.sprites[0], world.SIZE // 2
    left, top = (
        int(np.clip(round((place + half / 2) / 8) * 8, 0, half))
        for place in (hero.x - scene.camera[0], hero.y - scene.camera[1])
    )
    return picture[top : top + half, left : left + half]


def train_autoencoder(steps: int = 5400, batch: int = 4) -> AutoencoderKL:
    """Train on base sprites and a few abstract pictures; scaled latents have a standard deviation near 1."""
    torch.manual_seed(0)
    model = build()

    def loss_of(step: Step) -> Tensor:
        pictures = _batch(step, batch)
        posterior = model.encode(pictures).latent_dist
        decoded = model.decode(posterior.sample(generator=step.noise)).sample
        return reconstruction_loss(decoded - pictures) + 1e-6 * posterior.kl().mean()

    trained = train(model, loss_of, Recipe("autoencoder", steps, 8e-4, ema=0.998))
    assert isinstance(trained, AutoencoderKL)
    trained.register_to_config(scaling_factor=round(1 / _spread(trained), 4))
    trained.save_pretrained(PARTS / "autoencoder")
    return trained


def train_decoder(model: AutoencoderKL, steps: int = 3000, batch: int = 4) -> AutoencoderKL:
    """Go on with the decoder alone: the latents stay what they are, so UNets can be trained on them meanwhile."""
    torch.manual_seed(0)
    model.requires_grad_(False)
    model.decoder.requires_grad_(True)
    model.post_quant_conv.requires_grad_(True)

    def loss_of(step: Step) -> Tensor:
        pictures = _batch(step, batch)
        with torch.no_grad():
            latents = model.encode(pictures).latent_dist.sample(generator=step.noise)
        return reconstruction_loss(model.decode(latents).sample - pictures)

    trained = train(model, loss_of, Recipe("decoder", steps, 8e-4, ema=0.998, seed=1))
    assert isinstance(trained, AutoencoderKL)
    trained.save_pretrained(PARTS / "autoencoder")
    return trained


@torch.no_grad()
def _spread(model: AutoencoderKL) -> float:
    """Standard deviation of the latents of 256 scenes."""
    rng = np.random.default_rng(1)
    pictures = tensor(world.draw(world.random_scene(rng)) for _ in range(256)) * 2 - 1
    return float(model.encode(pictures).latent_dist.mean.std())
