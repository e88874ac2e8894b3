"""Contexts that listen to a node."""

from __future__ import annotations

import dataclasses

from engine.node import Context
from engine.values import Image


class Watching:
    """Listens to a node, and keeps the pictures that it shows."""

    def __init__(self, ctx: Context, *, wants: bool = True) -> None:
        self.reports: list[tuple[int, int, str]] = []
        self.shown: list[Image] = []
        self.ctx = dataclasses.replace(ctx, on_progress=self.listen, wants_preview=lambda: wants)

    def listen(self, done: int, total: int, unit: str, preview: Image | None) -> None:
        self.reports.append((done, total, unit))
        if preview:
            self.shown.append(preview)


def cancelled_after(ctx: Context, reports: int) -> Context:
    """A context whose run is cancelled with the given report of progress, counted from 1."""
    asked = iter(range(1, 1000))
    return dataclasses.replace(ctx, cancelled=lambda: next(asked) >= reports)
