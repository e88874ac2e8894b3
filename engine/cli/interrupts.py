"""What Ctrl-C does."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from engine.errors import Cancelled
from engine.run.cancelling import Cancellation


class Interrupts(Cancellation):
    """What Ctrl-C does: the first ends what is under way in good order, the second ends the process."""

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.stopped:
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h")  # the progress board has hidden the cursor
            os._exit(Cancelled.exit_code)
        self.stopped = True
        if self.execution is None:
            raise Cancelled
        os.write(2, b"\nending the run; once more to end it at once\n")
        self.execution.cancel()
