"""Drawn samples, kept on the device and used again and again: to draw one may cost as much as to learn from it."""

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
"""Samples that are prepared at a time."""


class Stock(Generic[R]):
    """The first samples of an endless series: an eighth of them before the first step, all of them in the last.

    Which samples there are at a step does not depend on how fast they come.

    Args:
        draw: draws the sample of an index, with numpy. On a GPU's machine, all cores draw ahead.
        prepare: makes tensors on the device of some drawn ones.
        kept: how many there are in the end.
        steps: of the training.
        device: where it takes place.
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
        """`count` samples by chance of those that there are at that step."""
        there = ceil(self.kept * (1 + 7 * (step + 1) / self.steps) / 8)
        while self._held < there:
            self._take(min(_CHUNK, self.kept - self._held))
        rows = torch.from_numpy(rng.integers(there, size=count)).to(self._samples[0].device)
        return tuple(part[rows] for part in self._samples)

    def _take(self, count: int) -> None:
        prepared = self.prepare([next(self._drawn) for _ in range(count)])
        if not self._samples:
            self._samples = tuple(part.new_empty((self.kept, *part.shape[1:])) for part in prepared)
        for whole, part in zip(self._samples, prepared, strict=True):
            whole[self._held : self._held + count] = part
        self._held += count
