"""What a killed process had covered isn't lost: a plug-in of coverage.py, for `make coverage` and `make mutants`.

coverage.py saves when a process ends. Tests kill servers and servers kill their workers, so those never come to it. The
processes that tests start therefore save twice a second while they run.
"""

from __future__ import annotations

import os
from resource import RLIM_INFINITY, RLIMIT_FSIZE, getrlimit
from threading import Thread, main_thread
from typing import Any

from coverage import Coverage

SECONDS = 0.5
"""From one saving to the next: so much of what a process did may be missing."""


def coverage_init(plugins: Any, options: Any) -> None:
    """Called by coverage.py wherever it starts; only in processes that a test has started is this set."""
    if "PYTEST_CURRENT_TEST" in os.environ:
        Thread(target=_keep_saving, name="coverage").start()


def _keep_saving() -> None:
    """Ends with the main thread, and Python waits for that: coverage.py closes the file at the very end."""
    main = main_thread()
    while main.is_alive():
        is_full = getrlimit(RLIMIT_FSIZE)[0] != RLIM_INFINITY  # a test that fills a disk
        if not is_full and (measuring := Coverage.current()):
            measuring.save()
        main.join(SECONDS)
