"""The process that decodes untrusted files: `python -m engine.server.files.decoder LIMITS` (see `decoding`).

It reads requests from its standard input, a line of JSON each, and answers each with a line. It ends with the input,
and by itself if a request takes too long, in case the server is no longer there to end it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Literal, TextIO

from pydantic import BaseModel, ConfigDict, TypeAdapter

from engine.errors import KinographError
from engine.server.files.pictures import Pictures

GRACE_SECONDS = 1.0
"""How much later than the server it ends itself."""


class Limits(BaseModel):
    """What decoding one file may take."""

    model_config = ConfigDict(frozen=True)

    pixels: int = 64 << 20
    nbytes: int = 1536 << 20
    """Of memory, besides what the process takes by itself; only Linux enforces it. The largest picture as a WebP, which
    needs most, took 1.2 GB."""
    seconds: float = 60.0


class Request(BaseModel):
    """A call of a method of `Pictures`."""

    call: Literal["check", "encode", "channel", "thumbnail", "mask"]
    paths: tuple[str, ...]
    options: tuple[str | int, ...] = ()


class Reply(BaseModel):
    """How a request ended."""

    problem: str = ""
    """Why it failed; "" if it didn't."""
    hint: str | None = None


def main() -> None:
    """Answer requests until there are no more."""
    limits = TypeAdapter(Limits).validate_json(sys.argv[1])
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever the libraries print goes to the log
    _restrict(limits)
    _say(out, Reply())  # it is ready
    pictures = Pictures(limits.pixels)
    for line in sys.stdin:
        _end_after(limits.seconds + GRACE_SECONDS)
        _say(out, _answered(pictures, Request.model_validate_json(line), limits))
        _end_after(0)


def _answered(pictures: Pictures, request: Request, limits: Limits) -> Reply:
    try:
        getattr(pictures, request.call)(*map(Path, request.paths), *request.options)
    except MemoryError:
        problem = f"decoding it needs more than {limits.nbytes >> 20:,} MB of memory"
        return Reply(problem=problem, hint="scale it down first")
    except KinographError as error:
        return Reply(problem=error.message, hint=error.hint)
    except (OSError, ValueError) as error:  # the target can't be written, or its format can't hold the picture
        return Reply(problem=f"it can't be converted: {error.strerror if isinstance(error, OSError) else error}")
    return Reply()


def _restrict(limits: Limits) -> None:
    """Load the libraries, and limit the memory that is taken afterwards."""
    import av  # noqa: F401
    from PIL import Image

    Image.init()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes; the server ends this one
    if sys.platform == "linux":
        import resource

        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + limits.nbytes, taken + limits.nbytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        Path("/proc/self/oom_score_adj").write_text("1000")


def _end_after(seconds: float) -> None:
    """Let the system end this process after some time; 0 for never."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _say(out: TextIO, reply: Reply) -> None:
    out.write(reply.model_dump_json() + "\n")


if __name__ == "__main__":
    main()
