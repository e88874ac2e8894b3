"""Handle Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from engine.errors import Cancelled
from engine.run.cancelling import Cancellation


class Interrupts(Cancellation):
    """Handles Ctrl-C: the first cancels what is in progress in an orderly way, the second ends the process."""

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.cancelled:
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h")  # the progress board has hidden the cursor
            os._exit(Cancelled.exit_code)
        self.cancelled = True
        if self.execution is None:
            raise Cancelled
        os.write(2, b"\ncancelling the run; press Ctrl-C again to stop at once\n")
        self.execution.cancel()
