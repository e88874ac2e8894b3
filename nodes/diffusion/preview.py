"""Previews of a picture while it is sampled, at a cost far below that of a step."""

from __future__ import annotations

from inspect import signature
from math import hypot
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from engine.values import Image

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder, DiffusionPipeline, SchedulerMixin
    from torch import Tensor

    from engine.node import Context
    from engine.values import ModelReference

# Latent cells up to which the VAE itself is cheap to run; larger pictures are painted cell by cell.
_SMALL = 16 * 16


class StepCallback:
    """A pipeline's `callback_on_step_end` that reports each step with a preview; cancelling ends the sampling there.

    Args:
        steps: how many the pipeline was asked for.
        index, count: which call of the pipeline these steps belong to, out of how many.
    """

    def __init__(self, ctx: Context, model: ModelReference, steps: int, *, index: int = 0, count: int = 1) -> None:
        self._ctx, self._model, self._index, self._count = ctx, model, index, count
        self._last: Tensor | None = None
        ctx.progress(index * steps, count * steps)

    def __call__(
        self, pipeline: DiffusionPipeline, step: int, timestep: Tensor, tensors: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        latents, last = _first(tensors["latents"]), self._last

        def preview() -> Image | None:
            sigmas = _sigmas(pipeline.scheduler, step)
            picture = self._picture(pipeline.vae, latents if sigmas is None else denoised(last, latents, *sigmas))
            return Image(picture) if picture is not None and bool(picture.isfinite().all()) else None

        self._last = latents
        steps = pipeline.num_timesteps  # second-order schedulers take more than they were asked for
        self._ctx.progress(self._index * steps + step + 1, self._count * steps, preview=preview)
        return {}

    def _picture(self, vae: AutoencoderKL | AutoencoderKLTemporalDecoder, latents: Tensor) -> Tensor | None:
        """Clean latents (1, channels, h, w) as a picture; None if the VAE gives no colours."""
        if latents.shape[-2] * latents.shape[-1] <= _SMALL:
            return decode(vae, latents)
        key = ("latent colours", self._model.identity, self._model.dtype, self._ctx.device)
        colours = self._ctx.models.get(key, lambda: fit_colours(vae))
        return None if colours is None else paint(latents, colours)


def _first(latents: Tensor) -> Tensor:
    """Latents (…, channels, h, w) of pictures or frames → those of the first, which is shown: (1, channels, h, w)."""
    return latents.flatten(0, -4)[:1]


def _sigmas(scheduler: SchedulerMixin, step: int) -> tuple[float, float] | None:
    """The noise levels before and after a step, or None where the scheduler keeps latents at constant variance."""
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is None or scheduler.init_noise_sigma <= 1:
        return None
    return float(sigmas[step]), float(sigmas[step + 1])


def denoised(before: Tensor | None, after: Tensor, sigma_before: float, sigma_after: float) -> Tensor:
    """Where the last step leads: the line through the latents before and after it, followed to σ = 0.

    For Euler steps this is the model's own estimate of the clean latents (Karras et al. 2022, arXiv 2206.00364,
    algorithm 1). Without the latents before, those after are scaled to unit variance.
    """
    if before is None:
        return after / hypot(1, sigma_after)
    slope = (after - before) / (sigma_after - sigma_before)
    return before - sigma_before * slope


@torch.no_grad()
def decode(vae: AutoencoderKL | AutoencoderKLTemporalDecoder, latents: Tensor) -> Tensor:
    """Scaled latents (N, channels, h, w) → pictures (N, 3, H, W) in [0, 1]."""
    options = {"num_frames": len(latents)} if "num_frames" in signature(vae.decode).parameters else {}
    samples = latents.to(next(vae.parameters())) / vae.config.scaling_factor
    pictures: Tensor = vae.decode(samples, **options).sample
    return (pictures.float().cpu() / 2 + 0.5).clamp(0, 1)


@torch.no_grad()
def fit_colours(vae: AutoencoderKL | AutoencoderKLTemporalDecoder) -> Tensor | None:
    """The affine map from scaled latents to RGB that fits the VAE's encoder best: (channels + 1, 3), offset last.

    Least squares over patches of random colours, each latent cell against the mean colour of the pixels it covers. None
    if the encoder overflows, as some do in half precision.
    """
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    patches = torch.rand(16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    pictures = F.interpolate(patches, scale_factor=2 * factor, mode="bilinear")
    weight = next(vae.parameters())
    latents = vae.encode((pictures * 2 - 1).to(weight)).latent_dist.mode() * vae.config.scaling_factor
    if not latents.isfinite().all():
        return None
    means = F.avg_pool2d(pictures, factor).movedim(1, -1).flatten(0, -2)
    colours: Tensor = torch.linalg.lstsq(_cells(latents), means).solution
    return colours


def paint(latents: Tensor, colours: Tensor) -> Tensor:
    """Scaled latents (N, channels, h, w) → pictures (N, 3, h, w) in [0, 1] through the map of `fit_colours`."""
    n, _, h, w = latents.shape
    return (_cells(latents) @ colours).clamp(0, 1).reshape(n, h, w, 3).movedim(-1, 1).contiguous()


def _cells(latents: Tensor) -> Tensor:
    cells = latents.detach().float().cpu().movedim(1, -1).flatten(0, -2)
    return F.pad(cells, (0, 1), value=1.0)
