"""The server's health and metrics, for people and for Prometheus."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from engine.errors import StorageError
from engine.server.http.connections import CONNECTIONS
from engine.server.http.routes import OWN, Routes
from engine.server.http.settings import SETTINGS
from engine.server.jobs.queue import QUEUE
from engine.server.jobs.workers import WORKERS
from engine.server.live.clients import CLIENTS
from engine.work.queue import Jobs

routes = Routes("control")


@routes.get(f"{OWN}/health")
async def health(request: web.Request) -> dict[str, Any]:
    """Whether the server can run jobs: "ok", "starting", or "failing" with the reasons why no worker can start.

    Also its workers, what each is running, and `notices` of what is wrong with the queue: that its file can't be used,
    or was damaged when the server started.
    """
    pool, queue = request.app[WORKERS], request.app[QUEUE]
    notices = [queue.notice] if queue.notice else []
    try:
        await queue.ask(Jobs.counts)
        works = True
    except StorageError as error:
        works, notices = False, [*notices, str(error)]
    notices, nbytes = request.app[SETTINGS].shown(notices), await pool.nbytes()
    workers = [{"device": each.device, "job": each.job, "bytes": taken} for each, taken in nbytes.items() if each.ready]
    status = "failing" if not works else "ok" if workers else "failing" if pool.problems else "starting"
    return {"status": status, "workers": workers, "problems": pool.problem_data(), "notices": notices}


@routes.get(f"{OWN}/metrics", gives="text/plain")
async def metrics(request: web.Request) -> web.Response:
    """Counts in Prometheus' text format."""
    app = request.app
    counts, nbytes = await app[QUEUE].ask(Jobs.counts), await app[WORKERS].nbytes()
    lines = ["# HELP kinograph_jobs Jobs in the queue and its history, by state.", "# TYPE kinograph_jobs gauge"]
    lines += [f'kinograph_jobs{{state="{state}"}} {count}' for state, count in counts.items()]
    lines += ["# HELP kinograph_clients WebSocket clients.", "# TYPE kinograph_clients gauge"]
    lines += [f"kinograph_clients {len(app[CLIENTS])}"]
    lines += ["# HELP kinograph_connections Open connections.", "# TYPE kinograph_connections gauge"]
    lines += [f"kinograph_connections {len(app[CONNECTIONS])}"]
    lines += ["# HELP kinograph_worker_bytes Memory of each worker.", "# TYPE kinograph_worker_bytes gauge"]
    lines += [f'kinograph_worker_bytes{{device="{each.device}"}} {taken}' for each, taken in nbytes.items()]
    return web.Response(text="\n".join(lines) + "\n", content_type="text/plain", charset="utf-8")
