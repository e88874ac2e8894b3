"""What nodes have taken, by kind, so that a run can begin with what will take longest."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from engine.atomic import write

SHARE = 0.5
"""What the last measurement counts for; the rest is what was known before."""


class Costs:
    """Seconds that each kind of node is expected to take; 0 for one that has not run yet.

    Args:
        file: where they are kept between runs, or None. A file that can't be read or written costs order, not results.
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

    def note(self, kind: str, seconds: float) -> None:
        """Take note that a node of that kind took so long."""
        before = self._seconds.get(kind, seconds)
        self._seconds[kind] = before + SHARE * (seconds - before)
        self._changed = True

    def save(self) -> None:
        """Keep what was measured for later runs."""
        if self._file is not None and self._changed:
            self._changed = False
            with suppress(OSError):
                write(self._file, json.dumps(self._seconds).encode())
