"""The answers to requests when the disk, or the server itself, fails."""

from __future__ import annotations

from pathlib import Path

from engine.atomic import is_disk_full
from engine.errors import DiskFullError, MissingError, Problem, StorageError


def storage_error(error: OSError) -> StorageError | MissingError:
    """The error for a file that the system can't read or write. It has the file's name, but no folder's."""
    name = Path(str(error.filename)).name if error.filename else "a file of the server"
    if isinstance(error, FileNotFoundError):  # it was there a moment ago
        return MissingError(f"there is no file {name} any more", hint="another client may have removed it")
    if is_disk_full(error):
        return DiskFullError(
            f"the disk is full: {name} can't be written",
            hint="make room on the disk of the server's folders, and try again",
        )
    return StorageError(
        f"{name} can't be read or written: {error.strerror or type(error).__name__}",
        hint="see whether the server may use it, and whether its disk is sound",
    )


def own_fault(error: Exception) -> Problem:
    """What is said of a mistake in the server's code; the log has the rest."""
    return Problem(f"the server made a mistake: {type(error).__name__}", hint="the server's log says where")
