"""ComfyUI's lists of jobs: /queue, /history and /api/jobs.

A job's workflow may be large, and there may be thousands of jobs. So lists are bounded in length and in bytes: the jobs
that come first have their workflows, as far as there is room, and of the others `extra_data` says under `left_out`
where it is. All is read and written as JSON in the thread for lists, job by job, so that others are answered meanwhile.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal
from urllib.parse import quote

from aiohttp import web
from pydantic import AfterValidator, Field
from pydantic_core import to_json

from engine.errors import MissingError
from engine.server.comfyui.messages import execution_error, last_message, outputs_of, preview_of
from engine.server.http.routes import Query, Routes
from engine.server.jobs.queue import QUEUE
from engine.work.queue import Jobs
from engine.work.records import ENDED, Job, Order, Request, State, Waiting

routes = Routes("jobs")

MOST_PENDING = 10_000
"""Pending jobs that `/queue` lists."""
MOST_SHOWN = 1000
"""Jobs in one answer of the other lists."""
PROMPT_BYTES = 8 << 20
"""Of all workflows in one answer."""
PENDING_PROMPTS = 100
"""Pending jobs whose workflows are listed: clients ask often, and show few of them."""
PENDING_BYTES = 1 << 20
"""Of these workflows."""
LARGEST_PROMPT = 1 << 20
"""Bytes of one workflow in a list."""
ENTRY_BYTES = 16 << 20
"""Of one answer, after which it ends early."""
BRIEF = """json_array(number, id, json('{}'), json_object(
    'client_id', client, 'create_time', CAST(created * 1000 AS INTEGER), 'left_out', '/api/jobs/' || id
), json('[]'))"""
"""What `_row` makes of a waiting job without its request, but for ids that must be quoted."""
PLAIN = re.compile(r"[\w-]+", re.ASCII)
"""Ids that needn't be."""

STATES: dict[str, State] = {
    "pending": "pending",
    "in_progress": "running",
    "completed": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""The states of jobs by the protocol's names."""
_NAMES = {state: name for name, state in STATES.items()}


class Room:
    """How many bytes of workflows still go into an answer."""

    def __init__(self, nbytes: int) -> None:
        self.left = nbytes

    def request(self, jobs: Jobs, id: str) -> Request | None:
        """A job's request, if there is room for it."""
        found = jobs.sized_request(id, most=min(self.left, LARGEST_PROMPT))
        if found is None:
            return None
        self.left -= found[1]
        return found[0]


@routes.get("/queue", gives="application/json")
async def queue(request: web.Request) -> web.Response:
    """The running and the pending jobs, in order; the first with their workflows."""

    def listed(jobs: Jobs) -> bytes:
        running, pending = Room(PROMPT_BYTES), Room(PENDING_BYTES)
        first = [_row(job, running.request(jobs, job.id)) for job in jobs.running()]
        rows = [to_json(_row(job, pending.request(jobs, job.id))) for job in jobs.waiting(PENDING_PROMPTS)]
        brief = jobs.waiting_as(BRIEF, MOST_PENDING - PENDING_PROMPTS, PENDING_PROMPTS)
        rows += [(row if PLAIN.fullmatch(name) else _quoted(name, row)).encode() for name, row in brief]
        return b'{"queue_running":' + to_json(first) + b',"queue_pending":[' + b",".join(rows) + b"]}"

    return _json(await request.app[QUEUE].ask_slow(listed))


class Page(Query):
    max_items: int = Field(MOST_SHOWN, ge=0)
    """At most 1,000 are listed."""
    offset: int = Field(-1, ge=-1, le=2**53)
    """How many of the oldest to leave out; -1: list the newest."""


@routes.get("/history", gives="application/json")
async def history(request: web.Request, query: Page) -> web.Response:
    """The jobs that have ended, oldest first: the last `max_items`, or `max_items` from `offset` on.

    Fewer are listed if they would make more than 16 MB. Workflows of the first 8 MB, and up to 1 MB each, are with
    them; where others are is said in `extra_data` under `left_out`.
    """
    wanted, newest = min(query.max_items, MOST_SHOWN), query.offset < 0

    def entries(jobs: Jobs) -> bytes:
        ids = jobs.ids(ENDED, "last ended" if newest else "first ended", wanted, max(0, query.offset))
        room, found, nbytes = Room(PROMPT_BYTES), list[bytes](), 0
        for name in ids:
            if job := jobs.get(name):
                found.append(to_json(name) + b":" + to_json(_history_entry(job, room.request(jobs, name))))
                nbytes += len(found[-1])
            if nbytes > ENTRY_BYTES:
                break
        return b"{" + b",".join(reversed(found) if newest else found) + b"}"

    return _json(await request.app[QUEUE].ask_slow(entries))


@routes.get("/history/{prompt_id}", gives="application/json")
async def history_of(request: web.Request, prompt_id: str) -> web.Response:
    """A job that has ended, with its workflow; an empty object if it hasn't, or doesn't exist."""

    def entry(jobs: Jobs) -> bytes:
        job = jobs.get(prompt_id)
        if job is None or job.state not in ENDED:
            return b"{}"
        return to_json({job.id: _history_entry(job, jobs.request(job.id))})

    return _json(await request.app[QUEUE].ask_slow(entry))


def _states(text: str | None) -> str | None:
    if text is not None and (unknown := [name for name in text.lower().split(",") if name not in STATES]):
        raise ValueError(f"{unknown[0]!r} is none of {', '.join(STATES)}")
    return text


class Part(Query):
    status: Annotated[str | None, Field(max_length=100), AfterValidator(_states)] = None
    """Only jobs in these states, separated by commas: pending, in_progress, completed, failed, cancelled."""
    workflow_id: str | None = Field(None, max_length=200)
    """Only jobs of the workflow with this id in its UI format."""
    sort_by: Literal["created_at", "execution_duration"] = "created_at"
    sort_order: Literal["asc", "desc"] = "desc"
    limit: int = Field(200, ge=0)
    """At most 1,000 are listed."""
    offset: int = Field(0, ge=0, le=2**53)

    @property
    def states(self) -> list[State]:
        names = self.status.lower().split(",") if self.status is not None else STATES
        return [STATES[name] for name in dict.fromkeys(names)]

    @property
    def order(self) -> Order:
        if self.sort_by == "created_at":
            return "last created" if self.sort_order == "desc" else "first created"
        return "longest took" if self.sort_order == "desc" else "shortest took"


@routes.get("/api/jobs", gives="application/json")
async def jobs(request: web.Request, query: Part) -> web.Response:
    """Jobs without their workflows, newest first."""
    limit = min(query.limit, MOST_SHOWN)

    def page(jobs: Jobs) -> bytes:
        found, nbytes, end = list[bytes](), 0, limit
        for name in jobs.ids(query.states, query.order, limit, query.offset, workflow=query.workflow_id):
            if job := jobs.get(name):
                found.append(to_json(_listed(job, jobs.workflow_id(name))))
                nbytes += len(found[-1])
            if nbytes > ENTRY_BYTES:
                end = len(found)
                break
        total = jobs.count(query.states, workflow=query.workflow_id)
        pagination = {"offset": query.offset, "limit": end, "total": total}
        pagination["has_more"] = query.offset + len(found) < total
        return b'{"jobs":[' + b",".join(found) + b'],"pagination":' + to_json(pagination) + b"}"

    return _json(await request.app[QUEUE].ask_slow(page))


@routes.get("/api/jobs/{id}", gives="application/json")
async def job(request: web.Request, id: str) -> web.Response:
    """One job, with its workflow, its outputs and how it ended."""

    def read(jobs: Jobs) -> bytes:
        found, what = jobs.get(id), jobs.request(id)
        if found is None or what is None:
            raise MissingError(f"there is no job '{id}'")
        row = _row(found, what)
        about = _listed(found, jobs.workflow_id(id)) | {"workflow": {"prompt": row[2], "extra_data": row[3]}}
        if found.state in ENDED:
            about["execution_status"] = _status(found)
        return to_json(about | {"outputs": outputs_of(found.outputs)})

    return _json(await request.app[QUEUE].ask_slow(read))


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def _row(job: Job | Waiting, request: Request | None) -> list[Any]:
    """A job as the protocol lists it."""
    about = {"client_id": job.client, "create_time": int(job.created * 1000)}
    if request is None:
        return [job.number, job.id, {}, about | {"left_out": _address(job.id)}, []]
    return [job.number, job.id, request.document["graph"], {**request.extra, **about}, list(request.targets or ())]


def _quoted(id: str, row: str) -> str:
    """What `BRIEF` made of a job, with its address as it must be."""
    number, _, graph, about, targets = json.loads(row)
    return json.dumps([number, id, graph, about | {"left_out": _address(id)}, targets])


def _address(id: str) -> str:
    return f"/api/jobs/{quote(id, safe='')}"


def _history_entry(job: Job, request: Request | None) -> dict[str, Any]:
    """An ended job as the protocol's history has it."""
    return {"prompt": _row(job, request), "outputs": outputs_of(job.outputs), "status": _status(job), "meta": {}}


def _status(job: Job) -> dict[str, Any]:
    """How a job ended."""
    about = {"prompt_id": job.id, "timestamp": int((job.started or job.created) * 1000)}
    messages: list[Any] = [["execution_start", about]]
    if "held" in job.record:
        messages.append(["execution_cached", {**about, "nodes": job.record["held"]}])
    messages.append(list(last_message(job, list(job.record.get("timings", ())))))
    done = job.state == "done"
    return {"status_str": "success" if done else "error", "completed": done, "messages": messages}


def _listed(job: Job, workflow: str | None) -> dict[str, Any]:
    """A job as `/api/jobs` lists it; what there isn't is left out."""
    times = {"create_time": job.created, "execution_start_time": job.started, "execution_end_time": job.finished}
    preview, count, shown = preview_of(outputs_of(job.outputs))
    about = {
        "id": job.id,
        "status": _NAMES[job.state],
        "priority": job.number,
        "outputs_count": count,
        "previewable_outputs_count": shown,
        "preview_output": preview,
        "execution_error": execution_error(job) if job.state == "failed" else None,
        "workflow_id": workflow,
        **{name: seconds and int(seconds * 1000) for name, seconds in times.items()},
    }
    return {name: value for name, value in about.items() if value is not None}
