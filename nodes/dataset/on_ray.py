"""Scanning and describing on Ray: on this machine, or on a cluster that sees the same files.

The two stages are sized apart: scans take a CPU each, and models a GPU each where there are any.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from secrets import token_hex
from typing import Any

from engine.errors import KinographError, MissingError, NodeError
from engine.node import Context
from engine.values import LanguageModel, Table
from nodes.dataset.describe import Describer, DescribeSettings
from nodes.dataset.scan import ScanSettings, scan
from nodes.dataset.table import CLIPS, SCANNED, Row, rows, to_table

TRIES = 3
"""How often a video is tried whose reading fails for a reason that may pass, or whose worker dies."""
PAUSE = 1.0
"""Seconds before the second try; before each further one twice as many."""

TICK, GRACE = 0.2, 20.0
"""Seconds between two looks at the process that drives Ray, and what it has to end a cluster of its own."""

Described = tuple[Row, list[Row]]
Told = tuple[Path, Described] | str
"""A video's rows, or why there are none."""


@dataclass(frozen=True)
class Stages:
    """What the two stages do, as it is sent to the workers."""

    scan: ScanSettings
    describe: DescribeSettings
    llm: LanguageModel | None
    device: str
    """"cpu" or "cuda"."""


def described(
    files: Sequence[Path], stages: Stages, processes: int, waiting: Callable[[], object] = lambda: None
) -> Iterator[tuple[Path, Described]]:
    """The row of each video and those of its clips, in the order of the files.

    Ray is driven by a process of its own: a second cluster in one process trips over what is left of the first.

    Args:
        files: absolute paths, which all workers see.
        stages: what is done with them.
        processes: scans at a time; 0 for as many as there are CPUs.
        waiting: called several times a second; what it raises ends the work.

    Raises:
        MissingError: Ray isn't installed.
        NodeError: Ray failed.
    """
    if find_spec("ray") is None:
        raise MissingError("Ray isn't installed", hint='pip install "kinograph[curate,ray]"')
    spawning = multiprocessing.get_context("spawn")
    told: Queue[Told] = spawning.Queue()
    driver = spawning.Process(target=_drive, args=(told, files, stages, processes))
    driver.start()
    try:
        for _ in files:
            found = _next(told, driver, waiting)
            if isinstance(found, str):
                raise NodeError(f"Ray failed: {found}")
            yield found
    finally:
        driver.terminate()
        driver.join(GRACE)
        driver.kill()


def _next(told: Queue[Told], driver: SpawnProcess, waiting: Callable[[], object]) -> Told:
    while True:
        with suppress(Empty):
            return told.get(timeout=TICK)
        waiting()
        if not driver.is_alive() and told.empty():
            return "the process that drives it ended"


def _drive(told: Queue[Told], files: Sequence[Path], stages: Stages, processes: int) -> None:
    """In a process of its own: have everything done, and tell it as it comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends this process
    try:
        for found in driven(files, stages, processes):
            told.put(found)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told where people look
        told.put(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


def driven(files: Sequence[Path], stages: Stages, processes: int) -> Iterator[tuple[Path, Described]]:
    """What `described` gives, driven by this process."""
    _settings()
    import ray.data

    with _cluster(processes):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars, context.execution_options.preserve_order = False, True
        context.max_errored_blocks = -1  # a video that can't be had costs no other; it is missed below
        data = ray.data.from_items([{"path": str(file)} for file in files], override_num_blocks=len(files))
        data = data.map(_scan, fn_args=[stages], num_cpus=1, ray_remote_args_fn=lambda: {"max_retries": TRIES - 1})
        gpus = 1 if stages.device == "cuda" else 0
        data = data.map(
            _Describe, fn_constructor_args=[stages], num_cpus=0 if gpus else 1, num_gpus=gpus, concurrency=_actors(gpus)
        )
        left = list(files)
        for found in data.iter_rows():
            while str(left[0]) != found["path"]:
                yield left.pop(0), _lost()
            video = json.loads(found["video"])
            yield left.pop(0), (video, rows(Table(found["clips"], found["count"])))
        for file in left:
            yield file, _lost()


def _lost() -> Described:
    return {"problem": f"its worker ended each of {TRIES} times"}, []


def _actors(gpus: int) -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("GPU", 0))) if gpus else 1


def _settings() -> None:
    """What Ray reads from the environment when it is imported, unless people have set it.

    A cluster of its own listens on all addresses, so nobody gets in without a token that it alone knows.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "RAY_ADDRESS" not in os.environ:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", token_hex(32))


@contextmanager
def _cluster(processes: int) -> Iterator[None]:
    """The cluster that RAY_ADDRESS names, or one of this machine's that lives as long as the run."""
    import ray

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if "RAY_ADDRESS" not in os.environ:  # one CPU more than for scans: the models' stage takes one
        options |= {"num_cpus": (processes or os.cpu_count() or 1) + 1, "include_dashboard": False}
    ray.init(**options)
    try:
        yield
    finally:
        ray.shutdown()


def _scan(row: Row, stages: Stages) -> Row:
    """The first stage: a video scanned; what can't be read is told at once, what fails otherwise is tried again."""
    problem = ""
    for attempt in range(TRIES):
        try:
            found = scan(Path(row["path"]), stages.scan)
            return row | {"video": json.dumps(found.video), "clips": to_table(found.clips, SCANNED).data}
        except KinographError as error:
            problem = error.message
            break
        except OSError as error:  # such as a share that is away for a moment
            problem = f"{type(error).__name__}: {error}"
            time.sleep(PAUSE * 2**attempt)
        except Exception as error:  # noqa: BLE001 - whatever a strange file sets off, the others go on
            problem = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            break
    return row | {"video": json.dumps({"problem": problem}), "clips": to_table([], SCANNED).data}


class _Describe:
    """The second stage: the models, loaded once by each worker."""

    def __init__(self, stages: Stages) -> None:
        self._describe = Describer(Context(stages.device), stages.describe, stages.llm)

    def __call__(self, row: Row) -> Row:
        clips = to_table(self._describe(rows(Table(row["clips"], 0))), CLIPS)
        return {"path": row["path"], "video": row["video"], "clips": clips.data, "count": clips.rows}
