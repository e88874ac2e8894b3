"""From what denoisers work on to what VAEs make pictures of, whatever the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import Tensor


def unpacked(pipeline: DiffusionPipeline, latents: Tensor, size: tuple[int, int] | None) -> Tensor:
    """The latents of the first picture or frame as (1, channels, h, w).

    Args:
        latents: (N, channels, h, w), (N, T, channels, h, w), or packed into a sequence (N, cells, channels).
        size: width and height in pixels, for those that are packed.
    """
    if latents.ndim > 3:
        return latents.flatten(0, -4)[:1]
    assert size is not None, "packed latents don't show the size"
    width, height = size
    if hasattr(pipeline.vae, "bn"):  # Flux 2's are packed when the cells are already patches
        patches = latents[:1].reshape(1, height // pipeline.vae_scale_factor // 2, -1, latents.shape[-1])
        return patches.movedim(-1, 1)
    cells: Tensor = pipeline._unpack_latents(latents[:1], height, width, pipeline.vae_scale_factor)
    return cells[:, :, 0] if cells.ndim == 5 else cells


def samples(vae: Any, latents: Tensor) -> Tensor:
    """Scaled latents (N, channels, h, w), in which denoisers work, as the VAE takes them."""
    config = vae.config
    if hasattr(vae, "bn"):  # Flux 2: patches of 2 × 2 cells, normalised by channel
        std = (vae.bn.running_var + config.batch_norm_eps).sqrt()
        patches: Tensor = latents * _by_channel(std, latents) + _by_channel(vae.bn.running_mean, latents)
        n, channels, h, w = patches.shape
        cells = patches.reshape(n, channels // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3)
        return cells.reshape(n, channels // 4, 2 * h, 2 * w)
    mean, std = _statistic(vae, "latents_mean"), _statistic(vae, "latents_std")
    if std is not None:
        latents = latents * _by_channel(std, latents)
    latents = latents / getattr(config, "scaling_factor", 1.0) + (getattr(config, "shift_factor", None) or 0.0)
    return latents if mean is None else latents + _by_channel(mean, latents)


def cell_pixels(vae: Any) -> int:
    """The side of the square of pixels that a cell of a VAE's latents stands for."""
    side = getattr(vae, "spatial_compression_ratio", None)
    return int(side) if side else 2 ** (len(vae.config.block_out_channels) - 1)


def _statistic(vae: Any, name: str) -> Tensor | None:
    """A number for each channel, which some VAEs hold as a buffer and others configure; None without it."""
    found = dict(vae.named_buffers(recurse=False)).get(name)
    found = getattr(vae.config, name, None) if found is None else found
    return None if found is None else torch.as_tensor(found)


def _by_channel(values: Tensor, latents: Tensor) -> Tensor:
    return values.to(latents).view(1, -1, 1, 1)
