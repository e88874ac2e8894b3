"""Run steps in a process of their own, so that what ruins a process, or never ends, costs one step only.

    python -m benchmarks.gpu.running PACKAGE.MODULE --device cuda --folder DIR [--small] [--skip NUMBER]

A module of steps has them in `STEPS`. The process prints a line of JSON before each step and one after it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
import traceback
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.gpu.bench import Bench, Claim, Step

LONG_LINE = 1 << 24


@dataclass(frozen=True)
class Outcome:
    """What became of a step."""

    part: str
    step: str
    claim: str
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    """Why the claim doesn't hold, or wasn't tried; empty if it holds."""
    trace: str = ""


def steps_of(module: str) -> Sequence[Step]:
    steps: Sequence[Step] = import_module(module).STEPS
    return steps


def claim_of(step: Step) -> str:
    return (step.__doc__ or "").strip().partition("\n")[0]


def outcome_of(part: str, step: Step, bench: Bench) -> Outcome:
    """Run a step in this process."""
    started, figures, problem, trace = time.perf_counter(), {}, "", ""
    try:
        figures = dict(step(bench))
    except Claim as error:
        problem = str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other steps are still of interest
        problem, trace = f"{type(error).__name__}: {error}".partition("\n")[0], traceback.format_exc()
    seconds = round(time.perf_counter() - started, 2)
    return Outcome(part, step.__name__, claim_of(step), seconds, figures, problem, trace)


@dataclass(frozen=True)
class Terms:
    """Under which steps run."""

    device: str
    """A torch device."""
    folder: Path
    """For files."""
    small: bool
    until: float
    """When all has to be over, by `time.monotonic`."""
    limit: float
    """Seconds that one step may take."""
    tell: Callable[[Outcome], object]
    """Called with each outcome."""


async def run_part(module: str, terms: Terms) -> list[Outcome]:
    """Run all steps of a module, by its dotted name; those for which no time is left are reported so."""
    steps, outcomes = steps_of(module), list[Outcome]()
    while len(outcomes) < len(steps):
        if time.monotonic() < terms.until:
            outcomes += await _in_process(module, len(outcomes), terms)
        else:
            outcomes.append(_untold(module, steps[len(outcomes)], "not tried: the time was over"))
            terms.tell(outcomes[-1])
    return outcomes


async def _in_process(module: str, skip: int, terms: Terms) -> list[Outcome]:
    """Run the steps after the first `skip` until the process ends, or is stopped in the middle of one."""
    command = [sys.executable, "-m", "benchmarks.gpu.running", module, "--device", terms.device]
    command += ["--folder", str(terms.folder), "--skip", str(skip), *(["--small"] if terms.small else [])]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, limit=LONG_LINE, start_new_session=True
    )
    assert process.stdout
    ended, begun = list[Outcome](), ""
    try:
        while line := await asyncio.wait_for(process.stdout.readline(), _wait(terms)):
            said = json.loads(line)
            begun = said.get("begun", "")
            if not begun:
                ended.append(Outcome(**said))
                terms.tell(ended[-1])
        problem = f"its process ended with {await process.wait()}"
    except TimeoutError:
        problem = "it took too long, and was stopped"
    finally:
        _end(process)
        await process.wait()
    if begun or not ended:
        ended.append(_untold(module, steps_of(module)[skip + len(ended)], problem))
        terms.tell(ended[-1])
    return ended


def _end(process: Process) -> None:
    """Kill a process and those that it has started, even if it has ended by itself and left them behind."""
    if sys.platform != "win32":
        with suppress(ProcessLookupError, PermissionError):  # macOS refuses if only ended ones are left
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        process.kill()


def _wait(terms: Terms) -> float:
    return min(terms.limit, max(0.0, terms.until - time.monotonic()))


def _untold(module: str, step: Step, problem: str) -> Outcome:
    return Outcome(_part(module), step.__name__, claim_of(step), problem=problem)


def _part(module: str) -> str:
    return module.rpartition(".")[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module")
    parser.add_argument("--device", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--skip", type=int, default=0)
    given = parser.parse_args()
    lines, sys.stdout = sys.stdout, sys.stderr  # what libraries print isn't taken for an outcome
    bench = Bench(given.device, given.small, given.folder)
    for step in steps_of(given.module)[given.skip :]:
        print(json.dumps({"begun": step.__name__}), file=lines, flush=True)
        outcome = outcome_of(_part(given.module), step, bench)
        print(json.dumps(asdict(outcome)), file=lines, flush=True)


if __name__ == "__main__":
    main()
