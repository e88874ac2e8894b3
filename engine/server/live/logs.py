"""The server's log for the panel of ComfyUI's front end: its last lines, and new ones over the WebSocket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any

from aiohttp import web
from pydantic import Field

from engine.server.http.journal import JOURNAL, Journal, Line
from engine.server.http.routes import Body, Routes
from engine.server.live.clients import CLIENTS
from engine.work.messages import JobBegun, JobEnded, JobEvents, Report

routes = Routes("logs")

SEND_SECONDS = 0.2
"""How long lines are gathered before they are sent."""
MOST_SUBSCRIBED = 1000

_SUBSCRIBED = web.AppKey("log_subscribers", dict[str, None])
"""The ids of the clients that want new lines."""


class Subscription(Body):
    """Whether a client wants new lines of the log."""

    client: str = Field(alias="clientId", max_length=200)
    enabled: bool = True


@routes.get("/internal/logs")
async def text(request: web.Request) -> str:
    """The last lines of the server's log, as one text."""
    return "".join(f"{line.when} - {line.text}\n" for line in request.app[JOURNAL].since())


@routes.get("/internal/logs/raw")
async def lines(request: web.Request) -> dict[str, Any]:
    """The last lines of the server's log, and the size of the terminal that they are meant for."""
    return {"entries": _entries(request.app[JOURNAL].since()), "size": {"cols": 120, "rows": 40}}


@routes.patch("/internal/logs/subscribe")
async def subscribe(request: web.Request, body: Subscription) -> dict[str, Any]:
    """Send a WebSocket client new lines as messages `logs`, or no longer."""
    subscribed = request.app[_SUBSCRIBED]
    subscribed.pop(body.client, None)
    if body.enabled:
        subscribed[body.client] = None
        while len(subscribed) > MOST_SUBSCRIBED:  # the oldest are gone, most likely
            del subscribed[next(iter(subscribed))]
    return {}


async def journaling(app: web.Application) -> AsyncIterator[None]:
    """Keep the log's lines, and send them to those who want them, as long as the server runs."""
    journal = app[JOURNAL]
    logging.getLogger().addHandler(journal)
    app[_SUBSCRIBED] = {}
    sending = asyncio.create_task(_send(app))
    yield
    sending.cancel()
    with suppress(asyncio.CancelledError):
        await sending
    logging.getLogger().removeHandler(journal)
    journal.close()


async def _send(app: web.Application) -> None:
    journal, changed, sent = app[JOURNAL], asyncio.Event(), 0
    journal.listen(changed)
    while True:
        await changed.wait()
        changed.clear()
        if new := journal.since(sent):
            sent = new[-1].number
            for client in app[_SUBSCRIBED]:
                app[CLIENTS].send("logs", {"entries": _entries(new)}, to=client, needed=False)
        await asyncio.sleep(SEND_SECONDS)


def note(journal: Journal, report: Report) -> None:
    """Write to the log what a worker reports, as far as a person wants to read it."""
    match report:
        case JobBegun(job=job, attempt=attempt):
            journal.note(f"job {job} begins" + (f", attempt {attempt}" if attempt > 1 else ""))
        case JobEnded(job=job):
            journal.note(f"job {job} has ended")
        case JobEvents(events=events):
            for event in events:
                if event["event"] == "node_failed":
                    journal.note(f"{event['node']} ({event['kind']}) has failed: {event['problem']['message']}")


def _entries(lines: Iterable[Line]) -> list[dict[str, str]]:
    return [{"t": line.when, "m": f"{line.text}\n"} for line in lines]
