"""How much of a device models and results may take, beside what the nodes that compute there need."""

from __future__ import annotations

from engine.memory import total
from engine.models.gauge import Gauge

SHARE = 0.85
"""The share of a device's memory for models and results, as long as it isn't known what a node needs beside them."""
SLACK = 0.05
"""The share that stays free beside what a node is known to need, since memory is allocated in blocks."""


class Account:
    """A device's memory: what may be held there, and what its one running node takes beside that.

    Args:
        budget: how many bytes models and results may take at most; None if only the device sets a limit.
        gauge: measures the device; None if it can't be measured.
    """

    def __init__(self, budget: int | None, gauge: Gauge | None) -> None:
        self._budget = budget
        self._gauge = gauge
        self._kept_free = int((1 - SHARE) * (gauge.total if gauge else total()))
        self._rest = 0
        """Bytes that were taken when the node began, by neither models nor results."""
        self._most = 0

    @property
    def measured(self) -> bool:
        return self._gauge is not None

    def budget(self, held: int) -> int:
        """How many bytes models and results may take now, of which they take `held` already."""
        return self._beside(self._kept_free, held)

    def budget_beside(self, need: int | None, held: int) -> int:
        """As `budget`, while a node runs that needs so many bytes beside them; None if that isn't known."""
        return self._beside(self._keeping(need), held)

    def expect(self, need: int | None) -> None:
        """Keep free what the next node needs; None if that isn't known."""
        self._kept_free = self._keeping(need)

    def start(self, held: int) -> None:
        """Measure what a node takes from now on, while models and results take `held`."""
        if self._gauge:
            self._most, self._rest = 0, self._gauge.taken - held
            self._gauge.restart()

    def pause(self, held: int) -> None:
        """Stop measuring, as models or results are to be moved, which take `held` up to now."""
        if self._gauge and (peak := self._gauge.peak) is not None:
            self._most = max(self._most, peak - held - self._rest)

    def resume(self) -> None:
        """Go on measuring."""
        if self._gauge:
            self._gauge.restart()

    def taken(self, held: int) -> int | None:
        """The most that the node has taken beside models and results; None if that can't be measured."""
        if self._gauge is None or self._gauge.peak is None:
            return None
        self.pause(held)
        return self._most

    @property
    def kept_free(self) -> int:
        """Bytes that the node could take."""
        return self._kept_free

    def _keeping(self, need: int | None) -> int:
        if self._gauge is None:
            return self._kept_free
        return (need or 0) + int((1 - SHARE if need is None else SLACK) * self._gauge.total)

    def _beside(self, kept_free: int, held: int) -> int:
        if self._gauge is None:
            return total() - kept_free if self._budget is None else self._budget
        room = held + self._gauge.free - kept_free
        return room if self._budget is None else min(self._budget, room)
