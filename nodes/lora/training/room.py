"""How much memory a training will take, before it takes it.

What a step keeps for its gradients is counted in a pass over a small picture, and grows with the pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import psutil
import torch
from torch import Tensor

from engine.models.gauge import gauge_of
from nodes.lora.training.pictures import Batch, Framing

if TYPE_CHECKING:
    from nodes.lora.training.loop import Course

MOMENTS = {"adamw": 8, "adamw8bit": 2, "adafactor": 0, "prodigy": 16}
"""About how many bytes an optimiser remembers of each parameter."""


class Room(NamedTuple):
    """Bytes that a training takes."""

    models: int
    """The models that a step runs, which are there already."""
    trained: int
    """The parameters with gradients, moments and average."""
    kept: int
    """What the passes of a batch keep for its gradients."""

    @property
    def total(self) -> int:
        return sum(self)


def foreseen(course: Course) -> Room:
    """The memory for the largest batch, at its peak: an estimate."""
    settings = course.settings
    models = [p for model in course.family.models() for p in model.parameters()]
    parameters = sum(parameter.numel() for parameter in course.descent.parameters.values())
    bytes_each = 8 + MOMENTS[settings.optimiser] + (4 if settings.ema_decay is not None else 0)
    every = [course.own, *([course.of_class] if course.of_class else [])]
    largest = max((height * width for pictures in every for height, width in pictures.sizes))
    small = max(course.family.multiple, int(largest**0.5) // 2 // course.family.multiple * course.family.multiple)
    kept = _kept(course, small) * largest // small**2 * settings.batch
    return Room(sum(p.nbytes for p in models), parameters * bytes_each, kept)


def free(device: torch.device) -> int:
    """Bytes that could be taken now."""
    gauge = gauge_of(str(device))
    return gauge.free if gauge else int(psutil.virtual_memory().available)


def peak(device: torch.device) -> int | None:
    """The most bytes that tensors have taken on a device since a run of the node began; None if that isn't known."""
    gauge = gauge_of(str(device))
    return gauge.peak if gauge else None


def _kept(course: Course, side: int) -> int:
    """Bytes that a pass over one square picture keeps for its gradients."""
    weights = [p for model in course.family.models() for p in model.parameters()]
    known = {_storage(part) for part in (*weights, *course.descent.parameters.values())}
    latents = torch.zeros(1, *_latent(course, side)).to(course.family.device)
    batch = Batch(latents, [Framing(side, side, 0, 0)], [""])
    held: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        held.append(tensor)  # so that no address is used twice
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        course.errors(batch, torch.tensor([0]), torch.Generator().manual_seed(0))
    storages = {_storage(tensor): tensor.untyped_storage().nbytes() for tensor in held}
    return sum(nbytes for number, nbytes in storages.items() if number not in known)


def _storage(tensor: Tensor) -> int:
    """What tells the storage of a tensor from that of others as long as both exist."""
    return int(tensor.untyped_storage()._cdata)


def _latent(course: Course, side: int) -> tuple[int, int, int]:
    """The shape of a square picture's latents."""
    pictures = course.own
    channels, height, _ = pictures.encoded[pictures.buckets[0][0]][0].mean.shape
    factor = pictures.sizes[0][0] // height
    return channels, side // factor, side // factor
