"""Steps that hold, don't hold, raise, end their process, and take too long; the last two leave a process behind."""

from __future__ import annotations

import os
import subprocess
import sys
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
    leave_behind(bench)
    os._exit(7)


def hangs(bench: Bench) -> Figures:
    """It ends."""
    leave_behind(bench)
    time.sleep(3600)
    return {}


def leave_behind(bench: Bench) -> None:
    """Start a process, and write its number into the file "child"."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=subprocess.DEVNULL)
    (bench.folder / "child").write_text(str(child.pid))


def after(bench: Bench) -> Figures:
    """What comes after is tried all the same."""
    return {}


STEPS: Sequence[Step] = (holds, fails, raises, dies, after)
