"""Show a run: as a live board on a terminal, plain lines elsewhere, or a JSON object per line for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from engine.document.prepared import Prepared
from engine.document.workflow import split_id
from engine.events import (
    Event,
    NodeCached,
    NodeFailed,
    NodeFinished,
    NodeProgress,
    NodeReported,
    NodeResult,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeText,
    NodeWarned,
    RunFinished,
    RunStarted,
    to_json,
)
from engine.figures import Report, in_words
from engine.run.reporter import Reporter

LINES_SECONDS = 5.0
"""How often plain lines report one node's progress."""
TAIL = 300
"""Characters of a text being written that the board shows."""


class Labels(dict[str, str]):
    """Labels of nodes, by id; where a node runs for an item of a list, its label includes the item's number."""

    @classmethod
    def of(cls, prepared: Prepared, parts: Mapping[str, str] | None = None) -> Labels:
        """A workflow's: titles, or else kinds, with the ids that inputs are named by.

        `parts` are the labels of a sweep's parts, by the prefix of their nodes' ids.
        """
        graph = prepared.flat.graph
        own = {node: f"{entry.meta.get('title') or entry.class_type} ({node})" for node, entry in graph.items()}
        if parts is None:
            return cls(own)
        return cls({f"{part}{node}": f"{label}, {name}" for part, name in parts.items() for node, label in own.items()})

    def __missing__(self, node: str) -> str:
        name, index = split_id(node)
        if index is None:
            raise KeyError(node)
        return f"{self[name]} #{index + 1}"


def reporter(labels: Mapping[str, str], *, as_json: bool, debug: bool) -> Reporter:
    """The reporter that suits the output.

    Args:
        labels: the labels of the nodes, by id.
        as_json: JSON lines on standard output, whatever it is.
        debug: show the Python traceback of a node that fails.
    """
    if as_json:
        return Json()
    console = Console(stderr=True, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return Board(console, labels, debug)
    return Lines(labels, debug)


class Json:
    """Every event as a line on standard output."""

    def __init__(self) -> None:
        self._throttle = Throttle(0.2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def download(self, source: str, done: int, total: int) -> None:
        if self._throttle.passes(source):
            _print_json({"event": "download", "source": source, "done": done, "total": total})

    def downloaded(self, source: str, path: Path) -> None:
        _print_json({"event": "downloaded", "source": source, "path": str(path)})

    def event(self, event: Event) -> None:
        _print_json(to_json(event))


class Lines:
    """Prints a line on standard error when something starts or ends, and occasionally in between."""

    def __init__(self, labels: Mapping[str, str], debug: bool) -> None:
        self._labels = labels
        self._debug = debug
        self._paces: dict[str, Pace] = {}
        self._throttle = Throttle(LINES_SECONDS)
        self._said = Said()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def download(self, source: str, done: int, total: int) -> None:
        self._progress(source, done, total, "B", f"fetching {source}")

    def downloaded(self, source: str, path: Path) -> None:
        self._print(f"fetched {source}")

    def event(self, event: Event) -> None:
        match event:
            case NodeStarted(node):
                self._print(f"{self._labels[node]}: started")
            case NodeProgress(node, done, total, unit):
                self._progress(node, done, total, unit, self._labels[node])
            case _:
                for line in lines_for(event, self._labels, self._said, self._debug):
                    self._print(line)

    def _progress(self, name: str, done: int, total: int, unit: str, label: str) -> None:
        pace = self._paces.setdefault(name, Pace()).text(done, total, unit)
        if self._throttle.passes(name):
            self._print(f"{label}: {pace}")

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class Board:
    """A row for everything in progress, below the lines for what is done, on a terminal."""

    def __init__(self, console: Console, labels: Mapping[str, str], debug: bool) -> None:
        self._labels = labels
        self._debug = debug
        self._rows: dict[str, TaskID] = {}
        self._paces: dict[str, Pace] = {}
        self._said = Said()
        self._progress = _Rows(
            self._said.texts,
            SpinnerColumn(),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", max_width=36)),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            TextColumn("{task.fields[pace]}", markup=False, table_column=Column(no_wrap=True)),
            console=console,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def download(self, source: str, done: int, total: int) -> None:
        if source not in self._rows:
            self._add(source, f"fetching {source.rpartition('/')[2]}")
        self._update(source, done, total, "B")

    def downloaded(self, source: str, path: Path) -> None:
        if source in self._rows:
            self._remove(source)
        self._progress.console.print(Text(f"fetched {source}"))

    def event(self, event: Event) -> None:
        match event:
            case NodeStarted(node):
                self._add(node, self._labels[node])
            case NodeProgress(node, done, total, unit):
                self._update(node, done, total, unit)
            case NodeFinished(node) | NodeFailed(node) if node in self._rows:  # a fetched node has no row
                self._remove(node)
        for line in lines_for(event, self._labels, self._said, self._debug):
            self._progress.console.print(Text(line, style=_style(event)))

    def _add(self, name: str, label: str) -> None:
        self._paces[name] = Pace()
        self._rows[name] = self._progress.add_task(escape(label), total=None, pace="")

    def _update(self, name: str, done: int, total: int, unit: str) -> None:
        pace = self._paces[name].text(done, total, unit)
        self._progress.update(self._rows[name], completed=done, total=total or None, pace=pace)

    def _remove(self, name: str) -> None:
        self._progress.remove_task(self._rows.pop(name))


class _Rows(Progress):
    """Progress bars with the ends of the texts being written below them."""

    def __init__(self, texts: Mapping[str, str], *columns: ProgressColumn, console: Console) -> None:
        self._texts = texts
        super().__init__(*columns, console=console, transient=True, expand=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for text in list(self._texts.values()):
            yield Text(text[-TAIL:], style="italic dim")


class Pace:
    """Progress, speed and time left, measured since the first report."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._total: tuple[int, str] | None = None
        self._began = (0.0, 0)

    def text(self, done: int, total: int, unit: str) -> str:
        """Such as "5/20 steps, 2.1 steps/s, 7 s left"; a total of 0 is unknown."""
        now = self._clock()
        if self._total != (total, unit) or done < self._began[1]:
            self._total, self._began = (total, unit), (now, done)
        seconds, gained = now - self._began[0], done - self._began[1]
        parts = [_amount(done, total, unit)]
        if seconds > 0 and gained > 0:
            rate = gained / seconds
            parts.append(_rate(rate, unit))
            if total > done:
                parts.append(f"{duration((total - done) / rate)} left")
        return ", ".join(parts)


def _amount(done: int, total: int, unit: str) -> str:
    if unit == "B":
        return f"{done / 1e6:.1f}/{total / 1e6:.1f} MB" if total else f"{done / 1e6:.1f} MB"
    return f"{done}/{total} {unit}s" if total else f"{done} {unit}s"


def _rate(rate: float, unit: str) -> str:
    if unit == "B":
        return f"{rate / 1e6:.1f} MB/s"
    return f"{rate:.1f} {unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit}"


def duration(seconds: float) -> str:
    """Such as "7.2 s", "42 s", "3:05 min", "1:02:00 h"."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} h" if hours else f"{minutes}:{seconds:02} min"


class Throttle:
    """Lets one report per name pass in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def passes(self, name: str) -> bool:
        now = time.monotonic()
        if now - self._last.get(name, -self._seconds) >= self._seconds:
            self._last[name] = now
            return True
        return False


class Said:
    """What nodes have said: the texts that they are writing, and their reports. It is printed when they are done."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self._reports: dict[str, Report] = {}

    def add(self, event: NodeText | NodeReported) -> None:
        if isinstance(event, NodeText):
            self.texts[event.node] = self.texts.get(event.node, "") + event.text
        else:
            self._reports[event.node] = event.figures

    def take(self, node: str) -> list[str]:
        """The lines of a node, which are dropped."""
        report = self._reports.pop(node, {})
        return [*self.texts.pop(node, "").strip().splitlines(), *([in_words(report)] if report else [])]


def lines_for(event: Event, labels: Mapping[str, str], said: Said, debug: bool) -> list[str]:
    """The lines to print for an event; what a node has said is kept in `said` until the node is done."""
    match event:
        case NodeText() | NodeReported():
            said.add(event)
        case RunStarted():
            return [f"warning: {problem}" for problem in event.warnings]
        case NodeCached(node):
            return [f"{labels[node]}: from the cache"]
        case NodeFinished(node, _, seconds):
            return [f"{labels[node]}: {duration(seconds)}", *(f"    {line}" for line in said.take(node))]
        case NodeFailed(node):
            said.take(node)
            given = ", ".join(f"{name}={text}" for name, text in event.inputs.items())
            trace = [event.trace.rstrip()] if debug else []
            return [*trace, f"error: {event.problem}", *([f"    it was given {given}"] if given else [])]
        case NodeResult(node, outputs):
            return [f"{labels[node]}: {name} is {text}" for name, text in outputs.items()]
        case NodeRetried(node, problem, attempt, attempts, seconds):
            said.take(node)
            return [f"{problem}", f"{labels[node]}: attempt {attempt} of {attempts} in {duration(seconds)}"]
        case NodeWarned(_, problem):
            return [f"warning: {problem}"]
        case NodeSkipped(node, _, because):
            return [f"{labels[node]}: skipped, as it needs {labels[because]}"]
        case RunFinished():
            return [_summary(event)]
    return []


def _summary(run: RunFinished) -> str:
    end = (
        f"cancelled after {duration(run.seconds)}"
        if run.status == "cancelled"
        else f"{run.status} in {duration(run.seconds)}"
    )
    ran = len(run.timings)
    return f"{end}: {ran} {'node' if ran == 1 else 'nodes'} ran, {run.cached} came from the cache"


def _style(event: Event) -> str:
    match event:
        case NodeFailed() | RunFinished(status="failed"):
            return "red"
        case NodeCached() | NodeSkipped():
            return "dim"
        case RunFinished(status="done"):
            return "green"
    return ""


def _print_json(data: Mapping[str, Any]) -> None:
    print(json.dumps(data), flush=True)
