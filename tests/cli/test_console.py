"""What people see during a run."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from engine.cli.console import Board, Lines, Pace, Said, duration, lines_for
from engine.errors import Problem
from engine.events import (
    Event,
    NodeCached,
    NodeFailed,
    NodeFinished,
    NodeProgress,
    NodeReported,
    NodeResult,
    NodeRetried,
    NodeSaved,
    NodeSkipped,
    NodeStarted,
    NodeText,
    NodeWarned,
    RunFinished,
    RunStarted,
)
from engine.figures import Figure

FAILED = NodeFailed("c", "Save", Problem("no space [left]", "c"), "OSError", 5, {"text": "'a [b]'"}, "Traceback")
UNSTARTED = NodeFailed("a", "Load", Problem("can't write", "a"), "OSError", 5, {}, "Traceback")  # its value: cached
EVENTS: list[Event] = [
    RunStarted(5, ("b", "c")),
    NodeCached("a", "Load"),
    NodeStarted("b", "Draw"),
    NodeText("b", "half a "),
    NodeReported("b", {"tries": Figure(1)}),
    NodeRetried("b", Problem("ConnectionError: gone", "b"), 2, 3, 0.5),
    NodeText("b", "a snail "),
    NodeText("b", "[bold] at sea"),
    NodeReported("b", {"strokes": Figure(1)}),
    NodeReported("b", {"strokes": Figure(1203), "[ink]": Figure(2.5, "ml")}),
    NodeProgress("b", 1, 20, "step"),
    NodeProgress("b", 20, 20, "step"),
    NodeWarned("b", Problem("'ref [1].png' was changed", "b", "image", "run it again")),
    NodeFinished("b", "Draw", 3.25),
    NodeSaved("b", (Path("b.png"),)),
    NodeResult("b", {"out": "Image of 2 × 64×64"}),
    NodeStarted("c", "Save"),
    NodeReported("c", {"bytes": Figure(0)}),
    FAILED,
    NodeSkipped("d", "Join", "c"),
    UNSTARTED,
    RunFinished("failed", 4.0, 1, {"b": 3.25}, (FAILED, UNSTARTED)),
]
LABELS = {"a": "Load (a)", "b": "[red] Draw (b)", "c": "Save (c)", "d": "Join (d)"}
LINES = [
    "Load (a): from the cache",
    "node b: ConnectionError: gone",
    "[red] Draw (b): attempt 2 of 3 in 0.5 s",
    "warning: node b, input image: 'ref [1].png' was changed (run it again)",
    "[red] Draw (b): 3.2 s",
    "    a snail [bold] at sea",
    "    strokes 1,203 · [ink] 2.5 ml",
    "[red] Draw (b): out is Image of 2 × 64×64",
    "error: node c: no space [left]",
    "    it was given text='a [b]'",
    "Join (d): skipped, as it needs Save (c)",
    "error: node a: can't write",
    "failed in 4.0 s: 1 node ran, 1 came from the cache",
]


def test_plain_lines_show_starts_progress_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines(LABELS, debug=False) as lines:
        for event in EVENTS:
            lines.event(event)

    out, err = capsys.readouterr()
    assert out == ""
    printed = err.splitlines()
    assert [line for line in printed if not line.endswith("started") and "steps" not in line] == LINES
    assert "[red] Draw (b): started" in printed
    assert "[red] Draw (b): 1/20 steps" in printed


def test_the_board_leaves_the_same_lines_on_a_terminal() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None, highlight=False)
    with Board(console, LABELS, debug=True) as board:
        for event in EVENTS:
            board.event(event)
            board._progress.refresh()
        board.download("hf:owner/name", 5_000_000, 10_000_000)
        board._progress.refresh()
        board.downloaded("hf:owner/name", Path("snapshot"))

    shown = screen.getvalue()
    for line in [*LINES, "Traceback", "20/20 steps", "fetching name", "5.0/10.0 MB", "fetched hf:owner/name"]:
        assert line in shown


def test_what_a_failed_node_has_said_is_dropped() -> None:
    said = Said()
    for event in (NodeText("c", "half"), NodeReported("c", {"bytes": Figure(0)}), FAILED):
        lines_for(event, LABELS, said, debug=False)
    assert lines_for(NodeFinished("c", "Save", 1.0), LABELS, said, debug=False) == ["Save (c): 1.0 s"]


def test_pace_shows_amount_rate_and_time_left() -> None:
    now = 100.0
    pace = Pace(lambda: now)
    assert pace.text(0, 20, "step") == "0/20 steps"
    now += 2
    assert pace.text(5, 20, "step") == "5/20 steps, 2.5 steps/s, 6.0 s left"
    now += 38
    assert pace.text(10, 20, "step") == "10/20 steps, 4.0 s/step, 40 s left"
    now += 1
    assert pace.text(0, 93_000_000, "B") == "0.0/93.0 MB"
    now += 1
    assert pace.text(31_000_000, 93_000_000, "B") == "31.0/93.0 MB, 31.0 MB/s, 2.0 s left"
    assert pace.text(31_000_000, 0, "B") == "31.0 MB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1:00 min"), (185, "3:05 min"), (3725, "1:02:05 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
