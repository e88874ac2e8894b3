"""The durable queue and its history: one SQLite database that the server and its workers share.

    with Jobs(folder / "jobs.sqlite") as jobs:
        jobs.add(Request("9f…", document))
        lease = jobs.claim("worker 1")           # the next one, for as long as the lease is renewed
        jobs.finish(lease, "done", outputs)      # has no effect if another worker has it by now

    pending → running → done | failed | cancelled

A job is on disk before `add` returns. If its worker is gone it becomes pending again, unless that has happened too
often without progress (`MAX_ATTEMPTS`). A job that has ended keeps its lease until this was reported to its client. An
instance belongs to one thread.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, get_args

State = Literal["pending", "running", "done", "failed", "cancelled"]
Ended = Literal["done", "failed", "cancelled"]
ENDED: tuple[Ended, ...] = get_args(Ended)
LEASE_SECONDS = 120.0
"""How long a worker has a job without renewing its lease, by the machine's monotonic clock, which all processes share
and which stands still while the machine sleeps.
"""
MAX_ATTEMPTS = 2
"""How often a job is started if its worker, or the server, dies each time: what has killed two would kill a third.

Attempts count over restarts of the server, but for those that it ended in an orderly way. One that stored something,
such as a node's result, that the earlier ones had not starts the count anew: a job that makes progress isn't given up.
"""
PAUSED = "paused"

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    priority INTEGER NOT NULL,
    place REAL NOT NULL,
    title TEXT NOT NULL,
    client TEXT,
    document TEXT NOT NULL,
    request TEXT NOT NULL,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    lease REAL,
    outputs TEXT NOT NULL DEFAULT '{}',
    record TEXT NOT NULL DEFAULT '{}',
    starts INTEGER NOT NULL DEFAULT 0,
    progressed INTEGER NOT NULL DEFAULT 0,
    step TEXT,
    rank REAL
);
CREATE INDEX IF NOT EXISTS jobs_in_order ON jobs (state, priority DESC, place);
CREATE INDEX IF NOT EXISTS jobs_ended ON jobs (state, finished DESC);
CREATE INDEX IF NOT EXISTS jobs_leased ON jobs (worker) WHERE lease IS NOT NULL;
CREATE TABLE IF NOT EXISTS claims (
    job TEXT NOT NULL, step TEXT NOT NULL, files TEXT NOT NULL, PRIMARY KEY (job, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS progress (
    job TEXT NOT NULL, mark TEXT NOT NULL, PRIMARY KEY (job, mark)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
ADDED = {
    "starts": "INTEGER NOT NULL DEFAULT 0",
    "progressed": "INTEGER NOT NULL DEFAULT 0",
    "step": "TEXT",
    "rank": "REAL",
}
"""The columns of `jobs` that files of version 0.1.0 don't have."""
SHOWN = "number, id, state, priority, title, client, created, started, finished, attempts, worker, outputs, record"
"""The columns of a `Job`: all but those that may be large."""
UNREPORTED = "lease IS NOT NULL AND state != 'running'"
"""Of jobs that have ended without this having been reported to their clients."""

WORKFLOW_ID = (
    "CASE WHEN length(request) <= 4000000 AND json_valid(request)"
    " THEN json_extract(request, '$.extra.extra_pnginfo.workflow.id') END"
)
"""The id of the workflow in the UI format that came with a job."""
Order = Literal["last created", "first created", "last ended", "first ended", "longest took", "shortest took"]
ORDERS: Mapping[Order, str] = {
    "last created": "number DESC",
    "first created": "number",
    "last ended": "finished DESC, number DESC",
    "first ended": "finished, number",
    "longest took": "coalesce(finished - started, 0) DESC, number DESC",
    "shortest took": "coalesce(finished - started, 0), number",
}
"""In which order jobs can be listed."""

JobOutputs = dict[str, dict[str, list[Any]]]
"""The outputs of a job: by node, lists of files (or texts) by media type."""


@dataclass(frozen=True)
class Request:
    """What a job is to do."""

    id: str
    document: Mapping[str, Any]
    """The workflow document."""
    title: str = ""
    client: str | None = None
    targets: Sequence[str] | None = None
    """The nodes whose outputs are wanted; those that save if None."""
    axes: Sequence[Mapping[str, Any]] = ()
    """The axes of a sweep: `{"name": input, "values": [texts]}`."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Data that a client wants kept with it."""


@dataclass(frozen=True)
class Job:
    """A job as lists show it."""

    number: int
    id: str
    state: State
    priority: int
    title: str
    client: str | None
    created: float
    """Seconds since 1970, like all times here."""
    started: float | None
    finished: float | None
    attempts: int
    """How often it was started without progress since, including the present time."""
    worker: str | None
    outputs: JobOutputs
    record: dict[str, Any]
    """How it ended: `problem`, `timings`, `cached`, `messages`."""


class Waiting(NamedTuple):
    """A pending job, briefly."""

    number: int
    id: str
    client: str | None
    created: float
    """Seconds since 1970."""


class Lease(NamedTuple):
    """The right to run a job, for one attempt."""

    id: str
    worker: str
    attempt: int
    request: Request
    claims: Mapping[str, list[Any]]
    """The names that an earlier attempt had claimed for its files, by step."""
    start: int
    """How often the job was started, this time included; with the worker it identifies the lease."""


class Jobs:
    """The queue in a file, which is created if missing.

    Args:
        path: the file.
        quick: don't wait until writes are on disk: they survive a killed process, but not a power failure. Such an
            instance may be used from several threads, one at a time.
        patience: seconds to wait for others that write, or have locked the file.
    """

    def __init__(self, path: Path, *, quick: bool = False, patience: float = 30.0) -> None:
        self._db = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=not quick)
        wait = "NORMAL" if quick else "FULL"
        self._db.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = {wait};{SCHEMA}")
        if self._missing_columns():
            with self._writing():
                for name in self._missing_columns():  # unless another process was faster
                    self._db.execute(f"ALTER TABLE jobs ADD COLUMN {name} {ADDED[name]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def _missing_columns(self) -> list[str]:
        present = {row[1] for row in self._db.execute("PRAGMA table_info(jobs)")}
        return [name for name in ADDED if name not in present]

    def add(self, request: Request, *, front: bool = False, priority: int = 0, rank: float | None = None) -> int:
        """Put a job into the queue; returns its number.

        Args:
            request: what to do.
            front: whether it goes before all others of its priority; else it goes behind them.
            priority: jobs with a higher one run first.
            rank: it goes before those of its priority that have a higher rank: their number, if they were given none.

        Raises:
            ValueError: there is a job with that id.
        """
        about = {"targets": request.targets, "axes": list(request.axes), "extra": request.extra}
        with self._writing():
            rank = -1.0 if front else rank
            place = self._edge("min") - 1 if front else self._free_place(priority, rank)
            values = {"id": request.id, "state": "pending", "priority": priority, "place": place, "rank": rank}
            values |= {"title": request.title, "client": request.client, "created": time.time()}
            values |= {"document": json.dumps(request.document), "request": json.dumps(about)}
            names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
            try:
                added = self._db.execute(f"INSERT INTO jobs ({names}) VALUES ({marks}) RETURNING number", values)
            except sqlite3.IntegrityError:
                raise ValueError(f"there is a job '{request.id}' already") from None
            return int(added.fetchone()[0])

    def claim(self, worker: str) -> Lease | None:
        """Take the next job; None if there is none, or the queue is paused."""
        with self._writing():
            if self.paused:
                return None
            row = self._db.execute(
                "UPDATE jobs SET state = 'running', worker = ?, lease = ?, started = ?, attempts = attempts + 1, "
                "starts = starts + 1, progressed = 0, step = NULL "
                "WHERE id = (SELECT id FROM jobs WHERE state = 'pending' ORDER BY priority DESC, place LIMIT 1) "
                "RETURNING id, attempts, starts, title, client, document, request",
                (worker, time.monotonic() + LEASE_SECONDS, time.time()),
            ).fetchone()
            if row is None:
                return None
            name, attempts, starts, title, client, document, about = row
            claims = self._db.execute("SELECT step, files FROM claims WHERE job = ?", (name,)).fetchall()
        request = Request(name, json.loads(document), title, client, **json.loads(about))
        return Lease(name, worker, attempts, request, {step: json.loads(files) for step, files in claims}, starts)

    def renew(self, lease: Lease) -> bool:
        """Extend a lease; False if the job is no longer this worker's."""
        return self._change(lease, "lease = ?", time.monotonic() + LEASE_SECONDS)

    def record_outputs(self, lease: Lease, outputs: JobOutputs) -> bool:
        """Record what the job has saved so far; False if it is no longer this worker's."""
        return self._change(lease, "outputs = ?", json.dumps(outputs))

    def record_claim(self, lease: Lease, step: str, files: Sequence[Any]) -> None:
        """Record the names that a step is about to claim for its files, so that another attempt uses the same."""
        self._db.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", (lease.id, step, json.dumps(files)))

    def record_progress(self, lease: Lease, mark: str) -> None:
        """Record that something was stored by which a later attempt is ahead; nothing that an earlier one had stored.

        Args:
            lease: that of this attempt.
            mark: what identifies it, such as the key of a node's result.
        """
        mine = "id = ? AND worker = ? AND starts = ? AND state = 'running'"
        values = (lease.id, lease.worker, lease.start)
        with self._writing():
            added = self._db.execute(
                f"INSERT OR IGNORE INTO progress SELECT id, ? FROM jobs WHERE {mine}", (mark, *values)
            )
            if added.rowcount == 1:
                self._db.execute(f"UPDATE jobs SET progressed = 1 WHERE {mine}", values)

    def record_step(self, lease: Lease, node: str, kind: str) -> None:
        """Record which node is about to run: it may be the last thing that is heard of this attempt."""
        self._change(lease, "step = ?", json.dumps([node, kind]))

    def finish(self, lease: Lease, state: Ended, outputs: JobOutputs, record: Mapping[str, Any]) -> bool:
        """Record how a job ended; False, and nothing is changed, if it is no longer this worker's."""
        with self._writing():
            mine = self._change(
                lease,
                "state = ?, finished = ?, outputs = ?, record = ?",
                *(state, time.time(), json.dumps(outputs), json.dumps(record)),
            )
            if mine and state == "done":
                self._db.execute("DELETE FROM claims WHERE job = ?", (lease.id,))
            if mine:
                self._forget_progress(lease.id)
            return mine

    def _change(self, lease: Lease, what: str, *values: Any) -> bool:
        changed = self._db.execute(
            f"UPDATE jobs SET {what} WHERE id = ? AND worker = ? AND starts = ? AND state = 'running'",
            (*values, lease.id, lease.worker, lease.start),
        )
        return changed.rowcount == 1

    def release(self, worker: str | None = None, *, because: Mapping[str, Any]) -> list[Job]:
        """Take back the jobs of a worker that is gone, or, if None, all whose lease has expired.

        They become pending again, but those that were started `MAX_ATTEMPTS` times without progress fail. Also returns
        those that had ended without this having been reported.

        Args:
            worker: its name.
            because: the record of those that fail.
        """
        running = "state = 'running'"
        where, value = ("worker = ?", worker) if worker else (f"{running} AND lease < ?", time.monotonic())
        with self._writing():
            jobs = self._jobs(f"WHERE lease IS NOT NULL AND {where}", value)
            for job in jobs:
                if job.state == "running":
                    self._requeue_or_fail(job, because)
        return jobs

    def suspend(self) -> None:
        """Put all running jobs back into the queue, as the server ends in an orderly way: the attempts don't count."""
        with self._writing():
            for job in reversed(self.running()):
                self._requeue(job, job.attempts - 1)

    def restart(self) -> list[Job]:
        """Take back the jobs that ran when the server died: none of their workers outlived it.

        Returns those that have failed, as it had died too often while they ran.
        """
        failed = list[Job]()
        with self._writing():
            for job in reversed(self.running()):
                if self._requeue_or_fail(job, self._killed_server(job)):
                    failed += self._jobs("WHERE id = ?", job.id)
            self._db.execute("UPDATE jobs SET lease = NULL WHERE lease IS NOT NULL")  # no client waits for a report
        return failed

    def _killed_server(self, job: Job) -> dict[str, Any]:
        """The record of a job that has failed because the server died while it ran."""
        (step,) = self._db.execute("SELECT step FROM jobs WHERE id = ?", (job.id,)).fetchone()
        node, kind = json.loads(step) if step else (None, "")
        while_running = f" while {node} ({kind}) ran" if node else " while it ran"
        message = f"the server died{while_running}, {MAX_ATTEMPTS} times without progress"
        return {"problems": [{"message": message, "node": node}]}

    def _requeue_or_fail(self, job: Job, because: Mapping[str, Any]) -> bool:
        """Put a job whose attempt ended abruptly back into the queue, unless it has had enough; True if it failed."""
        (progressed,) = self._db.execute("SELECT progressed FROM jobs WHERE id = ?", (job.id,)).fetchone()
        attempts = 0 if progressed else job.attempts
        if attempts < MAX_ATTEMPTS:
            self._requeue(job, attempts)
            return False
        return self.fail(job.id, job.worker, "failed", because)

    def cancel(self, ids: Collection[str] | None = None) -> list[str]:
        """Cancel pending jobs, all if None; returns the ids of those that were."""
        where, values = ("", ()) if ids is None else (f" AND id IN ({_marks(ids)})", tuple(ids))
        rows = self._db.execute(
            f"UPDATE jobs SET state = 'cancelled', finished = ? WHERE state = 'pending'{where} RETURNING id",
            (time.time(), *values),
        )
        cancelled = [row[0] for row in rows.fetchall()]
        self._forget_progress(*cancelled)
        return cancelled

    def fail(self, id: str, worker: str | None, state: Ended, record: Mapping[str, Any]) -> bool:
        """Record the end of a running job whose worker can't; False if it isn't that worker's."""
        changed = self._db.execute(
            "UPDATE jobs SET state = ?, finished = ?, record = ? WHERE id = ? AND worker = ? AND state = 'running'",
            (state, time.time(), json.dumps(record), id, worker),
        )
        if changed.rowcount == 1:
            self._forget_progress(id)
        return changed.rowcount == 1

    def unreported(self, id: str) -> Job | None:
        """A job that a worker has ended, unless this was reported to its client."""
        return next(iter(self._jobs(f"WHERE id = ? AND {UNREPORTED}", id)), None)

    def mark_reported(self, id: str) -> None:
        """Record that a client was notified of the end of its job."""
        self._db.execute(f"UPDATE jobs SET lease = NULL WHERE id = ? AND {UNREPORTED}", (id,))

    def move(self, id: str, *, before: str | None = None, front: bool = False) -> bool:
        """Put a pending job before another, whose priority it takes, or first or last of its own; False if it isn't
        pending, or the other isn't.
        """
        with self._writing():
            order, target = self.pending(), before or id
            moved = next((job for job in order if job.id == id), None)
            priority = next((job.priority for job in order if job.id == target), None)
            if moved is None or priority is None or before == id:
                return False
            names = [job.id for job in order if job.priority == priority and job is not moved]
            at = names.index(before) if before else 0 if front else len(names)
            names.insert(at, id)
            self._db.execute("UPDATE jobs SET priority = ? WHERE id = ?", (priority, id))
            self._db.executemany("UPDATE jobs SET place = ? WHERE id = ?", enumerate(names))
            return True

    def prioritise(self, id: str, priority: int) -> bool:
        """Give a pending job another priority, higher ones first; False if it isn't pending."""
        changed = self._db.execute("UPDATE jobs SET priority = ? WHERE id = ? AND state = 'pending'", (priority, id))
        return changed.rowcount == 1

    def retry(self, id: str) -> bool:
        """Put a job that failed or was cancelled back into the queue, last; False for any other."""
        with self._writing():
            changed = self._db.execute(
                "UPDATE jobs SET state = 'pending', place = ?, attempts = 0, started = NULL, finished = NULL, "
                "record = '{}', outputs = '{}', worker = NULL, lease = NULL "
                "WHERE id = ? AND state IN ('failed', 'cancelled')",
                (self._edge("max") + 1, id),
            )
            return changed.rowcount == 1

    def forget(self, ids: Collection[str] | None = None) -> int:
        """Remove jobs that have ended from the history, all if None; their files stay. Returns how many."""
        where, values = ("", ()) if ids is None else (f" AND id IN ({_marks(ids)})", tuple(ids))
        with self._writing():
            gone = self._db.execute(f"DELETE FROM jobs WHERE state IN ({_marks(ENDED)}){where}", (*ENDED, *values))
            self._db.execute("DELETE FROM claims WHERE job NOT IN (SELECT id FROM jobs)")
            return gone.rowcount

    @property
    def paused(self) -> bool:
        """Whether no jobs are started for now; this outlives the server."""
        return self._db.execute("SELECT 1 FROM settings WHERE name = ?", (PAUSED,)).fetchone() is not None

    def pause(self, paused: bool) -> None:
        if paused:
            self._db.execute("INSERT OR REPLACE INTO settings VALUES (?, '')", (PAUSED,))
        else:
            self._db.execute("DELETE FROM settings WHERE name = ?", (PAUSED,))

    def counts(self) -> dict[State, int]:
        """How many jobs are in each state."""
        found = dict(self._db.execute("SELECT state, count(*) FROM jobs GROUP BY state"))
        return {state: found.get(state, 0) for state in get_args(State)}

    def remaining(self) -> int:
        """How many jobs wait or run, or have ended without this having been reported to their clients."""
        pending = "SELECT count(*) FROM jobs WHERE state = 'pending'"
        leased = "SELECT count(*) FROM jobs WHERE lease IS NOT NULL"
        return int(self._db.execute(f"SELECT ({pending}) + ({leased})").fetchone()[0])

    def get(self, id: str) -> Job | None:
        return next(iter(self._jobs("WHERE id = ?", id)), None)

    def request(self, id: str) -> Request | None:
        """The request that a job was added with."""
        found = self.sized_request(id)
        return found and found[0]

    def sized_request(self, id: str, *, most: int = sys.maxsize) -> tuple[Request, int] | None:
        """As `request`, with its size in bytes; None if that is more than `most`, or there is no such job."""
        columns = "title, client, document, request, length(document) + length(request) AS nbytes"
        row = self._db.execute(f"SELECT {columns} FROM jobs WHERE id = ? AND nbytes <= ?", (id, most)).fetchone()
        if row is None:
            return None
        title, client, document, about, nbytes = row
        return Request(id, json.loads(document), title, client, **json.loads(about)), nbytes

    def workflow_id(self, id: str) -> str | None:
        """The id that an editor gave the workflow it sent along with a job."""
        row = self._db.execute(f"SELECT {WORKFLOW_ID} FROM jobs WHERE id = ?", (id,)).fetchone()
        return str(row[0]) if row and row[0] is not None else None

    def waiting(self, limit: int) -> list[Waiting]:
        """The pending jobs in the order in which they will run, with little about each."""
        where = "WHERE state = 'pending' ORDER BY priority DESC, place LIMIT ?"
        rows = self._db.execute(f"SELECT {', '.join(Waiting._fields)} FROM jobs {where}", (limit,))
        return [*map(Waiting._make, rows)]

    def ids(
        self, states: Sequence[State], order: Order, limit: int = -1, offset: int = 0, *, workflow: str | None = None
    ) -> list[str]:
        """The ids of the jobs in some states, and of one workflow if its id is given."""
        where, values = _matching(states, workflow)
        rows = self._db.execute(
            f"SELECT id FROM jobs WHERE {where} ORDER BY {ORDERS[order]} LIMIT ? OFFSET ?", (*values, limit, offset)
        )
        return [row[0] for row in rows]

    def count(self, states: Sequence[State], *, workflow: str | None = None) -> int:
        """How many jobs `ids` lists without a limit."""
        where, values = _matching(states, workflow)
        return int(self._db.execute(f"SELECT count(*) FROM jobs WHERE {where}", values).fetchone()[0])

    def running(self) -> list[Job]:
        return self._jobs("WHERE state = 'running' ORDER BY started")

    def pending(self, limit: int = -1, offset: int = 0) -> list[Job]:
        """In the order in which they will run."""
        return self._jobs("WHERE state = 'pending' ORDER BY priority DESC, place LIMIT ? OFFSET ?", limit, offset)

    def ended(self, limit: int = -1, offset: int = 0, states: Sequence[State] = ENDED) -> list[Job]:
        """The last ended first."""
        where = f"WHERE state IN ({_marks(states)}) ORDER BY finished DESC, number DESC LIMIT ? OFFSET ?"
        return self._jobs(where, *states, limit, offset)

    def _jobs(self, where: str, *values: Any) -> list[Job]:
        rows = self._db.execute(f"SELECT {SHOWN} FROM jobs {where}", values).fetchall()
        return [*map(_job, rows)]

    def _forget_progress(self, *jobs: str) -> None:
        """Drop what was recorded of the progress of jobs, which have ended."""
        self._db.executemany("DELETE FROM progress WHERE job = ?", [(job,) for job in jobs])

    def _requeue(self, job: Job, attempts: int) -> None:
        """Make a running job the next one of its priority again."""
        self._db.execute(
            "UPDATE jobs SET state = 'pending', place = ?, attempts = ?, worker = NULL, lease = NULL WHERE id = ?",
            (self._edge("min") - 1, attempts, job.id),
        )

    def _free_place(self, priority: int, rank: float | None) -> float:
        """A place for another job, the last if it has no rank; those behind it are moved on."""
        found = (
            None
            if rank is None
            else self._db.execute(
                "SELECT min(place) FROM jobs WHERE state = 'pending' AND priority = ? AND coalesce(rank, number) > ?",
                (priority, rank),
            ).fetchone()[0]
        )
        if found is None:
            return self._edge("max") + 1
        self._db.execute("UPDATE jobs SET place = place + 1 WHERE state = 'pending' AND place >= ?", (found,))
        return float(found)

    def _edge(self, which: Literal["min", "max"]) -> float:
        """The first or last place among pending jobs."""
        found = self._db.execute(f"SELECT {which}(place) FROM jobs WHERE state = 'pending'").fetchone()
        return 0.0 if found[0] is None else float(found[0])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, which others see completely or not at all."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _job(row: Sequence[Any]) -> Job:
    columns = dict(zip(SHOWN.split(", "), row, strict=True))
    return Job(**columns | {name: json.loads(columns[name]) for name in ("outputs", "record")})


def _matching(states: Sequence[State], workflow: str | None) -> tuple[str, tuple[str, ...]]:
    """The condition for jobs in some states and of a workflow, with its values."""
    where = f"state IN ({_marks(states)})"
    return (where, (*states,)) if workflow is None else (f"{where} AND {WORKFLOW_ID} = ?", (*states, workflow))


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))
