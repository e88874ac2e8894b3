"""A node that uses the device lends it to others while it waits."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, active_count, get_ident
from typing import Any, ClassVar

import pytest
import torch

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.errors import Cancelled
from engine.graph.check import check
from engine.models import Models
from engine.models.usage import User
from engine.node import Context, Node
from engine.registry import Registry
from engine.run.execute import Execution
from engine.run.holding import Holding
from engine.store.cache import Cache
from tests.engine.toys import node

PATIENCE = 5.0


class Device:
    """What runs on the device."""

    lent, left = Event(), Event()
    lock = Lock()
    running: ClassVar[list[str]] = []
    most = 0

    @classmethod
    def enter(cls, name: str) -> None:
        with cls.lock:
            cls.running.append(name)
            cls.most = max(cls.most, len(cls.running))

    @classmethod
    def leave(cls, name: str) -> None:
        with cls.lock:
            cls.running.remove(name)


@pytest.fixture(autouse=True)
def idle() -> None:
    Device.lent, Device.left, Device.most = Event(), Event(), 0
    Device.running.clear()


class Waits(Node, version=1, uses="device"):
    """Computes, waits until others have, and computes again."""

    times: int = 1

    def run(self, ctx: Context) -> bool:
        Device.enter("waits")
        came = []
        for _ in range(self.times):
            Device.leave("waits")
            with ctx.lend_device():
                Device.lent.set()
                came.append(Device.left.wait(PATIENCE))
                Device.left.clear()
            Device.enter("waits")
        Device.leave("waits")
        return all(came)


class Computes(Node, version=1, uses="device"):
    number: int

    def run(self, ctx: Context) -> int:
        assert Device.lent.wait(PATIENCE)
        Device.enter("computes")
        Device.left.set()
        Event().wait(0.02)
        Device.leave("computes")
        return self.number


class Fails(Node, version=1, uses="device"):
    """Is cancelled while it has lent the device."""

    def run(self, ctx: Context) -> int:
        with ctx.lend_device():
            Device.lent.set()
            raise Cancelled


def run(device: str = "far:0", *, models: Models | None = None, **steps: dict[str, Any]) -> Execution:
    graph = check(
        prepare(
            Workflow.read(steps), Registry([Waits, Computes, Fails, Where, Elsewhere, Exact, Begins, Recovers, RunsOut])
        ),
        targets=list(steps),
    )
    execution = Execution(graph, cache=Cache(), out=Path(), device=device, models=models)
    list(execution)
    return execution


@pytest.mark.parametrize(("times", "others"), [(1, 1), (1, 4), (3, 8)])
def test_others_compute_meanwhile_but_never_at_the_same_time(times: int, others: int) -> None:
    computing = {f"other {number}": node("Computes", number=number) for number in range(others)}
    execution = run(waits=node("Waits", times=times), **computing)
    assert execution.results["waits"] == (True,)
    assert len(execution.results) == others + 1
    assert Device.most == 1


def test_a_node_that_fails_while_it_has_lent_the_device_keeps_none_from_it() -> None:
    execution = run(fails=node("Fails"), other=node("Computes", number=1), another=node("Computes", number=2))
    assert execution.results == {"other": (1,), "another": (2,)}


class Where(Node, version=1, uses="device"):
    """Which thread computes."""

    number: int

    def run(self, ctx: Context) -> int:
        return get_ident()


class Elsewhere(Node, version=1):
    number: int

    def run(self, ctx: Context) -> int:
        Event().wait(0.001)
        return self.number + 1


def test_whatever_uses_the_device_in_a_run_does_so_in_one_thread() -> None:
    steps: dict[str, Any] = {}
    for number in range(10):
        steps[f"else {number}"] = node("Elsewhere", number=number)
        steps[f"on {number}"] = node("Where", number=[f"else {number}", 0])
    before = active_count()
    results = run(**steps).results
    threads = {ident for name, (ident,) in results.items() if name.startswith("on")}
    assert len(threads) == 1
    assert active_count() == before, "it ends with the run"


class Exact(Node, version=1, uses="device"):
    """Whether it computes exactly, before and after it has lent the device until the other has."""

    first: bool

    def run(self, ctx: Context) -> tuple[bool, ...]:
        found = [not torch.backends.cudnn.allow_tf32]
        with ctx.lend_device():
            (Device.lent if self.first else Device.left).wait(PATIENCE)
            if not self.first:
                Event().wait(0.05)  # until the first has ended
        if self.first:
            Device.left.set()
        return (*found, not torch.backends.cudnn.allow_tf32)


class Begins(Exact, version=1, uses="device"):
    """Lends the device second, and ends last."""

    def run(self, ctx: Context) -> tuple[bool, ...]:
        Device.lent.set()
        return super().run(ctx)


def test_nodes_that_lend_the_device_compute_exactly_in_whatever_order_they_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    results = run(first=node("Exact", first=True), second=node("Begins", first=False)).results
    assert results == {"first": ((True, True),), "second": ((True, True),)}
    assert torch.backends.cudnn.allow_tf32


class Recovers(Node, version=1, uses="device"):
    """Whether it computes exactly after an error while it had lent the device."""

    def run(self, ctx: Context) -> bool:
        with suppress(ConnectionError), ctx.lend_device():
            raise ConnectionError
        return not torch.backends.cudnn.allow_tf32


def test_a_node_computes_exactly_after_an_error_while_it_had_lent_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert run(it=node("Recovers")).results == {"it": (True,)}
    assert torch.backends.cudnn.allow_tf32


class RunsOut(Node, version=1, uses="device"):
    """Runs out of memory after it has lent the device, and others have computed."""

    def run(self, ctx: Context) -> int:
        with ctx.lend_device():
            Device.lent.set()
            Device.left.wait(PATIENCE)
            Device.left.clear()
            raise MemoryError


class Watched(Models):
    """Notes who has computed on the device."""

    def __init__(self) -> None:
        super().__init__()
        self.computing: list[str] = []
        self.ended: list[str] = []

    def begin(self, device: str, user: User, need: int | None) -> None:
        super().begin(device, user, need)
        self.computing.append(user.kind)

    def end(self, device: str) -> int | None:
        self.ended.append(self.computing.pop())
        return super().end(device)


def test_what_a_node_took_is_its_own_if_it_runs_out_of_memory_where_it_had_lent_the_device() -> None:
    models = Watched()
    others = {f"other {number}": node("Computes", number=number) for number in range(2)}
    run(models=models, runs_out=node("RunsOut"), **others)
    assert models.ended == ["RunsOut far", "Computes far", "RunsOut far"] * 2, "in both attempts"


def test_the_processor_is_not_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.engine.test_lending.PATIENCE", 0.05)
    assert run("cpu", waits=node("Waits"), other=node("Computes", number=1)).results["waits"] == (False,)


def test_parts_that_depend_on_no_device_are_found_on_another() -> None:
    cache = Cache()
    here, there = (Holding(cache, device, grows=False) for device in ("cpu", "cuda:0"))
    here.keep(Waits, True, "scan", (1,), 1.0, anywhere=True)
    here.keep(Waits, True, "clips", (2,), 1.0)
    assert (there.recall(Waits, True, "scan", anywhere=True), there.recall(Waits, True, "scan")) == ((1,), None)
    assert (here.recall(Waits, True, "clips"), there.recall(Waits, True, "clips")) == ((2,), None)
