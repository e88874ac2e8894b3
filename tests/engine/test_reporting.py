"""A worker's reports to its server: complete, but no longer than a line may be."""

from __future__ import annotations

import json
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from engine.events import Event, NodeFailed, NodeReported, NodeText, RunFinished
from engine.figures import Figure
from engine.work.hiding import Hiding
from engine.work.messages import JobBegun
from engine.work.reporting import MAX_CHARACTERS, MAX_TEXT, PREVIEW_SECONDS, ServerReporter


def first_batch(events: Iterable[Event]) -> list[dict[str, Any]]:
    """The events as reported, all in the first batch."""
    out = BytesIO()
    reports = ServerReporter(out)
    with reports.of("job", {"output": Path("/out")}):
        for event in events:
            reports.event(event)
    with reports:
        pass
    return [event for line in out.getvalue().splitlines() for event in json.loads(line)["events"]]


def test_a_long_failure_is_shortened() -> None:
    failed = NodeFailed.of("1", "Loud", ValueError("x" * 5_000_000), {})
    events = first_batch([failed, RunFinished("failed", 1.0, 0, {}, (failed,))])
    assert len(json.dumps(events)) < 5 * MAX_CHARACTERS
    assert events[0]["problem"]["message"].startswith("ValueError: xxx")
    assert events[0]["trace"].startswith("ValueError: xxx")


def test_a_text_that_is_written_fast_is_shortened_to_what_can_be_sent() -> None:
    events = first_batch(NodeText("1", "word " * 100_000) for _ in range(10))
    assert [event["event"] for event in events] == ["node_text"]
    assert len(events[0]["text"]) <= MAX_TEXT + 3


def test_a_short_report_is_sent_as_it_is() -> None:
    assert [event["text"] for event in first_batch([NodeText("1", "one "), NodeText("1", "two")])] == ["one two"]


def test_of_reports_in_a_row_the_last_is_sent() -> None:
    events = first_batch(NodeReported("1", {"tokens": Figure(count)}) for count in range(100))
    assert events == [{"event": "node_reported", "node": "1", "figures": {"tokens": {"value": 99, "unit": ""}}}]


def test_reports_of_two_nodes_are_both_sent() -> None:
    events = first_batch(NodeReported(node, {"tokens": Figure(1)}) for node in ("1", "2"))
    assert [event["node"] for event in events] == ["1", "2"]


def test_a_report_tells_no_absolute_paths_where_they_are_hidden() -> None:
    out = BytesIO()
    with ServerReporter(out, Hiding({"output": Path("/srv/out")})) as reports:
        reports.event(NodeReported("1", {"table": Figure("/srv/out/table.csv")}))
    assert b"/srv" not in out.getvalue()
    assert b"output/table.csv" in out.getvalue()


def test_the_start_of_a_node_is_sent_at_once_after_earlier_messages() -> None:
    out = BytesIO()
    reports = ServerReporter(out)  # its thread isn't running yet
    reports.send(JobBegun(job="job", attempt=2))
    reports.starting("1", "Crash")
    assert [json.loads(line)["message"] for line in out.getvalue().splitlines()] == ["job_begun", "node_starting"]


def test_previews_are_asked_for_now_and_then_and_only_while_someone_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("engine.work.reporting.time.monotonic", lambda: now)
    reports = ServerReporter(BytesIO())
    assert not reports.wants_preview()
    reports.previews = True
    assert [reports.wants_preview(), reports.wants_preview()] == [True, False]
    now += PREVIEW_SECONDS
    assert [reports.wants_preview(), reports.wants_preview()] == [True, False]
