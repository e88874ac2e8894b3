"""The hidden file that is written until it is whole and gets its name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.atomic import unfinished
from engine.store.workplace import is_old, take_lock

HIDDEN = re.compile(r"\.[0-9a-f]{32}\.[0-9A-Za-z]+")
"""The names of such files."""


@contextmanager
def file_in_work(folder: Path, suffix: str) -> Iterator[Path]:
    """A hidden file, empty at first, that this process has locked; whatever is still hidden at the end is removed.

    Args:
        folder: where it is to get its name; created if missing.
        suffix: the end of that name.
    """
    while True:
        with unfinished(folder, suffix=suffix) as part:
            try:
                lock = take_lock(part, os.O_CREAT)
            except (FileNotFoundError, BlockingIOError):  # another process took it for left over, just now
                continue
            try:
                yield part
            finally:
                if lock is not None:
                    os.close(lock)
            return


def remove_left_over(folder: Path) -> None:
    """Remove the hidden files in a folder that processes were writing when they were killed."""
    for path in folder.iterdir():
        if HIDDEN.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            with suppress(OSError):  # it is locked, gone, or someone else's
                lock = take_lock(path)
                if lock is not None or is_old(path):
                    path.unlink(missing_ok=True)
                if lock is not None:
                    os.close(lock)
