"""Where entries of the disk tier are written, and what processes that were killed meanwhile have left there.

Each process writes in a folder of its own, `<32 hex digits>.part` in the cache's folder, whose file `lock` it has
locked as long as it lives. What the library that writes makes for itself is in there too. So a folder that nobody has
locked is left over, and goes.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.atomic import unfinished

try:
    import fcntl
except ImportError:  # Windows: what is left goes by its age
    fcntl = None  # type: ignore[assignment]

LEAVING = re.compile(r"[0-9a-f]{32}\.part|\.tmp[0-9A-Za-z]{6}")
"""Names of folders in which processes write, and of the files that those of version 0.1.0 wrote beside the entries."""
ABANDONED_SECONDS = 3600
"""Where it can't be known whether a process still writes, it is taken not to at this age."""


class Workplace:
    """The folder of one process within the cache's folder, made when it is first needed. Only one thread uses it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: int | None = None
        self.own: Path | None = None
        """The folder, if it has been made."""

    @contextmanager
    def part(self) -> Iterator[Path]:
        """A name for an unfinished file; whatever still has it at the end is removed."""
        while self.own is None or not self.own.is_dir():  # someone may have emptied the cache's folder
            self.close()
            own = self._folder / f"{uuid.uuid4().hex}.part"
            own.mkdir(parents=True)
            with suppress(FileNotFoundError, BlockingIOError):  # another process took it for left over, just now
                self._lock = take_lock(own / "lock", os.O_CREAT)
                self.own = own
        with unfinished(self.own, prefix="", suffix="") as part:
            yield part

    def close(self) -> None:
        """Remove the folder."""
        if self.own is not None:
            shutil.rmtree(self.own, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
        self.own = self._lock = None


def remove_left_over(entry: os.DirEntry[str], *, everything: bool = False) -> tuple[int, int]:
    """Remove what a killed process has left, unless one may still write to it.

    Returns the bytes that stay and those that are gone.

    A folder that merely has such a name is left alone.

    Args:
        entry: one whose name matches `LEAVING`.
        everything: don't wait for the age of what no lock tells about.
    """
    path = Path(entry.path)
    with suppress(FileNotFoundError):  # it, or a part of it, has been removed meanwhile
        if entry.is_file(follow_symlinks=False):
            nbytes = entry.stat().st_size
            if everything or is_old(path):
                path.unlink()
                return 0, nbytes
            return nbytes, 0
        if entry.is_dir(follow_symlinks=False) and (path / "lock").is_file():
            nbytes = sum(file.lstat().st_size for file in path.iterdir())
            if _is_left_over(path, everything=everything):
                shutil.rmtree(path, ignore_errors=True)
                return 0, nbytes
            return nbytes, 0
        if entry.is_dir(follow_symlinks=False) and is_old(path) and not any(path.iterdir()):
            path.rmdir()  # a process was killed before it locked it
    return 0, 0


def _is_left_over(folder: Path, *, everything: bool) -> bool:
    """Whether a process had this folder that no longer runs."""
    try:
        lock = take_lock(folder / "lock")
    except OSError:  # locked, or someone else's
        return False
    if lock is None:
        return everything or all(map(is_old, folder.iterdir()))
    os.close(lock)
    return True


def is_old(path: Path) -> bool:
    """Whether a file or folder has been left alone for so long that no process can still be writing it."""
    return time.time() - path.lstat().st_mtime > ABANDONED_SECONDS


def take_lock(file: Path, flags: int = 0) -> int | None:
    """Lock a file until the number returned is closed; None where there are no locks.

    Raises:
        BlockingIOError: another process has locked it.
        FileNotFoundError: it doesn't exist, or was removed meanwhile.
    """
    number = os.open(file, os.O_RDWR | flags, 0o666)  # less what the umask takes
    try:
        if fcntl is not None:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(number).st_nlink:
                return number
            raise FileNotFoundError(file)
    except (BlockingIOError, FileNotFoundError):
        os.close(number)
        raise
    except OSError:
        pass  # the file system has none
    os.close(number)
    return None
