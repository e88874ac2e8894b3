"""Report errors as messages and exit codes."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import typer

from engine.cli.options import Printing
from engine.errors import KinographError


@contextmanager
def answering(printing: Printing) -> Iterator[None]:
    """Turn errors into a message and an exit code."""
    try:
        yield
    except KinographError as error:
        if printing.debug:
            traceback.print_exc()
        _show(error, printing.as_json)
        raise typer.Exit(error.exit_code) from None
    except (typer.Exit, BrokenPipeError):
        raise
    except Exception as error:  # noqa: BLE001 - the last resort, for a fault of Kinograph or of a node file
        if printing.debug:
            traceback.print_exc()
        wrapped = KinographError(f"{type(error).__name__}: {error}", hint="--debug shows where")
        _show(wrapped, printing.as_json)
        raise typer.Exit(wrapped.exit_code) from None


def _show(error: KinographError, as_json: bool) -> None:
    """Print all of an error's problems, one per line: as JSON on standard output, else on standard error."""
    if as_json:
        problems = [asdict(problem) for problem in error.problems]
        print(json.dumps({"event": "error", "exit_code": error.exit_code, "problems": problems}))
    else:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
