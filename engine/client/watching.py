"""The events of one job, collected for readers who take them at their own pace."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from engine.client.events import NodePreview, Raw
from engine.events import NodeProgress, NodeReported, NodeRetried, NodeStarted, NodeText, RunFinished, RunStarted

LOOK_SECONDS = 30.0
"""How often a job's status is checked, in case its end was not reported."""
LAST_SECONDS = 1.0
"""How long the last events of a run may take to arrive after its job has ended."""


class Backlog:
    """Events waiting to be read: only the latest progress and report of each node, and its text in one piece."""

    def __init__(self) -> None:
        self._events: OrderedDict[object, Raw] = OrderedDict()  # unlike a dict, it pops its front in constant time

    def __iter__(self) -> Iterator[Raw]:
        return iter([*self._events.values()])

    def add(self, event: Raw) -> None:
        if isinstance(event, NodeStarted | NodeRetried):  # its next events belong to another attempt
            for kind in (NodeProgress, NodePreview, NodeText, NodeReported):
                if earlier := self._events.pop((kind, event.node), None):
                    self._events[object()] = earlier
        key: object = object()
        if isinstance(event, NodeProgress | NodePreview | NodeText | NodeReported):
            key = (type(event), event.node)
            before = self._events.pop(key, None)
            if isinstance(event, NodeText) and isinstance(before, NodeText):
                event = NodeText(event.node, before.text + event.text)
        self._events[key] = event

    def take(self) -> Iterator[Raw]:
        """Take all waiting events, and those that arrive meanwhile."""
        while self._events:
            yield self._events.popitem(last=False)[1]

    def clear(self) -> None:
        self._events.clear()


class Listener:
    """One reader of a job's events.

    Args:
        backlog: the events received so far.
    """

    def __init__(self, backlog: Backlog, *, previews: bool) -> None:
        self.backlog = backlog
        self.previews = previews
        self.may_have_ended = True
        """Whether the job's status should be checked."""
        self._error: BaseException | None = None
        self._woken = asyncio.Event()

    def publish(self, event: Raw) -> None:
        self.backlog.add(event)
        self._woken.set()

    def suspect_end(self) -> None:
        self.may_have_ended = True
        self._woken.set()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._woken.set()

    async def changed(self) -> None:
        """Wait for an event or a reason to check the status; raises the error that ended the feed."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._woken.wait()
        except TimeoutError:
            self.may_have_ended = True
        self._woken.clear()
        if self._error:
            raise self._error


class Watch:
    """Passes the events of one job to its listeners."""

    def __init__(self) -> None:
        self._complete = False
        """Whether no event has been missed since the run started."""
        self._history = Backlog()
        self._listeners: set[Listener] = set()
        self._finished = asyncio.Event()

    def publish(self, event: Raw) -> None:
        if isinstance(event, RunStarted):
            self._complete = True
            self._finished.clear()
            self._history.clear()
        elif isinstance(event, RunFinished):
            self._finished.set()
        if not isinstance(event, NodePreview):
            self._history.add(event)
        for listener in self._listeners:
            if listener.previews or not isinstance(event, NodePreview):
                listener.publish(event)

    def suspect_end(self) -> None:
        """Have the listeners check whether the job has ended."""
        for listener in self._listeners:
            listener.suspect_end()

    def interrupted(self) -> None:
        """Note that events are being missed."""
        self._complete = False

    def fail(self, error: BaseException) -> None:
        """Report an error to all listeners: no more events will come."""
        for listener in self._listeners:
            listener.fail(error)

    def begin(self, *, complete: bool) -> None:
        """Note that the job is about to be queued; `complete` if all its events will arrive from the start."""
        self._complete = complete
        self._finished.clear()
        self._history.clear()

    @contextmanager
    def listening(self, *, previews: bool = False) -> Iterator[Listener]:
        """A listener that gets all events from the start of the run, where they are known."""
        backlog = Backlog()
        for event in self._history:
            backlog.add(event)
        listener = Listener(backlog, previews=previews)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    async def finished(self) -> None:
        """Wait for the last event of a run that is known to have ended, unless events were missed."""
        if self._complete:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await self._finished.wait()
