"""Between jobs a worker looks at the queue now and then, and drops what it holds in memory when it is told to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from engine.registry import Registry
from engine.run.resources import CacheLimits, Resources, open_resources
from engine.work import worker as working
from engine.work.messages import FreeMemory, LookForJobs, WorkerSettings
from engine.work.queue import Jobs
from engine.work.reporting import ServerReporter
from engine.work.worker import Worker
from tests.engine.far import far


class Over(Exception):
    """The test is over, and so is the worker."""


class Idle:
    """A worker without jobs, in a thread: what it holds, and how often it has looked for one."""

    resources: Resources

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looked = 0
        self._over = Event()
        monkeypatch.setattr(Jobs, "claim", self._claim)
        monkeypatch.setattr(working, "open_resources", self._open)
        monkeypatch.setattr(working, "LOOK_SECONDS", 60)
        self._settings = WorkerSettings(
            name="a", queue=folder / "queue.db", roots={}, device="cpu", cache=CacheLimits(keep=False, host=1 << 20)
        )

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with Path(os.devnull).open("wb") as out, ServerReporter(out) as reports:
            self.worker = Worker(self._settings, Registry([]), reports)
            thread = Thread(target=self._work)
            thread.start()
            try:
                self.until(lambda: self.looked == 2)  # a job may be there from before it started
                yield
            finally:
                self._over.set()
                self.worker.command(LookForJobs())
                thread.join()

    def until(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.005)

    def hold(self) -> None:
        """Hold a result and a model."""
        self.resources.cache.put("result", ("text",), 1.0, upstream=0)
        self.resources.models.get("model", lambda: [bytearray(8)])
        self.resources.models.release()

    @property
    def holds(self) -> tuple[bool, bool]:
        """Whether it holds the result and the model."""
        models = self.resources.models
        loaded = list[str]()
        models.get("model", lambda: loaded.append("model"))
        models.release()
        return "result" in self.resources.cache.memory, not loaded

    def _work(self) -> None:
        try:
            self.worker.work()
        except Over:
            return

    def _claim(self, name: str) -> None:
        self.looked += 1
        if self._over.is_set():
            raise Over

    @contextmanager
    def _open(self, limits: CacheLimits, device: str) -> Iterator[Resources]:
        with open_resources(limits, device) as self.resources:
            yield self.resources


@pytest.fixture
def idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Idle:
    return Idle(tmp_path, monkeypatch)


def test_it_looks_for_jobs_when_it_is_told_of_one_and_now_and_then(idle: Idle, monkeypatch: pytest.MonkeyPatch) -> None:
    with idle.at_work():
        time.sleep(0.1)
        assert idle.looked == 2
        idle.worker.command(LookForJobs())
        idle.until(lambda: idle.looked == 3)
        monkeypatch.setattr(working, "LOOK_SECONDS", 0.01)
        idle.worker.command(LookForJobs())
        idle.until(lambda: idle.looked > 6)


def test_it_drops_models_and_results_once_when_it_is_told_to(idle: Idle) -> None:
    with idle.at_work():
        idle.hold()
        assert idle.holds == (True, True)
        idle.worker.command(FreeMemory())
        idle.until(lambda: idle.looked == 3)
        assert idle.holds == (False, False)

        idle.hold()
        idle.worker.command(LookForJobs())
        idle.until(lambda: idle.looked == 4)
        time.sleep(0.1)
        assert idle.holds == (True, True)
        assert idle.looked == 4, "it waits again"


def test_what_it_drops_from_a_device_does_not_go_to_host_memory(idle: Idle) -> None:
    with idle.at_work():
        cache = idle.resources.cache
        cache.put("result", (far(10),), 1.0, upstream=0)
        assert "result" in cache.device
        idle.worker.command(FreeMemory())
        idle.until(lambda: idle.looked == 3)
        assert not cache.held("result")
        assert (cache.device.nbytes, cache.memory.nbytes) == (0, 0)
