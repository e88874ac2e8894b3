"""What a killed process had covered isn't lost: a plug-in of coverage.py, for `make coverage`.

coverage.py saves when a process ends. Tests kill servers and servers kill their workers, so those never come to it. The
processes that a measured one starts therefore save twice a second while they run.
"""

from __future__ import annotations

import os
import time
from threading import Thread
from typing import Any

import coverage

SECONDS = 0.5
"""From one saving to the next: so much of what a process did may be missing."""


def coverage_init(plugins: Any, options: Any) -> None:
    """Called by coverage.py wherever it starts; only in processes that another has told to measure is this set."""
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        Thread(target=_keep_saving, name="coverage", daemon=True).start()


def _keep_saving() -> None:
    while True:
        time.sleep(SECONDS)
        if measuring := coverage.Coverage.current():
            measuring.save()
