"""How many threads compute, and how they wait."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest
import torch

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.events import NodeSaved
from engine.graph.check import check
from engine.node import Context, Node
from engine.registry import Registry
from engine.run.costs import Costs
from engine.run.execute import Execution
from engine.run.threads import cores, set_torch_threads, torch_threads_restored
from engine.store.cache import Cache
from engine.values import Files, Media
from tests.engine.toys import Mix, Number, node


class Light(Node, version=1):
    def run(self, ctx: Context) -> int:
        return torch.get_num_threads()


class Heavy(Light, version=1, uses="device"):
    """The same on the device."""


def test_only_a_node_on_the_device_computes_on_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    graph = check(
        prepare(Workflow.read({"light": node("Light"), "heavy": node("Heavy")}), Registry([Light, Heavy])),
        targets=["light", "heavy"],
    )
    execution = Execution(graph, cache=Cache(), out=Path("out"))
    assert list(execution)
    torch.set_num_threads(before)
    assert execution.results == {"light": (1,), "heavy": (3,)}


def test_a_thread_keeps_its_cores_whatever_others_set_before_it_computes() -> None:
    before, found = torch.get_num_threads(), list[int]()
    is_set, goes_on = threading.Event(), threading.Event()

    def compute() -> None:
        set_torch_threads(3)
        is_set.set()
        goes_on.wait()
        found.append(torch.get_num_threads())

    thread = threading.Thread(target=compute)
    thread.start()
    is_set.wait()
    set_torch_threads(1)
    goes_on.set()
    thread.join()
    torch.set_num_threads(before)
    assert found == [3]


def test_the_callers_thread_has_all_cores_if_torch_is_imported_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    imported, numbers = ModuleType("torch"), list[int]()
    vars(imported).update(get_num_threads=lambda: 8, set_num_threads=numbers.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delitem(sys.modules, "torch")
    with torch_threads_restored():
        set_torch_threads(1)
        monkeypatch.setitem(sys.modules, "torch", imported)
        set_torch_threads(1)
    assert numbers == [1, 3]


def test_no_torch_is_imported_to_restore_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    with torch_threads_restored():
        pass
    assert "torch" not in sys.modules


@pytest.mark.parametrize("wanted", ["", "0", "all"])
def test_there_is_always_at_least_one_core(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert cores() >= 1


def test_waiting_threads_yield_their_core_unless_the_user_decides_otherwise() -> None:
    code = "import os, engine.run.execute; print(os.environ['OMP_WAIT_POLICY'])"
    for given, expected in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        answer = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
            env={"PATH": "/usr/bin", **given},
        )
        assert answer.stdout.strip() == expected


class Where(Node, version=1):
    """The thread that runs it."""

    a: int = 0

    def run(self, ctx: Context) -> str:
        return threading.current_thread().name


class WhereOnDevice(Where, version=1, uses="device"):
    """The same on the device."""


class SaveWhere(Node, version=1, saves="text"):
    """The same in a file, which may take long to write."""

    def run(self, ctx: Context) -> Files:
        return Files((Media(threading.current_thread().name.encode(), "txt", "thread"),))


class Press(Node, version=1):
    """Ctrl-C, as Python reports it, while a node runs."""

    def run(self, ctx: Context) -> str:
        raise KeyboardInterrupt


KINDS = (Light, Where, WhereOnDevice, SaveWhere, Press)
QUICK = dict.fromkeys((kind.spec.kind for kind in KINDS), 1e-6)


def run_of(kind: type[Node], seconds: Mapping[str, float], out: Path) -> Execution:
    """A run of one node, whose kind took so many seconds in earlier runs."""
    costs = Costs()
    for name, taken in seconds.items():
        costs.record(name, taken)
    graph = check(prepare(Workflow.read({"a": node(kind.spec.kind)}), Registry(KINDS)), targets=["a"])
    return Execution(graph, cache=Cache(), out=out, costs=costs)


def thread_of(execution: Execution) -> str:
    """The thread in which the node ran."""
    for event in execution:
        if isinstance(event, NodeSaved):
            return event.files[0].read_text()
    (name,) = execution.results["a"]
    return str(name)


def test_a_node_that_is_known_to_be_quick_runs_in_the_callers_thread(tmp_path: Path) -> None:
    assert thread_of(run_of(Where, QUICK, tmp_path)) == threading.current_thread().name


def test_results_in_memory_and_a_quick_node_that_needs_them_take_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, costs = Cache(), Costs()
    costs.record("Mix", 1e-6)
    numbers = {str(value): node("Number", value=value) for value in range(5)}
    registry = Registry([Number, Mix])
    for last in ({}, {"mix": node("Mix", a=["0", 0], b=["1", 0])}):
        graph = numbers | last
        whole = check(prepare(Workflow.read(graph), registry), targets=list(graph))
        execution = Execution(whole, cache=cache, out=Path("out"), costs=costs)
        assert list(execution)
        monkeypatch.setattr("engine.run.execute.Thread", lambda **about: pytest.fail("a thread was started"))
    assert len(execution.results) == 6


def test_any_other_node_runs_in_a_thread_of_its_own(tmp_path: Path) -> None:
    for kind, seconds in ((Where, {}), (Where, {"Where": 0.1}), (WhereOnDevice, QUICK), (SaveWhere, QUICK)):
        assert thread_of(run_of(kind, seconds, tmp_path)) == "kinograph-node"


def test_events_are_not_held_back_for_long_by_many_quick_nodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("engine.run.execute.UNSEEN_SECONDS", 0.0)  # as if this much time had passed
    assert thread_of(run_of(Where, QUICK, tmp_path)) == "kinograph-node"


def test_the_callers_thread_keeps_its_cores(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    execution = run_of(Light, QUICK, tmp_path)
    list(execution)
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert (execution.results, after) == ({"a": (1,)}, 2)


def test_ctrl_c_in_the_callers_thread_is_the_callers(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(run_of(Press, QUICK, tmp_path))
