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

from engine.errors import Cancelled, KinographError, MissingError
from engine.python import safe_path
from nodes.dataset.scan.scanner import Part, ScanSettings, parts

TICK = 0.1
"""Seconds between two looks at the processes."""

Found = list[Part] | str
"""What a scan found, or why it could not be made."""
News = float | Part
"""The share of a video that is done, or a part of it."""
Told = tuple[Path, News]


class Scanners:
    """Scans videos; leaving it ends its processes.

    Args:
        settings: what decides the result.
        processes: how many videos are scanned at a time; 1 scans in this process, when the result is asked for.
        tell: called now and then, with a video and the share of it that is done, and with every part that is; what it
            raises ends the wait.
    """

    def __init__(self, settings: ScanSettings, processes: int, tell: Callable[[Path, News], object]) -> None:
        self._settings = settings
        self._processes = processes
        self._tell = tell
        self._spawning = multiprocessing.get_context("spawn")  # torch's threads and CUDA don't survive a fork
        self._told: Queue[Told] | None = None
        self._known = set[tuple[Path, int]]()
        """Parts that were told."""
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def start(self, path: Path, after: Part | None = None) -> Callable[[], Found]:
        """Begin a scan, with what comes after a part that is known; what is returned waits for its end."""
        if self._processes == 1:
            return partial(_found, path, self._settings, after, partial(self._tell, path))
        return partial(self._wait, path, after, *self._submit(path, after))

    def _submit(self, path: Path, after: Part | None) -> tuple[Future[Found], ProcessPoolExecutor]:
        if self._pool is None:
            with safe_path():
                self._told = self._spawning.Queue()
            self._pool = ProcessPoolExecutor(
                self._processes, mp_context=self._spawning, initializer=_tell_into, initargs=(self._told,)
            )
        with safe_path():  # which starts another process, unless there are enough
            return self._pool.submit(_found_there, path, self._settings, after), self._pool

    def _wait(
        self, path: Path, after: Part | None, future: Future[Found], pool: ProcessPoolExecutor, *, again: bool = True
    ) -> Found:
        while not future.done():
            self._pass_on(path)
            time.sleep(TICK)
        try:
            found = future.result()
        except BrokenProcessPool:  # by this video, or by one that was scanned beside it
            if self._pool is pool:
                self._end()
        else:
            for part in found if isinstance(found, list) else ():
                self._tell_once(path, part)
            return found
        if again:  # alone, so that no other is blamed
            with Scanners(self._settings, 2, self._tell) as alone:
                return alone._wait(path, after, *alone._submit(path, after), again=False)
        return "a process ended each time that it was decoded"

    def _pass_on(self, awaited: Path) -> None:
        """Tell what the processes have told, and something in any case: a run that was cancelled ends so."""
        self._tell(awaited, 0.0)
        while self._told is not None:
            try:
                self._tell_once(*self._told.get_nowait())
            except Empty:
                break

    def _tell_once(self, path: Path, news: News) -> None:
        """Tell news, parts but once: they come as they are done, and all together in the end."""
        if isinstance(news, Part):
            if (path, news.number) in self._known:
                return
            self._known.add((path, news.number))
        self._tell(path, news)

    def _end(self) -> None:
        if self._pool is not None:
            running = list(self._pool._processes.values())  # the pool itself would let them go on to the end
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()
            self._pool = None


def _found(path: Path, settings: ScanSettings, after: Part | None, tell: Callable[[News], object]) -> Found:
    found: list[Part] = []
    try:
        for part in parts(path, settings, after=after, progress=tell):
            found.append(part)
            tell(part)
        return found
    except (Cancelled, MissingError):
        raise
    except KinographError as error:
        return error.message
    except Exception as error:  # noqa: BLE001 - whatever a strange file sets off, the others go on
        return in_short(error)


def in_short(error: Exception) -> str:
    """An exception in one line, for people who look through a table."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


_told: Queue[Told] | None = None
"""In a process that scans: where it tells how far it is."""


def _tell_into(queue: Queue[Told]) -> None:
    global _told
    _told = queue
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends this process
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A run that is killed can't end its processes."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _found_there(path: Path, settings: ScanSettings, after: Part | None) -> Found:
    """In a process of its own."""
    assert _told is not None
    queue = _told

    def tell(news: News) -> None:
        if not (isinstance(news, Part) and news.last):  # which comes at once with all that was found
            queue.put((path, news))

    return _found(path, settings, after, tell)
