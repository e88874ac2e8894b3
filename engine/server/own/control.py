"""Kinograph's own routes for workflows and jobs: check, convert, sweep; reorder, pause, retry."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, Literal

from aiohttp import web
from pydantic import Field
from pydantic_core import to_json

from engine.document.prepared import Prepared
from engine.document.reading import Document, read
from engine.document.tags import tags
from engine.errors import KinographError, MissingError, UsageError
from engine.run.sweep import Axis, combinations
from engine.server.comfyui.files import received
from engine.server.comfyui.lists import ENTRY_BYTES
from engine.server.comfyui.prompts import JobId, cancel, submit
from engine.server.http.limits import MOST_LISTED, TooLargeError, check_values, in_turn
from engine.server.http.routes import OWN, Answer, Body, Query, Routes, problems_data, read_json
from engine.server.http.settings import REGISTRY, SETTINGS
from engine.server.jobs.checking import check_nodes, examined, prepared
from engine.server.jobs.queue import QUEUE
from engine.server.jobs.workers import WORKERS
from engine.work.queue import Jobs
from engine.work.records import ENDED, Job, Order, Request, State

routes = Routes("control")
MOST_SWEPT = 100_000
"""Nodes of all combinations of a sweep; checking them takes some seconds."""
SHOWN_PENDING = 100
"""Most pending jobs in the overview that is sent at every change."""


class Checkable(Body):
    workflow: dict[str, Any]
    """A document, a bare API graph, or ComfyUI's UI format."""


@routes.post(f"{OWN}/validate")
async def validate(request: web.Request, body: Checkable) -> dict[str, Any]:
    """Check a workflow without running it; lists its problems, what is missing or to be fetched, and warnings."""
    found = await examined(request.app, await prepared(request.app, body.workflow))
    shown = request.app[SETTINGS].shown
    return {
        "valid": found.can_run,
        "nodes": found.nodes,
        "targets": found.targets,
        "problems": shown(problems_data(found.problems)),
        "missing": shown(problems_data(found.missing)),
        "to_fetch": await asyncio.to_thread(found.to_fetch),
        "warnings": shown(problems_data(found.prepared.warnings)),
    }


class Carrier(Body):
    file: bytes
    """A JSON file, or a PNG or MP4 that carries its workflow."""


class Converted(Answer):
    document: dict[str, Any]
    """The same workflow as a document."""
    warnings: list[dict[str, str | None]]
    """What the document doesn't have, such as values for which nodes have no input: message, node, input, and hint."""


@routes.post(f"{OWN}/convert", form=Carrier)
async def convert(request: web.Request) -> Converted:
    """Convert a workflow in any format to a document with today's input names: JSON as for `validate`, or a file."""
    app = request.app
    if request.content_type != "multipart/form-data":
        body = Checkable.model_validate(await read_json(request))
        ready = await prepared(app, body.workflow)
        document = await asyncio.to_thread(ready.workflow.document)
    else:
        async with received(request, "file") as upload:
            ready, document = await in_turn(_carried, upload.file, app)
    return converted(ready, document, app)


def converted(ready: Prepared, document: dict[str, Any], app: web.Application) -> Converted:
    """A workflow as a document, with what was left out when it was read."""
    return Converted(document=document, warnings=app[SETTINGS].shown(problems_data(ready.ignored)))


def _carried(path: Path, app: web.Application) -> tuple[Prepared, dict[str, Any]]:
    """The workflow in a file, which may carry or be no more than a request may be; and as a document."""
    texts, limit = tags(path), app[SETTINGS].body_limit
    size = path.stat().st_size if texts is None else sum(map(len, texts.values()))
    if size > limit:
        raise TooLargeError(f"the workflow has {size:,} bytes; the server reads at most {limit:,}")
    check_values(path.read_bytes() if texts is None else "".join(texts.values()))
    found = read(str(path), app[REGISTRY])
    check_nodes(found.workflow)
    return found.prepared, found.document()


class Axes(Body):
    name: str
    """The input: `node.input`, or a name that the workflow exposes."""
    values: list[Any] = Field(min_length=1, max_length=MOST_LISTED)
    """The values that it takes, one after the other."""


class Sweep(Checkable):
    axes: list[Axes] = Field(min_length=1, max_length=4)
    client_id: str | None = Field(None, max_length=200)
    prompt_id: JobId = None
    """The job's id, if the client chooses it."""
    priority: int = Field(0, ge=-1000, le=1000)


@routes.post(f"{OWN}/sweeps")
async def sweep(request: web.Request, body: Sweep) -> dict[str, Any]:
    """Run a workflow with every combination of values of some inputs; makes a contact sheet and a table."""
    app = request.app
    ready = await prepared(app, body.workflow)
    title = ready.workflow.title
    axes = [Axis.of(axis.name, axis.values) for axis in body.axes]
    count = prod(len(axis.values) for axis in axes)
    if (nodes := count * len(ready.active.graph)) > MOST_SWEPT:
        raise UsageError(
            f"the {count:,} combinations have {nodes:,} nodes together; the server takes at most {MOST_SWEPT:,}",
            hint="give fewer values, in several sweeps",
        )
    made = await asyncio.to_thread(combinations, Document(ready, title, None), axes, from_cwd=False)
    for document in made.values():
        found = await examined(app, document.prepared)
        if not found.can_run:
            raise found.error()
    name = body.prompt_id or uuid.uuid4().hex
    job = Request(
        name, ready.workflow.document(), title or "Sweep", body.client_id, axes=[axis.data() for axis in axes]
    )
    number = await submit(app, job, priority=body.priority)
    return {"prompt_id": job.id, "number": number, "combinations": len(made)}


@routes.get(f"{OWN}/queue")
async def queue(request: web.Request) -> dict[str, Any]:
    """The running and the pending jobs, in order."""
    return await overview(request.app)


async def overview(app: web.Application) -> dict[str, Any]:
    """The running jobs, the first pending ones, the number of pending ones, why devices have no worker, and that the
    queue was damaged when the server started.
    """

    def read(jobs: Jobs) -> dict[str, Any]:
        return {
            "paused": jobs.paused,
            "running": [job_data(job) for job in jobs.running()],
            "pending": [job_data(job) for job in jobs.pending(SHOWN_PENDING)],
            "total_pending": jobs.counts()["pending"],
        }

    notices = app[WORKERS].settings.shown([app[QUEUE].notice] if app[QUEUE].notice else [])
    return {**await app[QUEUE].ask(read), "problems": app[WORKERS].problem_data(), "notices": notices}


ORDERS_SHOWN: Mapping[State, Order] = {"pending": "first to run", "running": "first started"}
"""In which order the jobs of some states are listed; others, the last ended first."""


class Listing(Query):
    state: Literal["pending", "running", "done", "failed", "cancelled"] | None = None
    limit: int = Field(50, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=2**53)


@routes.get(f"{OWN}/jobs", gives="application/json")
async def listing(request: web.Request, query: Listing) -> web.Response:
    """Jobs in one state, or all that have ended; fewer than `limit` if they would make more than 16 MB."""

    def read(jobs: Jobs) -> bytes:
        states = [query.state] if query.state else ENDED
        order = ORDERS_SHOWN.get(query.state or "done", "last ended")
        found, nbytes = list[bytes](), 0
        for name in jobs.ids(states, order, query.limit, query.offset):
            if nbytes <= ENTRY_BYTES and (job := jobs.get(name)):
                found.append(to_json(job_data(job)))
                nbytes += len(found[-1])
        return b'{"jobs":[' + b",".join(found) + b'],"total":' + to_json(jobs.count(states)) + b"}"

    return web.Response(body=await request.app[QUEUE].ask_slow(read), content_type="application/json")


@routes.get(f"{OWN}/jobs/{{id}}")
async def one(request: web.Request, id: str) -> dict[str, Any]:
    """A job, with its workflow and how it ended."""

    def read(jobs: Jobs) -> dict[str, Any]:
        job, job_request = jobs.get(id), jobs.request(id)
        if job is None or job_request is None:
            raise MissingError(f"there is no job '{id}'")
        lines = map(Axis.read, job_request.axes)
        axes = [{"name": axis.name, "values": axis.constants or axis.values} for axis in lines]
        return {**job_data(job), "document": job_request.document, "axes": axes, "record": job.record}

    return await request.app[QUEUE].ask(read)


@routes.post(f"{OWN}/jobs/{{id}}/cancel")
async def cancel_one(request: web.Request, id: str) -> dict[str, bool]:
    """Cancel a pending or running job."""
    if not await cancel(request.app, id):
        raise await _refusal(request, id, "is neither pending nor running")
    return {"cancelled": True}


@routes.post(f"{OWN}/jobs/{{id}}/retry")
async def retry(request: web.Request, id: str) -> dict[str, bool]:
    """Run a failed or cancelled job again; finished results are taken from the cache."""
    if not await request.app[QUEUE].change(Jobs.retry, id):
        raise await _refusal(request, id, "has neither failed nor been cancelled")
    request.app[WORKERS].wake()
    return {"pending": True}


class Move(Body):
    before: str | None = None
    """The job before which it is put; it takes that job's priority."""
    to: Literal["front", "back"] | None = None


@routes.post(f"{OWN}/jobs/{{id}}/move")
async def move(request: web.Request, id: str, body: Move) -> dict[str, bool]:
    """Change the position of a pending job."""
    if (body.before is None) == (body.to is None):
        raise UsageError("a job is moved either 'before' another job or 'to' an end", hint="give exactly one of them")
    if not await request.app[QUEUE].change(Jobs.move, id, before=body.before, front=body.to == "front"):
        raise await _refusal(request, id, "can't be moved there: only pending jobs have a position")
    return {"moved": True}


class Priority(Body):
    priority: int = Field(ge=-1000, le=1000)
    """Jobs with a higher priority run first."""


@routes.post(f"{OWN}/jobs/{{id}}/priority")
async def prioritise(request: web.Request, id: str, body: Priority) -> dict[str, bool]:
    """Change the priority of a pending job."""
    if not await request.app[QUEUE].change(Jobs.prioritise, id, body.priority):
        raise await _refusal(request, id, "is not pending")
    return {"changed": True}


@routes.post(f"{OWN}/pause")
async def pause(request: web.Request) -> dict[str, bool]:
    """Start no more jobs, even after a restart; running ones continue."""
    await request.app[QUEUE].change(Jobs.pause, True)
    return {"paused": True}


@routes.post(f"{OWN}/resume")
async def resume(request: web.Request) -> dict[str, bool]:
    """Resume a paused queue."""
    await request.app[QUEUE].change(Jobs.pause, False)
    request.app[WORKERS].wake()
    return {"paused": False}


async def _refusal(request: web.Request, id: str, why: str) -> KinographError:
    """Why a job couldn't be changed: it doesn't exist, or its state doesn't allow it."""
    if await request.app[QUEUE].ask(Jobs.get, id) is None:
        return MissingError(f"there is no job '{id}'")
    return UsageError(f"job '{id}' {why}")


def job_data(job: Job) -> dict[str, Any]:
    """A job as the editor shows it."""
    problems = job.record.get("problems") or [None]
    return {
        **{name: getattr(job, name) for name in ("id", "number", "state", "title", "priority")},
        **{name: getattr(job, name) for name in ("created", "started", "finished", "attempts", "outputs")},
        "seconds": job.record.get("seconds"),
        "problem": problems[0],
        "client_id": job.client,
    }
