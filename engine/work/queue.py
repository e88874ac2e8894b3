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
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from engine.work.records import ENDED, PAUSED, UNREPORTED, Ended, Job, JobOutputs, Lease, Records, Request, marks

LEASE_SECONDS = 120.0
"""How long a worker has a job without renewing its lease, by the machine's monotonic clock, which all processes share
and which stands still while the machine sleeps.
"""
MAX_ATTEMPTS = 2
"""How often a job is started if its worker, or the server, dies each time: what has killed two would kill a third.

Attempts count over restarts of the server, but for those that it ended in an orderly way. One that stored something,
such as a node's result, that the earlier ones had not starts the count anew: a job that makes progress isn't given up.
"""


def failure(why: str, node: str | None = None, *, again: bool = True) -> dict[str, Any]:
    """The record of a job that died with its worker or the server; `again`, as often as it may."""
    message = f"{why}, {MAX_ATTEMPTS} times without progress" if again else why
    return {"problems": [{"message": message, "node": node}]}


class Jobs(Records):
    """The queue in a file; its arguments are those of `Records`."""

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
        return failure(f"the server died{while_running}", node)

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
        where, values = ("", ()) if ids is None else (f" AND id IN ({marks(ids)})", tuple(ids))
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
        where, values = ("", ()) if ids is None else (f" AND id IN ({marks(ids)})", tuple(ids))
        with self._writing():
            gone = self._db.execute(f"DELETE FROM jobs WHERE state IN ({marks(ENDED)}){where}", (*ENDED, *values))
            self._db.execute("DELETE FROM claims WHERE job NOT IN (SELECT id FROM jobs)")
            return gone.rowcount

    def pause(self, paused: bool) -> None:
        if paused:
            self._db.execute("INSERT OR REPLACE INTO settings VALUES (?, '')", (PAUSED,))
        else:
            self._db.execute("DELETE FROM settings WHERE name = ?", (PAUSED,))

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
