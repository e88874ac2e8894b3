"""A second pool of host memory that stands in for a device: arrays, values, models and nodes that use it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch

from engine.models import Models
from engine.node import Context, Node
from engine.store.cache import Cache
from engine.values import Value

FAR = weakref.WeakSet["FarArray"]()
"""The arrays that are on the device."""


@dataclass(frozen=True, eq=False)
class FarArray:
    """Numbers on a device named "far"."""

    tensor: torch.Tensor
    device: str = "far:0"
    before_copying: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        FAR.add(self)

    @property
    def nbytes(self) -> int:
        return int(self.tensor.nbytes)

    def cpu(self) -> torch.Tensor:
        self.before_copying()
        return self.tensor


@dataclass(frozen=True, eq=False, slots=True)
class Numbers(Value):
    """Numbers wherever they are."""

    array: Any

    @property
    def nbytes(self) -> int:
        return int(self.array.nbytes)

    def to_tensors(self) -> tuple[Mapping[str, Any], dict[str, str]]:
        return {"array": self.array}, {}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Self:
        return cls(tensors["array"])


def far(count: int = 10) -> Numbers:
    return Numbers(FarArray(torch.arange(count, dtype=torch.float32)))


@dataclass
class Movable:
    """A model that knows where it is."""

    nbytes: int
    device: str = "cpu"

    def to(self, device: str) -> Self:
        self.device = device
        return self


class MakeFar(Node, version=1, uses="device"):
    def run(self, ctx: Context) -> Numbers:
        return far(4)


class WhereOnDevice(Node, version=1, uses="device"):
    numbers: Numbers

    def run(self, ctx: Context) -> str:
        return type(self.numbers.array).__name__


class FarMemory:
    """The memory of the device "far:0", of which other processes take a part.

    Args:
        total: bytes.
        others: bytes that other processes take.
        scattered: free bytes that can't be allocated, since they are here and there.
        results: bytes that results may take in the host's memory.
    """

    def __init__(self, total: int, others: int = 0, scattered: int = 0, results: int = 10**9) -> None:
        self.total = total
        self.others = others
        self.scattered = scattered
        self.models = Models(budget=10**9, gauge_of=lambda device: self)
        self.cache = Cache(results, device=lambda: self.models.device_budget("far:0") - self.models.device_nbytes)
        self.models.share(device=self.cache.device, host=self.cache.memory)
        self._computing = self._peak = 0

    @property
    def taken(self) -> int:
        return self.models.device_nbytes + self.cache.device.nbytes + self._computing

    @property
    def free(self) -> int:
        return self.total - self.others - self.taken

    @property
    def peak(self) -> int:
        return max(self._peak, self.taken)

    def restart(self) -> None:
        self._peak = self.taken

    def compute(self, *nbytes: int) -> None:
        """Allocate so many bytes, one after another; raises torch.OutOfMemoryError if there aren't as many."""
        try:
            for more in nbytes:
                if more > self.free - self.scattered:
                    raise torch.OutOfMemoryError(f"tried to allocate {more} bytes")
                self._computing += more
                self._peak = self.peak
        finally:
            self._computing = 0
