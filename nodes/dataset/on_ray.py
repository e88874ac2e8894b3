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
from engine.models.precision import exact_float32
from engine.models.visible import seeing_only
from engine.node import Context
from engine.python import ROOT, SAFE_PATH, safe_path
from engine.values import LanguageModel, Table
from nodes.dataset.describe.describer import Describer, DescribeSettings
from nodes.dataset.scan.processes import in_short
from nodes.dataset.scan.scanner import Part, ScanSettings, parts
from nodes.dataset.table import CLIPS, Row, of_arrow, rows, to_arrow, to_table

TRIES = 3
"""How often a video is tried if reading it fails for a reason that may pass, or if its worker dies."""
PAUSE = 1.0
"""Seconds before the second try, doubled before each further one."""

AHEAD = 4
"""Tasks queued ahead for the process that drives Ray."""
TICK, GRACE = 0.2, 20.0
"""Seconds between two checks of the process that drives Ray, and those it has to end a cluster of its own."""

Outcome = tuple[list[Part], list[Part] | str]
"""The scanned parts of a video, and all described ones or why there are none."""
Reply = Outcome | str
"""An outcome, or why Ray failed."""


class Task(NamedTuple):
    """What is to be done for a video."""

    path: Path
    """Absolute; all workers find the file there."""
    seen: list[Part]
    """Parts that were scanned before and are still to be described."""
    after: Part | None
    """The part after which the scan is to continue."""


@dataclass(frozen=True)
class Stages:
    """The settings of the two stages, as sent to the workers."""

    scan: ScanSettings
    describe: DescribeSettings
    llm: LanguageModel | None
    device: str
    """Of the run, as its process names it: "cpu", "cuda:1". Workers on this machine get that GPU, others any."""
    threads: int = 1
    """Threads of the models on a CPU; sums differ in their last bit with their number."""


def described(
    tasks: Callable[[], Iterator[Task]],
    count: int,
    stages: Stages,
    processes: int,
    waiting: Callable[[], object] = lambda: None,
) -> Iterator[Outcome]:
    """The outcomes of videos, in order.

    Ray is driven by a process of its own: a second cluster in one process fails on what remains of the first.

    Args:
        tasks: gives the videos; parts scanned earlier are large, so tasks are taken one by one.
        count: how many tasks there are.
        stages: what is done with each.
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
        waiting_tasks: Queue[Task | None] = spawning.Queue(AHEAD)
        replies: Queue[Reply] = spawning.Queue()
        driver = spawning.Process(target=_drive, args=(waiting_tasks, replies, stages, processes))
        driver.start()
    try:
        for task in chain(tasks(), [None]):
            _put(waiting_tasks, task, driver, waiting)
        for _ in range(count):
            found = _next(replies, driver, waiting)
            if isinstance(found, str):
                raise NodeError(f"Ray failed: {found}")
            yield found
    finally:
        driver.terminate()
        driver.join(GRACE)
        driver.kill()
        waiting_tasks.cancel_join_thread()


def _put(tasks: Queue[Task | None], task: Task | None, driver: SpawnProcess, waiting: Callable[[], object]) -> None:
    while driver.is_alive():  # if it isn't, its reply says why
        waiting()
        with suppress(Full):
            tasks.put(task, timeout=TICK)
            return


def _next(replies: Queue[Reply], driver: SpawnProcess, waiting: Callable[[], object]) -> Reply:
    while True:
        with suppress(Empty):
            return replies.get(timeout=TICK)
        waiting()
        if not driver.is_alive() and replies.empty():
            return "the process that drives it ended"


def _drive(tasks: Queue[Task | None], replies: Queue[Reply], stages: Stages, processes: int) -> None:
    """In a process of its own: have all tasks done, and send each outcome as it comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the run, which ends this process
    _leave_folder()
    with Path(os.devnull).open("w") as nowhere:  # Ray prints internal messages, which its logs hold as well
        os.dup2(nowhere.fileno(), 2)
    try:
        for outcome in run_tasks(iter(tasks.get, None), stages, processes):
            replies.put(outcome)
    except Exception as error:  # noqa: BLE001 - whatever it is, the run reports it
        replies.put(in_short(error))


def _leave_folder() -> None:
    """Work elsewhere: Ray puts its driver's working folder first on its workers' import path."""
    os.environ["KINOGRAPH_HOME"] = str(home())  # which may be relative to it
    os.environ[SAFE_PATH] = "1"
    os.chdir(ROOT)


def run_tasks(tasks: Iterable[Task], stages: Stages, processes: int) -> Iterator[Outcome]:
    """The outcomes of videos, in order, with Ray driven by this process."""
    _set_environment(stages.device)
    import ray.data

    with _cluster(processes):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars, context.execution_options.preserve_order = False, True
        context.max_errored_blocks = -1  # a video that fails affects no other; it is noticed below
        blocks = [ray.put(_block(number, task)) for number, task in enumerate(tasks)]
        data = ray.data.from_arrow_refs(blocks)
        data = data.map(_scan, fn_args=[stages], num_cpus=1, ray_remote_args_fn=lambda: {"max_retries": TRIES - 1})
        gpus = 1 if stages.device.startswith("cuda") else 0
        data = data.map(
            _Describe, fn_constructor_args=[stages], num_cpus=0 if gpus else 1, num_gpus=gpus, concurrency=_actors(gpus)
        )
        yield from _outcomes(data.iter_rows(), len(blocks))


_LOST: Outcome = ([], f"its worker ended each of {TRIES} times")


def _outcomes(described: Iterable[Row], count: int) -> Iterator[Outcome]:
    """The outcomes of so many videos, in order; those whose row is missing have been lost with their workers."""
    done = 0
    for row in described:
        yield from [_LOST] * (row["number"] - done)
        yield _parts(row["scanned"]), row["problem"] or _parts(row["described"])
        done = row["number"] + 1
    yield from [_LOST] * (count - done)


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
    listed = [
        part._asdict() | {"video": json.dumps(part.video), "clips": part.clips.data, "rows": part.clips.rows}
        for part in parts
    ]
    return of_arrow(pa.Table.from_pylist(listed, _PARTS)).data


def _parts(data: bytes) -> list[Part]:
    found = to_arrow(Table(data, 0)).to_pylist()
    return [
        Part(row["number"], json.loads(row["video"]), Table(row["clips"], row["rows"]), row["last"]) for row in found
    ]


def _actors(gpus: int) -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("GPU", 0))) if gpus else 1


def shares_device(device: str) -> bool:
    """Whether Ray's workers compute on the GPU of the run, which should leave it to them."""
    return device.startswith("cuda") and "RAY_ADDRESS" not in os.environ


def _set_environment(device: str = "cpu") -> None:
    """Set the environment variables that Ray reads when it is imported, unless they are set already.

    A cluster of its own listens on all addresses, so it admits only those with a token that it alone knows. It has no
    GPU but that of the run.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "RAY_ADDRESS" not in os.environ:
        os.environ.update(seeing_only(device, os.environ))
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", token_hex(32))


@contextmanager
def _cluster(processes: int) -> Iterator[None]:
    """The cluster that RAY_ADDRESS names, or one on this machine that lives as long as the run."""
    import ray

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if "RAY_ADDRESS" not in os.environ:  # one more CPU than scans need: the models' stage takes one
        options |= {"num_cpus": (processes or os.cpu_count() or 1) + 1, "include_dashboard": False}
    ray.init(**options)
    try:
        yield
    finally:
        ray.shutdown()


def _scan(row: Row, stages: Stages) -> Row:
    """The first stage: scan a video; one that can't be read is reported at once, other failures are retried."""
    after = next(iter(_parts(row["after"])), None)
    problem, found = "", list[Part]()
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            problem, found = "", list(parts(Path(row["path"]), stages.scan, after=after))
        except KinographError as error:
            problem = error.message
        except OSError as error:  # such as a network share that is gone for a moment
            problem = in_short(error)
            continue
        except Exception as error:  # noqa: BLE001 - whatever an odd file triggers, the others go on
            problem = in_short(error)
        break
    return {"number": row["number"], "seen": row["seen"], "scanned": _bytes(found), "problem": problem}


class _Describe:
    """The second stage: describe clips with the models, which each worker loads once."""

    def __init__(self, stages: Stages) -> None:
        torch.set_num_threads(stages.threads)
        device = stages.device.partition(":")[0]  # Ray shows a worker the GPUs that it may use, and no other
        self._describe = Describer(Context(device), stages.describe, stages.llm)

    def __call__(self, row: Row) -> Row:
        found = [] if row["problem"] else [*_parts(row["seen"]), *_parts(row["scanned"])]
        with exact_float32():
            described = [part._replace(clips=to_table(self._describe(rows(part.clips)), CLIPS)) for part in found]
        return {name: row[name] for name in ("number", "scanned", "problem")} | {"described": _bytes(described)}
