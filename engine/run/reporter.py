"""The interface for showing a run: on a terminal, to a program, to the server's clients."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self

from engine.events import Event


class Reporter(Protocol):
    """Shows a run; used as a context manager around it, from one thread except for `download`."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def download(self, source: str, done: int, total: int) -> None:
        """Report the bytes of a model fetched so far, and in all (0 while unknown)."""

    def downloaded(self, source: str, path: Path) -> None:
        """Report that a model has been fetched."""

    def event(self, event: Event) -> None: ...
