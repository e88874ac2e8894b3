"""Shows a run: as the command's board on a terminal, bars in a notebook, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from html import escape
from pathlib import Path
from threading import Lock
from typing import Any, Self

from engine.cli.console import Pace, Said, lines_for, reporter
from engine.events import Event, NodeFailed, NodeFinished, NodeProgress, NodeStarted, RunFinished
from engine.run.reporter import Reporter
from kinograph.display import shell_of_ipython

SECONDS = 0.1
"""The least time between two updates of the bars: each goes to the browser as a message."""
LINES = 12
"""The most lines about finished steps that stay below the bars."""
TAIL = 300
"""Characters of a text being written that are shown."""


def shown(labels: Mapping[str, str], progress: bool) -> Reporter:
    """The reporter that suits where this runs; `labels` are the nodes' labels, by id."""
    if not progress:
        return Silence()
    if getattr(shell_of_ipython(), "kernel", None) is not None:
        return Bars(labels)
    return reporter(labels, as_json=False, debug=False)


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def download(self, source: str, done: int, total: int) -> None: ...

    def downloaded(self, source: str, path: Path) -> None: ...

    def event(self, event: Event) -> None: ...


class Bars:
    """A bar for each thing in progress, in one cell output that is redrawn, with finished steps below."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = labels
        self._rows: dict[str, _Row] = {}
        self._said = Said()
        self._lines: list[str] = []
        self._output: Any = None
        self._drawn = 0.0
        self._lock = Lock()  # models are fetched by several threads

    def __enter__(self) -> Self:
        from IPython.display import HTML, display

        self._output = display(HTML(""), display_id=True)
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._rows.clear()
            self._draw()

    def download(self, source: str, done: int, total: int) -> None:
        with self._lock:
            self._row(source, f"fetching {source.rpartition('/')[2]}").update(done, total, "B")
            self._draw_if_due()

    def downloaded(self, source: str, path: Path) -> None:
        with self._lock:
            self._rows.pop(source, None)
            self._lines.append(f"fetched {source}")
            self._draw()

    def event(self, event: Event) -> None:
        with self._lock:
            match event:
                case NodeStarted(node):
                    self._row(node, self._labels[node])
                case NodeProgress(node, done, total, unit):
                    self._row(node, self._labels[node]).update(done, total, unit)
                case NodeFinished(node) | NodeFailed(node):
                    self._rows.pop(node, None)
            self._lines += lines_for(event, self._labels, self._said, debug=False)
            if isinstance(event, RunFinished):
                self._lines = self._lines[-1:]
                self._rows.clear()
                self._draw()
            else:
                self._draw_if_due()

    def _row(self, name: str, label: str) -> _Row:
        return self._rows.setdefault(name, _Row(label))

    def _draw_if_due(self) -> None:
        if time.monotonic() - self._drawn >= SECONDS:
            self._draw()

    def _draw(self) -> None:
        from IPython.display import HTML

        self._drawn = time.monotonic()
        rows = [row.html() for row in self._rows.values()]
        texts = [f"<div><i>{escape(text[-TAIL:])}</i></div>" for text in self._said.texts.values() if self._rows]
        lines = [f"<div>{escape(line)}</div>" for line in self._lines[-LINES:]]
        self._output.update(HTML("".join([*rows, *texts, *lines])))


class _Row:
    """One thing in progress."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._pace = Pace()
        self._text = ""
        self._share: float | None = None

    def update(self, done: int, total: int, unit: str) -> None:
        self._text = self._pace.text(done, total, unit)
        self._share = done / total if total else None

    def html(self) -> str:
        value = "" if self._share is None else f" value='{self._share:.3f}'"
        return f"<div><progress{value}></progress> {escape(self._label)} {escape(self._text)}</div>"
