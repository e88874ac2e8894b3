"""The server stops in an orderly way where the event loop can't watch signals, as on Windows."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from engine.server.serving import _on_stop


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("watches", [True, False])
def test_it_stops_at_a_signal(number: int, watches: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise NotImplementedError

    async def main() -> None:
        stopped = asyncio.Event()
        if not watches:
            monkeypatch.setattr(asyncio.get_running_loop(), "add_signal_handler", refuse)
        _on_stop(stopped.set)
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stopped.wait(), 10)

    asyncio.run(main())
