"""ComfyUI's routes that add, cancel and remove jobs: /prompt, /queue, /history, /interrupt, /free."""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import replace
from typing import Annotated, Any

from aiohttp import web
from pydantic import AfterValidator, Field

from engine.document.formats import converted, is_graph
from engine.document.prepared import prepare
from engine.errors import UsageError
from engine.server.comfyui.refusals import node_errors, node_warnings, refused
from engine.server.http.limits import MOST_LISTED
from engine.server.http.routes import Body, Routes
from engine.server.http.settings import REGISTRY, SETTINGS
from engine.server.jobs.checking import examine_parts, parsed
from engine.server.jobs.queue import QUEUE
from engine.server.jobs.workers import WORKERS
from engine.work.queue import Jobs
from engine.work.records import Request
from engine.work.reporting import shortened

routes = Routes("jobs")
logger = logging.getLogger("kinograph")

MOST_LOGGED = 10
"""Most values of a workflow that the log tells as ignored."""
SECRETS = ("auth_token_comfy_org", "api_key_comfy_org")
"""Keys of `extra_data` that are secret and not needed here: they are neither stored nor sent to anyone."""
LONGEST_TITLE = 200
"""Characters of a title in lists, which are sent to many clients; the document has all of it."""
LONGEST_CLIENT = 200
"""Characters of a client's id."""
LOST_SECONDS = 0.1
"""How often to check whether a job whose worker is gone is pending again."""


def _one_word(id: str | None) -> str | None:
    if id is not None and not (id.strip() and id.isprintable() and "/" not in id):
        raise ValueError("an id must be printable, and without '/'")
    return id


def _with_client(extra: dict[str, Any] | None) -> dict[str, Any] | None:
    named = (extra or {}).get("client_id")
    if isinstance(named, str) and len(named) > LONGEST_CLIENT:
        raise ValueError(f"client_id should have at most {LONGEST_CLIENT} characters")
    return extra


JobId = Annotated[str | None, Field(max_length=200), AfterValidator(_one_word)]
"""The id that a client chooses for a job; None if the server is to choose one."""


class Prompt(Body):
    """A workflow to run."""

    prompt: dict[str, Any] = Field(default_factory=dict)
    """The workflow: a document, a bare API graph, or ComfyUI's UI format."""
    client_id: str | None = Field(None, max_length=LONGEST_CLIENT)
    """The WebSocket client that receives the job's progress."""
    prompt_id: JobId = None
    """The job's id, if the client chooses it."""
    number: float | None = None
    """If negative, the job goes first, as with `front`; else before those whose number is higher."""
    front: bool = False
    """Whether it goes before all other jobs of its priority."""
    priority: int = Field(0, ge=-1000, le=1000)
    """Jobs with a higher priority run first."""
    partial_execution_targets: list[str] | None = Field(None, max_length=MOST_LISTED)
    """The nodes whose outputs are wanted; if omitted, all that save."""
    whole: bool = False
    """Whether to refuse a workflow of which a part can't be run; with targets, what leads to them counts."""
    extra_data: Annotated[dict[str, Any] | None, AfterValidator(_with_client)] = None
    """Kept with the job, except for the keys to other services that clients send along."""

    @property
    def client(self) -> str | None:
        """The client's id, from `client_id` or `extra_data`; "" counts as none."""
        named = self.client_id or (self.extra_data or {}).get("client_id")
        return named if isinstance(named, str) and named else None

    @property
    def extra(self) -> dict[str, Any]:
        """The part of `extra_data` that is kept."""
        return {name: value for name, value in (self.extra_data or {}).items() if name not in SECRETS}


@routes.post("/prompt", gives="application/json")
async def prompt(request: web.Request, body: Prompt) -> web.Response:
    """Add a workflow to the queue.

    Parts that can't be run are left out and reported under `node_errors`; if no part can be run, or `whole` is set, the
    workflow is refused. Values that a document's nodes don't have are mistakes; a graph's are ignored, and reported
    under `node_warnings`.
    """
    app = request.app
    if not body.prompt:
        raise UsageError("the request has no prompt", hint='send {"prompt": {…}}')
    workflow = await parsed(app, body.prompt)
    if is_graph(body.prompt):
        workflow = await asyncio.to_thread(converted, workflow, app[REGISTRY])
    targets = body.partial_execution_targets
    prepared = await asyncio.to_thread(prepare, workflow, app[REGISTRY])
    whole, part = await asyncio.to_thread(examine_parts, prepared, app[SETTINGS], targets)
    left_out = part is not whole and (targets is None or {*targets} != {*part.targets})
    if not part.can_run or (body.whole and left_out):
        return refused(whole, targets)
    job_request = Request(
        body.prompt_id or uuid.uuid4().hex,
        await asyncio.to_thread(part.prepared.workflow.document),
        workflow.title,
        body.client,
        part.targets if part is not whole else targets,
        extra=body.extra,
    )
    front = body.front or (body.number or 0) < 0
    number = await submit(app, job_request, front=front, priority=body.priority, rank=body.number)
    shown = app[SETTINGS].shown
    errors = shown(node_errors(whole, targets)) if part is not whole else {}
    answer = {"prompt_id": job_request.id, "number": number, "node_errors": errors}
    if ignored := part.prepared.ignored:
        listed = "; ".join(map(str, ignored[:MOST_LOGGED]))
        logger.warning("job %s: %d values are ignored: %s", job_request.id, len(ignored), listed)
        answer["node_warnings"] = shown(node_warnings(part.prepared))
    return web.json_response(answer)


async def submit(
    app: web.Application,
    job_request: Request,
    *,
    front: bool = False,
    priority: int = 0,
    rank: float | None = None,
) -> int:
    """Add a job to the queue and wake the workers; returns its number."""
    job_request = replace(job_request, title=shortened(job_request.title, LONGEST_TITLE))
    try:
        number = await app[QUEUE].change(Jobs.add, job_request, front=front, priority=priority, rank=rank)
    except ValueError as error:
        raise UsageError(str(error), hint="choose another prompt_id, or omit it") from None
    app[WORKERS].wake()
    return number


@routes.get("/prompt")
async def remaining(request: web.Request) -> dict[str, Any]:
    """Count the jobs that are pending or running."""
    return {"exec_info": {"queue_remaining": await left(request.app)}}


async def left(app: web.Application) -> int:
    """How many jobs are pending or running, as clients see it: some stop listening once none is left."""
    return await app[QUEUE].ask(Jobs.remaining)


class Ids(Body):
    clear: bool = False
    """All jobs."""
    delete: list[str] = Field(default_factory=list, max_length=MOST_LISTED)
    """The ids of some jobs."""


@routes.post("/queue")
async def clear_queue(request: web.Request, body: Ids) -> dict[str, Any]:
    """Cancel pending jobs."""
    if body.clear or body.delete:
        await request.app[QUEUE].change(Jobs.cancel, None if body.clear else body.delete)
    return {}


@routes.post("/history")
async def clear_history(request: web.Request, body: Ids) -> dict[str, Any]:
    """Remove ended jobs from the history; their files stay."""
    if body.clear or body.delete:
        await request.app[QUEUE].change(Jobs.forget, None if body.clear else body.delete)
    return {}


class Which(Body):
    prompt_id: str | None = None
    """The job; if omitted, all that are running."""


@routes.post("/interrupt")
async def interrupt(request: web.Request, body: Which) -> dict[str, Any]:
    """Cancel running jobs, at their next step."""
    for job in await request.app[QUEUE].ask(Jobs.running):
        if body.prompt_id in (None, job.id):
            await cancel(request.app, job.id)
    return {}


class Free(Body):
    unload_models: bool = False
    free_memory: bool = False


@routes.post("/free")
async def free(request: web.Request, body: Free) -> dict[str, Any]:
    """Drop models and results from memory once nothing is running; results on disk stay."""
    if body.unload_models or body.free_memory:
        request.app[WORKERS].free()
    return {}


@routes.post("/api/jobs/{id}/cancel")
async def cancel_job(request: web.Request, id: str) -> dict[str, bool]:
    """Cancel a pending or running job."""
    return {"cancelled": await cancel(request.app, id)}


async def cancel(app: web.Application, id: str) -> bool:
    """Cancel a pending or running job; False if it is neither."""
    while not await app[QUEUE].change(Jobs.cancel, [id]):
        job = await app[QUEUE].ask(Jobs.get, id)
        if job is None or job.state != "running":
            return False
        if app[WORKERS].cancel(id, job.worker):
            return True
        await asyncio.sleep(LOST_SECONDS)
    return True
