"""How long nodes have taken, by kind, so that a run can start with the longest branch."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from engine.atomic import write

WEIGHT = 0.5
"""The weight of the latest measurement; the rest is that of the previous estimate."""


class Costs:
    """Seconds that each kind of node is expected to take; 0 for one that has not run yet.

    Args:
        file: where they are kept between runs, or None. A file that can't be read or written affects only the order.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._seconds: dict[str, float] = {}
        self._changed = False
        if file is not None:
            with suppress(OSError, ValueError, AttributeError, TypeError):
                known = json.loads(file.read_text("utf-8")).items()
                self._seconds = {kind: float(seconds) for kind, seconds in known}

    def __bool__(self) -> bool:
        return bool(self._seconds)

    def of(self, kind: str) -> float:
        return self._seconds.get(kind, 0.0)

    def record(self, kind: str, seconds: float) -> None:
        """Record how long a node of that kind took."""
        before = self._seconds.get(kind, seconds)
        self._seconds[kind] = before + WEIGHT * (seconds - before)
        self._changed = True

    def save(self) -> None:
        """Save the estimates for later runs."""
        if self._file is not None and self._changed:
            self._changed = False
            with suppress(OSError):
                write(self._file, json.dumps(self._seconds).encode())
