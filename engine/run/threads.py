"""How many threads compute, and how they wait: the engine's to say, since several nodes may compute at a time."""

from __future__ import annotations

import os
import sys
from importlib import import_module

# By default OpenMP's threads spin while they wait for one another. Where other processes want the cores, that keeps the
# one waited for from running: on a loaded machine of two cores, ten convolutions took 2.4 s so, and 0.17 s without.
# OpenMP reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def cores() -> int:
    """How many threads may compute at a time: OMP_NUM_THREADS, or the cores that this process may use."""
    if (wanted := os.environ.get("OMP_NUM_THREADS", "")).isdigit():
        return max(1, int(wanted))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_torch_threads(number: int) -> None:
    """Give this thread's torch operations that many cores; where torch is not imported, one is not worth importing it.

    Never by the machine's load: the number of threads can change a sum's last digits.
    """
    torch = import_module("torch") if number > 1 else sys.modules.get("torch")
    if set_num_threads := getattr(torch, "set_num_threads", None):
        set_num_threads(number)
