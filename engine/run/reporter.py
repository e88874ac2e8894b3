"""What shows a run to whoever looks on: a terminal, a program, the server's clients."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self

from engine.events import Event


class Reporter(Protocol):
    """Shows what happens; used as a context around it, from one thread but for `download`."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def download(self, source: str, done: int, total: int) -> None:
        """Bytes of a model fetched, and in all (0 while unknown)."""

    def downloaded(self, source: str, path: Path) -> None:
        """The model is here."""

    def event(self, event: Event) -> None: ...
