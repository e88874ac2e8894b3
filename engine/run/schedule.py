"""The bookkeeping of a run: which step may start, what waits for what, and whose value can be freed.

Threads take tasks from here and hand them back; nothing here computes, stores or reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from heapq import heapify, heappop, heappush
from itertools import count
from threading import Condition, Event, RLock
from time import perf_counter
from typing import Protocol

from engine.graph.graph import Step
from engine.graph.keys import Key
from engine.graph.plan import Plan
from engine.spec import Uses
from engine.store.cache import Entry

WATCH_SECONDS = 0.05
"""How often a waiting thread checks, in case a task that was expected to be quick keeps others waiting."""


class State(Enum):
    WAITING = auto()
    RUNNING = auto()
    HELD = auto()
    """Its outputs are in `entry`."""
    FREED = auto()
    """It is done, and so are all tasks that used its outputs."""
    FAILED = auto()
    """It failed, or a step did that it depends on."""


class Turn(Enum):
    """What a thread that gets no task is to do."""

    PLAN = auto()
    """Extend the plan, and then `thaw`."""
    OVER = auto()
    """End: there is nothing left to do."""


@dataclass(slots=True, eq=False)
class Task:
    """A step of the run: to be fetched from the cache, or to be run once its sources are available."""

    key: Key
    step: Step
    rank: int
    """The order of the plan: of the tasks that may start, the lowest does."""
    fetch: bool
    lane: Uses
    keys: Mapping[str, Key]
    """The keys of the nodes that the step links to."""
    quick: bool = False
    """Whether it was expected to be quick when it started."""
    uses: int = 0
    """How many tasks are still to use its outputs."""
    waits: int = 0
    """How many sources it waits for."""
    state: State = State.WAITING
    stalled: bool = False
    """Whether it has failed, and the plan has to be extended before the tasks that depend on it fail."""
    entry: Entry | None = None
    pinned: bool = False
    """Whether its outputs can't be made again, and so are held until the plan is complete."""
    blame: str = ""
    """The node whose failure stopped it."""
    sources: tuple[Task, ...] = ()
    consumers: list[Task] = field(default_factory=list)


class Chooses(Protocol):
    """Whose turn it is."""

    def __call__(self, ready: Sequence[tuple[int, Task]], held: Iterable[Entry]) -> Task:
        """One of the tasks that may start, which are given with their ranks; `held` are the outputs in memory."""


class Schedule:
    """Hands out tasks to threads, in each lane as many at a time as it has slots.

    It is frozen when something becomes known with which the plan can be extended. Then no value is freed, as the next
    plan may need it, and one of the threads gets the turn to plan. Planning takes time, so while there is other work
    that waits until the pause requested after the last planning is over.

    Args:
        slots: how many tasks of each lane may run at the same time.
        more_threads: called when a task may start and no thread waits for one.
        is_quick: whether a task is likely to be done before another thread could wake.
        choose: decides which task is next on the device; the one with the lowest rank if None.
    """

    def __init__(
        self,
        slots: Mapping[Uses, int],
        more_threads: Callable[[], None],
        is_quick: Callable[[Task], bool] = lambda task: False,
        choose: Chooses | None = None,
    ) -> None:
        self._choose = choose
        self._held: dict[Key, Entry] = {}
        """The outputs that are here, as far as `choose` wants to know."""
        self._free = dict(slots)
        self._returning: list[tuple[Uses, Event]] = []
        """The lanes of tasks that want the slot back that they have lent; the event is set once they have it."""
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
        """Those whose value would have been freed."""
        self.complete = True
        """Whether the plan can no longer be extended by what becomes known."""
        self._open = 0
        self._stopped = False
        self._lock = RLock()
        self._changed = Condition(self._lock)

    def add(self, plan: Plan) -> list[Task]:
        """Add the steps of a plan; those that are here already, unless their value was freed, stay as they are.

        Returns the tasks that can't run because they depend on one that has failed.
        """
        with self._lock:
            hits = [self._add(key, step, plan, fetch=True) for key, step in plan.hits.items() if not self._alive(key)]
            runs = [self._add(key, step, plan, fetch=False) for key, step in plan.runs.items() if not self._alive(key)]
            for key, uses in plan.uses.items():
                self._tasks[key].uses += uses
            return [stuck for task in hits + runs for stuck in self._connect(task, plan.sources.get(task.key, ()))]

    def locked(self) -> AbstractContextManager[object]:
        """Within it nothing starts, ends or is freed."""
        return self._lock

    def alive(self, key: Key) -> bool:
        """Whether that key's outputs are here or being computed."""
        with self._lock:
            return self._alive(key)

    def held(self, key: Key) -> Entry | None:
        """The outputs of a step that is done, as long as another is still to use them."""
        task = self._tasks.get(key)
        return task.entry if task else None

    def entry(self, key: Key) -> Entry:
        """The outputs of a source of a running task."""
        entry = self._tasks[key].entry
        assert entry is not None
        return entry

    def take(self) -> Task | Turn:
        """The next task to do, waiting for one if need be.

        A quick task is left to a thread that is running one already: two would only take turns.
        """
        with self._lock:
            waited_long = False
            while not self.over:
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

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do."""
        return self._stopped or not (self._open or self._frozen)

    def take_if(self, accepts: Callable[[Task], bool]) -> Task | None:
        """The next task to do, if there is one at once and it is accepted.

        Another thread is woken only beside a task that runs. Who fetches outputs takes what is left afterwards, or has
        others take it.
        """
        with self._lock:
            lane = self._next_lane()
            if lane is None or self._frozen or self._stopped or not accepts(self._ready[lane][0][1]):
                return None
            return self._start(lane, wakes=not self._ready[lane][0][1].fetch)

    def _busy(self, lane: Uses | None) -> bool:
        """Whether there is something to do other than planning."""
        return lane is not None or self._running > 0

    def _start(self, lane: Uses, *, wakes: bool = True) -> Task:
        self._free[lane] -= 1
        task = self._pop_chosen(self._choose) if lane == "device" and self._choose else heappop(self._ready[lane])[1]
        task.state = State.RUNNING
        task.quick = self._is_quick(task)
        self._running += 1
        self._quick_running += task.quick
        if wakes and ((self._next_lane() and not (self._idle and task.quick)) or self._frozen):  # someone has to plan
            self._wake()
        return task

    @contextmanager
    def lend(self, task: Task) -> Iterator[None]:
        """Within it, another task may have the slot of a running one, which gets the next that becomes free back."""
        with self._lock:
            self._give(task.lane)
            if self._next_lane():
                self._wake()
        try:
            yield
        finally:
            turn = Event()
            with self._lock:
                if self._free[task.lane]:
                    self._free[task.lane] -= 1
                    turn.set()
                else:
                    self._returning.append((task.lane, turn))
            turn.wait()

    def done(self, task: Task, entry: Entry) -> None:
        """Hand back a task with its outputs: tasks waiting for them may start, values that none waits for are freed."""
        with self._lock:
            self._end(task)
            task.state, task.entry = State.HELD, entry
            if self._choose:
                self._held[task.key] = entry
            for consumer in task.consumers:
                consumer.waits -= 1
                if not consumer.waits and consumer.state is State.WAITING:
                    self._offer(consumer)
            task.consumers.clear()
            self._release_sources(task)

    def freeze(self) -> None:
        """Free no more values, and have a thread extend the plan."""
        with self._lock:
            self._frozen = True

    def thaw(self, pause: float, *, complete: bool) -> None:
        """Free unused values again, as the plan has been extended; the next extension should wait `pause` seconds.

        Outputs that can't be made again are freed only if the plan is `complete` now.
        """
        with self._lock:
            self._frozen = self._planning = False
            self.complete = complete
            self._plan_at = perf_counter() + pause
            spared, self._spared = self._spared, []
            for task in spared:
                if not task.uses:
                    self._free_value(task)
            if not self._open:
                self._changed.notify_all()

    def stall(self, task: Task) -> None:
        """Record that a task has failed; it is to be handed back with `fail` once the plan has been extended."""
        with self._lock:
            self._free_slot(task)
            task.stalled = True
            self._frozen = True

    def fail(self, task: Task) -> list[Task]:
        """Hand back a task that failed; returns those that now can't run."""
        with self._lock:
            self._end(task)
            return self._fail(task, task.step.id)

    def replan(self, task: Task, plan: Plan) -> list[Task]:
        """Hand back a task whose outputs were no longer held, with a plan to compute them; returns as `fail` does."""
        with self._lock:
            self._end(task)
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
        """Have a new task wait for its sources; returns the tasks that can't run because a source has failed."""
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
        for task in reached:  # grows during the loop
            task.blame = blame
            for consumer in task.consumers:
                if consumer.state is State.WAITING:
                    consumer.state = State.FAILED
                    self._open -= 1
                    reached.append(consumer)
            task.consumers.clear()
            self._release_sources(task)
        return reached[1:]

    def _release_sources(self, task: Task) -> None:
        """Free what a task that has ended no longer uses."""
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
        if task.state is State.HELD and (self._frozen or (task.pinned and not self.complete)):
            self._spared.append(task)
        elif task.state is State.HELD:
            task.state, task.entry = State.FREED, None
            if self._choose:
                self._held.pop(task.key, None)

    def _end(self, task: Task) -> None:
        if not task.stalled:
            self._free_slot(task)
        self._open -= 1

    def _free_slot(self, task: Task) -> None:
        """Make the slot of a task that has stopped running available."""
        self._running -= 1
        self._quick_running -= task.quick
        self._give(task.lane)

    def _give(self, lane: Uses) -> None:
        """Make a slot available: to a task that has lent its own if one wants it back, else to any."""
        for index, (own, turn) in enumerate(self._returning):
            if own == lane:
                del self._returning[index]
                turn.set()
                return
        self._free[lane] += 1

    def _offer(self, task: Task) -> None:
        heappush(self._ready[task.lane], (task.rank, task))

    def _pop_chosen(self, choose: Chooses) -> Task:
        ready = self._ready["device"]
        task = choose(ready, self._held.values())
        if task is ready[0][1]:
            heappop(ready)
        else:
            ready.remove((task.rank, task))
            heapify(ready)
        return task

    def _next_lane(self) -> Uses | None:
        """Among the lanes with a free slot, the one with the lowest rank."""
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
