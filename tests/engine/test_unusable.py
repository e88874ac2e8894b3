"""Errors after which a process can't use its GPU any more, for which functions of `torch.cuda` that fail stand in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.events import NodeFailed, NodeFinished, NodeRetried, RunFinished
from engine.graph.check import check
from engine.node import Context, Node
from engine.registry import Registry
from engine.run import devices
from engine.run.execute import Execution
from engine.store.cache import Cache
from tests.engine.toys import node

ASSERTION = "CUDA error: device-side assert triggered"


class Step(Node, version=1, uses="device", retries=2):
    """Fails with an error of CUDA the first time that it is asked to."""

    number: int
    fails: bool = False
    before: int = 0

    def run(self, ctx: Context) -> int:
        if self.fails:
            raise torch.AcceleratorError(f"{ASSERTION}\nCUDA kernel errors might be asynchronously reported")
        return self.number


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """A GPU in use; while an error is listed, every call fails with it."""
    errors: list[Exception] = []

    def synchronize(device: str) -> None:
        for error in errors:
            raise error

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr("engine.run.attempts.RETRY_SECONDS", 0.0)
    return errors


def run(**steps: dict[str, Any]) -> list[Any]:
    graph = check(prepare(Workflow.read(steps), Registry([Step])), targets=list(steps))
    return list(Execution(graph, cache=Cache(), out=Path(), device="cuda:1"))


def test_the_run_ends_with_the_reason_when_a_gpu_cannot_be_used_any_more(gpu: list[Exception]) -> None:
    gpu.append(torch.AcceleratorError(ASSERTION))
    events = run(
        first=node("Step", number=1),
        bad=node("Step", number=2, fails=True, before=["first", 0]),
        other=node("Step", number=3, before=["first", 0]),
    )
    (failed,) = (event for event in events if isinstance(event, NodeFailed))
    assert failed.node == "bad"
    assert failed.problem.message == f"this process can no longer use cuda:1: {ASSERTION}"
    assert failed.problem.hint
    assert "AcceleratorError" in failed.trace
    assert [event.node for event in events if isinstance(event, NodeFinished)] == ["first"], "nothing starts after it"
    assert not any(isinstance(event, NodeRetried) for event in events), "no attempt could succeed"
    assert isinstance(events[-1], RunFinished)
    assert (events[-1].status, events[-1].exit_code) == ("failed", 5)


@pytest.mark.parametrize("later", [[], [torch.OutOfMemoryError("CUDA out of memory")]], ids=["none", "full"])
def test_other_errors_of_cuda_end_only_their_node(gpu: list[Exception], later: list[Exception]) -> None:
    gpu += later
    events = run(bad=node("Step", number=2, fails=True), other=node("Step", number=3))
    (failed,) = (event for event in events if isinstance(event, NodeFailed))
    assert failed.problem.message.startswith(f"torch.AcceleratorError: {ASSERTION}")
    assert [event.attempt for event in events if isinstance(event, NodeRetried)] == [2, 3]
    assert [event.node for event in events if isinstance(event, NodeFinished)] == ["other"]


def test_a_device_that_nothing_has_used_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: pytest.fail("it would open a context"))
    assert devices.unusable("cuda:1") is None
