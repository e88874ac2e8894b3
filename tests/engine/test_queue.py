"""The durable queue: accepted jobs stay, claimed jobs run once, interrupted jobs run again."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.work import queue, records
from engine.work.queue import Jobs
from engine.work.records import Ended, Lease, Request

DOCUMENT = {"kinograph": 1, "graph": {}}


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with Jobs(tmp_path / "jobs.sqlite") as opened:
        yield opened


def add(jobs: Jobs, *names: str, **how: int) -> None:
    for name in names:
        jobs.add(Request(name, DOCUMENT), priority=how.get("priority", 0))


def order(jobs: Jobs) -> list[str]:
    return [job.id for job in jobs.pending()]


def test_jobs_are_claimed_in_the_order_in_which_they_were_added(jobs: Jobs) -> None:
    add(jobs, "a", "b")
    first, second = jobs.claim("w"), jobs.claim("w")
    assert first
    assert second
    assert (first.id, second.id, jobs.claim("w")) == ("a", "b", None)


def test_a_rank_says_before_which_numbers_a_job_goes(jobs: Jobs) -> None:
    add(jobs, "a", "b", "c")  # numbers 1, 2 and 3
    add(jobs, "urgent", priority=1)
    jobs.add(Request("front", DOCUMENT), front=True)
    for name, rank in (("b+", 2.5), ("b++", 2.5), ("b-", 1.5), ("none", 0), ("last", 99), ("d", None)):
        jobs.add(Request(name, DOCUMENT), rank=rank)
    assert order(jobs) == ["urgent", "front", "none", "a", "b-", "b", "b+", "b++", "c", "last", "d"]


def test_numbers_increase_and_are_never_reused(jobs: Jobs) -> None:
    first = jobs.add(Request("a", DOCUMENT))
    jobs.cancel(["a"])
    jobs.forget()
    assert jobs.add(Request("b", DOCUMENT)) > first


def test_an_id_is_used_once(jobs: Jobs) -> None:
    add(jobs, "a")
    with pytest.raises(ValueError, match="'a'"):
        add(jobs, "a")
    assert order(jobs) == ["a"]


def test_a_request_comes_back_unchanged(jobs: Jobs) -> None:
    asked = Request("a", DOCUMENT, "A title", "client", ["3"], [{"name": "1.seed", "values": ["1"]}], {"x": [1]})
    jobs.add(asked)
    lease = jobs.claim("w")
    assert lease
    assert lease.request == asked
    assert jobs.request("a") == asked


def test_another_process_sees_accepted_jobs(jobs: Jobs, tmp_path: Path) -> None:
    add(jobs, "a")
    with Jobs(tmp_path / "jobs.sqlite") as other:
        assert order(other) == ["a"]


def test_of_two_workers_one_gets_the_job(jobs: Jobs, tmp_path: Path) -> None:
    add(jobs, "a")
    with Jobs(tmp_path / "jobs.sqlite") as other:
        assert [bool(jobs.claim("1")), bool(other.claim("2"))] == [True, False]


class TestOrder:
    def test_front_goes_first_and_higher_priorities_before_that(self, jobs: Jobs) -> None:
        add(jobs, "a", "b")
        jobs.add(Request("front", DOCUMENT), front=True)
        add(jobs, "urgent", priority=1)
        assert order(jobs) == ["urgent", "front", "a", "b"]

    def test_a_job_can_be_moved_before_another_to_the_front_and_to_the_back(self, jobs: Jobs) -> None:
        add(jobs, "a", "b", "c", "d")
        assert jobs.move("d", before="b")
        assert order(jobs) == ["a", "d", "b", "c"]
        assert jobs.move("c", front=True)
        assert order(jobs) == ["c", "a", "d", "b"]
        assert jobs.move("c")
        assert order(jobs) == ["a", "d", "b", "c"]

    def test_moved_before_another_it_takes_its_priority(self, jobs: Jobs) -> None:
        add(jobs, "a", "b")
        add(jobs, "urgent", priority=5)
        jobs.move("b", before="urgent")
        assert order(jobs) == ["b", "urgent", "a"]
        assert [job.priority for job in jobs.pending()] == [5, 5, 0]

    def test_jobs_that_are_not_pending_stay_where_they_are(self, jobs: Jobs) -> None:
        add(jobs, "a", "b")
        jobs.claim("w")
        assert not jobs.move("a", front=True)
        assert not jobs.move("b", before="a")
        assert not jobs.prioritise("a", 3)
        assert not jobs.move("no such", front=True)

    def test_priorities_can_be_changed(self, jobs: Jobs) -> None:
        add(jobs, "a", "b")
        assert jobs.prioritise("b", 1)
        assert order(jobs) == ["b", "a"]

    def test_it_holds_after_many_moves(self, jobs: Jobs) -> None:
        add(jobs, "a", "b", "c")
        for _ in range(200):
            jobs.move("c", before="b")
            jobs.move("b", before="c")
        assert order(jobs) == ["a", "b", "c"]


class TestLeases:
    def test_finished_jobs_are_in_the_history_last_first(self, jobs: Jobs) -> None:
        add(jobs, "a", "b")
        for state in ("done", "failed"):
            lease = jobs.claim("w")
            assert lease
            assert jobs.finish(lease, state, {"1": {"images": [lease.id]}}, {"cached": 2})
        assert [(job.id, job.state, job.outputs, job.record) for job in jobs.ended()] == [
            ("b", "failed", {"1": {"images": ["b"]}}, {"cached": 2}),
            ("a", "done", {"1": {"images": ["a"]}}, {"cached": 2}),
        ]

    def test_a_dead_workers_job_comes_first_again_with_the_names_it_had_claimed(self, jobs: Jobs) -> None:
        add(jobs, "a", "b")
        lease = jobs.claim("dead")
        assert lease
        jobs.record_claim(lease, "1", ["x"])
        jobs.record_claim(lease, "1", ["x", "y"])
        jobs.release("dead", because={})
        again = jobs.claim("w")
        assert again
        assert (again.id, again.attempt, again.claims) == ("a", 2, {"1": ["x", "y"]})

    def test_claims_are_forgotten_when_a_job_is_done(self, jobs: Jobs) -> None:
        add(jobs, "a", "b")
        for state in ("done", "failed"):
            lease = jobs.claim("w")
            assert lease
            jobs.record_claim(lease, "1", ["x"])
            jobs.finish(lease, state, {}, {})
        assert jobs.retry("b")
        again = jobs.claim("w")
        assert again
        assert again.claims == {"1": ["x"]}

    def test_a_job_that_kills_its_workers_fails_in_the_end(self, jobs: Jobs) -> None:
        add(jobs, "a")
        for attempt in range(queue.MAX_ATTEMPTS):
            assert jobs.claim(f"w{attempt}")
            jobs.release(f"w{attempt}", because={"problem": "killed"})
        ended = jobs.ended()
        assert [(job.state, job.record) for job in ended] == [("failed", {"problem": "killed"})]
        assert jobs.claim("w") is None

    def test_a_worker_that_lost_its_job_can_change_nothing(self, jobs: Jobs) -> None:
        add(jobs, "a")
        old = jobs.claim("old")
        jobs.release("old", because={})
        new = jobs.claim("new")
        assert old
        assert new
        assert not jobs.renew(old)
        assert not jobs.record_outputs(old, {})
        assert not jobs.finish(old, "done", {}, {})
        assert jobs.finish(new, "done", {}, {})

    def test_a_lease_that_is_not_renewed_expires(self, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
        add(jobs, "a", "b")
        kept, lost = jobs.claim("kept"), jobs.claim("lost")
        assert kept
        assert lost
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + queue.LEASE_SECONDS - 1)
        assert jobs.renew(kept)
        monkeypatch.setattr(time, "monotonic", lambda: now + queue.LEASE_SECONDS + 1)
        jobs.release(because={})
        assert order(jobs) == ["b"]

    @pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
    def test_an_ended_job_remains_until_it_is_reported(self, jobs: Jobs, state: Ended) -> None:
        add(jobs, "a", "b")
        lease = jobs.claim("w")
        assert lease
        assert jobs.unreported("a") is None
        jobs.finish(lease, state, {}, {})
        assert jobs.remaining() == 2
        assert jobs.unreported("a") == jobs.get("a")
        jobs.mark_reported("a")
        assert jobs.remaining() == 1
        assert jobs.unreported("a") is None

    def test_a_dead_worker_may_have_ended_jobs_that_were_not_reported(self, jobs: Jobs) -> None:
        add(jobs, "a", "b", "c")
        for name in ("a", "b"):
            lease = jobs.claim("dead")
            assert lease
            jobs.finish(lease, "done", {}, {})
            if name == "a":
                jobs.mark_reported("a")
        jobs.claim("dead")
        assert [job.id for job in jobs.release("dead", because={})] == ["b", "c"]
        assert order(jobs) == ["c"]
        assert [job.id for job in jobs.ended()] == ["b", "a"]

    def test_reporting_an_earlier_end_does_not_report_the_next(self, jobs: Jobs) -> None:
        add(jobs, "a")
        lease = jobs.claim("w")
        assert lease
        jobs.finish(lease, "failed", {}, {})
        jobs.retry("a")
        jobs.mark_reported("a")
        assert (jobs.unreported("a"), jobs.remaining()) == (None, 1)

    def test_after_a_restart_no_job_waits_to_be_reported(self, jobs: Jobs) -> None:
        add(jobs, "a")
        lease = jobs.claim("w")
        assert lease
        jobs.finish(lease, "done", {}, {})
        jobs.restart()
        assert jobs.remaining() == 0


class TestAttempts:
    """How often a job is started when its worker, or the whole server, dies each time."""

    def claim(self, jobs: Jobs, *stored: str) -> Lease:
        """Start the next job, which stores values under these keys."""
        lease = jobs.claim("w")
        assert lease
        for mark in stored:
            jobs.record_progress(lease, mark)
        return lease

    def test_after_a_restart_the_jobs_that_ran_are_next_in_their_order(self, jobs: Jobs) -> None:
        add(jobs, "a", "b", "c")
        self.claim(jobs)
        self.claim(jobs)
        assert jobs.restart() == []
        assert order(jobs) == ["a", "b", "c"]

    def test_an_orderly_stop_does_not_count_as_an_attempt(self, jobs: Jobs) -> None:
        add(jobs, "a", "b", "c")
        for _ in range(5):
            assert self.claim(jobs).attempt == 1
            self.claim(jobs)
            jobs.suspend()
            assert jobs.restart() == []
            assert order(jobs) == ["a", "b", "c"]

    def test_a_job_that_the_server_dies_of_fails_in_the_end_and_the_next_one_runs(self, jobs: Jobs) -> None:
        add(jobs, "deadly", "next")
        for attempt in (1, 2):
            lease = self.claim(jobs)
            assert (lease.id, lease.attempt, lease.start) == ("deadly", attempt, attempt)
            jobs.record_step(lease, "a b", "Crash")
            failed = jobs.restart()
        assert [(job.id, job.state) for job in failed] == [("deadly", "failed")]
        message = "the server died while a b (Crash) ran, 2 times without progress"
        assert jobs.ended()[0].record == {"problems": [{"message": message, "node": "a b"}]}
        assert self.claim(jobs).id == "next"

    def test_deaths_of_workers_and_of_the_server_count_together(self, jobs: Jobs) -> None:
        add(jobs, "a")
        self.claim(jobs)
        jobs.release("w", because={})
        self.claim(jobs)
        assert [job.id for job in jobs.restart()] == ["a"]

    @pytest.mark.parametrize("dies", [Jobs.restart, lambda jobs: jobs.release("w", because={})])
    def test_a_job_that_stores_something_new_each_time_is_never_given_up(
        self, jobs: Jobs, dies: Callable[[Jobs], object]
    ) -> None:
        add(jobs, "a")
        for attempt in range(10):
            lease = self.claim(jobs, "first", f"value {attempt}")
            assert (lease.attempt, lease.start) == (1, attempt + 1)
            dies(jobs)
        self.claim(jobs)
        dies(jobs)
        assert order(jobs) == ["a"], "it has failed once since"
        self.claim(jobs)
        dies(jobs)
        assert [job.state for job in jobs.ended()] == ["failed"]

    def test_storing_the_same_again_is_no_progress(self, jobs: Jobs) -> None:
        add(jobs, "a")
        for _ in range(3):
            self.claim(jobs, "same")
            jobs.restart()
        assert [job.state for job in jobs.ended()] == ["failed"]

    def test_a_late_result_of_an_earlier_attempt_does_not_count(self, jobs: Jobs) -> None:
        add(jobs, "a")
        old = self.claim(jobs)
        jobs.release("w", because={})
        self.claim(jobs)
        jobs.record_progress(old, "late")
        jobs.release("w", because={})
        assert [job.state for job in jobs.ended()] == ["failed"]

    def test_an_earlier_attempt_of_the_same_worker_can_change_nothing(self, jobs: Jobs) -> None:
        add(jobs, "a")
        old = self.claim(jobs, "value")
        jobs.release("w", because={})
        new = self.claim(jobs)
        assert old.attempt == new.attempt
        assert not jobs.finish(old, "done", {}, {})
        assert jobs.finish(new, "done", {}, {})

    @pytest.mark.parametrize("end", ["finish", "fail", "cancel"])
    def test_the_progress_of_jobs_that_have_ended_is_not_kept(self, jobs: Jobs, end: str, tmp_path: Path) -> None:
        add(jobs, "a")
        lease = self.claim(jobs, "one", "two")
        if end == "finish":
            jobs.finish(lease, "done", {}, {})
        elif end == "fail":
            jobs.fail("a", "w", "failed", {})
        else:
            jobs.suspend()
            jobs.cancel()
        with closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as database:
            assert database.execute("SELECT count(*) FROM progress").fetchone() == (0,)

    def test_a_retried_job_has_all_its_attempts(self, jobs: Jobs) -> None:
        add(jobs, "a")
        for _ in range(2):
            self.claim(jobs)
            jobs.restart()
        assert jobs.retry("a")
        assert self.claim(jobs).attempt == 1
        assert jobs.restart() == []


def test_the_queue_of_version_0_1_0_is_resumed(tmp_path: Path) -> None:
    """Its columns, a job that ran when its server died, and one that waits."""
    columns = "number, id, state, priority, place, title, document, request, created, attempts, worker, lease"
    old = tmp_path / "jobs.sqlite"
    with closing(sqlite3.connect(old)) as database:
        later = [line for line in records.SCHEMA.splitlines() if not re.match(r"    (starts|progressed|step) ", line)]
        database.executescript("\n".join(later).replace("DEFAULT '{}',\n);", "DEFAULT '{}'\n);"))
        database.execute("DROP TABLE progress")
        rows = [(1, "ran", "running", 0, 1.0, "", '{"graph": {}}', "{}", 0.0, 1, "gone", 5.0)]
        rows += [(2, "waits", "pending", 0, 2.0, "", '{"graph": {}}', "{}", 0.0, 0, None, None)]
        marks = ", ".join("?" * len(rows[0]))
        database.executemany(f"INSERT INTO jobs ({columns}) VALUES ({marks})", rows)
        database.commit()
    with Jobs(old) as jobs, Jobs(old):
        assert jobs.restart() == []
        assert order(jobs) == ["ran", "waits"]
        lease = jobs.claim("w")
        assert lease
        assert (lease.id, lease.attempt) == ("ran", 2)
        jobs.record_progress(lease, "value")
        assert jobs.finish(lease, "done", {}, {})


class TestCommands:
    def test_pausing_outlives_the_process_and_starts_nothing(self, jobs: Jobs, tmp_path: Path) -> None:
        add(jobs, "a")
        jobs.pause(True)
        with Jobs(tmp_path / "jobs.sqlite") as other:
            assert other.paused
            assert other.claim("w") is None
            other.pause(False)
        assert jobs.claim("w")

    def test_pending_jobs_can_be_cancelled_and_tried_again(self, jobs: Jobs) -> None:
        add(jobs, "a", "b", "c")
        assert jobs.cancel(["a", "no such"]) == ["a"]
        assert sorted(jobs.cancel()) == ["b", "c"]
        assert jobs.retry("a")
        assert not jobs.retry("a")
        assert order(jobs) == ["a"]

    def test_only_ended_jobs_can_be_forgotten(self, jobs: Jobs) -> None:
        add(jobs, "a", "b")
        jobs.cancel(["a"])
        assert jobs.forget(["a", "b"]) == 1
        assert jobs.get("a") is None
        assert order(jobs) == ["b"]

    def test_counts(self, jobs: Jobs) -> None:
        add(jobs, "a", "b", "c")
        jobs.claim("w")
        jobs.cancel(["c"])
        assert jobs.counts() == {"pending": 1, "running": 1, "done": 0, "failed": 0, "cancelled": 1}
