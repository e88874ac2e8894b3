"""Ending what is under way in good order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.run.execute import Execution


class Cancellation:
    """Ends what is under way, whatever it is by then, in good order."""

    def __init__(self) -> None:
        self.stopped = False
        self.execution: Execution | None = None

    def stop(self) -> None:
        self.stopped = True
        if self.execution:
            self.execution.cancel()
