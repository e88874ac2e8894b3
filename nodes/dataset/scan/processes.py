"""Scanning several videos at a time, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from threading import Thread
from types import TracebackType
from typing import Self

from engine.errors import Cancelled, KinographError, MissingError, NodeError
from engine.python import safe_path
from nodes.dataset.scan.scanner import Part, ScanSettings, parts

TICK = 0.1
"""Seconds between two checks of the processes."""

PartsOrProblem = list[Part] | str
"""The parts of a video, or why there are none."""
Update = float | Part
"""The share of a video that is done, or a part of it."""
FileUpdate = tuple[Path, Update]


class Scanners:
    """Scans videos, as a context that ends its processes on exit.

    Args:
        settings: what decides the result.
        processes: how many videos are scanned at a time; 1 scans in this process, when the result is asked for.
        report: called now and then with a video and the share of it that is done, and with every finished part; what
            it raises ends the wait.
    """

    def __init__(self, settings: ScanSettings, processes: int, report: Callable[[Path, Update], object]) -> None:
        self._settings = settings
        self._processes = processes
        self._report = report
        self._spawning = multiprocessing.get_context("spawn")  # torch's threads and CUDA don't survive a fork
        self._updates: Queue[FileUpdate] | None = None
        self._reported = set[tuple[Path, int]]()
        """Parts that were reported."""
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def start(self, path: Path, after: Part | None = None) -> Callable[[], PartsOrProblem]:
        """Start a scan after a known part, or from the beginning; the function returned waits for the result."""
        if self._processes == 1:
            return partial(_scan, path, self._settings, after, partial(self._report, path))
        return partial(self._wait, path, after, *self._submit(path, after))

    def _submit(self, path: Path, after: Part | None) -> tuple[Future[PartsOrProblem], ProcessPoolExecutor]:
        """Start a scan in another process; raises NodeError if the system starts none."""
        try:
            if self._pool is None:
                with safe_path():
                    self._updates = self._spawning.Queue()
                self._pool = ProcessPoolExecutor(
                    self._processes, mp_context=self._spawning, initializer=_start_worker, initargs=(self._updates,)
                )
            with safe_path():  # which starts another process, unless there are enough
                return self._pool.submit(_scan_in_worker, path, self._settings, after), self._pool
        except (OSError, RuntimeError) as error:  # the latter for a thread
            if isinstance(error, BrokenProcessPool):
                raise
            reason = error.strerror if isinstance(error, OSError) else error
            raise NodeError(
                f"no process can be started to scan {path.name}: {reason}",
                hint="scan with `processes` 1, or raise the limit of processes (`ulimit -u`); what was scanned is kept",
            ) from error

    def _wait(
        self,
        path: Path,
        after: Part | None,
        future: Future[PartsOrProblem],
        pool: ProcessPoolExecutor,
        *,
        again: bool = True,
    ) -> PartsOrProblem:
        while not future.done():
            self._report_updates(path)
            time.sleep(TICK)
        try:
            found = future.result()
        except BrokenProcessPool:  # by this video, or by one that was scanned beside it
            if self._pool is pool:
                self._end()
        else:
            for part in found if isinstance(found, list) else ():
                self._report_once(path, part)
            return found
        if again:  # alone, so that no other video is blamed
            with Scanners(self._settings, 2, self._report) as alone:
                return alone._wait(path, after, *alone._submit(path, after), again=False)
        return "a process ended each time that it was decoded"

    def _report_updates(self, awaited: Path) -> None:
        """Report what the processes have sent, and something in any case, so that a cancelled run ends."""
        self._report(awaited, 0.0)
        while self._updates is not None:
            try:
                self._report_once(*self._updates.get_nowait())
            except Empty:
                break

    def _report_once(self, path: Path, update: Update) -> None:
        """Report an update, but each part only once: parts come as they are done, and all together at the end."""
        if isinstance(update, Part):
            if (path, update.number) in self._reported:
                return
            self._reported.add((path, update.number))
        self._report(path, update)

    def _end(self) -> None:
        if self._pool is not None:
            running = list(self._pool._processes.values())  # the pool itself would let them finish
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()
            self._pool = None


def _scan(path: Path, settings: ScanSettings, after: Part | None, report: Callable[[Update], object]) -> PartsOrProblem:
    found: list[Part] = []
    try:
        for part in parts(path, settings, after=after, progress=report):
            found.append(part)
            report(part)
        return found
    except (Cancelled, MissingError):
        raise
    except KinographError as error:
        return error.message
    except Exception as error:  # noqa: BLE001 - whatever an odd file triggers, the others go on
        return in_short(error)


def in_short(error: Exception) -> str:
    """An exception in one line, to be read in a table."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


_updates: Queue[FileUpdate] | None = None
"""In a process that scans: the queue of its updates."""


def _start_worker(queue: Queue[FileUpdate]) -> None:
    global _updates
    _updates = queue
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the run, which ends this process
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent does: a run that is killed can't."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _scan_in_worker(path: Path, settings: ScanSettings, after: Part | None) -> PartsOrProblem:
    """Scan a video in a worker process, sending updates to the run."""
    assert _updates is not None
    queue = _updates

    def report(update: Update) -> None:
        if not (isinstance(update, Part) and update.last):  # the last comes with the result, at once
            queue.put((path, update))

    return _scan(path, settings, after, report)
