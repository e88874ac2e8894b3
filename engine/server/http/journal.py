"""The last lines of the server's log, for panels that show it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock

from aiohttp import web

from engine.server.http.logs import Repeats

MOST_LINES = 1000
LONGEST_LINE = 1000
"""Characters."""


@dataclass(frozen=True)
class Line:
    """One line."""

    number: int
    """It counts on from 1."""
    at: float
    """Seconds since 1970."""
    text: str

    @property
    def when(self) -> str:
        """The time, as the protocol has it."""
        return datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "")


class Journal(logging.Handler):
    """Keeps lines: warnings and errors of all libraries, without their traces, and what is noted.

    It may be written to from any thread.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.addFilter(Repeats())
        self._lines: deque[Line] = deque(maxlen=MOST_LINES)
        self._written = 0
        self._guard = Lock()
        self._listener: Callable[[], object] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self.note(record.getMessage())

    def note(self, text: str) -> None:
        """Add a line; of a longer text the first."""
        with self._guard:
            self._written += 1
            self._lines.append(Line(self._written, time.time(), text.partition("\n")[0][:LONGEST_LINE]))
        if self._listener:
            self._listener()

    def since(self, number: int = 0) -> list[Line]:
        """The lines after the one with a number."""
        with self._guard:
            return [line for line in self._lines if line.number > number]

    def listen(self, changed: asyncio.Event) -> None:
        """Set an event of the running loop at each line, until `close`."""
        loop = asyncio.get_running_loop()
        self._listener = lambda: loop.call_soon_threadsafe(changed.set)

    def close(self) -> None:
        self._listener = None
        super().close()


JOURNAL = web.AppKey("journal", Journal)
