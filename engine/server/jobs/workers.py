"""The worker processes: one per device, monitored, and restarted when they end.

A worker that crashes, hangs or takes too much memory costs at most its job: the reason is kept with the job, and a new
worker resumes the queue.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

import psutil
from aiohttp import web

from engine.errors import StorageError
from engine.memory import total
from engine.models.visible import seeing_only
from engine.python import command, environment
from engine.run.devices import Device
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
    WorkerFailed,
    WorkerReady,
    WorkerSettings,
    read_report,
    to_line,
)
from engine.work.queue import LEASE_SECONDS, Jobs, failure
from engine.work.reporting import shortened

logger = logging.getLogger("kinograph")

WATCH_SECONDS = 0.5
GRACE_SECONDS = 10.0
"""How long a worker may take to end a cancelled job before it is killed."""
SLOW_START_SECONDS = 60.0
"""How long a worker may take to start until people are told that it doesn't."""
START_SECONDS = 600.0
"""How long it may take until it is killed, and another is started: its libraries may be on a disk that hangs."""
SHARE_OF_MEMORY = 0.9
MAX_PROBLEM = 2000
"""Characters of why a worker can't start."""
LONGEST_PAUSE = 30.0
"""Most seconds before restarting a worker that ended before it started a job."""

TRY_AGAIN_SECONDS = 5.0
"""How long to wait before trying again when the disk, or the machine, is full."""

P = ParamSpec("P")
T = TypeVar("T")
OnReport = Callable[[Report, bytes], None]


class WorkerProcess:
    """One worker process, and what it has reported of its state."""

    def __init__(self, device: str, process: asyncio.subprocess.Process, name: str) -> None:
        self.device = device
        self.process = process
        self.name = name
        self.ready = False
        self.problem = ""
        """Why it could not start, or go on."""
        self.has_started_a_job = False
        self.job: str | None = None
        self.running: dict[str, str] = {}
        """The running steps, and their kinds."""
        self.last_report = time.monotonic()
        self.cancelled: tuple[str, float] | None = None
        """The job that it was asked to end, and when."""
        self.killed = ""
        """Why it was killed."""
        self.killed_for: str | None = None
        """The job that it was killed for."""

    def send(self, command: Command) -> None:
        with suppress(ConnectionError):
            assert self.process.stdin
            self.process.stdin.write(to_line(command))

    def update(self, report: Report) -> None:
        """Update what is known of the process from its report."""
        self.last_report = time.monotonic()
        match report:
            case WorkerReady():
                self.ready = True
            case WorkerFailed(problem=problem):
                self.problem = problem
            case JobBegun(job=job):
                self.job, self.running, self.has_started_a_job = job, {}, True
            case JobEnded(job=job):
                self.job, self.running = None, {}
                if self.cancelled and self.cancelled[0] == job:
                    self.cancelled = None
            case NodeStarting(node=node, kind=kind):
                self.running[node] = kind
            case JobEvents(events=events):
                self._update_running(events)

    def _update_running(self, events: Iterable[Mapping[str, Any]]) -> None:
        for event in events:
            if event["event"] == "node_started":
                self.running[event["node"]] = event["kind"]
            elif event["event"] in ("node_finished", "node_failed"):
                self.running.pop(event["node"], None)

    @property
    def while_running(self) -> str:
        """Which nodes are running, as the end of a message."""
        names = [f"{node} ({kind})" for node, kind in self.running.items()]
        return f" while {' and '.join(names[:3])} ran" if names else ""

    @property
    def reason(self) -> str:
        """Why it has ended."""
        return self.killed or self.problem or f"its worker ended by {_cause(self.process.returncode)}"

    def nbytes(self) -> int:
        """Bytes of memory that it and its child processes take; scans all processes of the machine."""
        nbytes = 0
        with suppress(psutil.Error):
            process = psutil.Process(self.process.pid)
            for each in [process, *process.children(recursive=True)]:
                with suppress(psutil.Error):  # it has ended meanwhile
                    nbytes += each.memory_info().rss
        return nbytes

    def kill(self, why: str) -> None:
        """Kill it and its child processes."""
        self.killed, self.killed_for = why, self.job
        with suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    child.kill()
        with suppress(ProcessLookupError):
            self.process.kill()

    def kill_rest(self) -> None:
        """Kill the child processes that it has left behind, once it has ended."""
        if sys.platform != "win32":
            with suppress(ProcessLookupError, PermissionError):  # macOS refuses if only ended ones are left
                os.killpg(self.process.pid, signal.SIGKILL)


class WorkerPool:
    """All workers.

    Args:
        settings: the server's settings.
        queue: where the jobs are.
        devices: filled with the devices that workers report, by name.
        on_report: called with each report of a worker, and the bytes that follow it.
        on_lost: called with the id of each job that has ended, or is pending again, because its worker is gone.
    """

    def __init__(
        self,
        settings: ServerSettings,
        queue: Queue,
        devices: dict[str, Device],
        on_report: OnReport,
        on_lost: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._on_report = on_report
        self._on_lost = on_lost
        self._workers: dict[str, WorkerProcess] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._previews = False
        self._memory_limit = settings.memory_limit or int(SHARE_OF_MEMORY * total())
        self._devices = devices
        self.problems: dict[str, str] = {}
        """Why the workers of devices can't start, by device ("" for the best of the machine)."""

    def start(self) -> None:
        for device in self._settings.devices or ("",):
            self._spawn(device)
        self._run_task(self._watch())

    @property
    def workers(self) -> list[WorkerProcess]:
        return [*self._workers.values()]

    @property
    def settings(self) -> ServerSettings:
        return self._settings

    def problem_data(self) -> list[dict[str, str]]:
        """Which devices have no worker, and why."""
        shown: dict[str, str] = self._settings.shown(self.problems)
        return [{"device": device, "problem": problem} for device, problem in shown.items()]

    async def nbytes(self) -> dict[WorkerProcess, int]:
        """Bytes of memory that each worker takes."""
        workers = self.workers
        return await asyncio.to_thread(lambda: {worker: worker.nbytes() for worker in workers})

    def wake(self) -> None:
        """Have the workers look for jobs."""
        for worker in self.workers:
            worker.send(LookForJobs())

    def free(self) -> None:
        """Have the workers drop models and results from memory once they are idle."""
        for worker in self.workers:
            worker.send(FreeMemory())

    def show_previews(self, wanted: bool) -> None:
        if wanted != self._previews:
            self._previews = wanted
            for worker in self.workers:
                worker.send(ShowPreviews(wanted=wanted))

    def cancel(self, job: str, worker: str | None) -> bool:
        """Ask the worker with this name to end a job; it is killed if it doesn't in time.

        False if that worker is gone: its job will soon be pending again, or end.
        """
        process = self._workers.get(worker or "")
        if process is None:
            return False
        if process.cancelled is None or process.cancelled[0] != job:
            process.cancelled = (job, time.monotonic())
        process.send(CancelJob(job=job))
        return True

    async def close(self) -> None:
        """End all workers."""
        for task in self._tasks:
            task.cancel()
        for worker in self.workers:
            worker.kill("the server is shutting down")
            await worker.process.wait()

    def _run_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _spawn(self, device: str) -> None:
        self._run_task(self._supervise(device))

    async def _supervise(self, device: str) -> None:
        """Keep a worker running on a device, restarting it whenever it ends."""
        pause = 0.0
        while True:
            try:
                worker = await self._start_process(device)
            except OSError as error:
                self._note_problem(device, f"its process can't be started: {error}")
                await asyncio.sleep(TRY_AGAIN_SECONDS)
                continue
            try:
                await self._listen(worker)
            finally:
                self._workers.pop(worker.name, None)
            if not worker.has_started_a_job:
                self._note_problem(device, worker.reason)
            await until_it_works(self._release_job, worker)
            device = worker.device
            pause = 0.0 if worker.has_started_a_job else min(LONGEST_PAUSE, 2 * pause + 0.5)
            await asyncio.sleep(pause)

    def _note_problem(self, device: str, problem: str) -> None:
        """Keep why a device has no worker, for people who wonder why nothing runs."""
        self.problems[device] = shortened(problem, MAX_PROBLEM)
        logger.error("no worker on %s: %s", device or "the best device", self.problems[device])
        self._queue.changed()

    async def _start_process(self, device: str) -> WorkerProcess:
        process = await asyncio.create_subprocess_exec(
            *command("-m", "engine.work"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            process_group=None if sys.platform == "win32" else 0,  # so that `kill_rest` finds its children
            env=environment() | seeing_only(device, os.environ),
            limit=MAX_LINE_BYTES,
        )
        worker = WorkerProcess(device, process, f"{process.pid}-{uuid.uuid4().hex[:8]}")
        settings = self._settings
        worker.send(
            WorkerSettings(
                name=worker.name,
                queue=self._queue.path,
                roots=settings.folders.roots,
                models=settings.folders.of_models,
                device=device,
                nodes=settings.nodes,
                cache=settings.cache,
                hides_paths=settings.hiding is not None,
            )
        )
        worker.send(ShowPreviews(wanted=self._previews))
        self._workers[worker.name] = worker
        return worker

    async def _listen(self, worker: WorkerProcess) -> None:
        """Forward a worker's reports until it ends."""
        output = worker.process.stdout
        assert output
        try:
            while line := await output.readline():
                report = read_report(line)
                data = await output.readexactly(report.size) if isinstance(report, JobPreview) else b""
                worker.update(report)
                if isinstance(report, WorkerReady):
                    self._worker_ready(worker, report)
                elif not isinstance(report, WorkerFailed | NodeStarting):
                    self._on_report(report, data)
        except asyncio.IncompleteReadError:
            pass  # it ended in the middle of a report
        except ValueError as error:
            worker.kill(f"its report can't be read: {error}")
        while await output.read(MAX_LINE_BYTES):
            pass  # while unread output is left, the process doesn't count as ended
        await worker.process.wait()
        worker.kill_rest()

    def _worker_ready(self, worker: WorkerProcess, report: WorkerReady) -> None:
        """Note a new worker's devices; unless devices were set, the first report starts workers for the others."""
        for device in {worker.device, report.device} & self.problems.keys():
            del self.problems[device]
        first = not self._devices
        self._devices |= {about.name: about for about in report.devices}
        worker.device = report.device
        if first and not self._settings.devices:
            for device in self._devices:
                if device != worker.device:
                    self._spawn(device)
        self._queue.changed()

    async def _release_job(self, worker: WorkerProcess) -> None:
        """Put the job of a worker that has ended back into the queue, or end it."""
        why = worker.reason
        node = next(iter(worker.running), None)
        record = self._settings.shown(failure(f"{why}{worker.while_running}", node, again=not worker.killed))
        cancelled = worker.cancelled and worker.cancelled[0]
        if cancelled:
            await self._queue.ask(Jobs.fail, cancelled, worker.name, "cancelled", {})
        if worker.killed_for:
            await self._queue.ask(Jobs.fail, worker.killed_for, worker.name, "failed", record)
        released = await self._queue.ask(Jobs.release, worker.name, because=record)
        logger.warning("worker %s: %s", worker.name, why)
        for job in released:
            self._on_lost(job.id)
        self._queue.changed()

    async def _release_expired(self) -> None:
        """Release the jobs whose leases have expired: their workers exist, but are stopped or can't reach the queue."""
        why = "it did not renew its lease"
        record = self._settings.shown(failure(why))
        for job in await self._queue.ask(Jobs.release, because=record):
            if worker := self._workers.get(job.worker or ""):
                worker.job = None  # it was released above, and must not fail for the kill as well
                worker.kill(why)
            self._on_lost(job.id)
            self._queue.changed()

    async def _watch(self) -> None:
        """Kill workers that take too much memory, hang, or don't end a cancelled job."""
        checked = time.monotonic()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = time.monotonic()
            if now - checked > LEASE_SECONDS / 8:
                checked = now
                await until_it_works(self._release_expired)
            for worker in self.workers:
                if worker.process.returncode is not None:
                    worker.kill_rest()  # which may keep its output open
                self._watch_start(worker, now - worker.last_report)
                job = worker.job
                if not job:
                    continue
                cancelled, when = worker.cancelled or ("", now)
                if cancelled == job and now - when > GRACE_SECONDS:
                    worker.kill("it did not end when it was cancelled")
                elif now - worker.last_report > self._settings.stall_seconds:
                    worker.kill(f"it reported nothing for {self._settings.stall_seconds:g} s")
                elif (nbytes := await asyncio.to_thread(worker.nbytes)) > self._memory_limit and worker.job == job:
                    worker.kill(f"it took {nbytes / 1e9:.1f} GB of memory, of at most {self._memory_limit / 1e9:.1f}")

    def _watch_start(self, worker: WorkerProcess, seconds: float) -> None:
        """Tell of a worker that takes long to start, and kill one that takes too long."""
        if worker.ready or worker.job or seconds <= SLOW_START_SECONDS:
            return
        if seconds > START_SECONDS:
            worker.kill(f"it did not start within {START_SECONDS:g} s")
        elif worker.device not in self.problems:
            self._note_problem(worker.device, f"it has not started for {SLOW_START_SECONDS:g} s")


async def until_it_works(do: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that needs room on the disk, or for a process, again until there is some; returns its result."""
    while True:
        try:
            return await do(*args, **kwargs)
        except (OSError, StorageError) as error:
            logger.error("%s; trying again in %g s", error, TRY_AGAIN_SECONDS)
            await asyncio.sleep(TRY_AGAIN_SECONDS)


def _cause(code: int | None) -> str:
    """How a process ended."""
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


WORKERS = web.AppKey("workers", WorkerPool)
