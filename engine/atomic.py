"""Write files and folders so that each is complete or absent, whenever the process or the machine stops."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def unfinished(folder: Path, *, prefix: str = ".", suffix: str = ".part", name: str = "") -> Iterator[Path]:
    """A temporary name in a folder, to be renamed once complete; whatever still has it at the end is removed.

    Args:
        folder: created if missing. It must be the final folder of the file, so that the rename is atomic.
        prefix: a dot hides it.
        suffix: the end of the name.
        name: all of it, where a later process shall find what a killed one has left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or f"{prefix}{uuid.uuid4().hex}{suffix}")
    try:
        yield path
    finally:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def is_disk_full(error: OSError) -> bool:
    """Whether there is no room for what was to be written: on the disk, in a quota, or in one file."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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


@contextmanager
def replacing(path: Path, *, durable: bool = False, prefix: str = ".", suffix: str = ".part") -> Iterator[Path]:
    """A temporary name beside a path, which what was written there gets at the end; if something raises, it is removed.

    An OSError of writing, as of a full disk, has the path's own name.

    Args:
        path: the file or folder; its folder is created if missing. A file that exists is replaced, a folder is not.
        durable: as in `finish`.
        prefix: as in `unfinished`.
        suffix: as in `unfinished`.
    """
    with unfinished(path.parent, prefix=prefix, suffix=suffix) as part:
        try:
            yield part
        except OSError as error:
            if error.filename is None or str(error.filename).startswith(str(part)):
                with naming(path):
                    raise
            raise
        finish(part, path, durable=durable)


def finish(part: Path, path: Path, *, durable: bool = False) -> Path:
    """Give what was written under a temporary name its own; returns the path. An OSError has that name, too.

    `durable` waits until the data and the name are on disk, so that they survive a power failure. Without it, the name
    may do so alone.
    """
    with naming(path):
        if durable:
            sync(part)
        part.replace(path)
    if durable:
        sync_folder(path.parent)
    return path


def write(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file as `replacing` does."""
    with replacing(path, durable=durable) as part:
        part.write_bytes(data)


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
    """Wait until a file, or all of a folder, is on its disk, which may only now say that it is full."""
    if path.is_dir():
        for inner in path.iterdir():
            sync(inner)
        sync_folder(path)
    else:
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
