"""The loaded models: each loaded once and shared, the least recently used evicted when they take too much memory.

A model is loaded into host memory and moved to the device that it is requested for. Models not in use there move back
to host memory when another needs the room. Host and device are accounts of their own: a model counts where it is.
"""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import Any, Protocol, TypeVar, cast

from engine.memory import memory, total
from engine.models.account import Account
from engine.models.emptying import empty_cache
from engine.models.gauge import Gauge, gauge_of
from engine.models.usage import Usage, User

T = TypeVar("T")

HOST = "cpu"


class Results(Protocol):
    """The results in a memory that models share."""

    nbytes: int

    def trim(self, budget: int) -> None:
        """Let results go until the rest takes at most that many bytes."""


class Models:
    """A pool of loaded models, safe to share between threads. Those in use are neither moved nor evicted.

    Args:
        budget: how many bytes of parameters may stay in host memory; half of what this process may use if None. The
            models in use stay even if they alone are larger.
        device_budget: how many bytes of models and results may be on a device at most; if None, what is free there
            except for what nodes need beside them.
        gauge_of: measures a device; None for one that can't be measured.
    """

    def __init__(
        self,
        budget: int | None = None,
        device_budget: int | None = None,
        gauge_of: Callable[[str], Gauge | None] = gauge_of,
    ) -> None:
        self.budget = total() // 2 if budget is None else budget
        self._device_budget = device_budget
        self._gauge_of = gauge_of
        self._accounts: dict[str, Account] = {}
        self._user = User("")
        self._usage = Usage()
        self._device_results: Results | None = None
        self._host_results: Results | None = None
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()
        self._in_use: dict[int, set[Hashable]] = {}
        self._lock = threading.Lock()
        self._moving = threading.Lock()

    def share(self, *, device: Results, host: Results) -> None:
        """Have results make room for models, on the device and in host memory."""
        self._device_results, self._host_results = device, host

    def get(self, key: Hashable, loader: Callable[[], T], device: str = HOST) -> T:
        """The model of this key, loaded by `loader` if need be; meanwhile only callers that want the same one wait.

        It stays where it is until this thread calls `release`. A load that fails is tried again by the next caller.
        """
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
            self._in_use.setdefault(threading.get_ident(), set()).add(key)
        with slot.loading:
            changed = not slot.loaded
            if not slot.loaded:
                slot.model = loader()
                slot.nbytes = nbytes(slot.model)
                slot.loaded = True
            if device != HOST:
                changed = self._move_to(device, slot) or changed
            if changed:  # only now, as a model on its way to a device is in host memory for a moment only
                self._evict()
            return cast(T, slot.model)

    def release(self) -> None:
        """Release the models that this thread requested: they may be moved and evicted."""
        self._in_use.pop(threading.get_ident(), None)

    def offload_idle(self) -> None:
        """Move every model that isn't in use to host memory."""
        with self._moving:
            for key, slot in self._idle():
                if slot.device != HOST:
                    self._offload(key, slot)

    def vacate(self) -> None:
        """Leave the device to another process: only models in use stay, and torch keeps no memory for later."""
        self.offload_idle()
        if self._device_results:
            self._device_results.trim(0)
        empty_cache()

    def clear(self) -> None:
        """Drop every model that isn't in use."""
        self._drop(key for key, _ in self._idle())

    def device_budget(self, device: str) -> int:
        """How many bytes of models and results may be on a device now."""
        return self._account(device).budget(self._held)

    def begin(self, device: str, user: User, need: int | None) -> None:
        """Prepare a device for a node, the only one that computes there until `end`.

        Args:
            device: the device.
            user: what of the node decides which models it uses. Those that such a node used the last time stay for it.
            need: bytes that the node takes beside models and results; None if that isn't known.
        """
        account = self._account(device)
        with self._moving:
            account.expect(need)
            self._user = user
            if (used := self._usage.of(user)) is not None:  # else `get` makes room, when it is known what is needed
                self._make_room(0, device, spared=used.keys())
            account.start(self._held)

    def end(self, device: str) -> int | None:
        """The most bytes that a node took beside models and results, if that can be measured."""
        with self._lock:
            in_use = self._in_use.get(threading.get_ident(), ())
            used = {key: self._slots[key].nbytes for key in in_use if self._slots[key].device == device}
        self._usage.record(self._user, used)
        return self._account(device).taken(self._held)

    def displaces(self, device: str, user: User, need: int | None) -> bool:
        """Whether models would leave a device for a node, by the models that such a node used the last time.

        Args:
            device: the device.
            user: what of the node decides which models it uses.
            need: bytes that it takes beside models and results; None if that isn't known.
        """
        used = self._usage.of(user)
        if not used:
            return False
        with self._lock:
            there = {key: slot.nbytes for key, slot in self._slots.items() if slot.device == device}
        together = sum((used | there).values())
        if there.keys() <= used.keys():
            return False
        return together > self._account(device).budget_beside(need, self._held)

    def kept_free(self, device: str) -> int:
        """Bytes of a device that were kept free for the node that computes there."""
        return self._account(device).kept_free

    @property
    def device_nbytes(self) -> int:
        """Bytes of the models that are on devices."""
        with self._lock:
            return sum(slot.nbytes for slot in self._slots.values() if slot.device != HOST)

    @property
    def host_nbytes(self) -> int:
        """Bytes of the models that are in host memory."""
        with self._lock:
            return sum(slot.nbytes for slot in self._slots.values() if slot.device == HOST)

    @property
    def nbytes(self) -> int:
        """Bytes of all loaded models."""
        return self.host_nbytes + self.device_nbytes

    def __len__(self) -> int:
        with self._lock:
            return sum(slot.loaded for slot in self._slots.values())

    def _account(self, device: str) -> Account:
        if device not in self._accounts:
            self._accounts[device] = Account(self._device_budget, self._gauge_of(device))
        return self._accounts[device]

    @property
    def _held(self) -> int:
        """Bytes of models and results on the device."""
        return self.device_nbytes + (self._device_results.nbytes if self._device_results else 0)

    def _move_to(self, device: str, slot: _Slot) -> bool:
        """Have a model in use on a device, with room for it and its node; returns whether it wasn't there."""
        account = self._account(device)
        with self._moving:
            moves = slot.device != device
            if moves or account.measured:
                account.pause(self._held)
                self._make_room(slot.nbytes if moves else 0, device, spared=())
            if moves:
                slot.move(device)
            account.resume()
            return moves

    def _make_room(self, wanted: int, device: str, spared: Collection[Hashable]) -> None:
        """Free bytes of a device, moving as little as possible.

        That is results, if they alone make enough room; else idle models that aren't spared, and then what results are
        still in the way.
        """
        results = self._device_results
        held = results.nbytes if results else 0
        missing = wanted + self._held - self.device_budget(device)
        if missing > held:
            likely = self._usage.of(self._user) or ()
            for key, slot in sorted(self._idle(), key=lambda item: item[0] in likely):
                if missing > 0 and slot.device == device and key not in spared:
                    missing -= slot.nbytes
                    self._offload(key, slot)
        if results and missing > 0:
            results.trim(max(0, held - missing))

    def _offload(self, key: Hashable, slot: _Slot) -> None:
        """Move an idle model to host memory; if there isn't room, even without results, drop it.

        The host's budget may be exceeded until the model that needs the room has left for the device.
        """
        missing = slot.nbytes - memory().free
        if missing > 0 and self._host_results:
            self._host_results.trim(max(0, self._host_results.nbytes - missing))
            missing = slot.nbytes - memory().free
        if missing > 0:
            self._drop([key])
        else:
            slot.move(HOST)

    def _idle(self) -> list[tuple[Hashable, _Slot]]:
        """The models that no thread uses, the least recently used first."""
        with self._lock:
            in_use = self._used()
            return [(key, slot) for key, slot in self._slots.items() if slot.loaded and key not in in_use]

    def _evict(self) -> None:
        """Drop the least recently used models from host memory until the budget is met."""
        excess, evicted = self.host_nbytes - self.budget, []
        for key, slot in self._idle():
            if excess > 0 and slot.device == HOST:
                excess -= slot.nbytes
                evicted.append(key)
        self._drop(evicted)

    def _drop(self, keys: Iterable[Hashable]) -> None:
        """Forget models and free their memory; a thread may have requested some meanwhile, or dropped them itself."""
        with self._lock:
            unused = set(keys) - self._used()
            dropped = [slot for key in unused if (slot := self._slots.pop(key, None))]
            for slot in dropped:
                slot.model = None
        if dropped:
            gc.collect()  # libraries' models may refer to themselves

    def _used(self) -> set[Hashable]:
        return set[Hashable]().union(*list(self._in_use.values()))


class _Slot:
    def __init__(self) -> None:
        self.loading = threading.Lock()
        self.loaded = False
        self.model: object = None
        self.nbytes = 0
        self.device = HOST

    def move(self, device: str) -> None:
        """Move the model; if there isn't room for all of it, all of it goes to host memory."""
        try:
            self._move(device)
        except Exception:
            self._move(HOST)
            raise

    def _move(self, device: str) -> None:
        self.device = device
        parts = self.model if isinstance(self.model, tuple) else (self.model,)
        for part in parts:
            if callable(to := getattr(part, "to", None)):  # in place: a torch module, a diffusers pipeline
                to(device)


def nbytes(model: Any) -> int:
    """Bytes of the tensors that a loaded model holds: a torch module, a diffusers pipeline, or a collection of such."""
    if hasattr(model, "parameters") and hasattr(model, "buffers"):
        return sum(int(tensor.nbytes) for tensors in (model.parameters(), model.buffers()) for tensor in tensors)
    if isinstance(components := getattr(model, "components", None), Mapping):
        model = components
    if isinstance(model, Mapping):
        model = list(model.values())
    if isinstance(model, list | tuple):
        return sum(nbytes(part) for part in model)
    size = getattr(model, "nbytes", 0)
    return size if isinstance(size, int) else 0
