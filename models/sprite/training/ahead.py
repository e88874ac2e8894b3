"""Samples drawn ahead by other processes, while this one learns from what came before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

R = TypeVar("R")

_READY = 8
"""Samples that each process may be ahead."""


def drawn_ahead(draw: Callable[[int], R], indices: range, processes: int = 1) -> Iterator[R]:
    """What `draw` gives for each index, in their order."""
    options: dict[str, Any] = {"num_workers": processes, "prefetch_factor": _READY, "collate_fn": _as_it_is}
    yield from DataLoader(_Drawing(draw), batch_size=None, sampler=indices, **options)


class _Drawing(Dataset[R], Generic[R]):
    def __init__(self, draw: Callable[[int], R]) -> None:
        self.draw = draw

    def __getitem__(self, index: int) -> R:
        return self.draw(index)


def _as_it_is(drawn: Any) -> Any:
    return drawn


class Ahead(Generic[R]):
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
            self._drawn = drawn_ahead(self.draw, range(step, self.steps))
        return next(self._drawn)
