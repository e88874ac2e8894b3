"""The family's autoencoder: 64×64 pictures ↔ 8×8 latents of 8 channels, as SDXL's, with a frame-aware decoder for SVD."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.sprite import world
from models.sprite.data import tensor
from models.sprite.loop import PARTS, Recipe, Step, train

CHANNELS = (32, 32, 64, 64)
"""Multiples of 32: SVD's autoencoder normalises in 32 groups, and both share one latent space."""

LATENT_CHANNELS = 8


def build() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        sample_size=world.SIZE,
    )


def reconstruction_loss(decoded: Tensor, pictures: Tensor) -> Tensor:
    """Absolute error of pixels and of their differences, so that lines stay sharp."""
    error = decoded - pictures
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + error.square().mean() + 0.5 * edges


def train_autoencoder(steps: int = 2600, batch: int = 8) -> AutoencoderKL:
    """Train on base sprites and on abstract pictures; latents come out with a standard deviation near 1 after scaling."""
    torch.manual_seed(0)
    model = build()

    def loss_of(step: Step) -> Tensor:
        drawn = [world.draw(world.random_scene(step.rng, companions=0.3)) for _ in range(batch * 3 // 4)]
        drawn += [world.abstract(step.rng) for _ in range(batch - len(drawn))]
        pictures = tensor(drawn) * 2 - 1
        posterior = model.encode(pictures).latent_dist
        decoded = model.decode(posterior.sample(generator=step.noise)).sample
        return reconstruction_loss(decoded, pictures) + 1e-5 * posterior.kl().mean() / LATENT_CHANNELS

    trained = train(model, loss_of, Recipe("autoencoder", steps, 2e-3, ema=0.998))
    assert isinstance(trained, AutoencoderKL)
    trained.register_to_config(scaling_factor=round(1 / _spread(trained), 4))
    trained.save_pretrained(PARTS / "autoencoder")
    return trained


@torch.no_grad()
def _spread(model: AutoencoderKL) -> float:
    """Standard deviation of the latents of 256 scenes."""
    import numpy as np

    rng = np.random.default_rng(1)
    pictures = tensor(world.draw(world.random_scene(rng)) for _ in range(256)) * 2 - 1
    return float(model.encode(pictures).latent_dist.mean.std())


def temporal(autoencoder: AutoencoderKL) -> AutoencoderKLTemporalDecoder:
    """The same encoder with SVD's decoder, whose temporal layers start as the identity: equal frame by frame."""
    video = AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 4,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        sample_size=world.SIZE,
        scaling_factor=autoencoder.config.scaling_factor,
    )
    trained = autoencoder.state_dict()
    state = video.state_dict()
    for name in state:
        source = _spatial_name(name)
        if source in trained:
            state[name] = trained[source]
        elif name.endswith("conv2.weight") or name.endswith("conv2.bias"):
            state[name] = torch.zeros_like(state[name])
    time_conv = torch.zeros_like(state["decoder.time_conv_out.weight"])
    time_conv[range(3), range(3), 1] = 1
    state["decoder.time_conv_out.weight"] = time_conv
    state["decoder.time_conv_out.bias"] = torch.zeros_like(state["decoder.time_conv_out.bias"])
    video.load_state_dict(state)
    return video
