"""Principal component analysis, written into the weights of an `AutoencoderKL`'s encoder.

The latents of a picture are the main principal components of each of its blocks, which keep more of the sprite world
than an encoder that two cores can train. UNets can be trained on them while the decoder still learns.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

_CONSTANT = 100.0
"""Value of the channels that dominate a group norm's variance, so that it scales all pictures alike."""


def set_components(model: AutoencoderKL, pictures: Tensor) -> None:
    """Make `model.encode` an analysis of blocks of 4×4 pixels into the principal components of `pictures` (N, 3, H, W).

    Channel d has the standard deviation √σ_d, where the component's is σ_d: midway from an analysis, whose last ones
    drown in a diffusion model's noise, to a whitened one, whose last ones count as much as the first.

    The encoder needs three levels, with a residual block each; those are made identities, and only its strided
    convolutions work. The last non-linearity is undone by pairs, as silu(y) − silu(−y) = y.
    """
    for parameter in [*model.encoder.parameters(), *model.quant_conv.parameters()]:
        nn.init.zeros_(parameter)
    latents = model.config.latent_channels
    blocks = F.pixel_unshuffle(pictures, 4).movedim(1, -1).flatten(0, -2)
    mean = blocks.mean(0)
    variance, directions = torch.linalg.eigh(torch.cov((blocks - mean).T))
    deviation = variance.flip(0)[:latents].sqrt()
    analysis = directions.flip(1)[:, :latents] / deviation.sqrt()
    with torch.no_grad():
        _set_down_path(model, analysis, -mean @ analysis)
        _set_end(model, latents)
    model.register_to_config(scaling_factor=round(float(1 / deviation.mean().sqrt()), 4))


def _set_down_path(model: AutoencoderKL, analysis: Tensor, offset: Tensor) -> None:
    """Pixels → 2×2 blocks → `analysis` of 4×4 blocks."""
    first, second, last = model.encoder.down_blocks
    nn.init.dirac_(model.encoder.conv_in.weight[:3])
    for row in (0, 1):
        for column in (0, 1):
            for colour in range(3):
                first.downsamplers[0].conv.weight[4 * colour + 2 * row + column, colour, row, column] = 1
    nn.init.dirac_(second.resnets[0].conv_shortcut.weight[:12])
    conv, count = second.downsamplers[0].conv, len(offset)
    quarters = analysis.view(3, 2, 2, 2, 2, count).permute(5, 0, 2, 4, 1, 3)  # (latent, rgb, row, column) of quarters
    conv.weight[:count, :12, :2, :2] = quarters.flatten(1, 3)
    conv.bias[:count] = offset
    _set_pairs(model, last.resnets[0].conv_shortcut, count)


def _set_pairs(model: AutoencoderKL, shortcut: nn.Conv2d, latents: int) -> None:
    """Each latent beside its negative, and large constants of both signs in every group of the following norm."""
    pairs = _pairs(model.encoder.conv_norm_out, latents)
    for latent, (plus, minus) in enumerate(pairs.flatten(0, 1)):
        shortcut.weight[plus, latent], shortcut.weight[minus, latent] = 1, -1
    assert shortcut.bias is not None
    constants = shortcut.bias.view(len(pairs), -1)[:, pairs[0].numel() :]
    constants[:, ::2], constants[:, 1::2] = _CONSTANT, -_CONSTANT


def _set_end(model: AutoencoderKL, latents: int) -> None:
    norm, out = model.encoder.conv_norm_out, model.encoder.conv_out
    pairs = _pairs(norm, latents)
    constant_share = 1 - pairs.numel() / norm.num_channels
    norm.weight[pairs] = _CONSTANT * constant_share**0.5
    for latent, (plus, minus) in enumerate(pairs.flatten(0, 1)):
        out.weight[latent, plus, 1, 1], out.weight[latent, minus, 1, 1] = 1, -1
    nn.init.dirac_(model.quant_conv.weight)
    model.quant_conv.bias[latents:] = -12  # the posterior's log variance: almost none


def _pairs(norm: nn.GroupNorm, latents: int) -> Tensor:
    """The channels of each latent and its negative, (groups, latents of a group, 2): the first of every group."""
    first = torch.arange(norm.num_groups) * (norm.num_channels // norm.num_groups)
    return first[:, None, None] + torch.arange(2 * latents // norm.num_groups).view(-1, 2)
