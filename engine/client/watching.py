"""What is told of one job, gathered for those who read it in their own time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from engine.client.events import NodePreview, Raw
from engine.events import NodeProgress, NodeRetried, NodeStarted, NodeText, RunFinished, RunStarted

LOOK_SECONDS = 30.0
"""How often a job is looked at, should its end not have been told."""
LAST_SECONDS = 1.0
"""How long the last events of a run may take to come after its job has ended."""


class Backlog:
    """Events that wait to be read: of a node's progress only the last, and its text in one piece."""

    def __init__(self) -> None:
        self._events: OrderedDict[object, Raw] = OrderedDict()  # unlike a dict's, its front is taken at once

    def __iter__(self) -> Iterator[Raw]:
        return iter([*self._events.values()])

    def add(self, event: Raw) -> None:
        if isinstance(event, NodeStarted | NodeRetried):  # what it tells from now on is of another attempt
            for kind in (NodeProgress, NodePreview, NodeText):
                if earlier := self._events.pop((kind, event.node), None):
                    self._events[object()] = earlier
        key: object = object()
        if isinstance(event, NodeProgress | NodePreview | NodeText):
            key = (type(event), event.node)
            before = self._events.pop(key, None)
            if isinstance(event, NodeText) and isinstance(before, NodeText):
                event = NodeText(event.node, before.text + event.text)
        self._events[key] = event

    def take(self) -> Iterator[Raw]:
        """All that wait, and those that come meanwhile."""
        while self._events:
            yield self._events.popitem(last=False)[1]

    def clear(self) -> None:
        self._events.clear()


class Listener:
    """Someone who waits for what is told of a job.

    Args:
        backlog: what has been told so far.
    """

    def __init__(self, backlog: Backlog, *, previews: bool) -> None:
        self.backlog = backlog
        self.previews = previews
        self.doubt = True
        """Whether the job may have ended by now."""
        self._error: BaseException | None = None
        self._woken = asyncio.Event()

    def tell(self, event: Raw) -> None:
        self.backlog.add(event)
        self._woken.set()

    def doubts(self) -> None:
        self.doubt = True
        self._woken.set()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._woken.set()

    async def news(self) -> None:
        """Wait until there is something new; raises what keeps the server from telling."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._woken.wait()
        except TimeoutError:
            self.doubt = True
        self._woken.clear()
        if self._error:
            raise self._error


class Watch:
    """All that is told of one job."""

    def __init__(self) -> None:
        self._whole = False
        """Whether nothing has been missed since the run began."""
        self._history = Backlog()
        self._listeners: set[Listener] = set()
        self._finished = asyncio.Event()

    def tell(self, event: Raw) -> None:
        if isinstance(event, RunStarted):
            self._whole = True
            self._finished.clear()
            self._history.clear()
        elif isinstance(event, RunFinished):
            self._finished.set()
        if not isinstance(event, NodePreview):
            self._history.add(event)
        for listener in self._listeners:
            if listener.previews or not isinstance(event, NodePreview):
                listener.tell(event)

    def doubts(self) -> None:
        """It may have ended."""
        for listener in self._listeners:
            listener.doubts()

    def interrupted(self) -> None:
        """What happens meanwhile is missed."""
        self._whole = False

    def fail(self, error: BaseException) -> None:
        """Nothing more is told."""
        for listener in self._listeners:
            listener.fail(error)

    def begins(self, *, whole: bool) -> None:
        """The job is about to be put into the queue; `whole`, if all will be told from the start."""
        self._whole = whole
        self._finished.clear()
        self._history.clear()

    @contextmanager
    def listening(self, *, previews: bool = False) -> Iterator[Listener]:
        """Someone who is told all from the start of the run, as far as it is known."""
        backlog = Backlog()
        for event in self._history:
            backlog.add(event)
        listener = Listener(backlog, previews=previews)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    async def told_all(self) -> None:
        """Wait for the end of a run that is known to have ended, unless it has been missed."""
        if self._whole:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await self._finished.wait()
