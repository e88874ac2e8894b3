"""The loaded models: each loaded once and shared, the least recently used evicted when they take too much memory.

A model is loaded into host memory and moved to the device that it is requested for. Models not in use there move back
to host memory when another needs the room.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar, cast

from engine.memory import total

T = TypeVar("T")

HOST = "cpu"
DEVICE_SHARE = 0.85
"""The share of a device's memory that models and results may take by default; the rest is for computing."""


class Models:
    """A pool of loaded models, safe to share between threads.

    Args:
        budget: how many bytes of parameters may stay loaded; half of the memory that this process may use if None. The
            model just requested stays even if it alone is larger.
        device_budget: how many of them may be on a device; most of its memory if None.
    """

    def __init__(self, budget: int | None = None, device_budget: int | None = None) -> None:
        self.budget = total() // 2 if budget is None else budget
        self.on_move: Callable[[], None] = lambda: None
        """Called when a model has moved to a device, where there is now less room."""
        self._device_budget = device_budget
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()
        self._in_use: dict[int, set[Hashable]] = {}
        self._lock = threading.Lock()
        self._moving = threading.Lock()

    def get(self, key: Hashable, loader: Callable[[], T], device: str = HOST) -> T:
        """The model of this key, loaded by `loader` if need be; meanwhile only callers that want the same one wait.

        It stays on a device until this thread calls `release`. A load that fails is tried again by the next caller.
        """
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
        with slot.loading:
            if not slot.loaded:
                slot.model = loader()
                slot.nbytes = nbytes(slot.model)
                slot.loaded = True
                self._evict(key)
            if device != HOST:
                self._move_to(device, key, slot)
            return cast(T, slot.model)

    def release(self) -> None:
        """Release the models that this thread requested: they may be moved."""
        self._in_use.pop(threading.get_ident(), None)

    def offload_idle(self) -> None:
        """Move every model that isn't in use to host memory."""
        with self._moving:
            for _, slot in self._idle():
                slot.move(HOST)

    def device_budget(self, device: str) -> int:
        """How many bytes may be on a device."""
        if self._device_budget is None:
            self._device_budget = int(DEVICE_SHARE * _device_memory(device))
        return self._device_budget

    @property
    def device_nbytes(self) -> int:
        """Bytes of the models that are on devices."""
        with self._lock:
            return sum(slot.nbytes for slot in self._slots.values() if slot.device != HOST)

    def _move_to(self, device: str, key: Hashable, slot: _Slot) -> None:
        self._in_use.setdefault(threading.get_ident(), set()).add(key)
        with self._moving:
            if slot.device == device:
                return
            room = self.device_budget(device) - self.device_nbytes
            for other, idle in self._idle():
                if room >= slot.nbytes:
                    break
                if other != key and idle.device == device:
                    idle.move(HOST)
                    room += idle.nbytes
            slot.move(device)
        self.on_move()

    def _idle(self) -> list[tuple[Hashable, _Slot]]:
        """The models on devices that no thread uses, the least recently used first."""
        in_use = set[Hashable]().union(*list(self._in_use.values()))
        with self._lock:
            return [(key, s) for key, s in self._slots.items() if s.loaded and s.device != HOST and key not in in_use]

    def _evict(self, kept: Hashable) -> None:
        """Drop the least recently used models, except `kept`, until the budget is met."""
        with self._lock:
            taken = sum(slot.nbytes for slot in self._slots.values())
            for key, slot in list(self._slots.items()):
                if taken > self.budget and slot.loaded and key != kept:
                    del self._slots[key]
                    taken -= slot.nbytes

    def clear(self) -> None:
        """Drop every model."""
        with self._lock:
            self._slots.clear()

    @property
    def nbytes(self) -> int:
        """Bytes of all loaded models."""
        with self._lock:
            return sum(slot.nbytes for slot in self._slots.values())

    def __len__(self) -> int:
        with self._lock:
            return sum(slot.loaded for slot in self._slots.values())


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


def _device_memory(device: str) -> int:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[1]
    if device.startswith("mps"):
        return torch.mps.recommended_max_memory()
    return total()
