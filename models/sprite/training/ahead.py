"""What the next steps learn from, drawn by another process while this one learns from what came before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

R = TypeVar("R")

_READY = 8
"""Steps ahead."""


class Ahead(Dataset[R], Generic[R]):
    """Gives each step what `draw` gives for its index; steps ask in turn, from any one on.

    Args:
        draw: draws what a step needs, with numpy.
        steps: of the training.
    """

    def __init__(self, draw: Callable[[int], R], steps: int) -> None:
        self.draw, self.steps = draw, steps
        self._drawn: Iterator[R] | None = None

    def __call__(self, step: int) -> R:
        if self._drawn is None:
            self._drawn = iter(
                DataLoader(
                    self,
                    batch_size=None,
                    sampler=range(step, self.steps),
                    num_workers=1,
                    prefetch_factor=_READY,
                    collate_fn=_as_it_is,
                )
            )
        return next(self._drawn)

    def __getitem__(self, step: int) -> R:
        return self.draw(step)


def _as_it_is(drawn: Any) -> Any:
    return drawn
