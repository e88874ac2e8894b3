"""The models that are loaded: each once, shared, the least recently used let go when they grow too many."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar, cast

T = TypeVar("T")


class Models:
    """A pool of loaded models, safe to share between threads.

    Args:
        budget: how many bytes of parameters may stay; half of the machine's memory if None. The model just asked for
            stays even if it alone is larger.
    """

    def __init__(self, budget: int | None = None) -> None:
        self.budget = _half_of_memory() if budget is None else budget
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, loader: Callable[[], T]) -> T:
        """The model of this key, loaded by `loader` if it is not here; only who wants the same one waits meanwhile.

        A load that fails is tried again by the next caller.
        """
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
        with slot.loading:
            if not slot.loaded:
                slot.model = loader()
                slot.nbytes = nbytes(slot.model)
                slot.loaded = True
                self._release(key)
            return cast(T, slot.model)

    def _release(self, kept: Hashable) -> None:
        with self._lock:
            total = sum(slot.nbytes for slot in self._slots.values())
            for key, slot in list(self._slots.items()):
                if total > self.budget and slot.loaded and key != kept:
                    del self._slots[key]
                    total -= slot.nbytes

    def clear(self) -> None:
        """Let go of every model."""
        with self._lock:
            self._slots.clear()

    @property
    def nbytes(self) -> int:
        """Bytes of all that is loaded."""
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


def _half_of_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):  # not every system tells
        return 8 << 30
