"""Cancel whatever is in progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.run.execute import Execution


class Cancellation:
    """Cancels whatever is in progress at the time, in an orderly way."""

    def __init__(self) -> None:
        self.cancelled = False
        self.execution: Execution | None = None

    def cancel(self) -> None:
        self.cancelled = True
        if self.execution:
            self.execution.cancel()
