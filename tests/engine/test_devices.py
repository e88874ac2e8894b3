"""Values and models in the memory of a device, for which a second pool of host memory stands in."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.events import NodeFailed, NodeFinished, NodeRetried
from engine.graph.check import check
from engine.memory import memory
from engine.models import Models, is_out_of_memory, room_on
from engine.models.emptying import empty_cache
from engine.node import Context, Node
from engine.registry import Registry
from engine.run.execute import Execution
from engine.store.cache import OVERHEAD, Cache
from engine.values import Image
from tests.engine.far import MakeFar, Movable, Numbers, WhereOnDevice, far
from tests.engine.toys import node
from tests.fakecuda import fake_cuda


def test_a_value_knows_its_size_on_a_device_and_can_be_copied_to_the_host() -> None:
    value = far(10)
    assert (value.device_nbytes, value.on_host().device_nbytes) == (40, 0)
    assert torch.equal(value.on_host().array, value.array.tensor)
    picture = Image(torch.zeros(1, 3, 2, 2))
    assert picture.device_nbytes == 0
    assert picture.on_host() is picture


def test_values_stay_on_their_device_within_its_budget_and_then_move_to_host_memory() -> None:
    cache = Cache(memory=10_000, device=2 * (40 + OVERHEAD))
    for key, seconds in (("cheap", 0.1), ("dear", 9.0), ("middling", 1.0)):
        cache.put(key, (far(10),), seconds, upstream=0)
    assert {key for key in ("cheap", "dear", "middling") if key in cache.device} == {"dear", "middling"}
    assert "cheap" in cache.memory
    entry = cache.get("cheap")
    assert entry
    assert not entry.on_device
    assert torch.equal(entry.outputs[0].array, torch.arange(10, dtype=torch.float32))


def test_a_list_of_values_leaves_its_device_as_one() -> None:
    cache = Cache(memory=10_000, device=0)
    cache.put("list", ((far(2), far(3)), "text"), 1.0, upstream=0)
    entry = cache.get("list")
    assert entry
    assert [type(item.array) for item in entry.outputs[0]] == [torch.Tensor] * 2
    assert entry.outputs[1] == "text"


def test_the_room_for_values_is_what_models_leave() -> None:
    room = [1000]
    cache = Cache(memory=10_000, device=lambda: room[0])
    cache.put("a", (far(10),), 1.0, upstream=0)
    assert "a" in cache.device
    room[0] = 100
    cache.device.trim()
    assert "a" not in cache.device
    assert "a" in cache.memory


class Where(Node, version=1):
    numbers: Numbers

    def run(self, ctx: Context) -> str:
        return type(self.numbers.array).__name__


def test_only_nodes_that_compute_on_the_device_get_values_there() -> None:
    graph = {"make": node("MakeFar"), "on": node("WhereOnDevice", numbers=["make", 0])}
    graph["off"] = node("Where", numbers=["make", 0])
    whole = check(prepare(Workflow.read(graph), Registry([MakeFar, WhereOnDevice, Where])), targets=["on", "off"])
    execution = Execution(whole, cache=Cache(), out=Path())
    list(execution)
    assert execution.results == {"on": ("FarArray",), "off": ("Tensor",)}


def test_models_move_to_the_device_when_needed_and_make_room_for_each_other() -> None:
    models = Models(device_budget=100)
    small = {key: models.get(key, lambda: Movable(40), "far:0") for key in "ab"}
    models.release()
    assert [model.device for model in small.values()] == ["far:0", "far:0"]
    models.get("a", lambda: pytest.fail("a is loaded"), "far:0")
    models.release()
    models.get("c", lambda: Movable(50), "far:0")
    assert {key: model.device for key, model in small.items()} == {"a": "far:0", "b": "cpu"}
    assert (models.device_nbytes, models.nbytes) == (90, 130)


def test_a_model_in_use_is_not_moved_away() -> None:
    models = Models(device_budget=50)
    first = models.get("a", lambda: Movable(40), "far:0")
    models.get("b", lambda: Movable(40), "far:0")
    assert first.device == "far:0"
    models.release()
    models.offload_idle()
    assert (first.device, models.device_nbytes) == ("cpu", 0)


class WithModel(Node, version=1, uses="device"):
    """Takes a model to the device, and may fail there."""

    fail: bool

    def run(self, ctx: Context) -> str:
        where = ctx.models.get("model", lambda: Movable(40), "far:0").device
        if self.fail:
            raise ZeroDivisionError
        return where


@pytest.mark.parametrize("fail", [False, True])
def test_after_a_run_its_models_can_leave_the_device(fail: bool) -> None:
    models = Models(device_budget=50)
    graph = check(prepare(Workflow.read({"a": node("WithModel", fail=fail)}), Registry([WithModel])), targets=["a"])
    execution = Execution(graph, cache=Cache(), out=Path(), models=models)
    list(execution)
    assert execution.results == ({} if fail else {"a": ("far:0",)})
    assert models.device_nbytes == 40, "it stays as long as there is room"
    models.get("other", lambda: Movable(30), "far:0")
    assert models.device_nbytes == 30


@dataclass
class Heavy:
    """A part of a model that doesn't fit on any device."""

    nbytes: int = 10

    def to(self, device: str) -> None:
        if device != "cpu":
            raise torch.OutOfMemoryError("no room")


def test_a_model_without_enough_room_is_not_left_there_in_part() -> None:
    models, first = Models(device_budget=1000), Movable(40)
    with pytest.raises(torch.OutOfMemoryError):
        models.get("a", lambda: (first, Heavy()), "far:0")
    assert (first.device, models.device_nbytes) == ("cpu", 0)


class Greedy(Node, version=1, uses="device"):
    """Runs out of memory while a model is on the device, or always."""

    always: bool = False

    def run(self, ctx: Context) -> int:
        if self.always or len(ctx.models):
            raise torch.OutOfMemoryError("tried to allocate 2.00 GiB")
        return 1


def greedy(always: bool) -> tuple[list[Any], Execution]:
    models = Models()
    models.get("big", lambda: Movable(10**9))
    models.release()
    graph = check(prepare(Workflow.read({"a": node("Greedy", always=always)}), Registry([Greedy])), targets=["a"])
    execution = Execution(graph, cache=Cache(), out=Path(), models=models)
    return list(execution), execution


def test_if_memory_is_full_everything_else_is_moved_off_and_the_node_runs_again() -> None:
    events, execution = greedy(always=False)
    (retried,) = (event for event in events if isinstance(event, NodeRetried))
    assert (retried.attempt, retried.attempts) == (2, 2)
    assert "tried to allocate 2.00 GiB" in retried.problem.message
    assert any(isinstance(event, NodeFinished) for event in events)
    assert execution.results == {"a": (1,)}


def test_a_node_that_needs_too_much_fails_with_the_figures() -> None:
    events, _ = greedy(always=True)
    (failure,) = (event for event in events if isinstance(event, NodeFailed))
    assert "cpu is out of memory" in failure.problem.message
    assert "tried to allocate 2.00 GiB" in failure.problem.message
    assert "models hold 0.0 GB" in failure.problem.message
    assert failure.problem.hint


@pytest.mark.cuda
def test_on_a_gpu_values_are_spilled_to_pinned_memory() -> None:
    cache = Cache(memory=10_000, device=0)
    cache.put("a", (Image(torch.ones(1, 3, 2, 2, device="cuda")),), 1.0, upstream=0)
    entry = cache.get("a")
    assert entry
    assert entry.outputs[0].pixels.is_pinned()
    assert replace(entry.outputs[0]).device_nbytes == 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: out of memory", 2),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.90 GB, other allocations: 200 MB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_a_lack_of_memory_is_recognised_by_whoever_reports_it(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        ValueError("out of memory"),
    ],
)
def test_other_errors_are_not_taken_for_a_lack_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_room_is_what_is_free_where_models_compute() -> None:
    assert 0 < room_on("cpu") <= memory().total
    with fake_cuda(capacity=1000):
        held = torch.ones(100, device="cuda")
        assert room_on("cuda") == 1000 - held.nbytes


def test_memory_that_torch_keeps_for_later_is_given_back_on_apples_gpus_too(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[str] = []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append("mps"))
    empty_cache()
    assert emptied == ["mps"]


def tf32() -> tuple[bool, bool]:
    """Whether matrices, and convolutions, may be rounded to TF32."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


class Rounds(Node, version=1, uses="device"):
    """How the device rounds, or a failure."""

    fail: bool = False

    def run(self, ctx: Context) -> str:
        if self.fail:
            raise ZeroDivisionError
        return str(tf32())


def test_nodes_compute_in_float32_exactly_and_the_process_keeps_its_setting() -> None:
    assert tf32() == (False, True), "torch's own"
    graph = {"it": node("Rounds"), "failing": node("Rounds", fail=True)}
    whole = check(prepare(Workflow.read(graph), Registry([Rounds])), targets=["it", "failing"])
    with fake_cuda():
        execution = Execution(whole, cache=Cache(), out=Path(), device="cuda")
        list(execution)
    assert execution.results == {"it": ("(False, False)",)}
    assert tf32() == (False, True)


@pytest.mark.full
def test_a_process_that_uses_torchs_newer_names_of_precisions_keeps_them() -> None:
    code = """if True:
        import torch
        from engine.models.precision import exact_float32
        parts = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
        for torch.backends.fp32_precision in ("tf32", "none"):
            parts[1].fp32_precision = "tf32"
            before = [part.fp32_precision for part in parts]
            with exact_float32():
                assert [part.fp32_precision for part in parts] == ["ieee", "ieee"]
            assert [part.fp32_precision for part in parts] == before
    """
    subprocess.run([sys.executable, "-c", code], check=True)
