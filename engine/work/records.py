"""The records of jobs: one SQLite database that the server and its workers share, and what can be read from it."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, get_args

State = Literal["pending", "running", "done", "failed", "cancelled"]
Ended = Literal["done", "failed", "cancelled"]
ENDED: tuple[Ended, ...] = get_args(Ended)
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
Order = Literal[
    "first to run",
    "first started",
    "last created",
    "first created",
    "last ended",
    "first ended",
    "longest took",
    "shortest took",
]
ORDERS: Mapping[Order, str] = {
    "first to run": "priority DESC, place",
    "first started": "started",
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
    """The axes of a sweep: `{"name": input, "constants": [JSON data]}`; earlier versions wrote `"values": [texts]`."""
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
    """How it ended: `problems`, `timings`, `cached`, the `reports` of nodes and more."""


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


class Records:
    """The jobs in a file, which is created if missing.

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

    @property
    def paused(self) -> bool:
        """Whether no jobs are started for now; this outlives the server."""
        return self._db.execute("SELECT 1 FROM settings WHERE name = ?", (PAUSED,)).fetchone() is not None

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

    def waiting_as(self, form: str, limit: int, skip: int) -> list[tuple[str, str]]:
        """The ids of the pending jobs after the first `skip`, in order, each with a text that SQLite makes.

        Args:
            form: an expression of SQLite over the fields of `Waiting`.
            limit: how many at most.
            skip: how many to leave out.
        """
        where = "WHERE state = 'pending' ORDER BY priority DESC, place LIMIT ? OFFSET ?"
        return self._db.execute(f"SELECT id, {form} FROM jobs {where}", (limit, skip)).fetchall()

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
        where = f"WHERE state IN ({marks(states)}) ORDER BY finished DESC, number DESC LIMIT ? OFFSET ?"
        return self._jobs(where, *states, limit, offset)

    def unreported(self, id: str) -> Job | None:
        """A job that a worker has ended, unless this was reported to its client."""
        return next(iter(self._jobs(f"WHERE id = ? AND {UNREPORTED}", id)), None)

    def _jobs(self, where: str, *values: Any) -> list[Job]:
        rows = self._db.execute(f"SELECT {SHOWN} FROM jobs {where}", values).fetchall()
        return [*map(_job, rows)]

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
    where = f"state IN ({marks(states)})"
    return (where, (*states,)) if workflow is None else (f"{where} AND {WORKFLOW_ID} = ?", (*states, workflow))


def marks(values: Collection[object]) -> str:
    """A placeholder for each value."""
    return ", ".join("?" * len(values))
