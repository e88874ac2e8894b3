"""Describing a pack in a child process, which may raise, crash, hang, print or start other processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread

from pydantic import ValidationError

from engine.packs.description import Description
from engine.python import command, environment

SECONDS = 60.0
"""How long importing a pack may take; some load all of torch."""
GRACE_SECONDS = 5.0
"""How much later the child ends by itself, in case its parent no longer runs."""
MOST_BYTES = 16 << 20
"""Of a description."""
DESCRIBING = "KINOGRAPH_DESCRIBING"
"""The environment variable that marks the child and every process that it starts."""


def ask(modules: Sequence[str], seconds: float = SECONDS, most: int = MOST_BYTES) -> Description:
    """The description of these modules' kinds by a child process that imports them, or the problem it ran into."""
    path = os.pathsep.join(filter(None, sys.path))  # so that it imports what this process would
    child = subprocess.Popen(
        command("-m", "engine.packs.describe", str(seconds + GRACE_SECONDS), *modules),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**environment(), "PYTHONPATH": path, DESCRIBING: "1"},
        start_new_session=True,
    )
    answer, late = bytearray(), False
    reading = Thread(target=_read, args=(child, answer, most), daemon=True)
    reading.start()
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        late = True
    finally:
        _end(child)
        reading.join()
    if len(answer) > most:
        return Description(problem=f"has a description of more than {most:,} bytes")
    with suppress(ValidationError):
        return Description.model_validate_json(bytes(answer))
    return Description(problem=_problem(child.returncode, seconds if late else None))


def _read(child: subprocess.Popen[bytes], answer: bytearray, most: int) -> None:
    assert child.stdout
    with child.stdout as output:
        while part := os.read(output.fileno(), 1 << 16):
            answer += part
            if len(answer) > most:
                child.kill()
                return


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and every process that it has started."""
    if os.name == "posix":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.wait()


def _problem(status: int, seconds: float | None) -> str:
    if seconds is not None:
        return f"takes longer than {seconds:g} seconds to import"
    if status < 0:
        return f"crashes on import ({signal.Signals(-status).name})"
    return f"ends the process on import (status {status})"
