"""The application: routes, guard, and the services that run as long as the server."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web
from filelock import FileLock, Timeout

from engine.errors import StorageError, UsageError
from engine.registry import Registry
from engine.server.comfyui import files, folders, lists, object_info, prompts, userdata
from engine.server.files import previews
from engine.server.http import openapi
from engine.server.http.connections import CONNECTIONS, Connections, capacity, watched
from engine.server.http.guard import add_headers, guard
from engine.server.http.journal import JOURNAL, Journal
from engine.server.http.peers import PEERS, Peers
from engine.server.http.routes import Routes, add_to, errors, without_paths
from engine.server.http.settings import REGISTRY, SETTINGS, ServerSettings
from engine.server.http.tokens import TOKENS, Tokens
from engine.server.jobs.queue import QUEUE, Queue
from engine.server.jobs.workers import WORKERS, WorkerPool
from engine.server.live import logs, monitoring, websocket
from engine.server.live.broadcast import BROADCASTER, Broadcaster
from engine.server.live.clients import CLIENTS, Clients
from engine.server.own import control, gallery, models, packs, workflows
from engine.work.messages import Report
from engine.work.queue import Jobs

logger = logging.getLogger("kinograph")

EDITOR = Path(__file__).resolve().parent / "editor"
"""The built editor."""
NO_EDITOR = """<!doctype html><html lang="en"><title>Kinograph</title>
<h1>Kinograph is running</h1>
<p>The editor has not been built in this copy: <code>make serve</code> builds it.
The <a href="/api/kinograph/docs">API</a> works without it.</p></html>
"""
ROUTES: tuple[Routes, ...] = tuple(
    module.routes
    for module in (
        *(prompts, lists, logs, folders, control, monitoring, websocket, files, gallery),
        *(models, packs, workflows, object_info, userdata, openapi),
    )
)


def make_app(settings: ServerSettings, registry: Registry) -> web.Application:
    """The application, with all its services; they stop when it does."""
    app = web.Application(middlewares=[watched, without_paths, errors, guard], client_max_size=settings.body_limit)
    app[SETTINGS], app[REGISTRY], app[CLIENTS] = settings, registry, Clients()
    app[PEERS] = Peers()
    app[TOKENS] = Tokens(settings.token) if settings.token else None
    app[CONNECTIONS] = Connections(capacity().open, settings.patience)
    app[JOURNAL] = Journal()
    for routes in ROUTES:
        add_to(app, routes)
    app.router.add_get("/", _editor)
    if (EDITOR / "assets").is_dir():
        app.router.add_static("/assets", EDITOR / "assets")
    app.on_response_prepare.append(add_headers)
    app.on_shutdown.append(_disconnect_clients)

    def notify(message: dict[str, Any]) -> None:
        app[CLIENTS].send_native("model", settings.shown(message) if "error" in message else message, needed=False)

    app[models.NOTIFY] = notify
    app[models.DEVICES] = {}
    app.cleanup_ctx.extend([logs.journaling, _run_services, models.fetching, previews.decoding])
    return app


async def _run_services(app: web.Application) -> AsyncIterator[None]:
    """Run queue, workers and broadcaster as long as the server; a lock keeps other servers out of its folder."""
    settings = app[SETTINGS]
    settings.folders.make()
    lock = FileLock(settings.folders.data / "server.lock")
    try:
        lock.acquire(timeout=2)
    except Timeout:
        raise UsageError(
            f"another server uses {settings.folders.data}", hint="stop it, or give this one another --data folder"
        ) from None
    try:
        shutil.rmtree(settings.folders.temp)
        settings.folders.make()
        queue = app[QUEUE] = Queue(settings.folders.data / "jobs.sqlite")
        if queue.notice:
            logger.error("%s", queue.notice)
        for job in await queue.change(Jobs.restart):
            logger.error("job %s has failed: %s", job.id, job.record["problems"][0]["message"])
        broadcaster = app[BROADCASTER] = Broadcaster(app, app[CLIENTS], queue)
        queue.on_change.append(broadcaster.queue_changed)

        def publish(report: Report, data: bytes) -> None:
            logs.note(app[JOURNAL], report)
            broadcaster.publish(report, data)

        pool = WorkerPool(settings, queue, app[models.DEVICES], publish, broadcaster.worker_lost)
        app[WORKERS] = pool
        pool.start()
        broadcasting = asyncio.create_task(broadcaster.run())
        yield
        broadcasting.cancel()
        await pool.close()
        with suppress(asyncio.CancelledError):
            await broadcasting
        try:
            await queue.ask(Jobs.suspend)
        except StorageError as error:  # at the next start they count as attempts
            logger.error("running jobs could not be put back into the queue: %s", error)
        await queue.close()
    finally:
        lock.release()


async def _disconnect_clients(app: web.Application) -> None:
    """Close all connections before anything else: the shutdown waits for them."""
    await app[CLIENTS].close()


async def _editor(request: web.Request) -> web.StreamResponse:
    """The editor's page, never cached without revalidation: the files it names change with every version."""
    if (EDITOR / "index.html").is_file():
        return web.FileResponse(EDITOR / "index.html", headers={"Cache-Control": "no-cache"})
    return web.Response(text=NO_EDITOR, content_type="text/html")
