"""What is wrong with the queue's file, in words that say what to do, and a new queue in place of a damaged one."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from engine.errors import DiskFullError, StorageError

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
LEAST_ROOM = 1 << 20
"""With fewer bytes free than this, a disk counts as full."""
COLUMNS = {"number", "id", "state", "priority", "place", "title", "client", "document", "request", "created", "outputs"}
"""Some of the columns that the table of jobs has had from the first."""
BESIDE = ("", "-wal", "-shm")
"""The ends of the names of the files that SQLite keeps a database in."""


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Raise StorageError, which names the file and what to do, where SQLite can't read or write it."""
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.DatabaseError) as error:
        if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
            raise  # a mistake of the engine
        raise explained(error, path) from error


def explained(error: sqlite3.Error, path: Path) -> StorageError:
    """The error for what SQLite says of the queue's file."""
    code, name = _code(error), path.name
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(path.parent)):
        return DiskFullError(
            f"the disk is full: {name} can't be written",
            hint="make room on the disk of the server's --data folder; what the queue holds is kept",
        )
    if code in LOCKED:
        return StorageError(
            f"{name} is locked by another program",
            hint="close what has it open, such as a database browser or a backup, and try again",
        )
    if code in DAMAGED:
        return StorageError(
            f"{name} is damaged: {error}",
            hint="restart the server: it keeps the damaged file under another name and begins a new queue",
        )
    return StorageError(
        f"{name} can't be read or written: {error}",
        hint="see whether the server may use this file of its --data folder, and whether the disk is sound",
    )


def mend(path: Path) -> str:
    """Set a damaged queue aside, so that opening it begins a new one; returns what was done, "" if it is sound.

    Raises:
        StorageError: the file can't be read, or not be renamed.
    """
    if not path.exists():
        return ""
    with explaining(path):
        damage = _damage(path)
    if not damage:
        return ""
    kept = _free_name(path)
    try:
        for end in BESIDE:
            file = path.with_name(path.name + end)
            if file.exists():
                file.rename(kept.with_name(kept.name + end))
    except OSError as error:
        raise StorageError(
            f"{path} is damaged, and can't be renamed: {error.strerror}", hint="move it out of the folder yourself"
        ) from error
    return (
        f"{path.name} was damaged ({damage}): it is kept as {kept.name}, and a new queue was begun; "
        "jobs that waited, and the history, are not in it"
    )


def _damage(path: Path) -> str:
    """What is wrong with a queue's file, which is only read; "" if it is sound."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            columns = {row[1] for row in database.execute("PRAGMA table_info(jobs)")}
    except sqlite3.DatabaseError as error:
        if _code(error) in DAMAGED:
            return str(error)
        raise
    if found != "ok":
        return str(found)
    return "its tables are not those of a queue" if columns and not columns >= COLUMNS else ""


def _free_name(path: Path) -> Path:
    """A name for a damaged file that is not taken."""
    day, number = time.strftime("%Y-%m-%d"), 1
    while (kept := path.with_name(f"{path.stem}.damaged-{day}-{number}{path.suffix}")).exists():
        number += 1
    return kept


def _code(error: sqlite3.Error) -> int | None:
    """SQLite's primary code of an error."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < LEAST_ROOM
    except OSError:
        return False
