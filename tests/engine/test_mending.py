"""A queue's file that is damaged, locked, or on a full disk: what is said of it, and how work goes on."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from engine.errors import DiskFullError, StorageError
from engine.work import mending
from engine.work.mending import explaining, mend
from engine.work.queue import Jobs
from engine.work.records import Request


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A queue with 200 jobs."""
    path = tmp_path / "jobs.sqlite"
    with Jobs(path, quick=True) as jobs:
        for number in range(200):
            jobs.add(Request(f"{number}", {"kinograph": 1, "graph": {}, "description": "x" * 1000}))
    return path


def garbage(path: Path) -> None:
    path.write_bytes(b"no database " * 1000)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def hole(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:8192] + bytes(40_960) + data[8192 + 40_960 :])


def another(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.executescript("CREATE TABLE jobs (id INTEGER, name TEXT); INSERT INTO jobs VALUES (1, 'a')")


@pytest.mark.parametrize("damage", [garbage, cut, hole, another])
def test_a_damaged_queue_is_set_aside_and_a_new_one_begun(path: Path, damage: Callable[[Path], None]) -> None:
    damage(path)
    damaged = path.read_bytes()
    notice = mend(path)
    (kept,) = path.parent.glob("jobs.damaged-*-1.sqlite")
    assert kept.read_bytes() == damaged
    assert notice.startswith("jobs.sqlite was damaged (")
    assert kept.name in notice
    with Jobs(path) as jobs:
        assert jobs.add(Request("new", {"kinograph": 1, "graph": {}})) == 1
    assert mend(path) == ""


def test_several_damaged_ones_are_all_kept_with_what_belongs_to_them(path: Path) -> None:
    for _ in range(3):
        garbage(path)
        path.with_name("jobs.sqlite-wal").write_bytes(b"log")
        mend(path)
    assert len([*path.parent.glob("jobs.damaged-*.sqlite")]) == 3
    assert len([*path.parent.glob("jobs.damaged-*.sqlite-wal")]) == 3
    assert not path.exists()


def test_a_sound_queue_stays(path: Path) -> None:
    assert mend(path) == ""
    with Jobs(path) as jobs:
        assert len(jobs.pending()) == 200


def test_where_there_is_none_nothing_is_said(tmp_path: Path) -> None:
    assert mend(tmp_path / "jobs.sqlite") == ""


class TestExplaining:
    def error(self, path: Path, do: Callable[[Jobs], object]) -> StorageError:
        with Jobs(path, patience=0.05) as jobs, pytest.raises(StorageError) as caught, explaining(path):
            do(jobs)
        return caught.value

    def add(self, jobs: Jobs) -> None:
        jobs.add(Request("new", {"kinograph": 1, "graph": {}, "description": "x" * 100_000}))

    def test_a_full_disk(self, path: Path) -> None:
        def fill(jobs: Jobs) -> None:
            jobs._db.execute("PRAGMA max_page_count = 1")  # no more than there are
            self.add(jobs)

        error = self.error(path, fill)
        assert isinstance(error, DiskFullError)
        assert str(error).startswith("the disk is full: jobs.sqlite can't be written (make room")

    def test_an_error_of_writing_on_a_full_disk(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        failed = sqlite3.OperationalError("disk I/O error")
        failed.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
        assert type(mending.explained(failed, path)) is StorageError
        monkeypatch.setattr(mending, "LEAST_ROOM", 1 << 80)
        assert type(mending.explained(failed, path)) is DiskFullError

    def test_a_locked_file(self, path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            error = self.error(path, self.add)
        assert re.match(r"jobs.sqlite is locked by another program \(close what has it open", str(error))

    def test_a_damaged_file(self, path: Path) -> None:
        garbage(path)
        with pytest.raises(StorageError, match=r"jobs.sqlite is damaged: .*\(restart the server"), explaining(path):
            Jobs(path)

    def test_a_file_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "jobs.sqlite").mkdir()
        with pytest.raises(StorageError, match=r"jobs\.sqlite can't be read or written: "):
            mend(tmp_path / "jobs.sqlite")

    def test_mistakes_of_the_engine_are_not_explained_away(self, path: Path) -> None:
        with Jobs(path) as jobs, pytest.raises(sqlite3.ProgrammingError), explaining(path):
            jobs._db.execute("SELECT ?")
