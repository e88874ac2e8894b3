"""The hidden file that is written until it is whole and gets its name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from engine.atomic import unfinished
from engine.store.workplace import is_old, take_lock

HIDDEN = re.compile(r"\.[0-9a-f]{32}\.(?!part$)[0-9A-Za-z]+")
"""The names of such files, but not those of `engine.atomic`, which other processes write without a lock."""


@contextmanager
def file_in_work(folder: Path, suffix: str) -> Iterator[Path]:
    """A hidden file, empty at first, that this process has locked; whatever is still hidden at the end is removed.

    Args:
        folder: where it is to get its name; created if missing.
        suffix: the end of that name.
    """
    while True:
        with unfinished(folder, suffix=suffix) as part, ExitStack() as stack:
            try:
                stack.enter_context(_locked(part, os.O_CREAT))
            except (FileNotFoundError, BlockingIOError):  # another process took it for left over, just now
                continue
            yield part
            return


def sweep(folder: Path) -> None:
    """Remove the hidden files in a folder that processes were writing when they were killed."""
    for path in folder.iterdir():
        if HIDDEN.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            with suppress(OSError), _locked(path) as mine:  # it is locked, gone, or someone else's
                if mine or is_old(path):
                    path.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path, flags: int = 0) -> Iterator[bool]:
    """Whether a file could be locked, as it can where there are locks; raises what `take_lock` does."""
    lock = take_lock(path, flags)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)
