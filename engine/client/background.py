"""An event loop in its own thread, so that it works whatever runs in the caller's, such as a notebook's loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from engine.client.connection import CLOSED
from engine.errors import UsageError

T = TypeVar("T")


class Background:
    """Runs coroutines until it is stopped; the thread starts with the first.

    Args:
        farewell: called in the loop before it ends.
    """

    def __init__(self, farewell: Callable[[], Awaitable[None]]) -> None:
        self._farewell = farewell
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._stopping = asyncio.Event()
        self._stopped = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result; Ctrl-C cancels it."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._running())
        except BaseException:
            work.close()
            raise
        try:
            return future.result()
        except CancelledError:
            raise UsageError(CLOSED, hint="make another") from None
        except BaseException:
            future.cancel()
            raise

    def start(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine without waiting for it, if the loop is still running."""
        if self._stopped:
            work.close()
        else:
            asyncio.run_coroutine_threadsafe(work, self._running())

    def stop(self) -> None:
        """Run the farewell and end the thread; a second call does nothing."""
        with self._starting:
            stopped, self._stopped = self._stopped, True
            thread = self._thread
        if stopped or thread is None:
            return
        self._loop.result().call_soon_threadsafe(self._stopping.set)
        if thread is not threading.current_thread():
            thread.join()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._stopped:
                raise UsageError(CLOSED, hint="make another")
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="kinograph-client", daemon=True)
                self._thread.start()
        return self._loop.result()

    def _serve(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop.set_result(asyncio.get_running_loop())
        await self._stopping.wait()
        await self._farewell()
