"""Decoding latents with the temporal decoder of Stable Video Diffusion (Blattmann et al. 2023, arXiv 2311.15127).

The decoder as diffusers has it takes all frames through a layer at a time: at 576 × 1024 pixels in float16 25 frames
take 30 GB. Decoded in chunks they take less, but give another video, since each layer norms over all frames that it is
given and mixes neighbours. Here frames pass through each layer one after the other, in three rounds:

1. the spatial block, which sees a single frame; the first norm's statistics are gathered on the way;
2. the first convolution in time, over a frame and its two neighbours; the second norm's statistics are gathered;
3. the second convolution in time, and the blend of both blocks.

That is the same function, whatever the number of frames, and the device needs the memory of one frame's activations
beside what is kept between rounds: two layers' outputs for each frame. Those can be kept in host memory, which changes
no digit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import cached_property
from inspect import signature
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder


@torch.no_grad()
def decode(
    vae: AutoencoderKLTemporalDecoder | AutoencoderKL,
    latents: Tensor,
    on_layer: Callable[[int, int], None],
    *,
    on_host: bool = False,
) -> Tensor:
    """Unscaled latents (T, C, h, w) → frames (T, 3, H, W) in about [-1, 1], as `vae.decode` gives with T frames.

    Frames of a VAE for pictures are decoded one after the other, each as one layer.

    Args:
        on_layer: called before each layer with how many are done, of how many; may raise to stop.
        on_host: keep what waits for its turn in host memory: slower, in little of the device's memory.
    """
    if "num_frames" not in signature(vae.decode).parameters:
        return torch.cat([*_one_by_one(vae, latents, on_layer)])
    decoder = vae.decoder
    layers = _layers(decoder)
    place = _Place(latents.device, on_host)
    frames = deque(place.kept(frame[None]) for frame in latents)
    for index, layer in enumerate(layers):
        on_layer(index, len(layers))
        frames = _through(layer, frames, place)

    def coloured(frame: Tensor) -> Tensor:
        picture: Tensor = decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(place.used(frame))))
        return picture

    return torch.cat([*_in_time(decoder.time_conv_out, map(coloured, frames))])


def _one_by_one(vae: AutoencoderKL, latents: Tensor, on_layer: Callable[[int, int], None]) -> Iterator[Tensor]:
    for index, frame in enumerate(latents):
        on_layer(index, len(latents))
        yield vae.decode(frame[None]).sample


class _Layer(NamedTuple):
    """A block of the decoder, and what each frame goes through before it."""

    before: tuple[Callable[[Tensor], Tensor], ...]
    block: Any
    """A SpatioTemporalResBlock of diffusers."""


def _layers(decoder: Any) -> list[_Layer]:
    mid = decoder.mid_block
    layers = [_Layer((decoder.conv_in,), mid.resnets[0])]
    layers += [_Layer((attention,), block) for attention, block in zip(mid.attentions, mid.resnets[1:], strict=False)]
    for below, up in pairwise((None, *decoder.up_blocks)):
        first, *others = up.resnets
        layers += [_Layer(tuple(getattr(below, "upsamplers", None) or ()), first)]
        layers += [_Layer((), block) for block in others]
    return layers


class _Place(NamedTuple):
    """Where frames wait for their turn."""

    device: torch.device
    on_host: bool

    def kept(self, frame: Tensor) -> Tensor:
        return frame.cpu() if self.on_host else frame

    def used(self, frame: Tensor) -> Tensor:
        return frame.to(self.device)


def _through(layer: _Layer, frames: deque[Tensor], place: _Place) -> deque[Tensor]:
    """Take frames (1, C, h, w) through a layer, one after the other; the deque is emptied meanwhile."""
    block, temporal = layer.block, layer.block.temporal_res_block
    first, second = _Norm(temporal.norm1), _Norm(temporal.norm2)
    spatial: deque[Tensor] = deque()
    while frames:
        frame = place.used(frames.popleft())
        for part in layer.before:
            frame = part(frame)
        frame = block.spatial_res_block(frame, None)
        first.see(frame)
        spatial.append(place.kept(frame))
    hidden: deque[Tensor] = deque()
    for frame in _in_time(temporal.conv1, (F.silu(first(place.used(frame))) for frame in spatial)):
        second.see(frame)
        hidden.append(place.kept(frame))
    waiting = (F.silu(second(place.used(hidden.popleft()))) for _ in range(len(hidden)))
    mixed: deque[Tensor] = deque()
    for frame in _in_time(temporal.conv2, waiting):
        own = place.used(spatial.popleft())
        mixed.append(place.kept(block.time_mixer(own, own + frame)))
    return mixed


class _Norm:
    """A group norm over all frames, applied to one at a time once it has seen them all."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        self._norm = norm
        self._variances: list[Tensor] = []
        self._means: list[Tensor] = []

    def see(self, frame: Tensor) -> None:
        """Take a frame (1, C, h, w) into the statistics."""
        variance, mean = torch.var_mean(self._groups(frame), dim=1, correction=0)
        self._variances.append(variance)
        self._means.append(mean)

    def __call__(self, frame: Tensor) -> Tensor:
        """A frame (1, C, h, w), normed by what all of them together have."""
        mean, scale, weight, bias = self._found
        normed = ((self._groups(frame) - mean) * scale).view(frame.shape)
        return (normed * weight + bias).to(frame.dtype)

    @cached_property
    def _found(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean and scale (groups, 1) of all frames, and weight and bias (C, 1, 1), in float32."""
        means = torch.stack(self._means)
        variance = torch.stack(self._variances).mean(0) + means.var(0, correction=0)
        scale = (variance + self._norm.eps).rsqrt()
        weight, bias = (of.float()[:, None, None] for of in (self._norm.weight, self._norm.bias))
        return means.mean(0)[:, None], scale[:, None], weight, bias

    def _groups(self, frame: Tensor) -> Tensor:
        """(groups, numbers of each), in float32."""
        return frame.float().reshape(self._norm.num_groups, -1)


def _in_time(convolution: nn.Conv3d, frames: Iterator[Tensor]) -> Iterator[Tensor]:
    """A convolution of kernel (3, 1, 1) over frames (1, C, h, w): each with its neighbours, zeros beside the ends."""
    weight = convolution.weight.flatten(2).movedim(2, 1).flatten(1)[..., None, None]
    frame = next(frames)
    nothing = torch.zeros_like(frame)
    before = nothing
    for after in chain(frames, [nothing]):
        yield F.conv2d(torch.cat([before, frame, after], dim=1), weight, convolution.bias)
        before, frame = frame, after
