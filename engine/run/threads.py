"""How many threads compute, and how they wait: the engine decides, since several nodes may compute at the same time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from engine.loaded import torch_if_loaded

# By default OpenMP's threads spin while they wait for one another. If other processes need the cores, that keeps the
# thread waited for from running: on a loaded two-core machine, ten convolutions took 2.4 s so, and 0.17 s without.
# OpenMP reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def cores() -> int:
    """How many threads may compute at a time: OMP_NUM_THREADS, or the cores that this process may use."""
    if (wanted := os.environ.get("OMP_NUM_THREADS", "")).isdigit():
        return max(1, int(wanted))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_torch_threads(number: int) -> None:
    """Give this thread's torch operations that many cores.

    Torch isn't imported just to set one. A node that imports it afterwards begins with as many as torch gives it.

    The number must not depend on the machine's load, as it can change the last digits of a sum.
    """
    torch = import_module("torch") if number > 1 else torch_if_loaded()
    if torch:
        torch.get_num_threads()  # a thread's first use of torch sets its number to that which any thread set last
        torch.set_num_threads(number)


@contextmanager
def torch_threads_restored() -> Iterator[None]:
    """Afterwards this thread's torch operations have as many cores as before; all, if torch is imported meanwhile."""
    torch = torch_if_loaded()
    number = torch.get_num_threads() if torch else cores()
    try:
        yield
    finally:
        if torch_if_loaded():
            set_torch_threads(number)
