"""The pool with scripted workers: what happens to jobs when workers end, send nonsense or don't respond."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from engine.server.http.settings import Folders, ServerSettings
from engine.server.jobs import workers
from engine.server.jobs.queue import Queue
from engine.server.jobs.workers import WorkerPool, WorkerProcess
from engine.work.messages import JobBegun, JobEnded, Report
from engine.work.queue import Jobs
from engine.work.records import Job, Request

PATIENCE = 180.0
"""Seconds until a test has waited in vain; on a busy machine a process takes many to start."""
CLAIM = """
import json, sys, time
from engine.work.messages import JobBegun, JobEnded, Report
from engine.work.queue import Jobs
from contextlib import suppress
from pathlib import Path
settings = json.loads(sys.stdin.readline())
jobs = Jobs(Path(settings["queue"]))
def send(**message):
    print(json.dumps(message), flush=True)
def claim():
    while not (lease := jobs.claim(settings["name"])):
        time.sleep(0.02)
    send(message="job_begun", job=lease.id, attempt=lease.attempt)
    return lease
def listen():
    return json.loads(sys.stdin.readline())
"""


class Scripted:
    """A pool with one worker that runs a script."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
        folders = Folders(*(folder / name for name in ("input", "output", "models", "data")))
        folders.make()
        (folder / "script.py").write_text(CLAIM + script)
        python = folder / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder}/script.py"\n')
        python.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(python))
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        monkeypatch.setattr(workers, "WATCH_SECONDS", 0.02)
        monkeypatch.setattr(workers, "TRY_AGAIN_SECONDS", 0.02)
        self.settings = ServerSettings(folders, devices=("cpu",))
        self.lost: list[str] = []
        self.reports: list[Report] = []

    def run(self, play: Callable[[WorkerPool, Queue], Awaitable[None]]) -> None:
        async def main() -> None:
            queue = Queue(self.settings.folders.data / "jobs.sqlite")
            pool = WorkerPool(self.settings, queue, {}, lambda report, _: self.reports.append(report), self.lost.append)
            pool.start()
            try:
                async with asyncio.timeout(PATIENCE):
                    await play(pool, queue)
            finally:
                await pool.close()
                await queue.close()

        asyncio.run(main())

    async def ended(self, queue: Queue, name: str) -> Job:
        while not ((job := await queue.ask(Jobs.get, name)) and job.finished):
            await asyncio.sleep(0.02)
        return job


async def add(queue: Queue, *names: str) -> None:
    for name in names:
        await queue.ask(Jobs.add, Request(name, {"kinograph": 1, "graph": {}}))


CANCELLED_ONCE = """
lease = claim()
while listen()["message"] != "cancel_job":
    pass
jobs.finish(lease, "cancelled", {}, {})
send(message="job_ended", job=lease.id)
lease = claim()
time.sleep(0.5)
jobs.finish(lease, "done", {}, {})
send(message="job_ended", job=lease.id)
time.sleep(60)
"""


def test_a_retried_job_is_not_killed_for_its_earlier_cancellation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = Scripted(tmp_path, monkeypatch, CANCELLED_ONCE)
    monkeypatch.setattr(workers, "GRACE_SECONDS", PATIENCE)

    async def play(pool: WorkerPool, queue: Queue) -> None:
        await add(queue, "a")
        while JobBegun(job="a", attempt=1) not in scripted.reports:
            await asyncio.sleep(0.02)
        pool.cancel("a", pool.workers[0].name)
        assert (await scripted.ended(queue, "a")).state == "cancelled"
        while JobEnded(job="a") not in scripted.reports:
            await asyncio.sleep(0.02)
        monkeypatch.setattr(workers, "GRACE_SECONDS", 0.0)
        await queue.ask(Jobs.retry, "a")
        assert (await scripted.ended(queue, "a")).state == "done"

    scripted.run(play)


def test_a_worker_that_hangs_while_it_starts_is_told_of_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = Scripted(tmp_path, monkeypatch, "time.sleep(60)")
    monkeypatch.setattr(workers, "SLOW_START_SECONDS", 0.1)

    async def play(pool: WorkerPool, queue: Queue) -> None:
        while "cpu" not in pool.problems:
            await asyncio.sleep(0.02)
        assert pool.problem_data() == [{"device": "cpu", "problem": "it has not started for 0.1 s"}]
        (first,) = pool.workers
        assert not first.killed
        monkeypatch.setattr(workers, "START_SECONDS", 0.2)
        while first in pool.workers:
            await asyncio.sleep(0.02)
        monkeypatch.setattr(workers, "START_SECONDS", PATIENCE)
        while not pool.workers:
            await asyncio.sleep(0.02)
        assert pool.problems["cpu"] == "it did not start within 0.2 s"

    scripted.run(play)


@pytest.mark.parametrize("line", ["no JSON at all", "x" * 200_000], ids=["nonsense", "too much"])
def test_the_job_of_a_worker_that_sends_nonsense_fails(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"""
lease = claim()
if lease.id == "bad":
    print({line!r}, flush=True)
    time.sleep(60)
jobs.finish(lease, "done", {{}}, {{}})
"""
    scripted = Scripted(tmp_path, monkeypatch, script)
    monkeypatch.setattr(workers, "MAX_LINE_BYTES", 10_000)

    async def play(pool: WorkerPool, queue: Queue) -> None:
        await add(queue, "bad", "good")
        bad = await scripted.ended(queue, "bad")
        assert bad.state == "failed"
        assert "can't be read" in bad.record["problems"][0]["message"]
        assert (await scripted.ended(queue, "good")).state == "done"

    scripted.run(play)


def test_a_worker_sees_only_its_own_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
import os
lease = claim()
jobs.finish(lease, "done", {}, {"asked": settings["device"], "sees": os.environ.get("CUDA_VISIBLE_DEVICES")})
"""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    scripted = Scripted(tmp_path, monkeypatch, script)
    scripted.settings = replace(scripted.settings, devices=("cuda:1",))

    async def play(pool: WorkerPool, queue: Queue) -> None:
        await add(queue, "a")
        assert (await scripted.ended(queue, "a")).record == {"asked": "cuda:1", "sees": "6"}

    scripted.run(play)


def test_work_resumes_after_the_disk_was_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
lease = claim()
if lease.attempt == 2:
    jobs.finish(lease, "done", {}, {})
"""
    scripted = Scripted(tmp_path, monkeypatch, script)
    release, full = Jobs.release, iter([True, True])

    def releasing(*values: Any, **how: Any) -> Any:
        if next(full, False):
            raise sqlite3.OperationalError("database or disk is full")
        return release(*values, **how)

    monkeypatch.setattr(Jobs, "release", releasing)

    async def play(pool: WorkerPool, queue: Queue) -> None:
        await add(queue, "a")
        assert (await scripted.ended(queue, "a")).state == "done"

    scripted.run(play)


def test_only_the_job_that_a_worker_was_killed_for_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
lease = claim()
if lease.id == "guilty":
    jobs.finish(lease, "done", {}, {})  # before it reports that, it starts another
    while not (lease := jobs.claim(settings["name"])):
        time.sleep(0.02)
    time.sleep(60)
jobs.finish(lease, "done", {}, {})
send(message="job_ended", job=lease.id)
time.sleep(60)
"""
    scripted = Scripted(tmp_path, monkeypatch, script)

    async def play(pool: WorkerPool, queue: Queue) -> None:
        await add(queue, "guilty", "innocent")
        while not [job for job in await queue.ask(Jobs.running) if job.id == "innocent"]:
            await asyncio.sleep(0.02)
        pool.workers[0].kill("it took too much")
        assert (await scripted.ended(queue, "innocent")).state == "done"

    scripted.run(play)


def test_a_job_is_reported_lost_if_its_worker_ends_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
while not (lease := jobs.claim(settings["name"])):
    time.sleep(0.02)
jobs.finish(lease, "done", {}, {})
"""
    scripted = Scripted(tmp_path, monkeypatch, script)

    async def play(pool: WorkerPool, queue: Queue) -> None:
        await add(queue, "a")
        while "a" not in scripted.lost:
            await asyncio.sleep(0.02)

    scripted.run(play)


def test_jobs_that_kill_their_workers_do_not_delay_the_next_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = """
lease = claim()
if lease.id == "good":
    jobs.finish(lease, "done", {}, {})
"""
    scripted = Scripted(tmp_path, monkeypatch, script)
    monkeypatch.setattr(workers, "LONGEST_PAUSE", 10 * PATIENCE)

    async def play(pool: WorkerPool, queue: Queue) -> None:
        await add(queue, *"abcd", "good")
        assert (await scripted.ended(queue, "good")).state == "done"

    scripted.run(play)


def test_a_job_that_ended_its_worker_each_time_tells_how_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted(tmp_path, monkeypatch, "claim(); raise SystemExit(3)")

    async def play(pool: WorkerPool, queue: Queue) -> None:
        await add(queue, "a")
        (problem,) = (await scripted.ended(queue, "a")).record["problems"]
        assert problem == {"message": "its worker ended by exit code 3, 2 times without progress", "node": None}

    scripted.run(play)


def test_cancelling_at_an_unknown_worker_returns_false(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted(tmp_path, monkeypatch, "time.sleep(60)")

    async def play(pool: WorkerPool, queue: Queue) -> None:
        assert not pool.cancel("a", "nobody")
        assert not pool.cancel("a", None)

    scripted.run(play)


def test_a_worker_that_does_not_renew_its_lease_loses_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
import engine.work.queue
been = Path(settings["queue"]).with_name("been")
if not been.exists():
    been.touch()
    engine.work.queue.LEASE_SECONDS = 0.1
lease = claim()
if lease.attempt == 1:
    time.sleep(60)
jobs.finish(lease, "done", {}, {})
send(message="job_ended", job=lease.id)
time.sleep(60)
"""
    monkeypatch.setattr(workers, "LEASE_SECONDS", 0.4)
    scripted = Scripted(tmp_path, monkeypatch, script)

    async def play(pool: WorkerPool, queue: Queue) -> None:
        await add(queue, "a")
        job = await scripted.ended(queue, "a")
        assert (job.state, job.attempts) == ("done", 2)
        assert "a" in scripted.lost

    scripted.run(play)


def test_why_a_process_cannot_be_started_is_known_until_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted(tmp_path, monkeypatch, 'send(message="worker_ready", device="cpu", devices=[])\ntime.sleep(60)')
    start, failing = asyncio.create_subprocess_exec, True

    async def starting(*words: Any, **how: Any) -> Any:
        if failing:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return await start(*words, **how)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", starting)

    async def play(pool: WorkerPool, queue: Queue) -> None:
        nonlocal failing
        while not pool.problems:
            await asyncio.sleep(0.02)
        assert "its process can't be started" in pool.problems["cpu"]
        assert "Resource temporarily unavailable" in pool.problems["cpu"]
        failing = False
        while pool.problems:
            await asyncio.sleep(0.02)

    scripted.run(play)


PARENT = """
import subprocess
child = subprocess.Popen([REAL, "-c", "hoard = b'x' * 200_000_000; print(flush=True); import time; time.sleep(60)"],
                         stdout=subprocess.PIPE, **HOW)
child.stdout.readline()
lease = claim()
jobs.record_outputs(lease, {"child": {"pid": [child.pid]}})
if ENDS:
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(60)
"""
"""A worker with a child process that takes 200 MB; REAL is Python, which the pool knows by another name."""


def parent(**values: object) -> str:
    names = "".join(f"{name} = {value!r}\n" for name, value in {"REAL": sys.executable, "HOW": {}, **values}.items())
    return f"import os, signal\n{names}{PARENT}"


async def child_of(queue: Queue, job: str) -> int:
    while not ((found := await queue.ask(Jobs.get, job)) and "child" in found.outputs):
        await asyncio.sleep(0.02)
    return int(found.outputs["child"]["pid"][0])


async def has_ended(number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(number).status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.02)


def test_the_memory_of_a_workers_children_counts_and_they_end_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = Scripted(tmp_path, monkeypatch, parent(ENDS=False, HOW={"start_new_session": True}))

    async def play(pool: WorkerPool, queue: Queue) -> None:
        await add(queue, "a")
        child = await child_of(queue, "a")
        (worker,) = pool.workers
        assert 200e6 < (await pool.nbytes())[worker] < 400e6
        worker.kill("it took too much")
        await has_ended(child)

    scripted.run(play)


def test_a_child_that_has_just_ended_does_not_hide_the_memory_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    listed = [psutil.Process(child.pid)]
    child.communicate(b"\n")
    monkeypatch.setattr(psutil.Process, "children", lambda self, recursive: listed)
    own: Any = SimpleNamespace(pid=os.getpid())
    assert WorkerProcess("cpu", own, "a").nbytes() > 10e6


def test_the_children_of_a_worker_that_crashes_end_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted(tmp_path, monkeypatch, parent(ENDS=True))

    async def play(pool: WorkerPool, queue: Queue) -> None:
        await add(queue, "a")
        await has_ended(await child_of(queue, "a"))

    scripted.run(play)


def test_a_worker_has_ended_though_a_child_keeps_its_output_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that was forked."""
    script = """
import os, signal
lease = claim()
if lease.attempt == 1 and os.fork():
    os.kill(os.getpid(), signal.SIGKILL)
if lease.attempt == 1:
    time.sleep(60)
jobs.finish(lease, "done", {}, {})
time.sleep(60)
"""
    scripted = Scripted(tmp_path, monkeypatch, script)

    async def play(pool: WorkerPool, queue: Queue) -> None:
        await add(queue, "a")
        assert (await scripted.ended(queue, "a")).state == "done"

    scripted.run(play)
