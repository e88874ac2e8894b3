"""What the steps have in common: the device and its memory, runs of small graphs, and claims."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import torch

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.events import Event, NodeCached, NodeFailed, NodeFinished, NodeRetried
from engine.graph.check import check
from engine.node import Node
from engine.registry import Registry
from engine.run.execute import Execution
from engine.run.resources import CacheLimits, Resources, open_resources
from nodes import registry

T = TypeVar("T")
Json = dict[str, Any]
Figures = Mapping[str, float | int | str]
Step = Callable[["Bench"], Figures]
"""Claims what the first line of its docstring says, and returns what it measured, each figure named with its unit."""

GB = 1e9


class Claim(AssertionError):
    """Something that a step claims doesn't hold."""


def claim(holds: object, otherwise: str) -> None:
    """Raise Claim, with what is the case instead, unless something holds."""
    if not holds:
        raise Claim(otherwise)


@dataclass(frozen=True)
class Ran:
    """A run that has ended."""

    events: Sequence[Event]
    results: Mapping[str, tuple[Any, ...]]

    def nodes(self, kind: type[NodeFinished | NodeCached | NodeRetried | NodeFailed]) -> list[str]:
        """The nodes of the events of a kind, in order."""
        return [event.node for event in self.events if isinstance(event, kind)]

    @property
    def failures(self) -> str:
        """Why nodes failed."""
        return "; ".join(event.problem.message for event in self.events if isinstance(event, NodeFailed))


@dataclass(frozen=True)
class Bench:
    """Where steps run.

    Args:
        device: a torch device.
        small: whether sizes are such that every step takes a moment on a CPU.
        folder: for files; empty at first, and shared by the steps of a part.
    """

    device: str
    small: bool
    folder: Path

    def size(self, real: T, small: T) -> T:
        """The size for this run: the first, or the second where all is small."""
        return small if self.small else real

    @contextmanager
    def resources(self, budget: int | None = None) -> Iterator[Resources]:
        """A cache and models of their own, with a budget of bytes on the device."""
        with open_resources(CacheLimits(device=budget, keep=False), self.device) as shared:
            yield shared

    def run(self, shared: Resources, graph: Json, *targets: str, kinds: Sequence[type[Node]] = ()) -> Ran:
        """Run a graph; raises Claim if a node fails."""
        ran = self.attempt(shared, graph, *targets, kinds=kinds)
        claim(not ran.failures, ran.failures)
        return ran

    def attempt(self, shared: Resources, graph: Json, *targets: str, kinds: Sequence[type[Node]] = ()) -> Ran:
        """Run a graph in which a node may fail."""
        execution = self.execution(shared, graph, *targets, kinds=kinds)
        return Ran(tuple(execution), execution.results)

    def execution(self, shared: Resources, graph: Json, *targets: str, kinds: Sequence[type[Node]] = ()) -> Execution:
        """A run of a graph, to be iterated over; its kinds may be others than those that ship."""
        every = Registry([*registry().values(), *kinds])
        checked = check(prepare(Workflow.read(graph), every), targets=list(targets))
        return shared.execution(checked, self.folder / "output")

    @property
    def on_gpu(self) -> bool:
        """Whether the device is one of CUDA's."""
        return self.device.startswith("cuda")

    def allocated(self) -> int:
        """Bytes of tensors on the GPU; 0 on a CPU."""
        return torch.cuda.memory_allocated(self.device) if self.on_gpu else 0

    @contextmanager
    def peak(self) -> Iterator[list[int]]:
        """The list gets the most bytes that tensors take on the GPU within the scope, 0 on a CPU, as its only item."""
        peaks: list[int] = []
        if not self.on_gpu:
            yield peaks
            peaks.append(0)
            return
        highest, restart = [0], torch.cuda.reset_peak_memory_stats

        def noting(device: Any = None) -> None:  # the engine measures each node's peak
            highest.append(torch.cuda.max_memory_allocated(self.device))
            restart(device)

        restart(self.device)
        with patch.object(torch.cuda, "reset_peak_memory_stats", noting):
            yield peaks
            noting(self.device)
        peaks.append(max(highest))

    def seconds(self, work: Callable[[], object]) -> float:
        """How long something takes, the device's part included."""
        self._wait()
        started = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - started

    def _wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)


def node(kind: str | type[Node], **inputs: Any) -> Json:
    """An entry of a graph."""
    return {"class_type": kind if isinstance(kind, str) else kind.spec.kind, "inputs": inputs}
