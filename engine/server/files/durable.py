"""Files that are whole or not there, whenever the process or the machine stops."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Write a file under another name, see that it is on disk, and rename it; its folder is made if it isn't there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
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
