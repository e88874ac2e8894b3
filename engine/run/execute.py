"""Run a checked graph: threads carry out a plan, and report it as a stream of events.

    registry = nodes.registry()
    workflow = Workflow.parse(Path("snail.json").read_text())
    graph = check(workflow, registry, base=Path("."))
    with Cache(disk=Disk(home() / "cache")) as cache:
        run = Execution(graph, cache=cache, out=Path("output"), device="cpu", models=Models())
        for event in run:  # from another thread or a signal handler, run.cancel() ends it at the next step
            print(to_json(event))
        # the last event is RunFinished, whose exit_code is that of the command

Heavy nodes take turns on the device's one slot; light nodes and waiting ones run beside them. What takes less time
than starting a thread, such as an edit of a small graph, runs in the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Event as Flag
from threading import Lock, Thread
from time import perf_counter
from typing import Any

from pydantic import ValidationError

from engine.document.workflow import split_id
from engine.errors import Cancelled, InputError, NodeError, Problem, plainly
from engine.events import (
    Event,
    NodeCached,
    NodeFailed,
    NodeFinished,
    NodeProgress,
    NodeReported,
    NodeSkipped,
    NodeStarted,
    NodeText,
    NodeWarned,
    RunExtended,
    RunFinished,
    RunStarted,
    Status,
)
from engine.figures import Report
from engine.graph.graph import Gathered, Graph, Source
from engine.graph.keys import Key
from engine.models import HOST, Models
from engine.node import Context
from engine.run import devices
from engine.run.activations import Activations
from engine.run.attempts import Attempts
from engine.run.computing import Within
from engine.run.costs import Costs
from engine.run.deliveries import Claims, Deliveries
from engine.run.holding import Holding
from engine.run.planner import Extension, Planner
from engine.run.schedule import Schedule, Task, Turn
from engine.run.threads import cores, torch_threads_restored
from engine.run.turns import Turns
from engine.run.watching import WatchedFiles
from engine.spec import Uses, any_file
from engine.store.cache import Cache, Entry
from engine.values import Image, brief

QUICK_SECONDS = 1e-4
"""The approximate cost of waking another thread and taking turns with it."""
PLANNING_SHARE = 0.1
"""The share of the time that may go into planning while there is other work."""
UNSEEN_SECONDS = 0.02
"""How long a run may work before it yields the events: too short for people to notice."""


class Execution:
    """One run of a graph. Iterating over it, once, runs it and yields its events, the last of which is `RunFinished`.

    Args:
        graph: what `check` returned.
        cache: where values are held; share it between the runs of a process.
        out: the folder that media are written to.
        device: a torch device, "cpu" or "cuda:0".
        models: the resident models; share them between the runs of a process.
        costs: how long nodes take, which decides what runs first; updated during this run.
        activations: how much of the device nodes take beside models and results; updated during this run.
        temp: the folder for media that are only for viewing; `temp` in `out` if None.
        claims: the file names that an earlier, killed attempt at this run claimed, and a callback for new claims.
        on_start: called with a node and its kind just before it runs; from any thread.
        within: gives what is entered around each attempt at a node, in the thread that the node runs in.
        wants_preview: whether someone wants to see the node's work in progress now; called in the thread that runs it.
        alone: run nothing but the targets, on outputs that are held; iterating raises MissingError if some aren't.
            Outputs that can't be held between runs, such as references to models, are computed anew all the same.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        cache: Cache,
        out: Path,
        device: str = "cpu",
        models: Models | None = None,
        costs: Costs | None = None,
        activations: Activations | None = None,
        temp: Path | None = None,
        claims: Claims | None = None,
        on_start: Callable[[str, str], None] | None = None,
        within: Within = nullcontext,
        wants_preview: Callable[[], bool] = lambda: False,
        alone: bool = False,
    ) -> None:
        self.graph = graph
        self._alone = alone
        self._on_start = on_start
        self._wants_preview = wants_preview
        self.cache = cache
        self.device = device
        self.models = Models() if models is None else models
        self.exit_code = 0
        """The command's exit code, once the run has ended."""
        self._slots: dict[Uses, int] = {"device": 1, "cpu": cores(), "io": 8}
        self._holding = Holding(cache, device, grows=graph.dynamic)
        self._costs = Costs() if costs is None else costs
        self._planner = Planner(graph, device, cache, self._is_available, self._costs)
        self._planning = Lock()
        self._failed: list[Task] = []
        """Those that failed since the plan was last extended."""
        self._announced: set[str] = set()
        self._events: SimpleQueue[Event | None] = SimpleQueue()
        self._cancelled = Flag()
        self._activations = Activations() if activations is None else activations
        turns = Turns(device, self.models, self._activations, lambda: cache.memory.budget, self._linked_values)
        choose = None if device == HOST else turns.choose  # there, models stay where they are
        self._schedule = Schedule(self._slots, self._add_thread, self._is_quick, choose)
        shared = device, self.models, cache
        self._attempts = Attempts(*shared, self._events.put, self._cancelled, self._activations, within)
        temp = temp or out / "temp"
        self._deliveries = Deliveries(graph, out, temp, self._events.put, self._cancelled.is_set, claims or Claims())
        self._lock = Lock()
        self._threads: list[Thread] = []
        self._working = 0
        self._engine_error: BaseException | None = None
        self._cached = 0
        self._timings: dict[str, float] = {}
        self._failures: list[NodeFailed] = []
        self._warnings: dict[Problem, None] = {}

    @property
    def results(self) -> dict[str, tuple[Any, ...]]:
        """The outputs, by node, of targets that don't save files; in host memory."""
        return self._deliveries.results

    def cancel(self) -> None:
        """Cancel the run: nothing more starts, and running nodes end at their next step."""
        self._cancelled.set()
        self._schedule.stop()

    def __iter__(self) -> Iterator[Event]:
        started = perf_counter()
        self.cache.refresh()
        extension = self._planner.extend()
        if self._alone:
            self._planner.check_alone(extension.plan)
        graph, runs = self._planner.graph, extension.plan.runs.values()
        once = {problem.message: problem for problem in reversed(graph.warnings)}
        yield RunStarted(len(graph.order), tuple(step.id for step in runs), tuple(reversed(once.values())))
        self._announced.update(step.id for step in runs)
        self._skip(self._apply(extension))
        self._schedule.complete = extension.complete
        self._deliveries.write()
        try:
            self._begin()
            while event := self._events.get():
                self._count(event)
                yield event
            status = self._status()
        finally:
            self.cancel()
            for thread in self._threads:
                thread.join()
            self._attempts.close()
            self._costs.save()
            self._activations.save()
            self._holding.close()
        if self._engine_error:
            raise self._engine_error
        seconds = perf_counter() - started
        ended = status, seconds, self._cached, self._timings, tuple(self._failures), tuple(self._warnings)
        finished = RunFinished(*ended)
        self.exit_code = finished.exit_code
        yield finished

    def _is_quick(self, task: Task) -> bool:
        """Whether a task's kind has been seen to take less than what waking a thread costs."""
        return not task.fetch and 0 < self._costs.of(task.step.kind.spec.kind) < QUICK_SECONDS

    def _is_available(self, key: Key) -> bool:
        return self._schedule.alive(key) or self.cache.held(key) or (self.graph.dynamic and self._holding.held(key))

    def _apply(self, extension: Extension) -> list[Task]:
        """Schedule an extension of the plan, and report it; returns the tasks that can't run."""
        more = [step.id for step in extension.plan.runs.values() if step.id not in self._announced]
        if more:
            self._announced.update(more)
            self._events.put(RunExtended(tuple(more)))
        for problem in extension.failures:
            step = self.graph.steps[str(problem.node)]
            error = InputError.of([problem])
            self._events.put(NodeFailed.of(step.id, step.kind.spec.kind, error, step.constants))
        self._deliveries.expect(self._planner.expected)
        for node, blame in extension.lost.items():
            self._deliveries.skip(node)
            if node != blame:
                self._report_skipped(node, blame)
        return self._schedule.add(extension.plan)

    def _count(self, event: Event) -> None:
        if isinstance(event, NodeFinished):
            self._timings[event.node] = event.seconds
        elif isinstance(event, NodeCached):
            self._cached += 1
        elif isinstance(event, NodeFailed):
            self._failures.append(event)

    def _status(self) -> Status:
        if self._cancelled.is_set():
            return "cancelled"
        return "failed" if self._failures else "done"

    def _begin(self) -> None:
        """Do what is over sooner than a thread would start, and leave everything else to threads."""
        until = perf_counter() + UNSEEN_SECONDS
        self._working += 1
        try:
            with torch_threads_restored():
                while perf_counter() < until and (task := self._schedule.take_if(self._is_brief)):
                    self._do(task)
            if not self._schedule.over:
                self._add_thread()
        finally:
            self._leave()

    def _is_brief(self, task: Task) -> bool:
        """Whether a task needs neither the device nor files, and has been seen to take less than waking a thread."""
        if task.lane == "device" or any(step.kind.spec.saves for step in self._planner.targets.get(task.key, ())):
            return False
        return task.key in self.cache.memory if task.fetch else self._is_quick(task)

    def _add_thread(self) -> None:
        with self._lock:
            if len(self._threads) < sum(self._slots.values()):
                self._working += 1
                thread = Thread(target=self._work, name="kinograph-node", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _work(self) -> None:
        """Do one task after another until none is left; every thread runs this."""
        try:
            while (turn := self._schedule.take()) is not Turn.OVER:
                if turn is Turn.PLAN:
                    self._extend()
                else:
                    self._do(turn)
        except BaseException as error:  # noqa: BLE001 - a fault of the engine, not of a node: `__iter__` raises it
            self._engine_error = error
            self._schedule.stop()
        finally:
            self._leave()

    def _leave(self) -> None:
        """End this thread's part in the run; the last one ends the stream of events."""
        with self._lock:
            self._working -= 1
            if not self._working:
                self._deliveries.flush()
                self._events.put(None)

    def _do(self, task: Task) -> None:
        node, kind = task.step.id, task.step.kind.spec.kind
        try:
            if not task.fetch:
                self._events.put(NodeStarted(node, kind))
                if self._on_start:
                    self._on_start(node, kind)
                entry = self._run(task)
                finished: Event = NodeFinished(node, kind, entry.seconds)
            elif held := self._holding.get(task.key):
                entry = held
                finished = NodeCached(node, kind)
            else:
                self._recover(task)
                return
            for step in self._planner.due(task.key):
                self._deliveries.deliver(step, entry)
        except KeyboardInterrupt:  # Ctrl-C in the caller's thread
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a node raises, the run ends in an orderly way
            self._fail(task, error)
            return
        self._events.put(finished)
        if self.graph.dynamic:
            with self._planning:
                if self._planner.learn(task.key, entry):
                    self._schedule.freeze()
        self._schedule.done(task, entry)
        if self.graph.dynamic:  # it may have become a target meanwhile
            self._deliver(task.key, entry)

    def _deliver(self, key: Key, entry: Entry) -> None:
        """Deliver the outputs of steps that became targets only after they were done."""
        for step in self._planner.due(key):
            try:
                self._deliveries.deliver(step, entry)
            except Exception as error:  # noqa: BLE001 - a file that can't be written fails only this target
                self._events.put(NodeFailed.of(step.id, step.kind.spec.kind, error, step.constants))

    def _extend(self) -> None:
        """Extend the plan, with everything that has become known or has failed since."""
        with self._planning:
            started = perf_counter()
            extension = self._planner.extend()
            if self._alone:
                self._planner.check_alone(extension.plan)
            skipped = self._apply(extension)
            held = [(key, entry) for key in self._planner.targets if (entry := self._schedule.held(key))]
            for task in self._failed:
                skipped += self._schedule.fail(task)
            self._failed.clear()
            self._skip(skipped)
            self._schedule.thaw((perf_counter() - started) / PLANNING_SHARE, complete=extension.complete)
        self._deliveries.write()
        for key, entry in held:
            self._deliver(key, entry)

    def _run(self, task: Task) -> Entry:
        """Run a node whose sources are available, and put its outputs into the cache."""
        step, spec = task.step, task.step.kind.spec
        linked = self._linked_inputs(task)
        progress, text = partial(self._progress, step.id), partial(self._text, step.id)
        report = partial(self._report, step.id)
        lasting, upstream = not spec.volatile, 0.0
        for source in task.sources:
            if entry := source.entry:
                lasting, upstream = lasting and entry.lasting, upstream + entry.restore
        recall, keep = (
            partial(self._holding.recall, step.kind, lasting),
            partial(self._holding.keep, step.kind, lasting),
        )
        cancelled, cores = self._cancelled.is_set, self._slots["cpu"]
        may_read = self.graph.confinement.allows if self.graph.confinement else any_file
        ctx = Context(self.device, self.models, progress, text, report, cancelled, cores, recall, keep)
        ctx.may_read, ctx.wants_preview = may_read, self._wants_preview
        if self.device != HOST:  # there, other nodes would only compete for the cores
            ctx.lend_device = partial(self._schedule.lend, task)
        try:
            node = step.kind(**step.constants, **linked)
        except ValidationError as error:
            raise _input_error(error) from error
        watched = WatchedFiles(step, self.graph) if step.contents else None
        started = perf_counter()
        try:
            returned = self._attempts.run(step, node, ctx)
        finally:
            self.models.release()
        seconds = perf_counter() - started
        self._costs.record(spec.kind, seconds)
        try:
            outputs = spec.outputs_of(returned)
        except ValidationError as error:
            raise _wrong_outputs(spec.kind, error) from error
        replaced = [*watched.problems()] if watched else []
        for problem in replaced:
            self._warn(problem)
        if replaced or not lasting:
            task.pinned = lasting or spec.volatile
            return self._holding.put(task.key, outputs, seconds)
        return self.cache.put(task.key, outputs, seconds, upstream=upstream, keep=task.key in self._planner.targets)

    def _linked_inputs(self, task: Task) -> dict[str, Any]:
        """The values of a running task's links, by input."""
        return {name: self._value(task, link) for name, link in task.step.links.items()}

    def _linked_values(self, task: Task) -> Iterable[Any]:
        return self._linked_inputs(task).values()

    def _value(self, task: Task, link: Source | Gathered) -> Any:
        """The value of a link, in host memory unless the node computes on the device."""
        if isinstance(link, Gathered):
            values = [self._value(task, source) for source in link.sources]
            return tuple(item for value in values for item in (value if isinstance(value, tuple) else (value,)))
        on_device = task.step.kind.spec.uses == "device"
        entry = self._schedule.entry(task.keys[link.node])
        output = (entry.outputs if on_device else entry.host_outputs())[link.output]
        return output if link.item is None else output[link.item]

    def _recover(self, task: Task) -> None:
        """Plan a task again whose outputs are no longer held, on what is available now."""
        with self._planning, self._schedule.locked():
            if self._planner.keys.get(task.step.id) == task.key:
                skipped = self._schedule.replan(task, self._planner.recover(task.step.id, task.key))
            else:  # its list has lost an item meanwhile, and another step has replaced it
                skipped = self._schedule.fail(task)
            self._skip(skipped)
        self._deliveries.write()

    def _fail(self, task: Task, error: BaseException) -> None:
        if not (isinstance(error, Cancelled) and self._cancelled.is_set()):
            step = task.step
            if unusable := devices.unusable(self.device):
                unusable.__cause__, error = error, unusable
                self._schedule.stop()
            linked = {} if task.fetch or unusable else self._linked_inputs(task)  # a fetched task has no sources
            inputs = {**step.constants, **linked}
            self._events.put(NodeFailed.of(step.id, step.kind.spec.kind, error, inputs))
        with self._planning:
            for node in self._planner.fail(task.key):
                self._deliveries.skip(node)
                if node != task.step.id:  # equal to it
                    self._report_skipped(node, task.step.id)
            if self.graph.dynamic and not self._cancelled.is_set():
                self._failed.append(task)
                self._schedule.stall(task)
            else:
                self._skip(self._schedule.fail(task))
        self._deliveries.write()

    def _skip(self, tasks: list[Task]) -> None:
        """Report the tasks that can't run; the planner knows their names."""
        if not self._cancelled.is_set():
            found = [(task.step.id, task) for task in tasks]
            found += [(step.id, task) for task in tasks for step in self._planner.targets.get(task.key, ())]
            blames = {node: task.blame for node, task in found}
            for node in self._planner.skipped([(node, task.key) for node, task in found]):
                self._report_skipped(node, blames[node])

    def _report_skipped(self, node: str, blame: str) -> None:
        self._events.put(NodeSkipped(node, self._planner.kind_of(node), blame))
        self._deliveries.skip(node)

    def _warn(self, problem: Problem) -> None:
        """Report a problem that doesn't end its node; once for all items of a list."""
        node = split_id(problem.node or "")[0]
        if (once := replace(problem, node=node)) not in self._warnings:
            self._warnings[once] = None
            self._events.put(NodeWarned(node, once))

    def _progress(self, node: str, done: int, total: int, unit: str, preview: Image | None) -> None:
        self._events.put(NodeProgress(node, done, total, unit, preview))

    def _text(self, node: str, text: str) -> None:
        self._events.put(NodeText(node, text))

    def _report(self, node: str, report: Report) -> None:
        self._events.put(NodeReported(node, report))


def _wrong_outputs(kind: str, error: ValidationError) -> NodeError:
    """The error for a node that returned something other than what it declares."""
    first = error.errors(include_url=False)[0]
    place = "".join(f"[{part!r}]" for part in first["loc"])
    wrong = f"{place} {plainly(first['msg'])}, not {brief(first['input'])}".strip()
    hint = "what `run` returns must fit its annotation"
    return NodeError(f"{kind} returned something other than what it declares: {wrong}", hint=hint)


def _input_error(error: ValidationError) -> InputError:
    first = error.errors(include_url=False)[0]
    return InputError(plainly(first["msg"]), input=".".join(map(str, first["loc"])) or None)
