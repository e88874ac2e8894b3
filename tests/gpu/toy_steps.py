"""Steps that hold, don't hold, raise, end their process, and take too long."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from benchmarks.gpu.bench import Bench, Figures, Step, claim


def holds(bench: Bench) -> Figures:
    """One is less than two.

    More is not part of the claim.
    """
    print("what a library prints")
    return {"one": 1, "device": bench.device, "small": str(bench.small)}


def fails(bench: Bench) -> Figures:
    """Two is less than one."""
    claim(2 < 1, "two is more than one")
    return {}


def raises(bench: Bench) -> Figures:
    """There is a file."""
    (bench.folder / "missing").read_text()
    return {}


def dies(bench: Bench) -> Figures:
    """The process goes on."""
    os._exit(7)


def hangs(bench: Bench) -> Figures:
    """It ends."""
    time.sleep(3600)
    return {}


def after(bench: Bench) -> Figures:
    """What comes after is tried all the same."""
    return {}


STEPS: Sequence[Step] = (holds, fails, raises, dies, after)
