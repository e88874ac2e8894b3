"""The worker process: `python -m engine.work` (see `engine.work.worker`).

What it needs is imported late, so that the server learns why it can't start, whatever the reason.
"""

import ctypes
import json
import os
import signal
import sys
import traceback
from pathlib import Path

PR_SET_PDEATHSIG = 1


def follow_the_server() -> None:
    """End when the server ends, not on signals, which a terminal's Ctrl-C and service managers send to both.

    Linux also ends the worker where Python can't, as a node holds its lock, and before others when memory runs out.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # unlike SIG_IGN, programs that nodes start don't inherit it
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        Path("/proc/self/oom_score_adj").write_text("1000")


def main() -> None:
    """Run the process: its own output is only for the server, so whatever nodes print goes to the log."""
    follow_the_server()
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    try:
        from engine.work.worker import run

        run(out)
    except BaseException as error:
        is_ours = hasattr(error, "problems")  # of a KinographError, which is fit to be shown
        problem = str(error) if is_ours else "".join(traceback.format_exception_only(error)).strip()
        out.write(json.dumps({"message": "worker_failed", "problem": problem}).encode() + b"\n")
        raise


main()
