"""Samples drawn ahead by other processes, while this one learns from earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

R = TypeVar("R")

_READY = 8
"""How many samples each process may be ahead."""


def drawn_ahead(draw: Callable[[int], R], indices: range, processes: int = 1) -> Iterator[R]:
    """The samples that `draw` gives for each index, in order."""
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
    """Gives each step the sample that `draw` gives for its index; steps ask in order, starting at any of them.

    Args:
        draw: draws what a step needs, with numpy.
        steps: the number of training steps.
    """

    def __init__(self, draw: Callable[[int], R], steps: int) -> None:
        self.draw, self.steps = draw, steps
        self._drawn: Iterator[R] | None = None

    def __call__(self, step: int) -> R:
        if self._drawn is None:
            self._drawn = drawn_ahead(self.draw, range(step, self.steps))
        return next(self._drawn)
