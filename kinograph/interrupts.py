"""What Ctrl-C, or a notebook's stop button, does during a run."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Self

from engine.run.cancelling import Cancellation


class Interrupts(Cancellation):
    """The first ends the run before its next step, and `KeyboardInterrupt` comes once it has.

    Any further ones raise it where the process is, so that nobody has to wait for a node that doesn't listen.
    Signals reach the main thread alone: in others this does nothing.
    """

    def __enter__(self) -> Self:
        self._before = signal.getsignal(signal.SIGINT)
        self._listens = threading.current_thread() is threading.main_thread() and callable(self._before)
        if self._listens:  # and not where the whole process is to ignore it
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
