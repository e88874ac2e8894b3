"""ComfyUI's routes for jobs: /prompt, /queue, /history, /jobs, /interrupt, /free."""

from __future__ import annotations

import asyncio
import uuid
from typing import Annotated, Any

from aiohttp import web
from pydantic import AfterValidator, Field

from engine.document.formats import converted, is_graph
from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.errors import MissingError, Problem, UsageError, WorkflowError
from engine.server.comfyui.messages import last_message, outputs_of
from engine.server.http.routes import Body, Query, Routes, problem_data
from engine.server.http.settings import REGISTRY, SETTINGS
from engine.server.jobs.checking import Checked, examine_parts, node_errors, parsed
from engine.server.jobs.queue import QUEUE
from engine.server.jobs.workers import WORKERS
from engine.work.queue import ENDED, Job, Jobs, Request

routes = Routes("jobs")

SECRETS = ("auth_token_comfy_org", "api_key_comfy_org")
"""What of `extra_data` nothing here needs, and nobody else should read: it is neither kept nor told."""
MOST_SHOWN = 10_000
"""Jobs that are listed at once."""
LOST_SECONDS = 0.1
"""How often it is looked whether a job whose worker is gone waits again."""


def _one_word(id: str | None) -> str | None:
    if id is not None and not (id.strip() and id.isprintable() and "/" not in id):
        raise ValueError("an id is printable and without '/'")
    return id


JobId = Annotated[str | None, Field(max_length=200), AfterValidator(_one_word)]
"""The id that a client chooses for a job; None if it is to be chosen here."""


class Prompt(Body):
    """A workflow to be run."""

    prompt: dict[str, Any] = Field(default_factory=dict)
    """The workflow: a document, a bare API graph, or an editor's own format."""
    client_id: str | None = Field(None, max_length=200)
    """Which WebSocket client is told of it."""
    prompt_id: JobId = None
    """The job's id, if the client chooses it."""
    number: float | None = None
    """Below 0 it goes first."""
    front: bool = False
    """Whether it goes before all others of its priority."""
    priority: int = Field(0, ge=-1000, le=1000)
    """Higher ones go first."""
    partial_execution_targets: list[str] | None = None
    """The nodes whose outputs are wanted; all that save if it is left out."""
    whole: bool = False
    """Whether it is refused if it isn't sound, or, of one with targets, what leads to them isn't, instead of being run
    in part."""
    extra_data: dict[str, Any] | None = None
    """Kept with the job, but for the keys to others' services that clients send along."""

    @property
    def client(self) -> str | None:
        """The client, wherever it names itself; "" is none."""
        named = self.client_id or (self.extra_data or {}).get("client_id")
        return named if isinstance(named, str) and named else None

    @property
    def extra(self) -> dict[str, Any]:
        """What is kept."""
        return {name: value for name, value in (self.extra_data or {}).items() if name not in SECRETS}


@routes.post("/prompt", gives="application/json")
async def prompt(request: web.Request, body: Prompt) -> web.Response:
    """Put a workflow into the queue.

    What can't be run of it is left out and reported under `node_errors`; if nothing can, or `whole` is asked for, it is
    refused.
    """
    app = request.app
    if not body.prompt:
        raise UsageError("there is no prompt", hint='send {"prompt": {…}}')
    workflow = await parsed(app, body.prompt)
    if is_graph(body.prompt):
        workflow = await asyncio.to_thread(converted, workflow, app[REGISTRY])
    targets = body.partial_execution_targets
    prepared = await asyncio.to_thread(prepare, workflow, app[REGISTRY])
    whole, part = await asyncio.to_thread(examine_parts, prepared, app[SETTINGS], targets)
    left_out = part is not whole and (targets is None or {*targets} != {*part.targets})
    if not part.can_run or (body.whole and left_out):
        return _refused(whole)
    asked = Request(
        body.prompt_id or uuid.uuid4().hex,
        part.prepared.workflow.document(),
        workflow.title,
        body.client,
        part.targets if part is not whole else targets,
        extra=body.extra,
    )
    front = body.front or (body.number or 0) < 0
    number = await submit(app, asked, front=front, priority=body.priority)
    errors = node_errors(whole) if part is not whole else {}
    return web.json_response({"prompt_id": asked.id, "number": number, "node_errors": errors})


async def submit(app: web.Application, asked: Request, *, front: bool = False, priority: int = 0) -> int:
    """Put a job into the queue and wake who does it; returns its number."""
    try:
        number = await app[QUEUE].change(Jobs.add, asked, front=front, priority=priority)
    except ValueError as error:
        raise UsageError(str(error), hint="leave prompt_id out") from None
    app[WORKERS].wake()
    return number


def _refused(checked: Checked) -> web.Response:
    problems = [*checked.problems, *checked.missing] or [Problem("the workflow has no node that saves something")]
    error = {
        "type": "prompt_outputs_failed_validation",
        "message": str(problems[0]),
        "details": "\n".join(map(str, problems)),
        "extra_info": {"kind": (WorkflowError if checked.problems or not checked.missing else MissingError).__name__},
    }
    data = {"error": error, "node_errors": node_errors(checked), "problems": [*map(problem_data, problems)]}
    return web.json_response(data, status=400)


@routes.get("/prompt")
async def remaining(request: web.Request) -> dict[str, Any]:
    """How many jobs wait or run."""
    return {"exec_info": {"queue_remaining": await left(request.app)}}


async def left(app: web.Application) -> int:
    """How many jobs wait or run, as far as clients know: some listen no longer once it is none."""
    return await app[QUEUE].ask(Jobs.remaining)


@routes.get("/queue")
async def queue(request: web.Request) -> dict[str, list[Any]]:
    """The jobs that run, and those that wait, in order."""

    def told(jobs: Jobs) -> dict[str, list[Any]]:
        rows = {"queue_running": jobs.running(), "queue_pending": jobs.pending(MOST_SHOWN)}
        return {name: [_row(job, jobs.request(job.id)) for job in listed] for name, listed in rows.items()}

    return await request.app[QUEUE].look(told)


class Ids(Body):
    clear: bool = False
    """All of them."""
    delete: list[str] = Field(default_factory=list)
    """These."""


@routes.post("/queue")
async def clear_queue(request: web.Request, body: Ids) -> dict[str, Any]:
    """Cancel jobs that wait."""
    if body.clear or body.delete:
        await request.app[QUEUE].change(Jobs.cancel, None if body.clear else body.delete)
    return {}


class Page(Query):
    max_items: int = Field(MOST_SHOWN, ge=0, le=MOST_SHOWN)
    offset: int = Field(-1, ge=-1, le=2**53)


@routes.get("/history")
async def history(request: web.Request, query: Page) -> dict[str, Any]:
    """The jobs that have ended, oldest first: the last `max_items`, or those from `offset` on."""

    def told(jobs: Jobs) -> dict[str, Any]:
        if query.offset < 0:
            found = jobs.ended(query.max_items)
        else:
            counts = jobs.counts()
            end = sum(counts[state] for state in ENDED) - query.offset  # the list is the other way round
            begin = max(0, end - query.max_items)
            found = jobs.ended(max(0, end - begin), begin)
        return {job.id: _past(job, jobs.request(job.id)) for job in reversed(found)}

    return await request.app[QUEUE].look(told)


@routes.get("/history/{prompt_id}")
async def history_of(request: web.Request, prompt_id: str) -> dict[str, Any]:
    """A job that has ended; nothing if it hasn't, or if there is none."""

    def told(jobs: Jobs) -> dict[str, Any]:
        job = jobs.get(prompt_id)
        return {job.id: _past(job, jobs.request(job.id))} if job and job.state in ENDED else {}

    return await request.app[QUEUE].ask(told)


@routes.post("/history")
async def clear_history(request: web.Request, body: Ids) -> dict[str, Any]:
    """Forget jobs that have ended; their files stay."""
    if body.clear or body.delete:
        await request.app[QUEUE].change(Jobs.forget, None if body.clear else body.delete)
    return {}


class Which(Body):
    prompt_id: str | None = None
    """The job; whatever runs if it is left out."""


@routes.post("/interrupt")
async def interrupt(request: web.Request, body: Which) -> dict[str, Any]:
    """End what runs, at its next step."""
    for job in await request.app[QUEUE].ask(Jobs.running):
        if body.prompt_id in (None, job.id):
            await cancel(request.app, job.id)
    return {}


class Free(Body):
    unload_models: bool = False
    free_memory: bool = False


@routes.post("/free")
async def free(request: web.Request, body: Free) -> dict[str, Any]:
    """Drop models and results that are held in memory, once nothing runs; those on disk stay."""
    if body.unload_models or body.free_memory:
        request.app[WORKERS].free()
    return {}


class Part(Query):
    limit: int = Field(100, ge=0, le=MOST_SHOWN)
    offset: int = Field(0, ge=0, le=2**53)


@routes.get("/api/jobs")
async def jobs(request: web.Request, query: Part) -> dict[str, Any]:
    """All jobs: those that run, those that wait, those that have ended."""

    def told(jobs: Jobs) -> dict[str, Any]:
        listed = [*jobs.running(), *jobs.pending(MOST_SHOWN), *jobs.ended(query.limit, query.offset)]
        counts = jobs.counts()
        past = sum(counts[state] for state in ENDED)
        page = {"offset": query.offset, "limit": query.limit, "total": sum(counts.values())}
        page["has_more"] = query.offset + query.limit < past
        return {"jobs": [_listed(job) for job in listed], "pagination": page}

    return await request.app[QUEUE].look(told)


@routes.get("/api/jobs/{id}")
async def job(request: web.Request, id: str) -> dict[str, Any]:
    """One job."""
    found = await request.app[QUEUE].ask(Jobs.get, id)
    if found is None:
        raise MissingError(f"there is no job '{id}'")
    return _listed(found)


@routes.post("/api/jobs/{id}/cancel")
async def cancel_job(request: web.Request, id: str) -> dict[str, bool]:
    """End a job, whether it waits or runs."""
    return {"cancelled": await cancel(request.app, id)}


async def cancel(app: web.Application, id: str) -> bool:
    """End a job that waits or runs; False if it does neither."""
    while not await app[QUEUE].change(Jobs.cancel, [id]):
        job = await app[QUEUE].ask(Jobs.get, id)
        if job is None or job.state != "running":
            return False
        if app[WORKERS].cancel(id, job.worker):
            return True
        await asyncio.sleep(LOST_SECONDS)
    return True


def _graph(asked: Request | None) -> dict[str, Any]:
    return Workflow.read(dict(asked.document)).api() if asked else {}


def _row(job: Job, asked: Request | None) -> list[Any]:
    """A job as the protocol lists it."""
    extra = {**(asked.extra if asked else {}), "client_id": job.client, "create_time": int(job.created * 1000)}
    return [job.number, job.id, _graph(asked), extra, list((asked and asked.targets) or ())]


def _past(job: Job, asked: Request | None) -> dict[str, Any]:
    """A job that has ended, as the protocol tells it."""
    about = {"prompt_id": job.id, "timestamp": int((job.started or job.created) * 1000)}
    messages: list[Any] = [["execution_start", about]]
    if "held" in job.record:
        messages.append(["execution_cached", {**about, "nodes": job.record["held"]}])
    messages.append(list(last_message(job, list(job.record.get("timings", ())))))
    done = job.state == "done"
    return {
        "prompt": _row(job, asked),
        "outputs": outputs_of(job.outputs),
        "status": {"status_str": "success" if done else "error", "completed": done, "messages": messages},
        "meta": {},
    }


_STATES = {"pending": "pending", "running": "in_progress", "done": "completed", "failed": "failed"}


def _listed(job: Job) -> dict[str, Any]:
    times = {"create_time": job.created, "execution_start_time": job.started, "execution_end_time": job.finished}
    return {
        "id": job.id,
        "status": _STATES.get(job.state, job.state),
        "priority": job.priority,
        "outputs": outputs_of(job.outputs),
        "outputs_count": sum(len(files) for given in job.outputs.values() for files in given.values()),
        **{name: seconds and int(seconds * 1000) for name, seconds in times.items()},
    }
