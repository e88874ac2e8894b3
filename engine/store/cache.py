"""What nodes gave, by key, on the device, in host memory and on disk; `docs/engine.md` gives the reasons.

Entries leave by GreedyDual-Size (Cao and Irani 1997): each has the priority L + seconds it took / bytes, the lowest
goes first, and L is the priority of the last that went, so that what is used again stays and what is not ages.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from threading import Lock
from types import TracebackType
from typing import Any, NamedTuple, Self

import psutil

from engine.graph.keys import Key
from engine.store.disk import Disk, read_seconds
from engine.store.encoding import storable
from engine.values import Value, size

OVERHEAD = 400
"""Bytes that an entry takes beside its values."""


class Entry(NamedTuple):
    """One node's outputs, in order, and what they cost."""

    outputs: tuple[Any, ...]
    nbytes: int
    seconds: float
    """What `run` took."""
    restore: float
    """Seconds to have the outputs again without this entry in memory: read back, or computed from what is stored."""
    on_device: bool = False
    """Whether some of the outputs are in the memory of a device other than the host."""

    def on_host(self) -> Entry:
        """The entry in host memory."""
        return self._replace(outputs=_on_host(self.outputs), on_device=False) if self.on_device else self


class Cache:
    """The memory of devices over that of the host over a disk. Safe to use from several threads, the disk from several
    processes.

    Args:
        memory: bytes that values may take in host memory; a quarter of the machine's if None.
        disk: where storable values are kept between processes, or None.
        device: bytes that values may take where nodes leave them in a device's memory, or a function that tells what is
            free for them at the moment. What must leave there goes to host memory.
    """

    def __init__(
        self, memory: int | None = None, disk: Disk | None = None, device: int | Callable[[], int] = 1 << 30
    ) -> None:
        self.memory = Memory(_quarter_of_memory() if memory is None else memory)
        self.device = Memory(device, spill=lambda key, entry: self.memory.put(key, entry.on_host()))
        self.disk = disk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Finish what is being written to disk."""
        if self.disk is not None:
            self.disk.close()

    def refresh(self) -> None:
        """Notice what other processes have stored since."""
        if self.disk is not None:
            self.disk.refresh()

    def held(self, key: Key) -> bool:
        """Whether `get` is likely to give something; a file may still prove torn, or gone."""
        return key in self.device or key in self.memory or (self.disk is not None and key in self.disk)

    def get(self, key: Key) -> Entry | None:
        if (entry := self.device.get(key) or self.memory.get(key)) or self.disk is None:
            return entry
        if stored := self.disk.read(key):
            outputs, seconds = stored
            nbytes = sum(map(size, outputs))
            entry = Entry(outputs, nbytes, seconds, read_seconds(nbytes))
            self.memory.put(key, entry)
        return entry

    def put(self, key: Key, outputs: tuple[Any, ...], seconds: float, *, upstream: float, keep: bool = False) -> Entry:
        """Hold a node's outputs, as far as the budgets allow.

        Args:
            key: what decides the outputs.
            outputs: the node's outputs, in order.
            seconds: what `run` took.
            upstream: the sum of its sources' `restore`.
            keep: whether to store it even if computing it again is cheaper than reading it back.
        """
        nbytes = sum(map(size, outputs))
        restore, reading = seconds + upstream, read_seconds(nbytes)
        worthwhile = restore > 2 * reading  # it is to be written as well
        if self.disk is not None and (keep or worthwhile) and storable(outputs):
            if key not in self.disk:
                self.disk.write(key, _on_host(outputs), seconds)  # lest what waits to be written fill the device
            restore = reading
        entry = Entry(outputs, nbytes, seconds, restore, any(map(_device_size, outputs)))
        (self.device if entry.on_device else self.memory).put(key, entry)
        return entry


class Memory:
    """One tier in memory: entries by key within a budget of bytes.

    Args:
        budget: the bytes, or a function that tells how many it is at the moment.
        spill: called with what has to leave.
    """

    def __init__(
        self, budget: int | Callable[[], int], spill: Callable[[Key, Entry], object] = lambda key, entry: None
    ) -> None:
        self._budget = budget
        self._spill = spill
        self.nbytes = 0
        self._entries: dict[Key, Entry] = {}
        self._priorities: dict[Key, float] = {}
        # What the heap says of a key is stale unless `_priorities` says the same.
        self._heap: list[tuple[float, Key]] = []
        self._inflation = 0.0
        self._lock = Lock()

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Entry | None:
        with self._lock:
            if entry := self._entries.get(key):
                self._rank(key, entry)
            return entry

    def put(self, key: Key, entry: Entry) -> None:
        """Hold the entry and let the least valuable go until the budget is kept; that may be the entry itself."""
        with self._lock:
            if key in self._entries:
                self._drop(key)
            self._entries[key] = entry
            self.nbytes += entry.nbytes + OVERHEAD
            self._rank(key, entry)
        self.trim()

    def trim(self, budget: int | None = None) -> None:
        """Let the least valuable go until the budget, or a smaller one, is kept."""
        budget = self.budget if budget is None else budget
        if self.nbytes <= budget:
            return
        leaving: list[tuple[Key, Entry]] = []
        with self._lock:
            while self.nbytes > budget and self._heap:
                priority, least = heapq.heappop(self._heap)
                if self._priorities.get(least) == priority:
                    self._inflation = priority
                    leaving.append((least, self._drop(least)))
        for key, entry in leaving:
            self._spill(key, entry)

    @property
    def budget(self) -> int:
        return self._budget() if callable(self._budget) else self._budget

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._priorities.clear()
            self._heap.clear()
            self.nbytes = 0

    def _rank(self, key: Key, entry: Entry) -> None:
        priority = self._inflation + entry.seconds / (entry.nbytes + OVERHEAD)
        if self._priorities.get(key) != priority:
            self._priorities[key] = priority
            heapq.heappush(self._heap, (priority, key))

    def _drop(self, key: Key) -> Entry:
        del self._priorities[key]
        entry = self._entries.pop(key)
        self.nbytes -= entry.nbytes + OVERHEAD
        return entry


def _device_size(value: Any) -> int:
    """Bytes that an output holds in the memory of a device."""
    if isinstance(value, Value):
        return value.device_nbytes
    return sum(map(_device_size, value)) if isinstance(value, tuple) else 0


def _on_host(value: Any) -> Any:
    if isinstance(value, Value):
        return value.on_host()
    return tuple(map(_on_host, value)) if isinstance(value, tuple) else value


def _quarter_of_memory() -> int:
    return psutil.virtual_memory().total // 4
