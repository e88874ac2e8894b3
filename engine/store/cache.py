"""The outputs of nodes, by key, on the device, in host memory and on disk; `docs/engine.md` gives the reasons.

Entries are evicted by GreedyDual-Size (Cao and Irani 1997): each has the priority L + seconds to restore it / bytes,
the lowest is evicted first, and L is the priority of the last one evicted, so that entries in use stay and others age.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from threading import Lock
from types import TracebackType
from typing import Any, Self

from engine.graph.keys import Key
from engine.memory import total
from engine.store.disk import Disk, read_seconds
from engine.store.encoding import storable
from engine.values import Value, release_pinned, size

OVERHEAD = 400
"""Bytes that an entry takes in addition to its values."""


@dataclass(slots=True, eq=False)
class Entry:
    """One node's outputs, in order, and what they cost.

    Whoever holds an entry shares it with the tier that it is in: when it leaves the device, it does so for all.
    """

    outputs: tuple[Any, ...]
    nbytes: int
    seconds: float
    """What `run` took."""
    restore: float
    """Seconds to get the outputs back without this entry in memory: read back, or computed from what is stored."""
    on_device: bool = False
    """Whether some of the outputs are in the memory of a device other than the host."""
    spilled: bool = False
    """Whether what was on the device has been moved to host memory, pinned where it can be."""
    lasting: bool = True
    """Whether the key determines the outputs, so that other runs may use them."""

    def host_outputs(self) -> tuple[Any, ...]:
        """The outputs in host memory, copied there if need be."""
        host: tuple[Any, ...] = _on_host(self.outputs) if self.on_device else self.outputs
        return host

    def leave_device(self) -> None:
        """Hold copies in host memory in place of what is on the device."""
        self.outputs = _on_host(self.outputs, pinned=True)
        self.on_device, self.spilled = False, True


class Cache:
    """Three tiers: device memory, host memory, disk. Safe to use from several threads, the disk from several processes.

    Args:
        memory: bytes that values may take in host memory; a quarter of what this process may use if None.
        disk: where storable values are kept between processes, or None.
        device: bytes that values may take in the memory of the device where nodes leave them, or a function that
            returns how many are free at the moment. Values evicted there move to host memory.
    """

    def __init__(
        self, memory: int | None = None, disk: Disk | None = None, device: int | Callable[[], int] = 1 << 30
    ) -> None:
        self.memory = HostTier(total() // 4 if memory is None else memory)
        self.device = DeviceTier(device, self.memory)
        self.disk = disk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Finish writing to disk."""
        if self.disk is not None:
            self.disk.close()

    def refresh(self) -> None:
        """Notice what other processes have stored since."""
        if self.disk is not None:
            self.disk.refresh()

    def held(self, key: Key) -> bool:
        """Whether `get` is likely to return an entry; a file may still turn out corrupt or missing."""
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

    def put(
        self,
        key: Key,
        outputs: tuple[Any, ...],
        seconds: float,
        *,
        upstream: float,
        keep: bool = False,
        instead_of: Collection[Key] = (),
    ) -> Entry:
        """Hold a node's outputs, within the budgets.

        Args:
            key: the key of the outputs.
            outputs: the node's outputs, in order.
            seconds: what `run` took.
            upstream: the sum of its sources' `restore`.
            keep: whether to store it even if computing it again is cheaper than reading it back.
            instead_of: entries that are held no longer, those on disk once this one is there.
        """
        instead_of = {*instead_of} - {key}
        nbytes = sum(map(size, outputs))
        restore, reading = seconds + upstream, read_seconds(nbytes)
        worthwhile = restore > 2 * reading  # twice, since it must be written as well
        if self.disk is not None and (keep or worthwhile) and self.disk.takes(nbytes) and storable(outputs):
            host = outputs if key in self.disk else _on_host(outputs)  # so that pending writes don't fill the device
            self.disk.write(key, host, seconds, restore, instead_of)
            restore = reading
        entry = Entry(outputs, nbytes, seconds, restore, any(map(_device_size, outputs)))
        (self.device if entry.on_device else self.memory).put(key, entry)
        if self.held(key):
            self.drop(instead_of)
        return entry

    def put_passing(self, key: Key, entry: Entry) -> None:
        """Hold an entry that isn't lasting, in memory only, under a key that no other run uses."""
        (self.device if entry.on_device else self.memory).put(key, entry)

    def clear(self) -> None:
        """Hold nothing in memory any longer, on a device or the host's."""
        self.device.clear()
        self.memory.clear()

    def drop(self, keys: Iterable[Key]) -> None:
        """Hold these no longer in memory."""
        for key in keys:
            self.device.drop(key)
            self.memory.drop(key)


class MemoryTier:
    """Entries in memory, by key, within a budget of bytes.

    Args:
        budget: the bytes, or a function that returns how many they are at the moment.
    """

    def __init__(self, budget: int | Callable[[], int]) -> None:
        self._budget = budget
        self.nbytes = 0
        self._entries: dict[Key, Entry] = {}
        self._priorities: dict[Key, float] = {}
        # A key's entry in the heap is stale unless `_priorities` has the same priority.
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
        """Hold the entry, and evict the least valuable ones until the budget is met, perhaps the entry itself."""
        with self._lock:
            if key in self._entries:
                self._drop(key)
            self._entries[key] = entry
            self.nbytes += entry.nbytes + OVERHEAD
            self._rank(key, entry)
        self.trim()

    def drop(self, key: Key) -> None:
        """Hold an entry no longer, if it is held."""
        with self._lock:
            if key in self._entries:
                self._drop(key)

    def trim(self, budget: int | None = None) -> None:
        """Evict the least valuable entries until the budget, or a smaller one, is met."""
        budget = self.budget if budget is None else budget
        if self.nbytes <= budget:
            return
        with self._lock:
            while self.nbytes > budget and (key := self._pop_least()):
                self._drop(key)

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
        priority = self._inflation + entry.restore / (entry.nbytes + OVERHEAD)
        if self._priorities.get(key) != priority:
            self._priorities[key] = priority
            heapq.heappush(self._heap, (priority, key))

    def _pop_least(self) -> Key | None:
        """The least valuable entry, which has no place in the order from now on and so has to be dropped."""
        while self._heap:
            priority, key = heapq.heappop(self._heap)
            if self._priorities.get(key) == priority:
                self._inflation = priority
                return key
        return None

    def _drop(self, key: Key) -> None:
        del self._priorities[key]
        self.nbytes -= self._entries.pop(key).nbytes + OVERHEAD


class HostTier(MemoryTier):
    """Entries in host memory. Pinned memory of those that go is returned to the system."""

    def __init__(self, budget: int | Callable[[], int]) -> None:
        super().__init__(budget)
        self._unpins = False

    def drop(self, key: Key) -> None:
        super().drop(key)
        self._unpin()

    def trim(self, budget: int | None = None) -> None:
        super().trim(budget)
        self._unpin()

    def clear(self) -> None:
        super().clear()
        release_pinned()

    def _drop(self, key: Key) -> None:
        self._unpins = self._unpins or self._entries[key].spilled
        super()._drop(key)

    def _unpin(self) -> None:
        if self._unpins:
            self._unpins = False
            release_pinned()


class DeviceTier(MemoryTier):
    """Entries in a device's memory. Those that are evicted move to host memory, one at a time.

    While an entry moves it is still held here, so that whoever asks for it finds it; and who needs room waits until
    what moves has left.

    Args:
        budget: as that of a `MemoryTier`.
        host: takes what is evicted.
    """

    def __init__(self, budget: int | Callable[[], int], host: MemoryTier) -> None:
        super().__init__(budget)
        self._host = host
        self._evicting = Lock()

    def trim(self, budget: int | None = None) -> None:
        budget = self.budget if budget is None else budget
        if self.nbytes <= budget:
            return
        with self._evicting:
            while found := self._least_beyond(budget):
                self._move(*found)

    def _least_beyond(self, budget: int) -> tuple[Key, Entry] | None:
        """The next entry to evict, if the budget isn't met."""
        with self._lock:
            key = self._pop_least() if self.nbytes > budget else None
            return (key, self._entries[key]) if key else None

    def _move(self, key: Key, entry: Entry) -> None:
        try:
            entry.leave_device()
            excess = sum(map(_pinned_excess, entry.outputs))
            with self._lock:
                if self._entries.get(key) is entry:  # else it was dropped or replaced meanwhile
                    entry.nbytes += excess
                    self._host.put(key, entry)
                    self._drop(key)
                    self.nbytes += excess  # it wasn't counted here
        except BaseException:
            self.drop(key)
            raise


def passing(outputs: tuple[Any, ...], seconds: float) -> Entry:
    """The entry of outputs that their key doesn't determine, so that they are of use to one run only."""
    on_device = any(map(_device_size, outputs))
    return Entry(outputs, sum(map(size, outputs)), seconds, seconds, on_device, lasting=False)


def _device_size(value: Any) -> int:
    """Bytes that an output holds in the memory of a device."""
    if isinstance(value, Value):
        return value.device_nbytes
    return sum(map(_device_size, value)) if isinstance(value, tuple) else 0


def _on_host(value: Any, *, pinned: bool = False) -> Any:
    if isinstance(value, Value):
        return value.on_host(pinned=pinned)
    return tuple(_on_host(item, pinned=pinned) for item in value) if isinstance(value, tuple) else value


def _pinned_excess(value: Any) -> int:
    if isinstance(value, Value):
        return value.pinned_excess
    return sum(map(_pinned_excess, value)) if isinstance(value, tuple) else 0
