"""What leaves a device's memory for the host's: whoever holds it, and whoever asks for it, finds it all the time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple, Self

import pytest
import torch

from engine import values
from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.graph.check import check
from engine.node import Context, Node
from engine.registry import Registry
from engine.run.execute import Execution
from engine.store.cache import OVERHEAD, Cache
from tests.engine.far import FAR, FarArray, MakeFar, Numbers, WhereOnDevice, far
from tests.engine.toys import node


@pytest.fixture(autouse=True)
def empty_device() -> None:
    FAR.clear()


def test_who_holds_an_entry_that_is_moved_holds_the_copy() -> None:
    cache = Cache(memory=10_000, device=1000)
    entry = cache.put("a", (far(10),), 1.0, upstream=0)
    assert (entry.on_device, len(FAR)) == (True, 1)
    cache.device.trim(0)
    assert (entry.on_device, len(FAR)) == (False, 0)
    assert cache.get("a") is entry
    assert torch.equal(entry.outputs[0].array, torch.arange(10, dtype=torch.float32))


@dataclass
class SlowMove:
    """An entry that leaves the device in a thread of its own, and waits on the way."""

    cache: Cache
    budget: int = 0
    """What the others may take."""

    def __enter__(self) -> Self:
        self.begun, self.go_on = Event(), Event()
        self.cache.put("a", (Numbers(FarArray(torch.ones(4), before_copying=self._wait)),), 1.0, upstream=0)
        self.thread = Thread(target=self.cache.device.trim, args=(self.budget,))
        self.thread.start()
        assert self.begun.wait(10)
        return self

    def _wait(self) -> None:
        self.begun.set()
        assert self.go_on.wait(10)

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self.thread.join()


def test_what_is_being_moved_is_found_meanwhile_and_afterwards() -> None:
    cache = Cache(memory=10_000, device=1000)
    with SlowMove(cache):
        assert cache.held("a")
        entry = cache.get("a")
        assert entry
        assert type(entry.outputs[0].array) is FarArray
    assert ("a" in cache.device, "a" in cache.memory) == (False, True)
    assert type(entry.outputs[0].array) is torch.Tensor
    assert (cache.device.nbytes, cache.memory.nbytes) == (0, 16 + OVERHEAD)


def test_who_needs_room_waits_until_what_moves_has_left() -> None:
    cache = Cache(memory=10_000, device=1000)
    with SlowMove(cache):
        second = Thread(target=cache.device.trim, args=(0,))
        second.start()
        second.join(0.05)
        assert second.is_alive()
    second.join(10)
    assert not second.is_alive()
    assert not len(FAR)


def test_what_is_dropped_or_replaced_while_it_moves_does_not_come_back() -> None:
    cache = Cache(memory=10_000, device=1000)
    with SlowMove(cache):
        cache.drop(["a"])
    assert not cache.held("a")
    with SlowMove(cache, budget=8 + OVERHEAD):
        cache.put("a", (far(2),), 1.0, upstream=0)
    assert ("a" in cache.device, "a" in cache.memory) == (True, False)
    assert (cache.device.nbytes, cache.memory.nbytes) == (8 + OVERHEAD, 0)


def test_what_cannot_be_moved_is_held_no_longer() -> None:
    def fail() -> None:
        raise MemoryError

    cache = Cache(memory=10_000, device=1000)
    cache.put("a", (Numbers(FarArray(torch.ones(4), before_copying=fail)),), 1.0, upstream=0)
    with pytest.raises(MemoryError):
        cache.device.trim(0)
    assert not cache.held("a")
    assert cache.device.nbytes == 0


@dataclass(frozen=True)
class Pinned:
    """Numbers in pinned memory."""

    nbytes: int
    device: str = "cpu"

    def is_pinned(self) -> bool:
        return True


def pinning(nbytes: int) -> Numbers:
    """Numbers on the device whose copy in host memory is pinned."""
    return Numbers(FarArray(Pinned(nbytes)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("nbytes", "held"), [(0, 0), (1, 1), (128, 128), (129, 256), (1000, 1024)])
def test_pinned_copies_count_as_the_blocks_that_they_take(nbytes: int, held: int) -> None:
    cache = Cache(memory=10_000, device=0)
    cache.put("a", (pinning(nbytes), (pinning(nbytes),)), 1.0, upstream=0)
    assert (cache.device.nbytes, cache.memory.nbytes) == (0, 2 * held + OVERHEAD)
    cache.drop(["a"])
    assert cache.memory.nbytes == 0


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A word for each time that pinned memory was returned."""
    words: list[str] = []
    monkeypatch.setattr("engine.store.cache.release_pinned", lambda: words.append("released"))
    return words


def test_pinned_memory_that_nothing_holds_is_returned(released: list[str]) -> None:
    cache = Cache(memory=1024 + OVERHEAD, device=0)
    cache.put("pageable", ("text",), 0.1, upstream=0)
    cache.drop(["pageable"])
    cache.put("a", (pinning(1000),), 1.0, upstream=0)
    assert not released
    cache.put("b", (pinning(1000),), 2.0, upstream=0)
    assert ("a" in cache.memory, len(released)) == (False, 1)
    cache.drop(["b"])
    assert len(released) == 2
    cache.memory.clear()
    assert len(released) == 3


@pytest.mark.parametrize("in_use", [False, True])
def test_torch_is_told_to_return_pinned_memory_if_it_uses_a_gpu(in_use: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: in_use)
    monkeypatch.setattr(torch.accelerator, "empty_host_cache", lambda: told.append("host"), raising=False)
    values.release_pinned()
    assert told == (["host"] if in_use else [])


def test_only_copies_that_may_return_to_the_device_are_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(values, "_host_copy", lambda array, pinned: asked.append(pinned) or array.cpu())
    cache = Cache(memory=10_000, device=1000)
    entry = cache.put("a", (far(10),), 1.0, upstream=0)
    entry.host_outputs()
    cache.device.trim(0)
    assert asked == [False, True]


class DrawFar(MakeFar, version=1, uses="device", volatile=True):
    """MakeFar, as a kind that isn't a function of its inputs."""


@pytest.mark.parametrize("volatile", [False, True])
def test_without_room_on_the_device_its_nodes_get_copies_in_host_memory(volatile: bool) -> None:
    maker = DrawFar if volatile else MakeFar
    graph = {"make": node(maker.__name__), "on": node("WhereOnDevice", numbers=["make", 0])}
    whole = check(prepare(Workflow.read(graph), Registry([maker, WhereOnDevice])), targets=["on"])
    execution = Execution(whole, cache=Cache(device=0), out=Path())
    list(execution)
    assert execution.results == {"on": ("Tensor",)}


def test_what_a_run_returns_is_in_host_memory() -> None:
    whole = check(prepare(Workflow.read({"make": node("MakeFar")}), Registry([MakeFar])), targets=["make"])
    cache = Cache()
    execution = Execution(whole, cache=cache, out=Path())
    list(execution)
    (numbers,) = execution.results["make"]
    assert (numbers.device_nbytes, cache.device.nbytes > 0) == (0, True)


class Made(NamedTuple):
    numbers: Numbers
    before: int


class Counted(Node, version=1, uses="device"):
    """Leaves numbers on the device, and says how many arrays were there before."""

    start: int

    def run(self, ctx: Context) -> Made:
        before = len(FAR)
        return Made(Numbers(FarArray(torch.full((4,), float(self.start)))), before)


class Counts(Node, version=1, uses="io"):
    def run(self, ctx: Context) -> tuple[int, ...]:
        return (1, 2, 3, 4, 5)


class Join(Node, version=1):
    """Joins numbers, and says how many arrays are on the device, and were before each was made."""

    numbers: tuple[Numbers, ...]
    before: tuple[int, ...]

    def run(self, ctx: Context) -> tuple[int, ...]:
        assert [int(item.array[0]) for item in self.numbers] == [1, 2, 3, 4, 5]
        return (*self.before, len(FAR))


@pytest.mark.parametrize(("room", "there"), [(0, (0, 0, 0, 0, 0, 0)), (10_000, (0, 1, 2, 3, 4, 5))])
def test_a_list_that_is_joined_takes_no_more_of_the_device_than_its_budget(room: int, there: tuple[int, ...]) -> None:
    graph = {
        "counts": node("Counts"),
        "each": node("Counted", start=["counts", 0]),
        "join": node("Join", numbers=["each", 0], before=["each", 1]),
    }
    whole = check(prepare(Workflow.read(graph), Registry([Counts, Counted, Join])), targets=["join"])
    execution = Execution(whole, cache=Cache(device=room), out=Path())
    list(execution)
    assert execution.results == {"join": (there,)}
