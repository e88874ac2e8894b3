"""A process that runs jobs: it claims them from the queue, runs them on one device, and reports to the server.

It is started as `python -m engine.work`, takes commands on standard input, its `WorkerSettings` first, and reports on
standard output (`engine.work.messages`). It ends when its input does, that is, with its server; another worker then
runs the jobs it had, continuing from what the cache holds.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from threading import Condition, Event, Lock, Thread
from typing import Any, BinaryIO

from engine.document.formats import is_ui
from engine.document.prepared import prepare
from engine.document.reading import Document
from engine.document.subgraphs import outermost
from engine.document.tags import DRAWN
from engine.document.workflow import Workflow
from engine.errors import Cancelled, KinographError, Problem
from engine.events import Event as RunEvent
from engine.events import (
    NodeFailed,
    NodeProgress,
    NodeReported,
    NodeResult,
    NodeRetried,
    NodeSaved,
    RunFinished,
    RunStarted,
)
from engine.models.emptying import empty_cache
from engine.registry import Registry
from engine.run import devices, sweep
from engine.run.cancelling import Cancellation
from engine.run.deliveries import Claims
from engine.run.execute import Execution
from engine.run.preparing import runnable_graph
from engine.run.quiet import quiet_libraries
from engine.run.resources import Resources, open_resources, stream_events
from engine.work.hiding import Hiding
from engine.work.media import location_of, media_group
from engine.work.mending import explaining
from engine.work.messages import (
    CancelJob,
    Command,
    FreeMemory,
    JobBegun,
    JobEnded,
    LookForJobs,
    ShowPreviews,
    WorkerReady,
    WorkerSettings,
    read_command,
)
from engine.work.queue import LEASE_SECONDS, Jobs
from engine.work.records import Ended, JobOutputs, Lease
from engine.work.reporting import ServerReporter
from nodes import registry

LOOK_SECONDS = 2.0
"""How often the queue is checked even if the server hasn't announced a job."""
NOTE_SECONDS = 0.5
"""How often the files that a job has saved are recorded, for those who watch it."""
MOST_REPORTS = 200
"""How many reports of nodes a job's record has at most: lists may be long, and lists of jobs read the records."""

logger = logging.getLogger("kinograph")


class Worker:
    """Runs one job after another.

    Args:
        settings: the first message from the server.
        registry: the kinds of node.
        reports: sends reports to the server.
    """

    def __init__(self, settings: WorkerSettings, registry: Registry, reports: ServerReporter) -> None:
        self._settings = settings
        self._registry = registry
        self._reports = reports
        self._looking = Condition()
        self._asked = True
        self._free = False
        self._lease: Lease | None = None
        self._stop = Cancellation()
        self._cancelled: set[str] = set()

    def command(self, command: Command) -> None:
        """Carry out a command from the server; called from another thread."""
        match command:
            case CancelJob(job=job):
                with self._looking:
                    self._cancelled.add(job)
                    mine = self._lease and self._lease.id == job
                if mine:
                    self._stop.cancel()
            case ShowPreviews(wanted=wanted):
                self._reports.previews = wanted
        with self._looking:
            self._asked = self._asked or isinstance(command, LookForJobs)
            self._free = self._free or isinstance(command, FreeMemory)
            self._looking.notify()

    def work(self) -> None:
        """Run jobs for ever; raises NodeError when the device can't be used any more."""
        wanted = self._settings.device
        every = [devices.only(wanted)] if wanted else devices.every()
        name = every[0].name
        device = every[0].type if wanted else name  # its own GPU is the only one that it sees
        with (
            explaining(self._settings.queue),
            Jobs(self._settings.queue) as jobs,
            Jobs(self._settings.queue, quick=True) as names,
            open_resources(self._settings.cache, device) as resources,
        ):
            self._reports.send(WorkerReady(device=name, devices=every))
            while True:
                if lease := jobs.claim(self._settings.name):
                    self._do(_Run(lease, self._settings, names), jobs, resources)
                    if unusable := devices.unusable(device):
                        raise unusable  # the server starts another worker
                else:
                    self._wait(resources)

    def _wait(self, resources: Resources) -> None:
        with self._looking:
            if not (self._asked or self._free):
                self._looking.wait(LOOK_SECONDS)
            self._asked, free, self._free = False, self._free, False
        if free:
            resources.models.clear()
            resources.cache.clear()
            empty_cache()

    def _do(self, run: _Run, jobs: Jobs, resources: Resources) -> None:
        """Run one job, and record how it ends."""
        lease = run.lease
        with self._looking:
            self._lease, self._stop = lease, Cancellation()
            if lease.id in self._cancelled:
                self._stop.cancel()
        state: Ended = "failed"
        if resources.cache.disk is not None:
            resources.cache.disk.on_stored = run.stored
        with self._renewing(lease, run), self._reports.of(lease.id, self._settings.roots):
            self._reports.send(JobBegun(job=lease.id, attempt=lease.attempt))
            try:
                state = self._carry_out(run, resources)
            except KinographError as error:
                state = "cancelled" if isinstance(error, Cancelled) else "failed"
                run.record["problems"] = [asdict(problem) for problem in error.problems]
            except Exception as error:  # noqa: BLE001 - a fault of the engine ends this job, not the worker
                problem = Problem("".join(traceback.format_exception_only(error)).strip())
                run.record |= {"problems": [asdict(problem)], "trace": traceback.format_exc()}
        with self._looking:
            self._lease = None
            self._cancelled.discard(lease.id)
        if jobs.finish(lease, state, run.outputs, self._reports.shown(run.record)):
            self._reports.send(JobEnded(job=lease.id))

    def _carry_out(self, run: _Run, resources: Resources) -> Ended:
        request, roots = run.lease.request, self._settings.roots
        workflow = prepare(Workflow.read(request.document), self._registry)
        document = Document(workflow, request.title, roots["input"], self._settings.models)
        axes = [*map(sweep.Axis.read, request.axes)]
        made = sweep.combinations(document.imported(), axes, from_cwd=False) if axes else {(): document}
        graphs = [runnable_graph(one, self._reports, self._stop, request.targets, roots) for one in made.values()]
        graph = sweep.joined(graphs) if axes else replace(graphs[0], carried=_carried(request.extra))
        ends = sweep.outcomes(graph, made) if axes else []

        def starting(node: str, kind: str) -> None:
            run.starting(node, kind)
            self._reports.starting(node, kind)

        careful = starting if run.lease.start > 1 else None  # to know which node killed the first
        execution = resources.execution(
            graph,
            roots["output"],
            temp=roots["temp"],
            claims=Claims(run.claimed(), run.claim),
            on_start=careful,
            wants_preview=self._reports.wants_preview,
        )
        for event in stream_events(execution, self._reports, self._stop):
            run.note(event)
            if axes:
                sweep.record(ends, event)
        if axes:
            run.add("sweep", sweep.save(axes, ends, roots["output"]))
        return _state(execution)

    @contextmanager
    def _renewing(self, lease: Lease, run: _Run) -> Iterator[None]:
        """Renew the lease, and record what has been saved, while a job runs."""
        over = Event()

        def renew() -> None:
            with Jobs(self._settings.queue) as jobs:
                noted, renewed = 0, time.monotonic()
                while not over.wait(NOTE_SECONDS):
                    if len(run.outputs) != noted:
                        noted = len(run.outputs)
                        jobs.record_outputs(lease, run.outputs.copy())
                    if time.monotonic() - renewed > LEASE_SECONDS / 4:
                        renewed = time.monotonic()
                        if not jobs.renew(lease):
                            self._stop.cancel()  # another worker has it by now

        thread = Thread(target=renew, name="kinograph-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class _Run:
    """The state of one attempt at a job."""

    def __init__(self, lease: Lease, settings: WorkerSettings, names: Jobs) -> None:
        self.lease = lease
        self.outputs: JobOutputs = {}
        self.record: dict[str, Any] = {}
        self._roots = settings.roots
        self._queue = settings.queue
        self._names = names
        self._claiming = Lock()

    def claimed(self) -> dict[str, list[Path]]:
        """The names that an earlier attempt had claimed, by step."""
        return {
            step: [self._roots[file["type"]] / file["subfolder"] / file["filename"] for file in files]
            for step, files in self.lease.claims.items()
        }

    def claim(self, step: str, files: Sequence[Path]) -> None:
        """Record the names that a step is about to claim for its files; may be called from any thread."""
        places = [location_of(file, self._roots) for file in files]
        with self._claiming, explaining(self._queue):
            self._names.record_claim(self.lease, step, places)

    def starting(self, node: str, kind: str) -> None:
        """Record that a node is about to run; may be called from any thread."""
        with self._claiming, explaining(self._queue):
            self._names.record_step(self.lease, node, kind)

    def stored(self, mark: str) -> None:
        """Record that something was stored; may be called from any thread."""
        try:
            with self._claiming:
                self._names.record_progress(self.lease, mark)
        except sqlite3.Error as error:  # such as a full disk: what was stored is there all the same
            logger.warning("the progress of job %s could not be recorded: %s", self.lease.id, error)

    def note(self, event: RunEvent) -> None:
        """Record what an event says about the job's outputs, and about how it ends."""
        match event:
            case NodeProgress(node, done, _, "file") if done:
                self.stored(f"{node}: {done} files")
            case NodeSaved(node, files):
                self.add(node, files)
            case NodeResult(node, outputs):
                self.outputs[node] = {"text": [f"{name}: {text}" for name, text in outputs.items()]}
            case NodeReported(node, figures):
                reports = self.record.setdefault("reports", {})
                if node in reports or len(reports) < MOST_REPORTS:
                    reports[node] = {name: asdict(figure) for name, figure in figures.items()}
            case NodeRetried(node):
                self.record.get("reports", {}).pop(node, None)
            case RunStarted(_, pending) if not self.lease.request.axes:
                to_run = set(map(outermost, pending))
                self.record["held"] = [node for node in self.lease.request.document["graph"] if node not in to_run]
            case RunFinished(_, seconds, cached, timings, failures, warnings):
                self.record |= {"seconds": seconds, "cached": cached, "timings": dict(timings)}
                self.record |= {"failures": [_failure(failure) for failure in failures]}
                self.record |= {"problems": [asdict(failure.problem) for failure in failures]}
                self.record |= {"warnings": [*map(asdict, warnings)]}

    def add(self, node: str, files: tuple[Path, ...]) -> None:
        given: dict[str, list[Any]] = {}
        for file in files:
            given.setdefault(media_group(file), []).append(location_of(file, self._roots))
        self.outputs[node] = given


def _carried(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a client wants its files to carry: for its editor, a workflow in the UI format, and other data."""
    found = extra.get("extra_pnginfo")
    data = found if isinstance(found, dict) else {}
    return {name: value for name, value in data.items() if name != DRAWN or is_ui(value)}


def _failure(failure: NodeFailed) -> dict[str, Any]:
    return asdict(failure) | {"inputs": dict(failure.inputs)}


def _state(execution: Execution) -> Ended:
    if execution.exit_code == Cancelled.exit_code:
        return "cancelled"
    return "failed" if execution.exit_code else "done"


def run(out: BinaryIO) -> None:
    """Run jobs for the server whose commands come on standard input, its `WorkerSettings` first.

    Args:
        out: takes the reports.
    """
    quiet_libraries()
    commands = map(read_command, sys.stdin.buffer)
    settings = next(commands)
    assert isinstance(settings, WorkerSettings)
    hiding = Hiding(settings.roots) if settings.hides_paths else None
    with ServerReporter(out, hiding) as reports:
        worker = Worker(settings, registry(settings.nodes), reports)

        def listen() -> None:
            for command in commands:
                worker.command(command)
            os._exit(0)  # the server is gone, and nothing would take the results

        Thread(target=listen, name="kinograph-commands", daemon=True).start()
        worker.work()
