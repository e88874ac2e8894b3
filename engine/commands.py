"""What all commands share: errors as messages and exit codes, Ctrl-C, sizes as people write them."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING

import typer

from engine.errors import Cancelled, KinographError, UsageError

if TYPE_CHECKING:
    from engine.execute import Execution


@contextmanager
def answering(as_json: bool, debug: bool) -> Iterator[None]:
    """Turn errors into a message and an exit code."""
    try:
        yield
    except KinographError as error:
        if debug:
            traceback.print_exc()
        _show(error, as_json)
        raise typer.Exit(error.exit_code) from None
    except (typer.Exit, BrokenPipeError):
        raise
    except Exception as error:  # noqa: BLE001 - the last resort: a fault of Kinograph's own, or of a node file's
        if debug:
            traceback.print_exc()
        wrapped = KinographError(f"{type(error).__name__}: {error}", hint="--debug shows where")
        _show(wrapped, as_json)
        raise typer.Exit(wrapped.exit_code) from None


def _show(error: KinographError, as_json: bool) -> None:
    """All of an error's problems, a line each: as JSON on standard output, else on standard error."""
    if as_json:
        problems = [asdict(problem) for problem in error.problems]
        print(json.dumps({"event": "error", "exit_code": error.exit_code, "problems": problems}))
    else:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)


class Stop:
    """Ends what is under way, whatever it is by then, in good order."""

    def __init__(self) -> None:
        self.stopped = False
        self.execution: Execution | None = None

    def stop(self) -> None:
        self.stopped = True
        if self.execution:
            self.execution.cancel()


class Interrupts(Stop):
    """What Ctrl-C does: the first ends what is under way in good order, the second ends the process."""

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.stopped:
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h")  # the progress board has hidden the cursor
            os._exit(Cancelled.exit_code)
        self.stopped = True
        if self.execution is None:
            raise Cancelled
        os.write(2, b"\nending the run; once more to end it at once\n")
        self.execution.cancel()


def parsed_size(option: str, text: str) -> int:
    """Bytes that a text such as "500MB" or "2GiB" stands for."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        return TypeAdapter(ByteSize).validate_python(text)
    except ValidationError:
        raise UsageError(f"{option} {text}: that is no size", hint="such as 20GB, 500MB or 2GiB") from None


def human_size(nbytes: int) -> str:
    from pydantic import ByteSize

    return ByteSize(nbytes).human_readable(decimal=True, separator=" ")


def quiet_libraries() -> None:
    """Keep what libraries tell developers off the user's terminal."""
    import warnings

    warnings.simplefilter("ignore")
    quiet = {"TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
