"""The family's autoencoder: 64×64 pictures ↔ 16×16 latents of 12 channels, for SDXL and SVD alike.

SVD's own decoder across frames normalises in 32 groups, whatever the width; at the widths that two cores can train
that would be one channel per group, which loses the colours. `StableVideoDiffusionPipeline` accepts this class as well.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import Decoder
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional as F

from models.sprite import world
from models.sprite.training.data import pictures, tensor
from models.sprite.training.loop import PARTS, Recipe, Step, train
from models.sprite.training.principal import set_components

_FOLDER = PARTS / "autoencoder"
_CELL = 0.25
"""How much the position encoded at a latent differs from its neighbour's."""


_LEVELS = (16, 32, 64)
"""Channels of its levels; from one level to the next, sides are halved."""
LATENT_CHANNELS = 12
"""Channels of the latents."""
LATENT_SIDE = world.SIZE // 2 ** (len(_LEVELS) - 1)
"""Side of the latents."""


def build() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(_LEVELS),
        up_block_types=("UpDecoderBlock2D",) * len(_LEVELS),
        block_out_channels=_LEVELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        sample_size=world.SIZE,
        mid_block_add_attention=False,
    )


def train_autoencoder(steps: int = 4000, batch: int = 8) -> AutoencoderKL:
    """Set the encoder's weights and train the decoder; the model is also written before, to train UNets on."""
    torch.manual_seed(0)
    model = build()
    set_components(model, _sample(np.random.default_rng(1)))
    model.requires_grad_(False).save_pretrained(_FOLDER)
    model.decoder.load_state_dict(_with_positions(model.decoder).state_dict())
    model.decoder.requires_grad_(True)

    def loss_of(step: Step) -> Tensor:
        shown = _batch(step, batch)
        return reconstruction_loss(model.decode(model.encode(shown).latent_dist.mode()).sample - shown)

    trained = train(model, loss_of, Recipe("autoencoder", steps, 1e-3, ema=0.998))
    assert isinstance(trained, AutoencoderKL)
    trained.save_pretrained(_FOLDER)
    return trained


def load() -> AutoencoderKL:
    """The trained autoencoder, frozen."""
    return AutoencoderKL.from_pretrained(_FOLDER).eval().requires_grad_(False)


def _sample(rng: np.random.Generator) -> Tensor:
    """Pictures in [−1, 1] for the component analysis: base sprites and a few abstract ones."""
    drawn = pictures([world.random_scene(rng) for _ in range(1000)])
    return torch.cat([drawn, tensor(world.abstract(rng) for _ in range(100))]) * 2 - 1


def _batch(step: Step, batch: int) -> Tensor:
    """Pictures in [−1, 1]. In half of them the colour channels are permuted.

    The world's large areas are blue or sand; without this, the colours of small things would be learnt last.
    """
    drawn = [world.draw(world.random_scene(step.rng, companions=0.3)) for _ in range(batch)]
    if step.index % 4 == 0:
        drawn[0] = world.abstract(step.rng)
    drawn = [p[..., step.rng.permutation(3)] if step.rng.random() < 0.5 else p for p in drawn]
    return tensor(drawn) * 2 - 1


def reconstruction_loss(error: Tensor) -> Tensor:
    """Absolute and squared error at full size and in larger blocks, so that colours are learnt as early as lines."""
    blocks = [error, *(F.avg_pool2d(error, side) for side in (2, 4))]
    return torch.stack([block.abs().mean() + block.square().mean() for block in blocks]).sum()


def _with_positions(decoder: Decoder) -> Decoder:
    """The decoder, with channels that give each pixel its position in its latent's block.

    Convolutions after nearest-neighbour upsampling treat all pixels of a block alike, so a pattern finer than a block
    could not be decoded. The zeros around a picture show where its borders are: from them the lowest level learns a
    ramp down and one across, and at each level above, second differences of the ramps are +1 in one half of a cell and
    −1 in the other.
    """
    ramp = (torch.arange(LATENT_SIDE) - (LATENT_SIDE - 1) / 2) * _CELL
    places = torch.stack([ramp[:, None].expand(LATENT_SIDE, LATENT_SIDE), ramp[None].expand(LATENT_SIDE, LATENT_SIDE)])

    def loss_of(step: Step) -> Tensor:
        noise = torch.randn(16, LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE, generator=step.noise)
        features: Tensor = decoder.conv_in(noise)
        features = decoder.mid_block(features)
        for block in decoder.up_blocks[0].resnets:
            features = block(features, None)
        return (features[:, -2:] - places).square().mean()

    decoder.requires_grad_(True)
    placed = train(decoder, loss_of, Recipe("autoencoder-places", 400, 2e-3, warmup=20, ema=0.98, weight_decay=0))
    assert isinstance(placed, Decoder)
    with torch.no_grad():
        for level, (below, above) in enumerate(zip(placed.up_blocks, placed.up_blocks[1:], strict=False)):
            ramps = (-2, -1) if level == 0 else (-4, -3)
            _encode_halves(below.upsamplers[0].conv, ramps, _CELL / 2**level)
            for block in above.resnets:
                _pass_through(block)
    return placed


def _encode_halves(conv: nn.Conv2d, ramps: tuple[int, int], cell: float) -> None:
    """Compute finer ramps (channels −4, −3) and halves (−2, −1) from the ramps down and across in those channels."""
    assert conv.bias is not None
    for channel in (-4, -3, -2, -1):
        conv.weight[channel], conv.bias[channel] = 0, 0
    lines: tuple[tuple[slice | int, slice | int], ...] = ((slice(None), 1), (1, slice(None)))
    for axis, (ramp, line) in enumerate(zip(ramps, lines, strict=True)):
        conv.weight[axis - 4, ramp][line] = torch.tensor([0.25, 0.5, 0.25])
        conv.weight[axis - 2, ramp][line] = torch.tensor([1.0, -2.0, 1.0]) / cell


def _pass_through(block: ResnetBlock2D) -> None:
    """Make a residual block pass its last four channels through unchanged."""
    block.conv2.weight[-4:], block.conv2.bias[-4:] = 0, 0
    if block.conv_shortcut is not None:
        block.conv_shortcut.weight[-4:], block.conv_shortcut.bias[-4:] = 0, 0
        for channel in (-4, -3, -2, -1):
            block.conv_shortcut.weight[channel, channel] = 1
