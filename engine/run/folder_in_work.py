"""The hidden folder in which files are gathered until it is whole and gets its name.

Runs that save equal files find each other's: so one goes on where another was stopped. While a run has a folder, a lock
keeps others out of it, and they gather in folders of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

SUFFIX = ".part"


@contextmanager
def folder_in_work(parent: Path, name: str) -> Iterator[Path]:
    """A folder that no other run has: one of this name that was left unfinished, or else a new one.

    It stays if it isn't renamed. The lock lies beside it, so that it can be renamed while locked on every system; its
    name is never used twice, so whoever holds the lock and finds the folder has it to themselves.

    Args:
        parent: the folder that it is in, which must exist.
        name: equal for equal files.
    """
    for folder in sorted(parent.glob(f".{escape(name)}*{SUFFIX}")):
        with _locked(folder) as mine:
            if mine and folder.is_dir():
                yield folder
                return
    folder = parent / f".{name}-{uuid4().hex[:8]}{SUFFIX}"
    with _locked(folder):
        folder.mkdir()
        yield folder


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether the lock of a folder could be had at once; it is held meanwhile, and removed once the folder is gone."""
    path = folder.with_suffix(".lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
        if not folder.exists():
            path.unlink(missing_ok=True)
