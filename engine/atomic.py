"""Files and folders that are whole or not there, whenever the process or the machine stops."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def unfinished(folder: Path, *, prefix: str = ".", suffix: str = ".part") -> Iterator[Path]:
    """A free name in a folder, for what takes its own name once it is whole; what still has this one then is removed.

    Args:
        folder: made if it isn't there. It has to be where the file will be, so that renaming is one stroke.
        prefix: a dot hides it.
        suffix: what the name ends in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{prefix}{uuid.uuid4().hex}{suffix}"
    try:
        yield path
    finally:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file under another name and rename it; its folder is made if it isn't there.

    `durable` waits until the disk has both the data and the name, so that they outlive a power failure.
    """
    with unfinished(path.parent) as part:
        with part.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    if durable:
        settle(path.parent)


def place(file: Path, path: Path) -> None:
    """Give a file another name on the same file system, at one stroke.

    Raises:
        FileExistsError: something has that name.
    """
    try:
        os.link(file, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: the name is taken first, and empty for a moment
        path.touch(exist_ok=False)
        file.replace(path)
    else:
        file.unlink()


def settle(folder: Path) -> None:
    """See that the names in a folder are on disk; systems that can't open folders do that by themselves."""
    if os.name != "nt":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
