"""The server's log on standard error, in which lines that repeat are counted."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Lock

from aiohttp.http_exceptions import HttpProcessingError

WINDOW_SECONDS = 60.0
"""How long lines are counted before their number is shown."""
MOST_SHOWN = 3
"""How often a line is shown in that time."""
MOST_LINES = 1000
"""Different lines that are counted; beyond that, the oldest are forgotten."""

_VARYING = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8,}|\d+")


@dataclass
class _Line:
    text: str
    since: float
    count: int = 0


class Repeats(logging.Filter):
    """Lets a line pass a few times, and counts it from then on.

    Lines that differ only in numbers and ids count as the same, unless other code raised the error that they tell of.

    Args:
        now: seconds since any point in time.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._lines: dict[str, _Line] = {}
        self._lock = Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
            record.exc_info = record.exc_text = None  # the traceback of what is no request says nothing
        text = record.getMessage().partition("\n")[0]
        with self._lock:
            key = _VARYING.sub("0", f"{record.name} {record.levelno} {text} {_origin(record)}")
            line = self._lines.setdefault(key, _Line(text, self._now()))
            line.count += 1
            if len(self._lines) > MOST_LINES:
                del self._lines[next(iter(self._lines))]
        return line.count <= MOST_SHOWN

    def summary(self, *, all: bool = False) -> Iterator[str]:
        """What to say of lines that were not shown, once they have been counted for a while, or of all."""
        with self._lock:
            for key, line in list(self._lines.items()):
                if all or self._now() - line.since > WINDOW_SECONDS:
                    del self._lines[key]
                    if line.count > MOST_SHOWN:
                        yield f"{line.text} ({line.count - MOST_SHOWN:,} times more)"


def _origin(record: logging.LogRecord) -> str:
    """The kind of a record's exception and the function that raised it; aiohttp's line is the same for all."""
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    error, trace = record.exc_info[1], record.exc_info[2]
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{type(error).__qualname__} {trace.tb_frame.f_code.co_qualname if trace else ''}"


class Log(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes warnings and errors of all libraries to standard error, as long as it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.setLevel(logging.WARNING)
        self._repeats = Repeats()
        self.addFilter(self._repeats)

    def __enter__(self) -> Log:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        self._write(all=True)
        logging.getLogger().removeHandler(self)

    async def count(self) -> None:
        """Write now and then how often lines were repeated, until cancelled."""
        while True:
            await asyncio.sleep(WINDOW_SECONDS)
            self._write()

    def _write(self, *, all: bool = False) -> None:
        for line in self._repeats.summary(all=all):
            self.stream.write(f"{line}\n")
        self.flush()
