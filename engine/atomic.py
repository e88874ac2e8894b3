"""Write files and folders so that each is complete or absent, whenever the process or the machine stops."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def unfinished(folder: Path, *, prefix: str = ".", suffix: str = ".part") -> Iterator[Path]:
    """A temporary name in a folder, to be renamed once complete; whatever still has it at the end is removed.

    Args:
        folder: created if missing. It must be the final folder of the file, so that the rename is atomic.
        prefix: a dot hides it.
        suffix: the end of the name.
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


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give errors of the system this file's name: those of writing have none, or a temporary one."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        if error.filename2 is not None:  # of a rename
            del error.filename2
        raise


def write(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file under a temporary name and rename it; its folder is created if missing.

    `durable` waits until both the data and the name are on disk, so that they survive a power failure. An OSError, as
    of a full disk, has the file's own name.
    """
    with naming(path), unfinished(path.parent) as part:
        with part.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    if durable:
        sync_folder(path.parent)


def rename_noreplace(file: Path, path: Path) -> None:
    """Rename a file within its file system, atomically and without overwriting.

    Raises:
        FileExistsError: the name is taken.
    """
    try:
        os.link(file, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: an empty file reserves the name for a moment
        path.touch(exist_ok=False)
        file.replace(path)
    else:
        file.unlink()


def sync(path: Path) -> None:
    """Wait until a file is on its disk, which may only now say that it is full."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk; systems that can't open folders do so by themselves."""
    if os.name != "nt":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
