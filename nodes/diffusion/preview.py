"""Previews of a picture while it is sampled, at a cost far below that of a step."""

from __future__ import annotations

from inspect import signature
from math import hypot
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F

from engine.values import Image
from nodes.diffusion.latents import cell_pixels, samples, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import DiffusionPipeline, SchedulerMixin
    from torch import Tensor

    from engine.node import Context
    from engine.values import ImageModel, VideoModel

# Latent cells up to which the VAE itself is cheap to run; larger pictures are painted cell by cell.
_SMALL = 16 * 16
# The timestep that decoders which denoise take for latents that have been sampled to the end.
_CLEAN = 0.05


class StepCallback:
    """A pipeline's `callback_on_step_end` that reports each step with a preview; cancelling ends the sampling there.

    Args:
        steps: how many the pipeline was asked for.
        index, count: which call of the pipeline these steps belong to, out of how many.
        size: width and height in pixels, for pipelines whose latents don't show them.
        shown: takes what is shown, (1, channels, h, w), out of a pipeline's latents; without it the first picture.
    """

    def __init__(
        self,
        ctx: Context,
        model: ImageModel | VideoModel,
        steps: int,
        *,
        index: int = 0,
        count: int = 1,
        size: tuple[int, int] | None = None,
        shown: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._ctx, self._model, self._index, self._count = ctx, model, index, count
        self._size, self._shown = size, shown
        self._last: Tensor | None = None
        ctx.progress(index * steps, count * steps)

    def __call__(
        self, pipeline: DiffusionPipeline, step: int, timestep: Tensor, tensors: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        latents, last = tensors["latents"], self._last

        def preview() -> Image | None:
            levels = _levels(pipeline.scheduler, step)
            clean = latents if levels is None else denoised(last, latents, *levels)
            cells = self._shown(clean) if self._shown else unpacked(pipeline, clean, self._size)
            picture = self._picture(pipeline.vae, samples(pipeline.vae, cells))
            return Image(picture) if picture is not None and bool(picture.isfinite().all()) else None

        self._last = latents
        steps = pipeline.num_timesteps  # second-order schedulers take more than they were asked for
        self._ctx.progress(self._index * steps + step + 1, self._count * steps, preview=preview)
        return {}

    def _picture(self, vae: Any, samples: Tensor) -> Tensor | None:
        """What the VAE makes pictures of (1, channels, h, w), as one; None if the VAE gives no colours."""
        if samples.shape[-2] * samples.shape[-1] <= _SMALL:
            return decode(vae, samples)
        key = ("latent colours", self._model.made_of, self._ctx.device)
        colours = self._ctx.models.get(key, lambda: fit_colours(vae))
        return None if colours is None else paint(samples, colours)


class Levels(NamedTuple):
    """Of noise, before and after a step, and what the clean latents are multiplied by after it."""

    before: float
    after: float
    signal: float = 1.0


def _levels(scheduler: SchedulerMixin, step: int) -> Levels | None:
    """The levels of noise around a step, or None where the scheduler keeps latents at constant variance."""
    sigmas, initial = getattr(scheduler, "sigmas", None), getattr(scheduler, "init_noise_sigma", None)
    if sigmas is not None and scheduler.config.get("use_flow_sigmas"):
        initial = None
    if sigmas is None or (initial is not None and initial <= 1):
        return None
    index = getattr(scheduler, "step_index", None)  # of the next step: those over a picture begin with a later one
    after = step + 1 if index is None else index
    before, after = float(sigmas[after - 1]), float(sigmas[after])
    return Levels(before, after, 1.0 if initial is not None else 1 - after)  # flows mix noise in instead of adding it


def denoised(
    before: Tensor | None, after: Tensor, sigma_before: float, sigma_after: float, signal: float = 1.0
) -> Tensor:
    """Where the last step leads: the line through the latents before and after it, followed to σ = 0.

    For Euler steps this is the model's own estimate of the clean latents (Karras et al. 2022, arXiv 2206.00364,
    algorithm 1), and for straight flows (arXiv 2209.03003) too. Without the latents before, those after are scaled to
    unit variance; `signal` is what the clean ones are multiplied by in them.
    """
    if before is None:
        return after / hypot(signal, sigma_after)
    slope = (after - before) / (sigma_after - sigma_before)
    return before - sigma_before * slope


@torch.no_grad()
def decode(vae: Any, samples: Tensor) -> Tensor:
    """What a VAE makes pictures of (N, channels, h, w) → pictures (N, 3, H, W) in [0, 1]."""
    weight = next(vae.parameters())
    options: dict[str, Any] = {}
    if "num_frames" in signature(vae.decode).parameters:
        options["num_frames"] = len(samples)
    if getattr(vae.config, "timestep_conditioning", False):
        options["temb"] = torch.full((len(samples),), _CLEAN).to(weight)
    pictures: Tensor = vae.decode(_as_it_takes(weight, samples.to(weight)), **options).sample
    return (_as_pictures(pictures).float().cpu() / 2 + 0.5).clamp(0, 1)


@torch.no_grad()
def fit_colours(vae: Any) -> Tensor | None:
    """The affine map to RGB that fits a VAE's encoder best: (channels + 1, 3), offset last.

    Least squares over patches of random colours, each latent cell against the mean colour of the pixels it covers. None
    if the encoder overflows, as some do in half precision.
    """
    patches = torch.rand(16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    pictures = F.interpolate(patches, scale_factor=max(16, 2 * cell_pixels(vae)), mode="bilinear")
    weight = next(vae.parameters())
    samples = _as_pictures(vae.encode(_as_it_takes(weight, (pictures * 2 - 1).to(weight))).latent_dist.mode())
    if not samples.isfinite().all():
        return None
    means = F.avg_pool2d(pictures, pictures.shape[-1] // samples.shape[-1]).movedim(1, -1).flatten(0, -2)
    colours: Tensor = torch.linalg.lstsq(_cells(samples), means).solution
    return colours


def _as_it_takes(weight: Tensor, pictures: Tensor) -> Tensor:
    """(N, channels, h, w) as it is, or as videos of a frame (N, channels, 1, h, w) for a VAE whose kernels are 3D."""
    return pictures.unsqueeze(2) if weight.ndim == 5 else pictures


def _as_pictures(pictures: Tensor) -> Tensor:
    """The first frames of videos (N, channels, T, h, w); pictures (N, channels, h, w) as they are."""
    return pictures[:, :, 0] if pictures.ndim == 5 else pictures


def paint(samples: Tensor, colours: Tensor) -> Tensor:
    """What a VAE makes pictures of (N, channels, h, w) → (N, 3, h, w) in [0, 1], by the map of `fit_colours`."""
    n, _, h, w = samples.shape
    return (_cells(samples) @ colours).clamp(0, 1).reshape(n, h, w, 3).movedim(-1, 1).contiguous()


def _cells(samples: Tensor) -> Tensor:
    cells = samples.detach().float().cpu().movedim(1, -1).flatten(0, -2)
    return F.pad(cells, (0, 1), value=1.0)
