"""Running a checked graph: a plan is carried out by threads and told as a stream of events.

    registry = nodes.registry()
    workflow = Workflow.parse(Path("snail.json").read_text())
    graph = check(workflow, registry, base=Path("."))
    with Cache(disk=Disk(home() / "cache")) as cache:
        run = Execution(graph, cache=cache, out=Path("output"), device="cpu", models=Models())
        for event in run:  # from another thread or a signal handler, run.cancel() ends it at the next step
            print(to_json(event))
        # the last event is RunFinished, whose exit_code is that of the command

Heavy nodes take turns on the device's one slot; light ones and those that wait for something run beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Event as Flag
from threading import Lock, Thread
from time import perf_counter
from typing import Any

from pydantic import ValidationError

from engine.errors import Cancelled, InputError, KinographError, NodeError
from engine.events import (
    Event,
    NodeCached,
    NodeFailed,
    NodeFinished,
    NodeProgress,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeText,
    RunExtended,
    RunFinished,
    RunStarted,
    Status,
    problem_of,
)
from engine.graph.graph import Gathered, Graph, Source, Step
from engine.graph.keys import Key, part_key
from engine.models import HOST, Models
from engine.node import Context, Node, Preview, Uses, any_file
from engine.run import devices
from engine.run.costs import Costs
from engine.run.deliveries import Claims, Deliveries
from engine.run.planner import Growth, Planner
from engine.run.schedule import Schedule, Task, Turn
from engine.run.threads import cores, set_torch_threads
from engine.store.cache import Cache, Entry

QUICK_SECONDS = 1e-4
"""What waking another thread, and taking turns with it, costs about."""
PLANNING_SHARE = 0.1
"""How much of the time may go into planning on while there is something else to do."""
RETRY_SECONDS = 0.5
"""The pause before a node's second attempt; each further one is twice as long."""


class Execution:
    """One run of a graph. Iterating over it, once, runs it and yields its events, the last of which is `RunFinished`.

    Args:
        graph: what `check` returned.
        cache: where values are held; share it between the runs of a process.
        out: the folder that media are written to.
        device: a torch device, "cpu" or "cuda:0".
        models: the resident models; share them between the runs of a process.
        costs: what nodes were seen to take, which decides what goes first; added to as this run goes on.
        temp: the folder for media that are only for looking at; `temp` in `out` if None.
        claims: the names of files that an earlier, killed attempt at this run took, and who notes those that are taken.
        on_start: called with a node and its kind just before it runs, in the thread that runs it.
        alone: run nothing but the targets, on what is held; iterating raises MissingError if something isn't. What
            can't be held between runs, such as references to models, is made anew all the same.
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
        temp: Path | None = None,
        claims: Claims | None = None,
        on_start: Callable[[str, str], None] | None = None,
        alone: bool = False,
    ) -> None:
        self.graph = graph
        self._alone = alone
        self._on_start = on_start
        self.cache = cache
        self.device = device
        self.models = Models() if models is None else models
        self.exit_code = 0
        """That of the command, once the run has ended."""
        self._slots: dict[Uses, int] = {"device": 1, "cpu": cores(), "io": 8}
        self._schedule = Schedule(self._slots, self._add_thread, self._is_quick)
        self._costs = Costs() if costs is None else costs
        self._planner = Planner(graph, device, cache, self._here, self._costs)
        self._planning = Lock()
        self._failed: list[Task] = []
        """Those that failed since planning last went on."""
        self._announced: set[str] = set()
        self._events: SimpleQueue[Event | None] = SimpleQueue()
        self._cancelled = Flag()
        temp = temp or out / "temp"
        self._deliveries = Deliveries(graph, out, temp, self._events.put, self._cancelled.is_set, claims or Claims())
        self._lock = Lock()
        self._threads: list[Thread] = []
        self._working = 0
        self._fault: BaseException | None = None
        self._cached = 0
        self._timings: dict[str, float] = {}
        self._failures: list[NodeFailed] = []

    @property
    def results(self) -> dict[str, tuple[Any, ...]]:
        """The outputs, by node, of targets that don't save files."""
        return self._deliveries.results

    def cancel(self) -> None:
        """End the run: nothing more starts, and running nodes end at their next step."""
        self._cancelled.set()
        self._schedule.stop()

    def __iter__(self) -> Iterator[Event]:
        started = perf_counter()
        self.cache.refresh()
        growth = self._planner.grow()
        if self._alone:
            self._planner.check_alone(growth.plan)
        graph, runs = self._planner.graph, growth.plan.runs.values()
        once = {problem.message: problem for problem in reversed(graph.warnings)}
        yield RunStarted(len(graph.order), tuple(step.id for step in runs), tuple(reversed(once.values())))
        self._announced.update(step.id for step in growth.plan.runs.values())
        self._skip(self._take_up(growth))
        self._deliveries.write()
        self._add_thread()
        try:
            while event := self._events.get():
                self._count(event)
                yield event
            status = self._status()
        finally:
            self.cancel()
            for thread in self._threads:
                thread.join()
            self._costs.save()
        if self._fault:
            raise self._fault
        seconds = perf_counter() - started
        finished = RunFinished(status, seconds, self._cached, self._timings, tuple(self._failures))
        self.exit_code = finished.exit_code
        yield finished

    def _is_quick(self, task: Task) -> bool:
        """Whether a task's kind has been seen to take less than what waking a thread costs."""
        return not task.fetch and 0 < self._costs.of(task.step.kind.spec.kind) < QUICK_SECONDS

    def _here(self, key: Key) -> bool:
        return self._schedule.alive(key) or self.cache.held(key)

    def _take_up(self, growth: Growth) -> list[Task]:
        """Put what has come to the plan into the schedule, and tell it; returns the tasks that can't run."""
        more = [step.id for step in growth.plan.runs.values() if step.id not in self._announced]
        if more:
            self._announced.update(more)
            self._events.put(RunExtended(tuple(more)))
        for problem in growth.failures:
            step = self.graph.steps[str(problem.node)]
            error = InputError.of([problem])
            self._events.put(NodeFailed.of(step.id, step.kind.spec.kind, error, step.constants))
        self._deliveries.expect(self._planner.expected)
        for node, blame in growth.lost.items():
            self._deliveries.skip(node)
            if node != blame:
                self._tell_skipped(node, blame)
        return self._schedule.add(growth.plan)

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

    def _add_thread(self) -> None:
        with self._lock:
            if len(self._threads) < sum(self._slots.values()):
                self._working += 1
                thread = Thread(target=self._work, name="kinograph-node", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _work(self) -> None:
        """What each thread does: one task after another, until there is none left; the last thread ends the stream."""
        try:
            while (turn := self._schedule.take()) is not Turn.OVER:
                if turn is Turn.PLAN:
                    self._grow()
                else:
                    self._do(turn)
        except BaseException as error:  # noqa: BLE001 - no node's fault but the engine's: `__iter__` raises it
            self._fault = error
            self._schedule.stop()
        finally:
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
            elif held := self.cache.get(task.key):
                entry = held
                finished = NodeCached(node, kind)
            else:
                self._recover(task)
                return
            for step in self._planner.due(task.key):
                self._deliveries.give(step, entry)
        except BaseException as error:  # noqa: BLE001 - whatever a node raises, the run ends in order
            self._fail(task, error)
            return
        self._events.put(finished)
        if self.graph.dynamic:
            with self._planning:
                if self._planner.learn(task.key, entry.outputs, entry.seconds):
                    self._schedule.freeze()
        self._schedule.done(task, entry)
        if self.graph.dynamic:  # it may have become a target meanwhile
            self._deliver(task.key, entry)

    def _deliver(self, key: Key, entry: Entry) -> None:
        """Give targets what was done before they were known to be such."""
        for step in self._planner.due(key):
            try:
                self._deliveries.give(step, entry)
            except Exception as error:  # noqa: BLE001 - a file that can't be written, a failure of this target alone
                self._events.put(NodeFailed.of(step.id, step.kind.spec.kind, error, step.constants))

    def _grow(self) -> None:
        """Plan on, with all that has come to be known and all that has failed."""
        with self._planning:
            started = perf_counter()
            growth = self._planner.grow()
            if self._alone:
                self._planner.check_alone(growth.plan)
            skipped = self._take_up(growth)
            held = [(key, entry) for key in self._planner.targets if (entry := self._schedule.held(key))]
            for task in self._failed:
                skipped += self._schedule.fail(task)
            self._failed.clear()
            self._skip(skipped)
            self._schedule.thaw((perf_counter() - started) / PLANNING_SHARE)
        self._deliveries.write()
        for key, entry in held:
            self._deliver(key, entry)

    def _run(self, task: Task) -> Entry:
        """Run a node whose sources are there, and put what it gives into the cache."""
        step, spec = task.step, task.step.kind.spec
        linked = self._linked(task)
        progress, text = partial(self._progress, step.id), partial(self._text, step.id)
        recall, keep = partial(self._recall, step.kind), partial(self._keep, step.kind)
        cancelled, cores = self._cancelled.is_set, self._slots["cpu"]
        may_read = self.graph.confinement.allows if self.graph.confinement else any_file
        ctx = Context(self.device, self.models, progress, text, cancelled, cores, recall, keep, may_read)
        try:
            node = step.kind(**step.constants, **linked)
        except ValidationError as error:
            raise _input_error(error) from error
        set_torch_threads(cores if spec.uses == "device" else 1)
        started = perf_counter()
        try:
            returned = self._attempt(step, node, ctx)
        finally:
            self.models.release()
        seconds = perf_counter() - started
        self._costs.note(spec.kind, seconds)
        try:
            outputs = spec.outputs_of(returned)
        except ValidationError as error:
            raise NodeError(f"{spec.kind} returned what it does not declare: {error}") from error
        upstream = sum([source.entry.restore for source in task.sources if source.entry])
        return self.cache.put(task.key, outputs, seconds, upstream=upstream, keep=task.key in self._planner.targets)

    def _attempt(self, step: Step, node: Node, ctx: Context) -> Any:
        """What `run` returns, in as many attempts as the kind allows, and one more once memory has been freed."""
        allowed, tried, freed = step.kind.spec.retries + 1, 0, False
        while True:
            try:
                return node.run(ctx)
            except KinographError:
                raise
            except Exception as error:
                tried += 1
                if devices.is_full(error):
                    if freed:
                        raise self._full(error) from error
                    allowed, freed, pause = allowed + 1, True, 0.0
                    self._free_memory()
                elif tried < allowed:
                    pause = RETRY_SECONDS * 2 ** (tried - 1)
                else:
                    raise
                self._events.put(NodeRetried(step.id, problem_of(step.id, error), tried + 1, allowed, pause))
            if self._cancelled.wait(pause):
                raise Cancelled

    def _free_memory(self) -> None:
        """Make all the room that there is to make, where nodes compute."""
        self.models.release()
        if self.device == HOST:
            self.models.clear()
            self.cache.memory.trim(0)
        else:
            self.models.leave_devices()
            self.cache.device.trim(0)
        devices.return_unused()

    def _full(self, error: Exception) -> NodeError:
        """What to say of a node that found too little memory twice."""
        models = self.models.nbytes if self.device == HOST else self.models.device_nbytes
        tier = self.cache.memory if self.device == HOST else self.cache.device
        reason = str(error).partition("\n")[0] or "no memory left"
        return NodeError(
            f"{self.device} is out of memory, also after all else was moved off it: {reason} "
            f"(models hold {models / 1e9:.1f} GB of it, results {tier.nbytes / 1e9:.1f} GB)",
            hint="ask for a smaller size or fewer frames, load the model in a smaller dtype, or use another device",
        )

    def _linked(self, task: Task) -> dict[str, Any]:
        """What the sources of a running task gave, by input."""
        return {name: self._given(task, link) for name, link in task.step.links.items()}

    def _given(self, task: Task, link: Source | Gathered) -> Any:
        """What a link leads to, in host memory unless it is for a node that computes on the device."""
        if isinstance(link, Gathered):
            given = [self._given(task, source) for source in link.sources]
            return tuple(item for one in given for item in (one if isinstance(one, tuple) else (one,)))
        on_device = task.step.kind.spec.uses == "device"
        entry = self._schedule.entry(task.keys[link.node])
        output = (entry if on_device else entry.on_host()).outputs[link.output]
        return output if link.item is None else output[link.item]

    def _recover(self, task: Task) -> None:
        """What was held is gone: plan anew for it alone, on what is here by now."""
        with self._planning, self._schedule.still():
            if self._planner.keys.get(task.step.id) == task.key:
                skipped = self._schedule.lost(task, self._planner.recover(task.step.id, task.key))
            else:  # its list has lost an item meanwhile, and another stands for it
                skipped = self._schedule.fail(task)
            self._skip(skipped)
        self._deliveries.write()

    def _fail(self, task: Task, error: BaseException) -> None:
        if not (isinstance(error, Cancelled) and self._cancelled.is_set()):
            step = task.step
            linked = {} if task.fetch else self._linked(task)  # the sources of what is fetched aren't here
            inputs = {**step.constants, **linked}
            self._events.put(NodeFailed.of(step.id, step.kind.spec.kind, error, inputs))
        with self._planning:
            for node in self._planner.fail(task.key):
                self._deliveries.skip(node)
                if node != task.step.id:  # equal to it
                    self._tell_skipped(node, task.step.id)
            if self.graph.dynamic and not self._cancelled.is_set():
                self._failed.append(task)
                self._schedule.stall(task)
            else:
                self._skip(self._schedule.fail(task))
        self._deliveries.write()

    def _skip(self, tasks: list[Task]) -> None:
        """Tell which tasks can't run; their names are the planner's matter."""
        if not self._cancelled.is_set():
            found = [(task.step.id, task) for task in tasks]
            found += [(step.id, task) for task in tasks for step in self._planner.targets.get(task.key, ())]
            blames = {node: task.blame for node, task in found}
            for node in self._planner.skipped([(node, task.key) for node, task in found]):
                self._tell_skipped(node, blames[node])

    def _tell_skipped(self, node: str, blame: str) -> None:
        self._events.put(NodeSkipped(node, self._planner.kind_of(node), blame))
        self._deliveries.skip(node)

    def _recall(self, kind: type[Node], name: str) -> tuple[Any, ...] | None:
        entry = self.cache.get(part_key(kind, name, self.device))
        return entry.on_host().outputs if entry else None

    def _keep(self, kind: type[Node], name: str, outputs: tuple[Any, ...], seconds: float) -> None:
        self.cache.put(part_key(kind, name, self.device), outputs, seconds, upstream=0, keep=True)

    def _progress(self, node: str, done: int, total: int, unit: str, preview: Preview | None) -> None:
        self._events.put(NodeProgress(node, done, total, unit, preview))

    def _text(self, node: str, text: str) -> None:
        self._events.put(NodeText(node, text))


def _input_error(error: ValidationError) -> InputError:
    first = error.errors(include_url=False)[0]
    return InputError(first["msg"].removeprefix("Input "), input=".".join(map(str, first["loc"])) or None)
