"""What a worker tells its server: as much as there is to say, and no more than a line may hold."""

from __future__ import annotations

import json
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from engine.events import Event, NodeFailed, NodeText, RunFinished
from engine.work.messages import JobBegun
from engine.work.reporting import MAX_CHARACTERS, MAX_TEXT, ServerReporter


def told(events: Iterable[Event]) -> list[dict[str, Any]]:
    """What is told of events that come before the first telling."""
    out = BytesIO()
    reports = ServerReporter(out)
    with reports.of("job", {"output": Path("/out")}):
        for event in events:
            reports.event(event)
    with reports:
        pass
    return [event for line in out.getvalue().splitlines() for event in json.loads(line)["events"]]


def test_a_failure_with_much_to_say_is_told_in_short() -> None:
    failed = NodeFailed.of("1", "Loud", ValueError("x" * 5_000_000), {})
    events = told([failed, RunFinished("failed", 1.0, 0, {}, (failed,))])
    assert len(json.dumps(events)) < 5 * MAX_CHARACTERS
    assert events[0]["problem"]["message"].startswith("ValueError: xxx")
    assert events[0]["trace"].startswith("ValueError: xxx")


def test_a_text_that_is_written_fast_is_told_in_pieces_that_can_be_sent() -> None:
    events = told(NodeText("1", "word " * 100_000) for _ in range(10))
    assert [event["event"] for event in events] == ["node_text"]
    assert len(events[0]["text"]) <= MAX_TEXT + 3


def test_what_is_short_is_told_as_it_is() -> None:
    assert [event["text"] for event in told([NodeText("1", "one "), NodeText("1", "two")])] == ["one two"]


def test_that_a_node_starts_is_told_at_once_and_after_what_came_before() -> None:
    out = BytesIO()
    reports = ServerReporter(out)  # whose thread has not come to anything yet
    reports.send(JobBegun(job="job", attempt=2))
    reports.starting("1", "Crash")
    assert [json.loads(line)["message"] for line in out.getvalue().splitlines()] == ["job_begun", "node_starting"]
