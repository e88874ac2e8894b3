"""Drawn samples, kept on the device and reused: drawing one may cost as much as learning from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from math import ceil
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from models.sprite.training.ahead import drawn_ahead

R = TypeVar("R")

_CHUNK = 64
"""How many samples are prepared at a time."""


class Stock(Generic[R]):
    """The first samples of an endless series: an eighth of them before the first step, all of them in the last.

    The samples available at a step don't depend on how fast they come.

    Args:
        draw: draws the sample of an index, with numpy. For a GPU, all cores draw ahead.
        prepare: turns drawn samples into tensors on the device.
        kept: how many there are at the end.
        steps: the number of training steps.
        device: where training runs.
    """

    def __init__(
        self,
        draw: Callable[[int], R],
        prepare: Callable[[Sequence[R]], tuple[Tensor, ...]],
        kept: int,
        steps: int,
        device: torch.device,
    ) -> None:
        self.prepare, self.kept, self.steps = prepare, kept, steps
        self._drawn = (
            drawn_ahead(draw, range(kept), os.cpu_count() or 1) if device.type == "cuda" else map(draw, range(kept))
        )
        self._held = 0
        self._samples: tuple[Tensor, ...] = ()

    def batch(self, step: int, rng: np.random.Generator, count: int) -> tuple[Tensor, ...]:
        """`count` samples, drawn at random from those available at that step."""
        available = ceil(self.kept * (1 + 7 * (step + 1) / self.steps) / 8)
        while self._held < available:
            self._take(min(_CHUNK, self.kept - self._held))
        rows = torch.from_numpy(rng.integers(available, size=count)).to(self._samples[0].device)
        return tuple(part[rows] for part in self._samples)

    def _take(self, count: int) -> None:
        prepared = self.prepare([next(self._drawn) for _ in range(count)])
        if not self._samples:
            self._samples = tuple(part.new_empty((self.kept, *part.shape[1:])) for part in prepared)
        for samples, part in zip(self._samples, prepared, strict=True):
            samples[self._held : self._held + count] = part
        self._held += count
