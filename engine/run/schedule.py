"""The bookkeeping of a run: which step may start, what waits for what, and whose value can be let go.

Threads take steps from here and hand them back; nothing here computes, stores or reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum, auto
from heapq import heappop, heappush
from itertools import count
from threading import Condition, RLock
from time import perf_counter

from engine.graph.graph import Step
from engine.graph.keys import Key
from engine.graph.plan import Plan
from engine.node import Uses
from engine.store.cache import Entry

WATCH_SECONDS = 0.05
"""How often a waiting thread looks for itself, should a task that was thought to be quick keep others waiting."""


class State(Enum):
    WAITING = auto()
    RUNNING = auto()
    HELD = auto()
    """Its outputs are in `entry`."""
    FREED = auto()
    """It was done, and all who used its outputs are too."""
    FAILED = auto()
    """It failed, or something did that it depends on."""


class Turn(Enum):
    """What a thread is to do that gets no task."""

    PLAN = auto()
    """Plan on, and then `thaw`."""
    OVER = auto()


@dataclass(slots=True, eq=False)
class Task:
    """A step of the run: to be fetched from the cache, or to be run when its sources are there."""

    key: Key
    step: Step
    rank: int
    """Among those that may start, the lowest does: the order of the plan."""
    fetch: bool
    lane: Uses
    keys: Mapping[str, Key]
    """The keys of the nodes that the step links to."""
    quick: bool = False
    """Whether it was thought to be quick when it was started."""
    uses: int = 0
    """How many tasks are still to use its outputs."""
    waits: int = 0
    """For how many sources it waits."""
    state: State = State.WAITING
    stalled: bool = False
    """Whether it has failed, and waits for planning to go on before what depends on it does."""
    entry: Entry | None = None
    blame: str = ""
    """The node whose failure stopped it."""
    sources: tuple[Task, ...] = ()
    consumers: list[Task] = field(default_factory=list)


class Schedule:
    """Hands out tasks to threads, as many at a time in each lane as it has slots.

    While it is frozen, since something came to be known that planning can go on with, no value is let go: what is
    planned next may need it. One of the threads is told to plan, which takes its time: while there is other work, not
    before the pause that the last planning asked for is over.

    Args:
        slots: how many tasks of each kind of use may run at the same time.
        more_threads: called when a task may start and no thread waits for one.
        is_quick: whether a task is likely to be done before another thread could wake.
    """

    def __init__(
        self,
        slots: Mapping[Uses, int],
        more_threads: Callable[[], None],
        is_quick: Callable[[Task], bool] = lambda task: False,
    ) -> None:
        self._free = dict(slots)
        self._ready: dict[Uses, list[tuple[int, Task]]] = {lane: [] for lane in slots}
        self._tasks: dict[Key, Task] = {}
        self._ranks = count()
        self._more_threads = more_threads
        self._is_quick = is_quick
        self._idle = 0
        self._running = 0
        self._quick_running = 0
        self._frozen = self._planning = False
        self._plan_at = 0.0
        self._spared: list[Task] = []
        """Those whose value would have been let go."""
        self._open = 0
        self._stopped = False
        self._lock = RLock()
        self._changed = Condition(self._lock)

    def add(self, plan: Plan) -> list[Task]:
        """Take up the steps of a plan; those that are here already, unless their value was freed, stay as they are.

        Returns the tasks that can't run because they depend on one that has failed.
        """
        with self._lock:
            hits = [self._add(key, step, plan, fetch=True) for key, step in plan.hits.items() if not self._alive(key)]
            runs = [self._add(key, step, plan, fetch=False) for key, step in plan.runs.items() if not self._alive(key)]
            for key, uses in plan.uses.items():
                self._tasks[key].uses += uses
            return [stuck for task in hits + runs for stuck in self._connect(task, plan.sources.get(task.key, ()))]

    def still(self) -> AbstractContextManager[object]:
        """Within it nothing starts, ends or is let go."""
        return self._lock

    def alive(self, key: Key) -> bool:
        """Whether that key's outputs are here or being made."""
        with self._lock:
            return self._alive(key)

    def held(self, key: Key) -> Entry | None:
        """The outputs of a step that is done, as long as someone is still to use them."""
        task = self._tasks.get(key)
        return task.entry if task else None

    def entry(self, key: Key) -> Entry:
        """The outputs of a source of a running task."""
        entry = self._tasks[key].entry
        assert entry is not None
        return entry

    def take(self) -> Task | Turn:
        """The next task to do, waiting for one if need be.

        A quick task is left to the thread that is at one already: two would only take turns.
        """
        with self._lock:
            waited_long = False
            while (self._open or self._frozen) and not self._stopped:
                lane = self._next_lane()
                if self._frozen and not self._planning and (perf_counter() >= self._plan_at or not self._busy(lane)):
                    self._planning = True
                    return Turn.PLAN
                if lane and (waited_long or not (self._quick_running and self._is_quick(self._ready[lane][0][1]))):
                    return self._start(lane)
                self._idle += 1
                waited_long = not self._changed.wait(WATCH_SECONDS)
                self._idle -= 1
            return Turn.OVER

    def _busy(self, lane: Uses | None) -> bool:
        """Whether there is something to do but planning."""
        return lane is not None or self._running > 0

    def _start(self, lane: Uses) -> Task:
        self._free[lane] -= 1
        task = heappop(self._ready[lane])[1]
        task.state = State.RUNNING
        task.quick = self._is_quick(task)
        self._running += 1
        self._quick_running += task.quick
        if (self._next_lane() and not (self._idle and task.quick)) or self._frozen:  # someone has to plan
            self._wake()
        return task

    def done(self, task: Task, entry: Entry) -> None:
        """Hand back a task with its outputs: those who wait for them may start, values that no one waits for go."""
        with self._lock:
            self._leave(task)
            task.state, task.entry = State.HELD, entry
            for consumer in task.consumers:
                consumer.waits -= 1
                if not consumer.waits and consumer.state is State.WAITING:
                    self._offer(consumer)
            task.consumers.clear()
            self._let_go(task)

    def freeze(self) -> None:
        """Let no value go, and have planning go on."""
        with self._lock:
            self._frozen = True

    def thaw(self, pause: float) -> None:
        """Planning has gone on: let go what isn't used. It is not to go on again for `pause` seconds if that can be."""
        with self._lock:
            self._frozen = self._planning = False
            self._plan_at = perf_counter() + pause
            spared, self._spared = self._spared, []
            for task in spared:
                if not task.uses:
                    self._free_value(task)
            if not self._open:
                self._changed.notify_all()

    def stall(self, task: Task) -> None:
        """Take note that a task has failed: it is to be handed back with `fail` once planning has gone on."""
        with self._lock:
            self._let_others(task)
            task.stalled = True
            self._frozen = True

    def fail(self, task: Task) -> list[Task]:
        """Hand back a task that failed; returns those that now can't run."""
        with self._lock:
            self._leave(task)
            return self._fail(task, task.step.id)

    def lost(self, task: Task, plan: Plan) -> list[Task]:
        """Hand back a task that was to be fetched and wasn't there, with a plan to make it; returns as `fail` does."""
        with self._lock:
            self._leave(task)
            task.state = State.FREED
            return self.add(plan)

    def stop(self) -> None:
        """Let no further task start."""
        with self._lock:
            self._stopped = True
            self._changed.notify_all()

    def _alive(self, key: Key) -> bool:
        task = self._tasks.get(key)
        return task is not None and task.state is not State.FREED

    def _add(self, key: Key, step: Step, plan: Plan, *, fetch: bool) -> Task:
        lane: Uses = "io" if fetch else step.kind.spec.uses
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = Task(key, step, next(self._ranks), fetch, lane, plan.keys)
        else:
            task.state, task.rank, task.fetch, task.lane = State.WAITING, next(self._ranks), fetch, lane
            task.step, task.keys = step, plan.keys
        self._open += 1
        return task

    def _connect(self, task: Task, sources: Iterable[Key]) -> list[Task]:
        """Let a new task wait for its sources; returns the tasks that can't run because a source has failed."""
        task.sources = tuple(self._tasks[key] for key in sources)
        waiting = [source for source in task.sources if source.state is not State.HELD]
        task.waits = len(waiting)
        for source in waiting:
            source.consumers.append(task)
        for source in waiting:
            if source.state is State.FAILED:
                self._open -= 1
                return [task, *self._fail(task, source.blame)]
        if not waiting:
            self._offer(task)
        return []

    def _fail(self, failed: Task, blame: str) -> list[Task]:
        failed.state = State.FAILED
        reached = [failed]
        for task in reached:  # grows while it is walked
            task.blame = blame
            for consumer in task.consumers:
                if consumer.state is State.WAITING:
                    consumer.state = State.FAILED
                    self._open -= 1
                    reached.append(consumer)
            task.consumers.clear()
            self._let_go(task)
        return reached[1:]

    def _let_go(self, task: Task) -> None:
        """A task has come to its end: it uses its sources no more."""
        for source in task.sources:
            source.uses -= 1
            if not source.uses:
                self._free_value(source)
        task.sources = ()
        if not task.uses:
            self._free_value(task)
        if not self._open:
            self._changed.notify_all()

    def _free_value(self, task: Task) -> None:
        if task.state is State.HELD and self._frozen:
            self._spared.append(task)
        elif task.state is State.HELD:
            task.state, task.entry = State.FREED, None

    def _leave(self, task: Task) -> None:
        if not task.stalled:
            self._let_others(task)
        self._open -= 1

    def _let_others(self, task: Task) -> None:
        """A running task doesn't any more."""
        self._running -= 1
        self._quick_running -= task.quick
        self._free[task.lane] += 1

    def _offer(self, task: Task) -> None:
        heappush(self._ready[task.lane], (task.rank, task))

    def _next_lane(self) -> Uses | None:
        """The lane of the lowest rank among those that have a slot free."""
        best: Uses | None = None
        for lane, ready in self._ready.items():
            if ready and self._free[lane] and (best is None or ready[0][0] < self._ready[best][0][0]):
                best = lane
        return best

    def _wake(self) -> None:
        if self._idle:
            self._changed.notify()
        else:
            self._more_threads()
