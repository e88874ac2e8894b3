"""The queue as the server uses it: the database runs in threads, and listeners are called on changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from aiohttp import web

from engine.work.mending import explaining, mend
from engine.work.queue import Jobs

PATIENCE = 5.0
"""Seconds to wait for others that have locked the queue, before a request is refused."""

P = ParamSpec("P")
T = TypeVar("T")


class Queue:
    """Calls methods of `Jobs` without blocking the event loop, or short calls behind long ones.

    All methods raise StorageError if the database can't be read or written.

    Args:
        path: the database; if it is damaged it is set aside, and a new one begun.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notice = mend(path)
        """That the queue found at the start was damaged, and where it is kept."""
        self.on_change: list[Callable[[], None]] = []
        """Called, in the event loop, after each change."""
        self._thread = ThreadPoolExecutor(1, "kinograph-queue")
        self._jobs = self._thread.submit(self._open).result()
        self._list_thread = ThreadPoolExecutor(1, "kinograph-lists")
        self._list_jobs = self._list_thread.submit(self._open).result()

    def _open(self) -> Jobs:
        with explaining(self.path):
            return Jobs(self.path, patience=PATIENCE)

    async def ask(self, method: Callable[Concatenate[Jobs, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of `Jobs` that changes nothing: `await queue.ask(Jobs.get, id)`."""

        def call() -> T:
            with explaining(self.path):
                return method(self._jobs, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def ask_slow(self, method: Callable[[Jobs], T]) -> T:
        """As `ask`, for calls that may take long, such as all jobs with their workflows: no other call waits for it."""

        def call() -> T:
            with explaining(self.path):
                return method(self._list_jobs)

        return await asyncio.get_running_loop().run_in_executor(self._list_thread, call)

    async def change(self, method: Callable[Concatenate[Jobs, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `ask`, for a method that changes something."""
        returned = await self.ask(method, *args, **kwargs)
        self.changed()
        return returned

    def changed(self) -> None:
        """Call the listeners; also when workers have changed the queue."""
        for listener in self.on_change:
            listener()

    async def close(self) -> None:
        await self.ask_slow(Jobs.close)
        await self.ask(Jobs.close)
        for thread in (self._list_thread, self._thread):
            thread.shutdown()


QUEUE = web.AppKey("queue", Queue)
