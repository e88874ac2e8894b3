"""Runs the server until it is stopped."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

from aiohttp import web

from engine.errors import UsageError
from engine.registry import Registry
from engine.server.app import make_app
from engine.server.http.connections import CONNECTIONS, IDLE_SECONDS, LINGER_SECONDS, Answered, capacity
from engine.server.http.guard import is_loopback
from engine.server.http.handler import Handler
from engine.server.http.logs import Log
from engine.server.http.settings import ServerSettings
from engine.server.http.tokens import LEAST_LENGTH, check_length

BACKLOG = 1024
"""Connections that wait to be accepted."""


def serving(settings: ServerSettings, registry: Registry, *, as_json: bool = False) -> None:
    """Serve until Ctrl-C or SIGTERM; jobs that are running then are resumed at the next start.

    Raises:
        UsageError: it may not, or can't, listen on its address, or another server uses its folder.
    """
    is_local = is_loopback(settings.host) and not settings.hosts
    if not is_loopback(settings.host) and not settings.token:
        raise UsageError(
            f"on {settings.host} anyone who can reach this machine could run workflows",
            hint=f"set KINOGRAPH_TOKEN to a secret of at least {LEAST_LENGTH} characters",
        )
    if settings.token and not is_local:
        check_length(settings.token)
    for offer in registry.packs:
        if offer.problem:
            print(f"warning: {offer} {offer.problem}", file=sys.stderr)
    with Log() as log:
        asyncio.run(_serve(settings, registry, log, as_json))


async def _serve(settings: ServerSettings, registry: Registry, log: Log, as_json: bool) -> None:
    listener = _listen(settings)
    app = make_app(settings, registry)
    how: dict[str, Any] = {
        "access_log_class": Answered,
        "keepalive_timeout": IDLE_SECONDS,
        "lingering_time": LINGER_SECONDS,
    }
    runner = web.AppRunner(app, shutdown_timeout=2.0, **how)
    stopped = asyncio.Event()
    _on_stop(stopped.set)
    try:
        await runner.setup()
        assert runner.server
        loop, handler = asyncio.get_running_loop(), partial(Handler, runner.server, **how)
        serving = await loop.create_server(
            app[CONNECTIONS].factory(partial(handler, loop=loop)), sock=listener, backlog=capacity().accepted
        )
        listener.listen(BACKLOG)  # more may wait than are accepted at once
        watching = [asyncio.create_task(task) for task in (app[CONNECTIONS].watch(), log.count())]
        _announce(settings, listener.getsockname()[1], as_json)
        await stopped.wait()
        serving.close()
        for task in watching:
            task.cancel()
    finally:
        await runner.cleanup()


def _on_stop(stop: Callable[[], object]) -> None:
    """Call this in the event loop on Ctrl-C or SIGTERM."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))


def _listen(settings: ServerSettings) -> socket.socket:
    """A socket bound to the server's address; raises UsageError if it can't be bound."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"can't listen on {settings.host}:{settings.port}: {error.strerror}", hint="use --port 0 for any free port"
        ) from None
    return listener


def _announce(settings: ServerSettings, port: int, as_json: bool) -> None:
    """Print the server's address."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{port}/" + (f"?token={quote(settings.token, safe='')}" if settings.token else "")
    if as_json:
        print(json.dumps({"event": "serving", "address": address}), flush=True)
    else:
        print(address, flush=True)
        print("Press Ctrl-C to stop the server; the queue is kept.", file=sys.stderr)
