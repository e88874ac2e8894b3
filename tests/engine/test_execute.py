"""Runs: what is computed, in what order, what is reported, and what a failure or a cancellation leaves alone."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.errors import MissingError
from engine.events import (
    NodeCached,
    NodeFailed,
    NodeFinished,
    NodeProgress,
    NodeResult,
    NodeRetried,
    NodeSaved,
    NodeSkipped,
    NodeStarted,
    NodeText,
    RunFinished,
    RunStarted,
    to_json,
)
from engine.graph.check import check
from engine.graph.keys import node_keys
from engine.models import Models
from engine.node import Context, Node
from engine.registry import Registry
from engine.run import execute, schedule
from engine.run.costs import Costs
from engine.run.execute import Execution
from engine.run.schedule import Schedule
from engine.store.cache import Cache
from engine.store.disk import Disk
from tests.engine import toys
from tests.engine.graphs import graphs, oracle
from tests.engine.toys import RAN, Run, chain, checked, node

SUM = {
    "one": node("Number", value=1),
    "two": node("Number", value=2),
    "mix": node("Mix", a=["one", 0], b=["two", 0]),
    "save": node("SaveNumber", number=["mix", 0]),
}


def test_a_run_reports_events_and_ends_with_a_summary(cache: Cache, tmp_path: Path) -> None:
    run = Run(SUM, cache=cache, out=tmp_path / "out")
    assert run.events[0] == RunStarted(4, ("one", "two", "mix", "save"))
    assert {event.node for event in run.of(NodeStarted)} == set(SUM)
    assert [event.node for event in run.of(NodeFinished)][2:] == ["mix", "save"]
    assert run.of(NodeSaved) == [NodeSaved("save", (tmp_path / "out" / "number_00001.txt",))]
    assert (run.end.status, run.end.exit_code, run.end.cached, run.end.failures) == ("done", 0, 0, ())
    assert set(run.end.timings) == set(SUM)
    assert (tmp_path / "out" / "number_00001.txt").read_text() == "49"


def test_a_second_run_computes_nothing_but_still_writes_its_files(cache: Cache, tmp_path: Path) -> None:
    Run(SUM, cache=cache, out=tmp_path / "a")
    again = Run(SUM, cache=cache, out=tmp_path / "b")
    assert not again.ran
    assert again.of(NodeCached) == [NodeCached("save", "SaveNumber")]
    assert again.events[0] == RunStarted(4, ())
    assert again.end.cached == 1
    assert (tmp_path / "b" / "number_00001.txt").read_text() == "49"


def test_another_process_computes_nothing_either(tmp_path: Path) -> None:
    handle = {
        "open": node("Open"),
        "use": node("Use", handle=["open", 0]),
        "save": node("SaveNumber", number=["use", 0]),
    }
    for graph in (SUM, handle):
        with Cache(disk=Disk(tmp_path / "cache")) as cache:
            first = Run(graph, cache=cache)
        with Cache(disk=Disk(tmp_path / "cache")) as cache:
            again = Run(graph, cache=cache)
        assert first.ran
        assert not again.ran, "a handle can't be stored, but the outputs computed from it are"


def test_an_edit_reruns_only_the_nodes_it_affects(cache: Cache) -> None:
    Run(SUM, cache=cache)
    edited = Run(SUM | {"two": node("Number", value=3)}, cache=cache)
    assert edited.ran == {"Number": 1, "Mix": 1, "SaveNumber": 1}
    renamed = Run(SUM | {"save": node("SaveNumber", number=["mix", 0], prefix="other")}, cache=cache)
    assert renamed.ran == {"SaveNumber": 1}


def test_named_outputs_reach_the_inputs_linked_to_them(cache: Cache) -> None:
    graph = {
        "divide": node("Divide", a=47),
        "mix": node("Mix", a=["divide", "quotient"], b=["divide", "remainder"]),
    }
    assert Run(graph, ["mix"], cache=cache).results == {"mix": 4 * 31 + 7 * 7 + 4}


def test_only_what_the_targets_need_is_run() -> None:
    run = Run(SUM, ["one"])
    assert run.ran == {"Number": 1}
    assert run.results == {"one": 1}


def test_equal_nodes_run_once_and_each_saves_its_file(tmp_path: Path) -> None:
    run = Run({"a": node("SaveNumber", number=1), "b": node("SaveNumber", number=1)}, out=tmp_path / "out")
    assert run.ran == {"SaveNumber": 1}
    assert [event.node for event in run.of(NodeSaved)] == ["a", "b"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["number_00001.txt", "number_00002.txt"]


def test_each_of_several_equal_nodes_that_fail_is_reported(tmp_path: Path) -> None:
    graph = {
        "fail": node("Fail"),
        "a": node("SaveNumber", number=["fail", 0]),
        "b": node("SaveNumber", number=["fail", 0]),
        "bad": node("Fail"),
    }
    run = Run(graph, ["a", "b", "fail", "bad"], out=tmp_path)
    assert {event.node for event in run.of(NodeFailed) + run.of(NodeSkipped)} == set(graph)


def test_progress_and_text_are_reported() -> None:
    run = Run({"steps": node("Steps", steps=2)}, ["steps"])
    assert run.of(NodeProgress) == [NodeProgress("steps", 0, 2, "step"), NodeProgress("steps", 1, 2, "step")]
    assert run.of(NodeText) == [NodeText("steps", "0 "), NodeText("steps", "1 ")]


def test_events_are_json() -> None:
    assert to_json(NodeProgress("1", 2, 3, "step", preview=lambda: 1 / 0)) == {  # type: ignore[arg-type, return-value]
        "event": "node_progress",
        "node": "1",
        "done": 2,
        "total": 3,
        "unit": "step",
    }
    run = Run({"fail": node("Fail")}, ["fail"])
    end = to_json(run.end)
    assert (end["event"], end["status"]) == ("run_finished", "failed")
    assert end["failures"][0]["problem"]["message"] == "ZeroDivisionError: by design"


FAILING = {
    "fail": node("Fail"),
    "after": node("Mix", a=["fail", 0]),
    "after that": node("Mix", a=["after", 0], b=["fine", 0]),
    "fine": node("Number", value=3),
    "save": node("SaveNumber", number=["fine", 0]),
    "lost": node("SaveNumber", number=["after that", 0]),
}


class TestFailure:
    def test_it_stops_only_what_depends_on_it(self, cache: Cache, tmp_path: Path) -> None:
        run = Run(FAILING, cache=cache, out=tmp_path / "out")
        assert [event.node for event in run.of(NodeSaved)] == ["save"]
        assert {(event.node, event.because) for event in run.of(NodeSkipped)} == {
            ("after", "fail"),
            ("after that", "fail"),
            ("lost", "fail"),
        }
        assert (run.end.status, run.end.exit_code) == ("failed", 5)

    def test_it_is_reported_with_node_message_and_trace(self) -> None:
        (failure,) = Run(FAILING).of(NodeFailed)
        assert str(failure.problem) == "node fail: ZeroDivisionError: by design"
        assert "raise ZeroDivisionError" in failure.trace

    def test_a_new_run_tries_only_the_failed_node_again(self, cache: Cache) -> None:
        Run(FAILING, cache=cache)
        assert Run(FAILING, cache=cache).ran == {"Fail": 1}

    def test_an_input_may_prove_out_of_range_only_when_its_link_is_resolved(self) -> None:
        graph = {"zero": node("Number", value=0), "divide": node("Divide", a=1, by=["zero", 0])}
        run = Run(graph, ["divide"])
        problem = run.end.failures[0].problem
        assert (problem.node, problem.input) == ("divide", "by")
        assert problem.message == "should be greater than or equal to 1"

    def test_a_file_that_can_not_be_written_fails_its_node(self, tmp_path: Path) -> None:
        graph = {"a": node("SaveNumber", number=1, prefix="../out"), "b": node("SaveNumber", number=1)}
        run = Run(graph, out=tmp_path / "out")
        assert [str(failure.problem) for failure in run.end.failures] == [
            "node a: '../out' is outside the output folder (give a relative path without '..')"
        ]
        assert [event.node for event in run.of(NodeSaved)] == ["b"]

    def test_an_error_in_the_engine_is_raised_instead_of_hanging(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Schedule, "done", lambda self, task, entry: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Run(SUM)

    def test_even_an_exit_does_not_hang_the_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def leave(self: object, ctx: object) -> None:
            raise SystemExit(3)

        monkeypatch.setattr(toys.Fail, "run", leave)
        assert Run({"fail": node("Fail")}, ["fail"]).end.status == "failed"


class TestCancel:
    def test_it_takes_effect_at_the_next_step(self, gate: threading.Event) -> None:
        RAN.clear()
        graph = {"1": node("Steps"), "2": node("Mix", a=["1", 0])}
        execution = Execution(checked(graph, ["2"]), cache=Cache(), out=Path("out"))
        events = []
        for event in execution:
            events.append(event)
            if isinstance(event, NodeProgress):
                execution.cancel()
                gate.set()
        assert RAN["step"] <= 3
        assert isinstance(events[-1], RunFinished)
        assert (events[-1].status, events[-1].exit_code, events[-1].failures) == ("cancelled", 130, ())
        assert not [event for event in events if isinstance(event, NodeSkipped)], "nothing failed that was needed"

    def test_finished_outputs_are_held(self, gate: threading.Event) -> None:
        cache = Cache()
        graph = {"1": node("Number", value=2), "2": node("Mix", a=["1", 0], b=["3", 0]), "3": node("Steps")}
        execution = Execution(checked(graph, ["2"]), cache=cache, out=Path("out"))
        for event in execution:
            if isinstance(event, NodeFinished):
                execution.cancel()
                gate.set()
        assert Run(graph, ["2"], cache=cache).ran == {"Steps": 1, "Mix": 1, "step": 10}

    def test_cancelled_before_the_start_it_runs_nothing(self) -> None:
        RAN.clear()
        execution = Execution(checked(chain(3), ["2"]), cache=Cache(), out=Path("out"))
        execution.cancel()
        assert [type(event) for event in execution] == [RunStarted, RunFinished]
        assert not RAN

    def test_a_run_whose_events_are_no_longer_read_ends(self, gate: threading.Event) -> None:
        gate.set()
        execution = Execution(checked({"1": node("Steps", steps=10**9)}, ["1"]), cache=Cache(), out=Path("out"))
        stream = iter(execution)
        next(event for event in stream if isinstance(event, NodeProgress))
        stream.close()  # type: ignore[attr-defined]
        assert not [thread for thread in threading.enumerate() if thread.name == "kinograph-node"]


class TestParallel:
    def test_independent_branches_run_at_the_same_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(toys, "BARRIER", [threading.Barrier(2)])
        graph = {"a": node("Meet", a=1), "b": node("Meet", a=2), "end": node("Mix", a=["a", 0], b=["b", 0])}
        assert Run(graph, ["end"]).end.status == "done"

    def test_a_thread_that_waits_hears_at_once_of_what_it_can_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(schedule, "WATCH_SECONDS", 60)
        monkeypatch.setattr(execute, "QUICK_SECONDS", 0)  # who is last to meet doesn't wait, and would seem quick
        monkeypatch.setattr(toys, "BARRIER", [threading.Barrier(2)])
        graph = {"a": node("Meet", a=1), "b": node("Meet", a=2), "waist": node("Mix", a=["a", 0], b=["b", 0])}
        graph |= {name: node("Meet", a=["waist", 0], seconds=seconds) for name, seconds in (("c", 5), ("d", 6))}
        assert Run(graph, ["c", "d"]).end.status == "done"

    def test_light_nodes_run_beside_the_one_on_the_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(toys, "BARRIER", [threading.Barrier(2)])
        graph = {"a": node("Meet", a=1), "b": node("MeetOnDevice", a=2), "end": node("Mix", a=["a", 0], b=["b", 0])}
        assert Run(graph, ["end"]).end.status == "done"

    def test_heavy_nodes_take_turns_on_the_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(toys, "BARRIER", [threading.Barrier(2)])
        graph = {"a": node("MeetOnDevice", a=1, seconds=0), "b": node("MeetOnDevice", a=2, seconds=0)}
        run = Run(graph, ["a", "b"])
        assert {type(event.problem) for event in run.of(NodeFailed)}
        assert len(run.end.failures) == 2, "neither ever met the other"
        assert [type(event) for event in run.events[1:5]] == [NodeStarted, NodeFailed, NodeStarted, NodeFailed]


class TestLosses:
    """The cache may lose anything at any time, which costs time but never results."""

    def test_a_corrupt_file_is_computed_again_with_what_it_needs(self, tmp_path: Path) -> None:
        with Cache(disk=Disk(tmp_path / "cache")) as cache:
            whole = Run(SUM, cache=cache)
        (path,) = (tmp_path / "cache").iterdir()
        path.write_bytes(path.read_bytes()[:-5])
        with Cache(disk=Disk(tmp_path / "cache")) as cache:
            again = Run(SUM, cache=cache, out=tmp_path / "again")
        assert again.end.status == "done"
        assert again.ran == whole.ran
        assert (tmp_path / "again" / "number_00001.txt").read_text() == "49"

    def test_nodes_that_depend_on_a_failure_after_a_loss_are_skipped(self, tmp_path: Path) -> None:
        cache = Cache(disk=Disk(tmp_path / "cache"))
        graph = {"fail": node("Fail"), "mix": node("Mix", a=["fail", 0]), "other": node("Mix", a=["fail", 0], b=5)}
        execution = Execution(checked(graph, ["other", "mix"]), cache=cache, out=Path("out"))
        lost = node_keys(execution.graph, "cpu")["mix"]
        assert cache.disk is not None
        cache.disk.write(lost, (1,), 1.0)
        cache.close()
        (path,) = (tmp_path / "cache").iterdir()
        path.write_bytes(b"torn")
        events = list(execution)
        assert sorted(event.node for event in events if isinstance(event, NodeSkipped)) == ["mix", "other"]

    @settings(max_examples=40)
    @given(graph=graphs(), memory=st.integers(0, 4000), disk=st.integers(0, 2000), data=st.data())
    def test_at_any_budget_results_are_those_of_plain_calls(
        self,
        graph: dict[str, Any],
        memory: int,
        disk: int,
        data: st.DataObject,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        truth = oracle(graph)
        folder = tmp_path_factory.mktemp("cache")
        for _ in range(3):
            targets = data.draw(st.lists(st.sampled_from(sorted(graph)), min_size=1, unique=True))
            with Cache(memory, Disk(folder, disk)) as cache:
                assert Run(graph, targets, cache=cache).results == {name: truth[name] for name in targets}
            torn = data.draw(st.sets(st.integers(0, 9), max_size=3))
            for index, path in enumerate(sorted(folder.iterdir())):
                if index in torn:
                    path.write_bytes(path.read_bytes()[:-1])


@settings(max_examples=40)
@given(graphs(size=14))
def test_cached_and_parallel_runs_give_the_results_of_plain_calls(graph: dict[str, Any]) -> None:
    cache, truth = Cache(), oracle(graph)
    for _ in range(2):
        assert Run(graph, list(graph), cache=cache).results == truth
    assert not Run(graph, list(graph), cache=cache).ran


def test_nodes_share_the_models_they_are_given() -> None:
    class Load(Node, version=1):
        def run(self, ctx: Context) -> int:
            return ctx.models.get("model", lambda: 7)

    models = Models()
    graph = check(prepare(Workflow.read({"load": node("Load")}), Registry([Load])), targets=["load"])
    execution = Execution(graph, cache=Cache(), out=Path("out"), models=models)
    assert list(execution)
    assert (execution.results, len(models)) == ({"load": (7,)}, 1)


def test_long_chains_run_without_recursion() -> None:
    run = Run(chain(5000), ["4999"])
    assert run.results["4999"] == oracle(chain(5000))["4999"]
    assert run.end.status == "done"


def test_values_are_freed_after_their_last_use() -> None:
    class Watched(Cache):
        """Holds nothing, and notes how many entries the run keeps alive."""

        def put(self, *args: Any, **more: Any) -> Any:
            alive.append(sum(task.entry is not None for task in execution._schedule._tasks.values()))
            return super().put(*args, **more)

    alive: list[int] = []
    execution = Execution(checked(chain(50), ["49"]), cache=Watched(memory=0), out=Path("out"))
    assert list(execution)[-1].status == "done"  # type: ignore[union-attr]
    assert max(alive) == 1


def alone(graph: dict[str, Any], target: str, cache: Cache) -> Execution:
    return Execution(checked(graph, [target]), cache=cache, out=Path("out"), alone=True)


def test_a_target_runs_alone_on_held_outputs_and_on_those_that_never_are(cache: Cache) -> None:
    graph = {
        "0": node("Slow", a=1, seconds=0.02),
        "1": node("Open", number=["0", 0]),
        "2": node("Use", handle=["1", 0]),
        "3": node("Use", handle=["1", 0], times=3),
    }
    Run(graph, ["0"], cache=cache)
    execution = alone(graph, "3", cache)
    assert list(execution)[-1].status == "done"  # type: ignore[union-attr]
    assert execution.results == {"3": (6,)}


def test_a_target_alone_is_refused_with_the_nearest_missing_outputs(cache: Cache) -> None:
    graph = {
        "0": node("Number", value=3),
        "1": node("Slow", a=["0", 0]),
        "2": node("Open", number=["1", 0]),
        "3": node("Use", handle=["2", 0]),
    }
    with pytest.raises(MissingError) as caught:
        list(alone(graph, "3", cache))
    assert [problem.node for problem in caught.value.problems] == ["1"]


def test_a_failure_reports_the_inputs_of_the_node() -> None:
    run = Run({"0": node("Number", value=4), "1": node("Fail", a=["0", 0]), "2": node("Fail", a=9)}, ["1", "2"])
    assert {failure.node: failure.inputs for failure in run.of(NodeFailed)} == {"1": {"a": "4"}, "2": {"a": "9"}}


def test_a_target_that_saves_nothing_reports_its_outputs() -> None:
    run = Run({"0": node("Divide", a=47)}, ["0"])
    assert run.of(NodeResult) == [NodeResult("0", {"quotient": "4", "remainder": "7"})]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.run.attempts.RETRY_SECONDS", 0.001)


@pytest.mark.usefixtures("impatient")
def test_a_kind_with_retries_is_run_again_and_reports_why() -> None:
    run = Run({"0": node("Flaky", failures=2)}, ["0"])
    assert run.results == {"0": 3}
    retries = [(event.problem.message, event.attempt, event.attempts) for event in run.of(NodeRetried)]
    assert retries == [("ConnectionError: attempt 1", 2, 3), ("ConnectionError: attempt 2", 3, 3)]


@pytest.mark.usefixtures("impatient")
def test_after_the_last_attempt_the_node_fails() -> None:
    run = Run({"0": node("Flaky", failures=9)}, ["0"])
    assert (run.end.status, run.ran["Flaky"]) == ("failed", 3)
    assert [failure.problem.message for failure in run.end.failures] == ["ConnectionError: attempt 3"]


class Hopeless(Node, version=1, retries=3):
    """Fails each time, at first perhaps for want of memory."""

    memory: bool = False

    def run(self, ctx: Context) -> int:
        RAN["Hopeless"] += 1
        raise MemoryError("no room") if self.memory and RAN["Hopeless"] <= 3 else ConnectionError("gone")


def hopeless(*, memory: bool = False) -> list[Any]:
    """The events of a run of it alone."""
    RAN.clear()
    graph = check(prepare(Workflow.read({"0": node("Hopeless", memory=memory)}), Registry([Hopeless])), targets=["0"])
    return list(Execution(graph, cache=Cache(), out=Path("out")))


def test_each_pause_is_twice_as_long_as_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float | None] = []

    class Watch(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout)
            return self.is_set()

    monkeypatch.setattr("engine.run.execute.Flag", Watch)
    assert [event.seconds for event in hopeless() if isinstance(event, NodeRetried)] == [0.5, 1.0, 2.0]
    assert waited == [0.5, 1.0, 2.0]


def test_out_of_memory_is_retried_once_whatever_the_kind_allows() -> None:
    (failure,) = (event for event in hopeless(memory=True) if isinstance(event, NodeFailed))
    assert "out of memory" in failure.problem.message
    assert RAN["Hopeless"] == 2


def test_a_kind_without_retries_is_not_run_again() -> None:
    assert Run({"0": node("Fail")}, ["0"]).ran["Fail"] == 1


def test_cancel_does_not_wait_for_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.run.attempts.RETRY_SECONDS", 60.0)
    execution = Execution(checked({"0": node("Flaky")}, ["0"]), cache=Cache(), out=Path("out"))
    for event in execution:
        if isinstance(event, NodeRetried):
            execution.cancel()
    assert isinstance(event, RunFinished)
    assert event.status == "cancelled"


def test_a_task_expected_to_be_quick_does_not_keep_others_waiting_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toys, "BARRIER", [threading.Barrier(2)])
    costs = Costs()
    costs.record("Meet", 1e-6)  # from earlier runs; now each waits for the other
    graph = {"a": node("Meet", a=1), "b": node("Meet", a=2), "c": node("Mix", a=["a", 0], b=["b", 0])}
    execution = Execution(checked(graph, ["c"]), cache=Cache(), out=Path("out"), costs=costs)
    list(execution)
    assert execution.exit_code == 0
