"""A second pool of host memory that stands in for a device: arrays, values, models and nodes that use it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch

from engine.node import Context, Node
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
