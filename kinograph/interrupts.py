"""Handling Ctrl-C, or a notebook's stop button, during a run."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Self

from engine.run.cancelling import Cancellation


class Interrupts(Cancellation):
    """The first interrupt ends the run before its next step; `KeyboardInterrupt` is raised after that.

    Any further one raises it immediately, so that nobody has to wait for a node that doesn't respond.
    Signals reach only the main thread: in others this does nothing.
    """

    def __enter__(self) -> Self:
        self._before = signal.getsignal(signal.SIGINT)
        self._listens = threading.current_thread() is threading.main_thread() and callable(self._before)
        if self._listens:  # not where the process is set to ignore it
            signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *error: object) -> None:
        if self._listens:
            signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.cancelled or self.execution is None:
            self.cancelled = True
            raise KeyboardInterrupt
        self.cancel()
