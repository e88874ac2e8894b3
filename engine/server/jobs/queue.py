"""The queue as the server uses it: threads do the database's work, and who looks is told of changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from aiohttp import web

from engine.work.queue import Jobs

P = ParamSpec("P")
T = TypeVar("T")


class Queue:
    """Calls methods of `Jobs` without making the event loop wait, nor what is short for what takes long.

    Args:
        path: the database.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.on_change: list[Callable[[], None]] = []
        """Called, in the event loop, after each change."""
        self._thread = ThreadPoolExecutor(1, "kinograph-queue")
        self._jobs = self._thread.submit(Jobs, path).result()
        self._looking = ThreadPoolExecutor(1, "kinograph-lists")
        self._read = self._looking.submit(Jobs, path).result()

    async def ask(self, method: Callable[Concatenate[Jobs, P], T], *values: P.args, **how: P.kwargs) -> T:
        """What a method of `Jobs` returns that changes nothing: `await queue.ask(Jobs.get, id)`."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: method(self._jobs, *values, **how)
        )

    async def look(self, method: Callable[[Jobs], T]) -> T:
        """As `ask`, of what may take long, such as all jobs with their workflows: nothing else waits for it."""
        return await asyncio.get_running_loop().run_in_executor(self._looking, method, self._read)

    async def change(self, method: Callable[Concatenate[Jobs, P], T], *values: P.args, **how: P.kwargs) -> T:
        """The same of one that changes something."""
        returned = await self.ask(method, *values, **how)
        self.changed()
        return returned

    def changed(self) -> None:
        """Tell those who look; also of what workers changed."""
        for listener in self.on_change:
            listener()

    async def close(self) -> None:
        await self.look(Jobs.close)
        await self.ask(Jobs.close)
        for thread in (self._looking, self._thread):
            thread.shutdown()


QUEUE = web.AppKey("queue", Queue)
