"""Events that wait for a slow reader don't pile up."""

from __future__ import annotations

from engine.client.watching import Backlog
from engine.errors import Problem
from engine.events import NodeFinished, NodeProgress, NodeReported, NodeRetried, NodeStarted, NodeText
from engine.figures import Figure


def progress(node: str, done: int) -> NodeProgress:
    return NodeProgress(node, done, 100, "step")


def test_of_progress_the_last_waits_and_of_text_all_in_one() -> None:
    backlog = Backlog()
    backlog.add(NodeStarted("a", "A"))
    for done in range(100):
        backlog.add(progress("a", done))
        backlog.add(progress("b", done))
        backlog.add(NodeText("a", f"{done} "))
    backlog.add(NodeFinished("a", "A", 1.0))
    text = "".join(f"{done} " for done in range(100))
    last = [progress("a", 99), progress("b", 99), NodeText("a", text)]
    assert [*backlog.take()] == [NodeStarted("a", "A"), *last, NodeFinished("a", "A", 1.0)]
    assert [*backlog.take()] == []


def test_of_reports_the_last_waits_and_those_of_two_attempts_stay_apart() -> None:
    first, last, other = (NodeReported("a", {"tokens": Figure(count)}) for count in (1, 2, 3))
    again = NodeRetried("a", Problem("lost"), 1, 2, 0.0)
    backlog = Backlog()
    for event in (first, progress("a", 1), last, again, other):
        backlog.add(event)
    assert [*backlog.take()] == [progress("a", 1), last, again, other]


def test_what_was_taken_is_not_told_again() -> None:
    backlog = Backlog()
    backlog.add(NodeText("a", "one "))
    assert [*backlog.take()] == [NodeText("a", "one ")]
    backlog.add(NodeText("a", "two "))
    assert [*backlog.take()] == [NodeText("a", "two ")]


def test_two_attempts_are_not_mixed() -> None:
    again = NodeRetried("a", Problem("lost"), 1, 2, 0.0)
    backlog = Backlog()
    backlog.add(NodeText("a", "begun "))
    backlog.add(progress("a", 50))
    backlog.add(again)
    backlog.add(progress("a", 1))
    backlog.add(NodeText("a", "anew "))
    told = [*backlog.take()]
    assert told[2:] == [again, progress("a", 1), NodeText("a", "anew ")]
    assert set(told[:2]) == {progress("a", 50), NodeText("a", "begun ")}


def test_what_comes_while_it_is_read_is_read_too() -> None:
    backlog = Backlog()
    backlog.add(progress("a", 1))
    told = []
    for event in backlog.take():
        told.append(event)
        if len(told) < 3:
            backlog.add(progress("a", len(told) + 1))
    assert told == [progress("a", 1), progress("a", 2), progress("a", 3)]
