"""What nodes report of how they worked: bounded, told of the run that computed it, and no part of any result."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Cancelled
from engine.events import NodeFailed, NodeFinished, NodeReported, to_json
from engine.figures import MOST_FIGURES, NAME_CHARACTERS, TEXT_CHARACTERS, Figure, Report, bounded, in_words
from engine.node import Context
from engine.store.cache import Cache
from engine.store.disk import Disk
from engine.work import worker
from engine.work.messages import WorkerSettings
from engine.work.queue import Jobs
from engine.work.records import Lease, Request
from tests.engine.toys import Run, node

TOLD = {"number": Figure(7), "half": Figure(3.5, "m")}
GRAPH = {"seven": node("Number", value=7), "tell": node("Tell", a=["seven", 0])}


def test_a_report_is_an_event_of_its_node_before_it_has_finished() -> None:
    run = Run(GRAPH, ["tell"])
    last = NodeReported("tell", TOLD)
    assert run.of(NodeReported) == [NodeReported("tell", {"half": Figure(3.5, "m")}), last]
    assert run.events.index(last) < run.events.index(run.of(NodeFinished)[-1])
    assert json.loads(json.dumps(to_json(NodeReported("tell", TOLD)))) == {
        "event": "node_reported",
        "node": "tell",
        "figures": {"number": {"value": 7, "unit": ""}, "half": {"value": 3.5, "unit": "m"}},
    }


def test_a_cached_node_reports_nothing_and_has_the_same_value(tmp_path: Path) -> None:
    with Cache(disk=Disk(tmp_path / "cache")) as cache:
        first = Run(GRAPH, ["tell"], cache=cache)
    stored = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*.safetensors"))
    assert b"half" not in stored
    with Cache(disk=Disk(tmp_path / "cache")) as cache:
        again = Run(GRAPH, ["tell"], cache=cache)
    assert not again.of(NodeReported)
    assert again.results == first.results == {"tell": 7}


def test_each_item_of_a_list_has_a_report_of_its_own() -> None:
    run = Run({"count": node("Count", to=3), "tell": node("Tell", a=["count", 0])}, ["tell"])
    last = {event.node: event.figures["number"].value for event in run.of(NodeReported) if len(event.figures) > 1}
    assert last == {"tell[0]": 0, "tell[1]": 1, "tell[2]": 2}


def test_what_a_node_reports_is_told_even_if_it_fails() -> None:
    run = Run({"tell": node("Tell", a=7, failures=9)}, ["tell"])
    assert NodeReported("tell", TOLD) in run.events
    assert run.of(NodeFailed)


def test_reporting_does_not_end_a_cancelled_node_since_its_work_may_be_done() -> None:
    reports: list[Report] = []
    ctx = Context(cancelled=lambda: True, on_report=reports.append)
    ctx.report({"tokens": 96})
    assert reports == [{"tokens": Figure(96)}]
    with pytest.raises(Cancelled):
        ctx.progress(1, 2)


def test_a_report_is_cut_to_what_can_be_stored_and_sent() -> None:
    given = {f"{number} {'x' * 1000}": "word\n" * 1000 for number in range(100)}
    report = bounded(given)
    assert len(report) == MOST_FIGURES
    assert [*report][1].startswith("1 xxx")
    assert {len(name) for name in report} == {NAME_CHARACTERS}
    assert {len(str(figure.value)) for figure in report.values()} == {TEXT_CHARACTERS}
    assert all("\n" not in str(figure) and str(figure).endswith("…") for figure in report.values())


def test_a_report_is_always_json_that_any_program_reads_as_it_is() -> None:
    report = bounded({"loss": math.nan, "ratio": math.inf, "file": "a\udcff.png", "seed": 2**64 - 1, "bytes": 2**53})
    assert [figure.value for figure in report.values()] == ["nan", "inf", "a?.png", "18446744073709551615", 2**53]
    data = to_json(NodeReported("a", report))
    assert json.loads(json.dumps(data, allow_nan=False).encode()) == data


@pytest.mark.parametrize(
    ("report", "error", "message"),
    [
        ({"tokens": None}, TypeError, "a figure is a number or a text, not NoneType"),
        ({"done": True}, TypeError, "a figure is a number or a text, not bool"),
        ({"words": ["a", "b"]}, TypeError, "a figure is a number or a text, not list"),
        ({3: 4}, TypeError, "the name of a figure is a text, not int"),
        ({"bytes": 2**64}, ValueError, "whole numbers have 64 bits at most; give a float"),
    ],
)
def test_what_is_no_report_is_refused(report: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Context().report(report)


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure(1203), "1,203"),
        (Figure(2**53 - 1), "9,007,199,254,740,991"),
        (Figure(-1234567.8, "B"), "-1,234,568 B"),
        (Figure(2.9925), "2.99"),
        (Figure(0.0123, "s"), "0.0123 s"),
        (Figure(99.96, "%"), "100 %"),
        (Figure(2.0), "2"),
        (Figure(1e20), "1e+20"),
        (Figure("lookahead"), "lookahead"),
    ],
)
def test_figures_are_shown_with_three_digits_and_separators(figure: Figure, text: str) -> None:
    assert str(figure) == text


def test_a_line_shows_the_first_figures() -> None:
    report = {name: Figure(at) for at, name in enumerate("abcdef")}
    assert in_words(report) == "a 0 · b 1 · c 2 · d 3 · …"
    assert in_words({"a": Figure(1)}) == "a 1"


def recorded(tmp_path: Path, graph: dict[str, Any], monkeypatch: pytest.MonkeyPatch, most: int = 200) -> Any:
    """The reports that a worker records of a job with a graph."""
    monkeypatch.setattr(worker, "MOST_REPORTS", most)
    settings = WorkerSettings(name="a", queue=tmp_path / "queue", roots={})
    with Jobs(settings.queue) as jobs:
        run = worker._Run(Lease("job", "a", 1, Request("job", {"graph": graph}), {}, 1), settings, jobs)
        for event in Run(graph, ["tell"]).events:
            run.note(event)
    return run.record.get("reports")


def test_a_job_s_record_has_what_its_nodes_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"number": {"value": 7, "unit": ""}, "half": {"value": 3.5, "unit": "m"}}
    assert recorded(tmp_path, GRAPH, monkeypatch) == {"tell": told}


def test_of_many_items_it_has_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = {"count": node("Count", to=5), "tell": node("Tell", a=["count", 0])}
    found = recorded(tmp_path, graph, monkeypatch, most=2)
    assert len(found) == 2
    assert all(len(report) == 2 for report in found.values()), "the last report of each"


def test_an_attempt_that_failed_leaves_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recorded(tmp_path, {"tell": node("Tell", a=7, failures=1)}, monkeypatch) == {}
