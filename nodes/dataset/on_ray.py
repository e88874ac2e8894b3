"""Scanning and describing on Ray: on this machine, or on a cluster that sees the same files.

The two stages are sized apart: scans take a CPU each, and models a GPU each if the run is on one.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty, Full
from secrets import token_hex
from typing import Any, NamedTuple

import pyarrow as pa
import torch

from engine.errors import KinographError, MissingError, NodeError
from engine.models import home
from engine.node import Context
from engine.python import ROOT, SAFE_PATH, safe_path
from engine.values import LanguageModel, Table
from nodes.dataset.describe.describer import Describer, DescribeSettings
from nodes.dataset.scan.processes import in_short
from nodes.dataset.scan.scanner import Part, ScanSettings, parts
from nodes.dataset.table import CLIPS, Row, of_arrow, rows, to_arrow, to_table

TRIES = 3
"""How often a video is tried whose reading fails for a reason that may pass, or whose worker dies."""
PAUSE = 1.0
"""Seconds before the second try; before each further one twice as many."""

AHEAD = 4
"""Tasks that wait for the process that drives Ray to take them."""
TICK, GRACE = 0.2, 20.0
"""Seconds between two looks at the process that drives Ray, and what it has to end a cluster of its own."""

Outcome = tuple[list[Part], list[Part] | str]
"""The parts of a video that were scanned, and all that were described, or why there are none."""
Told = Outcome | str
"""An outcome, or why Ray failed."""


class Task(NamedTuple):
    """What is to be done of a video."""

    path: Path
    """Absolute; all workers see the file there."""
    seen: list[Part]
    """Parts that were scanned before, and are to be described."""
    after: Part | None
    """The part after which the scan is to go on."""


@dataclass(frozen=True)
class Stages:
    """What the two stages do, as it is sent to the workers."""

    scan: ScanSettings
    describe: DescribeSettings
    llm: LanguageModel | None
    device: str
    """"cpu" or "cuda"."""
    threads: int = 1
    """Of the models on a CPU: sums differ in their last bit with it."""


def described(
    tasks: Callable[[], Iterator[Task]],
    count: int,
    stages: Stages,
    processes: int,
    waiting: Callable[[], object] = lambda: None,
) -> Iterator[Outcome]:
    """What comes of videos, in their order.

    Ray is driven by a process of its own: a second cluster in one process trips over what is left of the first.

    Args:
        tasks: gives the videos. What was scanned of them before is large, so they are asked for one by one.
        count: how many there are.
        stages: what is done with them.
        processes: scans at a time; 0 for as many as there are CPUs.
        waiting: called several times a second; what it raises ends the work.

    Raises:
        MissingError: Ray isn't installed.
        NodeError: Ray failed.
    """
    if not count:
        return
    if find_spec("ray") is None:
        raise MissingError("Ray isn't installed", hint='pip install "kinograph[curate,ray]"')
    spawning = multiprocessing.get_context("spawn")
    with safe_path():
        asked: Queue[Task | None] = spawning.Queue(AHEAD)
        told: Queue[Told] = spawning.Queue()
        driver = spawning.Process(target=_drive, args=(asked, told, stages, processes))
        driver.start()
    try:
        for task in chain(tasks(), [None]):
            _put(asked, task, driver, waiting)
        for _ in range(count):
            found = _next(told, driver, waiting)
            if isinstance(found, str):
                raise NodeError(f"Ray failed: {found}")
            yield found
    finally:
        driver.terminate()
        driver.join(GRACE)
        driver.kill()
        asked.cancel_join_thread()


def _put(asked: Queue[Task | None], task: Task | None, driver: SpawnProcess, waiting: Callable[[], object]) -> None:
    while driver.is_alive():  # if it isn't, what it told says why
        waiting()
        with suppress(Full):
            asked.put(task, timeout=TICK)
            return


def _next(told: Queue[Told], driver: SpawnProcess, waiting: Callable[[], object]) -> Told:
    while True:
        with suppress(Empty):
            return told.get(timeout=TICK)
        waiting()
        if not driver.is_alive() and told.empty():
            return "the process that drives it ended"


def _drive(asked: Queue[Task | None], told: Queue[Told], stages: Stages, processes: int) -> None:
    """In a process of its own: have everything done, and tell it as it comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends this process
    _leave_folder()
    with Path(os.devnull).open("w") as nowhere:  # Ray tells of its inner workings, which its logs hold as well
        os.dup2(nowhere.fileno(), 2)
    try:
        for found in driven(iter(asked.get, None), stages, processes):
            told.put(found)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told where people look
        told.put(in_short(error))


def _leave_folder() -> None:
    """Work elsewhere: Ray puts its driver's working folder first on its workers' import path."""
    os.environ["KINOGRAPH_HOME"] = str(home())  # which may be relative to it
    os.environ[SAFE_PATH] = "1"
    os.chdir(ROOT)


def driven(tasks: Iterable[Task], stages: Stages, processes: int) -> Iterator[Outcome]:
    """What `described` gives, driven by this process."""
    _settings()
    import ray.data

    with _cluster(processes):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars, context.execution_options.preserve_order = False, True
        context.max_errored_blocks = -1  # a video that can't be had costs no other; it is missed below
        blocks = [ray.put(_block(number, task)) for number, task in enumerate(tasks)]
        data = ray.data.from_arrow_refs(blocks)
        data = data.map(_scan, fn_args=[stages], num_cpus=1, ray_remote_args_fn=lambda: {"max_retries": TRIES - 1})
        gpus = 1 if stages.device == "cuda" else 0
        data = data.map(
            _Describe, fn_constructor_args=[stages], num_cpus=0 if gpus else 1, num_gpus=gpus, concurrency=_actors(gpus)
        )
        told = 0
        for row in data.iter_rows():
            yield from [_LOST] * (row["number"] - told)
            yield _parts(row["scanned"]), row["problem"] or _parts(row["described"])
            told = row["number"] + 1
        yield from [_LOST] * (len(blocks) - told)


_LOST: Outcome = ([], f"its worker ended each of {TRIES} times")


def _block(number: int, task: Task) -> pa.Table:
    """A task as a row."""
    after = [task.after] if task.after else []
    row = {"number": number, "path": str(task.path), "seen": _bytes(task.seen), "after": _bytes(after)}
    return pa.Table.from_pylist([row])


_PARTS = pa.schema(
    [
        ("number", pa.int32()),
        ("video", pa.string()),
        ("clips", pa.binary()),
        ("rows", pa.int32()),
        ("last", pa.bool_()),
    ]
)


def _bytes(parts: Sequence[Part]) -> bytes:
    told = [part._asdict() | {"video": json.dumps(part.video), "clips": part.clips.data} for part in parts]
    counts = [part.clips.rows for part in parts]
    return of_arrow(pa.Table.from_pylist([row | {"rows": n} for row, n in zip(told, counts, strict=True)], _PARTS)).data


def _parts(data: bytes) -> list[Part]:
    found = to_arrow(Table(data, 0)).to_pylist()
    return [
        Part(row["number"], json.loads(row["video"]), Table(row["clips"], row["rows"]), row["last"]) for row in found
    ]


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
    after = next(iter(_parts(row["after"])), None)
    problem, found = "", list[Part]()
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            problem, found = "", list(parts(Path(row["path"]), stages.scan, after=after))
        except KinographError as error:
            problem = error.message
        except OSError as error:  # such as a share that is away for a moment
            problem = in_short(error)
            continue
        except Exception as error:  # noqa: BLE001 - whatever a strange file sets off, the others go on
            problem = in_short(error)
        break
    return {"number": row["number"], "seen": row["seen"], "scanned": _bytes(found), "problem": problem}


class _Describe:
    """The second stage: the models, loaded once by each worker."""

    def __init__(self, stages: Stages) -> None:
        torch.set_num_threads(stages.threads)
        self._describe = Describer(Context(stages.device), stages.describe, stages.llm)

    def __call__(self, row: Row) -> Row:
        found = [] if row["problem"] else [*_parts(row["seen"]), *_parts(row["scanned"])]
        described = [part._replace(clips=to_table(self._describe(rows(part.clips)), CLIPS)) for part in found]
        return {name: row[name] for name in ("number", "scanned", "problem")} | {"described": _bytes(described)}
