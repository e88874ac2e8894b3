"""The worker processes: one a device, watched, and started again when they end.

A worker that crashes, hangs or takes too much memory costs its job at most: the reason is kept with it, and the queue
goes on with a new worker.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sqlite3
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

import psutil
from aiohttp import web

from engine.server.http.settings import ServerSettings
from engine.server.jobs.queue import Queue
from engine.work.messages import (
    MAX_LINE_BYTES,
    CancelJob,
    Command,
    FreeMemory,
    JobBegun,
    JobEnded,
    JobEvents,
    JobPreview,
    LookForJobs,
    NodeStarting,
    Report,
    ShowPreviews,
    WorkerReady,
    WorkerSettings,
    read_report,
    to_line,
)
from engine.work.queue import LEASE_SECONDS, MAX_ATTEMPTS, Jobs

logger = logging.getLogger("kinograph")

WATCH_SECONDS = 0.5
GRACE_SECONDS = 10.0
"""How long a worker may take to end a job that was cancelled."""
SHARE_OF_MEMORY = 0.9
LONGEST_PAUSE = 30.0
"""Seconds between two starts of a worker that ends before it has begun a job."""

TRY_AGAIN_SECONDS = 5.0
"""How long to wait where the disk, or the machine, is full."""

P = ParamSpec("P")
T = TypeVar("T")
Tell = Callable[[Report, bytes], None]


class WorkerProcess:
    """One process, and what is known of what it does."""

    def __init__(self, device: str, process: asyncio.subprocess.Process, name: str) -> None:
        self.device = device
        self.process = process
        self.name = name
        self.was_of_use = False
        """Whether it has begun a job."""
        self.job: str | None = None
        self.running: dict[str, str] = {}
        """The steps that are running, and their kinds."""
        self.sign = time.monotonic()
        """When it last told something."""
        self.cancelled: tuple[str, float] | None = None
        """The job that it was asked to end, and when."""
        self.killed = ""
        """Why it was killed."""
        self.blamed: str | None = None
        """The job that it was killed for."""

    def command(self, command: Command) -> None:
        with suppress(ConnectionError):
            assert self.process.stdin
            self.process.stdin.write(to_line(command))

    def note(self, report: Report) -> None:
        """Take note of what it tells."""
        self.sign = time.monotonic()
        match report:
            case JobBegun(job=job):
                self.job, self.running, self.was_of_use = job, {}, True
            case JobEnded(job=job):
                self.job, self.running = None, {}
                if self.cancelled and self.cancelled[0] == job:
                    self.cancelled = None
            case NodeStarting(node=node, kind=kind):
                self.running[node] = kind
            case JobEvents(events=events):
                self._note_events(events)

    def _note_events(self, events: Iterable[Mapping[str, Any]]) -> None:
        for event in events:
            if event["event"] == "node_started":
                self.running[event["node"]] = event["kind"]
            elif event["event"] in ("node_finished", "node_failed"):
                self.running.pop(event["node"], None)

    @property
    def doing(self) -> str:
        """What it is at, for a message."""
        names = [f"{node} ({kind})" for node, kind in self.running.items()]
        return f" while {' and '.join(names[:3])} ran" if names else ""

    def nbytes(self) -> int:
        """Bytes of memory that it and the processes that it started take; looks through all of the machine's."""
        try:
            process = psutil.Process(self.process.pid)
            return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])
        except psutil.Error:
            return 0

    def kill(self, why: str) -> None:
        """End it and all that it started."""
        self.killed, self.blamed = why, self.job
        with suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    child.kill()
        with suppress(ProcessLookupError):
            self.process.kill()


class WorkerPool:
    """All workers.

    Args:
        setup: the server's settings.
        queue: where the jobs are.
        devices: is filled with the devices that workers tell of, by name.
        tell: takes what workers tell.
        lost: takes the ids of jobs that ended, or wait again, because their worker is gone.
    """

    def __init__(
        self,
        setup: ServerSettings,
        queue: Queue,
        devices: dict[str, dict[str, Any]],
        tell: Tell,
        lost: Callable[[str], None],
    ) -> None:
        self._setup = setup
        self._queue = queue
        self._tell = tell
        self._lost = lost
        self._workers: dict[str, WorkerProcess] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._previews = False
        self._memory_limit = setup.memory_limit or int(SHARE_OF_MEMORY * psutil.virtual_memory().total)
        self._devices = devices

    def start(self) -> None:
        for device in self._setup.devices or ("",):
            self._spawn(device)
        self._keep(self._watch())

    @property
    def workers(self) -> list[WorkerProcess]:
        return [*self._workers.values()]

    async def nbytes(self) -> dict[WorkerProcess, int]:
        """What each takes in memory."""
        workers = self.workers
        return await asyncio.to_thread(lambda: {worker: worker.nbytes() for worker in workers})

    def wake(self) -> None:
        """There may be something to do."""
        for worker in self.workers:
            worker.command(LookForJobs())

    def free(self) -> None:
        """Have models and results in memory dropped once nothing runs."""
        for worker in self.workers:
            worker.command(FreeMemory())

    def show_previews(self, wanted: bool) -> None:
        if wanted != self._previews:
            self._previews = wanted
            for worker in self.workers:
                worker.command(ShowPreviews(wanted=wanted))

    def cancel(self, job: str, worker: str | None) -> bool:
        """Ask the worker of that name to end a job; if it doesn't in time, it is killed.

        False if that worker is gone: its job will wait again in a moment, or ends.
        """
        employed = self._workers.get(worker or "")
        if employed is None:
            return False
        if employed.cancelled is None or employed.cancelled[0] != job:
            employed.cancelled = (job, time.monotonic())
        employed.command(CancelJob(job=job))
        return True

    async def close(self) -> None:
        """End all workers."""
        for task in self._tasks:
            task.cancel()
        for worker in self.workers:
            worker.kill("the server ends")
            await worker.process.wait()

    def _keep(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _spawn(self, device: str) -> None:
        self._keep(self._employ(device))

    async def _employ(self, device: str) -> None:
        """Keep a worker on a device, whatever becomes of it."""
        pause = 0.0
        while True:
            worker = await until_it_works(self._hire, device)
            try:
                await self._listen(worker)
            finally:
                self._workers.pop(worker.name, None)
            await until_it_works(self._bury, worker)
            device = worker.device
            pause = 0.0 if worker.was_of_use else min(LONGEST_PAUSE, 2 * pause + 0.5)
            await asyncio.sleep(pause)

    async def _hire(self, device: str) -> WorkerProcess:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "engine.work.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=MAX_LINE_BYTES,
        )
        worker = WorkerProcess(device, process, f"{process.pid}-{uuid.uuid4().hex[:8]}")
        setup = self._setup
        worker.command(
            WorkerSettings(
                name=worker.name,
                queue=self._queue.path,
                roots=setup.folders.roots,
                device=device,
                nodes=setup.nodes,
                cache=setup.cache,
            )
        )
        worker.command(ShowPreviews(wanted=self._previews))
        self._workers[worker.name] = worker
        return worker

    async def _listen(self, worker: WorkerProcess) -> None:
        """Hand on what a worker tells, until it ends."""
        output = worker.process.stdout
        assert output
        try:
            while line := await output.readline():
                report = read_report(line)
                data = await output.readexactly(report.size) if isinstance(report, JobPreview) else b""
                worker.note(report)
                if isinstance(report, WorkerReady):
                    self._meet(worker, report)
                elif not isinstance(report, NodeStarting):
                    self._tell(report, data)
        except asyncio.IncompleteReadError:
            pass  # it ended in the middle of what it told
        except ValueError as error:
            worker.kill(f"what it told can't be read: {error}")
        while await output.read(MAX_LINE_BYTES):
            pass  # as long as something is left there, the process isn't seen to have ended
        await worker.process.wait()

    def _meet(self, worker: WorkerProcess, report: WorkerReady) -> None:
        """A worker has started. If none was told where to compute, the first says what devices there are."""
        first = not self._devices
        self._devices |= {about["name"]: about for about in report.devices}
        worker.device = report.device
        if first and not self._setup.devices:
            for device in self._devices:
                if device != worker.device:
                    self._spawn(device)

    async def _bury(self, worker: WorkerProcess) -> None:
        """Take back the job of a worker that has ended."""
        why = worker.killed or f"its worker ended by {_cause(worker.process.returncode)}"
        again = f", {MAX_ATTEMPTS} times" if not worker.killed else ""
        record = {"problems": [{"message": f"{why}{worker.doing}{again}", "node": next(iter(worker.running), None)}]}
        cancelled = worker.cancelled and worker.cancelled[0]
        if cancelled:
            await self._queue.ask(Jobs.fail, cancelled, worker.name, "cancelled", {})
        if worker.blamed:
            await self._queue.ask(Jobs.fail, worker.blamed, worker.name, "failed", record)
        released = await self._queue.ask(Jobs.release, worker.name, because=record)
        logger.warning("worker %s: %s", worker.name, why)
        for job in released:
            self._lost(job.id)
        self._queue.changed()

    async def _take_back(self) -> None:
        """Take back jobs whose leases have run out: their workers are there, but stopped, or can't reach the queue."""
        why = "it did not renew its lease"
        record = {"problems": [{"message": f"{why}, {MAX_ATTEMPTS} times", "node": None}]}
        for job in await self._queue.ask(Jobs.release, because=record):
            if worker := self._workers.get(job.worker or ""):
                worker.job = None  # not to be blamed for it once more
                worker.kill(why)
            self._lost(job.id)
            self._queue.changed()

    async def _watch(self) -> None:
        """Kill what takes too much, hangs, or doesn't end when asked to."""
        looked = time.monotonic()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = time.monotonic()
            if now - looked > LEASE_SECONDS / 8:
                looked = now
                await until_it_works(self._take_back)
            for worker in self.workers:
                job = worker.job
                if not job:
                    continue
                cancelled, asked = worker.cancelled or ("", now)
                if cancelled == job and now - asked > GRACE_SECONDS:
                    worker.kill("it did not end when it was cancelled")
                elif now - worker.sign > self._setup.stall_seconds:
                    worker.kill(f"it gave no sign for {self._setup.stall_seconds:g} s")
                elif (nbytes := await asyncio.to_thread(worker.nbytes)) > self._memory_limit and worker.job == job:
                    worker.kill(f"it took {nbytes / 1e9:.1f} GB of memory, of at most {self._memory_limit / 1e9:.1f}")


async def until_it_works(do: Callable[P, Awaitable[T]], *values: P.args, **how: P.kwargs) -> T:
    """What needs room on the disk, or another process, and may have to wait for it: without workers nothing is done."""
    while True:
        try:
            return await do(*values, **how)
        except (OSError, sqlite3.Error) as error:
            logger.error("%s; trying again in %g s", error, TRY_AGAIN_SECONDS)
            await asyncio.sleep(TRY_AGAIN_SECONDS)


def _cause(code: int | None) -> str:
    """How a process ended."""
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


WORKERS = web.AppKey("workers", WorkerPool)
